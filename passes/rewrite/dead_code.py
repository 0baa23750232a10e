"""Dead code: drop every op whose result nothing needs. One backward walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph
from ...ir.weights import Weights


@dataclass(frozen=True)
class DeadCode:
    """Keeps what graph outputs depend on; weights that nobody reads any more leave the graph with it."""

    name: ClassVar[str] = "dead_code"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        needed = set(graph.outputs)
        kept = []
        for op in reversed(graph.ops):
            if any(out in needed for out in op.outputs):
                needed.update(op.operands)
                kept.append(op)
        if len(kept) == len(graph.ops):
            return graph, weights
        return graph.with_ops(tuple(reversed(kept))), weights
