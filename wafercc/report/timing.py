"""Timing: what a timing-only run of a program says, as plain JSON.

Without inputs the runtime takes the cache as full, so cycles are those of the last token that fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import WaferError
from ..ir.block import RegionId
from ..ir.program import PlacedProgram
from .path import bottlenecks, path

EVENTS_PER_STEP = 8
TRACED_EVENTS = 20_000_000  # about 24 bytes each


def timing(run: Callable[..., Any], program: PlacedProgram, critical_path: bool = False) -> dict[str, Any]:
    """Cycles by op and region. A program that the runtime refuses has no cycles but the ``error``.

    The path is traced for its bottlenecks as well, if ``critical_path`` is not asked for, as long as that is cheap.
    """
    try:
        traced = critical_path or events(program) <= TRACED_EVENTS
        plain = report_dict(run({}, timing_only=True, trace=traced).report, program)
    except WaferError as problem:
        return {"cycles": None, "error": str(problem)}
    if not critical_path:
        plain.pop("critical_path", None)
    return plain


def events(program: PlacedProgram) -> int:
    """About how many events a traced run remembers: some for each step on each PE."""
    mesh = {name: len(block.steps) * block.mesh.pes for name, block in program.blocks.items()}
    return EVENTS_PER_STEP * sum(mesh[i.block] for i in program.instances)


def report_dict(report: Any, program: PlacedProgram) -> dict[str, Any]:
    """A runtime report as JSON; ops of all instances added up, those with most cycles first."""
    plain: dict[str, Any] = {
        "cycles": report.cycles,
        "seconds": report.cycles / (program.target["clock_ghz"] * 1e9),
        "clock_ghz": program.target["clock_ghz"],
        "n_past": report.n_past,
        "values_executed": report.values_executed,
        "state_io_cycles": report.state_io_cycles,
        "by_kind": by_kind(report),
        "by_op": by_op(report),
        "regions": region_cycles(report, program),
        "modelled": list(report.timed),
        "ignored": list(report.ignored),
    }
    if report.segments is not None:
        plain["critical_path"] = path(report, program)
        plain["bottlenecks"] = bottlenecks(plain["critical_path"], program)
    return plain


def by_kind(report: Any) -> dict[str, dict[str, int]]:
    """Cycles of the slowest PE and of collectives, over all steps of a kind, most first."""
    kinds: dict[str, dict[str, int]] = {}
    for op in report.ops:
        row = kinds.setdefault(op.kind, {"steps": 0, "busy_cycles": 0, "collective_cycles": 0})
        row["steps"] += 1
        row["busy_cycles"] += op.busy_cycles
        row["collective_cycles"] += op.collective_cycles
    return dict(sorted(kinds.items(), key=lambda item: -(item[1]["busy_cycles"] + item[1]["collective_cycles"])))


def by_op(report: Any) -> list[dict[str, Any]]:
    """The same by op of the block, over all its instances."""
    ops = [
        {
            "op": op.op,
            "kind": op.kind,
            "busy_cycles": op.busy_cycles,
            "collective_cycles": op.collective_cycles,
            "wait_cycles": op.wait_cycles,
        }
        for op in report.by_op().values()
    ]
    return sorted(ops, key=lambda op: -(op["busy_cycles"] + op["collective_cycles"]))


def region_cycles(report: Any, program: PlacedProgram) -> dict[str, dict[str, Any]]:
    """Each region's cycles (steps of its instances at their slowest PE), busiest PE, and SRAM held against the plan."""
    steps: dict[RegionId, int] = {}
    for name, cycles in report.by_instance().items():
        region = program.instance[name].region
        steps[region] = steps.get(region, 0) + cycles
    return {
        use.region: {
            "step_cycles": steps.get(use.region, 0),
            "busiest_pe_cycles": use.busiest_cycles,
            "mean_pe_cycles": use.mean_busy_cycles,
            "sram_bytes": use.sram_bytes,
            "planned_bytes": use.planned_bytes,
        }
        for use in report.regions
    }

