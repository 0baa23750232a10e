"""Signals: Fourier transforms as products with tables of cosines and sines, and windows."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .content import Value, known_array, number
from .context import Context
from .nodes import Node
from .ops_elementwise import like
from .ops_linear import matmul
from .ops_rearrange import padded
from .ops_shape import reshaped, sliced, transposed
from .read import dtype_of
from .registry import axis_of, lowers

Floats = NDArray[np.float64]


@lowers("DFT")
def dft(node: Node, cx: Context) -> Value:
    """Along one axis of [..., 1 or 2]: real numbers, or pairs of real and imaginary parts."""
    x = cx.input(node, 0)
    axis_given, length_given = cx.optional(node, 2), cx.optional(node, 1)
    if axis_given is not None:
        axis = number(cx.dim(axis_given, node, "the axis"))
    else:
        axis = node.int_attr("axis", 1 if node.version < 20 else -2)
    axis = axis_of(node, axis, x.rank)
    inverse, onesided = bool(node.int_attr("inverse", 0)), bool(node.int_attr("onesided", 0))
    have = number(x.shape[axis])
    length = 2 * (have - 1) if inverse and onesided else have
    if length_given is not None:
        length = number(cx.dim(length_given, node, "the length"))
    order = (*(i for i in range(x.rank - 1) if i != axis), axis, x.rank - 1)
    moved = _transformed(cx, transposed(cx, x, order), length, inverse, onesided)
    return transposed(cx, moved, tuple(order.index(i) for i in range(x.rank)))


def _transformed(cx: Context, x: Value, length: int, inverse: bool, onesided: bool) -> Value:
    """x [..., n, 1 or 2] transformed along n."""
    axis = x.rank - 2
    taken = length // 2 + 1 if inverse and onesided else length
    if number(x.shape[axis]) > taken:
        x = sliced(cx, x, axis, 0, 1, taken)
    elif number(x.shape[axis]) < taken:
        x = padded(cx, x, axis, 0, taken - number(x.shape[axis]), like(cx, 0.0, x))
    parts = [reshaped(cx, sliced(cx, x, axis + 1, i, 1, 1), x.shape[:-1]) for i in range(number(x.shape[-1]))]
    tables = _tables(length, inverse, onesided)
    results = []
    for row in tables:
        total: Value | None = None
        for part, table in zip(parts, row, strict=False):
            product = matmul(cx, part, known_array(table.astype(x.dtype.numpy), x.dtype))
            total = product if total is None else cx.emit("add", [total, product])
        assert total is not None
        results.append(reshaped(cx, total, (*total.shape, 1)))
    return cx.emit("concat", results, {"axis": x.rank - 1})


def _tables(length: int, inverse: bool, onesided: bool) -> list[tuple[Floats, Floats]]:
    """For the real and imaginary part of the result: what the real and the imaginary part of the operand are multiplied
    by. The one-sided inverse has real results alone."""
    if inverse and onesided:
        unit = np.eye(length // 2 + 1)
        return [(np.fft.irfft(unit, n=length), np.fft.irfft(1j * unit, n=length))]
    bins = length // 2 + 1 if onesided else length
    angle = 2 * math.pi * np.outer(np.arange(length), np.arange(bins)) / length
    cos, sin = np.cos(angle), np.sin(angle)
    if inverse:
        return [(cos / length, -sin / length), (sin / length, cos / length)]
    return [(cos, sin), (-sin, cos)]


@lowers("STFT")
def stft(node: Node, cx: Context) -> Value:
    """The transforms of frames of a signal [b, n, 1 or 2], each weighted by a window: [b, frames, bins, 2]."""
    x, window = cx.input(node, 0), cx.optional(node, 2)
    step = number(cx.dim(cx.input(node, 1), node, "the frame step"))
    given = cx.optional(node, 3)
    if given is not None:
        length = number(cx.dim(given, node, "the frame length"))
    elif window is not None:
        length = number(window.shape[0])
    else:
        raise node.fail("has neither a window nor a frame length")
    count = 1 + (number(x.shape[1]) - length) // step
    frames = [sliced(cx, x, 1, i * step, 1, length) for i in range(count)]
    whole = cx.emit("concat", [reshaped(cx, f, (x.shape[0], 1, length, x.shape[2])) for f in frames], {"axis": 1})
    if window is not None:
        whole = cx.emit("mul", [whole, reshaped(cx, window, (length, 1))])
    return _transformed(cx, whole, length, False, bool(node.int_attr("onesided", 1)))


WINDOWS = {"HannWindow": (0.5, 0.5, 0.0), "HammingWindow": (25 / 46, 21 / 46, 0.0), "BlackmanWindow": (0.42, 0.5, 0.08)}


@lowers(*WINDOWS)
def window(node: Node, cx: Context) -> Value:
    """a - b cos(2 pi i / n) + c cos(4 pi i / n), n the size, or one less if it is not periodic."""
    size = number(cx.dim(cx.input(node, 0), node, "the size"))
    dtype = dtype_of(ir.DataType(node.int_attr("output_datatype", 1)), node.where)
    a, b, c = WINDOWS[node.op_type]
    angle = 2 * math.pi * np.arange(size) / (size if node.int_attr("periodic", 1) else size - 1)
    return known_array((a - b * np.cos(angle) + c * np.cos(2 * angle)).astype(dtype.numpy), dtype)
