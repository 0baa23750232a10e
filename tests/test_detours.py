"""Detours in a compiled program: it verifies, computes what it should, pays for them, and no change of one passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from importer_models import DATA, recorded
from tiny_models import error_of

import wafercc
from wafercc import DefectMap, Program
from wafercc.ir.program import EAST, SOUTH, Detour, IntArray, PlacedProgram, Region
from wafercc.runtime import run
from wafercc.runtime.geometry import Geometry, Grid
from wafercc.verify import verify

pytestmark = pytest.mark.pipeline
GRAPH, CASE = "llama-dyn18past", "decode1"


@cache
def detoured() -> Program:
    """A decoder on a mesh so full that regions take detours along both directions."""
    defects = DefectMap.random("mesh:32x32", core_rate=0.01, router_rate=0.005, link_rate=0.005, seed=1)
    inputs, _ = recorded(GRAPH)[CASE]
    return wafercc.compile(
        DATA / f"{GRAPH}.onnx", target="mesh:32x32", region=(14, 14), defects=defects, inputs_like=inputs
    )


def test_a_program_with_detours_verifies_and_equals_onnxruntime() -> None:
    program = detoured()
    assert {d.along for region in program.placed.regions for d in region.detours} == {"x", "y"}
    assert program.check().startswith("ok: ")
    assert error_of(program.run(recorded(GRAPH)[CASE][0]).outputs, GRAPH, CASE) < 1e-3


def first() -> tuple[int, Region, Detour]:
    """A region whose collectives take a detour, its number, and that detour, its first."""
    placed = detoured().placed
    lines = {(net.region, net.along) for net in placed.collectives}
    return next((i, r, r.detours[0]) for i, r in enumerate(placed.regions) if (r.id, r.detours[0].along) in lines)


def with_detours(*detours: Detour) -> PlacedProgram:
    index, region, _ = first()
    placed = detoured().placed
    regions = (*placed.regions[:index], replace(region, detours=detours), *placed.regions[index + 1 :])
    return replace(placed, regions=regions)


def with_path(change: Callable[[IntArray], IntArray]) -> PlacedProgram:
    _, region, detour = first()
    changed = Detour(detour.along, detour.row, detour.column, change(detour.path).astype(np.int32))
    return with_detours(changed, *region.detours[1:])


def with_dead(kind: str, row: list[int]) -> PlacedProgram:
    placed = detoured().placed
    return replace(placed, defects={**placed.defects, kind: [*placed.defects[kind], row]})


def around_the_outside(path: IntArray) -> IntArray:
    """The same path by way of a router beyond the left border of the rectangle."""
    _, region, _ = first()
    return np.concatenate([path[:1], [[region.rect.x - 1, int(path[0, 1])]], path[1:]])


def middle() -> list[int]:
    _, _, detour = first()
    x, y = detour.path[1].tolist()
    return [0, x, y]


def link() -> list[int]:
    """The second link of the first detour as a defect map names it."""
    _, _, detour = first()
    (x, y), (u, v) = detour.path[1:3].tolist()
    return [0, min(x, u), min(y, v), EAST if x != u else SOUTH]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda: with_dead("dead_routers", middle()), "crosses the dead router of PE ({x}, {y})"),
        (lambda: with_dead("dead_links", link()), "crosses a dead link next to PE ("),
        (lambda: with_path(lambda path: np.delete(path, 1, axis=0)), "has a gap between routers ("),
        (lambda: with_path(lambda path: path[:-1]), "does not lead from PE ("),
        (lambda: with_path(around_the_outside), "leaves the rectangle "),
        (lambda: with_path(lambda path: np.concatenate([path[:2], path])), "passes a router twice"),
        (lambda: with_detours(*first()[1].detours, first()[2]), "a second one for these neighbours"),
        (lambda: with_detours(replace(first()[2], row=99)), "the region has no such neighbours; it is 14x14"),
    ],
)
def test_a_broken_detour_is_refused_with_its_region_and_pe(
    change: Callable[[], PlacedProgram], problem: str
) -> None:
    _, region, detour = first()
    row = 99 if "no such" in problem else detour.row
    where = f"rule 2: region {region.id}, detour from logical PE ({row}, {detour.column}) along {detour.along}: "
    wanted = where + problem.format(x=middle()[1], y=middle()[2])
    found = [str(v) for v in verify(change())]
    assert any(text.startswith(wanted) for text in found), found


def test_neighbours_whose_detour_is_left_out_are_cut_off() -> None:
    _, region, detour = first()
    x, y = detour.path[0].tolist()
    line = "row" if detour.along == "x" else "column"
    found = [str(v) for v in verify(with_detours(*region.detours[1:]))]
    wanted = f"rule 2: region {region.id}: PE ({x}, {y}) cut off from the next PE of the {line} by a dead link"
    assert wanted in found


@cache
def longer() -> PlacedProgram:
    """The program with its first detour two hops longer: one of its steps goes by the two routers beside it."""
    for step in range(len(first()[2].path) - 1):
        for beside in ([0, 1], [0, -1], [1, 0], [-1, 0]):

            def around(path: IntArray, step: int = step, beside: list[int] = beside) -> IntArray:
                return np.concatenate([path[: step + 1], path[step : step + 2] + beside, path[step + 1 :]])

            changed = with_path(around)
            if not any(v.rule == 2 for v in verify(changed)):
                return changed
    raise AssertionError("no step of the first detour has live routers beside it")


def test_a_path_that_lives_but_is_not_what_the_routers_do_is_refused() -> None:
    found = verify(longer())
    assert {v.rule for v in found} == {4, 5}
    region = first()[1].id
    assert any(f"region {region}, net" in str(v) and "is not in the router table" in str(v) for v in found)


def test_a_detour_costs_its_hops_and_a_longer_one_more_cycles() -> None:
    placed, inputs = detoured().placed, recorded(GRAPH)[CASE][0]

    def cycles(program: PlacedProgram) -> int:
        return int(run(program, inputs, timing_only=True).cycles)

    standard = replace(placed, regions=tuple(replace(r, detours=()) for r in placed.regions))
    assert cycles(standard) < cycles(placed) <= cycles(longer())
    _, region, detour = first()
    for program, extra in ((placed, 0), (longer(), 2)):
        geometry = Geometry(program.region[region.id], Grid.of(program))
        steps = geometry.along_x if detour.along == "x" else geometry.along_y
        assert steps.hops[detour.row, detour.column] == len(detour.path) - 1 + extra
