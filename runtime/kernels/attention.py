"""rope and attention on tiles. 16-bit floats are computed in f32."""

from __future__ import annotations

import math

import numpy as np

from ...ir.block import Phase
from ...ir.dtypes import DType
from ...ir.optable import spec_of
from ..tiles import Array
from .call import Call, Numbers, Operand, widened
from .reduce import finite, top_and_sum


def rope(call: Call) -> tuple[Array, ...]:
    """The rotated dimension is whole in every tile, so the op table's own meaning holds."""
    rank = call.outs[0].type.rank
    arrays = [call.operand(i).raised(rank) for i in range(3)]
    arrays[0] = _over(arrays[0], arrays[1:])
    (result,) = spec_of(call.op).evaluate(call.op, arrays, call.n_past)
    return (call.give(result),)


def _over(x: Array, angles: list[Array]) -> Array:
    """x repeated along mesh axes on which the angles differ and x does not."""
    lead = np.broadcast_shapes(*(a.shape[:-1] for a in (x, *angles)))
    return np.broadcast_to(x, (*lead, x.shape[-1]))


def attention(call: Call) -> tuple[Array, ...]:
    """Softmax(scale q k + mask) v. Cut over positions, each PE leaves maximum, sum and weighted values of its share."""
    if call.phase is Phase.FINISH:
        top, total, weighted = (partial.wide() for partial in call.partials)
        return (call.give(_closed(call, top, total, weighted)),)
    scores = _scores(call)
    top, total = top_and_sum(scores, scores.ndim - 1)
    weights = np.exp(scores - finite(top))
    v = call.operand(2)
    values = _grouped(widened(v.masked((2,), 0).data), call.axes)
    weighted = np.matmul(weights, values)
    if call.phase is Phase.LOCAL:
        return call.give(top, 0), call.give(total, 1), call.give(weighted, 2)
    return (call.give(_closed(call, top, total, weighted)),)


def _closed(call: Call, top: Numbers, total: Numbers, weighted: Numbers) -> Numbers:
    """The weighted values over the sum, to which a sink adds one more score that has no value.

    Heads are one dimension of the arrays, or two (kv heads and the query heads of each); [mesh, b, heads, s, ...].
    """
    sink = call.optional(4)
    if sink is not None:
        heads = top.shape[call.axes + 1 : -2]
        level = sink.wide().astype(top.dtype).reshape(*sink.data.shape[: call.axes], 1, *heads, 1, 1)
        higher = finite(np.maximum(top, level))
        shrink = np.exp(top - higher)
        total, weighted = total * shrink + np.exp(level - higher), weighted * shrink
    return weighted / np.where(total == 0, total.dtype.type(1), total)


def _grouped(kv: Numbers, axes: int) -> Numbers:
    """[mesh, b, hk, t, d] with a dimension for the query heads of one kv head: [mesh, b, hk, 1, t, d]."""
    return np.expand_dims(kv, axes + 2)


def _scores(call: Call) -> Numbers:
    """Masked scores [mesh, b, hk, group, s, t]: -inf where a row does not see, and in padded positions."""
    q, k, mask = call.operand(0), call.operand(1), call.optional(3)
    batch, heads, rows, width = q.tile
    kv_heads = k.tile[1]
    queries = q.wide().reshape(*q.data.shape[: call.axes], batch, kv_heads, heads // kv_heads, rows, width)
    keys = _grouped(k.masked((2,), 0).wide(), call.axes)
    one = queries.dtype.type
    scores: Numbers = np.matmul(queries, np.swapaxes(keys, -1, -2)) * one(call.number_attr("scale"))
    softcap = call.number_attr("softcap", 0.0)
    if softcap:
        scores = np.tanh(scores / one(softcap)) * one(softcap)
    if mask is not None:
        seen = _mask(call, mask, kv_heads)
        if mask.tiled.dtype is DType.BOOL:
            scores = np.where(seen, scores, one(-math.inf))
        else:
            scores = scores + widened(seen).astype(scores.dtype)
    if k.padded(2):
        held = k.elements(2) >= 0
        scores = np.where(held.reshape(*held.shape[:-1], 1, 1, 1, 1, held.shape[-1]), scores, one(-math.inf))
    return scores


def _mask(call: Call, mask: Operand, kv_heads: int) -> Array:
    """The mask with a dimension for the query heads of one kv head."""
    data = mask.raised(4)
    batch, heads, rows, positions = data.shape[call.axes :]
    split = (1, 1) if heads == 1 else (kv_heads, heads // kv_heads)
    return data.reshape(*data.shape[: call.axes], batch, *split, rows, positions)


KERNELS = {"rope": rope, "attention": attention}
