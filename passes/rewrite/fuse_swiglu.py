"""Fuse SwiGLU: silu(gate) * up becomes one swiglu."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite


@dataclass(frozen=True)
class FuseSwiglu:
    """Needs fuse_silu before it. Gate and up have one shape, so the product broadcasts nothing."""

    name: ClassVar[str] = "fuse_swiglu"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind != "mul" or len({draft.types[v] for v in op.operands}) != 1:
        return None
    a, b = op.operands
    for value, up in ((a, b), (b, a)):
        silu = draft.made_by(value, "silu")
        if silu is not None:
            return draft.emit("swiglu", silu.operands[0], up)
    return None
