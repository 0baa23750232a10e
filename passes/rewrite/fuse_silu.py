"""Fuse SiLU: x * sigmoid(x), or x / (1 + exp(-x)), becomes one silu."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .match import with_number


@dataclass(frozen=True)
class FuseSilu:
    """Equal up to rounding."""

    name: ClassVar[str] = "fuse_silu"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind not in ("mul", "div"):
        return None
    a, b = op.operands
    if op.kind == "div":
        return draft.emit("silu", a) if _one_plus_exp_minus(draft, b) == a else None
    for x, gate in ((a, b), (b, a)):
        sigmoid = draft.made_by(gate, "sigmoid")
        if sigmoid is not None and sigmoid.operands == (x,):
            return draft.emit("silu", x)
    return None


def _one_plus_exp_minus(draft: Draft, value: ValueName) -> ValueName | None:
    """``x`` where value is 1 + exp(-x)."""
    found = with_number(draft, draft.made_by(value, "add"))
    exp = draft.made_by(found[0], "exp") if found is not None and found[1] == 1 else None
    neg = draft.made_by(exp.operands[0], "neg") if exp is not None else None
    return neg.operands[0] if neg is not None else None
