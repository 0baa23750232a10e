"""Gathers: rows of a weight, elements of a computed tensor; or, where the indices are known and regular, just a view.

Exporters write a broadcast of the attention mask as a gather with indices made of aranges. Such indices are ramps,
and the gather is then a reshape, slice, transpose and expand of its operand: nothing irregular is left to run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.dims import Dim, Undecided
from ..ir.dtypes import DType
from .content import Ramp, Value, known_array, known_dims, ramp_of
from .context import Context
from .nodes import Node
from .ops_elementwise import convert
from .ops_shape import reshaped, sliced
from .quantized import quantized_weight
from .registry import axis_of, lowers


@lowers("Gather")
def gather(node: Node, cx: Context) -> Value:
    x, indices = cx.input(node, 0), cx.input(node, 1)
    axis = axis_of(node, node.int_attr("axis", 0), x.rank)
    if x.array is not None and x.array.dtype == object:
        return _gather_dims(node, cx, x, indices, axis)
    ramp = ramp_of(indices)
    if ramp is not None and x.name is not None:
        if (one := _single(cx, x, axis, ramp, indices)) is not None:
            return one
        if axis == 0 and (view := _flat_view(cx, x, ramp, indices)) is not None:
            return view
    return _picked(cx, x, indices, axis)


def _picked(cx: Context, x: Value, indices: Value, axis: int) -> Value:
    """Elements of an axis by indices that have to be computed or are not regular."""
    indices = from_front(cx, indices, x.shape[axis])
    parts = quantized_weight(cx, x)
    if parts is not None and x.rank == 2 and axis == 0 and parts.blocks[0] <= 1:
        return cx.emit("embedding_quant", [parts.q, indices, parts.scale, parts.zero], {"blocks": parts.blocks})
    if x.weight and x.rank == 2 and axis == 0:
        return cx.emit("embedding", [x, indices])
    return cx.emit("gather", [x, indices], {"axis": axis})


def _gather_dims(node: Node, cx: Context, x: Value, indices: Value, axis: int) -> Value:
    """Gather from a shape: indices may be negative, results may be affine in n_past."""
    picks = cx.array(indices)
    if picks is None or picks.dtype == object or x.array is None:
        raise node.fail("picks from a shape with indices that are not known while importing")
    extent = x.array.shape[axis]
    if picks.size and not (-extent <= picks.min() and picks.max() < extent):
        raise node.fail(f"has the index {picks.max()}, but the dimension {axis} of its operand has {extent} elements")
    return known_array(np.asarray(np.take(x.array, picks.astype(np.int64), axis=axis), dtype=object), x.dtype)


def from_front(cx: Context, indices: Value, extent: Dim) -> Value:
    """Known negative indices counted from the front; indices that are computed are taken to be in range, but for those
    of a NonZero of unknown length, whose padding reads the last element."""
    if indices.name in cx.ragged:
        return cx.emit("min", [indices, cx.fill(extent - 1, (), indices.dtype)])
    array = cx.array(indices)
    if array is None or array.dtype == object or not array.size or array.min() >= 0 or not isinstance(extent, int):
        return indices
    return known_array(np.where(array < 0, array + extent, array).astype(array.dtype), indices.dtype)


def _single(cx: Context, x: Value, axis: int, ramp: Ramp, indices: Value) -> Value | None:
    """One known index, or an arange: a slice."""
    if any(ramp.steps) and (indices.rank != 1 or not isinstance(ramp.steps[0], int) or ramp.steps[0] < 1):
        return None
    if any(indices.shape[k] != 1 for k in range(indices.rank) if not ramp.steps[k]):
        return None
    try:
        start = ramp.start + x.shape[axis] if ramp.start < 0 else ramp.start
    except Undecided:
        return None
    step = ramp.steps[0] if any(ramp.steps) else 1
    assert isinstance(step, int)
    part = sliced(cx, x, axis, start, step, indices.shape[0] if any(ramp.steps) else 1)
    return reshaped(cx, part, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@dataclass(frozen=True)
class Pick:
    """Which elements of one operand axis an index ramp takes, and the result axis along which it runs (if any)."""

    along: int | None
    start: Dim
    step: int
    count: Dim


def picks_of(ramps: list[Ramp], shape: tuple[Dim, ...]) -> list[Pick] | None:
    """A pick per ramp, if each runs along at most one result axis and no two along the same."""
    found = []
    for ramp in ramps:
        moving = [axis for axis, step in enumerate(ramp.steps) if step != 0]
        if len(moving) > 1:
            return None
        step = ramp.steps[moving[0]] if moving else 1
        if not isinstance(step, int) or step < 1:
            return None
        count = shape[moving[0]] if moving else 1
        found.append(Pick(moving[0] if moving else None, ramp.start, step, count))
    used = [pick.along for pick in found if pick.along is not None]
    return found if len(set(used)) == len(used) else None


def _view(cx: Context, x: Value, picks: list[Pick], shape: tuple[Dim, ...]) -> Value:
    """The operand sliced by the picks, its axes put where they run in the result, and broadcast to it."""
    for axis, pick in enumerate(picks):
        x = sliced(cx, x, axis, pick.start, pick.step, pick.count)
    rest = x.shape[len(picks) :]
    kept = [(pick.along, axis) for axis, pick in enumerate(picks) if pick.along is not None]
    dropped = [axis for axis, pick in enumerate(picks) if pick.along is None]
    order = [axis for _, axis in sorted(kept)]
    x = cx.emit("transpose", [x], {"perm": (*order, *dropped, *range(len(picks), x.rank))})
    along = {a for a, _ in kept}
    dims = tuple(d if k in along else 1 for k, d in enumerate(shape))
    return cx.emit("expand", [reshaped(cx, x, (*dims, *rest))], {"shape": (*shape, *rest)})


def _flat_view(cx: Context, x: Value, ramp: Ramp, indices: Value) -> Value | None:
    """Indices into the rows of a flattened tensor that count through them in row-major order along some axes."""
    moving = [axis for axis, step in enumerate(ramp.steps) if step != 0]
    if ramp.start != 0 or not moving:
        return None
    try:
        moving.sort(key=lambda axis: _size(ramp.steps[axis]), reverse=True)
        expected: Dim = 1
        for axis in reversed(moving):
            if ramp.steps[axis] != expected:
                return None
            expected = expected * indices.shape[axis]
    except Undecided:
        return None
    if expected != x.shape[0]:
        return None
    grid = reshaped(cx, x, (*(indices.shape[axis] for axis in moving), *x.shape[1:]))
    picks = [Pick(axis, 0, 1, indices.shape[axis]) for axis in moving]
    return _view(cx, grid, picks, indices.shape)


def _size(step: Dim) -> int:
    return step if isinstance(step, int) else step.upper


@lowers("GatherND")
def gather_nd(node: Node, cx: Context) -> Value:
    x, indices = cx.input(node, 0), cx.input(node, 1)
    batch = node.int_attr("batch_dims", 0)
    depth = indices.shape[-1]
    if batch == 0 and isinstance(depth, int) and x.name is not None:
        ramps = columns(cx, node, indices, depth)
        picks = None if ramps is None else picks_of(ramps, indices.shape[:-1])
        if picks is not None:
            return _view(cx, x, picks, indices.shape[:-1])
    if batch == 0 and depth == 1:
        return _picked(cx, x, reshaped(cx, indices, indices.shape[:-1]), 0)
    if indices.name in cx.ragged and isinstance(depth, int):
        last = [d - 1 for d in x.shape[batch : batch + depth]]
        indices = cx.emit("min", [indices, convert(cx, known_dims(tuple(last)), indices.dtype)])
    return cx.emit("gather_nd", [x, indices], {"batch_dims": batch})


def columns(cx: Context, node: Node, indices: Value, depth: int) -> list[Ramp] | None:
    """The index of each operand axis as a ramp: from known indices, or from the concat that joined them."""
    parts = cx.joined.get(node.inputs[1] or "")
    if parts is not None and len(parts) == depth and all(part.shape[-1] == 1 for part in parts):
        found = [ramp_of(part) for part in parts]
        ramps = [Ramp(ramp.start, ramp.steps[:-1]) for ramp in found if ramp is not None]
        return ramps if len(ramps) == depth else None
    array = cx.array(indices)
    if array is None or array.dtype == object:
        return None
    columns = [ramp_of(known_array(array[..., k], indices.dtype)) for k in range(depth)]
    ramps = [ramp for ramp in columns if ramp is not None]
    return ramps if len(ramps) == depth else None


@lowers("OneHot")
def one_hot(node: Node, cx: Context) -> Value:
    """Where the index equals the position along the new axis, the on value; elsewhere the off value."""
    indices, values = cx.input(node, 0), cx.input(node, 2)
    depth = cx.dim(cx.input(node, 1), node, "the depth")
    axis = axis_of(node, node.int_attr("axis", -1), indices.rank + 1)
    indices = convert(cx, indices, DType.I64)
    column = reshaped(cx, indices, (*indices.shape[:axis], 1, *indices.shape[axis:]))
    extent = cx.fill(depth, (), DType.I64)
    column = cx.emit(
        "where", [cx.emit("lt", [column, cx.fill(0, (), DType.I64)]), cx.emit("add", [column, extent]), column]
    )
    row = tuple(depth if k == axis else 1 for k in range(indices.rank + 1))
    steps = tuple(1 if k == axis else 0 for k in range(indices.rank + 1))
    positions = cx.ramp(Ramp(0, steps), row, DType.I64)
    off, on = (reshaped(cx, sliced(cx, values, 0, k, 1, 1), ()) for k in (0, 1))
    return cx.emit("where", [cx.emit("eq", [column, positions]), on, off])
