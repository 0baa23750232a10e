"""Verify: re-derive from a placed program alone that it may run on its wafer, sharing no code with the passes.

1. Each name refers to one thing. Each weight is bound, cut as its layout says, and covers every element once a
   replica. An op that works by choice has a guard by which each choice wakes the one part of the mesh that holds what
   is chosen. Each value is written before it is read; partial values go into reductions and nowhere else; a gather or
   narrow finds its elements.
2. Regions lie inside the wafer and apart, hold no dead core, keep embeddings within reach; logical neighbours are
   joined by live routers and links.
3. SRAM per PE, re-derived at every point of the service order, is within the bound and within the plan.
4. Each input of an instance and each output of the model arrives by exactly one stream, whose lanes share its elements
   out, start at PEs that hold them and reach all PEs that need them, over live links. Router configuration rebuilt from
   all nets equals the router table: no clash (nets that share a colour of a router are in order by data dependence),
   within colours and switch positions, nothing extra. Each collective step has its nets.
5. The certificate's ranks rise along everything that may have to wait, so no messages wait for each other in a circle;
   where they do, the circle is told.
6. The service order runs each task once, after what it depends on.
7. The embedded target and defect map belong together; their hashes are compared when a file is loaded.

`verify` collects all violations, with the names of op, region, PE and net. If rule 1 finds names that refer to nothing,
only those are reported: nothing else can be derived from such a program.
"""

from __future__ import annotations

from ..ir.program import PlacedProgram
from .collectives import check_collectives
from .embedded import check_embedded
from .guards import check_guards
from .machine import Machine
from .order import check_order
from .ranks import check_ranks
from .references import check_references
from .regions import check_regions
from .routers import check_routers
from .sram import check_sram
from .streams import check_deliveries, check_lanes
from .values import check_values, check_weights
from .violation import Rule, Violation

__all__ = ["RULES", "Violation", "dangling", "passed", "summary", "verify"]

RULES: tuple[Rule, ...] = (
    check_values,
    check_weights,
    check_guards,
    check_regions,
    check_sram,
    check_deliveries,
    check_lanes,
    check_collectives,
    check_routers,
    check_ranks,
    check_order,
    check_embedded,
)


def verify(program: PlacedProgram) -> tuple[Violation, ...]:
    """Every violation of every rule; empty if the program may run."""
    broken = dangling(program)
    if broken:
        return broken
    machine = Machine.of(program.target, program.defects)
    return tuple(violation for rule in RULES for violation in rule(program, machine))


def dangling(program: PlacedProgram) -> tuple[Violation, ...]:
    """What keeps everything else from being derived: an unreadable machine, names that refer to nothing."""
    try:
        Machine.of(program.target, program.defects)
    except (KeyError, TypeError, ValueError) as error:
        return (Violation(7, "target and defect map", f"cannot be read: {error!r}"),)
    return tuple(check_references(program))


def summary(program: PlacedProgram) -> str:
    """``ok:`` and what was checked, or the number of violations and each on a line."""
    violations = verify(program)
    if violations:
        count = len(violations)
        return "\n".join([f"{count} violation{'s' if count > 1 else ''}:", *map(str, violations)])
    return passed(program)


def passed(program: PlacedProgram) -> str:
    """``ok:`` and what was checked, of a program that `verify` found without violations."""
    counts = (
        (len(program.weights), "weights"),
        (len(program.blocks), "blocks"),
        (sum(len(block.steps) for block in program.blocks.values()), "steps"),
        (len(program.instances), "instances"),
        (len(program.regions), "regions"),
        (sum(region.xs.size for region in program.regions), "PEs"),
        (len(program.streams), "streams"),
        (sum(len(stream.lanes) for stream in program.streams), "lanes"),
        (len(program.collectives), "collective nets"),
        (len(program.routers.x), "router rows"),
        (len(program.order), "tasks"),
    )
    return "ok: rules 1-7 hold for " + ", ".join(f"{count} {what}" for count, what in counts)
