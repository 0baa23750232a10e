"""rope and attention, the two ops that only transformers have. 16-bit floats are computed in f32 and rounded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dims import Dim
from ..dtypes import DType
from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Combine, Index, Loop, Loops, Partial
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .rules import (
    BOOLS,
    FLOATS,
    Numbers,
    aligned,
    bad,
    bool_attr,
    broadcast,
    demand,
    demand_rank,
    follow,
    int_attr,
    number_attr,
    operands,
    optional,
    plain,
    present,
    same_dtype,
    shape_text,
    wide,
)

# --- rope


def _infer_rope(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    x, cos, sin = operands(op, types, 3)
    demand(op, "operands", x, FLOATS)
    same_dtype(op, (x, cos, sin))
    rotary = int_attr(op, "rotary")
    bool_attr(op, "interleaved")
    width = x.shape[-1] if x.rank else 0
    if not isinstance(width, int) or rotary % 2 or not 0 < rotary <= width:
        raise bad(op, f"cannot rotate {rotary} elements of the last dimension of {x}")
    pairs = (*x.shape[:-1], rotary // 2)
    for name, angle in (("cos", cos), ("sin", sin)):
        if angle.rank > x.rank or broadcast(op, (pairs, angle.shape)) != pairs:
            raise bad(op, f"has {name} {angle}, which does not broadcast against {shape_text(pairs)}")
    return (x,)


def _rope(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    """Turn each pair (a, b) to (a cos - b sin, b cos + a sin); pairs are neighbours, or the two halves."""
    given, cos_given, sin_given = present(arrays)
    x, cos, sin = wide(given), wide(cos_given), wide(sin_given)
    rotary = int_attr(op, "rotary")
    if bool_attr(op, "interleaved"):
        first, second = slice(0, rotary, 2), slice(1, rotary, 2)
    else:
        first, second = slice(0, rotary // 2), slice(rotary // 2, rotary)
    a, b = x[..., first], x[..., second]
    y = x.copy()
    with np.errstate(all="ignore"):
        y[..., first] = a * cos - b * sin
        y[..., second] = b * cos + a * sin
    return (y.astype(given.dtype, copy=False),)


def _rope_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """Two products and one sum per rotated element, a copy for each other."""
    rows, rotary = product(outs[0][:-1]), int_attr(op, "rotary")
    return Work(simple=rows * (3 * rotary) + rows * (outs[0][-1] + -1 * rotary))


def _rope_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    shape = outs[0].shape
    names = [f"d{i}" for i in range(len(shape) - 1)]
    loops = tuple(Loop(n, d) for n, d in zip(names, shape[:-1], strict=True))
    access: Access = (*plain(names), WHOLE)
    angles = tuple((*aligned(t.shape[:-1], names, shape[:-1]), *(WHOLE,) * min(1, t.rank)) for t in present(types)[1:])
    return Loops(loops, (access, *angles), (access,))


# --- attention


def _infer_attention(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    q, k, v = operands(op, types, 3, 5)
    for name, given in (("q", q), ("k", k), ("v", v)):
        demand_rank(op, name, given, 4)
        demand(op, name, given, FLOATS)
    same_dtype(op, (q, k, v))
    number_attr(op, "scale")
    number_attr(op, "softcap", 0.0)
    batch, heads, rows, width = q.shape
    if k.shape[:3] != v.shape[:3] or k.shape[0] != batch or k.shape[3] != width:
        raise bad(op, f"cannot match q {q}, k {k} and v {v}")
    kv_heads = k.shape[1]
    if not isinstance(heads, int) or not isinstance(kv_heads, int) or kv_heads < 1 or heads % kv_heads:
        raise bad(op, f"has {heads} query heads, which is no multiple of {kv_heads} kv heads")
    mask = optional(types, 3)
    if mask is not None:
        demand(op, "mask", mask, FLOATS | BOOLS)
        scores = (batch, heads, rows, k.shape[2])
        if mask.rank > 4 or broadcast(op, (scores, mask.shape)) != scores:
            raise bad(op, f"has a mask {mask}, which does not broadcast against {shape_text(scores)}")
    sink = optional(types, 4)
    if sink is not None:
        demand(op, "sink", sink, FLOATS)
        if sink.shape != (heads,):
            raise bad(op, f"has a sink {sink}, which needs one number for each of {heads} query heads")
    return (TensorType(q.dtype, (batch, heads, rows, v.shape[3])),)


def _attention(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    given, k_given, v_given = present(arrays[:3])
    q, k, v = wide(given), wide(k_given), wide(v_given)
    with np.errstate(all="ignore"):
        scores = _scores(op, q, k, optional(arrays, 3))
        top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
        grown = np.exp(scores - np.where(np.isneginf(top), 0, top))
        total = np.sum(grown, axis=-1, keepdims=True)
        weighted = np.matmul(_by_kv_head(grown, k.shape[1]), v[:, :, None])
        weighted = weighted.reshape(*q.shape[:3], v.shape[3])
        sink = optional(arrays, 4)
        if sink is not None:
            weighted, total = _sunk(wide(sink).astype(q.dtype), top, total, weighted)
        y = weighted / np.where(total == 0, 1, total)
    return (y.astype(given.dtype, copy=False),)


def _sunk(sink: Numbers, top: Numbers, total: Numbers, weighted: Numbers) -> tuple[Numbers, Numbers]:
    """Weighted values and sum of a softmax whose sum has one more score, the sink of its head, without a value."""
    level = sink[:, None, None]
    higher = np.maximum(top, level)
    higher = np.where(np.isneginf(higher), 0, higher)
    shrink = np.exp(top - higher)
    return weighted * shrink, total * shrink + np.exp(level - higher)


def _by_kv_head(x: Numbers, kv_heads: int) -> Numbers:
    """[b,h,s,d] with the query heads of one kv head in a dimension of their own: [b,hk,group,s,d]."""
    batch, heads, rows, width = x.shape
    return x.reshape(batch, kv_heads, heads // kv_heads, rows, width)


def _scores(op: Op, q: Numbers, k: Numbers, mask: Array | None) -> Numbers:
    """The masked scores [b,h,s,t]: scaled products, soft cap, then the mask; -inf where a row does not see."""
    one = q.dtype.type
    scores: Numbers = np.matmul(_by_kv_head(q, k.shape[1]), np.swapaxes(k, -1, -2)[:, :, None])
    scores = scores.reshape(*q.shape[:3], k.shape[2]) * one(number_attr(op, "scale"))
    softcap = number_attr(op, "softcap", 0.0)
    if softcap:
        scores = np.tanh(scores / one(softcap)) * one(softcap)
    if mask is None:
        return scores
    if mask.dtype == np.bool_:
        return np.where(mask, scores, one(-np.inf))
    return scores + wide(mask).astype(q.dtype, copy=False)


def _attention_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """MACs of both products; per score scale, mask, softmax; per result row a reciprocal, a scale, and the sink."""
    q, k, v = present(ins[:3])
    scores = product(q[:3]) * k[2]
    passes = 4 + (1 if optional(ins, 3) is not None else 0)
    capped = number_attr(op, "softcap", 0.0) != 0
    sunk = int(optional(ins, 4) is not None)
    return Work(
        macs=scores * q[3] + scores * v[3],
        simple=scores * (passes + 2 * capped) + product(outs[0]) * (1 + sunk) + product(q[:3]) * (3 * sunk),
        special=scores * (1 + capped) + product(q[:3]) * (1 + 2 * sunk),
    )


def _attention_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    """Batch, kv heads (with their query heads) and query rows are parallel; over t a softmax is owed."""
    q, k, v = present(types[:3])
    batch, heads, rows, _ = q.shape
    kv_heads = k.shape[1]
    assert isinstance(heads, int) and isinstance(kv_heads, int)
    group = heads // kv_heads
    loops = (
        Loop("b", batch),
        Loop("h", kv_heads),
        Loop("s", rows),
        Loop("t", k.shape[2], Combine.SOFTMAX),
    )
    query: Access = (Index("b"), Index("h", group), Index("s"), WHOLE)
    cache: Access = (Index("b"), Index("h"), Index("t"), WHOLE)
    ins: list[Access | None] = [query, cache, cache]
    if len(types) > 3:
        mask = types[3]
        ins.append(None if mask is None else _mask_access(mask, (batch, kv_heads, rows, k.shape[2]), group))
    if len(types) > 4:
        ins.append(None if types[4] is None else (Index("h", group),))
    row = (batch, heads, rows, 1)
    partials = tuple(Partial(DType.F32, shape, query) for shape in (row, row, (*row[:3], v.shape[3])))
    return Loops(loops, tuple(ins), (query,), partials)


def _mask_access(mask: TensorType, extents: tuple[Dim, ...], group: int) -> Access:
    names, granules = "bhst", (1, group, 1, 1)
    skip = 4 - mask.rank
    return tuple(follow(d, names[skip + i], extents[skip + i], granules[skip + i]) for i, d in enumerate(mask.shape))


SPECS: tuple[OpSpec, ...] = (
    OpSpec("rope", _infer_rope, _rope, _rope_work, _rope_loops),
    OpSpec("attention", _infer_attention, _attention, _attention_work, _attention_loops),
)
