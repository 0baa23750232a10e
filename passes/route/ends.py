"""Ends: which rows and columns of a region a stream concerns, and where lanes may cut it.

At a source, PEs send what they own; on an axis that replicates the value only the gate's index sends. At a destination
every PE that owns elements must hear. Lanes cut a dimension where, at both ends, all rows (or columns) before a place
hold only elements below a boundary and all rows after it only elements from it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wafercc.ir.dims import Dim
from wafercc.ir.layout import Mesh, Split, Tiled, owned
from wafercc.ir.program import Region

from .lines import Along

Bools = NDArray[np.bool_]
NONE = 1 << 60
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class End:
    """One end of a stream (or of several that share a net) in a region: the values as they are tiled there."""

    region: Region
    mesh: Mesh
    tiled: tuple[Tiled, ...]
    sends: bool

    def extent(self, along: Along) -> int:
        """Lines in a direction: rows for "y", columns for "x"."""
        return self.region.rows if along == "y" else self.region.columns

    @cached_property
    def _kept(self) -> dict[tuple[str, Along], list[NDArray[np.int64]]]:
        return {}

    def holds(self, along: Along) -> list[NDArray[np.int64]]:
        """For each value: per row (or column) whether any of its PEs hold a part (1 or 0)."""
        if ("holds", along) not in self._kept:
            lines = [_lines(holders(t, self.mesh), self.mesh, along) for t in self.tiled]
            self._kept["holds", along] = [each.astype(np.int64) for each in lines]
        return self._kept["holds", along]

    def copies(self, along: Along) -> list[NDArray[np.int64]]:
        """For each value: per row (or column) which copy of it that is; all one copy where nothing is sent."""
        if ("copies", along) not in self._kept:
            none = np.zeros(self.extent(along), np.int64)
            self._kept["copies", along] = [_copy(t, self.mesh, along) if self.sends else none for t in self.tiled]
        return self._kept["copies", along]


@dataclass(frozen=True, slots=True)
class Within:
    """The lines ``lo .. hi-1`` of one lane; ``like``: only those of the same copy of the value as this line."""

    lo: int
    hi: int
    like: int | None = None


@dataclass(frozen=True, slots=True)
class Teeth:
    """Lines ``lo .. hi-1`` of a comb, and those of them that may hold its gate."""

    lo: int
    hi: int
    gates: tuple[int, ...]


def teeth(end: End, along: Along, wishes: Sequence[int], within: Within | None = None) -> list[Teeth]:
    """The teeth a comb needs, one choice for each kind of gate found among the wished-for lines.

    ``within`` limits the lines that count to those of one lane.
    """
    count = end.extent(along)
    lines = np.arange(count)
    limit = (lines >= within.lo) & (lines < within.hi) if within else np.ones(count, bool)
    copies = end.copies(along)
    if within and within.like is not None:
        limit &= copies[0] == copies[0][within.like]
    hold = [held.astype(bool) & limit for held in end.holds(along)]
    found: dict[tuple[int, int, int], Teeth] = {}
    candidates = next((np.flatnonzero(h) for h in hold if h.any()), np.flatnonzero(limit)[:1])
    for wish in wishes:
        gate = int(candidates[abs(candidates - wish).argmin()])
        serving = np.zeros(count, bool)
        serving[gate] = True
        same = limit.copy()
        for held, copy in zip(hold, copies, strict=True):
            serving |= held & (copy == copy[gate])
            same &= copy == copy[gate]
        at = np.flatnonzero(serving)
        lo, hi = int(at[0]), int(at[-1]) + 1
        gates = tuple(int(g) for g in np.flatnonzero(same[lo:hi]) + lo)
        found.setdefault((lo, hi, gates[0]), Teeth(lo, hi, gates))
    return list(found.values())


def whole_copies(end: End, along: Along) -> bool:
    """Whether every line in a direction holds the whole value, so that different lines may send different parts."""
    names = {a.name for a in end.mesh.axes if a.along == along and a.extent > 1}
    return all(
        not names & ({axis for axis, _ in t.layout.held} | set(t.layout.cut_axes)) and bool(held.all())
        for t, held in zip(end.tiled, end.holds(along), strict=True)
    )


def boundaries(end: End, along: Along, dim: int, gate: int = 0) -> dict[int, int]:
    """Element of a dimension → line, wherever the lines before hold only smaller elements and those from it on no
    smaller."""
    (tiled,) = end.tiled
    extent, split = tiled.type.shape[dim], tiled.layout.splits[dim]
    if not isinstance(extent, int) or extent == 0 or split.cyclic:
        return {}
    element = owned(extent, split, end.mesh.parts(split.axes))
    first = np.where(element < 0, NONE, element).min(axis=1)
    last = element.max(axis=1)
    low = _over(first, split, end.mesh, along, np.minimum)
    high = _over(last, split, end.mesh, along, np.maximum)
    copy = end.copies(along)[0]
    serving = end.holds(along)[0].astype(bool) & (copy == copy[gate])
    low, high = np.where(serving, low, NONE), np.where(serving, high, -1)
    after = np.minimum.accumulate(low[::-1])[::-1][1:]
    before = np.maximum.accumulate(high)[:-1]
    cuts: dict[int, int] = {}
    for line in np.flatnonzero((before < after) & (before >= 0) & (after < NONE)):
        cuts.setdefault(int(after[line]), int(line) + 1)
    return cuts


def holders(tiled: Tiled, mesh: Mesh) -> Bools:
    """Which PEs hold elements of a value, with the mesh axes as dimensions (1 where all are alike)."""
    result: Bools = np.ones((1,) * len(mesh.axes), bool)
    for dim, split in zip(tiled.type.shape, tiled.layout.splits, strict=True):
        if split.axes:
            result = result & _spread(_owners(dim, split, mesh), split, mesh)
    for axis, index in tiled.layout.held:
        shape = [1] * len(mesh.axes)
        shape[mesh.position(axis)] = mesh.extent[axis]
        here = np.zeros(shape, bool)
        here.flat[index] = True
        result = np.logical_and(result, here)
    return result


def _owners(dim: Dim, split: Split, mesh: Mesh) -> Bools:
    """Which parts own elements; all of them where that depends on n_past."""
    parts = mesh.parts(split.axes)
    if not isinstance(dim, int):
        return np.ones(parts, bool)
    return np.asarray(owned(dim, split, parts).max(axis=1, initial=-1) >= 0)


def _spread(per_part: NDArray[Number], split: Split, mesh: Mesh) -> NDArray[Number]:
    """Numbers per part of a split, with the mesh axes as dimensions."""
    order = [mesh.position(a) for a in split.axes]
    array = per_part.reshape([mesh.axes[i].extent for i in order]).transpose(np.argsort(order))
    shape = [a.extent if i in order else 1 for i, a in enumerate(mesh.axes)]
    return array.reshape(shape)


def _lines(holds: Bools, mesh: Mesh, along: Along) -> Bools:
    """Per row (or column) of the mesh: whether any of its PEs hold."""
    other = tuple(i for i, a in enumerate(mesh.axes) if a.along != along)
    mine = tuple(a.extent if a.along == along else 1 for a in mesh.axes)
    return np.broadcast_to(holds.any(axis=other, keepdims=True), mine).ravel()


def _over(per_part: NDArray[np.int64], split: Split, mesh: Mesh, along: Along, fold: np.ufunc) -> NDArray[np.int64]:
    """Per row (or column): the least or greatest of the numbers of its parts."""
    array = _spread(per_part, split, mesh)
    other = tuple(i for i, a in enumerate(mesh.axes) if a.along != along)
    mine = tuple(a.extent if a.along == along else 1 for a in mesh.axes)
    folded: NDArray[np.int64] = fold.reduce(array, axis=other, keepdims=True)
    return np.broadcast_to(folded, mine).ravel()


def _copy(tiled: Tiled, mesh: Mesh, along: Along) -> NDArray[np.int64]:
    """Per row (or column): which copy of the value it is part of (its index on the axes that replicate the value)."""
    fixed = set(tiled.layout.cut_axes) | {axis for axis, _ in tiled.layout.held}
    own = [a for a in mesh.axes if a.along == along]
    index = np.zeros([a.extent for a in own], np.int64)
    for i, axis in enumerate(own):
        if axis.name not in fixed:
            shape = [1] * len(own)
            shape[i] = axis.extent
            index = index * axis.extent + np.arange(axis.extent).reshape(shape)
    return index.ravel()
