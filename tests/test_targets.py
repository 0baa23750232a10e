"""Machine descriptions and their closed cycle formulas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wafercc.errors import TargetError
from wafercc.ir.block import ReduceAlgorithm
from wafercc.ir.dtypes import DType
from wafercc.ir.optable import Work
from wafercc.ir.program import EAST, WEST
from wafercc.targets import Target, cost, facts, load, names, page_text

ALL = ("wse2", "wse3", "wse3-raw", "mesh:64x48")


@pytest.mark.parametrize("name", ALL)
def test_every_number_of_every_machine_has_a_mark_and_a_source(name: str) -> None:
    for fact in facts(name):
        if isinstance(fact.value, int | float):
            assert fact.mark in ("sourced", "derived", "assumed", "given")
            assert fact.source, fact.key
            if fact.low is not None and fact.high is not None:
                assert fact.low <= float(fact.value) <= fact.high, fact.key


@pytest.mark.parametrize("name", ALL)
def test_a_target_survives_json_and_its_page(name: str, tmp_path: Path) -> None:
    target = load(name)
    assert Target.from_dict(json.loads(json.dumps(target.to_dict()))) == target
    page = tmp_path / "page.toml"
    page.write_text(page_text(name))
    assert load(page) == target
    assert load(page).hash() == target.hash()


def test_grids_are_the_published_ones() -> None:
    sizes = {name: (load(name).width, load(name).height, load(name).view) for name in ("wse2", "wse3", "wse3-raw")}
    assert sizes == {
        "wse2": (750, 994, "logical"),
        "wse3": (755, 1170, "logical"),
        "wse3-raw": (12 * 68, 7 * 170, "physical"),
    }
    assert load("mesh:64x48").width == 64 and load("mesh:64x48").pe == load("wse3").pe
    assert "mesh:WxH" in names()


def test_an_override_changes_one_number_and_the_hash() -> None:
    plain, small = load("wse3"), load("wse3", {"pe.sram_bytes": "32k", "clock_ghz": "1.1"})
    assert (small.pe.sram_bytes, small.clock_ghz) == (32768, 1.1)
    assert small.pe.usable_bytes == 32768 - 4096
    assert small.hash() != plain.hash()
    assert small.pe.macs_per_cycle == plain.pe.macs_per_cycle
    assert load("wse3", {"pe.macs_per_cycle.f16": 4}).pe.macs_per_cycle["f16"] == 4
    assert load("wse3", {"io.edges": "west"}).ports()[:, 0].tolist() == [WEST] * 73


def test_an_edited_page_builds_on_another(tmp_path: Path) -> None:
    page = tmp_path / "slow.toml"
    page.write_text('base = "wse2"\nname = "slow"\n[router]\nhop_cycles = 3\n')
    assert load(page).router.hop_cycles == 3
    assert load(page).width == load("wse2").width


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("wse9", {}, "unknown target 'wse9' (known: wse2, wse3, wse3-raw, mesh:WxH"),
        ("mesh", {}, "unknown target 'mesh'"),
        ("mesh:0x4", {}, "width: 0 is out of range; it must lie in 1 .. 4096"),
        ("mesh:99999x4", {}, "width: 99999 is out of range"),
        ("nowhere.toml", {}, "nowhere.toml: no such file"),
        ("wse3", {"pe.sram": "32k"}, "no machine description has the key 'pe.sram' (did you mean pe.sram_bytes"),
        ("wse3", {"pe.sram_bytes": "big"}, "pe.sram_bytes: 'big' is not a number"),
        ("wse3", {"pe.sram_bytes": "2k"}, "reserved_bytes is 4096 but sram_bytes only 2048"),
        ("wse3", {"router.hop_cycles": 1.5}, "router.hop_cycles: 1.5 is not a whole number"),
        ("wse3", {"router.colours": 25}, "router.colours: 25 is out of range; it must lie in 1 .. 24"),
        ("wse3", {"clock_ghz": float("nan")}, "clock_ghz: nan is not a number"),
        ("wse3", {"view": "blurred"}, "the view is 'blurred'; it must be logical or physical"),
        ("wse3", {"io.edges": "north"}, "they must be some of west, east"),
    ],
)
def test_a_bad_target_is_one_clear_error(name: str, overrides: dict[str, object], message: str) -> None:
    with pytest.raises(TargetError) as caught:
        load(name, overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width = ", "not valid TOML"),
        ('base = "wse7"', "unknown base 'wse7'"),
        ('base = "wse3"\n[pe]\nsram = 1', "no machine description has the key 'pe.sram'"),
        ('base = "wse3"\nwidth = { value = 3, mark = "guessed" }', "mark 'guessed' is none of"),
        ('base = "wse3"\nwidth = { value = 3, unit = "PEs" }', "unexpected unit"),
        ('base = "wse3"\nwidth = "3"', "'3' is not a number"),
        ('name = "x"', "lacks view"),
    ],
)
def test_a_bad_page_is_one_clear_error(text: str, message: str, tmp_path: Path) -> None:
    page = tmp_path / "page.toml"
    page.write_text(text)
    with pytest.raises(TargetError) as caught:
        load(page)
    assert message in str(caught.value)


def test_another_schema_is_refused() -> None:
    with pytest.raises(TargetError, match="schema 2"):
        Target.from_dict({**load("wse3").to_dict(), "schema": 2})


def test_ports_stand_every_sixteen_rows_on_both_edges() -> None:
    ports = load("mesh:8x40").ports()
    assert ports.tolist() == [[WEST, 0, 8], [WEST, 0, 24], [EAST, 7, 8], [EAST, 7, 24]]
    assert load("mesh:3x5").ports().tolist() == [[WEST, 0, 2], [EAST, 2, 2]]
    assert len(load("mesh:1x1").ports()) == 2


# --- formulas, with numbers done on paper for T_R = 2, one cycle a hop, one word per cycle

TARGET = load("wse2")


def test_local_cycles_are_start_plus_counts_over_rates() -> None:
    work = Work(macs=800, simple=64, special=3)
    assert cost.local(TARGET, work, DType.F16).total == 22 + 800 // 4 + 64 // 4 + 3 * 16
    assert cost.local(TARGET, Work(macs=np.array([1, 10, 5])), DType.F32).total == 22 + 20
    assert cost.local(TARGET, Work(), DType.F32).total == 0


def test_reductions_match_paper_and_pencil() -> None:
    assert cost.chain_reduce(TARGET, 4096, 512).total == 4096 + 6 * 511 == 7162
    assert cost.tree_reduce(TARGET, 1, 8).total == 9 + 5 * 3  # ceil(8 * 3 / 14 + 7) = 9 > 3
    assert cost.two_phase_reduce(TARGET, 4096, 512, 2).total == 8192 + 511 + 5 * (1 + 255) == 9983
    assert cost.two_phase_reduce(TARGET, 4096, 512, 32).total == 8192 + 511 + 5 * (31 + 15) == 8933
    assert cost.ring_all_reduce(TARGET, 16, 8).total == 28 + 26 + 70


def test_spreading_and_gathering_match_paper_and_pencil() -> None:
    assert cost.broadcast(TARGET, 100, 10).total == 100 + 10 + 4
    assert cost.broadcast_2d(TARGET, 100, 4, 6).total == 100 + 4 + 6 - 2 + 5
    assert cost.collect(TARGET, 3, 5).total == 12 + 4 + 5 + 2
    assert cost.all_gather(TARGET, 2, 5).total == 10 + 2 * 2 + 2 * 5 + 2
    assert cost.stream(TARGET, 100, 7, lanes=8).total == 13 + 7 + 5
    assert cost.host_stream(TARGET, 880, 3, ports=100).total == 20 + 3 + 5


def test_the_fabric_simulators_reductions_are_met_within_a_percent() -> None:
    for words, pes, group, measured in ((4096, 512, 2, 10_005), (4096, 512, 32, 8_923)):
        estimate = cost.two_phase_reduce(TARGET, words, pes, group).total
        assert abs(estimate - measured) < 0.01 * measured


def test_the_cheapest_reduction_depends_on_the_words() -> None:
    assert cost.reduce(TARGET, 1, 64)[1] is ReduceAlgorithm.TREE
    assert cost.reduce(TARGET, 100_000, 8)[1] is ReduceAlgorithm.CHAIN
    few, many = cost.all_reduce(TARGET, 1, 32)[0], cost.all_reduce(TARGET, 512, 32)[0]
    assert few.total < many.total


def test_one_pe_and_no_words_cost_nothing() -> None:
    for words, pes in ((5, 1), (0, 9)):
        assert cost.reduce(TARGET, words, pes)[0] == cost.FREE
        assert cost.all_reduce(TARGET, words, pes)[0] == cost.FREE
        assert cost.all_gather(TARGET, words, pes) == cost.FREE
        assert cost.broadcast(TARGET, words, pes) == cost.FREE


def test_costs_add_and_slower_hops_are_never_cheaper() -> None:
    a, b = cost.Cost(1, 2, 3), cost.Cost(10, 20, 30)
    assert a + b == b + a == cost.Cost(11, 22, 33) and (a + b).total == 33
    slow = load("wse2", {"router.hop_cycles": 4})
    for words in (1, 100):
        for pes in (2, 5, 64):
            assert cost.all_reduce(slow, words, pes)[0].total >= cost.all_reduce(TARGET, words, pes)[0].total
