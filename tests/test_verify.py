"""The verifier: a program made by hand passes, and whatever is changed in it is found, at its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
from two_regions import H, X, block_a, block_b, path, streams, tiled, two_regions

from wafercc.ir.block import AllReduce, Block, Compute, Narrow, Phase
from wafercc.ir.layout import Mesh
from wafercc.ir.loops import Combine
from wafercc.ir.program import (
    EdgePort,
    Execute,
    Fan,
    PlacedProgram,
    Rect,
    Region,
    RouterTable,
    SramPlan,
    Stream,
    Transfer,
)
from wafercc.passes.certify import certify
from wafercc.verify import summary, verify

T = TypeVar("T")
GOOD = two_regions()


def certified(program: PlacedProgram) -> PlacedProgram:
    """The program with ranks for what is in it now."""
    return replace(program, certificate=certify(program))


def at(items: tuple[T, ...], index: int, **changes: object) -> tuple[T, ...]:
    """The tuple with fields of one item changed."""
    changed = replace(items[index], **changes)  # type: ignore[type-var]
    return (*items[:index], changed, *items[index + 1 :])


def in_block(name: str, **changes: object) -> PlacedProgram:
    return replace(GOOD, blocks=dict(GOOD.blocks) | {name: replace(GOOD.blocks[name], **changes)})


def in_step(name: str, index: int, **changes: object) -> PlacedProgram:
    return in_block(name, steps=at(GOOD.blocks[name].steps, index, **changes))


def in_value(name: str, value: str, layout: str) -> PlacedProgram:
    block = GOOD.blocks[name]
    return in_block(name, values=dict(block.values) | {value: tiled(block.values[value].type, layout)})


def in_weight(**changes: object) -> PlacedProgram:
    return replace(GOOD, weights={"w": replace(GOOD.weights["w"], **changes)})


def in_region(index: int, **changes: object) -> PlacedProgram:
    return replace(GOOD, regions=at(GOOD.regions, index, **changes))


def moved(index: int, which: str, pe: tuple[int, int], value: int) -> PlacedProgram:
    """One PE of a region's embedding somewhere else."""
    array = getattr(GOOD.regions[index], which).copy()
    array[pe] = value
    return in_region(index, **{which: array})


def in_stream(index: int, **changes: object) -> PlacedProgram:
    return replace(GOOD, streams=at(GOOD.streams, index, **changes))


def without_stream(index: int) -> PlacedProgram:
    gone = GOOD.streams[index]
    kept = tuple(task for task in GOOD.order if task != Transfer(gone.id))
    return replace(GOOD, streams=tuple(s for s in GOOD.streams if s is not gone), order=kept)


def in_lane(stream: int, lane: int, **changes: object) -> PlacedProgram:
    return in_stream(stream, lanes=at(GOOD.streams[stream].lanes, lane, **changes))


def fan(stream: int, lane: int, end: str, **changes: object) -> PlacedProgram:
    touched = getattr(GOOD.streams[stream].lanes[lane], end)
    return in_lane(stream, lane, **{end: replace(touched, **changes)})


def through_its_comb() -> PlacedProgram:
    """The first stream's path runs through the teeth to a gate at their far end."""
    lane = GOOD.streams[0].lanes[0]
    assert isinstance(lane.destination, Fan)
    far = replace(lane.destination, trunk=2)
    return in_lane(0, 0, destination=far, path=path((0, 0), (1, 0), (2, 0), (3, 0)))


def in_net(index: int, **changes: object) -> PlacedProgram:
    return replace(GOOD, collectives=at(GOOD.collectives, index, **changes))


def in_target(**changes: object) -> PlacedProgram:
    return replace(GOOD, target=dict(GOOD.target) | changes)


def dead(**rows: list[list[int]]) -> PlacedProgram:
    return replace(GOOD, defects=dict(GOOD.defects) | rows)


def row(index: int, **columns: int) -> PlacedProgram:
    """One row of the router table changed."""
    table = GOOD.routers
    changed = {name: getattr(table, name).copy() for name in columns}
    for name, value in columns.items():
        changed[name][index] = value
    return replace(GOOD, routers=replace(table, **changed))


def without_row(index: int) -> PlacedProgram:
    table = GOOD.routers
    kept = {f.name: np.delete(getattr(table, f.name), index) for f in dataclasses.fields(table) if f.name != "nets"}
    return replace(GOOD, routers=replace(table, **kept))


def doubled_row(index: int) -> PlacedProgram:
    """A row of the router table a second time, at the next switch position."""
    table = GOOD.routers
    more = {}
    for each in dataclasses.fields(table):
        if each.name != "nets":
            array = getattr(table, each.name)
            more[each.name] = np.insert(array, index + 1, array[index] + (each.name == "position"))
    return replace(GOOD, routers=replace(table, **more))


def order(*tasks: str) -> PlacedProgram:
    return replace(GOOD, order=tuple(Execute(t) if t.startswith("i") else Transfer(t) for t in tasks))


def test_a_program_made_by_hand_passes() -> None:
    assert verify(GOOD) == ()
    assert summary(GOOD).startswith("ok: rules 1-7 hold for 1 weights, 2 blocks, 3 steps, 2 instances")


NAMES = [
    (lambda: in_step("a", 0, ins=("x", "none")), "block a, step mm: value none does not exist"),
    (lambda: in_step("a", 0, ins=("x",)), "op m.mm (matmul): phase local reads 1 values, the op has 2 operands"),
    (lambda: replace(GOOD, blocks={"c": block_a(), "b": block_b()}), "block c: calls itself a"),
    (lambda: in_step("a", 1, axes=("x9",)), "block a, step sum: axis x9 is not of mesh"),
    (lambda: in_value("a", "h", "(y7,-)"), "block a, value h: axis y7 of layout (y7,-) is not of mesh"),
    (lambda: in_value("a", "h", "(y0,-) held:x0=5"), "block a, value h: held at x0=5, but x0 has 3"),
    (lambda: in_block("a", mesh=Mesh.of([2], [2])), "instance ia: region a has 2x3 PEs, block a has 2x2"),
    (lambda: replace(GOOD, instances=at(GOOD.instances, 0, region="c")), "instance ia: region c does not exist"),
    (lambda: replace(GOOD, instances=at(GOOD.instances, 0, block="c")), "instance ia: block c does not exist"),
    (lambda: replace(GOOD, instances=GOOD.instances * 2), "instance ia: 2 of this name"),
    (lambda: in_stream(1, source=("ic", "h")), "stream sh (h): its source, instance ic, does not exist"),
    (lambda: fan(1, 0, "source", hi=9), "stream sh (h) lane 0: Fan(region='a'"),
    (lambda: in_net(0, region="c"), "collective chain: region c does not exist"),
    (lambda: order("sx", "ic"), "order: instance ic does not exist"),
]
VALUES = [
    (lambda: in_block("a", steps=block_a().steps[1:]), "block a, step sum: reads part, which nothing before it writes"),
    (
        lambda: in_block("a", steps=block_a().steps[::-1]),
        "block a, step sum: reads part, which nothing before it writes",
    ),
    (lambda: in_block("a", steps=block_a().steps[:1]), "block a: its output h is written by no step"),
    (lambda: in_block("b", outputs=("h",), inputs=()), "block b, step neg: reads h, which nothing before it writes"),
    (lambda: in_step("a", 0, phase=Phase.WHOLE), "op m.mm (matmul): phase whole writes part, which owes x0"),
    (lambda: in_step("a", 0, phase=Phase.WHOLE), "op m.mm (matmul): reduces over x0 but runs in one phase"),
    (lambda: in_value("a", "part", "(y0,-)"), "part owes nothing; its operands are cut over x0"),
    (lambda: in_value("a", "x", "(y0,-)"), "multiplies along dimensions that are cut differently"),
    (
        lambda: in_value("a", "h", "(y0,-) sum:x0"),
        "block a, value h: enters, stays or leaves while it still owes sum:x0",
    ),
    (lambda: in_step("a", 1, combine=Combine.MAX), "block a, step sum: combines max over x0, but part is"),
    (lambda: in_value("a", "h", "(-,-)"), "block a, step sum: changes more than the reduction"),
    (lambda: in_step("a", 1, axes=("x0", "x0")), "block a, step sum: names an axis twice: x0 x0"),
    (lambda: in_step("a", 1, root=3), "block a, step sum: root 3 is outside its line of 3 PEs"),
    (lambda: replace(GOOD, instances=at(GOOD.instances, 0, weights={})), "parameter w is bound to nothing"),
    (lambda: in_weight(tiled=tiled(GOOD.weights["w"].tiled.type, "(-,x0)")), "instance ia: parameter w is"),
    (lambda: in_weight(tiles=GOOD.weights["w"].tiles[:, :2]), "weight w (w.onnx): tiles are 1x2x2x2"),
    (lambda: in_weight(tiles=GOOD.weights["w"].tiles[..., :1]), "weight w (w.onnx): tiles are 1x3x2x1"),
    (lambda: in_weight(tiles=GOOD.weights["w"].tiles.astype(np.float16)), "tiles hold float16"),
]
REGIONS = [
    (lambda: in_region(1, rect=Rect(0, 3, 0, 4, 2)), "regions a and b: overlap: 3x2+1+0 and 4x2+3+0"),
    (lambda: in_region(1, rect=Rect(0, 5, 0, 2, 9)), "region b: its rectangle 2x9+5+0 leaves the 8x3 grid"),
    (lambda: in_region(1, rect=Rect(3, 5, 0, 2, 2)), "region b: on wafer 3; there are 1"),
    (lambda: moved(0, "xs", (1, 2), 7), "region a: PE (7, 1) outside its rectangle"),
    (lambda: moved(0, "xs", (0, 1), 1), "region a: PE (1, 0) not right of the PE before in the row"),
    (lambda: moved(0, "ys", (1, 1), 0), "off the physical row of their logical row"),
    (lambda: moved(0, "ys", (1, 1), 0), "region a: PE (2, 0) not below the PE before in the column"),
    (lambda: dead(dead_cores=[[0, 2, 1]]), "region a: PE (2, 1) dead, yet holding tiles"),
    (lambda: dead(dead_links=[[0, 1, 0, 2]]), "region a: PE (1, 0) cut off from the next PE of the row"),
    (lambda: dead(dead_links=[[0, 6, 0, 4]]), "region b: PE (6, 0) cut off from the next PE of the column"),
    (lambda: dead(dead_links=[[0, 6, 1, 1]]), "region b: PE (6, 0) cut off from the next PE of the column"),
    (lambda: dead(dead_routers=[[0, 5, 1]]), "region b: PE (5, 1) dead, yet holding tiles"),
]
SRAM = [
    (lambda: in_target(pe={"sram_bytes": 158, "reserved_bytes": 128}), "region a: holds 32 bytes per PE"),
    (lambda: replace(GOOD, sram={**GOOD.sram, "a": SramPlan(15, 0, 16, 896)}), "weights take 16 bytes per PE; 15 are"),
    (
        lambda: replace(GOOD, sram={**GOOD.sram, "b": SramPlan(0, 0, 7, 896)}),
        "region b: values at instance ib, step neg",
    ),
    (lambda: replace(GOOD, sram={**GOOD.sram, "b": SramPlan(0, 0, 8, 897)}), "region b: plans for 897 bytes; 896 are"),
    (lambda: replace(GOOD, sram={"a": GOOD.sram["a"]}), "region b: has no SRAM plan"),
]
STREAMS = [
    (lambda: without_stream(0), "instance ia: 0 streams deliver its input x (x), not one"),
    (lambda: without_stream(2), "output y: 0 streams bring it to the edge, not one"),
    (lambda: in_stream(1, value="g"), "stream sh (g): its source, h of instance ia, is bound to h"),
    (lambda: in_stream(0, type=H), "stream sx (x): is f32[2,2], its destination x is f32[2,6]"),
    (lambda: in_stream(1, source=("ia", "part")), "its source part is no source of instance ia"),
    (lambda: in_stream(0, value="z"), "stream sx (z): is an input at the host, but the model has no such input"),
    (lambda: replace(GOOD, outputs={}), "stream sy (y): is an output at the host, but the model has no such output"),
    (lambda: replace(GOOD, outputs={"y": X}), "stream sy (y): is f32[2,2], the model's output is f32[2,6]"),
    (lambda: in_stream(0, state=True), "stream sx (x): is marked as a cache, but the program names no such cache"),
    (lambda: in_stream(1, lanes=()), "stream sh (h): has no lanes, and its ends do not hold it in one place"),
    (lambda: in_stream(1, lanes=streams()[1].lanes[:1]), "its lanes end at element 1 of 2 in dimension 0"),
    (lambda: in_lane(1, 1, lo=0), "elements 1 to 0 of dimension 0 are carried twice"),
    (lambda: in_lane(1, 0, dim=None), "its 2 lanes do not divide one dimension between them"),
    (lambda: fan(1, 0, "source", region="b", trunk=1), "does not touch region a"),
    (
        lambda: fan(0, 0, "destination", hi=1),
        "lane 0: its comb in region a misses PE (1, 1), (2, 1), (3, 1), which needs",
    ),
    (lambda: fan(2, 0, "source", hi=1), "its comb in region b misses PE (5, 1), (6, 1), which holds elements to send"),
    (lambda: in_lane(0, 0, source=EdgePort(0, 0, 0, 2)), "stream sx (x) lane 0: (0, 0) is no port of the edges west"),
    (lambda: in_lane(0, 0, path=path((0, 1), (1, 0))), "its path starts at (0, 1), its gate is (0, 0)"),
    (lambda: in_lane(1, 0, path=path((3, 0), (5, 0))), "stream sh (h) lane 0: its path jumps after PE (3, 0)"),
    (lambda: dead(dead_routers=[[0, 4, 0]]), "stream sh (h) lane 0: passes dead router at PE (4, 0)"),
    (lambda: dead(dead_links=[[0, 3, 1, 2]]), "stream sh (h) lane 1: crosses a dead link east of PE (3, 1)"),
    (lambda: dead(dead_links=[[0, 4, 1, 8]]), "stream sh (h) lane 1: crosses a dead link east of PE (3, 1)"),
    (lambda: in_lane(0, 0, path=path((0, 0), (0, -1), (1, 0))), "PE (0, -1) outside the 8x3 grid"),
]
ROUTERS = [
    (lambda: in_net(0, kind="collect"), "block a step sum has no net chain along x in groups of 3 with root 1"),
    (lambda: in_net(0, root=2), "region a: block a step sum has no net chain"),
    (lambda: in_net(0, colours=(0, 21)), "region a, net chain along x, groups of 3, root 1: uses colours 0, 21"),
    (lambda: in_net(0, colours=(0, 1, 2)), "has 3 colours; 2 are needed"),
    (lambda: in_net(1, colours=(1,)), "root 1: colour 1 E to ramp at PE (1, 0), (3, 0), (1, 1) and 3 more is not"),
    (lambda: in_lane(1, 0, colour=2), "region a, net broadcast along x, groups of 3, root 1 and stream sh (h) lane 0"),
    (lambda: in_lane(1, 0, colour=99), "stream sh (h) lane 0: colour 99; usable are 0 to 20"),
    (
        lambda: through_its_comb(),
        "stream sx (x) lane 0: crosses itself: words would leave by different ports: PE (1, 0)",
    ),
    (lambda: fan(1, 0, "destination", hi=2), "stream sh (h) lane 0 and stream sh (h) lane 1"),
    (lambda: without_row(0), "stream sx (x) lane 0: colour 5 W to E at PE (0, 0) is not in the router table"),
    (lambda: row(0, outs=4), "x: colour 5 W to S at PE (0, 0) is in the router table, but no net asks for it"),
    (lambda: doubled_row(0), "colour 5 W to E at PE (0, 0) stands in more switch positions than nets ask for"),
    (lambda: row(0, position=1), "router table: PE (0, 0) with rows out of order, or positions not counted from 0"),
    (lambda: row(0, colour=22), "router table: PE (0, 0) with colours outside 0 to 20"),
    (lambda: row(0, net=9), "router table: PE (0, 0) with a net without a name"),
    (lambda: row(0, x=70), "router table: PE (70, 0) outside the grid"),
    (lambda: in_target(router={"colours": 7, "switch_positions": 4}), "with colours outside 0 to 6"),
    (lambda: in_target(router={"colours": 21, "switch_positions": 2}), "with more than 2 switch positions"),
]
ORDER = [
    (lambda: order("ia", "sx", "sh", "ib", "sy"), "stream sx (x): is served after instance ia, which reads its value"),
    (lambda: order("sx", "sh", "ia", "ib", "sy"), "stream sh (h): is served before instance ia has produced its value"),
    (lambda: order("sx", "ia", "sh", "ib"), "stream sy (y): is served 0 times, not once"),
    (lambda: order("sx", "ia", "sh", "ib", "ib", "sy"), "instance ib: runs 2 times, not once"),
]
EMBEDDED = [
    (lambda: in_target(width=9), "defect map: its width is 8, the target's is 9"),
    (lambda: in_target(view="physical"), "defect map: its view is logical, the target's is physical"),
    (lambda: dead(dead_cores=[[0, 8, 0]]), "defect map: dead core (8, 0) outside 8x3"),
    (lambda: dead(dead_cores=[[1, 7, 2]]), "defect map: dead core (7, 2) on wafer 1; there are 1"),
    (lambda: dead(dead_links=[[0, 7, 2, 0]]), "defect map: dead link (7, 2) has direction 0; those of a map are 2"),
    (lambda: in_target(pe={}), "target and defect map: cannot be read: KeyError('sram_bytes')"),
]
RULES = ((1, NAMES), (1, VALUES), (2, REGIONS), (3, SRAM), (4, STREAMS), (4, ROUTERS), (6, ORDER), (7, EMBEDDED))
CHANGES = [
    (rule, change, message)
    for rule, changes in RULES
    for change, message in changes
]  # fmt: skip


@pytest.mark.parametrize(("rule", "change", "message"), CHANGES, ids=[message[:60] for *_, message in CHANGES])
def test_a_changed_program_is_refused_at_its_place(
    rule: int, change: Callable[[], PlacedProgram], message: str
) -> None:
    found = [str(violation) for violation in verify(change())]
    assert any(f"rule {rule}: " in text and message in text for text in found), "\n".join(found)


def test_all_violations_are_reported_not_the_first() -> None:
    broken = certified(replace(dead(dead_cores=[[0, 2, 1], [0, 5, 0]]), order=GOOD.order[1:]))
    text = summary(broken)
    assert text.startswith("3 violations:\n")
    assert "region a: PE (2, 1) dead" in text
    assert "region b: PE (5, 0) dead" in text
    assert "stream sx (x): is served 0 times" in text


@pytest.mark.parametrize("column", ["x", "y", "colour", "position", "ins", "outs", "wafer"])
def test_no_row_of_the_router_table_can_change(column: str) -> None:
    for index in range(len(GOOD.routers.x)):
        before = int(getattr(GOOD.routers, column)[index])
        assert verify(row(index, **{column: before ^ 1})), (index, column)


def test_no_row_of_the_router_table_can_go() -> None:
    for index in range(len(GOOD.routers.x)):
        assert verify(without_row(index)), index


# --- what is legal though unusual


def jogged() -> Region:
    """Three rows of two columns that step aside by one in the middle."""
    xs = np.array([[1, 2], [2, 3], [1, 2]], np.int32)
    return Region("r", Rect(0, 1, 0, 3, 3), xs, np.repeat(np.arange(3, dtype=np.int32)[:, None], 2, 1))


def test_jogs_within_reach_are_legal_and_beyond_it_are_not() -> None:
    bare = replace(GOOD, regions=(jogged(),), instances=(), streams=(), collectives=(), order=(), sram={}, outputs={})
    bare = certified(replace(bare, routers=without_rows()))
    assert verify(bare) == ()
    far = jogged()
    far.xs[1] += 3
    wide = replace(far, rect=Rect(0, 1, 0, 7, 3))
    found = [str(v) for v in verify(replace(bare, regions=(wide,)))]
    assert found == [
        "rule 2: region r: PE (5, 1), (6, 1), (1, 2) and 1 more 4 columns from the PE above; the reach is 2",
    ]


def test_a_dead_link_matters_only_on_the_way_between_neighbours() -> None:
    bare = replace(GOOD, regions=(jogged(),), instances=(), streams=(), collectives=(), order=(), sram={}, outputs={})
    bare = certified(replace(bare, routers=without_rows()))

    def with_link(x: int, y: int, side: int) -> tuple[str, ...]:
        return tuple(map(str, verify(replace(bare, defects=dict(GOOD.defects) | {"dead_links": [[0, x, y, side]]}))))

    assert with_link(3, 0, 4) == ()  # no column runs down there
    assert with_link(3, 1, 4) != ()  # the second column falls from (3, 1) before it steps back
    assert with_link(2, 1, 2) != ()
    assert with_link(1, 2, 2) != ()
    assert with_link(0, 1, 2) == ()


def without_rows() -> RouterTable:
    table = GOOD.routers
    return replace(table, **{f.name: getattr(table, f.name)[:0] for f in dataclasses.fields(table) if f.name != "nets"})


def test_a_narrow_must_find_its_elements_on_the_same_pe() -> None:
    values = dict(block_b().values)
    values["all"] = tiled(H, "(-,-)")
    narrow = Narrow("cut", "all", "y")
    good = Block("b", Mesh.of([2], [2]), values, (), ("h",), ("y",), (narrow,))
    for layout, fits in (("(-,-)", True), ("(y0,-)", True), ("(x0,-)", False), ("(-,-) held:x0=0", False)):
        block = replace(good, values=values | {"all": tiled(H, layout)}, inputs=("all",))
        program = replace(GOOD, blocks={"a": block_a(), "b": block})
        found = [str(v) for v in verify(program) if v.rule == 1 and "step cut" in str(v)]
        assert (not found) == fits, (layout, found)


def test_two_collectives_may_share_a_colour_if_one_is_over_before_the_other_starts() -> None:
    """A second chain, for a step of its own, on the colour of the first, at the next switch position."""
    values = dict(block_a().values) | {"part2": tiled(H, "(y0,-) sum:x0"), "h2": tiled(H, "(y0,-)")}
    matmul, reduce = block_a().steps
    assert isinstance(matmul, Compute) and isinstance(reduce, AllReduce)
    again = (
        replace(matmul, id="mm2", outs=("part2",)),
        replace(reduce, id="sum2", ins=("part2",), outs=("h2",), root=0),
    )
    block = replace(block_a(), values=values, steps=(matmul, reduce, *again))
    spread = replace(GOOD.collectives[1], root=0, colours=(4,))

    def clashes(*colours: int) -> list[str]:
        chain = replace(GOOD.collectives[0], root=0, colours=colours)
        program = replace(GOOD, blocks={"a": block, "b": block_b()}, collectives=(*GOOD.collectives, chain, spread))
        return [str(v) for v in verify(program) if "neither is over before the other" in str(v)]

    assert clashes(0, 3) == []  # the first chain is over for whoever has its result
    (found,) = clashes(2, 3)  # its multicast is not: the end of the line may still listen
    assert "net broadcast along x, groups of 3, root 1 and region a, net chain along x, groups of 3, root 0" in found


def test_streams_need_no_lanes_where_the_value_stays_in_place() -> None:
    second = replace(GOOD.instances[1], id="ic", bindings={"h": "y", "y": "z"})
    stream = Stream("in place", "y", H, ("ib", "y"), ("ic", "h"), ())
    out = Stream("out", "z", H, ("ic", "y"), None, GOOD.streams[2].lanes)
    program = replace(
        GOOD,
        instances=(*GOOD.instances, second),
        streams=(*GOOD.streams, stream, out),
        order=(*GOOD.order, Transfer("in place"), Execute("ic"), Transfer("out")),
        outputs={"y": H, "z": H},
    )
    assert [str(v) for v in verify(certified(program))] == []
