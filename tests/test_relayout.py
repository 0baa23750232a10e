"""A planned relayout ends in the layout wanted, and every move only uses what the PE or its line holds."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wafercc.ir.dtypes import DType
from wafercc.ir.graph import TensorType
from wafercc.ir.layout import UNCUT, AxisName, Layout, Mesh, Split, owned, parse_layout, same_tiles
from wafercc.passes.layout.relayout import plan
from wafercc.passes.layout.strategy import is_line

Held = dict[tuple[int, ...], list[set[int]]]


@st.composite
def layouts(draw: st.DrawFn, mesh: Mesh, rank: int) -> Layout:
    axes = draw(st.permutations([a.name for a in mesh.axes]))
    splits: list[Split] = []
    for _ in range(rank):
        count = draw(st.integers(0, min(2, len(axes))))
        mine, axes = tuple(axes[:count]), axes[count:]
        splits.append(Split(mine, draw(st.sampled_from([1, 2, 3])), draw(st.booleans())) if mine else UNCUT)
    return Layout(tuple(splits))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Mesh, TensorType, Layout, Layout]:
    mesh = Mesh.of([draw(st.integers(1, 4))], [draw(st.integers(1, 4))])
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    return mesh, TensorType(DType.F32, shape), draw(layouts(mesh, len(shape))), draw(layouts(mesh, len(shape)))


def held_by(kind: TensorType, layout: Layout, mesh: Mesh) -> Held:
    """Mesh index of each PE → for each dimension the elements it holds, by plain loops."""
    result: Held = {}
    for place in itertools.product(*(range(a.extent) for a in mesh.axes)):
        at = {a.name: i for a, i in zip(mesh.axes, place, strict=True)}
        dims: list[set[int]] = []
        for extent, split in zip(kind.shape, layout.splits, strict=True):
            assert isinstance(extent, int)
            part = 0
            for axis in split.axes:
                part = part * mesh.extent[axis] + at[axis]
            mine = owned(extent, split, mesh.parts(split.axes))[part]
            dims.append({int(e) for e in mine if e >= 0})
        result[place] = dims
    return result


@settings(max_examples=200)
@given(cases())
def test_every_move_has_what_it_needs_and_the_last_gives_what_is_wanted(
    case: tuple[Mesh, TensorType, Layout, Layout],
) -> None:
    mesh, kind, have, need = case
    moves = plan(kind, have, need, mesh)
    if moves is None:
        return
    current = have
    for move in moves:
        before, after = held_by(kind, current, mesh), held_by(kind, move.layout, mesh)
        lines = [i for i, a in enumerate(mesh.axes) if a.name in move.gather]
        for place, dims in after.items():
            friends = [p for p in before if all(p[i] == place[i] for i in range(len(place)) if i not in lines)]
            for element in itertools.product(*dims):
                assert any(all(e in d for e, d in zip(element, before[f], strict=True)) for f in friends)
        current = move.layout
    for extent, a, b in zip(kind.shape, current.splits, need.splits, strict=True):
        assert same_tiles(extent, a, b, mesh.parts(a.axes))


@given(cases())
def test_on_a_mesh_of_two_axes_a_relayout_is_always_found(case: tuple[Mesh, TensorType, Layout, Layout]) -> None:
    mesh, kind, have, need = case
    assert plan(kind, have, need, mesh) is not None or any(len(s.axes) > 1 for s in have.splits)


def test_a_slice_of_what_is_held_costs_no_traffic() -> None:
    mesh = Mesh.of([4], [4])
    kind = TensorType(DType.F32, (8, 12))
    moves = plan(kind, parse_layout("(y0,-)"), parse_layout("(y0,x0/3)"), mesh)
    assert moves is not None and [m.gather for m in moves] == [()]


def test_lines_are_neighbours_so_a_major_factor_alone_is_none() -> None:
    mesh = Mesh.of([2, 4], [3])
    y0, y1, x0 = AxisName("y0"), AxisName("y1"), AxisName("x0")
    assert is_line(mesh, (y1,)) and is_line(mesh, (y0, y1)) and is_line(mesh, (x0,))
    assert not is_line(mesh, (y0,)) and not is_line(mesh, (y1, x0))


def test_owned_puts_every_element_in_exactly_one_part() -> None:
    for extent, granule, parts, cyclic in itertools.product((0, 1, 5, 12, 13), (1, 3), (1, 2, 5), (False, True)):
        table = owned(extent, Split((AxisName("y0"),), granule, cyclic), parts)
        assert sorted(table[table >= 0].tolist()) == list(np.arange(extent))
