"""The runner of Graph → Graph rewrites: order, rounds, checking, timing and switching off by name.

A rewrite is a frozen dataclass, its options as fields, that turns a graph and its weights into a graph and weights
that compute the same; where it changes nothing it returns the very same objects. The runner applies a tuple of them
in order, again and again until a whole round changes nothing, and checks every graph that a rewrite changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

from ..ir.evaluate import check
from ..ir.graph import Graph
from ..ir.weights import Weights

# The standard rewrites settle within four rounds on every graph seen; a bound keeps two that undo each other finite.
ROUNDS = 8


class Rewrite(Protocol):
    """A named function from a graph to a graph that computes the same values."""

    name: ClassVar[str]

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]: ...


class PassRun(NamedTuple):
    """One application of one rewrite: how long it took and what it did to the number of ops."""

    name: str
    seconds: float
    ops_before: int
    ops_after: int


class Rewritten(NamedTuple):
    """The graph and weights after all rewrites, and the runs that led there in order."""

    graph: Graph
    weights: Weights
    runs: tuple[PassRun, ...]


def run_rewrites(
    graph: Graph,
    weights: Weights,
    passes: Sequence[Rewrite],
    disabled: frozenset[str] = frozenset(),
    *,
    checked: bool = __debug__,
    seen: Callable[[str, Graph], None] | None = None,
) -> Rewritten:
    """Apply the rewrites in order, in rounds, until a round changes nothing.

    ``disabled`` names rewrites to leave out; the graph computes the same without any of them. With ``checked`` every
    changed graph is checked; ``seen(name, graph)`` is called with it, for printing.

    Raises:
        ImportFailed: a rewrite made a malformed graph (a bug), found by ``check``.
    """
    chosen = [p for p in passes if p.name not in disabled]
    runs: list[PassRun] = []
    for _ in range(ROUNDS):
        before_round = graph, weights
        for rewrite in chosen:
            before, start = graph, time.perf_counter()
            graph, weights = rewrite(graph, weights)
            runs.append(PassRun(rewrite.name, time.perf_counter() - start, len(before.ops), len(graph.ops)))
            if graph is not before:
                if checked:
                    check(graph)
                if seen is not None:
                    seen(rewrite.name, graph)
        if graph is before_round[0] and weights is before_round[1]:
            break
    return Rewritten(graph, weights, tuple(runs))
