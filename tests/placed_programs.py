"""Placed programs made by hand, small enough to work out on paper: what the runtime's tests run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wafercc.ir.block import (
    AllGather,
    AllReduce,
    Block,
    BlockName,
    Compute,
    Instance,
    InstanceId,
    LocalName,
    Narrow,
    Phase,
    ReduceAlgorithm,
    RegionId,
    Step,
    StepId,
)
from wafercc.ir.dims import Dim
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import Attr, Op, OpId, TensorType, ValueName
from wafercc.ir.layout import AxisName, Mesh, Tiled, parse_layout
from wafercc.ir.loops import Combine
from wafercc.ir.program import (
    WEST,
    EdgePort,
    Execute,
    Fan,
    Lane,
    PlacedProgram,
    Rect,
    Region,
    RouterTable,
    SramPlan,
    Stream,
    StreamId,
    Transfer,
    WeightTiles,
)
from wafercc.ir.tiling import tile
from wafercc.targets import load

Array = NDArray[np.generic]


def tiled(layout: str, *shape: Dim, dtype: DType = DType.F32) -> Tiled:
    """``tiled("(y0,-)", 8, 3)``: a value of that shape in that layout."""
    return Tiled(TensorType(dtype, shape), parse_layout(layout))


def op(kind: str, inputs: int, outputs: int = 1, name: str = "", **attrs: Attr) -> Op:
    ids = tuple(ValueName(f"i{i}") for i in range(inputs))
    return Op(OpId(name or kind), kind, ids, tuple(ValueName(f"o{i}") for i in range(outputs)), attrs)


def compute(
    step_op: Op, ins: Sequence[str | None], outs: Sequence[str], phase: Phase = Phase.WHOLE, name: str = ""
) -> Compute:
    given = tuple(None if i is None else LocalName(i) for i in ins)
    step = StepId(name or f"{step_op.id}.{phase}")
    return Compute(step, step_op, phase, given, tuple(LocalName(o) for o in outs))


def all_reduce(
    ins: Sequence[str],
    outs: Sequence[str],
    axes: str,
    combine: Combine = Combine.SUM,
    algorithm: ReduceAlgorithm = ReduceAlgorithm.CHAIN,
    root: int = 0,
    group: int = 0,
) -> AllReduce:
    names = tuple(AxisName(a) for a in axes.split("*"))
    step = StepId(f"reduce.{outs[0]}")
    return AllReduce(
        step, tuple(map(LocalName, ins)), tuple(map(LocalName, outs)), names, combine, algorithm, root, group
    )


def all_gather(source: str, result: str, axes: str, root: int = 0) -> AllGather:
    names = tuple(AxisName(a) for a in axes.split("*"))
    return AllGather(StepId(f"gather.{result}"), LocalName(source), LocalName(result), names, root)


def narrow(source: str, result: str) -> Narrow:
    return Narrow(StepId(f"narrow.{result}"), LocalName(source), LocalName(result))


def block(
    mesh: Mesh,
    values: Mapping[str, Tiled],
    steps: Sequence[Step],
    inputs: str = "",
    outputs: str = "",
    params: str = "",
    states: Mapping[str, str] | None = None,
    name: str = "block",
) -> Block:
    def locals_(text: str) -> tuple[LocalName, ...]:
        return tuple(map(LocalName, text.split()))

    return Block(
        BlockName(name),
        mesh,
        {LocalName(k): v for k, v in values.items()},
        locals_(params),
        locals_(inputs),
        locals_(outputs),
        tuple(steps),
        {LocalName(k): LocalName(v) for k, v in (states or {}).items()},
    )


def region(name: str, mesh: Mesh, x: int = 1, y: int = 0, gap: int = 0) -> Region:
    """A region without dead cores; with ``gap`` the columns stand that many PEs farther apart."""
    columns = x + np.arange(mesh.columns, dtype=np.int32) * (1 + gap)
    rows = y + np.arange(mesh.rows, dtype=np.int32)
    xs, ys = np.meshgrid(columns, rows)
    rect = Rect(0, x, y, int(columns[-1]) - x + 1, mesh.rows)
    return Region(RegionId(name), rect, xs.astype(np.int32), ys.astype(np.int32))


def whole_fan(where: Region) -> Fan:
    """All rows, trunk in the first column, gate in the first row."""
    return Fan(where.id, "y", 0, where.rows, 0, 0)


def walk(*corners: tuple[int, int]) -> NDArray[np.int32]:
    """The routers on straight runs between corners."""
    path = [corners[0]]
    for x, y in corners[1:]:
        while path[-1] != (x, y):
            here = path[-1]
            step = (int(np.sign(x - here[0])), 0) if x != here[0] else (0, int(np.sign(y - here[1])))
            path.append((here[0] + step[0], here[1] + step[1]))
    return np.array(path, np.int32)


def at_gate(where: Region, fan: Fan) -> tuple[int, int]:
    p, q = (fan.gate, fan.trunk) if fan.along == "y" else (fan.trunk, fan.gate)
    return int(where.xs[p, q]), int(where.ys[p, q])


def input_stream(name: str, held: Tiled, where: Region, instance: str, local: str, state: bool = False) -> Stream:
    fan = whole_fan(where)
    gate = at_gate(where, fan)
    lane = Lane(EdgePort(0, 0, gate[1], WEST), fan, walk((0, gate[1]), gate), 0)
    target = (InstanceId(instance), LocalName(local))
    return Stream(StreamId(f"in.{name}"), ValueName(name), held.type, None, target, (lane,), state)


def output_stream(name: str, held: Tiled, where: Region, instance: str, local: str, state: bool = False) -> Stream:
    fan = whole_fan(where)
    gate = at_gate(where, fan)
    lane = Lane(fan, EdgePort(0, 0, gate[1], WEST), walk(gate, (0, gate[1])), 0)
    source = (InstanceId(instance), LocalName(local))
    return Stream(StreamId(f"out.{name}"), ValueName(name), held.type, source, None, (lane,), state)


def empty_routers() -> RouterTable:
    none = np.zeros(0, np.int32)
    return RouterTable(none, none, none, none, none, none, none, none, ())


def program(
    regions: Sequence[Region],
    blocks: Sequence[Block],
    instances: Sequence[Instance],
    streams: Sequence[Stream],
    weights: Mapping[str, WeightTiles],
    states: Mapping[str, str] | None = None,
    past_max: int = 0,
    id_limits: Mapping[str, int] | None = None,
) -> PlacedProgram:
    """A program that serves each stream when its source is there: edge inputs of an instance, the instance, its
    outputs."""
    order: list[Transfer | Execute] = []
    for instance in instances:
        order += [Transfer(s.id) for s in streams if s.destination and s.destination[0] == instance.id]
        order.append(Execute(instance.id))
    order += [Transfer(s.id) for s in streams if s.destination is None]
    ins = {s.value: s.type for s in streams if s.source is None}
    outs = {s.value: s.type for s in streams if s.destination is None}
    return PlacedProgram(
        model="by hand",
        target=load("mesh:16x16").to_dict(),
        defects={},
        options={},
        versions={},
        inputs=ins,
        outputs=outs,
        states={ValueName(k): ValueName(v) for k, v in (states or {}).items()},
        past_max=past_max,
        id_limits={ValueName(k): v for k, v in (id_limits or {}).items()},
        regions=tuple(regions),
        blocks={b.name: b for b in blocks},
        instances=tuple(instances),
        streams=tuple(streams),
        collectives=(),
        routers=empty_routers(),
        order=tuple(order),
        sram={r.id: SramPlan(0, 0, 40_000, 45_056) for r in regions},
        weights=dict(weights),
    )


def one_block(
    body: Block,
    arrays: Mapping[str, Array],
    where: Region | None = None,
    past_max: int = 0,
    id_limits: Mapping[str, int] | None = None,
) -> PlacedProgram:
    """A program of one block in one region: its inputs come from, its outputs go to, the edge; ``arrays`` are its
    params."""
    place = where or region("r", body.mesh)
    future = set(body.states.values())
    streams = [input_stream(n, body.values[n], place, "one", n, n in body.states) for n in body.inputs]
    streams += [output_stream(n, body.values[n], place, "one", n, n in future) for n in body.outputs]
    weights = {
        name: WeightTiles(
            body.values[LocalName(name)], body.mesh, tile(array, body.values[LocalName(name)], body.mesh, 0), name
        )
        for name, array in arrays.items()
    }
    bindings = {n: ValueName(n) for n in (*body.inputs, *body.outputs)}
    one = Instance(InstanceId("one"), body.name, place.id, {LocalName(n): n for n in arrays}, bindings)
    return program([place], [body], [one], streams, weights, dict(body.states), past_max, id_limits)


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Numbers of both signs and different sizes, so that the order of additions shows."""
    random = np.random.default_rng(seed)
    return (random.standard_normal(shape) * 2.0 ** random.integers(-3, 4, shape)).astype(np.float32)


def ids(*shape: int, below: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, below, shape)


def size(shape: Sequence[int]) -> int:
    return math.prod(shape)
