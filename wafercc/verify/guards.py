"""Rule 1, guards: an op that works by choice has one, and each thing that can be chosen wakes exactly the part that
holds it; every part sees all choices of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from ..ir.block import Block, Compute
from ..ir.dims import upper
from ..ir.layout import Mesh, Tiled
from ..ir.program import PlacedProgram
from .machine import Machine
from .ownership import indices
from .violation import Violation

RULE = 1
MOST_NAMED = 3
# Kind → the operand that chooses, and the operand whose first dimension is chosen from.
GUARDED = {"moe_experts": (2, 1)}


def check_guards(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Every choice has exactly one owner, which holds what is chosen."""
    for block in program.blocks.values():
        for step in block.steps:
            if isinstance(step, Compute):
                yield from _step(block, step, f"block {block.name}, step {step.id}, op {step.op.id} ({step.op.kind})")


def _step(block: Block, step: Compute, where: str) -> Iterator[Violation]:
    place = GUARDED.get(step.op.kind)
    if (place is None) != (step.guard is None):
        yield Violation(RULE, where, "works by choice but has no guard" if place else "has a guard but nothing chooses")
    if place is None or step.guard is None:
        return
    names = [step.ins[i] for i in place]
    if None in names:
        yield Violation(RULE, where, "lacks what chooses or what is chosen from")
        return
    choices, owners = (block.values[name] for name in names if name is not None)
    if step.guard.choices != names[0]:
        yield Violation(RULE, where, f"is guarded by {step.guard.choices}, but {names[0]} chooses")
    hidden = frozenset(choices.layout.cut_axes) & frozenset(owners.layout.splits[0].axes)
    if hidden:
        yield Violation(RULE, where, f"cuts the choices over {' '.join(sorted(hidden))}, as it cuts what they choose")
    yield from _owners(where, step.guard.wakes, owners, block.mesh)


def _owners(where: str, wakes: tuple[tuple[int, ...], ...], owners: Tiled, mesh: Mesh) -> Iterator[Violation]:
    extent, split = upper(owners.type.shape[0]), owners.layout.splits[0]
    parts = mesh.parts(split.axes) if split.axes else 1
    if len(wakes) != parts:
        yield Violation(RULE, where, f"its guard is for {len(wakes)} parts of the mesh, {owners} has {parts}")
        return
    part = np.zeros(extent, np.int64)
    for axis in split.axes:
        part = part * mesh.extent[axis] + indices(extent, split, mesh).get(axis, np.int64(0))
    awake: dict[int, list[int]] = {}
    for index, chosen in enumerate(wakes):
        for one, times in Counter(chosen).items():
            awake.setdefault(one, []).extend([index] * times)
    wrong = []
    for one in sorted({*range(extent), *awake}):
        found = awake.get(one, [])
        if one not in range(extent):
            wrong.append(f"choice {one} does not exist")
        elif found != [part[one]]:
            wrong.append(f"choice {one} wakes {_parts(found)}, part {part[one]} holds it")
    for message in wrong[:MOST_NAMED]:
        yield Violation(RULE, where, message + (f" ({len(wrong)} such)" if len(wrong) > MOST_NAMED else ""))


def _parts(found: list[int]) -> str:
    return f"part{'s' * (len(found) > 1)} {' '.join(map(str, found))}" if found else "no part"
