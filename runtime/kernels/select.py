"""Ops that find places, pick by them and write to them. What they look along is whole in every tile, so the op table's
own functions hold, with the mesh axes as further dimensions in front."""

from __future__ import annotations

import numpy as np

from ...ir.ops.scatter import flat_places, reduction_of, scatter_along, scatter_rows
from ...ir.ops.select import take_along, top_places
from ..tiles import Array
from .call import Call, Operand


def topk(call: Call) -> tuple[Array, ...]:
    axis = call.axes + call.int_attr("axis")
    places = top_places(call.operand(0).data, axis, call.int_attr("k"), bool(call.op.attr("largest")))
    return (call.give(places),)


def gather_elements(call: Call) -> tuple[Array, ...]:
    """Padded slots of the index tile hold anything, so indices are brought into range first."""
    axis = call.int_attr("axis")
    extent = call.operand(0).extent(axis)
    x, indices = _together(call, call.operand(0), call.operand(1))
    counted = indices.astype(np.int64)
    counted = np.clip(np.where(counted < 0, counted + extent, counted), 0, max(extent - 1, 0))
    return (call.give(take_along(x, counted, call.axes + axis)),)


def nonzero(call: Call) -> tuple[Array, ...]:
    """Hits first, in row-major order; then columns that hold the number of elements."""
    x = call.operand(0)
    hit = (x.data != 0).reshape(-1, int(np.prod(x.tile)))
    size = hit.shape[1]
    order = np.argsort(~hit, axis=1, kind="stable")
    found = np.arange(size) < hit.sum(axis=1, keepdims=True)
    columns = [np.where(found, one, size) for one in np.unravel_index(order, x.tile)] if size else [order] * x.rank
    lead = x.data.shape[: call.axes]
    return (call.give(np.stack(columns, axis=1).reshape(*lead, x.rank, size)),)


def scatter_elements(call: Call) -> tuple[Array, ...]:
    axis = call.int_attr("axis")
    x, indices, updates = _together(call, *(call.operand(i) for i in range(3)))
    written = scatter_along(x, indices, updates, call.axes + axis, call.operand(0).extent(axis), reduction_of(call.op))
    return (call.give(written),)


def scatter_nd(call: Call) -> tuple[Array, ...]:
    x, indices, updates = _together(call, *(call.operand(i) for i in range(3)))
    lead, depth = int(np.prod(x.shape[: call.axes])), indices.shape[-1]
    tile, rest = call.operand(0).tile, call.operand(0).tile[depth:]
    count = int(np.prod(tile[:depth]))
    places = flat_places(indices.reshape(lead, -1, depth), tile[:depth]).reshape(lead, -1)
    rows = updates.reshape(lead, places.shape[1], *rest)
    written = scatter_rows(x.reshape(lead, count, *rest), places, rows, reduction_of(call.op))
    return (call.give(written.reshape(x.shape)),)


def _together(call: Call, *operands: Operand) -> tuple[Array, ...]:
    """The tiles of operands on all mesh axes on which any of them differs."""
    lead = np.broadcast_shapes(*(o.data.shape[: call.axes] for o in operands))
    return tuple(np.broadcast_to(o.data, (*lead, *o.tile)) for o in operands)


KERNELS = {
    "topk": topk,
    "gather_elements": gather_elements,
    "nonzero": nonzero,
    "scatter_elements": scatter_elements,
    "scatter_nd": scatter_nd,
}
