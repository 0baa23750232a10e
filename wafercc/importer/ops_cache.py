"""TensorScatter (opset 24): new tokens written into a cache of fixed capacity, at a place of its own per sequence."""

from __future__ import annotations

from .content import Value, known_dim, number, product
from .context import Context
from .heads import Place, counted, known_number, placed
from .nodes import Node
from .ops_elementwise import convert
from .ops_shape import reshaped
from .registry import axis_of, lowers
from .slots import Slots, written


@lowers("TensorScatter")
def tensor_scatter(node: Node, cx: Context) -> Value:
    """Batch first, any dimensions around the one of the slots; ``circular`` goes on at slot 0 behind the last one."""
    past, new = cx.input(node, 0), cx.input(node, 1)
    axis = axis_of(node, node.int_attr("axis", -2), past.rank)
    if axis == 0:
        raise node.fail("writes along the batch")
    batch, capacity = past.shape[0], past.shape[axis]

    def flat(x: Value) -> Value:
        shape = (batch, product(x.shape[1:axis]), x.shape[axis], product(x.shape[axis + 1 :]))
        return reshaped(cx, x, shape)

    indices = cx.optional(node, 2)
    known = 0 if indices is None else known_number(cx, indices)
    start: Place = known if known is not None else cx.input(node, 2)
    if node.str_attr("mode", "linear") == "circular":
        result = _around(cx, flat(past), flat(new), start)
    else:
        slots = Slots(start, new.shape[axis], capacity, capacity)
        result = written(node, cx, flat(past), flat(new), slots)
    return reshaped(cx, result, past.shape)


def _around(cx: Context, past: Value, new: Value, start: Place) -> Value:
    """As a product with the 0-1 matrix of which token stands how far behind the start, counted around."""
    capacity = known_dim(past.shape[2])
    behind = cx.emit("mod", [cx.emit("sub", [counted(cx, 2, past.shape[2]), placed(cx, start)]), capacity])
    chosen = convert(cx, cx.emit("eq", [behind, counted(cx, 3, new.shape[2])]), new.dtype)
    here = cx.emit("lt", [behind, known_dim(number(new.shape[2]))])
    return cx.emit("where", [here, cx.emit("matmul", [chosen, new]), past])
