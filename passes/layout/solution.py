"""Solution: what a layout search chose for one block, and the layouts in which values leave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wafercc.ir.graph import Graph, OpId, TensorType, ValueName
from wafercc.ir.layout import UNCUT, Layout, Mesh, Split, Tiled, tile_bytes

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


def boundary_layout(kind: TensorType, mesh: Mesh) -> Layout:
    """How values cross from stage to stage: the last dimension over the rows, copies along each row.

    Every row of one region then talks to the same row of the next: as many lanes as rows.
    """
    rows = tuple(a.name for a in mesh.axes if a.along == "y" and a.extent > 1)
    last = kind.shape[-1] if kind.shape else 1
    if not rows or not isinstance(last, int) or last < 2:
        return Layout.replicated(kind.rank)
    return Layout((*(UNCUT,) * (kind.rank - 1), Split(rows)))


def parted_layout(kind: TensorType, mesh: Mesh) -> Layout:
    """The longest dimension that does not grow over the rows of the mesh, or over its columns if it has one row."""
    axes = tuple(a.name for a in mesh.axes if a.along == "y" and a.extent > 1)
    axes = axes or tuple(a.name for a in mesh.axes if a.extent > 1)
    fixed = [d if isinstance(d, int) else 0 for d in kind.shape]
    if not axes or max(fixed, default=0) < 2:
        return Layout.replicated(kind.rank)
    longest = fixed.index(max(fixed))
    return Layout(tuple(Split(axes) if i == longest else UNCUT for i in range(kind.rank)))


def solution_of(
    graph: Graph,
    mesh: Mesh,
    picked: Mapping[OpId, Strategy],
    shared: Mapping[ValueName, Layout],
    carried: frozenset[ValueName],
    cycles: int,
    byte_price: int,
    reasons: Mapping[OpId, Reason],
    whole: int,
) -> Solution:
    """The solution that these choices make. Results of more than ``whole`` elements that their op leaves whole on every
    PE leave the region from several: each keeps a part."""
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
        if value in carried:
            made = boundary_layout(graph.types[value], mesh)
        elif not made.cut_axes and graph.types[value].elements > whole and value not in graph.states.values():
            made = parted_layout(graph.types[value], mesh)
        outputs[value] = made
    return Solution(mesh, picked, shared, outputs, cycles, size, byte_price, reasons)
