"""Exporters' graphs mean the same after import: recorded runs, any past of one capacity, nothing read needlessly."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from importer_models import DATA, F32, I64, Array, model, recorded, relative_error, run_graph, run_onnxruntime, saved
from onnx import helper

from wafercc.importer import Binding, Imported, external, import_model, read
from wafercc.ir.graph import ValueName
from wafercc.ir.text import parse_graph

CASES = [(name, case) for name in ("llama-dyn18past", "gpt2-ts17past", "llama-dyn23") for case in recorded(name)]
CAPACITY = 64


@pytest.mark.parametrize(("name", "case"), CASES)
def test_recorded_cases_equal_onnxruntime(name: str, case: str) -> None:
    inputs, want = recorded(name)[case]
    imported = import_model(DATA / f"{name}.onnx", Binding(inputs_like=inputs))
    assert relative_error(inputs, run_graph(imported, inputs), want) < 1e-4
    assert imported.assumptions == ()


def decode_inputs(imported: Imported, n_past: int) -> dict[str, Array]:
    """Random ids and caches; the mask hides some tokens of the second batch entry."""
    rng = np.random.default_rng(n_past)
    inputs: dict[str, Array] = {}
    for name in imported.graph.inputs:
        type_ = imported.graph.types[name]
        shape = type_.at(n_past)
        if type_.dtype.is_float:
            inputs[name] = rng.standard_normal(shape).astype(np.float32)
        elif name == "attention_mask":
            inputs[name] = np.ones(shape, np.int64)
            inputs[name][1, : min(5, n_past)] = 0
        elif name == "position_ids":
            inputs[name] = np.broadcast_to(np.arange(n_past, n_past + shape[1]), shape).copy()
        else:
            inputs[name] = rng.integers(0, 320, shape)
    return inputs


@pytest.mark.parametrize("new", [1, 3])
@pytest.mark.parametrize("name", ["llama-dyn18past", "gpt2-ts17past"])
def test_one_graph_of_capacity_64_equals_onnxruntime_at_every_past(name: str, new: int) -> None:
    path = DATA / f"{name}.onnx"
    imported = import_model(path, Binding(context=CAPACITY, new_tokens=new, batch=2))
    assert imported.graph.past_max == CAPACITY - new
    for n_past in (0, 1, 17, CAPACITY - new):
        inputs = decode_inputs(imported, n_past)
        got, want = run_graph(imported, inputs, n_past), run_onnxruntime(path, inputs)
        for output, expected in want.items():
            assert got[output].shape == expected.shape
            assert np.abs(got[output] - expected).max() < 1e-4 * np.abs(expected).max(), (output, n_past)


@pytest.mark.parametrize("name", ["llama-dyn18past", "gpt2-ts17past"])
def test_caches_are_states_that_grow_in_place(name: str) -> None:
    graph = import_model(DATA / f"{name}.onnx", Binding(context=CAPACITY)).graph
    assert graph.states[ValueName("past_key_values.0.key")] == "present.0.key"
    assert len(graph.states) == Counter(op.kind for op in graph)["kv_append"] > 0
    for past, present in graph.states.items():
        append = graph.producer[present]
        assert append.kind == "kv_append" and append.inputs[0] == past
        assert [str(d) for d in graph.types[past].shape][2] == "n_past"
        assert [str(d) for d in graph.types[present].shape][2] == "n_past+1"


@pytest.mark.parametrize("name", ["llama-dyn18past", "gpt2-ts17past", "llama-dyn23"])
def test_shape_arithmetic_and_mask_gathers_leave_no_trace(name: str) -> None:
    graph = import_model(DATA / f"{name}.onnx", Binding(context=CAPACITY, new_tokens=3)).graph
    kinds = Counter(op.kind for op in graph)
    assert not set(kinds) & {"gather", "gather_nd", "div", "eq", "max"}
    assert kinds["embedding"] == (2 if name.startswith("gpt2") else 1)


@pytest.mark.parametrize("name", ["llama-dyn18past", "gpt2-ts17past", "llama-dyn23"])
def test_imported_graphs_print_and_parse_back(name: str) -> None:
    graph = import_model(DATA / f"{name}.onnx", Binding(context=CAPACITY)).graph
    assert parse_graph(str(graph)) == graph


def test_importing_twice_gives_the_same_graph() -> None:
    first, second = (import_model(DATA / "llama-dyn18past.onnx", Binding(context=CAPACITY)) for _ in range(2))
    assert str(first.graph) == str(second.graph)


def test_inputs_and_outputs_keep_their_onnx_names() -> None:
    proto = onnx.load(str(DATA / "gpt2-ts17past.onnx"))
    graph = import_model(DATA / "gpt2-ts17past.onnx", Binding(context=CAPACITY)).graph
    assert list(graph.inputs) == [value.name for value in proto.graph.input]
    assert list(graph.outputs) == [value.name for value in proto.graph.output]
    assert {op.source for op in graph} <= {node.name for node in proto.graph.node}
    assert len({op.id for op in graph}) == len(graph.ops)


def test_the_source_names_file_producer_opsets_and_hash() -> None:
    import hashlib

    source = import_model(DATA / "llama-dyn23.onnx", Binding()).source
    assert source.file == "llama-dyn23.onnx" and source.producer.startswith("pytorch")
    assert source.opsets == {"": 23} and source.nodes == 103
    assert source.sha256 == hashlib.sha256((DATA / "llama-dyn23.onnx").read_bytes()).hexdigest()


def external_model(folder: Path, location: str = "weights.bin") -> Path:
    """y = x @ w with w in another file."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "multiply")]
    proto = model(nodes, {"x": (F32, ["batch", 8])}, ["y"], {"w": np.zeros((8, 4), np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "128")):
        tensor.external_data.add(key=key, value=value)
    return saved(proto, folder)


def test_weights_are_read_only_when_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.arange(32, dtype=np.float32).reshape(8, 4)
    (tmp_path / "weights.bin").write_bytes(numbers.tobytes())
    reads = []
    original = external.mapped
    monkeypatch.setattr(read, "mapped", lambda extent: (reads.append(extent.path.name), original(extent))[1])
    imported = import_model(external_model(tmp_path), Binding(shapes={"x": (2, 8)}))
    assert reads == []
    assert np.array_equal(imported.weights.load(ValueName("w")), numbers)
    assert reads == ["weights.bin"]


def test_a_model_without_its_weights_imports_if_asked(tmp_path: Path) -> None:
    imported = import_model(external_model(tmp_path), Binding(batch=2), allow_missing_weights=True)
    assert imported.weights.sources[ValueName("w")].load is None
    assert str(imported.graph.types[ValueName("w")]) == "f32[8,4]"


def test_transposed_weights_are_derived_not_computed(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "linear", transB=1, alpha=0.5)]
    tensors = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(3, np.float32)}
    imported = import_model(saved(model(nodes, {"x": (F32, [2, 4])}, ["y"], tensors), tmp_path))
    assert [op.kind for op in imported.graph] == ["matmul", "constant", "mul", "add"]
    derived = imported.graph.ops[0].inputs[1]
    assert derived is not None and imported.weights.load(derived).shape == (4, 3)
    assert imported.weights.sources[derived].origin == "transpose_10(w)"


def test_a_weight_that_meets_constants_is_another_weight(tmp_path: Path) -> None:
    """Norms that multiply by 1 + w: nothing is left to run, and still nothing was read."""
    nodes = [
        helper.make_node("Add", ["w", "one"], ["gain"], "gain"),
        helper.make_node("Mul", ["x", "gain"], ["y"], "m"),
    ]
    tensors = {"w": np.arange(4, dtype=np.float32), "one": np.array(1, np.float32)}
    imported = import_model(saved(model(nodes, {"x": (F32, [2, 4])}, ["y"], tensors), tmp_path))
    (op,) = imported.graph.ops
    assert op.kind == "mul" and op.inputs[1] is not None
    assert np.array_equal(imported.weights.load(op.inputs[1]), [1, 2, 3, 4])


def test_importing_the_package_does_not_import_onnx() -> None:
    code = "import sys, wafercc.importer; assert not {'onnx', 'onnx_ir'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_long_graph_imports_in_linear_time(tmp_path: Path) -> None:
    """Ops per node stay constant, and so does what one node costs: counted, not timed."""
    calls = {}
    for count in (500, 1000):
        nodes = [helper.make_node("Add", [f"v{i}", "one"], [f"v{i + 1}"], f"add_{i}") for i in range(count)]
        proto = model(nodes, {"v0": (F32, [4])}, [f"v{count}"], {"one": np.ones(1, np.float32)})
        path = saved(proto, tmp_path)
        total = 0

        def count_call(frame: object, event: str, argument: object) -> None:
            nonlocal total
            total += event == "call"

        sys.setprofile(count_call)
        try:
            imported = import_model(path)
        finally:
            sys.setprofile(None)
        assert len(imported.graph.ops) == count + 1
        calls[count] = total
    assert calls[1000] < 2.2 * calls[500]


def test_int64_stays_int64(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "x"], ["y"], "twice")]
    graph = import_model(saved(model(nodes, {"x": (I64, [3])}, ["y"]), tmp_path)).graph
    assert str(graph.types[ValueName("y")]) == "i64[3]"
