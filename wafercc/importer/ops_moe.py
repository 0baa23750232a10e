"""Mixture of experts as one operator: com.microsoft MoE and QMoE, taken apart into routing and products with experts.

Both multiply by matrices that stand row by output: fc1 ``[e, inner, hidden]``, fc2 ``[e, hidden, inner]``, fc3 like
fc1. What onnxruntime's CPU kernels do is the meaning: the k largest logits choose; their softmax is over all experts,
or over the chosen (``normalize_routing_weights``; QMoE always); Gelu is the tanh form; swiglu_fusion 1 interleaves gate
and linear part of fc1, 2 puts them one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import DType
from .content import Array, Value, number, product
from .context import Context
from .nodes import Node
from .ops_elementwise import convert, like
from .ops_select import top
from .ops_shape import reshaped
from .registry import MICROSOFT, lowers


@dataclass(frozen=True)
class Expert:
    """The matrices of all experts ``[e, in, out]`` and their biases ``[e, out]``."""

    w: Value
    bias: Value | None


@lowers("MoE", domain=MICROSOFT)
def moe(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    layers = [_stored(node, cx, i) if cx.optional(node, i) is not None else None for i in (2, 4, 6)]
    return _mixture(node, cx, x, layers, bool(node.int_attr("normalize_routing_weights", 0)))


@lowers("QMoE", domain=MICROSOFT)
def qmoe(node: Node, cx: Context) -> Value:
    """int4 or int8 matrices, symmetric or with zero points, scaled per row or per block of a row."""
    x = cx.input(node, 0)
    layers = [
        _dequantised(node, cx, i, 11 + n, x) if cx.optional(node, i) is not None else None
        for n, i in enumerate((2, 5, 8))
    ]
    return _mixture(node, cx, x, layers, True)


def _mixture(node: Node, cx: Context, x: Value, layers: list[Expert | None], normalised: bool) -> Value:
    first, second, third = layers
    if first is None or second is None:
        raise node.fail("lacks the experts' matrices fc1 or fc2")
    if node.int_attr("use_sparse_mixer", 0):
        raise node.fail("routes by a sparse mixer, which is not supported", hint="export with plain top-k routing")
    k, hidden, tokens = node.int_attr("k", 1), x.shape[-1], product(x.shape[:-1])
    logits = reshaped(cx, convert(cx, cx.input(node, 1), DType.F32), (tokens, first.w.shape[0]))
    shares, ids = _routing(cx, logits, k, normalised)
    rows = product((tokens, k))
    spread = cx.emit("expand", [reshaped(cx, x, (tokens, 1, hidden))], {"shape": (tokens, k, hidden)})
    chosen = reshaped(cx, ids, (rows,))
    inner = _applied(cx, first, reshaped(cx, spread, (rows, hidden)), chosen, k)
    inner = _activated(node, cx, inner, third is not None)
    if third is not None:
        inner = cx.emit("mul", [inner, _applied(cx, third, reshaped(cx, spread, (rows, hidden)), chosen, k)])
    result = _applied(cx, second, inner, chosen, k)
    weighted = cx.emit("mul", [result, reshaped(cx, convert(cx, shares, x.dtype), (rows, 1))])
    total = cx.emit("reduce_sum", [reshaped(cx, weighted, (tokens, k, hidden))], {"axes": (1,), "keep": False})
    return reshaped(cx, total, x.shape)


def _routing(cx: Context, logits: Value, k: int, normalised: bool) -> tuple[Value, Value]:
    """The weights of the chosen experts and which they are, both ``[tokens, k]``."""
    best, ids = top(cx, logits, 1, k, True)
    if normalised:
        return cx.emit("softmax", [best], {"axis": 1}), ids
    return cx.emit("gather_elements", [cx.emit("softmax", [logits], {"axis": 1}), ids], {"axis": 1}), ids


def _applied(cx: Context, expert: Expert, rows: Value, ids: Value, k: int) -> Value:
    result = cx.emit("moe_experts", [rows, expert.w, ids], {"distinct": k})
    return result if expert.bias is None else cx.emit("add", [result, cx.emit("embedding", [expert.bias, ids])])


def _activated(node: Node, cx: Context, x: Value, gated: bool) -> Value:
    match (kind := node.str_attr("activation_type", "relu").lower()):
        case "identity":
            return x
        case "relu" | "silu":
            return cx.emit(kind, [x])
        case "gelu":
            return cx.emit("gelu", [x], {"approximate": "tanh"})
        case "swiglu" if not gated:
            return _swiglu(node, cx, x)
    raise node.fail(f"has the activation {kind}{' beside fc3' if gated else ''}, which is not supported")


def _swiglu(node: Node, cx: Context, x: Value) -> Value:
    """gate * sigmoid(alpha gate) * (linear + beta), the gate clipped from above, the linear part on both sides."""
    fusion, width = node.int_attr("swiglu_fusion", 0), x.shape[1]
    if fusion not in (1, 2) or number(width) % 2:
        raise node.fail(f"has swiglu_fusion {fusion} on {width} columns; it is 1 or 2 on an even number of them")
    half, step = number(width) // 2, 2 if fusion == 1 else 1
    starts = (0, 1) if fusion == 1 else (0, half)
    gate, linear = (
        cx.emit("slice", [x], {"axis": 1, "start": start, "step": step, "count": half}) for start in starts
    )
    if "swiglu_limit" in node.attrs:
        limit = node.float_attr("swiglu_limit", 0.0)
        gate = cx.emit("min", [gate, like(cx, limit, gate)])
        linear = cx.emit("max", [cx.emit("min", [linear, like(cx, limit, x)]), like(cx, -limit, x)])
    alpha, beta = node.float_attr("activation_alpha", 1.0), node.float_attr("activation_beta", 0.0)
    opened = cx.emit("sigmoid", [gate if alpha == 1 else cx.emit("mul", [gate, like(cx, alpha, gate)])])
    linear = linear if beta == 0 else cx.emit("add", [linear, like(cx, beta, linear)])
    return cx.emit("mul", [cx.emit("mul", [gate, opened]), linear])


def _stored(node: Node, cx: Context, position: int) -> Expert:
    """Matrices as they are stored, turned over: [e, out, in], which older exporters call [e, in, out]."""
    w = cx.input(node, position)
    if w.rank != 3:
        raise node.fail(f"has matrices of rank {w.rank} as input {position}, not one per expert")
    e, out, width = (number(d) for d in w.shape)
    wanted = _width(node, cx, position)
    if wanted is not None and width != wanted and out == wanted:
        out, width = width, out
    return Expert(_turned(cx, w, (e, out, width)), cx.optional(node, position + 1))


def _width(node: Node, cx: Context, position: int) -> int | None:
    """Elements of a row that fc1 and fc3 take; of fc2 what it gives, which its older shape has last."""
    hidden = number(cx.input(node, 0).shape[-1])
    if position != 4:
        return hidden
    _, out, width = (number(d) for d in cx.input(node, position).shape)
    return out if width == hidden and out != hidden else width


def _turned(cx: Context, w: Value, shape: tuple[int, int, int]) -> Value:
    e, out, width = shape
    if not w.weight:
        return cx.emit("transpose", [reshaped(cx, w, shape)], {"perm": (0, 2, 1)})
    return cx.weight(w, "turned", lambda a: np.swapaxes(a.reshape(shape), 1, 2), (e, width, out), w.dtype)


def _dequantised(node: Node, cx: Context, position: int, zero_position: int, x: Value) -> Expert:
    """Matrices [e, out, in * bits / 8] of unsigned numbers, low bits first, as floats [e, in, out]."""
    packed, scales = cx.input(node, position), cx.input(node, position + 1)
    zeros, bits = cx.optional(node, zero_position), node.int_attr("expert_weight_bits", 4)
    if packed.array is not None and packed.array.dtype != object:
        packed = cx.literal_weight(f"{node.inputs[position]}", packed.array)
    if bits not in (4, 8) or packed.rank != 3 or not packed.weight:
        raise node.fail(f"has experts of {bits} bits as {packed.type}; stored 4 or 8 bits are supported")
    e, out, bytes_ = (number(d) for d in packed.shape)
    width = bytes_ * 8 // bits
    scale, zero = _small(node, cx, scales), None if zeros is None else _small(node, cx, zeros)

    def step(array: Array) -> Array:
        numbers = _unpacked(array, bits).reshape(e, out, width).astype(np.float32)
        low = np.float32(1 << (bits - 1)) if zero is None else _along(_rows(zero(), bits, e, out), width)
        return np.swapaxes((numbers - low) * _along(scale().reshape(e, out, -1), width), 1, 2).astype(x.dtype.numpy)

    w = cx.weight(packed, "dequantised", step, (e, width, out), x.dtype)
    return Expert(w, cx.optional(node, position + 2))


def _small(node: Node, cx: Context, value: Value) -> Callable[[], Array]:
    """What loads a stored operand."""
    array = value.array
    if array is not None:
        return lambda: array
    source = cx.sources.get(value.name) if value.weight and value.name is not None else None
    if source is None or source.load is None:
        raise node.fail("has scales or zero points that are not stored numbers")
    return source.load


def _unpacked(array: Array, bits: int) -> Array:
    """Bytes as unsigned numbers of so many bits, low bits first."""
    raw = array.view(np.uint8)
    return raw if bits == 8 else np.stack([raw & 15, raw >> 4], axis=-1).reshape(*raw.shape[:-1], -1)


def _rows(zeros: Array, bits: int, e: int, out: int) -> Array:
    """Zero points [e, out, blocks]; packed ones fill bytes, and the last may be half used."""
    found = _unpacked(zeros.reshape(e, out, -1) if zeros.size % (e * out) == 0 else zeros.reshape(e, -1), bits)
    return found.reshape(e, out, -1)


def _along(per_block: Array, width: int) -> Array:
    """One number per block repeated along a row."""
    blocks = per_block.shape[2]
    return np.repeat(per_block.astype(np.float32), -(-width // blocks), axis=2)[:, :, :width]
