"""The op table: for each op kind its types, its meaning, its work and its loops. One row a kind.

Importers create ops, rewrites move them, the layout pass reads their loops, the runtime executes them tile by tile;
all of them ask this table and none of them lists op kinds again. The rows stand in `ir/ops/`, one file a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..errors import ImportFailed
from .graph import Op, TensorType
from .loops import Loops

Array = NDArray[np.generic]
# An extent of a tile: one number, or an integer array over the mesh where PEs differ (ragged edges).
Extent = int | NDArray[np.int64]
Extents = Sequence[Extent]
InTypes = Sequence[TensorType | None]


@dataclass(frozen=True, slots=True)
class Work:
    """What a local kernel does, in counts; cycles are the target's and the runtime's business.

    ``macs`` multiply-accumulates, ``simple`` element operations that a SIMD lane does at full rate (add, compare,
    select, copy), ``special`` element operations that take many cycles each (exp, tanh, sine, square root, division).
    """

    macs: Extent = 0
    simple: Extent = 0
    special: Extent = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.simple + other.simple, self.special + other.special)


@dataclass(frozen=True)
class Chosen:
    """What of an op's work is decided at run time: operand ``choices`` [rows] names elements of the first dimension of
    operand ``owners``, and a PE works only for the rows that choose what it holds.

    ``work(op, rows, in_shapes, out_shapes) -> Work`` counts for a PE that works for so many rows.
    """

    choices: int
    owners: int
    work: Callable[[Op, Extent, Sequence[Extents | None], Sequence[Extents]], Work]


@dataclass(frozen=True)
class OpSpec:
    """One row of the table.

    ``infer(op, in_types) -> out_types`` checks and gives types; raises ImportFailed on operands it cannot take.
    ``evaluate(op, arrays, n_past) -> arrays`` is the meaning, in plain numpy on whole tensors (absent operand:
    ``None``). ``work(op, in_shapes, out_shapes) -> Work`` counts for one tile; entries may be arrays over PEs, so it
    uses only + and *. For an op in two phases (`Loops.partials`) it counts both.
    ``loops(op, in_types, out_types) -> Loops`` is the legal layouts.
    ``layout_only``: moves no numbers when its operand's layout can simply be renamed (reshape, transpose).
    ``chosen``: the op works by choice; ``work`` then counts the most that one PE may have to do.
    """

    kind: str
    infer: Callable[[Op, InTypes], tuple[TensorType, ...]]
    evaluate: Callable[[Op, Sequence[Array | None], int], tuple[Array, ...]]
    work: Callable[[Op, Sequence[Extents | None], Sequence[Extents]], Work]
    loops: Callable[[Op, InTypes, Sequence[TensorType]], Loops]
    layout_only: bool = False
    chosen: Chosen | None = None


@cache
def table() -> Mapping[str, OpSpec]:
    """Every op kind wafercc knows, by name."""
    from .ops import ALL

    return {spec.kind: spec for spec in ALL}


def spec_of(op: Op) -> OpSpec:
    """The row of an op.

    Raises:
        ImportFailed: the kind is not in the table.
    """
    spec = table().get(op.kind)
    if spec is None:
        raise ImportFailed(f"unknown op kind {op.kind}", where=f"op {op.id}", hint="see docs/ops.md for the op table")
    return spec


def product(extents: Extents) -> Extent:
    """The number of elements of a tile (1 for a scalar)."""
    result: Extent = 1
    for extent in extents:
        result = result * extent
    return result
