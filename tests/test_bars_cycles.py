"""Cycles behave as those of a machine: nothing slower makes a compiled program faster, a delay counts exactly as far as
it exceeds the slack, the critical path is the cycles, and fewer lanes cost what they carry."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from importer_models import recorded
from tiny_models import CASES, error_of, program_of

from wafercc.ir.block import Compute
from wafercc.runtime import Segment

pytestmark = pytest.mark.pipeline
NAME, CASE = "llama-dyn18past", "decode1"
PROMPT = "llama-dyn23", "prefill_b1s7"

# Constants of which more is slower, and those of which less is.
LATENCIES = ("router.hop_cycles", "router.ramp_cycles", "pe.task_cycles", "pe.special_cycles")
RATES = (
    "router.words_per_cycle",
    "io.port_words_per_cycle",
    "pe.macs_per_cycle.f32",
    "pe.simple_per_cycle.f32",
)


def constant(key: str) -> float:
    value = program_of(NAME, CASE, True).placed.target
    for part in key.split("."):
        value = value[part]
    return value  # type: ignore[return-value]


def slower(key: str, factor: float) -> float:
    return round(constant(key) * factor) if key in LATENCIES else constant(key) / factor


def cycles(constants: Mapping[str, float] | None = None, **observation: object) -> int:
    program = program_of(NAME, CASE, True)
    return int(program.run({}, timing_only=True, constants=constants or {}, **observation).cycles)


@pytest.mark.parametrize("key", [*LATENCIES, *RATES])
def test_one_constant_slower_and_slower_never_makes_a_program_faster(key: str) -> None:
    found = [cycles({key: slower(key, factor)}) for factor in (1, 2, 3, 8)]
    assert found[0] == cycles()
    assert all(a <= b for a, b in pairwise(found)), found
    assert found[0] < found[-1]


@settings(max_examples=20, deadline=None)
@given(
    first=st.dictionaries(st.sampled_from(LATENCIES + RATES), st.sampled_from([1, 2, 4, 8]), max_size=4),
    more=st.dictionaries(st.sampled_from(LATENCIES + RATES), st.sampled_from([2, 4, 8]), min_size=1, max_size=4),
)
def test_constants_slower_together_never_make_a_program_faster(first: dict[str, int], more: dict[str, int]) -> None:
    both = {key: first.get(key, 1) * more.get(key, 1) for key in first | more}
    now, then = ({key: slower(key, factor) for key, factor in which.items()} for which in (first, both))
    assert cycles(now) <= cycles(then)


def critical_path(name: str, case: str) -> tuple[int, tuple[Segment, ...]]:
    done = program_of(name, case, True).run({}, timing_only=True, trace=True)
    return done.cycles, done.report.critical_path()


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_critical_path_has_no_gap_and_sums_to_the_cycles(name: str, case: str) -> None:
    total, segments = critical_path(name, case)
    assert sum(segment.cycles for segment in segments) == total
    assert segments[0].start_cycle == 0 and segments[-1].end_cycle == total
    assert all(a.end_cycle == b.start_cycle for a, b in pairwise(segments))
    assert all(segment.cycles > 0 and segment.name for segment in segments)


@pytest.mark.parametrize("d", [1, 100])
def test_a_delay_on_the_critical_path_moves_the_end_by_exactly_that(d: int) -> None:
    total, segments = critical_path(NAME, CASE)
    steps = [s for s in segments if s.kind == "compute" and s.pe is not None]
    for segment in steps[:: max(1, len(steps) // 5)]:
        assert segment.pe is not None
        delays = {(segment.region, *segment.pe, segment.step): d}
        assert cycles(delays=delays) == total + d, segment


def test_a_delay_within_the_slack_of_a_pe_moves_nothing_and_beyond_it_only_what_exceeds_it() -> None:
    total, much = cycles(), 50_000
    placed = program_of(NAME, CASE, True).placed
    block = placed.blocks[placed.instances[1].block]
    step = next(s for s in block.steps if isinstance(s, Compute) and s.op.kind == "matmul")
    slacks = []
    for pe in ((0, 0), (1, 2), (3, 5), (2, 11), (8, 4), (5, 0)):
        key = (placed.instances[1].region, *pe, step.id)
        moved = cycles(delays={key: much}) - total
        if not moved:  # a PE that holds nothing of this step cannot be slow at it
            continue
        slack = much - moved
        assert slack >= 0
        assert [cycles(delays={key: slack + more}) for more in (0, 1, 77)] == [total, total + 1, total + 77]
        slacks.append(slack)
    assert len(slacks) > 2 and max(slacks) > 0, slacks


def test_half_the_lanes_of_a_stream_cost_cycles() -> None:
    """A prompt's hidden states between two layers are bound by bandwidth: twice the lanes, about half the cycles."""
    programs = [program_of(*PROMPT, max_lanes=lanes) for lanes in (8, 4, 2)]
    ends, streams = [], []
    for program in programs:
        done = program.run({}, timing_only=True)
        wide = max((s for s in program.placed.streams if s.source and s.destination), key=lambda s: len(s.lanes))
        use = next(u for u in done.report.streams if u.stream == wide.id)
        ends.append(done.cycles)
        streams.append(use.end_cycle - use.start_cycle)
        assert len(wide.lanes) == (8, 4, 2)[len(ends) - 1]
    assert ends == sorted(ends) and len(set(ends)) == 3
    assert all(1.5 * a < b for a, b in pairwise(streams)), streams


def test_lanes_change_no_value() -> None:
    inputs = recorded(PROMPT[0])[PROMPT[1]][0]
    assert error_of(program_of(*PROMPT, max_lanes=2).run(inputs).outputs, *PROMPT) < 1e-5
