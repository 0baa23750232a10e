"""Sweep: the cheapest path over the grid, where every router has a price, by scans over whole rows and columns.

One scan carries the least cost found so far along all rows (or columns) at once: with C the running sum of prices, the
cost at x is C[x] + min over k <= x of (cost[k] - C[k]). Four scans, one a direction, allow two more bends; they are
repeated until nothing falls, so the result is exact, whatever the prices. What is dead costs more than any path.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wafercc.ir.program import EAST, NORTH, SOUTH, WEST, IntArray

Prices = NDArray[np.int64]
Links = Mapping[int, NDArray[np.bool_]]
WALL = 1 << 40

# Side by which a step leaves, and the step (x, y).
_STEPS = ((EAST, (1, 0)), (SOUTH, (0, 1)), (WEST, (-1, 0)), (NORTH, (0, -1)))


def spread(price: Prices, links: Links, start: tuple[int, int]) -> Prices:
    """The cost ``[y, x]`` of the cheapest path from a router (x, y) to each: the prices of all routers but the first;
    ``WALL`` where there is none. Prices are positive."""
    cost = np.full(price.shape, WALL, np.int64)
    cost[start[1], start[0]] = 0
    runs = [_run(price, links, side) for side, _ in _STEPS]
    while True:
        before = cost.copy()
        for (side, _), run in zip(_STEPS, runs, strict=True):
            line = _facing(cost, side)
            line[...] = np.minimum(np.minimum.accumulate(line - run, axis=1) + run, WALL)
        if np.array_equal(before, cost):
            return cost


def _facing(array: Prices, side: int) -> Prices:
    """A view in which words that leave by a side run along the second axis, upwards."""
    turned = array if side in (EAST, WEST) else array.T
    return turned if side in (EAST, SOUTH) else turned[:, ::-1]


def _run(price: Prices, links: Links, side: int) -> Prices:
    """The running sum of prices in a direction, with a wall at each dead link."""
    step = _facing(price, side).copy()
    step[:, 1:] += np.where(_facing(links[side].astype(np.int64), side)[:, :-1] > 0, 0, WALL)
    step[:, 0] = 0
    return np.cumsum(step, axis=1)


def walk(cost: Prices, price: Prices, links: Links, goal: tuple[int, int]) -> IntArray:
    """The routers ``[n, 2]`` (x, y) of a cheapest path to a router that `spread` reached, from its start on."""
    x, y = goal
    trail = [goal]
    height, width = cost.shape
    turn = 0
    while cost[y, x] > 0:
        for k in (turn, *range(4)):  # straight on where that is as cheap
            side, (dx, dy) = _STEPS[k]
            u, v = x - dx, y - dy
            if 0 <= u < width and 0 <= v < height and links[side][v, u] and cost[v, u] + price[y, x] == cost[y, x]:
                x, y, turn = u, v, k
                break
        trail.append((x, y))
    return np.array(trail[::-1], np.int32)
