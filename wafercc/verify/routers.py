"""Rule 4, the routers: configuration rebuilt from all nets equals the router table, without clashes, within bounds.

Two nets may meet at a (router, colour) only if they configure it alike there, or if they are collective nets of one
region that no step uses together: steps run one after another, so the switch moves between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..ir.program import RAMP, EdgePort, Fan, Lane, PlacedProgram, RouterTable
from .collectives import net_name, net_rows, pattern_of, unusable, users
from .combs import Comb, comb_of, gate_of, lane_rows
from .fabric import Ints, Trace, packed, place, ports, trace
from .fabric import field as column
from .machine import Machine
from .regions import sound
from .violation import Violation, pes

RULE = 4


@dataclass(eq=False)
class Nets:
    """All nets with their rebuilt rows; ``net`` and ``line`` say whose each row is.

    ``shares``: net → (its region, the steps that use it), for those that may share a colour with others of the region.
    """

    names: list[str] = field(default_factory=list)
    shares: dict[int, tuple[str, frozenset[tuple[str, str]]]] = field(default_factory=dict)
    rows: list[Ints] = field(default_factory=list)
    net: list[Ints] = field(default_factory=list)
    line: list[Ints] = field(default_factory=list)

    def add(self, name: str, rows: Ints, line: Ints) -> int:
        self.names.append(name)
        self.rows.append(rows)
        self.net.append(np.full(len(rows), len(self.names) - 1))
        self.line.append(line)
        return len(self.names) - 1

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
    yield from _clashes(nets, rows, net, line)
    yield from _crossings(nets, rows, net)
    table = program.routers
    found = packed(table.wafer, table.y, table.x, table.colour, table.ins, table.outs)
    lost = ~np.isin(rows, found)
    for i in np.unique(net[lost]):
        yield _differs(nets.names[i], rows[lost & (net == i)], "is not in the router table")
    extra = ~np.isin(found, rows)
    for i in np.unique(table.net[extra]):
        name = table.nets[i] if 0 <= i < len(table.nets) else f"net {i}"
        yield _differs(name, found[extra & (table.net == i)], "is in the router table, but no net asks for it")


def rebuilt(program: PlacedProgram, machine: Machine) -> Nets:
    """The rows of every net that has a meaning; what has none is reported by the rule that finds it."""
    nets = Nets()
    traces: dict[tuple[str, str], Trace] = {}
    use = users(program)
    for net in program.collectives:
        if unusable(net, machine):
            continue
        region = program.region[net.region]
        key = (net.region, net.along)
        if key not in traces:
            traces[key] = trace(region, net.along)
        found = net_rows(net, traces[key], region.rect.wafer)
        index = nets.add(net_name(net), found.rows, found.line)
        steps = use.get(net.region, {}).get(pattern_of(net), set())
        nets.shares[index] = (net.region, frozenset(steps))
    combs: dict[Fan, Comb] = {}
    seen: set[tuple[object, ...]] = set()
    for stream in program.streams:
        for i, lane in enumerate(stream.lanes):
            key_of_lane = (lane.source, lane.destination, lane.colour, lane.path.tobytes())
            if key_of_lane in seen or not _sound(program, machine, lane):
                continue
            seen.add(key_of_lane)
            ends = [_comb(program, combs, end) for end in (lane.source, lane.destination)]
            rows = lane_rows(lane, ends[0], ends[1], gate_of(program, lane.source)[0])
            nets.add(f"stream {stream.id} ({stream.value}) lane {i}", rows, np.zeros(len(rows), np.int64))
    return nets


def _comb(program: PlacedProgram, combs: dict[Fan, Comb], end: Fan | EdgePort) -> Comb | None:
    if isinstance(end, EdgePort):
        return None
    if end not in combs:
        combs[end] = comb_of(program.region[end.region], end)
    return combs[end]


def _sound(program: PlacedProgram, machine: Machine, lane: Lane) -> bool:
    """Whether a lane's path is one: between its gates, in steps of one router, on the grid."""
    path = lane.path
    gates = [gate_of(program, end) for end in (lane.source, lane.destination)]
    joined = all(tuple(path[i].tolist()) == gate[1:] for i, gate in zip((0, -1), gates, strict=True))
    steps = abs(np.diff(path, axis=0)).sum(axis=1)
    inside = bool(machine.inside(path[:, 0], path[:, 1]).all())
    return joined and inside and bool((steps == 1).all()) and 0 <= lane.colour < machine.colours


def _clashes(nets: Nets, rows: Ints, net: Ints, line: Ints) -> Iterator[Violation]:
    """Two nets at one (router, colour): alike, or never in use together. Two lines of one net: never."""
    at = place(rows)
    lines = np.unique(np.stack([at, net, line], 1), axis=0)
    twice = (lines[1:, 0] == lines[:-1, 0]) & (lines[1:, 1] == lines[:-1, 1])
    for i in np.unique(lines[1:][twice, 1]):
        here = lines[1:][twice & (lines[1:, 1] == i), 0]
        yield _at(nets.names[i], here, "two of its lines meet on one colour")
    owners, start, count = _summed(at, net, rows)
    most = int(np.diff(np.flatnonzero(np.r_[True, owners[1:, 0] != owners[:-1, 0], True])).max()) if len(owners) else 0
    pairs: dict[tuple[int, int], list[int]] = {}
    for apart in range(1, most):
        left, right = owners[:-apart], owners[apart:]
        differs = (left[:, 0] == right[:, 0]) & ((start[:-apart] != start[apart:]) | (count[:-apart] != count[apart:]))
        met = np.unique(np.stack([left[differs, 1], right[differs, 1], left[differs, 0]], 1), axis=0)
        for a, b, where in met.tolist():
            pairs.setdefault((a, b), []).append(where)
    for (a, b), places in pairs.items():
        if not _apart(nets, a, b):
            yield _at(f"{nets.names[a]} and {nets.names[b]}", np.array(places), "configure a router differently")


def _summed(at: Ints, net: Ints, rows: Ints) -> tuple[Ints, Ints, Ints]:
    """For each (router, colour) and net there: the sum of a hash of its configurations, and their number."""
    whole = np.unique(np.stack([at, net, rows], 1), axis=0)
    owners, inverse = np.unique(whole[:, :2], axis=0, return_inverse=True)
    inverse = inverse.ravel()
    mixed = ((whole[:, 2] & 1023) + 1) ** 3
    total, count = np.zeros(len(owners), np.int64), np.zeros(len(owners), np.int64)
    np.add.at(total, inverse, mixed)
    np.add.at(count, inverse, 1)
    return owners, total, count


def _apart(nets: Nets, a: int, b: int) -> bool:
    """Whether two nets are collectives of one region that no step uses together."""
    if a not in nets.shares or b not in nets.shares:
        return False
    (region, steps), (other, others) = nets.shares[a], nets.shares[b]
    return region == other and not steps & others


def _crossings(nets: Nets, rows: Ints, net: Ints) -> Iterator[Violation]:
    """Within one net, whatever comes to a router on a colour leaves it by the same ports."""
    whole = np.unique(np.stack([place(rows), net, column(rows, "outs")], 1), axis=0)
    split = (whole[1:, 0] == whole[:-1, 0]) & (whole[1:, 1] == whole[:-1, 1])
    for i in np.unique(whole[1:][split, 1]):
        here = whole[1:][split & (whole[1:, 1] == i), 0]
        yield _at(nets.names[i], here, "crosses itself: words would leave by different ports")


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
