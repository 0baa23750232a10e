"""Import and rewrites cost twice as much for twice the layers: counted in calls, which no other load disturbs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import onnx
import pytest

from wafercc.importer import Binding, import_model
from wafercc.models.tiny_llama import TinyLlama
from wafercc.passes.base import run_rewrites
from wafercc.passes.rewrite import all_rewrites


def calls(layers: int, folder: Path) -> int:
    """Python and C functions called while a decoder of so many layers is imported and rewritten."""
    tiny = TinyLlama(layers=layers, hidden=16, heads=2, kv_heads=1, intermediate=32, vocabulary=32)
    path = folder / f"{layers}.onnx"
    onnx.save(tiny.onnx(), path, save_as_external_data=True, location=f"{layers}.bin", size_threshold=256)
    (folder / f"{layers}.bin").unlink()
    count = 0

    def tick(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tick)
    try:
        imported = import_model(path, Binding(new_tokens=4), allow_missing_weights=True)
        rewritten = run_rewrites(imported.graph, imported.weights, all_rewrites())
    finally:
        sys.setprofile(before)
    assert sum(op.kind == "attention" for op in rewritten.graph.ops) == layers
    return count


def test_twice_the_layers_are_twice_the_calls(tmp_path: Path) -> None:
    calls(1, tmp_path)  # what is imported late, and found once
    few, some, many = (calls(layers, tmp_path) for layers in (4, 8, 16))
    assert many - some == pytest.approx(2 * (some - few), rel=0.02)
