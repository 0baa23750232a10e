"""The CP-SAT model of a few regions: where each may sit, in which size, at the least objective.

Coordinates are whole numbers; a size option fixes the shape, the rectangle and the detour expected there. An option
without spare lines tolerates no dead core, so such a rectangle must avoid them all; with spare lines defects are not
modelled, and the answer is only a proposal that embedding accepts or not. One worker and deterministic time, so
equal models give equal answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ortools.sat.python import cp_model

from .problem import Problem, Spot

PORTS = 6  # nearest ports offered to a region that talks to the host
Box = tuple[int, int, int, int]  # x, y, w, h
Expr = cp_model.LinearExpr | int


@dataclass(frozen=True, slots=True)
class Size:
    """One way a region may be sized: a shape, its rectangle, and the detour expected in it."""

    shape: int
    w: int
    h: int
    detour: int
    spare: bool


@dataclass(frozen=True)
class Window:
    """Regions that move inside a box among obstacles; ``fixed`` are the spots of all others.

    ``relaxed``: every row has a port at the edges that have ports at all, as a bound wants.
    """

    box: Box
    sizes: Mapping[int, Sequence[Size]]
    fixed: Mapping[int, Spot]
    dead: Sequence[tuple[int, int]] = ()
    hint: Mapping[int, Spot] = field(default_factory=dict)
    relaxed: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Proposed corners with size options (empty if none), the solver's bound, whether it is met, the effort."""

    chosen: Mapping[int, tuple[int, int, Size]]
    doubled_bound: int
    optimal: bool
    effort: float


def solve(problem: Problem, window: Window, seed: int, effort: float) -> Answer:
    """Solve one window within ``effort`` units of deterministic time (not seconds)."""
    return _Model(problem, window).solve(seed, effort)


class _Model:
    """Builds and solves one window; holds the solver's variables while it does."""

    def __init__(self, problem: Problem, window: Window) -> None:
        self.problem, self.window = problem, window
        self.cp = cp_model.CpModel()
        self.x: dict[int, cp_model.IntVar] = {}
        self.y: dict[int, cp_model.IntVar] = {}
        self.picks: dict[int, list[cp_model.IntVar]] = {}
        self.centre: dict[int, tuple[Expr, Expr]] = {}
        self.cost: list[Expr] = []
        across: list[cp_model.IntervalVar] = []
        down: list[cp_model.IntervalVar] = []
        for region in window.sizes:
            ends = self._region(region)
            across.append(ends[0])
            down.append(ends[1])
        for spot in window.fixed.values():
            if _in_box(spot, window.box):
                across.append(self.cp.new_fixed_size_interval_var(spot.x, spot.w, ""))
                down.append(self.cp.new_fixed_size_interval_var(spot.y, spot.h, ""))
        self.cp.add_no_overlap_2d(across, down)
        self._flows()
        self.cp.minimize(sum(self.cost))

    def _region(self, region: int) -> tuple[cp_model.IntervalVar, cp_model.IntervalVar]:
        sizes = self.window.sizes[region]
        bx, by, bw, bh = self.window.box
        narrow, low = min(s.w for s in sizes), min(s.h for s in sizes)
        x = self.cp.new_int_var(bx, bx + bw - narrow, f"x{region}")
        y = self.cp.new_int_var(by, by + bh - low, f"y{region}")
        picks = [self.cp.new_bool_var(f"s{region}_{k}") for k in range(len(sizes))]
        self.cp.add_exactly_one(picks)
        w = self.cp.new_int_var(narrow, max(s.w for s in sizes), f"w{region}")
        h = self.cp.new_int_var(low, max(s.h for s in sizes), f"h{region}")
        self.cp.add(w == sum(p * s.w for p, s in zip(picks, sizes, strict=True)))
        self.cp.add(h == sum(p * s.h for p, s in zip(picks, sizes, strict=True)))
        right = self.cp.new_int_var(bx, bx + bw, f"r{region}")
        bottom = self.cp.new_int_var(by, by + bh, f"b{region}")
        self.x[region], self.y[region], self.picks[region] = x, y, picks
        self.centre[region] = (2 * x + w - 1, 2 * y + h - 1)
        hop = self.problem.hop_cycles
        for pick, size in zip(picks, sizes, strict=True):
            own = self.problem.shapes[region][size.shape].cost_cycles + hop * size.detour
            self.cost.append(2 * own * pick)
            if not size.spare and self.window.dead:
                self._avoid_dead(x, y, size, pick)
        self._hint(region)
        return self.cp.new_interval_var(x, w, right, ""), self.cp.new_interval_var(y, h, bottom, "")

    def _avoid_dead(self, x: cp_model.IntVar, y: cp_model.IntVar, size: Size, pick: cp_model.IntVar) -> None:
        across = [self.cp.new_optional_fixed_size_interval_var(x, size.w, pick, "")]
        down = [self.cp.new_optional_fixed_size_interval_var(y, size.h, pick, "")]
        for dead_x, dead_y in self.window.dead:
            across.append(self.cp.new_fixed_size_interval_var(dead_x, 1, ""))
            down.append(self.cp.new_fixed_size_interval_var(dead_y, 1, ""))
        self.cp.add_no_overlap_2d(across, down)

    def _hint(self, region: int) -> None:
        spot = self.window.hint.get(region)
        if spot is None:
            return
        self.cp.add_hint(self.x[region], spot.x)
        self.cp.add_hint(self.y[region], spot.y)
        for pick, size in zip(self.picks[region], self.window.sizes[region], strict=True):
            self.cp.add_hint(pick, (size.shape, size.w, size.h) == (spot.shape, spot.w, spot.h))

    def _flows(self) -> None:
        hop = self.problem.hop_cycles
        weights: dict[tuple[int, int], int] = {}
        for a, b in self.problem.pairs.tolist():
            if a in self.centre or b in self.centre:
                weights[min(a, b), max(a, b)] = weights.get((min(a, b), max(a, b)), 0) + 1
        for (a, b), weight in weights.items():
            for axis in (0, 1):
                self.cost.append(hop * weight * self._distance(self._at(a, axis), self._at(b, axis)))
        for region in self.centre:
            weight = int(self.problem.to_edge[region])
            if weight and self.problem.ports:
                self.cost.append(hop * weight * self._to_edge(region))

    def _at(self, region: int, axis: int) -> Expr:
        return self.centre[region][axis] if region in self.centre else self.window.fixed[region].centre[axis]

    def _distance(self, a: Expr, b: Expr) -> cp_model.IntVar:
        far = 2 * max(self.problem.alive.width, self.problem.alive.height)
        d = self.cp.new_int_var(0, far, "")
        self.cp.add(d >= a - b)
        self.cp.add(d >= b - a)
        return d

    def _to_edge(self, region: int) -> cp_model.IntVar:
        """Doubled distance to the nearest of the ports nearest to where the region was."""
        x, y = self.centre[region]
        far = 2 * (self.problem.alive.width + self.problem.alive.height)
        d = self.cp.new_int_var(0, far, "")
        choices = []
        ports = [(e, None) for e, _ in self.problem.ports] if self.window.relaxed else self._near_ports(region)
        for port_x, port_y in ports:
            choice = self.cp.new_bool_var("")
            across: Expr = self._distance(x, 2 * port_x)
            down: Expr = 0 if port_y is None else self._distance(y, 2 * port_y)
            self.cp.add(d >= across + down).only_enforce_if(choice)
            choices.append(choice)
        self.cp.add_exactly_one(choices)
        return d

    def _near_ports(self, region: int) -> Sequence[tuple[int, int | None]]:
        spot = self.window.hint[region]
        cx, cy = spot.centre
        ports = [(int(x), int(y)) for x, rows in self.problem.ports for y in rows]
        return sorted(ports, key=lambda p: (abs(2 * p[0] - cx) + abs(2 * p[1] - cy), p))[:PORTS]

    def solve(self, seed: int, effort: float) -> Answer:
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = seed % (1 << 31)
        solver.parameters.max_deterministic_time = effort
        solver.parameters.catch_sigint_signal = False  # else it keeps Ctrl-C to itself, here and ever after
        status = solver.solve(self.cp)
        effort_spent = float(solver.response_proto.deterministic_time)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return Answer({}, 0, False, effort_spent)
        chosen = {}
        for region, sizes in self.window.sizes.items():
            size = next(s for p, s in zip(self.picks[region], sizes, strict=True) if solver.boolean_value(p))
            chosen[region] = (solver.value(self.x[region]), solver.value(self.y[region]), size)
        return Answer(chosen, math.floor(solver.best_objective_bound), status == cp_model.OPTIMAL, effort_spent)


def _in_box(spot: Spot, box: Box) -> bool:
    x, y, w, h = box
    return spot.x < x + w and x < spot.x + spot.w and spot.y < y + h and y < spot.y + spot.h
