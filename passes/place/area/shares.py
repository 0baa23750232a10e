"""Shares: how many cores each region should get, were it alone but for the wafer's room.

A region of A cores costs at least work / A + root sqrt(A), where root holds the price of its sides and of the streams
that they lengthen. Cores are priced until all regions fit: the share is the cheapest A at that price, never below need.
"""

from __future__ import annotations

import numpy as np

from .problem import AreaProblem, Floats

HALVINGS = 40  # of an interval, to a share of 1e-12 of it


def roots(problem: AreaProblem, side_cost: Floats | float, streams: Floats) -> Floats:
    """Per region, r such that the sides of A cores cost at least r sqrt(A): half perimeter at ``side_cost`` per core,
    the shorter side at half the weight of its ``streams``."""
    cost: Floats = 2 * np.sqrt(side_cost * (side_cost + streams / 2) * np.ones(problem.count))
    return cost


def incident(problem: AreaProblem, weights: Floats) -> Floats:
    """Per region, the sum of the weights of its streams."""
    return np.bincount(problem.streams.ravel(), np.repeat(weights, 2), problem.count).astype(np.float64)


def cheapest(problem: AreaProblem, root: Floats, price: float) -> Floats:
    """Per region, the A >= needed that minimises work / A + root sqrt(A) + price A.

    The derivative times A^2, root / 2 A^1.5 + price A^2 - work, rises in A: its zero is found by halving.
    """
    low = problem.needed.astype(np.float64)
    high = np.maximum(low, (2 * problem.work / root) ** (2 / 3))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = root / 2 * middle**1.5 + price * middle**2 >= problem.work
        high = np.where(enough, middle, high)
        low = np.where(enough, low, middle)
    return low


def prices(problem: AreaProblem, root: Floats, cores: float) -> list[float]:
    """Prices per core that close in on the one at which the regions take ``cores`` in all; the last is just above."""
    low, high = 0.0, float((problem.work / problem.needed.astype(np.float64) ** 2).max())
    tried = [low]
    if cheapest(problem, root, low).sum() <= cores:
        return tried
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried.append(middle)
        if cheapest(problem, root, middle).sum() > cores:
            low = middle
        else:
            high = middle
    return [*tried, high]


def area_shares(problem: AreaProblem, cores: float) -> Floats:
    """Cores for each region, ``cores`` in all at most, or exactly what they need where that is more."""
    root = roots(problem, problem.side_cost, incident(problem, problem.weights))
    return cheapest(problem, root, prices(problem, root, cores)[-1])


def row_rule_loss(problem: AreaProblem) -> float:
    """The share of area that the row rule costs on this map, over as many equal rectangles as there are regions."""
    across = max(1, round((problem.count * problem.width / problem.height) ** 0.5))
    down = max(1, round(problem.count / across))
    held = 0
    xs = [problem.width * i // across for i in range(across + 1)]
    ys = [problem.height * i // down for i in range(down + 1)]
    for i in range(across):
        for j in range(down):
            held += problem.capacity(xs[i], ys[j], xs[i + 1] - xs[i], ys[j + 1] - ys[j])
    return 1 - held / (problem.width * problem.height)
