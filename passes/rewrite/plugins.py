"""Plugins: rewrites from other packages, by the entry point group ``wafercc.passes``.

    [project.entry-points."wafercc.passes"]
    drop_idle_relu = "acme_passes:DropIdleRelu"

The entry names a rewrite: an instance, a class made without arguments, or a function of (graph, weights), called by the
entry's name. They run after the standard ones, in the order of distribution and name; an attribute ``before`` names the
rewrite before which one runs instead. ``--no-pass`` leaves one out unloaded. Nothing of them is trusted: whatever a
plugin does wrong is one message that names its distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ...errors import CompileError, WaferError
from ...ir.evaluate import check
from ...ir.graph import Graph
from ...ir.weights import Weights
from ..base import Rewrite

GROUP = "wafercc.passes"


@dataclass(frozen=True)
class Plugin:
    """An entry point of another distribution, not loaded yet."""

    name: str
    distribution: str
    version: str
    entry: EntryPoint

    @property
    def where(self) -> str:
        return f"pass {self.name} of {self.distribution} {self.version}"

    def problem(self, message: str) -> CompileError:
        return CompileError(message, where=self.where, hint=f"leave it out with --no-pass {self.name}, or mend it")

    def load(self) -> Guarded:
        """The rewrite itself.

        Raises:
            CompileError: it cannot be imported, is not a rewrite, or goes by another name.
        """
        try:
            found = self.entry.load()
            rewrite = found() if isinstance(found, type) else found
        except Exception as problem:
            raise self.problem(f"cannot be loaded: {_said(problem)}") from problem
        if not callable(rewrite):
            raise self.problem(f"{self.entry.value} is a {type(rewrite).__name__}, not a function of (graph, weights)")
        name = getattr(rewrite, "name", self.name)
        if name != self.name:
            raise self.problem(f"calls itself {name!r}; its entry point says {self.name!r}")
        return Guarded(self.name, rewrite, self)


@dataclass(frozen=True)
class Guarded:
    """A rewrite of a plugin that is held to what rewrites promise."""

    name: str
    rewrite: Any
    plugin: Plugin

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        """What the plugin gives.

        Raises:
            CompileError: it raises, gives something else, or a graph that is malformed or of another interface.
        """
        try:
            given = self.rewrite(graph, weights)
        except Exception as problem:
            raise self.plugin.problem(f"failed: {_said(problem)}") from problem
        match given:
            case (Graph() as after, Weights() as held):
                pass
            case _:
                raise self.plugin.problem(f"gave a {type(given).__name__}, not (Graph, Weights)")
        if after is not graph or held is not weights:
            self._check(graph, after, held)
        return after, held

    def _check(self, before: Graph, after: Graph, held: Weights) -> None:
        try:
            check(after)
        except Exception as problem:
            raise self.plugin.problem(f"made a malformed graph: {_said(problem)}") from problem
        changed = [
            what
            for what in ("inputs", "outputs", "states", "past_max")
            if getattr(before, what) != getattr(after, what)
        ]
        changed += [v for v in (*before.inputs, *before.outputs) if before.types[v] != after.types.get(v)]
        if changed:
            raise self.plugin.problem(f"changed what the model takes or gives: {', '.join(changed)}")
        missing = [w for w in after.weights if w not in held.sources]
        if missing:
            raise self.plugin.problem(f"names weights that have no source: {', '.join(missing)}")


def find_plugins() -> list[Plugin]:
    """The plugins that are installed, in their order."""
    found = []
    for entry in entry_points(group=GROUP):
        dist = entry.dist
        name, version = ("unknown", "") if dist is None else (dist.name, dist.version)
        found.append(Plugin(entry.name, name, version, entry))
    return sorted(found, key=lambda plugin: (plugin.distribution, plugin.name, plugin.entry.value))


def with_plugins(standard: Sequence[Rewrite], plugins: Iterable[Plugin], disabled: frozenset[str]) -> list[Rewrite]:
    """The standard rewrites and those of plugins, in the order in which they run.

    Raises:
        CompileError: a plugin cannot be loaded, takes a name that is taken, or wants to run before what does not exist.
    """
    order: list[Rewrite] = list(standard)
    takers = {rewrite.name: "wafercc" for rewrite in standard}
    for plugin in plugins:
        if plugin.name in disabled:
            continue
        if plugin.name in takers:
            raise plugin.problem(f"its name is taken by a pass of {takers[plugin.name]}")
        takers[plugin.name] = plugin.distribution
        rewrite = plugin.load()
        before = getattr(rewrite.rewrite, "before", None)
        if before is None:
            order.append(rewrite)
            continue
        where = next((i for i, other in enumerate(order) if other.name == before), None)
        if where is None:
            names = ", ".join(dict.fromkeys(other.name for other in order))
            raise plugin.problem(f"wants to run before {before!r}; there are: {names}")
        order.insert(where, rewrite)
    return order


def _said(problem: Exception) -> str:
    """An exception in one line."""
    words = str(problem)
    return words if isinstance(problem, WaferError) else f"{type(problem).__name__}{f': {words}' if words else ''}"
