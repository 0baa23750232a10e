"""The texts of stage products: what is printed parses back, over products drawn at random."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wafercc.errors import TextError
from wafercc.ir.block import InstanceId, RegionId
from wafercc.ir.dtypes import DType
from wafercc.ir.embedding import Embedding, RegionEmbedding, parse_embedding
from wafercc.ir.graph import TensorType, ValueName
from wafercc.ir.lines import Excerpt
from wafercc.ir.placement import Placement, PlacementReport, Shape, parse_placement
from wafercc.ir.program import Detour, EdgePort, Execute, Fan, Lane, Rect, Region, SramPlan, Stream, StreamId, Transfer
from wafercc.ir.routing import Budget, Routing
from wafercc.ir.schedule import Schedule, parse_schedule
from wafercc.passes.route.text import parse_routing, print_routing
from wafercc.targets import load

NAMES = st.text(min_size=1, max_size=12)
COUNTS = st.integers(0, 10**9)
SIZES = st.integers(1, 2000)
RECTS = st.builds(Rect, st.integers(0, 3), COUNTS, COUNTS, SIZES, SIZES)
SHAPES = st.builds(Shape, SIZES, SIZES, COUNTS)
CYCLES = st.integers(0, 10**6).map(lambda doubled: doubled / 2)
REPORTS = st.builds(PlacementReport, CYCLES, st.none() | CYCLES, CYCLES, st.sampled_from(["", "windows 2, optimal 1"]))
LAW = settings(max_examples=60, deadline=None, derandomize=True)


@LAW
@given(st.dictionaries(NAMES, st.tuples(RECTS, SHAPES), max_size=5), REPORTS, st.integers(0, 9), st.integers(0, 9))
def test_a_placement_reads_back(
    regions: dict[str, tuple[Rect, Shape]], report: PlacementReport, reach: int, detour_hops: int
) -> None:
    rects = {RegionId(name): rect for name, (rect, _) in regions.items()}
    shapes = {RegionId(name): shape for name, (_, shape) in regions.items()}
    placement = Placement(rects, shapes, report, reach, detour_hops)
    assert parse_placement(str(placement)) == placement


@st.composite
def detours(draw: st.DrawFn) -> Detour:
    """A path that walks about."""
    steps = draw(st.lists(st.sampled_from([(0, 1), (1, 0), (0, -1), (-1, 0)]), min_size=1, max_size=6))
    path = np.cumsum([(50, 50), *steps], axis=0).astype(np.int32)
    return Detour(draw(st.sampled_from(["x", "y"])), draw(COUNTS), draw(COUNTS), path)


@st.composite
def embeddings(draw: st.DrawFn) -> RegionEmbedding:
    """Rows and columns chosen in a rectangle, the columns of each row anew or as above."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    rect = Rect(0, draw(st.integers(0, 99)), draw(st.integers(0, 99)), columns + 4, rows + 3)
    chosen = sorted(draw(st.sets(st.integers(rect.y, rect.y + rect.h - 1), min_size=rows, max_size=rows)))
    lines: list[list[int]] = []
    for _ in range(rows):
        fresh = st.sets(st.integers(rect.x, rect.x + rect.w - 1), min_size=columns, max_size=columns).map(sorted)
        lines.append(draw(fresh | st.just(lines[-1])) if lines else draw(fresh))
    xs = np.array(lines, np.int32)
    xs, ys = np.array(lines, np.int32), np.repeat(np.array(chosen, np.int32)[:, None], columns, axis=1)
    return RegionEmbedding(rect, xs, ys, tuple(draw(st.lists(detours(), max_size=2))))


@LAW
@given(st.dictionaries(NAMES, embeddings(), max_size=3))
def test_an_embedding_reads_back(drawn: dict[str, RegionEmbedding]) -> None:
    embedding = Embedding({RegionId(name): each for name, each in drawn.items()})
    again = parse_embedding(str(embedding))
    assert list(again.regions) == list(embedding.regions)
    for name, each in embedding.regions.items():
        found = again.regions[name]
        assert found.rect == each.rect and found.xs.dtype == found.ys.dtype == np.int32
        assert np.array_equal(found.xs, each.xs) and np.array_equal(found.ys, each.ys)
        for mine, theirs in zip(found.detours, each.detours, strict=True):
            assert (mine.along, mine.row, mine.column) == (theirs.along, theirs.row, theirs.column)
            assert mine.path.dtype == np.int32 and np.array_equal(mine.path, theirs.path)


@LAW
@given(st.lists(NAMES, unique=True), st.lists(NAMES, unique=True), st.lists(st.tuples(*[COUNTS] * 4), max_size=4))
def test_a_schedule_reads_back(
    streams: list[str], instances: list[str], plans: list[tuple[int, int, int, int]]
) -> None:
    tasks = (*(Transfer(StreamId(s)) for s in streams), *(Execute(InstanceId(i)) for i in instances))
    schedule = Schedule(tasks, {RegionId(f"r{i}"): SramPlan(*plan) for i, plan in enumerate(plans)})
    assert parse_schedule(str(schedule)) == schedule


TARGET = load("mesh:64x64")
_GRID = np.indices((16, 16)).astype(np.int32)
REGIONS = {RegionId(n): Region(RegionId(n), Rect(0, 0, 0, 16, 16), _GRID[1], _GRID[0]) for n in ("r0", "r 1")}
PORTS = [EdgePort(0, int(x), int(y), int(side)) for side, x, y in TARGET.ports()]


@st.composite
def fans(draw: st.DrawFn) -> Fan:
    """A comb inside a region of 16 x 16."""
    lo, gate, last = sorted(draw(st.lists(st.integers(0, 15), min_size=3, max_size=3)))
    region, trunk = draw(st.sampled_from(list(REGIONS))), draw(st.integers(0, 15))
    return Fan(region, draw(st.sampled_from(["y", "x"])), lo, last + 1, trunk, gate)


@st.composite
def lanes(draw: st.DrawFn) -> Lane:
    """A path that walks about, and any ends."""
    at = (draw(st.integers(20, 40)), draw(st.integers(20, 40)))
    path = [at]
    steps = st.tuples(st.sampled_from([(0, 1), (1, 0), (0, -1), (-1, 0)]), st.integers(1, 4))
    for step, times in draw(st.lists(steps, max_size=5)):
        for _ in range(times):
            path.append((path[-1][0] + step[0], path[-1][1] + step[1]))
    if any(a == c for a, c in zip(path, path[2:], strict=False)):
        path = path[:1]  # it would turn back on itself
    ends = st.sampled_from(PORTS) | fans()
    share = draw(st.none() | st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(1, 99)))
    dim, lo, hi = (None, 0, 0) if share is None else (share[0], share[1], share[1] + share[2])
    return Lane(draw(ends), draw(ends), np.array(path, np.int32), draw(st.integers(0, 20)), dim, lo, hi)


def _same(a: Lane, b: Lane) -> bool:
    own = (a.source, a.destination, a.colour, a.dim, a.lo, a.hi)
    return own == (b.source, b.destination, b.colour, b.dim, b.lo, b.hi) and np.array_equal(a.path, b.path)


@LAW
@given(
    st.dictionaries(NAMES, st.lists(lanes(), max_size=3), max_size=4), st.lists(COUNTS, min_size=2, max_size=2), COUNTS
)
def test_a_routing_reads_back(drawn: dict[str, list[Lane]], local: list[int], yields: int) -> None:
    kind = TensorType(DType.F32, ())
    streams = tuple(Stream(StreamId(n), ValueName(n), kind, None, None, tuple(each)) for n, each in drawn.items())
    budget = {region: Budget(count, 1, 2) for region, count in zip(REGIONS, local, strict=True)}
    routing = Routing(streams, (), None, budget, 0, yields)  # type: ignore[arg-type]
    found = parse_routing(Excerpt(print_routing(routing)), [s.id for s in streams], REGIONS, TARGET)
    assert found.yields == yields and list(found.keep.items()) == list(zip(REGIONS, local, strict=True))
    assert list(found.lanes) == [s.id for s in streams]
    for stream in streams:
        assert len(found.lanes[stream.id]) == len(stream.lanes)
        assert all(_same(a, b) for a, b in zip(found.lanes[stream.id], stream.lanes, strict=True))


TEXT = """\
objective 51.0 baseline 56.0 bound 31.0 solver "windows 2"
reach 2 detours 4
region r0 8x8 at 9x8+0+2
"""


@LAW
@given(st.integers(0, len(TEXT)), st.integers(0, 6), st.text(alphabet='rgx+@#" 0123-', max_size=4))
def test_a_damaged_text_raises_nothing_but_an_error_of_its_line(at: int, removed: int, added: str) -> None:
    damaged = Excerpt(TEXT[:at] + added + TEXT[at + removed :], 7, "f.txt")
    try:
        parse_placement(damaged)
    except TextError as problem:
        assert problem.where.startswith("f.txt, line ")
