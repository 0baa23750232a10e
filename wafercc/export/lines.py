"""Lines: the routers along the logical rows and columns of a region, link by link.

`neighbour_links` is the one place that knows how two logical neighbours are joined; everything else here and in `hops`
and `combs` follows its links, whatever way they take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..ir.program import EAST, NORTH, SOUTH, WEST, Region

Ints = NDArray[np.int64]
Along = Literal["y", "x"]


@dataclass(frozen=True, eq=False)
class Links:
    """Directed links from PE to PE, in order: of line ``line``, between its PEs ``gap`` and ``gap + 1``, from the
    router at (``x``, ``y``) out by ``port``.
    """

    line: Ints
    gap: Ints
    x: Ints
    y: Ints
    port: Ints


@dataclass(frozen=True, eq=False)
class Lines:
    """All lines of a region in one direction, ``[line, PE]``: where each PE is, how many links from the line's first
    (``at``), and its ports towards the PE before (``back``) and after (``front``), 0 at the ends.

    The ``via_*`` columns are the routers strictly between two PEs, in the same terms.
    """

    x: Ints
    y: Ints
    at: Ints
    back: Ints
    front: Ints
    via_line: Ints
    via_gap: Ints
    via_x: Ints
    via_y: Ints
    via_at: Ints
    via_back: Ints
    via_front: Ints


def neighbour_links(region: Region, along: Along) -> Links:
    """The links between neighbours of all logical rows (``along`` "x") or columns ("y"): from the first PE along its
    own column to the second one's row, then along that row, or along the detour of the two.
    """
    x, y = _by_line(region, along)
    dx, dy = np.diff(x, axis=1), np.diff(y, axis=1)
    gaps = dx.shape[1]
    count = (abs(dx) + abs(dy)).ravel()
    detours = {(d.row * gaps + d.column if along == "x" else d.column * gaps + d.row): d.path.astype(np.int64)
               for d in region.detours if d.along == along}  # fmt: skip
    count[list(detours)] = [len(path) - 1 for path in detours.values()]
    pair = np.repeat(np.arange(dx.size), count)
    step = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
    across, down = dx.ravel()[pair], dy.ravel()[pair]
    fallen = np.minimum(step, abs(down))
    sideways = np.where(across > 0, EAST, WEST)
    upright = np.where(down > 0, SOUTH, NORTH)
    here_x = x[:, :-1].ravel()[pair] + np.sign(across) * (step - fallen)
    here_y = y[:, :-1].ravel()[pair] + np.sign(down) * fallen
    port = np.where(step < abs(down), upright, sideways)
    for i, path in detours.items():
        here_x[pair == i], here_y[pair == i] = path[:-1].T
        port[pair == i] = ports_of(*np.diff(path, axis=0).T)
    return Links(pair // max(1, gaps), pair % max(1, gaps), here_x, here_y, port)


def lines_of(region: Region, along: Along) -> Lines:
    """The lines of a region in one direction, from the links between their neighbours."""
    x, y = _by_line(region, along)
    links = neighbour_links(region, along)
    length = x.shape[1]
    pair = links.line * length + links.gap
    count = np.bincount(pair, minlength=x.size).reshape(x.shape)
    at = np.cumsum(count, axis=1) - count
    first, last = np.ones(len(pair), bool), np.ones(len(pair), bool)
    first[1:] = pair[1:] != pair[:-1]
    last[:-1] = first[1:]
    front, back = np.zeros_like(x), np.zeros_like(x)
    front.ravel()[pair[first]] = links.port[first]
    back.ravel()[pair[last] + 1] = opposite(links.port[last])
    via = np.flatnonzero(~first)
    start = np.cumsum(count.sum(axis=1)) - count.sum(axis=1)
    return Lines(
        x, y, at, back, front,
        links.line[via], links.gap[via], links.x[via], links.y[via], via - start[links.line[via]],
        opposite(links.port[via - 1]), links.port[via],
    )  # fmt: skip


def opposite(port: Ints) -> Ints:
    """The port at the other end of a link: north and south, east and west change places; 0 stays."""
    swapped: Ints = np.where(port > 2, port >> 2, port << 2)
    return swapped


def ports_of(dx: Ints, dy: Ints) -> Ints:
    """The port by which a step to a neighbour leaves; 0 where there is no step."""
    found: Ints = np.select([dx > 0, dx < 0, dy > 0, dy < 0], [EAST, WEST, SOUTH, NORTH], 0)
    return found


def _by_line(region: Region, along: Along) -> tuple[Ints, Ints]:
    xs, ys = (region.xs, region.ys) if along == "x" else (region.xs.T, region.ys.T)
    return np.ascontiguousarray(xs, np.int64), np.ascontiguousarray(ys, np.int64)
