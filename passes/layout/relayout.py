"""Relayout: the collectives that turn the layout a value has into the layout an op wants.

Inside a region two moves suffice: *gather* replicates a cut axis (AllGather), *narrow* keeps a slice of what a PE
already holds (free of traffic). A wanted layout whose every tile lies inside the tile that PE has is a narrow;
otherwise the axes of the dimensions that fail are gathered first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from wafercc.ir.dims import Dim, upper
from wafercc.ir.graph import TensorType
from wafercc.ir.layout import UNCUT, AxisName, Layout, Mesh, Split, owned, same_tiles, tile_extent

from .strategy import is_line

LISTED_ELEMENTS = 1 << 20
"""Where one layout deals out and the other holds runs, longer dimensions are not listed, but gathered."""


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a relayout: an AllGather over ``gather`` axes of one direction, or a Narrow where there are none."""

    gather: tuple[AxisName, ...]
    layout: Layout


@lru_cache(maxsize=65_536)
def plan(kind: TensorType, have: Layout, need: Layout, mesh: Mesh) -> tuple[Move, ...] | None:
    """The moves from ``have`` to ``need``; empty if they are the same tiles; None if no such moves exist."""
    if have == need or _same(kind, have, need, mesh):
        return ()
    failing = [
        d
        for d, (dim, a, b) in enumerate(zip(kind.shape, have.splits, need.splits, strict=True))
        if not _inside(dim, a, b, mesh)
    ]
    splits = list(have.splits)
    gathered: list[AxisName] = []
    for d in failing:
        gathered += splits[d].axes
        splits[d] = UNCUT
    # An axis that still cuts one dimension cannot cut another: gather it there too.
    for d, split in enumerate(splits):
        if any(a in other.axes for e, other in enumerate(need.splits) if e != d for a in split.axes):
            gathered += split.axes
            splits[d] = UNCUT
    moves: list[Move] = []
    current = have
    for along in _directions(mesh, have, gathered):
        axes = tuple(a.name for a in mesh.axes if a.along == along and a.name in gathered)
        if not axes:
            continue
        after = [_without(dim, s, axes, mesh) for dim, s in zip(kind.shape, current.splits, strict=True)]
        if not is_line(mesh, axes) or any(s is None for s in after):
            return None
        current = Layout(tuple(s for s in after if s is not None))
        moves.append(Move(axes, current))
    if not _same(kind, current, need, mesh):
        moves.append(Move((), need))
    return tuple(moves)


def _same(kind: TensorType, a: Layout, b: Layout, mesh: Mesh) -> bool:
    """Whether two layouts put every element in the same slot of the same PE."""
    splits = zip(kind.shape, a.splits, b.splits, strict=True)
    return all(same_tiles(dim, p, q, mesh.parts(p.axes)) for dim, p, q in splits)


def _directions(mesh: Mesh, have: Layout, gathered: list[AxisName]) -> tuple[str, ...]:
    """The order of gathering: the direction of the minor axis of a doubly cut dimension first."""
    along = {a.name: a.along for a in mesh.axes}
    for split in have.splits:
        wanted = [along[a] for a in split.axes if a in gathered]
        if len(wanted) > 1 and wanted[-1] != wanted[0]:
            return (wanted[-1], wanted[0])
    return ("x", "y")


def _without(dim: Dim, split: Split, axes: tuple[AxisName, ...], mesh: Mesh) -> Split | None:
    """What is left of a split when its minor axes are gathered: runs of the gathered PEs' granules; None if not
    minor.
    """
    kept = tuple(a for a in split.axes if a not in axes)
    if len(kept) == len(split.axes):
        return split
    if not kept:
        return UNCUT
    if split.axes[: len(kept)] != kept:
        return None
    gone = mesh.parts(split.axes[len(kept) :])
    run = split.granule if split.cyclic else tile_extent(upper(dim), split, mesh.parts(split.axes))
    return Split(kept, run * gone, split.cyclic)


def _inside(dim: Dim, have: Split, need: Split, mesh: Mesh) -> bool:
    """Whether each PE's wanted elements all lie among those it has."""
    if not have.axes or have == need:
        return True
    if not isinstance(dim, int) or need.axes[: len(have.axes)] != have.axes:
        return False
    return _subset(dim, have, need, mesh.parts(have.axes), mesh.parts(need.axes))


@lru_cache(maxsize=4096)
def _subset(extent: int, have: Split, need: Split, have_parts: int, need_parts: int) -> bool:
    if not have.cyclic and not need.cyclic:
        return _runs_inside(extent, have, need, have_parts, need_parts)
    if have.cyclic and need.cyclic:  # both repeat themselves, together after so many elements
        extent = min(extent, math.lcm(have.granule * have_parts, need.granule * need_parts))
    if extent > LISTED_ELEMENTS:
        return False
    held = np.repeat(owned(extent, have, have_parts), need_parts // have_parts, axis=0)
    wanted = owned(extent, need, need_parts)
    present = np.zeros((need_parts, extent + 1), bool)
    np.put_along_axis(present, held, True, axis=1)  # -1 marks the spare last column
    present[:, extent] = True
    return bool(np.take_along_axis(present, wanted, axis=1).all())


def _runs_inside(extent: int, have: Split, need: Split, have_parts: int, need_parts: int) -> bool:
    """As `_subset`, where both hold runs: each wanted one lies between the ends of the one that is held."""
    held, wanted = tile_extent(extent, have, have_parts), tile_extent(extent, need, need_parts)
    for part in range(need_parts):
        start, stop = part * wanted, min((part + 1) * wanted, extent)
        first = part // (need_parts // have_parts) * held
        if start < stop and not first <= start <= stop <= first + held:
            return False
    return True
