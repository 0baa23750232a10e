"""Schedule: who is served first on each PE and link, and what lies in SRAM when.

Text, one line each, which `parse_schedule` reads back: the tasks in their order, then the plan of every region.

    transfer "input_ids to r0"
    run i0
    sram r0 weights 12288 caches 0 activations 2048 of 47104
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .block import InstanceId, RegionId
from .lines import Excerpt, Line, read_lines, word_text
from .program import Execute, SramPlan, StreamId, Task, Transfer


@dataclass(frozen=True)
class Schedule:
    """``order``: all tasks in the order in which every PE and link serves them. ``sram``: each region's plan."""

    order: tuple[Task, ...]
    sram: Mapping[RegionId, SramPlan]

    def __str__(self) -> str:
        lines = [_task(task) for task in self.order]
        lines += [
            f"sram {word_text(region)} weights {plan.weights_bytes} caches {plan.state_bytes} "
            f"activations {plan.peak_activation_bytes} of {plan.bound_bytes}"
            for region, plan in self.sram.items()
        ]
        return "\n".join(lines) + "\n"


def _task(task: Task) -> str:
    match task:
        case Transfer():
            return f"transfer {word_text(task.stream)}"
        case Execute():
            return f"run {word_text(task.instance)}"


def parse_schedule(text: str | Excerpt) -> Schedule:
    """The inverse of ``str(Schedule)``.

    Raises:
        TextError: a line is not of a schedule, or says again what another has said.
    """
    order: dict[Task, None] = {}
    sram: dict[RegionId, SramPlan] = {}
    for line in read_lines(text, Line):
        if line.accept("sram"):
            region = RegionId(line.label("a region"))
            if region in sram:
                raise line.error(f"region {region} has a plan already")
            numbers = []
            for word in ("weights", "caches", "activations", "of"):
                line.expect(word)
                numbers.append(line.number("a number of bytes"))
            sram[region] = SramPlan(*numbers)
        else:
            task = _parse_task(line)
            if task in order:
                raise line.error(f"the task {_task(task)} stands here for the second time")
            order[task] = None
        line.end()
    return Schedule(tuple(order), sram)


def _parse_task(line: Line) -> Task:
    if line.accept("transfer"):
        return Transfer(StreamId(line.label("a stream")))
    if not line.accept("run"):
        line.fail("transfer, run or sram")
    return Execute(InstanceId(line.label("an instance")))
