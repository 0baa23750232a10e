"""Guard rows: where rows are those that a NonZero found, products with a weight run for as many as there are.

Exporters that unroll a loop over experts take, for each, the tokens that chose it: a NonZero, a gather of its rows, the
expert's matrices, a scatter. The NonZero is as long as it can be; what lies behind its last hit is never written. So
``matmul(rows [m,k], w [k,n])`` becomes moe_experts with the one matrix w, which a row chooses if it was found, and
which costs nothing when no token chose that expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from ...ir.graph import Graph, Op, TensorType, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .match import ELEMENTWISE

DEPTH = 24  # ops looked through from a product up to the NonZero that found its rows


@dataclass(frozen=True)
class GuardRows:
    """Needs weights as operands of their products. Cost: linear in ops times the depth looked through."""

    name: ClassVar[str] = "guard_rows"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        if not any(op.kind == "nonzero" for op in graph.ops):
            return graph, weights
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind != "matmul":
        return None
    rows, w = op.operands
    shape, kind = draft.shape(rows), draft.types[w]
    if w not in draft.is_weight or len(kind.shape) != 2 or not kind.dtype.is_float:
        return None
    fixed = [d for d in shape if isinstance(d, int)]
    if len(fixed) < len(shape) or prod(fixed[:-1]) != fixed[-2]:
        return None
    found = _found(draft, rows, fixed[-2], DEPTH)
    if found is None:
        return None
    ids = found if draft.made_by(found, "where") else _choices(draft, found)
    k, n = kind.shape
    flat = draft.emit("reshape", rows, shape=(fixed[-2], k))
    stack = draft.derive(w, TensorType(kind.dtype, (1, k, n)), lambda a: a[None], "alone")
    product = draft.emit("moe_experts", flat, stack, ids, distinct=1)
    return draft.emit("reshape", product, shape=draft.shape(op.outputs[0]))


def _choices(draft: Draft, found: ValueName) -> ValueName:
    """0, the one matrix, for each column that is a hit; 1, none, for those behind the last."""
    length = draft.shape(found)[1]
    first = draft.emit("slice", found, axis=0, start=0, step=1, count=1)
    column = draft.emit("reshape", first, shape=(length,))
    end = draft.emit("fill", value=length, dtype="i64", shape=())
    hit = draft.emit("lt", column, end)
    numbers = [draft.emit("fill", value=v, dtype="i64", shape=()) for v in (0, 1)]
    return draft.emit("where", hit, *numbers)


def _found(draft: Draft, value: ValueName, count: int, depth: int) -> ValueName | None:
    """The NonZero ``[rank, count]`` whose columns, in order, are the rows of a value ``[1,...,count,width]``; or the
    choices that a product of these rows already has."""
    op = draft.producer.get(value)
    if op is None or depth == 0:
        return None
    if op.kind == "moe_experts":
        ids = op.operands[2]
        return ids if draft.made_by(ids, "where") and draft.shape(ids) == (count,) else None
    if op.kind == "gather":
        shape, axis = draft.shape(op.operands[0]), op.attrs["axis"]
        ids = op.operands[1]
        rows = isinstance(axis, int) and all(d == 1 for d in shape[:axis]) and len(shape) - axis == 2
        return _columns(draft, ids, count, depth - 1) if rows and draft.shape(ids) == (count,) else None
    if op.kind == "reshape" or op.kind in ELEMENTWISE:
        for operand in op.operands:
            shape = draft.shape(operand)
            if len(shape) >= 2 and shape[-2] == count and all(d == 1 for d in shape[:-2]):
                found = _found(draft, operand, count, depth - 1)
                if found is not None:
                    return found
    return None


def _columns(draft: Draft, ids: ValueName, count: int, depth: int) -> ValueName | None:
    """The NonZero of which these ids are one row, perhaps kept inside the dimension they index."""
    value, axis = ids, 0
    for _ in range(depth):
        op = draft.producer.get(value)
        if op is None:
            return None
        before = _axis_before(draft, op, axis, count)
        if op.kind == "nonzero" or before is None:
            return value if op.kind == "nonzero" and axis == 1 and draft.shape(value)[1] == count else None
        value, axis = op.operands[0], before
    return None


def _axis_before(draft: Draft, op: Op, axis: int, count: int) -> int | None:
    """Along which axis of an op's first operand its result's axis runs, if all elements stay in their order there."""
    shape, out = draft.shape(op.operands[0]) if op.operands else (), draft.shape(op.outputs[0])
    match op.kind:
        case "cast" | "min":
            return axis if shape == out else None
        case "slice":
            return axis if op.attrs["axis"] != axis else None
        case "transpose":
            perm = op.attrs["perm"]
            found = perm[axis] if isinstance(perm, tuple) else None
            return found if isinstance(found, int) else None
        case "reshape":
            lead = [d for d in out[:axis] if isinstance(d, int)]
            dims = [d for d in shape if isinstance(d, int)]
            places = [b for b, d in enumerate(dims) if d == count and prod(dims[:b]) == prod(lead)]
            return places[-1] if places and len(dims) == len(shape) and len(lead) == axis else None
    return None
