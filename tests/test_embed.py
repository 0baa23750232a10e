"""Embedding: legal by an independent walk over routers and links, straight where it can be, refused with numbers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wafercc.errors import CompileError
from wafercc.ir.block import RegionId
from wafercc.ir.embedding import Embedding, Refusal, RegionEmbedding
from wafercc.ir.placement import Placement, PlacementReport, Shape
from wafercc.ir.program import EAST, SOUTH, Rect
from wafercc.passes.embed import DETOUR_HOPS, Embed, embed
from wafercc.silicon import DefectMap
from wafercc.targets import load


def violations(
    found: RegionEmbedding, rows: int, columns: int, defects: DefectMap, reach: int, hops: int = DETOUR_HOPS
) -> list[str]:
    """Every rule an embedding breaks, walking each wire hop by hop over the sparse map; shares no code with it."""
    wafer = found.rect.wafer
    dead_router = {(x, y) for w, x, y in defects.dead_routers.tolist() if w == wafer}
    dead_core = {(x, y) for w, x, y in defects.dead_cores.tolist() if w == wafer} | dead_router
    dead_link = {(x, y, d) for w, x, y, d in defects.dead_links.tolist() if w == wafer}
    xs, ys, rect = found.xs.tolist(), found.ys.tolist(), found.rect
    bad: list[str] = []

    def walk(start: tuple[int, int], steps: list[tuple[int, int]]) -> None:
        (x, y), path = start, [start]
        for dx, dy in steps:
            link = (min(x, x + dx), min(y, y + dy), EAST if dx else SOUTH)
            if link in dead_link:
                bad.append(f"dead link {link}")
            x, y = x + dx, y + dy
            path.append((x, y))
        for px, py in path:
            if (px, py) in dead_router:
                bad.append(f"dead router {(px, py)}")
            if not (rect.x <= px < rect.x + rect.w and rect.y <= py < rect.y + rect.h):
                bad.append(f"outside {(px, py)}")

    detours = {(d.along, d.row, d.column): d.path.tolist() for d in found.detours}
    if len(detours) < len(found.detours):
        bad.append("two detours for one pair")

    def join(along: str, i: int, j: int, goal: tuple[int, int], steps: list[tuple[int, int]]) -> None:
        """The detour of a pair if it has one, else its standard path."""
        start = (xs[i][j], ys[i][j])
        path = detours.get((along, i, j))
        if path is not None:
            standard = len(steps)
            steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(path)]
            if (tuple(path[0]), tuple(path[-1])) != (start, goal) or any(abs(dx) + abs(dy) != 1 for dx, dy in steps):
                bad.append(f"detour {path} does not lead from {start} to {goal}")
            if not standard <= len(steps) <= standard + hops:
                bad.append(f"detour of {len(steps)} hops for {standard}")
        walk(start, steps)

    if found.xs.shape != (rows, columns):
        return [f"shape {found.xs.shape}"]
    for i in range(rows):
        if len(set(ys[i])) != 1 or (i and ys[i][0] <= ys[i - 1][0]):
            bad.append(f"row {i} is not one row below the last")
        for j in range(columns):
            if (xs[i][j], ys[i][j]) in dead_core:
                bad.append(f"dead core under {i},{j}")
            if j:
                if xs[i][j] <= xs[i][j - 1]:
                    bad.append(f"columns of row {i} do not increase")
                join("x", i, j - 1, (xs[i][j], ys[i][j]), [(1, 0)] * (xs[i][j] - xs[i][j - 1]))
            if i:
                jog = xs[i][j] - xs[i - 1][j]
                if abs(jog) > reach:
                    bad.append(f"jog {jog} at {i},{j}")
                down = [(0, 1)] * (ys[i][j] - ys[i - 1][j])
                join("y", i - 1, j, (xs[i][j], ys[i][j]), down + [(1 if jog > 0 else -1, 0)] * abs(jog))
    return bad


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    rate=st.sampled_from([0.0, 0.01, 0.05, 0.15]),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    spare=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    reach=st.integers(0, 3),
    hops=st.sampled_from([0, 2, 4]),
)
def test_what_embeds_is_legal(
    seed: int, rate: float, rows: int, columns: int, spare: tuple[int, int], reach: int, hops: int
) -> None:
    defects = DefectMap.random("mesh:14x15", rate, rate / 5, rate / 5, seed=seed)
    rect = Rect(0, 1, 2, columns + spare[0], rows + spare[1])
    found = embed(rect, rows, columns, defects.alive(), reach, hops)
    if isinstance(found, RegionEmbedding):
        assert violations(found, rows, columns, defects, reach, hops) == []
        assert not found.jogs or reach
        assert not found.detours or hops
    else:
        assert defects.dead and found.reason


def test_the_walk_above_sees_every_kind_of_damage() -> None:
    target = load("mesh:6x6")
    found = embed(Rect(0, 0, 0, 4, 4), 4, 4, DefectMap.none(target).alive())
    assert isinstance(found, RegionEmbedding)
    for damage in (
        DefectMap.of(target, cores=[(0, 2, 2)]),
        DefectMap.of(target, routers=[(0, 3, 3)]),
        DefectMap.of(target, links=[(0, 0, 0, EAST)]),
        DefectMap.of(target, links=[(0, 1, 2, SOUTH)]),
    ):
        assert violations(found, 4, 4, damage, 2)
        assert not violations(found, 4, 4, DefectMap.none(target), 2)


def test_a_perfect_rectangle_is_taken_whole() -> None:
    found = embed(Rect(0, 3, 2, 5, 4), 4, 5, DefectMap.none("mesh:12x8").alive())
    assert isinstance(found, RegionEmbedding)
    assert found.xs.tolist() == [[3, 4, 5, 6, 7]] * 4
    assert found.ys.tolist() == [[y] * 5 for y in (2, 3, 4, 5)]
    assert found.straight and found.bounds == found.rect


def test_one_spare_row_or_column_absorbs_a_dead_core_straight() -> None:
    alive = DefectMap.of(load("mesh:8x8"), cores=[(0, 2, 3)]).alive()
    taller = embed(Rect(0, 0, 0, 5, 6), 5, 5, alive)
    wider = embed(Rect(0, 0, 0, 6, 5), 5, 5, alive)
    assert isinstance(taller, RegionEmbedding) and taller.straight and 3 not in taller.ys
    assert isinstance(wider, RegionEmbedding) and wider.straight and 2 not in wider.xs


def test_dead_cores_of_many_rows_are_jogged_around_one_spare_column() -> None:
    cores = [(0, 1, 0), (0, 4, 1), (0, 2, 3), (0, 6, 4)]
    defects = DefectMap.of(load("mesh:7x5"), cores=cores)
    found = embed(Rect(0, 0, 0, 7, 5), 5, 6, defects.alive())
    assert isinstance(found, RegionEmbedding) and not found.straight
    assert violations(found, 5, 6, defects, 2) == []


def test_reach_bounds_the_jog() -> None:
    # Row 2 of three has its first two cores dead, so its columns lie two to the right of its neighbours'.
    cores = [(0, 0, 1), (0, 1, 1), (0, 4, 0), (0, 5, 0), (0, 4, 2), (0, 5, 2)]
    defects = DefectMap.of(load("mesh:6x3"), cores=cores)
    for reach, reason in (
        (0, "2 columns are alive in all of 3 rows; 4 are needed at reach 0"),
        (1, "6 dead cores leave no columns within reach 1"),
    ):
        found = embed(Rect(0, 0, 0, 6, 3), 3, 4, defects.alive(), reach)
        assert isinstance(found, Refusal) and reason in str(found)
    found = embed(Rect(0, 0, 0, 6, 3), 3, 4, defects.alive(), reach=2)
    assert isinstance(found, RegionEmbedding) and found.jogs == 8
    assert found.xs.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [0, 1, 2, 3]]


def test_a_dead_router_costs_its_row_and_its_column_without_detours() -> None:
    defects = DefectMap.of(load("mesh:9x9"), routers=[(0, 4, 4)])
    full = embed(Rect(0, 0, 0, 9, 9), 8, 9, defects.alive(), detour_hops=0)
    assert isinstance(full, Refusal)
    found = embed(Rect(0, 0, 0, 9, 9), 8, 8, defects.alive())
    assert isinstance(found, RegionEmbedding) and found.straight and not found.detours
    assert 4 not in found.xs and 4 not in found.ys
    assert violations(found, 8, 8, defects, 2) == []


@pytest.mark.parametrize(("rows", "columns", "along"), [(8, 9, "y"), (9, 8, "x")])
def test_a_detour_around_a_dead_router_saves_its_column_or_its_row(rows: int, columns: int, along: str) -> None:
    defects = DefectMap.of(load("mesh:9x9"), routers=[(0, 4, 4)])
    found = embed(Rect(0, 0, 0, 9, 9), rows, columns, defects.alive(), reach=0)
    assert isinstance(found, RegionEmbedding) and found.straight
    assert violations(found, rows, columns, defects, 0) == []
    (detour,) = found.detours
    assert detour.along == along and len(detour.path) == 5
    assert isinstance(embed(Rect(0, 0, 0, 9, 9), rows, columns, defects.alive(), reach=0, detour_hops=1), Refusal)


@pytest.mark.parametrize(("side", "along"), [(EAST, "x"), (SOUTH, "y")])
def test_a_detour_around_a_dead_link_saves_its_line(side: int, along: str) -> None:
    defects = DefectMap.of(load("mesh:9x9"), links=[(0, 4, 4, side)])
    found = embed(Rect(0, 0, 0, 9, 9), 9, 9, defects.alive())
    assert isinstance(found, RegionEmbedding) and [d.along for d in found.detours] == [along]
    assert violations(found, 9, 9, defects, 2) == []
    assert str(Embedding({RegionId("r"): found})).startswith("region r in 9x9+0+0  # 9 rows, 9 columns, straight, 1 ")
    spare = embed(Rect(0, 0, 0, 9, 9), 8, 8, defects.alive())
    assert isinstance(spare, RegionEmbedding) and not spare.detours


def test_rows_that_no_short_way_joins_are_lost() -> None:
    # A wall between columns 4 and 5 leaves ways past its ends only: too long for the rows in its middle.
    wall = [(0, 4, y) for y in range(1, 8)]
    defects = DefectMap.of(load("mesh:9x9"), links=[(*at, EAST) for at in wall])
    found = embed(Rect(0, 0, 0, 9, 9), 9, 9, defects.alive())
    assert isinstance(found, Refusal) and "rows have 9 connected live cores; 9 are needed" in str(found)


def test_detours_share_no_router_and_meet_lines_an_odd_number_away() -> None:
    for seed in range(20):
        defects = DefectMap.random("mesh:24x24", 0.0, 0.01, 0.01, seed=seed)
        found = embed(Rect(0, 0, 0, 24, 24), 20, 21, defects.alive(), reach=0)
        if isinstance(found, Refusal):
            continue
        inner = [tuple(router) for d in found.detours for router in d.path[1:-1].tolist()]
        assert len(set(inner)) == len(inner)
        column_of = {int(x): j for j, x in enumerate(found.xs[0])}
        for d in found.detours:
            if d.along == "y":
                met = {column_of[x] - d.column for x in d.path[:, 0].tolist() if x in column_of}
                assert all(m == 0 or m % 2 for m in met)


def test_a_dead_router_at_the_border_costs_only_one_line() -> None:
    defects = DefectMap.of(load("mesh:9x9"), routers=[(0, 4, 0)])
    found = embed(Rect(0, 0, 0, 9, 9), 8, 9, defects.alive())
    assert isinstance(found, RegionEmbedding) and found.ys.min() == 1


def test_a_dead_core_on_the_way_still_passes_words() -> None:
    defects = DefectMap.of(load("mesh:3x1"), cores=[(0, 1, 0)])
    found = embed(Rect(0, 0, 0, 3, 1), 1, 2, defects.alive())
    assert isinstance(found, RegionEmbedding) and found.xs.tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("rect", "rows", "columns", "reason"),
    [
        (Rect(0, 5, 5, 4, 4), 4, 4, "rectangle 4x4+5+5 is not inside the 8x8 grid"),
        (Rect(0, 0, 0, 4, 4), 5, 4, "rectangle 4x4+0+0 is smaller than 4 columns x 5 rows"),
        (Rect(0, 0, 0, 4, 4), 4, 4, "3 of its 4 rows have 4 connected live cores; 4 are needed"),
    ],
)
def test_a_refusal_says_why_with_numbers(rect: Rect, rows: int, columns: int, reason: str) -> None:
    defects = DefectMap.of(load("mesh:8x8"), cores=[(0, 1, 1)])
    found = embed(rect, rows, columns, defects.alive())
    assert isinstance(found, Refusal) and reason in str(found)


def test_nothing_embeds_where_all_is_dead() -> None:
    found = embed(Rect(0, 0, 0, 4, 4), 1, 1, DefectMap.random("mesh:4x4", core_rate=1.0).alive())
    assert isinstance(found, Refusal)


def test_a_wafer_sized_region_embeds() -> None:
    alive = DefectMap.random("wse3", core_rate=0.0007, seed=4).alive()  # about 600 dead cores
    found = embed(Rect(0, 0, 0, 755, 1170), 1170, 748, alive)
    assert isinstance(found, RegionEmbedding)
    assert np.abs(np.diff(found.xs, axis=0)).max() <= 2
    assert alive.core[found.ys, found.xs].all() and (np.diff(found.xs, axis=1) > 0).all()


def test_the_pass_embeds_every_region_or_names_the_one_it_cannot() -> None:
    regions = {RegionId("a"): Rect(0, 0, 0, 3, 3), RegionId("b"): Rect(0, 3, 0, 3, 3)}
    shapes = {RegionId("a"): Shape(3, 3), RegionId("b"): Shape(3, 3)}
    placement = Placement(regions, shapes, PlacementReport(0.0, None, 0.0, ""), reach=2, detour_hops=4)
    target = load("mesh:6x3")
    embedding = Embed()(placement, DefectMap.none(target))
    assert str(embedding) == (
        "region a in 3x3+0+0  # 3 rows, 3 columns, straight\nrows 0-2\ncolumns 0-2\n"
        "region b in 3x3+3+0  # 3 rows, 3 columns, straight\nrows 0-2\ncolumns 3-5\n"
    )
    region = embedding.regions[RegionId("b")].region(RegionId("b"))
    assert (region.rows, region.columns, int(region.xs[0, 0])) == (3, 3, 3)
    with pytest.raises(CompileError, match="region b: 3x3 does not embed"):
        Embed()(placement, DefectMap.of(target, cores=[(0, 4, 1)]))
