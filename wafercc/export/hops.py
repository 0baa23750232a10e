"""Hops: every net of a program, router by router.

A hop says: words of this net that come in at a router by one of the ports ``ins`` leave it by all of the ports
``outs``, on one colour. Hops of one line of a net count up along the words' way (``order``), so a word that leaves a
hop of order k by a link meets a hop of order k + 1 at the other end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ir.block import RegionId
from ..ir.program import RAMP, CollectiveNet, EdgePort, Fan, Lane, Region
from .combs import SIDES, Comb, comb_of, gate_of
from .lines import Along, Ints, Lines, Links, lines_of, neighbour_links, opposite, ports_of
from .patterns import BACK, FRONT, crossings, pattern_of

COLUMNS = ("line", "order", "x", "y", "colour", "ins", "outs", "messages")
Rows = Sequence[NDArray[np.signedinteger]]  # one array per column, in the order of COLUMNS


@dataclass(eq=False)
class Weaver:
    """What the hops of several nets share: the lines and combs of each region, worked out once."""

    regions: Mapping[RegionId, Region]
    _links: dict[RegionId, dict[Along, Links]] = field(default_factory=dict)
    _lines: dict[tuple[RegionId, Along], Lines] = field(default_factory=dict)
    _combs: dict[Fan, Comb] = field(default_factory=dict)

    def collective(self, net: CollectiveNet) -> Rows:
        """The hops of a collective net on all lines of its region; none if its fields contradict each other."""
        colours = (1 if net.kind == "broadcast" else 2) * net.classes
        sizes = min(net.group, net.stride, net.classes)
        if sizes < 1 or not 0 <= net.root < net.group or not 0 <= net.level < 31 or len(net.colours) != colours:
            return _joined([])
        key = (net.region, net.along)
        if key not in self._lines:
            self._lines[key] = lines_of(self.regions[net.region], net.along)
        return _collective(net, self._lines[key])

    def lane(self, lane: Lane) -> Rows:
        """The hops of a lane: its source comb, its path, its destination comb."""
        path = lane.path.astype(np.int64)
        forward = ports_of(*np.diff(path, axis=0).T)
        ins = np.concatenate([[lane.source.side if isinstance(lane.source, EdgePort) else 0], opposite(forward)])
        outs = np.concatenate([forward, [lane.destination.side if isinstance(lane.destination, EdgePort) else 0]])
        through = np.ones(len(path), bool)
        parts: list[Rows] = []
        first = 0  # order of the path's first router
        if isinstance(lane.source, Fan):
            through[0] = False
            comb = self._comb(lane.source)
            first = int(comb.distance.max())
            parts += _collecting(comb, first, int(outs[0]), lane.colour)
        if isinstance(lane.destination, Fan):
            through[-1] = False
            comb = self._comb(lane.destination)
            heard = np.where(comb.toward == 0, ins[-1], comb.toward)
            spread = comb.away | np.where(comb.pe, RAMP, 0)
            order = first + len(path) - 1 + comb.distance
            parts.append(_rows(0, order, comb.x, comb.y, lane.colour, heard, spread, 1))
        order = first + np.arange(len(path))
        x, y = path[through].T
        parts.append(_rows(0, order[through], x, y, lane.colour, ins[through], outs[through], 1))
        return _joined(parts)

    def gate(self, fan: Fan) -> tuple[int, int, int, int]:
        """Logical row and column, then x and y, of a comb's gate."""
        region = self.regions[fan.region]
        row, column = gate_of(region, fan)
        return row, column, int(region.xs[row, column]), int(region.ys[row, column])

    def _comb(self, fan: Fan) -> Comb:
        if fan not in self._combs:
            region = self.regions[fan.region]
            if fan.region not in self._links:
                self._links[fan.region] = {along: neighbour_links(region, along) for along in ("x", "y")}
            self._combs[fan] = comb_of(region, fan, self._links[fan.region])
        return self._combs[fan]


def _collecting(comb: Comb, last: int, leave: int, colour: int) -> list[Rows]:
    """A comb that collects: at each router one hop for its own ramp and one for each port away from the gate."""
    onward = np.where(comb.toward == 0, leave, comb.toward)
    parts: list[Rows] = []
    for side in (RAMP, *SIDES):
        here = comb.pe if side == RAMP else (comb.away & side) > 0
        order = last - comb.distance[here]
        parts.append(_rows(0, order, comb.x[here], comb.y[here], colour, side, onward[here], 1))
    return parts


def _collective(net: CollectiveNet, lines: Lines) -> Rows:
    """A pattern on all lines at once: first the hops at PEs, then those at the routers between them."""
    each = crossings(pattern_of(net), lines.x.shape[1])
    colour = np.asarray(net.colours, np.int64).reshape(-1, net.classes)
    line = np.arange(len(lines.x))[:, None]
    back, front = lines.back[:, each.pe], lines.front[:, each.pe]
    at_pes = _rows(
        line,
        abs(lines.at[:, each.pe] - lines.at[:, each.start]),
        lines.x[:, each.pe],
        lines.y[:, each.pe],
        colour[each.slot, line % net.classes],
        _turned(each.ins, back, front),
        _turned(each.outs, back, front),
        each.messages,
    )
    of_gap = np.full(lines.x.shape[1], -1)
    of_gap[each.gap] = np.arange(len(each.gap))
    via = np.flatnonzero(of_gap[lines.via_gap] >= 0)
    run, line = of_gap[lines.via_gap[via]], lines.via_line[via]
    back, front, ahead = lines.via_back[via], lines.via_front[via], each.sign[run] > 0
    between = _rows(
        line,
        abs(lines.via_at[via] - lines.at[line, each.gap_start[run]]),
        lines.via_x[via],
        lines.via_y[via],
        colour[each.gap_slot[run], line % net.classes],
        np.where(ahead, back, front),
        np.where(ahead, front, back),
        each.gap_messages[run],
    )
    return _joined([at_pes, between])


def _turned(masks: Ints, back: Ints, front: Ints) -> Ints:
    """Masks of BACK, FRONT and RAMP as ports of the routers."""
    turned: Ints = np.where(masks & BACK, back, 0) | np.where(masks & FRONT, front, 0) | (masks & RAMP)
    return turned


def _rows(*columns: Ints | int) -> Rows:
    """Columns of one length from columns, grids and scalars."""
    return [np.ravel(column) for column in np.broadcast_arrays(*columns)]


def _joined(parts: Sequence[Rows]) -> Rows:
    empty = np.empty(0, np.int32)
    return [np.concatenate([empty, *(part[i].astype(np.int32) for part in parts)]) for i in range(len(COLUMNS))]
