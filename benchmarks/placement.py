"""Placement of regions of free shape on a full wafer with defects, on the synthetic problems.

``python -m benchmarks.placement [--graph moe] [--regions 20] [--full 85] [--map 2]`` runs a part; each option may be
given several times. A line stands for one graph, size and utilisation: means over the defect maps, with the range of
the gap to the lower bound, and the worst seconds. Seconds are CPU time, which on a quiet machine is what one waits, as
all of it is one thread. Exit 1 if a bar is missed: every case legal by a check that shares no code with the placer,
never worse than the snake, at least 5 % below it on fan-out from 20 regions, none below its lower bound, 20 s each,
and the same rectangles when a case is placed again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from wafercc.passes.place.area import AreaProblem, AreaReport, PlaceAreas

from . import synthetic
from .bars import Bar
from .tables import console, show, show_bars

GRAPHS: tuple[synthetic.Graph, ...] = ("chain", "moe")
REGIONS = (5, 20, 40, 100)
PERCENT_FULL = (60, 85, 95)
MAPS = tuple(range(len(synthetic.DEAD_CORES)))
SECONDS = 20.0
FAN_OUT_REGIONS, FAN_OUT_RATIO = 20, 0.95


@dataclass(frozen=True, slots=True)
class Case:
    """One problem as it was placed. ``repeats``: whether a second run gave the same; None if there was none."""

    graph: str
    regions: int
    percent_full: int
    report: AreaReport
    legal: bool
    cpu_seconds: float
    repeats: bool | None

    @property
    def over_snake(self) -> float:
        """Objective over the snake's; 0 where no snake is legal."""
        return self.report.objective / self.report.snake if self.report.snake else 0.0


@dataclass(frozen=True, slots=True)
class Subset:
    """Which problems are placed."""

    graphs: Sequence[synthetic.Graph] = GRAPHS
    regions: Sequence[int] = REGIONS
    percents: Sequence[int] = PERCENT_FULL
    maps: Sequence[int] = MAPS


QUICK = Subset(("moe",), (5,), (60,), (1,))


def rows(subset: Subset) -> Iterator[list[Case]]:
    """For each graph, size and utilisation the cases of all maps; the first of each graph and size is run twice."""
    for graph, regions, percent in product(subset.graphs, subset.regions, subset.percents):
        twice = subset.maps[0] if percent == subset.percents[0] else None
        yield [place(graph, regions, percent, number, number == twice) for number in subset.maps]


def place(graph: synthetic.Graph, regions: int, percent_full: int, number: int, twice: bool) -> Case:
    """Place one problem."""
    problem = synthetic.problem(graph, regions, percent_full / 100, number)
    start = time.process_time()
    placement = PlaceAreas()(problem)
    seconds = time.process_time() - start
    legal = is_legal(problem, placement.rects)
    repeats = np.array_equal(PlaceAreas()(problem).rects, placement.rects) if twice else None
    return Case(graph, regions, percent_full, placement.report, legal, seconds, repeats)


def is_legal(problem: AreaProblem, rects: synthetic.Ints) -> bool:
    """Whether rectangles are inside, apart, and hold their cores, from the definitions alone."""
    taken = np.zeros(problem.live.shape, np.int64)
    for (x, y, w, h), needed in zip(rects.tolist(), problem.needed.tolist(), strict=True):
        if min(x, y) < 0 or min(w, h) < 1 or y + h > taken.shape[0] or x + w > taken.shape[1]:
            return False
        taken[y : y + h, x : x + w] += 1
        fullest_first = np.sort(problem.live[y : y + h, x : x + w].sum(axis=1))[::-1]
        if (fullest_first * np.arange(1, h + 1)).max() < needed:
            return False
    return int(taken.max()) <= 1


def bars(cases: Sequence[Case]) -> list[Bar]:
    """What all cases together are held against."""
    fan_out = [c for c in cases if c.graph == "moe" and c.regions >= FAN_OUT_REGIONS]
    found = [
        Bar("placement, illegal cases", sum(not c.legal for c in cases), 0, "{:.0f}"),
        Bar("placement over snake, worst", max(c.over_snake for c in cases), 1.0, "{:.3f}"),
        Bar("placement, lower bound over objective, worst", max(1 / (1 + c.report.gap) for c in cases), 1.0, "{:.3f}"),
        Bar("placement, repeats that differ", sum(c.repeats is False for c in cases), 0, "{:.0f}"),
        Bar("placement, slowest", max(c.cpu_seconds for c in cases), SECONDS),
    ]
    if fan_out:
        worst = max(c.over_snake for c in fan_out)
        found.append(Bar("placement over snake, fan-out of 20 and more, worst", worst, FAN_OUT_RATIO, "{:.3f}"))
    return found


TITLE = "Placement on 762x1172: objectives are thousand cycles, means over the defect maps"
HEAD = (
    *("graph", ">regions", ">full", ">snake", ">strips", ">objective", ">bound", ">gap", ">gap range"),
    *(">below snake", ">solver share", ">s of CPU"),
)


def row(cases: Sequence[Case]) -> tuple[str, ...]:
    """One line of the table."""
    reports = [case.report for case in cases]
    objectives = zip(*((r.snake, r.strips, r.objective, r.bound) for r in reports), strict=True)
    means = [np.mean([np.nan if cost is None else cost for cost in costs]) / 1000 for costs in objectives]
    gaps = [r.gap for r in reports]
    first = cases[0]
    return (
        *(first.graph, str(first.regions), f"{first.percent_full} %", *(f"{mean:.1f}" for mean in means)),
        *(f"{np.mean(gaps):.1%}", f"{min(gaps):.1%}..{max(gaps):.1%}"),
        f"{np.mean([1 - c.over_snake for c in cases]):.1%}",
        f"{np.mean([r.solver_share for r in reports]):.0%}",
        f"{max(c.cpu_seconds for c in cases):.1f}",
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run a part, or all, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--graph", action="append", choices=GRAPHS)
    parser.add_argument("--regions", action="append", type=int, choices=REGIONS)
    parser.add_argument("--full", action="append", type=int, choices=PERCENT_FULL, help="per cent")
    parser.add_argument("--map", action="append", type=int, choices=MAPS)
    asked = parser.parse_args(words)
    subset = Subset(asked.graph or GRAPHS, asked.regions or REGIONS, asked.full or PERCENT_FULL, asked.map or MAPS)
    found = list(rows(subset))
    measured = bars([case for cases in found for case in cases])
    out = console()
    show(out, TITLE, HEAD, map(row, found))
    show_bars(out, measured)
    return 0 if all(bar.holds for bar in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
