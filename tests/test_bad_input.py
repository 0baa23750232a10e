"""Bad input of every kind, given to the command: exit 1, one line that names the place, both numbers and the lever,
nothing on stdout, nothing half-written, never a traceback. The lines are golden: read tests/golden/bad_*.txt."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from importer_models import F32, model
from onnx import TensorProto, helper
from tiny_models import TINY, TINY_WORDS, python, tiny_file, tiny_inputs

import wafercc
from wafercc import DefectMap
from wafercc.cli.main import main
from wafercc.errors import DoesNotFit
from wafercc.ir import artifact
from wafercc.models.tiny_llama import TinyLlama
from wafercc.npz import write_npz

pytestmark = pytest.mark.pipeline
MESH = "mesh:16x16"
Golden = Callable[[str, str], None]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, with the tiny decoder in it."""
    monkeypatch.chdir(tmp_path)
    tiny_file(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tiny decoder's program, as a file's bytes."""
    home = tmp_path_factory.mktemp("sealed")
    program = wafercc.compile(tiny_file(home), target=MESH, inputs_like=tiny_inputs())
    program.save(home / "tiny.wafer")
    return (home / "tiny.wafer").read_bytes()


def refusal(capsys: Capture, *words: object) -> str:
    """The one line with which the command refuses, its checksums masked."""
    before = listing()
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (code, out) == (1, ""), (words, out, err)
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err and "bug in wafercc" not in err
    assert listing() == before, "something was left behind"
    return re.sub(r"\b[0-9a-f]{12}\b", "<sha256>", err.removeprefix("error: ").rstrip())


def listing() -> dict[str, tuple[int, int]]:
    """Every file below here, with its size and when it changed."""
    found = (Path(folder) / name for folder, _, names in os.walk(".") for name in names)
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}


# --- models


def node(op_type: str, inputs: list[str], outputs: list[str], name: str = "", **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, outputs, name or f"the_{op_type.lower()}", **attrs)


def with_external(location: str) -> onnx.ModelProto:
    proto = model([node("Add", ["x", "w"], ["y"])], {"x": (F32, [4])}, ["y"], {"w": np.zeros(4, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return proto


def linked(folder: Path) -> onnx.ModelProto:
    (folder.parent / "outside.bin").write_bytes(bytes(16))
    (folder / "inside.bin").symlink_to(folder.parent / "outside.bin")
    return with_external("inside.bin")


def ring(_: Path) -> onnx.ModelProto:
    first, second = node("Add", ["x", "c"], ["a"], "one"), node("Neg", ["a"], ["b"], "two")
    nodes = [first, second, node("Neg", ["b"], ["c"], "three")]
    return model(nodes, {"x": (F32, [2])}, ["c"])


def given_back(_: Path) -> onnx.ModelProto:
    proto = model([node("Neg", ["x"], ["y"])], {"x": (F32, [2])}, ["y"])
    proto.graph.output.append(helper.make_tensor_value_info("x", F32, [2]))
    return proto


def one(op_type: str, kind: int = F32, dims: tuple[int | str, ...] = (2,), **attrs: Any) -> onnx.ModelProto:
    return model([node(op_type, ["x"], ["y"], **attrs)], {"x": (kind, dims)}, ["y"])


MODELS: Mapping[str, Callable[[Path], onnx.ModelProto | bytes | None]] = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "text": lambda _: b"once upon a time",
    "zip": lambda _: b"PK\x03\x04 and so on",
    "truncated": lambda folder: (folder / "tiny.onnx").read_bytes()[:9000],
    "unknown op": lambda _: one("Det"),
    "unknown domain": lambda _: one("Fancy", domain="com.example"),
    "open dimension": lambda _: one("Neg", dims=(2, "depth")),
    "element type": lambda _: one("Identity", TensorProto.STRING),
    "cycle": ring,
    "input given back": given_back,
    "external missing": lambda _: with_external("gone.bin"),
    "external absolute": lambda _: with_external("/etc/hostname"),
    "external above": lambda _: with_external("../outside.bin"),
    "external link": linked,
}


def test_a_model_that_cannot_be_compiled_is_refused(folder: Path, capsys: Capture, golden: Golden) -> None:
    lines = []
    for name, make in MODELS.items():
        (folder / "model.onnx").unlink(missing_ok=True)
        content = make(folder)
        if content is not None:
            data = content if isinstance(content, bytes) else content.SerializeToString()
            (folder / "model.onnx").write_bytes(data)
        lines.append(f"{name}: {refusal(capsys, 'compile', 'model.onnx', '--target', MESH)}")
    lines.append(f"folder: {refusal(capsys, 'compile', '.', '-o', 'x.wafer')}")
    golden("bad_models", "\n".join(lines))


# --- options

OPTIONS = {
    "target": "--target wse9",
    "target without an area": "--target mesh:0x4",
    "target page": "--target none.toml",
    "constant": "--set pe.sram=3",
    "constant's value": "--set pe.sram_bytes=lots",
    "constant out of range": "--set pe.sram_bytes=2",
    "no SRAM left": "--set pe.sram_bytes=4k",
    "wafers": "--wafers 2",
    "objective": "--objective throughput",
    "dtype": "--dtype fp16",
    "entries": "--entry decode",
    "rewrite": "--no-pass fuse_everything",
    "stages": "--stages 500",
    "no stage": "--stages 0",
    "no lane": "--max-lanes 0",
    "region beyond the mesh": "--region 20x2",
    "regions beyond the mesh": "--region 16x16 --stages 3",
    "pin of no region": "--pin r9=0,0,4,4",
    "pin outside": "--pin r1=14,3,4,4",
    "pin on a pin": "--pin r0=0,0,8,8 --pin r1=7,7,8,8",
    "pin without area": "--pin r0=0,0,0,8",
    "pin on another wafer": "--pin r0=0,0,8,8@1",
    "pin below the region": "--region 4x4 --pin r1=0,0,3,4",
    "pin too small": "--set pe.sram_bytes=6k --stages 1 --pin r0=0,0,2,2",
    "pin on dead cores": "--region 4x4 --stages 1 --defect-rate 0.3 --pin r0=4,4,4,4",
    "strategy of no op": "--strategy *lm_heed*=rows=k",
    "strategy of no op of a block": "--strategy b0:matmul=rows=k",
    "no such strategy": "--stages 1 --region 4x4 --strategy *lm_head*=rows=x",
    "strategy that does not fit": "--stages 1 --set pe.sram_bytes=6k --strategy *lm_head*=whole",
    "constraints": "--constraints gone.toml",
    "constraints of another kind": "--constraints tiny.onnx",
    "defect rate": "--defect-rate 1.5",
    "rate and map": "--defect-rate 0.1 --defects map.json",
    "input": "--shape ids=1x4",
    "rank": "--shape input_ids=1x4x3",
    "symbol": "--dim bach=1",
    "contradiction": "--dim batch=2",
    "batch": "--batch 2",
    "no token": "--shape input_ids=1x0",
    "too many tokens": "--shape input_ids=1x1000000000",
    "inputs-like": "--inputs-like gone.npz",
    "inputs-like of another kind": "--inputs-like tiny.onnx",
    "inputs-like and shape": "--inputs-like in.npz",
    "output folder": "-o gone/x.wafer",
    "output under a file": "-o tiny.onnx/x.wafer",
}
SHAPED_BY_ITSELF = {
    *("input", "rank", "symbol", "no token", "too many tokens"),
    *("inputs-like", "inputs-like of another kind"),
}


def test_an_option_that_cannot_be_honoured_is_refused(folder: Path, capsys: Capture, golden: Golden) -> None:
    write_npz("in.npz", tiny_inputs(7))
    lines = []
    for name, words in OPTIONS.items():
        given = TINY_WORDS[:2] if name in SHAPED_BY_ITSELF else TINY_WORDS
        lines.append(f"{name}: {refusal(capsys, 'compile', 'tiny.onnx', *given, *words.split())}")
    golden("bad_options", "\n".join(lines))


def test_a_folder_that_is_not_writable_is_refused(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "closed").mkdir(mode=0o555)
    # Nothing is closed to root, under whom tests may run: what the system would answer anyone else is put in its place.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    assert "is not writable" in refusal(capsys, "compile", "tiny.onnx", *TINY_WORDS, "-o", "closed/x.wafer")


def test_an_output_never_replaces_its_input(folder: Path, capsys: Capture) -> None:
    before = listing()
    assert main(["compile", "tiny.onnx", *TINY_WORDS, "-o", "./tiny.onnx"]) == 2
    assert "would overwrite what is read" in capsys.readouterr().err
    assert listing() == before


# --- what does not fit


def test_a_model_too_large_for_the_mesh_is_told_what_binds(folder: Path, capsys: Capture, golden: Golden) -> None:
    onnx.save(TinyLlama().onnx(), "large.onnx")
    like = {"input_ids": np.zeros((1, 16), np.int64)}
    with pytest.raises(DoesNotFit) as refused:
        wafercc.compile("large.onnx", target="mesh:6x6", inputs_like=like)
    assert refused.value.resource == "SRAM bytes per PE"
    assert refused.value.demand > refused.value.bound == 44 * 1024
    words, small = ("compile", "large.onnx", "--shape", "input_ids=1x16"), ("compile", "tiny.onnx")
    lines = {
        "too large": refusal(capsys, *words, "--target", "mesh:6x6"),
        "one PE": refusal(capsys, *words, "--target", "mesh:1x1", "--stages", "1"),
        "more stages than PEs": refusal(capsys, *words, "--target", "mesh:1x1"),
        "region too small": refusal(capsys, *words, "--target", MESH, "--region", "4x4"),
        "less SRAM": refusal(capsys, *words, "--target", MESH, "--set", "pe.sram_bytes=6k"),
        "too many tokens": refusal(capsys, *small, "--target", "mesh:2x2", "--shape", "input_ids=1x2000"),
        "wafers auto": refusal(capsys, *words, "--target", "mesh:6x6", "--wafers", "auto"),
    }
    # The bytes that a search settles for are its own affair; that both sides are named is not.
    text = "\n".join(f"{name}: {line}" for name, line in lines.items())
    golden("bad_fit", re.sub(r"(need|weights|activations) \d{4,}", r"\1 <n>", text))


def test_wafers_auto_takes_one_where_one_is_enough(folder: Path, capsys: Capture) -> None:
    assert main(["compile", "tiny.onnx", *TINY_WORDS, "--wafers", "auto"]) == 0
    assert capsys.readouterr().out == "tiny.wafer\n"
    with pytest.raises(DoesNotFit) as refused:
        onnx.save(TinyLlama().onnx(), "large.onnx")
        wafercc.compile("large.onnx", target="mesh:6x6", shapes={"input_ids": (1, 16)}, wafers="auto")
    assert (refused.value.resource, refused.value.demand, refused.value.bound) == ("wafers", 3, 1)


# --- defect maps


def _map(changes: Mapping[str, object]) -> str:
    return json.dumps(DefectMap.random(MESH, core_rate=0.01).to_dict() | changes)


DEFECTS: Mapping[str, Callable[[], str | bytes | None]] = {
    "missing": lambda: None,
    "not JSON": lambda: "{nope",
    "not text": lambda: bytes(range(256)),
    "another JSON": lambda: "[1]",
    "another version": lambda: _map({"version": 9}),
    "another grid": lambda: json.dumps(DefectMap.random("mesh:20x20").to_dict()),
    "another view": lambda: _map({"view": "physical"}),
    "outside the grid": lambda: _map({"dead_cores": [[0, 99, 3]]}),
    "malformed row": lambda: _map({"dead_cores": [[0, "x"]]}),
    "all cores dead": lambda: json.dumps(DefectMap.random(MESH, core_rate=1.0).to_dict()),
    "all routers dead": lambda: json.dumps(DefectMap.random(MESH, router_rate=1.0).to_dict()),
}


def test_a_defect_map_that_does_not_belong_is_refused(folder: Path, capsys: Capture, golden: Golden) -> None:
    lines = []
    for name, make in DEFECTS.items():
        content = make()
        if content is not None:
            (folder / "map.json").write_bytes(content.encode() if isinstance(content, str) else content)
        lines.append(f"{name}: {refusal(capsys, 'compile', 'tiny.onnx', *TINY_WORDS, '--defects', 'map.json')}")
    golden("bad_defects", "\n".join(lines))


def test_a_wafer_whose_links_are_all_dead_has_no_place(folder: Path, capsys: Capture) -> None:
    DefectMap.random("mesh:6x6", link_rate=1.0).save("map.json")
    message = refusal(capsys, "compile", "tiny.onnx", "--target", "mesh:6x6", *TINY_WORDS[2:], "--defects", "map.json")
    assert message.startswith("mesh:6x6, wafer 0: ") and "36 of 36 PEs are alive" in message


# --- programs


def _changed(data: bytes, home: Path, **manifest: object) -> bytes:
    path = home / "changed.wafer"
    path.write_bytes(data)
    loaded = json.loads(bytes(artifact.open_container(path).member("program.json")))
    artifact.reseal(path, {"program.json": json.dumps(loaded | manifest).encode()})
    content = path.read_bytes()
    path.unlink()
    return content


def _flipped(data: bytes, where: int) -> bytes:
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


PROGRAMS: Mapping[str, Callable[[bytes, Path], bytes | None]] = {
    "missing": lambda data, home: None,
    "empty": lambda data, home: b"",
    "text": lambda data, home: b"hello",
    "truncated": lambda data, home: data[: len(data) // 2],
    "tampered manifest": lambda data, home: _flipped(data, data.index(b'"assumptions"')),
    "tampered weight": lambda data, home: _flipped(data, data.index(b"NUMPY", data.index(b"weights/")) + 300),
    "later schema": lambda data, home: _changed(data, home, schema="9.0"),
    "malformed": lambda data, home: _changed(data, home, regions=7),
}


@pytest.mark.parametrize("verb", ["run", "verify", "show", "viz"])
def test_a_program_that_cannot_be_read_is_refused_by_every_verb(
    verb: str, folder: Path, capsys: Capture, golden: Golden, sealed: bytes
) -> None:
    lines = []
    for name, change in PROGRAMS.items():
        content = change(sealed, folder)
        if content is not None:
            (folder / "a.wafer").write_bytes(content)
        lines.append(f"{name}: {refusal(capsys, verb, 'a.wafer')}")
    golden("bad_programs", "\n".join(lines))


# --- runs

IDS = tiny_inputs()["input_ids"]
INPUTS: Mapping[str, Mapping[str, Any] | None] = {
    "no inputs": None,
    "no arrays": {},
    "another name": {"ids": IDS},
    "one too many": {"input_ids": IDS, "more": IDS},
    "shape": {"input_ids": IDS[:, :3]},
    "rank": {"input_ids": IDS[0]},
    "integers too narrow": {"input_ids": IDS.astype(np.int32)},
    "no integers": {"input_ids": IDS.astype(float)},
    "id too large": {"input_ids": np.full_like(IDS, TINY.vocabulary)},
    "id negative": {"input_ids": np.full_like(IDS, -1)},
}


def test_inputs_that_do_not_fit_the_program_are_refused(
    folder: Path, capsys: Capture, golden: Golden, sealed: bytes
) -> None:
    (folder / "a.wafer").write_bytes(sealed)
    lines = []
    for name, arrays in INPUTS.items():
        if arrays is not None:
            write_npz("in.npz", arrays)
        words = [] if arrays is None else ["--inputs", "in.npz"]
        lines.append(f"{name}: {refusal(capsys, 'run', 'a.wafer', *words, '--outputs', 'out.npz')}")
    write_npz("in.npz", {"input_ids": IDS})
    (folder / "text.npz").write_text("no arrays")
    np.save("one.npy", IDS)
    for name, words in {
        "missing file": "--inputs gone.npz",
        "not an npz": "--inputs text.npz",
        "unnamed array": "--inputs one.npy",
        "entry": "--inputs in.npz --entry decode",
        "output folder": "--inputs in.npz --outputs gone/out.npz",
    }.items():
        lines.append(f"{name}: {refusal(capsys, 'run', 'a.wafer', *words.split())}")
    golden("bad_runs", "\n".join(lines))


# --- Ctrl-C

# Runs the command again and again, each time with an interrupt that arrives while another stage is at work.
INTERRUPTED = """
import os, signal, sys, threading
from ortools.sat.python import cp_model
from wafercc.cli.main import main
from wafercc.ir import container
from wafercc.passes import pipeline
from wafercc.runtime import engine

# A shell starts what it runs in the background with SIGINT ignored; a person's terminal does not.
signal.signal(signal.SIGINT, signal.default_int_handler)

def press():
    os.kill(os.getpid(), signal.SIGINT)

def interrupted(holder, name, words, wait=0.0):
    original, pressed = getattr(holder, name), []
    def stage(*given, **named):
        if not pressed:
            pressed.append(True)
            threading.Timer(wait, press).start() if wait else press()
        return original(*given, **named)
    setattr(holder, name, stage)
    code = main(words)
    setattr(holder, name, original)
    print(name, code, len(pressed), *sorted(os.listdir(".")))

compile = ["compile", "tiny.onnx", "--no-cache", *sys.argv[1:]]
for name in ("import_entries", "run_rewrites", "carry_through", "assemble"):
    interrupted(pipeline, name, compile)
interrupted(cp_model.CpSolver, "solve", compile, 0.002)
interrupted(container, "_write_member", compile)
main(compile)
interrupted(engine, "execute", ["run", "tiny.wafer", "--inputs", "in.npz", "--outputs", "out.npz"])
"""


def test_ctrl_c_at_any_stage_leaves_nothing_and_says_one_word(folder: Path) -> None:
    write_npz("in.npz", tiny_inputs())
    done = python("-c", INTERRUPTED, *TINY_WORDS, cwd=folder)
    assert done.stderr.replace("\n\n", "\n").strip("\n") == "\n".join(["interrupted"] * 7), done.stderr
    *stages, run = (line for line in done.stdout.splitlines() if line != "tiny.wafer")
    assert stages == [
        f"{name} 1 1 in.npz tiny.onnx"
        for name in ("import_entries", "run_rewrites", "carry_through", "assemble", "solve", "_write_member")
    ]
    assert run == "execute 1 1 in.npz tiny.onnx tiny.wafer"
