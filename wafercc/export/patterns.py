"""Patterns: which messages a collective sends along a line of PEs, the same on every line of every region.

A pattern is a few *runs*, each from one PE to another: a reduction's messages, the way of a broadcast from the root to
both ends of its group, the way of a collect from both ends to the root.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..ir.block import AllGather, AllReduce, Block, ReduceAlgorithm
from ..ir.program import RAMP, CollectiveKind, CollectiveNet
from .lines import Along, Ints

# Ports of a PE along its line, before they are turned into ports of its router.
BACK, FRONT = 1, 2


class Pattern(NamedTuple):
    """The fields of a `CollectiveNet` that tell what it does, whatever its region and colours."""

    along: Along
    kind: CollectiveKind
    group: int
    root: int
    level: int = 0
    stride: int = 1


def pattern_of(net: CollectiveNet) -> Pattern:
    """What a net does; fields that its kind does not use are at their defaults."""
    level = net.level if net.kind == "tree" else 0
    return Pattern(net.along, net.kind, net.group, net.root, level, net.stride if net.kind == "leaders" else 1)


def patterns_of(block: Block, step: AllReduce | AllGather) -> tuple[Pattern, ...]:
    """The patterns a step runs, one after another; none if its line is a single PE."""
    axes = [axis for axis in block.mesh.axes if axis.name in step.axes and axis.extent > 1]
    if not axes:
        return ()
    along, size, root = axes[0].along, math.prod(axis.extent for axis in axes), step.root
    spread = Pattern(along, "broadcast", size, root)
    if isinstance(step, AllGather):
        return Pattern(along, "collect", size, root), spread
    if step.algorithm is ReduceAlgorithm.TREE:
        levels = max(root, size - 1 - root).bit_length()
        return *(Pattern(along, "tree", size, root, level) for level in range(levels)), spread
    if step.algorithm is ReduceAlgorithm.TWO_PHASE and 1 < step.group < size:
        chains = Pattern(along, "chain", step.group, root % step.group)
        return chains, Pattern(along, "leaders", size, root, 0, step.group), spread
    return Pattern(along, "chain", size, root), spread


@dataclass(frozen=True, eq=False)
class Crossings:
    """How words cross the PEs of one line: at ``pe``, coming in by ``ins`` and leaving by ``outs`` (masks of BACK,
    FRONT and RAMP), on the colour of ``slot``, as part of ``messages`` messages of a run that began at PE ``start``.

    ``gap``: the rows (indices) whose words then pass from PE ``gap`` to the next (``sign`` 1) or back (-1);
    ``gap_messages`` of them.
    """

    pe: Ints
    start: Ints
    slot: Ints
    ins: Ints
    outs: Ints
    messages: Ints
    gap: Ints
    gap_start: Ints
    gap_slot: Ints
    sign: Ints
    gap_messages: Ints


def crossings(pattern: Pattern, length: int) -> Crossings:
    """Every crossing of a pattern on a line of ``length`` PEs. A group too short to have its root is silent."""
    start, goal, slot = _runs(pattern, length)
    span = abs(goal - start)
    count = span + 1
    run = np.repeat(np.arange(len(start)), count)
    step = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)
    sign = np.sign(goal - start)[run]
    pe = start[run] + sign * step
    leave, arrive = np.where(sign > 0, FRONT, BACK), np.where(sign > 0, BACK, FRONT)
    starts, ends = step == 0, step == span[run]
    ins, outs = np.where(starts, RAMP, arrive), np.where(ends, RAMP, leave)
    kept = np.ones(len(pe), bool)
    if pattern.kind == "broadcast":
        outs |= RAMP * ~starts
        both = np.zeros(length, np.int64)
        np.bitwise_or.at(both, pe[starts], outs[starts])
        outs[starts] = both[pe[starts]]
        kept[np.flatnonzero(starts)[1:]] = np.diff(pe[starts]) != 0  # one row for a root with two sides
    collect = pattern.kind == "collect"
    passed = np.where(collect & ~starts, step, 1)
    joins = ~starts & ~ends & collect  # PEs on the way add a message of their own
    passes = ~ends
    return Crossings(
        np.concatenate([pe[kept], pe[joins]]),
        np.concatenate([start[run][kept], start[run][joins]]),
        np.concatenate([slot[run][kept], slot[run][joins]]),
        np.concatenate([ins[kept], np.full(int(joins.sum()), RAMP)]),
        np.concatenate([outs[kept], leave[joins]]),
        np.concatenate([passed[kept], np.ones(int(joins.sum()), np.int64)]),
        np.where(sign > 0, pe, pe - 1)[passes],
        start[run][passes],
        slot[run][passes],
        sign[passes],
        np.where(collect, step + 1, 1)[passes],
    )


def _runs(pattern: Pattern, length: int) -> tuple[Ints, Ints, Ints]:
    """Each run's first PE, last PE, and slot of its colour."""
    pe = np.arange(length)
    place = pe % pattern.group
    root, after = pe - place + pattern.root, place > pattern.root
    if pattern.kind in ("broadcast", "collect"):
        last = np.minimum(pe - place + pattern.group, length) - 1
        end = (root < length) & ((place == 0) | (pe == last)) & (pe != root)
        ends, roots, side = pe[end], root[end], after[end].astype(np.int64)
        return (roots, ends, 0 * side) if pattern.kind == "broadcast" else (ends, roots, side)
    distance = abs(place - pattern.root)
    if pattern.kind == "tree":
        reach = 1 << pattern.level
        sends = distance % (2 * reach) == reach
        slot = after.astype(np.int64)
    else:
        reach = pattern.stride
        sends = (distance > 0) & (distance % reach == 0)
        slot = (distance // reach + after) % 2
    sends &= root < length
    return pe[sends], (pe + np.where(after, -reach, reach))[sends], slot[sends]
