"""Normalisation on tiles, over the last dimension. Cut, each PE leaves its sums and the scaling follows once they are
combined."""

from __future__ import annotations

import numpy as np

from ...ir.block import Phase
from ..tiles import Array
from .call import Call, Numbers, Operand


def rms_norm(call: Call) -> tuple[Array, ...]:
    x = call.operand(0)
    data = x.masked((x.rank - 1,), 0).wide()
    squares = call.partials[0].wide() if call.phase is Phase.FINISH else _row_sum(data * data)
    if call.phase is Phase.LOCAL:
        return (call.give(squares),)
    kind = data.dtype.type
    y = data / np.sqrt(squares / kind(x.extent(x.rank - 1)) + kind(call.number_attr("epsilon")))
    return (call.give(_weighted(call, y, 1)),)


def layer_norm(call: Call) -> tuple[Array, ...]:
    """Whole: mean, then variance of what is centred. Cut: both from the sum and the sum of squares."""
    x = call.operand(0)
    data = x.masked((x.rank - 1,), 0).wide()
    kind = data.dtype.type
    count = kind(x.extent(x.rank - 1))
    if call.phase is Phase.LOCAL:
        return call.give(_row_sum(data), 0), call.give(_row_sum(data * data), 1)
    if call.phase is Phase.FINISH:
        mean = call.partials[0].wide() / count
        variance = np.maximum(call.partials[1].wide() / count - mean * mean, kind(0))
        centred = data - mean
    else:
        centred = data - _row_sum(data) / count
        held = Operand(centred, x.tiled, x.mesh, x.n_past).masked((x.rank - 1,), 0).wide()
        variance = _row_sum(held * held) / count
    y = centred / np.sqrt(variance + kind(call.number_attr("epsilon")))
    return (call.give(_weighted(call, y, 2)),)


def _row_sum(data: Numbers) -> Numbers:
    total: Numbers = np.sum(data, axis=-1, keepdims=True, dtype=data.dtype)
    return total


def _weighted(call: Call, y: Numbers, most: int) -> Numbers:
    """Times the weight, plus the bias, where the op has them."""
    rank = call.operand(0).rank
    weight = call.optional(1)
    bias = call.optional(2) if most == 2 else None
    if weight is not None:
        y = y * weight.raised(rank).astype(y.dtype)
    if bias is not None:
        y = y + bias.raised(rank).astype(y.dtype)
    return y


KERNELS = {"rms_norm": rms_norm, "layer_norm": layer_norm}
