"""Caches: recognised in every layout and under every name, extended in place, and of any length when a program runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cache_models import FIXED, LAYOUTS, VOCABULARY, decoder, grouped
from importer_models import run_onnxruntime, saved

import wafercc
from wafercc.importer import Binding, import_model

CAPACITY = 9


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_program_serves_every_length_of_a_cache_in_any_layout(name: str, tmp_path: Path) -> None:
    proto = decoder(LAYOUTS[name])
    path = saved(proto, tmp_path)
    program = wafercc.compile(path, target="mesh:6x6", context=CAPACITY, new_tokens=2)
    program.verify()
    rng = np.random.default_rng(1)
    for n_past in (0, 1, 5, CAPACITY - 2):
        inputs = {
            value: rng.integers(0, VOCABULARY, shape)
            if value == "input_ids"
            else rng.standard_normal(shape).astype(np.float32)
            for value, shape in ((v, t.at(n_past)) for v, t in program.placed.inputs.items())
        }
        got = program.run(inputs).outputs
        for value, want in run_onnxruntime(proto, inputs).items():
            np.testing.assert_allclose(got[value], want, rtol=1e-5, atol=1e-5, err_msg=f"{value}, n_past {n_past}")


@pytest.mark.parametrize("name", LAYOUTS)
def test_caches_in_any_layout_are_extended_in_place(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    graph = import_model(saved(decoder(layout), tmp_path), Binding(context=CAPACITY)).graph
    assert dict(graph.states) == dict(zip(layout.caches, layout.presents, strict=True))
    appends = {op.inputs[0]: op.outputs[0] for op in graph.ops if op.kind == "kv_append"}
    assert appends == dict(graph.states)


@pytest.mark.parametrize("name", FIXED)
def test_caches_of_fixed_capacity_are_written_at_positions_given_when_a_program_runs(name: str, tmp_path: Path) -> None:
    """onnxruntime has no TensorScatter yet; that it means the scatter is held by the other form."""
    path = saved(decoder(FIXED[name], fixed=True, opset=24), tmp_path)
    proto = decoder(FIXED["scattered"], fixed=True)
    program = wafercc.compile(path, target="mesh:6x6", context=CAPACITY, new_tokens=2)
    program.verify()
    assert dict(program.placed.states) == {"k_cache": "k_cache_out", "v_cache": "v_cache_out"}
    rng = np.random.default_rng(1)
    caches = {f"{c}_cache": rng.standard_normal((1, 2, CAPACITY, 4)).astype(np.float32) for c in "kv"}
    for n_past in (0, 1, 5, CAPACITY - 2):
        inputs = {
            "input_ids": rng.integers(0, VOCABULARY, (1, 2)),
            "cache_position": np.arange(n_past, n_past + 2),
            **caches,
        }
        got = program.run(inputs).outputs
        for value, want in run_onnxruntime(proto, inputs).items():
            np.testing.assert_allclose(got[value], want, rtol=1e-5, atol=1e-5, err_msg=f"{value}, n_past {n_past}")


@pytest.mark.parametrize("new", [1, 2])
@pytest.mark.parametrize("buffer", [False, True])
def test_caches_of_one_op_grow_or_are_buffers_whose_total_grows(buffer: bool, new: int, tmp_path: Path) -> None:
    """Slots behind the total are nobody's: onnxruntime clears them, here they stay as they were."""
    proto = grouped()
    dims = {"past_sequence_length": CAPACITY} if buffer else {}
    path = saved(proto, tmp_path)
    program = wafercc.compile(path, target="mesh:4x4", context=CAPACITY, new_tokens=new, dims=dims)
    program.verify()
    assert program.placed.past_max == CAPACITY - new
    rng = np.random.default_rng(1)
    for n_past in (0, 1, CAPACITY - new):
        held, total = (CAPACITY if buffer else n_past), n_past + new
        inputs = {
            "input_ids": rng.integers(0, VOCABULARY, (1, new)),
            "attention_mask": np.ones((1, total), np.int64),
            "past_key": rng.standard_normal((1, 1, held, 8)).astype(np.float32),
            "past_value": rng.standard_normal((1, 1, held, 8)).astype(np.float32),
        }
        got = program.run(inputs).outputs
        for value, want in run_onnxruntime(proto, inputs).items():
            there = np.s_[:, :, :total] if "present" in value else ...
            np.testing.assert_allclose(got[value][there], want[there], rtol=1e-5, atol=1e-5, err_msg=value)
