"""DefectMap: what is dead on each wafer, for one view of one grid; and Alive, the same as dense arrays of one wafer.

A dead core with a live router still passes wavelets; a dead router passes none and kills its core; a dead link
carries nothing in either direction. The map is sparse, versioned and hashed, because artifacts embed it and reports
cite it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TargetError
from ..ir.program import EAST, NORTH, SOUTH, WEST
from ..targets import Target, load

VERSION = 1
Grid = NDArray[np.bool_]
Points = NDArray[np.int32]
_MOST_CORES = 4096 * 4096


@dataclass(frozen=True, eq=False)
class Alive:
    """One wafer as dense arrays ``[height, width]``: what works.

    ``core``: the PE can hold tiles (its router lives too). ``router``: wavelets pass. ``east``/``south``: the link
    to the next router in that direction carries wavelets, so both routers live; False at the grid's far edge.
    """

    core: Grid
    router: Grid
    east: Grid
    south: Grid

    @property
    def height(self) -> int:
        return int(self.core.shape[0])

    @property
    def width(self) -> int:
        return int(self.core.shape[1])

    @cached_property
    def cores(self) -> int:
        """The number of live cores."""
        return int(self.core.sum())


@dataclass(frozen=True, eq=False)
class DefectMap:
    """Dead cores and routers as rows (wafer, x, y), dead links as (wafer, x, y, EAST or SOUTH of that router).

    Build with `none`, `random`, `of` or `load`; rows are sorted and unique, so equal maps have equal hashes.
    """

    wafers: int
    width: int
    height: int
    view: str
    dead_cores: Points
    dead_routers: Points
    dead_links: Points

    @staticmethod
    def of(
        target: Target, *, cores: object = (), routers: object = (), links: object = (), where: str = "defect map"
    ) -> DefectMap:
        """A map for a target's grid from rows of numbers, checked and put in order.

        Raises:
            TargetError: a row is malformed or outside the grid.
        """
        size = (target.wafers, target.width, target.height)
        return _checked(size, target.view, {"dead_cores": cores, "dead_routers": routers, "dead_links": links}, where)

    @staticmethod
    def none(target: str | Target, wafers: int | None = None) -> DefectMap:
        """The perfect map of a target."""
        return DefectMap.random(target, wafers=wafers)

    @staticmethod
    def random(
        target: str | Target,
        core_rate: float = 0.0,
        router_rate: float = 0.0,
        link_rate: float = 0.0,
        seed: int = 0,
        wafers: int | None = None,
    ) -> DefectMap:
        """Independent defects at given rates; wafer i is drawn from (seed, i), the kinds from streams of their own.

        At the same seed a higher rate only adds defects, and one kind's rate does not move the others. ``wafers``
        defaults to the target's.

        Raises:
            TargetError: a rate outside 0..1, a negative seed, or an unknown target.
        """
        machine = load(target) if isinstance(target, str) else target
        count = machine.wafers if wafers is None else wafers
        for name, rate in (("core_rate", core_rate), ("router_rate", router_rate), ("link_rate", link_rate)):
            if not 0.0 <= rate <= 1.0:
                raise TargetError(f"{name} is {rate}; it must lie in 0 .. 1", where="defect map")
        if seed < 0 or count < 1:
            raise TargetError(f"seed is {seed}, wafers {count}; they must be at least 0 and 1", where="defect map")
        shape = (machine.height, machine.width)
        rows: dict[str, list[NDArray[np.int64]]] = {"dead_cores": [], "dead_routers": [], "dead_links": []}
        for wafer in range(count):
            rows["dead_cores"].append(_draw(shape, core_rate, (seed, wafer, 0), wafer))
            rows["dead_routers"].append(_draw(shape, router_rate, (seed, wafer, 1), wafer))
            for stream, direction in ((2, EAST), (3, SOUTH)):
                inner = (shape[0] - (direction == SOUTH), shape[1] - (direction == EAST))
                at = _draw(inner, link_rate, (seed, wafer, stream), wafer)
                rows["dead_links"].append(np.column_stack([at, np.full(len(at), direction)]))
        merged = {name: np.concatenate(parts) for name, parts in rows.items()}
        return _checked((count, machine.width, machine.height), machine.view, merged, "defect map")

    @property
    def dead(self) -> int:
        """Entries of all kinds."""
        return len(self.dead_cores) + len(self.dead_routers) + len(self.dead_links)

    def __str__(self) -> str:
        wafers = f"{self.wafers} x " if self.wafers > 1 else ""
        return (
            f"{wafers}{self.width}x{self.height} ({self.view}): {len(self.dead_cores)} dead cores, "
            f"{len(self.dead_routers)} dead routers, {len(self.dead_links)} dead links"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DefectMap) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return int(self.hash()[:15], 16)

    def alive(self, wafer: int = 0) -> Alive:
        """What works on one wafer, as arrays over its grid (kept: many questions are asked of it)."""
        return self._alive_of(wafer)

    def core_alive(self, wafer: int = 0) -> Grid:
        """Whether each PE can hold tiles, ``[height, width]``."""
        return self.alive(wafer).core

    def router_alive(self, wafer: int = 0) -> Grid:
        """Whether each router passes wavelets, ``[height, width]``."""
        return self.alive(wafer).router

    def link_alive(self, direction: int, wafer: int = 0) -> Grid:
        """Whether each router's link in a direction works, ``[height, width]``; False at the grid's edge."""
        alive = self.alive(wafer)
        if direction in (EAST, SOUTH):
            return alive.east if direction == EAST else alive.south
        back = np.zeros_like(alive.core)
        if direction == WEST:
            back[:, 1:] = alive.east[:, :-1]
        else:
            assert direction == NORTH, f"not a direction: {direction}"
            back[1:, :] = alive.south[:-1, :]
        return back

    def check_for(self, target: Target) -> None:
        """Hold that this map describes this target's grid.

        Raises:
            TargetError: another grid or another view; both are named.
        """
        if (self.width, self.height) != (target.width, target.height):
            raise TargetError(
                f"the map is for a {self.width}x{self.height} grid, "
                f"target {target.name} has {target.width}x{target.height}",
                where="defect map",
                hint="make a map for this target, or compile for the map's",
            )
        if self.view != target.view:
            raise TargetError(
                f"the map shows the {self.view} view, target {target.name} is {target.view}",
                where="defect map",
                hint="a map of the physical wafer must be repaired before it describes a logical grid",
            )
        if self.wafers < target.wafers:
            raise TargetError(
                f"the map describes {self.wafers} wafers, target {target.name} has {target.wafers}", where="defect map"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, complete and in stable order."""
        head = {"format": "wafercc-defects", "version": VERSION, "view": self.view}
        grid = {"wafers": self.wafers, "width": self.width, "height": self.height}
        return {**head, **grid, **{name: getattr(self, name).tolist() for name in _KINDS}}

    @staticmethod
    def from_dict(data: Mapping[str, Any], where: str = "defect map") -> DefectMap:
        """The inverse of `to_dict`.

        Raises:
            TargetError: another format or version, a missing or malformed entry, a row outside the grid.
        """
        if not isinstance(data, Mapping) or data.get("format") != "wafercc-defects":
            raise TargetError("not a defect map", where=where, hint='its "format" must be "wafercc-defects"')
        if data.get("version") != VERSION:
            raise TargetError(f"defect map version {data.get('version')!r}; this version reads {VERSION}", where=where)
        size = []
        for name in ("wafers", "width", "height"):
            value = data.get(name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise TargetError(f"{name} is {value!r}; it must be a whole number of at least 1", where=where)
            size.append(value)
        if size[1] * size[2] > _MOST_CORES:
            raise TargetError(f"the grid {size[1]}x{size[2]} is larger than any target", where=where)
        if data.get("view") not in ("logical", "physical"):
            raise TargetError(f"the view is {data.get('view')!r}; it must be logical or physical", where=where)
        return _checked((size[0], size[1], size[2]), str(data["view"]), {k: data.get(k, ()) for k in _KINDS}, where)

    def save(self, path: str | Path) -> None:
        """Write the map as JSON.

        Raises:
            TargetError: the file cannot be written.
        """
        text = json.dumps(self.to_dict(), separators=(",", ":")) + "\n"
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise TargetError(f"cannot be written: {error.strerror}", where=str(path)) from None

    @staticmethod
    def load(path: str | Path) -> DefectMap:
        """Read a map that `save` wrote.

        Raises:
            TargetError: no such file, not JSON, or not a defect map.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise TargetError("no such file", where=str(path)) from None
        except (OSError, ValueError, RecursionError) as error:
            raise TargetError(f"not a readable JSON file: {error}", where=str(path)) from None
        return DefectMap.from_dict(data, where=str(path))

    def hash(self) -> str:
        """SHA-256 of the canonical JSON form, in hex."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _kept(self) -> dict[int, Alive]:
        return {}

    def _alive_of(self, wafer: int) -> Alive:
        if wafer not in self._kept:
            self._kept[wafer] = self._compute(wafer)
        return self._kept[wafer]

    def _compute(self, wafer: int) -> Alive:
        assert 0 <= wafer < self.wafers, f"wafer {wafer} of {self.wafers}"
        shape = (self.height, self.width)
        router = np.ones(shape, bool)
        dead = self.dead_routers[self.dead_routers[:, 0] == wafer]
        router[dead[:, 2], dead[:, 1]] = False
        core = router.copy()
        dead = self.dead_cores[self.dead_cores[:, 0] == wafer]
        core[dead[:, 2], dead[:, 1]] = False
        east, south = np.zeros(shape, bool), np.zeros(shape, bool)
        east[:, :-1] = router[:, :-1] & router[:, 1:]
        south[:-1, :] = router[:-1, :] & router[1:, :]
        links = self.dead_links[self.dead_links[:, 0] == wafer]
        for grid, direction in ((east, EAST), (south, SOUTH)):
            at = links[links[:, 3] == direction]
            grid[at[:, 2], at[:, 1]] = False
        for grid in (core, router, east, south):
            grid.setflags(write=False)
        return Alive(core, router, east, south)


_KINDS = ("dead_cores", "dead_routers", "dead_links")


def _draw(shape: tuple[int, int], rate: float, entropy: tuple[int, ...], wafer: int) -> NDArray[np.int64]:
    """Rows (wafer, x, y) of the cells hit."""
    if rate == 0.0 or 0 in shape:
        return np.empty((0, 3), np.int64)
    ys, xs = np.nonzero(np.random.default_rng(entropy).random(shape) < rate)
    return np.column_stack([np.full_like(xs, wafer), xs, ys])


def _checked(size: tuple[int, int, int], view: str, kinds: Mapping[str, object], where: str) -> DefectMap:
    wafers, width, height = size
    points: dict[str, Points] = {}
    for name in _KINDS:
        columns = 4 if name == "dead_links" else 3
        rows = _rows(kinds[name], columns, f"{where}, {name}")
        limit = np.array([wafers, width, height])
        outside = ((rows[:, :3] < 0) | (rows[:, :3] >= limit)).any(axis=1)
        if columns == 4:
            outside |= ~np.isin(rows[:, 3], (EAST, SOUTH))
        if outside.any():
            raise TargetError(
                f"row {rows[outside][0].tolist()} lies outside {wafers} wafer(s) of {width}x{height}"
                + (f" or has a direction other than {EAST} (east) and {SOUTH} (south)" if columns == 4 else ""),
                where=f"{where}, {name}",
            )
        points[name] = np.unique(rows, axis=0).astype(np.int32)
        points[name].setflags(write=False)
    return DefectMap(wafers, width, height, view, **points)


def _rows(rows: object, columns: int, where: str) -> NDArray[np.int64]:
    try:
        array = np.asarray(rows)
    except ValueError:
        raise TargetError(f"its rows must have {columns} whole numbers each", where=where) from None
    if array.size == 0:
        return np.empty((0, columns), np.int64)
    if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind not in "iu":
        raise TargetError(f"its rows must have {columns} whole numbers each", where=where)
    return array.astype(np.int64)
