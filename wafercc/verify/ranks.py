"""Rule 5: the certificate's ranks rise along everything that may have to wait, so nothing waits in a circle.

Re-derived are all the waits (see docs/fabric.md): a link of a message waits for the next one; a message's last links
for the begin of the phase in which PEs listen; the end of a phase for all its messages; a task for the task before it
on its PEs. A link's rank is its stretch's, then the links left in it. If a rank fails, the circle of tasks is looked
for and told: who waits for whom.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..ir.block import RegionId
from ..ir.certificate import SEGMENT_COLUMNS
from ..ir.program import EAST, NORTH, SOUTH, WEST, CollectiveNet, Execute, Fan, PlacedProgram, Transfer
from .collectives import Pattern, net_name, net_rows, pattern_of, phases, unusable
from .combs import Comb, lane_rows
from .fabric import Ints, Trace, field, opposite, trace
from .machine import Machine
from .regions import sound
from .routers import sound_lane
from .violation import Violation, pes
from .waits import circle, task_name, task_waits

RULE = 5
FAR = 1 << 13  # more links than any stretch has: a rank in its own right, below those of stretches
_UNRANKED = "with links that have no rank, or one that nothing uses"
_STUCK = "with links whose rank is not above that of the link they wait for"
_STEPS = ((NORTH, 0, -1), (EAST, 1, 0), (SOUTH, 0, 1), (WEST, -1, 0))


def check_ranks(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Windows of tasks and phases, ranks of links, and the circle if there is one."""
    found = tuple(_malformed(program))
    if not found:
        found = (*_tasks(program), *_links(program, machine))
    yield from found
    if found and (waiting := circle(program)):
        yield Violation(RULE, "who waits for whom", waiting)


def _malformed(program: PlacedProgram) -> Iterator[Violation]:
    """The certificate has a window for every task and step, and its segments are of nets that exist."""
    certificate = program.certificate
    if len(certificate.tasks) != len(program.order):
        counts = f"{len(certificate.tasks)} tasks; the order has {len(program.order)}"
        yield Violation(RULE, "certificate", f"ranks {counts}")
    for name, block in program.blocks.items():
        ranks = certificate.steps.get(name, ())
        if len(ranks) != len(block.steps):
            yield Violation(RULE, f"block {name}", f"{len(ranks)} of its {len(block.steps)} steps have ranks")
            continue
        for step, bounds in zip(block.steps, ranks, strict=True):
            wanted = len(phases(block, step)) + 1
            if len(bounds) != wanted:
                problem = f"has {len(bounds)} ranks; {wanted} are needed for its {wanted - 1} phases"
                yield Violation(RULE, f"block {name}, step {step.id}", problem)
    owners = len(program.collectives) + len(program.distinct_lanes)
    table = certificate.segments
    if table.ndim != 2 or table.shape[1] != len(SEGMENT_COLUMNS):
        yield Violation(RULE, "certificate", f"segments have shape {table.shape}")
    elif len(table) and (table[:, 0].min() < 0 or table[:, 0].max() >= owners or (np.diff(table[:, 0]) < 0).any()):
        yield Violation(RULE, "certificate", f"segments out of order, or of nets beyond the {owners} there are")


def _tasks(program: PlacedProgram) -> Iterator[Violation]:
    """Every task begins after what it waits for ends; its phases follow one another inside its window."""
    windows = program.certificate.tasks
    for task, (begin, end) in zip(program.order, windows, strict=True):
        if not begin < end:
            yield Violation(RULE, task_name(program, task), f"begins at rank {begin} and ends at {end}")
    for wait in task_waits(program):
        begin, end = windows[wait.later][0], windows[wait.earlier][1]
        if begin < end:
            later, earlier = (task_name(program, program.order[i]) for i in (wait.later, wait.earlier))
            yield Violation(
                RULE, later, f"begins at rank {begin} and waits for {earlier} ({wait.reason}), which ends at {end}"
            )
    for name, block in program.blocks.items():
        before = 0
        for step, bounds in zip(block.steps, program.certificate.steps[name], strict=True):
            rising = (before, *bounds)
            if bounds[0] < before or any(a >= b for a, b in pairwise(bounds)):
                yield Violation(RULE, f"block {name}, step {step.id}", f"ranks {rising} do not rise")
            before = bounds[-1]
    for task, (begin, end) in zip(program.order, windows, strict=True):
        if isinstance(task, Execute):
            block_name = program.instance[task.instance].block
            ranks = program.certificate.steps[block_name]
            if ranks and ranks[-1][-1] > end - begin:
                problem = f"has ranks {begin} to {end}; the steps of block {block_name} take {ranks[-1][-1]}"
                yield Violation(RULE, f"instance {task.instance}", problem)


def _links(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Every link of every net has a rank, falling along its words, within the phases or transfers that use the net."""
    table = program.certificate.segments.astype(np.int64)
    nets = len(program.collectives)
    bounds = np.searchsorted(table[:, 0], np.arange(nets + len(program.distinct_lanes) + 1))
    width = _phase_widths(program)
    lines: dict[tuple[str, str], _Line] = {}
    for i, net in enumerate(program.collectives):
        region = program.region[net.region]
        if unusable(net, machine) or not sound(region, machine):
            continue  # rules 4 and 2 say why
        key = (net.region, net.along)
        if key not in lines:
            lines[key] = _Line.of(trace(region, net.along))
        own = table[bounds[i] : bounds[i + 1]]
        yield from _net(net, lines[key], own, region.rect.wafer)
        top, room = int(own[:, -1].max(initial=0)), width.get((net.region, pattern_of(net)))
        if room is not None and top >= room:
            yield Violation(RULE, net_name(net), f"has ranks up to {top} in a phase of {room}")
    yield from _lanes(program, machine, table, bounds[nets:])


def _phase_widths(program: PlacedProgram) -> dict[tuple[RegionId, Pattern], int]:
    """Region and net → the ranks of the shortest phase that uses it."""
    widths: dict[tuple[RegionId, Pattern], int] = {}
    for instance in program.instances:
        block = program.blocks[instance.block]
        for step, bounds in zip(block.steps, program.certificate.steps[instance.block], strict=True):
            for phase, (begin, end) in zip(phases(block, step), pairwise(bounds), strict=True):
                for pattern in phase:
                    key = (instance.region, pattern)
                    widths[key] = min(widths.get(key, end - begin), end - begin)
    return widths


# --- collective nets


@dataclass(frozen=True, eq=False)
class _Line:
    """A trace with its routers in order of place, to find them again."""

    trace: Trace
    key: Ints
    order: Ints

    @staticmethod
    def of(found: Trace) -> _Line:
        key = _place(found.line, found.x, found.y)
        order = np.argsort(key)
        return _Line(found, key[order], order)

    def item(self, line: Ints, x: Ints, y: Ints) -> Ints:
        """Where in the trace these routers stand; -1 where they are not on the line."""
        wanted = _place(line, x, y)
        at = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        found: Ints = np.where(self.key[at] == wanted, self.order[at], -1)
        return found


def _place(line: Ints, x: Ints, y: Ints) -> Ints:
    placed: Ints = (line << 24) | (y << 12) | x
    return placed


def _net(net: CollectiveNet, line: _Line, own: Ints, wafer: int) -> Iterator[Violation]:
    """The links of one collective net: ``rank[0]`` of those that lead onward from a router of the trace, ``rank[1]`` of
    those that lead back."""
    way, where = line.trace, net_name(net)
    rows = net_rows(net, way, wafer)
    outs = field(rows.rows, "outs")
    used = np.zeros((2, len(way.x)), bool)
    for direction, port in enumerate((way.ahead, way.behind)):
        leaves = (outs & port[rows.item]) > 0
        used[direction, rows.item[leaves]] = True
    first, last = line.item(*own[:, 1:4].T), line.item(own[:, 1], own[:, 4], own[:, 5])
    lost = (first < 0) | (last < 0) | (first == last) | (own[:, -1] < 1)
    if lost.any():
        yield Violation(RULE, where, f"ranks {pes(own[lost, 2], own[lost, 3])}, where no link of it begins, or below 1")
        return
    rank, times = np.zeros((2, len(way.x)), np.int64), np.zeros((2, len(way.x)), np.int64)
    for direction in (0, 1):
        mine = (last > first) if direction == 0 else (last < first)
        count = abs(last - first)[mine]
        left = np.repeat(np.cumsum(count), count) - np.arange(int(count.sum())) - 1
        step = -1 if direction else 1
        at = np.repeat(last[mine] - step, count) - step * left
        rank[direction, at] = np.repeat(own[mine, -1], count) * FAR + left
        np.add.at(times[direction], at, 1)
    wrong = times != used
    if wrong.any():
        at = np.flatnonzero(wrong.any(axis=0))
        yield Violation(RULE, where, f"{pes(way.x[at], way.y[at])} {_UNRANKED}")
        return
    onward = used[0, :-1] & used[0, 1:] & (rank[0, :-1] <= rank[0, 1:])
    back = used[1, 1:] & used[1, :-1] & (rank[1, 1:] <= rank[1, :-1])
    stuck = np.flatnonzero(onward | back)
    if stuck.size:
        yield Violation(RULE, where, f"{pes(way.x[stuck], way.y[stuck])} {_STUCK}")


# --- lanes


def _lanes(program: PlacedProgram, machine: Machine, table: Ints, bounds: Ints) -> Iterator[Violation]:
    """The links of every lane, and the transfers that use it."""
    room: dict[tuple[object, ...], int] = {}
    name: dict[tuple[object, ...], str] = {}
    for task, (begin, end) in zip(program.order, program.certificate.tasks, strict=True):
        if isinstance(task, Transfer):
            stream = program.stream[task.stream]
            for i, lane in enumerate(stream.lanes):
                room[lane.net] = min(room.get(lane.net, end - begin), end - begin)
                name.setdefault(lane.net, f"stream {stream.id} ({stream.value}) lane {i}")
    combs: dict[Fan, Comb] = {}
    for i, (net, lane) in enumerate(program.distinct_lanes.items()):
        if net not in room or not sound_lane(program, machine, lane):
            continue  # rules 6 and 4 say why
        own = table[bounds[i] : bounds[i + 1]]
        yield from _lane(lane_rows(program, lane, combs), own, machine, name[net])
        top = int(own[:, -1].max(initial=0))
        if top >= room[net]:
            yield Violation(RULE, name[net], f"has ranks up to {top} in a transfer of {room[net]}")


def _lane(rows: Ints, own: Ints, machine: Machine, where: str) -> Iterator[Violation]:
    """One lane: its links from its router rows, and after each the links of the row that its words reach next."""
    ranked, rank, straight = _expanded(own)
    if not straight or (np.diff(ranked) == 0).any() or (own[:, -1] < 1).any():
        yield Violation(RULE, where, "ranks a stretch that is not straight, or a link twice, or below 1")
        return
    x, y, ins, outs = (field(rows, name) for name in ("x", "y", "ins", "outs"))
    row, side = (
        np.concatenate(parts) for parts in zip(*(_leaving(x, y, outs, step, machine) for step in _STEPS), strict=True)
    )
    link = _link(x[row], y[row], side)
    odd = np.setxor1d(ranked, link)
    if odd.size:
        yield Violation(RULE, where, f"{pes((odd >> 5) & 0xFFF, odd >> 17)} {_UNRANKED}")
        return
    dx, dy = _ahead(side)
    entry = _link(x, y, ins)
    by_entry = np.argsort(entry)
    wanted = _link(x[row] + dx, y[row] + dy, opposite(side))
    place = np.minimum(np.searchsorted(entry[by_entry], wanted), len(entry) - 1)
    reached = by_entry[place]
    met = entry[reached] == wanted
    mine = rank[np.searchsorted(ranked, link)]
    for step in _STEPS:
        on, _ = _leaving(x, y, outs, step, machine)
        goes = met & np.isin(reached, on)
        after = _link(x[reached[goes]], y[reached[goes]], np.full(int(goes.sum()), step[0]))
        stuck = mine[goes] <= rank[np.searchsorted(ranked, after)]
        if stuck.any():
            yield Violation(RULE, where, f"{pes(x[row[goes][stuck]], y[row[goes][stuck]])} {_STUCK}")


def _expanded(own: Ints) -> tuple[Ints, Ints, bool]:
    """The links of straight stretches in order, their ranks, and whether all are straight."""
    dx, dy = own[:, 4] - own[:, 2], own[:, 5] - own[:, 3]
    straight = bool((((dx == 0) != (dy == 0)) & (own[:, 1] == 0)).all())
    if not straight or not len(own):
        return np.empty(0, np.int64), np.empty(0, np.int64), straight
    count = abs(dx) + abs(dy)
    which = np.repeat(np.arange(len(own)), count)
    done = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    side = np.select([dx > 0, dx < 0, dy > 0], [EAST, WEST, SOUTH], NORTH)
    x, y = own[which, 2] + np.sign(dx)[which] * done, own[which, 3] + np.sign(dy)[which] * done
    link, rank = _link(x, y, side[which]), own[which, -1] * FAR + count[which] - done - 1
    order = np.argsort(link)
    return link[order], rank[order], straight


def _leaving(x: Ints, y: Ints, outs: Ints, step: tuple[int, int, int], machine: Machine) -> tuple[Ints, Ints]:
    """The rows whose words leave on one side for another router, and that side."""
    side, dx, dy = step
    row = np.flatnonzero(((outs & side) > 0) & machine.inside(x + dx, y + dy))
    return row, np.full(len(row), side)


def _ahead(side: Ints) -> tuple[Ints, Ints]:
    dx: Ints = np.select([side == EAST, side == WEST], [1, -1], 0)
    dy: Ints = np.select([side == SOUTH, side == NORTH], [1, -1], 0)
    return dx, dy


def _link(x: Ints, y: Ints, side: Ints) -> Ints:
    link: Ints = (y << 17) | (x << 5) | side
    return link
