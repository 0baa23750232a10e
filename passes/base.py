"""The runner of Graph → Graph rewrites: order, rounds, checking, timing and switching off by name.

A rewrite is a frozen dataclass, its options as fields, that turns a graph and its weights into a graph and weights
that compute the same; where it changes nothing it returns the very same objects. The runner applies a tuple of them
in order, again and again until a whole round changes nothing, and checks what comes out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ..errors import ImportFailed
from ..ir.evaluate import check
from ..ir.graph import Graph
from ..ir.weights import Weights

# The standard rewrites settle within four rounds on every graph seen; a bound keeps two that undo each other finite.
ROUNDS = 8


class Rewrite(Protocol):
    """A named function from a graph to a graph that computes the same values."""

    @property
    def name(self) -> str: ...

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
    checked: bool = False,
    seen: Callable[[str, Graph, Graph], None] | None = None,
) -> Rewritten:
    """Apply the rewrites in order, in rounds, until a round changes nothing.

    ``disabled`` names rewrites to leave out; the graph computes the same without any. The last graph is checked;
    with ``checked`` every changed one is, which names the rewrite at fault: a malformed graph is a bug of ours, an
    AssertionError. ``seen(name, before, after)`` is called with each changed graph, for printing.
    """
    chosen = [p for p in passes if p.name not in disabled]
    runs: list[PassRun] = []
    given = graph
    for _ in range(ROUNDS):
        before_round = graph, weights
        for rewrite in chosen:
            before, start = graph, time.perf_counter()
            graph, weights = rewrite(graph, weights)
            runs.append(PassRun(rewrite.name, time.perf_counter() - start, len(before.ops), len(graph.ops)))
            if graph is not before:
                if checked:
                    _check(graph, rewrite.name)
                if seen is not None:
                    seen(rewrite.name, before, graph)
        if graph is before_round[0] and weights is before_round[1]:
            break
    if graph is not given and not checked:
        _check(graph, "one of the rewrites")
    return Rewritten(graph, weights, tuple(runs))


def _check(graph: Graph, name: str) -> None:
    try:
        check(graph)
    except ImportFailed as fault:
        raise AssertionError(f"{name} made a malformed graph: {fault}") from fault
