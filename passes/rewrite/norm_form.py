"""The form that norms have when an exporter spells them out: x times one over the root of its mean square plus
epsilon.

fuse_rms_norm and fuse_layer_norm read it, and absorb the weights that follow. Written by exporters as

    x * reciprocal(sqrt(mean(x^2) + eps))     x * (1 / sqrt(..))     x / sqrt(..)     x * pow(.., -0.5)

with x^2 as pow or product, and with casts to f32 and back around it in half precision.
"""

from __future__ import annotations

from ...ir.graph import Op, ValueName
from .draft import Draft
from .match import is_number, other_operand, over_last, scalar, square_of, uncast, with_number


def normalised(draft: Draft, op: Op) -> tuple[ValueName, float] | None:
    """``(x, epsilon)`` where an op's result is x over the root of (its mean square over the last axis + epsilon)."""
    if op.kind not in ("mul", "div"):
        return None
    a, b = op.operands
    pairs = ((a, b),) if op.kind == "div" else ((a, b), (b, a))
    for x, factor in pairs:
        inside = _rooted(draft, factor) if op.kind == "div" else _rsqrt(draft, factor)
        found = None if inside is None else _mean_square_plus(draft, inside)
        if found is not None and found[0] == x:
            return found
    return None


def absorbed(draft: Draft, op: Op, kind: str, position: int, combine: str) -> ValueName | None:
    """The norm with one more operand, where op combines it with a vector along the last axis and it has none yet.

    The norm may have been cast down in between: kernels compute in f32 and round once, so the cast moves into the
    norm.
    """
    if op.kind == "cast":
        return _cast_into(draft, op, kind)
    if op.kind != combine:
        return None
    for value in op.operands:
        norm = draft.made_by(value, kind)
        vector = other_operand(op, value)
        if norm is None or vector is None or len(norm.operands) > position:
            continue
        width = draft.shape(value)[-1:]
        dtype = draft.types[value].dtype
        if draft.shape(vector) != width or draft.types[vector].dtype != dtype:
            continue
        given = (*norm.inputs, *(None,) * (position - len(norm.inputs)))[:position]
        return draft.emit(kind, *given, vector, **norm.attrs)
    return None


def _cast_into(draft: Draft, op: Op, kind: str) -> ValueName | None:
    """cast(norm(cast(x))) of one narrow type is norm(x), since norms compute in f32 anyway."""
    norm = draft.made_by(op.operands[0], kind)
    if norm is None or len(norm.operands) > 1:
        return None
    x = norm.operands[0]
    source = uncast(draft, x)
    if source == x or draft.types[source] != draft.types[op.outputs[0]]:
        return None
    return draft.emit(kind, source, **norm.attrs)


def _rsqrt(draft: Draft, value: ValueName) -> ValueName | None:
    """``y`` where value is one over the root of y."""
    op = draft.made_by(value, "reciprocal", "div", "pow")
    if op is None:
        return None
    match op.kind:
        case "reciprocal":
            return _rooted(draft, op.operands[0])
        case "div":
            return _rooted(draft, op.operands[1]) if is_number(draft, op.operands[0], 1) else None
        case _:
            return op.operands[0] if is_number(draft, op.operands[1], -0.5) else None


def _rooted(draft: Draft, value: ValueName) -> ValueName | None:
    """``y`` where value is the root of y."""
    op = draft.made_by(value, "sqrt", "pow")
    if op is None or (op.kind == "pow" and not is_number(draft, op.operands[1], 0.5)):
        return None
    return op.operands[0]


def _mean_square_plus(draft: Draft, value: ValueName) -> tuple[ValueName, float] | None:
    """``(x, epsilon)`` where value is the mean square of x over its last axis, plus epsilon."""
    found = with_number(draft, draft.made_by(value, "add"))
    if found is None:
        return None
    mean, epsilon = found
    x = square_of(draft, over_last(draft, mean, "reduce_mean") or _divided_sum(draft, mean))
    return None if x is None else (x, epsilon)


def _divided_sum(draft: Draft, value: ValueName) -> ValueName | None:
    """``x`` where value is the sum of x over its last axis, divided by the length of that axis."""
    op = draft.made_by(value, "div")
    x = None if op is None else over_last(draft, op.operands[0], "reduce_sum")
    return x if x is not None and op is not None and scalar(draft, op.operands[1]) == draft.shape(x)[-1] else None
