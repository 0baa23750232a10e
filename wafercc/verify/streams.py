"""Rule 4, between regions: every value arrives once, whole, from PEs that have it, over live links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from ..ir.block import Instance
from ..ir.dims import Affine
from ..ir.graph import TensorType, ValueName
from ..ir.layout import Mesh, Tiled
from ..ir.program import EAST, NORTH, SOUTH, WEST, EdgePort, Fan, Lane, PlacedProgram, Stream
from .combs import gate_of
from .machine import Machine
from .ownership import axis_indices, covers, holders
from .violation import Violation, pes

RULE = 4
_EDGE_NAME = {WEST: "west", EAST: "east", NORTH: "north", SOUTH: "south"}


def check_deliveries(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Each bound input of each instance, and each output of the model, has exactly one stream, of the bound value."""
    delivered = Counter(s.destination for s in program.streams if s.destination is not None)
    for instance in program.instances:
        block = program.blocks[instance.block]
        where = f"instance {instance.id}"
        for name in (*block.inputs, *block.outputs):
            if name not in instance.bindings:
                yield Violation(RULE, where, f"{name} of block {block.name} is bound to no value")
        for name in block.inputs:
            count = delivered[instance.id, name]
            if count != 1:
                value = instance.bindings.get(name, name)
                yield Violation(RULE, where, f"{count} streams deliver its input {name} ({value}), not one")
    leaves = Counter(s.value for s in program.streams if s.destination is None)
    for value in program.outputs:
        if leaves[value] != 1:
            yield Violation(RULE, f"output {value}", f"{leaves[value]} streams bring it to the edge, not one")
    for stream in program.streams:
        yield from _ends(program, stream)
        yield from _host(program, stream)


def check_lanes(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Every lane runs over live routers and links between its gates; lanes share a value out; combs cover its PEs."""
    for stream in program.streams:
        where = f"stream {stream.id} ({stream.value})"
        yield from _shares(stream, where)
        for i, lane in enumerate(stream.lanes):
            yield from _path(program, machine, lane, f"{where} lane {i}")
            for end, held, sends in ((lane.source, stream.source, True), (lane.destination, stream.destination, False)):
                if isinstance(end, Fan) and held is not None:
                    instance = program.instance[held[0]]
                    block = program.blocks[instance.block]
                    if end.region == instance.region:
                        tiled = block.values[held[1]]
                        yield from _comb(program, lane, end, tiled, block.mesh, sends, f"{where} lane {i}")


def _ends(program: PlacedProgram, stream: Stream) -> Iterator[Violation]:
    """Both ends hold the stream's value, in its type, in the regions its lanes touch."""
    where = f"stream {stream.id} ({stream.value})"
    tiles: list[tuple[Tiled, Instance]] = []
    for end, role in ((stream.source, "source"), (stream.destination, "destination")):
        if end is None:
            continue
        instance = program.instance[end[0]]
        block = program.blocks[instance.block]
        known = (*block.outputs, *block.states.values()) if role == "source" else (*block.inputs, *block.states)
        if end[1] not in known:
            yield Violation(RULE, where, f"its {role} {end[1]} is no {role} of instance {instance.id}")
        bound = instance.bindings.get(end[1])
        if bound is not None and bound != stream.value:
            yield Violation(RULE, where, f"its {role}, {end[1]} of instance {instance.id}, is bound to {bound}")
        if block.values[end[1]].type != stream.type:
            yield Violation(RULE, where, f"is {stream.type}, its {role} {end[1]} is {block.values[end[1]].type}")
        tiles.append((block.values[end[1]], instance))
        region = instance.region
        fans = [lane.source if role == "source" else lane.destination for lane in stream.lanes]
        for i, fan in enumerate(fans):
            if not isinstance(fan, Fan) or fan.region != region:
                yield Violation(RULE, f"{where} lane {i}", f"its {role} {fan} does not touch region {region}")
    for i, lane in enumerate(stream.lanes):
        if stream.source is None and not isinstance(lane.source, EdgePort):
            yield Violation(RULE, f"{where} lane {i}", "comes from the host but starts at no edge port")
        if stream.destination is None and not isinstance(lane.destination, EdgePort):
            yield Violation(RULE, f"{where} lane {i}", "goes to the host but ends at no edge port")
    if not stream.lanes and stream.type.elements and tiles:
        (first, a), (last, b) = tiles[0], tiles[-1]
        mesh = program.blocks[a.block].mesh
        in_place = len(tiles) == 2 and a.region == b.region and mesh == program.blocks[b.block].mesh
        if not in_place or not covers(first, last, mesh, frozenset()):
            yield Violation(RULE, where, "has no lanes, and its ends do not hold it in one place")


def _host(program: PlacedProgram, stream: Stream) -> Iterator[Violation]:
    """What the host writes is an input of the model, what it reads an output; a cache is one that the program names."""
    where = f"stream {stream.id} ({stream.value})"
    if stream.source is None:
        yield from _signature(stream, where, program.inputs, frozenset(program.states), "input")
    if stream.destination is None:
        yield from _signature(stream, where, program.outputs, frozenset(program.states.values()), "output")
    if stream.state and stream.source is not None and stream.destination is not None:
        yield Violation(RULE, where, "is marked as a cache, but neither end is the host")


def _signature(
    stream: Stream, where: str, types: Mapping[ValueName, TensorType], caches: frozenset[ValueName], role: str
) -> Iterator[Violation]:
    if stream.value not in types:
        yield Violation(RULE, where, f"is an {role} at the host, but the model has no such {role}")
    elif types[stream.value] != stream.type:
        yield Violation(RULE, where, f"is {stream.type}, the model's {role} is {types[stream.value]}")
    if stream.state and stream.value not in caches:
        yield Violation(RULE, where, f"is marked as a cache, but the program names no such cache {role}")


def _shares(stream: Stream, where: str) -> Iterator[Violation]:
    """The lanes' ranges of elements divide one dimension, each element once."""
    if not stream.lanes:
        return
    dims = {lane.dim for lane in stream.lanes}
    if len(dims) > 1 or (None in dims and len(stream.lanes) > 1):
        yield Violation(RULE, where, f"its {len(stream.lanes)} lanes do not divide one dimension between them")
        return
    (dim,) = dims
    if dim is None:
        return
    if not 0 <= dim < stream.type.rank:
        yield Violation(RULE, where, f"its lanes divide dimension {dim} of {stream.type}")
        return
    size = stream.type.shape[dim]
    extent = size.upper if isinstance(size, Affine) else size
    reached = 0
    for lane in sorted(stream.lanes, key=lambda each: each.lo):
        if lane.lo != reached or lane.hi <= lane.lo:
            problem = f"elements {reached} to {lane.lo} of dimension {dim}"
            verb = "are carried by no lane" if lane.lo > reached else "are carried twice, or by an empty lane"
            yield Violation(RULE, where, f"{problem} {verb}")
        reached = max(reached, lane.hi)
    if reached != extent:
        yield Violation(RULE, where, f"its lanes end at element {reached} of {extent} in dimension {dim}")


def _path(program: PlacedProgram, machine: Machine, lane: Lane, where: str) -> Iterator[Violation]:
    """From gate to gate, router by router, over live links."""
    ends = [gate_of(program, end) for end in (lane.source, lane.destination)]
    wafer = ends[0][0]
    if ends[1][0] != wafer or not 0 <= wafer < machine.wafers:
        yield Violation(RULE, where, f"runs from wafer {wafer} to wafer {ends[1][0]}; there are {machine.wafers}")
        return
    for end in (lane.source, lane.destination):
        if isinstance(end, EdgePort) and not _at_edge(end, machine):
            yield Violation(RULE, where, f"({end.x}, {end.y}) is no port of the edges {', '.join(machine.edges)}")
    x, y = lane.path[:, 0], lane.path[:, 1]
    for (_, gate_x, gate_y), i, word in zip(ends, (0, -1), ("starts", "ends"), strict=True):
        if (int(x[i]), int(y[i])) != (gate_x, gate_y):
            yield Violation(RULE, where, f"its path {word} at ({x[i]}, {y[i]}), its gate is ({gate_x}, {gate_y})")
    outside = ~machine.inside(x, y)
    if outside.any():
        yield Violation(RULE, where, f"{pes(x[outside], y[outside])} outside the {machine.width}x{machine.height} grid")
        return
    dead = ~machine.router_alive[wafer][y, x]
    if dead.any():
        yield Violation(RULE, where, f"passes dead router at {pes(x[dead], y[dead])}")
    dx, dy = np.diff(x), np.diff(y)
    far = abs(dx) + abs(dy) != 1
    if far.any():
        yield Violation(RULE, where, f"its path jumps after {pes(x[:-1][far], y[:-1][far])}")
    for side, leaves in ((EAST, dx == 1), (WEST, dx == -1), (SOUTH, dy == 1), (NORTH, dy == -1)):
        cut = leaves & ~far & ~machine.link_alive[side][wafer][y[:-1], x[:-1]]
        if cut.any():
            yield Violation(RULE, where, f"crosses a dead link {_EDGE_NAME[side]} of {pes(x[:-1][cut], y[:-1][cut])}")


def _at_edge(port: EdgePort, machine: Machine) -> bool:
    border = {WEST: port.x == 0, EAST: port.x == machine.width - 1}
    border |= {NORTH: port.y == 0, SOUTH: port.y == machine.height - 1}
    return border.get(port.side, False) and _EDGE_NAME[port.side] in machine.edges


def _comb(
    program: PlacedProgram, lane: Lane, fan: Fan, tiled: Tiled, mesh: Mesh, sends: bool, where: str
) -> Iterator[Violation]:
    """The comb reaches every PE that must send (one replica) or that needs (all replicas) an element of the lane."""
    region = program.region[fan.region]
    reached = np.zeros((mesh.rows, mesh.columns), bool)
    reached[(slice(fan.lo, fan.hi), slice(None)) if fan.along == "y" else (slice(None), slice(fan.lo, fan.hi))] = True
    row, column = (fan.gate, fan.trunk) if fan.along == "y" else (fan.trunk, fan.gate)
    replica = axis_indices(mesh, row, column) if sends else None
    within = None if lane.dim is None else (lane.dim, lane.lo, lane.hi)
    missed = np.zeros_like(reached)
    for n_past in _lengths(tiled):
        missed |= holders(tiled, mesh, n_past, within, replica) & ~reached
    if missed.any():
        what = "holds elements to send" if sends else "needs elements"
        yield Violation(
            RULE,
            where,
            f"its comb in region {fan.region} misses {pes(region.xs[missed], region.ys[missed])}, which {what}",
        )


def _lengths(tiled: Tiled) -> tuple[int, ...]:
    """The values of ``n_past`` to look at: the ends of its range and the middle."""
    past = [dim.past_max for dim in tiled.type.shape if isinstance(dim, Affine)]
    return tuple(sorted({0, max(past) // 2, max(past)})) if past else (0,)
