"""ONNX ops that move elements by rules of their own: blocks to channels, padding by reflection, reversed sequences."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..ir.dims import Dim
from ..ir.dtypes import DType
from .content import Ramp, Value, greatest, known_array, least, number
from .context import Context
from .nodes import Node
from .ops_elementwise import convert, like
from .ops_shape import reshaped, sliced, transposed
from .read import dtype_of
from .registry import axes_input, axis_of, lowers

MOST_STEPS = 64
"""Elements of a dimension over which a product runs step by step."""


@lowers("DepthToSpace", "SpaceToDepth")
def blocks(node: Node, cx: Context) -> Value:
    """Channels become blocks of a picture, or the other way round."""
    x, size = cx.input(node, 0), node.int_attr("blocksize", 1)
    n, c, h, w = (number(d) for d in x.shape)
    if node.op_type == "SpaceToDepth":
        parts = reshaped(cx, x, (n, c, h // size, size, w // size, size))
        moved = transposed(cx, parts, (0, 3, 5, 1, 2, 4))
        return reshaped(cx, moved, (n, c * size * size, h // size, w // size))
    inner = c // (size * size)
    if node.str_attr("mode", "DCR") == "DCR":
        moved = transposed(cx, reshaped(cx, x, (n, size, size, inner, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        moved = transposed(cx, reshaped(cx, x, (n, inner, size, size, h, w)), (0, 1, 4, 2, 5, 3))
    return reshaped(cx, moved, (n, inner, h * size, w * size))


@lowers("EyeLike")
def eye_like(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    dtype = dtype_of(ir.DataType(node.int_attr("dtype", 0)), node.where) if "dtype" in node.attrs else x.dtype
    offset = cx.ramp(Ramp(0, (-1, 1)), x.shape, DType.I64)
    return convert(cx, cx.emit("eq", [offset, cx.fill(node.int_attr("k", 0), (), DType.I64)]), dtype)


@lowers("CenterCropPad")
def center_crop_pad(node: Node, cx: Context) -> Value:
    """Each dimension is cut, or padded with zeros, on both sides alike; what is odd goes to its end."""
    x = cx.input(node, 0)
    wanted = cx.ints(cx.input(node, 1), node, "the shape")
    axes = [axis_of(node, a, x.rank) for a in axes_input(node, cx, 2) or range(x.rank)]
    for axis, extent in zip(axes, wanted, strict=True):
        have = number(x.shape[axis])
        if extent < have:
            x = sliced(cx, x, axis, (have - extent) // 2, 1, extent)
        elif extent > have:
            before = (extent - have) // 2
            x = padded(cx, x, axis, before, extent - have - before, like(cx, 0, x))
    return x


def padded(cx: Context, x: Value, axis: int, before: Dim, after: Dim, filler: Value) -> Value:
    """x with so many elements of a scalar before and after those of one dimension."""

    def run(amount: Dim) -> list[Value]:
        dims = (*x.shape[:axis], amount, *x.shape[axis + 1 :])
        return [] if amount == 0 else [cx.emit("expand", [filler], {"shape": dims})]

    return cx.emit("concat", [*run(before), x, *run(after)], {"axis": axis})


def mirrored(cx: Context, x: Value, axis: int, before: int, after: int, mode: str) -> Value:
    """x with elements of its own before and after those of one dimension: ``edge``, ``reflect`` or ``wrap``."""
    extent = number(x.shape[axis])
    places = np.pad(np.arange(extent), (before, after), mode=mode)  # type: ignore[call-overload]
    return cx.emit("gather", [x, known_array(places.astype(np.int64), DType.I64)], {"axis": axis})


@lowers("ReverseSequence")
def reverse_sequence(node: Node, cx: Context) -> Value:
    """Of each batch the first so many steps in reverse, the others as they are."""
    x, lengths = cx.input(node, 0), convert(cx, cx.input(node, 1), DType.I64)
    time, batch = node.int_attr("time_axis", 0), node.int_attr("batch_axis", 1)
    lengths = reshaped(cx, lengths, tuple(d if i == batch else 1 for i, d in enumerate(x.shape)))
    steps = cx.ramp(
        Ramp(0, tuple(int(i == time) for i in range(x.rank))),
        tuple(d if i == time else 1 for i, d in enumerate(x.shape)),
        DType.I64,
    )
    back = cx.emit("sub", [cx.emit("sub", [lengths, cx.fill(1, (), DType.I64)]), steps])
    places = cx.emit("where", [cx.emit("lt", [steps, lengths]), back, steps])
    return cx.emit("gather_elements", [x, cx.emit("expand", [places], {"shape": x.shape})], {"axis": time})


@lowers("Compress")
def compress(node: Node, cx: Context) -> Value:
    """The elements where a condition holds that is known while importing, since the shape follows from it."""
    x, condition = cx.input(node, 0), cx.array(cx.input(node, 1))
    if condition is None or condition.dtype == object:
        raise node.fail("keeps elements by a condition that is computed from the model's data")
    axis = 0
    if "axis" in node.attrs:
        axis = axis_of(node, node.int_attr("axis", 0), x.rank)
    else:
        x = reshaped(cx, x, (int(np.prod([number(d) for d in x.shape], dtype=np.int64)),))
    return cx.emit("gather", [x, known_array(np.flatnonzero(condition).astype(np.int64), DType.I64)], {"axis": axis})


@lowers("Hardmax")
def hardmax(node: Node, cx: Context) -> Value:
    """1 at the first greatest element along an axis (before opset 13: of all dimensions from it on), 0 elsewhere."""
    x = cx.input(node, 0)
    axis = axis_of(node, node.int_attr("axis", -1 if node.version >= 13 else 1), x.rank)
    if node.version < 13 and axis < x.rank - 1:
        raise node.fail(f"is of opset {node.version} and spans several dimensions, which is not supported")
    best = cx.emit("topk", [x], {"axis": axis, "k": 1, "largest": True})
    places = cx.ramp(
        Ramp(0, tuple(int(i == axis) for i in range(x.rank))),
        tuple(d if i == axis else 1 for i, d in enumerate(x.shape)),
        best.dtype,
    )
    return convert(cx, cx.emit("eq", [places, best]), x.dtype)


@lowers("CumProd")
def cumprod(node: Node, cx: Context) -> Value:
    """The running product, step by step along a short dimension."""
    x = cx.input(node, 0)
    axis = axis_of(node, number(cx.dim(cx.input(node, 1), node, "the axis")), x.rank)
    extent = number(x.shape[axis])
    if extent > MOST_STEPS:
        raise node.fail(f"multiplies along {extent} elements; running products take at most {MOST_STEPS}")
    order = range(extent - 1, -1, -1) if node.int_attr("reverse", 0) else range(extent)
    parts = {i: sliced(cx, x, axis, i, 1, 1) for i in order}
    total = cx.emit("expand", [like(cx, 1, x)], {"shape": tuple(1 if i == axis else d for i, d in enumerate(x.shape))})
    results: dict[int, Value] = {}
    for i in order:
        before, total = total, cx.emit("mul", [total, parts[i]])
        results[i] = before if node.int_attr("exclusive", 0) else total
    return cx.emit("concat", [results[i] for i in range(extent)], {"axis": axis})


@lowers("ArrayFeatureExtractor", domain="ai.onnx.ml")
def array_feature_extractor(node: Node, cx: Context) -> Value:
    x, places = cx.input(node, 0), cx.input(node, 1)
    places = reshaped(cx, places, (int(np.prod([number(d) for d in places.shape], dtype=np.int64)),))
    return cx.emit("gather", [x, places], {"axis": x.rank - 1})


@lowers("Binarizer", domain="ai.onnx.ml")
def binarizer(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    return convert(cx, cx.emit("gt", [x, like(cx, node.float_attr("threshold", 0.0), x)]), x.dtype)


@lowers("Pad")
def pad(node: Node, cx: Context) -> Value:
    """Padding with a number as concatenation, with the operand's own elements as a gather; negative padding cuts."""
    x, mode = cx.input(node, 0), node.str_attr("mode", "constant")
    pads = node.ints_attr("pads")
    amounts: tuple[Dim, ...] = pads if pads is not None else cx.dims(cx.input(node, 1), node, "the amounts")
    axes = cx.optional(node, 3)
    chosen = range(x.rank) if axes is None else [axis_of(node, a, x.rank) for a in cx.ints(axes, node, "the axes")]
    given = cx.optional(node, 2)
    filler = like(cx, node.float_attr("value", 0.0), x) if given is None else reshaped(cx, given, ())
    for position, axis in enumerate(chosen):
        ends = amounts[position], amounts[position + len(chosen)]
        cut = [-least(amount, 0) for amount in ends]
        if any(amount != 0 for amount in cut):
            x = sliced(cx, x, axis, cut[0], 1, x.shape[axis] - cut[0] - cut[1])
        before, after = (greatest(amount, 0) for amount in ends)
        if before == 0 and after == 0:
            continue
        if mode == "constant":
            x = padded(cx, x, axis, before, after, filler)
        elif mode in ("edge", "reflect", "wrap"):
            x = mirrored(cx, x, axis, number(before), number(after), mode)
        else:
            raise node.fail(f"pads in the mode {mode}, which is not supported")
    return x
