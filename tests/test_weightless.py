"""Weightless models: a graph whose weights lie in a file that is not there compiles on request, can be timed like the
real one, and says what it lacks wherever someone might expect numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_models import TINY, TINY_TOKENS, TINY_WORDS, tiny_inputs

import wafercc
from wafercc.cli.main import main
from wafercc.errors import ImportFailed, RunError

pytestmark = pytest.mark.pipeline
MESH = "mesh:16x16"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The tiny decoder without the file of its weights; ``whole.onnx`` beside it has them inside."""
    onnx.save(TINY.onnx(), tmp_path / "whole.onnx")
    path = tmp_path / "bare.onnx"
    onnx.save(TINY.onnx(), path, save_as_external_data=True, location="weights.bin", size_threshold=256)
    assert (tmp_path / "weights.bin").stat().st_size > 1000
    (tmp_path / "weights.bin").unlink()
    return path


def test_absent_weights_are_an_error_that_names_the_flag(bare: Path) -> None:
    with pytest.raises(ImportFailed, match=r"weights\.bin does not exist .* compile with --weightless to time"):
        wafercc.compile(bare, target=MESH, shapes={"input_ids": (1, TINY_TOKENS)})


def test_a_weightless_program_takes_the_cycles_of_the_real_one(bare: Path) -> None:
    program = wafercc.compile(bare, target=MESH, inputs_like=tiny_inputs(), weightless=True)
    program.verify()
    assert any("--weightless" in text for text in program.assumptions)
    program.save(bare.with_suffix(".wafer"))
    loaded = wafercc.load(bare.with_suffix(".wafer"))
    assert loaded.placed.options["weightless"] is True
    whole = wafercc.compile(bare.with_name("whole.onnx"), target=MESH, inputs_like=tiny_inputs())
    assert loaded.run({}, timing_only=True).cycles == whole.run(tiny_inputs()).cycles
    with pytest.raises(RunError, match=r"weights have no numbers.* and without --weightless"):
        loaded.run(tiny_inputs())


def test_the_flag_leaves_out_weights_that_are_there(bare: Path) -> None:
    whole = bare.with_name("whole.onnx")
    with_numbers = wafercc.compile(whole, target=MESH, inputs_like=tiny_inputs())
    without = wafercc.compile(whole, target=MESH, inputs_like=tiny_inputs(), weightless=True)
    assert all(weight.tiles is None for weight in without.placed.weights.values())
    assert with_numbers.placed.weights.keys() == without.placed.weights.keys()
    assert with_numbers.placed.graph_text == without.placed.graph_text


def test_the_command_compiles_shows_and_times_a_weightless_model(bare: Path, capsys: Capture) -> None:
    artifact = bare.with_suffix(".wafer")
    assert main(["compile", str(bare), *TINY_WORDS, "--no-cache", "--weightless"]) == 0
    assert "assumed: the weights have no numbers" in capsys.readouterr().err
    assert main(["show", str(artifact)]) == 0
    assert "weightless: their numbers were left out" in " ".join(capsys.readouterr().out.split())
    assert main(["run", str(artifact), "--timing-only"]) == 0
    assert capsys.readouterr().out.startswith("cycles ")
    np.savez(bare.with_name("in.npz"), allow_pickle=False, **tiny_inputs())
    assert main(["run", str(artifact), "--inputs", str(bare.with_name("in.npz"))]) == 1
    assert "run with --timing-only" in capsys.readouterr().err


def test_a_stage_file_remembers_that_its_model_is_weightless(bare: Path) -> None:
    whole = wafercc.compile(bare, target=MESH, inputs_like=tiny_inputs(), weightless=True)
    stopped = wafercc.compile_until("layout", bare, target=MESH, inputs_like=tiny_inputs(), weightless=True)
    assert "\noption --weightless\n" in stopped.read_text()
    resumed = wafercc.resume(stopped)
    assert resumed.assumptions == whole.assumptions and resumed.placed.order == whole.placed.order
