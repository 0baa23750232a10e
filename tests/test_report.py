"""Reports: what they say of a compiled program is true of that program, adds up, and is the same in every form."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import onnx
import pytest
from rich.console import Console

import wafercc
from wafercc.cli.main import main
from wafercc.ir.block import Block, Compute, Instance, Phase
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import Op, TensorType
from wafercc.ir.layout import Mesh, Tiled, parse_layout
from wafercc.models.tiny_llama import TinyLlama
from wafercc.program import Program
from wafercc.report import naming, summary, tables
from wafercc.report.limits import limits
from wafercc.report.work import busy_pes

LLAMA = TinyLlama(layers=3, hidden=32, heads=4, kv_heads=2, intermediate=48, vocabulary=64)
TOKENS = 8
pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small decoder, compiled for a mesh with dead cores."""
    folder = tmp_path_factory.mktemp("report")
    onnx.save(LLAMA.onnx(), str(folder / "tiny.onnx"))
    program = wafercc.compile(
        folder / "tiny.onnx", target="mesh:32x32", inputs_like=LLAMA.prompt(TOKENS), defect_rate=0.004
    )
    program.save(folder / "tiny.wafer")
    return folder / "tiny.wafer"


@pytest.fixture(scope="module")
def program(path: Path) -> Program:
    return wafercc.load(path)


@pytest.fixture(scope="module")
def facts(program: Program) -> dict[str, object]:
    return summary.as_dict(program, critical_path=True)


def text_of(program: Program, critical_path: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False, emoji=False, markup=False)
    tables.render(program, console, critical_path)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_is_json_and_names_its_version(facts: dict) -> None:
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["schema"] == 1


def test_pes_and_defects_are_those_of_the_program(program: Program, facts: dict) -> None:
    placed = program.placed
    dead = {tuple(row) for kind in ("dead_cores", "dead_routers") for row in placed.defects[kind]}
    assert dead
    assert facts["pes"]["live"] == 32 * 32 - len(dead)
    assert (
        facts["pes"]["used"]
        == sum(r.rows * r.columns for r in placed.regions)
        == sum(r["pes"] for r in facts["regions"])
    )
    assert facts["defects"]["dead_cores"] == len(placed.defects["dead_cores"])


def test_every_multiply_accumulate_of_the_model_is_counted_once(facts: dict) -> None:
    m, kv = LLAMA, LLAMA.kv_heads * LLAMA.head_size
    matrices = (
        m.layers * (2 * m.hidden**2 + 2 * m.hidden * kv + 3 * m.hidden * m.intermediate) + m.hidden * m.vocabulary
    )
    scores = m.layers * 2 * m.heads * TOKENS * m.head_size  # queries with keys, shares with values
    ops = facts["spread"]["ops"]
    rotary = sum(op["macs"] * op["times"] for op in ops if "rotary" in op["op"])  # a copy of the angles in every layer
    assert facts["spread"]["macs"] - rotary == TOKENS * (matrices + scores)
    wide = sum(op["macs"] * op["times"] for op in ops if op["pes"] >= 16)
    assert facts["spread"]["share_on_wide_ops"] == wide / facts["spread"]["macs"]


def test_weights_count_once_and_with_their_replicas(facts: dict) -> None:
    matrices = sum(
        onnx.numpy_helper.to_array(t).nbytes for t in LLAMA.onnx().graph.initializer if t.name.endswith("weight")
    )
    weights = facts["weights"]
    assert matrices <= weights["bytes"] <= matrices + 1024  # and the literals that stay resident
    assert weights["bytes_on_pes"] >= weights["bytes"]
    assert weights["bytes_on_pes"] == sum(r["sram_bytes"]["weights"] * r["pes"] for r in facts["regions"])


def test_streams_have_the_words_of_their_values(facts: dict) -> None:
    rows = {row["value"]: row for row in facts["streams"]}
    assert rows["logits"]["words"] == TOKENS * LLAMA.vocabulary and rows["logits"]["destination"] == "host"
    assert rows["input_ids"]["words"] == 2 * TOKENS and rows["input_ids"]["source"] == "host"  # 64 bits each
    assert all(row["ports"] for row in rows.values() if "host" in (row["source"], row["destination"]))


def test_cycles_are_those_of_a_run_with_values(program: Program, facts: dict) -> None:
    assert facts["timing"]["cycles"] == program.run(LLAMA.prompt(TOKENS)).cycles
    assert not facts["timing"]["values_executed"]


def test_the_critical_path_is_gapless_and_sums_to_the_cycles(facts: dict) -> None:
    rows = facts["timing"]["critical_path"]
    assert [row["start_cycle"] for row in rows] == [0, *(row["end_cycle"] for row in rows[:-1])]
    assert sum(row["cycles"] for row in rows) == facts["timing"]["cycles"]
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_cycles_by_kind_and_by_op_are_two_views_of_the_same_steps(facts: dict) -> None:
    def total(rows: list[dict]) -> int:
        return sum(row["busy_cycles"] + row["collective_cycles"] for row in rows)

    timing = facts["timing"]
    assert total(timing["by_kind"].values()) == total(timing["by_op"])
    assert total(timing["by_op"]) == sum(region["step_cycles"] for region in timing["regions"].values())


def test_gathers_are_all_the_gathers_of_all_instances(program: Program, facts: dict) -> None:
    assert facts["gathers"]["count"] == len(program.run({}, timing_only=True).report.gathers)


def test_a_program_that_cannot_be_timed_says_why(program: Program) -> None:
    placed = program.placed
    broken = Program(dataclasses.replace(placed, order=placed.order[1:]))
    timing = summary.as_dict(broken)["timing"]
    assert timing["cycles"] is None and "wafercc verify" in timing["error"]
    assert timing["error"] in text_of(broken)
    assert "no critical path" in text_of(broken, critical_path=True)
    assert summary.as_dict(placed)["timing"] is None


def test_regions_are_called_by_what_they_hold(facts: dict) -> None:
    assert [row["title"] for row in facts["regions"]] == ["embedding", "layer 0", "layer 1", "layer 2", "head"]


def test_layers_without_names_are_counted_and_merged_ones_listed(program: Program) -> None:
    placed = program.placed
    nameless = {
        k: dataclasses.replace(w, origin=f"onnx::MatMul_{i}") for i, (k, w) in enumerate(placed.weights.items())
    }
    instances = tuple(
        dataclasses.replace(i, weights={local: str(n) for n, local in enumerate(i.weights)}) for i in placed.instances
    )
    weights = {str(n): w for n, w in enumerate(nameless.values())}
    titles = naming.region_titles(dataclasses.replace(placed, instances=instances, weights=weights))
    assert [*titles.values()][1:4] == ["layer 0", "layer 1", "layer 2"]
    one: tuple[Instance, ...] = tuple(
        dataclasses.replace(i, region=placed.regions[1].id) for i in placed.instances[1:4]
    )
    merged = dataclasses.replace(placed, instances=one, regions=placed.regions[1:2])
    assert [*naming.region_titles(merged).values()] == ["layer 0, layer 1, layer 2"]


def test_the_tables_show_the_numbers_of_the_summary(program: Program, facts: dict) -> None:
    text = text_of(program)
    for row in facts["regions"]:
        assert f"{row['rows']} × {row['columns']}" in text and row["title"] in text
    assert f"{facts['timing']['cycles']:,} simulated" in text
    assert f"{facts['pes']['used']:,} used of {facts['pes']['live']:,} alive" in text
    for sentence in limits(facts):
        assert f"- {sentence}" in text.replace("\n  ", " ")


def test_what_limits_a_program_is_said_only_where_it_does(facts: dict) -> None:
    calm = {**facts, "colours": {**facts["colours"], "most_on_one_router": 3, "usable": 21}}
    crowded = {**facts, "colours": {**facts["colours"], "most_on_one_router": 20, "usable": 21}}
    assert not any("colours are used" in sentence for sentence in limits(calm))
    assert any("20 of 21 colours are used" in sentence for sentence in limits(crowded))


def step_on(mesh: Mesh, **values: tuple[str, tuple[int, ...]]) -> tuple[Compute, Block]:
    tiled = {k: Tiled(TensorType(DType.F32, shape), parse_layout(layout)) for k, (layout, shape) in values.items()}
    step = Compute("s0", Op("mm", "matmul", ("a", "b"), ("c",)), Phase.LOCAL, ("a", "b"), ("c",))
    return step, Block("b0", mesh, tiled, ("b",), ("a",), ("c",), (step,))


def test_pes_that_repeat_work_or_have_none_do_not_count() -> None:
    mesh = Mesh.of([4], [32])
    a, b = ("(-,y0)", (3, 5)), ("(y0,x0)", (5, 20))
    # 5 elements of k over 4 rows: two each, so 3 rows; 20 columns of 32
    assert busy_pes(*step_on(mesh, a=a, b=b, c=("(-,x0) sum:y0", (3, 20))), 0) == 3 * 20
    # heads of 8 elements are never cut: 32 elements are 4 granules
    assert busy_pes(*step_on(mesh, a=("(-,-)", (3, 5)), b=("(-,x0/8)", (5, 32)), c=("(-,x0/8)", (3, 32))), 0) == 4
    # rows that only hold replicas do the same work twice
    assert busy_pes(*step_on(mesh, a=("(-,-)", (3, 5)), b=("(-,x0~)", (5, 32)), c=("(-,x0~)", (3, 32))), 0) == 32


def test_show_prints_the_same_as_json(path: Path, facts: dict, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(path), "--json", "--critical-path"]) == 0
    assert json.loads(capsys.readouterr().out) == facts
    assert main(["show", str(path), "--critical-path"]) == 0
    out = capsys.readouterr().out
    assert f"sum of {len(facts['timing']['critical_path'])} segments: {facts['timing']['cycles']:,} cycles" in out
