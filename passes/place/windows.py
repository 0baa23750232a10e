"""Windows: CP-SAT rearranges up to four neighbouring regions at a time, all others fixed.

Windows of four are proved optimal in about a tenth of a second where larger ones mostly are not. A window's answer is only a
proposal: each moved region is embedded exactly, and where that fails its size option is struck out and the window solved again.
The proposal is taken if the exact objective falls. The number of windows, not the clock, ends the search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .problem import Problem, Spot, Spots
from .sites import Sites

LARGEST = 4  # regions a window moves
REPAIRS = 3  # times a window is solved again after a proposal did not embed
EFFORT = 0.2  # deterministic time of one solve
MOST_DEAD = 40  # dead cells modelled in one window


@dataclass(frozen=True, slots=True)
class WindowReport:
    """What CP-SAT contributed: windows solved, proved optimal, improved, proposals that did not embed."""

    solved: int = 0
    optimal: int = 0
    improved: int = 0
    refused: int = 0

    def __add__(self, other: WindowReport) -> WindowReport:
        return WindowReport(
            self.solved + other.solved,
            self.optimal + other.optimal,
            self.improved + other.improved,
            self.refused + other.refused,
        )

    def __str__(self) -> str:
        return f"windows {self.solved}, optimal {self.optimal}, improved {self.improved}, refused {self.refused}"


def improve_by_windows(
    problem: Problem, sites: Sites, spots: Spots, count: int, seed: int, bound: int
) -> tuple[Spots, WindowReport]:
    """At most ``count`` windows from a legal placement; the result is legal and never worse. Stops at the bound."""
    total = WindowReport()
    fruitless: set[tuple[int, ...]] = set()
    for number, window in enumerate(_windows(problem, spots)):
        if number == count or problem.doubled_cost(spots) <= bound:
            break
        if window in fruitless:
            continue
        better, report = _one(problem, sites, spots, window, seed)
        total = total + report
        if better is None:
            fruitless.add(window)
        else:
            spots = better
            fruitless.clear()
    return spots, total


def _windows(problem: Problem, spots: Spots) -> Iterator[tuple[int, ...]]:
    """Sets of regions to move: all if they are few, else each region in turn with its nearest, those it talks to first."""
    free = [i for i in range(problem.count) if i not in problem.pins]
    if not free:
        return
    if len(free) <= LARGEST:
        yield tuple(free)
        yield tuple(free)
        return
    for _ in range(2):
        for i in sorted(free, key=lambda i: (-len(problem.partners[i]), i)):
            talks = set(problem.partners[i])
            near = sorted(
                (j for j in free if j != i), key=lambda j: (_apart(spots[i], spots[j]) - (j in talks) * 8, j)
            )
            yield tuple(sorted((i, *near[: LARGEST - 1])))


def _apart(a: Spot, b: Spot) -> int:
    return abs(a.centre[0] - b.centre[0]) + abs(a.centre[1] - b.centre[1])


def _one(
    problem: Problem, sites: Sites, spots: Spots, moving: tuple[int, ...], seed: int
) -> tuple[Spots | None, WindowReport]:
    """Solve one window and make its answer exact."""
    from .model import Size, Window, solve

    box = _box(problem, [spots[i] for i in moving])
    sizes = {i: _sizes(problem, i, spots[i], Size) for i in moving}
    fixed = {j: s for j, s in enumerate(spots) if j not in moving}
    dead = _dead(problem, box)
    report = WindowReport()
    before = problem.doubled_cost(spots)
    for _ in range(1 + REPAIRS):
        window = Window(box, sizes, fixed, dead, {i: spots[i] for i in moving})
        answer = solve(problem, window, seed, EFFORT)
        report = report + WindowReport(solved=1, optimal=int(answer.optimal))
        if not answer.chosen:
            return None, report
        moved = list(spots)
        refused = False
        for i, (x, y, size) in answer.chosen.items():
            spot = sites.fit(x, y, size.w, size.h, problem.shapes[i][size.shape], size.shape)
            if spot is None:
                refused = True
                sizes = {**sizes, i: [s for s in sizes[i] if s != size]}
            else:
                moved[i] = spot
        if not refused:
            if problem.doubled_cost(moved) < before and problem.free_of_overlap(moved):
                return tuple(moved), report + WindowReport(improved=1)
            return None, report
        report = report + WindowReport(refused=1)
        if not all(sizes.values()):
            break
    return None, report


def _sizes(problem: Problem, region: int, spot: Spot, size: type) -> list:  # type: ignore[type-arg]
    """The size options of a region: its present one, and each shape with up to two spare lines."""
    found = {(spot.shape, spot.w, spot.h): spot.detour}
    for index, shape in enumerate(problem.shapes[region]):
        for more_w, more_h in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2)):
            found.setdefault((index, shape.columns + more_w, shape.rows + more_h), more_w + more_h)
    width, height = problem.alive.width, problem.alive.height
    return [
        size(index, w, h, detour, (w, h) != (problem.shapes[region][index].columns, problem.shapes[region][index].rows))
        for (index, w, h), detour in found.items()
        if w <= width and h <= height
    ]


def _box(problem: Problem, spots: list[Spot]) -> tuple[int, int, int, int]:
    """The hull of the moving spots with half a region's room around it."""
    room = max(max(s.w, s.h) for s in spots) // 2 + 2
    x, y = max(0, min(s.x for s in spots) - room), max(0, min(s.y for s in spots) - room)
    right = min(problem.alive.width, max(s.x + s.w for s in spots) + room)
    bottom = min(problem.alive.height, max(s.y + s.h for s in spots) + room)
    return x, y, right - x, bottom - y


def _dead(problem: Problem, box: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Dead cores in the box, and one end of each dead link; none if there are too many to model."""
    x, y, w, h = box
    part = (slice(y, y + h), slice(x, x + w))
    bad = ~problem.alive.core[part]
    bad[:, :-1] |= ~problem.alive.east[part][:, :-1]
    bad[:-1, :] |= ~problem.alive.south[part][:-1, :]
    rows, columns = np.nonzero(bad)
    if len(rows) > MOST_DEAD:
        return []
    return [(int(c) + x, int(r) + y) for r, c in zip(rows, columns, strict=True)]
