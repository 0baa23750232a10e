"""Bound: a number of cycles that no legal placement of an area problem can be below, in milliseconds.

Let A be the live cores of a region's rectangle: capacity <= A, the rectangle's area is at least A, and all A together
are at most the live cores of the wafer. Two disjoint rectangles are apart by at least half the sum of their shorter
sides, so each region is charged half its shorter side per unit of stream weight, S in all. Sides of product A at the
least cost give

    g(A) = work / A + 2 sqrt(A b (b + S / 2)),        b = side_cost,

which holds region by region; the shared live cores are priced by a multiplier (Lagrange): for each price p >= 0

    bound = sum over regions of min over A >= needed of (g(A) + p A)  -  p * live cores.

A *hub* has streams to many regions, which cannot all be adjacent: their areas fill at best an L1 ball around it. The
mean distance of a rectangle's points from the hub's centre is at most the distance of its centre plus (w + h) / 4, so
with G(a) = 4/3 (a / 2)^1.5, the integral of the distance over a ball of area a,

    sum of weight * distance >= sum of weight / needed * (G(a_j) - G(a_{j-1})) - sum of weight (w + h) / 4,

a_j the areas filled so far in falling weight / needed. The subtracted part lowers b of those regions. The hub's
streams then leave S. The better of the two bounds counts.
"""

from __future__ import annotations

import numpy as np

from .problem import AreaProblem, Floats
from .shares import cheapest, incident, prices, roots

HUB = 6  # streams of a region from which it counts as a hub


def lower_bound(problem: AreaProblem) -> float:
    """Cycles that no legal placement is below: the better of the bound by pairs and the one by hubs."""
    pairs = _priced(problem, roots(problem, problem.side_cost, incident(problem, problem.weights)))
    return max(pairs, _by_hubs(problem))


def _priced(problem: AreaProblem, root: Floats) -> float:
    """The bound at the best price of live cores; every price gives a bound."""
    best = -np.inf
    for price in prices(problem, root, problem.live_cores):
        areas = cheapest(problem, root, price)
        value = (problem.work / areas + root * np.sqrt(areas) + price * areas).sum() - price * problem.live_cores
        best = max(best, float(value))
    return best


def _by_hubs(problem: AreaProblem) -> float:
    """Hubs by the ball they need, each stream at one hub; all other streams by pairs. Nothing where balls say nothing:
    without hubs, or where so much is subtracted that sides would cost less than nothing."""
    degree = np.bincount(problem.streams.ravel(), minlength=problem.count)
    left = problem.weights.copy()
    side_cost = np.full(problem.count, problem.side_cost)
    balls = 0.0
    for hub in np.flatnonzero(degree >= HUB):
        mine = (problem.streams == hub).any(axis=1) & (left > 0)
        others = problem.streams[mine].sum(axis=1) - hub
        weight = np.bincount(others, left[mine], problem.count).astype(np.float64)
        left[mine] = 0.0
        near = np.flatnonzero(weight)
        balls += _ball(problem.needed[near].astype(np.float64), weight[near])
        side_cost -= weight / 4
    if balls == 0.0 or (side_cost <= 0).any():
        return 0.0
    return balls + _priced(problem, roots(problem, side_cost, incident(problem, left)))


def _ball(areas: Floats, weights: Floats) -> float:
    """The least sum of weight times mean distance from the centre of a ball that the areas fill."""
    order = np.argsort(-weights / areas, kind="stable")
    filled = np.concatenate([[0.0], np.cumsum(areas[order])])
    integral = 4 / 3 * (filled / 2) ** 1.5
    return float((weights[order] / areas[order]) @ np.diff(integral))
