"""Regions: are the sizes chosen by default as fast as those one could force on every region?"""

from __future__ import annotations

from dataclasses import dataclass

import wafercc
from wafercc.npz import read_npz

from .commands import Graph

TARGET = "mesh:64x64"
FORCED = (4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Cycles of one graph on mesh:64x64 by default, and with every region forced to n x n; None: does not fit."""

    graph: str
    default: int
    forced: dict[int, int | None]

    @property
    def ratio(self) -> float:
        """Default cycles over those of the best forced size (0 if none fits)."""
        fitting = [cycles for cycles in self.forced.values() if cycles is not None]
        return self.default / min(fitting) if fitting else 0.0


def sizes(graph: Graph, forced: tuple[int, ...] = FORCED) -> Sizes:
    """Compile once by default and once for each forced size."""
    default = _cycles(graph, None)
    assert default is not None, f"{graph.name} does not fit {TARGET}"
    return Sizes(graph.name, default, {side: _cycles(graph, side) for side in forced})


def _cycles(graph: Graph, side: int | None) -> int | None:
    inputs = read_npz(graph.inputs)
    region = None if side is None else (side, side)
    try:
        program = wafercc.compile(graph.model, target=TARGET, inputs_like=inputs, region=region)
    except wafercc.CompileError:
        if side is None:
            raise
        return None
    return program.run({}, timing_only=True).cycles
