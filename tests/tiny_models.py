"""Models small enough to compile in a moment, and programs that several tests share, compiled once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from importer_models import DATA, recorded, relative_error, run_onnxruntime
from numpy.typing import NDArray

import wafercc
from wafercc import DefectMap, Program
from wafercc.models.tiny_llama import TinyLlama

Array = NDArray[Any]
TARGET = "mesh:64x64"
DEFECT_RATE = 0.002
DEFECT_SEED = 1
TOLERANCE = 1e-3  # largest error over largest value, as for every float32 graph
CASES = [(name, case) for name in ("gpt2-ts17past", "llama-dyn18past", "llama-dyn23") for case in recorded(name)]

# A decoder that one PE holds whole, weights and activations; and its prompt.
TINY = TinyLlama(layers=1, hidden=16, heads=2, kv_heads=1, intermediate=32, vocabulary=32)
TINY_TOKENS = 4
# What the two say to `wafercc compile`.
TINY_WORDS = ("--target", "mesh:16x16", "--shape", f"input_ids=1x{TINY_TOKENS}")


def tiny_file(folder: Path, model: TinyLlama = TINY) -> Path:
    """The tiny decoder as a file ``tiny.onnx``."""
    path = folder / "tiny.onnx"
    onnx.save(model.onnx(), str(path))
    return path


def tiny_inputs(tokens: int = TINY_TOKENS) -> dict[str, Array]:
    return dict(TINY.prompt(tokens))


def defects(target: str = TARGET, seed: int = DEFECT_SEED) -> DefectMap:
    rate = DEFECT_RATE
    return DefectMap.random(target, core_rate=rate, router_rate=rate / 5, link_rate=rate / 5, seed=seed)


def program_of(name: str, case: str, defective: bool = False, **options: Any) -> Program:
    """The program of a recorded case of a graph in ``tests/data``, compiled once for all tests."""
    return _compiled(name, case, defective, tuple(sorted(options.items())))


@cache
def _compiled(name: str, case: str, defective: bool, options: tuple[tuple[str, Any], ...]) -> Program:
    around = {"defects": defects()} if defective else {}
    inputs, _ = recorded(name)[case]
    return wafercc.compile(DATA / f"{name}.onnx", target=TARGET, inputs_like=inputs, **around, **dict(options))


def error_of(outputs: Mapping[str, Array], name: str, case: str) -> float:
    """How far outputs are from what onnxruntime gave when the case was recorded."""
    inputs, wanted = recorded(name)[case]
    return relative_error(inputs, outputs, wanted)


def largest_error(got: Mapping[str, Array], want: Mapping[str, Array]) -> float:
    """The largest max|a-b| / max|b| over all outputs."""
    assert got.keys() == want.keys()
    for name, expected in want.items():
        assert got[name].shape == expected.shape and got[name].dtype == expected.dtype, name
    return max(
        float(np.abs(got[n].astype(np.float64) - w.astype(np.float64)).max() / np.abs(w).max())
        for n, w in want.items()
        if w.size
    )


def from_onnxruntime(model: Path | onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return run_onnxruntime(model, inputs)


def python(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """This Python in a process of its own, in another folder."""
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, env=environ(**environment), check=False
    )


def environ(**more: str) -> dict[str, str]:
    """The environment of a process that finds this package wherever it runs."""
    root = str(Path(wafercc.__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def wafercc_words(*words: object) -> Sequence[str]:
    return ["-m", "wafercc", *map(str, words)]
