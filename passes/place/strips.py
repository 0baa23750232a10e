"""Strips: regions in order, stacked in parallel strips that run to and fro; the constructive start, and the baseline.

The cuts between strips come from dynamic programming over the order: D_k(j) = min over i of D_{k-1}(i) + c(i, j),
where c is the distance of flows inside the strip plus the strip's thickness for every flow that crosses its end. The
*snake* is the plain version: equal numbers of regions and one thickness for all strips. Layouts are ranked on a
perfect wafer; the best ones are made legal exactly: each region takes the shortest stretch of its strip in which it
embeds.

Cost: O(regions² · strips) to cut, a few embeddings per region and layout to make legal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...ir.placement import Shape
from .problem import Problem, Spot, Spots
from .sites import Fit, Sites, perfect_fit

LEGALISED = 6  # layouts of each kind that are made legal, best first on the perfect wafer
LARGE = 10_000  # PEs of a region from which the first legal size is taken, since embedding takes milliseconds


@dataclass(frozen=True, slots=True)
class Plan:
    """A layout before it meets defects: strips of regions in order, their direction, one thickness for all or not."""

    cuts: tuple[int, ...]  # 0 = cuts[0] < ... < cuts[-1] = regions
    shapes: tuple[int, ...]
    vertical: bool
    uniform: bool
    turning: bool


def best_layouts(problem: Problem, sites: Sites, snake: bool) -> list[Spots]:
    """Legal strip layouts, best first; empty if none is legal. ``snake`` makes the plain baseline only."""
    height, width = problem.alive.height, problem.alive.width
    ranked: list[tuple[int, int, Plan]] = []
    plans = _snakes(problem) if snake else _dynamic(problem)
    for number, plan in enumerate(dict.fromkeys(plans)):
        spots = lay(problem, plan, perfect_fit, width, height)
        if spots is not None:
            ranked.append((problem.doubled_cost(spots), number, plan))
    found: list[tuple[int, Spots]] = []
    enough = LEGALISED if sum(shapes[0].pes for shapes in problem.shapes) < 2 * LARGE else 2
    for tried, (_, _, plan) in enumerate(sorted(ranked, key=lambda r: r[:2])):
        if found and tried >= 2 * enough:
            break
        spots = lay(problem, plan, sites.fit, width, height)
        if spots is not None:
            found.append((problem.doubled_cost(spots), spots))
            if len(found) == enough:
                break
    return [spots for _, spots in sorted(found, key=lambda f: f[0])]


def lay(problem: Problem, plan: Plan, fit: Fit, width: int, height: int) -> Spots | None:
    """Put the regions of a plan down with exact sizes, or None where they do not fit."""
    thick_room, long_room = (width, height) if plan.vertical else (height, width)
    shapes = [problem.shapes[i][s] for i, s in enumerate(plan.shapes)]
    thick = [s.columns if plan.vertical else s.rows for s in shapes]
    long = [s.rows if plan.vertical else s.columns for s in shapes]
    strips = [range(a, b) for a, b in pairwise(plan.cuts)]
    if max(sum(long[i] for i in strip) for strip in strips) > long_room:
        return None
    spots: dict[int, Spot] = {}
    at, reached = 0, 0
    for number, strip in enumerate(strips):
        base = max(thick) if plan.uniform else max(thick[i] for i in strip)
        backwards = plan.turning and number % 2 == 1
        later = sum(max(thick[i] for i in other) for other in strips[number + 1 :])
        room = thick_room - at - later
        placed = _best_strip(plan, strip, shapes, (at, base, room), (reached, long_room), backwards, fit)
        if placed is None:
            return None
        thickness, chosen = placed
        spots.update(zip(strip, chosen, strict=True))
        at += thickness
        ends = [s.y + s.h if plan.vertical else s.x + s.w for s in chosen]
        reached = max(reached, *ends)
    return tuple(spots[i] for i in range(len(shapes)))


def _best_strip(
    plan: Plan,
    strip: range,
    shapes: Sequence[Shape],
    across: tuple[int, int, int],
    along: tuple[int, int],
    backwards: bool,
    fit: Fit,
) -> tuple[int, list[Spot]] | None:
    """The strip at the thickness that detours least: a few lines above the thinnest, more only where that fails."""
    at, base, room = across
    best: tuple[int, int, list[Spot]] | None = None
    most = min(room, base + max(4, base // 8))
    large = max(shapes[i].pes for i in strip) >= LARGE
    for thickness in range(base, most + 1, max(1, base // 100)):
        spots = _strip(plan, strip, shapes, (at, thickness), along, backwards, fit)
        if spots is None:
            continue
        # Trimmed rectangles may leave lines of the strip unused.
        used = max((s.x + s.w if plan.vertical else s.y + s.h) - at for s in spots)
        score = 2 * sum(s.detour for s in spots) + used
        if best is None or score < best[0]:
            best = (score, base if plan.uniform and used <= base else used, spots)
        if large or all(s.detour == 0 for s in spots) or fit is perfect_fit or thickness >= base + 3:
            break
    return None if best is None else (best[1], best[2])


def _strip(
    plan: Plan,
    strip: range,
    shapes: Sequence[Shape],
    across: tuple[int, int],
    along: tuple[int, int],
    backwards: bool,
    fit: Fit,
) -> list[Spot] | None:
    """One strip of given place and thickness: forwards from 0, or backwards from where the last one ended."""
    reached, room = along
    length = sum(shapes[i].rows if plan.vertical else shapes[i].columns for i in strip)
    if not backwards:
        return _stack(plan, strip, shapes, across, 0, room, False, fit)
    start = max(reached, length)
    for slack in (0, 1, 2, 4, 8, 16, room - start):
        if 0 <= slack <= room - start:
            spots = _stack(plan, strip, shapes, across, start + slack, room, True, fit)
            if spots is not None:
                return spots
    return None


def _stack(
    plan: Plan,
    strip: range,
    shapes: Sequence[Shape],
    across: tuple[int, int],
    start: int,
    room: int,
    backwards: bool,
    fit: Fit,
) -> list[Spot] | None:
    at, thickness = across
    spots: list[Spot] = []
    for i in strip:
        least = shapes[i].rows if plan.vertical else shapes[i].columns
        limit = min(start if backwards else room - start, least + max(8, least // 4))
        spot: Spot | None = None
        patience = 8 if shapes[i].pes < LARGE // 5 else 2 if shapes[i].pes < LARGE else 0
        for length in range(least, limit + 1, max(1, least // 100)):
            low = start - length if backwards else start
            place = (at, low, thickness, length) if plan.vertical else (low, at, length, thickness)
            longer = fit(*place, shapes[i], plan.shapes[i])
            if longer is not None and (spot is None or longer.detour < spot.detour):
                spot = longer
            if spot is not None and (spot.detour <= length + 1 - least or length >= least + patience):
                break
        if spot is None:
            return None
        spots.append(spot)
        low, high = (spot.y, spot.y + spot.h) if plan.vertical else (spot.x, spot.x + spot.w)
        start = low if backwards else high
    return spots


def _snakes(problem: Problem) -> Iterator[Plan]:
    """Every number of regions per strip, both directions, each way of choosing shapes."""
    count = problem.count
    for vertical in (True, False):
        for shapes in _shape_choices(problem, vertical):
            for each in range(1, count + 1):
                cuts = (*range(0, count, each), count)
                yield Plan(cuts, shapes, vertical, uniform=True, turning=True)


def _dynamic(problem: Problem) -> Iterator[Plan]:
    """The best cuts for every number of strips, both directions, each way of choosing shapes, turning or not."""
    for vertical in (True, False):
        for shapes in _shape_choices(problem, vertical):
            for cuts in _cut(problem, shapes, vertical):
                for turning in (True, False):
                    yield Plan(cuts, shapes, vertical, uniform=False, turning=turning)


def _shape_choices(problem: Problem, vertical: bool) -> list[tuple[int, ...]]:
    """For all regions alike: cheapest, smallest, thinnest across the strip, shortest along it."""
    best: list[tuple[int, ...]] = []
    for way in range(4):
        keys = [[_preference(s, vertical)[way] for s in many] for many in problem.shapes]
        best.append(tuple(min(range(len(k)), key=k.__getitem__) for k in keys))
    return list(dict.fromkeys(best))


def _preference(shape: Shape, vertical: bool) -> tuple[tuple[int, int], ...]:
    across, along = (shape.columns, shape.rows) if vertical else (shape.rows, shape.columns)
    cost = shape.cost_cycles
    return (cost, shape.pes), (shape.pes, cost), (across, cost), (along, cost)


def _cut(problem: Problem, chosen: tuple[int, ...], vertical: bool) -> Iterator[tuple[int, ...]]:
    """Cuts for 1, 2, ... strips by the recurrence above; strips longer than the wafer are not made."""
    count = problem.count
    shapes = [problem.shapes[i][s] for i, s in enumerate(chosen)]
    thick = [s.columns if vertical else s.rows for s in shapes]
    long = [s.rows if vertical else s.columns for s in shapes]
    room, thick_room = problem.alive.height, problem.alive.width
    if not vertical:
        room, thick_room = thick_room, room
    middle = [sum(long[:i]) * 2 + long[i] for i in range(count)]
    flows = [(min(a, b), max(a, b)) for a, b in problem.pairs.tolist()]
    open_at = [sum(a < j <= b for a, b in flows) for j in range(count + 1)]
    inside_of = [
        [sum(middle[b] - middle[a] for a, b in flows if i <= a and b < j) for j in range(count + 1)]
        for i in range(count)
    ]
    infinite = 1 << 60
    previous = [0] + [infinite] * count
    back: list[list[int]] = []
    for _ in range(min(count, 64)):
        now, arrow = [infinite] * (count + 1), [0] * (count + 1)
        for i in range(count):
            if previous[i] >= infinite:
                continue
            thickness, length = 0, 0
            for j in range(i + 1, count + 1):
                thickness, length = max(thickness, thick[j - 1]), length + long[j - 1]
                if length > room or thickness > thick_room:
                    break
                cost = previous[i] + inside_of[i][j] + 2 * thickness * open_at[j]
                if cost < now[j]:
                    now[j], arrow[j] = cost, i
        back.append(arrow)
        if now[count] < infinite:
            cuts, j = [count], count
            for earlier in reversed(back):
                j = earlier[j]
                cuts.append(j)
            yield tuple(reversed(cuts))
        previous = now
