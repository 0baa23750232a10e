"""Sharing: whether two collective nets of a region may use one colour at one router, by data dependence alone.

PEs run their steps in order, but each in its own time. A PE that begins step t after a collective in step c < t has
heard from every PE of its line since that PE began c, if every PE had words to give. So at t it knows of that line that
all steps before c are over; of a collective that it has ended itself it knows more: everything that leads to the root
has passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..ir.block import AllGather, AllReduce, Block, RegionId, Step, step_ins
from ..ir.program import CollectiveNet, Execute, PlacedProgram, Region
from .collectives import Pattern, needed, pattern_of
from .ownership import holders


@dataclass(frozen=True, slots=True)
class Use:
    """A net at work: when (steps of the region counted through, place in the step), on lines of how many PEs."""

    step: int
    place: int
    span: int
    gather: bool


@dataclass(frozen=True)
class Life:
    """What a region does from its first step to its last.

    ``uses``: pattern → when it is at work. ``rows``/``columns``: for each step, the PEs of a logical row (column) that
    hear of each other in it; 1 where there is no collective, or one in which some PE has nothing to say.
    """

    region: Region
    uses: dict[Pattern, list[Use]]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @staticmethod
    def of(program: PlacedProgram, region_id: RegionId) -> Life:
        uses: dict[Pattern, list[Use]] = {}
        rows: list[int] = []
        columns: list[int] = []
        for step, block in _steps(program, region_id):
            nets = needed(block, step) if isinstance(step, AllReduce | AllGather) else ()
            along, span = (nets[-1][0], nets[-1][2]) if nets else ("", 1)  # the last net is the multicast on the line
            for place, pattern in enumerate(nets):
                uses.setdefault(pattern, []).append(Use(len(rows), place, span, isinstance(step, AllGather)))
            heard = span if nets and _complete(block, step) else 1
            rows.append(heard if along == "x" else 1)
            columns.append(heard if along == "y" else 1)
        return Life(program.region[region_id], uses, tuple(rows), tuple(columns))

    @property
    def straight(self) -> bool:
        """Whether every logical column is one physical column and no line takes a detour, so that rows and columns meet
        at PEs alone."""
        return not self.region.detours and bool((self.region.xs == self.region.xs[:1]).all())

    def apart(self, a: CollectiveNet, b: CollectiveNet, same_line: bool) -> bool:
        """Whether, wherever the two meet, one is over before the other starts.

        ``same_line``: whether they meet only where they serve the same line of one direction.
        """
        one, other = pattern_of(a), pattern_of(b)
        for first in self.uses.get(one, ()):
            for second in self.uses.get(other, ()):
                ordered = (first.step, first.place) < (second.step, second.place)
                turns = ((one, first), (other, second)) if ordered else ((other, second), (one, first))
                if not self._over(*turns[0], *turns[1], same_line):
                    return False
        return True

    def _over(self, early: Pattern, before: Use, late: Pattern, after: Use, same_line: bool) -> bool:
        """Whether all words of an earlier use have passed a router before any of a later use can come there."""
        spreads, spread = late[1] == "broadcast", early[1] == "broadcast"
        if before.step == after.step:
            return same_line and spreads and not spread and not after.gather
        # What the sender knows to be over: along rows, along columns.
        row = max(self.rows[before.step + 1 : after.step], default=1)
        column = max(self.columns[before.step + 1 : after.step], default=1)
        if spreads and not after.gather:  # the root has heard from its whole line in this very step
            row, column = (max(row, after.span), column) if late[0] == "x" else (row, max(column, after.span))
        if row == self.region.columns and column == self.region.rows:
            return True
        own = row if late[0] == "x" else column
        if own % after.span == 0 and (same_line if early[0] == late[0] else self.straight):
            return True
        if early[0] != late[0] or not same_line or before.span % after.span:
            return False
        return not spread or (not spreads and early[2:4] == late[2:4])


def _complete(block: Block, step: Step) -> bool:
    """Whether every PE of the mesh holds elements of what a step moves, at the least length of the cache."""
    tiled = block.values[step_ins(step)[0]]
    return bool(holders(tiled, block.mesh, 0, None, None).all()) and min(tiled.type.at(0), default=1) > 0


def _steps(program: PlacedProgram, region: RegionId) -> Iterator[tuple[Step, Block]]:
    """The steps of all instances of a region in the order in which its PEs run them."""
    for task in program.order:
        if isinstance(task, Execute) and program.instance[task.instance].region == region:
            block = program.blocks[program.instance[task.instance].block]
            yield from ((step, block) for step in block.steps)
