"""Work is really spread out: many regions and PEs, wide ops, nothing gathered to one PE; and any cut of the same model,
into stages or over another region, gives the same outputs in other cycles."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from importer_models import recorded
from tiny_models import (
    CASES,
    TARGET,
    TOLERANCE,
    error_of,
    from_onnxruntime,
    largest_error,
    program_of,
    tiny_file,
    tiny_inputs,
)

import wafercc
from wafercc import Program
from wafercc.cli.main import main
from wafercc.report import summary
from wafercc.report.work import gathers, spread

pytestmark = pytest.mark.pipeline
MOST_GATHERED = 1024  # elements


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_default_program_uses_three_regions_and_a_quarter_of_the_pes(name: str, case: str) -> None:
    facts = summary.as_dict(program_of(name, case).placed)
    assert len(facts["regions"]) >= 3
    assert facts["pes"]["used"] >= facts["pes"]["total"] / 4


@pytest.mark.parametrize(("name", "case"), CASES)
def test_nearly_all_macs_run_on_ops_spread_over_16_pes(name: str, case: str) -> None:
    work = spread(program_of(name, case).placed)
    assert work["macs"] > 100_000
    assert work["share_on_wide_ops"] >= 0.95


@pytest.mark.parametrize(("name", "case"), CASES)
def test_no_large_value_is_gathered_to_one_pe(name: str, case: str) -> None:
    program = program_of(name, case).placed
    assert gathers(program)["count"] > 0
    for each in gathers(program)["each"]:
        whole = program.blocks[each["block"]].values[each["value"]].type.elements
        assert each["elements_per_pe"] < whole or whole <= MOST_GATHERED, each


def test_show_lists_gathers_with_bytes_and_agrees_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = program_of("llama-dyn18past", "prefill")
    program.save(tmp_path / "a.wafer")
    assert main(["show", str(tmp_path / "a.wafer"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["gathers"]
    ran = program.run({}, timing_only=True).report.gathers
    assert shown["count"] == len(ran) > 0
    every = [g["bytes_per_pe"] for g in shown["each"] for _ in range(g["times"])]
    assert sorted(every) == sorted(g.bytes_per_pe for g in ran) and min(every) > 0
    assert all(g["value"] and g["axes"] for g in shown["each"])


@pytest.mark.parametrize("stages", [1, 2, 4, 8])
def test_any_number_of_stages_gives_the_same_outputs(stages: int) -> None:
    name, case = "llama-dyn18past", "decode1"
    program = program_of(name, case, stages=stages)
    assert len(program.placed.regions) == stages
    program.verify()
    assert error_of(program.run(recorded(name)[case][0]).outputs, name, case) < TOLERANCE


@cache
def on_region(folder: Path, rows: int, columns: int) -> Program:
    return wafercc.compile(
        tiny_file(folder), target="mesh:16x16", inputs_like=tiny_inputs(), stages=1, region=(rows, columns)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


REGIONS = [(1, 1), (2, 3), (5, 7)]


@pytest.mark.parametrize(("rows", "columns"), REGIONS)
def test_a_model_that_one_pe_holds_runs_on_any_region(folder: Path, rows: int, columns: int) -> None:
    program = on_region(folder, rows, columns)
    assert [r.xs.shape for r in program.placed.regions] == [(rows, columns)]
    program.verify()
    want = from_onnxruntime(tiny_file(folder), tiny_inputs())
    assert largest_error(program.run(tiny_inputs()).outputs, want) < 1e-5


def test_more_pes_take_fewer_cycles_and_less_memory_each(folder: Path) -> None:
    done = [on_region(folder, *region).run(tiny_inputs()) for region in REGIONS]
    assert done[0].cycles > 2 * done[1].cycles > 2 * done[2].cycles
    sram = [d.report.regions[0].sram_bytes for d in done]
    assert 44 * 1024 > sram[0] > sram[1] > sram[2]


def test_one_pe_needs_no_messages_but_to_the_host(folder: Path) -> None:
    placed = on_region(folder, 1, 1).placed
    assert placed.collectives == () and all(s.source is None or s.destination is None for s in placed.streams)


def test_the_command_takes_columns_by_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", str(tiny_file(folder)), "-o", str(folder / "r.wafer"), "--target", TARGET, "--stages", "1"]
    assert main([*words, "--shape", "input_ids=1x4", "--region", "7x5", "--json"]) == 0
    (region,) = json.loads(capsys.readouterr().out)["regions"]
    assert (region["columns"], region["rows"]) == (7, 5)
