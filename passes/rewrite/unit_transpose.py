"""Unit transposes: a transpose that only moves dimensions of one element is a reshape, and joins the reshapes around
it.

With one new token, [batch, 1, heads, d] and [batch, heads, 1, d] hold the same numbers in the same order. Stands
after unflatten, which wants to see batch and rows first in the operands of projections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .simplify import permutation


@dataclass(frozen=True)
class UnitTranspose:
    """Bit by bit the same numbers."""

    name: ClassVar[str] = "unit_transpose"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind != "transpose":
        return None
    (x,) = op.operands
    moved = [i for i in permutation(op) if draft.shape(x)[i] != 1]
    return draft.emit("reshape", x, shape=draft.shape(op.outputs[0])) if moved == sorted(moved) else None
