"""Spread: on how many PEs the parts of a result lie, read off a placed program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.dims import at
from ..ir.layout import Mesh, Tiled, owned
from ..ir.program import PlacedProgram

LEAST_ELEMENTS = 6
"""Results of so many elements have room for a part on each PE of a 2x3 mesh, and must lie on two at least."""


@dataclass(frozen=True)
class Spread:
    """One result: its elements, and how many different non-empty tiles PEs hold of it."""

    output: str
    elements: int
    tiles: int

    @property
    def enough(self) -> bool:
        return self.elements < LEAST_ELEMENTS or self.tiles > 1


def spreads(program: PlacedProgram, n_past: int = 0) -> Iterator[Spread]:
    """Every output of a program, as it lies in its region before it leaves."""
    for stream in program.streams:
        if stream.destination is None and stream.source is not None:
            instance, name = stream.source
            block = program.blocks[program.instance[instance].block]
            tiled = block.values[name]
            elements = int(np.prod([at(d, n_past) for d in tiled.type.shape], dtype=np.int64))
            yield Spread(str(stream.value), elements, different_tiles(tiled, block.mesh, n_past))


def different_tiles(tiled: Tiled, mesh: Mesh, n_past: int) -> int:
    """How many PEs' tiles of a value differ in the elements they hold; empty tiles do not count."""
    count = 1
    for dim, split in zip(tiled.type.shape, tiled.layout.splits, strict=True):
        held: NDArray[np.int64] = owned(at(dim, n_past), split, mesh.parts(split.axes) if split.axes else 1)
        count *= int((held >= 0).any(axis=1).sum())
    return count
