"""Collectives: the compiler's closed formulas, the runtime's scans, and published figures side by side.

Each is one line of PEs on a perfect wafer, all ready at cycle 0, with the root at one end (in the middle for a gather).
Formulas are those of `wafercc/targets/cost.py`; the runtime's cycles are those of `wafercc/runtime/fabric.py`, which
knows none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from wafercc.ir.block import ReduceAlgorithm, RegionId
from wafercc.ir.layout import AxisName, Mesh
from wafercc.ir.program import Rect, Region
from wafercc.runtime.fabric import Collectives, Links, Message
from wafercc.runtime.geometry import Geometry, Grid, Lines
from wafercc.runtime.machine import Machine
from wafercc.runtime.tape import Label, Tape, Times
from wafercc.targets import Target, cost, load

LABEL = Label("collective", "bench")
PES = (16, 128, 512)
WORDS = (1, 64, 4096)

# The vendor's fabric simulator (WSE-2), 512 PEs in a row, 4,096 f32 words each: results.txt of
# src/mpi_collectives/reduce_0_pe/reduce_2colors_2phase in github.com/pr0f3ss/SpMM_Cerebras at a962552, which times the
# algorithms of "Near-Optimal Wafer-Scale Reduce" (HPDC'24). The file's 7,218, 10,055 and 8,973 include 50 idle cycles
# before the simulation stops, which are taken off here.
PUBLISHED = {("chain", 0): 7_168, ("two-phase", 2): 10_005, ("two-phase", 32): 8_923}
PUBLISHED_PES, PUBLISHED_WORDS = 512, 4_096


@dataclass(frozen=True, slots=True)
class Row:
    """One collective: cycles by formula, by the runtime, and as published (None where nothing is)."""

    what: str
    pes: int
    words: int
    formula: int
    runtime: int
    published: int | None = None

    @property
    def difference(self) -> float:
        """The formula over the runtime, less one."""
        return self.formula / self.runtime - 1


class Line(NamedTuple):
    """A row of PEs on a fabric that nothing else uses."""

    collectives: Collectives
    lines: Lines
    ready: Times


@cache
def machine() -> Target:
    """The PE and router of wse3 and its meshes; the grid does not matter to a line."""
    return load("mesh:16x16")


def line_of(pes: int) -> Line:
    """A fresh row of PEs, all ready at cycle 0."""
    xs = np.arange(pes, dtype=np.int32)[None]
    region = Region(RegionId("line"), Rect(0, 0, 0, pes, 1), xs, np.zeros_like(xs))
    grid, tape = Grid(pes, 1, 1), Tape(False)
    lines = Geometry(region, grid).lines((AxisName("x0"),), Mesh.of([1], [pes]))
    return Line(Collectives(Machine(machine()), Links(grid, tape), tape), lines, tape.zeros((pes, 1)))


def reduced(pes: int, words: int, algorithm: ReduceAlgorithm, group: int = 0) -> int:
    """When the first PE of a line holds the sum of all."""
    line, per_line = line_of(pes), np.array([words])
    how = (algorithm, 0, group)
    done, _ = line.collectives.all_reduce(line.ready, line.lines, Message(per_line, 1, per_line), how, LABEL)
    return int(done.cycle[0, 0])


def spread(pes: int, words: int) -> int:
    """When the last PE of a line holds what the first one sends."""
    line = line_of(pes)
    done = line.collectives.broadcast(line.ready[0], line.lines, 0, np.array([words]), LABEL)
    return int(done.cycle.max())


def gathered(pes: int, words: int) -> int:
    """When every PE of a line holds the words of all, brought together in its middle."""
    line = line_of(pes)
    each = np.full((pes, 1), words)
    done, _ = line.collectives.all_gather(line.ready, line.lines, each, pes // 2, LABEL)
    return int(done.cycle.max())


def rows(quick: bool) -> Iterator[Row]:
    """Every collective over a few sizes, then the published ones."""
    for pes in PES[:2] if quick else PES:
        for words in WORDS[:2] if quick else WORDS:
            yield from at(pes, words)
    for (algorithm, group), published in PUBLISHED.items():
        pes, words = PUBLISHED_PES, PUBLISHED_WORDS
        if algorithm == "chain":
            formula, kind = cost.chain_reduce(machine(), words, pes), ReduceAlgorithm.CHAIN
        else:
            formula, kind = cost.two_phase_reduce(machine(), words, pes, group), ReduceAlgorithm.TWO_PHASE
        name = f"{algorithm} reduce" + (f", groups of {group}" if group else "")
        yield Row(name, pes, words, formula.total, reduced(pes, words, kind, group), published)


def at(pes: int, words: int) -> Iterator[Row]:
    """Every collective on so many PEs with so many words each."""
    target, group = machine(), cost.best_group(pes)
    chain, tree = cost.chain_reduce(target, words, pes), cost.tree_reduce(target, words, pes)
    two_phase = cost.two_phase_reduce(target, words, pes, group)
    yield Row("chain reduce", pes, words, chain.total, reduced(pes, words, ReduceAlgorithm.CHAIN))
    yield Row("tree reduce", pes, words, tree.total, reduced(pes, words, ReduceAlgorithm.TREE))
    name = f"two-phase reduce, groups of {group}"
    yield Row(name, pes, words, two_phase.total, reduced(pes, words, ReduceAlgorithm.TWO_PHASE, group))
    yield Row("broadcast", pes, words, cost.broadcast(target, words, pes).total, spread(pes, words))
    yield Row("all-gather", pes, words, cost.all_gather(target, words, pes).total, gathered(pes, words))
