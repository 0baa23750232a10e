"""Quantised numbers on tiles: the op table's own arithmetic, with the mesh axes as further dimensions in front.

Blocks are granules, so a PE that holds a block holds its scale. Padding inside a block counts as zero.
"""

from __future__ import annotations

import numpy as np

from ...ir.block import Phase
from ...ir.dtypes import DType
from ...ir.ops.quant import dequantized, quantized, rounded_blocks
from ...ir.ops.quant_linear import less, whole_product
from ..tiles import Array
from .call import Call, Numbers, Operand, widened
from .lookup import rows_of


def _blocks(call: Call) -> tuple[int, ...]:
    """The block sizes, with one scale for all of each mesh axis's own copy in front."""
    value = call.op.attr("blocks")
    assert isinstance(value, tuple)
    return (*(0,) * call.axes, *(b for b in value if isinstance(b, int)))


def _scales(call: Call, first: int, rank: int) -> tuple[Array, Array | None]:
    """Scales, and the zero points behind them; a scalar gets as many dimensions as what it scales."""
    zero = call.optional(first + 1)
    return call.operand(first).raised(rank), None if zero is None else zero.raised(rank)


def quantize(call: Call) -> tuple[Array, ...]:
    x, to = call.operand(0), DType(str(call.op.attr("to")))
    return (call.give(quantized(x.data, *_scales(call, 1, x.rank), _blocks(call), to)),)


def dequantize(call: Call) -> tuple[Array, ...]:
    x = call.operand(0)
    return (call.give(dequantized(x.data, *_scales(call, 1, x.rank), _blocks(call))),)


def round_blocks(call: Call) -> tuple[Array, ...]:
    x = call.operand(0)
    return (call.give(rounded_blocks(x.masked((x.rank - 1,), 0).wide(), call.int_attr("block"))),)


def matmul_int(call: Call) -> tuple[Array, ...]:
    a, b = call.operand(0), call.operand(1)
    rank = max(a.rank, b.rank)
    sides = []
    for operand, zero, axis in ((a, call.optional(2), a.rank - 1), (b, call.optional(3), b.rank - 2)):
        raised = None if zero is None else zero.raised(operand.rank)
        shifted = Operand(less(operand.data, raised), operand.tiled, operand.mesh, operand.n_past)
        sides.append(shifted.masked((axis,), 0).raised(rank))
    left, right = sides
    return (call.give(whole_product(left, right)),)  # type: ignore[arg-type]


def matmul_quant(call: Call) -> tuple[Array, ...]:
    """Products of the tiles of a with those of b, dequantised; padding of the contracted dimension counts as zero."""
    if call.phase is Phase.FINISH:
        return (call.give(call.partials[0].data),)
    a, b = call.operand(0), call.operand(1)
    rank = max(a.rank, b.rank)
    left = widened(a.masked((a.rank - 1,), 0).raised(rank))
    numbers = dequantized(b.data, *_scales(call, 2, b.rank), _blocks(call))
    right = Operand(numbers, b.tiled, b.mesh, b.n_past).masked((b.rank - 2,), 0).raised(rank)
    return (call.give(np.matmul(left, right)),)


def embedding_quant(call: Call) -> tuple[Array, ...]:
    """Rows of a quantised table; where the table is cut, a PE contributes the rows it holds and zeros otherwise."""
    table, ids, scale, zero = call.operand(0), call.operand(1), call.operand(2), call.optional(3)
    rows, mine = rows_of(call, table, ids)
    parts = [None if x is None else _scales_of(call, x, table, ids) for x in (scale, zero)]
    assert parts[0] is not None
    blocks = (*(0,) * (call.axes + len(ids.tile)), _blocks(call)[-1])
    found: Numbers = dequantized(rows, parts[0], parts[1], blocks)
    return (call.give(found if mine is None else np.where(mine, found, 0)),)


def _scales_of(call: Call, scale: Operand, table: Operand, ids: Operand) -> Array:
    """The scales of the rows that ids name: one for all rows, or each row's own, which lies where the row lies."""
    if not scale.rank:
        return scale.raised(len(ids.tile) + 1)
    if scale.extent(0) == 1 and table.extent(0) != 1:
        return scale.data.reshape(*scale.data.shape[: call.axes], *(1,) * len(ids.tile), scale.tile[1])
    return rows_of(call, scale, ids)[0]


KERNELS = {
    "quantize": quantize,
    "dequantize": dequantize,
    "round_blocks": round_blocks,
    "matmul_int": matmul_int,
    "matmul_quant": matmul_quant,
    "embedding_quant": embedding_quant,
}
