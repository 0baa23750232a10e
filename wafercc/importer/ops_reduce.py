"""Reductions, softmax, running sums and triangles."""

from __future__ import annotations

import numpy as np

from ..ir.dims import Dim, Undecided
from ..ir.dtypes import DType
from .content import Ramp, Value, known_array, number, product
from .context import PAST_HINT, Context
from .nodes import Node
from .ops_elementwise import like
from .ops_shape import reshaped
from .registry import axes_input, axis_of, lowers

PLAIN = {"ReduceSum": "reduce_sum", "ReduceMean": "reduce_mean", "ReduceMax": "reduce_max", "ReduceMin": "reduce_min"}


def _axes(node: Node, cx: Context, x: Value) -> tuple[int, ...]:
    axes = axes_input(node, cx, 1)
    if axes:
        return tuple(sorted(axis_of(node, a, x.rank) for a in axes))
    return () if node.int_attr("noop_with_empty_axes", 0) else tuple(range(x.rank))


def _reduced(cx: Context, kind: str, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return cx.emit(kind, [x], {"axes": axes, "keep": keep}) if axes else x


@lowers(*PLAIN)
def reduce(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    return _reduced(cx, PLAIN[node.op_type], x, _axes(node, cx, x), bool(node.int_attr("keepdims", 1)))


@lowers("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
def reduce_of(node: Node, cx: Context) -> Value:
    """A sum of something, then something of the sum."""
    x = cx.input(node, 0)
    axes, keep = _axes(node, cx, x), bool(node.int_attr("keepdims", 1))
    inner = x
    if node.op_type == "ReduceL1":
        inner = cx.emit("abs", [x])
    elif node.op_type != "ReduceLogSum":
        inner = cx.emit("mul", [x, x])
    total = _reduced(cx, "reduce_sum", inner, axes, keep)
    match node.op_type:
        case "ReduceL2":
            return cx.emit("sqrt", [total])
        case "ReduceLogSum":
            return cx.emit("log", [total])
    return total


@lowers("ReduceLogSumExp")
def reduce_log_sum_exp(node: Node, cx: Context) -> Value:
    """Shifted by the maximum, so that nothing overflows."""
    x = cx.input(node, 0)
    axes, keep = _axes(node, cx, x), bool(node.int_attr("keepdims", 1))
    total = _log_sum_exp(cx, x, axes)
    return total if keep else reshaped(cx, total, tuple(d for i, d in enumerate(x.shape) if i not in axes))


def _log_sum_exp(cx: Context, x: Value, axes: tuple[int, ...]) -> Value:
    top = _reduced(cx, "reduce_max", x, axes, True)
    grown = cx.emit("exp", [cx.emit("sub", [x, top])])
    return cx.emit("add", [cx.emit("log", [_reduced(cx, "reduce_sum", grown, axes, True)]), top])


@lowers("ReduceProd")
def reduce_prod(node: Node, cx: Context) -> Value:
    """Products of known numbers (elements of a shape) fold; others multiply the slices of short axes."""
    x = cx.input(node, 0)
    axes, keep = _axes(node, cx, x), bool(node.int_attr("keepdims", 1))
    array = cx.array(x)
    try:
        if array is None:
            return _product_of_slices(node, cx, x, axes, keep)
        total = np.prod(array.astype(object), axis=axes, keepdims=keep)
    except Undecided as problem:
        raise node.fail(str(problem), hint=PAST_HINT) from None
    return known_array(np.asarray(total, dtype=object), x.dtype)


def _product_of_slices(node: Node, cx: Context, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    for axis in axes:
        extent = x.shape[axis]
        if extent == 0:
            x = cx.fill(1, tuple(1 if i == axis else d for i, d in enumerate(x.shape)), x.dtype)
            continue
        if not isinstance(extent, int) or not 0 < extent <= 16:
            raise node.fail(f"multiplies the {extent} elements of dimension {axis}; products run over at most 16")
        parts = [cx.emit("slice", [x], {"axis": axis, "start": i, "step": 1, "count": 1}) for i in range(extent)]
        x = parts[0]
        for part in parts[1:]:
            x = cx.emit("mul", [x, part])
    return x if keep else reshaped(cx, x, tuple(d for i, d in enumerate(x.shape) if i not in axes))


@lowers("Softmax", "LogSoftmax")
def softmax(node: Node, cx: Context) -> Value:
    """Since opset 13 along one axis (default -1); before, along all from the axis on (default 1), flattened."""
    x = cx.input(node, 0)
    if node.version >= 13:
        return _softmax(node, cx, x, axis_of(node, node.int_attr("axis", -1), x.rank))
    axis = node.int_attr("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    if axis == x.rank - 1:
        return _softmax(node, cx, x, axis)
    flat = reshaped(cx, x, (product(x.shape[:axis]), product(x.shape[axis:])))
    return reshaped(cx, _softmax(node, cx, flat, 1), x.shape)


def _softmax(node: Node, cx: Context, x: Value, axis: int) -> Value:
    if node.op_type == "Softmax":
        return cx.emit("softmax", [x], {"axis": axis})
    shifted = cx.emit("sub", [x, cx.emit("reduce_max", [x], {"axes": (axis,), "keep": True})])
    total = cx.emit("reduce_sum", [cx.emit("exp", [shifted])], {"axes": (axis,), "keep": True})
    return cx.emit("sub", [shifted, cx.emit("log", [total])])


@lowers("CumSum")
def cumsum(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    axis = number(cx.dim(cx.input(node, 1), node, "the axis"))
    exclusive, reverse = (bool(node.int_attr(name, 0)) for name in ("exclusive", "reverse"))
    return cx.emit("cumsum", [x], {"axis": axis_of(node, axis, x.rank), "exclusive": exclusive, "reverse": reverse})


@lowers("Trilu")
def trilu(node: Node, cx: Context) -> Value:
    """The triangle where column - row <= k (lower) or >= k (upper); zero elsewhere."""
    x, given = cx.input(node, 0), cx.optional(node, 1)
    k = 0 if given is None else cx.dim(given, node, "the diagonal")
    kind = "ge" if node.int_attr("upper", 1) else "le"
    keep = triangle(cx, x.shape[-2], x.shape[-1], k, kind)
    zero = cx.fill(False, (), DType.BOOL) if x.dtype is DType.BOOL else like(cx, 0, x)
    return cx.emit("and", [x, keep]) if x.dtype is DType.BOOL else cx.emit("where", [keep, x, zero])


def triangle(cx: Context, rows: Dim, columns: Dim, k: Dim, kind: str) -> Value:
    """The bool matrix where ``column`` compares with ``row + k``."""
    column = cx.ramp(Ramp(0, (0, 1)), (1, columns), DType.I64)
    row = cx.ramp(Ramp(k, (1, 0)), (rows, 1), DType.I64)
    return cx.emit(kind, [column, row])
