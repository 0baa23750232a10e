"""Weights: the numbers behind a graph's weight names, read only when asked for.

A weight is described by its type; its content is a *source* that loads one array. Derived weights (a transposed or
reshaped one) keep a recipe, so folding a transpose reads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import CompileError
from .graph import ValueName

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where one weight's numbers come from. ``load`` returns the whole array; ``None`` for a weightless model."""

    load: Callable[[], Array] | None
    origin: str = ""

    def derive(self, step: Callable[[Array], Array], label: str) -> WeightSource:
        """The same weight after one more step, still unread."""
        load = self.load
        return WeightSource(None if load is None else (lambda: step(load())), f"{label}({self.origin})")


@dataclass(frozen=True)
class Weights:
    """Weight name → source. Loading one never loads another."""

    sources: Mapping[ValueName, WeightSource] = field(default_factory=dict)

    def load(self, name: ValueName) -> Array:
        """The whole array of one weight.

        Raises:
            CompileError: the model carries no numbers for it (its external file is absent).
        """
        load = self.sources[name].load
        if load is None:
            raise CompileError(
                "the model names this weight but carries no numbers for it",
                where=f"weight {name}",
                hint="compile with --weightless to time it only, or put the external data file beside the model",
            )
        return load()

    def bare(self) -> Weights:
        """The same weights without their numbers, as if every file of them were absent."""
        return Weights({name: WeightSource(None, source.origin) for name, source in self.sources.items()})

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> Weights:
        """A store over arrays already in memory."""
        return Weights({ValueName(n): WeightSource(lambda a=a: a, n) for n, a in arrays.items()})  # type: ignore[misc]
