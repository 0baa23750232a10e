"""Violation: one broken rule, at one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..ir.program import PlacedProgram
from .machine import Machine

NAMED = 3  # how many PEs a message names before it only counts the rest


@dataclass(frozen=True, slots=True)
class Violation:
    """Which rule is broken (its number in `wafercc.verify`), where, and how."""

    rule: int
    where: str
    problem: str

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.where}: {self.problem}"


Rule = Callable[[PlacedProgram, Machine], Iterator[Violation]]


def pes(x: ArrayLike, y: ArrayLike) -> str:
    """The first few of many PEs, and how many there are: ``PE (3, 4), (3, 5) and 7 more``."""
    xs, ys = np.ravel(x).tolist(), np.ravel(y).tolist()
    named = ", ".join(f"({a}, {b})" for a, b in zip(xs[:NAMED], ys[:NAMED], strict=False))
    more = len(xs) - NAMED
    return f"PE {named}" + (f" and {more} more" if more > 0 else "")
