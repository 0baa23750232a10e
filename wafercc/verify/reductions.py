"""Reductions: over which axes an op's local kernel leaves something owed, from the meaning of its kind alone.

The passes know this from the op table; here it stands a second time, in the form of which operand dimensions an op sums
(or maximises) over. Kinds not listed reduce nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.graph import Op
from ..ir.layout import AxisName, Tiled


def owed_axes(op: Op, operands: Sequence[Tiled | None]) -> frozenset[AxisName] | None:
    """The mesh axes that cut a reduced dimension of an operand; None where this file cannot tell."""
    dims: list[tuple[int, int]] = []  # (operand, dimension)
    rank = operands[0].type.rank if operands and operands[0] is not None else 0
    match op.kind:
        case "matmul":
            if len(operands) != 2 or operands[1] is None:
                return None
            dims = [(0, rank - 1), (1, operands[1].type.rank - 2)]
        case "moe_experts":
            dims = [(0, 1), (1, 1), (1, 0)]
        case "matmul_int" | "matmul_quant":
            if len(operands) < 2 or operands[1] is None:
                return None
            dims = [(0, rank - 1), (1, operands[1].type.rank - 2)]
        case "attention":
            dims = [(1, 2), (2, 2)]
        case "rms_norm" | "layer_norm":
            dims = [(0, rank - 1)]
        case "embedding" | "embedding_quant":
            dims = [(0, 0)]
        case "softmax" | "gather" | "gather_elements" | "cumsum" | "topk" | "scatter_elements":
            dims = [(0, _whole(op.attrs.get("axis")) % max(1, rank))]
        case "reduce_sum" | "reduce_mean" | "reduce_max" | "reduce_min":
            axes = op.attrs.get("axes", ())
            if not isinstance(axes, tuple):
                return None
            dims = [(0, _whole(axis) % max(1, rank)) for axis in axes]
        case "nonzero":
            dims = [(0, d) for d in range(rank)]
        case "gather_nd" | "scatter_nd":
            return None
    found: set[AxisName] = set()
    for operand, dim in dims:
        tiled = operands[operand] if operand < len(operands) else None
        if tiled is not None and 0 <= dim < tiled.type.rank:
            found.update(tiled.layout.splits[dim].axes)
    return frozenset(found)


def together(op: Op) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Two (operand, dimension from the end) that are multiplied element by element, so must be cut alike."""
    products = dict.fromkeys(("matmul", "matmul_int", "matmul_quant", "moe_experts"), ((0, 1), (1, 2)))
    return {**products, "attention": ((1, 2), (2, 2))}.get(op.kind)


def scaled(op: Op) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
    """For ops on quantised numbers: the operand that is quantised, its scales and zero points, and how many elements of
    each dimension share one (0: all)."""
    blocks = op.attrs.get("blocks")
    places = {"matmul_quant": (1, (2, 3)), "embedding_quant": (0, (2, 3))} | dict.fromkeys(
        ("quantize", "dequantize"), (0, (1, 2))
    )
    if op.kind not in places or not isinstance(blocks, tuple):
        return None
    quantised, scales = places[op.kind]
    return quantised, scales, tuple(map(_whole, blocks))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else -1
