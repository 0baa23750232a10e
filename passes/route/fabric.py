"""Fabric: which colours each router still has free, and the search for a path on one of them.

Colours in use are a bit mask per router, so one pass over a candidate path answers for all colours at once. Paths with
at most two bends are tried first, all of them in one go: running OR along the two legs, OR over the columns (or rows)
between. Where none is free, a breadth-first search on one colour at a time goes around what is in the way, in a window
that grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wafercc.ir.program import EAST, NORTH, SOUTH, WEST, IntArray
from wafercc.silicon import DefectMap

Masks = NDArray[np.uint32]
ALL = np.uint32(0xFFFFFFFF)
MARGIN = 24
SEARCHED_COLOURS = 4


class Way(NamedTuple):
    """A path of routers ``[n, 2]`` (x, y) and the colour it is free on."""

    path: IntArray
    colour: int


@dataclass(frozen=True, eq=False)
class Sheet:
    """One wafer: ``taken[y, x]`` is the mask of colours in use (all bits where the router is dead); links by side."""

    taken: Masks
    links: dict[int, NDArray[np.bool_]]
    usable: int

    @staticmethod
    def of(defects: DefectMap, wafer: int, colours: int) -> Sheet:
        """A wafer on which nothing is routed yet."""
        taken = np.where(defects.router_alive(wafer), np.uint32(0), ALL)
        links = {side: defects.link_alive(side, wafer) for side in (NORTH, EAST, SOUTH, WEST)}
        return Sheet(taken, links, (1 << colours) - 1)

    def copy(self) -> Sheet:
        return Sheet(self.taken.copy(), self.links, self.usable)

    def free(self, y: IntArray, x: IntArray) -> int:
        """The colours free on all of these routers, as a mask."""
        return self.usable & ~int(np.bitwise_or.reduce(self.taken[y, x]))

    def take(self, y: IntArray, x: IntArray, colour: int) -> None:
        """Give a colour to these routers' net."""
        self.taken[y, x] |= np.uint32(1 << colour)

    def release(self, y: IntArray, x: IntArray, colour: int) -> None:
        """Take a colour back from these routers."""
        self.taken[y, x] &= ~np.uint32(1 << colour)

    def alive(self, y: IntArray, x: IntArray) -> NDArray[np.bool_]:
        """Whether these routers work."""
        alive: NDArray[np.bool_] = self.taken[y, x] != ALL
        return alive

    def in_use(self, y: IntArray, x: IntArray) -> IntArray:
        """How many colours each of these routers uses."""
        masks = np.where(self.taken[y, x] == ALL, np.uint32(0), self.taken[y, x])
        count = np.zeros(masks.shape, np.int32)
        for colour in range(self.usable.bit_length()):
            count += ((masks >> np.uint32(colour)) & 1).astype(np.int32)
        return count

    def most_in_use(self) -> int:
        """The largest number of colours on any router."""
        y, x = np.nonzero(self.taken)
        return int(self.in_use(y.astype(np.int32), x.astype(np.int32)).max(initial=0))

    def find(
        self,
        start: tuple[int, int],
        goal: tuple[int, int],
        allowed: int,
        walls: Sequence[tuple[IntArray, IntArray]],
        bends: int | None,
    ) -> Way | None:
        """A short path between two routers (x, y) on one of the allowed colours, not through the walls (lists of y, x).

        ``bends``: 2 for the quick search among paths with at most two bends, None for any.
        """
        kept = [self.taken[y, x] for y, x in walls]
        ends = ((start[1], start[0]), (goal[1], goal[0]))
        own = [self.taken[end] for end in ends]
        for y, x in walls:
            self.taken[y, x] = ALL
        for end, before in zip(ends, own, strict=True):
            self.taken[end] = before
        try:
            return self._around(start, goal, allowed) if bends is None else self._bent(start, goal, allowed)
        finally:
            for (y, x), before in zip(walls, kept, strict=True):
                self.taken[y, x] = before

    def _window(self, start: tuple[int, int], goal: tuple[int, int], margin: int) -> tuple[int, int, int, int]:
        height, width = self.taken.shape
        x0, x1 = sorted((start[0], goal[0]))
        y0, y1 = sorted((start[1], goal[1]))
        return max(0, x0 - margin), min(width, x1 + margin + 1), max(0, y0 - margin), min(height, y1 + margin + 1)

    def _bent(self, start: tuple[int, int], goal: tuple[int, int], allowed: int) -> Way | None:
        """The shortest path with at most two bends."""
        left, right, top, bottom = self._window(start, goal, MARGIN)
        across = _bends(
            self.taken[:, left:right], self.links[EAST][:, left:right], self.links[SOUTH][:, left:right],
            (start[0] - left, start[1]), (goal[0] - left, goal[1]), allowed,
        )  # fmt: skip
        down = _bends(
            self.taken[top:bottom].T, self.links[SOUTH][top:bottom].T, self.links[EAST][top:bottom].T,
            (start[1] - top, start[0]), (goal[1] - top, goal[0]), allowed,
        )  # fmt: skip
        if across is None and down is None:
            return None
        if down is None or (across is not None and (across[0], -across[1]) <= (down[0], -down[1])):
            assert across is not None
            middle = across[2] + left
            corners = [start, (middle, start[1]), (middle, goal[1]), goal]
            return Way(_polyline(corners), across[1])
        middle = down[2] + top
        return Way(_polyline([start, (start[0], middle), (goal[0], middle), goal]), down[1])

    def _around(self, start: tuple[int, int], goal: tuple[int, int], allowed: int) -> Way | None:
        """The shortest of a few colours' paths with any number of bends."""
        best: Way | None = None
        near = int(np.bitwise_or(self.taken[start[1], start[0]], self.taken[goal[1], goal[0]]))
        colours = [c for c in range(31, -1, -1) if (allowed & ~near) >> c & 1][:SEARCHED_COLOURS]
        for margin in (MARGIN, 4 * MARGIN, max(self.taken.shape)):
            for colour in colours:
                path = self._flood(start, goal, colour, self._window(start, goal, margin))
                if path is not None and (best is None or len(path) < len(best.path)):
                    best = Way(path, colour)
            if best is not None or self._window(start, goal, margin) == (
                0,
                self.taken.shape[1],
                0,
                self.taken.shape[0],
            ):
                return best
        return best

    def _flood(
        self, start: tuple[int, int], goal: tuple[int, int], colour: int, window: tuple[int, int, int, int]
    ) -> IntArray | None:
        """A shortest path on one colour inside a window (left, right, top, bottom), breadth first."""
        left, right, top, bottom = window
        view = (slice(top, bottom), slice(left, right))
        width = right - left
        open_ = ((self.taken[view] >> np.uint32(colour)) & 1 == 0).ravel()
        came = np.zeros(open_.size, np.int32)
        source, sink = ((p[1] - top) * width + p[0] - left for p in (start, goal))
        open_[source] = False
        steps = []
        for side, step in ((EAST, 1), (SOUTH, width), (WEST, -1), (NORTH, -width)):
            leads = self.links[side][view].copy()
            line = leads if side in (NORTH, SOUTH) else leads.T
            line[-1 if side in (EAST, SOUTH) else 0] = False  # nothing leaves the window
            steps.append((step, leads.ravel()))
        frontier = np.array([source])
        while frontier.size and not came[sink]:
            reached = []
            for step, leads in steps:
                there = frontier[leads[frontier]] + step
                there = there[open_[there]]
                open_[there] = False
                came[there] = step
                reached.append(there)
            frontier = np.concatenate(reached)
        if not came[sink]:
            return None
        trail = [sink]
        while trail[-1] != source:
            trail.append(trail[-1] - int(came[trail[-1]]))
        at = np.array(trail[::-1])
        return np.stack([at % width + left, at // width + top], axis=1).astype(np.int32)


def _bends(
    taken: Masks,
    along: NDArray[np.bool_],
    across: NDArray[np.bool_],
    start: tuple[int, int],
    goal: tuple[int, int],
    allowed: int,
) -> tuple[int, int, int] | None:
    """Length, colour and middle column of the best path along row, column, row; the shortest, then the highest
    colour."""
    (x0, y0), (x1, y1) = start, goal
    blocked = _leg(taken[y0], along[y0], x0) | _leg(taken[y1], along[y1], x1)
    top, bottom = min(y0, y1), max(y0, y1)
    blocked = blocked | np.bitwise_or.reduce(taken[top : bottom + 1], axis=0)
    if bottom > top:
        blocked = np.where(across[top:bottom].all(axis=0), blocked, ALL)
    free = np.uint32(allowed) & ~blocked
    column = np.arange(taken.shape[1])
    length = abs(column - x0) + abs(column - x1) + (bottom - top)
    possible = free != 0
    if y0 == y1:
        possible &= (column >= min(x0, x1)) & (column <= max(x0, x1))
    if not possible.any():
        return None
    shortest = int(length[possible].min())
    best = np.where(possible & (length == shortest), free, np.uint32(0))
    middle = int(best.argmax())
    return shortest, int(best[middle]).bit_length() - 1, middle


def _leg(row: Masks, links: NDArray[np.bool_], start: int) -> Masks:
    """Colours blocked between a start and each place of a row, both included."""
    blocked = np.empty_like(row)
    right = row[start:].copy()
    right[1:] |= np.where(links[start:-1], np.uint32(0), ALL)
    blocked[start:] = np.bitwise_or.accumulate(right)
    left = row[start::-1].copy()
    left[1:] |= np.where(links[:start][::-1], np.uint32(0), ALL)
    blocked[start::-1] = np.bitwise_or.accumulate(left)
    return blocked


def _polyline(corners: Sequence[tuple[int, int]]) -> IntArray:
    """Every router (x, y) from corner to corner."""
    points = [np.array([corners[0]], np.int32)]
    for (x0, y0), (x1, y1) in pairwise(corners):
        count = abs(x1 - x0) + abs(y1 - y0)
        step = np.arange(1, count + 1, dtype=np.int32)[:, None]
        points.append(np.array([x0, y0], np.int32) + step * np.array([np.sign(x1 - x0), np.sign(y1 - y0)], np.int32))
    return np.concatenate(points)
