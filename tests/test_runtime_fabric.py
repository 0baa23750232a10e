"""The fabric's arrays against slow walks: words one by one along a line, combs PE by PE, steps link by link."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wafercc.ir.block import ReduceAlgorithm, RegionId
from wafercc.ir.layout import AxisName, Mesh
from wafercc.ir.program import EAST, NORTH, SOUTH, WEST, Detour, Fan, Rect, Region
from wafercc.runtime.fabric import Collectives, Links, Message
from wafercc.runtime.geometry import Geometry, Grid
from wafercc.runtime.machine import Machine
from wafercc.runtime.tape import Label, Tape, Times
from wafercc.targets import load

MACHINE = Machine(load("mesh:16x16"))
RAMP, HOP = MACHINE.ramp, MACHINE.hop
LABEL = Label("collective", "test")


# --- words one by one


@dataclass
class Line:
    """PEs at these columns of one row, ready at these times; links between them busy until these."""

    columns: list[int]
    ready: list[int]
    right: list[int]  # of the link that leaves column x to the right
    left: list[int]


@st.composite
def lines(draw: st.DrawFn) -> Line:
    count = draw(st.integers(1, 7))
    columns = np.cumsum(draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))).tolist()
    times = st.integers(0, 60)
    links = st.lists(st.sampled_from([0, 0, 0, 15, 40]), min_size=columns[-1] + 1, max_size=columns[-1] + 1)
    ready = draw(st.lists(times, min_size=count, max_size=count))
    return Line(columns, ready, draw(links), draw(links))


def arm(line: Line, pes: list[int], root: int, words: int) -> list[int]:
    """When each word of an arm is in the root's core; ``pes`` from its end to the root's neighbour."""
    came: list[int] = []
    for pe, nearer in zip(pes, [*pes[1:], root], strict=True):
        sent: list[int] = []
        for w in range(words):
            own = line.ready[pe] if not came else max(line.ready[pe], came[w]) + 1
            sent.append(max(own, sent[-1] + 1 if sent else 0))
        between = range(*sorted((line.columns[pe], line.columns[nearer])))
        busy = max([line.right[x] if nearer > pe else line.left[x + 1] for x in between])
        hops = abs(line.columns[pe] - line.columns[nearer])
        entered: list[int] = []
        for time in sent:
            entered.append(max(time + RAMP, busy, entered[-1] + 1 if entered else 0))
        came = [time + hops * HOP + RAMP for time in entered]
    return came


def reduced(line: Line, root: int, words: int) -> int:
    """When the root has added its last word: the arm before it first."""
    done = line.ready[root]
    for pes in (list(range(root)), list(range(len(line.columns) - 1, root, -1))):
        if pes:
            came = arm(line, pes, root, words)
            added: list[int] = []
            for w in range(words):
                added.append(max(done + 1, came[w] + 1, added[-1] + 1 if added else 0))
            done = added[-1] + 1
    return done


def on_fabric(line: Line) -> tuple[Collectives, Geometry, Mesh]:
    """The same line with its busy links, in the runtime's arrays."""
    mesh = Mesh.of([1], [len(line.columns)])
    xs = np.array([line.columns], np.int32)
    where = Region(RegionId("r"), Rect(0, line.columns[0], 0, line.columns[-1], 1), xs, np.zeros_like(xs))
    grid, tape = Grid(line.columns[-1] + 1, 1, 1), Tape(False)
    links = Links(grid, tape)
    x = np.arange(line.columns[-1] + 1)
    for side, busy in ((EAST, line.right), (WEST, line.left)):
        links.hold(grid.link(0, x, np.zeros_like(x), side), Times(np.array(busy)))
    return Collectives(MACHINE, links, tape), Geometry(where, grid), mesh


@settings(max_examples=200, deadline=None)
@given(lines(), st.data(), st.integers(1, 5))
def test_a_chain_takes_as_long_as_its_words_one_by_one(line: Line, data: st.DataObject, words: int) -> None:
    root = data.draw(st.integers(0, len(line.columns) - 1))
    collectives, geometry, mesh = on_fabric(line)
    found = geometry.lines((AxisName("x0"),), mesh)
    message = Message(np.array([words]), 1, np.array([words]))
    done, free = collectives.all_reduce(
        Times(np.array(line.ready)[:, None]), found, message, (ReduceAlgorithm.CHAIN, root, 0), LABEL
    )
    assert done.cycle[root, 0] == reduced(line, root, words)
    assert (free.cycle[:, 0] >= line.ready).all()
    assert (done.cycle[:, 0] >= done.cycle[root, 0]).all()


@settings(max_examples=100, deadline=None)
@given(lines(), st.data(), st.sampled_from(ReduceAlgorithm), st.integers(1, 5), st.integers(1, 20))
def test_delaying_any_pe_never_brings_a_result_sooner(
    line: Line, data: st.DataObject, algorithm: ReduceAlgorithm, words: int, delay: int
) -> None:
    count = len(line.columns)
    root, slow = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, count - 1))
    how = (algorithm, root, data.draw(st.integers(1, count)))
    results: list[Times] = []
    for extra in (0, delay):
        collectives, geometry, mesh = on_fabric(line)
        ready = np.array(line.ready)[:, None]
        ready[slow] += extra
        found = geometry.lines((AxisName("x0"),), mesh)
        message = Message(np.array([words]), 1, np.array([words]))
        results.append(collectives.all_reduce(Times(ready), found, message, how, LABEL)[0])
    moved = results[1].cycle - results[0].cycle
    assert (moved >= 0).all() and (moved <= delay).all()


def test_a_second_message_on_a_line_waits_for_its_links() -> None:
    line = Line([0, 1], [0, 0], [0, 0], [0, 0])
    collectives, geometry, mesh = on_fabric(line)
    found = geometry.lines((AxisName("x0"),), mesh)
    message = Message(np.array([10]), 1, np.array([10]))
    how = (ReduceAlgorithm.CHAIN, 0, 0)
    start = collectives.tape.zeros((2, 1))
    ends = [int(collectives.all_reduce(start, found, message, how, LABEL)[0].cycle[0, 0]) for _ in range(2)]
    # Sent at 0, on the link from 2 to 12, in the core at 5, added 6 to 16; the next ten words enter at 12.
    assert ends == [16, 26]


# --- where PEs and links are


def jogged() -> Region:
    """Rows that dodge a dead core in the first and one in the third: columns do not stand straight."""
    xs = np.array([[1, 2, 4], [2, 3, 4], [1, 3, 5]], np.int32)
    ys = np.array([[0, 0, 0], [1, 1, 1], [3, 3, 3]], np.int32)
    return Region(RegionId("r"), Rect(0, 1, 0, 5, 4), xs, ys)


def detoured() -> Region:
    """The same with detours: between two row neighbours, two column neighbours, and the other bend of a jog."""
    paths: tuple[tuple[Literal["x", "y"], int, int, list[list[int]]], ...] = (
        ("x", 1, 1, [[3, 1], [3, 2], [4, 2], [4, 1]]),
        ("y", 1, 0, [[2, 1], [1, 1], [1, 2], [1, 3]]),
        ("y", 1, 2, [[4, 1], [5, 1], [6, 1], [6, 2], [5, 2], [5, 3]]),
    )
    found = tuple(Detour(along, p, q, np.array(path, np.int32)) for along, p, q, path in paths)
    return replace(jogged(), detours=found)


GRID = Grid(7, 5, 1)


def walk(a: tuple[int, int], b: tuple[int, int]) -> list[tuple[int, int]]:
    """Routers from a to b: down a's column, then along b's row."""
    path = [a]
    while path[-1][1] != b[1]:
        path.append((path[-1][0], path[-1][1] + int(np.sign(b[1] - path[-1][1]))))
    while path[-1][0] != b[0]:
        path.append((path[-1][0] + int(np.sign(b[0] - path[-1][0])), path[-1][1]))
    return path


def step_path(region: Region, a: tuple[int, int], b: tuple[int, int]) -> list[tuple[int, int]]:
    """Routers between two logical neighbours, whichever way."""
    along = "x" if a[0] == b[0] else "y"
    for detour in region.detours:
        if (detour.along, detour.row, detour.column) == (along, *min(a, b)):
            path = [(int(x), int(y)) for x, y in detour.path]
            return path if a < b else path[::-1]
    at = {pe: (int(region.xs[pe]), int(region.ys[pe])) for pe in (a, b)}
    return walk(at[a], at[b]) if a < b else walk(at[b], at[a])[::-1]


def links_of(path: list[tuple[int, int]]) -> list[int]:
    found: list[int] = []
    for (x, y), (u, v) in pairwise(path):
        side = EAST if u > x else WEST if u < x else SOUTH if v > y else NORTH
        found.append(int(GRID.link(0, np.array(x), np.array(y), side)))
    return found


def comb_path(region: Region, fan: Fan, pe: tuple[int, int]) -> list[tuple[int, int]]:
    """Routers from a PE along its tooth to the trunk and along the trunk to the gate."""
    p, q = pe
    along, down = (q, p) if fan.along == "y" else (p, q)
    stops = [(down, a) for a in range(along, fan.trunk, int(np.sign(fan.trunk - along)) or 1)]
    stops += [(d, fan.trunk) for d in range(down, fan.gate, int(np.sign(fan.gate - down)) or 1)]
    stops.append((fan.gate, fan.trunk))
    pes = stops if fan.along == "y" else [(q, p) for p, q in stops]
    path = [(int(region.xs[pes[0]]), int(region.ys[pes[0]]))]
    for a, b in pairwise(pes):
        path += step_path(region, a, b)[1:]
    return path


@pytest.mark.parametrize("region", [jogged(), detoured()], ids=["jogged", "detoured"])
@pytest.mark.parametrize("inwards", [True, False])
@pytest.mark.parametrize("along", ["y", "x"])
@pytest.mark.parametrize("trunk", [0, 1, 2])
@pytest.mark.parametrize("gate", [0, 1, 2])
def test_a_comb_is_the_paths_of_its_pes(region: Region, inwards: bool, along: str, trunk: int, gate: int) -> None:
    geometry = Geometry(region, GRID)
    fan = Fan(region.id, "y" if along == "y" else "x", 0, 3, trunk, gate)
    users = np.random.default_rng(trunk * 3 + gate).random((3, 3)) < 0.5
    comb = geometry.comb(fan, users, inwards)
    wanted: set[int] = set()
    for pe in np.ndindex(3, 3):
        path = comb_path(region, fan, (int(pe[0]), int(pe[1])))
        assert comb.distance[pe] == len(path) - 1
        if users[pe]:
            wanted |= set(links_of(path if inwards else path[::-1]))
    assert set(comb.links.tolist()) == wanted


@pytest.mark.parametrize("region", [jogged(), detoured()], ids=["jogged", "detoured"])
def test_steps_between_column_neighbours_go_down_then_along_or_by_their_detour(region: Region) -> None:
    geometry = Geometry(region, GRID)
    steps = geometry.along_y
    for p in range(2):
        for q in range(3):
            path = step_path(region, (p, q), (p + 1, q))
            assert steps.hops[p, q] == len(path) - 1
            assert [i for i in steps.forward[:, p, q].tolist() if i] == links_of(path)
            assert sorted(i for i in steps.backward[:, p, q].tolist() if i) == sorted(links_of(path[::-1]))


def test_lines_of_a_major_axis_stride_over_those_of_the_minor() -> None:
    mesh = Mesh.of([1], [2, 3])
    xs = np.arange(6, dtype=np.int32)[None]
    geometry = Geometry(Region(RegionId("r"), Rect(0, 0, 0, 6, 1), xs, np.zeros_like(xs)), GRID)
    major, minor = (geometry.lines((AxisName(a),), mesh) for a in ("x0", "x1"))
    assert major.place.tolist() == [[0, 1, 2], [3, 4, 5]] and major.hops.tolist() == [[3, 3, 3]] and major.share == 3
    assert minor.place.tolist() == [[0, 3], [1, 4], [2, 5]] and minor.hops.tolist() == [[1, 1], [1, 1]]
    times = Times(np.arange(6)[None])
    assert np.array_equal(minor.scatter(minor.gather(times)).cycle, times.cycle)
