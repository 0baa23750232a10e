"""Placement: legal on the exact map, never worse than the snake, above its bound, the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wafercc.errors import CompileError, DoesNotFit, TargetError, TextError
from wafercc.ir.block import RegionId
from wafercc.ir.embedding import RegionEmbedding
from wafercc.ir.placement import HOST, Flow, Placement, PlaceRequest, RegionRequest, Shape, parse_placement
from wafercc.ir.program import Rect
from wafercc.passes.embed import Embed, embed
from wafercc.passes.place import Place
from wafercc.silicon import DefectMap
from wafercc.targets import Target, load


def chain(*shapes: Shape | Sequence[Shape]) -> PlaceRequest:
    """Regions in a row: the host feeds the first, each feeds the next, the last feeds the host."""
    many = [(s,) if isinstance(s, Shape) else tuple(s) for s in shapes]
    regions = tuple(RegionRequest(RegionId(f"r{i}"), s) for i, s in enumerate(many))
    ids = [r.id for r in regions]
    flows = [Flow(a, b, 100) for a, b in pairwise(ids)]
    return PlaceRequest(regions, (Flow(HOST, ids[0], 9), *flows, Flow(ids[-1], HOST, 9)))


def star(rays: int) -> PlaceRequest:
    regions = [RegionRequest(RegionId("hub"), (Shape(8, 8),))]
    regions += [RegionRequest(RegionId(f"e{i}"), (Shape(10, 10),)) for i in range(rays)]
    flows = [Flow(RegionId("hub"), r.id, 10) for r in regions[1:]]
    return PlaceRequest(tuple(regions), (Flow(HOST, RegionId("hub"), 1), *flows))


def violations(placement: Placement, request: PlaceRequest, target: Target, defects: DefectMap) -> list[str]:
    """What is wrong with a placement, from the definitions alone."""
    bad = []
    taken: dict[tuple[int, int, int], str] = {}
    for region in request.regions:
        rect, shape = placement.rects[region.id], placement.shapes[region.id]
        if shape not in region.shapes or rect.wafer != region.wafer:
            bad.append(f"{region.id}: shape {shape} on wafer {rect.wafer} was not asked")
        if not (rect.x >= 0 and rect.x + rect.w <= target.width and rect.y >= 0 and rect.y + rect.h <= target.height):
            bad.append(f"{region.id} outside")
        for x in range(rect.x, rect.x + rect.w):
            for y in range(rect.y, rect.y + rect.h):
                other = taken.setdefault((rect.wafer, x, y), region.id)
                if other != region.id:
                    bad.append(f"{region.id} overlaps {other} at {x},{y}")
        if not isinstance(embed(rect, shape.rows, shape.columns, defects.alive(rect.wafer)), RegionEmbedding):
            bad.append(f"{region.id} does not embed in {rect}")
    return bad


def hold_quality(placement: Placement) -> None:
    report = placement.report
    assert report.bound <= report.objective
    assert report.baseline is None or report.objective <= report.baseline


SIDES = st.integers(2, 12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=6),
    rate=st.sampled_from([0.0, 0.002, 0.01]),
    seed=st.integers(0, 1000),
)
def test_placements_are_legal_and_never_worse_than_the_snake(
    sizes: list[tuple[int, int]], rate: float, seed: int
) -> None:
    target = load("mesh:40x36")
    defects = DefectMap.random(target, rate, rate / 5, rate / 5, seed=seed)
    request = chain(*(Shape(p, q) for p, q in sizes))
    placement = Place(effort=0.01)(request, target, defects)
    assert violations(placement, request, target, defects) == []
    hold_quality(placement)
    Embed()(placement, defects)


def test_four_tight_regions_fit_around_the_defects() -> None:
    target = load("mesh:64x64")
    request = chain(*[Shape(30, 30)] * 4)
    fitted = 0
    for seed in range(5):
        defects = DefectMap.random(target, 0.002, seed=seed)
        try:
            placement = Place()(request, target, defects)
        except DoesNotFit:
            continue
        fitted += 1
        assert violations(placement, request, target, defects) == []
        hold_quality(placement)
    assert fitted == 5


@pytest.mark.parametrize("name", ["mesh:64x64", "mesh:48x80", "wse3"])
def test_eight_regions_are_placed_legally_and_well(name: str) -> None:
    target = load(name)
    defects = DefectMap.random(target, 0.002, 0.0004, 0.0004, seed=1)
    shapes = [(20, 12), (16, 16), (12, 20), (16, 24), (10, 10), (24, 16), (8, 8), (16, 16)]
    request = chain(*(Shape(p, q) for p, q in shapes))
    placement = Place()(request, target, defects)
    assert violations(placement, request, target, defects) == []
    hold_quality(placement)


def test_a_hubs_partners_surround_it() -> None:
    target = load("mesh:64x64")
    request = star(8)
    placement = Place()(request, target, DefectMap.none(target))
    assert violations(placement, request, target, DefectMap.none(target)) == []
    assert placement.report.baseline is not None
    assert placement.report.objective <= 0.85 * placement.report.baseline


def test_equal_requests_give_equal_placements() -> None:
    target = load("mesh:64x64")
    defects = DefectMap.random(target, 0.005, 0.001, 0.001, seed=2)
    request = chain(*[Shape(20, 16), Shape(16, 20), Shape(12, 30), Shape(22, 10), Shape(9, 9)])
    assert str(Place(seed=3)(request, target, defects)) == str(Place(seed=3)(request, target, defects))


def test_a_placement_reads_back_from_its_text() -> None:
    target = load("mesh:32x32")
    request = chain([Shape(30, 4, 7), Shape(8, 15, 2)], Shape(4, 4))
    placement = Place()(request, target, DefectMap.random(target, 0.01, seed=1))
    assert parse_placement(str(placement)) == placement
    with pytest.raises(TextError, match="line 5: expected rows x columns, as in 28x30, found 'somewhere'"):
        parse_placement(f"{placement}region r9 somewhere")


def test_an_alternative_shape_is_taken_where_the_first_does_not_fit() -> None:
    target = load("mesh:20x10")
    request = chain([Shape(16, 4), Shape(4, 16, 3)], [Shape(16, 4), Shape(4, 16, 3)])
    placement = Place()(request, target, DefectMap.none(target))
    assert {str(s) for s in placement.shapes.values()} == {"4x16"}
    assert placement.report.objective >= 6
    hold_quality(placement)


def test_a_cheaper_shape_is_preferred_where_both_fit() -> None:
    target = load("mesh:20x20")
    placement = Place()(chain([Shape(4, 4), Shape(2, 8, 50)]), target, DefectMap.none(target))
    assert placement.shapes[RegionId("r0")] == Shape(4, 4)


def test_a_region_avoids_a_dead_corner() -> None:
    target = load("mesh:20x20")
    dead = [(0, x, y) for x in range(6) for y in range(20)]
    defects = DefectMap.of(target, cores=dead)
    placement = Place()(chain(Shape(8, 8)), target, defects)
    assert placement.rects[RegionId("r0")].x >= 6
    assert (placement.rects[RegionId("r0")].w, placement.rects[RegionId("r0")].h) == (8, 8)


def test_pins_are_kept_and_bad_pins_named() -> None:
    target = load("mesh:32x32")
    none = DefectMap.none(target)
    request = chain(Shape(8, 8), Shape(8, 8), Shape(8, 8))
    pinned = replace(request, pins={RegionId("r1"): Rect(0, 20, 21, 9, 8)})
    placement = Place()(pinned, target, none)
    assert violations(placement, request, target, none) == []
    assert placement.rects[RegionId("r1")] == Rect(0, 20, 21, 9, 8)
    for rects, message in (
        ({"r1": Rect(0, 30, 0, 8, 8)}, "r1, pinned at 8x8+30+0: 8 columns x 8 rows need 64 live cores"),
        ({"r0": Rect(0, 0, 0, 8, 8), "r1": Rect(0, 4, 4, 8, 8)}, "it overlaps pinned region r0"),
    ):
        with pytest.raises(CompileError) as caught:
            Place()(replace(request, pins={RegionId(k): v for k, v in rects.items()}), target, none)
        assert message in str(caught.value)


def test_regions_on_two_wafers_do_not_meet() -> None:
    target = load("mesh:12x12", {"wafers": 2})
    regions = (RegionRequest(RegionId("a"), (Shape(10, 10),)), RegionRequest(RegionId("b"), (Shape(10, 10),), wafer=1))
    request = PlaceRequest(regions, (Flow(RegionId("a"), RegionId("b"), 5),))
    defects = DefectMap.random(target, 0.005, seed=1)
    placement = Place()(request, target, defects)
    assert violations(placement, request, target, defects) == []
    with pytest.raises(CompileError, match="wafer 1 is wanted; the target has 1"):
        Place()(request, load("mesh:12x12"), DefectMap.none("mesh:12x12"))


@pytest.mark.parametrize(
    ("request_", "rate", "message", "demand", "bound"),
    [
        (chain(Shape(8, 8)), 1.0, "1 regions need 64 PEs; 0 of 256 are alive", 64, 0),
        (chain(*[Shape(10, 10)] * 3), 0.0, "3 regions need 300 PEs; 256 of 256 are alive", 300, 256),
        (chain(Shape(20, 3)), 0.0, "region r0: its mesh is 3 columns x 20 rows; the wafer has 16 x 16", 60, 256),
        (chain(*[Shape(9, 9)] * 2), 0.0, "2 regions of 162 PEs in all; 256 of 256 PEs are alive, so 63.3 %", 162, 256),
    ],
)
def test_what_does_not_fit_says_so_with_both_numbers(
    request_: PlaceRequest, rate: float, message: str, demand: int, bound: int
) -> None:
    target = load("mesh:16x16")
    with pytest.raises(DoesNotFit) as caught:
        Place()(request_, target, DefectMap.random(target, core_rate=rate))
    assert message in str(caught.value)
    assert (caught.value.resource, caught.value.demand, caught.value.bound) == ("area", demand, bound)
    assert caught.value.hint


def test_a_map_of_another_grid_is_refused() -> None:
    with pytest.raises(TargetError, match="16x16 grid, target mesh:8x8 has 8x8"):
        Place()(chain(Shape(2, 2)), load("mesh:8x8"), DefectMap.none("mesh:16x16"))
