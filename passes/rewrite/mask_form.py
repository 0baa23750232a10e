"""The forms that attention masks have: which positions see which, as one bool value.

Exporters turn a bool mask into numbers that are added to the scores: 0 where a query sees a key and the lowest finite
number, or minus infinity, where it does not. The attention op takes the bool mask itself.
"""

from __future__ import annotations

from ...ir.dtypes import DType
from ...ir.graph import Op, ValueName
from .draft import Draft
from .match import is_number, over_last, scalar, with_number

# At and below this a masked score's weight underflows to 0 in any precision, unless the whole row is as low.
LOW = -1e4
MOVES = ("reshape", "expand", "transpose", "slice", "cast")


def sees(draft: Draft, mask: ValueName) -> ValueName | None:
    """The bool mask (true where it sees) behind an additive mask, or ``None`` where it is not of that form."""
    op = draft.made_by(mask, "where", "mul", "add", *MOVES)
    if op is None:
        return None
    match op.kind:
        case "where":
            condition, a, b = op.operands
            if is_number(draft, a, 0) and is_low(draft, b):
                return _shaped(draft, condition, mask)
            if is_number(draft, b, 0) and is_low(draft, a):
                return _shaped(draft, negated(draft, condition), mask)
            return None
        case "mul":
            found = with_number(draft, op)
            hidden = _as_bool(draft, found[0]) if found is not None and found[1] <= LOW else None
            return None if hidden is None else negated(draft, hidden)
        case "add":
            a, b = op.operands
            left = sees(draft, a)
            right = None if left is None else sees(draft, b)
            return None if left is None or right is None else draft.emit("and", left, right)
        case _:
            return _moved(draft, op)


def is_low(draft: Draft, value: ValueName) -> bool:
    """Whether a value is everywhere so low a number that adding it hides a score."""
    number = scalar(draft, value)
    return number is not None and number <= LOW


def negated(draft: Draft, value: ValueName) -> ValueName:
    """not value, or what value itself is the negation of."""
    op = draft.made_by(value, "not")
    return op.operands[0] if op is not None else draft.emit("not", value)


def sees_nothing(draft: Draft, value: ValueName) -> ValueName | None:
    """``mask`` where value says, for each row, that no key of the bool mask is seen: sum(cast(mask)) < 1."""
    op = draft.made_by(value, "lt", "eq", "expand")
    if op is None:
        return None
    if op.kind == "expand":
        return sees_nothing(draft, op.operands[0])
    total, limit = op.operands
    if not is_number(draft, limit, 1 if op.kind == "lt" else 0):
        return None
    return _as_bool(draft, over_last(draft, total, "reduce_sum"))


def _shaped(draft: Draft, condition: ValueName, mask: ValueName) -> ValueName | None:
    """The condition of a choice between two numbers, if they do not give the choice a larger shape."""
    return condition if draft.shape(condition) == draft.shape(mask) else None


def _as_bool(draft: Draft, value: ValueName | None) -> ValueName | None:
    """The bool value behind numbers 0 and 1: cast(b), or 1 - cast(b) as its negation."""
    op = draft.made_by(value, "cast", "sub")
    if op is None:
        return None
    if op.kind == "cast":
        source = op.operands[0]
        return source if draft.types[source].dtype is DType.BOOL else _as_bool(draft, source)
    one, inner = op.operands
    found = (
        _as_bool(draft, inner)
        if is_number(draft, one, 1) and draft.shape(inner) == draft.shape(op.outputs[0])
        else None
    )
    return None if found is None else negated(draft, found)


def _moved(draft: Draft, op: Op) -> ValueName | None:
    """The bool mask behind a mask that was reshaped, cut or cast to another float type."""
    (x,) = op.operands
    if op.kind == "cast" and not draft.types[x].dtype.is_float:
        return None
    seen = sees(draft, x)
    if seen is None or op.kind == "cast":
        return seen
    return draft.emit(op.kind, seen, **op.attrs)
