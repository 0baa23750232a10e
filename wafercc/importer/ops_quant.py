"""ONNX's quantisation: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, MatMulInteger, QLinearMatMul.

A weight keeps its quantised type: what reads it dequantised in the model reads the quantised weight in the graph
(`quantized.py`). 32-bit integers take as much room as floats, so a bias stored so becomes a float weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..ir.dtypes import DType
from ..ir.graph import Attr, TensorType
from ..ir.ops.quant import dequantized as dequantized_numbers
from ..ir.ops.quant import quantized as quantized_numbers
from .content import Array, Value, known_array
from .context import Context
from .nodes import Node
from .ops_elementwise import convert, like
from .ops_shape import reshaped, transposed
from .quantized import (
    Quantized,
    cast_like,
    dequantize,
    derived,
    maybe_stored,
    scale_shape,
    stored,
    zero_point,
)
from .read import DTYPES
from .registry import MICROSOFT, axis_of, lowers


@lowers("DequantizeLinear")
@lowers("DequantizeLinear", domain=MICROSOFT)
def dequantize_linear(node: Node, cx: Context) -> Value:
    parts = _parts(node, cx, stored(cx, node, 0), None)
    if parts.q.weight and parts.q.dtype.bits >= 32 and (found := _as_floats(cx, parts)) is not None:
        return _output_type(node, cx, found)
    parts = replace(parts, rounds=_rounds(node, cx, parts))
    return _output_type(node, cx, dequantize(cx, parts))


def _parts(node: Node, cx: Context, x: Value, to: DType | None) -> Quantized:
    """x with its scales, zero points and blocks; ``to``: x is to be quantised to that type."""
    scale, zero = stored(cx, node, 1), maybe_stored(cx, node, 2)
    if (x.weight and to is None) or (zero is not None and not (zero.dtype in UNSIGNED and zero.dtype.bits >= 8)):
        zero = zero_point(cx, node, 2)
    axis = axis_of(node, node.int_attr("axis", 1), x.rank) if _needs_axis(x, scale) else 0
    blocks, shape = scale_shape(node, x, scale, axis, node.int_attr("block_size", 0))
    return Quantized(x, reshaped(cx, scale, shape), None if zero is None else reshaped(cx, zero, shape), blocks)


UNSIGNED = (DType.U8, DType.U16)


def _needs_axis(x: Value, scale: Value) -> bool:
    return bool(x.rank) and any(d != 1 for d in scale.shape)


def _as_floats(cx: Context, parts: Quantized) -> Value | None:
    """A stored tensor of 32-bit integers as the float weight it stands for, which takes no more room."""
    type_ = TensorType(parts.scale.dtype, parts.q.shape)
    operands = [v for v in parts.operands if v is not None]

    def step(q: Array, scale: Array, zero: Array | None = None) -> Array:
        return dequantized_numbers(q, scale, zero, parts.blocks)

    return derived(cx, "dequantized", operands, step, type_)


def _rounds(node: Node, cx: Context, parts: Quantized) -> bool:
    """Whether onnxruntime may fuse a weight with its product: all of it is stored, and nothing else reads any of it."""
    constant = parts.q.weight and parts.scale.weight and (parts.zero is None or parts.zero.weight)
    whole = parts.q.dtype.startswith(("i", "u")) and parts.q.dtype.bits <= 8
    alone = all(cx.uses.get(name, 0) == 1 for name in (*node.inputs, *node.outputs) if name is not None)
    return constant and whole and alone and parts.q.rank == 2


def _output_type(node: Node, cx: Context, value: Value) -> Value:
    """The value in the type that the attribute ``output_dtype`` names, if it names one."""
    given = node.int_attr("output_dtype", 0)
    return convert(cx, value, _dtype(node, given)) if given else value


def _dtype(node: Node, code: int) -> DType:
    found = {int(key): dtype for key, dtype in DTYPES.items()}.get(code)
    if found is None:
        raise node.fail(f"asks for the element type {code}, which is not supported")
    return found


@lowers("QuantizeLinear")
@lowers("QuantizeLinear", domain=MICROSOFT)
def quantize_linear(node: Node, cx: Context) -> Value:
    x, zero = cx.input(node, 0), cx.optional(node, 2)
    asked = node.int_attr("output_dtype", 0)
    to = zero.dtype if zero is not None else _dtype(node, asked) if asked else DType.U8
    parts = _parts(node, cx, x, to)
    if not node.int_attr("saturate", 1) and not to.startswith(("i", "u")):
        raise node.fail("rounds to an 8-bit float without saturating, which is not supported")
    if x.dtype in (DType.I32,):
        x = convert(cx, x, parts.scale.dtype)
    scale = cast_like(cx, parts.scale, x.dtype)
    if x.weight and (found := _quantized_weight(cx, x, replace(parts, scale=scale), to)) is not None:
        return found
    return cx.emit("quantize", [x, scale, parts.zero], {"to": str(to), "blocks": parts.blocks})


def _quantized_weight(cx: Context, x: Value, parts: Quantized, to: DType) -> Value | None:
    """A float weight that the model quantises each time anew is a quantised weight."""
    values = [x, parts.scale, *([] if parts.zero is None else [parts.zero])]

    def step(array: Array, scale: Array, zero: Array | None = None) -> Array:
        return quantized_numbers(array, scale, zero, parts.blocks, to)

    return derived(cx, f"quantized_{to}", values, step, TensorType(to, x.shape))


@lowers("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, cx: Context) -> Sequence[Value]:
    return dynamically_quantized(cx, cx.input(node, 0))


def dynamically_quantized(cx: Context, x: Value) -> tuple[Value, Value, Value]:
    """x as u8 over the range of the whole tensor, zero included; its scale and its zero point."""
    every: dict[str, Attr] = {"axes": tuple(range(x.rank)), "keep": False}
    zero = like(cx, 0.0, x)
    top = cx.emit("max", [cx.emit("reduce_max", [x], every) if x.rank else x, zero])
    low = cx.emit("min", [cx.emit("reduce_min", [x], every) if x.rank else x, zero])
    width = cx.emit("div", [cx.emit("sub", [top, low]), like(cx, 255.0, x)])
    scale = cx.emit("where", [cx.emit("eq", [top, low]), like(cx, 1.0, x), width])
    point = cx.emit("quantize", [cx.emit("neg", [low]), scale], {"to": "u8", "blocks": ()})
    blocks = (0,) * x.rank
    return cx.emit("quantize", [x, scale, point], {"to": "u8", "blocks": blocks}), scale, point


@lowers("MatMulInteger")
def matmul_integer(node: Node, cx: Context) -> Value:
    return whole_product(node, cx, (stored(cx, node, 0), stored(cx, node, 1)), (2, 3))


def whole_product(node: Node, cx: Context, sides: tuple[Value, Value], zeros: tuple[int, int]) -> Value:
    """(a - zero) @ (b - zero) in i32; ``zeros``: which inputs are the zero points."""
    a, b = sides
    za, zb = (_zero_of(node, cx, side, position) for side, position in zip(sides, zeros, strict=True))
    return products(cx, a, b, za, zb)


def _zero_of(node: Node, cx: Context, side: Value, position: int) -> Value | None:
    """A zero point; of a weight it is left out if it is zero."""
    return zero_point(cx, node, position) if side.weight else maybe_stored(cx, node, position)


def products(cx: Context, a: Value, b: Value, zero_a: Value | None, zero_b: Value | None) -> Value:
    """The integer product; a 1-D operand is a row on the left and a column on the right, as for MatMul."""
    left, right = a.rank == 1, b.rank == 1
    a = reshaped(cx, a, (1, *a.shape)) if left else a
    b = reshaped(cx, b, (*b.shape, 1)) if right else b
    zero_a = None if zero_a is None else _beside(cx, zero_a, a, -1)
    zero_b = None if zero_b is None else _beside(cx, zero_b, b, -2)
    result = cx.emit("matmul_int", [a, b, zero_a, zero_b])
    dims = result.shape[:-2] + (() if left else result.shape[-2:-1]) + (() if right else result.shape[-1:])
    return reshaped(cx, result, dims)


def _beside(cx: Context, zero: Value, x: Value, axis: int) -> Value:
    """Zero points of rows (``axis`` -1) or columns (-2) with as many dimensions as x; one for all is a scalar."""
    if all(d == 1 for d in zero.shape):
        return reshaped(cx, zero, ())
    if zero.rank == x.rank:
        return zero
    pair = (*zero.shape, 1) if axis == -1 else (1, *zero.shape)
    return reshaped(cx, zero, (*(1,) * (x.rank - 2), *pair))


@lowers("QLinearMatMul")
@lowers("QLinearMatMul", domain=MICROSOFT)
def qlinear_matmul(node: Node, cx: Context) -> Value:
    """The integer product, scaled once to the type of the result."""
    found = whole_product(node, cx, (stored(cx, node, 0), stored(cx, node, 3)), (2, 5))
    factor = _factor(cx, [stored(cx, node, 1), stored(cx, node, 4)], stored(cx, node, 6))
    return requantized(cx, found, factor, stored(cx, node, 7))


def _factor(cx: Context, scales: Sequence[Value], over: Value | None) -> Value:
    """The product of scales, divided by that of the result: a weight where the model stores them all."""
    scales = [scale if scale.shape != (1,) else reshaped(cx, scale, ()) for scale in scales]
    over = over if over is None or over.shape != (1,) else reshaped(cx, over, ())
    values = [*scales, *([] if over is None else [over])]
    rank = max((value.rank for value in values), default=0)
    shape = next((value.shape for value in values if value.rank == rank), ())

    def step(*arrays: Array) -> Array:
        total = arrays[0].astype(np.float32)
        for array in arrays[1 : len(scales)]:
            total = total * array.astype(np.float32)
        return total / arrays[-1].astype(np.float32) if over is not None else total

    found = derived(cx, "scales", values, step, TensorType(DType.F32, shape))
    if found is not None:
        return found
    total = scales[0]
    for scale in scales[1:]:
        total = cx.emit("mul", [total, scale])
    return total if over is None else cx.emit("div", [total, over])


def requantized(cx: Context, whole: Value, factor: Value, zero: Value) -> Value:
    """Whole numbers times a factor, rounded, plus a zero point."""
    scaled = cx.emit("mul", [cx.emit("cast", [whole], {"to": "f32"}), cast_like(cx, factor, DType.F32)])
    zero = reshaped(cx, zero, ()) if zero.rank else zero
    one = known_array(np.ones((), np.float32), DType.F32)
    blocks = (0,) * scaled.rank
    return cx.emit("quantize", [scaled, one, zero], {"to": str(zero.dtype), "blocks": blocks})


@lowers("QGemm", domain=MICROSOFT)
def qgemm(node: Node, cx: Context) -> Value:
    """alpha * (a @ b) + c in whole numbers, scaled; rounded to the type of a zero point if there is one."""
    a, b = stored(cx, node, 0), stored(cx, node, 3)
    a = transposed(cx, a, (1, 0)) if node.int_attr("transA", 0) else a
    b = transposed(cx, b, (1, 0)) if node.int_attr("transB", 0) else b
    found = whole_product(node, cx, (a, b), (2, 5))
    if node.has(6):
        found = cx.emit("add", [found, stored(cx, node, 6)])
    scales = [stored(cx, node, 1), stored(cx, node, 4)]
    if (alpha := node.float_attr("alpha", 1.0)) != 1:
        scales.append(known_array(np.asarray(alpha, np.float32), DType.F32))
    if node.has(7) and node.has(8):
        return requantized(cx, found, _factor(cx, scales, stored(cx, node, 7)), stored(cx, node, 8))
    return cx.emit("mul", [cx.emit("cast", [found], {"to": "f32"}), _factor(cx, scales, None)])


@lowers("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(node: Node, cx: Context) -> Value:
    found = whole_product(node, cx, (stored(cx, node, 0), stored(cx, node, 1)), (4, 5))
    return _scaled_up(node, cx, found, [stored(cx, node, 2), stored(cx, node, 3)], 6)


def _scaled_up(node: Node, cx: Context, found: Value, scales: Sequence[Value], bias: int) -> Value:
    """Whole numbers times their scales, plus a bias if the node has one."""
    result = cx.emit("mul", [cx.emit("cast", [found], {"to": str(scales[0].dtype)}), _factor(cx, scales, None)])
    return cx.emit("add", [result, cx.input(node, bias)]) if node.has(bias) else result


@lowers("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(node: Node, cx: Context) -> Value:
    a, scale, point = dynamically_quantized(cx, cx.input(node, 0))
    b = stored(cx, node, 1)
    found = products(cx, a, b, point, _zero_of(node, cx, b, 3))
    return _scaled_up(node, cx, found, [scale, stored(cx, node, 2)], 4)
