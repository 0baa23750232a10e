"""Commands: what a user waits for. Every time is of a whole process, start-up and imports included."""

from __future__ import annotations

import json
import resource
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
class Taken:
    """What one process took: seconds on the wall, and of the processors; far apart where the computer was busy."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Timing:
    """One graph on one machine: what ``wafercc compile`` and ``wafercc run`` take, and cycles."""

    graph: str
    target: str
    compile: Taken
    run: Taken
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


def wafercc(words: Sequence[object]) -> tuple[Taken, str]:
    """What one command took, and its standard output.

    Raises:
        RuntimeError: it failed; its message.
    """
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "wafercc", *map(str, words)], capture_output=True, text=True)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"wafercc {' '.join(map(str, words))}: {done.stderr.strip()}")
    return Taken(took, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime), done.stdout


def timing(graph: Graph, target: str, folder: Path) -> Timing:
    """Compile and run one graph by its commands."""
    program = folder / "bench.wafer"
    words = ["compile", graph.model, "--no-cache", "--target", target, "--inputs-like", graph.inputs, "-o", program]
    compiled, _ = wafercc(words)
    ran, said = wafercc(["run", program, "--inputs", graph.inputs, "--outputs", folder / "out.npz", "--json"])
    return Timing(graph.name, target, compiled, ran, json.loads(said)["cycles"])


def help_seconds(times: int) -> float:
    """The median of ``wafercc --help``, after one run that only warms the disk."""
    wafercc(["--help"])
    return float(np.median([wafercc(["--help"])[0].seconds for _ in range(times)]))
