"""What a tile kernel is given: one op (or one phase of it) and the tiles of its operands on all PEs at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...ir.block import Guard, Phase
from ...ir.dims import at
from ...ir.dtypes import DType
from ...ir.graph import Op
from ...ir.layout import Mesh, Split, Tiled, tile_shape
from ..tiles import Array, Ints, elements

# Numbers of any width, typed as float64 so that arithmetic on them type-checks.
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Operand:
    """The tiles of one operand: ``data[mesh axes, tile]`` and the layout that says which element each slot holds."""

    data: Array
    tiled: Tiled
    mesh: Mesh
    n_past: int

    @cached_property
    def tile(self) -> tuple[int, ...]:
        return self.data.shape[len(self.mesh.axes) :]

    @property
    def rank(self) -> int:
        return self.tiled.type.rank

    def extent(self, d: int) -> int:
        """Elements of a dimension of the whole tensor, now."""
        return at(self.tiled.type.shape[d], self.n_past)

    def split(self, d: int) -> Split:
        return self.tiled.layout.splits[d]

    def elements(self, d: int) -> Ints:
        """Which element of dimension ``d`` each slot holds: ``[mesh axes, slots]``, -1 where padded."""
        return elements(self.extent(d), self.split(d), self.mesh)

    def along(self, per_slot: NDArray[np.generic], d: int) -> NDArray[np.generic]:
        """An array ``[mesh axes, slots]`` of dimension ``d``, shaped to broadcast against the data."""
        shape = [1] * self.rank
        shape[d] = per_slot.shape[-1]
        return per_slot.reshape(*per_slot.shape[:-1], *shape)

    def padded(self, d: int) -> bool:
        return bool(self.split(d).axes) and bool((self.elements(d) < 0).any())

    def masked(self, dims: tuple[int, ...], neutral: float | int | bool) -> Operand:
        """The same operand with the padding of some dimensions set to the neutral element of a reduction over them."""
        data = self.data
        for d in dims:
            if self.padded(d):
                kept = self.along(self.elements(d) >= 0, d)
                data = np.where(kept, data, np.asarray(neutral, self.data.dtype))
        return Operand(data, self.tiled, self.mesh, self.n_past)

    def wide(self) -> Numbers:
        """The data for computing: 16-bit floats as f32, everything else as it is."""
        return widened(self.data)

    def raised(self, rank: int) -> Array:
        """The data with tile dimensions of one element in front, so that it broadcasts against tiles of a higher
        rank."""
        axes = len(self.mesh.axes)
        return self.data.reshape(*self.data.shape[:axes], *(1,) * (rank - self.rank), *self.tile)


def widened(array: Array) -> Numbers:
    """16-bit floats as f32, everything else as it is."""
    narrow = array.dtype in (DType.F16.numpy, DType.BF16.numpy)
    return array.astype(np.float32) if narrow else array  # type: ignore[return-value]


@dataclass(frozen=True)
class Call:
    """One compute step on all PEs: operands (absent: ``None``), the layouts of the results, and what a kernel may ask.

    In phase FINISH ``partials`` are the combined partial results, in the order of `Loops.partials`.
    """

    op: Op
    phase: Phase
    ins: tuple[Operand | None, ...]
    partials: tuple[Operand, ...]
    outs: tuple[Tiled, ...]
    mesh: Mesh
    n_past: int
    guard: Guard | None = None

    @property
    def axes(self) -> int:
        """The number of mesh axes, which is where the dimensions of a tile start."""
        return len(self.mesh.axes)

    def operand(self, i: int) -> Operand:
        found = self.ins[i]
        assert found is not None, f"op {self.op.id} lacks operand {i}"
        return found

    def optional(self, i: int) -> Operand | None:
        return self.ins[i] if i < len(self.ins) else None

    def out_tile(self, i: int = 0) -> tuple[int, ...]:
        return tile_shape(self.outs[i], self.mesh, self.n_past)

    def out_elements(self, d: int, i: int = 0) -> Ints:
        out = self.outs[i]
        return elements(at(out.type.shape[d], self.n_past), out.layout.splits[d], self.mesh)

    def give(self, array: NDArray[np.generic], i: int = 0) -> Array:
        """A result in its element type and tile shape."""
        shaped = array.reshape(*array.shape[: self.axes], *self.out_tile(i))
        return shaped.astype(self.outs[i].dtype.numpy, copy=False)

    def int_attr(self, name: str, default: int | None = None) -> int:
        value = self.op.attr(name, default)
        assert isinstance(value, int)
        return value

    def number_attr(self, name: str, default: float | None = None) -> float:
        value = self.op.attr(name, default)
        assert isinstance(value, int | float)
        return value
