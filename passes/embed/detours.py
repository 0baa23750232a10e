"""Detours: join the neighbours of a mesh whose standard paths are broken, each by a short way around.

A way is found by Dijkstra's search over the working links near the gap, inside the rectangle. It never meets its own
line elsewhere and shares no router with another detour, so no line crosses itself. Parallel lines that meet need
colours of their own: so that two classes suffice, a way meets only lines an odd number of lines away, and of equally
short ways it takes the one through fewest routers of any.

Cost: O(PEs) to find the gaps; a search over a few dozen routers for each.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...ir.program import Detour
from ..route.lines import Along

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Router = tuple[int, int]  # (x, y)


@dataclass(frozen=True, slots=True)
class Gap:
    """Two logical neighbours whose standard path is broken: down from ``start`` to the row of ``goal``, then along."""

    along: Along
    row: int
    column: int
    start: Router
    goal: Router

    def __str__(self) -> str:
        return f"PE ({self.row}, {self.column}) and the next along {self.along}"

    @property
    def line(self) -> int:
        return self.row if self.along == "x" else self.column

    @property
    def hops(self) -> int:
        return abs(self.goal[0] - self.start[0]) + self.goal[1] - self.start[1]

    def mark_broken(self, east: Bools, south: Bools, real_east: Bools, real_south: Bools) -> None:
        """Let the links of the path that do not really work count as broken."""
        (x, y), (goal_x, goal_y) = self.start, self.goal
        left, right = min(x, goal_x), max(x, goal_x)
        south[y:goal_y, x] &= real_south[y:goal_y, x]
        east[goal_y, left:right] &= real_east[goal_y, left:right]


def bridge(xs: Ints, ys: Ints, east: Bools, south: Bools, most: int) -> tuple[tuple[Detour, ...], list[Gap]]:
    """Detours of at most ``most`` extra hops for all neighbours whose path is broken, and the gaps left without one."""
    detours: list[Detour] = []
    left: list[Gap] = []
    taken: set[Router] = set()
    for along in ("x", "y"):
        gaps = _gaps(xs, ys, east, south, along)
        if not gaps:
            continue
        owner = _owners(xs, ys, east.shape[0], south.shape[1], along)
        for gap in gaps:
            path = _way(gap, taken.union(_own(gap, xs, ys, most // 2)), owner, east, south, gap.hops + most)
            if path is None:
                left.append(gap)
                continue
            taken.update(path[1:-1])
            detours.append(Detour(along, gap.row, gap.column, np.array(path)))
    return tuple(detours), left


def _gaps(xs: Ints, ys: Ints, east: Bools, south: Bools, along: Along) -> list[Gap]:
    """The broken pairs of one direction, in order. A stretch is whole if it counts no broken link."""
    broken_east = np.zeros((east.shape[0], east.shape[1] + 1), np.int64)
    np.cumsum(~east, axis=1, out=broken_east[:, 1:])
    if along == "x":
        start, goal = (xs[:, :-1], ys[:, :-1]), (xs[:, 1:], ys[:, 1:])
        cut = broken_east[start[1], start[0]] != broken_east[goal[1], goal[0]]
    else:
        broken_south = np.zeros((south.shape[0] + 1, south.shape[1]), np.int64)
        np.cumsum(~south, axis=0, out=broken_south[1:])
        start, goal = (xs[:-1], ys[:-1]), (xs[1:], ys[1:])
        cut = broken_south[start[1], start[0]] != broken_south[goal[1], start[0]]
        cut |= broken_east[goal[1], start[0]] != broken_east[goal[1], goal[0]]
    rows, columns = (at.tolist() for at in np.nonzero(cut))
    ends = ((axis[cut].tolist() for axis in end) for end in (start, goal))
    starts, goals = (list(zip(*end, strict=True)) for end in ends)
    return [Gap(along, *each) for each in zip(rows, columns, starts, goals, strict=True)]


def _owners(xs: Ints, ys: Ints, height: int, width: int, along: Along) -> Ints:
    """``[y, x]``: the line of this direction that passes there (of jogged columns, on its way down), -1 for none."""
    owner = np.full((height, width), -1)
    if along == "x":
        x = np.arange(width)
        inside = (x >= xs[:, :1]) & (x <= xs[:, -1:])
        owner[ys[:, 0]] = np.where(inside, np.arange(len(xs))[:, None], -1)
        return owner
    down = np.arange(ys[0, 0], ys[-1, 0] + 1)
    upper = np.searchsorted(ys[:, 0], down, side="right") - 1
    owner[down[:, None], xs[upper]] = np.arange(xs.shape[1])
    return owner


def _own(gap: Gap, xs: Ints, ys: Ints, margin: int) -> Iterator[Router]:
    """Routers that the gap's own line passes outside it, as far as a way around could come."""
    if gap.along == "x":
        (left, y), (right, _) = gap.start, gap.goal
        yield from ((x, y) for x in (*range(left - margin, left), *range(right + 1, right + margin + 1)))
        return
    for row in range(max(0, gap.row - margin), min(len(xs) - 1, gap.row + margin + 1)):
        if row != gap.row:
            (x, goal_x), (y, goal_y) = (line[row : row + 2, gap.column].tolist() for line in (xs, ys))
            yield from ((x, between) for between in range(y, goal_y))
            yield from ((between, goal_y) for between in range(min(x, goal_x), max(x, goal_x) + 1))


def _way(gap: Gap, closed: set[Router], owner: Ints, east: Bools, south: Bools, most: int) -> list[Router] | None:
    """The shortest way of at most ``most`` hops, through fewest routers of other lines, the first of equals."""
    before: dict[Router, Router] = {}
    heap: list[tuple[int, int, Router, Router]] = [(0, 0, gap.start, gap.start)]
    while heap:
        hops, met, at, last = heapq.heappop(heap)
        if at in before:
            continue
        before[at] = last
        if at == gap.goal:
            path = [at]
            while path[-1] != gap.start:
                path.append(before[path[-1]])
            return path[::-1]
        for there in _reached(at, east, south):
            far = abs(gap.goal[0] - there[0]) + abs(gap.goal[1] - there[1])
            if hops + 1 + far > most or there in before or (there in closed and there != gap.goal):
                continue
            lines = int(owner[there[1], there[0]]) - gap.line
            if lines == 0 or owner[there[1], there[0]] < 0:
                heapq.heappush(heap, (hops + 1, met, there, at))
            elif lines % 2:
                heapq.heappush(heap, (hops + 1, met + 1, there, at))
    return None


def _reached(at: Router, east: Bools, south: Bools) -> Iterator[Router]:
    """The routers one working link away."""
    x, y = at
    if x < east.shape[1] and east[y, x]:
        yield x + 1, y
    if x > 0 and east[y, x - 1]:
        yield x - 1, y
    if y < south.shape[0] and south[y, x]:
        yield x, y + 1
    if y > 0 and south[y - 1, x]:
        yield x, y - 1
