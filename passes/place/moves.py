"""Moves: the best spot of one region while all others stay.

Every corner of a moderate grid is looked at, with its cost from two one-dimensional sums of distances plus the way to
the nearest port; on large grids only corners where the region touches or lines up with another. The cheapest are then
embedded for real, in order. The same step builds a placement from nothing, region by region (`grow`), and improves
one (`improve`). Cost: O(corners) numpy per size, and up to `TRIED` embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.placement import Shape
from .problem import Ints, Problem, Spot, Spots
from .sites import Sites

TRIED = 24  # positions embedded per size, cheapest first
SPARE_LINES = 4  # rows and columns beyond the mesh that are tried
MANY_DEAD = 4.0  # expected dead cores in a region from which only equal numbers of spare rows and columns are tried
LARGE = 10_000  # PEs of a region whose embedding takes long enough to try fewer
MOST_CORNERS = 1 << 15  # corners tried in full; beyond, only those that touch what is placed
TAKEN = 1 << 60


def improve(problem: Problem, sites: Sites, spots: Spots, rounds: int) -> Spots:
    """Move one region at a time to its best spot until none moves, at most so many rounds; never worse."""
    current = list(spots)
    for _ in range(rounds):
        moved = False
        for i in range(problem.count):
            if i in problem.pins:
                continue
            others = {j: s for j, s in enumerate(current) if j != i}
            spot = best_spot(problem, sites, i, others)
            if spot is None:
                continue
            candidate = [*current[:i], spot, *current[i + 1 :]]
            if problem.doubled_cost(candidate) < problem.doubled_cost(current):
                current, moved = candidate, True
        if not moved:
            break
    return tuple(current)


def grow(
    problem: Problem, sites: Sites, order: Sequence[int], pinned: Mapping[int, Spot], inland: bool = False
) -> Spots | None:
    """A placement made region by region, each at its best spot beside those before; None if one has none.

    ``inland``: the first stands far enough from the corner for all others to surround it, as a hub wants.
    """
    placed = dict(pinned)
    for i in order:
        if i in placed:
            continue
        pull = None
        if inland and not placed:
            side = int(sum(shapes[0].pes for shapes in problem.shapes) ** 0.5)
            pull = (min(side, problem.alive.width), min(side, problem.alive.height))
        spot = best_spot(problem, sites, i, placed, pull)
        if spot is None:
            return None
        placed[i] = spot
    return tuple(placed[i] for i in range(problem.count))


def best_spot(
    problem: Problem, sites: Sites, region: int, others: Mapping[int, Spot], pull: tuple[int, int] | None = None
) -> Spot | None:
    """The cheapest legal spot of a region found beside the others, or None.

    ``pull`` (a doubled centre) stands for all its flows where given.
    """
    search = _Search(problem, sites, region, others, pull)
    for lines in _lines(problem, region, others):
        best: tuple[int, Spot] | None = None
        for index in range(len(problem.shapes[region])):
            best = search.best_of_shape(index, lines, best)
        if best is not None:
            return best[1]
    return None


def _lines(problem: Problem, region: int, others: Mapping[int, Spot]) -> list[tuple[Ints, Ints]]:
    """Columns and rows to try as corners: all of a corner of the wafer or, where that is large, those that touch
    others."""
    full = (problem.alive.width, problem.alive.height)
    largest = max(max(s.rows, s.columns) for s in problem.shapes[region])
    area = sum(shapes[0].pes for shapes in problem.shapes)
    side = int(area**0.5) + 2 * largest + 8
    reach_x = max((s.x + s.w for s in others.values()), default=0)
    reach_y = max((s.y + s.h for s in others.values()), default=0)
    crop = (min(full[0], max(side, reach_x + largest + 8)), min(full[1], max(side, reach_y + largest + 8)))
    if crop[0] * crop[1] > MOST_CORNERS:
        across = _touching([(s.x, s.w) for s in others.values()], problem.shapes[region], full[0], rows=False)
        down = _touching([(s.y, s.h) for s in others.values()], problem.shapes[region], full[1], rows=True)
        return [(across, down)]
    found = [(np.arange(crop[0]), np.arange(crop[1]))]
    if crop != full and full[0] * full[1] <= 4 * MOST_CORNERS:
        found.append((np.arange(full[0]), np.arange(full[1])))
    return found


def _touching(spans: Sequence[tuple[int, int]], shapes: Sequence[Shape], end: int, rows: bool) -> Ints:
    """Where a region may start so that it touches, lines up with, or is centred on another, give or take a few
    lines."""
    starts = {0}
    for shape in shapes:
        size = shape.rows if rows else shape.columns
        starts |= {end - size - more for more in range(SPARE_LINES + 1)}
        for at, long in spans:
            middle = at + (long - size) // 2
            for more in range(SPARE_LINES + 1):
                starts |= {at + long + more, at - size - more, at + long - size - more, at + more, middle - more}
    starts |= set(range(0, end, max(1, end // 64)))
    return np.array(sorted(s for s in starts if 0 <= s < end), np.int64)


@dataclass(frozen=True)
class _Search:
    """The search for one region's spot among others."""

    problem: Problem
    sites: Sites
    region: int
    others: Mapping[int, Spot]
    pull: tuple[int, int] | None

    def best_of_shape(
        self, index: int, lines: tuple[Ints, Ints], best: tuple[int, Spot] | None
    ) -> tuple[int, Spot] | None:
        """The best so far, or a better spot with this shape: (doubled cost of its flows and own cycles, spot)."""
        shape = self.problem.shapes[self.region][index]
        alive = self.problem.alive
        for spares in self._spares(shape):
            found_here = False
            for more_w, more_h in spares:
                w, h = shape.columns + more_w, shape.rows + more_h
                xs, ys = lines[0][lines[0] <= alive.width - w], lines[1][lines[1] <= alive.height - h]
                if len(xs) == 0 or len(ys) == 0:
                    continue
                cost = self._costs(xs, ys, w, h) + 2 * shape.cost_cycles
                spot = self._cheapest_legal(index, (w, h), xs, ys, cost, best)
                if spot is not None:
                    found_here, best = True, spot
            if found_here and spares[0] != (0, 0):
                break
        return best

    def _spares(self, shape: Shape) -> list[list[tuple[int, int]]]:
        """Columns and rows beyond the mesh to try, in steps; only even ones where many dead cores are sure to be
        inside."""
        alive = self.problem.alive
        dead = shape.pes * (1 - alive.cores / (alive.width * alive.height))
        if dead > MANY_DEAD:
            return [[(k, k)] for k in (1, 2, 3, 4, 6, 9, 13, 20)]
        steps = []
        for extra in range(2 * SPARE_LINES + 1):
            splits = [(c, extra - c) for c in range(extra + 1) if max(c, extra - c) <= SPARE_LINES]
            steps.append(sorted(splits, key=lambda s: abs(s[0] - s[1])))
        return steps

    def _costs(self, xs: Ints, ys: Ints, w: int, h: int) -> Ints:
        """Doubled flow cycles at each corner ``[y, x]`` of a rectangle of this size; the largest number where it is
        not free."""
        problem = self.problem
        centre_x, centre_y = 2 * xs + w - 1, 2 * ys + h - 1
        ends = [self.others[j].centre for j in problem.partners[self.region] if j in self.others]
        partners = np.array([self.pull] if self.pull else ends, np.int64).reshape(-1, 2)
        by_x = np.abs(centre_x[:, None] - partners[None, :, 0]).sum(axis=1)
        by_y = np.abs(centre_y[:, None] - partners[None, :, 1]).sum(axis=1)
        hops: Ints = by_y[:, None] + by_x[None, :]
        weight = int(problem.to_edge[self.region])
        if weight and not self.pull:
            hops = hops + weight * problem.edge_distance(centre_x[None, :], centre_y[:, None])
        cost = hops * problem.hop_cycles
        for other in self.others.values():
            left, right = np.searchsorted(xs, (other.x - w + 1, other.x + other.w))
            top, bottom = np.searchsorted(ys, (other.y - h + 1, other.y + other.h))
            cost[top:bottom, left:right] = TAKEN
        return cost

    def _cheapest_legal(
        self,
        index: int,
        size: tuple[int, int],
        xs: Ints,
        ys: Ints,
        cost: Ints,
        best: tuple[int, Spot] | None,
    ) -> tuple[int, Spot] | None:
        """Try the cheapest free corners in order; return a legal one that beats the best so far."""
        shape = self.problem.shapes[self.region][index]
        flat = cost.ravel()
        few = min(TRIED if shape.pes < LARGE else TRIED // 4, flat.size)
        nearest = np.argpartition(flat, few - 1)[:few] if few < flat.size else np.arange(flat.size)
        found: tuple[int, Spot] | None = None
        for at in nearest[np.lexsort((nearest, flat[nearest]))].tolist():
            bar = found or best
            if flat[at] >= TAKEN or (bar is not None and int(flat[at]) >= bar[0]):
                break
            y, x = int(ys[at // len(xs)]), int(xs[at % len(xs)])
            spot = self.sites.fit(x, y, size[0], size[1], shape, index)
            if spot is None:
                continue
            total = int(flat[at]) + 2 * self.problem.hop_cycles * spot.detour
            if bar is None or total < bar[0]:
                found = (total, spot)
        return found
