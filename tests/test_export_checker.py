"""The example checker of 200 lines, which knows only the exported form, and the verifier say the same of all programs.

They share no code and read different things: the verifier the program, the checker what the export made of it. So a
mistake in either, or in the export, shows as a program on which they differ.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import checker
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_random_programs import graphs
from test_verify import CHANGES, GOOD, certified, row
from test_verify_compiled import compiled
from tiny_models import CASES, program_of, tiny_file
from two_regions import H, two_regions

import wafercc
from wafercc.export import ARRAYS, DOCUMENT, export
from wafercc.importer import Imported, Source
from wafercc.ir.block import AllReduce, Compute, step_ins
from wafercc.ir.program import EdgePort, Execute, Fan, PlacedProgram, Rect, Stream, Transfer
from wafercc.passes.journal import Journal
from wafercc.passes.machine import find_machine
from wafercc.passes.options import Options
from wafercc.passes.pipeline import compile_graph
from wafercc.silicon import DefectMap
from wafercc.verify import dangling, verify

CHECKER = Path(checker.__file__)


def told(program: PlacedProgram, folder: Path) -> list[str]:
    """What the checker says of a program once it is exported."""
    export(program, folder / "e")
    return checker.check(folder / "e")


def test_the_checker_is_short_and_knows_nothing_of_wafercc() -> None:
    text = CHECKER.read_text("utf-8")
    assert len(text.splitlines()) <= 200
    tree = ast.walk(ast.parse(text))
    names = {a.name for node in tree if isinstance(node, ast.Import | ast.ImportFrom) for a in node.names}
    assert names == {"json", "sys", "Counter", "defaultdict", "Path", "numpy"}


def test_the_checker_runs_by_itself(tmp_path: Path) -> None:
    export(GOOD, tmp_path / "good")
    export(replace(GOOD, order=GOOD.order[1:]), tmp_path / "bad")
    for name, code, out in (("good", 0, "ok\n"), ("bad", 1, "transfer sx: 0 times\n")):
        words = [sys.executable, str(CHECKER), str(tmp_path / name)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == code and out in done.stdout, done.stderr


# --- good programs


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> list[PlacedProgram]:
    """A tiny decoder in two regions on meshes of which a tenth is dead, so that the regions have to bend."""
    model, target, rate = tiny_file(tmp_path_factory.mktemp("crowded")), "mesh:20x20", 0.1
    rates = {"core_rate": rate, "router_rate": rate / 5, "link_rate": rate / 5}
    maps = [DefectMap.random(target, **rates, seed=seed) for seed in range(4)]
    options = {"target": target, "shapes": {"input_ids": (1, 4)}, "region": (7, 7), "stages": 2}
    return [wafercc.compile(model, defects=map_, **options).placed for map_ in maps]


@pytest.mark.pipeline
@pytest.mark.parametrize("defective", [False, True], ids=["perfect", "defective"])
@pytest.mark.parametrize(("name", "case"), CASES)
def test_compiled_programs_pass(name: str, case: str, defective: bool, tmp_path: Path) -> None:
    assert told(program_of(name, case, defective).placed, tmp_path) == []


@pytest.mark.pipeline
@pytest.mark.parametrize(("name", "seed"), [("llama-dyn18past", 1), ("gpt2-ts17past", 2)])
def test_programs_for_every_length_of_the_cache_pass(name: str, seed: int, tmp_path: Path) -> None:
    assert told(compiled(name, rate=0.002, seed=seed), tmp_path) == []


@pytest.mark.pipeline
def test_programs_in_regions_that_bend_pass(crowded: list[PlacedProgram], tmp_path: Path) -> None:
    bent = [r for program in crowded for r in program.regions if r.detours or (np.diff(r.xs, axis=0) != 0).any()]
    assert bent, "no region jogs or makes detours"
    assert any(net.classes > 1 for program in crowded for net in program.collectives)
    for program in crowded:
        assert verify(program) == ()
        assert told(program, tmp_path) == []


def in_place() -> PlacedProgram:
    """The program made by hand with a second instance in region b, which takes the first one's result where it is."""
    second = replace(GOOD.instances[1], id="ic", bindings={"h": "y", "y": "z"})
    stays = Stream("in place", "y", H, ("ib", "y"), ("ic", "h"), ())
    out = Stream("out", "z", H, ("ic", "y"), None, GOOD.streams[2].lanes)
    return certified(
        replace(
            GOOD,
            instances=(*GOOD.instances, second),
            streams=(*GOOD.streams, stays, out),
            order=(*GOOD.order, Transfer("in place"), Execute("ic"), Transfer("out")),
            outputs={"y": H, "z": H},
        )
    )


def test_programs_made_by_hand_pass(tmp_path: Path) -> None:
    for program in (two_regions(), in_place()):
        assert verify(program) == ()
        assert told(program, tmp_path) == []


def test_a_value_that_stays_where_it_is_must_be_held_alike(tmp_path: Path) -> None:
    streams = (*GOOD.streams[:1], replace(GOOD.streams[1], lanes=()), *GOOD.streams[2:])
    found = told(replace(GOOD, streams=streams), tmp_path)
    assert "stream sh: has no lanes, and its ends do not hold it in one place" in found


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs(), st.sampled_from([None, (2, 3), (5, 4), (9, 16)]), st.integers(1, 3), st.integers(0, 3))
def test_random_programs_pass(made: Any, region: tuple[int, int] | None, stages: int, seed: int) -> None:
    graph, weights, _ = made
    stages = min(stages, len(graph.ops))
    options = Options(
        target="mesh:36x30",
        region=region,
        stages=stages if region else None,
        defect_rate=0.02 if seed else 0.0,
        defect_seed=seed,
    )
    imported = Imported(graph, weights, (), Source("random.onnx", "test", {}, "", len(graph.ops)))
    try:
        program = compile_graph(imported, Journal(options, find_machine(options)))
    except wafercc.CompileError:
        return
    with TemporaryDirectory() as folder:
        assert told(program, Path(folder)) == []


# --- everything that is changed in the program made by hand, in the verifier's own table


# What the checker cannot see, by the verifier's message, and why.
MEANING = "what an op computes is not in the export's form: only that words move as announced"
HARMLESS = "nothing that runs depends on it"
UNSEEN = {
    "block b, step neg: reads h, which nothing before it writes": "the stream still brings h, as a value of the block",
    "op m.mm (matmul): phase whole writes part, which owes x0": MEANING,
    "op m.mm (matmul): reduces over x0 but runs in one phase": MEANING,
    "part owes nothing; its operands are cut over x0": MEANING,
    "block a, step sum: combines max over x0, but part is": MEANING,
    "block a, step sum: names an axis twice: x0 x0": "an axis named twice makes the same lines",
    "tiles hold float16": "the checker compares the tiles' shapes, and their bytes are not exported by default",
    "stream sx (x): is marked as a cache, but the program names no such cache": HARMLESS,
    "colour 5 W to E at PE (0, 0) stands in more switch positions than nets ask for": HARMLESS,
    "router table: PE (0, 0) with a net without a name": HARMLESS,
    "defect map: its view is logical, the target's is physical": "the export has one map of what is alive",
    "defect map: dead core (8, 0) outside 8x3": "the export has one map of what is alive",
    "defect map: dead core (7, 2) on wafer 1; there are 1": "the export has one map of what is alive",
    "defect map: dead link (7, 2) has direction 0; those of a map are 2": "the export has one map of what is alive",
}


@pytest.mark.parametrize(("change", "message"), [c[1:] for c in CHANGES], ids=[c[2][:60] for c in CHANGES])
def test_what_the_verifier_refuses_the_checker_refuses(
    change: Callable[[], PlacedProgram], message: str, tmp_path: Path
) -> None:
    """Programs that cannot be exported are refused before. A new row that the checker cannot see belongs in UNSEEN."""
    program = change()
    if dangling(program):
        with pytest.raises(wafercc.VerifyError):
            wafercc.Program(program).export(tmp_path / "e")
        return
    assert bool(told(program, tmp_path)) == (message not in UNSEEN), message


@pytest.mark.parametrize("column", ["x", "y", "colour", "position", "ins", "outs", "wafer"])
def test_no_row_of_the_router_table_can_change(column: str, tmp_path: Path) -> None:
    for index in range(0, len(GOOD.routers.x), 4):
        before = int(getattr(GOOD.routers, column)[index])
        assert told(row(index, **{column: before ^ 1}), tmp_path), (index, column)


def test_what_the_checker_cannot_see_are_rows_of_the_verifiers_table() -> None:
    assert UNSEEN.keys() <= {message for *_, message in CHANGES}


# --- a compiled program, changed in one place


BASE = ("llama-dyn18past", "mesh:48x48", 0.002, 1)


def base() -> PlacedProgram:
    return compiled(*BASE)


def with_region(index: int, **changes: Any) -> PlacedProgram:
    regions = list(base().regions)
    regions[index] = replace(regions[index], **changes)
    return replace(base(), regions=tuple(regions))


def with_dead(kind: str, *row: int) -> PlacedProgram:
    defects = {**base().defects, kind: [*base().defects[kind], list(row)]}
    return replace(base(), defects=defects)


def between() -> int:
    """The index of a stream between regions, of several lanes that pass routers outside both."""
    found = (
        i
        for i, s in enumerate(base().streams)
        if s.source and s.destination and len(s.lanes) > 1 and len(s.lanes[0].path) > 2
    )
    return next(found)


def with_lanes(*lanes: Any) -> PlacedProgram:
    streams = list(base().streams)
    streams[between()] = replace(streams[between()], lanes=lanes)
    return replace(base(), streams=tuple(streams))


def with_lane(**changes: Any) -> PlacedProgram:
    first, *rest = base().streams[between()].lanes
    return with_lanes(replace(first, **changes), *rest)


def with_row(index: int, **columns: int) -> PlacedProgram:
    table = base().routers
    changed = {name: getattr(table, name).copy() for name in columns}
    for name, value in columns.items():
        changed[name][index] = value
    return replace(base(), routers=replace(table, **changed))


def doubled_at_the_fifth_position() -> PlacedProgram:
    """Rows of one router and colour until there are five, all of them different."""
    table = base().routers
    i = int(np.flatnonzero(table.position == 0)[7])
    same = (table.x == table.x[i]) & (table.y == table.y[i]) & (table.colour == table.colour[i])
    last, count = int(np.flatnonzero(same)[-1]), int(same.sum())
    more: dict[str, Any] = {f.name: getattr(table, f.name) for f in fields(table)}
    for k in range(count, 5):
        for name in more.keys() - {"nets"}:
            value = {"position": k, "ins": 1 + k}.get(name, more[name][last])
            more[name] = np.insert(more[name], last + 1 + k - count, value)
    return replace(base(), routers=replace(table, **more))


def on_a_local_colour() -> PlacedProgram:
    """A lane on the colour of a collective of the region it ends in."""
    lane = base().streams[between()].lanes[0]
    assert isinstance(lane.destination, Fan)
    taken = next(net.colours[0] for net in base().collectives if net.region == lane.destination.region)
    return with_lane(colour=taken)


def with_tiles(change: Callable[[np.ndarray], np.ndarray]) -> PlacedProgram:
    """The tiles of a weight that is cut along columns."""
    key, axis = next(
        (key, weight.mesh.position("x0"))
        for key, weight in sorted(base().weights.items())
        if "x0" in weight.tiled.layout.cut_axes
    )
    tiles = np.moveaxis(change(np.moveaxis(base().weights[key].tiles, axis, 0)), 0, axis)
    return replace(base(), weights={**base().weights, key: replace(base().weights[key], tiles=tiles)})


def over_the_bound_in_one_step() -> PlacedProgram:
    """The bound one byte below what the fullest region holds at its peak, so that all other points fit."""
    most = max(plan.total_bytes for plan in base().sram.values())
    pe = {**base().target["pe"], "sram_bytes": most - 1 + base().target["pe"]["reserved_bytes"]}
    sram = {r: replace(plan, bound_bytes=most - 1) for r, plan in base().sram.items()}
    return replace(base(), target={**base().target, "pe": pe}, sram=sram)


def steps_of(name: str, change: Callable[[list[Any]], list[Any]]) -> PlacedProgram:
    block = base().blocks[name]
    return replace(base(), blocks={**base().blocks, name: replace(block, steps=tuple(change([*block.steps])))})


def reads_before_it_writes() -> PlacedProgram:
    """The first two steps of which one reads what the other writes change places."""

    def swapped(steps: list[Any]) -> list[Any]:
        i = next(i for i in range(len(steps) - 1) if set(step_ins(steps[i + 1])) & set(steps[i].outs))
        return [*steps[:i], steps[i + 1], steps[i], *steps[i + 2 :]]

    return steps_of("b1", swapped)


def other_root() -> PlacedProgram:
    def moved(steps: list[Any]) -> list[Any]:
        i = next(i for i, step in enumerate(steps) if isinstance(step, AllReduce))
        return [*steps[:i], replace(steps[i], root=steps[i].root + 1), *steps[i + 1 :]]

    return steps_of("b1", moved)


def altered_replica() -> PlacedProgram:
    weight = next(key for key, w in sorted(base().weights.items()) if w.tiles is not None)
    return replace(
        base(), weights={**base().weights, weight: replace(base().weights[weight], tiles=-base().weights[weight].tiles)}
    )


def at(region: int, row: int, column: int) -> tuple[int, int]:
    where = base().regions[region]
    return int(where.xs[row, column]), int(where.ys[row, column])


def middle() -> tuple[int, int]:
    """A router in the middle of a lane's path."""
    path = base().streams[between()].lanes[0].path
    return int(path[len(path) // 2][0]), int(path[len(path) // 2][1])


def gap() -> PlacedProgram:
    path = base().streams[between()].lanes[0].path
    return with_lane(path=np.delete(path, len(path) // 2, axis=0))


def moved_onto_its_neighbour() -> PlacedProgram:
    rect = base().regions[1].rect
    return with_region(2, rect=Rect(rect.wafer, rect.x, rect.y, rect.w, rect.h))


def order(change: Callable[[list[Any]], list[Any]]) -> PlacedProgram:
    return replace(base(), order=tuple(change([*base().order])))


def port_in_the_middle() -> PlacedProgram:
    index = next(i for i, s in enumerate(base().streams) if s.source is None)
    streams = list(base().streams)
    port = streams[index].lanes[0].source
    assert isinstance(port, EdgePort)
    lane = replace(streams[index].lanes[0], source=replace(port, side=2 if port.side == 8 else 8))
    streams[index] = replace(streams[index], lanes=(lane, *streams[index].lanes[1:]))
    return replace(base(), streams=tuple(streams))


def no_finish() -> PlacedProgram:
    """A block that leaves out its last kernel."""
    last = max(i for i, step in enumerate(base().blocks["b1"].steps) if isinstance(step, Compute))
    return steps_of("b1", lambda steps: [*steps[:last], *steps[last + 1 :]])


def shorter(fan: Fan | EdgePort) -> Fan:
    assert isinstance(fan, Fan)
    return replace(fan, hi=fan.hi - 1) if fan.gate < fan.hi - 1 else replace(fan, lo=fan.lo + 1)


def other_weight() -> PlacedProgram:
    last = base().instances[-1]
    param = next(iter(last.weights))
    key = next(k for k, w in base().weights.items() if w.tiled != base().weights[last.weights[param]].tiled)
    changed = replace(last, weights={**last.weights, param: key})
    return replace(base(), instances=(*base().instances[:-1], changed))


def late(tasks: list[Any]) -> list[Any]:
    task = Transfer(base().streams[between()].id)
    return [*(t for t in tasks if t != task), task]


def early(tasks: list[Any]) -> list[Any]:
    task = Transfer(base().streams[between()].id)
    first = next(i for i, t in enumerate(tasks) if isinstance(t, Execute))
    rest = [t for t in tasks if t != task]
    return [*rest[:first], task, *rest[first:]]


MUTATIONS: dict[str, tuple[Callable[[], PlacedProgram], str]] = {
    "two regions overlap": (moved_onto_its_neighbour, "region r2: overlaps region r1"),
    "a tile on a dead core": (lambda: with_dead("dead_cores", 0, *at(1, 3, 4)), "is dead, yet holds tiles"),
    "a path through a dead router": (lambda: with_dead("dead_routers", 0, *middle()), "it passes a dead router"),
    "a path through a dead link": (lambda: with_dead("dead_links", 0, *at(1, 2, 2), 2), "it crosses a dead link"),
    "a path with a gap": (gap, "its words meet no hop behind a link"),
    "a fifth switch position": (doubled_at_the_fifth_position, "router table: position 4 of 4"),
    "two nets on one colour": (on_a_local_colour, "configure a router differently"),
    "a colour out of range": (lambda: with_lane(colour=21), "its colour is out of range"),
    "a missing slice of a stream": (
        lambda: with_lanes(*base().streams[between()].lanes[1:]),
        "its lanes do not carry every element once",
    ),
    "a slice carried twice": (lambda: with_lane(hi=base().streams[between()].lanes[0].hi + 1), "every element once"),
    "a tooth missing from a comb": (
        lambda: with_lane(destination=shorter(base().streams[between()].lanes[0].destination)),
        "a lane misses PEs of region",
    ),
    "a weight tile missing": (lambda: with_tiles(lambda tiles: tiles[:-1]), "are stored, its PEs hold"),
    "a weight tile doubled": (lambda: with_tiles(lambda t: np.concatenate([t, t[:1]])), "are stored, its PEs hold"),
    "a replica altered": (altered_replica, ""),
    "a parameter bound to another weight": (other_weight, "is not bound to a weight of its layout"),
    "SRAM over the bound in one step only": (over_the_bound_in_one_step, "bytes"),
    "a step that reads before it is written": (reads_before_it_writes, "before it is written"),
    "a step left out": (no_finish, "before it is written"),
    "a collective without its net": (other_root, "lacks a net"),
    "a stream served after its reader": (lambda: order(late), "before it is written"),
    "a stream served before its source": (lambda: order(early), "before it is written"),
    "a task served twice": (lambda: order(lambda tasks: [*tasks, tasks[-1]]), ": 2 times"),
    "a task never served": (lambda: order(lambda tasks: tasks[:-1]), ": 0 times"),
    "an input from no edge": (port_in_the_middle, "no hop sends the words it takes"),
    "a row of the router table altered": (lambda: with_row(100, outs=31), "router table: not what nets ask for"),
    "rows of the router table in another order": (lambda: with_row(100, position=3), "positions not counted from 0"),
}


@pytest.mark.pipeline
@pytest.mark.parametrize("name", MUTATIONS)
def test_checker_and_verifier_agree_on_a_compiled_program_changed_in_one_place(name: str, tmp_path: Path) -> None:
    change, message = MUTATIONS[name]
    program = change()
    found = told(program, tmp_path)
    assert bool(found) == bool(verify(program)), found
    assert any(message in text for text in found) or (not message and not found), found


@pytest.mark.pipeline
def test_an_altered_replica_shows_in_the_hash_of_the_weight(tmp_path: Path) -> None:
    """Neither checker nor verifier knows what a weight should be; two exports tell which one differs."""
    export(base(), tmp_path / "a")
    export(altered_replica(), tmp_path / "b")
    before, after = (json.loads((tmp_path / n / DOCUMENT).read_text("utf-8"))["weights"] for n in ("a", "b"))
    assert [key for key in before if before[key]["stored"] != after[key]["stored"]] == [sorted(base().weights)[0]]


# --- an export changed in one place: what no program can make wrong, since it follows by rule


WEIGHT = ("weights", "w", "tensor")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((*WEIGHT, "cuts", 0, "elements"), "weight w: its tiles do not hold every element once"),
        ((*WEIGHT, "copy"), "weight w: two PEs hold one tile of one copy"),
        (("weights", "w", "tile"), "weight w: two PEs hold one tile of one copy"),
        (("hops", "order"), "its words meet no hop behind a link"),
        (("hops", "line"), "its words meet no hop behind a link"),
        (("hops", "net"), "no hop sends the words it takes"),
        (("hops", "x"), "router table: not what nets ask for"),
        (("routers", "y"), "router table: rows out of order"),
        (("regions", "a", "pe_x"), "region a: two of its PEs are one core"),
        (("regions", "b", "pe_y"), "stream sh: a lane misses PEs of region b at its destination"),
    ],
    ids=str,
)
def test_an_altered_array_is_noticed(place: tuple[str | int, ...], message: str, tmp_path: Path) -> None:
    """The first number of each is one too large."""
    export(two_regions(), tmp_path / "e")
    name: Any = json.loads((tmp_path / "e" / DOCUMENT).read_text("utf-8"))
    for key in place:
        name = name[key]
    with np.load(tmp_path / "e" / ARRAYS) as file:
        arrays = {name: file[name].astype(np.int64) for name in file.files}
    arrays[name].ravel()[0] += 1
    np.savez(tmp_path / "e" / ARRAYS, **arrays)
    found = checker.check(tmp_path / "e")
    assert any(message in text for text in found), found
