"""Timing of collectives: scans over true hop counts, with every link serving one word per cycle in program order.

A wavelet that leaves a core spends the ramp, its hops and the ramp again before the next core has it. A PE of a chain
adds each incoming word to its own and sends it on, so the first word's time is a scan along the line and the last
follows after as many cycles as there are words. Nothing here is a closed formula of a collective: the numbers come
from the line.

Approximations: words of one transfer follow each other without gaps; a transfer holds each link from its first to its
last word (colours do not interleave); routers have room for what waits in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..ir.block import ReduceAlgorithm
from .collectives import groups
from .geometry import Grid, Lines
from .machine import Machine
from .tape import Label, Part, Tape, Times

Ints = NDArray[np.int64]


class Links:
    """When each directed link is free of what was served before."""

    def __init__(self, grid: Grid, tape: Tape) -> None:
        self.tape = tape
        self.free = tape.zeros((grid.links,))

    def bound(self, ids: Ints) -> Times:
        """When all links ``ids[k, ...]`` are free."""
        return self.tape.latest(self.free[ids], axis=0)

    def hold(self, ids: Ints, until: Times) -> None:
        """The links ``ids[k, ...]`` are busy until the given times."""
        flat = ids.ravel()
        if not flat.size:
            return
        held = until.spread(ids.shape).reshape(-1)
        if self.free.node is None or held.node is None:
            np.maximum.at(self.free.cycle, flat, held.cycle)
        else:
            later = self.tape.late(self.free[flat], held)
            order = np.argsort(later.cycle, kind="stable")  # of several entries for one link the latest is written last
            self.free.cycle[flat[order]] = later.cycle[order]
            assert later.node is not None
            self.free.node[flat[order]] = later.node[order]
            self.free.node[0] = 0
        self.free.cycle[0] = 0


@dataclass(frozen=True)
class Message:
    """What one PE of each line sends: cycles on a link, cycles to add its first word, cycles to add all of it."""

    words: Ints  # [line], in cycles at link rate
    first: int
    all: Ints  # [line]


@dataclass(frozen=True)
class Side:
    """One arm of a line, ordered towards the root: own times, then per step its hops and links (last step: to the
    root)."""

    own: Times
    hops: Ints
    links: Ints
    place: Ints


class Collectives:
    """The timing of collectives on one fabric."""

    def __init__(self, machine: Machine, links: Links, tape: Tape) -> None:
        self.machine, self.links, self.tape = machine, links, tape

    # --- reduce

    def all_reduce(
        self, own: Times, lines: Lines, message: Message, how: tuple[ReduceAlgorithm, int, int], label: Label
    ) -> tuple[Times, Times]:
        """When each PE has the result, and when each is free again; both ``[position, line]``.

        ``how``: algorithm, root and group.
        """
        algorithm, root, group = how
        match algorithm:
            case ReduceAlgorithm.CHAIN:
                done, busy = self._chain(own, lines, 0, lines.length, root, message, label)
            case ReduceAlgorithm.TREE:
                done, busy = self._tree(own, lines, root, message, label)
            case ReduceAlgorithm.TWO_PHASE:
                done, busy = self._two_phase(own, lines, root, group, message, label)
        result = self.broadcast(done, lines, root, message.words, label)
        silent = message.words == 0
        return Times.choose(silent, own, result), Times.choose(silent, own, busy)

    def _sides(self, own: Times, lines: Lines, lo: int, hi: int, root: int) -> tuple[Side, Side]:
        """The arms before and after the root within positions ``lo .. hi-1``."""
        before = Side(own[lo:root], lines.hops[lo:root], lines.forward[:, lo:root], lines.place[lo:root])
        back = slice(hi - 1, root, -1)
        steps = slice(hi - 2, root - 1 if root else None, -1) if hi - 1 > root else slice(0, 0)
        after = Side(own[back], lines.hops[steps], lines.backward[:, steps], lines.place[back])
        return before, after

    def _arm(self, side: Side, message: Message, label: Label) -> tuple[Times, Times]:
        """One arm of a chain: when the first word reaches the root, and when each PE has sent its last."""
        tape, hop, ramp = self.tape, self.machine.hop, self.machine.ramp
        count = side.own.shape[0]
        adds = np.full((count, 1), message.first)
        adds[0] = 0
        free = self.links.bound(side.links)
        travel = side.hops * hop
        moving = label.on(Part.HOPS)
        stalled = tape.after(free, travel + ramp + message.first, moving, side.place)
        start = tape.after(side.own, adds, moving, side.place)
        start = Times.join(start[:1], tape.late(start[1:], stalled[:-1]))
        sent = tape.scan(start, travel[:-1] + 2 * ramp + message.first, moving, side.place)
        leave = tape.late(tape.after(sent, ramp, moving, side.place), free)
        arrive = tape.after(leave, travel + ramp, moving, side.place)
        self._hold(side.links, leave, side.hops, message.all, label, side.place)
        return arrive[-1], tape.after(sent, message.all, label, side.place)

    def _chain(
        self, own: Times, lines: Lines, lo: int, hi: int, root: int, message: Message, label: Label
    ) -> tuple[Times, Times]:
        """Both arms, then the root adds the arm before it, then the arm after it."""
        done = own[root]
        busy: list[Times] = []
        for side in self._sides(own, lines, lo, hi, root):
            if side.own.shape[0]:
                first, sent = self._arm(side, message, label)
                done = self.tape.late(done, first)
                done = self.tape.after(done, message.first + message.all, label, lines.place[root])
                busy.append(sent)
            else:
                busy.append(side.own)
        return done, Times.join(busy[0], done.reshape(1, -1), busy[1][::-1])

    def _two_phase(
        self, own: Times, lines: Lines, root: int, group: int, message: Message, label: Label
    ) -> tuple[Times, Times]:
        """Chains inside groups, then a chain over their leaders."""
        bounds, leaders = groups(lines.length, root, group)
        parts = [
            self._chain(own, lines, lo, hi, leader, message, label)
            for lo, hi, leader in zip(bounds[:-1], bounds[1:], leaders, strict=True)
        ]
        busy = Times.join(*(part[1] for part in parts))
        if len(leaders) == 1:
            return parts[0][0], busy
        second = _leader_lines(lines, leaders)
        leaders_done = Times.join(*(part[0].reshape(1, -1) for part in parts))
        place = leaders.index(root)
        done, leaders_busy = self._chain(leaders_done, second, 0, len(leaders), place, message, label)
        pieces: list[Times] = []
        for i, (lo, hi, leader) in enumerate(zip(bounds[:-1], bounds[1:], leaders, strict=True)):
            pieces += [busy[lo:leader], leaders_busy[i : i + 1], busy[leader + 1 : hi]]
        return done, Times.join(*pieces)

    def _tree(self, own: Times, lines: Lines, root: int, message: Message, label: Label) -> tuple[Times, Times]:
        """Rounds of pairs; in each round the root takes the arm before it first."""
        arms = [_outwards(side) for side in self._sides(own, lines, 0, lines.length, root)]
        ready = [arm.own for arm in arms]
        done = own[root]
        reach = 1
        while reach < lines.length:
            for i, arm in enumerate(arms):
                count = arm.own.shape[0]
                if count < reach:
                    continue
                senders = np.arange(reach - 1, count, 2 * reach)
                arrive = self._round(ready[i], arm, senders, reach, message, label)
                done = self.tape.late(done, arrive[0])
                done = self.tape.after(done, message.first + message.all, label, lines.place[root])
                takers = senders[1:] - reach
                if len(takers):
                    later = self.tape.late(ready[i][takers], arrive[1:])
                    later = self.tape.after(later, message.first + message.all, label, arm.place[takers])
                    ready[i] = _written(ready[i], takers, later)
            reach *= 2
        busy = [
            self.tape.after(times, message.all, label, arm.place) if times.shape[0] else times
            for times, arm in zip(ready, arms, strict=True)
        ]
        return done, Times.join(busy[0][::-1], done.reshape(1, -1), busy[1])

    def _round(self, ready: Times, arm: Side, senders: Ints, reach: int, message: Message, label: Label) -> Times:
        """When the first word of each sender of a round arrives ``reach`` PEs nearer to the root."""
        steps = senders[:, None] - np.arange(reach)[None, :]
        links = np.concatenate([arm.links[:, steps[:, k]] for k in range(reach)], axis=0)
        hops = arm.hops[steps].sum(axis=1)
        ramp, place, moving = self.machine.ramp, arm.place[senders], label.on(Part.HOPS)
        leave = self.tape.late(self.tape.after(ready[senders], ramp, moving, place), self.links.bound(links))
        self._hold(links, leave, hops, message.all, label, place)
        return self.tape.after(leave, hops * self.machine.hop + ramp, moving, place)

    def _hold(self, links: Ints, leave: Times, hops: Ints, cycles: Ints, label: Label, place: Ints) -> None:
        """The links of a step are busy from the first word's entry into the first to the last word's into the last."""
        on_the_way = np.maximum(hops - 1, 0) * self.machine.hop
        self.links.hold(links, self.tape.after(leave, on_the_way + cycles, label.on(Part.WAIT), place))

    # --- multicast and collect

    def broadcast(self, done: Times, lines: Lines, root: int, words: Ints, label: Label, sent: bool = False) -> Times:
        """When each PE of each line has all words of its root.

        The root sends from ``done`` on; with ``sent`` it has been sending, and its last word leaves at ``done``.
        """
        pieces = [done.reshape(1, -1)]
        leave = self.tape.after(done, self.machine.ramp, label.on(Part.HOPS), lines.place[root]).reshape(1, -1)
        for after, side in enumerate(self._away(done, lines, root)):
            if side.own.shape[0]:
                start = np.concatenate([lines.place[[root]], side.place])
                arrive = self._multicast(leave, side, start, words, label, sent)
                pieces = [*pieces, arrive] if after else [arrive[::-1], *pieces]
        return Times.join(*pieces)

    def _away(self, done: Times, lines: Lines, root: int) -> tuple[Side, Side]:
        """The arms before and after the root, ordered from it, with the links that lead away from it."""
        before, after = map(_outwards, self._sides(done.spread(lines.place.shape), lines, 0, lines.length, root))
        back = lines.backward[:, :root][:, ::-1]
        return replace(before, links=back), replace(after, links=lines.forward[:, root:])

    def _multicast(self, leave: Times, side: Side, place: Ints, words: Ints, label: Label, sent: bool) -> Times:
        """When each PE of an arm has the last word; the message enters the fabric at ``leave``.

        What is followed along the arm is the first word, or with ``sent`` the last one, which any link that was
        not free holds back by the whole message.
        """
        tape, ramp, moving = self.tape, self.machine.ramp, label.on(Part.HOPS)
        behind = np.zeros_like(words) if sent else words
        travel = side.hops * self.machine.hop
        free = tape.after(self.links.bound(side.links), words - behind, label, side.place)
        entry = Times.join(leave, tape.after(free, travel, moving, side.place))
        front = tape.scan(entry, travel, moving, place)
        self._hold(side.links, tape.late(front[:-1], free), side.hops, behind, label, side.place)
        return tape.after(tape.after(front[1:], ramp, moving, side.place), behind, label, side.place)

    def all_gather(self, own: Times, lines: Lines, words: Ints, root: int, label: Label) -> tuple[Times, Times]:
        """Every PE injects in turn, nearest the root first, the arm before it first; the root's multicast cuts through.

        ``words[position, line]`` in cycles. Gives when each PE has everything, and when each is free again.
        """
        tape, hop, ramp, moving = self.tape, self.machine.hop, self.machine.ramp, label.on(Part.HOPS)
        done = tape.after(own[root], words[root], label, lines.place[root])
        for i, side in enumerate(map(_outwards, self._sides(own, lines, 0, lines.length, root))):
            if not side.own.shape[0]:
                continue
            counts = words[root + 1 :] if i else words[:root][::-1]
            distance = np.cumsum(side.hops, axis=0) * hop
            arrive = tape.after(side.own, 2 * ramp + distance, moving, side.place)
            arrive = Times.choose(counts > 0, arrive, tape.zeros(arrive.shape))
            free = tape.after(self.links.bound(side.links), distance + ramp, moving, side.place)
            start = tape.late(done, tape.latest(free)).reshape(1, -1)
            steps = np.concatenate([np.zeros_like(counts[:1]), counts[:-1]])
            place = np.concatenate([lines.place[[root]], side.place])
            scanned = tape.scan(Times.join(start, arrive), steps, label, place)
            turn = tape.after(scanned[-1], counts[-1], label, side.place[-1])
            done = Times.choose(counts.sum(axis=0) > 0, turn, done)
            self.links.hold(side.links, done.reshape(1, 1, -1))
        total = words.sum(axis=0)
        through = tape.after(done, 1, label, lines.place[root])
        spread = self.broadcast(through, lines, root, total, label, sent=True)
        result = Times.join(spread[:root], done.reshape(1, -1), spread[root + 1 :])
        busy = tape.after(own, words, label, lines.place)
        return Times.choose(total == 0, own, result), busy


def _outwards(side: Side) -> Side:
    """The same arm ordered by distance from the root."""
    return Side(side.own[::-1], side.hops[::-1], side.links[:, ::-1], side.place[::-1])


def _written(times: Times, index: Ints, new: Times) -> Times:
    cycle = times.cycle.copy()
    cycle[index] = new.cycle
    if times.node is None or new.node is None:
        return Times(cycle)
    node = times.node.copy()
    node[index] = new.node
    return Times(cycle, node)


def _leader_lines(lines: Lines, leaders: Sequence[int]) -> Lines:
    """The lines of group leaders: each step is all steps between two of them."""
    hops = np.stack([lines.hops[a:b].sum(axis=0) for a, b in pairwise(leaders)])

    def between(ids: Ints) -> Ints:
        """Links [k, position, line] of all steps between two leaders, as [k * stride, leader, line]."""
        runs = [ids[:, a:b].reshape(-1, ids.shape[2]) for a, b in pairwise(leaders)]
        return np.stack(runs, axis=1)

    place = lines.place[np.asarray(leaders)]
    return Lines(lines.axes, lines.mesh, hops, between(lines.forward), between(lines.backward), place, lines.share)
