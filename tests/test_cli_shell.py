"""The command as a shell sees it: streams, exit codes and messages, over a library that is replaced by a stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wafercc
from wafercc.cli.main import main
from wafercc.errors import CompileError, RunError, VerifyError
from wafercc.npz import read_npz, whole_file, write_npz
from wafercc.passes.options import Options


@dataclass
class Result:
    outputs: dict[str, np.ndarray]
    cycles: int = 1234


@dataclass
class StandIn:
    """A program that does as it is told; ``fail`` is raised by whatever is called first."""

    fail: BaseException | None = None
    assumptions: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)

    def compile(self, model: Path, course: object, **options: Any) -> StandIn:
        self.given = options
        Options(**options)
        if self.fail:
            raise self.fail
        return self

    def load(self, path: Path) -> StandIn:
        return self

    def save(self, path: Path) -> None:
        with whole_file(path) as file:
            file.write(b"program")

    def run(self, inputs: dict[str, np.ndarray], *, entry: str, timing_only: bool) -> Result:
        if self.fail:
            raise self.fail
        return Result({} if timing_only else {name: array * 2 for name, array in inputs.items()})

    def check(self) -> str:
        if self.fail:
            raise self.fail
        return "ok: 7 rules, 12 regions"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(wafercc, "compile", stand_in.compile)
    monkeypatch.setattr(wafercc, "load", stand_in.load)
    monkeypatch.chdir(tmp_path)
    return stand_in


Capture = pytest.CaptureFixture[str]


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from wafercc.cli.main import main; code = main(['--help']) or main(['compile', '--help']);"
        "print(code, *sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, *modules = done.stderr.split()
    assert code == "0" and "wafercc.passes.options" in modules
    heavy = {
        "numpy",
        "onnx",
        "onnx_ir",
        "ortools",
        "networkx",
        "ml_dtypes",
        "wafercc.passes.pipeline",
        "wafercc.runtime",
    }
    assert not heavy & set(modules)
    assert "Compile an ONNX decoder" in done.stdout


def test_compile_writes_beside_the_model_and_prints_only_the_path(library: StandIn, capsys: Capture) -> None:
    library.assumptions = ("batch is 1 (--batch)",)
    assert main(["compile", "model.onnx"]) == 0
    out, err = capsys.readouterr()
    assert out == "model.wafer\n" and err == "assumed: batch is 1 (--batch)\n"
    assert Path("model.wafer").read_bytes() == b"program" and library.given == {}


def test_compile_hands_every_option_to_the_library(library: StandIn) -> None:
    words = (
        "compile m.onnx -o out.wafer --target mesh:8x4 --set pe.sram_bytes=32k --set width=9 --defect-rate 0.01"
        " --defect-seed 3 --shape input_ids=1x16 --shape past=1x2x0x8 --dim batch=1 --context 64 --new-tokens 2"
        " --batch 1 --wafers auto --objective throughput --dtype fp16 --seed 5 --stages 4 --region 8x2 --max-lanes 2"
        " --no-pass fuse_rope --no-pass fuse_norm"
    )
    assert main(words.split()) == 0 and Path("out.wafer").exists()
    assert library.given == {
        "target": "mesh:8x4",
        "target_overrides": {"pe.sram_bytes": "32k", "width": "9"},
        "defect_rate": 0.01,
        "defect_seed": 3,
        "shapes": {"input_ids": (1, 16), "past": (1, 2, 0, 8)},
        "dims": {"batch": 1},
        "context": 64,
        "new_tokens": 2,
        "batch": 1,
        "wafers": "auto",
        "objective": "throughput",
        "dtype": "fp16",
        "seed": 5,
        "stages": 4,
        "region": (2, 8),
        "max_lanes": 2,
        "disabled_passes": ("fuse_rope", "fuse_norm"),
    }


def test_inputs_like_binds_shapes_from_a_file(library: StandIn) -> None:
    write_npz("in.npz", {"input_ids": np.zeros((2, 11), np.int64)})
    assert main(["compile", "m.onnx", "--inputs-like", "in.npz"]) == 0
    assert Options(**library.given).bound_shapes == {"input_ids": (2, 11)}


def test_run_writes_outputs_and_prints_cycles(library: StandIn, capsys: Capture) -> None:
    write_npz("in.npz", {"x": np.arange(3, dtype=np.float32)})
    assert main(["run", "m.wafer", "--inputs", "in.npz", "--outputs", "out.npz"]) == 0
    out, err = capsys.readouterr()
    assert out == "cycles 1234\noutput x float32[3]\n" and err == "wrote out.npz\n"
    assert read_npz("out.npz")["x"].tolist() == [0, 2, 4]
    assert main(["run", "m.wafer", "--inputs", "in.npz", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described == {"schema": 1, "cycles": 1234, "outputs": {"x": {"dtype": "float32", "shape": [3]}}}


def test_verify_prints_what_was_checked_or_every_violation(
    library: StandIn, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wafercc.ir.artifact.check_weights", lambda path: 0)
    assert main(["verify", "m.wafer"]) == 0
    assert capsys.readouterr().out == "ok: 7 rules, 12 regions\n"
    library.fail = VerifyError(["r1 and r2 overlap", "net n3 has no route"])
    assert main(["verify", "m.wafer"]) == 1
    out, err = capsys.readouterr()
    assert out == "r1 and r2 overlap\nnet n3 has no route\n" and err == "error: m.wafer: 2 violations\n"
    assert main(["verify", "m.wafer", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["violations"] == ["r1 and r2 overlap", "net n3 has no route"]


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            CompileError("needs 61440\n bytes", where="op mlp", hint="split it"),
            "error: op mlp: needs 61440 bytes (split it)\n",
        ),
        (RunError("no such input"), "error: no such input\n"),
        (FileNotFoundError(2, "No such file or directory", "m.onnx"), "error: m.onnx: No such file or directory\n"),
        (MemoryError(), "error: this computer has too little memory for it\n"),
        (KeyboardInterrupt(), "interrupted\n"),
    ],
)
def test_a_problem_is_one_line_and_exit_1(
    library: StandIn, capsys: Capture, problem: BaseException, message: str
) -> None:
    library.fail = problem
    assert main(["compile", "m.onnx"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.lstrip("\n") == message
    assert list(Path().iterdir()) == []


def test_a_bug_says_so_and_names_the_switch_for_its_traceback(
    library: StandIn, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAFERCC_DEBUG", raising=False)
    library.fail = KeyError("x")
    assert main(["compile", "m.onnx"]) == 1
    err = capsys.readouterr().err
    assert "bug in wafercc" in err and "WAFERCC_DEBUG=1" in err and "Traceback" not in err
    monkeypatch.setenv("WAFERCC_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["compile", "m.onnx"])


@pytest.mark.parametrize(
    "words",
    [
        "compile",
        "compile m.onnx --no-such-option",
        "compile m.onnx --shape input_ids",
        "compile m.onnx --shape input_ids=1xy",
        "compile m.onnx --shape input_ids=1x-1",
        "compile m.onnx --region 8",
        "compile m.onnx --stages two",
        "compile m.onnx --objective beauty",
        "run m.wafer --timing-only --outputs out.npz",
        "no-such-verb",
    ],
)
def test_misuse_is_exit_2(library: StandIn, capsys: Capture, words: str) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Error" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stages": 0}, ("0", "least is 1", "--stages")),
        ({"context": -1}, ("-1", "least is 0", "--context")),
        ({"defect_rate": 1.5}, ("1.5", "--defect-rate")),
        ({"defect_rate": float("nan")}, ("nan", "--defect-rate")),
        ({"defects": "map.json", "defect_rate": 0.1}, ("--defects",)),
        ({"region": (0, 4)}, ("4x0", "--region")),
        ({"objective": "beauty"}, ("beauty", "latency, throughput")),
        ({"wafers": "many"}, ("many", "auto")),
        ({"dtype": "fp12"}, ("fp12", "fp16")),
        ({"entries": {"decode": {}}}, ("unknown number of", "decode:new=N")),
        ({"entries": {"decode": {"new": 0}}}, ("takes in 0", "--entry")),
        ({"entries": {"decode": {"now": 1}}}, ("'now'", "new, batch")),
        ({"entries": {"a b": {"new": 1}}}, ("not a word", "'a b'")),
        ({"entries": {"decode": {"new": 1}}, "new_tokens": 2}, ("--new-tokens 2",)),
        ({"entries": {"decode": {"new": 1}}, "inputs_like": {}}, ("one entry only", "--inputs-like")),
    ],
)
def test_an_impossible_option_is_refused_with_its_lever(options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(CompileError) as refused:
        Options(**options)
    assert all(word in str(refused.value) for word in words)


def test_two_shapes_for_one_input_must_agree() -> None:
    like = {"input_ids": np.zeros((1, 4))}
    assert Options(inputs_like=like, shapes={"input_ids": (1, 4)}).bound_shapes == {"input_ids": (1, 4)}
    with pytest.raises(CompileError, match="1x5 here and 1x4 in inputs_like"):
        _ = Options(inputs_like=like, shapes={"input_ids": [1, 5]}).bound_shapes


def test_the_record_of_options_is_plain_and_says_only_what_was_decided() -> None:
    assert Options().record() == {}
    options = Options(target="pages/mine.toml", region=(2, 8), inputs_like={"x": np.zeros((1, 2))}, defects="m.json")
    record = options.record()
    assert record == {"defects": "given", "inputs_like": {"x": [1, 2]}, "region": [2, 8], "target": "mine.toml"}
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: None,
        lambda path: path.write_bytes(b"not an archive"),
        lambda path: path.write_bytes(b""),
        lambda path: np.savez(path, x=np.array([{}], dtype=object)),
        lambda path: np.save(path.open("wb"), np.zeros(3)),
        lambda path: (write_npz(path, {"x": np.zeros(1000)}), path.write_bytes(path.read_bytes()[:500])),
        lambda path: (
            write_npz(path, {"x": np.zeros(1000)}),
            path.write_bytes(path.read_bytes().replace(b"\0" * 64, b"\1" * 64, 1)),
        ),
        lambda path: path.mkdir(),
    ],
)
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    path = tmp_path / "in.npz"
    spoil(path)
    with pytest.raises(RunError, match=r"in\.npz"):
        read_npz(path)


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_targets_are_listed_and_shown_with_sources(capsys: Capture) -> None:
    assert main(["targets"]) == 0
    assert "wse3" in capsys.readouterr().out
    assert main(["targets", "show", "wse3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert any(fact["key"] == "pe.sram_bytes" and fact["source"] for fact in facts)
    assert main(["targets", "show", "no-such-machine"]) == 1
    assert "known: " in capsys.readouterr().err


def test_a_shown_page_is_a_target(capsys: Capture, tmp_path: Path) -> None:
    from wafercc import targets

    assert main(["targets", "show", "wse3", "--toml"]) == 0
    page = tmp_path / "mine.toml"
    page.write_text(capsys.readouterr().out)
    assert targets.load(page) == targets.load("wse3")
