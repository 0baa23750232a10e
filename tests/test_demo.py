"""The demo: its model is an ordinary ONNX decoder, and the demo does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import wafercc
from wafercc.importer import Binding, import_model
from wafercc.ir.evaluate import evaluate
from wafercc.models import demo
from wafercc.models.tiny_llama import TinyLlama

SMALL = TinyLlama(layers=2, hidden=32, intermediate=48, vocabulary=64)


def test_the_model_is_valid_and_its_evaluation_equals_onnxruntime(tmp_path: Path) -> None:
    model = SMALL.onnx()
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(tmp_path / "tiny.onnx"))
    inputs = SMALL.prompt(5)
    (wanted,) = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx")).run(None, inputs)
    imported = import_model(tmp_path / "tiny.onnx", Binding(inputs_like=inputs))
    found = evaluate(imported.graph, {**inputs}, imported.weights)["logits"]
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_a_token_is_not_changed_by_those_after_it() -> None:
    ids = SMALL.prompt(6)["input_ids"]
    session = onnxruntime.InferenceSession(SMALL.onnx().SerializeToString())
    (whole,), (part,) = (session.run(None, {"input_ids": each}) for each in (ids, ids[:, :4]))
    assert np.allclose(whole[:, :4], part, atol=1e-5)


def test_the_same_sizes_give_the_same_file() -> None:
    assert SMALL.onnx().SerializeToString(deterministic=True) == SMALL.onnx().SerializeToString(deterministic=True)


@pytest.mark.pipeline
def test_the_demo_leaves_what_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo.main() == 0
    said = capsys.readouterr().out
    folder = tmp_path / "demo-out"
    assert {p.name for p in folder.iterdir()} == {"model.onnx", "in.npz", "model.wafer", "floorplan.svg"}
    program = wafercc.load(folder / "model.wafer")
    assert f"{program.run({}, timing_only=True).cycles:,} (" in said
    error = re.search(r"largest relative error +(\S+)", said)
    assert error and float(error[1]) < 1e-5
    assert (folder / "floorplan.svg").as_uri() in said
