"""Place: give every region a rectangle of PEs around what is dead, close to the regions it talks to.

A constructive start (strips cut by dynamic programming, the plain snake, regions grown one by one), made legal on
the exact defect map, is improved by single moves and by CP-SAT windows of up to four regions, each accepted only if
the exact objective falls. So the result is never worse than the best snake, which is reported beside a lower bound.
Same request, same answer: searches end by count, the solver has one worker and deterministic time.

Reads PlaceRequest, Target and DefectMap; writes Placement. Cost: milliseconds per embedding tried; about a second
for 8 regions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...errors import CompileError, DoesNotFit
from ...ir.block import RegionId
from ...ir.embedding import Refusal
from ...ir.placement import Placement, PlacementReport, PlaceRequest, RegionRequest, Shape
from ...ir.program import Rect
from ...silicon import DefectMap
from ...targets import Target
from ..embed import DETOUR_HOPS, REACH, embed
from .bound import lower_bound
from .moves import grow, improve
from .problem import Problem, Spot, Spots, problem_of
from .sites import Sites, detour
from .strips import best_layouts
from .windows import WindowReport, improve_by_windows

WINDOW_SHARES = (0.6, 0.4)  # of the solver's effort, for the best start and the second
MANY_PES = 20_000  # PEs of all regions beyond which only the two best starts are improved


@dataclass(frozen=True)
class Place:
    """Options of the pass; the defaults are what ``wafercc compile`` uses.

    ``effort``: deterministic solver time per region (about two seconds a unit); ``rounds``: rounds of single moves;
    ``reach``, ``detour_hops``: the jog and the detour that embedding may use; ``margin``: live rows and columns to keep
    free beside regions, inside their rectangles.
    """

    seed: int = 0
    effort: float = 0.05
    rounds: int = 4
    reach: int = REACH
    detour_hops: int = DETOUR_HOPS
    margin: Mapping[RegionId, int] = field(default_factory=dict)

    def __call__(self, request: PlaceRequest, target: Target, defects: DefectMap) -> Placement:
        """Place every region on its wafer.

        Raises:
            TargetError: the defect map is for another grid or view.
            DoesNotFit: no legal arrangement was found; demand and bound are PEs.
            CompileError: a pinned rectangle is outside, overlaps another, or does not take any of its region's
            shapes.
        """
        defects.check_for(target)
        rects: dict[RegionId, Rect] = {}
        shapes: dict[RegionId, Shape] = {}
        totals = _Totals()
        wanted = {r.id: r.shapes for r in request.regions}
        for wafer in sorted({r.wafer for r in request.regions}):
            if wafer >= target.wafers:
                raise CompileError(f"wafer {wafer} is wanted; the target has {target.wafers}", where="placement")
            problem = problem_of(self._with_margin(request), wafer, target, defects.alive(wafer))
            spots = self._place(problem, target, totals)
            for i, spot in enumerate(spots):
                rects[problem.ids[i]] = spot.rect(wafer)
                shapes[problem.ids[i]] = wanted[problem.ids[i]][spot.shape]
        order = [r.id for r in request.regions]
        report = PlacementReport(totals.objective / 2, totals.baseline_cycles, totals.bound / 2, str(totals.windows))
        rects, shapes = {i: rects[i] for i in order}, {i: shapes[i] for i in order}
        found = Placement(rects, shapes, report, self.reach, self.detour_hops)
        return settle(found, request, target, defects) if self.margin else found

    def _with_margin(self, request: PlaceRequest) -> PlaceRequest:
        """The same with larger shapes, of regions that are not pinned."""
        regions = []
        for region in request.regions:
            more = 0 if region.id in request.pins else self.margin.get(region.id, 0)
            shapes = [replace(s, rows=s.rows + more, columns=s.columns + more) for s in region.shapes]
            regions.append(replace(region, shapes=tuple(shapes)))
        return replace(request, regions=tuple(regions))

    def _place(self, problem: Problem, target: Target, totals: _Totals) -> Spots:
        sites = Sites(problem.alive, self.reach, self.detour_hops)
        _check_room(problem, target)
        starts: list[Spots] = []
        pinned = _pinned(problem, sites)
        snakes = [] if pinned else best_layouts(problem, sites, snake=True)
        if not pinned:
            starts = [*snakes[:1], *best_layouts(problem, sites, snake=False)[:2]]
        starts += _grown(problem, sites, pinned, wanted=not starts)
        if not starts:
            raise _no_room(problem, target)
        ranked = sorted(dict.fromkeys(starts), key=problem.doubled_cost)
        improved = [improve(problem, sites, s, self.rounds) for s in ranked[: _starts_improved(problem)]]
        improved = sorted(dict.fromkeys(improved), key=problem.doubled_cost)[: len(WINDOW_SHARES)]
        bound = lower_bound(problem, self.seed, problem.doubled_cost(improved[0]))
        finals: list[Spots] = []
        for start, share in zip(improved, WINDOW_SHARES, strict=False):
            effort = self.effort * problem.count * share
            final, report = improve_by_windows(problem, sites, start, effort, self.seed, bound)
            totals.windows = totals.windows + report
            finals.append(final)
        best = min(finals, key=problem.doubled_cost)
        best = improve(problem, sites, best, 1)
        assert problem.free_of_overlap(best), "regions overlap"
        totals.objective += problem.doubled_cost(best)
        totals.bound += bound
        totals.add_baseline(problem.doubled_cost(snakes[0]) if snakes else None)
        return best


def settle(placement: Placement, request: PlaceRequest, target: Target, defects: DefectMap) -> Placement:
    """A placement that was decided elsewhere, held against what is asked and what is dead; its objective counted anew.

    Raises:
        CompileError: a region is missing, unknown, of another mesh, outside the wafer, on top of another, not where it
        is pinned, or does not embed in its rectangle.
    """
    asked = {r.id: r for r in request.regions}
    for region in placement.rects:
        if region not in asked:
            raise CompileError(f"there is no such region; there are {', '.join(asked)}", where=f"region {region}")
    for region, rect in request.pins.items():
        if placement.rects.get(region, rect) != rect:
            raise CompileError(
                f"it is placed at {placement.rects[region]} and pinned at {rect}",
                where=f"region {region}",
                hint="change its option --pin as well, or take it out",
            )
    doubled = 0
    shapes: dict[RegionId, Shape] = {}
    for wafer in range(target.wafers):
        problem = problem_of(request, wafer, target, defects.alive(wafer))
        spots = [_spot(placement, asked[region], problem) for region in problem.ids]
        for i, spot in enumerate(spots):
            for j in range(i):
                if spot.overlaps(spots[j]):
                    raise CompileError(
                        f"its rectangle {spot.rect(wafer)} overlaps {spots[j].rect(wafer)} of region {problem.ids[j]}",
                        where=f"region {problem.ids[i]}",
                        hint="move one of them",
                    )
        doubled += problem.doubled_cost(spots)
        shapes |= {region: asked[region].shapes[s.shape] for region, s in zip(problem.ids, spots, strict=True)}
    return replace(
        placement,
        rects={r: placement.rects[r] for r in asked},
        shapes={r: shapes[r] for r in asked},
        report=replace(placement.report, objective=doubled / 2),
    )


def _spot(placement: Placement, asked: RegionRequest, problem: Problem) -> Spot:
    """Where a placement puts one region, as a spot of the problem."""
    where = f"region {asked.id}"
    if asked.id not in placement.rects:
        raise CompileError("it has no place", where=where)
    rect, shape = placement.rects[asked.id], placement.shapes[asked.id]
    if rect.wafer != asked.wafer:
        raise CompileError(f"it is on wafer {rect.wafer}; it belongs on wafer {asked.wafer}", where=where)
    found = embed(rect, shape.rows, shape.columns, problem.alive, placement.reach, placement.detour_hops)
    if isinstance(found, Refusal):
        raise CompileError(found.reason, where=where, hint="move it, enlarge its rectangle, or raise the reach to 2")
    sizes = [(s.rows, s.columns) for s in asked.shapes]
    if (shape.rows, shape.columns) not in sizes:
        raise CompileError(f"its mesh is {shape}, rows x columns; {sizes} are possible", where=where)
    return Spot(rect.x, rect.y, rect.w, rect.h, sizes.index((shape.rows, shape.columns)), detour(found))


@dataclass
class _Totals:
    """Doubled cycles summed over wafers."""

    objective: int = 0
    bound: int = 0
    baseline: int = 0
    has_baseline: bool = True
    windows: WindowReport = WindowReport()  # noqa: RUF009 - frozen

    def add_baseline(self, doubled: int | None) -> None:
        self.has_baseline = self.has_baseline and doubled is not None
        self.baseline += doubled or 0

    @property
    def baseline_cycles(self) -> float | None:
        return self.baseline / 2 if self.has_baseline else None


def _starts_improved(problem: Problem) -> int:
    """How many starts single moves improve, the best first."""
    return 6 if sum(shapes[0].pes for shapes in problem.shapes) < MANY_PES else 2


def _grown(problem: Problem, sites: Sites, pinned: dict[int, Spot], wanted: bool) -> list[Spots]:
    """Placements grown one by one: in the order of data; around the hub if there is one; if wanted, in other orders."""
    in_order = list(range(problem.count))
    degree = [len(p) for p in problem.partners]
    found = [grow(problem, sites, in_order, pinned)]
    if max(degree) > 3:
        found.append(grow(problem, sites, sorted(in_order, key=lambda i: (-degree[i], i)), pinned, inland=True))
    legal = [f for f in found if f is not None]
    if not legal and wanted:
        area = [max(s.pes for s in shapes) for shapes in problem.shapes]
        for order in (sorted(in_order, key=lambda i: (-area[i], i)), in_order[::-1]):
            late = grow(problem, sites, order, pinned)
            if late is not None:
                return [late]
    return legal


def _pinned(problem: Problem, sites: Sites) -> dict[int, Spot]:
    """The pinned regions' spots.

    Raises:
        CompileError: a pin is outside the wafer, overlaps another, or takes no shape of its region.
    """
    spots: dict[int, Spot] = {}
    for i, rect in problem.pins.items():
        where = f"region {problem.ids[i]}, pinned at {rect}"
        shapes = problem.shapes[i]
        found = [sites.exactly(rect, s, k) for k, s in enumerate(shapes)]
        spot = next((s for s in found if isinstance(s, Spot)), None)
        if spot is None:
            wanted = " or ".join(f"{s.columns} columns x {s.rows} rows" for s in shapes)
            least, live = min(s.pes for s in shapes), sites.live(rect)
            reasons = "; ".join(dict.fromkeys(r.reason for r in found if isinstance(r, Refusal)))
            raise CompileError(
                f"{wanted} need {least} live cores laid out as a mesh; {live} of its {rect.w * rect.h} are alive: "
                f"{reasons}",
                where=where,
                hint="pin it elsewhere or larger, or give a smaller --region",
            )
        for other, taken in spots.items():
            if spot.overlaps(taken):
                raise CompileError(f"it overlaps pinned region {problem.ids[other]}", where=where)
        spots[i] = spot
    return spots


def _check_room(problem: Problem, target: Target) -> None:
    """Hold that the regions could fit at all.

    Raises:
        DoesNotFit: more PEs are needed than live, or one region is longer than the wafer.
    """
    demand = sum(min(s.pes for s in shapes) for shapes in problem.shapes)
    bound = problem.alive.cores
    if demand > bound:
        raise DoesNotFit(
            f"{problem.count} regions need {demand} PEs; {bound} of {target.pes} are alive",
            resource="area",
            demand=demand,
            bound=bound,
            where=f"{target.name}, wafer {problem.wafer}",
            hint="use a larger target, more wafers, or a smaller model",
        )
    for region, shapes in zip(problem.ids, problem.shapes, strict=True):
        if not any(s.columns <= target.width and s.rows <= target.height for s in shapes):
            least = min(shapes, key=lambda s: max(s.columns, s.rows))
            raise DoesNotFit(
                f"its mesh is {least.columns} columns x {least.rows} rows; "
                f"the wafer has {target.width} x {target.height}",
                resource="area",
                demand=least.pes,
                bound=target.pes,
                where=f"region {region}",
                hint="cut the model into more stages or use a larger target",
            )


def _no_room(problem: Problem, target: Target) -> DoesNotFit:
    demand = sum(min(s.pes for s in shapes) for shapes in problem.shapes)
    bound = problem.alive.cores
    return DoesNotFit(
        f"no legal arrangement found for {problem.count} regions of {demand} PEs in all; {bound} of {target.pes} PEs "
        f"are alive, so {100 * demand / bound:.1f} % would be used",
        resource="area",
        demand=demand,
        bound=bound,
        where=f"{target.name}, wafer {problem.wafer}",
        hint=("pin fewer regions, or " if problem.pins else "")
        + "use a larger target, fewer PEs per region, or more stages",
    )
