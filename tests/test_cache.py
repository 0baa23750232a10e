"""What is remembered between compiles: never a wrong answer, whatever changes; nothing that others could trip over."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stopped import saved
from tiny_models import defects, environ, tiny_file, wafercc_words

import wafercc
from wafercc import CompileError, DoesNotFit, Program
from wafercc.cli.main import main
from wafercc.errors import CannotRoute
from wafercc.ir.lines import Excerpt
from wafercc.passes import journal, pipeline
from wafercc.passes.cache import BLOCK_BYTES, ENDING, UNFINISHED, Cache, digest
from wafercc.passes.journal import Course
from wafercc.passes.machine import find_machine
from wafercc.passes.options import Options
from wafercc.passes.stages import EMBED, LAYOUT, PLACE, ROUTE, SIZE, STAGES, Settings

pytestmark = pytest.mark.pipeline

BASE: dict[str, Any] = {"target": "mesh:16x14", "region": (4, 4), "shapes": {"input_ids": (1, 4)}, "defect_rate": 0.01}
# Every block on the mesh of BASE, in factors of its own, which layouts are of.
MESHES: dict[str, Any] = {"region": None, "meshes": {f"b{i}": {"rows": [4], "columns": [2, 2]} for i in range(4)}}
# Of each option: another value (and what must then be left out), and the stages that must not be remembered from BASE.
# Stages before the first of them must be; later ones may be, if their inputs happen to come out the same.
CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "target": ({"target": "mesh:17x14"}, {"place"}),
    "target_overrides": ({"target_overrides": {"router.hop_cycles": "2"}}, {"place", "layout", "route"}),
    "defects": ({"defects": defects("mesh:16x14", 5), "defect_rate": 0.0}, {"place"}),
    "defect_rate": ({"defect_rate": 0.02}, {"place"}),
    "defect_seed": ({"defect_seed": 7}, {"place"}),
    "shapes": ({"shapes": {"input_ids": (1, 6)}}, {"layout"}),
    "dims": ({"shapes": {}, "dims": {"batch": 2}, "new_tokens": 4}, {"layout"}),
    "inputs_like": ({"shapes": {}, "inputs_like": {"input_ids": np.zeros((1, 5), np.int64)}}, {"layout"}),
    "new_tokens": ({"shapes": {}, "new_tokens": 7}, {"layout"}),
    "batch": ({"shapes": {}, "new_tokens": 4, "batch": 3}, {"layout"}),
    "context": ({"context": 4}, set()),
    "wafers": ({"wafers": "auto"}, set()),
    "seed": ({"seed": 1}, {"place"}),
    "stages": ({"stages": 2}, {"place", "layout", "route"}),
    "region": ({"region": (5, 3)}, {"place", "layout", "route"}),
    "max_lanes": ({"max_lanes": 1}, {"route"}),
    "pins": ({"pins": {"r0": (0, 0, 6, 6)}}, {"place"}),
    "reach": ({"reach": 0}, {"place"}),
    "detour_hops": ({"detour_hops": 0}, {"place"}),
    "meshes": (MESHES, {"layout"}),
    "strategies": ({"strategies": {"*lm_head*": "rows=k columns=n"}}, {"layout"}),
    "layouts": ({**MESHES, "layouts": {"b2:/model/layers.0/mlp/Mul_72": "(-,-,-)"}}, {"layout"}),
    "weightless": ({"weightless": True}, set()),
    "whole_elements": ({"whole_elements": 16}, {"layout"}),
    "disabled_passes": ({"disabled_passes": ("fuse_swiglu",)}, {"layout", "route"}),
}
UNCHANGEABLE = {"entries", "objective", "dtype"}  # only their defaults are possible yet
MERGED = {"constraints"}  # what its file says becomes the other options, before any stage reads them


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and a cache filled by compiling it as in BASE."""
    folder = tmp_path_factory.mktemp("cached")
    compiled(tiny_file(folder), folder / "cache", **BASE)
    return folder


def compiled(model: Path, cache: Path | None, **options: Any) -> tuple[bytes, set[str]]:
    """The program's file, and the stages of which all was remembered."""
    said: list[str] = []
    course = Course(cache=Cache(cache) if cache else None, say=said.append)
    program = saved(wafercc.compile(model, course=course, **options), model.parent)
    words = said[0].removeprefix("reused from the cache: ").split(", ") if said else []
    return program, {word for word in words if "(" not in word}


def test_every_option_is_declared_by_a_stage_and_every_one_is_tried() -> None:
    names = {each.name for each in dataclasses.fields(Options)}
    assert names == set(CHANGES) | UNCHANGEABLE | MERGED
    assert {name for stage in STAGES for name in stage.options} == names - MERGED


@pytest.mark.parametrize("option", CHANGES)
def test_with_one_option_changed_the_cache_gives_what_a_compile_without_it_gives(home: Path, option: str) -> None:
    change, anew = CHANGES[option]
    options = {**BASE, **change}
    remembered, reused = compiled(home / "tiny.onnx", home / "cache", **options)
    afresh, _ = compiled(home / "tiny.onnx", None, **options)
    assert remembered == afresh
    declaring = [stage for stage in STAGES if option in stage.options]
    first = STAGES.index(declaring[0])
    before = {stage.name for stage in STAGES[:first] if stage in (PLACE, LAYOUT, ROUTE)}
    assert not reused & anew and before <= reused, reused
    again, all_reused = compiled(home / "tiny.onnx", home / "cache", **options)
    assert again == afresh and all_reused == {"place", "layout", "route"}


def test_a_constraints_file_counts_by_what_it_says_and_not_by_its_name(home: Path, tmp_path: Path) -> None:
    path, cache, model = tmp_path / "decisions.toml", tmp_path / "cache", home / "tiny.onnx"
    for words in ('pin.r0 = "0,0,6,6"', 'pin.r0 = "1,1,6,6"', 'strategy."*lm_head*" = "rows=k columns=n"'):
        path.write_text(words)
        remembered, _ = compiled(model, cache, **BASE, constraints=path)
        assert remembered == compiled(model, None, **BASE, constraints=path)[0]
    assert compiled(model, cache, **BASE, constraints=path)[1] == {"place", "layout", "route"}


def test_what_a_plugin_makes_of_a_graph_is_searched_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, before = compiled(home / "tiny.onnx", home / "cache", **BASE)
    monkeypatch.setattr("wafercc.passes.pipeline.all_rewrites", lambda disabled: ())
    _, after = compiled(home / "tiny.onnx", home / "cache", **BASE)
    assert before == {"place", "layout", "route"} and not after & {"layout", "route"}


def test_sizes_are_remembered_though_the_defects_change(home: Path) -> None:
    options = {"target": "mesh:16x14", "shapes": {"input_ids": (1, 4)}, "defect_rate": 0.01}
    _, first = compiled(home / "tiny.onnx", home / "sizes", **options)
    _, second = compiled(home / "tiny.onnx", home / "sizes", **options, defect_seed=1)
    assert not first and "size" in second and "layout" in second and "place" not in second


def test_an_option_that_is_not_declared_cannot_be_read(home: Path) -> None:
    options = Options(**BASE)
    machine = find_machine(options)
    settings = Settings("embed", EMBED.options, options, machine, pipeline.Course().cache)  # type: ignore[arg-type]
    assert settings.defects is machine.defects
    with pytest.raises(AssertionError, match="stage embed reads the option seed without declaring it"):
        settings["seed"]
    with pytest.raises(AssertionError, match="reads the option defects"):
        Settings("layout", LAYOUT.options, options, machine, journal.anew).defects  # noqa: B018


def test_a_dependency_that_is_forgotten_would_be_noticed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgetful = dataclasses.replace(ROUTE, remembered=tuple(n for n in ROUTE.remembered if n != "max_lanes"))
    monkeypatch.setattr(pipeline, "ROUTE", forgetful)
    base, _ = compiled(home / "tiny.onnx", home / "forgetful", **BASE)
    wrong, _ = compiled(home / "tiny.onnx", home / "forgetful", **BASE, max_lanes=1)
    right, _ = compiled(home / "tiny.onnx", None, **BASE, max_lanes=1)
    assert wrong != right and base != right


def test_other_code_or_another_stage_or_input_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {digest("place", 1), digest("route", 1), digest("place", 1.0), digest("place", "1"), digest("place", (1,))}
    keys |= {digest("place", np.array([1])), digest("place", np.array([1.0])), digest("place", {"a": 1})}
    keys |= {digest("pl", "ace1")}
    monkeypatch.setattr("wafercc.passes.cache.fingerprint", lambda: "other code")
    keys |= {digest("place", 1)}
    assert len(keys) == 10
    with pytest.raises(TypeError, match="object is not plain data"):
        digest(object())


def test_damaged_entries_are_as_good_as_none_and_are_written_again(home: Path) -> None:
    cache = home / "damaged"
    wanted, _ = compiled(home / "tiny.onnx", cache, **BASE)
    entries = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    assert len(entries) >= 5  # three blocks, a routing, and a placement for each size plan that was tried
    for i, (path, content) in enumerate(entries.items()):
        path.write_bytes([b"", content[:-7], content.replace(b"1", b"2"), b"\xff\n" + content, b"x" * 90][i % 5])
    again, reused = compiled(home / "tiny.onnx", cache, **BASE)
    assert again == wanted and not reused
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == entries


def test_a_refusal_is_remembered_with_every_word(tmp_path: Path) -> None:
    cache, calls = Cache(tmp_path), []
    for problem in (
        DoesNotFit("no", resource="PEs", demand=3, bound=2, where="here", hint="more"),
        CannotRoute("no", regions=["r0", "r1"], where="there"),
        CompileError("no"),
    ):

        def refuse(problem: CompileError = problem) -> int:
            calls.append(problem)
            raise problem

        for _ in range(2):
            with pytest.raises(CompileError) as caught:
                cache.recall(f"ab{type(problem).__name__}", refuse, str, lambda text: 0)
            assert type(caught.value) is type(problem) and vars(caught.value) == vars(problem)
    assert len(calls) == 3


def test_a_refusal_that_words_cannot_make_again_is_found_again(tmp_path: Path) -> None:
    class Special(CompileError):
        pass

    asked: list[int] = []

    def refuse() -> int:
        asked.append(1)
        raise Special("no")

    for _ in range(2):
        with pytest.raises(Special):
            Cache(tmp_path).recall("abc", refuse, str, lambda text: 0)
    assert len(asked) == 2 and not list(tmp_path.iterdir())


def test_the_folder_stays_within_its_bound_and_forgets_the_oldest_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=10 * BLOCK_BYTES)

    def kept(key: str) -> bool:
        asked: list[str] = []
        cache.recall(key, lambda: asked.append(key) or 0, str, lambda text: int(text.text))
        return not asked

    for i in range(12):
        assert not kept(f"a{i:02}")
        os.utime(tmp_path / f"a{i:02}"[:2] / f"{i % 10}{ENDING}", (i, i))
    assert kept("a00")  # it is now the last used
    cache.trim()
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) == 9 and kept("a00") and kept("a11") and not kept("a01")


def test_what_others_keep_in_the_folder_is_never_removed(tmp_path: Path) -> None:
    """Whoever names a folder that is in use, such as their home, loses nothing there."""
    letter, draft = tmp_path / "letters" / "0123", tmp_path / "a0" / f"tmp{UNFINISHED}"
    for path in (letter, draft):
        path.parent.mkdir()
        path.write_bytes(bytes(3 * BLOCK_BYTES))
        os.utime(path, (1, 1))
    cache = Cache(tmp_path, most_bytes=2 * BLOCK_BYTES)
    for key in ("a00", "b00", "c00"):
        cache.recall(key, lambda: 0, str, lambda text: 0)
    cache.trim()
    assert letter.exists() and not draft.exists()  # what a killed compile left half-written goes
    assert len(list(tmp_path.rglob(f"*{ENDING}"))) == 1


def test_what_cannot_be_written_is_not_kept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "below")
    assert [cache.recall("abc", lambda: 5, str, lambda text: 0) for _ in range(2)] == [5, 5]
    cache.trim()
    assert Cache(tmp_path).recall("abc", lambda: 6, str, lambda text: 0) == 6
    assert Cache(tmp_path).recall("abc", lambda: 7, str, _never_read) == 7


def _never_read(text: Excerpt) -> int:
    raise ValueError("written by other code")


def test_compilers_may_share_a_folder_at_the_same_time(home: Path, tmp_path: Path) -> None:
    words = ["--target", "mesh:16x14", "--region", "4x4", "--defect-rate", "0.01", "--shape", "input_ids=1x4"]
    command = [sys.executable, *wafercc_words("compile", home / "tiny.onnx", *words, "--cache-dir", "shared", "-o")]
    runs = [
        subprocess.Popen([*command, f"{i}.wafer"], cwd=tmp_path, env=environ(), stdout=subprocess.DEVNULL)
        for i in range(2)
    ]
    assert [run.wait() for run in runs] == [0, 0]
    assert (tmp_path / "0.wafer").read_bytes() == (tmp_path / "1.wafer").read_bytes()
    _, reused = compiled(home / "tiny.onnx", tmp_path / "shared", **BASE)
    assert reused == {"place", "layout", "route"}
    assert not list((tmp_path / "shared").rglob(f"*{UNFINISHED}"))


def test_only_the_command_remembers_unasked_and_it_can_be_told_not_to(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert Cache.default_folder() == tmp_path / "caches" / "wafercc"
    words = ["compile", str(home / "tiny.onnx"), "--target", "mesh:16x14", "--region", "4x4"]
    words += ["-o", str(tmp_path / "x.wafer")]
    program = wafercc.compile(home / "tiny.onnx", target="mesh:16x14", region=(4, 4))
    assert main([*words, "--no-cache"]) == 0 and not (tmp_path / "caches").exists()
    assert "reused" not in capsys.readouterr().err
    assert main(words) == 0 and (tmp_path / "caches/wafercc").is_dir()
    assert main(words) == 0 and "reused from the cache: place, layout, route\n" in capsys.readouterr().err
    assert (tmp_path / "x.wafer").read_bytes() == saved(Program(program.placed), tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache.default_folder() == tmp_path / ".cache" / "wafercc"
    assert main([*words, "--no-cache", "--cache-dir", "x"]) == 2
    (tmp_path / "file").write_text("")
    assert main([*words, "--cache-dir", str(tmp_path / "file" / "below")]) == 1
    assert "the folder cannot be made: Not a directory" in capsys.readouterr().err


def test_stages_that_remember_declare_no_more_than_they_may_read() -> None:
    assert [stage for stage in STAGES if stage.remembered] == [SIZE, PLACE, LAYOUT, ROUTE]
    assert all(set(stage.remembered) <= set(stage.options) for stage in STAGES)
