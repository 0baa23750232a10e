"""Embed: lay each region's p x q mesh into its rectangle, around what is dead.

Two rules are tried. *Straight*: p physical rows and q physical columns whose every crossing is a live core. *Jogged*,
if that fails: logical rows take live cores in increasing order, so that the offset of a column between neighbouring
rows stays within `reach`. Each is tried first over working links only, then with broken links *healed* (all of them for
straight, those of rows for jogged, whose columns jog around the others): taken as whole, after which every pair of
neighbours whose path is broken gets a detour. Where a pair finds none within `detour_hops`,
the links on its path are broken again and the rule is asked once more; so rows and columns are dropped where no detour
helps, and a detour is taken only where dropping them leaves too few.

Reads Placement and DefectMap; writes Embedding. Cost: O(area) plus a few numpy operations per row and sweep; a search
over a few dozen routers per detour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import CompileError
from ...ir.block import RegionId
from ...ir.embedding import Embedding, Refusal, RegionEmbedding
from ...ir.placement import Placement
from ...ir.program import Detour, Rect
from ...silicon import Alive, DefectMap
from .detours import bridge
from .jogged import lay_jogged
from .straight import lay_straight

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
REACH = 2
DETOUR_HOPS = 4
_ROUNDS = 4  # times that links without a detour are broken again before the rule is given up

# Working links to the east and to the south → rows and columns [p, q] of a mesh.
_Rule = Callable[[Bools, Bools], tuple[Ints, Ints] | Refusal]


@dataclass(frozen=True)
class Embed:
    """Options of the pass.

    ``reach``: the largest jog between neighbouring rows of a column; ``detour_hops``: the most hops that a detour may
    take beyond the path it replaces, 0 for no detours.
    """

    reach: int = REACH
    detour_hops: int = DETOUR_HOPS

    def __call__(self, placement: Placement, defects: DefectMap) -> Embedding:
        """Embed every region in its rectangle.

        Raises:
            CompileError: a rectangle does not take its mesh (only if it was not placed for this map and these options).
        """
        regions: dict[RegionId, RegionEmbedding] = {}
        for region, rect in placement.rects.items():
            shape = placement.shapes[region]
            alive = defects.alive(rect.wafer)
            found = embed(rect, shape.rows, shape.columns, alive, self.reach, self.detour_hops)
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
        for detour in found.detours:
            _check_detour(detour, found, where)
    return embedding


def _check_detour(detour: Detour, embedding: RegionEmbedding, where: str) -> None:
    """Hold that a detour joins two neighbours inside their rectangle; whether it is alive is the verifier's question.

    Raises:
        CompileError: it does not.
    """
    rows, columns = embedding.xs.shape
    down, right = (1, 0) if detour.along == "y" else (0, 1)
    row, column, rect, path = detour.row, detour.column, embedding.rect, detour.path
    name = f"the detour along {detour.along} from row {row}, column {column}"
    if row + down >= rows or column + right >= columns:
        raise CompileError(f"{name} has no neighbour there: it has {columns} columns x {rows} rows", where=where)
    ends = [(int(embedding.xs[at]), int(embedding.ys[at])) for at in ((row, column), (row + down, column + right))]
    if [tuple(path[0].tolist()), tuple(path[-1].tolist())] != ends:
        raise CompileError(f"{name} does not lead from {ends[0]} to {ends[1]}", where=where)
    inside = (path >= (rect.x, rect.y)) & (path < (rect.x + rect.w, rect.y + rect.h))
    if not inside.all():
        raise CompileError(f"{name} leaves the rectangle {rect}", where=where)


def embed(
    rect: Rect, rows: int, columns: int, alive: Alive, reach: int = REACH, detour_hops: int = DETOUR_HOPS
) -> RegionEmbedding | Refusal:
    """Lay ``rows`` x ``columns`` live PEs into a rectangle, or say with numbers why that cannot be."""
    if rect.x < 0 or rect.y < 0 or rect.x + rect.w > alive.width or rect.y + rect.h > alive.height:
        return Refusal(f"rectangle {rect} is not inside the {alive.width}x{alive.height} grid")
    if rect.w < columns or rect.h < rows:
        return Refusal(f"rectangle {rect} is smaller than {columns} columns x {rows} rows")
    across, down = slice(rect.x, rect.x + rect.w), slice(rect.y, rect.y + rect.h)
    core = alive.core[down, across]
    east = alive.east[down, rect.x : rect.x + rect.w - 1]
    south = alive.south[rect.y : rect.y + rect.h - 1, across]

    def straight(east_links: Bools, south_links: Bools) -> tuple[Ints, Ints] | Refusal:
        return lay_straight(core, east_links, south_links, (east, south), rows, columns)

    def jogged(east_links: Bools, south_links: Bools) -> tuple[Ints, Ints] | Refusal:
        return lay_jogged(core, east_links, south_links, rows, columns, reach)

    attempts: list[tuple[_Rule, bool, bool]] = [(straight, False, False), (jogged, False, False)]
    if detour_hops and not (east.all() and south.all()):
        attempts = [*attempts[:1], (straight, True, True), *attempts[1:], (jogged, True, False)]
    for rule, *healed in attempts:
        found = _joined(rule, east, south, healed, detour_hops)
        if not isinstance(found, Refusal):
            return _embedding(rect, *found)
    assert isinstance(found, Refusal)
    return Refusal(f"{rows}x{columns} does not embed in {rect}: {found.reason}")


def _joined(
    rule: _Rule, east: Bools, south: Bools, healed: list[bool], detour_hops: int
) -> tuple[Ints, Ints, tuple[Detour, ...]] | Refusal:
    """A rule's mesh with its detours; ``healed``: whether broken links to the east and to the south may be on paths."""
    east_links, south_links = east | healed[0], south | healed[1]
    if not any(healed):
        found = rule(east, south)
        return found if isinstance(found, Refusal) else (*found, ())
    for _ in range(_ROUNDS):
        found = rule(east_links, south_links)
        if isinstance(found, Refusal):
            return found
        detours, gaps = bridge(*found, east, south, detour_hops)
        if not gaps:
            return *found, detours
        for gap in gaps:
            gap.mark_broken(east_links, south_links, east, south)
    return Refusal(f"no detour of {detour_hops} hops more joins {gaps[0]}, within {_ROUNDS} attempts")


def _embedding(rect: Rect, xs: Ints, ys: Ints, detours: tuple[Detour, ...]) -> RegionEmbedding:
    corner = np.array([rect.x, rect.y])
    moved = tuple(Detour(d.along, d.row, d.column, (d.path + corner).astype(np.int32)) for d in detours)
    return RegionEmbedding(rect, (xs + rect.x).astype(np.int32), (ys + rect.y).astype(np.int32), moved)


__all__ = ["DETOUR_HOPS", "REACH", "Embed", "check_embedding", "embed"]
