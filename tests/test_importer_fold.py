"""Shape arithmetic folded for every n_past at once gives, at each n_past, what that number alone would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from importer_models import F32, I64, model, saved
from onnx import helper

from wafercc.importer import Binding, import_model
from wafercc.importer.content import Ramp, Value, equal, greatest, known_array, least, ramp_of
from wafercc.importer.ops_shape import _steps, _taken
from wafercc.ir.dims import Dim, Undecided, affine, at
from wafercc.ir.dtypes import DType
from wafercc.ir.evaluate import evaluate
from wafercc.ir.graph import TensorType, ValueName
from wafercc.ir.weights import Weights

PAST_MAX = 6
EVERY_PAST = range(PAST_MAX + 1)
small = st.integers(-9, 9)
dims = st.builds(lambda scale, offset: affine(scale, offset, PAST_MAX), st.integers(-2, 2), small)
extents = st.builds(lambda scale, offset: affine(scale, offset, PAST_MAX), st.integers(0, 2), st.integers(0, 9))


@given(dims, dims)
def test_comparisons_hold_at_every_past_or_are_undecided(a: Dim, b: Dim) -> None:
    try:
        low, high, same = least(a, b), greatest(a, b), equal(a, b)
    except Undecided:
        assert len({at(a, n) < at(b, n) for n in EVERY_PAST}) == 2 or any(at(a, n) == at(b, n) for n in EVERY_PAST)
        return
    for n in EVERY_PAST:
        assert (at(low, n), at(high, n)) == (min(at(a, n), at(b, n)), max(at(a, n), at(b, n)))
        assert same == (at(a, n) == at(b, n))


@given(extents, dims, dims, st.sampled_from([1, 2, 3, -1, -2]))
def test_slices_take_the_same_elements_at_every_past(extent: Dim, start: Dim, end: Dim, step: int) -> None:
    try:
        first, count = _taken(start, end, step, extent)
    except Undecided:
        assume(False)
    for n in EVERY_PAST:
        length, low, high = at(extent, n), at(start, n), at(end, n)
        assume(step > 0 or high >= -length)  # a negative end means "before the front" in ONNX once it is clamped
        want = list(range(length))[low:high:step]
        assert [at(first, n) + step * i for i in range(at(count, n))] == want


@given(dims, st.sampled_from([1, 2, 3, -1, -3]))
def test_ranges_have_the_same_length_at_every_past(distance: Dim, step: int) -> None:
    try:
        count = _steps(distance, step)
    except Undecided:
        assume(False)
    for n in EVERY_PAST:
        assert at(count, n) == len(range(0, at(distance, n), step))


@given(st.lists(st.integers(1, 4), min_size=0, max_size=3), st.lists(small, min_size=3, max_size=3), small)
def test_linear_arrays_are_recognised_as_ramps(shape: list[int], steps: list[int], start: int) -> None:
    grid = np.indices(shape) if shape else np.zeros((0,))
    array = np.asarray(start + sum((s * g for s, g in zip(steps, grid, strict=False)), np.zeros(shape)), np.int64)
    found = ramp_of(known_array(array, DType.I64))
    assert found == Ramp(start, tuple(s if d > 1 else 0 for s, d in zip(steps, shape, strict=False)))


@given(st.permutations(range(6)))
def test_other_arrays_are_not(order: list[int]) -> None:
    value = Value(TensorType(DType.I64, (6,)), array=np.array(order))
    assert (ramp_of(value) is not None) == (order in (list(range(6)), list(range(5, -1, -1))))


def folded(nodes: list[object], outputs: list[str], folder: Path) -> tuple[object, dict[int, dict[ValueName, object]]]:
    """A graph that asks the shape of a cache, and what its outputs are at every past."""
    inputs = {"past_key_values.0.key": (F32, ["b", 2, "past", 4]), "new": (F32, ["b", 2, 1, 4])}
    append = helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], "append", axis=2)
    tensors = {
        "two": np.array([2]),
        "three": np.array([3]),
        "one": np.array([1]),
        "zero": np.array(0),
        "unit": np.array(1),
    }
    proto = model([append, *nodes], inputs, ["present.0.key", *outputs], tensors)
    graph = import_model(saved(proto, folder), Binding(context=PAST_MAX + 1)).graph
    results = {}
    for n in EVERY_PAST:
        arrays = {str(v): np.zeros(graph.types[v].at(n), np.float32) for v in graph.inputs}
        results[n] = evaluate(graph, arrays, Weights(), n)
    return graph, results


def test_shapes_needed_as_numbers_are_computed_from_n_past(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["present.0.key"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "two"], ["total"], "total"),
        helper.make_node("Mul", ["total", "three"], ["triple"], "triple"),
        helper.make_node("Cast", ["total"], ["real"], "real", to=F32),
        helper.make_node("Sqrt", ["real"], ["root"], "root"),
    ]
    _, results = folded(nodes, ["shape", "total", "triple", "root"], tmp_path)
    for n, got in results.items():
        assert np.array_equal(got[ValueName("shape")], [1, 2, n + 1, 4])
        assert np.array_equal(got[ValueName("triple")], [3 * (n + 1)])
        assert np.allclose(got[ValueName("root")], [np.sqrt(n + 1)])


def test_aranges_over_the_past_are_ranges(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["past_key_values.0.key"], ["shape"], "shape", start=2, end=3),
        helper.make_node("Squeeze", ["shape"], ["past"], "past"),
        helper.make_node("Add", ["past", "unit"], ["total"], "total"),
        helper.make_node("Range", ["zero", "total", "unit"], ["positions"], "positions"),
        helper.make_node("Add", ["positions", "past"], ["shifted"], "shifted"),
        helper.make_node("Unsqueeze", ["shifted", "one"], ["column"], "column"),
        helper.make_node("Mul", ["column", "past"], ["scaled"], "scaled"),
    ]
    _, results = folded(nodes, ["positions", "column", "scaled"], tmp_path)
    for n, got in results.items():
        assert np.array_equal(got[ValueName("positions")], np.arange(n + 1))
        assert np.array_equal(got[ValueName("column")], np.arange(n, 2 * n + 1)[:, None])
        assert np.array_equal(got[ValueName("scaled")], n * np.arange(n, 2 * n + 1)[:, None])


def test_a_comparison_that_depends_on_the_past_runs(tmp_path: Path) -> None:
    """Whether the cache is empty is a number of the run, not of the import."""
    nodes = [
        helper.make_node("Shape", ["past_key_values.0.key"], ["shape"], "shape", start=2, end=3),
        helper.make_node("Equal", ["shape", "three"], ["is_three"], "is_three"),
        helper.make_node("Where", ["is_three", "one", "two"], ["choice"], "choice"),
    ]
    _, results = folded(nodes, ["is_three", "choice"], tmp_path)
    for n, got in results.items():
        assert np.array_equal(got[ValueName("is_three")], [n == 3])
        assert np.array_equal(got[ValueName("choice")], [1 if n == 3 else 2])


@pytest.mark.parametrize("limit", [8, 300])
def test_known_numbers_are_literals_while_they_are_few(limit: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Range", ["zero", "limit", "unit"], ["r"], "r"),
        helper.make_node("Mul", ["x", "r"], ["y"], "y"),
    ]
    tensors = {"zero": np.array(0), "unit": np.array(1), "limit": np.array(limit)}
    graph = import_model(saved(model(nodes, {"x": (I64, [limit])}, ["y"], tensors), tmp_path)).graph
    assert [op.kind for op in graph] == ["constant" if limit == 8 else "range", "mul"]
