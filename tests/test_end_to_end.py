"""Exported decoders, compiled and executed on their PEs, equal onnxruntime: on a perfect mesh and around defects, with
the cache empty or full, and where the compiler does not exist."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from importer_models import DATA, recorded
from tiny_models import (
    CASES,
    TARGET,
    TOLERANCE,
    Array,
    error_of,
    from_onnxruntime,
    largest_error,
    program_of,
    python,
)

import wafercc
from wafercc import Program
from wafercc.npz import read_npz, write_npz
from wafercc.passes.rewrite import NAMES as REWRITES

pytestmark = pytest.mark.pipeline

CAPACITY = 64
PASTS = (0, 1, 17, CAPACITY - 1)
GRAPH = "llama-dyn18past"

# Run by a fresh process: every triple of words is a program, its inputs, and where its outputs go.
WITHOUT_COMPILER = """
import sys

GONE = ("onnx", "onnx_ir", "ortools", "wafercc.passes", "wafercc.importer")

class NoCompiler:
    def find_spec(self, name, path=None, target=None):
        if any(name == gone or name.startswith(gone + ".") for gone in GONE):
            raise ImportError(f"{name} does not exist where programs run")

sys.meta_path.insert(0, NoCompiler())
import wafercc
from wafercc.npz import read_npz, write_npz

words = iter(sys.argv[1:])
for program, inputs, outputs in zip(words, words, words):
    loaded = wafercc.load(program)
    loaded.verify()
    write_npz(outputs, loaded.run(read_npz(inputs)).outputs)
try:
    wafercc.compile("model.onnx")
except ImportError as problem:
    print(problem)
"""


@pytest.mark.parametrize("defective", [False, True], ids=["perfect", "defective"])
@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_recorded_case_verifies_and_equals_onnxruntime(name: str, case: str, defective: bool) -> None:
    program = program_of(name, case, defective)
    assert program.check().startswith("ok: ")
    done = program.run(recorded(name)[case][0])
    assert done.cycles > 0
    assert error_of(done.outputs, name, case) < TOLERANCE


def test_defects_are_avoided_and_not_merely_absent() -> None:
    map_ = program_of(GRAPH, "decode1", True).placed.defects
    dead = {(x, y) for _, x, y in [*map_["dead_cores"], *map_["dead_routers"]]}
    perfect = program_of(GRAPH, "decode1").placed
    assert any((int(x), int(y)) in dead for r in perfect.regions for x, y in zip(r.xs.flat, r.ys.flat, strict=True))
    around = program_of(GRAPH, "decode1", True).placed
    assert not any((int(x), int(y)) in dead for r in around.regions for x, y in zip(r.xs.flat, r.ys.flat, strict=True))


def test_programs_run_where_the_compiler_cannot_be_imported(tmp_path: Path) -> None:
    words = []
    cases = [(GRAPH, "decode1"), ("gpt2-ts17past", "prefill")]
    for name, case in cases:
        program_of(name, case, True).save(tmp_path / f"{name}.wafer")
        write_npz(tmp_path / f"{name}.in.npz", recorded(name)[case][0])
        words += [f"{name}.wafer", f"{name}.in.npz", f"{name}.out.npz"]
    done = python("-c", WITHOUT_COMPILER, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wafercc.passes does not exist where programs run\n"
    for name, case in cases:
        assert error_of(read_npz(tmp_path / f"{name}.out.npz"), name, case) < TOLERANCE


@cache
def decoder() -> Program:
    """One new token on a cache of up to 63, so that 64 is the capacity."""
    return wafercc.compile(DATA / f"{GRAPH}.onnx", target=TARGET, context=CAPACITY, new_tokens=1, batch=1)


def step_inputs(n_past: int) -> dict[str, Array]:
    """One token after ``n_past`` random ones, every cache entry drawn at random too."""
    random = np.random.default_rng(n_past)
    found: dict[str, Array] = {}
    for name, kind in decoder().placed.inputs.items():
        shape = kind.at(n_past)
        if kind.dtype.is_float:
            found[str(name)] = random.normal(size=shape).astype(kind.dtype.numpy)
        elif "mask" in name:
            found[str(name)] = np.ones(shape, kind.dtype.numpy)
        elif "position" in name:
            found[str(name)] = np.full(shape, n_past, kind.dtype.numpy)
        else:
            found[str(name)] = random.integers(0, 320, shape).astype(kind.dtype.numpy)
    return found


@pytest.mark.parametrize("n_past", PASTS)
def test_one_program_decodes_at_every_length_of_the_cache(n_past: int) -> None:
    inputs = step_inputs(n_past)
    done = decoder().run(inputs)
    assert done.report.n_past == n_past
    assert largest_error(done.outputs, from_onnxruntime(DATA / f"{GRAPH}.onnx", inputs)) < TOLERANCE


def test_cycles_do_not_fall_as_the_cache_grows() -> None:
    cycles = [decoder().run(step_inputs(n), timing_only=True).cycles for n in range(CAPACITY)]
    assert all(a <= b for a, b in pairwise(cycles)), cycles
    assert cycles[0] < cycles[-1]


def test_a_cache_may_not_hold_more_than_was_compiled_for() -> None:
    inputs = step_inputs(CAPACITY - 1)
    caches = {n: np.concatenate([a, a[:, :, :1]], 2) for n, a in inputs.items() if a.ndim == 4}
    with pytest.raises(wafercc.RunError, match=r"\[1,2,64,16\], the program takes \[1,2,63,16\] .* must agree"):
        decoder().run(inputs | caches)
    masks = {n: np.ones((1, CAPACITY + 1), np.int64) for n in inputs if "mask" in n}
    with pytest.raises(wafercc.RunError, match=r"holds 65 where .* n_past from 0 to 63 .* larger --context"):
        decoder().run(inputs | caches | masks)


@pytest.mark.parametrize(("name", "case"), [(GRAPH, "decode1"), ("gpt2-ts17past", "decode1")])
def test_a_graph_compiles_and_runs_equally_right_without_any_rewrite(name: str, case: str) -> None:
    program = program_of(name, case, disabled_passes=tuple(sorted(REWRITES)))
    assert "fuse" not in program.placed.graph_text and "attention" not in {
        step.op.kind for block in program.placed.blocks.values() for step in block.steps if hasattr(step, "op")
    }
    program.verify()
    assert error_of(program.run(recorded(name)[case][0]).outputs, name, case) < TOLERANCE
