"""Quantised values while importing: weights that stay quantised, and what is made of them without running anything.

A stored tensor meets its scales in a `DequantizeLinear`, far from the product that reads it. The context keeps what
each such value was made of, so that the product (or lookup) takes the quantised weight itself; what then reads the
dequantised value no more is dropped. Everything here is unread: weights are derived from others when they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import DType
from ..ir.graph import TensorType
from ..ir.ops.quant import counted
from .content import Array, Value
from .context import Context
from .nodes import Node

COLUMN_BLOCK = 32


@dataclass(frozen=True)
class Quantized:
    """What a dequantised value is made of: (q - zero) * scale, in blocks as `ir/ops/quant.py` has them.

    ``rounds``: whether onnxruntime rounds activations that meet this weight, if its blocks allow it.
    """

    q: Value
    scale: Value
    zero: Value | None
    blocks: tuple[int, ...]
    rounds: bool = False

    @property
    def round_block(self) -> int:
        """In blocks of how many along the summed dimension onnxruntime's CPU product rounds activations to 8 bits; 0 is
        not at all.

        It makes a MatMulNBits of level 4 of a product with a weight of at most 8 bits if scales lie in blocks of at
        least 16, a power of two, along the summed dimension, or if one serves a column or all: that counts as 32.
        """
        if not self.rounds or len(self.blocks) != 2:
            return 0
        down, across = self.blocks
        if across == 1 and down >= 16 and down & (down - 1) == 0:
            return down
        return COLUMN_BLOCK if down == 0 and across in (0, 1) else 0

    @property
    def operands(self) -> list[Value | None]:
        return [self.q, self.scale, self.zero]


def dequantize(cx: Context, parts: Quantized) -> Value:
    """The numbers of quantised ones; the context remembers what they are made of."""
    result = cx.emit("dequantize", parts.operands, {"blocks": parts.blocks})
    if result.name is not None:
        cx.quantized[result.name] = parts
    return result


def transposed_parts(cx: Context, parts: Quantized, perm: tuple[int, ...]) -> Quantized:
    """The quantised weight of a transposed value. onnxruntime moves a transpose that nothing else reads ahead of scales
    that stand in no blocks, and then finds the product behind it."""

    def moved(x: Value) -> Value:
        if not x.rank:
            return x
        shape = tuple(extents(x)[axis] for axis in perm)
        if x.weight:
            label = "transpose_" + "".join(map(str, perm))
            return cx.weight(x, label, lambda array: array.transpose(perm), shape, x.dtype)
        return cx.emit("transpose", [x], {"perm": perm})

    zero = None if parts.zero is None else moved(parts.zero)
    node = cx.node
    alone = node is not None and node.op_type == "Transpose" and cx.uses.get(node.outputs[0] or "", 0) == 1
    rounds = parts.rounds and alone and max(parts.blocks, default=0) <= 1
    return Quantized(moved(parts.q), moved(parts.scale), zero, tuple(parts.blocks[axis] for axis in perm), rounds)


def quantized_weight(cx: Context, value: Value) -> Quantized | None:
    """What a value is made of, if it is a stored tensor that is dequantised."""
    found = None if value.name is None else cx.quantized.get(value.name)
    return found if found is not None and found.q.weight else None


def times(cx: Context, a: Value, parts: Quantized, block: int = 0) -> Value:
    """a @ dequantised, from the quantised weight. ``block``: a is rounded to 8 bits first, in blocks of so many, unless
    it and the weight are 8-bit already."""
    if block and (a.name not in cx.quantized or parts.q.dtype.bits < 8):
        a = cx.emit("round_blocks", [a], {"block": block})
    return cx.emit("matmul_quant", [a, *parts.operands], {"blocks": parts.blocks})


# --- stored tensors and what is derived from them


def stored(cx: Context, node: Node, position: int) -> Value:
    """A required input as a weight where the model stores it, however small: layers of equal structure then stay equal.

    Raises:
        ImportFailed: the node lacks it.
    """
    value, name = cx.input(node, position), node.inputs[position]
    array = value.array
    if value.weight or array is None or array.dtype == object or name is None:
        return value
    return cx.literal_weight(name, array)


def maybe_stored(cx: Context, node: Node, position: int) -> Value | None:
    return stored(cx, node, position) if node.has(position) else None


def zero_point(cx: Context, node: Node, position: int) -> Value | None:
    """The zero point at a position; none where it is known to be zero."""
    if not node.has(position):
        return None
    array = cx.array(cx.input(node, position))
    if array is not None and array.dtype != object and not np.asarray(array, np.float32).any():
        return None
    return stored(cx, node, position)


def derived(
    cx: Context, label: str, values: Sequence[Value], step: Callable[..., Array], type_: TensorType
) -> Value | None:
    """A weight made of several when it is read; ``None`` where one of them is computed by the model."""
    loads = [_load(cx, value) for value in values]
    if any(load is None for load in loads):
        return None
    first = next((value for value in values if value.weight), None)
    if first is None:
        return None
    others = [load for load in loads if load is not None]

    def whole(_: Array) -> Array:
        return step(*(load() for load in others)).astype(type_.dtype.numpy)

    name = ".".join(str(value.name) for value in values if value.name is not None and value is not first)
    return cx.weight(first, f"{label}({name})" if name else label, whole, extents_of(type_), type_.dtype)


def _load(cx: Context, value: Value) -> Callable[[], Array] | None:
    if value.weight and value.name is not None:
        name = value.name

        def load() -> Array:
            found = cx.sources[name].load
            assert found is not None, "a weight whose numbers are absent is never read"
            return found()

        return load
    array = value.array
    return None if array is None or array.dtype == object else lambda: array


def extents(value: Value) -> tuple[int, ...]:
    """The shape of a stored tensor: all numbers."""
    return extents_of(value.type)


def extents_of(type_: TensorType) -> tuple[int, ...]:
    return tuple(d for d in type_.shape if isinstance(d, int))


def scale_shape(node: Node, x: Value, scale: Value, axis: int, block: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How ONNX lays out scales: the blocks they stand for, and the shape that `ir/ops/quant.py` wants of them.

    A scalar or a single number serves all, a vector the elements of ``axis``; with a block size, scales have the rank
    of x.

    Raises:
        ImportFailed: they fit x in none of these ways.
    """
    rank = x.rank
    if block:
        blocks = tuple(block if d == axis else 1 for d in range(rank))
        wanted = tuple(counted(d, b) for d, b in zip(x.shape, blocks, strict=True))
        if scale.shape != wanted:
            raise node.fail(f"has scales {scale.type} for {x.type} in blocks of {block} along axis {axis}")
        return blocks, extents(scale)
    if all(d == 1 for d in scale.shape):
        return (0,) * rank, ()
    if scale.rank != 1 or not rank or scale.shape[0] != x.shape[axis]:
        raise node.fail(f"has scales {scale.type} for axis {axis} of {x.type}")
    count = extents(scale)[0]
    return tuple(int(d == axis) for d in range(rank)), tuple(count if d == axis else 1 for d in range(rank))


def unpacked(
    cx: Context, x: Value, bits: int, label: str, shape: tuple[int, ...], step: Callable[[Array], Array]
) -> Value:
    """A weight of bytes that hold several elements each, opened and rearranged by ``step`` when it is read."""
    dtype = {2: DType.U2, 4: DType.U4, 8: DType.U8}[bits]

    def opened(array: Array) -> Array:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = (array.astype(np.uint8)[..., None] >> shifts) & np.uint8((1 << bits) - 1)
        return step(codes.reshape(*array.shape[:-1], array.shape[-1] * (8 // bits))).astype(dtype.numpy)

    return cx.weight(x, label, opened, shape, dtype)


def cast_like(cx: Context, x: Value, dtype: DType) -> Value:
    """x in another element type, a weight when it is read."""
    if x.dtype == dtype:
        return x
    if x.weight:
        return cx.weight(x, f"to_{dtype}", lambda array: array.astype(dtype.numpy), extents(x), dtype)
    return cx.emit("cast", [x], {"to": str(dtype)})
