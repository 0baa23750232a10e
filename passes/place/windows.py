"""Windows: CP-SAT rearranges up to four neighbouring regions at a time, all others fixed.

Windows of four are proved optimal in about a tenth of a second where larger ones mostly are not. A window's answer
is only a proposal: each moved region is embedded exactly, and one that does not embed takes its best spot beside the
others. The proposal is taken if the exact objective falls. Deterministic effort, not the clock, ends the search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .model import Size, Window, solve
from .moves import best_spot
from .problem import Problem, Spot, Spots
from .sites import Sites

LARGEST = 4  # regions a window moves
EFFORT = 0.15  # deterministic time of one solve; not seconds
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
    problem: Problem, sites: Sites, spots: Spots, effort: float, seed: int, bound: int
) -> tuple[Spots, WindowReport]:
    """Windows from a legal placement until ``effort`` is spent or the bound is met; legal and never worse."""
    total = WindowReport()
    fruitless: set[tuple[int, ...]] = set()
    for window in _windows(problem, spots):
        if effort <= 0 or problem.doubled_cost(spots) <= bound:
            break
        if window in fruitless:
            continue
        better, report, spent = _one(problem, sites, spots, window, seed)
        total, effort = total + report, effort - spent
        if better is None:
            fruitless.add(window)
        else:
            spots = better
            fruitless.clear()
    return spots, total


def _windows(problem: Problem, spots: Spots) -> Iterator[tuple[int, ...]]:
    """Sets of regions to move: all if they are few, else each region in turn with its nearest partners."""
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
            near = sorted((j for j in free if j != i), key=lambda j: (_apart(spots[i], spots[j]) - (j in talks) * 8, j))
            yield tuple(sorted((i, *near[: LARGEST - 1])))


def _apart(a: Spot, b: Spot) -> int:
    return abs(a.centre[0] - b.centre[0]) + abs(a.centre[1] - b.centre[1])


def _one(
    problem: Problem, sites: Sites, spots: Spots, moving: tuple[int, ...], seed: int
) -> tuple[Spots | None, WindowReport, float]:
    """Solve one window and make its answer exact; None if that is no better. Also the solver's effort."""
    box = _box(problem, [spots[i] for i in moving])
    sizes = {i: _sizes(problem, i, spots[i]) for i in moving}
    fixed = {j: s for j, s in enumerate(spots) if j not in moving}
    window = Window(box, sizes, fixed, _dead(problem, box), {i: spots[i] for i in moving})
    answer = solve(problem, window, seed, EFFORT)
    report = WindowReport(solved=1, optimal=int(answer.optimal))
    if not answer.chosen or answer.doubled_bound >= problem.doubled_cost(spots):
        return None, report, answer.effort
    moved = dict(fixed)
    homeless = []
    for i, (x, y, size) in answer.chosen.items():
        spot = sites.fit(x, y, size.w, size.h, problem.shapes[i][size.shape], size.shape)
        if spot is None:
            homeless.append(i)
        else:
            moved[i] = spot
    for i in homeless:
        spot = best_spot(problem, sites, i, moved)
        if spot is None:
            return None, report + WindowReport(refused=1), answer.effort
        moved[i] = spot
    found = tuple(moved[i] for i in range(problem.count))
    report = report + WindowReport(refused=int(bool(homeless)))
    if problem.doubled_cost(found) < problem.doubled_cost(spots) and problem.free_of_overlap(found):
        return found, report + WindowReport(improved=1), answer.effort
    return None, report, answer.effort


def _sizes(problem: Problem, region: int, spot: Spot) -> list[Size]:
    """The size options of a region: each shape without spare lines, and with those it has now or one each way."""
    shapes = problem.shapes[region]
    now = (spot.w - shapes[spot.shape].columns, spot.h - shapes[spot.shape].rows)
    found = {(spot.shape, spot.w, spot.h): spot.detour}
    for index, shape in enumerate(shapes):
        spares = ((0, 0), now) if index != spot.shape or now == (0, 0) else ((0, 0), (1, 0), (0, 1), (1, 1))
        for more_w, more_h in spares:
            found.setdefault((index, shape.columns + more_w, shape.rows + more_h), more_w + more_h)
    return [
        Size(index, w, h, detour, spare=(w, h) != (shapes[index].columns, shapes[index].rows))
        for (index, w, h), detour in found.items()
        if w <= problem.alive.width and h <= problem.alive.height
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
