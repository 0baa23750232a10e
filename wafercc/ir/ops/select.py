"""Ops whose result depends on what elements are: the places of the largest, of those that are not zero, picks by place.

``topk`` gives places, not values: a ``gather_elements`` with them gives the values. ``nonzero`` has a static length,
one column for each element of ``x``; columns past the last hit hold the number of elements of ``x``, a place outside
every dimension, which scatters drop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dtypes import DType
from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Index, Loop, Loops
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .lookup import counted
from .rules import ANY, INTS, NUMERIC, axis_attr, bad, bool_attr, copies, demand, int_attr, operands, present

# --- topk


def _infer_topk(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    demand(op, "x", x, NUMERIC)
    axis, k = axis_attr(op, x.rank), int_attr(op, "k")
    bool_attr(op, "largest")
    extent = x.shape[axis]
    if k < 0 or not k <= extent:
        raise bad(op, f"cannot pick {k} of the {extent} elements of dimension {axis} of {x}")
    return (TensorType(DType.I64, tuple(k if i == axis else d for i, d in enumerate(x.shape))),)


def _topk(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (x,) = present(arrays)
    return (top_places(x, int_attr(op, "axis"), int_attr(op, "k"), bool_attr(op, "largest")),)


def top_places(x: Array, axis: int, k: int, largest: bool) -> Array:
    """Where the k largest (or smallest) elements stand, best first; of equal ones the first."""
    if largest:  # a stable sort of the reversed axis puts the last of equal elements first
        order = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
        order = x.shape[axis] - 1 - order
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    return np.take(order, np.arange(k), axis=axis).astype(np.int64)


def _topk_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """k passes over the elements."""
    return Work(simple=product(present(ins)[0]) * int_attr(op, "k"))


def _topk_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    shape, axis = outs[0].shape, int_attr(op, "axis")
    access: Access = tuple(WHOLE if i == axis else Index(f"d{i}") for i in range(len(shape)))
    loops = tuple(Loop(f"d{i}", d) for i, d in enumerate(shape) if i != axis)
    return Loops(loops, (access,), (access,))


# --- gather_elements


def _infer_gather_elements(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    x, indices = operands(op, types, 2)
    demand(op, "indices", indices, INTS)
    axis = axis_attr(op, x.rank)
    if indices.rank != x.rank or any(
        i != axis and not a <= b for i, (a, b) in enumerate(zip(indices.shape, x.shape, strict=True))
    ):
        raise bad(op, f"cannot pick from {x} along dimension {axis} with {indices}")
    return (TensorType(x.dtype, indices.shape),)


def _gather_elements(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    x, indices = present(arrays)
    axis = int_attr(op, "axis")
    return (take_along(x, counted(op, indices, x.shape[axis]), axis),)


def take_along(x: Array, slots: Array, axis: int) -> Array:
    """x at these slots of one axis; the other axes of x may be longer than those of the slots."""
    boxed = x[tuple(slice(None) if i == axis else slice(0, e) for i, e in enumerate(slots.shape))]
    return np.take_along_axis(boxed, slots.astype(np.int64), axis=axis)


def _gather_elements_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    """All dimensions of the result are parallel; of x those that are as long as the indices', but never the axis."""
    x, indices = present(types)
    axis = int_attr(op, "axis")
    loops, data, picks = [], [], []
    for i, (have, want) in enumerate(zip(x.shape, indices.shape, strict=True)):
        free = i == axis or have == want
        loops += [Loop(f"d{i}", want)] if free else []
        picks.append(Index(f"d{i}") if free else WHOLE)
        data.append(Index(f"d{i}") if free and i != axis else WHOLE)
    return Loops(tuple(loops), (tuple(data), tuple(picks)), (tuple(picks),))


# --- nonzero


def _infer_nonzero(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    demand(op, "x", x, ANY)
    if x.rank == 0 or not all(isinstance(d, int) for d in x.shape):
        raise bad(op, f"needs fixed dimensions, at least one, has {x}")
    return (TensorType(DType.I64, (x.rank, x.elements)),)


def _nonzero(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (x,) = present(arrays)
    hits = np.argwhere(x)
    result = np.full((x.ndim, x.size), x.size, np.int64)
    result[:, : len(hits)] = hits.T
    return (result,)


def _nonzero_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    return Work(simple=product(present(ins)[0]) + product(outs[0]))


def _nonzero_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    return Loops((), ((WHOLE,) * present(types)[0].rank,), ((WHOLE, WHOLE),))


SPECS: tuple[OpSpec, ...] = (
    OpSpec("topk", _infer_topk, _topk, _topk_work, _topk_loops),
    OpSpec("gather_elements", _infer_gather_elements, _gather_elements, copies, _gather_elements_loops),
    OpSpec("nonzero", _infer_nonzero, _nonzero, _nonzero_work, _nonzero_loops),
)
