"""Patterns: which collective nets the steps of a region need, and what each does along one line.

A step becomes one or more *patterns*: an all-reduce is a chain, the levels of a tree, or chains and their leaders, then
a broadcast; an all-gather is a collect, then a broadcast. Patterns that several steps need are built once. A pattern is
described along one line by the ports *back* and *front* of each PE, and is the same on every line of the region.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wafercc.errors import CompileError
from wafercc.ir.block import AllGather, AllReduce, Block, ReduceAlgorithm
from wafercc.ir.layout import AxisName, Mesh
from wafercc.ir.program import RAMP, CollectiveKind

from .lines import Along

Codes = NDArray[np.int32]

# Ports of a PE along a line, before they are turned into sides of its router.
BACK, FRONT = 1, 2


@dataclass(frozen=True, slots=True)
class Pattern:
    """A collective net on every line along a direction: the fields of `CollectiveNet` before colours are chosen."""

    along: Along
    kind: CollectiveKind
    group: int
    root: int
    level: int = 0
    stride: int = 1


@dataclass(frozen=True, eq=False)
class LineNet:
    """A pattern on one line of n PEs. ``ins``/``outs``: ``[slot, position, PE]`` masks of BACK, FRONT and RAMP, 0 where
    unused.

    ``flow``: ``[slot, edge]``: +1 where words pass from PE ``edge`` to the next, -1 the other way, 0 where none pass.
    """

    ins: Codes
    outs: Codes
    flow: Codes

    @property
    def slots(self) -> int:
        return int(self.ins.shape[0])

    @property
    def span(self) -> int:
        """The switch positions that its rows are numbered by."""
        return int(self.ins.shape[1])

    def uses(self, slot: int) -> bool:
        """Whether words move in this slot."""
        return bool(self.outs[slot].any())


def patterns_of(blocks: Sequence[Block], region: str) -> list[Pattern]:
    """Every pattern the blocks of a region need, in order of first use.

    Raises:
        CompileError: a step's axes are no run of neighbours, or its groups do not fit its line.
    """
    return list(
        dict.fromkeys(
            pattern
            for block in blocks
            for step in block.steps
            if isinstance(step, AllReduce | AllGather)
            for pattern in step_patterns(step, block.mesh, f"region {region}, block {block.name}, step {step.id}")
        )
    )


def step_patterns(step: AllReduce | AllGather, mesh: Mesh, where: str) -> Iterator[Pattern]:
    """The patterns of one step in the order of their use; none if its groups are single PEs."""
    along, line, group = group_of(mesh, step.axes, where)
    if group == 1:
        return
    root = step.root
    assert 0 <= root < group, f"{where}: root {root} of {group}"
    if isinstance(step, AllGather):
        yield Pattern(along, "collect", group, root)
    elif step.algorithm is ReduceAlgorithm.TREE:
        farthest = max(root, group - 1 - root)
        for level in range(farthest.bit_length()):
            yield Pattern(along, "tree", group, root, level=level)
    elif step.algorithm is ReduceAlgorithm.TWO_PHASE and 1 < step.group < group:
        size = step.group
        rest = group % size
        if rest and (group != line or rest <= root % size):
            raise CompileError(
                f"cannot route: two-phase groups of {size} do not fit a line of {group} with root {root}",
                where=where,
                hint=f"choose a group size that divides {group}",
            )
        yield Pattern(along, "chain", size, root % size)
        yield Pattern(along, "leaders", group, root, stride=size)
    else:
        yield Pattern(along, "chain", group, root)
    yield Pattern(along, "broadcast", group, root)


def group_of(mesh: Mesh, axes: Sequence[AxisName], where: str) -> tuple[Along, int, int]:
    """Direction, line length and group length of a step's axes: all axes of a direction, or its minor ones."""
    chosen = [a for a in mesh.axes if a.name in axes and a.extent > 1]
    if not chosen:
        return "x", 1, 1
    along = chosen[0].along
    direction = [a for a in mesh.axes if a.along == along and a.extent > 1]
    if direction[-len(chosen) :] != chosen:
        raise CompileError(
            f"cannot route: axes {' '.join(axes)} of mesh {mesh} are not neighbours on a line",
            where=where,
            hint="reduce or gather over all axes of one direction, or its minor ones",
        )
    return along, math.prod(a.extent for a in direction), math.prod(a.extent for a in chosen)


@lru_cache(maxsize=512)
def line_net(pattern: Pattern, n: int) -> LineNet:
    """What a pattern does on a line of n PEs."""
    match pattern.kind:
        case "chain" | "leaders" | "tree":
            return _messages(n, _senders(pattern, n), in_turn=pattern.kind == "tree")
        case "broadcast":
            return _broadcast(pattern, n)
        case "collect":
            return _collect(pattern, n)


def _senders(pattern: Pattern, n: int) -> list[tuple[int, int, int]]:
    """The messages (from PE, to PE, slot) of a reduction."""
    t = np.arange(n) % pattern.group
    starts = np.arange(n) - t
    distance = abs(t - pattern.root)
    after = (t > pattern.root).astype(int)
    if pattern.kind == "tree":
        reach = 1 << pattern.level
        sends = distance % (2 * reach) == reach
        slot = after
    else:
        reach = pattern.stride
        sends = (distance % reach == 0) & (distance > 0)
        slot = (distance // reach + after) % 2
    sends &= starts + pattern.root < n  # a short last group without a root has nobody to send to
    ahead = np.arange(n) + np.where(after == 1, -reach, reach)
    return [(int(i), int(ahead[i]), int(slot[i])) for i in np.flatnonzero(sends)]


def _messages(n: int, messages: Sequence[tuple[int, int, int]], in_turn: bool) -> LineNet:
    """Single messages between PEs of a line: port to ramp, ramp to port, port to port on the way.

    ``in_turn``: a switch position for each of the three, in this order. Over the levels of a tree every router does
    first the one, then the second, then the third, so that all levels can share a colour.
    """
    hears, sends, passes = (0, 1, 2) if in_turn else (0, 0, 0)
    ins, outs = np.zeros((2, passes + 1, n), np.int32), np.zeros((2, passes + 1, n), np.int32)
    flow = np.zeros((2, max(0, n - 1)), np.int32)
    for source, goal, slot in messages:
        low, high = min(source, goal), max(source, goal)
        leave, arrive = (FRONT, BACK) if goal > source else (BACK, FRONT)
        ins[slot, passes, low + 1 : high], outs[slot, passes, low + 1 : high] = arrive, leave
        ins[slot, sends, source], outs[slot, sends, source] = RAMP, leave
        ins[slot, hears, goal], outs[slot, hears, goal] = arrive, RAMP
        flow[slot, low:high] = 1 if goal > source else -1
    return LineNet(ins, outs, flow)


def _sides(pattern: Pattern, n: int) -> tuple[Codes, Codes, Codes, Codes]:
    """Per PE: whether it lies before, at or after its group's root; and its port away from the root where a PE is
    there."""
    t = np.arange(n) % pattern.group
    end = np.minimum(np.arange(n) - t + pattern.group, n) - 1
    before, root, after = t < pattern.root, t == pattern.root, t > pattern.root
    farther = np.where(before & (t > 0), BACK, 0) + np.where(after & (np.arange(n) < end), FRONT, 0)
    return before.astype(np.int32), root.astype(np.int32), after.astype(np.int32), farther.astype(np.int32)


def _broadcast(pattern: Pattern, n: int) -> LineNet:
    before, root, after, farther = _sides(pattern, n)
    t = np.arange(n) % pattern.group
    has_front = (np.arange(n) < n - 1) & (t < pattern.group - 1)
    ins = before * FRONT + after * BACK + root * RAMP
    outs = (before + after) * RAMP + farther + root * (BACK * (t > 0) + FRONT * has_front)
    flow = _edges(before, after, toward_root=-1)
    return LineNet(ins[None, None], outs.astype(np.int32)[None, None], (flow[0] + flow[1])[None])


def _collect(pattern: Pattern, n: int) -> LineNet:
    before, root, after, farther = _sides(pattern, n)
    ins, outs = np.zeros((2, 2, n), np.int32), np.zeros((2, 2, n), np.int32)
    t = np.arange(n) % pattern.group
    has_front = (np.arange(n) < n - 1) & (t < pattern.group - 1)
    for slot, (side, toward, near, present) in enumerate(
        ((before, FRONT, BACK, t > 0), (after, BACK, FRONT, has_front))
    ):
        ins[slot, 0], outs[slot, 0] = side * RAMP, side * toward
        ins[slot, 1] = side * farther
        outs[slot, 1] = (ins[slot, 1] > 0) * toward
        hears = (root == 1) & present
        ins[slot, 0][hears], outs[slot, 0][hears] = near, RAMP
    return LineNet(ins, outs, _edges(before, after, toward_root=1))


def _edges(before: Codes, after: Codes, toward_root: int) -> Codes:
    """Flow ``[2, edge]`` between a PE and its neighbour nearer the root: slot 0 before the root, slot 1 after it."""
    return np.stack([before[:-1] * toward_root, after[1:] * -toward_root]).astype(np.int32)
