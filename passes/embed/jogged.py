"""Jogged: p rows, in each of which q live cores are taken so that columns stay within reach from row to row.

Those constraints are differences over finite domains and therefore closed under pointwise minimum: raising lower
bounds until nothing moves finds the leftmost solution of the chosen rows, or proves that there is none. The result is
the solution nearest, from the right, to the columns with fewest dead cores. Cost: O(area) plus a few numpy operations
per row and sweep.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...ir.embedding import Refusal

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def lay_jogged(
    core: Bools, east: Bools, south: Bools, rows: int, columns: int, reach: int
) -> tuple[Ints, Ints] | Refusal:
    """Columns and rows ``[p, q]`` of a jogged embedding over the links given."""
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
