"""The command over a real program, as a user types it: what comes on stdout, what on stderr, and which files appear."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from tiny_models import TINY_WORDS, from_onnxruntime, largest_error, python, tiny_file, tiny_inputs, wafercc_words

from wafercc.cli.main import main
from wafercc.ir import artifact
from wafercc.npz import read_npz, write_npz

pytestmark = pytest.mark.pipeline
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny decoder, its inputs, and its program."""
    folder = tmp_path_factory.mktemp("home")
    tiny_file(folder)
    write_npz(folder / "in.npz", tiny_inputs())
    words = wafercc_words("compile", "tiny.onnx", *TINY_WORDS, "--defect-rate", "0.02")
    done = python(*words, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tiny.wafer\n", "")
    assert sorted(path.name for path in folder.iterdir()) == ["in.npz", "tiny.onnx", "tiny.wafer"]
    return folder


@pytest.fixture(autouse=True)
def inside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def printed(capsys: Capture, *words: str) -> str:
    """What the command prints when all is well, and nothing on stderr."""
    assert main(list(words)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_run_in_a_process_of_its_own_writes_what_onnxruntime_gives(home: Path) -> None:
    words = wafercc_words("run", "tiny.wafer", "--inputs", "in.npz", "--outputs", "out.npz")
    done = python(*words, cwd=home)
    assert done.returncode == 0 and done.stderr == "wrote out.npz\n"
    assert re.fullmatch(r"cycles \d+\noutput logits float32\[1,4,32\]\n", done.stdout)
    assert largest_error(read_npz(home / "out.npz"), from_onnxruntime(home / "tiny.onnx", tiny_inputs())) < 1e-5


def test_a_failure_in_a_process_of_its_own_is_exit_1_and_one_line(home: Path) -> None:
    done = python(*wafercc_words("run", "gone.wafer"), cwd=home)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: gone.wafer: no such file\n")


def test_timing_only_counts_the_same_cycles(capsys: Capture) -> None:
    timed = json.loads(printed(capsys, "run", "tiny.wafer", "--timing-only", "--json"))
    ran = json.loads(printed(capsys, "run", "tiny.wafer", "--inputs", "in.npz", "--json"))
    assert timed == {"schema": 1, "cycles": ran["cycles"], "outputs": {}}
    assert ran["outputs"] == {"logits": {"dtype": "float32", "shape": [1, 4, 32]}}


def test_verify_says_what_was_checked(capsys: Capture) -> None:
    line = printed(capsys, "verify", "tiny.wafer")
    assert line.startswith("ok: ") and line.count("\n") == 1
    assert json.loads(printed(capsys, "verify", "tiny.wafer", "--json"))["ok"] is True


def test_verify_lists_every_violation_and_fails(home: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "broken.wafer"
    path.write_bytes((home / "tiny.wafer").read_bytes())
    manifest = json.loads(bytes(artifact.open_container(path).member("program.json")))
    for plan in manifest["sram"].values():
        plan["bound_bytes"] = 1
    artifact.reseal(path, {"program.json": json.dumps(manifest).encode()})
    assert main(["verify", str(path)]) == 1
    out, err = capsys.readouterr()
    count = len(out.splitlines())
    assert count >= len(manifest["regions"]) and all(line.startswith("rule 3: ") for line in out.splitlines())
    assert err == f"error: {path}: {count} violations\n"
    assert main(["verify", str(path), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["violations"]) == count


def test_show_and_its_json_agree(capsys: Capture) -> None:
    page = printed(capsys, "show", "tiny.wafer")
    facts = json.loads(printed(capsys, "show", "tiny.wafer", "--json"))
    ran = json.loads(printed(capsys, "run", "tiny.wafer", "--timing-only", "--json"))
    assert f"{ran['cycles']:,}" in page and f"{facts['pes']['used']} used" in page
    assert all(region["id"] in page for region in facts["regions"])


def test_the_critical_path_that_is_shown_sums_to_the_cycles(capsys: Capture) -> None:
    facts = json.loads(printed(capsys, "show", "tiny.wafer", "--critical-path", "--json"))
    cycles = json.loads(printed(capsys, "run", "tiny.wafer", "--timing-only", "--json"))["cycles"]
    path = facts["timing"]["critical_path"]
    assert sum(piece["end_cycle"] - piece["start_cycle"] for piece in path) == cycles
    lines = printed(capsys, "show", "tiny.wafer", "--critical-path").splitlines()
    rows = [line.split() for line in lines if re.match(r"\s*[\d,]+\s+[\d.]+%\s", line)]
    assert sum(int(row[0].replace(",", "")) for row in rows) == cycles


def test_viz_writes_a_picture_beside_the_program_or_where_told(home: Path, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "picture.svg"
    assert printed(capsys, "viz", "tiny.wafer", "-o", str(target)) == f"{target}\n"
    assert printed(capsys, "viz", "tiny.wafer") == "tiny.svg\n"
    assert target.read_bytes() == (home / "tiny.svg").read_bytes()
    assert ElementTree.parse(target).getroot().tag.endswith("svg")


def test_compile_describes_what_it_wrote(tmp_path: Path, capsys: Capture) -> None:
    words = ["compile", "tiny.onnx", "--target", "mesh:16x16", "-o", str(tmp_path / "d.wafer"), "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["artifact"] == str(tmp_path / "d.wafer") and Path(told["artifact"]).exists()
    assert err.splitlines() == [f"assumed: {line}" for line in told["assumptions"]]
    assert {"batch = 1 (--dim batch=N)", "new tokens = 64 (--dim sequence=N)"} == set(told["assumptions"])


def test_options_given_as_flags_and_from_python_give_one_program(home: Path, tmp_path: Path, capsys: Capture) -> None:
    import wafercc

    like = {"input_ids": np.zeros((1, 4), np.int64)}
    wafercc.compile("tiny.onnx", target="mesh:16x16", inputs_like=like, stages=2, defect_rate=0.02, seed=5).save(
        tmp_path / "python.wafer"
    )
    flags = "--target mesh:16x16 --inputs-like in.npz --stages 2 --defect-rate 0.02 --seed 5"
    printed(capsys, "compile", "tiny.onnx", *flags.split(), "-o", str(tmp_path / "flags.wafer"))
    assert (tmp_path / "python.wafer").read_bytes() == (tmp_path / "flags.wafer").read_bytes()


def test_help_waits_for_nothing_heavy(home: Path) -> None:
    """How long it takes is for `make bench`; what would make it long is not even imported."""
    heavy = {"numpy", "onnx", "onnx_ir", "ortools", "networkx", "ml_dtypes"}
    ask = f"print(sorted({heavy} & set(__import__('sys').modules)))"
    done = python("-c", f"from wafercc.cli.main import main\nmain(['--help'])\n{ask}", cwd=home)
    assert done.returncode == 0 and done.stdout.endswith("\n[]\n"), done.stdout
