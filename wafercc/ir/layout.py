"""Layout: which elements of a tensor lie on which PE of a region's logical mesh.

A region is a p x q mesh whose rows and columns may each be factored into axes (rows = 8 x 16). A layout cuts every
tensor dimension over an ordered list of axes; an axis that cuts nothing holds *replicas*. Block distribution gives PE i
the i-th run of granules, cyclic gives granule g to PE g mod parts, so a cache that grows fills all PEs evenly.

This is GSPMD/DTensor's sharding for a two-dimensional mesh, with granules that are never cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NewType

import numpy as np
from numpy.typing import NDArray

from .dims import Dim, at, upper
from .dtypes import DType
from .graph import TensorType
from .loops import Combine

AxisName = NewType("AxisName", str)


@dataclass(frozen=True, slots=True)
class Axis:
    """One factor of a mesh direction. ``y`` axes count logical rows, ``x`` axes logical columns."""

    name: AxisName
    extent: int
    along: Literal["y", "x"]


@dataclass(frozen=True)
class Mesh:
    """The logical p x q mesh of a region: row factors, then column factors, each from major to minor."""

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        assert [a.along for a in self.axes] == sorted((a.along for a in self.axes), reverse=True), "row axes first"
        assert len({a.name for a in self.axes}) == len(self.axes), "axis names differ"

    @staticmethod
    def of(row_factors: Sequence[int], column_factors: Sequence[int]) -> Mesh:
        """``Mesh.of([8, 2], [16])`` has the axes y0=8, y1=2 (minor) and x0=16."""
        rows = [Axis(AxisName(f"y{i}"), n, "y") for i, n in enumerate(row_factors)]
        columns = [Axis(AxisName(f"x{i}"), n, "x") for i, n in enumerate(column_factors)]
        return Mesh((*rows, *columns))

    @cached_property
    def extent(self) -> dict[AxisName, int]:
        return {a.name: a.extent for a in self.axes}

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The extents of all axes: the leading dimensions of a tiled array."""
        return tuple(a.extent for a in self.axes)

    def position(self, name: AxisName) -> int:
        """The index of an axis among the leading dimensions of a tiled array."""
        return next(i for i, a in enumerate(self.axes) if a.name == name)

    @cached_property
    def rows(self) -> int:
        return math.prod(a.extent for a in self.axes if a.along == "y")

    @cached_property
    def columns(self) -> int:
        return math.prod(a.extent for a in self.axes if a.along == "x")

    @property
    def pes(self) -> int:
        return self.rows * self.columns

    def parts(self, axes: Iterable[AxisName]) -> int:
        product = 1
        for axis in axes:
            product *= self.extent[axis]
        return product

    def __str__(self) -> str:
        return " ".join(f"{a.name}={a.extent}" for a in self.axes)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.axes)


@dataclass(frozen=True, slots=True)
class Split:
    """How one dimension is cut: over these axes (major first), ``granule`` elements at a time, block or cyclic."""

    axes: tuple[AxisName, ...] = ()
    granule: int = 1
    cyclic: bool = False

    def __str__(self) -> str:
        if not self.axes:
            return "-"
        return "*".join(self.axes) + (f"/{self.granule}" if self.granule > 1 else "") + ("~" if self.cyclic else "")


UNCUT = Split()


@dataclass(frozen=True)
class Layout:
    """A split per dimension; axes named nowhere are replicated.

    ``partial``: axes over which a reduction is still owed. ``held``: axes on which only the PE at an index holds the
    tile.
    Text: ``(-,y0/16,x0~) sum:y1 held:x1=0``.
    """

    splits: tuple[Split, ...]
    partial: tuple[tuple[AxisName, Combine], ...] = ()
    held: tuple[tuple[AxisName, int], ...] = ()

    def __post_init__(self) -> None:
        used = self.cut_axes
        assert len(used) < 2 or len(used) == len(set(used)), f"an axis cuts two dimensions: {self}"

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.splits, self.partial, self.held))

    def __str__(self) -> str:
        words = ["(" + ",".join(map(str, self.splits)) + ")"]
        words += [f"{combine}:{axis}" for axis, combine in self.partial]
        words += [f"held:{axis}={index}" for axis, index in self.held]
        return " ".join(words)

    @property
    def cut_axes(self) -> tuple[AxisName, ...]:
        return tuple(a for s in self.splits for a in s.axes)

    @staticmethod
    def replicated(rank: int) -> Layout:
        return Layout((UNCUT,) * rank)


@dataclass(frozen=True, slots=True)
class Tiled:
    """A tensor as a region holds it: its type and its layout. ``f32[2,11,96] (-,-,x0)`` in text."""

    type: TensorType
    layout: Layout

    def __str__(self) -> str:
        return f"{self.type} {self.layout}"

    @property
    def dtype(self) -> DType:
        return self.type.dtype


def tile_extent(extent: int, split: Split, parts: int) -> int:
    """Slots per PE: ``granule * ceil(ceil(extent / granule) / parts)``, padding included; the whole extent if uncut."""
    if not split.axes:
        return extent
    granules = -(-extent // split.granule)
    return split.granule * -(-granules // parts)


def tile_shape(tiled: Tiled, mesh: Mesh, n_past: int) -> tuple[int, ...]:
    """The shape of one PE's tile, padding included, when the cache holds ``n_past`` tokens."""
    return tuple(
        tile_extent(at(dim, n_past), split, mesh.parts(split.axes))
        for dim, split in zip(tiled.type.shape, tiled.layout.splits, strict=True)
    )


@lru_cache(maxsize=4096)
def owned(extent: int, split: Split, parts: int) -> NDArray[np.int64]:
    """Which element each slot holds: an array ``[parts, slots]`` of indices into the dimension, -1 where padded."""
    slots = tile_extent(extent, split, parts)
    part = np.arange(parts)[:, None]
    slot = np.arange(slots)[None, :]
    if not split.axes:
        element = np.broadcast_to(slot, (parts, slots)).copy()
    elif split.cyclic:
        element = ((slot // split.granule) * parts + part) * split.granule + slot % split.granule
    else:
        element = part * slots + slot
    element[element >= extent] = -1
    element.setflags(write=False)
    return element


def held_by_part(tiled: Tiled, mesh: Mesh) -> tuple[tuple[int, ...], ...]:
    """Which elements of the first dimension each part of its cut holds (one part where it is not cut)."""
    split = tiled.layout.splits[0]
    parts = mesh.parts(split.axes) if split.axes else 1
    table = owned(upper(tiled.type.shape[0]), split, parts)
    return tuple(tuple(int(e) for e in held if e >= 0) for held in table)


def same_tiles(dim: Dim, a: Split, b: Split, parts: int) -> bool:
    """Whether two splits put every element in the same slot of the same PE, for every ``n_past``."""
    if a.axes != b.axes:
        return False
    if not a.axes or a == b:
        return True
    if not isinstance(dim, int) or a.cyclic != b.cyclic:
        return False
    if tile_extent(dim, a, parts) != tile_extent(dim, b, parts):
        return False
    # Runs of equal length are equal; dealt out in turn, the second PE's first element tells the granule.
    return not a.cyclic or parts == 1 or a.granule == b.granule


def tile_bytes(tiled: Tiled, mesh: Mesh, n_past: int) -> int:
    """SRAM bytes of the tile on each PE that holds one."""
    return tiled.dtype.sram_bytes(math.prod(tile_shape(tiled, mesh, n_past)))


def parse_split(text: str) -> Split:
    """The inverse of ``str(Split)``."""
    if text == "-":
        return UNCUT
    cyclic = text.endswith("~")
    axes, _, granule = text.rstrip("~").partition("/")
    return Split(tuple(AxisName(a) for a in axes.split("*")), int(granule or 1), cyclic)


def parse_layout(text: str) -> Layout:
    """The inverse of ``str(Layout)``.

    Raises:
        ValueError: the text is not a layout.
    """
    head, *rest = text.split()
    inner = head.removeprefix("(").removesuffix(")")
    splits = tuple(parse_split(s) for s in inner.split(",")) if inner else ()
    partial: list[tuple[AxisName, Combine]] = []
    held: list[tuple[AxisName, int]] = []
    for word in rest:
        key, _, value = word.partition(":")
        if key == "held":
            axis, _, index = value.partition("=")
            held.append((AxisName(axis), int(index)))
        else:
            partial.append((AxisName(value), Combine(key)))
    return Layout(splits, tuple(partial), tuple(held))
