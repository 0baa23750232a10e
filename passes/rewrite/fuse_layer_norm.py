"""Fuse layer norms: d / sqrt(mean(d^2) + eps) with d = x - mean(x), its weight and bias, becomes one layer_norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .match import over_last
from .norm_form import absorbed, normalised


@dataclass(frozen=True)
class FuseLayerNorm:
    """Equal up to rounding. Stands before fuse_rms_norm, which would also find it: the RMS norm of x - mean(x)."""

    name: ClassVar[str] = "fuse_layer_norm"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    found = normalised(draft, op)
    if found is not None:
        centred, epsilon = found
        x = _uncentred(draft, centred)
        return None if x is None else draft.emit("layer_norm", x, epsilon=epsilon)
    if op.kind == "add" and any(len(n.operands) < 2 for v in op.operands if (n := draft.made_by(v, "layer_norm"))):
        return None  # an absent weight before a bias: leave the sum, it may be a residual
    return absorbed(draft, op, "layer_norm", 1, "mul") or absorbed(draft, op, "layer_norm", 2, "add")


def _uncentred(draft: Draft, value: ValueName) -> ValueName | None:
    """``x`` where value is x minus its mean over the last axis."""
    op = draft.made_by(value, "sub")
    if op is None:
        return None
    x, mean = op.operands
    return x if over_last(draft, mean, "reduce_mean") == x else None
