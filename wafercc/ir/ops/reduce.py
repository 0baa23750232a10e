"""Reductions over axes: sum, mean, max, min, cumulative sum, softmax.

16-bit floats accumulate in f32. A cut reduction leaves partial results: of sum, max and min the result itself,
of a mean its sum (the division by the extent remains), of a softmax the maximum and the sum of exponentials per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..dtypes import DType, from_numpy
from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Combine, Index, Loop, Loops, Partial
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .rules import (
    BOOLS,
    FLOATS,
    NUMERIC,
    axes_attr,
    axis_attr,
    bool_attr,
    demand,
    int_attr,
    no_axis,
    numbers,
    operands,
    plain,
    present,
    wide,
    wide_dtype,
)


def _least(dtype: DType, sign: int) -> float | int | bool:
    """The neutral element of max (sign 1) or min (sign -1)."""
    if dtype.is_float:
        return -sign * float("inf")
    if dtype is DType.BOOL:
        return sign < 0
    signed = dtype.startswith("i")
    top = (1 << (dtype.bits - signed)) - 1
    return (-top - 1 if signed else 0) if sign > 0 else top


def _sum(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.sum(numbers(x), axis=axes, keepdims=True, dtype=x.dtype))


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.mean(numbers(x), axis=axes, keepdims=True))


def _max(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.max(x, axis=axes, keepdims=True, initial=_least(from_numpy(x.dtype), 1)))


def _min(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.min(x, axis=axes, keepdims=True, initial=_least(from_numpy(x.dtype), -1)))


@dataclass(frozen=True)
class Row:
    """One reduction kind: its kernel (keeping the axes), how partial results combine, what it takes."""

    kind: str
    kernel: Callable[[Array, tuple[int, ...]], Array]
    combine: Combine
    takes: frozenset[DType] = NUMERIC
    mean: bool = False

    def spec(self) -> OpSpec:
        return OpSpec(self.kind, self.infer, self.evaluate, self.work, self.loops)

    def infer(self, op: Op, types: InTypes) -> tuple[TensorType, ...]:
        (x,) = operands(op, types, 1)
        demand(op, "x", x, self.takes)
        axes, keep = axes_attr(op, x.rank), bool_attr(op, "keep")
        kept = tuple(1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes)
        return (TensorType(x.dtype, kept),)

    def evaluate(self, op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
        (x,) = present(arrays)
        axes = axes_attr(op, x.ndim)
        with np.errstate(all="ignore"):
            kept = self.kernel(wide(x), axes).astype(x.dtype, copy=False)
        return (kept if bool_attr(op, "keep") else kept.reshape(no_axis(x.shape, axes)),)

    def work(self, op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
        return Work(simple=product(present(ins)[0]), special=product(outs[0]) if self.mean else 0)

    def loops(self, op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
        (x,) = present(types)
        axes = axes_attr(op, x.rank)
        names = [f"d{i}" for i in range(x.rank)]
        loops = tuple(Loop(n, x.shape[i], self.combine if i in axes else None) for i, n in enumerate(names))
        kept: Access = tuple(WHOLE if i in axes else Index(n) for i, n in enumerate(names))
        out = kept if bool_attr(op, "keep") else no_axis(kept, axes)
        partials: tuple[Partial, ...] = ()
        if self.mean:
            partials = (row_partial(x, axes, kept),)
        return Loops(loops, (plain(names),), (out,), partials)


def row_partial(x: TensorType, axes: tuple[int, ...], access: Access) -> Partial:
    """A partial result that has one element where ``x`` has the reduced axes."""
    return Partial(wide_dtype(x.dtype), tuple(1 if i in axes else d for i, d in enumerate(x.shape)), access)


# --- cumsum


def _infer_cumsum(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    demand(op, "x", x, NUMERIC)
    axis_attr(op, x.rank)
    bool_attr(op, "exclusive", False)
    bool_attr(op, "reverse", False)
    return (x,)


def _cumsum(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (given,) = present(arrays)
    axis = int_attr(op, "axis")
    x = np.flip(wide(given), axis) if bool_attr(op, "reverse", False) else wide(given)
    with np.errstate(all="ignore"):
        total = np.cumsum(x, axis=axis, dtype=x.dtype)
        if bool_attr(op, "exclusive", False):
            total = np.roll(total, 1, axis)
            total[(slice(None),) * axis + (slice(0, 1),)] = 0
    result = np.flip(total, axis) if bool_attr(op, "reverse", False) else total
    return (result.astype(given.dtype, copy=False),)


def _cumsum_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    return Work(simple=product(outs[0]))


def _cumsum_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    shape, axis = outs[0].shape, int_attr(op, "axis")
    access: Access = tuple(WHOLE if i == axis else Index(f"d{i}") for i in range(len(shape)))
    loops = tuple(Loop(f"d{i}", d) for i, d in enumerate(shape) if i != axis)
    return Loops(loops, (access,), (access,))


# --- softmax


def _infer_softmax(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    demand(op, "x", x, FLOATS)
    axis_attr(op, x.rank)
    return (x,)


def _softmax(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (given,) = present(arrays)
    x, axis = wide(given), int_attr(op, "axis")
    with np.errstate(all="ignore"):
        grown = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
        return ((grown / np.sum(grown, axis=axis, keepdims=True)).astype(given.dtype, copy=False),)


def _softmax_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """Per element maximum, difference, exp, sum and scale; per row one reciprocal."""
    axis = int_attr(op, "axis")
    elements = product(outs[0])
    rows = product([e for i, e in enumerate(outs[0]) if i != axis])
    return Work(simple=elements * 4, special=elements + rows)


def _softmax_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    x, axis = outs[0], int_attr(op, "axis")
    names = [f"d{i}" for i in range(x.rank)]
    loops = tuple(
        Loop(n, d, Combine.SOFTMAX if i == axis else None)
        for i, (n, d) in enumerate(zip(names, x.shape, strict=True))
    )
    row: Access = tuple(WHOLE if i == axis else Index(n) for i, n in enumerate(names))
    partial = row_partial(x, (axis,), row)
    return Loops(loops, (plain(names),), (plain(names),), (partial, partial))


SPECS: tuple[OpSpec, ...] = (
    Row("reduce_sum", _sum, Combine.SUM).spec(),
    Row("reduce_mean", _mean, Combine.SUM, mean=True).spec(),
    Row("reduce_max", _max, Combine.MAX, NUMERIC | BOOLS).spec(),
    Row("reduce_min", _min, Combine.MIN, NUMERIC | BOOLS).spec(),
    OpSpec("cumsum", _infer_cumsum, _cumsum, _cumsum_work, _cumsum_loops),
    OpSpec("softmax", _infer_softmax, _softmax, _softmax_work, _softmax_loops),
)
