"""The op table: types, meaning and work of every kind, held against onnxruntime or a plain expression."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from op_samples import SAMPLES, Sample, f32, flags, i64, sample

from wafercc.errors import ImportFailed, RunError
from wafercc.ir.dims import Affine
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import Attr, Op, OpId, TensorType, ValueName
from wafercc.ir.ops.elementwise import erf
from wafercc.ir.optable import Array, Work, spec_of, table


def evaluate(one: Sample) -> Array:
    (result,) = spec_of(one.op).evaluate(one.op, one.arrays, one.n_past)
    return result


def by_name(name: str) -> Sample:
    return next(s for s in SAMPLES if s.name == name)


def test_every_kind_has_a_sample() -> None:
    assert {s.op.kind for s in SAMPLES} == set(table())


@pytest.mark.parametrize("one", SAMPLES, ids=str)
def test_results_have_the_inferred_type(one: Sample) -> None:
    (inferred,) = spec_of(one.op).infer(one.op, one.types)
    result = evaluate(one)
    assert result.dtype == inferred.dtype.numpy
    assert result.shape == inferred.at(one.n_past)


@pytest.mark.parametrize("one", [s for s in SAMPLES if s.onnx is not None], ids=str)
def test_results_equal_onnxruntime(one: Sample) -> None:
    expected = run_onnx(one)
    result = evaluate(one)
    if np.issubdtype(result.dtype, np.floating):
        np.testing.assert_allclose(result.astype(np.float64), expected.astype(np.float64), rtol=2e-6, atol=1e-6)
    else:
        np.testing.assert_array_equal(result, expected)


def run_onnx(one: Sample) -> Array:
    node = one.onnx
    assert node is not None
    feeds = {f"x{i}": np.array(a, order="C") for i, a in enumerate(one.arrays) if a is not None}
    extra = {f"e{i}": np.array(e, np.int64) for i, e in enumerate(node.extra)}
    inputs = [f"x{i}" if a is not None else "" for i, a in enumerate(one.arrays)] + list(extra)
    extra |= {n: feeds.pop(n) for n in list(feeds) if feeds[n].dtype.isbuiltin == 2}  # it is not fed such types
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(node.kind, inputs, ["y"], **node.attrs)],
        "one",
        [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in feeds.items()
        ],
        [onnx.helper.make_empty_tensor_value_info("y")],
        [onnx.numpy_helper.from_array(a, n) for n, a in extra.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", node.opset)], ir_version=9)
    inferred = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(inferred.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


def test_silu_and_swiglu_are_products_with_a_sigmoid() -> None:
    one = by_name("silu")
    x = np.asarray(one.arrays[0], np.float64)
    np.testing.assert_allclose(evaluate(one), x / (1 + np.exp(-x)), rtol=1e-6)
    gate, up = (np.asarray(a, np.float64) for a in by_name("swiglu").arrays)
    np.testing.assert_allclose(evaluate(by_name("swiglu")), gate / (1 + np.exp(-gate)) * up, rtol=1e-6)


def test_ne_is_the_opposite_of_eq() -> None:
    np.testing.assert_array_equal(evaluate(by_name("ne")), ~evaluate(by_name("eq")))


def test_sources_give_their_attributes() -> None:
    assert evaluate(by_name("constant")).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert evaluate(by_name("range")).tolist() == [3, 5, 7, 9, 11]
    assert evaluate(by_name("range-counted")).tolist() == [1, 2, 3, 4]
    assert evaluate(by_name("fill")).tolist() == [[5, 5, 5]] * 4
    assert evaluate(by_name("fill-float")).tolist() == [[-math.inf] * 2] * 2


def test_rms_norm_divides_by_the_root_of_the_mean_square() -> None:
    x, w = (np.asarray(a, np.float64) for a in by_name("rms_norm").arrays)
    expected = [[row / math.sqrt(sum(v * v for v in row) / len(row) + 0.01) for row in rows] for rows in x]
    np.testing.assert_allclose(evaluate(by_name("rms_norm")), np.array(expected) * w, rtol=1e-6)
    np.testing.assert_allclose(evaluate(by_name("rms_norm-plain")), expected, rtol=1e-6)


def test_layer_norm_without_weight_only_adds_the_bias() -> None:
    x, _, b = by_name("layer_norm-no-weight").arrays
    assert x is not None and b is not None
    expected = [[(row - row.mean()) / math.sqrt(row.var() + 0.01) for row in rows] for rows in x.astype(np.float64)]
    np.testing.assert_allclose(evaluate(by_name("layer_norm-no-weight")), np.array(expected) + b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "pairs"), [("rope", False), ("rope-pairs", True), ("rope-partial", False)])
def test_rope_turns_each_pair_by_its_angle(name: str, pairs: bool) -> None:
    one = by_name(name)
    x, cos, sin = (np.asarray(a, np.float64) for a in one.arrays)
    half = cos.shape[-1]
    expected = x.copy()
    for index in np.ndindex(*x.shape[:-1], half):
        *row, i = index
        turn = complex(*(np.broadcast_to(angle, (*x.shape[:-1], half))[index] for angle in (cos, sin)))
        first, second = (2 * i, 2 * i + 1) if pairs else (i, i + half)
        turned = complex(x[(*row, first)], x[(*row, second)]) * turn
        expected[(*row, first)], expected[(*row, second)] = turned.real, turned.imag
    np.testing.assert_allclose(evaluate(one), expected, rtol=1e-6)


@pytest.mark.parametrize("one", [s for s in SAMPLES if s.op.kind == "attention"], ids=str)
def test_attention_is_a_softmax_over_what_each_row_sees(one: Sample) -> None:
    q, k, v = (np.asarray(a, np.float64) for a in one.arrays[:3])
    mask = one.arrays[3] if len(one.arrays) > 3 else None
    sink = one.arrays[4] if len(one.arrays) > 4 else None
    scale, cap = float(one.op.attrs["scale"]), float(one.op.attrs.get("softcap", 0.0))  # type: ignore[arg-type]
    group = q.shape[1] // k.shape[1]
    expected = np.zeros((*q.shape[:3], v.shape[3]))
    for b, h, s in np.ndindex(*q.shape[:3]):
        scores = [scale * float(q[b, h, s] @ k[b, h // group, t]) for t in range(k.shape[2])]
        scores = [cap * math.tanh(x / cap) for x in scores] if cap else scores
        if mask is not None:
            row = np.broadcast_to(mask, (*q.shape[:3], k.shape[2]))[b, h, s]
            added = np.where(row, 0.0, -math.inf) if mask.dtype == np.bool_ else row
            scores = [x + m for x, m in zip(scores, added, strict=True)]
        top = max(scores)
        weights = [0.0 if x == -math.inf else math.exp(x - top) for x in scores]
        sunk = math.exp(float(sink[h]) - (0.0 if top == -math.inf else top)) if sink is not None else 0.0
        for t, weight in enumerate(weights):
            expected[b, h, s] += weight / (sum(weights) + sunk or 1.0) * v[b, h // group, t]
    np.testing.assert_allclose(evaluate(one), expected, rtol=1e-5, atol=1e-6)
    if one.name.endswith(("blind-row", "sink")):
        assert not evaluate(one)[:, :, 0].any()


def test_erf_is_exact_to_the_last_digits() -> None:
    x = np.linspace(-7, 7, 4001)
    np.testing.assert_allclose(erf(x), [math.erf(v) for v in x], rtol=1e-15, atol=0)
    np.testing.assert_array_equal(erf(np.array([np.nan, np.inf, -np.inf])), [np.nan, 1, -1])


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_sixteen_bit_sums_accumulate_in_f32(dtype: DType) -> None:
    """4,096 ones: a 16-bit accumulator would stop at 2,048 (f16) or 256 (bf16)."""
    ones = np.ones((1, 4096), dtype.numpy)
    assert evaluate(sample("matmul", ones, ones.T)).item() == 4096
    assert evaluate(sample("reduce_sum", ones, axes=(1,), keep=True)).item() == 4096
    assert evaluate(sample("reduce_mean", ones, axes=(1,), keep=True)).item() == 1
    assert evaluate(sample("softmax", ones, axis=1))[0, 0] == 1 / 4096
    assert evaluate(sample("rms_norm", ones, epsilon=0.0))[0, 0] == 1
    for one in SAMPLES:
        if one.onnx is not None and one.op.kind in ("silu", "exp", "gelu", "add", "swiglu"):
            narrow = tuple(None if a is None else a.astype(dtype.numpy) for a in one.arrays)
            result = evaluate(Sample(one.name, one.op, narrow))
            np.testing.assert_array_equal(result, evaluate(one).astype(dtype.numpy))


def test_nothing_warns_about_infinities_and_nan() -> None:
    x = np.array([[np.inf, -np.inf, np.nan, 0.0]], np.float32)
    with np.errstate(all="raise"):
        for kind in ("exp", "log", "sqrt", "reciprocal", "sin", "sigmoid", "silu", "tanh", "erf"):
            evaluate(sample(kind, x))
        assert evaluate(sample("softmax", x[:, 1:2], axis=1)).shape == (1, 1)
        evaluate(sample("div", x, x))
        evaluate(sample("cast", x, to="i32"))
        evaluate(sample("layer_norm", x, epsilon=0.0))
        evaluate(sample("matmul", x, x.T))


def test_an_empty_cache_is_legal() -> None:
    none = np.zeros((1, 2, 0, 4), np.float32)
    q = np.ones((1, 2, 3, 4), np.float32)
    assert not evaluate(sample("attention", q, none, none, scale=1.0)).any()
    assert evaluate(sample("reduce_max", none, axes=(2,), keep=True)).tolist() == [[[[-math.inf] * 4]] * 2]
    assert evaluate(sample("matmul", none, np.ones((4, 5), np.float32))).shape == (1, 2, 0, 5)


def test_integer_powers_and_extremes() -> None:
    assert evaluate(sample("pow", np.array([2, 2]), np.array([3, -1]))).tolist() == [8, 0]
    for dtype in (np.int8, np.uint8, np.int64, np.uint64):
        empty = np.zeros((0,), dtype)
        assert evaluate(sample("reduce_max", empty, axes=(0,), keep=False)) == np.iinfo(dtype).min
        assert evaluate(sample("reduce_min", empty, axes=(0,), keep=False)) == np.iinfo(dtype).max


@pytest.mark.parametrize("kind", ["embedding", "gather"])
def test_an_index_outside_its_table_is_one_clear_error(kind: str) -> None:
    attrs: dict[str, Attr] = {} if kind == "embedding" else {"axis": 0}
    with pytest.raises(RunError, match=r"op \w+: index 7 is outside 0 to 6"):
        evaluate(sample(kind, f32(7, 6), np.array([0, 7]), **attrs))


GROWS = TensorType(DType.F32, (2, Affine(1, 1, 7), 6))
BAD: list[tuple[str, Sample, str]] = [
    ("operand count", sample("add", f32(2)), "takes 2 operands, has 1"),
    ("absent operand", sample("matmul", f32(2, 2), None), "takes 2 operands, has 1"),
    ("dtype mix", sample("add", f32(2), i64(2)), "different element types: f32.2., i64.2."),
    ("dtype", sample("exp", i64(2)), "cannot take i64.2. as operand 0; it takes f32, f16, bf16, f64"),
    ("broadcast", sample("add", f32(2), f32(3)), r"cannot broadcast \[2\] with \[3\]"),
    ("inner dim", sample("matmul", f32(2, 3), f32(2, 3)), r"cannot multiply f32\[2,3\] by f32\[2,3\]"),
    ("axis", sample("softmax", f32(2, 3), axis=2), "has axis 2, but its operand has dimensions 0 to 1"),
    ("no axis", sample("softmax", f32(2, 3)), "needs an integer attribute axis, has None"),
    ("axes", sample("reduce_sum", f32(2, 3), axes=(0, 0), keep=True), r"has axes \(0, 0\)"),
    ("volume", sample("reshape", f32(2, 3), shape=(7,)), r"cannot turn f32\[2,3\] into \[7\]"),
    ("unresolved", sample("reshape", f32(2, 3), shape=(-1,)), "needs resolved dimensions"),
    ("perm", sample("transpose", f32(2, 3), perm=(0,)), "needs a perm of 2 axes"),
    ("expand", sample("expand", f32(2, 3), shape=(2, 1)), r"to exactly \[2,1\]"),
    ("slice", sample("slice", f32(4), axis=0, start=2, step=1, count=3), "takes 3 elements from 2 by 1"),
    ("slice past", sample("slice", f32(4), axis=0, start=Affine(1, 0, 7), step=1, count=1), "smaller context"),
    ("concat", sample("concat", f32(2, 3), f32(3, 3), axis=1), "cannot join"),
    ("ids", sample("embedding", f32(2, 3), f32(2)), "as ids"),
    ("batch", sample("gather_nd", f32(2, 3), i64(2, 1), batch_dims=2), "cannot have 2 batch dimensions"),
    ("approximate", sample("gelu", f32(2), approximate="fast"), "needs approximate=tanh"),
    ("to", sample("cast", f32(2), to="f8"), "needs an element type as attribute to, has 'f8'"),
    ("constant", sample("constant", value=(1, 2), dtype="f32", shape=(3,)), r"has 2 numbers for the shape \[3\]"),
    ("weight", sample("rms_norm", f32(2, 3), f32(2), epsilon=0.1), "needs a weight of 3 elements"),
    ("rotary", sample("rope", f32(2, 3), f32(1), f32(1), interleaved=False, rotary=4), "cannot rotate 4"),
    ("groups", sample("attention", f32(1, 3, 2, 4), f32(1, 2, 2, 4), f32(1, 2, 2, 4), scale=1.0), "3 query heads"),
    (
        "mask",
        sample("attention", f32(1, 2, 2, 4), f32(1, 2, 5, 4), f32(1, 2, 5, 4), flags(4), scale=1.0),
        r"cannot broadcast \[1,2,2,5\] with \[4\]",
    ),
]


@pytest.mark.parametrize(("one", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_wrong_op_is_one_clear_error(one: Sample, message: str) -> None:
    with pytest.raises(ImportFailed, match=message) as caught:
        spec_of(one.op).infer(one.op, one.types)
    assert caught.value.where == f"op {one.op.id}"


def test_an_unknown_kind_is_one_clear_error() -> None:
    with pytest.raises(ImportFailed, match="op a: unknown op kind conv"):
        spec_of(Op(OpId("a"), "conv", (), (ValueName("y"),)))


def test_dimensions_may_grow_with_n_past() -> None:
    grown = Affine(1, 1, 7)
    infer = {kind: spec.infer for kind, spec in table().items()}
    one = TensorType(DType.F32, (2, 1, 6))
    add = sample("add", f32(1), f32(1)).op
    assert infer["add"](add, (GROWS, one)) == (GROWS,)
    with pytest.raises(ImportFailed, match="cannot broadcast"):
        infer["add"](add, (GROWS, TensorType(DType.F32, (2, 8, 6))))
    joined = sample("concat", f32(1), f32(1), axis=1).op
    assert infer["concat"](joined, (GROWS, GROWS))[0].shape == (2, Affine(2, 2, 7), 6)
    split = sample("reshape", f32(1), shape=(2, grown, 2, 3)).op
    assert infer["reshape"](split, (GROWS,))[0].shape == (2, grown, 2, 3)
    with pytest.raises(ImportFailed, match="different numbers of elements"):
        infer["reshape"](sample("reshape", f32(1), shape=(2, 8, 6)).op, (GROWS,))
    last = sample("slice", f32(1), axis=1, start=Affine(1, 0, 7), step=1, count=1).op
    assert infer["slice"](last, (GROWS,))[0].shape == (2, 1, 6)


def test_work_of_a_matmul_is_counted_per_pe() -> None:
    op = sample("matmul", f32(1, 1), f32(1, 1)).op
    k = np.array([[3, 2]])
    work = spec_of(op).work(op, [(4, k), (k, 5)], [(4, 5)])
    np.testing.assert_array_equal(work.macs, [[60, 40]])
    np.testing.assert_array_equal((work + Work(macs=1, simple=2)).macs, [[61, 41]])


def test_work_of_attention_counts_both_products() -> None:
    one = by_name("attention")
    shapes = [a.shape for a in one.arrays if a is not None]
    work = spec_of(one.op).work(one.op, shapes, [(2, 6, 3, 3)])
    assert work.macs == 2 * 6 * 3 * 5 * (4 + 3)
    assert work.special == 2 * 6 * 3 * (5 + 1)


def test_only_reshape_and_transpose_move_nothing() -> None:
    assert {kind for kind, spec in table().items() if spec.layout_only} == {"reshape", "transpose"}
    free = {s.op.kind for s in SAMPLES if spec_of(s.op).work(s.op, *_shapes(s)) == Work()}
    assert free == {"reshape", "transpose"}


def _shapes(one: Sample) -> tuple[list[tuple[int, ...] | None], list[tuple[int, ...]]]:
    return [None if a is None else a.shape for a in one.arrays], [evaluate(one).shape]
