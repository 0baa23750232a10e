"""Order: which collective nets of a region are over before others start, by data dependence alone.

PEs run the steps of a region in order but not in time with each other. What a PE knows: when it begins step t, every PE
of a line has ended step s if a collective to which all PEs give words ran along that line strictly between; and when it
has ended a collective itself, all words that led to that collective's root have passed. Nets that are apart in this
sense may share a colour. docs/fabric.md gives the reasons; `wafercc.verify` derives the same anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from wafercc.ir.block import AllGather, AllReduce, Block, step_ins
from wafercc.ir.dims import at
from wafercc.ir.layout import Mesh, Tiled, owned

from .lines import Along
from .patterns import Pattern, step_patterns

TO_ROOT = frozenset({"chain", "leaders", "tree"})


@dataclass(frozen=True, slots=True)
class Turn:
    """One use of a pattern: the step of the region's life and the phase in it, and the PEs of the lines that take part.

    ``reduced``: a multicast whose root has heard from all PEs of its line in the same step. ``joins``: after the step
    every PE of a line has heard from all, since none has an empty tile, whatever the length of the cache.
    """

    pattern: Pattern
    step: int
    phase: int
    span: int
    reduced: bool
    joins: bool


@dataclass(frozen=True)
class Order:
    """The turns of all patterns of a region whose blocks run one after another. ``crossing_at_pes``: whether rows and
    columns share no router but those of PEs.
    """

    blocks: Sequence[Block]
    region: str
    crossing_at_pes: bool

    @cached_property
    def turns(self) -> dict[Pattern, list[Turn]]:
        found: dict[Pattern, list[Turn]] = {}
        for turn in self._walk():
            found.setdefault(turn.pattern, []).append(turn)
        return found

    @cached_property
    def joins(self) -> list[tuple[int, Along, int]]:
        """Steps after which the PEs of a line know of each other: step, direction, PEs of a line."""
        return sorted({(t.step, t.pattern.along, t.span) for turns in self.turns.values() for t in turns if t.joins})

    @cached_property
    def extent(self) -> dict[Along, int]:
        mesh = self.blocks[0].mesh
        return {"x": mesh.columns, "y": mesh.rows}

    def apart(self, a: Pattern, b: Pattern) -> bool:
        """Whether the two are never in use together at any router, in whichever order their turns come."""
        pairs = ((s, t) for s in self.turns[a] for t in self.turns[b])
        return all(self._before(*sorted(pair, key=lambda turn: (turn.step, turn.phase))) for pair in pairs)

    def _walk(self) -> Iterator[Turn]:
        number = 0
        for block in self.blocks:
            for step in block.steps:
                if isinstance(step, AllReduce | AllGather):
                    patterns = list(step_patterns(step, block.mesh, f"region {self.region}, step {step.id}"))
                    gather, span = isinstance(step, AllGather), block.mesh.parts(step.axes)
                    joins = bool(patterns) and all_hold(block.values[step_ins(step)[0]], block.mesh)
                    for phase, pattern in enumerate(patterns):
                        reduced = not gather and pattern.kind == "broadcast"
                        yield Turn(pattern, number, 0 if gather else phase, span, reduced, joins)
                number += 1

    def _before(self, first: Turn, later: Turn) -> bool:
        a, b = first.pattern, later.pattern
        if first.step == later.step:
            return later.reduced and a.kind in TO_ROOT
        known = self._known(first, later)
        if all(known[along] == extent for along, extent in self.extent.items()):
            return True
        if known[b.along] % later.span == 0:
            return a.along == b.along or self.crossing_at_pes
        if a.along != b.along or first.span % later.span:
            return False
        return a.kind != "broadcast" or (b.kind != "broadcast" and (a.group, a.root) == (b.group, b.root))

    def _known(self, first: Turn, later: Turn) -> dict[Along, int]:
        """Over how many PEs, in either direction, the sender of a later turn knows that the first one's step ended."""
        known: dict[Along, int] = {"x": 1, "y": 1}
        for step, along, span in self.joins:
            if first.step < step < later.step:
                known[along] = max(known[along], span)
        if later.reduced:
            known[later.pattern.along] = max(known[later.pattern.along], later.span)
        return known


def all_hold(tiled: Tiled, mesh: Mesh) -> bool:
    """Whether every PE holds elements of a value, even for an empty cache."""
    least = [at(dim, 0) for dim in tiled.type.shape]
    cuts = zip(least, tiled.layout.splits, strict=True)
    return (
        not tiled.layout.held
        and min(least, default=1) > 0
        and all(bool((owned(n, split, mesh.parts(split.axes)) >= 0).any(axis=1).all()) for n, split in cuts)
    )
