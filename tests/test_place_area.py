"""Placement of regions of free shape: legal by the definitions, above the bound, never worse than the snake."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import placement as bench
from benchmarks import synthetic
from wafercc.errors import DoesNotFit
from wafercc.passes.place.area import AreaPlacement, AreaProblem, AreaReport, PlaceAreas, best_snake, lower_bound
from wafercc.passes.place.area.anneal import _Search, anneal
from wafercc.passes.place.area.polish import polish
from wafercc.passes.place.area.problem import Ints
from wafercc.passes.place.area.shares import area_shares, row_rule_loss
from wafercc.passes.place.area.slicing import cut, legalise, slicing_of
from wafercc.passes.place.area.strips import best_strips

ROOT = Path(__file__).parent.parent
FAST = PlaceAreas(anneals=1, moves=600, polishes=2)


def problem(
    needed: list[int], streams: list[tuple[int, int, float]], size: tuple[int, int], dead: float = 0.0, seed: int = 0
) -> AreaProblem:
    """Regions on a grid of a width and height; work such that compute costs about as much as sides."""
    width, height = size
    live = np.random.default_rng(seed).random((height, width)) >= dead
    counts = np.array(needed, np.int64)
    ends = np.array([(a, b) for a, b, _ in streams], np.int64).reshape(-1, 2)
    weights = np.array([weight for _, _, weight in streams], np.float64)
    return AreaProblem(live, counts, 4.0 * counts.astype(np.float64) ** 1.5, ends, weights)


def chain(count: int) -> list[tuple[int, int, float]]:
    return [(i, i + 1, 2.0) for i in range(count - 1)]


def slow_capacity(live: np.ndarray, rect: list[int]) -> int:
    """The row rule word for word: the largest q times the rows that have q live cores."""
    x, y, w, h = rect
    counts = [sum(bool(live[row, column]) for column in range(x, x + w)) for row in range(y, y + h)]
    return max(q * sum(count >= q for count in counts) for q in range(w + 1))


def slow_cost(p: AreaProblem, rects: Ints) -> float:
    total = 0.0
    for rect, work in zip(rects.tolist(), p.work, strict=True):
        total += work / slow_capacity(p.live, rect) + p.side_cost * (rect[2] + rect[3])
    for (a, b), weight in zip(p.streams.tolist(), p.weights, strict=True):
        for axis in (0, 1):
            total += weight * abs(rects[a, axis] + rects[a, axis + 2] / 2 - rects[b, axis] - rects[b, axis + 2] / 2)
    return total


def hold(p: AreaProblem, placement: AreaPlacement) -> None:
    """What every placement must be, from the definitions alone."""
    rects, report = placement.rects, placement.report
    assert bench.is_legal(p, rects) and p.legal(rects)
    for rect, needed in zip(rects.tolist(), p.needed.tolist(), strict=True):
        assert slow_capacity(p.live, rect) >= needed
    assert report.objective == pytest.approx(slow_cost(p, rects))
    assert report.snake is None or report.objective <= report.snake
    assert report.strips is None or report.objective <= report.strips
    assert report.objective <= report.searched and report.bound <= report.objective
    assert 0.0 <= report.solver_share <= 1.0 + 1e-9


def test_capacity_is_the_row_rule_by_hand() -> None:
    live = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
    one = AreaProblem(live, np.array([1]), np.array([1.0]), np.empty((0, 2), np.int64), np.empty(0))
    assert one.capacity(0, 0, 3, 4) == 6  # 2 rows of 3, or 3 rows of 2
    assert one.capacity(0, 0, 3, 2) == 4  # 2 rows of 2
    assert one.capacity(0, 2, 3, 1) == 0
    assert one.capacity(2, 0, 1, 4) == 3


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    needed=st.lists(st.integers(3, 60), min_size=1, max_size=7),
    dead=st.sampled_from([0.0, 0.01, 0.05]),
    hub=st.booleans(),
    seed=st.integers(0, 99),
)
def test_placements_are_legal_above_the_bound_and_never_worse_than_the_snake(
    needed: list[int], dead: float, hub: bool, seed: int
) -> None:
    streams = [(0, i, 0.5) for i in range(1, len(needed))] if hub else chain(len(needed))
    p = problem(needed, streams, (25, 32), dead, seed)
    hold(p, FAST(p))


def test_a_hub_with_many_partners_is_placed_above_the_bound_by_balls() -> None:
    p = problem([30] + [60] * 9, [(0, i, 0.5) for i in range(1, 10)], (30, 30))
    hold(p, FAST(p))


def test_fan_out_of_twenty_regions_on_a_full_wafer_is_five_per_cent_below_the_snake() -> None:
    case = bench.place("moe", 20, 85, 2, twice=False)
    assert case.legal
    assert case.over_snake <= 0.95
    assert 0 < case.report.gap < 0.14
    assert 0 < case.report.solver_share < 1


def test_equal_problems_give_equal_rectangles_in_another_process_too() -> None:
    words = (
        "from benchmarks import synthetic; from wafercc.passes.place.area import PlaceAreas; "
        "p = synthetic.problem('moe', 5, 0.6, 4); "
        "print(PlaceAreas(anneals=1, moves=300, polishes=1, seed=7)(p).rects.tolist())"
    )
    there = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    here = PlaceAreas(anneals=1, moves=300, polishes=1, seed=7)(synthetic.problem("moe", 5, 0.6, 4))
    assert there == f"{here.rects.tolist()}\n"


def test_another_seed_searches_elsewhere() -> None:
    p = synthetic.problem("moe", 20, 0.85, 1)
    areas = area_shares(p, 0.97 * p.live_cores)
    start, _ = best_strips(p, areas, [(p.width, p.height)])
    found = [anneal(p, areas, start, 800, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_one_core_too_few_an_overlap_and_the_rim_are_refused() -> None:
    p = problem([12, 12], chain(2), (8, 4))
    good = np.array([[0, 0, 3, 4], [3, 0, 3, 4]])
    for rects, legal in (
        (good, True),
        (good - [[0, 0, 0, 1], [0, 0, 0, 0]], False),
        (good - [[0, 0, 0, 0], [1, 0, 0, 0]], False),
        (good + np.array([[0, 0, 0, 0], [3, 0, 0, 0]]), False),
        (good - [[1, 0, 0, 0], [0, 0, 0, 0]], False),
    ):
        assert p.legal(rects) is legal
        assert bench.is_legal(p, rects) is legal
    live = p.live.copy()
    live[2, 1] = False
    short = replace(p, live=live)
    assert not short.legal(good) and not bench.is_legal(short, good)
    assert short.legal(good + np.array([[0, 0, 1, 0], [1, 0, 0, 0]]))


def test_cuts_tile_the_box_in_proportion() -> None:
    cuts = slicing_of([[0, 1], [3, 2]], True, 10, 8)
    rects = cut(cuts, np.array([3.0, 1.0, 2.0, 2.0]))
    assert rects.tolist() == [[0, 0, 5, 6], [0, 6, 5, 2], [5, 4, 5, 4], [5, 0, 5, 4]]
    assert legalise(problem([31, 10, 20, 20], chain(4), (10, 8)), cuts, np.ones(4)) is None


def test_legal_cuts_move_around_dead_cores() -> None:
    p = problem([36, 30], chain(2), (8, 10))
    live = p.live.copy()
    live[:4, 0] = False
    dead = replace(p, live=live)
    rects = legalise(dead, slicing_of([[0], [1]], False, 8, 10), np.array([1.0, 1.0]))
    assert rects is not None and bench.is_legal(dead, rects)
    assert rects[:, 3].tolist() == [6, 4]


@pytest.mark.parametrize("seed", range(3))
def test_moves_keep_tree_areas_and_cost_consistent(seed: int) -> None:
    p = synthetic.problem("moe", 20, 0.85, 1)
    areas = area_shares(p, 0.97 * p.live_cores)
    start, _ = best_strips(p, areas, [(p.width, p.height)])
    search = _Search(p, areas, start, Random(seed))
    undone = search.slicing(), search.cost
    for _ in range(300):
        move = search.propose()
        if move is not None:
            move.undo()
    assert (search.slicing(), search.cost) == undone
    search.run(500)
    anew = _Search(p, areas, search.slicing(), Random(seed))
    assert search.cost == pytest.approx(anew.cost)
    assert search.area == pytest.approx(anew.area) and search.parent == anew.parent


def test_annealing_gives_no_worse_tree_than_it_starts_from() -> None:
    p = synthetic.problem("moe", 20, 0.85, 1)
    areas = area_shares(p, 0.97 * p.live_cores)
    start, _ = best_strips(p, areas, [(p.width, p.height)])
    costs = [_Search(p, areas, anneal(p, areas, start, n, 0), Random(0)).cost for n in (0, 3000)]
    assert costs[1] < 0.95 * costs[0]


def test_polish_improves_a_loose_placement_and_keeps_an_optimal_one() -> None:
    p = problem([100, 100], chain(2), (40, 40))
    loose = np.array([[0, 0, 5, 20], [20, 9, 15, 7]])
    better = polish(p, loose)
    assert bench.is_legal(p, better)
    assert p.cost(better) < 0.9 * p.cost(loose)
    while (again := polish(p, better)) is not better:
        assert p.cost(again) < p.cost(better)
        better = again
    assert p.cost(better) < 0.8 * p.cost(loose)


def test_shares_meet_the_room_or_the_need() -> None:
    p = problem([100, 400], chain(2), (50, 50))
    wide = area_shares(p, 2500.0)
    tight = area_shares(p, 600.0)
    assert (wide > p.needed).all() and wide.sum() <= 2500
    assert (tight >= p.needed).all() and tight.sum() == pytest.approx(600)
    assert area_shares(p, 10.0).tolist() == [100, 400]
    assert row_rule_loss(p) == 0.0


def test_the_bound_of_one_region_is_its_best_square() -> None:
    """Work W / A + 4 b sqrt(A) / 2 ... is least where A^1.5 = W / b: with W = 4 N^1.5 and b = 2, A = 2^(2/3) N."""
    p = problem([100], [], (50, 50))
    area = 2 ** (2 / 3) * 100
    assert lower_bound(p) == pytest.approx(4000 / area + 4 * math.sqrt(area))
    full = replace(p, live=np.ones((11, 10), bool))
    assert lower_bound(full) == pytest.approx(4000 / 110 + 4 * math.sqrt(110))


def test_the_bound_of_two_regions_charges_their_stream_to_shorter_sides() -> None:
    """g(A) = W / A + 2 sqrt(A b (b + S / 2)) with b = 2, S = 6: 2 sqrt(10 A), least where A^1.5 = W / sqrt(10)."""
    p = problem([100, 100], [(0, 1, 6.0)], (60, 60))
    area = (4000 / math.sqrt(10)) ** (2 / 3)
    assert area > 100
    assert lower_bound(p) == pytest.approx(2 * (4000 / area + 2 * math.sqrt(10 * area)))


def test_the_bound_of_a_hub_is_the_ball_its_partners_fill() -> None:
    """Eight partners of 200 cores at weight 1 fill a ball of 1600: G = 4/3 800^1.5 over 200 cores each; b - 1/4."""
    p = problem([1] + [200] * 8, [(0, i, 1.0) for i in range(1, 9)], (60, 60))
    ball = 4 / 3 * 800**1.5 / 200

    def alone(needed: float, side_cost: float) -> float:
        area = max(needed, (4 * needed**1.5 / side_cost) ** (2 / 3))
        return 4 * needed**1.5 / area + 2 * side_cost * math.sqrt(area)

    assert lower_bound(p) == pytest.approx(ball + alone(1, 2.0) + 8 * alone(200, 1.75))


def test_the_snake_by_hand() -> None:
    """Three regions of 8 cores on 4 x 6: one strip 4 wide is the cheapest, 2 rows each."""
    found = best_snake(problem([8, 8, 8], chain(3), (4, 6)))
    assert found is not None
    assert found.tolist() == [[0, 0, 4, 2], [0, 2, 4, 2], [0, 4, 4, 2]]


@pytest.mark.parametrize(
    ("needed", "size", "message"),
    [
        ([60, 60], (10, 10), "2 regions need 120 cores; 100 are alive"),
        ([33, 33, 33], (10, 10), "no legal arrangement found for 3 regions; 99.0 % of the live cores would be used"),
    ],
)
def test_what_does_not_fit_says_so_with_both_numbers(needed: list[int], size: tuple[int, int], message: str) -> None:
    p = problem(needed, chain(len(needed)), size)
    with pytest.raises(DoesNotFit) as caught:
        FAST(p)
    demand = sum(needed)
    assert (caught.value.resource, caught.value.demand, caught.value.bound) == ("area", demand, size[0] * size[1])
    assert caught.value.hint and str(demand) in str(caught.value)
    assert message in str(caught.value)


def test_every_synthetic_problem_has_its_size_and_fill() -> None:
    for graph in bench.GRAPHS:
        for regions in bench.REGIONS:
            p = synthetic.problem(graph, regions, 0.85, 1)
            assert (p.width, p.height, p.count) == (762, 1172, regions)
            assert p.live.size - p.live_cores == synthetic.DEAD_CORES[1]
            assert 0.8499 < p.needed.sum() / p.live_cores <= 0.85
            assert (p.streams[:, 0] < p.streams[:, 1]).all()
            assert set(p.streams.ravel().tolist()) == set(range(regions))


GOOD = bench.Case("moe", 20, 85, AreaReport(90.0, 100.0, 99.0, 92.0, 80.0), True, 1.0, True)


@pytest.mark.parametrize(
    ("case", "missed"),
    [
        (GOOD, []),
        (replace(GOOD, legal=False), ["placement, illegal cases"]),
        (replace(GOOD, repeats=False), ["placement, repeats that differ"]),
        (replace(GOOD, cpu_seconds=20.5), ["placement, slowest"]),
        (replace(GOOD, report=replace(GOOD.report, bound=90.5)), ["placement, lower bound over objective, worst"]),
        (
            replace(GOOD, report=replace(GOOD.report, objective=96.0)),
            ["placement over snake, fan-out of 20 and more, worst"],
        ),
        (replace(GOOD, graph="chain", report=replace(GOOD.report, objective=96.0)), []),
        (
            replace(GOOD, graph="chain", report=replace(GOOD.report, objective=101.0)),
            ["placement over snake, worst"],
        ),
    ],
)
def test_each_bar_of_the_benchmark_can_be_missed(case: bench.Case, missed: list[str]) -> None:
    assert [bar.what for bar in bench.bars([GOOD, case]) if not bar.holds] == missed


def test_a_missed_bar_of_the_benchmark_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--graph", "chain", "--regions", "5", "--full", "60", "--map", "0"]
    monkeypatch.setattr(bench, "PlaceAreas", lambda: FAST)
    assert bench.main(words) == 0
    monkeypatch.setattr(bench, "is_legal", lambda *_: False)
    assert bench.main(words) == 1
