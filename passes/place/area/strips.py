"""Strips: regions in order, cut into parallel strips of free thickness by dynamic programming; the constructive start.

A strip of regions i .. j-1 runs the whole length of the box, so its thickness is in proportion to the areas in it. With
c(i, j) the cost of its sides and of the streams along it, the best cuts into k strips follow from

    D_k(j) = min over i of D_{k-1}(i) + c(i, j).

Every number of strips up to 64, in both directions, becomes a slicing that turns at the end of each strip; of
these, those with the cheapest sides and streams are made legal. Cost: O(regions^2 * strips), in numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import numpy as np

from .problem import AreaProblem, Floats, Ints
from .slicing import Slicing, cut, legalise, slicing_of

MOST_STRIPS = 64
LEGALISED = 6  # slicings made legal, the cheapest
Box = tuple[int, int]  # width, height


def best_strips(problem: AreaProblem, areas: Floats, boxes: Sequence[Box]) -> tuple[Slicing, Ints | None]:
    """The cheapest legal strips in any of the boxes, or the cheapest of any and None if none was made legal."""
    plans = list(_plans(problem, areas, boxes))
    plans.sort(key=lambda slicing: problem.wire_cost(cut(slicing, areas)))
    legal = ((slicing, legalise(problem, slicing, areas)) for slicing in plans)
    found = list(islice(((slicing, rects) for slicing, rects in legal if rects is not None), LEGALISED))
    return min(found, key=lambda pair: problem.cost(pair[1])) if found else (plans[0], None)


def _plans(problem: AreaProblem, areas: Floats, boxes: Sequence[Box]) -> Iterator[Slicing]:
    for width, height in boxes:
        for vertical in (True, False):
            across, along = (width, height) if vertical else (height, width)
            for ends in _cuts(problem, areas, across, along):
                strips = [list(range(a, b)) for a, b in pairwise(ends)]
                turned = [strip[::-1] if number % 2 else strip for number, strip in enumerate(strips)]
                yield slicing_of(turned, vertical, width, height)


def _cuts(problem: AreaProblem, areas: Floats, across: int, along: int) -> Iterator[list[int]]:
    """For 1, 2, ... strips their best ends, 0 first and the number of regions last."""
    count = problem.count
    before = np.concatenate([[0.0], np.cumsum(areas)])
    index = np.arange(count + 1)
    regions = index[None, :] - index[:, None]  # [i, j]: of the strip i .. j-1
    thickness = across * (before[None, :] - before[:, None]) / before[-1]
    weight = problem.weights.sum() / max(1, count - 1)
    cost = problem.side_cost * (regions * thickness + along) + weight * (along + thickness)
    cost[regions <= 0] = np.inf
    best = np.where(index == 0, 0.0, np.inf)
    back: list[Ints] = []
    for _ in range(min(count, MOST_STRIPS)):
        through = best[:, None] + cost
        back.append(through.argmin(axis=0))
        best = through.min(axis=0)
        ends = [count]
        for arrow in reversed(back):
            ends.append(int(arrow[ends[-1]]))
        yield ends[::-1]
