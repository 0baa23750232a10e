"""Commands: what a user waits for. Every time is the wall clock of a whole process, start-up and imports included."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from wafercc.models.tiny_llama import TinyLlama
from wafercc.npz import write_npz

DATA = Path(__file__).parent.parent / "tests" / "data"
TOKENS = 16  # of the demo's prompt
SMALL = TinyLlama(layers=2, hidden=32, intermediate=48, vocabulary=64)


@dataclass(frozen=True, slots=True)
class Graph:
    """A model file and the inputs of one run."""

    name: str
    model: Path
    inputs: Path


@dataclass(frozen=True, slots=True)
class Timing:
    """One graph on one machine: seconds of ``wafercc compile`` and ``wafercc run``, and cycles."""

    graph: str
    target: str
    compile_seconds: float
    run_seconds: float
    cycles: int


def graphs(folder: Path, quick: bool) -> Iterator[Graph]:
    """The demo's model, and every recorded case of the graphs in ``tests/data``; if quick, only a smaller demo."""
    name, llama = ("small demo", SMALL) if quick else ("demo", TinyLlama())
    model, inputs = folder / "demo.onnx", folder / "demo.npz"
    onnx.save(llama.onnx(), str(model))
    write_npz(inputs, llama.prompt(TOKENS))
    yield Graph(f"{name} ({TOKENS} tokens)", model, inputs)
    if quick:
        return
    for path in sorted(DATA.glob("*.onnx")):
        with np.load(path.with_suffix(".npz")) as arrays:
            cases: dict[str, dict[str, np.ndarray]] = {}
            for key in arrays.files:
                side, case, value = key.split("/", 2)
                if side == "in":
                    cases.setdefault(case, {})[value] = arrays[key]
        for case, given in cases.items():
            inputs = folder / f"{path.stem}-{case}.npz"
            write_npz(inputs, given)
            yield Graph(f"{path.stem} {case}", path, inputs)


def wafercc(words: Sequence[object]) -> tuple[float, str]:
    """Seconds and standard output of one command.

    Raises:
        RuntimeError: it failed; its message.
    """
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "wafercc", *map(str, words)], capture_output=True, text=True)
    took = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"wafercc {' '.join(map(str, words))}: {done.stderr.strip()}")
    return took, done.stdout


def timing(graph: Graph, target: str, folder: Path) -> Timing:
    """Compile and run one graph by its commands."""
    program = folder / "bench.wafer"
    compiled, _ = wafercc(["compile", graph.model, "--target", target, "--inputs-like", graph.inputs, "-o", program])
    ran, said = wafercc(["run", program, "--inputs", graph.inputs, "--outputs", folder / "out.npz", "--json"])
    return Timing(graph.name, target, compiled, ran, json.loads(said)["cycles"])


def help_seconds(times: int) -> float:
    """The median of ``wafercc --help``, after one run that only warms the disk."""
    wafercc(["--help"])
    return float(np.median([wafercc(["--help"])[0] for _ in range(times)]))
