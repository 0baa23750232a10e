"""Quantised graphs mean what onnxruntime computes, and quantised weights take their true bytes on every PE."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from importer_models import F32, I64, Array, agrees, model, run_onnxruntime
from onnx import TensorProto, helper

import wafercc
from wafercc.ir import artifact
from wafercc.ir.dtypes import DType
from wafercc.ir.layout import tile_bytes, tile_shape
from wafercc.ir.packing import pack, unpack
from wafercc.ir.program import PlacedProgram
from wafercc.verify import verify

K, N, BLOCK = 96, 40, 32
RNG = np.random.default_rng(3)
CLOSE = 1e-3  # onnxruntime's kernels of 8-bit weights lose digits in sums; rounding activations moves results by 0.1
A = RNG.standard_normal((2, 3, K)).astype(np.float32)


def packed(codes: Array, bits: int) -> Array:
    """Codes of a row as bytes, the first in the low bits; the last byte is filled up."""
    per_byte = 8 // bits
    fill = [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % per_byte)]
    rows = np.pad(codes, fill).reshape(*codes.shape[:-1], -1, per_byte).astype(np.uint8)
    return np.bitwise_or.reduce(rows << (bits * np.arange(per_byte, dtype=np.uint8)), axis=-1)


def nbits(bits: int = 4, zeros: str = "", groups: str = "", bias: bool = False, level: int = 0) -> onnx.ModelProto:
    """A MatMulNBits node of K x N, in blocks."""
    count = K // BLOCK
    tensors: dict[str, Array] = {
        "b": packed(RNG.integers(0, 1 << bits, (N, count, BLOCK)), bits),
        "s": RNG.random((N, count)).astype(np.float32) + np.float32(0.1),
    }
    names = ["a", "b", "s", "", "", ""]
    points = RNG.integers(0, 1 << bits, (N, count))
    if zeros:
        tensors["z"] = packed(points, bits).reshape(-1) if zeros == "packed" else points.astype(np.float32)
        names[3] = "z"
    if groups:
        order = np.arange(K) if groups == "plain" else RNG.permutation(K)
        blocks = RNG.integers(0, count, K) if groups == "uneven" else order // BLOCK
        tensors["g"], names[4] = blocks.astype(np.int32), "g"
    if bias:
        tensors["c"], names[5] = RNG.standard_normal(N).astype(np.float32), "c"
    attrs: dict[str, Any] = {"K": K, "N": N, "bits": bits, "block_size": BLOCK, "accuracy_level": level}
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", **attrs)
    return model([node], {"a": (F32, A.shape)}, ["y"], tensors)


FORMS: list[dict[str, Any]] = [
    *({"bits": bits, "level": level} for bits in (2, 4, 8) for level in (0, 4)),
    *({"bits": bits, "zeros": "packed", "level": 4} for bits in (2, 4, 8)),
    {"zeros": "float", "level": 4, "bias": True},
    *({"groups": groups} for groups in ("plain", "permuted", "uneven")),
    {"groups": "permuted", "zeros": "packed", "level": 4},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_matmul_nbits_is_what_onnxruntime_computes(form: dict[str, Any], tmp_path: Path) -> None:
    imported = agrees(nbits(**form), {"a": A}, tmp_path, CLOSE)
    held = {imported.graph.types[w].dtype for w in imported.graph.weights}
    assert {2: DType.U2, 4: DType.U4, 8: DType.U8}[form.get("bits", 4)] in held


def dequantised(dtype: Any, shape: tuple[int, ...], axis: int | None, block: int, *after: onnx.NodeProto) -> Any:
    """A product with a dequantised weight of ``shape``, and what stands between the two."""
    low, high = (-8, 8) if "uint" not in np.dtype(dtype).name else (0, 16)
    low, high = (-2, 2) if "int2" in np.dtype(dtype).name else (low, high)
    parts = [-(-d // block) if block and i == axis else d for i, d in enumerate(shape)]
    scales = parts if block else [shape[axis]] if axis is not None else []
    tensors = {
        "q": RNG.integers(max(low, 0), high, shape).astype(dtype),
        "s": (RNG.random(scales) + 0.1).astype(np.float32),
        "z": RNG.integers(max(low, 0), high, scales).astype(dtype),
    }
    attrs = ({} if axis is None else {"axis": axis}) | ({"block_size": block} if block else {})
    nodes = [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **attrs), *after]
    if after[-1:] == () or after[-1].op_type not in ("MatMul", "Gemm"):
        nodes.append(helper.make_node("MatMul", ["a", after[-1].output[0] if after else "w"], ["y"]))
    return model(nodes, {"a": (F32, (3, K))}, ["y"], tensors, 21)


TURN = helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0])
GEMM = helper.make_node("Gemm", ["a", "w"], ["y"], transB=1)
INTS = (np.int8, np.uint8, ml_dtypes.int4, ml_dtypes.uint4)


@pytest.mark.parametrize(
    "proto",
    [
        *(dequantised(dtype, (K, N), *way) for dtype in INTS for way in ((0, 32), (0, 0), (1, 0), (None, 0))),
        *(dequantised(np.int8, (N, K), *way, after) for after in (TURN, GEMM) for way in ((0, 0), (None, 0), (1, 32))),
        *(dequantised(ml_dtypes.int4, (K, N), *way) for way in ((1, 8), (0, 16), (0, 24), (0, 128))),
    ],
)
def test_products_of_dequantised_weights_round_as_onnxruntime_has_it(proto: onnx.ModelProto, tmp_path: Path) -> None:
    imported = agrees(proto, {"a": A[0]}, tmp_path, CLOSE)
    assert "dequantize" not in {op.kind for op in imported.graph.ops}, "the product reads the quantised weight"
    assert all(imported.graph.types[w].dtype.bits <= 8 for w in imported.graph.weights if w.startswith("q"))


def nodes_of(*rows: tuple[str, str, str]) -> list[onnx.NodeProto]:
    return [helper.make_node(kind, reads.split(), writes.split()) for kind, reads, writes in rows]


def test_dynamic_quantisation_is_exact(tmp_path: Path) -> None:
    nodes = nodes_of(
        ("DynamicQuantizeLinear", "a", "q s z"), ("MatMulInteger", "q w z p", "y"), ("MatMulInteger", "q w", "v")
    )
    tensors = {"w": RNG.integers(-128, 128, (K, N)).astype(np.int8), "p": np.array(3, np.int8)}
    proto = model(nodes, {"a": (F32, A.shape)}, ["y", "s", "z", "v"], tensors)
    for a in (A, np.abs(A), np.zeros_like(A)):
        agrees(proto, {"a": a}, tmp_path, 0)


def test_quantised_products_round_once(tmp_path: Path) -> None:
    row = ("QLinearMatMul", "q sa za w sw zw sy zy", "y")
    tensors = {
        "sa": np.array(0.05, np.float32), "za": np.array(7, np.uint8), "sw": np.array(0.02, np.float32),
        "zw": np.array(2, np.int8), "sy": np.array(0.3, np.float32), "zy": np.array(120, np.uint8),
        "w": RNG.integers(-128, 128, (K, N)).astype(np.int8),
    }  # fmt: skip
    proto = model([*nodes_of(("QuantizeLinear", "a sa za", "q"), row)], {"a": (F32, A.shape)}, ["y"], tensors)
    agrees(proto, {"a": A}, tmp_path, 0)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_a_block_quantised_table(bits: int, zeros: bool, tmp_path: Path) -> None:
    tensors = {
        "t": packed(RNG.integers(0, 1 << bits, (50, 64)), bits),
        "s": (RNG.random((50, 2)) + 0.1).astype(np.float32),
    }
    tensors |= {"z": packed(RNG.integers(0, 1 << bits, (50, 2)), bits)} if zeros else {}
    attrs = {"bits": bits, "block_size": 32, "gather_axis": 0, "quantize_axis": 1}
    names = ["t", "ids", "s", *(["z"] if zeros else [])]
    node = helper.make_node("GatherBlockQuantized", names, ["y"], domain="com.microsoft", **attrs)
    proto = model([node], {"ids": (I64, (2, 3))}, ["y"], tensors)
    imported = agrees(proto, {"ids": np.array([[0, 49, 7], [1, 1, 3]])}, tmp_path, 0)
    assert [op.kind for op in imported.graph.ops if op.operands] == ["embedding_quant"]


@pytest.mark.parametrize("dtype", [DType.I4, DType.U4, DType.I2, DType.U2, DType.F4E2M1])
def test_packed_tiles_unpack_to_themselves(dtype: DType) -> None:
    codes = RNG.integers(0, 1 << dtype.bits, (2, 3, 5, 7)).astype(np.uint8)
    tiles = codes.view(dtype.numpy)
    bytes_ = pack(tiles, 2, dtype)
    assert bytes_.shape == (2, 3, dtype.sram_bytes(35)) and bytes_.dtype == np.uint8
    np.testing.assert_array_equal(unpack(bytes_, (5, 7), dtype).view(np.uint8), codes)


# --- on the wafer


@cache
def placed() -> wafercc.Program:
    """The product of `nbits`, with packed zero points, on 16 PEs."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(PROTO, str(path))
        return wafercc.compile(path, target="mesh:6x6", shapes={"a": A.shape}, region=(4, 4))


PROTO = nbits(zeros="packed", level=4)


def test_a_quantised_product_runs_on_its_tiles() -> None:
    placed().verify()
    result = placed().run({"a": A})
    np.testing.assert_allclose(result.outputs["y"], run_onnxruntime(PROTO, {"a": A})["y"], rtol=2e-5, atol=2e-5)


def test_weights_take_their_packed_bytes_in_every_account(tmp_path: Path) -> None:
    program = placed().placed
    (region,) = program.regions
    held = [(w, tile_shape(w.tiled, w.mesh, 0)) for w in program.weights.values()]
    four = [(w, shape) for w, shape in held if w.tiled.dtype is DType.U4]
    assert len(four) == 2, "the weight and its zero points"
    true = sum(-(-int(np.prod(shape)) * w.tiled.dtype.bits // 8) for w, shape in held)
    unpacked = sum(int(np.prod(shape)) * w.tiled.dtype.numpy.itemsize for w, shape in held)
    assert true < 0.75 * unpacked
    assert program.sram[region.id].weights_bytes == true
    assert placed().run({"a": A}).report.regions[0].weights_bytes == true
    assert true == sum(tile_bytes(w.tiled, w.mesh, 0) for w, _ in held)
    for w, shape in four:
        assert w.tiles is not None and w.tiles.dtype == np.uint8
        assert w.tiles.shape[len(w.mesh.axes) :] == (-(-int(np.prod(shape)) // 2),)
    placed().save(tmp_path / "p.wafer")
    again = artifact.load(tmp_path / "p.wafer")
    for key, w in program.weights.items():
        np.testing.assert_array_equal(again.weights[key].tiles, w.tiles)


def scales(program: PlacedProgram) -> str:
    return next(key for key, w in program.weights.items() if w.tiled.dtype is DType.F32)


def test_a_missing_scale_tile_is_refused() -> None:
    program = placed().placed
    key = scales(program)
    tiles = program.weights[key].tiles
    assert tiles is not None
    axis = next(i for i, extent in enumerate(tiles.shape) if extent > 1)
    fewer = replace(program.weights[key], tiles=np.delete(tiles, 0, axis=axis))
    found = [str(v) for v in verify(replace(program, weights={**program.weights, key: fewer}))]
    assert any(key in line and "tiles are" in line for line in found)


def test_unpacked_tiles_are_refused() -> None:
    program = placed().placed
    key = next(k for k, w in program.weights.items() if w.tiled.dtype is DType.U4)
    w = program.weights[key]
    assert w.tiles is not None
    loose = unpack(w.tiles, tile_shape(w.tiled, w.mesh, 0), DType.U4).view(np.uint8)
    found = [str(v) for v in verify(replace(program, weights={**program.weights, key: replace(w, tiles=loose)}))]
    assert any(key in line and "tiles are" in line for line in found)


def test_scales_that_lie_elsewhere_than_their_weight_are_refused() -> None:
    program = placed().placed
    (block,) = program.blocks.values()
    step = next(s for s in block.steps if getattr(getattr(s, "op", None), "kind", "") == "matmul_quant")
    name = step.ins[2]  # type: ignore[union-attr]
    tiled = block.values[name]
    other = replace(tiled, layout=replace(tiled.layout, splits=tiled.layout.splits[::-1]))
    changed = replace(block, values={**block.values, name: other})
    found = [str(v) for v in verify(replace(program, blocks={block.name: changed}))]
    assert any("scales or zero points that lie elsewhere" in line for line in found)


def test_half_precision_sums_are_rounded_once(tmp_path: Path) -> None:
    """Products of f16 add up in f32 across PEs: a long sum of small numbers after a large one is not lost."""
    a = np.full((1, 4096), 2**-6, np.float16)
    a[0, 0] = 2048
    tensors = {"b": np.ones((4096, 8), np.float16)}
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    onnx.save(model([node], {"a": (TensorProto.FLOAT16, a.shape)}, ["y"], tensors), str(tmp_path / "m.onnx"))
    program = wafercc.compile(tmp_path / "m.onnx", target="mesh:18x18", shapes={"a": a.shape}, region=(16, 16))
    want = (a.astype(np.float64) @ tensors["b"].astype(np.float64)).astype(np.float16)
    np.testing.assert_array_equal(program.run({"a": a}).outputs["y"], want)
