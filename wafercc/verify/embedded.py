"""Rule 7: the embedded target and defect map are of one machine, and the program asks for nothing outside it.

Checksums and schema are judged when a file is loaded (`wafercc.ir.artifact`); this rule reads what was loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..ir.dims import Affine
from ..ir.program import EAST, SOUTH, PlacedProgram
from .machine import Machine
from .violation import Violation

RULE = 7


def check_embedded(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Target and defect map name the same view and grid; dead things lie on it; dimensions share one capacity."""
    target, defects = program.target, program.defects
    for name in ("view", "width", "height"):
        if target.get(name) != defects.get(name):
            problem = f"its {name} is {defects.get(name)}, the target's is {target.get(name)}"
            yield Violation(RULE, "defect map", problem)
    if int(defects.get("wafers", 0)) < machine.wafers:
        yield Violation(
            RULE, "defect map", f"describes {defects.get('wafers')} wafers; the target has {machine.wafers}"
        )
    for kind, rows in (
        ("core", machine.dead_cores),
        ("router", machine.dead_routers),
        ("link", machine.dead_links),
    ):
        outside = ~machine.inside(rows[:, 1], rows[:, 2])
        if outside.any():
            x, y = rows[outside][0, 1:3].tolist()
            yield Violation(RULE, "defect map", f"dead {kind} ({x}, {y}) outside {machine.width}x{machine.height}")
        wafers = max(machine.wafers, int(defects.get("wafers", 0)))
        for wafer, x, y in rows[(rows[:, 0] < 0) | (rows[:, 0] >= wafers)][:1, :3].tolist():
            yield Violation(RULE, "defect map", f"dead {kind} ({x}, {y}) on wafer {wafer}; there are {wafers}")
    for _, x, y, side in machine.dead_links[~np.isin(machine.dead_links[:, 3], (EAST, SOUTH))][:1].tolist():
        problem = f"dead link ({x}, {y}) has direction {side}; those of a map are {EAST} (east) and {SOUTH} (south)"
        yield Violation(RULE, "defect map", problem)
    if machine.usable_bytes <= 0:
        yield Violation(RULE, "target", f"leaves {machine.usable_bytes} bytes of SRAM per PE")
    for block in program.blocks.values():
        for value, tiled in block.values.items():
            past = {dim.past_max for dim in tiled.type.shape if isinstance(dim, Affine)}
            if past - {program.past_max}:
                problem = f"n_past up to {min(past - {program.past_max})}; the program's capacity is {program.past_max}"
                yield Violation(RULE, f"block {block.name}, value {value}", problem)
