"""Moves: the best spot of one region while all others stay, over every position of the wafer at once.

Free positions come from a prefix sum of what is occupied, their costs from two one-dimensional sums of distances
plus the way to the nearest port; the cheapest are then tried for real, in order. The same step builds a placement
from nothing, region by region (`grow`), and improves one (`improve`). Cost: O(area) numpy per region and size tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .problem import Ints, Problem, Spot, Spots
from .sites import Sites

TRIED = 24  # positions embedded per size, cheapest first
SPARE_LINES = 4  # rows and columns beyond the mesh that are tried


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


def grow(problem: Problem, sites: Sites, order: Sequence[int], pinned: Mapping[int, Spot]) -> Spots | None:
    """A placement made region by region, each at its best spot beside those before; None if one has none."""
    placed = dict(pinned)
    for i in order:
        if i in placed:
            continue
        spot = best_spot(problem, sites, i, placed)
        if spot is None:
            return None
        placed[i] = spot
    return tuple(placed[i] for i in range(problem.count))


def best_spot(problem: Problem, sites: Sites, region: int, others: Mapping[int, Spot]) -> Spot | None:
    """The cheapest legal spot of a region found beside the others, or None."""
    shapes = problem.shapes[region]
    largest = max(max(s.rows, s.columns) for s in shapes)
    for width, height in _crops(problem, others, largest):
        occupied = np.zeros((height + 1, width + 1), np.int32)
        for s in others.values():
            occupied[s.y + 1 : s.y + s.h + 1, s.x + 1 : s.x + s.w + 1] = 1
        taken = occupied.cumsum(axis=0).cumsum(axis=1)
        best: tuple[int, Spot] | None = None
        for index in range(len(shapes)):
            best = _best_of_shape(problem, sites, region, index, others, taken, best)
        if best is not None:
            return best[1]
    return None


def _crops(problem: Problem, others: Mapping[int, Spot], largest: int) -> list[tuple[int, int]]:
    """Corners of the wafer to search: one around what is placed with room for more, then all of it."""
    full = (problem.alive.width, problem.alive.height)
    area = sum(shapes[0].pes for shapes in problem.shapes)
    reach_x = max((s.x + s.w for s in others.values()), default=0)
    reach_y = max((s.y + s.h for s in others.values()), default=0)
    side = int(area**0.5) + 2 * largest + 8
    crop = (min(full[0], max(side, reach_x + largest + 8)), min(full[1], max(side, reach_y + largest + 8)))
    return [crop] if crop == full else [crop, full]


def _best_of_shape(
    problem: Problem,
    sites: Sites,
    region: int,
    index: int,
    others: Mapping[int, Spot],
    taken: NDArray[np.int64],
    best: tuple[int, Spot] | None,
) -> tuple[int, Spot] | None:
    """The best so far, or a better spot with this shape: (doubled cost of this region's flows and own cycles, spot)."""
    shape = problem.shapes[region][index]
    height, width = taken.shape[0] - 1, taken.shape[1] - 1
    partners = np.array([others[j].centre for j in problem.partners[region] if j in others], np.int64).reshape(-1, 2)
    for extra in range(2 * SPARE_LINES + 1):
        found_here = False
        for more in _spares(extra):
            w, h = shape.columns + more[0], shape.rows + more[1]
            if w > width or h > height:
                continue
            free = taken[h:, w:] - taken[:-h, w:] - taken[h:, :-w] + taken[:-h, :-w] == 0
            if not free.any():
                continue
            cost = _costs(problem, region, partners, (width, height), (w, h)) + 2 * shape.cost_cycles
            spot = _cheapest_legal(problem, sites, region, index, (w, h), free, cost, best)
            if spot is not None:
                found_here, best = True, spot
        if found_here and extra > 0:
            break
    return best


def _spares(extra: int) -> list[tuple[int, int]]:
    """How many columns and rows beyond the mesh, ``extra`` in all, the evenest first."""
    splits = [(c, extra - c) for c in range(extra + 1) if max(c, extra - c) <= SPARE_LINES]
    return sorted(splits, key=lambda s: abs(s[0] - s[1]))


def _costs(problem: Problem, region: int, partners: Ints, grid: tuple[int, int], size: tuple[int, int]) -> Ints:
    """Doubled flow cycles of the region at each position ``[y, x]`` of a rectangle of this size."""
    centre_x = 2 * np.arange(grid[0] - size[0] + 1, dtype=np.int64) + size[0] - 1
    centre_y = 2 * np.arange(grid[1] - size[1] + 1, dtype=np.int64) + size[1] - 1
    by_x = np.abs(centre_x[:, None] - partners[None, :, 0]).sum(axis=1)
    by_y = np.abs(centre_y[:, None] - partners[None, :, 1]).sum(axis=1)
    hops: Ints = by_y[:, None] + by_x[None, :]
    weight = int(problem.to_edge[region])
    if weight:
        hops = hops + weight * problem.edge_distance(centre_x[None, :], centre_y[:, None])
    return hops * problem.hop_cycles


def _cheapest_legal(
    problem: Problem,
    sites: Sites,
    region: int,
    index: int,
    size: tuple[int, int],
    free: NDArray[np.bool_],
    cost: Ints,
    best: tuple[int, Spot] | None,
) -> tuple[int, Spot] | None:
    """Try the cheapest free positions in order; return a legal one that beats the best so far."""
    shape = problem.shapes[region][index]
    flat = np.where(free, cost, np.iinfo(np.int64).max).ravel()
    few = min(TRIED, flat.size)
    nearest = np.argpartition(flat, few - 1)[:few] if few < flat.size else np.arange(flat.size)
    found: tuple[int, Spot] | None = None
    for at in nearest[np.lexsort((nearest, flat[nearest]))].tolist():
        y, x = divmod(at, free.shape[1])
        bar = found or best
        if not free[y, x] or (bar is not None and int(flat[at]) >= bar[0]):
            break
        spot = sites.fit(x, y, size[0], size[1], shape, index)
        if spot is None:
            continue
        total = int(flat[at]) + 2 * problem.hop_cycles * spot.detour
        if bar is None or total < bar[0]:
            found = (total, spot)
    return found
