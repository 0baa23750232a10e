"""The demo: a small LLM compiled for a wafer with dead cores, checked, executed, compared and drawn.

``python -m wafercc.models.demo``, which is what ``make demo`` runs. Leaves in demo-out/ the model and its inputs, for
the tour of the README, the placed program, and its floorplan.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import wafercc
from wafercc.errors import WaferError
from wafercc.importer import Binding, import_model
from wafercc.ir.evaluate import evaluate
from wafercc.npz import write_npz
from wafercc.report import floorplan, summary, tables

from .tiny_llama import TinyLlama

FOLDER = Path("demo-out")
TARGET = "mesh:64x64"
DEFECT_RATE = 0.002
TOKENS = 16
TOP_KINDS = 6
PIPED_WIDTH = 160  # columns where no terminal limits them


def main() -> int:
    """Run the demo and return its exit code."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    console = Console(width=width, soft_wrap=True, highlight=False, emoji=False, markup=False)
    try:
        demo(console)
    except WaferError as problem:
        print(f"error: {' '.join(str(problem).split())}", file=sys.stderr)
        return 1
    return 0


def demo(console: Console) -> None:
    """Everything the demo does, a step a paragraph."""
    FOLDER.mkdir(exist_ok=True)
    model, llama = FOLDER / "model.onnx", TinyLlama()
    onnx.save(llama.onnx(), str(model))
    inputs = llama.prompt(TOKENS)
    write_npz(FOLDER / "in.npz", inputs)
    console.print(f"{model}: a Llama-style decoder with random weights, {llama.layers} layers of width {llama.hidden}")

    start = time.perf_counter()
    program = wafercc.compile(model, target=TARGET, inputs_like=inputs, defect_rate=DEFECT_RATE)
    program.save(FOLDER / "model.wafer")
    took = time.perf_counter() - start
    facts = summary.as_dict(program)
    console.print(f"compiled in {took:.1f} s for {TARGET} with {tables.dead_line(facts['defects'])}")
    console.print(program.check())

    start = time.perf_counter()
    result = program.run(inputs)
    took = time.perf_counter() - start
    console.print(f"executed on {facts['pes']['used']:,} PEs in {took:.1f} s, {TOKENS} tokens at once:")
    console.print()
    console.print(_figures(facts, result.cycles, _error(model, inputs, result.outputs["logits"])))
    console.print()
    console.print(tables.by_kind(facts, TOP_KINDS) or "")

    floorplan.write_svg(program, FOLDER / "floorplan.svg")
    console.print()
    console.print(f"The picture of it: {(FOLDER / 'floorplan.svg').resolve().as_uri()}")
    console.print("Next, with the environment that make has set up (. .venv/bin/activate):")
    for command in (
        "wafercc show demo-out/model.wafer",
        "wafercc show demo-out/model.wafer --critical-path",
        "wafercc run demo-out/model.wafer --inputs demo-out/in.npz --outputs demo-out/out.npz",
        "wafercc compile demo-out/model.onnx --target wse3 --inputs-like demo-out/in.npz -o demo-out/wse3.wafer",
        "wafercc compile YOUR-MODEL.onnx",
    ):
        console.print(f"  {command}")


def _error(model: Path, inputs: dict[str, NDArray[np.int64]], found: NDArray[np.generic]) -> float:
    """The largest difference from a plain evaluation of the imported graph, relative to its largest number."""
    imported = import_model(model, Binding(inputs_like=inputs))
    wanted = evaluate(imported.graph, {**inputs}, imported.weights)[imported.graph.outputs[0]].astype(np.float64)
    return float(np.abs(found.astype(np.float64) - wanted).max() / np.abs(wanted).max())


def _figures(facts: Mapping[str, Any], cycles: int, error: float) -> Table:
    target, pes = facts["target"], facts["pes"]
    microseconds = cycles / (target["clock_ghz"] * 1e3)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("cycles", f"{cycles:,} ({microseconds:,.1f} µs at {target['clock_ghz']} GHz)")
    table.add_row("largest relative error", f"{error:.1e} against a plain evaluation of the graph")
    table.add_row("PEs used", f"{pes['used']:,} of {pes['live']:,} alive ({pes['share_of_live']:.0%})")
    table.add_row("colours", tables.colours_line(facts))
    return table


if __name__ == "__main__":
    sys.exit(main())
