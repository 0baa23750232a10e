"""Shared: which values are brought into one layout for all who read them, and the layout in which values cross."""

from __future__ import annotations

from wafercc.ir.graph import Graph, TensorType, ValueName
from wafercc.ir.layout import UNCUT, Layout, Mesh, Split


def boundary_layout(kind: TensorType, mesh: Mesh) -> Layout:
    """How values cross from stage to stage: the last dimension over the rows, copies along each row.

    Every row of one region then talks to the same row of the next: as many lanes as rows.
    """
    rows = tuple(a.name for a in mesh.axes if a.along == "y" and a.extent > 1)
    last = kind.shape[-1] if kind.shape else 1
    if not rows or not isinstance(last, int) or last < 2:
        return Layout.replicated(kind.rank)
    return Layout((*(UNCUT,) * (kind.rank - 1), Split(rows)))


def shared_values(graph: Graph) -> list[ValueName]:
    """Inputs, and values that several operands read: each is brought into one shared layout first."""
    weights = frozenset(graph.weights)
    reads: dict[ValueName, int] = {}
    for op in graph.ops:
        for value in op.operands:
            reads[value] = reads.get(value, 0) + 1
    return [v for v, n in reads.items() if v not in weights and (n > 1 or v in graph.inputs)]
