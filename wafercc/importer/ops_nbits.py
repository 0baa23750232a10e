"""onnxruntime's block-quantised weights: MatMulNBits and GatherBlockQuantized.

Packed bytes become 2-, 4- or 8-bit weights of the graph, which stay so in SRAM; nothing is read to that end.
"""

from __future__ import annotations

import numpy as np

from ..ir.dtypes import DType
from .content import Array, Value, known_array
from .context import Context
from .nodes import Node
from .ops_shape import reshaped
from .quantized import Quantized, dequantize, extents, maybe_stored, stored, times, unpacked
from .registry import MICROSOFT, axis_of, lowers


@lowers("MatMulNBits", domain=MICROSOFT)
def matmul_nbits(node: Node, cx: Context) -> Value:
    """a @ dequantised(B).T + bias. B ``[N, blocks, bytes]`` holds the blocks of each column along K, packed.

    At accuracy level 4 onnxruntime's CPU kernels round the activations to 8 bits, block by block, where zero points are
    packed and there is no g_idx (2-bit weights: in blocks of 32 to 128 only). With a g_idx they take all zero points as
    the middle, whatever the model says.
    """
    a, b = cx.input(node, 0), stored(cx, node, 1)
    k, n, block, bits = (*(node.int_attr(name, 0) for name in ("K", "N", "block_size")), node.int_attr("bits", 4))
    if bits not in (2, 4, 8) or block < 1 or k < 1 or n < 1:
        raise node.fail(f"has {bits} bits in blocks of {block} for K {k}, N {n}, which is not supported")
    if not b.weight:
        raise node.fail("computes its weight, which is not supported", hint="store it as an initializer")
    count = -(-k // block)
    q = unpacked(cx, b, bits, f"columns_{n}x{k}", (k, n), lambda codes: codes.reshape(n, -1)[:, :k].T)
    scale = _columns(node, cx, stored(cx, node, 2), n, count)
    zero, packed = _zero_points(node, cx, n, count, bits)
    parts, rounding = Quantized(q, scale, zero, (block, 1)), 0
    if (order := _order(node, cx, k, block)) is not None:
        a, parts = _regrouped(node, cx, a, parts, order)
    elif node.int_attr("accuracy_level", 0) == 4 and packed and (bits != 2 or 32 <= block <= 128) and not node.has(4):
        rounding = block
    result = times(cx, a, parts, rounding)
    return cx.emit("add", [result, cx.input(node, 5)]) if node.has(5) else result


def _columns(node: Node, cx: Context, x: Value, n: int, count: int) -> Value:
    """Scales or float zero points, stored column by column, as ``[count, n]``."""
    if int(np.prod(extents(x), dtype=np.int64)) != n * count or not x.weight:
        raise node.fail(f"has scales or zero points {x.type} for {n} columns of {count} blocks")
    return cx.weight(x, f"rows_{count}x{n}", lambda array: array.reshape(n, count).T, (count, n), x.dtype)


def _zero_points(node: Node, cx: Context, n: int, count: int, bits: int) -> tuple[Value, bool]:
    """The zero points, and whether they are whole numbers: packed like the weight, or the middle of the range."""
    dtype = {2: DType.U2, 4: DType.U4, 8: DType.U8}[bits]
    given = None if node.has(4) and _is_permuted(node, cx) else maybe_stored(cx, node, 3)
    if given is None:
        return known_array(np.asarray(1 << (bits - 1)).astype(dtype.numpy), dtype), True
    if given.dtype.is_float:
        return _columns(node, cx, given, n, count), False
    if not given.weight:
        raise node.fail("computes its zero points, which is not supported")
    row_bytes = -(-count * bits // 8)
    if int(np.prod(extents(given), dtype=np.int64)) != n * row_bytes:
        raise node.fail(f"has zero points {given.type} for {n} columns of {count} blocks")
    flat = reshaped(cx, given, (n, row_bytes))
    return unpacked(cx, flat, bits, f"rows_{count}x{n}", (count, n), lambda codes: codes[:, :count].T), True


def _is_permuted(node: Node, cx: Context) -> bool:
    return _groups(node, cx) is not None


def _groups(node: Node, cx: Context) -> Array | None:
    """The input g_idx: the block of each row of the weight."""
    if not node.has(4):
        return None
    given = cx.input(node, 4)
    array = cx.array(given)
    if array is None and given.weight and given.name is not None and (load := cx.sources[given.name].load) is not None:
        array = load()
    if array is None or array.dtype == object:
        raise node.fail("has a g_idx that is not stored in the model")
    return np.asarray(array, np.int64)


def _order(node: Node, cx: Context, k: int, block: int) -> Array | None:
    """How rows are to be ordered so that blocks lie together; ``None`` where they do."""
    groups = _groups(node, cx)
    if groups is None or np.array_equal(groups[:k], np.arange(k) // block):
        return None
    return groups[:k]


def _regrouped(node: Node, cx: Context, a: Value, parts: Quantized, groups: Array) -> tuple[Value, Quantized]:
    """Both operands with their summed dimension sorted by block, if all blocks are of one size; else a scale a row."""
    k, n = extents(parts.q)
    block, count = parts.blocks[0], extents(parts.scale)[0]
    order = np.argsort(groups, kind="stable")
    if np.array_equal(groups[order], np.arange(k) // block):
        q = cx.weight(parts.q, "sorted", lambda array: array[order], (k, n), parts.q.dtype)
        index = cx.literal_weight(f"{parts.q.name}.order", order)
        picked = cx.emit("gather", [a, index], {"axis": a.rank - 1})
        return picked, Quantized(q, parts.scale, parts.zero, parts.blocks)
    if groups.min() < 0 or groups.max() >= count:
        raise node.fail(f"has a g_idx of {groups.max()} for {count} blocks")

    def spread(x: Value) -> Value:
        return cx.weight(x, "each_row", lambda array: array[groups], (k, n), x.dtype) if x.weight else x

    zero = None if parts.zero is None else spread(parts.zero)
    return a, Quantized(parts.q, spread(parts.scale), zero, (1, 1))


@lowers("GatherBlockQuantized", domain=MICROSOFT)
def gather_block_quantized(node: Node, cx: Context) -> Value:
    """Rows of a block-quantised table, dequantised. Bytes hold several elements along the last dimension."""
    data, ids, scale = stored(cx, node, 0), cx.input(node, 1), stored(cx, node, 2)
    bits = node.int_attr("bits", 4)
    axis = axis_of(node, node.int_attr("gather_axis", 0), data.rank)
    along = axis_of(node, node.int_attr("quantize_axis", 1), data.rank)
    data, zero = _opened(node, cx, data, bits, along)
    block = node.int_attr("block_size", 128)
    blocks = tuple(block if d == along else 1 for d in range(data.rank))
    parts = Quantized(data, scale, zero, blocks)
    if axis == 0 and data.rank == 2 and data.weight and along == 1:
        return cx.emit("embedding_quant", [data, ids, scale, zero], {"blocks": blocks})
    return cx.emit("gather", [dequantize(cx, parts), ids], {"axis": axis})


def _opened(node: Node, cx: Context, data: Value, bits: int, along: int) -> tuple[Value, Value | None]:
    """The table with one element a slot, and its zero points: of bytes the middle of the range, if none are given."""
    zero = maybe_stored(cx, node, 3)
    if data.dtype is not DType.U8:
        return data, zero
    if not data.weight or bits not in (2, 4, 8):
        raise node.fail(f"reads {bits}-bit elements of {data.type}, which is not supported")
    dtype = {2: DType.U2, 4: DType.U4, 8: DType.U8}[bits]
    per_byte = 8 // bits
    shape = extents(data)
    table = (*shape[:-1], shape[-1] * per_byte)
    opened = unpacked(cx, data, bits, f"opened_{bits}", table, lambda codes: codes)
    if zero is None:
        return opened, known_array(np.asarray(1 << (bits - 1)).astype(dtype.numpy), dtype)
    wanted = extents(stored(cx, node, 2))
    flat = extents(zero)

    def trimmed(codes: Array) -> Array:
        return codes.reshape(*flat[:-1], -1)[..., : wanted[-1]]

    return opened, unpacked(cx, zero, bits, f"opened_{bits}", wanted, trimmed)
