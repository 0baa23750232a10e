"""Small ONNX models for the importer's tests, and onnxruntime as the judge of what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from wafercc.importer import Binding, Imported, import_model
from wafercc.ir.evaluate import evaluate

Array = NDArray[Any]
DATA = Path(__file__).parent / "data"
F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Dims = Sequence[int | str | None]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Dims]],
    outputs: Sequence[str],
    tensors: Mapping[str, Array] | None = None,
    opset: int = 20,
    **others: Any,
) -> onnx.ModelProto:
    """A model of these nodes; outputs are declared without types, as an importer must not need them."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, dtype, dims) for name, (dtype, dims) in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (tensors or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **others)


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def recorded(name: str) -> dict[str, tuple[dict[str, Array], dict[str, Array]]]:
    """Case → (inputs, what onnxruntime gave) of a graph in ``tests/data``."""
    cases: dict[str, tuple[dict[str, Array], dict[str, Array]]] = {}
    with np.load(DATA / f"{name}.npz") as arrays:
        for key in arrays.files:
            side, case, value = key.split("/", 2)
            ins, outs = cases.setdefault(case, ({}, {}))
            if side in ("in", "ort"):
                (ins if side == "in" else outs)[value] = arrays[key]
    return cases


def relative_error(inputs: Mapping[str, Array], got: Mapping[Any, Array], want: Mapping[str, Array]) -> float:
    """The largest max|a-b| / max|b| over all outputs, where tokens are no padding."""
    worst = 0.0
    for name, expected in want.items():
        given = got[name]
        assert given.shape == expected.shape and given.dtype == expected.dtype, name
        where = _valid(inputs.get("attention_mask"), inputs["input_ids"].shape[1], expected)
        a, b = given[where].astype(np.float64), expected[where].astype(np.float64)
        assert np.isfinite(a).all(), name
        worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst


def _valid(mask: Array | None, new: int, array: Array) -> Any:
    """Rows of padding tokens mean nothing, and engines differ there."""
    if mask is None or mask.all():
        return ...
    if array.ndim == 3:
        return mask[:, -new:].astype(bool)
    return np.broadcast_to(mask.astype(bool)[:, None, :], array.shape[:3])


def run_graph(imported: Imported, inputs: Mapping[str, Array], n_past: int = 0) -> dict[str, Array]:
    graph = imported.graph
    given = {name: inputs[name] for name in graph.inputs}
    return {str(k): v for k, v in evaluate(graph, given, imported.weights, n_past).items()}


def run_onnxruntime(source: onnx.ModelProto | Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    data = source.SerializeToString() if isinstance(source, onnx.ModelProto) else str(source)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def agrees(proto: onnx.ModelProto, inputs: Mapping[str, Array], folder: Path, tolerance: float = 1e-5) -> Imported:
    """Import, evaluate, and compare with onnxruntime; returns the import for further questions."""
    imported = import_model(saved(proto, folder), Binding(inputs_like=inputs))
    got = run_graph(imported, inputs)
    for name, want in run_onnxruntime(proto, inputs).items():
        assert got[name].shape == want.shape and got[name].dtype == want.dtype, name
        np.testing.assert_allclose(got[name], want, rtol=tolerance, atol=tolerance, err_msg=name)
    return imported
