"""Blockade: what keeps a group from its goal, as the cut that it cannot cross.

Either no colour is free on all routers of its combs: then the cut is the region's own routers. Or no path has one: then
the cut is the frontier of all that can be reached from the start over routers with an allowed colour free (over any
of them, or where that gets through, over the colour that is stopped by the fewest routers). What is dead on the cut,
what the regions there keep for themselves, and which nets hold the rest is counted and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wafercc.ir.block import RegionId
from wafercc.ir.program import IntArray, Region

from .fabric import ALL, Sheet
from .groups import Group
from .nets import Laid, Pair

Bools = NDArray[np.bool_]
NAMED = 4


@dataclass(frozen=True)
class Blockade:
    """What blocks, in words; the regions it concerns (the group's own first); the lever that would help."""

    text: str
    regions: tuple[RegionId, ...]
    hint: str


@dataclass(frozen=True, eq=False)
class Scene:
    """A wafer with what is laid on it: what a blockade is told from."""

    sheet: Sheet
    regions: Sequence[Region]
    local: Mapping[RegionId, int]
    laid: Mapping[Group, Sequence[Laid]]

    def blockade(self, group: Group, pairs: Sequence[Pair], ports: IntArray) -> Blockade:
        """Why no lane over one of these pairs of ends (the shortest first) finds a way."""
        if not pairs and not self.sheet.alive(ports[:, 2], ports[:, 1]).any():
            return Blockade("no live router has a port to the host", group.regions, "use another defect map")
        if not pairs:
            text = f"none of its combs does with {self.sheet.positions} switch positions at a router, off its port"
            return Blockade(text, group.regions, "raise router.switch_positions")
        pair = next((p for p in pairs if p.allowed(self.sheet)), None)
        return self._at_ends(group, pairs[0]) if pair is None else self._between(group, pair)

    def _at_ends(self, group: Group, pair: Pair) -> Blockade:
        """No colour is free on all routers of the combs."""
        free = {comb: self.sheet.free(comb.y, comb.x).bit_count() for comb in pair.combs if comb is not None}
        if not free:
            return Blockade("no colour is left at its ports", (), _FEWER)
        words: list[str] = []
        usable = self.sheet.usable.bit_count()
        for comb, count in free.items():
            if count == 0 or min(free.values()) > 0:
                kept = self.local.get(comb.fan.region, 0)
                names = self._holders(comb.y, comb.x)
                words.append(
                    f"{count} of {usable} colours are free on all {len(comb.x)} routers of its comb in region "
                    f"{comb.fan.region}, {_extent(comb.y, comb.x)}, whose collectives keep {kept}, so that "
                    f"{usable - kept} are left; {len(names) + 1} nets must cross it: this one, {_listed(names)}"
                )
        return Blockade("; ".join(words), group.regions, _FEWER)

    def _between(self, group: Group, pair: Pair) -> Blockade:
        """No path between the ends has a colour free all along."""
        allowed = pair.allowed(self.sheet)
        sheet = self.sheet.copy()
        for y, x in pair.walls:
            sheet.taken[y, x] = ALL
        ends = [(hook.at[1], hook.at[0]) for hook in (pair.start, pair.goal)]
        for end in ends:
            sheet.taken[end] = self.sheet.taken[end]
        reached = sheet.reached(pair.start.at, allowed)
        if reached[ends[1]]:
            each = [sheet.reached(pair.start.at, 1 << c) for c in range(allowed.bit_length()) if allowed >> c & 1]
            reached = min(each, key=lambda r: int(_frontier(r).sum()))
        walls = np.zeros(reached.shape, bool)
        for y, x in pair.walls:
            walls[y, x] = True
        y, x = (a.astype(np.int32) for a in np.nonzero(_frontier(reached) & ~walls))
        dead = ~self.sheet.alive(y, x)
        open_ = (~sheet.taken[y, x] & np.uint32(allowed)) != 0
        names = self._holders(y, x)
        passed = [r.id for r in self.regions if _touches(r, y, x)]
        text = f"no path of live routers from {pair.start.at} to {pair.goal.at} has a colour free all along"
        if not len(x):
            return Blockade(f"{text}: its own combs shut it in", group.regions, _ELSEWHERE)
        text += (
            f", of {allowed.bit_count()} free at both ends; the cut is {_extent(y, x)}: of its {len(x)} routers "
            f"{int(dead.sum())} are dead and {int(open_.sum())} behind dead links"
        )
        if (~dead & ~open_).any():
            kept = ", ".join(f"{r} keeps {self.local.get(r, 0)}" for r in passed) or "no region lies there"
            most = int(self.sheet.in_use(y, x).max())
            text += (
                f"; the others have up to {most} of {self.sheet.usable.bit_count()} colours in use ({kept}), "
                f"and {len(names) + 1} nets must cross: this one, {_listed(names)}"
            )
        return Blockade(text, tuple(dict.fromkeys((*group.regions, *passed))), _FEWER if names else _ELSEWHERE)

    def _holders(self, y: IntArray, x: IntArray) -> list[str]:
        """The names of the groups that use any of these routers."""
        here = np.zeros(self.sheet.taken.shape, bool)
        here[y, x] = True
        return [g.name for g, lanes in self.laid.items() if any(here[each.y, each.x].any() for each in lanes)]


_FEWER = "use fewer --stages or a smaller --region, give up lanes with --max-lanes 1, or use a larger --target"
_ELSEWHERE = "place its ends on one side of what is dead: another --seed or --region, or another defect map"


def _frontier(reached: Bools) -> Bools:
    """The routers beside those reached."""
    beside = np.zeros_like(reached)
    beside[1:] |= reached[:-1]
    beside[:-1] |= reached[1:]
    beside[:, 1:] |= reached[:, :-1]
    beside[:, :-1] |= reached[:, 1:]
    return beside & ~reached


def _touches(region: Region, y: IntArray, x: IntArray) -> bool:
    rect = region.rect
    inside = (x >= rect.x) & (x < rect.x + rect.w) & (y >= rect.y) & (y < rect.y + rect.h)
    return bool(inside.any())


def _extent(y: IntArray, x: IntArray) -> str:
    """The rows and columns that some routers lie in."""
    spans = (("column", int(x.min()), int(x.max())), ("row", int(y.min()), int(y.max())))
    return ", ".join(f"{what} {lo}" if lo == hi else f"{what}s {lo} to {hi}" for what, lo, hi in spans)


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more."""
    if not names:
        return "no other"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
