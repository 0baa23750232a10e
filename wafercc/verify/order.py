"""Rule 6: the service order respects data dependence, and serves every task once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..ir.program import Execute, PlacedProgram, Transfer
from .machine import Machine
from .violation import Violation

RULE = 6


def check_order(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Each instance after the transfers that feed it, each transfer after the instance that produces its value."""
    served = Counter(program.order)
    for instance in program.instances:
        if served[Execute(instance.id)] != 1:
            yield Violation(RULE, f"instance {instance.id}", f"runs {served[Execute(instance.id)]} times, not once")
    for stream in program.streams:
        if served[Transfer(stream.id)] != 1:
            times = served[Transfer(stream.id)]
            yield Violation(RULE, f"stream {stream.id} ({stream.value})", f"is served {times} times, not once")
    last = {task: i for i, task in enumerate(program.order)}
    for stream in program.streams:
        place = last.get(Transfer(stream.id))
        where = f"stream {stream.id} ({stream.value})"
        if place is None:
            continue
        if stream.source is not None and last.get(Execute(stream.source[0]), -1) > place:
            yield Violation(RULE, where, f"is served before instance {stream.source[0]} has produced its value")
        if stream.destination is not None and last.get(Execute(stream.destination[0]), place) < place:
            yield Violation(RULE, where, f"is served after instance {stream.destination[0]}, which reads its value")
