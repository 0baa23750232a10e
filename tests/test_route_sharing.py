"""Routing under pressure: streams that are over before others begin share colours; the rest bargain, or are refused."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_route_walker import STEP, World, check, tiled

from wafercc.errors import CannotRoute, CompileError, DoesNotFit
from wafercc.ir.block import AllReduce, Block, BlockName, InstanceId, LocalName, Narrow, ReduceAlgorithm, Step, StepId
from wafercc.ir.layout import AxisName, Mesh, Tiled
from wafercc.ir.loops import Combine
from wafercc.ir.placement import PlaceRequest, RegionRequest, Shape
from wafercc.ir.program import EAST, NORTH, SOUTH, WEST, PlacedProgram, RouterTable, Stream
from wafercc.ir.routing import Routing
from wafercc.passes.place import Place
from wafercc.passes.room import MARGINS, with_room
from wafercc.passes.route.precedence import before
from wafercc.passes.route.sweep import WALL, spread, walk
from wafercc.passes.route.text import print_routing
from wafercc.silicon import DefectMap
from wafercc.targets import Target, load
from wafercc.verify.happens import stream_order
from wafercc.verify.machine import Machine
from wafercc.verify.routers import check_routers
from wafercc.verify.streams import check_lanes

WHOLE = "(-,-)"


def fabric(size: str, colours: int) -> Target:
    return load(f"mesh:{size}", {"router.colours": str(colours)})


def along(axis: str, value: str, result: str) -> AllReduce:
    names = (LocalName(value),), (LocalName(result),), (AxisName(axis),)
    return AllReduce(StepId(f"{result} over {axis}"), *names, Combine.SUM, ReduceAlgorithm.CHAIN, 0)


def narrow(value: str, result: str) -> Narrow:
    return Narrow(StepId(f"{result}"), LocalName(value), LocalName(result))


BARRIER: list[Step] = [narrow("v", "a"), along("x0", "a", "b"), along("y0", "b", "c"), narrow("c", "w")]


def stage(world: World, x: int, y: int, steps: list[Step], layout: str = WHOLE, rows: int = 4) -> InstanceId:
    """A region of ``rows`` x 4 that reads v and writes w by these steps."""
    values: dict[str, Tiled] = {name: tiled((8, 8), layout if name in "vw" else WHOLE) for name in "vabcw"}
    instance = world.box(x, y, Mesh.of([rows], [4]), values, steps)
    name = world.instances[-1].block
    world.blocks[name] = replace(world.blocks[name], inputs=(LocalName("v"),), outputs=(LocalName("w"),))
    return instance


def chain(colours: int, steps: list[Step], count: int = 3) -> World:
    """Stages side by side that fill a mesh of four rows, each handing w on as v."""
    world = World(fabric(f"{4 * count}x4", colours))
    stages = [stage(world, 4 * i, 0, steps) for i in range(count)]
    for a, b in itertools.pairwise(stages):
        world.stream(a, b, "w", "v")
    return world


def placed(world: World, routing: Routing) -> PlacedProgram:
    """A program of what routing needs and gives, for the verifier's rules of streams and routers."""
    return PlacedProgram(
        "by hand", world.target.to_dict(), world.defects.to_dict(), {}, {}, {}, {}, {}, 0, {}, tuple(world.regions),
        world.blocks, tuple(world.instances), routing.streams, routing.collectives, routing.routers, (), {}, {},
    )  # fmt: skip


def violations(program: PlacedProgram) -> list[str]:
    machine = Machine.of(program.target, program.defects)
    return [str(v) for rule in (check_lanes, check_routers) for v in rule(program, machine)]


def test_streams_in_turn_share_a_colour_when_there_are_too_few() -> None:
    world = chain(5, BARRIER)
    routing = world.route()
    assert routing.budget["r1"].local == 4 and {lane.colour for s in routing.streams for lane in s.lanes} == {4}
    assert (routing.budget["r1"].transit, routing.budget["r1"].free) == (1, 0)
    check(world, routing)
    assert violations(placed(world, routing)) == []


def test_streams_that_do_not_wait_for_one_another_do_not_share() -> None:
    steps = [s for s in BARRIER if s is not BARRIER[2]]
    world = chain(5, [*steps[:-1], narrow("b", "w"), along("y0", "w", "c")])
    with pytest.raises(CannotRoute) as error:
        world.route()
    text = str(error.value)
    assert "cannot route: 0 of 5 colours are free on all " in text
    assert "in region r" in text and "whose collectives keep 4, so that 1 are left" in text
    assert "2 nets must cross it: this one, stream s" in text and set(error.value.regions) & {"r1", "r2"}
    check(wide := chain(9, [*steps[:-1], narrow("b", "w"), along("y0", "w", "c")]), wide.route())


def test_caches_share_colours_with_what_is_timed() -> None:
    """What is read back after everything takes the colour of the stream that came before, not one of its own."""
    world = World(fabric("8x4", 1))
    a, b = stage(world, 0, 0, []), stage(world, 4, 0, [])
    world.stream(a, b, "w", "v")
    world.stream(b, None, "w", state=True)
    routing = world.route()
    check(world, routing)
    assert violations(placed(world, routing)) == []
    world.demands[-1] = replace(world.demands[-1], state=False)
    with pytest.raises(CannotRoute, match="2 nets must cross it: this one, "):
        world.route()


def check_again(world: World, routing: Routing) -> None:
    """What is written down and read back is the same routing, to the last number."""
    again = world.again(print_routing(routing))
    for column in fields(RouterTable):
        assert np.array_equal(getattr(again.routers, column.name), getattr(routing.routers, column.name)), column.name
    assert print_routing(again) == print_routing(routing) and again.budget == routing.budget
    assert again.collectives == routing.collectives
    assert (again.yields, again.most_colours) == (routing.yields, routing.most_colours)


def test_a_routing_that_is_written_down_is_laid_again_as_it_was() -> None:
    for colours, steps in ((5, BARRIER), (9, BARRIER), (5, [*BARRIER[:2], narrow("b", "w")])):
        world = chain(colours, steps)
        check_again(world, world.route())


def test_a_lane_may_be_put_where_data_dependence_lets_it_and_nowhere_else() -> None:
    world, apart = chain(9, BARRIER), chain(9, [BARRIER[0], BARRIER[1], BARRIER[3]])
    texts = []
    for each in (world, apart):
        routing = each.route()
        first, second = (f"colour {stream.lanes[0].colour} " for stream in routing.streams)
        assert first != second  # there are enough
        texts.append(print_routing(routing).replace(second, first))
    shared = world.again(texts[0])
    assert len(shared_rows(shared.routers)) > 0
    check(world, shared)
    assert violations(placed(world, shared)) == []
    with pytest.raises(CompileError, match=r"stream s1: its lane on colour \d from .* it meets stream s0 from reg"):
        apart.again(texts[1])
    packed = world.again(texts[0].replace("region r1 keeps 6", "region r1 keeps 4"))
    assert (packed.budget["r0"].local, packed.budget["r1"].local) == (6, 4)
    assert violations(placed(world, packed)) == []
    with pytest.raises(CompileError, match=r"region r1: it keeps 3 colours; its collectives take 6, or 4 if packed"):
        world.again(texts[0].replace("region r1 keeps 6", "region r1 keeps 3"))


def shared_rows(table: RouterTable) -> np.ndarray:
    """Rows whose (router, colour) the next row repeats for another net of a stream."""
    same = (table.x[1:] == table.x[:-1]) & (table.y[1:] == table.y[:-1]) & (table.colour[1:] == table.colour[:-1])
    streams = np.array([name.startswith("stream") for name in table.nets])[table.net]
    return np.flatnonzero(same & (table.net[1:] != table.net[:-1]) & streams[1:] & streams[:-1])


def test_the_verifier_names_streams_that_share_without_order() -> None:
    world = chain(5, BARRIER)
    program = placed(world, world.route())
    unordered = replace(world.blocks[BlockName("b1")], steps=tuple(s for s in BARRIER if s is not BARRIER[2]))
    found = violations(replace(program, blocks={**world.blocks, "b1": unordered}))
    clash = next(text for text in found if "configure a router differently" in text)
    assert "stream s0 (w) lane 0 and stream s1 (w) lane 0" in clash
    assert "PE (4, 2)" in clash and "colour 4" in clash


def test_the_verifier_refuses_switch_positions_out_of_turn() -> None:
    world = chain(5, BARRIER)
    program = placed(world, world.route())
    table = program.routers
    at = int(shared_rows(table)[0])
    swapped = {}
    for name in ("ins", "outs", "net"):
        column = getattr(table, name).copy()
        column[[at, at + 1]] = column[[at + 1, at]]
        swapped[name] = column
    found = violations(replace(program, routers=replace(table, **swapped)))
    assert found and all("switch positions do not stand in the order in which streams pass" in text for text in found)
    assert {text.split(": ")[1] for text in found} == {"stream s0 (w) lane 0", "stream s1 (w) lane 0"}


def test_only_congested_nets_give_way_to_one_another() -> None:
    """A stream that lies across the only gap of a wall moves when another needs it."""
    target = fabric("24x16", 2)
    world = World(target, DefectMap.of(target, routers=[(0, 12, y) for y in range(16) if y not in (0, 15)]))
    boxes = [world.box(x, y, Mesh.of([3], [3]), {"v": tiled((4,), "(-)")}) for x in (2, 18) for y in (2, 10)]
    for a, b in ((0, 2), (1, 3), (0, 3), (1, 2)):
        world.stream(boxes[a], boxes[b])
    routing = world.route()
    check(world, routing)
    assert violations(placed(world, routing)) == []
    crossings = [int(y) for s in routing.streams for x, y in s.lanes[0].path.tolist() if x == 12]
    assert sorted(crossings) == [0, 0, 15, 15]


def test_a_region_walled_in_is_reported_with_its_wall() -> None:
    target = load("mesh:30x20")
    ring = [(0, x, y) for x in range(16, 27) for y in range(4, 16) if x in (16, 26) or y in (4, 15)]
    world = World(target, DefectMap.of(target, routers=ring))
    a = world.box(2, 8, Mesh.of([4], [5]), {"v": tiled((8, 8), "(y0,-)")})
    b = world.box(19, 8, Mesh.of([4], [5]), {"v": tiled((8, 8), "(y0,-)")})
    world.stream(a, b)
    with pytest.raises(CannotRoute) as error:
        world.route()
    text = str(error.value)
    assert text.startswith("stream s0 from region r0 to region r1: cannot route: no path of live routers from ")
    assert "the cut is columns 16 to 26, rows 4 to 15: of its 42 routers 42 are dead" in text
    assert error.value.regions == ("r0", "r1") and "another defect map" in text


def test_a_gap_that_others_fill_is_reported_with_their_names_and_both_numbers() -> None:
    target = fabric("30x20", 4)
    world = World(target, DefectMap.of(target, routers=[(0, 14, y) for y in range(20) if y != 9]))
    value = {"v": tiled((2,), "(-)")}
    for i in range(5):
        a = world.box(2 + 4 * (i % 3), 2 + 12 * (i // 3), Mesh.of([2], [2]), value)
        world.stream(a, world.box(18 + 4 * (i % 3), 2 + 12 * (i // 3), Mesh.of([2], [2]), value))
    with pytest.raises(CannotRoute) as error:
        world.route()
    text = str(error.value)
    assert "the cut is columns 13 to 14, rows 0 to 19: of its 20 routers 19 are dead" in text
    assert "up to 4 of 4 colours in use" in text and "5 nets must cross: this one, stream s" in text


def test_no_live_port_is_reported() -> None:
    target = load("mesh:12x6")
    ports = [(0, int(x), int(y)) for _, x, y in target.ports()]
    world = World(target, DefectMap.of(target, routers=ports))
    world.stream(None, world.box(4, 2, Mesh.of([2], [2]), {"v": tiled((2,), "(-)")}))
    with pytest.raises(CannotRoute, match="cannot route: no live router has a port to the host"):
        world.route()


def test_more_room_is_asked_for_where_routing_fails_and_the_first_refusal_stands() -> None:
    asked: list[dict[str, int]] = []

    def carry(margin: dict[str, int]) -> str:
        asked.append(dict(margin))
        if len(asked) < 3:
            raise CannotRoute("cannot route", regions=[f"r{len(asked)}"])
        return "routed"

    assert with_room(carry) == "routed"
    assert asked == [{}, {"r1": MARGINS[0]}, {"r1": MARGINS[0], "r2": MARGINS[1]}]

    def refuse(margin: dict[str, int]) -> str:
        if not margin:
            raise CannotRoute("the first", regions=["r0"])
        raise DoesNotFit("no room", resource="area", demand=2, bound=1)

    with pytest.raises(CannotRoute, match="the first"):
        with_room(refuse)
    with pytest.raises(DoesNotFit):
        with_room(lambda margin: refuse({"r0": 1}))


def test_a_margin_keeps_lines_free_inside_the_rectangle() -> None:
    target = load("mesh:20x20")
    request = PlaceRequest((RegionRequest("a", (Shape(5, 6),)), RegionRequest("b", (Shape(5, 6),))))
    placement = Place(margin={"a": 2})(request, target, DefectMap.none(target))
    assert (placement.rects["a"].w, placement.rects["a"].h) == (8, 7)
    assert (placement.rects["b"].w, placement.rects["b"].h) == (6, 5)
    assert placement.shapes["a"] == Shape(5, 6)


def random_block(rng: np.random.Generator, mesh: Mesh) -> Block:
    """Steps that reduce along either axis, or nothing, between values of random layouts."""
    layouts = ["(-,-)", "(y0,-)", "(-,x0)", "(y0,x0)"]
    names = [f"v{i}" for i in range(int(rng.integers(3, 7)))]
    values = {n: tiled((int(rng.integers(1, 6)), 8), layouts[int(rng.integers(0, 4))]) for n in names}
    steps: list[Step] = []
    for value, result in itertools.pairwise(names):
        kind = int(rng.integers(0, 3))
        steps.append(narrow(value, result) if kind == 0 else along(("x0", "y0")[kind - 1], value, result))
    named = {LocalName(n): t for n, t in values.items()}
    split = int(rng.integers(1, len(names) - 1))
    inputs = (LocalName(names[0]), LocalName(names[split - 1])) if split > 1 else (LocalName(names[0]),)
    return Block(BlockName("b"), mesh, named, (), inputs, tuple(map(LocalName, names[split:])), tuple(steps))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_passes_and_verifier_derive_the_same_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = World(load("mesh:40x8"))
    ids = []
    for i in range(4):
        mesh = Mesh.of([int(rng.integers(1, 4))], [int(rng.integers(1, 4))])
        ids.append(world.box(5 * i, 0, mesh, {}))
        world.blocks[world.instances[-1].block] = replace(random_block(rng, mesh), name=BlockName(f"b{i}"))
    for i in range(3):
        source, destination = world.blocks[BlockName(f"b{i}")], world.blocks[BlockName(f"b{i + 1}")]
        for value in source.outputs:
            world.stream(ids[i], ids[i + 1], value, destination.inputs[int(rng.integers(0, len(destination.inputs)))])
    world.stream(None, ids[0], world.blocks[BlockName("b0")].inputs[0], state=bool(rng.integers(0, 2)))
    over = before(world.demands, world.instances, world.blocks)
    names = [d.id for d in world.demands]
    mine = {(names[i], names[j]) for i, j in zip(*np.nonzero(over), strict=True)}
    empty = Routing((), (), RouterTable(*(np.zeros(0, np.int32) for _ in range(8)), ()), {}, 0)
    streams = tuple(Stream(d.id, d.value, d.type, d.source, d.destination, (), d.state) for d in world.demands)
    assert mine == stream_order(replace(placed(world, empty), streams=streams))


def pressed(seed: int, colours: int, rate: float) -> World:
    """Random streams among regions that keep four colours, on routers that have few."""
    rng = np.random.default_rng(seed)
    target = fabric("32x16", colours)
    world = World(target, DefectMap.random(target, 0.0, rate, 0.0, seed=seed))
    alive = world.defects.alive(0).router
    spots = [(8 * i + 1, 6 * j + 1) for j in range(2) for i in range(4)]
    ids = [stage(world, x, y, BARRIER) for x, y in spots if alive[y : y + 4, x : x + 4].all()]
    for _ in range(int(rng.integers(4, 12))):
        a, b = sorted(rng.choice(len(ids), 2, replace=False).tolist())
        world.stream(ids[a], ids[b], "w", "v")
    world.stream(None, ids[0], "v")
    world.stream(ids[-1], None, "w", state=bool(rng.integers(0, 2)))
    return world


def test_nets_give_way_and_share_until_all_have_their_way() -> None:
    world = pressed(5, 6, 0.0)
    routing = world.route()
    assert routing.yields > 0 and len(shared_rows(routing.routers)) > 0
    check(world, routing)
    check_again(world, routing)
    assert violations(placed(world, routing)) == []


@settings(max_examples=16, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([6, 8, 10]), st.sampled_from([0.0, 0.01]))
def test_what_routes_under_pressure_is_legal(seed: int, colours: int, rate: float) -> None:
    world = pressed(seed, colours, rate)
    try:
        routing = world.route()
    except CannotRoute as error:
        assert "nets must cross" in str(error) and error.regions
        return
    check(world, routing)
    check_again(world, routing)
    assert violations(placed(world, routing)) == []


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_sweeps_find_the_cheapest_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = load("mesh:9x7")
    defects = DefectMap.random(target, 0.0, 0.15, 0.15, seed=seed)
    links = {side: defects.link_alive(side) for side in (NORTH, EAST, SOUTH, WEST)}
    price = np.where(defects.router_alive(0), rng.integers(1, 9, (7, 9)), WALL)
    start = (int(rng.integers(0, 9)), int(rng.integers(0, 7)))
    price[start[1], start[0]] = 1
    graph = nx.DiGraph()
    graph.add_node(start)
    for side, (dx, dy) in STEP.items():
        for y, x in np.argwhere(links[side]).tolist():
            if 0 <= x + dx < 9 and 0 <= y + dy < 7 and price[y + dy, x + dx] < WALL and price[y, x] < WALL:
                graph.add_edge((x, y), (x + dx, y + dy), cost=int(price[y + dy, x + dx]))
    known = nx.single_source_dijkstra_path_length(graph, start, weight="cost")
    cost = spread(price, links, start)
    assert {(x, y): int(cost[y, x]) for y, x in np.argwhere(cost < WALL).tolist()} == known
    for goal, length in known.items():
        path = [(int(x), int(y)) for x, y in walk(cost, price, links, goal)]
        assert path[0] == start and path[-1] == goal
        assert sum(graph.edges[step]["cost"] for step in itertools.pairwise(path)) == length
