"""Fuse GELU: x/2 * (1 + tanh(0.79788 * (x + 0.044715 * x^3))) and x/2 * (1 + erf(x / sqrt 2)) become one gelu."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .match import is_number, other_operand, scalar, scaled, square_of, with_number

ROUNDED = 1e-3  # constants as exporters write them: 0.7978845834732056, 0.79788, in half precision 0.798


@dataclass(frozen=True)
class FuseGelu:
    """Equal up to rounding of the constants, by one part in a thousand at most."""

    name: ClassVar[str] = "fuse_gelu"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    """Looks for the gate 1 + tanh(..) or 1 + erf(..) among the factors of a product, then for half of x in the rest."""
    if op.kind != "mul":
        return None
    for gate, rest in _gates(draft, op):
        found = _argument(draft, gate)
        if found is not None and _is_half_of(draft, rest, found[0]):
            x, form = found
            return draft.emit("gelu", x, approximate=form)
    return None


def _gates(draft: Draft, op: Op) -> Iterator[tuple[Op, tuple[ValueName, ...]]]:
    """Each sum among the factors of a product, also one product deeper, with the factors beside it."""
    a, b = op.operands
    for near, far in ((a, b), (b, a)):
        gate = draft.made_by(near, "add")
        if gate is not None:
            yield gate, (far,)
        inner = draft.made_by(near, "mul")
        for value in inner.operands if inner is not None else ():
            gate, beside = draft.made_by(value, "add"), other_operand(inner, value) if inner is not None else None
            if gate is not None and beside is not None:
                yield gate, (far, beside)


def _argument(draft: Draft, gate: Op) -> tuple[ValueName, str] | None:
    """``(x, form)`` where a sum is 1 + tanh(.. x ..) or 1 + erf(x / sqrt 2)."""
    one = with_number(draft, gate)
    step = draft.made_by(one[0], "tanh", "erf") if one is not None and one[1] == 1 else None
    if step is None:
        return None
    inside, factor = scaled(draft, step.operands[0])
    if step.kind == "erf":
        return (inside, "none") if math.isclose(factor, math.sqrt(0.5), rel_tol=ROUNDED) else None
    if not math.isclose(factor, math.sqrt(2 / math.pi), rel_tol=ROUNDED):
        return None
    x = _cubic(draft, inside)
    return None if x is None else (x, "tanh")


def _cubic(draft: Draft, value: ValueName) -> ValueName | None:
    """``x`` where value is x + 0.044715 x^3, or x * (1 + 0.044715 x^2)."""
    op = draft.made_by(value, "add", "mul")
    if op is None:
        return None
    for x in op.operands:
        other = other_operand(op, x)
        if other is None or other == x:
            continue
        if op.kind == "add":
            cube, factor = scaled(draft, other)
            fits = _is_cube(draft, cube, x)
        else:
            one = with_number(draft, draft.made_by(other, "add"))
            square, factor = scaled(draft, one[0]) if one is not None and one[1] == 1 else (other, 0.0)
            fits = square_of(draft, square) == x
        if fits and math.isclose(factor, 0.044715, rel_tol=ROUNDED):
            return x
    return None


def _is_cube(draft: Draft, value: ValueName, x: ValueName) -> bool:
    op = draft.made_by(value, "pow", "mul")
    if op is None:
        return False
    a, b = op.operands
    if op.kind == "pow":
        return a == x and is_number(draft, b, 3)
    return (a == x and square_of(draft, b) == x) or (b == x and square_of(draft, a) == x)


def _is_half_of(draft: Draft, factors: tuple[ValueName, ...], x: ValueName) -> bool:
    """Whether these factors multiply to x / 2."""
    product, found = 1.0, 0
    for value in factors:
        number = scalar(draft, value)
        base, factor = scaled(draft, value) if value != x and number is None else (value, 1.0)
        if number is not None:
            product *= number
        elif base == x:
            product, found = product * factor, found + 1
        else:
            return False
    return found == 1 and product == 0.5
