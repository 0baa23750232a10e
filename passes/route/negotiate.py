"""Negotiate: every group of one wafer finds its way, and those in the way of one another bargain.

First each group takes, in turn, the best plan of lanes that is free: most programs end here. A group that finds none
gets, in this order: the local colours of the regions in its way packed more tightly; colours of nets that are over
before it begins, or begin after it is over, at switch positions of their own; fewer lanes. Then it is negotiated, as in
PathFinder: a *global* route over the router grid, whose price is hops + present congestion + history, then in *detail*
the colour whose holders have the least price; these give way and are routed again. Every router they met at gets
dearer, and so does a group each time it gives way, until it cannot any more; so negotiation ends by count. If a group
cannot even so, the answer is "cannot route".

Global and detailed routing with rip-up by history: McMurchie and Ebeling, PathFinder, FPGA 1995.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from wafercc.errors import CannotRoute
from wafercc.ir.block import RegionId
from wafercc.ir.program import Rect, Region
from wafercc.ir.routing import Budget

from .blockade import Blockade, Scene
from .fabric import Sheet, Way
from .groups import Group, Precedence
from .lanes import Cut
from .local import LocalNets
from .nets import SEARCHES, Laid, Pair, Weaver, lay
from .rows import colours as colours_of
from .rows import routers

MOST_YIELDS = 3  # how often a group may give way
OFFERS = 3  # pairs of ends that a group bargains for
# Prices, in hops: a router without a free colour, each past conflict at a router, a group's first giving way.
FULL = 8
CONFLICT = 4
YIELD = 64


@dataclass(eq=False)
class Negotiation:
    """The routing of one wafer as it goes.

    ``pack``: the collectives of a region, on colours of their own or (True) on as few as can be. ``laid``: the lanes of
    each group so far; ``yields``: how often groups gave way; ``packed``: the regions packed tightly.
    """

    blank: Sheet
    regions: Sequence[Region]
    pack: Callable[[Region, bool], LocalNets]
    precedence: Precedence
    weaver: Weaver
    laid: dict[Group, list[Laid]] = field(default_factory=dict)
    yields: dict[Group, int] = field(default_factory=dict)
    packed: set[RegionId] = field(default_factory=set)

    def run(self, groups: Iterable[Group]) -> None:
        """Lay all groups.

        Raises:
            CannotRoute: one finds no way, whatever gives way.
        """
        self.begin({region.id: self.pack(region, False) for region in self.regions})
        waiting = deque(groups)
        while waiting:
            group = waiting.popleft()
            laid = self._freely(group)
            if laid is None:
                laid, losers = self._bargain(group)
                waiting.extend(losers)
            for each in laid:
                self.keep(group, each)

    def begin(self, local: dict[RegionId, LocalNets]) -> None:
        """Start with the collectives of every region."""
        self.local = local
        self.history = np.zeros(self.blank.taken.shape, np.int64)
        self.base = self._with_local()
        self.open = self._seen_by(None)

    def keep(self, group: Group, lane: Laid) -> None:
        """Give a lane of a group its routers."""
        self.laid.setdefault(group, []).append(lane)
        self.open.take(lane.y, lane.x, lane.lane.colour)

    def _freely(self, group: Group) -> list[Laid] | None:
        """The lanes of a group if nobody has to give way; what regions keep for themselves may shrink."""
        plans = self.weaver.plans(group)
        laid = self.weaver.route(group, self.open, plans[:1])
        if laid is None and self.laid:
            laid = self.weaver.route(group, self._seen_by(group), plans[:1])
        if laid is None and self._pack(group):
            laid = self.weaver.route(group, self._seen_by(group), plans[:1])
        if laid is None:
            laid = self.weaver.route(group, self._seen_by(group), plans[1:])
        return laid

    def spent(self, region: Region) -> Budget:
        """How the colours of a region's routers are spent."""
        y, x = (a.ravel() for a in (region.ys, region.xs))
        local = self.local[region.id].colours
        in_use = self.open.in_use(y, x)
        passing = in_use - self.base.in_use(y, x)
        return Budget(local, int(passing.max()), int(self.blank.usable.bit_count() - in_use.max()))

    def _with_local(self) -> Sheet:
        """The wafer with the colours of its collectives taken."""
        sheet = self.blank.copy()
        for nets in self.local.values():
            for rows in nets.rows:
                y, x = routers(rows)
                colour = colours_of(rows)
                for c in np.flatnonzero(np.bincount(colour)):
                    sheet.take(y[colour == c], x[colour == c], int(c))
        return sheet

    def _seen_by(self, group: Group | None) -> Sheet:
        """The wafer as a group finds it, with the colours of those it may share with free where positions are left; for
        nobody in particular, all that is laid is taken."""
        sheet = self.base.copy()
        used = None if group is None else np.zeros((self.blank.usable.bit_length(), *sheet.taken.shape), np.uint8)
        for other, lanes in self.laid.items():
            for each in lanes:
                if used is None or group is None or not self.precedence.apart(group, other):
                    sheet.take(each.y, each.x, each.lane.colour)
                else:
                    np.add.at(used[each.lane.colour], routers(each.rows), 1)
        if used is None:
            return sheet
        for colour, count in enumerate(used):
            sheet.taken[count >= sheet.positions] |= np.uint32(1 << colour)
        return replace(sheet, used=used)

    def _pack(self, group: Group) -> bool:
        """Pack the collectives of the regions that a group has to do with, or to pass, more tightly; whether that gives
        any colour back."""
        ends = [end for end in (group.source, group.destination) if end is not None]
        rects = [end.region.rect for end in ends]
        if len(ends) == 1:
            x, y = self.weaver.nearest_port(ends[0])
            rects.append(Rect(self.weaver.wafer, x, y, 1, 1))
        gained = False
        for region in self.regions:
            if region.id not in self.packed and (not rects or _between(region.rect, *rects)):
                self.packed.add(region.id)
                tight = self.pack(region, True)
                if tight.colours < self.local[region.id].colours:
                    self.local[region.id] = tight
                    gained = True
        if gained:
            self.base = self._with_local()
            self.open = self._seen_by(None)
        return gained

    def _blockade(self, group: Group, sheet: Sheet) -> Blockade:
        """What keeps a group from its goal on a sheet."""
        pairs = list(islice(self.weaver.pairs(group, self._single(group), sheet), SEARCHES))
        kept = {region: nets.colours for region, nets in self.local.items()}
        rivals = {
            g: lanes for g, lanes in self.laid.items() if sheet.used is None or not self.precedence.apart(group, g)
        }
        return Scene(sheet, self.regions, kept, rivals).blockade(group, pairs, self.weaver.ports)

    def _bargain(self, group: Group) -> tuple[list[Laid], list[Group]]:
        """One lane for a group, by the way that costs least, and the groups that give way to it.

        Raises:
            CannotRoute: those that may still give way are not enough.
        """
        firm = self.base.copy()
        for other, lanes in self.laid.items():
            if self.yields.get(other, 0) >= MOST_YIELDS:
                for each in lanes:
                    firm.take(each.y, each.x, each.lane.colour)
        cut = self._single(group)
        best: tuple[int, Laid, list[Group]] | None = None
        for pair in islice(self.weaver.pairs(group, cut, firm), OFFERS):
            way, colours = self._way(pair, firm)
            if way is None:
                continue
            first = lay(pair, way, cut)
            for colour in colours:
                lane = first.on(colour)
                losers = self.losers(group, lane)
                price = len(way.path) + pair.start.depth + pair.goal.depth
                price += sum(YIELD * (1 + self.yields.get(other, 0)) for other in losers)
                if best is None or price < best[0]:
                    best = price, lane, losers
        if best is None:
            found = self._blockade(group, self._seen_by(group))
            raise CannotRoute(f"cannot route: {found.text}", regions=found.regions, where=str(group), hint=found.hint)
        _, lane, losers = best
        self._give_way(lane, losers)
        self.weaver.count_ports([lane], 1)
        return [lane], losers

    def _single(self, group: Group) -> Cut:
        return self.weaver.plans(group)[-1][0]

    def _way(self, pair: Pair, firm: Sheet) -> tuple[Way | None, list[int]]:
        """The global route of a lane, and the colours that those who cannot give way leave free there; if they leave
        none, the best route on one colour."""
        allowed = pair.allowed(firm)
        if not allowed:
            return None, []
        path = np.array([pair.start.at], np.int32)
        if pair.start.at != pair.goal.at:
            full = (~self.open.taken & np.uint32(allowed)) == 0
            price = 1 + CONFLICT * self.history + FULL * full
            route = firm.route(pair.start.at, pair.goal.at, allowed, pair.walls, price)
            if route is None:
                return None, []
            path = route
            allowed &= firm.free(path[:, 1], path[:, 0])
            if not allowed:
                way = firm.find(pair.start.at, pair.goal.at, pair.allowed(firm), pair.walls, None, price)
                return way, [] if way is None else [way.colour]
        colours = [colour for colour in range(allowed.bit_length() - 1, -1, -1) if allowed >> colour & 1]
        return Way(path, colours[0]), colours

    def losers(self, group: Group, lane: Laid) -> list[Group]:
        """Who must give way to a lane: those it meets on its colour and may not share with, for want of order or of
        switch positions."""
        here = np.zeros(self.open.taken.shape, bool)
        here[lane.y, lane.x] = True
        met = [
            (other, each)
            for other, lanes in self.laid.items()
            for each in lanes
            if each.lane.colour == lane.lane.colour and here[each.y, each.x].any()
        ]
        used = np.zeros(here.shape, np.uint8)
        for rows in (lane.rows, *(each.rows for _, each in met)):
            np.add.at(used, routers(rows), 1)
        crowded = here & (used > self.open.positions)
        return list(
            dict.fromkeys(
                other for other, each in met if not self.precedence.apart(group, other) or crowded[each.y, each.x].any()
            )
        )

    def _give_way(self, lane: Laid, losers: Sequence[Group]) -> None:
        """Take the losers up again; where they met the lane, routers get dearer."""
        here = np.zeros(self.open.taken.shape, bool)
        here[lane.y, lane.x] = True
        for other in losers:
            self.yields[other] = self.yields.get(other, 0) + 1
            for each in self.laid.pop(other):
                self.history[each.y, each.x] += here[each.y, each.x]
                self.weaver.count_ports([each], -1)
        if losers:
            self.weaver.price = 1 + CONFLICT * self.history
            self.open = self._seen_by(None)


def _between(rect: Rect, a: Rect, b: Rect) -> bool:
    """Whether a rectangle reaches into the box around two others."""
    across = min(a.x, b.x) < rect.x + rect.w and rect.x < max(a.x + a.w, b.x + b.w)
    return across and min(a.y, b.y) < rect.y + rect.h and rect.y < max(a.y + a.h, b.y + b.h)
