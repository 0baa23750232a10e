"""Polish: linear programs move all edges of a placement at once, while each pair of regions keeps its order.

Of each pair one relation is kept, left of or above, in the direction in which the two are further apart; relations
that follow from others are dropped. Under these the objective is convex in positions and sizes: work / capacity and
the hyperbola w h >= needed cores are replaced by tangents, to which each solution adds those at its own sizes (cutting
planes: Kelley, J. SIAM 1960). GLOP solves it.

Sizes become whole in two steps. The edges of one direction are rounded and stay; then the least length of every
rectangle in the other direction is a whole number, exact on the defect map, and a second program places those edges.
Its constraints are differences of edges, so its solutions are whole or nearly; a region that is still short asks for
one line more, a fixed number of times. The first direction is then placed once more. Where sizes are so tight that
rounding leaves no solution, the program is solved again with some more cores for everybody, and last the edges are
placed from those of the given placement, which always has one. Only legality and the exact objective decide.

Cost: about ten programs of a few variables per region and stream: 0.1 s for 20 regions, 0.8 s for 100.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ortools.linear_solver import pywraplp

from .problem import AreaProblem, Floats, Ints

MARGINS = (0.0, 0.003)  # cores asked beyond the need, against rounding
REPAIRS = 8
SOLUTIONS = 2  # of the program in the plane, each adding its tangents
REACH = 0.35  # by which one program may change a side
ASPECTS = (0.75, 0.87, 1.0, 1.15, 1.33)  # of the first tangents, over those of the placement
SIZES = (0.8, 0.9, 1.0, 1.1, 1.25)
LENGTHS = (0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25)  # of tangents on a line
HALF = 0.508  # rounds up from a little below one half, since solutions lie at halves up to the solver's tolerance
Relations = tuple[Ints, Ints]


def polish(problem: AreaProblem, rects: Ints) -> Ints:
    """A cheaper legal placement, or the same object if none was found."""
    relations = _relations(rects)
    best, least = rects, problem.cost(rects)
    for edges in _targets(problem, rects, relations):
        for first in (0, 1):
            found = _whole(problem, edges, relations, first)
            if found is not None and problem.legal(found) and (cost := problem.cost(found)) < least:
                best, least = found, cost
        if best is not rects:
            break
    return best


def _targets(problem: AreaProblem, rects: Ints, relations: Relations) -> Iterator[Floats]:
    """Edges ``[region, (left, top, right, bottom)]`` to make whole: the best ones, some with margin, the present."""
    for margin in MARGINS:
        edges = _in_plane(problem, rects, relations, margin)
        if edges is not None:
            yield edges
    yield np.concatenate([rects[:, :2], rects[:, :2] + rects[:, 2:]], axis=1).astype(np.float64)


def _relations(rects: Ints) -> Relations:
    """Per direction (x, y), pairs ``[n, (before, after)]`` such that every two rectangles are apart in one."""
    gaps = rects[None, :, :2] - (rects[:, :2] + rects[:, 2:])[:, None, :]  # [before, after, direction]
    widest, direction = gaps.max(axis=2), gaps.argmax(axis=2)
    index = np.arange(len(rects))
    first = (widest > widest.T) | ((widest == widest.T) & (index[:, None] < index[None, :]))
    pairs = []
    for axis in (0, 1):
        before = first & (direction == axis)
        through = before.astype(np.int64) @ before.astype(np.int64) > 0
        pairs.append(np.argwhere(before & ~through))
    return pairs[0], pairs[1]


class _Program:
    """A linear program to minimise; rows are added one by one."""

    def __init__(self) -> None:
        self.solver = pywraplp.Solver.CreateSolver("GLOP")
        self.solver.Objective().SetMinimization()

    def variables(self, count: int, most: float, cost: float) -> list[pywraplp.Variable]:
        found = [self.solver.NumVar(0, most, "") for _ in range(count)]
        for variable in found:
            self.solver.Objective().SetCoefficient(variable, cost)
        return found

    def at_least(self, bound: float, *terms: tuple[pywraplp.Variable, float]) -> None:
        row = self.solver.Constraint(bound, self.solver.infinity())
        for variable, factor in terms:
            row.SetCoefficient(variable, factor)

    def edges(
        self, problem: AreaProblem, axis: int, pairs: Ints
    ) -> tuple[list[pywraplp.Variable], list[pywraplp.Variable]]:
        """The edges of all regions in one direction, with the cost of sides and streams and the order of pairs."""
        room = (problem.width, problem.height)[axis]
        low = self.variables(problem.count, room, -problem.side_cost)
        high = self.variables(problem.count, room, problem.side_cost)
        for a, b in pairs.tolist():
            self.at_least(0, (low[b], 1), (high[a], -1))
        for (a, b), weight in zip(problem.streams.tolist(), problem.weights.tolist(), strict=True):
            (doubled,) = self.variables(1, self.solver.infinity(), weight / 2)
            for sign in (1, -1):
                ends = ((low[a], sign), (high[a], sign), (low[b], -sign), (high[b], -sign))
                self.at_least(0, (doubled, 1), *ends)
        return low, high

    def solve(self) -> bool:
        return bool(self.solver.Solve() == pywraplp.Solver.OPTIMAL)


def _in_plane(problem: AreaProblem, rects: Ints, relations: Relations, margin: float) -> Floats | None:
    """The best edges that need not be whole, or None if the tangents leave no room."""
    program = _Program()
    left, right = program.edges(problem, 0, relations[0])
    top, bottom = program.edges(problem, 1, relations[1])
    spent = program.variables(problem.count, program.solver.infinity(), 1.0)
    held = problem.capacities(rects) / (rects[:, 2] * rects[:, 3])
    least = ((1 + margin) * problem.needed / held).tolist()
    work = (problem.work / held).tolist()

    def add_tangents(i: int, w: float, h: float) -> None:
        # w h >= least at its point of this aspect; spent >= work / (w h) at (w, h).
        across = (least[i] * w / h) ** 0.5
        slope = least[i] / across**2
        program.at_least(2 * slope * across, (bottom[i], 1), (top[i], -1), (right[i], slope), (left[i], -slope))
        cycles = work[i] / (w * h)
        by_w, by_h = cycles / w, cycles / h
        sides = ((right[i], by_w), (left[i], -by_w), (bottom[i], by_h), (top[i], -by_h))
        program.at_least(3 * cycles, (spent[i], 1), *sides)

    for i, (w, h) in enumerate(rects[:, 2:].tolist()):
        for size, low, high in ((w, left[i], right[i]), (h, top[i], bottom[i])):
            program.at_least((1 - REACH) * size, (high, 1), (low, -1))
            program.at_least(-(1 + REACH) * size, (high, -1), (low, 1))
        for aspect in ASPECTS:
            add_tangents(i, w * aspect, h / aspect)
        for scale in SIZES:
            add_tangents(i, w * scale**0.5, h * scale**0.5)
    edges: Floats | None = None
    for _ in range(SOLUTIONS):
        if not program.solve():
            break
        edges = np.array([[v.solution_value() for v in side] for side in (left, top, right, bottom)]).T
        for i, (x0, y0, x1, y1) in enumerate(edges.tolist()):
            add_tangents(i, x1 - x0, y1 - y0)
    return edges


def _whole(problem: AreaProblem, edges: Floats, relations: Relations, first: int) -> Ints | None:
    """Rectangles with whole edges: those of direction ``first`` rounded, the others placed, then the first placed."""
    whole = np.floor(edges + HALF).astype(np.int64)
    found: Ints | None = None
    for axis in (1 - first, first):
        placed = _on_line(problem, whole, relations[axis], axis)
        if placed is None:
            break
        whole, found = placed, np.concatenate([placed[:, :2], placed[:, 2:] - placed[:, :2]], axis=1)
    return found


def _on_line(problem: AreaProblem, whole: Ints, pairs: Ints, axis: int) -> Ints | None:
    """The edges with those of one direction placed at the least cost, all others as they are; None if nothing fits."""
    whole = whole.copy()
    across = whole[:, 3 - axis] - whole[:, 1 - axis]
    if (across < 1).any():
        return None
    least = _least_lengths(problem, whole, axis)
    length = np.maximum(least, whole[:, 2 + axis] - whole[:, axis])
    work_per_core = (problem.work * least / problem.needed).tolist()  # at one core of length
    for _ in range(REPAIRS):
        program = _Program()
        low, high = program.edges(problem, axis, pairs)
        spent = program.variables(problem.count, program.solver.infinity(), 1.0)
        for i, (short, now) in enumerate(zip(least.tolist(), length.tolist(), strict=True)):
            program.at_least(short, (high[i], 1), (low[i], -1))
            for ratio in LENGTHS:
                at = now * ratio
                cycles = work_per_core[i] / at
                program.at_least(2 * cycles, (spent[i], 1), (high[i], cycles / at), (low[i], -cycles / at))
        if not program.solve():
            return None
        edges = np.array([[v.solution_value() for v in side] for side in (low, high)]).T
        whole[:, [axis, axis + 2]] = np.floor(edges + HALF)
        size = whole[:, 2:] - whole[:, :2]
        lacking = size[:, axis] < 1
        rects = np.concatenate([whole[:, :2], np.maximum(size, 1)], axis=1)
        lacking |= problem.capacities(rects) < problem.needed
        if not lacking.any():
            return whole
        least[lacking] = np.maximum(least, size[:, axis])[lacking] + 1
    return None


def _least_lengths(problem: AreaProblem, whole: Ints, axis: int) -> Ints:
    """Per region, the least length in one direction that holds its cores, exact from where its rectangle starts now."""
    room = (problem.width, problem.height)[axis]
    found = []
    for needed, edges in zip(problem.needed.tolist(), whole.tolist(), strict=True):
        at, across = edges[1 - axis], edges[3 - axis] - edges[1 - axis]
        length = -(-needed // across)
        while length < room:
            start = max(0, min(edges[axis], room - length))
            rect = (start, at, length, across) if axis == 0 else (at, start, across, length)
            held = problem.capacity(*rect)
            if held >= needed:
                break
            length += max(1, (needed - held) // across)
        found.append(length)
    return np.array(found, np.int64)
