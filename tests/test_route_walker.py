"""The walker: follows words through a RouterTable, port by port, knowing nothing of how the table was made.

Also what tests of routing share: regions, blocks and demands made by hand, and the checks that hold of every routing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytest

from wafercc.ir.block import Block, BlockName, Instance, InstanceId, LocalName, RegionId, Step, step_ins
from wafercc.ir.dims import upper
from wafercc.ir.dtypes import DType
from wafercc.ir.embedding import RegionEmbedding
from wafercc.ir.graph import TensorType, ValueName
from wafercc.ir.layout import Layout, Mesh, Tiled, owned, parse_layout
from wafercc.ir.lines import Excerpt
from wafercc.ir.program import (
    EAST,
    NORTH,
    RAMP,
    SOUTH,
    WEST,
    CollectiveNet,
    EdgePort,
    Fan,
    Lane,
    Rect,
    Region,
    RouterTable,
    Stream,
    StreamId,
)
from wafercc.ir.routing import Routing, StreamDemand
from wafercc.passes.route import Route
from wafercc.passes.route.text import parse_routing
from wafercc.silicon import DefectMap
from wafercc.targets import Target

STEP = {NORTH: (0, -1), EAST: (1, 0), SOUTH: (0, 1), WEST: (-1, 0)}
OPPOSITE = {NORTH: SOUTH, SOUTH: NORTH, EAST: WEST, WEST: EAST}
PE = tuple[int, int]


def ports_of(mask: int) -> list[int]:
    return [p for p in (NORTH, EAST, SOUTH, WEST, RAMP) if mask & p]


class Walker:
    """A router table as a dictionary: (x, y, colour) → rows (ins, outs, net)."""

    def __init__(self, table: RouterTable) -> None:
        self.nets = table.nets
        self.sent: set[tuple[PE, int]] = set()
        self.rows: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
        for x, y, c, ins, outs, net in zip(
            *(a.tolist() for a in (table.x, table.y, table.colour, table.ins, table.outs, table.net)), strict=True
        ):
            self.rows.setdefault((x, y, c), []).append((ins, outs, net))

    def outs(self, at: PE, colour: int, port: int, name: str | None) -> int:
        """Where a word that enters by a port goes on: by the row of the named net, else by the only one there is."""
        rows = [(outs, net) for ins, outs, net in self.rows.get((*at, colour), []) if ins & port]
        own = [outs for outs, net in rows if name and self.nets[net].split(" (")[0] == name]
        found = own or [outs for outs, _ in rows]
        if name and name.startswith("tree") and len(set(found)) > 1:
            # Levels share their rows: before its PE has sent, a router hears; afterwards it hands on.
            found = [outs for outs, _ in rows if (outs == RAMP) != ((at, colour) in self.sent)]
        assert len(set(found)) == 1, f"colour {colour} at {at} from port {port}: {found}"
        return found[0]

    def walk(self, at: PE, colour: int, port: int = RAMP, name: str | None = None) -> list[tuple[PE, int]]:
        """Every (router, port) where a word leaves the fabric: by a ramp, or off a router's side that leads nowhere."""
        if port == RAMP:
            self.sent.add((at, colour))
        ends: list[tuple[PE, int]] = []
        todo = [(at, port)]
        seen: set[tuple[PE, int]] = set()
        while todo:
            here = todo.pop()
            assert here not in seen, f"colour {colour} runs in a circle at {here}"
            seen.add(here)
            for out in ports_of(self.outs(here[0], colour, here[1], name)):
                there = (here[0][0] + STEP.get(out, (0, 0))[0], here[0][1] + STEP.get(out, (0, 0))[1])
                if out == RAMP or (*there, colour) not in self.rows:
                    ends.append((here[0], out))
                else:
                    todo.append((there, OPPOSITE[out]))
        return ends


def at(region: Region, row: int, column: int) -> PE:
    return int(region.xs[row, column]), int(region.ys[row, column])


def teeth_of(region: Region, fan: Fan) -> list[tuple[int, int]]:
    """The logical PEs (row, column) of a fan's teeth."""
    rows, columns = range(region.rows), range(region.columns)
    if fan.along == "y":
        return list(itertools.product(range(fan.lo, fan.hi), columns))
    return list(itertools.product(rows, range(fan.lo, fan.hi)))


def gate_of(fan: Fan) -> tuple[int, int]:
    return (fan.gate, fan.trunk) if fan.along == "y" else (fan.trunk, fan.gate)


def holdings(tiled: Tiled, mesh: Mesh, row: int, column: int) -> list[set[int]] | None:
    """Per dimension the elements one logical PE holds (at the capacity), None if it holds nothing."""
    index: dict[str, int] = {}
    for along, rest in (("y", row), ("x", column)):
        for axis in reversed([a for a in mesh.axes if a.along == along]):
            rest, index[axis.name] = divmod(rest, axis.extent)
    if any(index[axis] != i for axis, i in tiled.layout.held):
        return None
    result = []
    for dim, split in zip(tiled.type.shape, tiled.layout.splits, strict=True):
        part = 0
        for axis in split.axes:
            part = part * mesh.extent[axis] + index[axis]
        result.append({int(e) for e in owned(upper(dim), split, mesh.parts(split.axes))[part] if e >= 0})
    return result if all(result) else None


def replica(tiled: Tiled, mesh: Mesh, row: int, column: int) -> tuple[int, ...]:
    """A PE's indices on the axes that replicate a value."""
    fixed = set(tiled.layout.cut_axes) | {a for a, _ in tiled.layout.held}
    index: list[int] = []
    for along, rest in (("y", row), ("x", column)):
        for axis in reversed([a for a in mesh.axes if a.along == along]):
            rest, i = divmod(rest, axis.extent)
            index += [i] if axis.name not in fixed else []
    return tuple(index)


class World:
    """Regions, blocks and demands of one test."""

    def __init__(self, target: Target, defects: DefectMap | None = None) -> None:
        self.target = target
        self.defects = DefectMap.none(target) if defects is None else defects
        self.regions: list[Region] = []
        self.blocks: dict[BlockName, Block] = {}
        self.instances: list[Instance] = []
        self.demands: list[StreamDemand] = []

    def region(
        self, xs: np.ndarray, ys: np.ndarray, mesh: Mesh, values: Mapping[str, Tiled], steps: Sequence[Step] = ()
    ) -> InstanceId:
        """A region with one block and one instance, whose values may all be streamed."""
        xs, ys = (np.broadcast_to(a, (mesh.rows, mesh.columns)).astype(np.int32) for a in (xs, ys))
        rect = Rect(0, int(xs.min()), int(ys.min()), int(xs.max() - xs.min()) + 1, int(ys.max() - ys.min()) + 1)
        return self.embedded(RegionEmbedding(rect, xs, ys), mesh, values, steps)

    def embedded(
        self, found: RegionEmbedding, mesh: Mesh, values: Mapping[str, Tiled], steps: Sequence[Step] = ()
    ) -> InstanceId:
        """A region as it was embedded, with one block and one instance."""
        i = len(self.regions)
        self.regions.append(found.region(RegionId(f"r{i}")))
        named = {LocalName(n): t for n, t in values.items()}
        moved = {v: Tiled(TensorType(DType.F32, (1,)), Layout.replicated(1)) for step in steps for v in step_ins(step)}
        self.blocks[BlockName(f"b{i}")] = Block(
            BlockName(f"b{i}"), mesh, moved | named, (), tuple(named), tuple(named), tuple(steps)
        )
        self.instances.append(Instance(InstanceId(f"i{i}"), BlockName(f"b{i}"), RegionId(f"r{i}"), {}, {}))
        return InstanceId(f"i{i}")

    def box(self, x: int, y: int, mesh: Mesh, values: Mapping[str, Tiled], steps: Sequence[Step] = ()) -> InstanceId:
        """A straight region without gaps."""
        xs = x + np.arange(mesh.columns)[None, :] + np.zeros((mesh.rows, 1), int)
        ys = y + np.arange(mesh.rows)[:, None] + np.zeros((1, mesh.columns), int)
        return self.region(xs, ys, mesh, values, steps)

    def stream(
        self,
        source: InstanceId | None,
        destination: InstanceId | None,
        name: str = "v",
        then: str = "",
        state: bool = False,
    ) -> StreamId:
        """A stream of a value; into a value of another name with ``then``."""
        i = len(self.demands)
        end = source or destination
        kind = (
            self.blocks[next(k.block for k in self.instances if k.id == end)].values[LocalName(name)].type
            if end
            else TensorType(DType.F32, (4,))
        )
        ends = [None if e is None else (e, LocalName(n)) for e, n in ((source, name), (destination, then or name))]
        self.demands.append(StreamDemand(StreamId(f"s{i}"), ValueName(name), kind, ends[0], ends[1], state))
        return StreamId(f"s{i}")

    def route(self, **options: int) -> Routing:
        order = [d.id for d in self.demands]
        return Route(**options)(
            self.regions, self.blocks, self.instances, self.demands, order, self.target, self.defects
        )

    def again(self, text: str) -> Routing:
        """The routing that a text says."""
        order = [d.id for d in self.demands]
        written = parse_routing(Excerpt(text), order, {r.id: r for r in self.regions}, self.target)
        return Route().again(
            self.regions, self.blocks, self.instances, self.demands, order, written, self.target, self.defects
        )

    def tiled(self, end: tuple[InstanceId, LocalName]) -> tuple[Region, Mesh, Tiled]:
        instance = next(i for i in self.instances if i.id == end[0])
        block = self.blocks[instance.block]
        return next(r for r in self.regions if r.id == instance.region), block.mesh, block.values[end[1]]


def tiled(shape: Iterable[int], layout: str, dtype: DType = DType.F32) -> Tiled:
    return Tiled(TensorType(dtype, tuple(shape)), parse_layout(layout))


def check_table(world: World, routing: Routing) -> None:
    """What holds of every table: sorted, in range, one configuration a position, nothing through what is dead."""
    t = routing.routers
    key = list(zip(*(a.tolist() for a in (t.wafer, t.y, t.x, t.colour, t.position)), strict=True))
    assert key == sorted(set(key)), "sorted, and no (router, colour, position) twice"
    assert (t.position < world.target.router.switch_positions).all()
    assert ((t.colour >= 0) & (t.colour < world.target.router.colours)).all()
    assert ((t.ins > 0) & (t.outs > 0) & (t.ins & t.outs == 0)).all() or len(world.target.ports()) == 1
    alive = world.defects.alive()
    assert alive.router[t.y, t.x].all()
    outside = {(int(x), int(y), int(side)) for side, x, y in world.target.ports()}
    for side in STEP:
        for mask in (t.ins, t.outs):
            here = (mask & side) > 0
            link = world.defects.link_alive(side)[t.y[here], t.x[here]]
            for x, y in zip(t.x[here][~link].tolist(), t.y[here][~link].tolist(), strict=True):
                assert (x, y, side) in outside, f"({x}, {y}) uses a dead link on side {side}"


def check_streams(world: World, routing: Routing) -> None:
    """Every element a PE needs reaches it over exactly one lane, from a PE that holds it, and nobody else's ramp hears
    it."""
    walker = Walker(routing.routers)
    by_id = {r.id: r for r in world.regions}
    for stream in routing.streams:
        name = _net_of(world, stream)
        for lane in stream.lanes:
            _check_path(world, lane)
            heard = _heard(walker, by_id, lane, name)
            if isinstance(lane.destination, Fan):
                region = by_id[lane.destination.region]
                wanted = {(at(region, *pe), RAMP) for pe in teeth_of(region, lane.destination)}
            else:
                wanted = {((lane.destination.x, lane.destination.y), lane.destination.side)}
            for ends in heard.values():
                assert len(ends) == len(set(ends)) and set(ends) == wanted
        if stream.destination is not None:
            _check_needs(world, stream.destination, stream.lanes)
        if stream.source is not None:
            _check_sent(world, stream.source, stream.lanes)


def _net_of(world: World, stream: Stream) -> str:
    """The net that carries a stream: its own, or all the host's with a region."""
    if (stream.source is None) == (stream.destination is None):
        return f"stream {stream.id}"
    kind, end = ("input", stream.destination) if stream.source is None else ("output", stream.source)
    assert end is not None
    region, _, _ = world.tiled(end)
    return f"host {kind} of {region.id}"


def _heard(
    walker: Walker, regions: Mapping[RegionId, Region], lane: Lane, name: str
) -> dict[PE, list[tuple[PE, int]]]:
    """For every PE (or port) that may send on a lane: where its words come out."""
    if isinstance(lane.source, EdgePort):
        start = (lane.source.x, lane.source.y)
        return {start: walker.walk(start, lane.colour, lane.source.side, name)}
    region = regions[lane.source.region]
    return {
        at(region, *pe): walker.walk(at(region, *pe), lane.colour, RAMP, name) for pe in teeth_of(region, lane.source)
    }


def _check_path(world: World, lane: Lane) -> None:
    path = lane.path
    assert (abs(np.diff(path, axis=0)).sum(axis=1) == 1).all() and len({tuple(p) for p in path.tolist()}) == len(path)
    for end, place in ((lane.source, path[0]), (lane.destination, path[-1])):
        if isinstance(end, EdgePort):
            assert (end.x, end.y) == tuple(place.tolist())
            assert any((end.side, end.x, end.y) == tuple(p) for p in world.target.ports().tolist())
        else:
            region = next(r for r in world.regions if r.id == end.region)
            assert at(region, *gate_of(end)) == tuple(place.tolist())


def _in_lane(lane: Lane, held: list[set[int]]) -> set[int] | None:
    """The elements of the lane's dimension among those held; None for a lane that carries everything."""
    return None if lane.dim is None else {e for e in held[lane.dim] if lane.lo <= e < lane.hi}


def _check_needs(world: World, end: tuple[InstanceId, LocalName], lanes: Sequence[Lane]) -> None:
    region, mesh, value = world.tiled(end)
    for row, column in itertools.product(range(region.rows), range(region.columns)):
        needed = holdings(value, mesh, row, column)
        if needed is None:
            continue
        got: list[int] = []
        for lane in lanes:
            assert isinstance(lane.destination, Fan)
            if (row, column) in teeth_of(region, lane.destination):
                share = _in_lane(lane, needed)
                got += [-1] if share is None else list(share)
        if got != [-1]:
            dim = next(lane.dim for lane in lanes if lane.dim is not None)
            assert sorted(got) == sorted(needed[dim]), f"PE {row},{column} hears {got}"


def _check_sent(world: World, end: tuple[InstanceId, LocalName], lanes: Sequence[Lane]) -> None:
    """Each element is sent once: on one lane, by one PE."""
    region, mesh, value = world.tiled(end)
    shape = tuple(upper(d) for d in value.type.shape)
    sent = np.zeros(shape, int)
    for lane in lanes:
        assert isinstance(lane.source, Fan)
        like = replica(value, mesh, *gate_of(lane.source))
        for row, column in teeth_of(region, lane.source):
            held = holdings(value, mesh, row, column)
            if held is None or replica(value, mesh, row, column) != like:
                continue
            share = _in_lane(lane, held)
            if share is not None:
                assert lane.dim is not None
                held = [*held[: lane.dim], share, *held[lane.dim + 1 :]]
            sent[np.ix_(*(sorted(h) for h in held))] += 1
    assert (sent == 1).all(), "every element once"


def check_collectives(world: World, routing: Routing) -> None:
    """Every message of every collective net ends on the ramps the net's description names, and nowhere else."""
    walker = Walker(routing.routers)
    for i, net in enumerate(routing.collectives):
        region = next(r for r in world.regions if r.id == net.region)
        lines = region.rows if net.along == "x" else region.columns
        n = region.columns if net.along == "x" else region.rows

        def pe(line: int, j: int, region: Region = region, net: CollectiveNet = net) -> PE:
            return at(region, line, j) if net.along == "x" else at(region, j, line)

        for line in range(lines):
            for source, slot, goals in messages(net, n):
                colour = net.colours[slot * net.classes + line % net.classes]
                ends = walker.walk(pe(line, source), colour, RAMP, routing.routers.nets[i])
                assert sorted(ends) == sorted((pe(line, goal), RAMP) for goal in goals), (
                    f"{net} line {line} PE {source}"
                )


def messages(net: CollectiveNet, n: int) -> Iterable[tuple[int, int, list[int]]]:
    """What a net's description says: (sender, slot, receivers) on a line of n PEs."""
    for start in range(0, n, net.group):
        group = range(start, min(start + net.group, n))
        root = start + net.root
        if net.kind == "broadcast":
            yield root, 0, [j for j in group if j != root]
            continue
        for j in group:
            d, after = abs(j - root), int(j > root)
            near = 1 if j < root else -1
            if net.kind == "collect" and d:
                yield j, after, [root]
            elif net.kind == "tree" and d % (2 << net.level) == 1 << net.level:
                yield j, after, [j + near * (1 << net.level)]
            elif net.kind in ("chain", "leaders") and d and d % net.stride == 0:
                yield j, (d // net.stride + after) % 2, [j + near * net.stride]


def check(world: World, routing: Routing) -> None:
    check_table(world, routing)
    check_streams(world, routing)
    check_collectives(world, routing)


def table(*rows: tuple[int, int, int, int]) -> RouterTable:
    """A table of colour 0 from rows (x, y, ins, outs)."""
    x, y, ins, outs = (np.array(c, np.int32) for c in zip(*rows, strict=True))
    zero = np.zeros(len(rows), np.int32)
    return RouterTable(zero, x, y, zero, zero, ins, outs, zero, ("net",))


def test_the_walker_finds_every_ramp_a_word_reaches() -> None:
    walker = Walker(table((0, 0, RAMP, EAST), (1, 0, WEST, RAMP | EAST), (2, 0, WEST, RAMP)))
    assert sorted(walker.walk((0, 0), 0)) == [((1, 0), RAMP), ((2, 0), RAMP)]


def test_the_walker_refuses_a_circle() -> None:
    walker = Walker(table((0, 0, RAMP | WEST, EAST), (1, 0, WEST, SOUTH), (1, 1, NORTH, WEST), (0, 1, EAST, NORTH)))
    walker.rows[0, 0, 0] = [(RAMP | SOUTH, EAST, 0)]
    with pytest.raises(AssertionError, match="circle"):
        walker.walk((0, 0), 0)
