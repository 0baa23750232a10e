"""Nets: streams grouped as the fabric carries them, and the routing of one group on a wafer as it stands.

All that the host sends to one region takes one net, and all that a region sends to the host another: the routers'
configuration is the same for each, so the values follow one another on it. Every other stream is a group of its own,
with one net a lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wafercc.ir.program import EAST, NORTH, SOUTH, WEST, EdgePort, Fan, IntArray, Lane, Region

from .comb import Comb, comb_of
from .ends import End
from .fabric import Sheet, Way
from .lanes import Cut, Hook, by_length, hooks, lane_plans, middle
from .rows import Packed, pack

# Pairs of combs tried with paths of two bends, then with any path; plans of lanes tried; colours one stream may take.
TRIES = 16
SEARCHES = 6
PLANS = 6
STREAM_COLOURS = 3
NEAR_PORTS = 6
HOST_LANE = (Cut(words=0),)  # one lane, of which nothing is estimated


@dataclass(frozen=True, eq=False)
class Group:
    """Streams that share their nets: ``name`` for messages, the ends (None is the host), the wafer."""

    name: str
    source: End | None
    destination: End | None
    wafer: int

    @property
    def size(self) -> int:
        """PEs of its regions: the groups that need most room are routed first."""
        return sum(end.region.xs.size for end in (self.source, self.destination) if end is not None)

    def __str__(self) -> str:
        ends = ["the host" if e is None else f"region {e.region.id}" for e in (self.source, self.destination)]
        return f"{self.name} from {ends[0]} to {ends[1]}"


@dataclass(frozen=True, eq=False)
class Laid:
    """A lane with the packed rows (of net 0) of its routers."""

    lane: Lane
    rows: Packed
    y: IntArray
    x: IntArray


class Stuck(Exception):
    """No way for a group on the wafer as it stands; the text says what blocks. Another order may help."""


@dataclass(eq=False)
class Weaver:
    """Routes groups on one wafer, one after another. ``ports``: rows (side, x, y); ``load``: groups at each port so
    far."""

    sheet: Sheet
    wafer: int
    ports: IntArray
    switch_positions: int
    max_lanes: int | None
    load: IntArray
    comb: Callable[[Region, Fan], Comb] = comb_of

    def route(self, group: Group) -> list[Laid]:
        """Lay a group's lanes and take their colours.

        Raises:
            Stuck: no number of lanes finds a way; nothing is taken.
        """
        blocked: Stuck | None = None
        for plan in [HOST_LANE] if self._host(group) else self._plans(group):
            laid: list[Laid] = []
            try:
                for cut in plan:
                    laid.append(self._lane(group, cut))
                    self.sheet.take(laid[-1].y, laid[-1].x, laid[-1].lane.colour)
                    if len({each.lane.colour for each in laid}) > STREAM_COLOURS:
                        raise Stuck(f"its lanes would take more than {STREAM_COLOURS} colours")
                self._count_ports(laid)
                return laid
            except Stuck as error:
                blocked = error
                for each in laid:
                    self.sheet.release(each.y, each.x, each.lane.colour)
        assert blocked is not None
        raise blocked

    def _count_ports(self, laid: Sequence[Laid]) -> None:
        for each in laid:
            for end in (each.lane.source, each.lane.destination):
                if isinstance(end, EdgePort):
                    self.load += (self.ports[:, 1] == end.x) & (self.ports[:, 2] == end.y)

    def _host(self, group: Group) -> bool:
        return group.source is None or group.destination is None

    def _plans(self, group: Group) -> list[tuple[Cut, ...]]:
        """The best plan, then ever fewer lanes the same way, then the others; one lane comes last."""
        assert group.source is not None and group.destination is not None
        plans = lane_plans(group.source, group.destination, self.max_lanes)
        if len(plans[0]) == 1:
            return plans[:1]
        fewer = [p for p in plans if p[0].along == plans[0][0].along and p[0].dim == plans[0][0].dim]
        fewer = sorted((p for p in fewer if len(p) <= len(plans[0])), key=lambda p: -len(p))
        others = [p for p in plans if p not in fewer and len(p) > 1]
        alone = next(p for p in plans if len(p) == 1)
        return [*[*fewer, *others][: PLANS - 1], alone]

    def _lane(self, group: Group, cut: Cut) -> Laid:
        source, destination = group.source, group.destination
        sources = self._hooks(source, destination, cut, sends=True)
        goals = self._hooks(destination, source, cut, sends=False)
        pairs = by_length(sources, goals)
        if group.source is None and group.destination is None and len(self.ports) > 1:
            pairs = [pair for pair in pairs if pair[1].at != pair[2].at]  # in by one port, out by another
        reasons: list[str] = []
        laid = self._best(group, cut, pairs[:TRIES], reasons, bends=2)
        if laid is None:
            laid = self._best(group, cut, pairs[:SEARCHES], reasons, bends=None)
        if laid is None:
            raise Stuck(max(reasons, key=reasons.count) if reasons else "no comb fits the switch positions of a router")
        return laid

    def _best(
        self,
        group: Group,
        cut: Cut,
        pairs: Sequence[tuple[int, Hook, Hook]],
        reasons: list[str],
        bends: int | None,
    ) -> Laid | None:
        """The shortest lane by any of the pairs of hooks, which stand in order of the least they could be."""
        best: Laid | None = None
        reached = 0
        for length, start, goal in pairs:
            if best is not None and reached <= length:
                break
            combs = [self._comb(group, start), self._comb(group, goal)]
            way = self._way(start, goal, combs, reasons, bends)
            if way is not None:
                actual = start.depth + goal.depth + len(way.path) - 1
                if best is None or actual < reached:
                    best, reached = lay(start, goal, combs, way, cut), actual
        return best

    def _hooks(self, end: End | None, partner: End | None, cut: Cut, *, sends: bool) -> list[Hook]:
        if end is not None:
            toward = middle(partner) if partner is not None else self._edge(end)
            within = cut.source if sends else cut.destination
            return hooks(end, toward, cut.along, within)
        x, y = middle(partner) if partner is not None else (int(self.ports[0, 1]), int(self.ports[0, 2]))
        load = 4 * self.load
        distance = abs(self.ports[:, 1] - x) + abs(self.ports[:, 2] - y) + load
        alive = self.sheet.alive(self.ports[:, 2], self.ports[:, 1])
        nearest = [int(i) for i in np.argsort(distance, kind="stable") if alive[i]][:NEAR_PORTS]
        if not nearest:
            raise Stuck("no live router has a port to the host")
        return [
            Hook((int(px), int(py)), int(load[i]), EdgePort(self.wafer, int(px), int(py), int(side)))
            for i in nearest
            for side, px, py in (self.ports[i],)
        ]

    def _edge(self, end: End) -> tuple[int, int]:
        """The port nearest to a region, as (x, y)."""
        x, y = middle(end)
        nearest = self.ports[(abs(self.ports[:, 1] - x) + abs(self.ports[:, 2] - y)).argmin()]
        return int(nearest[1]), int(nearest[2])

    def _comb(self, group: Group, hook: Hook) -> Comb | None:
        if isinstance(hook.end, EdgePort):
            return None
        ends = {end.region.id: end.region for end in (group.source, group.destination) if end is not None}
        return self.comb(ends[hook.end.region], hook.end)

    def _way(
        self, start: Hook, goal: Hook, combs: Sequence[Comb | None], reasons: list[str], bends: int | None
    ) -> Way | None:
        """The path between two hooks, or None with the reason noted."""
        source, _ = combs
        if source is not None and source.source_positions() > self.switch_positions:
            return None
        allowed = self.sheet.usable
        for hook, comb in zip((start, goal), combs, strict=True):
            if comb is None:
                allowed &= ~int(self.sheet.taken[hook.at[1], hook.at[0]])
                continue
            allowed &= self.sheet.free(comb.y, comb.x)
            other = goal if hook is start else start
            inside = (comb.x == other.at[0]) & (comb.y == other.at[1])
            if isinstance(other.end, EdgePort) and other.at != hook.at and bool(inside.any()):
                reasons.append(f"the port at {other.at} lies inside the comb of its own region")
                return None
        if not allowed:
            reasons.append(self._exhausted(combs))
            return None
        if start.at == goal.at:
            return Way(np.array([start.at], np.int32), allowed.bit_length() - 1)
        walls = [(comb.y, comb.x) for comb in combs if comb is not None]
        way = self.sheet.find(start.at, goal.at, allowed, walls, bends)
        if way is None and bends is None:
            reasons.append(
                f"no path of live routers from {start.at} to {goal.at} has one colour free "
                f"of the {allowed.bit_count()} free at both ends"
            )
        return way

    def _exhausted(self, combs: Sequence[Comb | None]) -> str:
        """Which routers have no colour in common any more."""
        words = []
        for comb in combs:
            if comb is not None:
                used = self.sheet.in_use(comb.y, comb.x)
                i = int(used.argmax())
                free = self.sheet.free(comb.y, comb.x).bit_count()
                words.append(
                    f"{free} of {self.sheet.usable.bit_count()} colours are free on all {len(comb.x)} routers of its "
                    f"comb in region {comb.fan.region}, where ({comb.x[i]}, {comb.y[i]}) already has {used[i]} in use"
                )
        return "; ".join(words) or "the port's router has no colour left"


def lay(start: Hook, goal: Hook, combs: Sequence[Comb | None], way: Way, cut: Cut) -> Laid:
    """A lane and its rows: source comb, path, destination comb."""
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
