"""TopK, GatherElements, ArgMax, NonZero: which elements are taken depends on the data, how many does not.

NonZero's length is its longest: see `wafercc.ir.ops.select`. Shapes made of it are those of the longest, and what
lies past the last hit is a place outside every dimension, read as some element and never written.
"""

from __future__ import annotations

import numpy as np

from ..ir.dims import Dim
from ..ir.dtypes import DType
from .content import Value, known_array, number
from .context import Context
from .nodes import Node
from .ops_elementwise import convert
from .ops_lookup import from_front
from .ops_shape import reshaped
from .registry import axis_of, lowers


@lowers("TopK")
def topk(node: Node, cx: Context) -> tuple[Value, Value]:
    """Values and indices. Sorted whether asked for or not; k is at most what there is."""
    x = cx.input(node, 0)
    axis = axis_of(node, node.int_attr("axis", -1), x.rank)
    given = cx.optional(node, 1)
    k = number(cx.dim(given, node, "the number of elements k")) if given is not None else node.int_attr("k", 1)
    return top(cx, x, axis, k, bool(node.int_attr("largest", 1)))


def top(cx: Context, x: Value, axis: int, k: int, largest: bool) -> tuple[Value, Value]:
    """The k best elements along an axis and where they are."""
    places = cx.emit("topk", [x], {"axis": axis, "k": k, "largest": largest})
    return cx.emit("gather_elements", [x, places], {"axis": axis}), places


@lowers("ArgMax", "ArgMin")
def arg_best(node: Node, cx: Context) -> Value:
    """The first of equal elements, or the last: then counted from the end of the reversed axis."""
    x = cx.input(node, 0)
    axis = axis_of(node, node.int_attr("axis", 0), x.rank)
    last = bool(node.int_attr("select_last_index", 0))
    extent = x.shape[axis]
    if last:
        x = cx.emit("slice", [x], {"axis": axis, "start": extent - 1, "step": -1, "count": extent})
    places = cx.emit("topk", [x], {"axis": axis, "k": 1, "largest": node.op_type == "ArgMax"})
    if last:
        places = cx.emit("sub", [cx.fill(extent - 1, (), DType.I64), places])
    return places if node.int_attr("keepdims", 1) else _without(cx, places, axis)


def _without(cx: Context, x: Value, axis: int) -> Value:
    kept: tuple[Dim, ...] = (*x.shape[:axis], *x.shape[axis + 1 :])
    return reshaped(cx, x, kept)


@lowers("GatherElements")
def gather_elements(node: Node, cx: Context) -> Value:
    x, indices = cx.input(node, 0), cx.input(node, 1)
    axis = axis_of(node, node.int_attr("axis", 0), x.rank)
    return cx.emit("gather_elements", [x, from_front(cx, indices, x.shape[axis])], {"axis": axis})


@lowers("NonZero")
def nonzero(node: Node, cx: Context) -> Value:
    """Exact where the operand is known; otherwise as long as it can be."""
    x = cx.input(node, 0)
    array = cx.array(x)
    if array is not None and array.dtype != object:
        return known_array(np.stack(np.nonzero(np.atleast_1d(array))).astype(np.int64), DType.I64)
    if x.rank == 0:
        x = reshaped(cx, x, (1,))
    return cx.emit("nonzero", [convert(cx, x, DType.BOOL)])
