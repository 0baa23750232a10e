"""Times: arrays of cycle numbers, and on request the chain of events behind every one of them.

All timing is max-plus: a time is the latest of several times, or a time plus a duration. With tracing on, each number
also names a node of the tape: which event made it, on which PE, after which node. The critical path is then a walk
from the last number back to zero, and its segments sum to the total because each is the difference of two nodes'
times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Index = Ints | NDArray[np.bool_] | slice | tuple[slice | int | Ints, ...] | int


@dataclass(frozen=True)
class Times:
    """Cycle numbers, and the tape node of each (``None`` when not tracing)."""

    cycle: Ints
    node: Ints | None = None

    def __getitem__(self, index: Index) -> Times:
        return Times(self.cycle[index], None if self.node is None else self.node[index])

    @property
    def shape(self) -> tuple[int, ...]:
        return self.cycle.shape

    def reshape(self, *shape: int) -> Times:
        return Times(self.cycle.reshape(shape), None if self.node is None else self.node.reshape(shape))

    def transpose(self, order: Sequence[int]) -> Times:
        return Times(self.cycle.transpose(order), None if self.node is None else self.node.transpose(order))

    @staticmethod
    def join(*parts: Times) -> Times:
        """Several times one after the other along dimension 0."""
        nodes = [p.node for p in parts if p.node is not None]
        cycle = np.concatenate([p.cycle for p in parts])
        return Times(cycle, np.concatenate(nodes) if len(nodes) == len(parts) else None)

    @staticmethod
    def choose(condition: NDArray[np.bool_], yes: Times, no: Times) -> Times:
        """``yes`` where the condition holds, ``no`` elsewhere."""
        cycle = np.where(condition, yes.cycle, no.cycle)
        if yes.node is None or no.node is None:
            return Times(cycle)
        return Times(cycle, np.where(condition, yes.node, no.node))

    def spread(self, shape: tuple[int, ...]) -> Times:
        """The same times for more places."""
        node = None if self.node is None else np.broadcast_to(self.node, shape)
        return Times(np.broadcast_to(self.cycle, shape), node)


class Part(StrEnum):
    """What a piece of time was spent on.

    WORK: a kernel on a PE. HOPS: the first word's way over ramps and links, with the one addition at each PE of a
    chain. WORDS: the rest of a message behind its first word. WAIT: a link held by an earlier message.
    """

    WORK = "work"
    HOPS = "hops"
    WORDS = "words"
    WAIT = "wait"


class Label(NamedTuple):
    """What an event was: its kind, the op or stream, the region and the step (empty where there is none), and what it
    spent its time on.
    """

    kind: str
    name: str
    region: str = ""
    step: str = ""
    part: Part = Part.WORDS

    def on(self, part: Part) -> Label:
        return self._replace(part=part)


class Node(NamedTuple):
    """One event of the walk back: what it was, its PE in the region (-1: none), and when it ended."""

    label: Label
    place: int
    cycle: int


class Tape:
    """Makes times. With ``trace`` it remembers, for every number, where it came from."""

    def __init__(self, trace: bool) -> None:
        self.trace = trace
        self._count = 1
        # One entry per bulk of nodes: first id, label, and per node predecessor, cycle, place. Node 0 is the start.
        self._bulks: list[tuple[int, Label, Ints, Ints, Ints]] = []

    def zeros(self, shape: tuple[int, ...]) -> Times:
        return Times(np.zeros(shape, np.int64), np.zeros(shape, np.int64) if self.trace else None)

    def after(
        self, start: Times, duration: Ints | int, label: Label, place: Ints | int = -1, force: bool = False
    ) -> Times:
        """A duration later: one event per number. Numbers with no duration keep their node unless ``force``."""
        cycle = start.cycle + duration
        if start.node is None:
            return Times(cycle)
        before = np.broadcast_to(start.node, cycle.shape)
        ids = self._nodes(label, before, cycle, np.broadcast_to(place, cycle.shape))
        moved = np.broadcast_to(np.asarray(duration) != 0, cycle.shape) | force
        return Times(cycle, np.where(moved, ids, before))

    def _nodes(self, label: Label, before: Ints, cycle: Ints, place: Ints) -> Ints:
        ids = np.arange(self._count, self._count + cycle.size).reshape(cycle.shape)
        self._bulks.append((self._count, label, before.ravel(), cycle.ravel(), place.ravel()))
        self._count += cycle.size
        return ids

    def late(self, *times: Times) -> Times:
        """The latest of several times, place by place (the first of equals gives the node)."""
        first, *rest = times
        for other in rest:
            if first.node is None or other.node is None:
                first = Times(np.maximum(first.cycle, other.cycle))
            else:
                wins = other.cycle > first.cycle
                node = np.where(wins, other.node, first.node)
                first = Times(np.maximum(first.cycle, other.cycle), node)
        return first

    def latest(self, times: Times, axis: int = 0) -> Times:
        """The latest along one dimension, which goes. Empty: zero."""
        if times.shape[axis] == 0:
            return self.zeros(tuple(n for i, n in enumerate(times.shape) if i != axis))
        if times.node is None:
            return Times(times.cycle.max(axis=axis))
        where = np.expand_dims(times.cycle.argmax(axis=axis), axis)
        cycle = np.take_along_axis(times.cycle, where, axis)
        node = np.take_along_axis(times.node, where, axis)
        return Times(np.squeeze(cycle, axis), np.squeeze(node, axis))

    def scan(self, own: Times, steps: Ints, label: Label, place: Ints | int = -1) -> Times:
        """t[0] = own[0]; t[i] = max(own[i], t[i-1] + steps[i-1]) along dimension 0: a signal along a line.

        Steps are not negative.
        """
        if own.shape[0] <= 1:
            return own
        offset = np.zeros(np.broadcast_shapes(own.shape, (1, *steps.shape[1:])), np.int64)
        offset[1:] = np.cumsum(steps, axis=0)
        relative = own.cycle - offset
        running = np.maximum.accumulate(relative, axis=0)
        cycle = running + offset
        if own.node is None:
            return Times(cycle)
        index = np.arange(len(cycle)).reshape(-1, *(1,) * (cycle.ndim - 1))
        origin = np.maximum.accumulate(np.where(relative == running, index, 0), axis=0)
        before = np.take_along_axis(np.broadcast_to(own.node, cycle.shape), origin, axis=0)
        ids = self._nodes(label, before, cycle, np.broadcast_to(place, cycle.shape))
        start = np.take_along_axis(np.broadcast_to(own.cycle, cycle.shape), origin, axis=0)
        return Times(cycle, np.where(start == cycle, before, ids))

    def path(self, last: Times) -> list[Node]:
        """The events behind one number, from the first to the last."""
        assert last.node is not None and last.cycle.size == 1
        starts = np.array([b[0] for b in self._bulks], np.int64)
        found: list[Node] = []
        node = int(last.node.ravel()[0])
        while node:
            first, label, before, cycle, place = self._bulks[int(np.searchsorted(starts, node, "right")) - 1]
            i = node - first
            found.append(Node(label, int(place[i]), int(cycle[i])))
            node = int(before[i])
        return found[::-1]
