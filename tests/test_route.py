"""Routing: every net reaches exactly the PEs it is for, on routers of its own, around whatever is dead."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_route_walker import World, check, check_table, tiled

from wafercc.errors import CompileError
from wafercc.ir.block import AllGather, AllReduce, LocalName, ReduceAlgorithm, RegionId, StepId
from wafercc.ir.dtypes import DType
from wafercc.ir.embedding import RegionEmbedding
from wafercc.ir.layout import AxisName, Mesh
from wafercc.ir.loops import Combine
from wafercc.ir.program import EAST, SOUTH, EdgePort, Fan, Rect, Region
from wafercc.passes.embed import embed
from wafercc.passes.route.comb import comb_of
from wafercc.silicon import DefectMap
from wafercc.targets import Target, load

CHAIN, TREE, TWO_PHASE = ReduceAlgorithm.CHAIN, ReduceAlgorithm.TREE, ReduceAlgorithm.TWO_PHASE


def reduce(axes: str, root: int, algorithm: ReduceAlgorithm = CHAIN, group: int = 0, id_: str = "") -> AllReduce:
    names = tuple(AxisName(a) for a in axes.split())
    step = StepId(id_ or f"reduce {axes} {root} {algorithm} {group}")
    return AllReduce(step, (LocalName("v"),), (LocalName("v"),), names, Combine.SUM, algorithm, root, group)


def gather(axes: str, root: int) -> AllGather:
    names = tuple(AxisName(a) for a in axes.split())
    return AllGather(StepId(f"gather {axes} {root}"), LocalName("v"), LocalName("v"), names, root)


STEPS = {
    "chain": [reduce("x0", 2)],
    "chain to an end": [reduce("x0", 0), reduce("y0", 5)],
    "tree": [reduce("x0", 4, TREE)],
    "two-phase": [reduce("x0", 4, TWO_PHASE, 3)],
    "gather": [gather("x0", 3), gather("y0", 1)],
    "both ways": [reduce("x0", 3), reduce("y0", 2), gather("x0", 3)],
}


@pytest.mark.parametrize("name", STEPS)
def test_collectives_reach_the_pes_their_description_names(name: str) -> None:
    world = World(load("mesh:20x20"))
    world.box(3, 4, Mesh.of([6], [9]), {}, STEPS[name])
    check(world, world.route())


def test_collectives_pass_through_the_routers_of_skipped_cores() -> None:
    world = World(load("mesh:20x20"))
    xs, ys = np.array([[2, 3, 6, 7, 9, 10]]), np.array([[1], [2], [5], [6], [9]])
    world.region(xs, ys, Mesh.of([5], [6]), {}, [*STEPS["both ways"], reduce("y0", 2, TREE)])
    check(world, world.route(local_colours=20))


def test_minor_axes_reduce_inside_groups() -> None:
    world = World(load("mesh:20x20"))
    steps = [reduce("x1", 1), reduce("x0 x1", 7), reduce("y1", 0, TREE), gather("x1", 1)]
    world.box(0, 0, Mesh.of([2, 3], [3, 4]), {}, steps)
    check(world, world.route(local_colours=20))


def test_equal_patterns_share_their_colours() -> None:
    world = World(load("mesh:20x20"))
    world.box(0, 0, Mesh.of([4], [6]), {}, [reduce("x0", 2, id_="a"), reduce("x0", 2, id_="b")])
    routing = world.route()
    assert [n.kind for n in routing.collectives] == ["chain", "broadcast"]
    assert routing.budget["r0"].local == 3


def test_major_axes_alone_are_no_line() -> None:
    world = World(load("mesh:20x20"))
    world.box(0, 0, Mesh.of([4], [3, 4]), {}, [reduce("x0", 1)])
    with pytest.raises(CompileError, match="axes x0 of mesh y0=4 x0=3 x1=4 are not neighbours on a line"):
        world.route()


def jogged(world: World, rect: Rect, rows: int, columns: int) -> RegionEmbedding:
    found = embed(rect, rows, columns, world.defects.alive(0))
    assert isinstance(found, RegionEmbedding)
    return found


def dead_diagonal(target: Target, count: int) -> DefectMap:
    return DefectMap.of(target, cores=[(0, 3 + 2 * i, 3 + i) for i in range(count)])


def test_jogged_columns_use_classes_of_colours_where_they_meet() -> None:
    target = load("mesh:24x24")
    world = World(target, dead_diagonal(target, 6))
    found = jogged(world, Rect(0, 2, 2, 18, 10), 10, 17)
    assert not found.straight
    world.embedded(found, Mesh.of([10], [17]), {}, [reduce("y0", 4), gather("y0", 4), reduce("x0", 8)])
    routing = world.route(local_colours=20)
    assert max(n.classes for n in routing.collectives if n.along == "y") > 1
    assert {n.classes for n in routing.collectives if n.along == "x"} == {1}
    check(world, routing)


def test_collectives_follow_detours_in_classes_of_colours() -> None:
    target = load("mesh:24x24")
    defects = DefectMap.of(target, routers=[(0, 5, 6)], links=[(0, 9, 4, EAST), (0, 12, 8, SOUTH)])
    world = World(target, defects)
    found = embed(Rect(0, 2, 2, 15, 10), 9, 15, defects.alive(0), reach=0)
    assert isinstance(found, RegionEmbedding) and {d.along for d in found.detours} == {"x", "y"}
    steps = [reduce("y0", 4), gather("y0", 1), reduce("x0", 8), reduce("x0", 3, TREE)]
    world.embedded(found, Mesh.of([9], [15]), {}, steps)
    routing = world.route(local_colours=20)
    assert {n.along for n in routing.collectives if n.classes == 2} == {"x", "y"}
    assert max(n.classes for n in routing.collectives) == 2
    check(world, routing)


def test_a_dead_router_on_a_detour_is_refused_by_the_pass_itself() -> None:
    target = load("mesh:24x24")
    links = [(0, 9, 4, EAST)]
    found = embed(Rect(0, 2, 2, 15, 10), 10, 15, DefectMap.of(target, links=links).alive(0))
    assert isinstance(found, RegionEmbedding)
    x, y = found.detours[0].path[1].tolist()
    world = World(target, DefectMap.of(target, links=links, routers=[(0, x, y)]))
    world.embedded(found, Mesh.of([10], [15]), {}, [reduce("x0", 8)])
    with pytest.raises(CompileError, match="crosses a dead link or router next to"):
        world.route()


def test_a_small_budget_makes_steps_share_colours_by_switch_position() -> None:
    world = World(load("mesh:20x20"))
    world.box(2, 2, Mesh.of([5], [7]), {}, STEPS["both ways"])
    wide, tight = world.route(), world.route(local_colours=5)
    assert wide.budget["r0"].local == 8 and tight.budget["r0"].local <= 5
    assert tight.routers.position.max() > 0
    check(world, tight)


def test_both_sides_of_a_tree_share_a_colour_before_it_is_refused() -> None:
    world = World(load("mesh:20x20"))
    world.box(2, 2, Mesh.of([5], [16]), {}, [reduce("x0", 7, TREE), gather("y0", 2)])
    wide, tight = world.route(), world.route(local_colours=3)
    assert (wide.budget["r0"].local, tight.budget["r0"].local) == (6, 3)
    assert all(len(set(net.colours)) == 1 for net in tight.collectives if net.kind in ("tree", "collect"))
    check(world, tight)


def test_too_few_local_colours_are_refused_with_both_numbers() -> None:
    world = World(load("mesh:20x20"))
    world.box(2, 2, Mesh.of([5], [16]), {}, [gather("x0", 7)])
    with pytest.raises(CompileError, match="cannot route: region r0 needs 2 local colours of 1") as error:
        world.route(local_colours=1)
    assert "fewer collective shapes" in error.value.hint


LAYOUTS = ["(-,-)", "(y0,-)", "(-,x0)", "(y0,x0)", "(x0,y0)", "(-,x0~)", "(y0*x0,-)", "(-,x0) held:y0=1", "(y0/2,-)"]


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("destination", LAYOUTS)
def test_every_pair_of_layouts_is_served(source: str, destination: str) -> None:
    world = World(load("mesh:24x16"))
    a = world.box(2, 3, Mesh.of([4], [5]), {"v": tiled((8, 11), source)})
    b = world.box(12, 5, Mesh.of([6], [3]), {"v": tiled((8, 11), destination)})
    world.stream(a, b)
    check(world, world.route())


def test_rows_cut_alike_travel_in_parallel_lanes() -> None:
    world = World(load("mesh:40x20"))
    a = world.box(2, 3, Mesh.of([8], [5]), {"v": tiled((64, 32), "(y0,x0)")})
    b = world.box(20, 3, Mesh.of([8], [4]), {"v": tiled((64, 32), "(y0,-)")})
    world.stream(a, b)
    lanes = world.route().streams[0].lanes
    assert len(lanes) == 8 and len({lane.colour for lane in lanes}) == 1
    assert [(lane.dim, lane.lo, lane.hi) for lane in lanes] == [(0, 8 * i, 8 * i + 8) for i in range(8)]
    check(world, world.route())
    assert len(world.route(max_lanes=3).streams[0].lanes) == 3
    check(world, world.route(max_lanes=3))
    assert len(world.route(max_lanes=1).streams[0].lanes) == 1


def test_a_replicated_source_sends_from_several_rows_to_a_cut_destination() -> None:
    world = World(load("mesh:40x20"))
    a = world.box(2, 3, Mesh.of([8], [5]), {"v": tiled((64, 32), "(-,x0)")})
    b = world.box(20, 3, Mesh.of([8], [4]), {"v": tiled((64, 32), "(y0,-)")})
    world.stream(a, b)
    routing = world.route()
    assert len(routing.streams[0].lanes) == 8
    check(world, routing)


def test_few_words_do_not_pay_for_lanes() -> None:
    world = World(load("mesh:40x20"))
    a = world.box(2, 3, Mesh.of([8], [5]), {"v": tiled((8,), "(y0)", DType.F16)})
    b = world.box(20, 3, Mesh.of([8], [4]), {"v": tiled((8,), "(y0)", DType.F16)})
    world.stream(a, b)
    assert len(world.route().streams[0].lanes) == 1


def test_only_a_copy_near_the_gate_sends() -> None:
    world = World(load("mesh:40x20"))
    a = world.box(2, 3, Mesh.of([3, 2], [5]), {"v": tiled((4, 6), "(y1,x0)")})
    b = world.box(20, 3, Mesh.of([4], [4]), {"v": tiled((4, 6), "(-,x0)")})
    world.stream(a, b)
    routing = world.route(max_lanes=1)
    fan = routing.streams[0].lanes[0].source
    assert isinstance(fan, Fan) and fan.hi - fan.lo == 2
    check(world, routing)


def test_all_inputs_of_a_region_share_one_net() -> None:
    world = World(load("mesh:40x40"))
    values = {"v": tiled((8, 8), "(y0,-)"), "w": tiled((12,), "(-)"), "z": tiled((4, 0), "(y0,-)")}
    a = world.box(10, 9, Mesh.of([4], [5]), values)
    for name in values:
        world.stream(None, a, name)
        world.stream(a, None, name)
    routing = world.route()
    inputs = {str(s.lanes) for s in routing.streams if s.source is None}
    outputs = {str(s.lanes) for s in routing.streams if s.destination is None}
    assert len(inputs) == len(outputs) == 1
    assert routing.most_colours == 2
    check(world, routing)


def test_a_region_at_the_edge_may_have_its_gate_at_the_port() -> None:
    world = World(load("mesh:16x16"))
    a = world.box(0, 0, Mesh.of([16], [16]), {"v": tiled((16, 16), "(y0,x0)")})
    world.stream(None, a)
    world.stream(a, None)
    routing = world.route(max_lanes=1)
    assert [len(s.lanes[0].path) for s in routing.streams] == [1, 1]
    check(world, routing)


def test_a_port_between_the_rows_of_a_region_is_passed_over() -> None:
    world = World(load("mesh:16x32"))
    ys = np.array([y for y in range(4, 14) if y != 8])[:, None]
    a = world.region(np.arange(10)[None, :], ys, Mesh.of([9], [10]), {"v": tiled((9, 10), "(y0,x0)")})
    world.stream(None, a)
    routing = world.route()
    port = routing.streams[0].lanes[0].source
    assert isinstance(port, EdgePort) and (port.x, port.y) != (0, 8)
    check(world, routing)


def test_columns_that_jog_spread_by_a_tree_whose_every_twig_leads_to_a_pe() -> None:
    xs = np.array([[3, 4, 5], [2, 3, 4], [2, 3, 4]], np.int32)
    ys = np.array([[0], [1], [2]], np.int32) + np.zeros((1, 3), np.int32)
    comb = comb_of(Region(RegionId("r"), Rect(0, 2, 0, 4, 3), xs, ys), Fan(RegionId("r"), "x", 0, 2, 0, 1))
    assert sorted(zip(comb.x[comb.pe].tolist(), comb.y[comb.pe].tolist(), strict=True)) == sorted(
        (int(xs[p, q]), p) for p in range(3) for q in range(2)
    )
    assert (comb.pe | (comb.away > 0)).all()
    assert comb.source_positions() <= 4


def test_what_stays_in_one_region_and_layout_needs_no_lane() -> None:
    world = World(load("mesh:16x16"))
    a = world.box(0, 0, Mesh.of([4], [4]), {"v": tiled((16, 16), "(y0,x0)")})
    world.stream(a, a)
    assert world.route().streams[0].lanes == ()


def test_an_input_that_is_an_output_goes_from_port_to_port() -> None:
    world = World(load("mesh:40x40"))
    world.stream(None, None)
    routing = world.route()
    lane = routing.streams[0].lanes[0]
    assert isinstance(lane.source, EdgePort) and isinstance(lane.destination, EdgePort) and len(lane.path) > 1
    check(world, routing)


def test_a_wall_of_dead_routers_is_gone_around() -> None:
    target = load("mesh:30x20")
    world = World(target, DefectMap.of(target, routers=[(0, 14, y) for y in range(1, 20)]))
    a = world.box(2, 8, Mesh.of([4], [5]), {"v": tiled((8, 8), "(y0,-)")})
    b = world.box(20, 8, Mesh.of([4], [5]), {"v": tiled((8, 8), "(y0,-)")})
    world.stream(a, b)
    routing = world.route()
    assert all((14, 0) in map(tuple, lane.path.tolist()) for lane in routing.streams[0].lanes)
    check(world, routing)


def test_a_maze_needs_more_than_two_bends() -> None:
    target = load("mesh:30x20")
    walls = [(0, x, y) for x, gap in ((10, 0), (12, 19), (14, 0)) for y in range(20) if y != gap]
    world = World(target, DefectMap.of(target, routers=walls))
    a = world.box(2, 8, Mesh.of([4], [5]), {"v": tiled((2,), "(-)")})
    b = world.box(20, 8, Mesh.of([4], [5]), {"v": tiled((2,), "(-)")})
    world.stream(a, b)
    routing = world.route()
    check(world, routing)
    assert len(routing.streams[0].lanes[0].path) > 40


def test_a_closed_wall_is_reported_with_net_and_regions() -> None:
    target = load("mesh:30x20")
    world = World(target, DefectMap.of(target, routers=[(0, 14, y) for y in range(20)]))
    a = world.box(2, 8, Mesh.of([4], [5]), {"v": tiled((8, 8), "(y0,-)")})
    b = world.box(20, 8, Mesh.of([4], [5]), {"v": tiled((8, 8), "(y0,-)")})
    world.stream(a, b)
    with pytest.raises(CompileError) as error:
        world.route()
    assert str(error.value).startswith("stream s0 from region r0 to region r1: cannot route: no path of live routers")


def test_exhausted_colours_are_reported_with_router_and_count() -> None:
    world = World(load("mesh:30x20"))
    values = {"v": tiled((8, 8), "(y0,x0)")}
    a = world.box(2, 8, Mesh.of([4], [5]), values)
    b = world.box(20, 8, Mesh.of([4], [5]), values)
    for _ in range(22):
        world.stream(a, b)
    with pytest.raises(
        CompileError,
        match=r"cannot route: 0 of 21 colours are free on all 16 routers of its comb in region r0, columns 2 to 5, "
        r"rows 8 to 11, whose collectives keep 0, so that 21 are left; 22 nets must cross it: this one, stream s0, ",
    ):
        world.route(max_lanes=1)


def test_a_region_on_dead_routers_is_refused() -> None:
    target = load("mesh:30x20")
    world = World(target, DefectMap.of(target, routers=[(0, 4, 9)]))
    world.box(2, 8, Mesh.of([4], [5]), {}, [reduce("x0", 2)])
    with pytest.raises(CompileError, match=r"region r0: cannot route: logical row 1 crosses a dead link or router"):
        world.route()


def test_twenty_streams_share_a_narrow_fabric() -> None:
    world = World(load("mesh:16x16"))
    values = {"v": tiled((8, 8), "(y0,x0)")}
    boxes = [world.box(5 * i, 5 * j, Mesh.of([4], [4]), values, [reduce("x0", 2)]) for j in range(3) for i in range(3)]
    for i, a in enumerate(boxes):
        for b in (boxes[(i + 1) % 9], boxes[(i + 4) % 9]):
            world.stream(a, b)
        world.stream(None, a)
        world.stream(a, None)
    check(world, world.route())


def test_the_same_input_gives_the_same_bytes() -> None:
    def bytes_of() -> list[bytes]:
        world = _random_world(7, 5, 0.02)
        table = world.route(local_colours=16).routers
        return [a.tobytes() for a in (table.x, table.y, table.colour, table.position, table.ins, table.outs)]

    assert bytes_of() == bytes_of()


def _random_world(seed: int, count: int, rate: float) -> World:
    """Regions of random meshes in a grid of boxes, embedded around random defects, with a chain of random streams."""
    rng = np.random.default_rng(seed)
    target = load("mesh:40x30")
    world = World(target, DefectMap.random(target, rate, rate / 5, rate / 5, seed=seed))
    ids = []
    for slot in rng.permutation(6)[:count]:
        w, h = int(rng.integers(3, 13)), int(rng.integers(3, 14))
        rect = Rect(0, int(slot % 3) * 13 + int(rng.integers(0, 14 - w)), int(slot // 3) * 15, w, h)
        for shrink in range(3):
            rows, columns = max(1, h - shrink), max(1, w - shrink)
            found = embed(rect, rows, columns, world.defects.alive(0))
            if isinstance(found, RegionEmbedding):
                layout = LAYOUTS[int(rng.integers(0, 7))]
                steps = [reduce("x0", int(rng.integers(0, columns))), gather("y0", int(rng.integers(0, rows)))]
                value = {"v": tiled((8, 11), layout)}
                ids.append(world.embedded(found, Mesh.of([rows], [columns]), value, steps))
                break
    for a, b in itertools.pairwise(ids):
        world.stream(a, b)
    for a in ids:
        world.stream(None, a)
    world.stream(ids[int(rng.integers(0, len(ids)))], None) if ids else None
    return world


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from([0.0, 0.01, 0.03]))
def test_random_placements_route_legally_or_are_refused(seed: int, count: int, rate: float) -> None:
    world = _random_world(seed, count, rate)
    try:
        routing = world.route(local_colours=16)
    except CompileError as error:
        assert rate > 0 and "cannot route" in str(error)
        return
    check(world, routing)
    check_table(world, routing)


def test_what_leaves_for_the_host_takes_several_ports_where_that_pays() -> None:
    world = World(load("mesh:40x40"))
    world.stream(world.box(2, 3, Mesh.of([8], [5]), {"v": tiled((64, 32), "(y0,-)")}), None)
    routing = world.route()
    lanes = routing.streams[0].lanes
    ports = {(lane.destination.x, lane.destination.y) for lane in lanes if isinstance(lane.destination, EdgePort)}
    assert len(lanes) == len(ports) == 4
    check(world, routing)
    assert len(world.route(max_lanes=1).streams[0].lanes) == 1
