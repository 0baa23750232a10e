"""Ops that pick elements by computed indices. Where the table is cut, a PE contributes the rows it holds and zeros
otherwise."""

from __future__ import annotations

import numpy as np

from ..tiles import Array, Ints, inverse, parts_of, spread
from .call import Call, Operand


def _slots(
    x: Operand, axis: int, indices: Array
) -> tuple[Ints, np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None]:
    """The slot of each index in this PE's tile, and whether it holds it (``None``: it holds all).

    Padded slots of the index tile hold anything, so indices are brought into range first; those of the
    inputs were checked at the door.
    """
    extent, split = x.extent(axis), x.split(axis)
    counted = indices.astype(np.int64)
    counted = np.clip(np.where(counted < 0, counted + extent, counted), 0, max(extent - 1, 0))
    if not split.axes:
        return counted, None
    parts = parts_of(split, x.mesh)
    part, slot = np.divmod(inverse(extent, split, parts)[counted], x.tile[axis])
    mine = spread(np.arange(parts), split.axes, x.mesh)
    mine = mine.reshape(*mine.shape, *(1,) * (counted.ndim - mine.ndim))
    return slot, part == mine


def embedding(call: Call) -> tuple[Array, ...]:
    """Rows of a table ``[v, c]``."""
    return (_taken(call, call.operand(0), call.operand(1), 0),)


def gather(call: Call) -> tuple[Array, ...]:
    return (_taken(call, call.operand(0), call.operand(1), call.int_attr("axis")),)


def rows_of(call: Call, table: Operand, ids: Operand) -> tuple[Array, Array | None]:
    """The rows of a table ``[v, c]`` that ids name, ``[mesh axes, ids, c]``, and which of them this PE holds (``None``:
    all; of others the row is anything)."""
    taken, held = _picked(call, table, ids, 0)
    shape = (*ids.tile, table.tile[1])
    rows = taken.reshape(*taken.shape[: call.axes], *shape)
    return rows, None if held is None else held.reshape(*held.shape[: call.axes], *ids.tile, 1)


def _taken(call: Call, x: Operand, indices: Operand, axis: int) -> Array:
    """x[..., indices, ...]: the index dimensions stand where ``axis`` stood."""
    taken, held = _picked(call, x, indices, axis)
    return call.give(taken if held is None else np.where(held, taken, np.zeros((), x.data.dtype)))


def _picked(call: Call, x: Operand, indices: Operand, axis: int) -> tuple[Array, Array | None]:
    """What indices pick along an axis, with the indices as one dimension, and which of it this PE holds."""
    slots, mine = _slots(x, axis, indices.data)
    lead, count = slots.shape[: call.axes], int(np.prod(indices.tile))
    before, after = x.tile[:axis], x.tile[axis + 1 :]
    if all(e == 1 for e in lead):
        taken = np.take(x.data, slots.ravel(), axis=call.axes + axis)
    else:
        shape = (*lead, *(1,) * len(before), count, *(1,) * len(after))
        taken = np.take_along_axis(x.data, slots.reshape(shape), axis=call.axes + axis)
    if mine is None:
        return taken, None
    return taken, mine.reshape(*mine.shape[: call.axes], *(1,) * len(before), count, *(1,) * len(after))


def gather_nd(call: Call) -> tuple[Array, ...]:
    """x[batch..., indices[..., 0], indices[..., 1], ...]; the mesh axes are batch dimensions too."""
    x, indices = call.operand(0), call.operand(1)
    batch, depth = call.int_attr("batch_dims", 0), indices.tile[-1]
    lead = np.broadcast_shapes(x.data.shape[: call.axes], indices.data.shape[: call.axes])
    data = np.broadcast_to(x.data, (*lead, *x.tile))
    index = np.broadcast_to(indices.data, (*lead, *indices.tile))
    common = call.axes + batch
    picks: list[Ints] = []
    for axis in range(common):
        shape = [1] * (index.ndim - 1)
        shape[axis] = index.shape[axis]
        picks.append(np.arange(index.shape[axis]).reshape(shape))
    for axis in range(depth):
        slots, mine = _slots(x, batch + axis, index[..., axis])
        assert mine is None, f"op {call.op.id} indexes a dimension that is cut"
        picks.append(slots)
    return (call.give(data[tuple(picks)]),)


KERNELS = {"embedding": embedding, "gather": gather, "gather_nd": gather_nd}
