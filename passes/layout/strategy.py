"""Strategies: the ways one op can be cut over a region's mesh, from its loops.

A strategy gives each mesh axis to one of the op's loops or to none. All layouts of operands and results follow from it
(`ir/loops.py`). Before strategies are listed, two facts are spread over the block's dimensions until nothing changes:
which must be cut cyclically (they run along a cache that grows), and at which granules it pays to cut (a head, a
group of heads), so that a matmul may already cut its columns the way attention wants them.

Reads a template Graph and a Mesh; writes, for each op, a short list of Strategy with local work. Cost: O(ops *
loops^2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from wafercc.ir.dims import Affine, shape_upper, upper
from wafercc.ir.graph import Graph, Op, TensorType, ValueName
from wafercc.ir.layout import UNCUT, AxisName, Layout, Mesh, Split, tile_extent
from wafercc.ir.loops import Access, Combine, Loop, Loops
from wafercc.ir.optable import Work, spec_of

# Larger values never lie whole on one PE of a larger region, unless told otherwise.
WHOLE_ELEMENTS = 1024
MAX_GRANULES = 3
_GRANULE = re.compile(r"/\d+")

DimOf = tuple[ValueName, int]


@dataclass(frozen=True, slots=True)
class Cut:
    """How one loop is cut: over these axes, ``granule`` steps at a time, block or cyclic."""

    axes: tuple[AxisName, ...]
    granule: int
    cyclic: bool


@dataclass(frozen=True)
class Strategy:
    """One way to run an op: its cut loops, the layouts that follow, what is owed, and the fullest PE's work."""

    cuts: Mapping[str, Cut]
    ins: tuple[Layout | None, ...]
    outs: tuple[Layout, ...]
    owed: tuple[tuple[AxisName, Combine], ...]
    partials: tuple[Layout, ...]
    work: Work
    pes: int


@dataclass(frozen=True)
class DimFacts:
    """What holds of each dimension of each value of a template."""

    cyclic: frozenset[DimOf]
    granules: Mapping[DimOf, tuple[int, ...]]


def name_of(strategy: Strategy, mesh: Mesh) -> str:
    """What people call a strategy: which loop each direction of the mesh cuts; ``whole`` if nothing is cut.

    ``rows=k columns=n/16``: rows of PEs cut the loop k, columns the loop n, 16 steps at a time. ``columns=b*n``: of
    a direction in two factors the major one cuts b, the minor one n; ``-`` stands for a factor that cuts nothing. Two
    factors that cut one loop read like a direction that is not factored.
    """
    loop_of = {axis: loop for loop, cut in strategy.cuts.items() for axis in cut.axes}
    words = []
    for direction, along in (("rows", "y"), ("columns", "x")):
        loops = [loop_of.get(a.name, "-") for a in mesh.axes if a.along == along and a.extent > 1]
        parts = [_granular(loop, strategy.cuts) for loop in (loops[:1] if len(set(loops)) == 1 else loops)]
        if any(part != "-" for part in parts):
            words.append(f"{direction}={'*'.join(parts)}")
    return " ".join(words) or "whole"


def _granular(loop: str, cuts: Mapping[str, Cut]) -> str:
    granule = cuts[loop].granule if loop in cuts else 1
    return f"{loop}/{granule}" if granule > 1 else loop


def named(found: Sequence[Strategy], wanted: str, mesh: Mesh) -> list[Strategy]:
    """The strategies that a name means: those of exactly this name, else those that differ only in granules."""
    exact = [s for s in found if name_of(s, mesh) == wanted]
    return exact or [s for s in found if _GRANULE.sub("", name_of(s, mesh)) == wanted]


def op_loops(graph: Graph, op: Op) -> Loops:
    return spec_of(op).loops(op, graph.in_types(op), graph.out_types(op))


def _followers(op: Op, loops: Loops) -> Iterator[tuple[str, DimOf, int]]:
    """(loop, (value, dim), granule) for every dimension of the op's tensors that follows a loop."""
    accesses: list[tuple[ValueName | None, Access | None]] = list(zip(op.inputs, loops.ins, strict=True))
    accesses += list(zip(op.outputs, loops.outs, strict=True))
    for value, access in accesses:
        if value is not None and access is not None:
            for d, index in enumerate(access):
                if index.loop is not None:
                    yield index.loop, (value, d), index.granule


def dim_facts(graph: Graph, loops_of: Mapping[str, Loops]) -> DimFacts:
    """Spread cyclic dimensions and granules along loops, forwards and backwards, to a fixed point."""
    groups: list[tuple[Loop, list[tuple[DimOf, int]]]] = []
    for op in graph.ops:
        loops = loops_of[op.id]
        by_loop: dict[str, list[tuple[DimOf, int]]] = {}
        for name, dim, granule in _followers(op, loops):
            by_loop.setdefault(name, []).append((dim, granule))
        groups += [(loops.loop(name), dims) for name, dims in by_loop.items()]
    cyclic: set[DimOf] = set()
    granules: dict[DimOf, frozenset[int]] = {}
    for _ in range(len(graph.ops) + 2):
        before = len(cyclic), sum(map(len, granules.values()))
        for loop, dims in groups:
            if loop.cyclic or isinstance(loop.extent, Affine) or any(d in cyclic for d, _ in dims):
                cyclic.update(d for d, g in dims if g == 1)
            steps = {h // g for d, g in dims for h in granules.get(d, ()) if h % g == 0}
            steps = {s for s in steps | {1} if s < upper(loop.extent)}
            for d, g in dims:
                found = granules.get(d, frozenset()) | {g * s for s in steps if g * s > 1}
                granules[d] = frozenset(sorted(found, reverse=True)[:MAX_GRANULES])
        if before == (len(cyclic), sum(map(len, granules.values()))):
            break
    return DimFacts(frozenset(cyclic), {d: tuple(sorted(g)) for d, g in granules.items()})


def strategies(
    graph: Graph, op: Op, loops: Loops, facts: DimFacts, mesh: Mesh, whole: int | None = WHOLE_ELEMENTS
) -> list[Strategy]:
    """Every way to give the mesh's axes to the op's loops; never empty (``whole`` if all else is illegal).

    Those by which a value of more than ``whole`` elements would lie whole on one PE are left out, as long as there are
    others.
    """
    axes = [a for a in mesh.axes if a.extent > 1]
    cyclic_loops: set[str] = set()
    granules: dict[str, set[int]] = {}
    for name, dim, granule in _followers(op, loops):
        if dim in facts.cyclic:
            cyclic_loops.add(name)
        granules.setdefault(name, {1}).update(h // granule for h in facts.granules.get(dim, ()) if h % granule == 0)
    cuttable = [loop for loop in loops.loops if upper(loop.extent) > 1]
    found: dict[tuple[object, ...], Strategy] = {}
    for cuts in _assignments(cuttable, [a.name for a in axes], granules, cyclic_loops, mesh):
        strategy = strategy_of(graph, op, loops, cuts, mesh)
        if strategy is not None:
            found.setdefault((strategy.ins, strategy.outs, strategy.owed), strategy)
    legal = [s for s in found.values() if whole is not None and all(_spread(graph, op, s, mesh, whole))]
    return legal or list(found.values())


def _assignments(
    loops: Sequence[Loop],
    axes_names: Sequence[AxisName],
    granules: Mapping[str, set[int]],
    cyclic: set[str],
    mesh: Mesh,
) -> Iterator[dict[str, Cut]]:
    """Each axis to one loop or none; for each cut loop every granule that leaves at least two pieces."""

    def choose(i: int, given: dict[str, tuple[AxisName, ...]]) -> Iterator[dict[str, tuple[AxisName, ...]]]:
        if i == len(axes_names):
            yield given
            return
        yield from choose(i + 1, given)
        for loop in loops:
            taken = given.get(loop.name, ())
            if taken and upper(loop.extent) <= mesh.parts(taken):
                continue
            yield from choose(i + 1, {**given, loop.name: (*taken, axes_names[i])})

    by_name = {loop.name: loop for loop in loops}
    for given in choose(0, {}):
        options: list[dict[str, Cut]] = [{}]
        for name, axes in given.items():
            loop = by_name[name]
            is_cyclic = loop.cyclic or name in cyclic or isinstance(loop.extent, Affine)
            sizes = {1} if is_cyclic else {g for g in granules.get(name, {1}) if -(-upper(loop.extent) // g) > 1}
            options = [{**o, name: Cut(axes, g, is_cyclic)} for o in options for g in sorted(sizes or {1})]
        yield from options


def layout_of(access: Access, cuts: Mapping[str, Cut]) -> Layout:
    """The layout of a tensor whose dimensions follow these cut loops."""
    splits = []
    for index in access:
        cut = cuts.get(index.loop) if index.loop is not None else None
        splits.append(UNCUT if cut is None else Split(cut.axes, index.granule * cut.granule, cut.cyclic))
    return Layout(tuple(splits))


def strategy_of(graph: Graph, op: Op, loops: Loops, cuts: dict[str, Cut], mesh: Mesh) -> Strategy | None:
    """The strategy that cuts these loops, or None if that is not legal."""
    ins = tuple(None if access is None else layout_of(access, cuts) for access in loops.ins)
    outs = tuple(layout_of(access, cuts) for access in loops.outs)
    owed = tuple(
        (axis, combine)
        for loop in loops.loops
        for axis in (cuts[loop.name].axes if loop.name in cuts else ())
        if (combine := loop.combine) is not None
    )
    if not all(is_line(mesh, line) for line in lines_of(mesh, [axis for axis, _ in owed])):
        return None
    in_types = graph.in_types(op)
    for layout, kind in [*zip(ins, in_types, strict=True), *zip(outs, graph.out_types(op), strict=True)]:
        if layout is not None and kind is not None and not is_legal(layout, kind):
            return None
    steps = {name: _steps(loops.loop(name), cut, mesh) for name, cut in cuts.items()}
    in_shapes = [
        None if t is None or access is None else _tile(t, access, steps)
        for t, access in zip(in_types, loops.ins, strict=True)
    ]
    out_shapes = [_tile(t, access, steps) for t, access in zip(graph.out_types(op), loops.outs, strict=True)]
    work = spec_of(op).work(op, in_shapes, out_shapes)
    partials = tuple(layout_of(p.access, cuts) for p in loops.partials)
    used = math.prod(min(mesh.parts(c.axes), _pieces(loops.loop(name), c)) for name, c in cuts.items())
    return Strategy(cuts, ins, outs, owed, partials, work, used)


def lines_of(mesh: Mesh, axes: Sequence[AxisName]) -> list[tuple[AxisName, ...]]:
    """The axes grouped by direction, rows of PEs (x) first: one collective each."""
    groups = [tuple(a.name for a in mesh.axes if a.along == along and a.name in axes) for along in ("x", "y")]
    return [g for g in groups if g]


def is_line(mesh: Mesh, axes: tuple[AxisName, ...]) -> bool:
    """Whether axes of one direction form runs of neighbouring PEs: all of its axes, or its minor ones."""
    along = {a.along for a in mesh.axes if a.name in axes}
    if len(along) != 1:
        return False
    direction = [a.name for a in mesh.axes if a.along in along and a.extent > 1]
    present = [a for a in axes if mesh.extent[a] > 1]
    return direction[len(direction) - len(present) :] == present


def is_whole(mesh: Mesh, line: tuple[AxisName, ...]) -> bool:
    """Whether a line is all of a row or column of the region."""
    along = {a.along for a in mesh.axes if a.name in line}
    return all(a.name in line or a.extent == 1 for a in mesh.axes if a.along in along)


def _steps(loop: Loop, cut: Cut, mesh: Mesh) -> int:
    """Steps of a cut loop on the fullest PE, at the context capacity."""
    return cut.granule * -(-_pieces(loop, cut) // mesh.parts(cut.axes))


def _tile(kind: TensorType, access: Access, steps: Mapping[str, int]) -> tuple[int, ...]:
    """The fullest PE's tile of a tensor that follows loops of so many steps."""
    return tuple(
        min(upper(dim), index.granule * steps.get(index.loop or "", upper(dim)))
        for dim, index in zip(kind.shape, access, strict=True)
    )


def _pieces(loop: Loop, cut: Cut) -> int:
    return -(-upper(loop.extent) // cut.granule)


def is_legal(layout: Layout, kind: TensorType) -> bool:
    """A dimension that grows is cut one element at a time, cyclically."""
    return all(
        not (split.axes and isinstance(dim, Affine)) or (split.cyclic and split.granule == 1)
        for dim, split in zip(kind.shape, layout.splits, strict=True)
    )


def _spread(graph: Graph, op: Op, strategy: Strategy, mesh: Mesh, whole: int) -> Iterator[bool]:
    """Whether no large value would lie whole on one PE."""
    weights = set(graph.weights)
    for value, layout in [*zip(op.inputs, strategy.ins, strict=True), *zip(op.outputs, strategy.outs, strict=True)]:
        if value is not None and layout is not None and value not in weights and mesh.pes > 1:
            yield bool(layout.cut_axes) or graph.types[value].elements <= whole


@lru_cache(maxsize=65_536)
def full_tile(kind: TensorType, layout: Layout, mesh: Mesh) -> tuple[int, ...]:
    """The tile of the fullest PE, at the context capacity."""
    return tuple(
        min(extent, tile_extent(extent, split, mesh.parts(split.axes)))
        for extent, split in zip(shape_upper(kind.shape), layout.splits, strict=True)
    )
