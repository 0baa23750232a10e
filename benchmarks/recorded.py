"""Recorded: folders of exported graphs, each NAME.onnx beside NAME.npz with the inputs and outputs of some runs.

Keys of the arrays are ``in/CASE/INPUT`` and ``ort/CASE/OUTPUT`` (``torch/CASE/OUTPUT`` where onnxruntime cannot run the
graph). Each graph is worked on in a process of its own, under a time limit, so that none stops the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Row = dict[str, Any]

TOLERANCE, LOW_TOLERANCE = 1e-3, 2e-2  # relative to the largest element; low: 16-bit floats and quantised weights
LOW = ("fp16", "int4", "int8", "bf16")


def cases(graph: Path) -> dict[str, tuple[Arrays, Arrays]]:
    """Case → its inputs and recorded outputs."""
    sides: dict[str, dict[str, dict[str, Array]]] = {}
    with np.load(graph.with_suffix(".npz")) as held:
        for key in held.files:
            side, case, name = key.split("/", 2)
            sides.setdefault(case, {}).setdefault(side, {})[name] = held[key]
    return {case: (side["in"], side.get("ort") or side["torch"]) for case, side in sides.items() if len(side) > 1}


def tolerance(graph: Path) -> float:
    """The largest relative error that a graph of this name may have."""
    return LOW_TOLERANCE if any(mark in graph.stem for mark in LOW) else TOLERANCE


def relative_error(inputs: Arrays, got: Arrays, want: Arrays) -> float:
    """The largest ``max|a-b| / max|b|`` of all outputs; infinite where one is missing, misshapen or not finite."""
    worst = 0.0
    for name, reference in want.items():
        if name not in got or got[name].shape != reference.shape:
            return float("inf")
        there = _defined(inputs, reference)
        a, b = got[name].astype(np.float64)[there], reference.astype(np.float64)[there]
        if not np.isfinite(a).all():
            return float("inf")
        if b.size:
            worst = max(worst, float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-6)))
    return worst


def _defined(inputs: Arrays, array: Array) -> Array | EllipsisType:
    """Which rows mean something: those of padding tokens (attention_mask 0) do not, and engines differ there."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.ndim != 2 or mask.all():
        return ...
    batch, total = mask.shape
    new = next((v.shape[1] for k, v in inputs.items() if k in ("input_ids", "inputs_embeds")), total)
    if array.ndim == 3 and array.shape[:2] == (batch, new):
        return mask[:, -new:].astype(bool)
    if array.ndim == 4 and array.shape[0] == batch and array.shape[2] == total:
        return np.broadcast_to(mask.astype(bool)[:, None, :], array.shape[:3])
    return ...


def parser(module: str, text: str | None) -> argparse.ArgumentParser:
    """The command line that scripts over folders share."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=(text or "").split("\n")[0])
    made.add_argument("folder", type=Path, help="where the graphs are, or one graph")
    made.add_argument("--filter", default="", help="only graphs whose name contains this")
    made.add_argument("--names", nargs="*", help="only the graphs with exactly these names")
    made.add_argument("--target", default="mesh:64x64")
    made.add_argument("--timeout", type=float, default=600, help="seconds for one graph")
    made.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return made


def chosen(args: argparse.Namespace) -> Iterator[Path]:
    """The graphs of the folder that have recorded cases and are asked for."""
    for path in sorted(args.folder.glob("*.onnx")):
        named = path.stem in args.names if args.names else args.filter in path.stem
        if named and path.with_suffix(".npz").exists():
            yield path


def each(module: str, args: argparse.Namespace, words: Sequence[str] = ()) -> Iterator[tuple[Path, list[Row]]]:
    """Every graph with the rows that ``python -m MODULE GRAPH --one`` prints for it, a line of JSON each; what stopped
    it early is one more row."""
    for path in chosen(args):
        command = [sys.executable, "-m", module, str(path), "--one", "--target", args.target, *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout)
            out, last = done.stdout, (done.stderr.strip().splitlines() or ["no output"])[-1]
            failed = last if done.returncode else ""
        except subprocess.TimeoutExpired as late:
            out, failed = _text(late.stdout), f"not done after {args.timeout:.0f} s"
        rows: list[Row] = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        if failed:
            rows.append({"case": "-", "ok": False, "why": failed[:160]})
        yield path, rows


def emit(rows: Iterable[Row]) -> int:
    """Print rows as `each` reads them."""
    for row in rows:
        print(json.dumps(row), flush=True)
    return 0


def attempt(row: Row, work: Callable[[], Row]) -> Row:
    """The row with what the work adds to it, or why it failed."""
    try:
        return {**row, **work()}
    except Exception as problem:  # one failure is one row of the table
        return {**row, **failure(problem)}


def failure(problem: Exception) -> Row:
    """What a row says of it."""
    return {"ok": False, "why": f"{type(problem).__name__}: {problem}".splitlines()[0][:200]}


def _text(given: bytes | str | None) -> str:
    return given.decode() if isinstance(given, bytes) else given or ""
