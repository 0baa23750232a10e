"""Steering: a pinned region lies exactly there, a forced strategy is taken; what cannot be is said with its lever."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tiny_models import largest_error, tiny_file, tiny_inputs

import wafercc
from wafercc import DefectMap, Program
from wafercc.errors import CompileError
from wafercc.importer import Binding, import_model
from wafercc.ir.layout import Mesh
from wafercc.ir.op_names import find_ops, own_ops
from wafercc.models.tiny_llama import TinyLlama
from wafercc.passes.base import run_rewrites
from wafercc.passes.layout import Search
from wafercc.passes.layout.strategy import Cut, Strategy, name_of, named
from wafercc.passes.machine import find_machine
from wafercc.passes.options import Options
from wafercc.passes.partition import MakePartition
from wafercc.passes.rewrite import STANDARD
from wafercc.passes.solve import search_block
from wafercc.passes.steer import steer

pytestmark = pytest.mark.pipeline
MESH = "mesh:16x16"
TWO = TinyLlama(layers=2, hidden=16, heads=2, kv_heads=1, intermediate=32, vocabulary=32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_file(tmp_path_factory.mktemp("steer"))


@pytest.fixture(scope="module")
def compiled(tiny: Path) -> Any:
    """Compile the tiny decoder with some options, each set of them once."""

    @cache
    def program(options: tuple[tuple[str, Any], ...]) -> Program:
        given = {k: dict(v) if k in ("pins", "strategies") else v for k, v in options}
        return wafercc.compile(tiny, target=MESH, inputs_like=tiny_inputs(), **given)

    def compile_once(**options: Any) -> Program:
        return program(tuple((k, tuple(v.items()) if isinstance(v, dict) else v) for k, v in options.items()))

    return compile_once


def rect_of(program: Program, region: str) -> tuple[int, ...]:
    rect = program.placed.region[region].rect
    return rect.x, rect.y, rect.w, rect.h


def strategies_of(program: Program) -> dict[str, str]:
    blocks = program.placed.decisions["blocks"]
    return {f"{b}:{op}": why["strategy"] for b, block in blocks.items() for op, why in block["ops"].items()}


def test_a_pinned_region_is_exactly_there_and_the_rest_goes_around_it(compiled: Any) -> None:
    free, pinned = compiled(stages=2), compiled(stages=2, pins={"r1": (9, 7, 6, 7)})
    assert rect_of(free, "r1") != (9, 7, 6, 7)
    assert rect_of(pinned, "r1") == (9, 7, 6, 7)
    pinned.verify()
    inputs = tiny_inputs()
    assert largest_error(pinned.run(inputs).outputs, free.run(inputs).outputs) < 1e-5


def test_a_pin_smaller_than_the_planned_mesh_bounds_the_mesh(compiled: Any) -> None:
    free, pinned = compiled(stages=2).placed, compiled(stages=2, pins={"r1": (1, 2, 2, 6)}).placed
    assert free.region["r1"].columns > 2 and free.region["r1"].rows > 6
    assert (pinned.region["r1"].columns, pinned.region["r1"].rows) == (2, 6)
    assert pinned.region["r0"].rows == 6 and pinned.region["r0"].columns > 2  # blocks share their rows only


def test_a_pin_with_dead_cores_takes_a_mesh_that_embeds_in_it(tiny: Path) -> None:
    defects = DefectMap.of(find_machine(Options(target=MESH)).target, cores=[(0, 5, 5)])
    pin = {"r0": (4, 4, 4, 4)}
    program = wafercc.compile(tiny, target=MESH, inputs_like=tiny_inputs(), stages=1, pins=pin, defects=defects)
    region = program.placed.region["r0"]
    assert rect_of(program, "r0") == (4, 4, 4, 4) and region.rows < 4
    assert not ((region.xs == 5) & (region.ys == 5)).any()
    program.verify()


def test_a_forced_strategy_is_taken_and_gives_the_same_values(compiled: Any) -> None:
    free = compiled(stages=1, region=(4, 4))
    (head,) = (key for key in strategies_of(free) if "lm_head" in key)
    wanted = "rows=k columns=n"
    assert strategies_of(free)[head] != wanted
    forced = compiled(stages=1, region=(4, 4), strategies={"*lm_head*": wanted})
    assert strategies_of(forced)[head] == wanted
    forced.verify()
    inputs = tiny_inputs()
    assert largest_error(forced.run(inputs).outputs, free.run(inputs).outputs) < 1e-5


def test_of_several_strategies_for_one_op_the_last_counts(compiled: Any) -> None:
    program = compiled(stages=1, region=(4, 4), strategies={"matmul": "rows=n columns=m", "*lm_head*": "rows=k"})
    found = {key: name for key, name in strategies_of(program).items() if "MatMul" in key and "mlp" in key}
    assert set(found.values()) == {"rows=n columns=m"}
    assert next(name for key, name in strategies_of(program).items() if "lm_head" in key) == "rows=k"


def partition_of(path: Path, **options: Any) -> tuple[Any, Any]:
    imported = import_model(path, Binding(inputs_like=tiny_inputs()))
    graph = run_rewrites(imported.graph, imported.weights, STANDARD).graph
    return MakePartition(options.get("stages"))(graph), find_machine(Options(target=MESH))


def test_a_strategy_for_the_op_of_any_layer_holds_for_the_block_that_layers_share(tmp_path: Path) -> None:
    partition, machine = partition_of(tiny_file(tmp_path, TWO))
    blocks = [stage.block for stage in partition.stages]
    (shared,) = (block for block in partition.templates if blocks.count(block) == 2)
    second = [op for op in partition.graph.ops if "layers.1/mlp" in op.id and op.kind == "matmul"]
    assert second and not find_ops(second[0].id, partition.templates[shared].ops)
    steering = steer(Options(strategies={second[0].id: "rows=k"}), partition, machine)
    ((op, name),) = steering.strategies[shared].items()
    assert name == "rows=k" and "layers.0/mlp" in op
    stage = [s for s in partition.stages if s.block == shared][1]
    outputs = {v: stage.bindings[v] for v in partition.templates[shared].outputs}
    assert own_ops(partition.templates[shared].ops, partition.graph, outputs)[op] == second[0]


def test_ops_go_by_id_node_kind_or_pattern_the_most_exact_first(tiny: Path) -> None:
    partition, _ = partition_of(tiny, stages=1)
    ops = partition.graph.ops
    one = next(op for op in ops if op.kind == "matmul" and "lm_head" in op.id)
    assert find_ops(one.id, ops) == [one]
    assert find_ops("matmul", ops) == [op for op in ops if op.kind == "matmul"]
    assert find_ops("*lm_head*", ops) == [op for op in ops if "lm_head" in op.id or "lm_head" in op.source]
    assert find_ops("lm_head", ops) == []


def test_the_name_of_a_strategy_tells_its_cuts_and_means_it() -> None:
    mesh = Mesh.of([4], [2, 8])

    def strategy(**cuts: Cut) -> Strategy:
        return Strategy(cuts, (), (), (), (), None, 1)  # type: ignore[arg-type]

    both = strategy(n=Cut(("x0", "x1"), 1, False), k=Cut(("y0",), 16, False))
    major = strategy(b=Cut(("x0",), 1, False), n=Cut(("x1",), 1, False))
    minor = strategy(n=Cut(("x1",), 1, False))
    names = [name_of(s, mesh) for s in (both, major, minor, strategy())]
    assert names == ["rows=k/16 columns=n", "columns=b*n", "columns=-*n", "whole"]
    assert named([both, major, minor], "columns=b*n", mesh) == [major]
    assert named([both, major, minor], "rows=k columns=n", mesh) == [both]  # any granule, if none is exactly that
    assert named([both, major, minor], "columns=n", mesh) == []


def test_what_the_next_best_would_cost_is_what_forcing_it_costs(tiny: Path) -> None:
    """The second pass over the tables gives, for every op, exactly what a search with that strategy forced finds."""
    partition, machine = partition_of(tiny, stages=1)
    (name,) = partition.templates
    mesh = [Mesh.of([2], [4])]
    search = Search(tries=8, early_tries=4, reasons=2)
    free = search_block(search, partition, name, mesh, machine.target)
    compared = 0
    for op, reason in [*free.reasons.items()][::3]:
        assert all(cycles >= free.cycles for _, cycles in reason.others)
        for other, cycles in reason.others[:1]:
            forced = Search(tries=8, early_tries=4, forced={op: other})
            found = search_block(forced, partition, name, mesh, machine.target)
            assert found.cycles == cycles, (op, other)
            compared += 1
    assert compared > 5


def test_a_forced_strategy_that_no_layout_leads_through_or_that_is_unknown_is_refused(tiny: Path) -> None:
    with pytest.raises(CompileError, match=r"no strategy 'rows=q'; there are, nearest first: rows=[nmk], .*whole"):
        wafercc.compile(tiny, target=MESH, inputs_like=tiny_inputs(), stages=1, strategies={"*lm_head*": "rows=q"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"meshes": {"b7": {"rows": 4, "columns": 4}}}, "mesh b7: no block or region 'b7'"),
        (
            {"meshes": {"b0": {"rows": 4, "columns": 4}, "b1": {"rows": [2, 4], "columns": 4}}},
            "mesh b1: b1 has 8 rows and b0 4; all blocks have the same",
        ),
        ({"layouts": {"b0:input_ids": "(-,-)"}}, "layout b0:input_ids: a layout is of a mesh, and that of b0 is not"),
        ({"layouts": {"input_ids": "(-,-)"}}, "layout input_ids: it is not BLOCK:VALUE"),
    ],
)
def test_decisions_that_contradict_what_there_is_are_refused(
    tiny: Path, options: dict[str, Any], message: str
) -> None:
    partition, machine = partition_of(tiny)
    with pytest.raises(CompileError) as caught:
        steer(Options(**options), partition, machine)
    assert message in str(caught.value)


def test_options_hold_that_a_pin_has_an_area() -> None:
    with pytest.raises(CompileError, match=r"option pins \(--pin\), region r0: 1,2,0,4 is no rectangle"):
        Options(pins={"r0": (1, 2, 0, 4)})
