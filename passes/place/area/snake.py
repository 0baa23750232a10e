"""Snake: the plain baseline that every placement is held against.

Regions in order fill parallel strips of one width, to and fro; each takes the least length of its strip that holds
its cores on the exact map. All numbers of strips are tried, in both directions, and the cheapest is the snake. It
shares nothing with the search but the problem. Cost: a few capacities per region and number of strips.
"""

from __future__ import annotations

import numpy as np

from .problem import AreaProblem, Ints


def best_snake(problem: AreaProblem) -> Ints | None:
    """The cheapest legal snake, or None if no number of strips holds all regions."""
    best: tuple[float, Ints] | None = None
    for vertical in (True, False):
        across = problem.width if vertical else problem.height
        for strips in range(1, min(problem.count, across) + 1):
            thickness = across // strips
            if best is not None and _least_cost(problem, thickness) > best[0]:
                continue
            rects = _lay(problem, thickness, vertical)
            if rects is None:
                continue
            cost = problem.cost(rects)
            if best is None or cost < best[0]:
                best = (cost, rects)
    return None if best is None else best[1]


def _least_cost(problem: AreaProblem, thickness: int) -> float:
    """What any snake of this thickness costs at least: least lengths give at most ``thickness`` cores too many."""
    lengths = problem.needed / thickness
    stages = problem.work / (problem.needed + thickness) + problem.side_cost * (thickness + lengths)
    return float(stages.sum())


def _lay(problem: AreaProblem, thickness: int, vertical: bool) -> Ints | None:
    across, along = (problem.width, problem.height) if vertical else (problem.height, problem.width)
    rects = []
    strip, filled = 0, 0
    for needed in problem.needed.tolist():
        length = None
        while length is None:
            if (strip + 1) * thickness > across:
                return None
            length = _length(problem, needed, strip * thickness, thickness, filled, strip % 2 == 1, vertical)
            if length is None:
                if filled == 0:
                    return None
                strip, filled = strip + 1, 0
        rects.append(_rect(strip * thickness, thickness, filled, length, along, strip % 2 == 1, vertical))
        filled += length
    return np.array(rects, np.int64)


def _length(
    problem: AreaProblem, needed: int, at: int, thickness: int, filled: int, backwards: bool, vertical: bool
) -> int | None:
    """The least length that holds the needed cores from where the strip is filled to, or None if none is left."""
    along = problem.height if vertical else problem.width
    length = -(-needed // thickness)
    while filled + length <= along:
        held = problem.capacity(*_rect(at, thickness, filled, length, along, backwards, vertical))
        if held >= needed:
            return length
        length += max(1, (needed - held) // thickness)
    return None


def _rect(
    at: int, thickness: int, filled: int, length: int, along: int, backwards: bool, vertical: bool
) -> tuple[int, int, int, int]:
    start = along - filled - length if backwards else filled
    return (at, start, thickness, length) if vertical else (start, at, length, thickness)
