"""Prices: what the layout search pays for each step, in cycles, from the target's closed formulas.

One function per kind of step. Words are 32-bit wavelets of the fullest tile. The formulas themselves stand in
`targets/cost.py`; here they are chosen (which reduce algorithm, which root) and applied to layouts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from wafercc.ir.block import ReduceAlgorithm
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import TensorType
from wafercc.ir.layout import Layout, Mesh
from wafercc.ir.optable import Work
from wafercc.targets import Target, cost

from .relayout import Move
from .strategy import full_tile


@dataclass(frozen=True, slots=True)
class Reduction:
    """The cheapest way to all-reduce one line: algorithm, group size of a two-phase reduce, cycles."""

    algorithm: ReduceAlgorithm
    group: int
    cycles: int


def local_cycles(work: Work, dtype: DType, target: Target) -> int:
    """Cycles of one local kernel on its fullest PE; 0 for a kernel with nothing to do."""
    return cost.local(target, work, dtype).total


@lru_cache(maxsize=65_536)
def all_reduce(parts: int, words: int, target: Target, whole: bool = True) -> Reduction:
    """The cheapest all-reduce of ``words`` over a line of ``parts`` PEs with its root in the middle, then multicast.

    ``whole``: the line is a whole row or column of the region, not one of several runs in it.
    """
    half = parts // 2 + 1
    group = _group(parts, parts // 2, whole)
    options = [
        (cost.chain_reduce(target, words, half), ReduceAlgorithm.CHAIN, 0),
        (cost.tree_reduce(target, words, half), ReduceAlgorithm.TREE, 0),
    ]
    if group:
        options.append((cost.two_phase_reduce(target, words, half, group), ReduceAlgorithm.TWO_PHASE, group))
    reduced, algorithm, size = min(options, key=lambda option: option[0].total)
    # Both halves arrive on the root's one ramp.
    back = cost.broadcast(target, words, half).total + (words if parts > 2 else 0)
    return Reduction(algorithm, size, reduced.total + back)


def _group(parts: int, root: int, whole: bool) -> int:
    """The group size nearest the square root of half the line that the fabric can form; 0 if there is none.

    Groups of a run must divide it; at the end of a whole line a shorter group may stand if its leader still lies in it.
    """
    wanted = cost.best_group(parts // 2 + 1)
    sizes = [s for s in range(2, parts // 2 + 1) if parts % s == 0 or (whole and parts % s > root % s)]
    return min(sizes, key=lambda s: (abs(s - wanted), s), default=0)


def words_of(kind: TensorType, layout: Layout, mesh: Mesh) -> int:
    """Wavelets of the fullest tile."""
    return kind.dtype.wavelets(math.prod(full_tile(kind, layout, mesh)))


def moves_cycles(kind: TensorType, have: Layout, moves: Sequence[Move], mesh: Mesh, target: Target) -> int:
    """Cycles of a relayout: its gathers, and the copies of its narrows."""
    total, current = 0, have
    for move in moves:
        if move.gather:
            parts = mesh.parts(move.gather)
            distinct = min(parts * words_of(kind, current, mesh), words_of(kind, move.layout, mesh))
            total += cost.all_gather(target, max(1, -(-distinct // parts)), parts).total
        else:
            copied = math.prod(full_tile(kind, move.layout, mesh))
            total += local_cycles(Work(simple=copied), kind.dtype, target)
        current = move.layout
    return total
