"""Contexts: does one program serve every length of the cache, as onnxruntime has it?

``python -m benchmarks.contexts FOLDER [--filter NAME]``. Every graph of the folder that takes a cache is compiled once
for a capacity (with one new token, and again with two), and runs at several lengths of the cache, from none to full.
The last line counts: ``CONTEXTS ok/total``; exit 0 only if all are. Where onnxruntime cannot run a graph, the program
is held against a second one, compiled for exactly that length, and the row says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import wafercc

from . import recorded
from .recorded import Array, Arrays, Row

CAPACITY = 32
LENGTHS = (0, 1, 7, CAPACITY)  # of the cache; cut to what there is room for
NEW_TOKENS = (1, 2)


def main(words: Sequence[str] | None = None) -> int:
    """Run all graphs, or one in this process; returns the exit code."""
    parser = recorded.parser("benchmarks.contexts", __doc__)
    parser.add_argument("--new", type=int, nargs="*", default=list(NEW_TOKENS), help="new tokens of a run")
    args = parser.parse_args(words)
    if args.one:
        return recorded.emit(rows(args.folder, args))
    good = total = 0
    for path, found in recorded.each("benchmarks.contexts", args, ["--new", *map(str, args.new)]):
        for row in found:
            mark, error = ("ok  " if row["ok"] else "FAIL"), row.get("error")
            shown = "-" if error is None else f"{error:.1e}"
            past, new = row.get("n_past", "-"), row.get("new", "-")
            print(f"{mark} {path.stem:34} new {new} n_past {past!s:3} err {shown:8} {row.get('why', '')}", flush=True)
        good, total = good + sum(row["ok"] for row in found), total + len(found)
    print(f"CONTEXTS {good}/{total}")
    return 0 if good == total and total else 1


def rows(graph: Path, args: argparse.Namespace) -> Iterator[Row]:
    """One graph: a row for every number of new tokens and length of its cache; none if it takes no cache."""
    samples = {name: array for inputs, _ in recorded.cases(graph).values() for name, array in inputs.items()}
    if not any(array.dtype.kind in "fV" and array.ndim >= 3 for array in samples.values()):
        return
    for new in args.new:
        lengths = sorted({min(length, CAPACITY - new) for length in LENGTHS})
        start = time.perf_counter()
        try:
            program = wafercc.compile(graph, target=args.target, context=CAPACITY, new_tokens=new)
            program.verify()
        except Exception as problem:  # one failure is one row of the table
            yield {"new": new, "n_past": "-", **recorded.failure(problem)}
            continue
        trial = Trial(graph, program, samples, new, args.target)
        known = {"new": new, "seconds": round(time.perf_counter() - start, 2)}
        for length in lengths:
            yield recorded.attempt({**known, "n_past": length}, partial(trial.row, length))


@dataclass(frozen=True)
class Trial:
    """One program, and arrays of some run from which come the inputs that no name explains."""

    graph: Path
    program: wafercc.Program
    samples: Arrays
    new: int
    target: str

    def row(self, n_past: int) -> Row:
        """Run the program and the oracle at one length."""
        inputs = self.inputs(n_past)
        got = self.program.run(inputs).outputs
        want, oracle = self.oracle(inputs)
        error = recorded.relative_error(inputs, got, want)
        return {"error": error, "ok": error <= recorded.tolerance(self.graph), "why": oracle}

    def inputs(self, n_past: int) -> dict[str, Array]:
        """Inputs of one run: random tokens and caches, every token visible, positions from n_past on."""
        rng = np.random.default_rng(n_past)
        found = {}
        for name, type_ in self.program.placed.inputs.items():
            shape, dtype = type_.at(n_past), type_.dtype.numpy
            if "mask" in name:
                found[name] = np.ones(shape, dtype)
            elif "position" in name:
                found[name] = np.broadcast_to(np.arange(n_past, n_past + self.new), shape).astype(dtype)
            elif type_.dtype.is_float and len(shape) >= 3:
                found[name] = (0.5 * rng.standard_normal(shape)).astype(dtype)
            elif name in ("input_ids", "decoder_input_ids"):
                found[name] = rng.integers(3, 300, shape).astype(dtype)
            else:
                found[name] = np.broadcast_to(self.samples[name], shape).astype(dtype)
        return found

    def oracle(self, inputs: Arrays) -> tuple[Arrays, str]:
        """What the outputs should be, and a note if not onnxruntime says so."""
        import onnxruntime

        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(str(self.graph), quiet, providers=["CPUExecutionProvider"])
            wanted = {given.name for given in session.get_inputs()}
            outputs = session.run(None, {name: array for name, array in inputs.items() if name in wanted})
            return {o.name: a for o, a in zip(session.get_outputs(), outputs, strict=True)}, ""
        except Exception as problem:  # its own exceptions have no common class
            exact = wafercc.compile(self.graph, target=self.target, inputs_like=inputs)
            note = f"against a program of that length: {str(problem).splitlines()[0][:80]}"
            return exact.run(dict(inputs)).outputs, note


if __name__ == "__main__":
    sys.exit(main())
