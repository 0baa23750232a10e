"""Area: place regions that need so many live cores, whatever their shape, on a full wafer with dead cores.

Regions of free shape are cut out of the wafer by a slicing tree, so that they never overlap and no room is lost:

1. `shares`: how many cores each region should get, by price;
2. `strips`: the best cuts of the order into parallel strips, a constructive start;
3. `anneal`: search over trees, from the best strips, a few times with seeds of their own;
4. `slicing`: cuts that give every region its cores on the exact map;
5. `polish`: linear programs that move all edges at once, until they find nothing better.

Every step keeps the cheapest legal placement so far, the plain `snake` among them, so the result is never worse than
that; `bound` says how far from the best it can be at most. Searches end by count and GLOP is deterministic: same
problem, options and seed, same rectangles.

The solver's part is the linear programs. CP-SAT is not used: windows of four regions, which serve `passes/place` well,
gained at most 0.2 points of the gap after annealing and linear programs in the study that this follows. Cost: 1.5 s of
one core for 5 regions, 3 s for 20, 7 to 10 s for 100, most of it annealing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....errors import DoesNotFit
from .anneal import anneal
from .bound import lower_bound
from .polish import polish
from .problem import AreaPlacement, AreaProblem, AreaReport, Ints
from .shares import area_shares, row_rule_loss
from .slicing import legalise
from .snake import best_snake
from .strips import Box, best_strips

__all__ = ["AreaPlacement", "AreaProblem", "AreaReport", "PlaceAreas", "best_snake", "lower_bound"]

MOST_MOVES = 1_600_000  # moves times (regions + 20) of one annealing: a move costs about so much


@dataclass(frozen=True)
class PlaceAreas:
    """Options: ``anneals`` runs of at most ``moves`` moves each, ``polishes`` rounds of linear programs, the seed."""

    seed: int = 0
    anneals: int = 2
    moves: int = 30_000
    polishes: int = 3

    def __call__(self, problem: AreaProblem) -> AreaPlacement:
        """Place all regions.

        Raises:
            DoesNotFit: more cores are needed than live, or no legal arrangement was found; both numbers are cores.
        """
        demand = int(problem.needed.sum())
        if demand > problem.live_cores:
            raise _too_large(problem, f"{problem.count} regions need {demand} cores; {problem.live_cores} are alive")
        snake = best_snake(problem)
        room = problem.width * problem.height * (1 - row_rule_loss(problem))
        areas = area_shares(problem, room)
        start, strips = best_strips(problem, areas, _boxes(problem, float(areas.sum()) / room))
        moves = min(self.moves, MOST_MOVES // (problem.count + 20))
        trees = [anneal(problem, areas, start, moves, self.seed * self.anneals + k) for k in range(self.anneals)]
        legal = [rects for rects in (snake, strips, *(legalise(problem, t, areas) for t in trees)) if rects is not None]
        if not legal:
            used = f"{100 * demand / problem.live_cores:.1f} % of the live cores would be used"
            raise _too_large(problem, f"no legal arrangement found for {problem.count} regions; {used}")
        legal.sort(key=problem.cost)
        rects = self._polished(problem, legal)
        report = AreaReport(
            objective=problem.cost(rects),
            snake=None if snake is None else problem.cost(snake),
            strips=None if strips is None else problem.cost(strips),
            searched=problem.cost(legal[0]),
            bound=lower_bound(problem),
        )
        return AreaPlacement(rects, report)

    def _polished(self, problem: AreaProblem, legal: list[Ints]) -> Ints:
        """The best of the placements after linear programs: a first round for the two cheapest, more for the best."""
        if self.polishes == 0:
            return legal[0]
        best = min((polish(problem, rects) for rects in legal[:2]), key=problem.cost)
        for _ in range(self.polishes - 1):
            better = polish(problem, best)
            if better is best:
                break
            best = better
        return best


def _boxes(problem: AreaProblem, filled: float) -> list[Box]:
    """The whole wafer, or where areas do not fill it, so much of its width or of its height."""
    share = min(1.0, filled)
    narrow, low = max(1, round(share * problem.width)), max(1, round(share * problem.height))
    return list(dict.fromkeys([(narrow, problem.height), (problem.width, low)]))


def _too_large(problem: AreaProblem, message: str) -> DoesNotFit:
    return DoesNotFit(
        message,
        resource="area",
        demand=int(problem.needed.sum()),
        bound=problem.live_cores,
        where=f"{problem.count} regions on a {problem.width}x{problem.height} grid",
        hint="use a larger grid or fewer cores per region",
    )
