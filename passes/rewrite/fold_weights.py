"""Fold weights: an op that needs only a weight and known numbers becomes another weight, unread until it is loaded.

Exporters store projections as [n, k] and transpose them in the graph, add one to a norm's weight, cast, reshape and
scale: none of that needs the model's input. The new weight is a recipe over the old one (`WeightSource.derive`), so a
400-gigabyte model folds as fast as a toy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ...ir.dims import Affine
from ...ir.graph import Graph, Op, ValueName
from ...ir.optable import Array, spec_of
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .fold_constants import MOVES
from .match import ELEMENTWISE


@dataclass(frozen=True)
class FoldWeights:
    """Never makes a weight larger than it was in elements, so an expand stays an op."""

    name: ClassVar[str] = "fold_weights"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind not in ELEMENTWISE and op.kind not in MOVES:
        return None
    own = [v for v in op.operands if v in draft.is_weight]
    if len(own) != 1 or not all(v in own or draft.made_by(v, "constant", "fill") for v in op.operands):
        return None
    (weight,) = own
    found = draft.types[op.outputs[0]]
    known = [op, *(draft.producer[v] for v in op.operands if v != weight)]
    if (
        any(
            isinstance(a, Affine) or (isinstance(a, tuple) and any(isinstance(d, Affine) for d in a))
            for o in known
            for a in o.attrs.values()
        )
        or found.elements > draft.types[weight].elements
    ):
        return None
    return draft.derive(weight, found, _step(op, draft), op.kind)


def _step(op: Op, draft: Draft) -> Callable[[Array], Array]:
    """What the op does to the weight's numbers, by its own kernel."""
    producers = {v: draft.producer[v] for v in op.operands if v in draft.producer}

    def step(weight: Array) -> Array:
        arrays = [spec_of(p).evaluate(p, [], 0)[0] if (p := producers.get(v)) else weight for v in op.operands]
        (result,) = spec_of(op).evaluate(op, arrays, 0)
        return result

    return step
