"""Tile kernels: every op kind, cut over any mesh axes and with rubbish in all padding, means what the op table says."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from op_samples import SAMPLES, Sample
from placed_programs import all_reduce, numbers

from wafercc.ir.block import Guard, LocalName, Phase, ReduceAlgorithm
from wafercc.ir.dims import upper
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import Op, OpId, TensorType, ValueName
from wafercc.ir.layout import AxisName, Layout, Mesh, Split, Tiled, held_by_part
from wafercc.ir.loops import Access, Loop
from wafercc.ir.optable import spec_of, table
from wafercc.ir.tiling import tile
from wafercc.runtime.collectives import all_reduce as reduce_values
from wafercc.runtime.kernels import Call, Operand, execute
from wafercc.runtime.tiles import Array, elements, untile

MESH = Mesh.of([2, 2], [3])
Cuts = Mapping[str, tuple[AxisName, ...]]  # loop name -> the axes that cut it


def layout(access: Access, cuts: Cuts, loops: Mapping[str, Loop]) -> Layout:
    """How a tensor lies when its loops are cut."""
    splits: list[Split] = []
    for index in access:
        axes = cuts.get(index.loop, ()) if index.loop is not None else ()
        splits.append(Split(axes, index.granule, loops[index.loop].cyclic) if axes and index.loop else Split())
    return Layout(tuple(splits))


def with_rubbish(tiles: Array, tiled: Tiled, n_past: int) -> Array:
    """The tiles with nonsense in every padded slot."""
    rubbish: float = np.nan if tiled.dtype.is_float else 1 if tiled.dtype is DType.BOOL else 99
    for d, split in enumerate(tiled.layout.splits):
        if split.axes:
            held = elements(tiled.type.at(n_past)[d], split, MESH) >= 0
            shape = [1] * tiled.type.rank
            shape[d] = held.shape[-1]
            tiles = np.where(held.reshape(*held.shape[:-1], *shape), tiles, np.asarray(rubbish).astype(tiles.dtype))
    return tiles


def run_cut(one: Sample, cuts: Cuts) -> NDArray[np.generic]:
    """The op on tiles: local kernel, all-reduces in both directions, finish."""
    spec = spec_of(one.op)
    outs = spec.infer(one.op, one.types)
    found = spec.loops(one.op, one.types, outs)
    loops = {loop.name: loop for loop in found.loops}
    operands: list[Operand | None] = []
    for array, of, access in zip(one.arrays, one.types, found.ins, strict=True):
        if array is None or of is None or access is None:
            operands.append(None)
            continue
        held = Tiled(of, layout(access, cuts, loops))
        operands.append(
            Operand(with_rubbish(tile(array, held, MESH, one.n_past), held, one.n_past), held, MESH, one.n_past)
        )
    results = [Tiled(t, layout(a, cuts, loops)) for t, a in zip(outs, found.outs, strict=True)]
    guard = None
    if (chosen := spec.chosen) is not None and (owners := operands[chosen.owners]) is not None:
        guard = Guard(LocalName("ids"), held_by_part(owners.tiled, MESH))
    owed = {axis: loops[name].combine for name, axes in cuts.items() for axis in axes if loops[name].combine}
    if not owed:
        (whole,) = execute(Call(one.op, Phase.WHOLE, tuple(operands), (), tuple(results), MESH, one.n_past, guard))
        return untile(whole, results[0], MESH, one.n_past)
    partial = results
    if found.partials:
        partial = [Tiled(TensorType(p.dtype, p.shape), layout(p.access, cuts, loops)) for p in found.partials]
    arrays = execute(Call(one.op, Phase.LOCAL, tuple(operands), (), tuple(partial), MESH, one.n_past, guard))
    for along in ("y", "x"):
        axes = [a.name for a in MESH.axes if a.along == along and a.name in owed]
        for axis in axes:
            combine = owed[axis]
            assert combine is not None
            names = [str(i) for i in range(len(arrays))]
            arrays = reduce_values(all_reduce(names, names, axis, combine, ReduceAlgorithm.CHAIN, 1), arrays, MESH)
    if found.partials:
        combined = tuple(Operand(a, t, MESH, one.n_past) for a, t in zip(arrays, partial, strict=True))
        arrays = execute(Call(one.op, Phase.FINISH, tuple(operands), combined, tuple(results), MESH, one.n_past))
    return untile(arrays[0], results[0], MESH, one.n_past)


@st.composite
def cuts_of(draw: st.DrawFn, one: Sample) -> dict[str, tuple[AxisName, ...]]:
    spec = spec_of(one.op)
    found = spec.loops(one.op, one.types, spec.infer(one.op, one.types))
    names = [loop.name for loop in found.loops if upper(loop.extent) > 0]
    cuts: dict[str, tuple[AxisName, ...]] = {}
    for axis in draw(st.permutations([a.name for a in MESH.axes])):
        home = draw(st.sampled_from([None, *names]))
        if home is not None:
            cuts[home] = (*cuts.get(home, ()), axis)
    return cuts


@pytest.mark.parametrize("one", SAMPLES, ids=str)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_an_op_on_tiles_means_what_it_means_on_tensors(one: Sample, data: st.DataObject) -> None:
    cuts = data.draw(cuts_of(one))
    (wanted,) = spec_of(one.op).evaluate(one.op, one.arrays, one.n_past)
    got = run_cut(one, cuts)
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    if wanted.dtype.kind == "f" and one.op.kind not in ("cast",):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)
    else:
        assert np.array_equal(got, wanted)


def test_every_op_kind_has_a_sample() -> None:
    assert {one.op.kind for one in SAMPLES} == set(table())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_accumulate_in_single_precision(dtype: type) -> None:
    # 4096 times 1 in half precision would stop at 2048 (bfloat16: 256).
    ones = np.ones((1, 4096), dtype)
    matmul = Op(OpId("m"), "matmul", (ValueName("a"), ValueName("b")), (ValueName("c"),))
    got = run_cut(Sample("m", matmul, (ones, ones.T)), {"m": (AxisName("x0"),)})
    assert float(got[0, 0]) == 4096


def test_a_softmax_over_a_row_with_nothing_in_one_pe_is_whole() -> None:
    # Two elements over twelve PEs: ten of them hold nothing at all.
    x = numbers(3, 2)
    softmax = Op(OpId("s"), "softmax", (ValueName("x"),), (ValueName("y"),), {"axis": 1})
    got = run_cut(Sample("s", softmax, (x,)), {"d1": tuple(a.name for a in MESH.axes)})
    grown = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(got, grown / grown.sum(axis=1, keepdims=True), rtol=1e-6)
