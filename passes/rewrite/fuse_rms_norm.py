"""Fuse RMS norms: x / sqrt(mean(x^2) + eps), with its weight, becomes one rms_norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .norm_form import absorbed, normalised


@dataclass(frozen=True)
class FuseRmsNorm:
    """Equal up to rounding: the fused op divides by the root, and rounds half precision once, not at each step."""

    name: ClassVar[str] = "fuse_rms_norm"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    found = normalised(draft, op)
    if found is None:
        return absorbed(draft, op, "rms_norm", 1, "mul")
    x, epsilon = found
    return draft.emit("rms_norm", x, epsilon=epsilon)
