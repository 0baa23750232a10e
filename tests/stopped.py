"""Compiles that stop after a stage and go on, for the tests: a small decoder on a mesh whose regions must jog."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tiny_models import tiny_file

import wafercc
from wafercc import Program
from wafercc.models.tiny_llama import TinyLlama

# Two layers, so that one block has two regions; dead cores so dense that three of the four regions jog.
TWO_LAYERS = TinyLlama(layers=2, hidden=16, heads=2, kv_heads=1, intermediate=32, vocabulary=32)
JOGGED: dict[str, Any] = {
    "target": "mesh:18x18",
    "region": (8, 8),
    "defect_rate": 0.03,
    "defect_seed": 4,
    "shapes": {"input_ids": (1, 4)},
    "reach": 2,
    "detour_hops": 0,
}
STAGES = ("import", "rewrite", "partition", "size", "place", "embed", "layout", "route", "schedule")


def saved(program: Program, folder: Path) -> bytes:
    """The bytes of a program's file."""
    path = folder / "saved.wafer"
    program.save(path)
    content = path.read_bytes()
    path.unlink()
    return content


@cache
def home(root: Path) -> Path:
    """A folder with the decoder ``tiny.onnx``, its program ``tiny.wafer`` and a stage file of every stage."""
    tiny_file(root, TWO_LAYERS)
    wafercc.compile(root / "tiny.onnx", **JOGGED).save(root / "tiny.wafer")
    for stage in STAGES:
        wafercc.compile_until(stage, root / "tiny.onnx", cache=root / "cache", **JOGGED)
    return root
