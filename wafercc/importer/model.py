"""What an import is asked for and what it gives: `Binding` in, `Imported` out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..ir.graph import Graph
from ..ir.weights import Array, Weights


@dataclass(frozen=True)
class Binding:
    """What the user said about sizes; whatever is left open gets a default that `Imported.assumptions` states.

    ``shapes``: whole shapes by input name. ``inputs_like``: arrays whose shapes (and element types) the inputs have.
    ``dims``: values of the exporter's symbols. ``batch`` and ``new_tokens`` bind by role, whatever their symbols are
    called. ``context``: where past lengths are fixed by none of these, the cache holds 0 to ``context - new_tokens``
    tokens when the program runs, and every dimension that depends on it stays affine in ``n_past``.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    inputs_like: Mapping[str, Array] | None = None
    context: int | None = None
    new_tokens: int | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something bound by default: what was assumed, and the flag that changes it."""

    text: str
    flag: str

    def __str__(self) -> str:
        return f"{self.text} ({self.flag})"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a graph came from. ``sha256`` is that of the model file (its external data is not read)."""

    file: str
    producer: str
    opsets: Mapping[str, int]
    sha256: str
    nodes: int


@dataclass(frozen=True)
class Imported:
    """A graph, its unread weights, what was assumed about it, and where it came from.

    ``any_length``: the model takes any number of new tokens after any past, and only a default has said how many.
    """

    graph: Graph
    weights: Weights
    assumptions: tuple[Assumption, ...]
    source: Source
    any_length: bool = False

    def without_numbers(self) -> Imported:
        """The same graph, its weights known by type only."""
        text = "the weights have no numbers: the program can be timed, but not compute values"
        said = Assumption(text, "leave out --weightless")
        return replace(self, weights=self.weights.bare(), assumptions=(*self.assumptions, said))
