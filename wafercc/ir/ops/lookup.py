"""Ops that pick elements by computed indices: embedding, gather, gather_nd. Negative indices count from the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import RunError
from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Combine, Loop, Loops
from ..optable import Array, InTypes, OpSpec
from .rules import INTS, axis_attr, bad, copies, demand, demand_rank, int_attr, operands, plain, present


def counted(op: Op, indices: Array, extent: int) -> NDArray[np.int64]:
    """Indices counted from the front.

    Raises:
        RunError: one lies outside the dimension it indexes.
    """
    wide = indices.astype(np.int64)
    outside = (wide < -extent) | (wide >= extent)
    if outside.any():
        raise RunError(
            f"index {wide[outside].flat[0]} is outside 0 to {extent - 1}",
            where=f"op {op.id}",
            hint="token and position ids must lie inside their tables",
        )
    return np.where(wide < 0, wide + extent, wide).astype(np.int64)


def taken(op: Op, x: Array, indices: Array, axis: int) -> Array:
    """The elements along an axis that indices name.

    Raises:
        RunError: an index lies outside.
    """
    return np.take(x, counted(op, indices, x.shape[axis]), axis=axis)


# --- embedding


def _infer_embedding(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    table, ids = operands(op, types, 2)
    demand_rank(op, "a table", table, 2)
    demand(op, "ids", ids, INTS)
    return (TensorType(table.dtype, (*ids.shape, table.shape[1])),)


def _embedding(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    table, ids = present(arrays)
    return (taken(op, table, ids, 0),)


def _embedding_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    """Ids and columns are parallel; over rows each PE contributes those it holds, and zeros for all others."""
    table, ids = present(types)
    names = [f"d{i}" for i in range(ids.rank)]
    loops = [Loop(n, d) for n, d in zip(names, ids.shape, strict=True)]
    loops += [Loop("v", table.shape[0], Combine.SUM), Loop("c", table.shape[1])]
    return Loops(tuple(loops), (plain(["v", "c"]), plain(names)), (plain([*names, "c"]),))


# --- gather


def _infer_gather(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    x, indices = operands(op, types, 2)
    demand(op, "indices", indices, INTS)
    axis = axis_attr(op, x.rank)
    return (TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])),)


def _gather(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    x, indices = present(arrays)
    axis = int_attr(op, "axis")
    return (taken(op, x, indices, axis),)


def _gather_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    indices = present(types)[1]
    axis = int_attr(op, "axis")
    names = [f"d{i}" for i in range(outs[0].rank)]
    loops = tuple(Loop(n, d) for n, d in zip(names, outs[0].shape, strict=True))
    after = axis + indices.rank
    data: Access = (*plain(names[:axis]), WHOLE, *plain(names[after:]))
    return Loops(loops, (data, plain(names[axis:after])), (plain(names),))


# --- gather_nd


def _infer_gather_nd(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    x, indices = operands(op, types, 2)
    demand(op, "indices", indices, INTS)
    batch = int_attr(op, "batch_dims", 0)
    if not 0 <= batch < min(x.rank, indices.rank):
        raise bad(op, f"cannot have {batch} batch dimensions with {x} and {indices}")
    if x.shape[:batch] != indices.shape[:batch]:
        raise bad(op, f"has different batch dimensions in {x} and {indices}")
    depth = indices.shape[-1]
    if not isinstance(depth, int) or not 1 <= depth <= x.rank - batch:
        raise bad(op, f"cannot index {depth} dimensions of {x} after {batch} batch dimensions")
    return (TensorType(x.dtype, (*indices.shape[:-1], *x.shape[batch + depth :])),)


def _gather_nd(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    x, indices = present(arrays)
    batch, depth = int_attr(op, "batch_dims", 0), indices.shape[-1]
    rank = indices.ndim - 1
    picks: list[NDArray[np.int64]] = []
    for axis in range(batch):
        picks.append(np.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(rank)]))
    for axis in range(depth):
        picks.append(counted(op, indices[..., axis], x.shape[batch + axis]))
    return (x[tuple(picks)],)


def _gather_nd_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    indices = present(types)[1]
    batch, depth = int_attr(op, "batch_dims", 0), indices.shape[-1]
    assert isinstance(depth, int)
    names = [f"d{i}" for i in range(outs[0].rank)]
    loops = tuple(Loop(n, d) for n, d in zip(names, outs[0].shape, strict=True))
    rank = indices.rank - 1
    data: Access = (*plain(names[:batch]), *(WHOLE,) * depth, *plain(names[rank:]))
    return Loops(loops, (data, (*plain(names[:rank]), WHOLE)), (plain(names),))


SPECS: tuple[OpSpec, ...] = (
    OpSpec("embedding", _infer_embedding, _embedding, copies, _embedding_loops),
    OpSpec("gather", _infer_gather, _gather, copies, _gather_loops),
    OpSpec("gather_nd", _infer_gather_nd, _gather_nd, copies, _gather_nd_loops),
)
