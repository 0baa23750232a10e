"""Defect maps: drawn, checked, saved, asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wafercc.errors import TargetError
from wafercc.ir.program import EAST, NORTH, SOUTH, WEST
from wafercc.silicon import DefectMap
from wafercc.targets import load

MESH = load("mesh:6x4")


def test_a_dead_router_kills_its_core_and_its_links_and_a_dead_core_does_not() -> None:
    defects = DefectMap.of(MESH, cores=[(0, 1, 1)], routers=[(0, 3, 2)], links=[(0, 0, 0, EAST), (0, 5, 1, SOUTH)])
    alive = defects.alive()
    assert not alive.core[1, 1] and alive.router[1, 1]
    assert not alive.core[2, 3] and not alive.router[2, 3]
    dead_east = np.argwhere(~alive.east[:, :-1]).tolist()
    assert dead_east == [[0, 0], [2, 2], [2, 3]]
    assert np.argwhere(~alive.south[:-1]).tolist() == [[1, 3], [1, 5], [2, 3]]
    assert not alive.east[:, -1].any() and not alive.south[-1].any()
    west, north = defects.link_alive(WEST), defects.link_alive(NORTH)
    assert np.array_equal(west[:, 1:], alive.east[:, :-1]) and not west[:, 0].any()
    assert np.array_equal(north[1:], alive.south[:-1]) and not north[0].any()


def test_a_drawn_map_depends_on_seed_and_wafer_only() -> None:
    target = load("mesh:50x40")
    one = DefectMap.random(target, 0.05, 0.01, 0.01, seed=7)
    two = DefectMap.random(target, 0.05, 0.01, 0.01, seed=7, wafers=2)
    for kind in ("dead_cores", "dead_routers", "dead_links"):
        both = getattr(two, kind)
        assert np.array_equal(both[both[:, 0] == 0], getattr(one, kind))
        assert (both[:, 0] == 1).any()
    assert one != DefectMap.random(target, 0.05, 0.01, 0.01, seed=8)
    assert np.array_equal(one.dead_cores, DefectMap.random(target, 0.05, seed=7).dead_cores)


def test_a_higher_rate_only_adds_defects() -> None:
    low, high = (DefectMap.random("mesh:64x64", rate, seed=3).core_alive() for rate in (0.01, 0.05))
    assert not (high & ~low).any()
    assert low.sum() > high.sum()


def test_the_drawn_share_is_near_the_rate() -> None:
    defects = DefectMap.random("wse3", core_rate=0.001, router_rate=0.0002, link_rate=0.0001, seed=1)
    pes = load("wse3").pes
    assert abs(len(defects.dead_cores) / pes - 0.001) < 0.0001
    assert abs(len(defects.dead_routers) / pes - 0.0002) < 0.00005
    assert abs(len(defects.dead_links) / (2 * pes) - 0.0001) < 0.00003


def test_a_map_survives_its_file(tmp_path: Path) -> None:
    defects = DefectMap.random("mesh:30x20", 0.05, 0.02, 0.02, seed=2, wafers=2)
    defects.save(tmp_path / "map.json")
    back = DefectMap.load(tmp_path / "map.json")
    assert back == defects and back.hash() == defects.hash() and hash(back) == hash(defects)
    assert DefectMap.none("mesh:30x20").dead == 0


def test_the_order_of_rows_does_not_change_the_hash() -> None:
    rows = [(0, 3, 1), (0, 1, 2), (0, 1, 2)]
    assert DefectMap.of(MESH, cores=rows).hash() == DefectMap.of(MESH, cores=rows[:2][::-1]).hash()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a defect map"),
        ({"version": 9}, "defect map version 9; this version reads 1"),
        ({"width": 0}, "width is 0; it must be a whole number of at least 1"),
        ({"width": 10**9}, "larger than any target"),
        ({"view": "x-ray"}, "the view is 'x-ray'"),
        ({"dead_cores": [[0, 6, 0]]}, "row [0, 6, 0] lies outside 1 wafer(s) of 6x4"),
        ({"dead_cores": [[0, 1]]}, "its rows must have 3 whole numbers each"),
        ({"dead_cores": [[0, 1, 2], [0]]}, "its rows must have 3 whole numbers each"),
        ({"dead_cores": [[0, 1.5, 2]]}, "its rows must have 3 whole numbers each"),
        ({"dead_cores": "none"}, "its rows must have 3 whole numbers each"),
        ({"dead_links": [[0, 0, 0, WEST]]}, "has a direction other than 2 (east) and 4 (south)"),
    ],
)
def test_a_malformed_map_is_one_clear_error(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(DefectMap.none(MESH).to_dict() | change))
    with pytest.raises(TargetError) as caught:
        DefectMap.load(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_file_that_is_no_json_or_no_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"format": "wafercc-def')
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name, message in (("cut.json", "JSON"), ("bytes.json", "JSON"), ("none.json", "no such file")):
        with pytest.raises(TargetError, match=message):
            DefectMap.load(tmp_path / name)


def test_a_map_for_another_grid_or_view_is_refused_naming_both() -> None:
    defects = DefectMap.none("mesh:64x48")
    with pytest.raises(TargetError, match=r"64x48 grid, target mesh:48x64 has 48x64"):
        defects.check_for(load("mesh:48x64"))
    with pytest.raises(TargetError, match=r"logical view, target mesh:64x48 is physical"):
        defects.check_for(load("mesh:64x48", {"view": "physical"}))
    with pytest.raises(TargetError, match="describes 1 wafers, target mesh:64x48 has 2"):
        defects.check_for(load("mesh:64x48", {"wafers": 2}))
    defects.check_for(load("mesh:64x48"))


def test_a_rate_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(TargetError, match=r"router_rate is 1.5; it must lie in 0 .. 1"):
        DefectMap.random("mesh:4x4", router_rate=1.5)
    assert not DefectMap.random("mesh:4x4", core_rate=1.0).core_alive().any()
