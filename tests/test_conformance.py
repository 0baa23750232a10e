"""The official node tests of ONNX: a sample runs as docs/conformance.csv says, and the page is that record's.

`make conformance` runs all of them. A change that makes a test pass, fail, or lie otherwise on its PEs shows here or
there; ``python -m wafercc.conformance`` writes the record anew.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.base
import pytest
from onnx import TensorProto, helper

from wafercc.conformance import WaferBackend
from wafercc.conformance.page import BAR, from_csv, page, to_csv
from wafercc.conformance.scope import out_of_scope
from wafercc.conformance.shapelike import shape_like
from wafercc.conformance.spread import LEAST_ELEMENTS
from wafercc.conformance.suite import FAILED, OUT, PASSED, cases, run

DOCS = Path(__file__).parent.parent / "docs"
RECORD = from_csv((DOCS / "conformance.csv").read_text(encoding="utf-8"))
FIRST = {one.op: one.name for one in reversed(RECORD.values()) if one.status == PASSED}
OTHERS = [one.name for one in RECORD.values() if one.status != FAILED]
# One test of every other op that passes, and every 40th of all.
SAMPLE = sorted({*sorted(FIRST.values())[::2], *OTHERS[::40]})

same_onnx = pytest.mark.skipif(
    not (DOCS / "conformance.md").read_text(encoding="utf-8").count(f"onnx {onnx.__version__})"),
    reason="the record is of another onnx",
)


def test_the_page_is_that_of_the_record() -> None:
    text = (DOCS / "conformance.md").read_text(encoding="utf-8")
    version = text.split("(onnx ")[1].split(")")[0]
    assert text == page(list(RECORD.values()), version)
    assert to_csv(list(RECORD.values())) == (DOCS / "conformance.csv").read_text(encoding="utf-8")


def test_enough_of_the_tests_in_scope_pass() -> None:
    count = Counter(one.status for one in RECORD.values())
    assert count[PASSED] >= BAR * (count[PASSED] + count[FAILED])
    assert {one.reason for one in RECORD.values() if one.status == OUT} <= {
        *("training", "vision", "string", "sequence", "random")
    }


def test_results_that_pass_lie_on_several_pes() -> None:
    large = [one for one in RECORD.values() if one.status == PASSED and one.elements >= LEAST_ELEMENTS]
    assert len(large) > 500
    assert all(one.tiles > 1 for one in large)


@same_onnx
def test_every_node_test_of_the_suite_is_in_the_record() -> None:
    assert list(RECORD) == list(cases())


@same_onnx
@pytest.mark.pipeline
@pytest.mark.parametrize("name", SAMPLE)
def test_a_node_test_runs_as_recorded(name: str) -> None:
    assert run(name) == RECORD[name]


def test_only_inputs_that_shapes_follow_from_are_bound() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    s = helper.make_tensor_value_info("s", TensorProto.INT64, [1])
    t = helper.make_tensor_value_info("t", TensorProto.INT64, [1])
    nodes = [
        helper.make_node("Add", ["s", "t"], ["u"]),
        helper.make_node("Reshape", ["x", "u"], ["y"]),
        helper.make_node("Cast", ["t"], ["z"], to=TensorProto.FLOAT),
    ]
    y, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yz")
    model = helper.make_model(helper.make_graph(nodes, "g", [x, s, t], [y, z]))
    assert shape_like(model) == ("s", "t")
    nodes[1] = helper.make_node("Reshape", ["x", "k"], ["y"])
    shape = helper.make_node("Shape", ["x"], ["k"])
    assert shape_like(helper.make_model(helper.make_graph([shape, *nodes], "g", [x, s, t], [y, z]))) == ()


@pytest.mark.pipeline
def test_the_backend_runs_models_and_nodes() -> None:
    assert issubclass(WaferBackend, onnx.backend.base.Backend)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (y,) = WaferBackend.run_node(helper.make_node("Neg", ["x"], ["y"]), [x])
    np.testing.assert_array_equal(y, -x)
    rep = WaferBackend.prepare(cases()["test_matmul_2d"].model)
    (inputs, outputs), *_ = cases()["test_matmul_2d"].data_sets
    np.testing.assert_allclose(rep.run(list(inputs))[0], outputs[0], rtol=1e-3)
    assert rep.program is not None and not rep.bound
    rep.program.verify()


def test_what_is_out_of_scope_is_told_by_ops_and_types() -> None:
    named = {name: out_of_scope(cases()[name].model, ()) for name in ("test_add", "test_basic_conv_with_padding")}
    assert named == {"test_add": "", "test_basic_conv_with_padding": "vision"}
