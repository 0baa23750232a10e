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
from wafercc.ir.layout import AxisName, Layout, Mesh
from wafercc.ir.optable import Work
from wafercc.targets import Target

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
    macs, simple, special = int(work.macs), int(work.simple), int(work.special)
    if not macs and not simple and not special:
        return 0
    pe = target.pe
    return (
        pe.task_cycles
        + math.ceil(macs / pe.macs_per_cycle[dtype])
        + math.ceil(simple / pe.simple_per_cycle[dtype])
        + math.ceil(special * pe.special_cycles)
    )


@lru_cache(maxsize=65_536)
def all_reduce(parts: int, words: int, target: Target) -> Reduction:
    """The cheapest all-reduce of ``words`` over a line of ``parts`` PEs with its root in the middle, then multicast."""
    ramp = target.router.ramp_cycles
    step = 2 * ramp + 2
    half = parts // 2
    back = words + half + 2 * ramp
    chain = words + step * half + ramp
    options = [Reduction(ReduceAlgorithm.CHAIN, 0, chain + back)]
    levels = max(1, math.ceil(math.log2(max(parts - half, 1) + (half > 0)))) if parts > 1 else 0
    if 1 < parts <= 32:
        tree = levels * (words + 2 * ramp + 1) + half
        options.append(Reduction(ReduceAlgorithm.TREE, 0, tree + back))
    group = max(2, math.isqrt(parts))
    if parts > 8:
        two = 2 * words + half + (2 * ramp + 1) * (group // 2 + math.ceil(half / group)) + half
        options.append(Reduction(ReduceAlgorithm.TWO_PHASE, group, two + back))
    return min(options, key=lambda r: r.cycles)


def all_gather(parts: int, words: int, target: Target) -> int:
    """Collecting ``words`` from each of ``parts`` PEs in turn at the middle, and multicasting them back."""
    return parts * words + parts + 4 * target.router.ramp_cycles + 1


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
            total += max(distinct, 1) + parts + 4 * target.router.ramp_cycles + 1
        else:
            copied = math.prod(full_tile(kind, move.layout, mesh))
            total += local_cycles(Work(simple=copied), kind.dtype, target)
        current = move.layout
    return total


def lines_of(mesh: Mesh, axes: Sequence[AxisName]) -> list[tuple[AxisName, ...]]:
    """The axes grouped by direction, rows of PEs (x) first: one collective each."""
    groups = [tuple(a.name for a in mesh.axes if a.along == along and a.name in axes) for along in ("x", "y")]
    return [g for g in groups if g]
