"""Rule 4, the routers: configuration rebuilt from all nets equals the router table, without clashes, within bounds.

Two nets may meet at a (router, colour) only if they configure it alike there, or if one is over there before the other
starts, by data dependence, and the switch moves between them: collective nets of one region (`sharing.py`), and streams
(`happens.py`), whose positions must stand in that order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ir.block import RegionId
from ..ir.program import RAMP, CollectiveNet, Fan, Lane, PlacedProgram, RouterTable, StreamId
from .collectives import net_name, net_rows, unusable
from .combs import Comb, gate_of, lane_rows
from .fabric import Ints, Trace, packed, place, ports, trace
from .fabric import field as column
from .happens import stream_order
from .machine import Machine
from .regions import sound
from .sharing import Life
from .violation import Violation, pes

RULE = 4
Bools = NDArray[np.bool_]
_NET_BITS = 22


@dataclass(eq=False)
class Nets:
    """All nets with their rebuilt rows; ``net`` and ``line`` say whose each row is.

    ``collective``: net → the collective net it is, for those inside regions. ``streams``: net → the streams that it
    carries; ``order``: pairs of streams, the first of which is over before the second begins.
    """

    names: list[str] = field(default_factory=list)
    collective: dict[int, CollectiveNet] = field(default_factory=dict)
    streams: dict[int, list[StreamId]] = field(default_factory=dict)
    order: set[tuple[StreamId, StreamId]] = field(default_factory=set)
    rows: list[Ints] = field(default_factory=list)
    net: list[Ints] = field(default_factory=list)
    line: list[Ints] = field(default_factory=list)

    def add(self, name: str, rows: Ints, line: Ints) -> int:
        self.names.append(name)
        self.rows.append(rows)
        self.net.append(np.full(len(rows), len(self.names) - 1))
        self.line.append(line)
        return len(self.names) - 1

    def over_before(self, a: int, b: int) -> bool:
        """Whether every stream of net a is over before any of net b begins."""
        if a not in self.streams or b not in self.streams:
            return False
        return all((first, then) in self.order for first in self.streams[a] for then in self.streams[b])

    def joined(self) -> tuple[Ints, Ints, Ints]:
        """Rows, nets and lines as three arrays."""
        empty = np.empty(0, np.int64)
        return (
            np.concatenate([empty, *self.rows]),
            np.concatenate([empty, *self.net]),
            np.concatenate([empty, *self.line]),
        )


def check_routers(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """The table is in order and within bounds, and says what the nets say; nets do not clash."""
    for stream in program.streams:
        for i, lane in enumerate(stream.lanes):
            if not 0 <= lane.colour < machine.colours:
                where = f"stream {stream.id} ({stream.value}) lane {i}"
                yield Violation(RULE, where, f"colour {lane.colour}; usable are 0 to {machine.colours - 1}")
    yield from _bounds(program.routers, machine)
    if not all(sound(region, machine) for region in program.regions):
        return  # rule 2 says why; lines of such regions cannot be walked
    nets = rebuilt(program, machine)
    rows, net, line = nets.joined()
    yield from _clashes(program, nets, rows, net, line)
    table = program.routers
    found = packed(table.wafer, table.y, table.x, table.colour, table.ins, table.outs)
    ordered, wanted = np.sort(found), np.sort(rows)  # numpy's own unique hashes, which takes five times as long
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    idle = repeated[_copies(ordered, repeated) > np.maximum(1, _copies(wanted, repeated))]
    if len(idle):
        yield _differs("router table", idle, "stands in more switch positions than nets ask for")
    if np.array_equal(wanted[np.diff(wanted, prepend=-1) > 0], ordered[np.diff(ordered, prepend=-1) > 0]):
        return
    lost = ~np.isin(rows, found)
    for i in np.unique(net[lost]):
        yield _differs(nets.names[i], rows[lost & (net == i)], "is not in the router table")
    extra = ~np.isin(found, rows)
    for i in np.unique(table.net[extra]):
        name = table.nets[i] if 0 <= i < len(table.nets) else f"net {i}"
        yield _differs(name, found[extra & (table.net == i)], "is in the router table, but no net asks for it")


def _copies(ordered: Ints, values: Ints) -> Ints:
    """How often each value stands in a sorted array."""
    found: Ints = np.searchsorted(ordered, values, "right") - np.searchsorted(ordered, values, "left")
    return found


def rebuilt(program: PlacedProgram, machine: Machine) -> Nets:
    """The rows of every net that has a meaning; what has none is reported by the rule that finds it."""
    nets = Nets(order=stream_order(program))
    traces: dict[tuple[str, str], Trace] = {}
    for net in program.collectives:
        if unusable(net, machine):
            continue
        region = program.region[net.region]
        key = (net.region, net.along)
        if key not in traces:
            traces[key] = trace(region, net.along)
        found = net_rows(net, traces[key], region.rect.wafer)
        index = nets.add(net_name(net), found.rows, found.line)
        nets.collective[index] = net
    combs: dict[Fan, Comb] = {}
    seen: dict[tuple[object, ...], int] = {}
    for stream in program.streams:
        for i, lane in enumerate(stream.lanes):
            if lane.net in seen:
                nets.streams[seen[lane.net]].append(stream.id)
            if lane.net in seen or not sound_lane(program, machine, lane):
                continue
            rows = lane_rows(program, lane, combs)
            index = nets.add(f"stream {stream.id} ({stream.value}) lane {i}", rows, np.zeros(len(rows), np.int64))
            nets.streams[index] = [stream.id]
            seen[lane.net] = index
    return nets


def sound_lane(program: PlacedProgram, machine: Machine, lane: Lane) -> bool:
    """Whether a lane's path is one: between its gates, in steps of one router, on the grid."""
    path = lane.path
    gates = [gate_of(program, end) for end in (lane.source, lane.destination)]
    joined = all(tuple(path[i].tolist()) == gate[1:] for i, gate in zip((0, -1), gates, strict=True))
    steps = abs(np.diff(path, axis=0)).sum(axis=1)
    inside = bool(machine.inside(path[:, 0], path[:, 1]).all())
    return joined and inside and bool((steps == 1).all()) and 0 <= lane.colour < machine.colours


@dataclass(frozen=True, eq=False)
class _Meetings:
    """The rows in order of (router, colour) and net, and where each such group starts."""

    order: Ints
    start: Ints
    at: Ints
    net: Ints

    @staticmethod
    def of(rows: Ints, net: Ints) -> _Meetings:
        key = (place(rows) << _NET_BITS) | net
        order = np.argsort(key, kind="stable")
        key = key[order]
        start = np.flatnonzero(np.diff(key, prepend=-1))
        return _Meetings(order, start, key[start] >> _NET_BITS, key[start] & ((1 << _NET_BITS) - 1))

    def mixed(self, values: Ints) -> Bools:
        """Which groups hold different values."""
        ordered = values[self.order]
        differs: Bools = np.minimum.reduceat(ordered, self.start) != np.maximum.reduceat(ordered, self.start)
        return differs

    def named(self, nets: Nets, which: Bools, problem: str) -> Iterator[Violation]:
        """One violation a net, for these groups."""
        for i in np.unique(self.net[which]):
            yield _at(nets.names[i], self.at[which & (self.net == i)], problem)


def _clashes(program: PlacedProgram, nets: Nets, rows: Ints, net: Ints, line: Ints) -> Iterator[Violation]:
    """At one (router, colour): lines of one net never meet, what a net brings there leaves by the same ports, and two
    nets configure it alike or one is over before the other starts; streams in turn have their positions in turn."""
    if not len(rows):
        return
    met = _Meetings.of(rows, net)
    yield from met.named(nets, met.mixed(line), "two of its lines meet on one colour")
    crossing = "crosses itself: words would leave by different ports"
    yield from met.named(nets, met.mixed(column(rows, "outs")), crossing)
    # A sum of cubes of the configurations tells groups apart that are not the same set.
    total = np.add.reduceat(_cubes(rows[met.order]), met.start)
    count = np.diff(met.start, append=len(rows))
    lines = line[met.order][met.start]
    lives: dict[RegionId, Life] = {}
    earlier, settled = np.zeros(len(count), np.int64), np.ones(len(count), bool)
    apart = 1
    while (same := met.at[apart:] == met.at[:-apart]).any():
        k = np.flatnonzero(same)
        pair = (met.net[k] << _NET_BITS) | met.net[k + apart]
        for both in np.unique(pair).tolist():
            a, b = divmod(both, 1 << _NET_BITS)
            here = k[pair == both]
            if nets.over_before(a, b):
                earlier[here + apart] += count[here]
            elif nets.over_before(b, a):
                earlier[here] += count[here + apart]
            else:
                settled[here] = settled[here + apart] = False
                differ = here[total[here] != total[here + apart]]
                same_line = bool((lines[differ] == lines[differ + apart]).all())
                if len(differ) and not _apart(program, lives, nets, a, b, same_line):
                    where = f"{nets.names[a]} and {nets.names[b]}"
                    problem = "configure a router differently, and neither is over before the other"
                    yield _at(where, met.at[differ], problem)
        apart += 1
    yield from _turns(nets, met, total, count, np.where(settled, earlier, -1), program.routers)


def _turns(
    nets: Nets, met: _Meetings, total: Ints, count: Ints, earlier: Ints, table: RouterTable
) -> Iterator[Violation]:
    """Where streams use a (router, colour) in turn, each finds its own switch positions after the ``earlier`` ones."""
    found = packed(table.wafer, table.y, table.x, table.colour, table.ins, table.outs)
    at = place(found)
    if (at[1:] < at[:-1]).any():
        return  # out of order, as is reported
    new = np.diff(met.at, prepend=-1) > 0
    wanted = np.add.reduceat(count, np.flatnonzero(new))[np.cumsum(new) - 1]
    first = np.searchsorted(at, met.at, "left")
    check = (earlier >= 0) & (wanted > count) & (np.searchsorted(at, met.at, "right") - first == wanted)
    sums = np.concatenate([[0], np.cumsum(_cubes(found))])
    begin = np.where(check, first + earlier, 0)
    wrong = check & (sums[begin + np.where(check, count, 0)] - sums[begin] != total)
    yield from met.named(nets, wrong, "its switch positions do not stand in the order in which streams pass")


def _cubes(rows: Ints) -> Ints:
    """A number for each configuration, such that sums of few of them tell sets apart."""
    found: Ints = ((rows & 1023) + 1) ** 3
    return found


def _apart(
    program: PlacedProgram, lives: dict[RegionId, Life], nets: Nets, a: int, b: int, same_line: bool
) -> bool:
    """Whether two nets are collectives of one region of which one is over before the other starts."""
    one, other = nets.collective.get(a), nets.collective.get(b)
    if one is None or other is None or one.region != other.region:
        return False
    if one.region not in lives:
        lives[one.region] = Life.of(program, one.region)
    return lives[one.region].apart(one, other, same_line and one.along == other.along)


def _bounds(table: RouterTable, machine: Machine) -> Iterator[Violation]:
    """Rows in order, positions from 0 without gaps and within the switch, colours and routers of this machine."""
    where = "router table"
    out = ~machine.inside(table.x, table.y) | (table.wafer < 0) | (table.wafer >= machine.wafers)
    if out.any():
        yield Violation(RULE, where, f"{pes(table.x[out], table.y[out])} outside the grid")
        return
    for bad, problem in (
        ((table.colour < 0) | (table.colour >= machine.colours), f"colours outside 0 to {machine.colours - 1}"),
        (table.position >= machine.switch_positions, f"more than {machine.switch_positions} switch positions"),
        ((table.net < 0) | (table.net >= len(table.nets)), "a net without a name"),
        (
            (table.ins < 1) | (table.ins >= 2 * RAMP) | (table.outs < 1) | (table.outs >= 2 * RAMP),
            "ports outside 1 to 31",
        ),
        (~machine.router_alive[table.wafer, table.y, table.x], "configuration although the router is dead"),
    ):
        if bad.any():
            yield Violation(RULE, where, f"{pes(table.x[bad], table.y[bad])} with {problem}")
    at = place(packed(table.wafer, table.y, table.x, table.colour, 0, 0))
    new = np.ones(len(at), bool)
    new[1:] = at[1:] != at[:-1]
    expected = np.arange(len(at)) - np.maximum.accumulate(np.where(new, np.arange(len(at)), 0)) if len(at) else at
    wrong = table.position != expected
    wrong[1:] |= at[1:] < at[:-1]
    if wrong.any():
        problem = "rows out of order, or positions not counted from 0"
        yield Violation(RULE, where, f"{pes(table.x[wrong], table.y[wrong])} with {problem}")


def _at(where: str, places: Ints, problem: str) -> Violation:
    rows = places << 10
    colours = ", ".join(map(str, np.unique(column(rows, "colour"))[:4].tolist()))
    return Violation(RULE, where, f"{problem}: {pes(column(rows, 'x'), column(rows, 'y'))}, colour {colours}")


def _differs(where: str, rows: Ints, problem: str) -> Violation:
    ins, outs = int(column(rows, "ins")[0]), int(column(rows, "outs")[0])
    what = f"colour {int(column(rows, 'colour')[0])} {ports(ins)} to {ports(outs)} at"
    return Violation(RULE, where, f"{what} {pes(column(rows, 'x'), column(rows, 'y'))} {problem}")
