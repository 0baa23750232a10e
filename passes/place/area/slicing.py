"""Slicing: a tree of cuts tiles a box with one rectangle per region, in proportion to areas, on the exact map.

A leaf is a region; an inner node cuts its rectangle in two, left of right (vertical) or above below, so that the parts
are in proportion to the areas of the leaves under them. So every tree is a tiling, and no constraint of overlap or
room remains; dead cores are absorbed by where the cuts fall. `legalise` moves the cuts until every region has its
cores: areas of regions that are short grow, of those with cores to spare shrink, a little each round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .problem import AreaProblem, Floats, Ints

ROUNDS = 60
GROWTH, MOST_GROWTH, SHRINKING = 1.003, 1.3, 0.997  # of areas in one round
SPARE = 1.02  # capacity over need from which an area shrinks


@dataclass(frozen=True, slots=True)
class Slicing:
    """A tree of cuts and the box it cuts, which lies at the grid's corner.

    Leaves are 0 .. regions - 1; inner node ``regions + k`` has children ``left[k]`` and ``right[k]``.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    vertical: tuple[bool, ...]
    root: int
    width: float
    height: float

    @property
    def leaves(self) -> int:
        return len(self.left) + 1

    def inner_nodes(self) -> list[int]:
        """Inner nodes, parents first."""
        found = [self.root] if self.left else []
        for node in found:
            k = node - self.leaves
            found += [child for child in (self.left[k], self.right[k]) if child >= self.leaves]
        return found


def slicing_of(strips: Sequence[Sequence[int]], vertical: bool, width: float, height: float) -> Slicing:
    """Parallel strips, each cut across into regions; the tree is balanced, so that paths are short."""
    count = sum(len(strip) for strip in strips)
    left: list[int] = []
    right: list[int] = []
    cuts: list[bool] = []

    def join(nodes: Sequence[int], cut_vertical: bool) -> int:
        if len(nodes) == 1:
            return nodes[0]
        middle = len(nodes) // 2
        ends = join(nodes[:middle], cut_vertical), join(nodes[middle:], cut_vertical)
        left.append(ends[0])
        right.append(ends[1])
        cuts.append(cut_vertical)
        return count + len(left) - 1

    root = join([join(strip, not vertical) for strip in strips], vertical)
    return Slicing(tuple(left), tuple(right), tuple(cuts), root, width, height)


def cut(slicing: Slicing, areas: Floats) -> Ints:
    """The rectangles ``[region, (x, y, w, h)]``, with every cut rounded to whole cores; a box with too few columns or
    rows for its cuts leaves rectangles empty."""
    count, order = slicing.leaves, slicing.inner_nodes()
    area = [*areas.tolist(), *[0.0] * (count - 1)]
    for node in reversed(order):
        area[node] = area[slicing.left[node - count]] + area[slicing.right[node - count]]
    box = (0, 0, int(slicing.width + 0.5), int(slicing.height + 0.5))
    rects: list[tuple[int, int, int, int]] = [box] * (2 * count - 1)
    for node in order:
        k = node - count
        a, b = slicing.left[k], slicing.right[k]
        x, y, w, h = rects[node]
        share = area[a] / area[node]
        if slicing.vertical[k]:
            part = int(w * share + 0.5)
            rects[a], rects[b] = (x, y, part, h), (x + part, y, w - part, h)
        else:
            part = int(h * share + 0.5)
            rects[a], rects[b] = (x, y, w, part), (x, y + part, w, h - part)
    return np.array(rects[:count], np.int64)


def legalise(problem: AreaProblem, slicing: Slicing, areas: Floats) -> Ints | None:
    """The first legal rectangles met while areas are adjusted, or None."""
    areas = areas.astype(np.float64)
    for _ in range(ROUNDS):
        rects = cut(slicing, areas)
        if (rects[:, 2:] < 1).any():
            return None
        held = problem.capacities(rects)
        short = held < problem.needed
        if not short.any():
            return rects
        areas[short] *= np.minimum(MOST_GROWTH, GROWTH * problem.needed[short] / np.maximum(held[short], 1))
        areas[held > SPARE * problem.needed] *= SHRINKING
    return None
