"""Report: what one run was, in numbers. Plain data; other code prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError

EXECUTED = "every tile of every op on its PE; every reduction in the order of the fabric"
MODELLED = (
    "local kernels from the work on the elements each PE holds, at the machine's rates",
    "collectives as scans over true hop counts, word by word",
    "streams along their combs and paths; links and edge ports serve one transfer after another in program order",
)
IGNORED = (
    "transfers sharing a link do not interleave their words",
    "routers have room for whatever waits in them",
    "a transfer does not take compute cycles of the PEs it starts or ends at",
    "switching a colour between positions takes no time",
    "narrowing a tile to a part of itself is a change of view",
    "the wafer's total host bandwidth (each port has its own limit)",
)


@dataclass(frozen=True, slots=True)
class OpCycles:
    """One step of one instance: cycles of its slowest PE, of its collective after the last PE joined, and spent
    waiting.

    A collective belongs to the op whose result it combines. ``wait_cycles``: the longest that a PE stood idle between
    its previous step and this one. ``start_cycle``: the first PE's, ``end_cycle``: the last PE's. ``pes``: how many PEs
    a compute step has work for; of one that works by choice, those that a choice wakes.
    """

    instance: str
    op: str
    step: str
    kind: str
    busy_cycles: int = 0
    collective_cycles: int = 0
    wait_cycles: int = 0
    start_cycle: int = 0
    end_cycle: int = 0
    pes: int = 0


@dataclass(frozen=True, slots=True)
class InstanceCycles:
    """One layer in its region: its steps added up, each at its slowest PE.

    ``stream_cycles``: the longest that one of its inputs was on the way, from its last PE ready to its last word.
    """

    instance: str
    region: str
    busy_cycles: int
    collective_cycles: int
    stream_cycles: int
    wait_cycles: int
    start_cycle: int
    end_cycle: int


@dataclass(frozen=True, slots=True)
class RegionUse:
    """A region's PEs: busy cycles of the busiest and on average, and SRAM held at most against the plan, in bytes per
    PE."""

    region: str
    pes: int
    busiest_cycles: int
    mean_busy_cycles: float
    sram_bytes: int
    weights_bytes: int
    state_bytes: int
    planned_bytes: int
    bound_bytes: int


@dataclass(frozen=True, slots=True)
class StreamUse:
    """One stream: its words, when the last PE of its source was ready, and when its last word was there."""

    stream: str
    value: str
    words: int
    start_cycle: int
    end_cycle: int
    state: bool


@dataclass(frozen=True, slots=True)
class Gather:
    """One all-gather: what it replicates, and bytes on each PE afterwards."""

    instance: str
    value: str
    bytes_per_pe: int
    elements: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the critical path: what kept the end from coming earlier between two cycles.

    ``kind``: compute, collective, stream, port. ``pe`` is (row, column) in the region, where one is concerned.
    ``part``: what the time was spent on: work, hops, words, or wait; see `tape.Part`.
    """

    kind: str
    name: str
    region: str
    pe: tuple[int, int] | None
    start_cycle: int
    end_cycle: int
    step: str = ""
    part: str = ""

    @property
    def cycles(self) -> int:
        return self.end_cycle - self.start_cycle


@dataclass(frozen=True)
class Report:
    """What one run took. ``cycles`` runs from the first input word at an edge port to the last output word at one.

    ``state_io_cycles``: loading the caches and reading them back, which a stateless run does outside the timed part.
    ``values_executed`` is false for a run that was only timed.
    """

    cycles: int
    n_past: int
    state_io_cycles: int
    values_executed: bool
    ops: tuple[OpCycles, ...]
    instances: tuple[InstanceCycles, ...]
    regions: tuple[RegionUse, ...]
    streams: tuple[StreamUse, ...]
    gathers: tuple[Gather, ...]
    segments: tuple[Segment, ...] | None = None
    executed: str = EXECUTED
    timed: tuple[str, ...] = MODELLED
    ignored: tuple[str, ...] = IGNORED

    def critical_path(self) -> tuple[Segment, ...]:
        """The chain of events behind the last cycle; its segments follow one another and sum to ``cycles``.

        Raises:
            RunError: the run did not record it.
        """
        if self.segments is None:
            raise RunError("the critical path was not recorded", where="report", hint="run with trace=True")
        return self.segments

    def by_instance(self) -> Mapping[str, int]:
        """Busy plus collective cycles of all steps of each instance, each at its slowest PE."""
        totals: dict[str, int] = {}
        for op in self.ops:
            totals[op.instance] = totals.get(op.instance, 0) + op.busy_cycles + op.collective_cycles
        return totals

    def by_op(self) -> Mapping[str, OpCycles]:
        """The steps of each op added up over its phases and all instances."""
        totals: dict[str, OpCycles] = {}
        for op in self.ops:
            old = totals.get(op.op, OpCycles("", op.op, "", op.kind))
            totals[op.op] = OpCycles(
                "",
                op.op,
                "",
                old.kind,
                old.busy_cycles + op.busy_cycles,
                old.collective_cycles + op.collective_cycles,
                old.wait_cycles + op.wait_cycles,
                min(old.start_cycle, op.start_cycle) if op.op in totals else op.start_cycle,
                max(old.end_cycle, op.end_cycle),
            )
        return totals


@dataclass(frozen=True)
class Result:
    """What a run gives: outputs by name (empty if only timed), cycles, and the report."""

    outputs: Mapping[str, NDArray[np.generic]]
    cycles: int
    report: Report = field(repr=False)
