"""Guard dense experts: where all experts run for all tokens and most results are multiplied by zero, only those run
whose factor is not zero.

Some exporters multiply every token by every expert, ``matmul(x [e,t,k], w [e,k,n])``, and weight the results by a
scatter of the chosen experts' shares into zeros ``[t,e]``. If that is all that becomes of a product, through ops that
work element by element and stay finite, it becomes moe_experts on the rows whose share is not zero; the others are
zero before they are multiplied by zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite

# Elementwise kinds that are finite where their operands are.
FINITE = frozenset({"add", "sub", "neg", "min", "max", "cast", "relu", "silu", "gelu", "sigmoid", "tanh", "swiglu"})
MOST_OPS = 64  # ops between a product and the shares


@dataclass(frozen=True)
class GuardDense:
    """Needs weights as operands of their products. Cost: linear in ops times those between product and shares."""

    name: ClassVar[str] = "guard_dense"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        if not any(op.kind == "scatter_elements" for op in graph.ops):
            return graph, weights
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind != "matmul" or op.outputs[0] not in draft.graph.producer:
        return None
    rows, w = op.operands
    kind, out = draft.types[w], draft.shape(op.outputs[0])
    if w not in draft.is_weight or len(kind.shape) != 3 or not kind.dtype.is_float or len(out) != 3:
        return None
    experts, k, _ = (d if isinstance(d, int) else 0 for d in kind.shape)
    tokens = out[1]
    if not isinstance(tokens, int) or not experts * k * tokens or out[0] != experts:
        return None
    shares = _shares_of(draft, op.outputs[0], tokens, experts)
    if shares is None or shares not in draft.producer:
        return None
    spread = draft.emit("expand", rows, shape=(experts, tokens, k))
    flat = draft.emit("reshape", spread, shape=(experts * tokens, k))
    product = draft.emit("moe_experts", flat, w, _choices(draft, shares, tokens, experts), distinct=1)
    return draft.emit("reshape", product, shape=out)


def _choices(draft: Draft, shares: ValueName, tokens: int, experts: int) -> ValueName:
    """For each pair of expert and token the expert, or none where the token's share of it is zero."""
    zero = draft.emit("fill", value=0.0, dtype=str(draft.types[shares].dtype), shape=())
    chosen = draft.emit("transpose", draft.emit("ne", shares, zero), perm=(1, 0))
    column = draft.emit("range", start=0, step=1, count=experts, dtype="i64")
    expert = draft.emit("reshape", column, shape=(experts, 1))
    none = draft.emit("fill", value=experts, dtype="i64", shape=())
    return draft.emit("reshape", draft.emit("where", chosen, expert, none), shape=(experts * tokens,))


def _shares_of(draft: Draft, start: ValueName, tokens: int, experts: int) -> ValueName | None:
    """The scatter ``[tokens, experts]`` by which everything that comes of a value is multiplied, row by row."""
    graph, found = draft.graph, set[ValueName]()
    seen, queue = {start}, [start]
    while queue:
        value = queue.pop()
        users = graph.users.get(value, ())
        if not users or value in graph.outputs or len(seen) > MOST_OPS:
            return None
        for op in users:
            if op.kind == "mul" and (shares := _factor(graph, op, value, tokens, experts)) is not None:
                found.add(shares)
            elif _row_by_row(graph, op, value, experts):
                queue += [op.outputs[0]] if op.outputs[0] not in seen else []
                seen.add(op.outputs[0])
            else:
                return None
    return found.pop() if len(found) == 1 else None


def _row_by_row(graph: Graph, op: Op, value: ValueName, experts: int) -> bool:
    """Whether each row of a result is made of the same row of the value alone, and is finite where that is."""
    shape, out = graph.types[value].shape, graph.types[op.outputs[0]].shape
    match op.kind:
        case "matmul":
            w = op.operands[1]
            stacked = len(shape) == 3 and w in graph.weights and graph.types[w].shape[:-2] == (experts,)
            return stacked and op.operands[0] == value
        case "slice":
            return op.attrs["axis"] == len(shape) - 1
        case "reshape":
            return shape[-1] == out[-1]
        case _:
            return (op.kind in FINITE or op.kind == "mul") and out == shape


def _factor(graph: Graph, op: Op, value: ValueName, tokens: int, experts: int) -> ValueName | None:
    """The scatter into zeros that the other operand of a product is: turned once, and reshaped to a column."""
    (other,) = (v for v in op.operands if v != value) if len(set(op.operands)) == 2 else (value,)
    shape, turns = graph.types[other].shape, 0
    rows = graph.types[value].shape[:-1]
    if other == value or shape[-1:] != (1,) or shape[:-1] != rows or graph.types[op.outputs[0]].shape[:-1] != rows:
        return None
    while (maker := graph.producer.get(other)) is not None and maker.kind in ("reshape", "transpose"):
        if maker.kind == "transpose":
            if maker.attrs["perm"] != (1, 0) or graph.types[other].shape != (experts, tokens):
                return None
            turns += 1
        other = maker.operands[0]
    if maker is None or maker.kind != "scatter_elements" or turns != 1 or maker.attrs.get("reduction") != "none":
        return None
    base = graph.producer.get(maker.operands[0])
    zero = base is not None and base.kind == "fill" and base.attrs["value"] == 0
    return other if zero and graph.types[other].shape == (tokens, experts) else None
