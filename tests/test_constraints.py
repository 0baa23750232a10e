"""A constraints file: what is read counts, what is wrong is named with its line, and what is written gives the program
back."""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tiny_models import TINY_WORDS, tiny_file, tiny_inputs

import wafercc
from wafercc.cli.main import main
from wafercc.errors import CompileError
from wafercc.passes.constraints import constraints_text, read_constraints, with_constraints
from wafercc.passes.options import Options

pytestmark = pytest.mark.pipeline


def members(path: Path) -> dict[str, Any]:
    """A program file: its arrays and weights as bytes, the keys of its manifest."""
    with zipfile.ZipFile(path) as file:
        found: dict[str, Any] = {n: file.read(n) for n in file.namelist() if not n.endswith(".json")}
        return found | json.loads(file.read("program.json"))


def test_a_program_compiled_with_its_own_constraints_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but what was asked and what was searched: the options, and in the decisions the next best, the baseline of
    placement and the solver's share, since nothing was searched."""
    monkeypatch.chdir(tmp_path)
    tiny_file(tmp_path)
    machine = ["compile", "tiny.onnx", *TINY_WORDS, "--defect-rate", "0.04"]
    words = [*machine, "--stages", "2", "--region", "8x8", "--no-pass", "fuse_swiglu", "--max-lanes", "3"]
    assert main([*words, "-o", "a.wafer", "--write-constraints", "a.toml"]) == 0
    again = [*machine, "--constraints", "a.toml"]
    assert main([*again, "-o", "b.wafer", "--write-constraints", "b.toml"]) == 0
    assert Path("a.toml").read_text() == Path("b.toml").read_text()
    first, second = members(Path("a.wafer")), members(Path("b.wafer"))
    assert {key for key in first if first[key] != second[key]} == {"options", "decisions"}
    before, after = first["decisions"], second["decisions"]
    bends = before["placement"]["reach"], before["placement"]["detour_hops"]
    assert bends != (0, 0), "regions lie around dead cores by jogs or detours"
    assert before["estimate_cycles"] == after["estimate_cycles"]
    assert before["placement"]["objective"] == after["placement"]["objective"]
    for name, block in before["blocks"].items():
        assert all(op["forced"] and not op["others"] for op in after["blocks"][name]["ops"].values())
        assert block["shared"] == after["blocks"][name]["shared"] and block["mesh"] == after["blocks"][name]["mesh"]
    assert tomllib.loads(Path("a.toml").read_text())["no_pass"] == ["fuse_swiglu"]
    assert wafercc.load("a.wafer").constraints() == Path("a.toml").read_text()


def test_an_edited_decision_changes_the_program_and_nothing_else_moves(tmp_path: Path) -> None:
    path = tiny_file(tmp_path)
    given: dict[str, Any] = {"target": "mesh:16x16", "inputs_like": tiny_inputs(), "stages": 2, "region": (4, 4)}
    before = wafercc.compile(path, **given)
    text = before.constraints()
    pin = next(line for line in text.splitlines() if line.startswith('"r1" = '))
    (tmp_path / "c.toml").write_text(text.replace(pin, '"r1" = "11,12,4,4"'))
    program = wafercc.compile(path, **{**given, "region": None}, constraints=tmp_path / "c.toml")
    program.verify()
    rects = {r.id: (r.rect.x, r.rect.y) for r in program.placed.regions}
    assert rects["r1"] == (11, 12) and rects["r0"] == next((r.rect.x, r.rect.y) for r in before.placed.regions)
    assert {b: block.steps for b, block in program.placed.blocks.items()} == {
        b: block.steps for b, block in before.placed.blocks.items()
    }


def test_options_override_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        'stages = 3\nmax_lanes = 2\nno_pass = ["fuse_rope"]\n[pin]\nr0 = "0,0,4,4"\nr1 = "4,0,4,4"\n'
        '[strategy]\nmatmul = "rows=k"\n"*head*" = "rows=n"\n[mesh]\nb0 = { rows = 4, columns = [2, 2] }\n'
    )
    given = Options(
        constraints=tmp_path / "c.toml",
        stages=2,
        disabled_passes=("fuse_silu",),
        pins={"r1": (8, 0, 4, 4)},
        strategies={"matmul": "rows=m"},
    )
    merged = with_constraints(given)
    assert (merged.constraints, merged.stages, merged.max_lanes) == (None, 2, 2)
    assert merged.disabled_passes == ("fuse_rope", "fuse_silu")
    assert merged.pins == {"r0": (0, 0, 4, 4), "r1": (8, 0, 4, 4)}
    assert list(merged.strategies.items()) == [("*head*", "rows=n"), ("matmul", "rows=m")]  # the last one counts
    assert merged.meshes == {"b0": {"rows": 4, "columns": [2, 2]}}
    assert with_constraints(Options(constraints=tmp_path / "c.toml", region=(4, 4))).meshes == {}


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("stages = 2\nstage = 3\n", "line 2, stage", "unknown key; there are, nearest first: stages"),
        ("\nstages = [\n", "", "not TOML: "),
        ('stages = "many"\n', "line 1, stages", "'many' is not of the form N"),
        ("stages = true\n", "line 1, stages", "True is not of the form N"),
        ('# pins\n[pin]\nr0 = "0,0,4,4"\nr1 = "0,0,4"\n', "line 4, pin.r1", "'0,0,4' is not of the form x,y,w,h"),
        ("pin = 3\n", "line 1, pin", "3 is not a table [pin]"),
        ('no_pass = "fuse_rope"\n', "line 1, no_pass", "'fuse_rope' is not a list of names"),
        ("[strategy]\n'b0:a=b' = 4.5\n", "line 2, strategy.b0:a=b", "4.5 is not of the form NAME"),
        ("[mesh]\nb0 = { rows = 4 }\n", "line 2, mesh.b0", "is not of the form { rows = 16, columns = [2, 8] }"),
        ("[mesh]\nb0 = { rows = 0, columns = 1 }\n", "line 2, mesh.b0", "is not of the form"),
        ("[layout]\n'b0:x' = 3\n", "line 2, layout.b0:x", "3 is not a layout"),
        ("reach = 99\n", "line 1, reach", "99 is not a number from 0 to 8"),
    ],
)
def test_what_means_nothing_is_named_with_file_line_and_key(
    tmp_path: Path, text: str, where: str, message: str
) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(CompileError) as caught:
        read_constraints(tmp_path / "c.toml")
    assert caught.value.where == f"{tmp_path / 'c.toml'}{f', {where}' if where else ''}"
    assert message in caught.value.message


def test_what_is_written_replaces_nothing_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_file(tmp_path)
    Path("c.toml").write_text("stages = 1\n")
    for words, message in (
        (["--write-constraints", "tiny.onnx"], "tiny.onnx would overwrite what is read"),
        (["--constraints", "c.toml", "--write-constraints", "./c.toml"], "c.toml would overwrite what is read"),
        (["--write-constraints", "tiny.wafer"], "tiny.wafer is where the program goes"),
        (["--pin", "r0=1,2"], "r0=1,2 is not of the form REGION=x,y,w,h"),
        (["--strategy", "matmul"], "matmul is not of the form OP=NAME"),
    ):
        assert main(["compile", "tiny.onnx", *TINY_WORDS, *words]) == 2
        assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.toml", "tiny.onnx"]
    assert Path("c.toml").read_text() == "stages = 1\n"


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(CompileError, match=r"^gone.toml: no such file \(--write-constraints writes one\)"):
        with_constraints(Options(constraints="gone.toml"))


def test_a_program_of_a_version_that_kept_no_reasons_has_no_constraints(tmp_path: Path) -> None:
    from dataclasses import replace

    like = tiny_inputs()
    program = wafercc.compile(tiny_file(tmp_path), target="mesh:16x16", inputs_like=like, stages=1, region=(4, 4))
    text = constraints_text(program.placed)
    assert re.search(r'^"b0:.*MatMul.*" = "', text, re.M)
    with pytest.raises(CompileError, match="does not hold its decisions"):
        constraints_text(replace(program.placed, decisions={}))
