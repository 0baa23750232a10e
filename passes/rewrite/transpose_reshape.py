"""Transpose before regrouping: a transpose of the last dimensions does not care how the ones before are grouped.

torch writes the transposed keys of attention as [b,h,t,d] merged to [b*h,t,d], transposed, and split again. Here the
transpose moves above the reshape, where simplify joins it with others and joins the reshapes: one transpose of
[b,h,t,d] is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .merged import remerged
from .simplify import permutation


@dataclass(frozen=True)
class TransposeReshape:
    """Only where the regrouped dimensions stay first, in order; bit by bit the same numbers."""

    name: ClassVar[str] = "transpose_reshape"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    reshape = draft.made_by(op.operands[0], "reshape") if op.kind == "transpose" else None
    if reshape is None:
        return None
    (x,) = reshape.operands
    perm = permutation(op)
    fixed = next((i for i, p in enumerate(perm) if i != p), len(perm))
    wide, narrow = draft.shape(x), draft.shape(op.operands[0])
    more = len(wide) - len(narrow)
    moved = len(narrow) - fixed
    if not moved or fixed + more < 1 or wide[fixed + more :] != narrow[fixed:] or 0 in wide:
        return None
    lead = tuple(range(fixed + more))
    return remerged(draft, draft.emit("transpose", x, perm=(*lead, *(i + more for i in perm[fixed:]))), op)
