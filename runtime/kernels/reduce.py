"""Reductions on tiles: sum, mean, max, min, cumulative sum, softmax. Padding counts as the neutral element."""

from __future__ import annotations

import math

import numpy as np

from ...ir.block import Phase
from ...ir.dtypes import DType
from ..tiles import Array
from .call import Call, Numbers


def _axes(call: Call) -> tuple[int, ...]:
    value = call.op.attr("axes")
    assert isinstance(value, tuple)
    return tuple(axis for axis in value if isinstance(axis, int))


def _behind(call: Call, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(call.axes + axis for axis in axes)


def reduce_sum(call: Call) -> tuple[Array, ...]:
    x, axes = call.operand(0), _axes(call)
    data = x.masked(axes, 0).wide()
    return (call.give(np.sum(data, axis=_behind(call, axes), keepdims=True, dtype=data.dtype)),)


def reduce_mean(call: Call) -> tuple[Array, ...]:
    """The mean; cut, each PE leaves its sum, and the division by the whole extent comes last."""
    x, axes = call.operand(0), _axes(call)
    if call.phase is Phase.FINISH:
        total = call.partials[0].wide()
    else:
        data = x.masked(axes, 0).wide()
        total = np.sum(data, axis=_behind(call, axes), keepdims=True, dtype=data.dtype)
    if call.phase is Phase.LOCAL:
        return (call.give(total),)
    count = math.prod(x.extent(axis) for axis in axes)
    if x.tiled.dtype.is_float:
        return (call.give(total / total.dtype.type(max(count, 1))),)
    return (call.give(np.divide(total, count)),)


def bound_of(dtype: DType, sign: int) -> float | int | bool:
    """The neutral element of max (sign 1) or min (sign -1)."""
    if dtype.is_float:
        return -sign * math.inf
    if dtype is DType.BOOL:
        return sign < 0
    signed = dtype.startswith("i")
    top = (1 << (dtype.bits - signed)) - 1
    return (-top - 1 if signed else 0) if sign > 0 else top


def reduce_max(call: Call) -> tuple[Array, ...]:
    return (call.give(_extreme(call, 1)),)


def reduce_min(call: Call) -> tuple[Array, ...]:
    return (call.give(_extreme(call, -1)),)


def _extreme(call: Call, sign: int) -> Array:
    x, axes = call.operand(0), _axes(call)
    neutral = bound_of(x.tiled.dtype, sign)
    data = x.masked(axes, neutral).wide()
    reduce = np.max if sign > 0 else np.min
    return np.asarray(reduce(data, axis=_behind(call, axes), keepdims=True, initial=neutral))


def cumsum(call: Call) -> tuple[Array, ...]:
    """The running sum along a dimension that each PE holds whole."""
    x, axis = call.operand(0), call.int_attr("axis")
    where = call.axes + axis
    data = x.wide()
    reverse = bool(call.op.attr("reverse", False))
    if reverse:
        data = np.flip(data, where)
    total = np.cumsum(data, axis=where, dtype=data.dtype)
    if call.op.attr("exclusive", False):
        shifted = np.zeros_like(total)
        ahead = (slice(None),) * where
        shifted[(*ahead, slice(1, None))] = total[(*ahead, slice(None, -1))]
        total = shifted
    return (call.give(np.flip(total, where) if reverse else total),)


def softmax(call: Call) -> tuple[Array, ...]:
    """The softmax along one dimension; cut, each PE leaves its maximum and the sum of exponentials against it."""
    x, axis = call.operand(0), call.int_attr("axis")
    data = x.masked((axis,), -math.inf).wide()
    if call.phase is Phase.FINISH:
        top, total = call.partials[0].wide(), call.partials[1].wide()
    else:
        top, total = top_and_sum(data, call.axes + axis)
    if call.phase is Phase.LOCAL:
        return call.give(top, 0), call.give(total, 1)
    return (call.give(np.exp(data - top) / total),)


def top_and_sum(data: Numbers, axis: int) -> tuple[Numbers, Numbers]:
    """The maximum along an axis and the sum of exponentials against it: (-inf, 0) where all are -inf."""
    top = np.max(data, axis=axis, keepdims=True, initial=-math.inf)
    return top, np.sum(np.exp(data - finite(top)), axis=axis, keepdims=True)


def finite(top: Numbers) -> Numbers:
    """A maximum that exponentials can be taken against: 0 where there is none."""
    return np.where(np.isneginf(top), top.dtype.type(0), top)


KERNELS = {
    "reduce_sum": reduce_sum,
    "reduce_mean": reduce_mean,
    "reduce_max": reduce_max,
    "reduce_min": reduce_min,
    "cumsum": cumsum,
    "softmax": softmax,
}
