"""Ops that move elements inside a tile: reshape, transpose, expand, slice, concat, kv_append."""

from __future__ import annotations

import numpy as np

from ...ir.dims import Affine, at
from ..tiles import Array, locate, pick
from .call import Call, Operand


def reshape(call: Call) -> tuple[Array, ...]:
    """Tiles are cut on granules that both shapes share, so a tile in row-major order is already the new tile."""
    return (call.give(call.operand(0).data),)


def transpose(call: Call) -> tuple[Array, ...]:
    perm = call.op.attr("perm")
    assert isinstance(perm, tuple)
    lead = range(call.axes)
    return (call.operand(0).data.transpose(*lead, *(call.axes + p for p in perm if isinstance(p, int))),)


def expand(call: Call) -> tuple[Array, ...]:
    out = call.out_tile()
    data = call.operand(0).raised(len(out))
    return (np.broadcast_to(data, (*data.shape[: call.axes], *out)),)


def slice_(call: Call) -> tuple[Array, ...]:
    """Each PE takes the elements its result tile holds out of its operand tile."""
    x, axis = call.operand(0), call.int_attr("axis")
    start = call.op.attr("start")
    assert isinstance(start, int | Affine)
    kept = call.out_elements(axis)
    wanted = np.where(kept >= 0, at(start, call.n_past) + call.int_attr("step", 1) * kept, -1)
    slots = locate(wanted, x.extent(axis), x.split(axis), call.mesh, f"op {call.op.id}")
    return (call.give(pick(x.data, slots, axis, call.axes)),)


def concat(call: Call) -> tuple[Array, ...]:
    """Operands side by side in each PE, then of all their slots those that the result tile holds.

    So a cache cut cyclically keeps its slots, and a new element goes to the PE that owns its position.
    """
    axis = call.int_attr("axis")
    operands = [call.operand(i) for i in range(len(call.ins))]
    wanted = call.out_elements(axis)
    slots = np.zeros_like(wanted)
    first, base = 0, 0
    for x in operands:
        inside = (wanted >= first) & (wanted < first + x.extent(axis))
        found = locate(
            np.where(inside, wanted - first, -1), x.extent(axis), x.split(axis), call.mesh, f"op {call.op.id}"
        )
        slots = np.where(inside, base + found, slots)
        first, base = first + x.extent(axis), base + x.tile[axis]
    return (call.give(pick(_side_by_side(operands, call.axes, axis), slots, axis, call.axes)),)


def _side_by_side(operands: list[Operand], axes: int, axis: int) -> Array:
    lead = np.broadcast_shapes(*(x.data.shape[:axes] for x in operands))
    return np.concatenate([np.broadcast_to(x.data, (*lead, *x.tile)) for x in operands], axis=axes + axis)


KERNELS = {
    "reshape": reshape,
    "transpose": transpose,
    "expand": expand,
    "slice": slice_,
    "concat": concat,
    "kv_append": concat,
}
