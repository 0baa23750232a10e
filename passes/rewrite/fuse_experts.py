"""Fuse experts: a product with matrices that were picked from a stack by data becomes moe_experts.

Exporters copy whole expert matrices per token, ``matmul(gather(w, ids), x)`` with w a weight [e,k,n] (or [e,n,k], then
transposed once as it is loaded). As moe_experts nothing is copied: the PEs that hold a chosen expert work, and rows
travel to them. Ids that come from a topk along their last axis are distinct within its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from ...ir.graph import Graph, Op, TensorType, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite


@dataclass(frozen=True)
class FuseExperts:
    """Needs the reshapes of ids and rows as they are; one row per choice. Cost: linear in ops."""

    name: ClassVar[str] = "fuse_experts"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


@dataclass(frozen=True)
class _Picked:
    """Matrices ``[*ids.shape, k, n]`` picked from a stack of weights, each turned over if ``turned``."""

    stack: ValueName
    ids: ValueName
    turned: bool


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind != "matmul":
        return None
    left, right = op.operands
    if (picked := _picked(draft, right)) is not None:
        return _fused(draft, op, left, picked, -2)
    if (picked := _picked(draft, left)) is not None:
        return _fused(draft, op, right, _Picked(picked.stack, picked.ids, not picked.turned), -1)
    return None


def _picked(draft: Draft, value: ValueName) -> _Picked | None:
    turned = False
    while (op := draft.made_by(value, "transpose")) is not None:
        rank = len(draft.shape(value))
        if op.attrs["perm"] != (*range(rank - 2), rank - 1, rank - 2):
            return None
        turned, value = not turned, op.operands[0]
    op = draft.made_by(value, "gather")
    if op is None or op.attrs["axis"] != 0:
        return None
    stack, ids = op.operands
    return _Picked(stack, ids, turned) if stack in draft.is_weight and len(draft.shape(stack)) == 3 else None


def _fused(draft: Draft, op: Op, rows: ValueName, picked: _Picked, one: int) -> ValueName | None:
    """The product, of one row (dimension ``one`` of the rows has extent 1) with each picked matrix."""
    shape, lead = draft.shape(rows), draft.shape(picked.ids)
    out = draft.shape(op.outputs[0])
    if shape[one] != 1 or out[:-2] != lead or not draft.types[rows].dtype.is_float:
        return None
    dims = [d for d in (*lead, *shape) if isinstance(d, int)]
    if len(dims) < len(lead) + len(shape):
        return None
    count, width = prod(dims[: len(lead)]), dims[-1] if one == -2 else dims[-2]
    if shape[:-2] != lead:
        rows = draft.emit("expand", rows, shape=(*lead, *shape[-2:]))
    flat = draft.emit("reshape", rows, shape=(count, width))
    ids = draft.emit("reshape", picked.ids, shape=(count,))
    stack = _turned(draft, picked.stack) if picked.turned else picked.stack
    product = draft.emit("moe_experts", flat, stack, ids, distinct=_distinct(draft, picked.ids))
    return draft.emit("reshape", product, shape=out)


def _turned(draft: Draft, stack: ValueName) -> ValueName:
    """The stack with each matrix transposed, as it is loaded."""
    kind = draft.types[stack]
    e, n, k = kind.shape
    return draft.derive(stack, TensorType(kind.dtype, (e, k, n)), lambda a: np.swapaxes(a, 1, 2), "turned")


def _distinct(draft: Draft, ids: ValueName) -> int:
    """How many ids in turn are certainly different: k of a topk along the last axis, which reshapes do not reorder."""
    while (op := draft.made_by(ids, "reshape", "cast")) is not None:
        ids = op.operands[0]
    op = draft.made_by(ids, "topk")
    if op is None or op.attrs["axis"] != len(draft.shape(ids)) - 1:
        return 1
    k = op.attrs["k"]
    return k if isinstance(k, int) and k >= 1 else 1
