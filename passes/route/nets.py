"""Nets: the routing of one group on a wafer as it stands.

A lane is a comb or port at either end and a path between them, on one colour. Pairs of combs are tried in order of the
least length a lane over them could have: with paths of two bends first, then with any path. A stream's plan of lanes is
laid as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from wafercc.ir.program import EAST, NORTH, SOUTH, WEST, EdgePort, Fan, IntArray, Lane, Region

from .comb import Comb, comb_of
from .ends import End
from .fabric import Sheet, Way
from .groups import Group
from .lanes import Cut, Hook, by_length, hooks, lane_plans, middle, single
from .rows import Packed, pack, recolour
from .sweep import Prices

# Pairs of combs tried with paths of two bends, then with any path; plans of lanes tried; colours one stream may take.
TRIES = 16
SEARCHES = 6
PLANS = 6
STREAM_COLOURS = 3
NEAR_PORTS = 6
HOST_LANE = (Cut(words=0),)  # one lane, of which nothing is estimated


@dataclass(frozen=True, eq=False)
class Laid:
    """A lane with the packed rows (of net 0) of its routers."""

    lane: Lane
    rows: Packed
    y: IntArray
    x: IntArray

    def on(self, colour: int) -> Laid:
        """The same lane on another colour."""
        rows = recolour(self.rows, colour - self.lane.colour)
        return replace(self, lane=replace(self.lane, colour=colour), rows=rows)


@dataclass(frozen=True, eq=False)
class Pair:
    """Where a lane could start and end, with the combs there (None at a port) and the least length it would have."""

    length: int
    start: Hook
    goal: Hook
    combs: tuple[Comb | None, Comb | None]

    def allowed(self, sheet: Sheet) -> int:
        """The colours free on all routers of both ends."""
        allowed = sheet.usable
        for sends, hook, comb in zip((True, False), (self.start, self.goal), self.combs, strict=True):
            if comb is None:
                allowed &= ~int(sheet.taken[hook.at[1], hook.at[0]])
            else:
                allowed &= sheet.free(comb.y, comb.x, _positions(comb) if sends else np.ones(len(comb.y), np.int32))
        return allowed

    @property
    def walls(self) -> list[tuple[IntArray, IntArray]]:
        """What its path must not cross: its own combs."""
        return [(comb.y, comb.x) for comb in self.combs if comb is not None]


def _positions(comb: Comb) -> IntArray:
    """Switch positions that each router of a collecting comb takes."""
    branches = [((comb.away & side) > 0).astype(np.int32) for side in (NORTH, EAST, SOUTH, WEST)]
    return sum(branches, comb.pe.astype(np.int32))


@dataclass(eq=False)
class Weaver:
    """Routes groups on one wafer. ``ports``: rows (side, x, y); ``load``: lanes at each port so far;
    ``busy``: words that other lanes of the plan at hand send through it; ``price`` of
    routers, where streams have had to give way to one another; ``known``: plans made so far."""

    wafer: int
    ports: IntArray
    max_lanes: int | None
    load: IntArray
    busy: IntArray
    price: Prices | None = None
    comb: Callable[[Region, Fan], Comb] = comb_of
    known: dict[Group, list[tuple[Cut, ...]]] = field(default_factory=dict)

    def route(self, group: Group, sheet: Sheet, plans: Sequence[Sequence[Cut]]) -> list[Laid] | None:
        """The lanes of the first plan that finds a way for all of its lanes, with their colours taken on the sheet."""
        found: list[Laid] | None = None
        for plan in plans:
            before, load = sheet.taken.copy(), self.load.copy()
            laid: list[Laid] = []
            self.busy[...] = 0
            for cut in plan:
                lane = self._lane(group, cut, sheet)
                if lane is None:
                    break
                laid.append(lane)
                if len({each.lane.colour for each in laid}) > STREAM_COLOURS:
                    break
                sheet.take(lane.y, lane.x, lane.lane.colour)
                self.busy += cut.words * self.count_ports([lane], 1)
            else:
                found = laid
                break
            sheet.taken[...], self.load[...] = before, load
        self.busy[...] = 0
        return found

    def count_ports(self, laid: Sequence[Laid], change: int) -> IntArray:
        """Lanes come to, or leave, their ports; by how much each port's load changes."""
        total = np.zeros_like(self.load)
        for each in laid:
            for end in (each.lane.source, each.lane.destination):
                if isinstance(end, EdgePort):
                    total += change * ((self.ports[:, 1] == end.x) & (self.ports[:, 2] == end.y))
        self.load += total
        return total

    def plans(self, group: Group) -> list[tuple[Cut, ...]]:
        """The best plan, then ever fewer lanes the same way, then the others; one lane comes last."""
        if group not in self.known:
            self.known[group] = self._plans(group)
        return self.known[group]

    def _plans(self, group: Group) -> list[tuple[Cut, ...]]:
        source, destination = group.source, group.destination
        if source is None or (destination is None and (len(group.members) > 1 or group.members[0].state)):
            return [HOST_LANE]
        plans = lane_plans(
            source, self._ports_near(middle(source)) if destination is None else destination, self.max_lanes
        )
        if len(plans[0]) == 1:
            return plans[:1]
        fewer = [p for p in plans if p[0].along == plans[0][0].along and p[0].dim == plans[0][0].dim]
        fewer = sorted((p for p in fewer if len(p) <= len(plans[0])), key=lambda p: -len(p))
        others = [p for p in plans if p not in fewer and len(p) > 1]
        return [*[*fewer, *others][: PLANS - 1], single(source.tiled)]

    def pairs(self, group: Group, cut: Cut, sheet: Sheet) -> Iterator[Pair]:
        """Where a lane of the group could start and end, the shortest first."""
        source, destination = group.source, group.destination
        sources = self._hooks(source, destination, cut, sheet, sends=True)
        goals = self._hooks(destination, source, cut, sheet, sends=False)
        if not sources or not goals:
            return
        ends = {end.region.id: end.region for end in (source, destination) if end is not None}
        for length, start, goal in by_length(sources, goals):
            if source is None and destination is None and start.at == goal.at and len(self.ports) > 1:
                continue  # in by one port, out by another
            first, last = (
                None if isinstance(hook.end, EdgePort) else self.comb(ends[hook.end.region], hook.end)
                for hook in (start, goal)
            )
            if first is not None and first.source_positions() > sheet.positions:
                continue
            if not (_covers(first, goal, start) or _covers(last, start, goal)):
                yield Pair(length, start, goal, (first, last))

    def _lane(self, group: Group, cut: Cut, sheet: Sheet) -> Laid | None:
        quick, thorough = (TRIES, 2), (SEARCHES, None)
        for count, bends in (quick, thorough) if self.price is None else (thorough, quick):
            laid = self._best(islice(self.pairs(group, cut, sheet), count), cut, sheet, bends)
            if laid is not None:
                return laid
        return None

    def _best(self, pairs: Iterable[Pair], cut: Cut, sheet: Sheet, bends: int | None) -> Laid | None:
        """The shortest lane by any of the pairs, which stand in order of the least they could be."""
        best: Laid | None = None
        reached = 0
        for pair in pairs:
            if best is not None and reached <= pair.length:
                break
            way = self._way(pair, sheet, bends)
            if way is not None:
                actual = pair.start.depth + pair.goal.depth + len(way.path) - 1
                if best is None or actual < reached:
                    best, reached = lay(pair, way, cut), actual
        return best

    def _way(self, pair: Pair, sheet: Sheet, bends: int | None) -> Way | None:
        allowed = pair.allowed(sheet)
        if not allowed:
            return None
        if pair.start.at == pair.goal.at:
            return Way(np.array([pair.start.at], np.int32), allowed.bit_length() - 1)
        return sheet.find(pair.start.at, pair.goal.at, allowed, pair.walls, bends, self.price)

    def _hooks(self, end: End | None, partner: End | None, cut: Cut, sheet: Sheet, *, sends: bool) -> list[Hook]:
        if end is not None:
            toward = middle(partner) if partner is not None else self.nearest_port(end)
            within = cut.source if sends else cut.destination
            return hooks(end, toward, cut.along, within)
        x, y = middle(partner) if partner is not None else (int(self.ports[0, 1]), int(self.ports[0, 2]))
        load = 4 * self.load + self.busy
        distance = abs(self.ports[:, 1] - x) + abs(self.ports[:, 2] - y) + load
        alive = sheet.alive(self.ports[:, 2], self.ports[:, 1])
        nearest = [int(i) for i in np.argsort(distance, kind="stable") if alive[i]][:NEAR_PORTS]
        return [
            Hook((int(px), int(py)), int(load[i]), EdgePort(self.wafer, int(px), int(py), int(side)))
            for i in nearest
            for side, px, py in (self.ports[i],)
        ]

    def nearest_port(self, end: End) -> tuple[int, int]:
        """The port nearest to a region, as (x, y)."""
        return self._ports_near(middle(end))[0]

    def _ports_near(self, at: tuple[int, int]) -> list[tuple[int, int]]:
        """All ports (x, y), the nearest first."""
        order = np.argsort(abs(self.ports[:, 1] - at[0]) + abs(self.ports[:, 2] - at[1]), kind="stable")
        return [(int(x), int(y)) for _, x, y in self.ports[order]]


def _covers(comb: Comb | None, other: Hook, own: Hook) -> bool:
    """Whether the port at the other end lies inside a comb, off its gate."""
    if comb is None or not isinstance(other.end, EdgePort) or other.at == own.at:
        return False
    return bool(((comb.x == other.at[0]) & (comb.y == other.at[1])).any())


def lay(pair: Pair, way: Way, cut: Cut) -> Laid:
    """A lane and its rows: source comb, path, destination comb."""
    start, goal, combs = pair.start, pair.goal, pair.combs
    path, colour = way
    steps = np.diff(path, axis=0)
    # Index by (dy, dx) + 1; -1 cannot occur on a path of neighbours.
    sides = np.array([[-1, NORTH, -1], [WEST, -1, EAST], [-1, SOUTH, -1]])
    outs = np.zeros(len(path), np.int64)
    ins = np.zeros(len(path), np.int64)
    outs[:-1] = sides[steps[:, 1] + 1, steps[:, 0] + 1]
    ins[1:] = sides[1 - steps[:, 1], 1 - steps[:, 0]]
    if isinstance(start.end, EdgePort):
        ins[0] = start.end.side
    if isinstance(goal.end, EdgePort):
        outs[-1] = goal.end.side
    source, destination = combs
    parts: list[Packed] = []
    through = np.ones(len(path), bool)
    if source is not None:
        parts.append(source.source_rows(colour, int(outs[0])))
        through[0] = False
    if destination is not None:
        parts.append(destination.destination_rows(colour, int(ins[-1])))
        through[-1] = False
    parts.append(pack(path[through, 1], path[through, 0], colour, 0, ins[through], outs[through]))
    combed = [comb for comb in combs if comb is not None]
    y = np.concatenate([path[:, 1], *(comb.y for comb in combed)])
    x = np.concatenate([path[:, 0], *(comb.x for comb in combed)])
    lane = Lane(start.end, goal.end, path, colour, cut.dim, cut.lo, cut.hi)
    return Laid(lane, np.concatenate(parts), y, x)
