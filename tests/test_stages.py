"""A compile stops after any stage as a text, and goes on from it to the same bytes; what was edited counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from importer_models import DATA, recorded
from stopped import JOGGED, STAGES, home, saved
from tiny_models import TARGET, defects, largest_error

import wafercc
from wafercc import CompileError, Program, TextError, VerifyError
from wafercc.cli.main import main
from wafercc.ir.program import Rect, StreamId
from wafercc.npz import read_npz, write_npz
from wafercc.passes.journal import Course
from wafercc.passes.stages import STAGE_NAMES

pytestmark = pytest.mark.pipeline
Capture = pytest.CaptureFixture[str]
Golden = Callable[[str, str], None]

INPUTS = {"input_ids": np.arange(4, dtype=np.int64)[None]}
# Graph, case, and whether cores are dead.
PROGRAMS = [
    ("gpt2-ts17past", "decode1", False),
    ("llama-dyn18past", "decode1", True),
    ("llama-dyn23", "prefill_b1s7", True),
]


# The products that no later file holds, and the last, whose file begins as all others do.
WRITTEN = ("import", "size", "schedule")


def cut(text: str, stage: str) -> str:
    """The file of an earlier stage, cut from that of the last."""
    head, *sections = re.split(r"(?m)^(?=\[)", text)
    upto = STAGES[: STAGES.index(stage) + 1]
    kept = [section for section in sections if section[1:].partition("]")[0] in upto]
    return "".join([head.replace("stage schedule", f"stage {stage}"), *kept]).rstrip("\n") + "\n"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `home`."""
    return home(tmp_path_factory.mktemp("stopped"))


def edited(stopped: Path, folder: Path, stage: str, *changes: tuple[str, str]) -> Path:
    """A stage file with some of its words changed, each wherever it stands; the model is found where it was."""
    text = (stopped / f"tiny.{stage}.txt").read_text()
    for old, new in changes:
        assert old in text, f"{old!r} is not in the stage file"
        text = text.replace(old, new)
    path = folder / f"tiny.{stage}.txt"
    path.write_text(text.replace("model tiny.onnx", f"model {(stopped / 'tiny.onnx')}"))
    return path


def direct(stopped: Path) -> Program:
    """The program that was compiled in one go."""
    return wafercc.load(stopped / "tiny.wafer")


def test_the_small_program_has_jogs_and_dead_cores(stopped: Path) -> None:
    placed = direct(stopped).placed
    assert placed.defects["dead_cores"] and sum(bool(np.diff(r.xs, axis=0).any()) for r in placed.regions) == 3


def test_the_stages_have_the_names_that_users_know() -> None:
    assert STAGE_NAMES == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_going_on_from_any_stage_gives_the_same_bytes(stopped: Path, tmp_path: Path, stage: str) -> None:
    program = wafercc.resume(stopped / f"tiny.{stage}.txt", cache=stopped / "cache")
    assert saved(program, tmp_path) == (stopped / "tiny.wafer").read_bytes()


@pytest.mark.parametrize(("name", "case", "defective"), PROGRAMS)
def test_exported_decoders_go_on_from_every_stage_to_the_same_bytes(
    tmp_path: Path, name: str, case: str, defective: bool
) -> None:
    options: dict[str, Any] = {"target": TARGET, "inputs_like": recorded(name)[case][0], "region": (20, 20)}
    options |= {"defects": defects()} if defective else {}
    cache, model = tmp_path / "cache", DATA / f"{name}.onnx"
    wanted = saved(wafercc.compile(model, cache=cache, **options), tmp_path)
    files = {s: wafercc.compile_until(s, model, tmp_path / f"{s}.txt", cache=cache, **options) for s in WRITTEN}
    whole = files["schedule"].read_text()
    for stage in STAGES:
        path = files.get(stage, tmp_path / f"{stage}.txt")
        if stage not in files:
            path.write_text(cut(whole, stage))
        assert saved(wafercc.resume(path, cache=cache), tmp_path) == wanted, stage


def test_steered_compiles_go_on_from_every_stage_to_the_same_bytes(stopped: Path, tmp_path: Path) -> None:
    decisions, cache = tmp_path / "decisions.toml", tmp_path / "cache"
    decisions.write_text(direct(stopped).constraints())
    options: dict[str, Any] = {**JOGGED, "region": None, "constraints": decisions, "pins": {"r3": (9, 0, 9, 10)}}
    wanted = saved(wafercc.compile(stopped / "tiny.onnx", cache=cache, **options), tmp_path)
    for stage in STAGES:
        path = wafercc.compile_until(stage, stopped / "tiny.onnx", tmp_path / f"{stage}.txt", cache=cache, **options)
        assert saved(wafercc.resume(path, cache=cache), tmp_path) == wanted, stage
    head = (tmp_path / "place.txt").read_text().partition("[rewrite]")[0]
    assert "option --pin r3=9,0,9,10\n" in head and 'constraint mesh {"b0": {' in head
    again: dict[str, Any] = {"constraints": decisions, "pins": options["pins"]}
    assert saved(wafercc.resume(tmp_path / "place.txt", cache=cache, **again), tmp_path) == wanted
    decisions.write_text(decisions.read_text().replace("reach = 2", "reach = 3"))
    with pytest.raises(CompileError, match=r"option reach \(reach of a constraints file\): it is 3 here and 2 in "):
        wafercc.resume(tmp_path / "place.txt", **again)


def test_detours_go_on_to_the_same_bytes_and_count_where_they_are_edited(stopped: Path, tmp_path: Path) -> None:
    options = {name: value for name, value in JOGGED.items() if name not in ("reach", "detour_hops")}
    cache, model = tmp_path / "cache", stopped / "tiny.onnx"
    program = wafercc.compile(model, cache=cache, **options)
    detours = {region.id: region.detours for region in program.placed.regions if region.detours}
    assert detours
    for stage in ("place", "embed", "route"):
        path = wafercc.compile_until(stage, model, tmp_path / f"{stage}.txt", cache=cache, **options)
        assert saved(wafercc.resume(path, cache=cache), tmp_path) == saved(program, tmp_path), stage
    text = (tmp_path / "embed.txt").read_text()
    line = next(line for line in text.splitlines() if line.startswith("detour "))
    x, y = re.findall(r"\d+,\d+", line)[0].split(",")
    for wrong, message in (
        (line.rpartition(" ")[0], "does not lead from "),
        (re.sub("row \\d+", "row 99", line), "has no neighbour there: it has 8 columns x 8 rows"),
        (f"{line} 99,99", r"\(99, 99\) is not beside"),
        (line.replace("path", "way"), "expected 'path', found 'way'"),
        (line.partition(" path")[0] + f" path {x},{y}", "a detour joins two PEs"),
    ):
        (tmp_path / "embed.txt").write_text(text.replace(line, wrong))
        with pytest.raises((CompileError, TextError), match=message):
            wafercc.resume(tmp_path / "embed.txt", cache=cache)


def test_a_file_of_an_earlier_stage_is_the_beginning_of_a_later_one(stopped: Path) -> None:
    whole = (stopped / "tiny.schedule.txt").read_text()
    for stage in set(STAGES) - set(WRITTEN):
        assert cut(whole, stage) == (stopped / f"tiny.{stage}.txt").read_text()


def test_stages_follow_one_another_from_file_to_file(stopped: Path, tmp_path: Path) -> None:
    path = stopped / "tiny.import.txt"
    for stage in STAGES[1:]:
        path = wafercc.compile_until(stage, output=tmp_path / f"{stage}.txt", resumed=path, cache=stopped / "cache")
    assert saved(wafercc.resume(path), tmp_path) == (stopped / "tiny.wafer").read_bytes()


def test_the_text_of_a_stage_is_short_and_stable(stopped: Path, golden: Golden) -> None:
    text = (stopped / "tiny.schedule.txt").read_text()
    text = re.sub(r"(?m)^(sha256|machine) .*", r"\1 <sha256>", text)
    golden("stage_file", re.sub(r'solver ".*"', 'solver "<what it did>"', text))


# --- what is edited counts


def test_a_region_that_was_moved_lies_where_it_was_put_and_computes_the_same(stopped: Path, tmp_path: Path) -> None:
    path = edited(stopped, tmp_path, "place", ("region r0 8x8 at 8x8+0+2", "region r0 8x8 at 9x9+0+0"))
    program = wafercc.resume(path, cache=stopped / "cache")
    assert next(r.rect for r in program.placed.regions if r.id == "r0") == Rect(0, 0, 0, 9, 9)
    before = direct(stopped)
    assert largest_error(program.run(INPUTS).outputs, before.run(INPUTS).outputs) < 1e-6
    assert program.placed.decisions["placement"]["objective"] != before.placed.decisions["placement"]["objective"]


def test_a_boundary_between_stages_may_be_moved(stopped: Path, tmp_path: Path) -> None:
    through = "stage r2 through @/model/layers.1/mlp/Add_145", "stage r2 through @/model/layers.1/self_attn/Add_131"
    program = wafercc.resume(edited(stopped, tmp_path, "partition", through))
    assert len(direct(stopped).placed.blocks) == 3 and len(program.placed.blocks) == 4  # the layers are not equal now
    assert largest_error(program.run(INPUTS).outputs, direct(stopped).run(INPUTS).outputs) < 1e-6


def test_a_size_may_be_changed_without_a_square_forced_on_all(stopped: Path, tmp_path: Path) -> None:
    path = edited(stopped, tmp_path, "size", ("plan b0 8x8 b1 8x8 b2 8x8", "plan b0 8x2 b1 8x8 b2 8x4"))
    regions = wafercc.resume(path).placed.regions
    assert [(r.rows, r.columns) for r in regions] == [(8, 2), (8, 8), (8, 8), (8, 4)]


def test_an_op_may_be_cut_in_another_way(stopped: Path, tmp_path: Path) -> None:
    path = edited(stopped, tmp_path, "layout", ("op @/lm_head/MatMul n:y0*x0 m:x1", "op @/lm_head/MatMul n:y0 m:x1"))
    program = wafercc.resume(path)
    assert str(program.placed.weights["lm_head.weight"].tiled.layout) == "(-,y0)"
    assert str(direct(stopped).placed.weights["lm_head.weight"].tiled.layout) == "(-,y0*x0)"
    found, before = (p.placed.decisions["blocks"]["b2"]["ops"] for p in (program, direct(stopped)))
    head, norm = "/lm_head/MatMul", "/model/norm/Mul_152"
    assert not before[head]["forced"] and before[head]["others"]
    assert found[head]["forced"] and not found[head]["others"]
    assert found[head]["own_cycles"] > before[head]["own_cycles"]
    assert found[norm] == before[norm]


def test_a_lane_may_take_another_way(stopped: Path, tmp_path: Path) -> None:
    of_lane = "lane colour 18 elements 0-1 of dimension 2 from r1"
    path = edited(
        stopped, tmp_path, "route", (of_lane, of_lane.replace("18", "12")), ("path 8,10 9,10", "path 8,10 8,9 9,9 9,10")
    )
    lane = wafercc.resume(path).placed.stream[StreamId("/model/layers.0/mlp/Add_79 to r2")].lanes[0]
    assert lane.colour == 12 and lane.path.tolist() == [[8, 10], [8, 9], [9, 9], [9, 10]]


def test_what_only_the_whole_program_shows_is_found_by_the_verifier(stopped: Path, tmp_path: Path) -> None:
    for stage, old, new, rule in (
        ("route", "elements 8-15 of dimension 2 from r2", "elements 9-15 of dimension 2 from r2", "rule 4"),
        ("schedule", "run i1\n", "", "rule 6"),
        ("schedule", "sram r0 weights 256", "sram r0 weights 255", "rule 3"),
    ):
        moved = [("run i0\n", "run i1\nrun i0\n")] if "run" in old else []
        with pytest.raises(VerifyError, match=rule):
            wafercc.resume(edited(stopped, tmp_path, stage, (old, new), *moved), cache=stopped / "cache")


def test_a_rewritten_graph_may_be_edited(stopped: Path, tmp_path: Path) -> None:
    lines = (stopped / "tiny.rewrite.txt").read_text().splitlines()
    norm = next(line for line in lines if line.endswith("@/model/norm/Mul_152"))
    path = edited(stopped, tmp_path, "rewrite", (norm, norm.replace("epsilon=9.999999747378752e-06", "epsilon=0.5")))
    outputs = wafercc.resume(path, region=(4, 4)).run(INPUTS).outputs
    before = direct(stopped).run(INPUTS).outputs
    assert outputs["logits"].shape == before["logits"].shape and largest_error(outputs, before) > 1e-3


def test_an_import_from_a_file_goes_with_later_stages_whose_weights_follow_from_it(
    stopped: Path, tmp_path: Path
) -> None:
    path = edited(stopped, tmp_path, "import")
    later = wafercc.compile_until("place", output=tmp_path / "later.txt", resumed=path, cache=stopped / "cache")
    assert "[import]" in later.read_text() and "[import]" not in (stopped / "tiny.place.txt").read_text()


def test_options_of_later_stages_may_be_given_and_those_of_earlier_ones_may_not(stopped: Path) -> None:
    path, cache = stopped / "tiny.layout.txt", stopped / "cache"
    one = wafercc.resume(path, cache=cache, max_lanes=1).placed
    assert all(len(s.lanes) == 1 for s in one.streams) and one.options["max_lanes"] == 1
    assert any(len(s.lanes) > 1 for s in direct(stopped).placed.streams)
    same = wafercc.resume(path, cache=cache, region=(8, 8))
    assert same.placed.options == direct(stopped).placed.options
    for given, message in (
        ({"seed": 3}, r"option seed \(--seed\): it is 3 here and its default in .*, whose stages have used it"),
        ({"region": (4, 4)}, r"option region \(--region\): it is \[4, 4\] here and \[8, 8\] in .*layout"),
        ({"defects": defects("mesh:18x18"), "defect_rate": 0.0}, r"option defect_rate .* its default here and 0.03"),
    ):
        with pytest.raises(CompileError, match=message):
            wafercc.resume(path, **given)


# --- where it is found, and what it was made from


def test_model_and_machine_may_not_change_unnoticed(stopped: Path, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"has the sha256 \w{12}; the file was made from one of 000000000000"):
        wafercc.resume(edited(stopped, tmp_path, "place", ("sha256 ", "sha256 000000000000")))
    with pytest.raises(CompileError, match="is not the one the file was made for"):
        wafercc.resume(edited(stopped, tmp_path, "place", ("machine ", "machine 0")))
    program = wafercc.resume(edited(stopped, tmp_path, "partition", ("machine ", "machine 0")), region=(8, 8))
    assert program.placed.regions  # nothing up to there depends on the machine


def test_the_model_is_found_where_the_file_says_or_beside_it(stopped: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.schedule.txt"
    path.write_text((stopped / path.name).read_text().replace("model tiny.onnx", "model gone/tiny.onnx"))
    with pytest.raises(CompileError, match=r"gone/tiny\.onnx does not exist, nor does tiny\.onnx beside it"):
        wafercc.resume(path)
    wanted = (stopped / "tiny.wafer").read_bytes()
    assert saved(wafercc.resume(path, model=stopped / "tiny.onnx"), tmp_path) == wanted
    (tmp_path / "tiny.onnx").write_bytes((stopped / "tiny.onnx").read_bytes())
    assert saved(wafercc.resume(path), tmp_path) == wanted


def test_pages_and_maps_are_found_from_wherever_the_file_lies(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "machines").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "machines/mine.toml").write_text('base = "wse3"\nname = "mine"\nwidth = 18\nheight = 18\n')
    defects("mesh:18x18").save(tmp_path / "machines/map.json")
    monkeypatch.chdir(tmp_path / "machines")
    options: dict[str, Any] = {"target": "mine.toml", "defects": "map.json", "region": (4, 4), "seed": 2}
    options |= {"dims": {"batch": 1}, "new_tokens": 4, "disabled_passes": ("fuse_rope", "fuse_swiglu")}
    program = wafercc.compile(stopped / "tiny.onnx", cache="c", **options)
    path = tmp_path / "elsewhere/e.txt"
    wafercc.compile_until("embed", stopped / "tiny.onnx", path, cache="c", **options)
    assert "option --target ../machines/mine.toml\noption --defects ../machines/map.json\n" in path.read_text()
    monkeypatch.chdir(tmp_path)
    assert saved(wafercc.resume("elsewhere/e.txt", cache="machines/c"), tmp_path) == saved(program, tmp_path)


def test_inputs_like_and_a_map_that_is_no_file_survive_in_the_text(stopped: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"target": "mesh:18x18", "region": (8, 8), "defects": defects("mesh:18x18")}
    model, cache = stopped / "tiny.onnx", stopped / "cache"
    wanted = saved(wafercc.compile(model, inputs_like=INPUTS, cache=cache, **options), tmp_path)
    path = wafercc.compile_until("embed", model, tmp_path / "e.txt", inputs_like=INPUTS, cache=cache, **options)
    assert 'like "input_ids" int64 1x4\n' in path.read_text() and "\ndefects {" in path.read_text()
    assert saved(wafercc.resume(path, cache=cache), tmp_path) == wanted


# --- the command


def test_the_command_stops_and_goes_on(stopped: Path, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.onnx").write_bytes((stopped / "tiny.onnx").read_bytes())
    Path("jogs.toml").write_text("reach = 2\ndetour_hops = 0\n")
    words = "compile tiny.onnx --constraints jogs.toml --target mesh:18x18 --region 8x8 --until place"
    words += " --defect-rate 0.03 --defect-seed 4"
    cached = ["--cache-dir", str(stopped / "cache")]
    assert main([*words.split(), "--shape", "input_ids=1x4", *cached]) == 0
    assert capsys.readouterr().out == "tiny.place.txt\n"
    assert Path("tiny.place.txt").read_bytes() == (stopped / "tiny.place.txt").read_bytes()
    assert main(["compile", "--from", "tiny.place.txt", *cached, "--until", "route"]) == 0
    assert main(["compile", "--from", "tiny.route.txt", *cached]) == 0
    out, err = capsys.readouterr()
    assert out == "tiny.route.txt\ntiny.wafer\n" and "reused from the cache: layout" in err
    assert Path("tiny.wafer").read_bytes() == (stopped / "tiny.wafer").read_bytes()
    assert main(["compile", "--from", "tiny.place.txt", "--until", "size"]) == 1
    assert "goes on behind place, which comes after size" in capsys.readouterr().err
    assert main(["compile", "--until", "place"]) == 2
    assert "Missing argument 'MODEL'" in capsys.readouterr().err


def test_products_are_printed_before_and_after_stages_and_rewrites(stopped: Path, capsys: Capture) -> None:
    words = ["compile", "--from", str(stopped / "tiny.import.txt"), "-o", str(stopped / "p.wafer"), "--no-cache"]
    printing = "--print-after place --print-before fuse_swiglu --print-after fuse_swiglu --print-before layout"
    assert main([*words, *printing.split()]) == 0
    out, err = capsys.readouterr()
    assert out == f"{stopped / 'p.wafer'}\n"
    texts = re.split(r"(?m)^# (before|after) (\w+)\n", err)
    found = {(when, name): text for when, name, text in zip(texts[1::3], texts[2::3], texts[3::3], strict=True)}
    assert "= swiglu(" not in found["before", "fuse_swiglu"] and "= silu(" in found["before", "fuse_swiglu"]
    assert "= swiglu(" in found["after", "fuse_swiglu"]
    assert found["after", "place"].startswith("objective ") and found["before", "layout"].startswith("region r0 in ")
    for option in ("--print-before", "--print-after", "--until"):
        assert main([*words, option, "plaec"]) == 1
        assert re.search(r"there is no stage.* 'plaec' \(there are: import, rewrite, ", capsys.readouterr().err)


def test_a_course_may_be_printed_from_python(stopped: Path) -> None:
    said: list[str] = []
    course = Course(after=frozenset({"partition"}), say=said.append)
    wafercc.resume(stopped / "tiny.place.txt", course=course)
    assert len(said) == 1 and said[0].startswith("# after partition\nstage r0 through @")


def test_resumed_programs_run_as_the_direct_one_does(stopped: Path, tmp_path: Path) -> None:
    write_npz(tmp_path / "in.npz", INPUTS)
    result = wafercc.resume(stopped / "tiny.embed.txt", cache=stopped / "cache").run(read_npz(tmp_path / "in.npz"))
    assert result.cycles == direct(stopped).run(INPUTS).cycles
