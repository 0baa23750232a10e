"""Embed: lay each region's p x q mesh into its rectangle, around what is dead.

Two rules are tried. *Straight*: pick p physical rows and q physical columns so that every crossing is a live core
and all links between them work. Rows and columns with a broken link go first; the dead cores left are covered
greedily by dropping the row or column that covers most, as in the repair of memory arrays by spare rows and columns.
*Jogged*, if that fails: keep p rows; each logical row takes q live cores in increasing order, so that the offset of
a column between neighbouring rows stays within `reach`. Those constraints are differences over finite domains and
therefore closed under pointwise minimum: raising lower bounds until nothing moves finds the leftmost solution of the
chosen rows, or proves that there is none. The result is the solution nearest, from the right, to the columns with
fewest dead cores.

Reads Placement and DefectMap; writes Embedding. Cost: O(area) plus a few numpy operations per row and sweep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CompileError
from ..ir.block import RegionId
from ..ir.embedding import Embedding, Refusal, RegionEmbedding
from ..ir.placement import Placement
from ..ir.program import Rect
from ..silicon import Alive, DefectMap

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
REACH = 2


@dataclass(frozen=True)
class Embed:
    """The pass has no options: the largest jog between neighbouring rows of a column is the placement's ``reach``."""

    def __call__(self, placement: Placement, defects: DefectMap) -> Embedding:
        """Embed every region in its rectangle.

        Raises:
            CompileError: a rectangle does not take its mesh (only if it was not placed for this map and reach).
        """
        regions: dict[RegionId, RegionEmbedding] = {}
        for region, rect in placement.rects.items():
            shape = placement.shapes[region]
            found = embed(rect, shape.rows, shape.columns, defects.alive(rect.wafer), placement.reach)
            if isinstance(found, Refusal):
                raise CompileError(found.reason, where=f"region {region}", hint="place it on this defect map first")
            regions[region] = found
        return Embedding(regions)


def check_embedding(embedding: Embedding, placement: Placement, defects: DefectMap) -> Embedding:
    """An embedding that was decided elsewhere, held against its placement and what is dead.

    Raises:
        CompileError: a region is missing or unknown, has another rectangle or mesh than it was placed with, lies on a
        dead core, or jogs further than the placement's reach.
    """
    for region in (*placement.rects, *embedding.regions):
        where = f"region {region}"
        if region not in embedding.regions or region not in placement.rects:
            raise CompileError("it is placed or embedded, but not both", where=where)
        found, rect, shape = embedding.regions[region], placement.rects[region], placement.shapes[region]
        if found.rect != rect:
            raise CompileError(f"it is embedded in {found.rect} and placed at {rect}", where=where)
        rows, columns = found.xs.shape
        if (rows, columns) != (shape.rows, shape.columns):
            raise CompileError(
                f"it is embedded with {columns} columns x {rows} rows and placed with {shape.columns} x {shape.rows}",
                where=where,
            )
        alive = defects.alive(rect.wafer)
        if rect.x + rect.w > alive.width or rect.y + rect.h > alive.height:
            raise CompileError(f"rectangle {rect} is not inside the {alive.width}x{alive.height} grid", where=where)
        dead = np.argwhere(~alive.core[found.ys, found.xs])
        if len(dead):
            row, column = dead[0]
            x, y = int(found.xs[row, column]), int(found.ys[row, column])
            raise CompileError(f"row {row}, column {column} lies on the dead core at ({x}, {y})", where=where)
        jog = int(np.abs(np.diff(found.xs, axis=0)).max(initial=0))
        if jog > placement.reach:
            raise CompileError(f"a column jogs by {jog}; the placement's reach is {placement.reach}", where=where)
    return embedding


def embed(rect: Rect, rows: int, columns: int, alive: Alive, reach: int = REACH) -> RegionEmbedding | Refusal:
    """Lay ``rows`` x ``columns`` live PEs into a rectangle, or say with numbers why that cannot be."""
    if rect.x < 0 or rect.y < 0 or rect.x + rect.w > alive.width or rect.y + rect.h > alive.height:
        return Refusal(f"rectangle {rect} is not inside the {alive.width}x{alive.height} grid")
    if rect.w < columns or rect.h < rows:
        return Refusal(f"rectangle {rect} is smaller than {columns} columns x {rows} rows")
    across, down = slice(rect.x, rect.x + rect.w), slice(rect.y, rect.y + rect.h)
    core = alive.core[down, across]
    east = alive.east[down, rect.x : rect.x + rect.w - 1]
    south = alive.south[rect.y : rect.y + rect.h - 1, across]
    straight = _straight(core, east, south, rows, columns)
    if straight is not None:
        ys, xs = np.broadcast_arrays(straight[0][:, None], straight[1][None, :])
        return _embedding(rect, xs, ys)
    jogged = _jogged(core, east, south, rows, columns, reach)
    if isinstance(jogged, Refusal):
        return Refusal(f"{rows}x{columns} does not embed in {rect}: {jogged.reason}")
    return _embedding(rect, *jogged)


def _embedding(rect: Rect, xs: Ints, ys: Ints) -> RegionEmbedding:
    return RegionEmbedding(rect, (xs + rect.x).astype(np.int32), (ys + rect.y).astype(np.int32))


def _straight(core: Bools, east: Bools, south: Bools, rows: int, columns: int) -> tuple[Ints, Ints] | None:
    """Physical rows and columns of a straight embedding, or None if the greedy cover finds none."""
    if core.all() and east.all() and south.all():
        return np.arange(rows), np.arange(columns)
    for first in ("rows", "columns"):
        keep = _unbroken(east, south, first, rows, columns)
        if keep is None:
            continue
        kept = _cover(core, *keep, rows, columns)
        if kept is not None:
            return _tightest(kept[0], rows), _tightest(kept[1], columns)
    return None


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


def _tightest(kept: Bools, count: int) -> Ints:
    """The ``count`` neighbouring kept lines that span least, the first of equals."""
    lines = np.flatnonzero(kept)
    spans = lines[count - 1 :] - lines[: len(lines) - count + 1]
    start = int(spans.argmin())
    return lines[start : start + count]


def _jogged(core: Bools, east: Bools, south: Bools, rows: int, columns: int, reach: int) -> tuple[Ints, Ints] | Refusal:
    """Columns and rows ``[p, q]`` of a jogged embedding."""
    run = _longest_runs(east, core.shape[1])
    held = (core & run).sum(axis=1)
    good = np.flatnonzero(held >= columns)
    if len(good) < rows:
        return Refusal(
            f"{len(good)} of its {core.shape[0]} rows have {columns} connected live cores; {rows} are needed"
        )
    ys = _fullest(good, held[good], rows)
    usable = core[ys] & run[ys]
    usable[:-1] &= run[ys[1:]]
    broken = np.concatenate([np.zeros((1, core.shape[1]), np.int64), np.cumsum(~south, axis=0)])
    usable[:-1] &= broken[ys[1:]] == broken[ys[:-1]]
    width = core.shape[1]
    if reach == 0:
        shared = np.flatnonzero(usable.all(axis=0))
        if len(shared) < columns:
            return Refusal(f"{len(shared)} columns are alive in all of {rows} rows; {columns} are needed at reach 0")
        return np.broadcast_to(shared[:columns], (rows, columns)), np.broadcast_to(ys[:, None], (rows, columns))
    start = np.broadcast_to(np.arange(columns), (rows, columns))
    mirrored = _raise(usable[:, ::-1], start, reach)
    if mirrored is None:
        dead = int(core.size - core.sum())
        return Refusal(f"its {dead} dead cores leave no columns within reach {reach} over {rows} rows")
    rightmost = width - 1 - mirrored[:, ::-1]
    home = _healthiest(core, columns)
    xs = _raise(usable, np.minimum(home[None, :], rightmost), reach)
    assert xs is not None, "the rightmost solution lies above these bounds"
    return xs, np.broadcast_to(ys[:, None], (rows, columns))


def _longest_runs(east: Bools, width: int) -> Bools:
    """Per row, the longest stretch of routers joined by working links."""
    run = np.ones((east.shape[0], width), bool)
    for y in np.flatnonzero(~east.all(axis=1)):
        cuts = np.concatenate([[0], np.flatnonzero(~east[y]) + 1, [width]])
        longest = int(np.diff(cuts).argmax())
        run[y] = False
        run[y, cuts[longest] : cuts[longest + 1]] = True
    return run


def _fullest(good: Ints, held: Ints, rows: int) -> Ints:
    """The ``rows`` rows that hold most live cores, in order; of equals the inner ones."""
    middle = abs(2 * good - (good[0] + good[-1]))
    order = np.lexsort((middle, -held))
    return np.sort(good[order[:rows]])


def _healthiest(core: Bools, columns: int) -> Ints:
    """The ``columns`` columns with fewest dead cores, in order."""
    dead = (~core).sum(axis=0)
    return np.sort(np.argsort(dead, kind="stable")[:columns])


def _raise(usable: Bools, start: Ints, reach: int) -> Ints | None:
    """The least columns at or above ``start`` that are usable, increasing along rows and within reach down columns.

    None if there are none. Sweeps down and up until nothing moves; values only grow, so it ends.
    """
    rows, columns = start.shape
    rank: Ints = np.cumsum(usable, axis=1, dtype=np.int64) - usable  # usable positions left of x
    count = usable.sum(axis=1)
    steps = np.arange(columns)
    width = usable.shape[1]
    places = np.nonzero(usable)[1]  # all rows' usable positions, one row after the other
    first = np.cumsum(count) - count
    least = np.empty((rows, columns), np.int64)

    def settle(i: int, bound: Ints) -> bool:
        if bound[-1] >= width:
            return False
        ordinal = np.maximum.accumulate(rank[i, np.maximum(bound, 0)] - steps) + steps
        if ordinal[-1] >= count[i]:
            return False
        least[i] = places[first[i] + ordinal]
        return True

    for i in range(rows):
        bound = start[i] if i == 0 else np.maximum(start[i], least[i - 1] - reach)
        if not settle(i, bound):
            return None
    downwards, moved = False, True
    while moved:
        moved = False
        for i in range(1, rows) if downwards else range(rows - 2, -1, -1):
            bound = least[i - 1 if downwards else i + 1] - reach
            if (bound > least[i]).any():
                if not settle(i, np.maximum(bound, least[i])):
                    return None
                moved = True
        downwards = not downwards
    return least
