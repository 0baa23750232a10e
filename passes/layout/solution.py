"""Solution: what a layout search has chosen for one block, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wafercc.ir.graph import Graph, OpId, ValueName
from wafercc.ir.layout import Layout, Mesh, Tiled, tile_bytes

from .shared import boundary_layout
from .strategy import Strategy


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an op is cut as it is: its own cycles, and the block's cycles if it had to take each of the next best.

    ``others``: (strategy, cycles of the whole block with that strategy forced and all else chosen anew), best first.
    ``tried`` of ``known`` strategies were in the search; ``forced``: by name, so that nothing else was.
    """

    own_cycles: int
    others: tuple[tuple[str, int], ...]
    tried: int
    known: int
    forced: bool


@dataclass(frozen=True)
class Solution:
    """A block's choices on one mesh: a strategy per op, the shared layout of values, and the estimate they were
    chosen by.

    ``byte_price``: cycles charged for each 64 bytes of weights on a PE, 0 where SRAM has room; ``cycles`` are without
    it.
    """

    mesh: Mesh
    strategies: Mapping[OpId, Strategy]
    shared: Mapping[ValueName, Layout]
    outputs: Mapping[ValueName, Layout]
    cycles: int
    weight_bytes: int
    byte_price: int = 0
    reasons: Mapping[OpId, Reason] = field(default_factory=dict)


def solution_of(
    graph: Graph,
    mesh: Mesh,
    picked: Mapping[OpId, Strategy],
    shared: Mapping[ValueName, Layout],
    carried: frozenset[ValueName],
    cycles: int,
    byte_price: int,
    reasons: Mapping[OpId, Reason],
) -> Solution:
    """The solution that these choices make."""
    weights = frozenset(graph.weights)
    held = {
        (v, need) for op in graph.ops for v, need in zip(op.inputs, picked[op.id].ins, strict=True) if v in weights
    }
    size = sum(
        tile_bytes(Tiled(graph.types[v], need), mesh, graph.past_max)
        for v, need in held
        if v is not None and need is not None
    )
    outputs: dict[ValueName, Layout] = {}
    for value in graph.outputs:
        producer = graph.producer[value]
        made = picked[producer.id].outs[producer.outputs.index(value)]
        outputs[value] = boundary_layout(graph.types[value], mesh) if value in carried else made
    return Solution(mesh, picked, shared, outputs, cycles, size, byte_price, reasons)
