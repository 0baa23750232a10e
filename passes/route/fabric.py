"""Fabric: which colours each router still has free, and the search for a path on one of them.

Colours in use are a bit mask per router, so one pass over a candidate path answers for all colours at once. Paths with
at most two bends are tried first, all of them in one go: running OR along the two legs, OR over the columns (or rows)
between. Where none is free, a search for the cheapest path on one colour at a time goes around what is in the way, in a
window that grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wafercc.ir.program import EAST, NORTH, SOUTH, WEST, IntArray
from wafercc.silicon import DefectMap

from .sweep import WALL, Prices, spread, walk

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
    """One wafer as a net finds it: ``taken[y, x]`` is the mask of colours it may not use (all bits where the router is
    dead); links by side.

    ``used[colour, y, x]``: switch positions that nets hold which it may share with; None where it shares with none.
    ``positions``: how many there are.
    """

    taken: Masks
    links: dict[int, NDArray[np.bool_]]
    usable: int
    positions: int
    used: NDArray[np.uint8] | None = None

    @staticmethod
    def of(defects: DefectMap, wafer: int, colours: int, positions: int) -> Sheet:
        """A wafer on which nothing is routed yet."""
        taken = np.where(defects.router_alive(wafer), np.uint32(0), ALL)
        links = {side: defects.link_alive(side, wafer) for side in (NORTH, EAST, SOUTH, WEST)}
        return Sheet(taken, links, (1 << colours) - 1, positions)

    def copy(self) -> Sheet:
        return replace(self, taken=self.taken.copy())

    def free(self, y: IntArray, x: IntArray, positions: IntArray | None = None) -> int:
        """The colours free on all of these routers, as a mask; ``positions``: how many each needs (one if None)."""
        free = self.usable & ~int(np.bitwise_or.reduce(self.taken[y, x]))
        if self.used is not None and positions is not None and free:
            short = (self.used[:, y, x] + positions > self.positions).any(axis=1)
            free &= ~sum(1 << int(colour) for colour in np.flatnonzero(short))
        return free

    def take(self, y: IntArray, x: IntArray, colour: int) -> None:
        """Give a colour to these routers' net."""
        self.taken[y, x] |= np.uint32(1 << colour)

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
        price: Prices | None = None,
    ) -> Way | None:
        """A short path between two routers (x, y) on one of the allowed colours, not through the walls (lists of y, x).

        ``bends``: 2 for the quick search among paths with at most two bends, None for any, by the ``price`` of routers.
        """
        with self._walled(start, goal, walls):
            return self._around(start, goal, allowed, price) if bends is None else self._bent(start, goal, allowed)

    def route(
        self,
        start: tuple[int, int],
        goal: tuple[int, int],
        colours: int,
        walls: Sequence[tuple[IntArray, IntArray]],
        price: Prices,
    ) -> IntArray | None:
        """The cheapest path over routers each of which has one of the colours free, be it another one."""
        height, width = self.taken.shape
        with self._walled(start, goal, walls):
            found = self._on(colours, start, goal, (0, width, 0, height), price)
        return None if found is None else found[0]

    @contextmanager
    def _walled(
        self, start: tuple[int, int], goal: tuple[int, int], walls: Sequence[tuple[IntArray, IntArray]]
    ) -> Iterator[None]:
        """Keep paths off some routers (lists of y, x), but for a path's own ends, for a while."""
        kept = [self.taken[y, x] for y, x in walls]
        ends = ((start[1], start[0]), (goal[1], goal[0]))
        own = [self.taken[end] for end in ends]
        for y, x in walls:
            self.taken[y, x] = ALL
        for end, before in zip(ends, own, strict=True):
            self.taken[end] = before
        try:
            yield
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

    def _around(self, start: tuple[int, int], goal: tuple[int, int], allowed: int, price: Prices | None) -> Way | None:
        """The cheapest of a few colours' paths with any number of bends."""
        near = int(np.bitwise_or(self.taken[start[1], start[0]], self.taken[goal[1], goal[0]]))
        colours = [c for c in range(31, -1, -1) if (allowed & ~near) >> c & 1][:SEARCHED_COLOURS]
        windows = dict.fromkeys(self._window(start, goal, m) for m in (MARGIN, 4 * MARGIN, max(self.taken.shape)))
        for i, window in enumerate(windows):
            found = [(self._on(1 << c, start, goal, window, price), c) for c in colours]
            ways = [(way[1], -c, Way(way[0], c)) for way, c in found if way is not None]
            if ways:
                return min(ways, key=lambda each: each[:2])[2]
            if i == 0 and len(windows) > 1 and not self.reached(start, allowed)[goal[1], goal[0]]:
                return None  # not even by changing colours on the way
        return None

    def _on(
        self,
        colours: int,
        start: tuple[int, int],
        goal: tuple[int, int],
        window: tuple[int, int, int, int],
        price: Prices | None,
    ) -> tuple[IntArray, int] | None:
        """The cheapest path inside a window where each router has one of the colours free, with its price."""
        left, right, top, bottom = window
        view = (slice(top, bottom), slice(left, right))
        open_ = (~self.taken[view] & np.uint32(colours)) != 0
        cost = np.where(open_, 1 if price is None else price[view], WALL)
        links = {side: alive[view] for side, alive in self.links.items()}
        distance = spread(cost, links, (start[0] - left, start[1] - top))
        at = (goal[1] - top, goal[0] - left)
        if distance[at] >= WALL:
            return None
        path = walk(distance, cost, links, (at[1], at[0]))
        return path + np.array([left, top], np.int32), int(distance[at])

    def reached(self, start: tuple[int, int], colours: int) -> NDArray[np.bool_]:
        """The routers that can be reached over routers with one of the colours free."""
        cost = np.where((~self.taken & np.uint32(colours)) != 0, 1, WALL)
        found: NDArray[np.bool_] = spread(cost, self.links, start) < WALL
        return found


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
