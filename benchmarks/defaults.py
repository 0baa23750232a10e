"""Defaults: every graph of a folder compiled with no argument but its path, run, and held against onnxruntime.

    python -m benchmarks.defaults FOLDER [--filter NAME] [--target mesh:64x64]

A model with a cache: one chunk through `prefill`, then a few steps of `decode`, in one session; onnxruntime computes
the same in one go. Any other model: its `main` entry. Needs onnxruntime. Last line: ``DEFAULTS ok/total``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import wafercc
from wafercc.ir.dims import at
from wafercc.ir.program import PlacedProgram

STEPS = 3
VOCABULARY = 64  # token ids are drawn below this
TOLERANCE = {"fp32": 1e-3, "low": 2e-2}
LOW = ("fp16", "bf16", "int4", "int8")


def fill(program: PlacedProgram, n_past: int, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs of one run after ``n_past`` tokens, caches left out: ids, masks of ones, positions."""
    found: dict[str, np.ndarray] = {}
    new = tokens.shape[-1]
    for name, kind in program.inputs.items():
        if name in program.states:
            continue
        shape, dtype = [at(d, n_past) for d in kind.shape], kind.dtype.numpy
        if "position" in name:
            found[name] = np.broadcast_to(np.arange(n_past, n_past + new), shape).astype(dtype)
        elif "mask" in name:
            causal = np.tril(np.ones((new, n_past + new)), n_past)
            zero = np.zeros_like(causal) if kind.dtype.is_float else causal
            whole = np.ones(shape) if len(shape) < 3 else np.where(causal > 0, zero, np.finfo(np.float32).min)
            found[name] = np.broadcast_to(whole, shape).astype(dtype)
        elif kind.dtype.is_float:
            generator = np.random.default_rng(n_past)
            found[name] = generator.standard_normal(shape).astype(dtype)
        elif "seqlens_k" in name or "past_length" in name:
            found[name] = np.full(shape, n_past + new - 1, dtype)
        elif "total" in name:
            found[name] = np.full(shape, n_past + new, dtype)
        elif name == "num_logits_to_keep" or not shape:
            found[name] = np.full(shape, new, dtype)
        else:
            found[name] = np.broadcast_to(tokens, shape).astype(dtype)
    return found


def error(got: dict[str, Any], want: dict[str, Any], names: list[str]) -> float:
    """The largest difference over the largest value, of the outputs that are no caches."""
    worst = 0.0
    for name in names:
        a, b = np.asarray(got[name], np.float64), np.asarray(want[name], np.float64)
        if a.shape != b.shape or not np.isfinite(a).all():
            return float("inf")
        worst = max(worst, float(np.abs(a - b).max(initial=0) / max(float(np.abs(b).max(initial=0)), 1e-6)))
    return worst


def reference(path: Path) -> Any:
    """An onnxruntime session of the graph."""
    import onnxruntime as ort

    ort.set_default_logger_severity(3)
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(path: Path, target: str) -> tuple[str, float]:
    """What was run, and the error."""
    program = wafercc.compile(path, target=target)
    program.verify()
    entries = program.placed.entries
    session = reference(path)
    names = [o.name for o in session.get_outputs()]
    generator = np.random.default_rng(0)
    first = program.placed
    kept = set(first.states.values())
    seen = [n for n in names if n not in kept and n in first.outputs]
    if not first.states or "decode" not in entries:
        empty = {n: np.zeros(first.inputs[n].at(0), first.inputs[n].dtype.numpy) for n in first.states}
        tokens = generator.integers(0, VOCABULARY, (1, _new(first)))
        inputs = {**fill(first, 0, tokens), **empty}
        want = dict(zip(names, session.run(None, inputs), strict=True))
        return f"{first.entry}", error(program.run(inputs).outputs, want, [*seen])
    worst, past = 0.0, {n: np.zeros(first.inputs[n].at(0), first.inputs[n].dtype.numpy) for n in first.states}
    told = [name for name in ("prefill", "decode") if name in entries]
    with program.session() as live:
        for entry in ["prefill"] * ("prefill" in entries) + ["decode"] * STEPS:
            placed = entries[entry]
            tokens = generator.integers(0, VOCABULARY, (1, _new(placed)))
            inputs = fill(placed, live.n_past, tokens)
            want = dict(zip(names, session.run(None, {**inputs, **past}), strict=True))
            past = {n: want[present] for n, present in first.states.items()}
            worst = max(worst, error(live.run(entry, inputs).outputs, want, seen))
        worst = max(worst, error(live.caches(), past, list(past)))
    return f"{' + '.join(told)}", worst


def _new(program: PlacedProgram) -> int:
    """How many tokens a run takes in: by the first input that holds ids or embeddings."""
    for name, kind in program.inputs.items():
        if name in ("input_ids", "inputs_embeds", "tokens", "ids"):
            return int(at(kind.shape[1], 0))
    ids = next(kind for name, kind in program.inputs.items() if name not in program.states and len(kind.shape) > 1)
    return int(at(ids.shape[1], 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--filter", default="")
    parser.add_argument("--target", default="wse3")
    given = parser.parse_args()
    ok = total = 0
    for path in sorted(given.folder.glob("*.onnx")):
        if given.filter not in path.name:
            continue
        total += 1
        start = time.process_time()
        try:
            told, worst = run(path, given.target)
            good = worst <= TOLERANCE["low" if any(t in path.name for t in LOW) else "fp32"]
            text = f"{told}, error {worst:.1e}"
        except Exception as problem:  # one graph's failure must not hide the others'
            good, text = False, f"{type(problem).__name__}: {str(problem)[:240]}"
        ok += good
        print(f"{'ok  ' if good else 'FAIL'} {path.stem}: {text}, {time.process_time() - start:.1f} s cpu", flush=True)
    print(f"DEFAULTS {ok}/{total}")
    return 0 if ok == total else 1


if __name__ == "__main__":
    sys.exit(main())
