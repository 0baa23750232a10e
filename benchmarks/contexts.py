"""Contexts: does one program serve every length of the cache, as onnxruntime has it?

``python -m benchmarks.contexts FOLDER [--filter NAME]``. Every graph of the folder that takes a cache is compiled once
for a capacity (with one new token, and again with two), and runs at several lengths of the cache, from none to full.
The last line counts: ``CONTEXTS ok/total``; exit 0 only if all are. Where onnxruntime cannot run a graph, the program
is held against a second one, compiled for exactly that length, and the row says so; where neither can be, the row does
not count.
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
import onnxruntime

import wafercc
from wafercc.importer.bind import bind
from wafercc.importer.model import Binding
from wafercc.importer.position_table import known_positions
from wafercc.importer.read import read_model
from wafercc.importer.states import find_states
from wafercc.importer.widths import known_widths
from wafercc.ir.graph import TensorType

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
            mark, error = {True: "ok  ", False: "FAIL", None: "n/a "}[row["ok"]], row.get("error")
            shown = "-" if error is None else f"{error:.1e}"
            past, new = row.get("n_past", "-"), row.get("new", "-")
            print(f"{mark} {path.stem:34} new {new} n_past {past!s:3} err {shown:8} {row.get('why', '')}", flush=True)
        good += sum(bool(row["ok"]) for row in found)
        total += sum(row["ok"] is not None for row in found)
    print(f"CONTEXTS {good}/{total}")
    return 0 if good == total and total else 1


def rows(graph: Path, args: argparse.Namespace) -> Iterator[Row]:
    """One graph: a row for every number of new tokens and length of its cache; none if it takes no cache."""
    samples = {name: array for inputs, _ in recorded.cases(graph).values() for name, array in inputs.items()}
    if not any(array.dtype.kind in "fV" and array.ndim >= 3 for array in samples.values()):
        return
    for new in args.new:
        lengths = sorted({min(length, CAPACITY - new) for length in LENGTHS})
        trial = Trial(graph, samples, new, args.target)
        start = time.perf_counter()
        try:
            program = wafercc.compile(graph, target=args.target, context=CAPACITY, new_tokens=new)
            program.verify()
        except Exception as problem:  # one failure is one row of the table
            row = {"new": new, "n_past": "-", **recorded.failure(problem)}
            refused = [length for length in lengths if isinstance(trial.reference(trial.inputs(length)), str)]
            yield row if not refused else {**row, "ok": None, "why": f"onnxruntime refuses n_past {refused}, too"}
            continue
        known = {"new": new, "seconds": round(time.perf_counter() - start, 2)}
        for length in lengths:
            yield recorded.attempt({**known, "n_past": length}, partial(trial.row, program, length))


@dataclass(frozen=True)
class Trial:
    """One graph with so many new tokens, and arrays of some run from which come inputs that no name explains."""

    graph: Path
    samples: Arrays
    new: int
    target: str

    def row(self, program: wafercc.Program, n_past: int) -> Row:
        """Run the program and the oracle at one length."""
        inputs = self.inputs(n_past)
        got = program.run(inputs).outputs
        want, note = self.reference(inputs), ""
        if isinstance(want, str):
            note = f"against a program of that length: {want}"
            want = wafercc.compile(self.graph, target=self.target, inputs_like=inputs).run(inputs).outputs
        error = recorded.relative_error(inputs, got, want)
        return {"error": error, "ok": error <= recorded.tolerance(self.graph), "why": note}

    def inputs(self, n_past: int) -> dict[str, Array]:
        """Inputs of one run: random tokens and caches, every token visible, positions from n_past on."""
        rng = np.random.default_rng(n_past)
        found = {}
        for name, type_ in self.types.items():
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

    @property
    def types(self) -> dict[str, TensorType]:
        """What the graph takes, bound as the compiler binds it."""
        model = read_model(self.graph)
        states = find_states(model)
        binding = Binding(context=CAPACITY, new_tokens=self.new)
        shapes = bind(model.inputs, states, binding, known_positions(model), known_widths(model, states)).shapes
        return {spec.name: TensorType(spec.dtype, shapes[spec.name]) for spec in model.inputs}

    def reference(self, inputs: Arrays) -> dict[str, Array] | str:
        """What onnxruntime computes, or why it cannot."""
        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(str(self.graph), quiet, providers=["CPUExecutionProvider"])
            wanted = {given.name for given in session.get_inputs()}
            outputs = session.run(None, {name: array for name, array in inputs.items() if name in wanted})
            return {o.name: a for o, a in zip(session.get_outputs(), outputs, strict=True)}
        except Exception as problem:  # its own exceptions have no common class
            return str(problem).splitlines()[0][:80]


if __name__ == "__main__":
    sys.exit(main())
