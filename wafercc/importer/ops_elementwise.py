"""Elementwise ONNX ops: one kind each, or a short chain of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ..ir.dtypes import DType
from .content import Value
from .context import Context
from .nodes import Node
from .read import dtype_of
from .registry import MICROSOFT, lowers

UNARY = {
    "Neg": "neg", "Abs": "abs", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Sin": "sin",
    "Cos": "cos", "Tanh": "tanh", "Sigmoid": "sigmoid", "Erf": "erf", "Floor": "floor", "Ceil": "ceil", "Sign": "sign",
    "Not": "not", "IsNaN": "isnan", "Relu": "relu", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan",
    "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "Round": "round",
    "BitwiseNot": "bit_not",
}  # fmt: skip
BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Equal": "eq", "Less": "lt", "LessOrEqual": "le",
    "Greater": "gt", "GreaterOrEqual": "ge", "And": "and", "Or": "or", "Xor": "xor",
    "BitwiseAnd": "bit_and", "BitwiseOr": "bit_or", "BitwiseXor": "bit_xor",
}  # fmt: skip
VARIADIC = {"Max": "max", "Min": "min", "Sum": "add", "Mean": "add"}


@lowers(*UNARY)
def unary(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    whole = not x.dtype.is_float
    if node.op_type in ("Floor", "Ceil", "Round") and whole:
        return x
    return cx.emit(UNARY[node.op_type], [x])


@lowers(*BINARY)
def binary(node: Node, cx: Context) -> Value:
    a, b = cx.input(node, 0), cx.input(node, 1)
    if node.version < 7 and node.int_attr("broadcast", 0):
        b = _aligned(node, cx, a, b)
    return cx.emit(BINARY[node.op_type], [a, b])


def _aligned(node: Node, cx: Context, a: Value, b: Value) -> Value:
    """Before opset 7, ``axis`` said where the dimensions of b stand among those of a."""
    axis = node.int_attr("axis", a.rank - b.rank) % max(a.rank, 1)
    return cx.emit("reshape", [b], {"shape": (*b.shape, *(1,) * (a.rank - axis - b.rank))})


@lowers("Pow")
def power(node: Node, cx: Context) -> Value:
    base, exponent = cx.input(node, 0), cx.input(node, 1)
    return cx.emit("pow", [base, convert(cx, exponent, base.dtype)])


@lowers("Mod")
def modulo(node: Node, cx: Context) -> Value:
    """With fmod the rest has the sign of a, without it that of b; the table: a for floats, b for integers."""
    a, b = cx.input(node, 0), cx.input(node, 1)
    if bool(node.int_attr("fmod", 0)) == a.dtype.is_float:
        return cx.emit("mod", [a, b])
    if not a.dtype.is_float:
        return cx.emit("sub", [a, cx.emit("mul", [cx.emit("div", [a, b]), b])])
    rest = cx.emit("mod", [a, b])
    other_sign = cx.emit("lt", [cx.emit("mul", [cx.emit("sign", [rest]), cx.emit("sign", [b])]), like(cx, 0.0, a)])
    return cx.emit("where", [other_sign, cx.emit("add", [rest, b]), rest])


@lowers(*VARIADIC)
def variadic(node: Node, cx: Context) -> Value:
    values = cx.inputs(node)
    if not values:
        raise node.fail("has no inputs")
    total = values[0]
    for value in values[1:]:
        total = cx.emit(VARIADIC[node.op_type], [total, value])
    return cx.emit("mul", [total, like(cx, 1 / len(values), total)]) if node.op_type == "Mean" else total


@lowers("Where")
def where(node: Node, cx: Context) -> Value:
    return cx.emit("where", [cx.input(node, 0), cx.input(node, 1), cx.input(node, 2)])


@lowers("Cast")
def cast(node: Node, cx: Context) -> Value:
    to = dtype_of(ir.DataType(node.int_attr("to", 1)), node.where)
    return _saturated(node, cx, cx.input(node, 0), to)


@lowers("CastLike")
def cast_like(node: Node, cx: Context) -> Value:
    return _saturated(node, cx, cx.input(node, 0), cx.input(node, 1).dtype)


STORAGE = frozenset({DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ, DType.F8E8M0})


def _saturated(node: Node, cx: Context, x: Value, to: DType) -> Value:
    """x in another element type; what is too large for one of 8 bits becomes its largest, unless saturate is 0."""
    if to not in STORAGE or not x.dtype.is_float or not node.int_attr("saturate", 1):
        return convert(cx, x, to)
    bounds = ml_dtypes.finfo(to.numpy)  # type: ignore[no-untyped-call]
    x = convert(cx, x, DType.F32) if x.dtype is not DType.F64 else x
    x = cx.emit("min", [x, like(cx, float(bounds.max), x)])
    least = float(bounds.smallest_normal) if to is DType.F8E8M0 else float(bounds.min)
    return convert(cx, cx.emit("max", [x, like(cx, least, x)]), to)


@lowers("Identity", "Dropout")
def identity(node: Node, cx: Context) -> Sequence[Value]:
    """Dropout at inference keeps everything: its mask output is all true."""
    x = cx.input(node, 0)
    if node.op_type == "Identity":
        return [x]
    training = cx.optional(node, 2)
    if training is not None and (cx.array(training) is None or bool(cx.array(training))):
        raise node.fail("is in training mode", hint="export the model in evaluation mode")
    return [x, cx.fill(True, x.shape, DType.BOOL)] if node.wants(1) else [x]


@lowers("Gelu")
def gelu(node: Node, cx: Context) -> Value:
    return cx.emit("gelu", [cx.input(node, 0)], {"approximate": node.str_attr("approximate", "none")})


@lowers("Gelu", "BiasGelu", domain=MICROSOFT)
def exact_gelu(node: Node, cx: Context) -> Value:
    return cx.emit("gelu", [_biased(node, cx)], {"approximate": "none"})


@lowers("FastGelu", domain=MICROSOFT)
def fast_gelu(node: Node, cx: Context) -> Value:
    return cx.emit("gelu", [_biased(node, cx)], {"approximate": "tanh"})


def _biased(node: Node, cx: Context) -> Value:
    x, bias = cx.input(node, 0), cx.optional(node, 1)
    return x if bias is None else cx.emit("add", [x, bias])


@lowers("QuickGelu", domain=MICROSOFT)
def quick_gelu(node: Node, cx: Context) -> Value:
    return _swish(cx, cx.input(node, 0), node.float_attr("alpha", 1.702))


@lowers("Swish")
def swish(node: Node, cx: Context) -> Value:
    return _swish(cx, cx.input(node, 0), node.float_attr("alpha", 1.0))


def _swish(cx: Context, x: Value, alpha: float) -> Value:
    if alpha == 1.0:
        return cx.emit("silu", [x])
    return cx.emit("mul", [x, cx.emit("sigmoid", [cx.emit("mul", [x, like(cx, alpha, x)])])])


@lowers("Clip")
def clip(node: Node, cx: Context) -> Value:
    """Bounds are inputs since opset 11, attributes before."""
    x = cx.input(node, 0)
    low, high = cx.optional(node, 1), cx.optional(node, 2)
    if low is None and "min" in node.attrs:
        low = like(cx, node.float_attr("min", 0.0), x)
    if high is None and "max" in node.attrs:
        high = like(cx, node.float_attr("max", 0.0), x)
    if low is not None:
        x = cx.emit("max", [x, low])
    return x if high is None else cx.emit("min", [x, high])


@lowers("Softplus")
def softplus(node: Node, cx: Context) -> Value:
    """log(1 + exp(x)) as max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    return soft_plus(cx, cx.input(node, 0))


def soft_plus(cx: Context, x: Value) -> Value:
    tail = cx.emit("exp", [cx.emit("neg", [cx.emit("abs", [x])])])
    return cx.emit("add", [cx.emit("relu", [x]), cx.emit("log", [cx.emit("add", [tail, like(cx, 1.0, x)])])])


@lowers("Mish")
def mish(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    return cx.emit("mul", [x, cx.emit("tanh", [soft_plus(cx, x)])])


@lowers("Softsign")
def softsign(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    return cx.emit("div", [x, cx.emit("add", [cx.emit("abs", [x]), like(cx, 1.0, x)])])


@lowers("HardSigmoid", "HardSwish")
def hard(node: Node, cx: Context) -> Value:
    """clamp(alpha x + beta, 0, 1); HardSwish multiplies by x and fixes alpha = 1/6, beta = 1/2."""
    x, swish = cx.input(node, 0), node.op_type == "HardSwish"
    alpha = 1 / 6 if swish else node.float_attr("alpha", 0.2)
    beta = 0.5 if swish else node.float_attr("beta", 0.5)
    line = cx.emit("add", [cx.emit("mul", [x, like(cx, alpha, x)]), like(cx, beta, x)])
    gate = cx.emit("min", [cx.emit("relu", [line]), like(cx, 1.0, x)])
    return cx.emit("mul", [x, gate]) if swish else gate


@lowers("LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "ThresholdedRelu")
def relu_like(node: Node, cx: Context) -> Value:
    """x where it is positive, something else where it is not."""
    x, zero = cx.input(node, 0), like(cx, 0.0, cx.input(node, 0))
    match node.op_type:
        case "LeakyRelu":
            other = cx.emit("mul", [x, like(cx, node.float_attr("alpha", 0.01), x)])
        case "PRelu":
            other = cx.emit("mul", [x, cx.input(node, 1)])
        case "ThresholdedRelu":
            above = cx.emit("gt", [x, like(cx, node.float_attr("alpha", 1.0), x)])
            return cx.emit("where", [above, x, zero])
        case kind:
            alpha = node.float_attr("alpha", 1.67326319217681884765625 if kind == "Selu" else 1.0)
            inner = cx.emit("mul", [x, like(cx, 1 / alpha, x)]) if kind == "Celu" else x
            grown = cx.emit("sub", [cx.emit("exp", [cx.emit("min", [inner, zero])]), like(cx, 1.0, x)])
            other = cx.emit("mul", [grown, like(cx, alpha, x)])
    result = cx.emit("where", [cx.emit("gt", [x, zero]), x, other])
    if node.op_type == "Selu":
        return cx.emit("mul", [result, like(cx, node.float_attr("gamma", 1.05070102214813232421875), x)])
    return result


@lowers("BitShift")
def bit_shift(node: Node, cx: Context) -> Value:
    kind = {"LEFT": "shift_left", "RIGHT": "shift_right"}[node.str_attr("direction", "")]
    return cx.emit(kind, [cx.input(node, 0), cx.input(node, 1)])


@lowers("BitCast")
def bit_cast(node: Node, cx: Context) -> Value:
    to = dtype_of(ir.DataType(node.int_attr("to", 1)), node.where)
    x = cx.input(node, 0)
    return x if x.dtype == to else cx.emit("bitcast", [x], {"to": str(to)})


@lowers("SwiGLU")
def swiglu(node: Node, cx: Context) -> Value:
    a, b = cx.input(node, 0), cx.input(node, 1)
    if node.float_attr("alpha", 1.0) == 1.0:
        return cx.emit("swiglu", [a, b])
    return cx.emit("mul", [_swish(cx, a, node.float_attr("alpha", 1.0)), b])


@lowers("Shrink")
def shrink(node: Node, cx: Context) -> Value:
    """x moved towards 0 by the bias where it is farther from 0 than lambd; 0 elsewhere."""
    x, bound, bias = cx.input(node, 0), node.float_attr("lambd", 0.5), node.float_attr("bias", 0.0)
    low, high = cx.emit("lt", [x, like(cx, -bound, x)]), cx.emit("gt", [x, like(cx, bound, x)])
    rest = cx.emit("where", [low, cx.emit("add", [x, like(cx, bias, x)]), like(cx, 0, x)])
    return cx.emit("where", [high, cx.emit("sub", [x, like(cx, bias, x)]), rest])


@lowers("IsInf")
def is_inf(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    up, down = node.int_attr("detect_positive", 1), node.int_attr("detect_negative", 1)
    if up and down:
        return cx.emit("eq", [cx.emit("abs", [x]), like(cx, math.inf, x)])
    if not up and not down:
        return cx.fill(False, x.shape, DType.BOOL)
    return cx.emit("eq", [x, like(cx, math.inf if up else -math.inf, x)])


def like(cx: Context, number: float, x: Value) -> Value:
    """A scalar of the element type of x."""
    with np.errstate(all="ignore"):
        return cx.fill(np.asarray(number).astype(x.dtype.numpy).item(), (), x.dtype)


def convert(cx: Context, x: Value, dtype: DType) -> Value:
    """x in another element type; a weight is converted when it is read."""
    if x.weight and x.dtype != dtype:
        shape = tuple(d for d in x.shape if isinstance(d, int))
        return cx.weight(x, f"to_{dtype}", lambda array: array.astype(dtype.numpy), shape, dtype)
    if x.array is not None and x.array.dtype == object and not dtype.is_float and dtype is not DType.BOOL:
        return replace(x, type=replace(x.type, dtype=dtype))
    return cx.emit("cast", [x], {"to": str(dtype)})
