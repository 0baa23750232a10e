"""Fuse ReLU: max(x, 0) becomes one relu."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .match import is_number


@dataclass(frozen=True)
class FuseRelu:
    """Bit by bit the same numbers."""

    name: ClassVar[str] = "fuse_relu"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind != "max":
        return None
    a, b = op.operands
    for x, other in ((a, b), (b, a)):
        if is_number(draft, other, 0) and draft.types[x] == draft.types[op.outputs[0]]:
            return draft.emit("relu", x)
    return None
