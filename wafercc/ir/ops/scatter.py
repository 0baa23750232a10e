"""Ops that write elements to computed places: scatter_elements, scatter_nd. Negative places count from the end.

What is to be written outside the tensor is dropped: such places are the padding of a ``nonzero``. Where two updates
meet, the later one stays, or they combine by the reduction, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Index, Loop, Loops
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .rules import INTS, NUMERIC, axis_attr, bad, demand, operands, plain, present, same_dtype

REDUCTIONS: dict[str, Callable[..., Any] | None] = {
    "none": None,
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def reduction_of(op: Op) -> str:
    """How updates meet what is there: ``none`` replaces it."""
    value = op.attrs.get("reduction", "none")
    if value not in REDUCTIONS:
        raise bad(op, f"needs one of {', '.join(REDUCTIONS)} as attribute reduction, has {value!r}")
    return str(value)


def _checked(op: Op, x: TensorType, indices: TensorType, updates: TensorType) -> None:
    demand(op, "indices", indices, INTS)
    same_dtype(op, (x, updates))
    if reduction_of(op) != "none":
        demand(op, "x", x, NUMERIC)


def write(data: Array, spots: tuple[Array, ...], updates: Array, reduction: str) -> None:
    """Put updates into data, in place."""
    combine = REDUCTIONS[reduction]
    if combine is None:
        data[spots] = updates
    else:
        combine(data, spots, updates)


def inside(indices: Array, extent: int) -> NDArray[np.int64]:
    """Places counted from the front; those outside become ``extent``, one past the end."""
    wide = indices.astype(np.int64)
    wide = np.where(wide < 0, wide + extent, wide)
    return np.where((wide < 0) | (wide >= extent), extent, wide).astype(np.int64)


# --- scatter_elements


def _infer_elements(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    x, indices, updates = operands(op, types, 3)
    _checked(op, x, indices, updates)
    axis = axis_attr(op, x.rank)
    if indices.shape != updates.shape or indices.rank != x.rank:
        raise bad(op, f"cannot write {updates} to {indices} of {x}")
    if any(i != axis and not a <= b for i, (a, b) in enumerate(zip(indices.shape, x.shape, strict=True))):
        raise bad(op, f"cannot write {updates} into {x} along dimension {axis}")
    return (x,)


def _elements(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    x, indices, updates = present(arrays)
    axis = axis_attr(op, x.ndim)
    return (scatter_along(x, indices, updates, axis, x.shape[axis], reduction_of(op)),)


def scatter_along(x: Array, indices: Array, updates: Array, axis: int, extent: int, reduction: str) -> Array:
    """A copy of x with the updates written along an axis of this extent; dimensions beside it pair up from 0."""
    slots = inside(indices, extent)
    spare = np.zeros([1 if i == axis else e for i, e in enumerate(x.shape)], x.dtype)
    data = np.concatenate([x, spare], axis=axis)
    beside = np.ix_(*(np.arange(e) for e in slots.shape))
    write(data, (*beside[:axis], slots, *beside[axis + 1 :]), updates, reduction)
    return np.take(data, np.arange(x.shape[axis]), axis=axis)


def _elements_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    """Dimensions beside the axis are parallel where the indices have all of them."""
    x, indices, _ = present(types)
    axis = axis_attr(op, x.rank)
    free = [i for i, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True)) if i != axis and a == b]
    access: Access = tuple(Index(f"d{i}") if i in free else WHOLE for i in range(x.rank))
    return Loops(tuple(Loop(f"d{i}", x.shape[i]) for i in free), (access,) * 3, (access,))


# --- scatter_nd


def _infer_nd(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    x, indices, updates = operands(op, types, 3)
    _checked(op, x, indices, updates)
    depth = indices.shape[-1] if indices.rank else 0
    if not isinstance(depth, int) or not 1 <= depth <= x.rank:
        raise bad(op, f"cannot index {depth} dimensions of {x}")
    if updates.shape != (*indices.shape[:-1], *x.shape[depth:]):
        raise bad(op, f"cannot write {updates} to {indices} of {x}")
    return (x,)


def _nd(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    x, indices, updates = present(arrays)
    depth = indices.shape[-1]
    data = x.reshape(1, -1, *x.shape[depth:])
    flat = flat_places(indices, x.shape[:depth])
    written = scatter_rows(data, flat[None], updates.reshape(1, -1, *x.shape[depth:]), reduction_of(op))
    return (written.reshape(x.shape),)


def flat_places(indices: Array, extents: Sequence[int]) -> Array:
    """Index tuples ``[..., depth]`` as places in the flattened dimensions, in one list; outside: one past the end."""
    total = int(np.prod(extents, dtype=np.int64))
    flat, outside = np.zeros(indices.shape[:-1], np.int64), np.zeros(indices.shape[:-1], np.bool_)
    for axis, extent in enumerate(extents):
        one = inside(indices[..., axis], extent)
        outside |= one == extent
        flat = flat * extent + one
    return np.where(outside, total, flat).reshape(-1)


def scatter_rows(data: Array, places: Array, updates: Array, reduction: str) -> Array:
    """A copy of ``data [l,n,...]`` with ``updates [l,m,...]`` written to rows ``places [l,m]``; row n is dropped."""
    spare = np.concatenate([data, np.zeros((data.shape[0], 1, *data.shape[2:]), data.dtype)], axis=1)
    write(spare, (np.arange(data.shape[0])[:, None], places), updates, reduction)
    return spare[:, :-1]


def _nd_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    x, indices, _ = present(types)
    depth = indices.shape[-1]
    assert isinstance(depth, int)
    names = [f"d{i}" for i in range(depth, x.rank)]
    loops = tuple(Loop(n, d) for n, d in zip(names, x.shape[depth:], strict=True))
    data: Access = ((WHOLE,) * depth) + plain(names)
    rows: Access = ((WHOLE,) * (indices.rank - 1)) + plain(names)
    return Loops(loops, (data, (WHOLE,) * indices.rank, rows), (data,))


def _work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """A copy of x, and one move per update."""
    return Work(simple=product(outs[0]) + product(present(ins)[2]))


SPECS: tuple[OpSpec, ...] = (
    OpSpec("scatter_elements", _infer_elements, _elements, _work, _elements_loops),
    OpSpec("scatter_nd", _infer_nd, _nd, _work, _nd_loops),
)
