"""Colours: which colours the collective nets of a region take, as few switch positions shared as the budget allows.

A *thread* is what needs one colour: a slot of a pattern on one class of lines. Threads get a colour each, from 0 up. If
that takes more than the budget, threads of which one is always over before the other starts (`order.py`) share a colour
at different switch positions. If it is still too much, the two sides of a tree or of a collect become one thread: they
meet only at the root, which then hears one after the other. The levels of a tree are one thread from the start: on
every link their messages follow one another from level to level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wafercc.errors import CompileError

from .patterns import LineNet


@dataclass(frozen=True, slots=True)
class Thread:
    """A slot (or two joined ones) of a pattern, or of all levels of a tree, on one class of lines.

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
    there.

    ``first``: the number of the pattern whose threads it takes: its own, or that of the first level of its tree.
    ``nets``: what all patterns do that take these threads.
    """

    first: int
    net: LineNet
    nets: tuple[LineNet, ...]
    joined: tuple[int, ...]
    offset: tuple[int, ...]
    classes: int

    def threads(self, pattern: int) -> list[Thread]:
        """The threads that begin with this pattern."""
        if pattern != self.first:
            return []
        found = []
        for slot in dict.fromkeys(self.joined):
            own = [s for s in range(self.net.slots) if self.joined[s] == slot]
            span = self.net.span * len(own)
            found += [Thread(pattern, slot, c, _configurations(self.nets, own), span) for c in range(self.classes)]
        return found


def _configurations(nets: Sequence[LineNet], slots: Sequence[int]) -> int:
    """The most configurations that one PE's router has in these slots."""
    codes = np.concatenate([net.ins[s] * 64 + net.outs[s] for net in nets for s in slots])
    ordered = np.sort(codes, axis=0)
    new = np.diff(ordered, axis=0, prepend=0) > 0
    return int(new.sum(axis=0).max())


def joined_slots(kind: str, nets: Sequence[LineNet], *, slim: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which slot each slot shares its colours with, and its first position there; an idle slot repeats a used one's."""
    slots = range(nets[0].slots)
    used = [s for s in slots if any(net.uses(s) for net in nets)]
    if slim and kind in ("tree", "collect"):
        return (used[0],) * len(slots), tuple(nets[0].span * used.index(s) if s in used else 0 for s in slots)
    return tuple(s if s in used else used[0] for s in slots), (0,) * len(slots)


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
                f"cannot route: a collective needs {most} switch positions; the router has {switch_positions}",
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
            hint="use fewer collective shapes per region, or more local colours",
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
