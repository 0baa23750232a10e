"""Bound: a number of cycles that no legal placement of these regions can be below.

Disjoint rectangles are apart in x by half their widths or in y by half their heights, so a flow is at least the
smaller of the two half sums long; and each region pays at least its cheapest shape. With several shapes the terms
are separated: a flow is at least half the sum of the two shorter sides, so each region is charged half its short
side per flow, for every shape. A hub's many partners cannot all be adjacent: their areas fill at best a ball around
it (the mean distance over a rectangle is at most the distance of its centre plus a quarter of its sides), which
bounds the sum of its distances. The best of these counts.
A few regions are also placed by CP-SAT on a perfect wafer with a port in every row; what it proves counts if better.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir.placement import Shape
from .model import Size, Window, solve
from .problem import Problem

EFFORT = 0.1  # deterministic time of the solver's bound; not seconds
FEW = 6  # regions up to which the solver proves more than the closed forms
HUB = 6  # flows from which the ball around a hub is worth its slack


def lower_bound(problem: Problem, seed: int, doubled_cost: int) -> int:
    """Twice the bound, in cycles, rounded down. The solver is asked only where the closed forms leave a gap."""
    if not problem.ports:
        problem = replace(problem, to_edge=np.zeros_like(problem.to_edge))
    bound = max(_pairwise(problem), _separated(problem), _balls(problem))
    if bound < doubled_cost and problem.count <= FEW:
        bound = max(bound, _solved(problem, seed))
    return bound


def _solved(problem: Problem, seed: int) -> int:
    """What CP-SAT proves on the perfect wafer. Gaps between rows can be closed, so the box is no taller than all."""
    height = sum(max(s.rows for s in shapes) for shapes in problem.shapes)
    sizes = {
        i: [Size(k, s.columns, s.rows, 0, spare=False) for k, s in enumerate(shapes)]
        for i, shapes in enumerate(problem.shapes)
    }
    window = Window((0, 0, problem.alive.width, min(height, problem.alive.height)), sizes, {}, relaxed=True)
    return solve(problem, window, seed, EFFORT).doubled_bound


def _pairwise(problem: Problem) -> int:
    """Each flow and each region at its own best."""
    hops = sum(_apart(problem.shapes[a], problem.shapes[b]) for a, b in problem.pairs.tolist())
    hops += sum(int(n) * _to_edge(problem.shapes[i]) for i, n in enumerate(problem.to_edge))
    return problem.hop_cycles * hops + sum(2 * min(s.cost_cycles for s in shapes) for shapes in problem.shapes)


def _apart(ours: tuple[Shape, ...], theirs: tuple[Shape, ...]) -> int:
    """Doubled least distance of centres over all choices of shapes."""
    return min(min(a.columns + b.columns, a.rows + b.rows) for a in ours for b in theirs)


def _to_edge(shapes: tuple[Shape, ...]) -> int:
    """Doubled least distance of a centre to a column at the west or east edge."""
    return min(s.columns - 1 for s in shapes)


def _separated(problem: Problem) -> int:
    """Each region charged half its short side per flow, with its shape free."""
    total = 0
    for i, shapes in enumerate(problem.shapes):
        flows, edge = len(problem.partners[i]), int(problem.to_edge[i])
        total += min(_own(problem, s, flows, edge) for s in shapes)
    return total


def _own(problem: Problem, shape: Shape, flows: int, edge: int) -> int:
    hops = flows * min(shape.rows, shape.columns) + edge * (shape.columns - 1)
    return 2 * shape.cost_cycles + problem.hop_cycles * hops


def _balls(problem: Problem) -> int:
    """Hubs' flows by the ball they must fill, all other flows pairwise."""
    hubs = [i for i, partners in enumerate(problem.partners) if len(partners) >= HUB]
    taken: set[int] = set()
    hops = 0.0
    for hub in hubs:
        near: dict[int, int] = {}
        for number, (a, b) in enumerate(problem.pairs.tolist()):
            if hub in (a, b) and number not in taken:
                taken.add(number)
                other = b if a == hub else a
                near[other] = near.get(other, 0) + 1
        if near:
            hops += _ball(problem, near)
    if not hubs:
        return 0
    rest = [
        _apart(problem.shapes[a], problem.shapes[b])
        for n, (a, b) in enumerate(problem.pairs.tolist())
        if n not in taken
    ]
    hops = np.floor(hops) + sum(rest)
    hops += sum(int(n) * _to_edge(problem.shapes[i]) for i, n in enumerate(problem.to_edge))
    return problem.hop_cycles * int(hops) + sum(2 * min(s.cost_cycles for s in shapes) for shapes in problem.shapes)


def _ball(problem: Problem, near: dict[int, int]) -> float:
    """Doubled least sum of distances from a hub to its partners, each with its number of flows.

    sum_j s_j/N_j (G(S_j) - G(S_{j-1})) - sum_j s_j (w_j + h_j)/4 with G(S) = (4/3)(S/2)^1.5, S_j the areas filled so
    far in falling s_j/N_j. With several shapes: the least area, and the largest half perimeter.
    """
    partners = [
        (flows, min(s.pes for s in problem.shapes[j]), max(s.rows + s.columns for s in problem.shapes[j]))
        for j, flows in near.items()
    ]
    partners.sort(key=lambda p: -p[0] / p[1])
    filled, total = 0.0, 0.0
    for flows, area, sides in partners:
        total += flows / area * (_integral(filled + area) - _integral(filled)) - flows * sides / 4
        filled += area
    return 2 * total


def _integral(area: float) -> float:
    """The integral of the L1 distance over the L1 ball of this area."""
    return float(4 / 3 * (area / 2) ** 1.5)
