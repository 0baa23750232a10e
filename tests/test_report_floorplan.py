"""The floorplan: everything of the program is on it, at its place, the same each time, and no text lies on another."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

import wafercc
from wafercc.cli.main import main
from wafercc.ir.block import Block, BlockName, Instance, RegionId
from wafercc.ir.layout import Mesh
from wafercc.ir.program import Detour, Fan, Lane, PlacedProgram, Rect, Region, SramPlan
from wafercc.models.tiny_llama import TinyLlama
from wafercc.program import Program
from wafercc.report import floorplan
from wafercc.report.bundles import bundles, corners
from wafercc.report.summary import as_dict
from wafercc.report.svg import Box, Canvas, fitted, number, text_width

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"
pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    llama = TinyLlama(layers=3, hidden=32, intermediate=48, vocabulary=64)
    path = tmp_path_factory.mktemp("floorplan") / "tiny.onnx"
    onnx.save(llama.onnx(), str(path))
    return wafercc.compile(path, target="mesh:32x32", inputs_like=llama.prompt(8), defect_rate=0.01)


def drawn(program: Program | PlacedProgram) -> ET.Element:
    return ET.fromstring(floorplan.svg_text(program))


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in root.iter() if element.get("class") == name]


def canvas_of(program: Program | PlacedProgram) -> Canvas:
    placed = program if isinstance(program, PlacedProgram) else program.placed
    return floorplan.draw(placed, as_dict(program))


def assert_readable(canvas: Canvas) -> None:
    """No text on another, and none cut off by the edge of the picture."""
    whole = Box(0, 0, canvas.width, canvas.height)
    assert canvas.labels
    assert [a for a in canvas.labels if not whole.holds(a)] == []
    assert [(a, b) for a, b in combinations(canvas.labels, 2) if a.grown(-0.5).overlaps(b)] == []


def on_wse3(placed: PlacedProgram) -> PlacedProgram:
    """The same program in the corner of a large wafer."""
    size = {"width": 755, "height": 1170}
    return dataclasses.replace(placed, target={**placed.target, **size}, defects={**placed.defects, **size})


def with_regions(placed: PlacedProgram, count: int, side: int) -> PlacedProgram:
    """As many square regions side by side, each with a stream to the next."""
    per_row = 32 // side
    grid = np.stack(np.meshgrid(np.arange(side, dtype=np.int32), np.arange(side, dtype=np.int32)))
    at = [(i % per_row * side, i // per_row * side) for i in range(count)]
    regions = tuple(
        Region(RegionId(f"r{i}"), Rect(0, x, y, side, side), grid[0] + np.int32(x), grid[1] + np.int32(y))
        for i, (x, y) in enumerate(at)
    )
    block = Block(BlockName("b"), Mesh.of([side], [side]), {}, (), (), (), ())
    instances = tuple(Instance(f"i{r.id}", block.name, r.id, {}, {}) for r in regions)
    moving = next(s for s in placed.streams if s.source and s.destination)
    streams = []
    for (x, y), a, b in zip(at, instances, instances[1:], strict=False):
        fan = Fan(a.region, "y", 0, side, 0, 0)
        path = np.array([[x + side - 1, y + 1], [x + side, y + 1]], np.int32)
        ends = {"source": (a.id, "x"), "destination": (b.id, "x")}
        streams.append(dataclasses.replace(moving, id=f"s{b.id}", lanes=(Lane(fan, fan, path, 1),), **ends))
    parts = {"regions": regions, "instances": instances, "streams": tuple(streams), "blocks": {"b": block}}
    return dataclasses.replace(placed, **parts, collectives=(), sram={r.id: SramPlan(1, 2, 3, 99) for r in regions})


def test_every_region_is_drawn_with_all_its_pes(program: Program) -> None:
    root = drawn(program)
    regions = of_class(root, "region")
    assert [g.get("id") for g in regions] == [f"region-{r.id}" for r in program.placed.regions]
    view = floorplan.view_of(program.placed, list(program.placed.regions), bundles(program.placed))
    for region in program.placed.regions:
        wide = [float(word.split("v")[0]) for word in floorplan.runs(view, region).split("h")[1:] if "v" in word]
        assert sum(wide) == pytest.approx(region.xs.size * view.scale, rel=0.01)


def test_a_detour_is_drawn_through_the_middle_of_its_routers(program: Program) -> None:
    assert of_class(drawn(program), "detours") == []
    path = np.array([[3, 4], [3, 5], [4, 5], [4, 4]], np.int32)
    region = dataclasses.replace(program.placed.regions[0], detours=(Detour("x", 0, 0, path),))
    view = floorplan.view_of(program.placed, [region], bundles(program.placed))
    points = floorplan.ways_around(view, region)[1:].split("L")
    middles = [view.at(x + 0.5, y + 0.5) for x, y in path.tolist()]
    assert [tuple(map(float, point.split())) for point in points] == [pytest.approx(at, abs=0.01) for at in middles]


def test_all_that_is_dead_is_drawn(program: Program) -> None:
    root, defects = drawn(program), program.placed.defects
    for kind in ("dead_cores", "dead_routers", "dead_links"):
        (marks,) = of_class(root, kind.replace("_", "-"))
        assert marks.get("data-count") == str(len(defects[kind]))
        assert (marks.get("d") or "").count("M") == len(defects[kind])
    assert defects["dead_cores"]


def test_every_lane_is_drawn_along_its_path(program: Program) -> None:
    lanes = [lane for stream in program.placed.streams for lane in stream.lanes]
    assert len(of_class(drawn(program), "lane")) == len(lanes)
    for lane in lanes:
        cells = corners(lane.path)
        steps = [abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in pairwise(cells)]
        assert sum(steps) == len(lane.path) - 1
        assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(cells))


def test_no_text_lies_on_another(program: Program) -> None:
    assert_readable(canvas_of(program))


@pytest.mark.parametrize(("count", "side"), [(1, 2), (4, 16), (16, 8), (60, 4), (100, 3)])
def test_no_text_lies_on_another_however_many_regions_there_are(program: Program, count: int, side: int) -> None:
    canvas = canvas_of(with_regions(program.placed, count, side))
    assert_readable(canvas)
    named = [part for part in canvas.parts if 'class="label"' in part]
    assert len(named) >= min(count, 20)


def test_a_program_in_a_corner_of_a_large_wafer_is_drawn_large_with_the_wafer_beside(program: Program) -> None:
    assert not of_class(drawn(program), "zoom")
    small = on_wse3(program.placed)
    assert len(of_class(drawn(small), "zoom")) == 1
    view = floorplan.view_of(small, list(small.regions), bundles(small))
    assert view.w <= 40 and view.h <= 40
    assert_readable(canvas_of(small))


def test_the_picture_of_one_program_is_the_same_bytes(program: Program) -> None:
    assert floorplan.svg_text(program) == floorplan.svg_text(program)


def test_a_program_that_cannot_be_timed_is_drawn_without_cycles(program: Program) -> None:
    broken = Program(dataclasses.replace(program.placed, order=program.placed.order[1:]))
    titles = [element.text or "" for element in drawn(broken).iter(f"{SVG}text")]
    assert any("regions on" in title for title in titles)
    assert not any(re.search(r"\d cycles", title) for title in titles)


def test_viz_writes_the_picture_where_asked(program: Program, tmp_path: Path) -> None:
    program.save(tmp_path / "tiny.wafer")
    assert main(["viz", str(tmp_path / "tiny.wafer")]) == 0
    assert (tmp_path / "tiny.svg").read_text(encoding="utf-8") == floorplan.svg_text(program)


def test_text_is_cut_to_the_room_it_has() -> None:
    assert fitted("embedding", 10, 1000) == "embedding"
    cut = fitted("embedding, layers 0–3, head", 10, 80)
    assert cut.endswith("…") and text_width(cut, 10) <= 80


def test_coordinates_are_short() -> None:
    assert [number(v) for v in (1.0, 1.239, -0.001, 0.5)] == ["1", "1.24", "0", "0.5"]


def test_the_picture_in_the_readme_is_of_the_demo(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``pytest --update-golden`` draws it anew; else only what it shows is checked, since solvers differ in detail."""
    from wafercc.models import demo

    picture = ROOT / "docs" / "floorplan.svg"
    if request.config.getoption("--update-golden"):
        monkeypatch.chdir(tmp_path)
        assert demo.main() == 0
        picture.write_bytes((tmp_path / "demo-out" / "floorplan.svg").read_bytes())
    root = ET.fromstring(picture.read_text(encoding="utf-8"))
    assert len(of_class(root, "region")) == TinyLlama().layers + 2
    assert f"on {demo.TARGET}" in (root.findtext(f"{SVG}title") or "")
    assert "docs/floorplan.svg" in (ROOT / "README.md").read_text(encoding="utf-8")
