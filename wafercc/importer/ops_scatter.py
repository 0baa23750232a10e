"""Scatters; where the indices are known and regular, writing a box into a tensor.

Exporters write the assignment ``mask[:, :, :, :n] = ...`` as a scatter whose indices are aranges. The result is then
the operand with a box replaced: slices of what stays, around the updates.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.graph import Attr
from .content import Value
from .context import Context
from .nodes import Node
from .ops_lookup import Pick, columns, picks_of
from .ops_shape import reshaped, sliced, transposed
from .registry import axis_of, lowers


@lowers("ScatterND")
def scatter_nd(node: Node, cx: Context) -> Value:
    x, indices, updates = cx.input(node, 0), cx.input(node, 1), cx.input(node, 2)
    reduction = node.str_attr("reduction", "none")
    depth, places = indices.shape[-1], indices.shape[:-1]
    ramps = columns(cx, node, indices, depth) if isinstance(depth, int) else None
    picks = None if ramps is None else picks_of(ramps, places)
    used = {pick.along for pick in picks or ()}
    if (
        reduction != "none"
        or picks is None
        or any(pick.step != 1 for pick in picks)
        or any(d != 1 for a, d in enumerate(places) if a not in used)
    ):
        return cx.emit("scatter_nd", [x, indices, updates], {"reduction": reduction})
    order = [pick.along for pick in picks if pick.along is not None]
    spare = [axis for axis in range(len(places)) if axis not in used]
    moved = transposed(cx, updates, (*order, *spare, *range(len(places), updates.rank)))
    box = reshaped(cx, moved, (*(pick.count for pick in picks), *x.shape[len(picks) :]))
    return _replaced(cx, x, box, picks, 0)


@lowers("ScatterElements", "Scatter")
def scatter_elements(node: Node, cx: Context) -> Value:
    x, indices, updates = cx.input(node, 0), cx.input(node, 1), cx.input(node, 2)
    axis = axis_of(node, node.int_attr("axis", 0), x.rank)
    attrs: dict[str, Attr] = {"axis": axis, "reduction": node.str_attr("reduction", "none")}
    return cx.emit("scatter_elements", [x, indices, updates], attrs)


def _replaced(cx: Context, x: Value, box: Value, picks: Sequence[Pick], axis: int) -> Value:
    """x with the box in place of what the picks from this axis on select."""
    if axis == len(picks):
        return box
    pick, extent = picks[axis], x.shape[axis]
    start = pick.start + extent if pick.start < 0 else pick.start
    if start == 0 and pick.count == extent:
        return _replaced(cx, x, box, picks, axis + 1)
    inner = _replaced(cx, sliced(cx, x, axis, start, 1, pick.count), box, picks, axis + 1)
    end = start + pick.count
    parts = [inner]
    if start != 0:
        parts.insert(0, sliced(cx, x, axis, 0, 1, start))
    if end != extent:
        parts.append(sliced(cx, x, axis, end, 1, extent - end))
    return cx.emit("concat", parts, {"axis": axis})
