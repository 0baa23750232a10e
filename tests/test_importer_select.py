"""Ops that find, pick and scatter by data mean what onnxruntime computes; loops over a NonZero have a fixed length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from importer_models import F32, I64, agrees, model, saved
from onnx import helper
from test_importer_ops import check

import wafercc
from wafercc.importer import Binding, import_model

RNG = np.random.default_rng(3)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
TIED = np.array([[3, 1, 3, 0], [1, 1, 1, 1]], np.float32)


@pytest.mark.parametrize("largest", [0, 1])
def test_topk_gives_values_and_places_in_order_and_the_first_of_equals(largest: int, tmp_path: Path) -> None:
    for axis, x in ((-1, X), (1, X), (1, TIED)):
        check("TopK", {"x": x}, tmp_path, {"k": np.array([2])}, outputs=2, axis=axis, largest=largest)


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
def test_arg_best_takes_the_first_or_the_last_of_equals(op_type: str, tmp_path: Path) -> None:
    for last, keep in ((0, 1), (1, 0)):
        check(op_type, {"x": TIED}, tmp_path, axis=-1, select_last_index=last, keepdims=keep)


def test_elements_are_picked_and_written_by_computed_places(tmp_path: Path) -> None:
    ids = np.array([[[2, -1, 0, 0]], [[0, 1, 1, -3]]])
    check("GatherElements", {"x": X, "ids": ids}, tmp_path, axis=1)
    check("ScatterElements", {"x": X, "ids": ids, "u": X[:, :1]}, tmp_path, axis=1)
    check("ScatterElements", {"x": X, "ids": ids, "u": X[:, :1]}, tmp_path, axis=1, reduction="add")
    check("ScatterND", {"x": X, "ids": np.array([[1, 2], [0, -1]]), "u": X[0, :2]}, tmp_path)
    check("ScatterND", {"x": X, "ids": np.array([[1], [1]]), "u": X}, tmp_path, reduction="max")


def test_known_places_fold(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["flags"], ["at"]),
        helper.make_node("Squeeze", ["at", "zero"], ["ids"]),
        helper.make_node("Gather", ["x", "ids"], ["y"], axis=1),
    ]
    tensors = {"flags": np.array([0, 1, 0, 1, 1]) > 0, "zero": np.array([0])}
    proto = model(nodes, {"x": (F32, (2, 5))}, ["y"], tensors)
    agrees(proto, {"x": RNG.standard_normal((2, 5)).astype(np.float32)}, tmp_path)
    assert "nonzero" not in str(import_model(saved(proto, tmp_path), Binding()).graph)


def per_expert() -> list:
    """What exporters unroll for one expert: the rows whose choice it is, doubled, and added where they came from."""
    return [
        helper.make_node("Equal", ["choice", "expert"], ["mine"]),
        helper.make_node("NonZero", ["mine"], ["at"]),
        helper.make_node("Split", ["at"], ["row2", "slot2"], axis=0, num_outputs=2),
        helper.make_node("Squeeze", ["row2", "zero"], ["row"]),
        helper.make_node("Transpose", ["at"], ["pairs"], perm=[1, 0]),
        helper.make_node("Gather", ["x", "row"], ["rows"], axis=0),
        helper.make_node("GatherND", ["share", "pairs"], ["shares"]),
        helper.make_node("Unsqueeze", ["shares", "one"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["update"]),
        helper.make_node("Shape", ["update"], ["shape"]),
        helper.make_node("Unsqueeze", ["row", "one"], ["places1"]),
        helper.make_node("Expand", ["places1", "shape"], ["places"]),
        helper.make_node("Sub", ["x", "x"], ["nothing"]),
        helper.make_node("ScatterElements", ["nothing", "places", "update"], ["y"], axis=0, reduction="add"),
    ]


@pytest.mark.parametrize("expert", [1, 5], ids=["some rows", "no row"])
def test_rows_found_by_a_nonzero_come_back_to_their_places(expert: int, tmp_path: Path) -> None:
    feeds = {
        "x": RNG.standard_normal((6, 4)).astype(np.float32),
        "choice": np.array([[1, 0], [2, 3], [0, 1], [1, 4], [3, 2], [0, 4]]),
        "share": RNG.standard_normal((6, 2)).astype(np.float32),
    }
    specs = {"x": (F32, (6, 4)), "choice": (I64, (6, 2)), "share": (F32, (6, 2))}
    tensors = {"expert": np.array(expert), "zero": np.array([0]), "one": np.array([1])}
    proto = model(per_expert(), specs, ["y"], tensors)
    agrees(proto, feeds, tmp_path)
    program = wafercc.compile(saved(proto, tmp_path), inputs_like=feeds, target="mesh:8x8")
    expected = np.zeros((6, 4), np.float32)
    for row, slot in np.argwhere(feeds["choice"] == expert):
        expected[row] += feeds["x"][row] * feeds["share"][row, slot]
    np.testing.assert_allclose(program.run(feeds).outputs["y"], expected, rtol=1e-6)
