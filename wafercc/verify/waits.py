"""Waits: who of a program's tasks waits for whom, and the circle among them if there is one.

A task waits for the one before it on the same PEs; a transfer also for the instance that writes its value and for
what goes before it on the same net or edge port; an instance for the transfers that bring its inputs. In a gather
without a buffer the PEs take the multicast only once they have sent their part, and the root takes parts only as it
hands them on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..ir.block import AllGather, RegionId
from ..ir.program import EdgePort, Execute, PlacedProgram, Stream, Task, Transfer
from .collectives import phases


@dataclass(frozen=True, slots=True)
class Wait:
    """``later`` waits for ``earlier``; tasks by their index in the order; ``reason`` follows «waits for ...»."""

    later: int
    earlier: int
    reason: str


def task_name(program: PlacedProgram, task: Task) -> str:
    """How messages call a task."""
    if isinstance(task, Execute):
        return f"instance {task.instance}"
    return f"stream {task.stream} ({program.stream[task.stream].value})"


def task_waits(program: PlacedProgram) -> Iterator[Wait]:
    """All waits between tasks, those that follow from others left out."""
    index = {task: i for i, task in enumerate(program.order)}
    last_on: dict[RegionId, int] = {}
    last_by: dict[object, int] = {}
    for i, task in enumerate(program.order):
        for region in _regions(program, task):
            if region in last_on:
                yield Wait(i, last_on[region], f"it comes after it on the PEs of region {region}")
            last_on[region] = i
        if isinstance(task, Transfer):
            for resource, name in _shared(program.stream[task.stream]):
                if last_by.get(resource, i) != i:
                    yield Wait(i, last_by[resource], f"it follows it {name}")
                last_by[resource] = i
    for stream in program.streams:
        here = index.get(Transfer(stream.id))
        for end, earlier in ((stream.source, True), (stream.destination, False)):
            there = None if end is None else index.get(Execute(end[0]))
            if here is not None and there is not None:
                pair = (here, there) if earlier else (there, here)
                verb = "which writes its value" if earlier else "which brings its input"
                yield Wait(*pair, verb)


def _regions(program: PlacedProgram, task: Task) -> Iterator[RegionId]:
    """The regions whose PEs take part in a task."""
    if isinstance(task, Execute):
        yield program.instance[task.instance].region
        return
    stream = program.stream[task.stream]
    ends = (end for end in (stream.source, stream.destination) if end is not None)
    yield from dict.fromkeys(program.instance[end[0]].region for end in ends)


def _shared(stream: Stream) -> Iterator[tuple[object, str]]:
    """What a stream may find in use by another: its nets and its edge ports."""
    for lane in stream.lanes:
        yield lane.net, "on the same net"
        for end in (lane.source, lane.destination):
            if isinstance(end, EdgePort):
                yield end, f"at edge port ({end.x}, {end.y})"


def circle(program: PlacedProgram) -> str:
    """The circle of waiting in words, or nothing if there is none."""
    import networkx as nx  # only wrong programs need it, and it takes longer to import than most take to verify

    graph: nx.DiGraph[str] = nx.DiGraph()
    for wait in task_waits(program):
        ends = (task_name(program, program.order[i]) for i in (wait.later, wait.earlier))
        graph.add_edge(*ends, reason=wait.reason)
    for block in program.blocks.values():
        for step in block.steps:
            if isinstance(step, AllGather) and len(phases(block, step)) > 1:
                parts = f"the collection of step {step.id} of block {block.name}", f"the multicast of step {step.id}"
                graph.add_edge(*parts, reason="its root has no buffer and hands on word by word")
                graph.add_edge(*parts[::-1], reason="PEs take it only once they have sent their part")
    try:
        edges = nx.find_cycle(graph)
    except nx.NetworkXNoCycle:
        return ""
    words = [f"{a} waits for {b} ({graph.edges[a, b]['reason']})" for a, b in edges]
    return "; ".join(words)
