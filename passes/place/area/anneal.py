"""Anneal: search over slicing trees for short streams and compact rectangles.

The areas of regions are fixed, so a tree's rectangles follow from its cuts and only sides and streams are left to pay;
dead cores are left to `legalise`. A move changes the tree in one place, and only what lies under the lowest node that
sees the whole change is laid out anew:

* exchange two subtrees;
* take a subtree, mostly a leaf, out and put it beside another node, or beside or above one that it has a stream to;
* turn one cut, or all cuts of a subtree; swap the two sides of a cut;
* change the width of the box, at equal area, where the grid has room to spare.

A worse tree is accepted with probability exp(-rise / T), T falling geometrically. Annealing of slicing floorplans:
Wong and Liu, DAC 1986. Cost: 10 (100 regions) to 30 (20 regions) thousand moves a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import numpy as np

from .problem import AreaProblem, Floats
from .slicing import Slicing

HOT, COLD = 0.15, 0.002  # first and last temperature, in costs per region
EXCHANGES, INSERTIONS, TURNS, SWAPS, TRANSPOSITIONS = 0.28, 0.45, 0.13, 0.09, 0.03  # shares; the box takes the rest
LEAVES, PARTNERS, UPWARDS = 0.7, 0.5, 0.3  # of insertions: a leaf; to a partner; each step above it
RESIZING = 0.2  # the most that one move changes the width of the box, as a share of it
Laid = list[tuple[int, float, float, float, float]]  # node, x, y, w, h


class _Move(NamedTuple):
    """The node under which all is laid out anew, the size it then has, and how to take the move back."""

    top: int
    width: float
    height: float
    undo: Callable[[], None]


def anneal(problem: AreaProblem, areas: Floats, start: Slicing, moves: int, seed: int) -> Slicing:
    """The best slicing met in so many moves; the same for the same seed. A single region has nothing to move."""
    return start if problem.count == 1 else _Search(problem, areas, start, Random(seed)).run(moves)


class _Search:
    """A tree under change. Nodes as in `Slicing`; what belongs to nodes is in lists, leaves first."""

    def __init__(self, problem: AreaProblem, areas: Floats, start: Slicing, random: Random) -> None:
        self.draw = random.random
        self.count = count = problem.count
        self.nodes = nodes = 2 * count - 1
        self.side_cost = problem.side_cost
        self.room = (float(problem.width), float(problem.height))
        self.left, self.right = [-1] * count + list(start.left), [-1] * count + list(start.right)
        self.vertical = [False] * count + list(start.vertical)
        self.root = start.root
        self.parent = [-1] * nodes
        self.area = [*areas.tolist(), *[0.0] * (count - 1)]
        for node in reversed(start.inner_nodes()):
            self.parent[self.left[node]] = self.parent[self.right[node]] = node
            self.area[node] = self.area[self.left[node]] + self.area[self.right[node]]
        self.sources, self.ends, self.weights = *problem.streams.T.copy(), problem.weights
        self.partners: list[list[int]] = [[] for _ in range(count)]
        for a, b in problem.streams.tolist():
            self.partners[a].append(b)
            self.partners[b].append(a)
        self.corner = [(0.0, 0.0)] * nodes
        self.size = [(0.0, 0.0)] * nodes
        self.x, self.y = [0.0] * count, [0.0] * count  # centres
        self.size[self.root] = (start.width, start.height)
        self.accept(self.lay(self.root, start.width, start.height))
        self.cost = self.side_cost * sum(w + h for w, h in self.size[:count]) + self.hops

    def run(self, moves: int) -> Slicing:
        draw, exp = self.draw, math.exp
        best, least = self.slicing(), self.cost
        heat = HOT * self.cost / self.count
        cooling = (COLD / HOT) ** (1 / moves) if moves else 1.0
        for _ in range(moves):
            heat *= cooling
            move = self.propose()
            if move is None:
                continue
            laid = self.lay(move.top, move.width, move.height)
            rise = self.rise(laid)
            if rise > 0 and draw() >= exp(-rise / heat):
                move.undo()
                continue
            self.accept(laid)
            self.cost += rise
            if self.cost < least - 1e-6:
                best, least = self.slicing(), self.cost
        return best

    def slicing(self) -> Slicing:
        tree = (tuple(self.left[self.count :]), tuple(self.right[self.count :]), tuple(self.vertical[self.count :]))
        return Slicing(*tree, self.root, *self.size[self.root])

    def lay(self, top: int, width: float, height: float) -> Laid:
        """The rectangles of all nodes under ``top`` if that has this size."""
        left, right, vertical, area, count = self.left, self.right, self.vertical, self.area, self.count
        laid = [(top, *self.corner[top], width, height)]
        put = laid.append
        for node, x, y, w, h in laid:
            if node < count:
                continue
            a, b = left[node], right[node]
            if vertical[node]:
                part = w * area[a] / area[node]
                put((a, x, y, part, h))
                put((b, x + part, y, w - part, h))
            else:
                part = h * area[a] / area[node]
                put((a, x, y, w, part))
                put((b, x, y + part, w, h - part))
        return laid

    def rise(self, laid: Laid) -> float:
        """By how much the cost rises with these rectangles."""
        count, size = self.count, self.size
        xs, ys = self.x.copy(), self.y.copy()
        sides = 0.0
        for node, x, y, w, h in laid:
            if node < count:
                old_w, old_h = size[node]
                sides += w + h - old_w - old_h
                xs[node], ys[node] = x + w / 2, y + h / 2
        return self.side_cost * sides + self.hop_cycles(xs, ys) - self.hops

    def hop_cycles(self, xs: list[float], ys: list[float]) -> float:
        """The streams' cost for these centres."""
        x, y = np.array(xs), np.array(ys)
        across, down = x.take(self.sources) - x.take(self.ends), y.take(self.sources) - y.take(self.ends)
        return float(self.weights.dot(np.abs(across) + np.abs(down)))

    def accept(self, laid: Laid) -> None:
        for node, x, y, w, h in laid:
            self.corner[node], self.size[node] = (x, y), (w, h)
            if node < self.count:
                self.x[node], self.y[node] = x + w / 2, y + h / 2
        self.hops = self.hop_cycles(self.x, self.y)

    def propose(self) -> _Move | None:
        """Make a random move; None if what was drawn is none."""
        kind = self.draw()
        for share, make in (
            (EXCHANGES, self.exchange),
            (INSERTIONS, self.insert),
            (TURNS, self.turn),
            (SWAPS, self.swap),
            (TRANSPOSITIONS, self.transpose),
        ):
            if kind < share:
                return make()
            kind -= share
        return self.resize()

    def change(self, top: int, undo: Callable[[], None]) -> _Move:
        return _Move(top, *self.size[top], undo)

    def inner(self) -> int:
        return self.count + int(self.draw() * (self.count - 1))

    def turn(self) -> _Move:
        node = self.inner()

        def flip() -> None:
            self.vertical[node] = not self.vertical[node]

        flip()
        return self.change(node, flip)

    def swap(self) -> _Move:
        node = self.inner()

        def flip() -> None:
            self.left[node], self.right[node] = self.right[node], self.left[node]

        flip()
        return self.change(node, flip)

    def transpose(self) -> _Move:
        node = self.inner()
        below = [node]
        for each in below:
            below += [child for child in (self.left[each], self.right[each]) if child >= self.count]

        def flip() -> None:
            for each in below:
                self.vertical[each] = not self.vertical[each]

        flip()
        return self.change(node, flip)

    def resize(self) -> _Move | None:
        width, height = self.size[self.root]
        wide = width * math.exp(RESIZING * (2 * self.draw() - 1))
        high = width * height / wide
        if wide > self.room[0] or high > self.room[1]:
            return None
        return _Move(self.root, wide, high, lambda: None)

    def exchange(self) -> _Move | None:
        a, b = int(self.draw() * self.nodes), int(self.draw() * self.nodes)
        top = self.meeting(a, b)
        if top in (a, b):
            return None
        above_a, above_b = self.parent[a], self.parent[b]

        def put(at_a: int, at_b: int) -> None:
            if above_a == above_b:
                self.left[top], self.right[top] = self.right[top], self.left[top]
                return
            self.replace(above_a, at_b, at_a)
            self.replace(above_b, at_a, at_b)
            self.add_up(above_a, top)
            self.add_up(above_b, top)

        put(b, a)
        return self.change(top, lambda: put(a, b))

    def insert(self) -> _Move | None:
        """Take a node out, with the cut above it, and put both beside another node.

        The cut may then lie in either direction, with the node on either side.
        """
        draw, parent = self.draw, self.parent
        node = int(draw() * (self.count if draw() < LEAVES else self.nodes))
        beside = self.destination(node)
        above, over = parent[node], parent[beside]
        if above < 0 or over < 0 or beside == above or parent[above] < 0:
            return None
        top = self.meeting(node, beside)
        if top == node:
            return None
        sibling = self.left[above] if self.right[above] == node else self.right[above]
        grand = parent[above]
        if top == beside:
            top = over
        elif top == above:
            top = grand
        before = (self.left[above], self.right[above], self.vertical[above])
        self.replace(grand, above, sibling)
        over = parent[beside]
        self.replace(over, beside, above)
        ends = (node, beside) if draw() < 0.5 else (beside, node)
        self.hold(above, *ends, draw() < 0.5)
        self.add_up(grand, top)
        self.add_up(above, top)

        def undo() -> None:
            self.replace(over, above, beside)
            self.replace(parent[sibling], sibling, above)
            self.hold(above, *before)
            self.add_up(over, top)
            self.add_up(above, top)

        return self.change(top, undo)

    def destination(self, node: int) -> int:
        """A random node; for a leaf with streams as often one of their other ends, or a node above that."""
        draw = self.draw
        partners = self.partners[node] if node < self.count else []
        if not partners or draw() >= PARTNERS:
            return int(draw() * self.nodes)
        found = partners[int(draw() * len(partners))]
        while draw() < UPWARDS and self.parent[found] >= 0:
            found = self.parent[found]
        return found

    def meeting(self, a: int, b: int) -> int:
        """The lowest node above both, which may be one of them."""
        above = set()
        while a >= 0:
            above.add(a)
            a = self.parent[a]
        while b not in above:
            b = self.parent[b]
        return b

    def replace(self, parent: int, child: int, new: int) -> None:
        if self.left[parent] == child:
            self.left[parent] = new
        else:
            self.right[parent] = new
        self.parent[new] = parent

    def hold(self, node: int, left: int, right: int, vertical: bool) -> None:
        self.left[node], self.right[node], self.vertical[node] = left, right, vertical
        self.parent[left] = self.parent[right] = node

    def add_up(self, node: int, top: int) -> None:
        """Areas from ``node`` up to below ``top``, whose own does not change."""
        while node != top:
            self.area[node] = self.area[self.left[node]] + self.area[self.right[node]]
            node = self.parent[node]
