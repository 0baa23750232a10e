"""The area problem: regions that need so many live cores each, in rectangles of any shape, on a grid with dead cores.

A rectangle is legal for a region if its *capacity* is at least what the region needs. Capacity follows the row rule:
with d_y dead cores in row y of a rectangle of width w, q columns can be held in every row where w - d_y >= q, so the
capacity is the largest q * #{y : w - d_y >= q}; rows with more dead cores are dropped. The objective, in cycles, is

    sum over regions of work / capacity + side_cost * (w + h)  +  sum over streams of weight * L1 distance of centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AreaProblem:
    """Regions (by index, in the order data runs through them), the streams between them, and the grid.

    ``live[height, width]``: the cores that work. ``needed[region]``: live cores. ``work[region]``: cycles times cores.
    ``streams[n, 2]``: the two regions of each stream; ``weights[n]``: cycles per hop. ``side_cost``: cycles per core
    of a rectangle's half perimeter.
    """

    live: Bools
    needed: Ints
    work: Floats
    streams: Ints
    weights: Floats
    side_cost: float = 2.0

    def __post_init__(self) -> None:
        assert self.live.ndim == 2 and len(self.needed) > 0, "a grid and at least one region"
        assert len(self.needed) == len(self.work) and len(self.streams) == len(self.weights), "one number each"
        assert (self.needed > 0).all() and (self.work >= 0).all() and (self.weights >= 0).all(), "no negative numbers"
        assert self.side_cost > 0, "sides cost something, so rectangles are compact"

    @property
    def count(self) -> int:
        """The number of regions."""
        return len(self.needed)

    @property
    def height(self) -> int:
        return int(self.live.shape[0])

    @property
    def width(self) -> int:
        return int(self.live.shape[1])

    @cached_property
    def live_cores(self) -> int:
        return int(self.live.sum())

    @cached_property
    def dead_left(self) -> NDArray[np.int32]:
        """Dead cores of row y left of column x, ``[x, y]`` with x up to the width: a column's rows lie together."""
        counts = np.zeros((self.width + 1, self.height), np.int32)
        np.cumsum(~self.live.T, axis=0, out=counts[1:])
        return counts

    def capacity(self, x: int, y: int, w: int, h: int) -> int:
        """Live cores that a rectangle inside the grid holds by the row rule. Cost: O(h)."""
        counts = self.dead_left
        dead = counts[x + w, y : y + h] - counts[x, y : y + h]
        rows = np.bincount(dead).cumsum()
        return int((rows * np.arange(w, w - len(rows), -1)).max())

    def capacities(self, rects: Ints) -> Ints:
        """The capacity of each rectangle ``[n, (x, y, w, h)]``."""
        return np.array([self.capacity(*rect) for rect in rects.tolist()], np.int64)

    def legal(self, rects: Ints) -> bool:
        """Whether every region has its cores, inside the grid, apart from all others."""
        x, y, w, h = rects.T
        inside = (rects >= (0, 0, 1, 1)).all() and (x + w <= self.width).all() and (y + h <= self.height).all()
        return bool(inside) and disjoint(rects) and bool((self.capacities(rects) >= self.needed).all())

    def cost(self, rects: Ints) -> float:
        """The objective, in cycles, of rectangles inside the grid; exact capacities."""
        return float((self.work / self.capacities(rects)).sum()) + self.wire_cost(rects)

    def wire_cost(self, rects: Ints) -> float:
        """The objective without work: sides and streams."""
        ends = (rects[:, :2] + rects[:, 2:] / 2)[self.streams]
        hops = np.abs(ends[:, 0] - ends[:, 1]).sum(axis=1)
        return float(self.weights @ hops) + self.side_cost * float(rects[:, 2:].sum())


def disjoint(rects: Ints) -> bool:
    """Whether no two rectangles share a cell."""
    x, y, w, h = rects.T
    across = (x[:, None] < (x + w)[None, :]) & (x[None, :] < (x + w)[:, None])
    down = (y[:, None] < (y + h)[None, :]) & (y[None, :] < (y + h)[:, None])
    return int((across & down).sum()) == len(rects)


@dataclass(frozen=True, slots=True)
class AreaReport:
    """How good a placement is, in cycles, and who found it.

    ``snake`` and ``strips``: the baseline and the constructive start, None where none is legal. ``searched``: the
    cheapest before linear programs moved edges. ``bound``: no legal placement is below.
    """

    objective: float
    snake: float | None
    strips: float | None
    searched: float
    bound: float

    @property
    def gap(self) -> float:
        """Objective over bound, less one."""
        return self.objective / self.bound - 1

    @property
    def solver_share(self) -> float:
        """How much of the improvement over the better of snake and strips the solver made; 0 without improvement."""
        starts = [cost for cost in (self.snake, self.strips) if cost is not None]
        improvement = min(starts) - self.objective if starts else 0.0
        return (self.searched - self.objective) / improvement if improvement > 0 else 0.0


@dataclass(frozen=True, eq=False)
class AreaPlacement:
    """Where each region lies, ``rects[region, (x, y, w, h)]``: legal for the problem it was made for."""

    rects: Ints
    report: AreaReport
