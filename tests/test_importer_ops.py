"""Each ONNX op in its variants (attributes, opsets, optional operands) means what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from importer_models import BOOL, F32, I64, Array, agrees, model, run_graph, run_onnxruntime, saved
from onnx import TensorProto, helper, numpy_helper

from wafercc.importer import Binding, import_model

RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
ONNX_TYPES = {"f": F32, "i": I64, "b": BOOL}


def check(
    op_type: str,
    inputs: Mapping[str, Array],
    folder: Path,
    tensors: Mapping[str, Array] | None = None,
    order: str = "",
    outputs: int = 1,
    opset: int = 20,
    domain: str = "",
    **attrs: Any,
) -> onnx.ModelProto:
    """One node over inputs (fed) and tensors (stored), in the order given by name, '.' for an absent one."""
    stored = dict(tensors or {})
    names = order.split() if order else [*inputs, *stored]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op_type, ["" if n == "." else n for n in names], results, "it", domain=domain, **attrs)
    specs = {name: (ONNX_TYPES[array.dtype.kind], array.shape) for name, array in inputs.items()}
    proto = model([node], specs, results, stored, opset)
    agrees(proto, inputs, folder)
    return proto


UNARY = (
    *("Neg", "Abs", "Exp", "Reciprocal", "Sin", "Cos", "Tan", "Tanh", "Sigmoid", "Erf", "Floor", "Ceil", "Sign"),
    *("Relu", "IsNaN", "IsInf", "Softplus", "Softsign", "Mish", "HardSwish", "Selu", "Identity"),
)


@pytest.mark.parametrize("op_type", UNARY)
def test_unary_ops(op_type: str, tmp_path: Path) -> None:
    check(op_type, {"x": X}, tmp_path)


@pytest.mark.parametrize("op_type", ["Log", "Sqrt"])
def test_unary_ops_of_positive_numbers(op_type: str, tmp_path: Path) -> None:
    check(op_type, {"x": np.abs(X)}, tmp_path)


@pytest.mark.parametrize(
    ("op_type", "attrs"),
    [
        ("Gelu", {}),
        ("Gelu", {"approximate": "tanh"}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 0.7}),
        ("Celu", {"alpha": 0.7}),
        ("ThresholdedRelu", {"alpha": 0.2}),
        ("HardSigmoid", {"alpha": 0.4, "beta": 0.3}),
        ("Softmax", {"axis": 1}),
        ("LogSoftmax", {"axis": -2}),
        ("Transpose", {}),
        ("Transpose", {"perm": [1, 0, 2]}),
        ("Flatten", {"axis": -1}),
        ("Flatten", {"axis": 0}),
        ("Cast", {"to": I64}),
        ("Cast", {"to": BOOL}),
        ("IsInf", {"detect_negative": 0}),
    ],
)
def test_unary_ops_with_attributes(op_type: str, attrs: dict[str, Any], tmp_path: Path) -> None:
    check(op_type, {"x": X}, tmp_path, **attrs)


@pytest.mark.parametrize(
    "op_type", ["Add", "Sub", "Mul", "Div", "Less", "LessOrEqual", "Greater", "Max", "Min", "Mean"]
)
def test_binary_ops_broadcast(op_type: str, tmp_path: Path) -> None:
    check(op_type, {"a": X, "b": X[:1, :, :1]}, tmp_path)
    check(op_type, {"a": X[0, 0, :1].reshape(()), "b": X}, tmp_path)


@pytest.mark.parametrize("fmod", [0, 1])
def test_mod_has_the_sign_that_onnx_asks_for(fmod: int, tmp_path: Path) -> None:
    a, b = np.array([-7, 7, -7, 7]), np.array([3, 3, -3, -3])
    check("Mod", {"a": a, "b": b}, tmp_path, fmod=fmod)
    if fmod:
        check("Mod", {"a": a.astype(np.float32) / 2, "b": b.astype(np.float32)}, tmp_path, fmod=fmod)


def test_integer_division_truncates(tmp_path: Path) -> None:
    check("Div", {"a": np.array([-7, 7, -7, 7]), "b": np.array([3, 3, -3, -3])}, tmp_path)


def test_pow_takes_an_exponent_of_another_type(tmp_path: Path) -> None:
    check("Pow", {"x": X}, tmp_path, {"e": np.array(3)})


@pytest.mark.parametrize(("low", "high"), [("low", "high"), ("low", "."), (".", "high")])
def test_clip_bounds_are_optional(low: str, high: str, tmp_path: Path) -> None:
    bounds = {"low": np.float32(-0.5), "high": np.float32(0.25)}
    used = {name: np.asarray(bounds[name]) for name in (low, high) if name != "."}
    check("Clip", {"x": X}, tmp_path, used, f"x {low} {high}")


def test_clip_bounds_were_attributes(tmp_path: Path) -> None:
    check("Clip", {"x": X}, tmp_path, opset=7, min=-0.5, max=0.25)


@pytest.mark.parametrize("op_type", ["Sum", "Mean", "Max"])
def test_variadic_ops_take_one_or_many(op_type: str, tmp_path: Path) -> None:
    check(op_type, {"a": X}, tmp_path)
    check(op_type, {"a": X, "b": X * 2, "c": X[:, :1]}, tmp_path)


def test_where_and_booleans(tmp_path: Path) -> None:
    check("Where", {"c": X > 0, "a": X, "b": X[:1]}, tmp_path)
    for op_type in ("And", "Or", "Xor", "Equal"):
        check(op_type, {"a": X > 0, "b": X[:, :1] > 0.5}, tmp_path)
    check("Not", {"a": X > 0}, tmp_path)


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions_take_axes_as_attribute_or_operand(op_type: str, keep: int, tmp_path: Path) -> None:
    check(op_type, {"x": X}, tmp_path, {"axes": np.array([-1, 0])}, keepdims=keep)
    check(op_type, {"x": X}, tmp_path, keepdims=keep)
    check(op_type, {"x": X}, tmp_path, opset=11, axes=[-1, 0], keepdims=keep)


@pytest.mark.parametrize("op_type", ["ReduceSumSquare", "ReduceLogSumExp", "ReduceProd"])
def test_further_reductions(op_type: str, tmp_path: Path) -> None:
    check(op_type, {"x": X}, tmp_path, {"axes": np.array([1])})


def test_a_reduction_over_no_axes_may_do_nothing(tmp_path: Path) -> None:
    check("ReduceSum", {"x": X}, tmp_path, {"axes": np.array([], np.int64)}, noop_with_empty_axes=1)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_softmax_flattened_before_opset_13(op_type: str, tmp_path: Path) -> None:
    check(op_type, {"x": X}, tmp_path, opset=11, axis=1)
    check(op_type, {"x": X}, tmp_path, opset=11)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumsum(exclusive: int, reverse: int, tmp_path: Path) -> None:
    check("CumSum", {"x": X}, tmp_path, {"axis": np.array(-1)}, exclusive=exclusive, reverse=reverse)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, -1, 2])
def test_triangles(upper: int, k: int | None, tmp_path: Path) -> None:
    check("Trilu", {"x": X}, tmp_path, {} if k is None else {"k": np.array(k)}, upper=upper)


@pytest.mark.parametrize("wanted", [[2, 12], [-1], [0, -1], [4, 0, 2, -1], [1, 0, -1, 2]])
def test_reshape_copies_and_infers(wanted: list[int], tmp_path: Path) -> None:
    check("Reshape", {"x": X[:, :, :]}, tmp_path, {"s": np.array(wanted)})


def test_reshape_of_nothing_allows_zero(tmp_path: Path) -> None:
    empty = np.zeros((0, 3), np.float32)
    check("Reshape", {"x": empty}, tmp_path, {"s": np.array([3, 0, 1])}, opset=18, allowzero=1)
    check("Reshape", {"x": empty}, tmp_path, {"s": np.array([0, 1, 3])}, opset=18)


def test_dimensions_come_and_go(tmp_path: Path) -> None:
    check("Unsqueeze", {"x": X}, tmp_path, {"axes": np.array([-1, 0])})
    check("Unsqueeze", {"x": X}, tmp_path, opset=11, axes=[1, 4])
    thin = X.reshape(1, 2, 1, 12)
    check("Squeeze", {"x": thin}, tmp_path, {"axes": np.array([-2])})
    check("Squeeze", {"x": thin}, tmp_path, opset=11, axes=[0])
    check("Squeeze", {"x": thin}, tmp_path)
    check("Expand", {"x": X}, tmp_path, {"s": np.array([5, 1, 3, 1])})
    check("Tile", {"x": X}, tmp_path, {"r": np.array([1, 2, 3])})


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [1], [1]),
        ([-2], [2**62], [-1], [1]),
        ([0, 0], [-1, -1], None, None),
        ([3], [-10], [2], [-2]),
        ([-1], [-(2**63)], [2], [-1]),
        ([2], [1], [1], [1]),
        ([0], [4], [2], [3]),
    ],
)
def test_slices_clamp(
    starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None, tmp_path: Path
) -> None:
    lists = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    check("Slice", {"x": X}, tmp_path, {k: np.array(v) for k, v in lists.items() if v is not None})


def test_slice_bounds_were_attributes(tmp_path: Path) -> None:
    check("Slice", {"x": X}, tmp_path, opset=9, starts=[1, 0], ends=[9, -1], axes=[1, 2])


def test_splits(tmp_path: Path) -> None:
    check("Split", {"x": X}, tmp_path, {"sizes": np.array([1, 3])}, outputs=2, axis=-1)
    check("Split", {"x": X}, tmp_path, outputs=3, axis=2, num_outputs=3)
    check("Split", {"x": X}, tmp_path, outputs=2, opset=13, axis=2)
    check("Split", {"x": X}, tmp_path, outputs=2, opset=11, axis=1, split=[2, 1])


def test_concat_and_pad(tmp_path: Path) -> None:
    check("Concat", {"a": X, "b": X[:, :1], "c": X[:, :0]}, tmp_path, axis=-2)
    check("Pad", {"x": X}, tmp_path, {"pads": np.array([0, 1, 0, 2, 0, -1]), "value": np.float32(3)})
    check("Pad", {"x": X}, tmp_path, opset=7, pads=[0, 0, 1, 0, 0, 1], value=2.0)


def test_gathers(tmp_path: Path) -> None:
    ids = np.array([[0, 2], [1, 1]])
    table = RNG.standard_normal((5, 4)).astype(np.float32)
    check("Gather", {"ids": ids}, tmp_path, {"table": table}, "table ids")
    check("Gather", {"x": X, "ids": ids}, tmp_path, axis=-2)
    check("Gather", {"x": X}, tmp_path, {"ids": np.array(-1)}, axis=2)
    check("Gather", {"x": X}, tmp_path, {"ids": np.array([[-1, 0]])}, axis=1)
    check("Gather", {"x": X}, tmp_path, {"ids": np.array([1, 2])}, axis=1)
    check("GatherND", {"x": X, "ids": np.array([[0, 1], [1, 2]])}, tmp_path)
    check("GatherND", {"x": X, "ids": np.array([[1], [0]])}, tmp_path, batch_dims=1)
    check("GatherND", {"x": X}, tmp_path, {"ids": np.array([[0, 0], [0, 1], [0, 2]])})
    check("GatherND", {"x": X}, tmp_path, {"ids": np.array([[-1, -2]])})
    check("GatherND", {"x": X}, tmp_path, {"ids": np.array([[0, 1], [1, 0], [0, 2]])})


def test_one_hot(tmp_path: Path) -> None:
    tensors = {"depth": np.array(4), "values": np.array([0.5, 2.0], np.float32)}
    check("OneHot", {"ids": np.array([[0, 3], [-1, 2]])}, tmp_path, tensors, axis=1)


@pytest.mark.parametrize(("a", "b"), [((4,), (4,)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2))])
def test_matmul_of_all_ranks(a: tuple[int, ...], b: tuple[int, ...], tmp_path: Path) -> None:
    left, right = (RNG.standard_normal(shape).astype(np.float32) for shape in (a, b))
    check("MatMul", {"a": left, "b": right}, tmp_path)
    check("MatMul", {"a": left}, tmp_path, {"b": right})


@pytest.mark.parametrize("trans", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(trans: tuple[int, int], tmp_path: Path) -> None:
    a = RNG.standard_normal((3, 4) if not trans[0] else (4, 3)).astype(np.float32)
    b = RNG.standard_normal((4, 5) if not trans[1] else (5, 4)).astype(np.float32)
    attrs = {"transA": trans[0], "transB": trans[1]}
    check("Gemm", {"a": a}, tmp_path, {"b": b, "c": np.ones(5, np.float32)}, alpha=0.5, beta=2.0, **attrs)
    check("Gemm", {"a": a, "b": b}, tmp_path, **attrs)


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "bij,kj->bki", "bij,bij->b", "bij,bkj->ikb"])
def test_einsum(equation: str, tmp_path: Path) -> None:
    extent = {"b": 2, "i": 3, "j": 4, "k": 5}
    left, right = (
        RNG.standard_normal([extent[c] for c in term]).astype(np.float32) for term in equation.split("->")[0].split(",")
    )
    check("Einsum", {"a": left, "c": right}, tmp_path, equation=equation)


@pytest.mark.parametrize("axis", [-1, 1])
def test_norms(axis: int, tmp_path: Path) -> None:
    shape = X.shape[axis:] if axis > 0 else X.shape[-1:]
    weight = RNG.standard_normal(shape).astype(np.float32)
    check("LayerNormalization", {"x": X}, tmp_path, {"w": weight, "b": weight * 2}, axis=axis, epsilon=1e-3)
    check("LayerNormalization", {"x": X}, tmp_path, {"w": weight}, axis=axis)
    check("RMSNormalization", {"x": X}, tmp_path, {"w": weight}, axis=axis, opset=23)


def test_fused_norms(tmp_path: Path) -> None:
    weight = {"w": RNG.standard_normal(4).astype(np.float32)}
    check("SimplifiedLayerNormalization", {"x": X}, tmp_path, weight, axis=-1)
    proto = check("SkipSimplifiedLayerNormalization", {"x": X, "s": X * 2}, tmp_path, weight, domain="com.microsoft")
    proto.graph.node[0].output[:] = ["y0", "", "", "sum"]
    proto.graph.output.append(onnx.ValueInfoProto(name="sum"))
    agrees(proto, {"x": X, "s": X * 2}, tmp_path)


def test_constants_in_every_form(tmp_path: Path) -> None:
    forms: list[dict[str, Any]] = [
        {"value": numpy_helper.from_array(X[0])},
        {"value_float": 0.5},
        {"value_floats": [0.5, 1.5, -2.0, 3.0]},
        {"value": numpy_helper.from_array(np.float32(2))},
    ]
    for form in forms:
        nodes = [
            helper.make_node("Constant", [], ["c"], "c", **form),
            helper.make_node("Add", ["x", "c"], ["y"], "add"),
        ]
        agrees(model(nodes, {"x": (F32, X.shape)}, ["y"]), {"x": X}, tmp_path)
    whole = np.arange(4)
    for form in ({"value_int": 3}, {"value_ints": [1, 2, 3, 4]}):
        nodes = [
            helper.make_node("Constant", [], ["c"], "c", **form),
            helper.make_node("Add", ["x", "c"], ["y"], "add"),
        ]
        agrees(model(nodes, {"x": (I64, [4])}, ["y"]), {"x": whole}, tmp_path)


def test_dropout_keeps_everything(tmp_path: Path) -> None:
    check("Dropout", {"x": X}, tmp_path, outputs=2)
    check("Dropout", {"x": X}, tmp_path, {"ratio": np.float32(0.5)})


def test_outputs_may_be_inputs_constants_weights_or_twice_the_same(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["same"], "i"),
        helper.make_node("Shape", ["x"], ["shape"], "s"),
        helper.make_node("Identity", ["w"], ["weight"], "w"),
        helper.make_node("Neg", ["x"], ["minus"], "n"),
        helper.make_node("Identity", ["minus"], ["again"], "a"),
    ]
    outputs = ["same", "shape", "weight", "minus", "again"]
    imported = agrees(model(nodes, {"x": (F32, X.shape)}, outputs, {"w": X[0]}), {"x": X}, tmp_path)
    assert list(imported.graph.outputs) == outputs


def test_unsorted_nodes_run_in_order(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["b", "a"], ["y"], "last"),
        helper.make_node("Neg", ["a"], ["b"], "middle"),
        helper.make_node("Abs", ["x"], ["a"], "first"),
    ]
    path = saved(model(nodes, {"x": (F32, X.shape)}, ["y"]), tmp_path)
    assert [op.id for op in import_model(path).graph] == ["first", "middle", "last"]


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    body = [helper.make_node("Mul", ["a", "a"], ["square"], "m"), helper.make_node("Add", ["square", "b"], ["c"], "s")]
    opsets = [helper.make_opsetid("", 20)]
    function = helper.make_function("mine", "SquareAdd", ["a", "b"], ["c"], body, opsets)
    nodes = [
        helper.make_node("SquareAdd", ["x", "x"], ["t"], "one", domain="mine"),
        helper.make_node("SquareAdd", ["t", "x"], ["y"], "two", domain="mine"),
    ]
    proto = model(nodes, {"x": (F32, X.shape)}, ["y"], functions=[function])
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    imported = agrees(proto, {"x": X}, tmp_path)
    assert [op.kind for op in imported.graph] == ["mul", "add", "mul", "add"]


def test_names_with_slashes_colons_and_spaces_survive(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["a/b c"], ["/layer.0/Neg::out"], "/layer.0/Neg (1)"),
        helper.make_node("Abs", ["/layer.0/Neg::out"], ["y\"'é"], "Abs, (2)"),
    ]
    proto = model(nodes, {"a/b c": (F32, X.shape)}, ["y\"'é"])
    imported = agrees(proto, {"a/b c": X}, tmp_path)
    from wafercc.ir.text import parse_graph

    assert parse_graph(str(imported.graph)) == imported.graph


def test_nodes_of_one_name_or_none_get_ids_of_their_own(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], "same"),
        helper.make_node("Abs", ["a"], ["b"], "same"),
        helper.make_node("Exp", ["b"], ["c"]),
        helper.make_node("Neg", ["c"], ["y"]),
    ]
    graph = import_model(saved(model(nodes, {"x": (F32, X.shape)}, ["y"]), tmp_path)).graph
    assert len({op.id for op in graph}) == 4 and all(graph.op[op.id] is op for op in graph)


ROPE: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "heads apart": ((2, 3, 5, 8), {}),
    "flat": ((2, 5, 24), {"num_heads": 3}),
    "interleaved": ((2, 3, 5, 8), {"interleaved": 1}),
    "partial": ((2, 3, 5, 8), {"rotary_embedding_dim": 4, "num_heads": 3}),
}


@pytest.mark.parametrize("form", ROPE)
def test_rotary_embedding(form: str, tmp_path: Path) -> None:
    """onnxruntime lacks some forms of opset 23; the reference of the standard is the judge."""
    from onnx.reference import ReferenceEvaluator

    shape, attrs = ROPE[form]
    half = attrs.get("rotary_embedding_dim", 8) // 2
    x = RNG.standard_normal(shape).astype(np.float32)
    table = RNG.standard_normal((10, half)).astype(np.float32)
    positions = np.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
    node = helper.make_node("RotaryEmbedding", ["x", "c", "s", "p"], ["y"], "rope", **attrs)
    inputs = {"x": x, "p": positions}
    specs = {"x": (F32, shape), "p": (I64, positions.shape)}
    proto = model([node], specs, ["y"], {"c": np.cos(table), "s": np.sin(table)}, 23)
    got = run_graph(import_model(saved(proto, tmp_path)), inputs)["y"]
    typed = onnx.ModelProto()
    typed.CopyFrom(proto)
    typed.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", F32, shape))
    np.testing.assert_allclose(got, ReferenceEvaluator(typed).run(None, inputs)[0], rtol=1e-5, atol=1e-6)


def attention_inputs(flat: bool) -> dict[str, Array]:
    """6 query heads on 2 kv heads, 3 new tokens on 4 past ones."""

    def draw(*shape: int) -> Array:
        return RNG.standard_normal(shape).astype(np.float32)

    if flat:
        return {"q": draw(2, 3, 48), "k": draw(2, 3, 16), "v": draw(2, 3, 16)}
    return {"q": draw(2, 6, 3, 8), "k": draw(2, 2, 3, 8), "v": draw(2, 2, 3, 8)}


MASKS: dict[str, Callable[[int], Array | None]] = {
    "none": lambda total: None,
    "bool": lambda total: np.arange(3 * total).reshape(3, total) % 4 != 1,
    "float": lambda total: RNG.standard_normal((2, 1, 3, total)).astype(np.float32),
    "short": lambda total: np.ones((3, total - 1), bool),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_attention(mask: str, causal: int, past: bool, flat: bool, tmp_path: Path) -> None:
    """Against the reference of the standard, which onnxruntime follows from opset to opset only in part."""
    from onnx.reference import ReferenceEvaluator

    inputs = attention_inputs(flat)
    given = MASKS[mask](7 if past else 3)
    if given is not None:
        inputs["m"] = given
    if past:
        inputs |= {name: RNG.standard_normal((2, 2, 4, 8)).astype(np.float32) for name in ("pk", "pv")}
    names = ["q", "k", "v", "m" if given is not None else "", *(("pk", "pv") if past else ())]
    attrs: dict[str, Any] = {"is_causal": causal, "softcap": 2.0}
    if flat:
        attrs |= {"q_num_heads": 6, "kv_num_heads": 2}
    outputs = ["y", "present_k", "present_v"] if past else ["y"]
    node = helper.make_node("Attention", names, outputs, "attend", **attrs)
    specs = {name: (ONNX_TYPES[array.dtype.kind], array.shape) for name, array in inputs.items()}
    proto = model([node], specs, outputs, opset=23)
    imported = import_model(saved(proto, tmp_path), Binding(inputs_like=inputs))
    got = run_graph(imported, inputs)
    typed = onnx.ModelProto()
    typed.CopyFrom(proto)
    for value in typed.graph.output:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, None))
    for name, want in zip(outputs, ReferenceEvaluator(typed).run(None, inputs), strict=True):
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_mask_gathered_with_aranges_is_a_view_at_every_size(tmp_path: Path) -> None:
    """The exporters' vectorised mask: mask[b, k] for all b, k, as a GatherND over two broadcast ranges."""
    nodes = [
        helper.make_node("Shape", ["mask"], ["batch"], "batch", start=0, end=1),
        helper.make_node("Shape", ["mask"], ["total"], "total", start=1, end=2),
        helper.make_node("Squeeze", ["batch"], ["b"], "b"),
        helper.make_node("Squeeze", ["total"], ["t"], "t"),
        helper.make_node("Range", ["zero", "b", "one"], ["bs"], "bs"),
        helper.make_node("Range", ["zero", "t", "one"], ["ts"], "ts"),
        helper.make_node("Unsqueeze", ["bs", "last"], ["column"], "column"),
        helper.make_node("Concat", ["batch", "total"], ["both"], "both", axis=0),
        helper.make_node("Expand", ["column", "both"], ["bb"], "bb"),
        helper.make_node("Expand", ["ts", "both"], ["tt"], "tt"),
        helper.make_node("Unsqueeze", ["bb", "end"], ["bbb"], "bbb"),
        helper.make_node("Unsqueeze", ["tt", "end"], ["ttt"], "ttt"),
        helper.make_node("Concat", ["bbb", "ttt"], ["index"], "index", axis=-1),
        helper.make_node("GatherND", ["mask", "index"], ["y"], "pick"),
    ]
    tensors = {"zero": np.array(0), "one": np.array(1), "last": np.array([1]), "end": np.array([-1])}
    proto = model(nodes, {"mask": (F32, ["batch", "total"])}, ["y"], tensors)
    for shape in ((2, 3), (3, 200)):
        mask = RNG.standard_normal(shape).astype(np.float32)
        imported = import_model(saved(proto, tmp_path), Binding(inputs_like={"mask": mask}))
        assert [op.kind for op in imported.graph] == ["reshape"]
        assert np.array_equal(run_graph(imported, {"mask": mask})["y"], run_onnxruntime(proto, {"mask": mask})["y"])


@pytest.mark.parametrize(
    "indices",
    [
        np.array([[1]]),
        np.array([[1], [2]]),
        np.array([[-1]]),
        np.array([[0, 1], [0, 2]]),
        np.stack(np.meshgrid([1, 2], [0, 1, 2, 3], indexing="ij"), -1),
        np.stack(np.meshgrid([0, 1, 2, 3], [1], [3, 4], indexing="ij"), -1),
        np.stack(np.meshgrid([0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4], indexing="ij"), -1),
    ],
)
def test_scatters_of_one_box(indices: Array, tmp_path: Path) -> None:
    x = RNG.standard_normal((4, 4, 5)).astype(np.float32)
    updates = RNG.standard_normal((*indices.shape[:-1], *x.shape[indices.shape[-1] :])).astype(np.float32)
    check("ScatterND", {"x": x, "u": updates}, tmp_path, {"i": indices}, "x i u")
