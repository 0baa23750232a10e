"""Small questions that rewrite rules ask about values: is this one number, is it x times a number, is it a square.

All look upward from a value, a bounded number of steps, so a rule stays constant time an op.
"""

from __future__ import annotations

import math

from ...ir.graph import Attr, Op, ValueName
from ...ir.ops import elementwise
from .draft import Draft

Number = int | float | bool
ELEMENTWISE = frozenset(spec.kind for spec in elementwise.SPECS)


def scalar(draft: Draft, value: ValueName | None) -> Number | None:
    """The one number that a value holds everywhere, if it is a fill or constant of equal elements known now."""
    op = draft.made_by(value, "fill", "constant")
    if op is None:
        return None
    if op.kind == "fill":
        number = op.attrs["value"]
        return number if isinstance(number, int | float) else None
    return _common(op.attrs["value"])


def _common(value: Attr) -> Number | None:
    """The number that all leaves of nested tuples share."""
    if isinstance(value, int | float):
        return value
    if not isinstance(value, tuple) or not value:
        return None
    first = _common(value[0])
    return first if first is not None and all(_common(v) == first for v in value[1:]) else None


def is_number(draft: Draft, value: ValueName | None, wanted: float, tolerance: float = 0.0) -> bool:
    """Whether a value is this number everywhere, up to a relative tolerance (exporters round constants)."""
    found = scalar(draft, value)
    return found is not None and math.isclose(found, wanted, rel_tol=tolerance, abs_tol=0.0)


def with_number(draft: Draft, op: Op | None) -> tuple[ValueName, float] | None:
    """``(x, number)`` where a commutative op combines x and a number, in either order."""
    if op is None:
        return None
    a, b = op.operands
    for x, other in ((a, b), (b, a)):
        number = scalar(draft, other)
        if number is not None:
            return x, float(number)
    return None


def scaled(draft: Draft, value: ValueName) -> tuple[ValueName, float]:
    """``(x, factor)`` with value = x * factor and the shape of x, through a chain of such products and quotients."""
    factor = 1.0
    while (op := draft.made_by(value, "mul", "div")) is not None:
        if op.kind == "mul":
            found = with_number(draft, op)
        else:
            divisor = scalar(draft, op.operands[1])
            found = (op.operands[0], 1.0 / divisor) if divisor else None
        if found is None or draft.types[found[0]] != draft.types[value]:
            break
        value, factor = found[0], factor * found[1]
    return value, factor


def uncast(draft: Draft, value: ValueName) -> ValueName:
    """The value before casts between float types."""
    while (op := draft.made_by(value, "cast")) is not None and draft.types[op.operands[0]].dtype.is_float:
        value = op.operands[0]
    return value


def other_operand(op: Op, one: ValueName) -> ValueName | None:
    """The operand of a binary op that stands beside ``one``."""
    a, b = op.operands
    return b if a == one else a if b == one else None


def over_last(draft: Draft, value: ValueName | None, kind: str) -> ValueName | None:
    """``x`` where value reduces x over its last axis and keeps that axis."""
    op = draft.made_by(value, kind)
    if op is None:
        return None
    (x,) = op.operands
    last = len(draft.shape(x)) - 1
    return x if op.attrs.get("axes") == (last,) and op.attrs.get("keep") else None


def square_of(draft: Draft, value: ValueName | None) -> ValueName | None:
    """``x`` where value is x * x or x to the power two."""
    op = draft.made_by(value, "mul", "pow")
    if op is None:
        return None
    a, b = op.operands
    if op.kind == "mul":
        return a if a == b else None
    return a if is_number(draft, b, 2) and draft.types[a] == draft.types[op.outputs[0]] else None
