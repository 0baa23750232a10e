"""Rows: router configuration as packed integers, so that millions of rows sort at memory speed.

One row is (y, x, colour, position, ins, outs, net) from the high bits to the low ones of an int64: sorting the numbers
sorts the table as `RouterTable` wants it. Wafers are kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wafercc.ir.program import IntArray, RouterTable

Packed = NDArray[np.int64]

_OUTS, _INS, _POSITION, _COLOUR, _X, _Y = 20, 25, 30, 34, 39, 51


def pack(y: ArrayLike, x: ArrayLike, colour: ArrayLike, position: ArrayLike, ins: ArrayLike, outs: ArrayLike) -> Packed:
    """Rows of net 0, flattened; add the net's index to name it."""
    fields = ((y, _Y), (x, _X), (colour, _COLOUR), (position, _POSITION), (ins, _INS), (outs, _OUTS))
    total: Packed = np.zeros(1, np.int64)
    for values, shift in fields:
        total = total | (np.asarray(values, np.int64) << shift)
    return total.ravel()


def routers(rows: Packed) -> tuple[IntArray, IntArray]:
    """The routers (y, x) of packed rows."""
    return (rows >> _Y).astype(np.int32), ((rows >> _X) & 0xFFF).astype(np.int32)


def colours(rows: Packed) -> IntArray:
    """The colours of packed rows."""
    return ((rows >> _COLOUR) & 31).astype(np.int32)


def recolour(rows: Packed, change: int) -> Packed:
    """The same rows on a colour that many higher."""
    return rows + (change << _COLOUR)


def without_position(rows: Packed) -> Packed:
    """The rows as if all stood in position 0."""
    return rows & ~np.int64(15 << _POSITION)


def settle(rows: Packed, rank: IntArray) -> Packed:
    """The same rows sorted; the positions of each (router, colour) counted from 0 without gaps, those of nets of lower
    ``rank`` (by net) first."""
    rows = np.sort(rows)
    again = np.zeros(len(rows), bool)
    again[1:] = (rows[1:] ^ rows[:-1]) < (1 << _COLOUR)
    at = np.flatnonzero(again)
    if not len(at):
        return without_position(rows)
    several = again.copy()
    several[:-1] |= again[1:]
    runs = np.flatnonzero(several)
    mixed = rows[runs]
    rows[runs] = mixed[np.lexsort((mixed, rank[mixed & ((1 << _OUTS) - 1)], mixed >> _COLOUR))]
    # The n-th row in a run of repeated places follows n rows of the run: n is its distance from the run's first.
    start = np.maximum.accumulate(np.where(~again[at - 1], at - 1, 0))
    rows &= ~np.int64(15 << _POSITION)
    rows[at] |= (at - start) << _POSITION
    return rows


def table(settled: Mapping[int, Packed], nets: Sequence[str]) -> RouterTable:
    """The router table of all wafers from each wafer's settled rows."""
    wafers = sorted(settled)
    every = np.concatenate([settled[w] for w in wafers]) if wafers else np.empty(0, np.int64)
    wafer = np.repeat(np.array(wafers, np.int32), [len(settled[w]) for w in wafers])

    def field(shift: int, bits: int) -> IntArray:
        narrow = (every >> shift).astype(np.int32)  # keeps the low 32 bits
        narrow &= (1 << bits) - 1
        return narrow

    columns = (field(_X, 12), field(_Y, 12), field(_COLOUR, 5), field(_POSITION, 4), field(_INS, 5), field(_OUTS, 5))
    return RouterTable(wafer, *columns, net=field(0, _OUTS), nets=tuple(nets))
