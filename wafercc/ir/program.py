"""PlacedProgram: everything a wafer needs to run one model, and nothing it doesn't.

Blocks say what is computed, instances where and with which weights, streams what moves between regions and the edge,
nets over which routers and colours, the order who is served first. It is plain data: the passes build it, the
artifact stores it, the runtime executes it, the verifier re-derives it, and none of those know each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NewType

import numpy as np
from numpy.typing import NDArray

from .block import Block, BlockName, Instance, InstanceId, LocalName, RegionId
from .certificate import Certificate
from .graph import TensorType, ValueName
from .layout import Mesh, Tiled

StreamId = NewType("StreamId", str)
IntArray = NDArray[np.int32]

# Ports of a router, as bits of a mask: N is towards y-1, S towards y+1.
NORTH, EAST, SOUTH, WEST, RAMP = 1, 2, 4, 8, 16


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of PEs of one wafer: columns ``x .. x+w-1``, rows ``y .. y+h-1``."""

    wafer: int
    x: int
    y: int
    w: int
    h: int

    def __str__(self) -> str:
        return f"{self.w}x{self.h}+{self.x}+{self.y}" + (f"@{self.wafer}" if self.wafer else "")


@dataclass(frozen=True, eq=False)
class Detour:
    """How two logical neighbours are joined where the standard path crosses something dead.

    They are PE (``row``, ``column``) and the next one of its row (``along`` "x") or of its column ("y").
    ``path[n, 2]``: every router (x, y) from that PE to the next, both included, neighbours adjacent, inside the
    region's rectangle. Words take it in both directions.
    """

    along: Literal["y", "x"]
    row: int
    column: int
    path: IntArray


@dataclass(frozen=True)
class Region:
    """A logical p x q mesh of live PEs in a rectangle of the wafer.

    ``xs[p, q]``, ``ys[p, q]``: the physical column and row of each logical PE. Row neighbours are joined along their
    row, column neighbours by going down the upper PE's column to the lower PE's row, then along that row: the standard
    path. ``detours`` lists the pairs of neighbours, each at most once, that are joined otherwise.
    """

    id: RegionId
    rect: Rect
    xs: IntArray
    ys: IntArray
    detours: tuple[Detour, ...] = ()

    @property
    def rows(self) -> int:
        return int(self.xs.shape[0])

    @property
    def columns(self) -> int:
        return int(self.xs.shape[1])


@dataclass(frozen=True, slots=True)
class Fan:
    """How a lane touches a region: a comb. Its *teeth* are the logical rows ``lo .. hi-1``, its *trunk* runs down
    logical column ``trunk`` between them, its *gate* is the trunk PE of logical row ``gate``. With ``along="x"`` rows
    and columns change places.

    As a source the comb collects: a router serves its own ramp first, then its teeth, then the rest of the trunk, one
    switch position each. As a destination it spreads: every PE of the teeth hears every word and keeps what is its own.
    Where jogs or detours close a ring, every router takes the shortest way to the gate over the links of the teeth and
    the trunk, among equals the neighbour to its south, then west, north, east; branches that then lead to no PE are
    left out.
    """

    region: RegionId
    along: Literal["y", "x"]
    lo: int
    hi: int
    trunk: int
    gate: int


@dataclass(frozen=True, slots=True)
class EdgePort:
    """A port at the wafer's edge where the host writes or reads words: the router at (x, y), outwards on ``side``."""

    wafer: int
    x: int
    y: int
    side: int


@dataclass(frozen=True)
class Lane:
    """One net of a stream: source comb or edge port, a path of routers, destination comb or edge port; one colour.

    ``path[n, 2]``: every router (x, y) from the source gate (or port) to the destination gate (or port), both included,
    neighbours adjacent. The lane carries elements ``lo .. hi-1`` (at the context capacity) of dimension ``dim`` of
    the value, all of it if ``dim`` is None, every element once: on an axis that replicates the source value, the PE
    with the gate's index sends.
    """

    source: Fan | EdgePort
    destination: Fan | EdgePort
    path: IntArray
    colour: int
    dim: int | None = None
    lo: int = 0
    hi: int = 0

    @property
    def net(self) -> tuple[object, ...]:
        """What tells nets apart: the ends, the path and the colour. Lanes of equal nets are one net."""
        return self.source, self.destination, self.colour, self.path.tobytes()


@dataclass(frozen=True)
class Stream:
    """A value that moves: from an instance's output or an edge port to an instance's input or an edge port.

    ``source``/``destination``: (instance, local name) inside a region, ``None`` at the edge. ``state`` marks a cache
    that the stateless ``run`` loads before, or reads back after, the timed part.
    """

    id: StreamId
    value: ValueName
    type: TensorType
    source: tuple[InstanceId, LocalName] | None
    destination: tuple[InstanceId, LocalName] | None
    lanes: tuple[Lane, ...]
    state: bool = False


CollectiveKind = Literal["chain", "tree", "leaders", "broadcast", "collect"]


@dataclass(frozen=True, slots=True)
class CollectiveNet:
    """The nets of one collective pattern in one region, all lines at once, with the colours they use.

    Lines run along ``along`` ("x": each logical row is a line) and are cut into groups of ``group`` consecutive PEs,
    each with root index ``root`` inside its group. ``kind``:

    - chain: every PE sends to its neighbour towards the root. ``colours`` = (a, b): the PE at distance d from the root
      sends on ``colours[(d + (1 if it lies after the root else 0)) % 2]``, so no router sends and receives on one
      colour.
    - tree: round ``level``: PEs at distance ``2**level`` (mod ``2**(level+1)``) from the root, on either side, send to
      the PE ``2**level`` nearer. ``colours`` = (before root, after root).
    - leaders: as chain, between PEs at multiples of ``stride`` from the root (group roots of a two-phase reduce).
    - broadcast: the root multicasts to its group. ``colours`` = (a,).
    - collect: every PE injects in turn, nearest the root first; ``colours`` = (before root, after root). Two switch
      positions: own ramp, then the farther neighbour.

    Where jogs or detours make lines meet, ``classes`` > 1: line i uses colour ``colours[k * classes + i % classes]``
    in place of ``colours[k]``.
    """

    region: RegionId
    along: Literal["y", "x"]
    group: int
    root: int
    kind: CollectiveKind
    colours: tuple[int, ...]
    level: int = 0
    stride: int = 1
    classes: int = 1


@dataclass(frozen=True)
class RouterTable:
    """Router configuration, one row per (router, colour, switch position): masks of in-ports and out-ports.

    Rows are sorted by (wafer, y, x, colour, position). ``net`` indexes ``nets``, the names used in messages.
    """

    wafer: IntArray
    x: IntArray
    y: IntArray
    colour: IntArray
    position: IntArray
    ins: IntArray
    outs: IntArray
    net: IntArray
    nets: tuple[str, ...]


@dataclass(frozen=True)
class WeightTiles:
    """One weight as its PEs hold it: ``tiles`` has the mesh axes first (1 where replicated), then the tile; where
    elements share bytes, the packed bytes of the tile (`packing.pack`).

    ``origin`` names the ONNX initialiser. Replicas are declared twofold: in the layout, where an axis that cuts nothing
    holds copies; and by ``value``, the weight of the graph: entries of one value hold the same numbers, cut differently
    for different uses. ``tiles`` is None in a weightless program.
    """

    tiled: Tiled
    mesh: Mesh
    tiles: NDArray[np.generic] | None
    origin: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Task: serve a stream."""

    stream: StreamId


@dataclass(frozen=True, slots=True)
class Execute:
    """Task: run all steps of an instance, in order, on its region."""

    instance: InstanceId


Task = Transfer | Execute


@dataclass(frozen=True, slots=True)
class SramPlan:
    """Planned SRAM bytes on each PE of a region: resident parts, and the peak of everything else."""

    weights_bytes: int
    state_bytes: int
    peak_activation_bytes: int
    bound_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.state_bytes + self.peak_activation_bytes


@dataclass(frozen=True)
class PlacedProgram:
    """The placed program. ``target`` and ``defects`` are JSON forms, so that it stands alone.

    ``order`` is the service order of every PE and link: tasks that share one are served as they stand here.
    """

    model: str
    target: Mapping[str, Any]
    defects: Mapping[str, Any]
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    inputs: Mapping[ValueName, TensorType]
    outputs: Mapping[ValueName, TensorType]
    states: Mapping[ValueName, ValueName]
    past_max: int
    id_limits: Mapping[ValueName, int]
    regions: tuple[Region, ...]
    blocks: Mapping[BlockName, Block]
    instances: tuple[Instance, ...]
    streams: tuple[Stream, ...]
    collectives: tuple[CollectiveNet, ...]
    routers: RouterTable
    order: tuple[Task, ...]
    sram: Mapping[RegionId, SramPlan]
    weights: Mapping[str, WeightTiles]
    certificate: Certificate = field(default_factory=Certificate)
    decisions: Mapping[str, Any] = field(default_factory=dict)
    graph_text: str = ""
    assumptions: tuple[str, ...] = ()

    @cached_property
    def region(self) -> Mapping[RegionId, Region]:
        return {r.id: r for r in self.regions}

    @cached_property
    def instance(self) -> Mapping[InstanceId, Instance]:
        return {i.id: i for i in self.instances}

    @cached_property
    def stream(self) -> Mapping[StreamId, Stream]:
        return {s.id: s for s in self.streams}

    @cached_property
    def distinct_lanes(self) -> Mapping[tuple[object, ...], Lane]:
        """`Lane.net` → lane, in order of first appearance: values that follow one another on one net count once."""
        lanes: dict[tuple[object, ...], Lane] = {}
        for stream in self.streams:
            for lane in stream.lanes:
                lanes.setdefault(lane.net, lane)
        return lanes
