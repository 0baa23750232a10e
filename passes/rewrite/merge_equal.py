"""Merge equal ops: one op for all that have the same kind, operands and attributes (common subexpressions).

Every layer of an exported decoder repeats the same position and mask arithmetic; merged, it happens once. Compared by
value: 1, 1.0 and True are different attributes, and so are 0.0 and -0.0. Equal weights are not searched for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite


@dataclass(frozen=True)
class MergeEqual:
    """Later equal ops give way to the first one."""

    name: ClassVar[str] = "merge_equal"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _Seen())


@dataclass
class _Seen:
    first: dict[str, ValueName] = field(default_factory=dict)

    def __call__(self, draft: Draft, op: Op) -> ValueName | None:
        key = repr((op.kind, op.inputs, sorted((name, repr(value)) for name, value in op.attrs.items())))
        known = self.first.setdefault(key, op.outputs[0])
        return known if known != op.outputs[0] else None
