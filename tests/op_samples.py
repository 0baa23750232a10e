"""One or more small examples of every op kind, with an ONNX node that says the same where there is one.

Numbers are small integers, so sums of floats are exact in any order and pieces can be compared bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wafercc.ir.dims import Affine
from wafercc.ir.dtypes import from_numpy
from wafercc.ir.graph import Attr, Op, OpId, TensorType, ValueName
from wafercc.ir.optable import Array

PAST = Affine(1, 0, 7)  # a cache of n_past tokens, at most 7


@dataclass(frozen=True)
class Onnx:
    """An ONNX node of the same meaning; ``extra`` are its further integer operands (axes, shapes)."""

    kind: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    extra: tuple[tuple[int, ...], ...] = ()
    opset: int = 20


@dataclass(frozen=True)
class Sample:
    """An op, its operands (``None``: absent) and, where they depend on n_past, their declared types."""

    name: str
    op: Op
    arrays: tuple[Array | None, ...]
    onnx: Onnx | None = None
    n_past: int = 0
    declared: tuple[TensorType | None, ...] | None = None

    @property
    def types(self) -> tuple[TensorType | None, ...]:
        if self.declared is not None:
            return self.declared
        return tuple(None if a is None else TensorType(from_numpy(a.dtype), a.shape) for a in self.arrays)

    def __str__(self) -> str:
        return self.name


def sample(
    kind: str,
    *arrays: Array | None,
    onnx: Onnx | None = None,
    label: str = "",
    n_past: int = 0,
    declared: tuple[TensorType | None, ...] | None = None,
    **attrs: Attr,
) -> Sample:
    inputs = tuple(None if a is None else ValueName(f"x{i}") for i, a in enumerate(arrays))
    name = f"{kind}-{label}" if label else kind
    return Sample(name, Op(OpId(name), kind, inputs, (ValueName("y"),), attrs), arrays, onnx, n_past, declared)


def f32(*shape: int, low: int = -4, high: int = 5, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.float32)


def i64(*shape: int, low: int = -4, high: int = 5, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape)


def flags(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.bool_)


def _unary() -> list[Sample]:
    onnx = {"isnan": "IsNaN"} | {k: k.capitalize() for k in ("neg", "abs", "exp", "sin", "cos", "tanh", "sigmoid")}
    onnx |= {k: k.capitalize() for k in ("erf", "floor", "ceil", "sign", "relu")}
    x = f32(2, 5, 3) / np.float32(2)
    found = [sample(k, x, onnx=Onnx(v)) for k, v in onnx.items()]
    positive = f32(2, 5, 3, low=1, high=9)
    found += [sample(k, positive, onnx=Onnx(k.capitalize())) for k in ("log", "sqrt", "reciprocal")]
    found += [sample("not", flags(4, 3), onnx=Onnx("Not")), sample("silu", x), sample("neg", i64(4, 3), label="i64")]
    for way in ("tanh", "none"):
        found.append(sample("gelu", x, approximate=way, label=way, onnx=Onnx("Gelu", {"approximate": way})))
    small = f32(2, 5, 3, low=-3, high=4) / np.float32(4)
    curves = {"tan": small, "asin": small, "acos": small, "atan": x, "sinh": small, "cosh": small, "asinh": x}
    curves |= {"acosh": positive, "atanh": small, "round": x}
    found += [sample(k, given, onnx=Onnx(k.capitalize())) for k, given in curves.items()]
    found += [
        sample("bit_not", i64(4, 3)),
        sample("bitcast", x, to="i32"),
        sample("cast", x, to="i64", label="i64", onnx=Onnx("Cast", {"to": 7})),
        sample("cast", x, to="f16", label="f16", onnx=Onnx("Cast", {"to": 10})),
        sample("cast", x, to="bool", label="bool", onnx=Onnx("Cast", {"to": 9})),
    ]
    return found


def _binary() -> list[Sample]:
    a, b = f32(2, 5, 3), f32(5, 1, seed=1)
    names = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min"}
    bits = {"bit_and": "BitwiseAnd", "bit_or": "BitwiseOr", "bit_xor": "BitwiseXor"}
    compares = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
    found = [sample(k, a, b, onnx=Onnx(v)) for k, v in (names | compares).items()]
    found += [sample(k, i64(2, 5, 3), i64(5, 1, seed=1), onnx=Onnx(v)) for k, v in bits.items()]
    counts = np.abs(i64(5, 1, seed=1))
    found += [sample(k, i64(2, 5, 3), counts) for k in ("shift_left", "shift_right")]
    found += [sample("ne", a, b), sample("pow", f32(3, 4, low=1), f32(4, seed=1), onnx=Onnx("Pow"))]
    whole, divisor = i64(4, 6, low=-9, high=10), np.array([[-3], [2], [5], [-1]])
    found += [
        sample("div", whole, divisor, label="i64", onnx=Onnx("Div")),
        sample("mod", whole, divisor, label="i64", onnx=Onnx("Mod")),
        sample("mod", whole.astype(np.float32), divisor.astype(np.float32), onnx=Onnx("Mod", {"fmod": 1})),
    ]
    p, q = flags(3, 4), flags(4, seed=1)
    found += [sample(k, p, q, onnx=Onnx(k.capitalize())) for k in ("and", "or", "xor")]
    found += [
        sample("where", flags(5, 1), f32(2, 5, 3), f32(3, seed=2), onnx=Onnx("Where")),
        sample("swiglu", f32(2, 6), f32(2, 6, seed=1)),
        sample("add", f32(2, 1), f32(1, 3), label="both-broadcast", onnx=Onnx("Add")),
        sample("mul", f32(), f32(2, 3), label="scalar", onnx=Onnx("Mul")),
    ]
    return found


def _sources() -> list[Sample]:
    return [
        sample("constant", value=((1, 2, 3), (4, 5, 6)), dtype="f32", shape=(2, 3)),
        sample("range", start=Affine(1, 0, 7), step=2, count=5, dtype="i64", n_past=3),
        sample("range", start=1, step=1, count=Affine(1, 1, 7), dtype="i64", n_past=3, label="counted"),
        sample("fill", value=Affine(2, 1, 7), dtype="i64", shape=(Affine(1, 2, 7), 3), n_past=2),
        sample("fill", value=-float("inf"), dtype="f32", shape=(2, 2), label="float"),
    ]


def _shapes() -> list[Sample]:
    x = f32(2, 11, 96)
    found = [
        sample("reshape", f32(*a), shape=b, label=f"{len(a)}to{len(b)}-{i}", onnx=Onnx("Reshape", extra=(b,)))
        for i, (a, b) in enumerate(
            [
                ((2, 11, 96), (2, 11, 6, 16)),
                ((2, 11, 6, 16), (2, 11, 96)),
                ((2, 6, 5, 16), (12, 5, 16)),
                ((1, 1, 96), (96,)),
                ((6, 4), (4, 6)),
                ((3, 4), (2, 6)),
            ]
        )
    ]
    grown = Affine(1, 1, 7)
    found.append(
        sample(
            "reshape",
            f32(2, 4, 6),
            shape=(2, grown, 3, 2),
            n_past=3,
            declared=(TensorType(from_numpy(x.dtype), (2, grown, 6)),),
            label="past",
        )
    )
    past = TensorType(from_numpy(x.dtype), (2, 3, PAST, 4))
    new = TensorType(from_numpy(x.dtype), (2, 3, 2, 4))
    found += [
        sample("transpose", f32(2, 3, 4), perm=(2, 0, 1), onnx=Onnx("Transpose", {"perm": [2, 0, 1]})),
        sample("expand", f32(3, 1), shape=(2, 3, 4), onnx=Onnx("Expand", extra=((2, 3, 4),))),
        sample("slice", f32(4, 9), axis=1, start=1, step=2, count=3, onnx=Onnx("Slice", {}, ((1,), (7,), (1,), (2,)))),
        sample("slice", f32(4, 9), axis=1, start=0, step=1, count=9, label="full"),
        sample(
            "slice",
            f32(5, 3),
            axis=0,
            start=4,
            step=-2,
            count=3,
            label="back",
            onnx=Onnx("Slice", extra=((4,), (-9,), (0,), (-2,))),
        ),
        sample("concat", f32(2, 3), f32(2, 1), f32(2, 4), axis=1, onnx=Onnx("Concat", {"axis": 1})),
        sample("kv_append", f32(2, 3, 5, 4), f32(2, 3, 2, 4, seed=1), axis=2, onnx=Onnx("Concat", {"axis": 2})),
        sample("kv_append", f32(2, 3, 3, 4), f32(2, 3, 2, 4), axis=2, n_past=3, declared=(past, new), label="past"),
        sample("kv_append", f32(2, 3, 0, 4), f32(2, 3, 2, 4), axis=2, n_past=0, declared=(past, new), label="empty"),
    ]
    return found


def _lookups() -> list[Sample]:
    batched = Onnx("GatherND", {"batch_dims": 1})
    pairs = np.array([[[0, 1], [-1, 0]], [[1, 2], [0, 0]]])
    return [
        sample("embedding", f32(7, 6), i64(2, 3, low=0, high=7), onnx=Onnx("Gather")),
        sample("gather", f32(4, 5, 6), i64(2, 3, low=-5, high=5), axis=1, onnx=Onnx("Gather", {"axis": 1})),
        sample("gather", f32(4, 5), np.array(2), axis=0, label="scalar", onnx=Onnx("Gather", {"axis": 0})),
        sample("gather_nd", f32(3, 4, 5), pairs, batch_dims=0, onnx=Onnx("GatherND")),
        sample("gather_nd", f32(2, 4, 5), pairs, batch_dims=1, label="batch", onnx=batched),
        sample("gather_nd", f32(2, 4, 5), pairs[..., :1], batch_dims=1, label="rows", onnx=batched),
    ]


def _selects() -> list[Sample]:
    x, updates = f32(3, 7, 4, low=-9, high=10), f32(3, 2, 4, seed=1)
    distinct = np.stack([np.random.default_rng(i).permutation(7)[:2] for i in range(12)], 1).reshape(2, 3, 4)
    places, spots = np.moveaxis(distinct, 0, 1) - 7, np.array([[0, 2], [2, -1], [0, 2]])
    found = [
        sample("topk", x, axis=1, k=3, largest=True),
        sample("topk", x, axis=2, k=4, largest=False, label="smallest"),
        sample("topk", i64(2, 9), axis=1, k=2, largest=True, label="i64"),
        sample("gather_elements", x, places, axis=1, onnx=Onnx("GatherElements", {"axis": 1})),
        sample("gather_elements", x, places[:2], axis=1, label="box", onnx=Onnx("GatherElements", {"axis": 1})),
        sample("nonzero", i64(3, 5, low=0, high=2)),
        sample("nonzero", flags(6), label="bool"),
        sample("scatter_elements", x, np.full((3, 2, 4), 7), updates, axis=1, reduction="none", label="outside"),
        sample("scatter_nd", f32(3, 4, 5), np.array([[9, 0]]), f32(1, 5), reduction="add", label="outside"),
    ]
    for how in ("none", "add", "max", "min", "mul"):
        node = Onnx("ScatterElements", {"axis": 1, "reduction": how})
        found.append(
            sample("scatter_elements", x, places, updates, axis=1, reduction=how, label=how, onnx=node),
        )
        node, rows = Onnx("ScatterND", {"reduction": how}), spots[:2] if how == "none" else spots
        found.append(
            sample("scatter_nd", f32(3, 4, 5), rows, f32(len(rows), 5), reduction=how, label=how, onnx=node),
        )
    return found


def _matmuls() -> list[Sample]:
    cached = TensorType(from_numpy(np.dtype(np.float32)), (2, 3, Affine(1, 1, 7), 4))
    query = TensorType(cached.dtype, (2, 3, 2, Affine(1, 1, 7)))
    return [
        sample("matmul", f32(4, 5), f32(5, 6), onnx=Onnx("MatMul")),
        sample("matmul", f32(2, 1, 4, 5), f32(3, 5, 6), label="broadcast", onnx=Onnx("MatMul")),
        sample("matmul", f32(2, 4, 5), f32(5, 6), label="weight", onnx=Onnx("MatMul")),
        sample("matmul", f32(4, 5).astype(np.float16), f32(5, 6).astype(np.float16), label="f16"),
        sample("matmul", f32(2, 3, 2, 5), f32(2, 3, 5, 4), n_past=4, declared=(query, cached), label="past"),
        sample("matmul", i64(3, 4).astype(np.int32), i64(4, 2).astype(np.int32), label="i32", onnx=Onnx("MatMul")),
    ]


def _experts() -> list[Sample]:
    x, w = f32(6, 5), f32(4, 5, 3, seed=1)
    return [
        sample("moe_experts", x, w, np.array([3, 0, 0, 2, 1, -1])),
        sample("moe_experts", x, w, np.array([3, 0, 0, 2, 1, 3]), distinct=2, label="pairs"),
        sample("moe_experts", x, w, np.array([4, 0, 9, 2, -5, 4]), label="none"),
    ]


def _reductions() -> list[Sample]:
    found: list[Sample] = []
    for kind, onnx in (("sum", "ReduceSum"), ("mean", "ReduceMean"), ("max", "ReduceMax"), ("min", "ReduceMin")):
        for axes, keep in (((2,), True), ((0, 2), False), ((1,), False)):
            node = Onnx(onnx, {"keepdims": int(keep)}, (axes,))
            label = f"{''.join(map(str, axes))}{'k' if keep else ''}"
            found.append(sample(f"reduce_{kind}", f32(3, 4, 6), axes=axes, keep=keep, label=label, onnx=node))
    for exclusive, reverse in ((False, False), (True, False), (False, True), (True, True)):
        node = Onnx("CumSum", {"exclusive": int(exclusive), "reverse": int(reverse)}, ((1,),))
        label = f"{int(exclusive)}{int(reverse)}"
        found.append(sample("cumsum", f32(3, 5), axis=1, exclusive=exclusive, reverse=reverse, label=label, onnx=node))
    for axis in (1, 2):
        node = Onnx("Softmax", {"axis": axis})
        found.append(sample("softmax", f32(2, 5, 6), axis=axis, label=str(axis), onnx=node))
    return found


def _norms() -> list[Sample]:
    x, w, b = f32(2, 3, 8), f32(8, seed=1), f32(8, seed=2)
    node = Onnx("LayerNormalization", {"epsilon": 0.01})
    return [
        sample("rms_norm", x, w, epsilon=0.01),
        sample("rms_norm", x, None, epsilon=0.01, label="plain"),
        sample("layer_norm", x, w, b, epsilon=0.01, onnx=node),
        sample("layer_norm", x, w, epsilon=0.01, label="no-bias", onnx=node),
        sample("layer_norm", x, None, b, epsilon=0.01, label="no-weight"),
    ]


def _attentions() -> list[Sample]:
    x, cos, sin = f32(2, 3, 4, 8), f32(1, 1, 4, 4, seed=1), f32(4, 4, seed=2)
    q, k, v = f32(2, 6, 3, 4), f32(2, 2, 5, 4, seed=1), f32(2, 2, 5, 3, seed=2)
    seen = np.tril(np.ones((3, 5), np.bool_), 1)
    seen[0] = False
    additive = np.where(flags(2, 1, 3, 5), np.float32(0), np.float32(-1000))
    by_head = f32(6, 1, 5, seed=3)
    f = from_numpy(x.dtype)
    past = tuple(TensorType(f, s) for s in ((2, 6, 3, 4), (2, 2, PAST, 4), (2, 2, PAST, 3)))
    return [
        sample("rope", x, cos, sin, interleaved=False, rotary=8),
        sample("rope", x, cos, sin, interleaved=True, rotary=8, label="pairs"),
        sample("rope", x, cos[..., :2], sin[..., :2], interleaved=False, rotary=4, label="partial"),
        sample("attention", q, k, v, scale=0.5),
        sample("attention", q, k, v, seen, scale=0.5, label="blind-row"),
        sample("attention", q, k, v, additive, scale=0.5, softcap=2.0, label="additive"),
        sample("attention", q, k, v, by_head, scale=0.25, label="by-head"),
        sample("attention", q, k, v, None, scale=1.0, n_past=5, declared=(*past, None), label="past"),
        sample("attention", q, k, v, seen, f32(6, seed=4), scale=0.5, label="sink"),
        sample("attention", q, k, v, None, f32(6, seed=4), scale=0.5, softcap=3.0, label="sink-capped"),
    ]


from quant_samples import QUANTISED  # noqa: E402  (it is made of what stands above)

SAMPLES: tuple[Sample, ...] = (
    *_unary(),
    *_binary(),
    *_sources(),
    *_shapes(),
    *_lookups(),
    *_selects(),
    *_matmuls(),
    *_experts(),
    *_reductions(),
    *_norms(),
    *_attentions(),
    *QUANTISED,
)
