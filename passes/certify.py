"""Certify: give every task, phase and stretch of links the rank that proves that no message waits in a circle.

Tasks are numbered in the service order, phases in the order of the steps, and each gets as wide a window of ranks as
the messages in it need. Inside a window the stretches of a message are numbered from where its words end up,
backwards: a link waits for the next one, never the other way. A stretch ends where the way turns, so a straight region
has one or two a line.

Reads PlacedProgram; writes Certificate. Cost: a few array operations over a region's routers for each net. The method
is the numbering of channels by Dally and Seitz (1987), with the PEs' own order between the channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from wafercc.ir.block import AllGather, AllReduce, Block, BlockName, RegionId, Step
from wafercc.ir.certificate import SEGMENT_COLUMNS, Certificate
from wafercc.ir.program import (
    EAST,
    SOUTH,
    WEST,
    CollectiveNet,
    Execute,
    Fan,
    IntArray,
    Lane,
    PlacedProgram,
    Region,
    StreamId,
    Transfer,
)

from .route.comb import Comb, comb_of
from .route.lines import Along, lines_of
from .route.patterns import Pattern, line_net, step_patterns

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Stretches:
    """Straight stretches of one net: rows (line, x0, y0, x1, y1, rank); ``top``: the highest rank."""

    rows: Ints

    @property
    def top(self) -> int:
        return int(self.rows[:, -1].max(initial=0))


@dataclass(frozen=True, eq=False)
class Walk:
    """The routers along all lines of a region in one direction, one line after another.

    ``edge``: the PE here, or the last one passed. ``step``: which way to the next router, as the port it leaves by; 0
    from the last router of a line.
    """

    line: Ints
    edge: Ints
    x: Ints
    y: Ints
    step: Ints
    length: int


def certify(program: PlacedProgram) -> Certificate:
    """The certificate of a program whose nets and order are settled; the one it has is not looked at."""
    walks: dict[tuple[RegionId, Along], Walk] = {}
    found: list[Stretches] = []
    tops: dict[tuple[RegionId, Pattern], int] = {}
    for net in program.collectives:
        key = (net.region, net.along)
        if key not in walks:
            walks[key] = walk(program.region[net.region], net.along)
        found.append(collective_stretches(net, walks[key]))
        tops[net.region, _pattern(net)] = found[-1].top
    lane_top: dict[tuple[object, ...], int] = {}
    for name, lane in program.distinct_lanes.items():
        found.append(lane_stretches(program, lane))
        lane_top[name] = found[-1].top
    steps = {name: _step_ranks(program, block, tops) for name, block in program.blocks.items()}
    return Certificate(_task_ranks(program, steps, lane_top), steps, _table(found))


def _table(found: Sequence[Stretches]) -> IntArray:
    rows = [np.column_stack([np.full(len(each.rows), owner), each.rows]) for owner, each in enumerate(found)]
    empty = np.empty((0, len(SEGMENT_COLUMNS)), np.int64)
    return np.concatenate([empty, *rows]).astype(np.int32)


def _pattern(net: CollectiveNet) -> Pattern:
    return Pattern(net.along, net.kind, net.group, net.root, net.level, net.stride)


# --- windows


def _step_ranks(
    program: PlacedProgram, block: Block, tops: Mapping[tuple[RegionId, Pattern], int]
) -> tuple[tuple[int, ...], ...]:
    """For each step, the ranks between its phases."""
    regions = list(dict.fromkeys(i.region for i in program.instances if i.block == block.name))
    ranks: list[tuple[int, ...]] = []
    start = 0
    for step in block.steps:
        widths = [
            1 + max((tops.get((region, pattern), 0) for region in regions for pattern in phase), default=0)
            for phase in phases(step, block)
        ]
        ranks.append(tuple(accumulate(widths, initial=start)))
        start = ranks[-1][-1]
    return tuple(ranks)


def phases(step: Step, block: Block) -> Iterator[tuple[Pattern, ...]]:
    """What a step does one after the other on every PE: the patterns in use in each phase, none in a local one."""
    patterns: list[Pattern] = []
    if isinstance(step, AllReduce | AllGather):
        patterns = list(step_patterns(step, block.mesh, f"block {block.name}, step {step.id}"))
    if not patterns:
        yield ()
    elif isinstance(step, AllGather) and step.buffered:
        yield tuple(patterns)
    else:
        yield from ((pattern,) for pattern in patterns)


def _task_ranks(
    program: PlacedProgram,
    steps: Mapping[BlockName, tuple[tuple[int, ...], ...]],
    lane_top: Mapping[tuple[object, ...], int],
) -> tuple[tuple[int, int], ...]:
    """Windows one behind the other in the service order."""

    def width(stream: StreamId) -> int:
        return 1 + max((lane_top[lane.net] for lane in program.stream[stream].lanes), default=0)

    widths: list[int] = []
    for task in program.order:
        match task:
            case Transfer(stream):
                widths.append(width(stream))
            case Execute(instance):
                ranks = steps[program.instance[instance].block]
                widths.append(ranks[-1][-1] if ranks else 1)
    return tuple(pairwise(accumulate(widths, initial=0)))


# --- stretches of collective nets


def walk(region: Region, along: Along) -> Walk:
    """The routers of a region's lines in order, PEs and those between them."""
    lines = lines_of(region, along)
    of_pe = np.arange(lines.count * lines.length)
    key = np.concatenate([of_pe, lines.hop_line.astype(np.int64) * lines.length + lines.hop_edge])
    order = np.argsort(key, kind="stable")  # the hops after a PE stand in order already
    x = np.concatenate([lines.x.ravel(), lines.hop_x])[order].astype(np.int64)
    y = np.concatenate([lines.y.ravel(), lines.hop_y])[order].astype(np.int64)
    line, edge = np.divmod(key[order], lines.length)
    step = np.zeros(len(order), np.int64)
    step[:-1] = np.where(line[1:] == line[:-1], _port(np.diff(x), np.diff(y)), 0)
    return Walk(line, edge, x, y, step, lines.length)


def _port(dx: Ints, dy: Ints) -> Ints:
    """The port by which a step to a neighbour leaves."""
    across = np.where(dx > 0, EAST, np.where(dx < 0, WEST, 0))
    down: Ints = np.where(dy > 0, SOUTH, np.where(dy < 0, 1, across))
    return down


def collective_stretches(net: CollectiveNet, way: Walk) -> Stretches:
    """The stretches of a net: every link that words take on their way to the root, or from it."""
    flow = np.append(line_net(_pattern(net), way.length).flow.sum(axis=0), 0)[way.edge]
    used = np.flatnonzero((flow != 0) & (way.step > 0))
    if not used.size:
        return Stretches(np.empty((0, 6), np.int64))
    # An arm is a run of links that carry words the same way, in one group of one line.
    arm = (way.line[used] * way.length + way.edge[used] // net.group) * 2 + (flow[used] > 0)
    new_arm = (np.diff(arm, prepend=-1) != 0) | (np.diff(used, prepend=-2) != 1)
    starts = new_arm | (np.diff(way.step[used], prepend=0) != 0)
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(used)) - 1
    number = np.arange(len(first))
    arm_of = np.cumsum(new_arm)[first] - 1
    begin = np.flatnonzero(new_arm[first])
    size = np.diff(np.append(begin, len(first)))
    place = number - begin[arm_of]
    forward = flow[used[first]] > 0
    rank = np.where(forward, size[arm_of] - place, place + 1)
    low, high = used[first], used[last] + 1
    source, sink = np.where(forward, low, high), np.where(forward, high, low)
    rows = (way.line[low], way.x[source], way.y[source], way.x[sink], way.y[sink], rank)
    return Stretches(np.column_stack(rows))


# --- stretches of lanes


def lane_stretches(program: PlacedProgram, lane: Lane) -> Stretches:
    """The stretches of a lane, numbered from the teeth where it ends back to those where it starts."""
    parts: list[Ints] = []
    top = 0
    if isinstance(lane.destination, Fan):
        parts.append(_comb_rows(comb_of(program.region[lane.destination.region], lane.destination), 0, outwards=True))
        top = int(parts[-1][:, -1].max(initial=0))
    parts.append(_path_rows(lane.path.astype(np.int64), top))
    top = max(top, int(parts[-1][:, -1].max(initial=0)))
    if isinstance(lane.source, Fan):
        parts.append(_comb_rows(comb_of(program.region[lane.source.region], lane.source), top, outwards=False))
    return Stretches(np.concatenate(parts))


def _path_rows(path: Ints, below: int) -> Ints:
    """A path's straight stretches; the last is the one above ``below``."""
    if len(path) < 2:
        return np.empty((0, 6), np.int64)
    step = _port(np.diff(path[:, 0]), np.diff(path[:, 1]))
    first = np.flatnonzero(np.diff(step, prepend=0))
    last = np.append(first[1:], len(step))
    rank = below + np.arange(len(first), 0, -1)
    return np.column_stack([np.zeros_like(first), path[first], path[last], rank])


def _comb_rows(comb: Comb, below: int, *, outwards: bool) -> Ints:
    """A comb's stretches. Towards the gate each turn takes a rank less, from it too, seen from the teeth."""
    x, y, toward = comb.x.astype(np.int64), comb.y.astype(np.int64), comb.toward.astype(np.int64)
    if len(x) < 2:
        return np.empty((0, 6), np.int64)
    turns = _turns(x, y, toward)
    linked = toward > 0
    rank = below + (int(turns.max()) + 1 - turns if outwards else turns)
    dx = np.where(toward == EAST, 1, np.where(toward == WEST, -1, 0))
    dy = np.where(toward == SOUTH, 1, np.where(toward == 1, -1, 0))
    level = (toward == EAST) | (toward == WEST)
    across, along = np.where(level, y, x), np.where(level, x, y)
    order = np.lexsort((along, rank, across, toward))[np.count_nonzero(~linked) :]
    keys = np.stack([toward[order], across[order], rank[order]])
    starts = np.ones(len(order), bool)
    starts[1:] = (np.diff(keys, axis=1) != 0).any(axis=0) | (np.diff(along[order]) != 1)
    first = order[np.flatnonzero(starts)]
    last = order[np.append(np.flatnonzero(starts)[1:], len(order)) - 1]
    # Along the sort order coordinates rise; links to the east or south point that way too.
    rising = (toward[first] == EAST) | (toward[first] == SOUTH)
    far, near = np.where(rising, first, last), np.where(rising, last, first)
    outer = np.stack([x[far], y[far]], axis=1)
    inner = np.stack([x[near] + dx[near], y[near] + dy[near]], axis=1)
    ends = [inner, outer] if outwards else [outer, inner]
    return np.column_stack([np.zeros_like(far), *ends, rank[far]])


def _turns(x: Ints, y: Ints, toward: Ints) -> Ints:
    """For every router of a comb, how many straight stretches lie between it and the gate, by doubling the stride."""
    width = int(x.max()) + 2
    place = y * width + x
    order = np.argsort(place)
    step = np.select([toward == EAST, toward == WEST, toward == SOUTH, toward == 1], [1, -1, width, -width], 0)
    after = order[np.searchsorted(place[order], place + step)]
    turns: Ints = ((toward != toward[after]) & (toward > 0)).astype(np.int64)
    while (after != after[after]).any():
        turns = turns + turns[after]
        after = after[after]
    return turns
