"""Split projections: where only slices of a projection are read, project to each slice by its own part of the weight.

GPT-2 projects to queries, keys and values at once and cuts the result in three. A cut of a dimension that is spread
over PEs needs traffic; cutting the weight instead costs nothing, and equal parts of one activation are read by three
smaller products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite


@dataclass(frozen=True)
class SplitProjection:
    """Only where all readers are slices that together are no larger than the whole; the same products and sums."""

    name: ClassVar[str] = "split_projection"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind != "slice" or not _only_slices(draft, op):
        return None
    projected, bias = op.operands[0], None
    add = draft.made_by(projected, "add")
    if add is not None:
        bias = next((v for v in add.operands if v in draft.is_weight and len(draft.shape(v)) == 1), None)
        projected = next((v for v in add.operands if v != bias), projected)
    matmul = draft.made_by(projected, "matmul")
    if matmul is None or (add is not None and bias is None):
        return None
    x, weight = matmul.operands
    if weight not in draft.is_weight or len(draft.shape(weight)) != 2:
        return None
    attrs = dict(op.attrs)
    result = draft.emit("matmul", x, draft.emit("slice", weight, **{**attrs, "axis": 1}))
    return result if bias is None else draft.emit("add", result, draft.emit("slice", bias, **{**attrs, "axis": 0}))


def _only_slices(draft: Draft, op: Op) -> bool:
    """Whether a slice cuts the last dimension and, with the other readers of its operand, takes each column once at
    most."""
    (x,) = op.operands
    users = draft.graph.users.get(x, ())
    last = len(draft.shape(x)) - 1
    width, counts = draft.shape(x)[last], [u.attrs.get("count") for u in users]
    if x in draft.graph.outputs or not users or not isinstance(width, int):
        return False
    if any(u.kind != "slice" or u.attrs["axis"] != last or u.attrs["step"] != 1 for u in users):
        return False
    return op.attrs["axis"] == last and sum(c if isinstance(c, int) else width for c in counts) <= width
