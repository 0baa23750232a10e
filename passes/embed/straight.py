"""Straight: p physical rows and q physical columns whose every crossing is a live core.

Rows and columns with a broken link go first; the dead cores left are covered greedily by dropping the row or column
that covers most, as in the repair of memory arrays by spare rows and columns. Cost: O(area).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...ir.embedding import Refusal

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def lay_straight(
    core: Bools, east: Bools, south: Bools, real: tuple[Bools, Bools], rows: int, columns: int
) -> tuple[Ints, Ints] | Refusal:
    """Columns and rows ``[p, q]`` of a straight embedding over the links given, unless the greedy cover finds none.

    ``real``: the links that work. Lines over links that only count as working are given up first, as far as there are
    lines to spare.
    """
    if core.all() and east.all() and south.all() and real[0].all() and real[1].all():
        return _crossed(np.arange(rows), np.arange(columns))
    for first in ("rows", "columns"):
        keep = _unbroken(east, south, first, rows, columns)
        if keep is None:
            continue
        kept = _cover(core, *keep, rows, columns)
        if kept is not None:
            chosen_rows = _tightest(kept[0], rows, (east & ~real[0]).sum(axis=1))
            healed = (south & ~real[1])[chosen_rows[0] : chosen_rows[-1]]
            return _crossed(chosen_rows, _tightest(kept[1], columns, healed.sum(axis=0)))
    return Refusal(f"no {rows} rows and {columns} columns cross in live cores only")


def _crossed(rows: Ints, columns: Ints) -> tuple[Ints, Ints]:
    ys, xs = np.broadcast_arrays(rows[:, None], columns[None, :])
    return xs, ys


def _unbroken(east: Bools, south: Bools, first: str, rows: int, columns: int) -> tuple[Bools, Bools] | None:
    """Which rows and columns have no broken link in the span they would be used over.

    A dead router breaks its row and its column; where one of them is dropped at the border, the other is whole
    again, so one direction is judged first and the other only over what that leaves.
    """
    height, width = east.shape[0], south.shape[1]
    row_whole, column_whole = np.ones(height, bool), np.ones(width, bool)
    if first == "rows":
        if columns > 1:
            row_whole = np.asarray(east.all(axis=1))
        if row_whole.sum() < rows:
            return None
        inside = np.flatnonzero(row_whole)
        if rows > 1:
            column_whole = np.asarray(south[inside[0] : inside[-1]].all(axis=0))
    else:
        if rows > 1:
            column_whole = np.asarray(south.all(axis=0))
        if column_whole.sum() < columns:
            return None
        inside = np.flatnonzero(column_whole)
        if columns > 1:
            row_whole = np.asarray(east[:, inside[0] : inside[-1]].all(axis=1))
    if row_whole.sum() < rows or column_whole.sum() < columns:
        return None
    return row_whole, column_whole


def _cover(core: Bools, keep_rows: Bools, keep_columns: Bools, rows: int, columns: int) -> tuple[Bools, Bools] | None:
    """Drop rows and columns until no dead core is left among the kept, within what may be dropped."""
    keep_rows, keep_columns = keep_rows.copy(), keep_columns.copy()
    spare_rows = int(keep_rows.sum()) - rows
    spare_columns = int(keep_columns.sum()) - columns
    dead_y, dead_x = np.nonzero(~core & keep_rows[:, None] & keep_columns[None, :])
    while len(dead_y):
        by_row = np.bincount(dead_y, minlength=len(keep_rows))
        by_column = np.bincount(dead_x, minlength=len(keep_columns))
        row, column = int(by_row.argmax()), int(by_column.argmax())
        # A row with more dead cores than columns may be dropped must go itself, and the other way round.
        row_gain = by_row[row] if spare_rows else 0
        column_gain = by_column[column] if spare_columns else 0
        if by_row[row] > spare_columns:
            column_gain = 0
        elif by_column[column] > spare_rows:
            row_gain = 0
        if not (row_gain or column_gain):
            return None
        if (row_gain, spare_rows) >= (column_gain, spare_columns):
            keep_rows[row], spare_rows = False, spare_rows - 1
            left = dead_y != row
        else:
            keep_columns[column], spare_columns = False, spare_columns - 1
            left = dead_x != column
        dead_y, dead_x = dead_y[left], dead_x[left]
    return keep_rows, keep_columns


def _tightest(kept: Bools, count: int, faults: Ints) -> Ints:
    """The ``count`` neighbouring kept lines that span least, the first of equals, once those with most faults went."""
    lines = np.flatnonzero(kept)
    if faults.any():
        worst = np.argsort(-faults[lines], kind="stable")[: len(lines) - count]
        lines = np.delete(lines, worst[faults[lines[worst]] > 0])
    spans = lines[count - 1 :] - lines[: len(lines) - count + 1]
    start = int(spans.argmin())
    return lines[start : start + count]
