"""Unflatten: let ops work on [batch, rows, k] instead of [batch*rows, k], and merge the dimensions afterwards.

Exporters flatten the rows before each projection (GPT-2's Gemm) and restore them after it. The merging reshape moves
below its reader, again and again in one walk, until it meets the one that restores the dimensions, where simplify
joins the two. Batch and rows then stay visible to the layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .match import ELEMENTWISE
from .merged import remerged, unmerged

NORMS = frozenset({"rms_norm", "layer_norm"})
ALONG = frozenset({"softmax", "slice", "cumsum"})
REDUCES = frozenset({"reduce_sum", "reduce_mean", "reduce_max", "reduce_min"})


@dataclass(frozen=True)
class Unflatten:
    """Only where all rows are merged into one dimension and the last one is kept; the same products and sums."""

    name: ClassVar[str] = "unflatten"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if not op.operands or len(draft.shape(op.outputs[0])) != 2:
        return None
    if op.kind == "matmul" or op.kind in NORMS:
        x, rest = unmerged(draft, op.operands[0]), op.inputs[1:]
        if x is None or (op.kind == "matmul" and len(draft.shape(op.operands[1])) != 2):
            return None
        return remerged(draft, draft.emit(op.kind, x, *rest, **op.attrs), op)
    if op.kind in ELEMENTWISE or op.kind == "concat":
        return _pointwise(draft, op)
    if op.kind in ALONG or op.kind in REDUCES:
        return _along_last(draft, op)
    return None


def _pointwise(draft: Draft, op: Op) -> ValueName | None:
    """All operands merge the same dimensions, or do not have them: a number, a vector along the last dimension."""
    narrow = draft.shape(op.outputs[0])
    wide: list[ValueName] = []
    lead = None
    for value in op.operands:
        x = unmerged(draft, value)
        if x is not None and (lead is None or draft.shape(x)[:-1] == lead) and draft.shape(value)[0] == narrow[0]:
            lead = draft.shape(x)[:-1]
            wide.append(x)
        elif op.kind != "concat" and len(draft.shape(value)) < 2:
            wide.append(value)
        else:
            return None
    if lead is None or (op.kind == "concat" and op.attrs["axis"] != 1):
        return None
    attrs = dict(op.attrs) | ({"axis": len(lead)} if op.kind == "concat" else {})
    return remerged(draft, draft.emit(op.kind, *wide, **attrs), op)


def _along_last(draft: Draft, op: Op) -> ValueName | None:
    """Softmax, sum or slice along the last dimension."""
    x = unmerged(draft, op.operands[0])
    if x is None:
        return None
    last = len(draft.shape(x)) - 1
    if op.kind in REDUCES:
        if op.attrs["axes"] != (1,) or not op.attrs["keep"]:
            return None
        return remerged(draft, draft.emit(op.kind, x, axes=(last,), keep=True), op)
    if op.attrs["axis"] != 1:
        return None
    return remerged(draft, draft.emit(op.kind, x, **{**op.attrs, "axis": last}), op)
