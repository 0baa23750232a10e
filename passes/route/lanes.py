"""Lanes: how many lanes a stream should have, and by which combs each may touch its regions.

A lane costs one hop a router of its path and one cycle a word, so a stream of w words over L lanes takes about w / L +
path; a lane is also a net to route and colours to spend, counted at two cycles each. The estimates only rank; legality
is for the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wafercc.ir.dtypes import DType
from wafercc.ir.layout import Tiled
from wafercc.ir.program import WEST, EdgePort, Fan

from .ends import End, Within, boundaries, teeth, whole_copies
from .lines import Along

LANE_CYCLES = 2
MOST_LANES = 32
DIRECTIONS: tuple[Along, ...] = ("y", "x")


@dataclass(frozen=True, slots=True)
class Hook:
    """One way a lane may touch its end: where its path starts, and how many routers lie behind that at most."""

    at: tuple[int, int]
    depth: int
    end: Fan | EdgePort


@dataclass(frozen=True, slots=True)
class Cut:
    """The share of one lane: elements ``lo .. hi-1`` of ``dim`` (all if None), between these lines of either region."""

    words: int
    dim: int | None = None
    lo: int = 0
    hi: int = 0
    along: Along | None = None
    source: Within | None = None
    destination: Within | None = None


def single(tiled: Sequence[Tiled]) -> tuple[Cut, ...]:
    """One lane for everything."""
    return (Cut(sum(_words(t, 1, 1) for t in tiled)),)


def hooks(end: End, partner: tuple[int, int], along: Along | None = None, within: Within | None = None) -> list[Hook]:
    """The combs by which a lane may touch a region, given where its other end is (x, y).

    Without ``along`` the direction that needs fewer routers is taken.
    """
    choices: list[tuple[int, list[Hook]]] = []
    for direction in DIRECTIONS if along is None else (along,):
        found = list(_fans(end, direction, partner, within))
        other = end.extent("x" if direction == "y" else "y")
        size = min((f.hi - f.lo) * other for f in found)
        choices.append((size, [_hook(end, fan) for fan in found]))
    return min(choices, key=lambda c: c[0])[1]


def _fans(end: End, along: Along, partner: tuple[int, int], within: Within | None) -> Iterator[Fan]:
    """Combs with the gate on the rim, where a path can leave: at the end of a tooth, or on the first or last tooth."""
    xs, ys = end.region.xs, end.region.ys
    lines, cross = (ys[:, 0], xs[0]) if along == "y" else (xs[0], ys[:, 0])
    here, there = (partner[1], partner[0]) if along == "y" else (partner[0], partner[1])
    near = int(abs(lines - here).argmin())
    facing = int(abs(cross - there).argmin())
    last = len(cross) - 1
    wishes = dict.fromkeys((near, *((within.lo, within.hi - 1) if within else (0, len(lines) - 1))))
    seen: dict[Fan, None] = {}
    for choice in teeth(end, along, tuple(wishes), within):
        gates = np.array(choice.gates)
        nearest = int(gates[abs(lines[gates] - here).argmin()])
        middle = int(gates[len(gates) // 2])
        for gate in (nearest, choice.gates[0], choice.gates[-1], middle):
            for trunk in (0, last):
                seen[Fan(end.region.id, along, choice.lo, choice.hi, trunk, gate)] = None
        for gate in (choice.lo, choice.hi - 1):
            if gate in choice.gates:
                for trunk in (facing, last // 2, 0, last):
                    seen[Fan(end.region.id, along, choice.lo, choice.hi, trunk, gate)] = None
    yield from seen


def _hook(end: End, fan: Fan) -> Hook:
    row, column = (fan.gate, fan.trunk) if fan.along == "y" else (fan.trunk, fan.gate)
    cross = end.extent("x" if fan.along == "y" else "y")
    depth = max(fan.gate - fan.lo, fan.hi - 1 - fan.gate) + max(fan.trunk, cross - 1 - fan.trunk)
    return Hook((int(end.region.xs[row, column]), int(end.region.ys[row, column])), depth, fan)


def by_length(sources: Sequence[Hook], goals: Sequence[Hook]) -> list[tuple[int, Hook, Hook]]:
    """All pairs of hooks with the least length of their lane (comb, path, comb), shortest first."""
    at = [np.array([[*h.at, h.depth] for h in side]) for side in (sources, goals)]
    length = abs(at[0][:, None, :2] - at[1][None, :, :2]).sum(axis=2) + at[0][:, None, 2] + at[1][None, :, 2]
    order = np.argsort(length, axis=None, kind="stable")
    pairs = [divmod(int(i), len(goals)) for i in order]
    return [(int(length[i, j]), sources[i], goals[j]) for i, j in pairs]


def lane_plans(
    source: End, destination: End | Sequence[tuple[int, int]], max_lanes: int | None
) -> list[tuple[Cut, ...]]:
    """Ways to cut a stream into lanes, the one of least estimated cycles first; one lane is always among them.

    ``destination``: a region, or the ports (x, y) to the host, the nearest first: a lane each.
    """
    (tiled,) = source.tiled
    limit = MOST_LANES if max_lanes is None else max_lanes
    toward = middle(destination) if isinstance(destination, End) else destination[0]
    if not isinstance(destination, End):
        limit = min(limit, len(destination))
    plans = [single(source.tiled)]
    for along in DIRECTIONS:
        for dim in range(tiled.type.rank):
            plans += _cuts(source, destination if isinstance(destination, End) else None, toward, along, dim, limit)
    costs = [_cycles(source, destination, plan) for plan in plans]
    order = sorted(range(len(plans)), key=lambda i: (costs[i], len(plans[i]), i))
    return [plans[i] for i in order]


def _cuts(
    source: End, destination: End | None, toward: tuple[int, int], along: Along, dim: int, limit: int
) -> Iterator[tuple[Cut, ...]]:
    """Plans with 2, 4, 8, ... lanes (and the most there can be) along a direction, as even as the boundaries allow."""
    (tiled,) = source.tiled
    extent = tiled.type.shape[dim]
    if not isinstance(extent, int):
        return
    theirs = dict.fromkeys(range(1, extent), 0) if destination is None else boundaries(destination, along, dim)
    lines = source.extent(along)
    copies = whole_copies(source, along)
    like = _facing(source, toward, along)
    mine = {} if copies else boundaries(source, along, dim, like)
    common = sorted(theirs if copies else mine.keys() & theirs.keys())
    most = min(limit, len(common) + 1, lines if copies else limit)
    done: set[int] = set()
    for lanes in (*(1 << k for k in range(1, most.bit_length())), most):
        wanted = [round(extent * i / lanes) for i in range(1, lanes)]
        at = np.array(common or [0])
        chosen = sorted({int(at[abs(at - w).argmin()]) for w in wanted})
        if not chosen or len(chosen) + 1 in done:
            continue
        done.add(len(chosen) + 1)
        edges = [0, *chosen, extent]
        from_line = [round(lines * i / (len(edges) - 1)) for i in range(len(edges))]
        if not copies:
            from_line = [0, *(mine[b] for b in chosen), lines]
        to_line = [0, *(theirs[b] for b in chosen), 0 if destination is None else destination.extent(along)]
        yield tuple(
            Cut(
                _words(tiled, hi - lo, extent), dim, lo, hi, along,
                Within(from_line[i], from_line[i + 1], None if copies else like),
                None if destination is None else Within(to_line[i], to_line[i + 1]),
            )
            for i, (lo, hi) in enumerate(pairwise(edges))
        )  # fmt: skip


def _facing(source: End, toward: tuple[int, int], along: Along) -> int:
    """The source line nearest the other end."""
    x, y = toward
    lines, here = (source.region.ys[:, 0], y) if along == "y" else (source.region.xs[0], x)
    return int(abs(lines - here).argmin())


def middle(end: End) -> tuple[int, int]:
    """The PE in the middle of a region, as (x, y)."""
    row, column = end.region.rows // 2, end.region.columns // 2
    return int(end.region.xs[row, column]), int(end.region.ys[row, column])


def _words(tiled: Tiled, part: int, extent: int) -> int:
    """32-bit words of a share of a value."""
    kind: DType = tiled.type.dtype
    return kind.wavelets(-(-tiled.type.elements * part // max(1, extent)))


def _cycles(source: End, destination: End | Sequence[tuple[int, int]], plan: Sequence[Cut]) -> int:
    """Estimated cycles of a plan: its slowest lane, and the price of having lanes."""
    slowest = 0
    for cut in dict.fromkeys((plan[0], plan[len(plan) // 2], plan[-1])):
        if isinstance(destination, End):
            toward = middle(destination)
            goals = hooks(destination, middle(source), cut.along, cut.destination)
        else:
            toward = destination[len(plan) - 1]
            goals = [Hook(toward, 0, EdgePort(0, *toward, WEST))]
        sources = hooks(source, toward, cut.along, cut.source)
        slowest = max(slowest, by_length(sources, goals)[0][0])
    return slowest + max(cut.words for cut in plan) + LANE_CYCLES * len(plan)
