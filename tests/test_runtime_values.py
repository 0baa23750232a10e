"""Values: small programs by hand give what numpy gives, whatever the split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placed_programs import (
    all_gather,
    all_reduce,
    block,
    compute,
    ids,
    input_stream,
    narrow,
    numbers,
    one_block,
    op,
    output_stream,
    program,
    region,
    tiled,
    walk,
)

from wafercc.ir.block import Instance, InstanceId, LocalName, Phase, ReduceAlgorithm
from wafercc.ir.dims import Affine
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import TensorType, ValueName
from wafercc.ir.layout import Layout, Mesh, Split, Tiled
from wafercc.ir.loops import Combine
from wafercc.ir.program import Fan, Lane, Stream, StreamId
from wafercc.ir.tiling import tile
from wafercc.runtime import run
from wafercc.runtime.tiles import gather_along, relayout, untile
from wafercc.runtime.tiles import narrow as narrow_tiles


@st.composite
def layouts(draw: st.DrawFn, mesh: Mesh, rank: int) -> Layout:
    axes = draw(st.permutations([a.name for a in mesh.axes]))
    used = draw(st.integers(0, len(axes)))
    homes = [draw(st.integers(0, rank - 1)) for _ in range(used)]
    splits = []
    for d in range(rank):
        own = tuple(a for a, home in zip(axes, homes, strict=False) if home == d)
        splits.append(Split(own, draw(st.integers(1, 3)), draw(st.booleans())) if own else Split())
    return Layout(tuple(splits))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_tiles_of_any_layout_put_together_again_are_the_array(data: st.DataObject) -> None:
    mesh = Mesh.of([2, 3], [2])
    shape = tuple(data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)))
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    one = Tiled(TensorType(DType.F32, shape), data.draw(layouts(mesh, len(shape))))
    other = Tiled(one.type, data.draw(layouts(mesh, len(shape))))
    tiles = tile(array, one, mesh, 0)
    assert np.array_equal(untile(tiles, one, mesh, 0), array)
    moved = relayout(tiles, one, mesh, other, mesh, 0)
    assert np.array_equal(untile(moved, other, mesh, 0), array)
    if array.size:
        everywhere = gather_along(
            tiles, one, tiled("(" + ",".join("-" * len(shape)) + ")", *shape), ("y0", "y1", "x0"), mesh, 0, ""
        )
        assert np.array_equal(everywhere.reshape(shape), array)
        cut = narrow_tiles(everywhere, tiled("(" + ",".join("-" * len(shape)) + ")", *shape), other, mesh, 0, "")
        assert np.array_equal(untile(cut, other, mesh, 0), array)


@pytest.mark.parametrize("algorithm", list(ReduceAlgorithm))
@pytest.mark.parametrize("root", [0, 1, 2])
def test_a_matmul_cut_over_rows_and_columns_equals_numpy(algorithm: ReduceAlgorithm, root: int) -> None:
    mesh = Mesh.of([3], [4])
    a, b = numbers(5, 13), numbers(13, 10, seed=1)
    values = {
        "a": tiled("(-,y0)", 5, 13),
        "b": tiled("(y0,x0)", 13, 10),
        "partial": tiled("(-,x0) sum:y0", 5, 10),
        "c": tiled("(-,x0)", 5, 10),
    }
    steps = [
        compute(op("matmul", 2), ["a", "b"], ["partial"], Phase.LOCAL),
        all_reduce(["partial"], ["c"], "y0", Combine.SUM, algorithm, root, group=2),
    ]
    given_program = one_block(block(mesh, values, steps, "a", "c", "b"), {"b": b})
    result = run(given_program, {"a": a})
    np.testing.assert_allclose(result.outputs["c"], a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("algorithm", list(ReduceAlgorithm))
def test_a_softmax_cut_over_columns_equals_numpy(algorithm: ReduceAlgorithm) -> None:
    mesh = Mesh.of([2], [4])
    x = numbers(3, 11)
    x[1] = -np.inf
    x[1, 4] = 2.0
    values = {
        "x": tiled("(y0,x0)", 3, 11),
        "m": tiled("(y0,-) softmax:x0", 3, 1),
        "l": tiled("(y0,-) softmax:x0", 3, 1),
        "M": tiled("(y0,-)", 3, 1),
        "L": tiled("(y0,-)", 3, 1),
        "y": tiled("(y0,x0)", 3, 11),
    }
    softmax = op("softmax", 1, axis=1)
    steps = [
        compute(softmax, ["x"], ["m", "l"], Phase.LOCAL),
        all_reduce(["m", "l"], ["M", "L"], "x0", Combine.SOFTMAX, algorithm, 1, group=2),
        compute(softmax, ["M", "L", "x"], ["y"], Phase.FINISH),
    ]
    result = run(one_block(block(mesh, values, steps, "x", "y"), {}), {"x": x})
    grown = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(result.outputs["y"], grown / grown.sum(axis=1, keepdims=True), rtol=1e-5)


def test_an_embedding_cut_over_its_rows_adds_up_to_a_lookup() -> None:
    mesh = Mesh.of([3], [2])
    table, tokens = numbers(17, 6), ids(2, 5, below=17)
    values = {
        "table": tiled("(y0,x0)", 17, 6),
        "ids": tiled("(-,-)", 2, 5, dtype=DType.I64),
        "part": tiled("(-,-,x0) sum:y0", 2, 5, 6),
        "rows": tiled("(-,-,x0)", 2, 5, 6),
    }
    steps = [
        compute(op("embedding", 2), ["table", "ids"], ["part"], Phase.LOCAL),
        all_reduce(["part"], ["rows"], "y0", root=1),
    ]
    result = run(one_block(block(mesh, values, steps, "ids", "rows", "table"), {"table": table}), {"ids": tokens})
    assert np.array_equal(result.outputs["rows"], table[tokens])


@pytest.mark.parametrize("n_past", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("new", [1, 3])
def test_a_cyclic_cache_grows_at_the_owner_of_each_position(n_past: int, new: int) -> None:
    mesh = Mesh.of([3], [2])
    past, fresh = numbers(1, 2, n_past, 4), numbers(1, 2, new, 4, seed=1)
    length = Affine(1, 0, 8)
    values = {
        "past": tiled("(-,x0,y0~,-)", 1, 2, length, 4),
        "new": tiled("(-,x0,-,-)", 1, 2, new, 4),
        "present": tiled("(-,x0,y0~,-)", 1, 2, length + new, 4),
    }
    steps = [compute(op("kv_append", 2, axis=2), ["past", "new"], ["present"])]
    body = block(mesh, values, steps, "past new", "present", states={"past": "present"})
    result = run(one_block(body, {}, past_max=8), {"past": past, "new": fresh})
    assert np.array_equal(result.outputs["present"], np.concatenate([past, fresh], axis=2))
    assert result.report.n_past == n_past
    assert result.cycles == 0 and result.report.state_io_cycles > 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_past", [0, 1, 6])
def test_attention_cut_over_positions_equals_attention_on_one_pe(masked: bool, n_past: int) -> None:
    mesh = Mesh.of([4], [2])
    total = Affine(1, 2, 6)
    now = n_past + 2
    q, k, v = numbers(1, 4, 2, 3), numbers(1, 2, now, 3, seed=1), numbers(1, 2, now, 3, seed=2)
    mask = np.arange(now)[None, :] <= n_past + np.arange(2)[:, None]
    row = "(-,x0/2,-,-) softmax:y0"
    values = {
        "q": tiled("(-,x0/2,-,-)", 1, 4, 2, 3),
        "k": tiled("(-,x0,y0~,-)", 1, 2, total, 3),
        "v": tiled("(-,x0,y0~,-)", 1, 2, total, 3),
        "mask": tiled("(-,y0~)", 2, total, dtype=DType.BOOL),
        "m": tiled(row, 1, 4, 2, 1),
        "l": tiled(row, 1, 4, 2, 1),
        "o": tiled(row, 1, 4, 2, 3),
        "M": tiled("(-,x0/2,-,-)", 1, 4, 2, 1),
        "L": tiled("(-,x0/2,-,-)", 1, 4, 2, 1),
        "O": tiled("(-,x0/2,-,-)", 1, 4, 2, 3),
        "y": tiled("(-,x0/2,-,-)", 1, 4, 2, 3),
    }
    attention = op("attention", 4, scale=0.5, softcap=0.0)
    operands = ["q", "k", "v", "mask" if masked else None]
    steps = [
        compute(attention, operands, ["m", "l", "o"], Phase.LOCAL),
        all_reduce(["m", "l", "o"], ["M", "L", "O"], "y0", Combine.SOFTMAX, root=2),
        compute(attention, ["M", "L", "O", *operands], ["y"], Phase.FINISH),
    ]
    given_inputs = {"q": q, "k": k, "v": v} | ({"mask": mask} if masked else {})
    body = block(mesh, values, steps, " ".join(given_inputs), "y")
    result = run(one_block(body, {}, past_max=6), given_inputs)
    scores = np.einsum("bhsd,bhtd->bhst", q, np.repeat(k, 2, axis=1)) * 0.5
    if masked:
        scores = np.where(mask, scores, -np.inf)
    grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
    wanted = np.einsum("bhst,bhtd->bhsd", grown / grown.sum(axis=-1, keepdims=True), np.repeat(v, 2, axis=1))
    np.testing.assert_allclose(result.outputs["y"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["rms_norm", "layer_norm"])
def test_a_norm_cut_over_its_row_equals_numpy(kind: str) -> None:
    mesh = Mesh.of([1], [4])
    x, w = numbers(3, 10), numbers(10, seed=1)
    values = {
        "x": tiled("(-,x0)", 3, 10),
        "w": tiled("(x0)", 10),
        **{n: tiled("(-,-) sum:x0", 3, 1) for n in ("s", "q")},
        **{n: tiled("(-,-)", 3, 1) for n in ("S", "Q")},
        "y": tiled("(-,x0)", 3, 10),
    }
    sums = ["q"] if kind == "rms_norm" else ["s", "q"]
    norm = op(kind, 2, epsilon=1e-5)
    steps = [
        compute(norm, ["x", "w"], sums, Phase.LOCAL),
        *(all_reduce([n], [n.upper()], "x0") for n in sums),
        compute(norm, [*(n.upper() for n in sums), "x", "w"], ["y"], Phase.FINISH),
    ]
    result = run(one_block(block(mesh, values, steps, "x", "y", "w"), {"w": w}), {"x": x})
    centred = x if kind == "rms_norm" else x - x.mean(axis=1, keepdims=True)
    wanted = centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + 1e-5) * w
    np.testing.assert_allclose(result.outputs["y"], wanted, rtol=1e-4, atol=1e-5)


def test_a_gather_then_a_narrowing_turn_one_split_into_another() -> None:
    mesh = Mesh.of([2], [3])
    x = numbers(4, 7)
    values = {
        "x": tiled("(y0,x0)", 4, 7),
        "all": tiled("(y0,-)", 4, 7),
        "cut": tiled("(y0,x0/2~)", 4, 7),
    }
    steps = [all_gather("x", "all", "x0", root=1), narrow("all", "cut")]
    result = run(one_block(block(mesh, values, steps, "x", "cut"), {}), {"x": x})
    assert np.array_equal(result.outputs["cut"], x)
    (gather,) = result.report.gathers
    assert gather.bytes_per_pe == 2 * 7 * 4


def two_regions(lanes: int) -> tuple[object, dict[str, np.ndarray]]:
    """x * 2 in a 3x2 region, then + 1 in a 6x1 region, with a stream of some lanes in between."""
    first_mesh, second_mesh = Mesh.of([3], [2]), Mesh.of([6], [1])
    first, second = region("a", first_mesh, x=1), region("b", second_mesh, x=8)
    a = block(
        first_mesh,
        {"x": tiled("(y0,x0)", 12, 5), "y": tiled("(y0,x0)", 12, 5)},
        [compute(op("add", 2), ["x", "x"], ["y"])],
        "x",
        "y",
        name="a",
    )
    b = block(
        second_mesh,
        {"y": tiled("(y0,-)", 12, 5), "z": tiled("(y0,-)", 12, 5)},
        [compute(op("neg", 1), ["y"], ["z"])],
        "y",
        "z",
        name="b",
    )
    parts: list[Lane] = []
    for i in range(lanes):
        rows, targets = 3 // lanes, 6 // lanes
        source = Fan(first.id, "y", i * rows, (i + 1) * rows, 1, i * rows)
        target = Fan(second.id, "y", i * targets, (i + 1) * targets, 0, i * targets)
        path = walk((2, i * rows), (8, i * rows), (8, i * targets))
        parts.append(Lane(source, target, path, 0, 0, i * 12 // lanes, (i + 1) * 12 // lanes))
    one, two = InstanceId("one"), InstanceId("two")
    middle = Stream(
        StreamId("y"), ValueName("y"), a.values["y"].type, (one, LocalName("y")), (two, LocalName("y")), tuple(parts)
    )
    streams = [
        input_stream("x", a.values["x"], first, "one", "x"),
        middle,
        output_stream("z", b.values["z"], second, "two", "z"),
    ]
    instances = [Instance(one, a.name, first.id, {}, {}), Instance(two, b.name, second.id, {}, {})]
    return program([first, second], [a, b], instances, streams, {}), {"x": numbers(12, 5)}


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_stream_between_regions_delivers_every_element(lanes: int) -> None:
    given_program, inputs = two_regions(lanes)
    result = run(given_program, inputs)
    assert np.array_equal(result.outputs["z"], -2 * inputs["x"])


def test_more_lanes_bring_a_large_value_sooner() -> None:
    (one, inputs), (three, _) = two_regions(1), two_regions(3)
    assert run(three, inputs).cycles < run(one, inputs).cycles


def test_flipping_one_weight_in_one_tile_changes_the_output() -> None:
    mesh = Mesh.of([2], [2])
    values = {"a": tiled("(-,-)", 2, 3), "b": tiled("(-,y0*x0)", 3, 4), "c": tiled("(-,y0*x0)", 2, 4)}
    body = block(mesh, values, [compute(op("matmul", 2), ["a", "b"], ["c"])], "a", "c", "b")
    good = one_block(body, {"b": numbers(3, 4)})
    weight = good.weights["b"]
    tiles = weight.tiles.copy()
    tiles[1, 0, 2, 0] += 1
    bad = replace(good, weights={"b": replace(weight, tiles=tiles)})
    a = numbers(2, 3, seed=2)
    difference = run(bad, {"a": a}).outputs["c"] != run(good, {"a": a}).outputs["c"]
    assert difference.any(axis=0).tolist() == [False, False, True, False]
