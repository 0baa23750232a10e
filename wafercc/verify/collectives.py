"""Rule 4, inside regions: the nets every collective step needs, and the router configuration each of them means.

Positions on a line are told by their distance from the root and the side they lie on. A router between two PEs belongs
to the stretch between them: its distance is that of the farther one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.block import AllGather, AllReduce, Block, ReduceAlgorithm, Step
from ..ir.program import RAMP, CollectiveNet, PlacedProgram
from .fabric import Ints, Trace, packed
from .machine import Machine
from .violation import Violation

RULE = 4
Bools = NDArray[np.bool_]
_MOST_LEVELS = 16  # a tree over more PEs than a wafer has in a line
Pattern = tuple[str, str, int, int, int, int]  # along, kind, group, root, level, stride


@dataclass(frozen=True, eq=False)
class Rows:
    """Packed router rows of one net; for each, the line of the net it serves and where in the trace it stands."""

    rows: Ints
    line: Ints
    item: Ints


def pattern_of(net: CollectiveNet) -> Pattern:
    level = net.level if net.kind == "tree" else 0
    return (net.along, net.kind, net.group, net.root, level, net.stride if net.kind == "leaders" else 1)


def net_name(net: CollectiveNet) -> str:
    """How messages call a net."""
    extra = {"tree": f" level {net.level}", "leaders": f" stride {net.stride}"}.get(net.kind, "")
    return f"region {net.region}, net {net.kind}{extra} along {net.along}, groups of {net.group}, root {net.root}"


def phases(block: Block, step: Step) -> tuple[tuple[Pattern, ...], ...]:
    """What every PE of the region does one after the other in a step: the nets in use in each phase, none in a local
    one.

    A reduction ends before its result is spread. A gather's multicast runs while PEs still inject, if it is buffered.
    """
    nets = needed(block, step) if isinstance(step, AllReduce | AllGather) else ()
    if not nets or (isinstance(step, AllGather) and step.buffered):
        return (nets,)
    return tuple((net,) for net in nets)


def needed(block: Block, step: AllReduce | AllGather) -> tuple[Pattern, ...]:
    """The nets that a step runs on; none if its line is a single PE."""
    axes = [axis for axis in block.mesh.axes if axis.name in step.axes and axis.extent > 1]
    if not axes:
        return ()
    along, size, root = axes[0].along, math.prod(axis.extent for axis in axes), step.root
    spread: Pattern = (along, "broadcast", size, root, 0, 1)
    if isinstance(step, AllGather):
        return ((along, "collect", size, root, 0, 1), spread)
    if step.algorithm is ReduceAlgorithm.TREE:
        rounds = max(root, size - 1 - root).bit_length()
        return (*((along, "tree", size, root, level, 1) for level in range(rounds)), spread)
    if step.algorithm is ReduceAlgorithm.TWO_PHASE and 1 < step.group < size:
        group = step.group
        return ((along, "chain", group, root % group, 0, 1), (along, "leaders", size, root, 0, group), spread)
    return ((along, "chain", size, root, 0, 1), spread)


def users(program: PlacedProgram) -> dict[str, dict[Pattern, set[tuple[str, str]]]]:
    """Region → pattern → the (block, step) pairs that run on it."""
    found: dict[str, dict[Pattern, set[tuple[str, str]]]] = {}
    for region, block_name in dict.fromkeys((i.region, i.block) for i in program.instances):
        block = program.blocks[block_name]
        for step in block.steps:
            if isinstance(step, AllReduce | AllGather):
                for pattern in needed(block, step):
                    found.setdefault(region, {}).setdefault(pattern, set()).add((block_name, step.id))
    return found


def check_collectives(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Every collective step has its nets in every region it runs in, with colours this machine has."""
    present = {(net.region, pattern_of(net)) for net in program.collectives}
    for region, patterns in users(program).items():
        for pattern, steps in patterns.items():
            if (region, pattern) not in present:
                along, kind, group, root, *_ = pattern
                step = ", ".join(f"block {b} step {s}" for b, s in sorted(steps)[:2])
                what = f"{kind} along {along} in groups of {group} with root {root}"
                yield Violation(RULE, f"region {region}", f"{step} has no net {what}")
    for net in program.collectives:
        if problem := unusable(net, machine):
            yield Violation(RULE, net_name(net), problem)


def unusable(net: CollectiveNet, machine: Machine) -> str:
    """Why a net has no meaning on this machine; empty if it has one."""
    wanted = (1 if net.kind == "broadcast" else 2) * net.classes
    positive = min(net.group, net.classes, net.stride) > 0 and 0 <= net.level < _MOST_LEVELS
    if not positive or not 0 <= net.root < net.group:
        return f"its root {net.root} is not in its group of {net.group}, or one of its counts is out of range"
    if len(net.colours) != wanted:
        return f"has {len(net.colours)} colours; {wanted} are needed"
    if any(not 0 <= colour < machine.colours for colour in net.colours):
        return f"uses colours {', '.join(map(str, net.colours))}; usable are 0 to {machine.colours - 1}"
    return ""


def net_rows(net: CollectiveNet, trace: Trace, wafer: int) -> Rows:
    """The router configuration of a net that `check_collectives` accepts."""
    at = _Along.of(net, trace)
    if net.kind == "broadcast":
        parts = _broadcast(at)
    elif net.kind == "collect":
        parts = _collect(at)
    else:
        reach = {"chain": 1, "leaders": net.stride, "tree": 1 << net.level}[net.kind]
        parts = _messages(at, reach, net.kind == "tree")
    rows: list[Ints] = [np.empty(0, np.int64)]
    items: list[Ints] = [np.empty(0, np.int64)]
    for which, slot, ins, outs in parts:
        line = trace.line[which]
        chosen = np.asarray(net.colours)[slot[which] * net.classes + line % net.classes]
        rows.append(packed(wafer, trace.y[which], trace.x[which], chosen, ins[which], outs[which]))
        items.append(np.flatnonzero(which))
    item = np.concatenate(items)
    return Rows(np.concatenate(rows), trace.line[item], item)


# Routers (a mask over the trace), and for each router of the trace: slot of colours, in-ports, out-ports.
_Part = tuple[Bools, Ints, Ints, Ints]


@dataclass(frozen=True, eq=False)
class _Along:
    """The routers of a trace as one net sees them.

    ``distance`` from the root; ``after``: 1 on the far side of it; ``toward``/``away``: the ports towards the root and
    from it; ``limit``: distance of the last PE of the group on that side (``last``: on the far side); ``inside``: in a
    group that has a root. At a root itself ``toward`` and ``away`` are those of the side before it.
    """

    is_pe: Bools
    inside: Bools
    distance: Ints
    after: Ints
    toward: Ints
    away: Ints
    limit: Ints
    ahead: Ints
    behind: Ints
    last: Ints

    @staticmethod
    def of(net: CollectiveNet, trace: Trace) -> _Along:
        place = trace.pe % net.group
        size = np.minimum(net.group, trace.length - (trace.pe - place))
        after = (place > net.root) | ((place == net.root) & ~trace.is_pe)
        farther = np.where(trace.is_pe | ~after, place, place + 1)
        inside = (size > net.root) & (trace.is_pe | (place + 1 < size))
        return _Along(
            trace.is_pe,
            inside,
            abs(farther - net.root),
            after.astype(np.int64),
            np.where(after, trace.behind, trace.ahead),
            np.where(after, trace.ahead, trace.behind),
            np.where(after, size - 1 - net.root, net.root),
            trace.ahead,
            trace.behind,
            size - 1 - net.root,
        )

    @property
    def root(self) -> Bools:
        here: Bools = self.inside & self.is_pe & (self.distance == 0)
        return here

    def ramp(self) -> Ints:
        return np.full(len(self.distance), RAMP, np.int64)


def _messages(at: _Along, reach: int, tree: bool) -> Iterator[_Part]:
    """PEs at distances ``reach, 2 reach, ...`` (of a tree: the odd multiples) send to the PE ``reach`` nearer."""

    def sends(distance: Ints, limit: Ints) -> Bools:
        step = 2 * reach if tree else reach
        found: Bools = (distance > 0) & (distance % step == reach % step) & (distance <= limit)
        return found

    def slot(distance: Ints, after: Ints) -> Ints:
        return after if tree else (distance // reach + after) % 2

    ramp = at.ramp()
    apart = at.inside & (at.distance > 0)
    yield apart & at.is_pe & sends(at.distance, at.limit), slot(at.distance, at.after), ramp, at.toward
    beyond = at.distance + reach
    taker = at.is_pe & (at.distance % reach == 0)
    yield apart & taker & sends(beyond, at.limit), slot(beyond, at.after), at.away, ramp
    yield at.root & sends(beyond, at.limit), slot(beyond, 0 * at.after), at.behind, ramp
    yield at.root & sends(beyond, at.last), slot(beyond, 0 * at.after + 1), at.ahead, ramp
    sender = -(-at.distance // reach) * reach
    passes = apart & sends(sender, at.limit) & ~(at.is_pe & (at.distance % reach == 0))
    yield passes, slot(sender, at.after), at.away, at.toward


def _broadcast(at: _Along) -> Iterator[_Part]:
    ramp, slot = at.ramp(), 0 * at.after
    onward: Ints = np.where(at.distance < at.limit, at.away, 0)
    apart = at.inside & (at.distance > 0)
    yield apart & at.is_pe, slot, at.toward, ramp | onward
    yield apart & ~at.is_pe, slot, at.toward, at.away
    both = at.behind * (at.limit > 0) + at.ahead * (at.last > 0)
    yield at.root & (both > 0), slot, ramp, both


def _collect(at: _Along) -> Iterator[_Part]:
    ramp = at.ramp()
    apart = at.inside & (at.distance > 0)
    yield apart & at.is_pe, at.after, ramp, at.toward
    yield apart & at.is_pe & (at.distance < at.limit), at.after, at.away, at.toward
    yield apart & ~at.is_pe, at.after, at.away, at.toward
    yield at.root & (at.limit > 0), 0 * at.after, at.behind, ramp
    yield at.root & (at.last > 0), 0 * at.after + 1, at.ahead, ramp
