"""Explaining: why an op is cut as it is, why a region lies where it lies, what the critical path was spent on, and that
the options named as levers do shorten it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny_file, tiny_inputs

import wafercc
from wafercc import DefectMap, Program
from wafercc.cli.main import main
from wafercc.errors import WaferError
from wafercc.models.tiny_llama import TinyLlama
from wafercc.report import summary
from wafercc.report.limits import limits
from wafercc.report.path import PARTS, folded
from wafercc.report.why import why, why_lines
from wafercc.targets import load

pytestmark = pytest.mark.pipeline
THREE = TinyLlama(layers=3, hidden=16, heads=2, kv_heads=1, intermediate=32, vocabulary=32)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("why")
    tiny_file(folder)
    return folder


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Three equal layers, so that regions share a block."""
    model = tiny_file(tmp_path_factory.mktemp("layered"), THREE)
    return wafercc.compile(model, target="mesh:16x24", inputs_like=tiny_inputs(), region=(4, 4))


@pytest.fixture(scope="module")
def facts(layered: Program) -> dict[str, Any]:
    return summary.as_dict(layered, critical_path=True)


def test_the_parts_of_every_piece_of_the_critical_path_sum_to_the_cycles(facts: dict[str, Any]) -> None:
    rows = facts["timing"]["critical_path"]
    assert all(sum(row[f"{part}_cycles"] for part in PARTS) == row["cycles"] for row in rows)
    assert sum(row["cycles"] for row in rows) == facts["timing"]["cycles"]
    assert all(row["work_cycles"] == row["cycles"] for row in rows if row["kind"] == "compute")
    assert not any(row["work_cycles"] for row in rows if row["kind"] != "compute")
    assert all(sum(row[f"{part}_cycles"] for row in rows) for part in ("work", "hops", "words"))


def test_a_slower_hop_lengthens_the_hops_and_nothing_else_much(layered: Program) -> None:
    """What is called distance is what the hop latency scales."""

    def spent(hop: int) -> dict[str, int]:
        done = layered.run({}, timing_only=True, trace=True, constants={"router.hop_cycles": hop})
        found = dict.fromkeys(PARTS, 0)
        for segment in done.report.critical_path():
            found[segment.part] += segment.cycles
        return found

    near, far = spent(1), spent(5)
    assert far["hops"] > 2 * near["hops"] and abs(far["work"] - near["work"]) < 0.05 * near["work"]


def test_the_folded_path_tells_equal_layers_once_and_loses_no_cycle(facts: dict[str, Any]) -> None:
    rows = facts["timing"]["critical_path"]
    short = folded(rows)
    for key in ("cycles", *(f"{part}_cycles" for part in PARTS)):
        assert sum(row[key] for row in short) == sum(row[key] for row in rows)
    assert len(short) < len(rows) / 2
    assert ["r3"] in [row["again"] for row in short]  # r2 is told in full: only r1 works out the rotary tables on it


def test_pieces_of_the_critical_path_carry_the_onnx_node_of_their_own_layer(facts: dict[str, Any]) -> None:
    for row in facts["timing"]["critical_path"]:
        layer = {"r1": "layers.0", "r2": "layers.1", "r3": "layers.2"}.get(row["region"], "")
        if row["kind"] == "compute" and layer and "mlp/MatMul" in row["name"]:
            assert layer in row["node"], row
            assert row["xy"] is not None


def test_bottlenecks_are_the_largest_groups_of_the_path(facts: dict[str, Any]) -> None:
    rows, found = facts["timing"]["critical_path"], facts["timing"]["bottlenecks"]
    first = found[0]
    assert (first["what"], first["of"]) == ("work", "matmul")
    named = [row for row in rows if row["kind"] == "compute" and "MatMul" in row["name"] and "61" not in row["name"]]
    assert first["cycles"] <= sum(row["cycles"] for row in named) * 1.2
    assert [g["cycles"] for g in found] == sorted((g["cycles"] for g in found), reverse=True) and len(found) <= 5
    assert all(g["share"] == g["cycles"] / facts["timing"]["cycles"] for g in found)


# Options that make something the bottleneck, the sentence's words, the lever, and the options with the lever pulled.
ONE = {"stages": 1}
FAR = {"stages": 2, "region": (8, 8), "target": "mesh:200x200", "tokens": 1}
WIDE = {"stages": 1, "region": (8, 8), "target": "mesh:800x16", "tokens": 1}
LEVERS: dict[str, tuple[dict[str, Any], str, str, dict[str, Any]]] = {
    "region": ({**ONE, "region": (2, 2)}, "work of matmul", "a larger --region (now 2x2)", {**ONE, "region": (4, 4)}),
    "strategy": (
        {**ONE, "region": (4, 4), "strategies": {"matmul": "whole"}},
        "work of matmul",
        "leave out --strategy",
        {**ONE, "region": (4, 4)},
    ),
    "target": ({**ONE, "target": "mesh:4x4"}, "work of matmul", "a larger --target", {**ONE, "target": "mesh:8x8"}),
    "stages": (
        {"stages": 3, "target": "mesh:4x4"},
        "work of matmul",
        "fewer --stages",
        {"stages": 1, "target": "mesh:4x4"},
    ),
    "smaller region": (
        {**ONE, "target": "mesh:64x64", "region": (64, 64), "tokens": 1},
        "distance, in collectives",
        "a smaller --region (now 64x64)",
        {**ONE, "target": "mesh:64x64", "region": (16, 16), "tokens": 1},
    ),
    "lanes": (
        {"stages": 4, "region": (4, 4), "max_lanes": 1, "tokens": 16},
        "length of messages, in streams between regions",
        "a higher --max-lanes (now 1)",
        {"stages": 4, "region": (4, 4), "max_lanes": 4, "tokens": 16},
    ),
    "pins": (
        {**FAR, "pins": {"r0": (192, 0, 8, 8), "r1": (0, 192, 8, 8)}},
        "distance, in streams between regions",
        "--pin the regions nearer to each other",
        {**FAR, "pins": {"r0": (192, 0, 8, 8), "r1": (192, 8, 8, 8)}},
    ),
    "edge": (
        {**WIDE, "pins": {"r0": (400, 0, 8, 8)}},
        "distance, in streams from and to the host",
        "--pin the first and the last region nearer",
        {**WIDE, "pins": {"r0": (0, 0, 8, 8)}},
    ),
    "tokens": (
        {**ONE, "region": (8, 8), "tokens": 16, "max_lanes": 1},
        "length of messages, in streams from and to the host",
        "fewer new tokens (--new-tokens, --shape)",
        {**ONE, "region": (8, 8), "tokens": 8, "max_lanes": 1},
    ),
}


@pytest.fixture(scope="module")
def told(home: Path) -> Callable[[dict[str, Any]], tuple[int, list[str]]]:
    """Cycles of the tiny decoder compiled with some options, and what limits it."""

    @cache
    def compiled(key: str, tokens: int) -> tuple[int, list[str]]:
        options = {"target": "mesh:16x16", **{k: v for k, v in json.loads(key).items() if k != "tokens"}}
        if "region" in options:
            options["region"] = tuple(options["region"])
        found = summary.as_dict(wafercc.compile(home / "tiny.onnx", inputs_like=tiny_inputs(tokens), **options))
        return found["timing"]["cycles"], limits(found)

    return lambda options: compiled(json.dumps(options), options.get("tokens", 4))


@pytest.mark.parametrize("name", LEVERS)
def test_pulling_the_lever_that_is_named_saves_cycles(name: str, told: Any) -> None:
    before, what, lever, after = LEVERS[name]
    cycles, sentences = told(before)
    sentence = next((s for s in sentences if what in s), None)
    assert sentence is not None and lever in sentence, sentences
    assert told(after)[0] < cycles


def text_of(program: Program, name: str) -> str:
    return "\n".join(why_lines(why(program.placed, name)))


def test_why_in_the_words_of_the_golden_page(home: Path, golden: Callable[[str, str], None]) -> None:
    defects = DefectMap.of(load("mesh:16x16"), cores=[(0, 2, 2), (0, 9, 4)])
    given: dict[str, Any] = {"stages": 2, "region": (6, 6), "defects": defects}
    like = tiny_inputs()
    free = wafercc.compile(home / "tiny.onnx", target="mesh:16x16", inputs_like=like, **given)
    names = ("r0", "r1", "*lm_head*", "attention", "b0:*Gather*")
    pages = [f"--why {name}\n{text_of(free, name)}" for name in names]
    steered: dict[str, Any] = {"pins": {"r1": (9, 9, 7, 7)}, "strategies": {"*lm_head*": "rows=k"}}
    program = wafercc.compile(home / "tiny.onnx", target="mesh:16x16", inputs_like=like, **given, **steered)
    pages += [f"steered, --why {name}\n{text_of(program, name)}" for name in ("r1", "*lm_head*")]
    text = "\n\n".join(pages)
    assert max(map(len, text.splitlines())) <= 100
    golden("why", text)


def test_the_reasons_of_placement_follow_from_the_rectangles(layered: Program) -> None:
    placed = layered.placed
    reasons = placed.decisions["regions"]
    centre = {r.id: (r.rect.x + (r.rect.w - 1) / 2, r.rect.y + (r.rect.h - 1) / 2) for r in placed.regions}
    for region, reason in reasons.items():
        r = placed.region[region].rect
        assert reason["rect"] == [r.x, r.y, r.w, r.h] and not reason["pinned"]
        for partner, words, hops in reason["partners"]:
            if partner != "host":
                (x, y), (u, v) = centre[region], centre[partner]
                assert hops == abs(x - u) + abs(y - v) and words == 4 * 16
        assert reason["cycles"] == sum(hops for _, _, hops in reason["partners"]) + reason["detour"]
        x, y, w, h = reason["next"]["rect"]
        others = [o.rect for o in placed.regions]
        assert all(x >= o.x + o.w or o.x >= x + w or y >= o.y + o.h or o.y >= y + h for o in others)
        assert reason["next"]["cycles"] >= reason["cycles"]
    inner = sum(r["cycles"] - sum(h for p, _, h in r["partners"] if p == "host") for r in reasons.values())
    outer = sum(h for r in reasons.values() for p, _, h in r["partners"] if p == "host")
    assert inner / 2 + outer == placed.decisions["placement"]["objective"]  # flows count at both ends


def test_show_why_names_ops_of_any_layer_and_refuses_what_is_not_there(
    layered: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    layered.save("p.wafer")
    assert main(["show", "p.wafer", "--why", "*layers.2/mlp*MatMul*", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["ops"]
    assert len(told) == 3
    assert all(op["regions"] == ["r1", "r2", "r3"] and op["op"].startswith("/model/layers.0/mlp") for op in told)
    assert all("layers.2" in op["nodes"][2] for op in told)
    assert main(["show", "p.wafer", "--why", "r2"]) == 0
    assert capsys.readouterr().out.startswith("r2 (layer 1)\n")
    assert main(["show", "p.wafer", "--why", "matmull"]) == 1
    err = capsys.readouterr().err
    assert "no region or op 'matmull'; regions: r0, r1, r2, r3, r4; nearest ops: matmul, " in err
    bare = replace(layered.placed, decisions={})
    with pytest.raises(WaferError, match="does not hold its decisions"):
        why(bare, "r0")
    assert summary.as_dict(bare)["strategies"] == []
    resumed = replace(layered.placed, decisions={**layered.placed.decisions, "blocks": {}})
    assert "  strategy   not recorded" in list(why_lines(why(resumed, "*lm_head*")))


def test_decisions_are_plain_bounded_by_blocks_and_the_same_each_time(layered: Program, tmp_path: Path) -> None:
    decisions = layered.placed.decisions
    assert json.loads(json.dumps(decisions)) == decisions
    ops = {b: block["ops"] for b, block in decisions["blocks"].items()}
    assert len(ops) == len(layered.placed.blocks) < len(layered.placed.regions)
    assert all(len(op["others"]) <= 4 for block in ops.values() for op in block.values())
    model = tiny_file(tmp_path, THREE)
    again = wafercc.compile(model, target="mesh:16x24", inputs_like=tiny_inputs(), region=(4, 4))
    assert again.placed.decisions == decisions


def test_a_program_without_its_graph_is_explained_without_nodes(layered: Program) -> None:
    bare = Program(replace(layered.placed, graph_text=""))
    rows = summary.as_dict(bare, critical_path=True)["timing"]["critical_path"]
    assert {row["node"] for row in rows} == {""}
    told = why(bare.placed, "matmul")["ops"]
    assert told and np.all([len(op["nodes"]) == len(op["regions"]) for op in told])
