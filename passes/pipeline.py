"""The pipeline, from an ONNX file to a placed program: the table of contents of this compiler.

    model.onnx - importer -> Graph - rewrites -> Graph - partition, size, layout -> blocks - place -> Placement
               - embed -> Embedding - route -> Routing - schedule, lower -> PlacedProgram

Where defects leave too little room, or nets too few colours, the next smaller size plan is tried: first with straight
columns only, which leave most colours free, then with jogs. The first refusal is the answer if none works.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from wafercc.errors import CompileError, DoesNotFit, TargetError
from wafercc.importer import Binding, Imported, import_model
from wafercc.ir.block import BlockName, Instance
from wafercc.ir.embedding import Embedding
from wafercc.ir.graph import Graph, ValueName
from wafercc.ir.partition import Partition
from wafercc.ir.placement import HOST, Flow, Placement, PlaceRequest, RegionRequest, Shape
from wafercc.ir.program import PlacedProgram, Region, WeightTiles
from wafercc.ir.routing import Routing, StreamDemand
from wafercc.ir.text import print_graph
from wafercc.ir.weights import Weights
from wafercc.silicon import DefectMap
from wafercc.targets import Target
from wafercc.targets import load as load_target
from wafercc.version import __version__

from .base import run_rewrites
from .embed import REACH, Embed
from .layout import SolvedBlock
from .lower import make_instances, stream_demands
from .options import Options
from .partition import MakePartition
from .place import Place
from .rewrite import NAMES as REWRITES
from .rewrite import STANDARD
from .route import Route
from .schedule import order_tasks, plan_regions
from .size import Size, SizePlan


@dataclass(frozen=True)
class Machine:
    """The target and its defects, as the options name them."""

    target: Target
    defects: DefectMap


@dataclass(frozen=True)
class Mapped:
    """One size plan carried through: every stage product up to routing."""

    blocks: Mapping[BlockName, SolvedBlock]
    instances: tuple[Instance, ...]
    tiles: Mapping[str, WeightTiles]
    demands: tuple[StreamDemand, ...]
    placement: Placement
    embedding: Embedding
    regions: tuple[Region, ...]
    routing: Routing


def compile_model(model: str | PathLike[str], options: Options) -> PlacedProgram:
    """The placed program of an ONNX file.

    Raises:
        ImportFailed, CompileError, DoesNotFit, TargetError: see `wafercc.compile`.
    """
    options.refuse_what_is_to_come()
    refuse_unknown_rewrites(options)
    machine = find_machine(options)
    imported = import_model(
        Path(model),
        Binding(
            shapes=options.bound_shapes,
            dims=options.dims,
            inputs_like=options.inputs_like,
            context=options.context,
            new_tokens=options.new_tokens,
            batch=options.batch,
        ),
    )
    try:
        return compile_graph(imported, options, machine)
    except DoesNotFit as refusal:
        if options.wafers != "auto":
            raise
        raise needs_wafers(imported, refusal, machine) from None


def refuse_unknown_rewrites(options: Options) -> None:
    """Hold that every rewrite to leave out exists.

    Raises:
        CompileError: one does not; those that do are named.
    """
    for name in options.disabled_passes:
        if name not in REWRITES:
            raise CompileError(
                f"there is no rewrite {name!r}",
                where="option disabled_passes (--no-pass)",
                hint=f"there are: {', '.join(sorted(REWRITES))}",
            )


def needs_wafers(imported: Imported, refusal: DoesNotFit, machine: Machine) -> DoesNotFit:
    """The answer to ``wafers="auto"`` where one is too small: about how many, by the bytes of weights and caches."""
    graph, live = imported.graph, machine.defects.alive(0).cores
    resident = [graph.types[v] for v in (*graph.weights, *graph.states)]
    demand = sum(kind.dtype.sram_bytes(kind.elements) for kind in resident)
    bound = live * machine.target.pe.usable_bytes
    return DoesNotFit(
        f"does not fit one wafer, needs about {max(2, -(-demand // bound))}: weights and caches hold {demand} bytes, "
        f"{live} live PEs hold {bound}; {refusal.message}",
        resource="wafers",
        demand=max(2, -(-demand // bound)),
        bound=1,
        where=f"target {machine.target.name}",
        hint="programs of several wafers are not supported yet: use a larger target or a smaller model",
    )


def find_machine(options: Options) -> Machine:
    """Load the target; load or draw its defect map."""
    target = load_target(options.target, dict(options.target_overrides))
    match options.defects:
        case None:
            rates = options.defect_rates
            defects = DefectMap.random(target, **rates, seed=options.defect_seed, wafers=target.wafers)
        case DefectMap():
            defects = options.defects
        case path:
            defects = DefectMap.load(Path(path))
    _check_belongs(defects, target, options)
    if not defects.alive(0).cores:
        raise TargetError(
            f"none of the {target.width * target.height} cores is alive: {defects}",
            where=f"target {target.name}",
            hint="check the defect map or --defect-rate",
        )
    return Machine(target, defects)


def _check_belongs(defects: DefectMap, target: Target, options: Options) -> None:
    """Hold that the map describes the target; a map that was read is called by its file."""
    try:
        defects.check_for(target)
    except TargetError as problem:
        if options.defects is None or isinstance(options.defects, DefectMap):
            raise
        raise TargetError(problem.message, where=str(options.defects), hint=problem.hint) from None


def compile_graph(imported: Imported, options: Options, machine: Machine) -> PlacedProgram:
    """The stages after import, one a line."""
    rewritten = run_rewrites(imported.graph, imported.weights, STANDARD, frozenset(options.disabled_passes))
    partition = MakePartition(options.stages)(rewritten.graph)
    size = Size(options.region)
    live = machine.defects.alive(0).cores
    check_forced_region(options, partition, machine)
    refusal: CompileError | None = None
    plans = list(size(partition, machine.target, live))
    for reach, plan in itertools.product((0, REACH), plans):
        try:
            mapped = carry_through(partition, plan, reach, size, rewritten.weights, options, machine)
        except CompileError as problem:
            refusal = refusal or problem
            continue
        return assemble(imported, rewritten.graph, mapped, options, machine)
    assert refusal is not None
    raise refusal


def check_forced_region(options: Options, partition: Partition, machine: Machine) -> None:
    """Hold that the mesh forced on every region could fit the wafer.

    Raises:
        DoesNotFit: it has too many rows or columns, or all of them together too many PEs.
    """
    if options.region is None:
        return
    (rows, columns), target, stages = options.region, machine.target, len(partition.stages)
    where, live = "option region (--region)", machine.defects.alive(0).cores
    if rows > target.height or columns > target.width:
        raise DoesNotFit(
            f"{columns} columns x {rows} rows do not fit {target.name}'s {target.width} x {target.height}",
            resource="columns" if columns > target.width else "rows",
            demand=columns if columns > target.width else rows,
            bound=target.width if columns > target.width else target.height,
            where=where,
            hint="give a smaller --region or a larger --target",
        )
    if stages * rows * columns > live:
        raise DoesNotFit(
            f"{stages} regions of {columns}x{rows} need {stages * rows * columns} PEs; {live} are alive",
            resource="PEs",
            demand=stages * rows * columns,
            bound=live,
            where=where,
            hint="give a smaller --region, fewer --stages or a larger --target",
        )


def carry_through(
    partition: Partition,
    plan: SizePlan,
    reach: int,
    size: Size,
    weights: Weights,
    options: Options,
    machine: Machine,
) -> Mapped:
    """Place, embed, lay out and route one size plan."""
    target, defects = machine.target, machine.defects
    request = place_request(partition, plan)
    placement = Place(seed=options.seed, reach=reach)(request, target, defects)
    embedding = Embed(reach)(placement, defects)
    regions = tuple(embedding.regions[s.region].region(s.region) for s in partition.stages)
    blocks = size.solve(partition, plan, target)
    instances, tiles = make_instances(partition, blocks, weights)
    demands = stream_demands(partition, blocks, instances)
    route = Route(max_lanes=options.max_lanes)
    order = tuple(t.stream for t in order_tasks(instances, demands) if hasattr(t, "stream"))
    routing = route(regions, {n: b.block for n, b in blocks.items()}, instances, demands, order, target, defects)
    return Mapped(blocks, instances, tiles, demands, placement, embedding, regions, routing)


def place_request(partition: Partition, plan: SizePlan) -> PlaceRequest:
    """The regions with their meshes, and the words that flow between them and the host."""
    graph = partition.graph
    flows: dict[tuple[str, str], int] = {}

    def add(source: str, destination: str, value: ValueName) -> None:
        kind = graph.types[value]
        flows[source, destination] = flows.get((source, destination), 0) + kind.dtype.wavelets(kind.elements)

    for stage in partition.stages:
        template = partition.templates[stage.block]
        for name in template.inputs:
            value = stage.bindings[name]
            if value not in graph.states:
                add(HOST if value in graph.inputs else partition.source[value][0].region, stage.region, value)
        for name in template.outputs:
            value = stage.bindings[name]
            if value in graph.outputs and value not in graph.states.values():
                add(stage.region, HOST, value)
    regions = tuple(
        RegionRequest(s.region, (Shape(*plan.shapes[s.block]),)) for s in partition.stages
    )
    return PlaceRequest(regions, tuple(Flow(a, b, n) for (a, b), n in flows.items()))  # type: ignore[arg-type]


def assemble(
    imported: Imported, graph: Graph, mapped: Mapped, options: Options, machine: Machine
) -> PlacedProgram:
    """Schedule, and gather everything into the program."""
    blocks = {name: solved.block for name, solved in mapped.blocks.items()}
    sram = plan_regions(blocks, mapped.instances, graph.past_max, machine.target.pe.usable_bytes)
    report = mapped.placement.report
    return PlacedProgram(
        model=imported.source.file,
        target=machine.target.to_dict(),
        defects=machine.defects.to_dict(),
        options=options.record(),
        versions=_versions(),
        inputs={v: imported.graph.types[v] for v in imported.graph.inputs},
        outputs={v: graph.types[v] for v in graph.outputs},
        states=dict(graph.states),
        past_max=graph.past_max,
        id_limits=id_limits(graph),
        regions=mapped.regions,
        blocks=blocks,
        instances=mapped.instances,
        streams=mapped.routing.streams,
        collectives=mapped.routing.collectives,
        routers=mapped.routing.routers,
        order=order_tasks(mapped.instances, mapped.demands),
        sram=sram,
        weights=mapped.tiles,
        decisions={
            "estimate_cycles": {name: solved.estimate_cycles for name, solved in mapped.blocks.items()},
            "placement": {
                "objective": report.objective,
                "baseline": report.baseline,
                "bound": report.bound,
                "solver": report.solver,
            },
        },
        graph_text=print_graph(graph),
        assumptions=tuple(map(str, imported.assumptions)),
    )


def id_limits(graph: Graph) -> dict[ValueName, int]:
    """For inputs that index a table (token ids, positions): how many rows it has."""
    limits: dict[ValueName, int] = {}
    for op in graph.ops:
        if op.kind != "embedding":
            continue
        table, ids = op.operands
        while ids not in graph.inputs and graph.producer[ids].kind in ("reshape", "cast", "transpose", "expand"):
            ids = graph.producer[ids].operands[0]
        rows = graph.types[table].shape[0]
        if ids in graph.inputs and isinstance(rows, int):
            limits[ids] = min(rows, limits.get(ids, rows))
    return limits


def _versions() -> dict[str, Any]:
    from importlib.metadata import version

    return {"wafercc": __version__, "ortools": version("ortools"), "numpy": np.__version__}
