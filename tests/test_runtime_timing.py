"""Cycles: numbers worked out on paper, published formulas, monotony, delays and the critical path."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placed_programs import all_gather, all_reduce, block, compute, numbers, one_block, op, region, tiled
from test_runtime_values import two_regions

from wafercc.ir.block import Phase, ReduceAlgorithm
from wafercc.ir.layout import AxisName, Mesh
from wafercc.ir.loops import Combine
from wafercc.ir.program import PlacedProgram
from wafercc.runtime import run
from wafercc.runtime.clock import message
from wafercc.runtime.fabric import Collectives, Links, Message
from wafercc.runtime.geometry import Geometry, Grid, Lines
from wafercc.runtime.machine import Machine
from wafercc.runtime.tape import Label, Tape
from wafercc.targets import load

LABEL = Label("collective", "test")


def fabric(count: int, gap: int = 0) -> tuple[Collectives, Lines, Tape]:
    """One line of PEs on an idle fabric."""
    mesh = Mesh.of([1], [count])
    where = region("r", mesh, x=0, gap=gap)
    tape = Tape(False)
    grid = Grid(count * (gap + 1), 1, 1)
    lines = Geometry(where, grid).lines((AxisName("x0"),), mesh)
    return Collectives(Machine(load("mesh:16x16")), Links(grid, tape), tape), lines, tape


def reduce_cycles(
    count: int, words: int, algorithm: ReduceAlgorithm, root: int, group: int = 0, gap: int = 0
) -> list[int]:
    """When each PE has the result of an all-reduce that all start at zero."""
    collectives, lines, tape = fabric(count, gap)
    sent = Message(np.array([words]), 1, np.array([words]))
    done, _ = collectives.all_reduce(tape.zeros((count, 1)), lines, sent, (algorithm, root, group), LABEL)
    return done.cycle[:, 0].tolist()


def test_a_chain_of_three_pes_as_on_paper() -> None:
    # PE 2 sends at 0; ramp, hop, ramp: 5; PE 1 adds: 6; PE 0 has it at 11, adds, and 4 words later it is 16.
    # The multicast leaves at 16, enters the fabric at 18, passes PE 1 at 19 and PE 2 at 20; then 4 words, the ramp.
    assert reduce_cycles(3, 4, ReduceAlgorithm.CHAIN, 0) == [16, 25, 26]


def test_a_root_in_the_middle_takes_one_side_after_the_other() -> None:
    # Both ends arrive at 5. Words of the left: 6 to 10; then those of the right: 11 to 15.
    assert reduce_cycles(3, 4, ReduceAlgorithm.CHAIN, 1) == [24, 15, 24]


def test_the_exponentials_of_a_softmax_overlap_along_its_chain() -> None:
    # One row: maximum, sum, one weighted value. PE 2 sends them at 0, 1, 2. PE 1 has the maximum at 5, passes it on
    # at 6, has its exponential at 22, so sum and value leave at 23, 24. PE 0: 12, exponential 28, sum 29, value 30.
    mesh = Mesh.of([1], [3])
    names = {n: tiled("(-) softmax:x0", 1) for n in ("m", "l", "o")}
    step = all_reduce(["m", "l", "o"], ["M", "L", "O"], "x0", Combine.SOFTMAX)
    collectives, lines, tape = fabric(3)
    sent, words = message(step, block(mesh, names, [step]), collectives.machine, 0, 1)
    assert words.tolist() == [[3, 3, 3]]
    per_line = Message(lines.gather(sent.words)[0], sent.first, lines.gather(sent.all)[0])
    how = (ReduceAlgorithm.CHAIN, 0, 0)
    done, _ = collectives.all_reduce(tape.zeros((3, 1)), lines, per_line, how, LABEL)
    assert done.cycle[0, 0] == 31


def test_gaps_of_dead_cores_cost_their_hops() -> None:
    assert reduce_cycles(3, 4, ReduceAlgorithm.CHAIN, 0, gap=2) == [16 + 4, 25 + 6, 26 + 8]


@pytest.mark.parametrize(("count", "words"), [(512, 4096), (17, 1), (64, 300)])
def test_chain_reduce_agrees_with_its_published_formula(count: int, words: int) -> None:
    assert reduce_cycles(count, words, ReduceAlgorithm.CHAIN, 0)[0] == words + 6 * (count - 1)


def test_reduces_agree_with_the_fabric_simulator_within_one_percent() -> None:
    # Published for WSE-2 (idle cycles at the end subtracted): chain 7168; groups of 32: 8923; of 2: 10005.
    for measured, algorithm, group in (
        (7168, ReduceAlgorithm.CHAIN, 0),
        (8923, ReduceAlgorithm.TWO_PHASE, 32),
        (10005, ReduceAlgorithm.TWO_PHASE, 2),
    ):
        assert reduce_cycles(512, 4096, algorithm, 0, group)[0] == pytest.approx(measured, rel=0.01)


def test_a_broadcast_takes_its_words_its_distance_and_two_ramps() -> None:
    collectives, lines, tape = fabric(9)
    done = collectives.broadcast(tape.zeros((1,)), lines, 0, np.array([20]), LABEL)
    assert done.cycle[:, 0].tolist() == [0, *(20 + d + 4 for d in range(1, 9))]


def test_a_gather_passes_all_words_through_its_root() -> None:
    collectives, lines, tape = fabric(3)
    words = np.full((3, 1), 10)
    done, free = collectives.all_gather(tape.zeros((3, 1)), lines, words, 0, LABEL)
    # The root sends its own 10 words, then those of PE 1 and PE 2 as they come: 30; one cycle through, ramps, hops.
    assert done.cycle[:, 0].tolist() == [30, 30 + 1 + 4 + 1, 30 + 1 + 4 + 2]
    assert free.cycle[:, 0].tolist() == [10, 10, 10]


def summing(columns: int = 3, root: int = 0) -> PlacedProgram:
    """12 numbers cut over one row of PEs, summed."""
    mesh = Mesh.of([1], [columns])
    values = {"x": tiled("(x0)", 12), "part": tiled("(-) sum:x0", 1), "y": tiled("(-)", 1)}
    total = op("reduce_sum", 1, axes=(0,), keep=True)
    steps = [compute(total, ["x"], ["part"], Phase.LOCAL), all_reduce(["part"], ["y"], "x0", root=root)]
    return one_block(block(mesh, values, steps, "x", "y"), {})


def test_a_whole_program_on_three_pes_as_on_paper() -> None:
    # Port: 12 words, 0 to 12. One hop: 13. Ramp and 0, 1, 2 hops: the PEs have theirs at 15, 16, 17.
    # Local sum: 22 to start and 4 elements at 2 a cycle: 39, 40, 41. The chain reaches PE 1 at 46, PE 0 at 52, done 54.
    # Out: ramp 56, one word, one hop: 58.
    result = run(summing(), {"x": numbers(12)}, trace=True)
    assert result.cycles == 58
    path = result.report.critical_path()
    assert [(s.kind, s.start_cycle, s.end_cycle) for s in path if s.kind == "compute"] == [("compute", 17, 41)]


def layered() -> PlacedProgram:
    """Two matmuls with a reduce over rows, a gather, a softmax over columns: every kind of collective."""
    mesh = Mesh.of([3], [4])
    values = {
        "x": tiled("(-,y0)", 2, 11),
        "w": tiled("(y0,x0)", 11, 13),
        "p": tiled("(-,x0) sum:y0", 2, 13),
        "h": tiled("(-,x0)", 2, 13),
        "g": tiled("(-,-)", 2, 13),
        "v": tiled("(-,y0*x0)", 13, 17),
        "z": tiled("(-,y0*x0)", 2, 17),
        "e": tiled("(-,y0*x0)", 2, 17),
    }
    first, second = op("matmul", 2, name="first"), op("matmul", 2, name="second")
    steps = [
        compute(first, ["x", "w"], ["p"], Phase.LOCAL),
        all_reduce(["p"], ["h"], "y0", root=1),
        all_gather("h", "g", "x0", root=1),
        compute(second, ["g", "v"], ["z"]),
        compute(op("exp", 1), ["z"], ["e"]),
    ]
    body = block(mesh, values, steps, "x", "e", "w v")
    return one_block(body, {"w": numbers(11, 13), "v": numbers(13, 17)}, region("r", mesh, gap=1))


SLOWER = {
    "router.hop_cycles": st.integers(1, 9),
    "router.ramp_cycles": st.integers(2, 9),
    "router.words_per_cycle": st.floats(0.2, 1),
    "io.port_words_per_cycle": st.floats(0.2, 1),
    "pe.task_cycles": st.integers(22, 60),
    "pe.special_cycles": st.integers(16, 60),
    "pe.macs_per_cycle.f32": st.floats(0.1, 0.5),
    "pe.simple_per_cycle.f32": st.floats(0.1, 2),
}


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional=SLOWER), st.sampled_from(sorted(SLOWER)), st.integers(1, 5), st.booleans())
def test_a_slower_machine_is_never_faster(slow: dict[str, float], key: str, factor: int, layers: bool) -> None:
    given_program = layered() if layers else two_regions(3)[0]
    base = run(given_program, {}, timing_only=True).cycles
    once = run(given_program, {}, timing_only=True, constants=slow).cycles
    target = load("mesh:16x16").to_dict()
    here = slow.get(key) or _value(target, key)
    worse = here * factor if key.endswith("_cycles") else here / factor
    twice = run(given_program, {}, timing_only=True, constants={**slow, key: worse}).cycles
    assert base <= once <= twice


def _value(target: dict[str, object], key: str) -> float:
    node: object = target
    for part in key.split("."):
        assert isinstance(node, dict)
        node = node[part]
    assert isinstance(node, int | float)
    return node


@pytest.mark.parametrize("make", [summing, layered, lambda: two_regions(1)[0], lambda: two_regions(3)[0]])
def test_the_critical_path_sums_to_the_cycles(make: object) -> None:
    assert callable(make)
    given_program = make()
    traced = run(given_program, {}, timing_only=True, trace=True)
    assert traced.cycles == run(given_program, {}, timing_only=True).cycles
    path = traced.report.critical_path()
    assert path[0].start_cycle == 0 and path[-1].end_cycle == traced.cycles
    assert all(a.end_cycle == b.start_cycle for a, b in pairwise(path))
    assert sum(s.cycles for s in path) == traced.cycles


@pytest.mark.parametrize("d", [1, 7, 1000])
def test_delaying_a_pe_on_the_critical_path_moves_the_end_by_exactly_that(d: int) -> None:
    given_program = layered()
    traced = run(given_program, {}, timing_only=True, trace=True)
    computes = [s for s in traced.report.critical_path() if s.kind == "compute"]
    assert computes
    for segment in computes:
        assert segment.pe is not None
        delays = {(segment.region, *segment.pe, segment.step): d}
        assert run(given_program, {}, timing_only=True, delays=delays).cycles == traced.cycles + d


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 500))
def test_no_delay_moves_the_end_by_more_than_itself(data: st.DataObject, d: int) -> None:
    given_program = layered()
    steps = [s.id for s in given_program.blocks["block"].steps]
    key = ("r", data.draw(st.integers(0, 2)), data.draw(st.integers(0, 3)), data.draw(st.sampled_from([None, *steps])))
    base = run(given_program, {}, timing_only=True).cycles
    assert 0 <= run(given_program, {}, timing_only=True, delays={key: d}).cycles - base <= d


def test_delaying_a_pe_within_its_slack_moves_nothing() -> None:
    given_program = summing()
    base = run(given_program, {}, timing_only=True).cycles
    step = given_program.blocks["block"].steps[0].id
    # PE 0 is ready at 39 and waits for the chain until 52: 13 cycles of slack.
    assert run(given_program, {}, timing_only=True, delays={("r", 0, 0, step): 13}).cycles == base
    assert run(given_program, {}, timing_only=True, delays={("r", 0, 0, step): 14}).cycles == base + 1
    assert run(given_program, {}, timing_only=True, delays={("r", 0, 0, None): 13 + 15}).cycles == base


def test_a_traced_run_times_like_an_untraced_one_and_timing_only_like_both() -> None:
    given_program, inputs = two_regions(3)
    cycles = {run(given_program, inputs, trace=t, timing_only=o).cycles for t in (False, True) for o in (False, True)}
    assert len(cycles) == 1


def test_two_streams_through_one_port_are_served_in_order() -> None:
    mesh = Mesh.of([1], [2])
    values = {"x": tiled("(x0)", 12), "y": tiled("(x0)", 30), "z": tiled("(x0)", 12), "w": tiled("(x0)", 30)}
    steps = [compute(op("neg", 1, name=b), [a], [b]) for a, b in (("x", "z"), ("y", "w"))]
    report = run(one_block(block(mesh, values, steps, "x y", "z w"), {}), {}, timing_only=True).report
    # One hop from the port, the ramp, and one hop more to the second PE: 12 + 1 + 2 + 1; 30 words later the other.
    ends = {use.stream: use.end_cycle for use in report.streams}
    assert (ends["in.x"], ends["in.y"]) == (16, 46)


def test_sram_is_measured_from_the_arrays_held() -> None:
    report = run(layered(), {"x": numbers(2, 11)}).report
    (use,) = report.regions
    # w: 4x4, v: 13x2 elements of 4 bytes. Most is held while the gather turns h (2x4) into g (2x13).
    assert use.weights_bytes == 4 * (16 + 26)
    assert use.sram_bytes == use.weights_bytes + 4 * max(2 * 4 + 2 * 4, 2 * 4 + 2 * 13, 2 * 13 + 2 * 2)
    assert use.sram_bytes <= use.planned_bytes
