"""Simplify: remove ops that only rename, and join neighbours that do one thing.

Reshape of a reshape, transpose of a transpose, a slice that takes everything or one
operand of a concat, a cast back to where it came from, times one, plus zero, not of not, and expansions that
broadcasting does anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ...ir.dims import Dim, Undecided
from ...ir.dtypes import DType
from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .match import ELEMENTWISE, is_number, scalar


@dataclass(frozen=True)
class Simplify:
    """One rule per kind of op; equal bit by bit, except that x + 0 turns -0.0 into 0.0 and the result does not."""

    name: ClassVar[str] = "simplify"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    found = _RULES[op.kind](draft, op) if op.kind in _RULES else None
    return found or _needless_expand(draft, op)


def _reshape(draft: Draft, op: Op) -> ValueName | None:
    (x,) = op.operands
    if draft.shape(x) == op.attrs["shape"]:
        return x
    inner = draft.made_by(x, "reshape")
    if inner is None:
        return None
    source = inner.operands[0]
    return source if draft.shape(source) == op.attrs["shape"] else draft.emit("reshape", source, **op.attrs)


def _transpose(draft: Draft, op: Op) -> ValueName | None:
    (x,) = op.operands
    perm = permutation(op)
    if perm == tuple(range(len(perm))):
        return x
    inner = draft.made_by(x, "transpose")
    if inner is None:
        return None
    first = permutation(inner)
    both = tuple(first[i] for i in perm)
    return (
        inner.operands[0] if both == tuple(range(len(both))) else draft.emit("transpose", inner.operands[0], perm=both)
    )


def permutation(op: Op) -> tuple[int, ...]:
    """The perm of a transpose: result axis i is operand axis perm[i]."""
    perm = op.attr("perm")
    assert isinstance(perm, tuple)
    return tuple(i for i in perm if isinstance(i, int))


def _expand(draft: Draft, op: Op) -> ValueName | None:
    (x,) = op.operands
    if draft.shape(x) == op.attrs["shape"]:
        return x
    inner = draft.made_by(x, "expand")
    return None if inner is None else draft.emit("expand", inner.operands[0], **op.attrs)


def _slice(draft: Draft, op: Op) -> ValueName | None:
    (x,) = op.operands
    axis, start, step, count = (op.attrs[a] for a in ("axis", "start", "step", "count"))
    assert (
        isinstance(axis, int)
        and not isinstance(start, str | float | tuple)
        and not isinstance(count, str | float | tuple)
    )
    if step != 1:
        return None
    if draft.shape(x)[axis] == count:
        return x
    inner = draft.made_by(x, "slice", "concat")
    if inner is None or inner.attrs["axis"] != axis:
        return None
    if inner.kind == "concat":
        return _slice_of_concat(draft, inner, axis, start, count)
    before = inner.attrs["start"]
    if inner.attrs["step"] != 1 or isinstance(before, str | float | tuple):
        return None
    return draft.emit("slice", inner.operands[0], axis=axis, start=before + start, step=1, count=count)


def _slice_of_concat(draft: Draft, concat: Op, axis: int, start: Dim, count: Dim) -> ValueName | None:
    """A slice that lies inside one operand of a concat."""
    position: Dim = 0
    try:
        for part in concat.operands:
            length = draft.shape(part)[axis]
            if start >= position and start + count <= position + length:
                if count == length:
                    return part
                return draft.emit("slice", part, axis=axis, start=start - position, step=1, count=count)
            position = position + length
    except Undecided:
        pass
    return None


def _concat(draft: Draft, op: Op) -> ValueName | None:
    """An operand without elements adds nothing (a cache that is empty in this entry)."""
    axis = op.attrs["axis"]
    assert isinstance(axis, int)
    parts = [v for v in op.operands if draft.shape(v)[axis] != 0]
    if len(parts) == 1:
        return parts[0]
    return draft.emit("concat", *parts, **op.attrs) if parts and len(parts) < len(op.operands) else None


_WIDENS = {
    (DType.F16, DType.F32), (DType.BF16, DType.F32),
    (DType.F16, DType.F64), (DType.BF16, DType.F64), (DType.F32, DType.F64),
    (DType.I8, DType.I32), (DType.U8, DType.I32), (DType.I8, DType.I64), (DType.U8, DType.I64), (DType.I32,
    DType.I64), (DType.I32, DType.F64),
}  # fmt: skip


def _cast(draft: Draft, op: Op) -> ValueName | None:
    """A cast to the same type, or after one that lost nothing."""
    (x,) = op.operands
    here, wanted = draft.types[x].dtype, draft.types[op.outputs[0]].dtype
    if here == wanted:
        return x
    inner = draft.made_by(x, "cast")
    if inner is None:
        return None
    source = inner.operands[0]
    first = draft.types[source].dtype
    if first is not DType.BOOL and (first, here) not in _WIDENS:
        return None
    return source if first == wanted else draft.emit("cast", source, to=wanted)


def _neutral(left: bool, number: float) -> Callable[[Draft, Op], ValueName | None]:
    """The rule of an op that leaves x alone if the other operand is this number (on either side where ``left``)."""

    def rule(draft: Draft, op: Op) -> ValueName | None:
        a, b = op.operands
        for x, other in ((a, b), (b, a)) if left else ((a, b),):
            if is_number(draft, other, number) and draft.types[x] == draft.types[op.outputs[0]]:
                return x
        return None

    return rule


def _logic(neutral: bool) -> Callable[[Draft, Op], ValueName | None]:
    """``and`` with True, ``or`` with False, or of x with itself, is x; the other constant decides alone."""

    def rule(draft: Draft, op: Op) -> ValueName | None:
        a, b = op.operands
        found = draft.types[op.outputs[0]]
        if a == b:
            return a
        for x, other in ((a, b), (b, a)):
            constant = scalar(draft, other)
            if constant is None:
                continue
            if bool(constant) != neutral:
                return draft.emit("fill", value=not neutral, dtype=found.dtype, shape=found.shape)
            return x if draft.types[x] == found else draft.emit("expand", x, shape=found.shape)
        return None

    return rule


def _involution(draft: Draft, op: Op) -> ValueName | None:
    """not not x, neg neg x."""
    inner = draft.made_by(op.operands[0], op.kind)
    return None if inner is None else inner.operands[0]


def _needless_expand(draft: Draft, op: Op) -> ValueName | None:
    """An expand, or a fill of many elements, whose reader broadcasts by itself."""
    first = _BROADCASTS.get(op.kind)
    inputs, changed = list(op.inputs), False
    for i, value in enumerate(op.inputs) if first is not None else ():
        source = draft.made_by(value, "expand", "fill") if first is not None and i >= first else None
        if source is None or source.attrs["shape"] == ():
            continue
        if source.kind == "expand":
            smaller = source.operands[0]
        else:
            smaller = draft.emit("fill", **{**source.attrs, "shape": ()})
        trial = (*inputs[:i], smaller, *inputs[i + 1 :])
        if draft.infer(op.kind, trial, dict(op.attrs)) == draft.types[op.outputs[0]]:
            inputs, changed = list(trial), True
    return draft.emit(op.kind, *inputs, **op.attrs) if changed else None


# Kinds that broadcast, with the first operand that may.
_BROADCASTS = dict.fromkeys(ELEMENTWISE, 0) | {"matmul": 0, "attention": 3, "rope": 1}

_RULES: dict[str, Callable[[Draft, Op], ValueName | None]] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "slice": _slice,
    "concat": _concat,
    "cast": _cast,
    "add": _neutral(True, 0),
    "sub": _neutral(False, 0),
    "mul": _neutral(True, 1),
    "div": _neutral(False, 1),
    "pow": _neutral(False, 1),
    "and": _logic(True),
    "or": _logic(False),
    "not": _involution,
    "neg": _involution,
}
