"""Size plan: how many rows and columns of PEs each block is to have, as a line that reads back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wafercc.errors import TextError
from wafercc.ir.block import BlockName
from wafercc.ir.lines import Excerpt, Line, read_lines, word_text
from wafercc.ir.partition import Partition
from wafercc.targets import Target

from .steer import MeshShape


@dataclass(frozen=True)
class SizePlan:
    """Rows x columns for every block.

    Text: ``plan b0 32x16 b1 32x32``, rows x columns.
    """

    shapes: Mapping[BlockName, MeshShape]

    def __str__(self) -> str:
        sizes = [f"{word_text(name)} {rows}x{columns}" for name, (rows, columns) in self.shapes.items()]
        return f"plan {' '.join(sizes)}"


def parse_plans(text: Excerpt, partition: Partition, target: Target) -> tuple[SizePlan, ...]:
    """Size plans, one a line, best first: the inverse of their ``str``.

    Raises:
        TextError: a line is not a plan for exactly the blocks of the partition, or a mesh does not fit the wafer.
    """
    plans: list[SizePlan] = []
    for line in read_lines(text, Line):
        line.expect("plan")
        shapes: dict[BlockName, MeshShape] = {}
        while line.peek()[0] != "end":
            name = BlockName(line.label("a block"))
            rows, columns, *more = line.size("rows x columns, as in 32x16")
            if more or name not in partition.templates or name in shapes:
                raise line.error(f"expected each of the blocks {', '.join(partition.templates)} once, with its size")
            if not 1 <= rows <= target.height or not 1 <= columns <= target.width:
                raise line.error(
                    f"block {name}: {rows} rows x {columns} columns; {target.name} has {target.height} x {target.width}"
                )
            shapes[name] = rows, columns
        if missing := [name for name in partition.templates if name not in shapes]:
            raise line.error(f"block {missing[0]} has no size")
        plans.append(SizePlan({name: shapes[name] for name in partition.templates}))
    if not plans:
        raise TextError("expected 'plan', found the end of the text", where=text.end)
    return tuple(plans)
