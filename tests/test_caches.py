"""Caches: recognised in every layout and under every name, extended in place, and of any length when a program runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cache_models import LAYOUTS, VOCABULARY, decoder
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
