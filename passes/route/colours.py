"""Colours: which colours the collective nets of a region take, as few switch positions shared as the budget allows.

A *thread* is what needs one colour: a slot of a pattern on one class of lines. Threads get a colour each, from 0 up. If
that takes more than the budget, threads of which one is always over before the other starts (`order.py`) share a colour
at different switch positions. If it is still too much, the two sides of a tree round or of a collect become one thread:
they meet only at the root, which then hears one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wafercc.errors import CompileError

from .patterns import LineNet, Pattern


@dataclass(frozen=True, slots=True)
class Thread:
    """A slot (or two joined ones) of a pattern on one class of lines.

    ``positions``: the most switch positions it takes at one router; ``span``: the positions to set aside for it, since
    routers number theirs from different ones.
    """

    pattern: int
    slot: int
    line_class: int
    positions: int
    span: int


Apart = Callable[[Thread, Thread], bool]


class Place(NamedTuple):
    """The colour of a thread and the first of its switch positions."""

    colour: int
    first: int


@dataclass(frozen=True, eq=False)
class Threading:
    """How the slots of one pattern become threads: slot → the slot it is joined to; slot → its positions' offset
    there."""

    net: LineNet
    joined: tuple[int, ...]
    offset: tuple[int, ...]
    classes: int

    def threads(self, pattern: int) -> list[Thread]:
        found = []
        for slot in dict.fromkeys(self.joined):
            own = [s for s in range(self.net.slots) if self.joined[s] == slot]
            positions = int((self.net.outs[own] != 0).sum(axis=(0, 1)).max())
            span = sum(self.net.positions(s) for s in own)
            found += [Thread(pattern, slot, c, positions, span) for c in range(self.classes)]
        return found


def joined_slots(pattern: Pattern, net: LineNet, *, slim: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which slot each slot shares its colours with, and its first position there; an idle slot repeats a used one's."""
    used = [s for s in range(net.slots) if net.positions(s)]
    if slim and pattern.kind in ("tree", "collect"):
        return (used[0],) * net.slots, tuple(sum(net.positions(t) for t in range(s)) for s in range(net.slots))
    return tuple(s if s in used else used[0] for s in range(net.slots)), (0,) * net.slots


def assign(
    region: str,
    threadings: Sequence[Sequence[Threading]],
    apart: Apart,
    budget: int,
    switch_positions: int,
    share: bool,
) -> tuple[Sequence[Threading], dict[Thread, Place]]:
    """The threading to use (of those given, the plain first, the slim last) and the place of every thread.

    ``apart``: whether two threads may share a colour. ``share``: pack as tightly as can be, even where the budget does
    not ask for it.

    Raises:
        CompileError: the budget is too small even so, or the router has too few switch positions.
    """
    best: tuple[Sequence[Threading], dict[Thread, Place]] | None = None
    for threading in threadings:
        threads = [thread for i, each in enumerate(threading) for thread in each.threads(i)]
        most = max((t.positions for t in threads), default=0)
        if most > switch_positions:
            raise CompileError(
                f"cannot route: a gather needs {most} switch positions; the router has {switch_positions}",
                where=f"region {region}",
                hint="raise router.switch_positions",
            )
        for alone in (len(threads), budget, 0):
            if alone <= budget and not (share and alone):
                places = _pack(threads, apart, alone, switch_positions)
                if colours(places) <= budget and not share:
                    return threading, places
                if best is None or colours(places) < colours(best[1]):
                    best = threading, places
    assert best is not None
    if colours(best[1]) > budget:
        raise CompileError(
            f"cannot route: region {region} needs {colours(best[1])} local colours of {budget}",
            hint="use chains in place of trees, fewer collective shapes per region, or more local colours",
        )
    return best


def colours(places: Mapping[Thread, Place]) -> int:
    """How many colours are in use."""
    return len({place.colour for place in places.values()})


def _pack(
    threads: Sequence[Thread], apart: Apart, alone: int, switch_positions: int
) -> dict[Thread, Place]:
    """First fit, after ``alone`` threads that each begin a colour; if any must share, those of most positions go
    first."""
    tenants: list[list[Thread]] = []
    places: dict[Thread, Place] = {}
    for thread in threads if alone >= len(threads) else sorted(threads, key=lambda t: -t.positions):
        fits = (k for k, there in enumerate(tenants) if _may_join(thread, there, apart, switch_positions))
        chosen = len(tenants) if len(tenants) < alone else next(fits, len(tenants))
        if chosen == len(tenants):
            tenants.append([])
        places[thread] = Place(chosen, sum(t.span for t in tenants[chosen]))
        tenants[chosen].append(thread)
    return places


def _may_join(thread: Thread, there: Sequence[Thread], apart: Apart, switch_positions: int) -> bool:
    fits = thread.positions + sum(t.positions for t in there) <= switch_positions
    return fits and all(apart(thread, t) for t in there)


def line_classes(routers: NDArray[np.int64], lines: NDArray[np.int64], most: int) -> int | None:
    """The least number of classes, up to ``most``, in which no two lines of a class use one router; None if there is
    none.

    ``routers``, ``lines``: which line uses which (router, thread).
    """
    pairs = np.unique(np.stack([routers, lines], axis=1), axis=0)
    for classes in range(1, most + 1):
        used = pairs[:, 0] * classes + pairs[:, 1] % classes
        if len(np.unique(used)) == len(used):
            return classes
    return None
