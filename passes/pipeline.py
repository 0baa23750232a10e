"""The pipeline, from an ONNX file to a placed program: the table of contents of this compiler.

    model.onnx - importer -> Graph - rewrites -> Graph - partition, size, layout -> blocks - place -> Placement
               - embed -> Embedding - route -> Routing - schedule, lower -> PlacedProgram

Where nets find too few colours, placement is retried with more room between regions. A size plan is tried with straight
lines only, which leave most colours free, then with detours around what is dead, then with jogs of one column too.
Where defects leave too little room even so, or nets too few colours, the next smaller plan is tried, and after all of
them wider jogs. The first refusal is the answer if none works.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain, product
from os import PathLike
from pathlib import Path

from wafercc.errors import CompileError, DoesNotFit
from wafercc.importer import Binding, Imported, import_model
from wafercc.ir.block import RegionId
from wafercc.ir.partition import Partition
from wafercc.ir.program import PlacedProgram, Transfer
from wafercc.ir.weights import Weights

from .assemble import Mapped, assemble
from .base import run_rewrites
from .constraints import with_constraints
from .embed import Embed
from .fit import check_forced_region, needs_wafers
from .lower import make_instances, stream_demands
from .machine import Machine, find_machine
from .options import Options
from .partition import MakePartition
from .place import Place
from .place.reasons import placement_reasons
from .place.request import place_request
from .rewrite import all_rewrites, refuse_unknown
from .room import with_room
from .route import Route
from .schedule import order_tasks
from .size import Size, SizePlan
from .steer import steer


def compile_model(model: str | PathLike[str], options: Options) -> PlacedProgram:
    """The placed program of an ONNX file.

    Raises:
        ImportFailed, CompileError, DoesNotFit, TargetError: see `wafercc.compile`.
    """
    options = with_constraints(options)
    options.refuse_what_is_to_come()
    refuse_unknown(options.disabled_passes)
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
        with _collector_paused():
            return compile_graph(imported, options, machine)
    except DoesNotFit as refusal:
        if options.wafers != "auto":
            raise
        raise needs_wafers(imported.graph, refusal, machine) from None


def compile_graph(imported: Imported, options: Options, machine: Machine) -> PlacedProgram:
    """The stages after import, one a line."""
    rewritten = run_rewrites(imported.graph, imported.weights, all_rewrites(options.disabled_passes))
    partition = MakePartition(options.stages)(rewritten.graph)
    check_forced_region(options, partition, machine)
    steering = steer(options, partition, machine)
    size = Size(steering)
    live = machine.defects.alive(0).cores
    refusal: CompileError | None = None
    plans = list(size(partition, machine.target, live))
    tries = (product(plans, embeddings) for embeddings in steering.embeddings)
    for plan, embed in chain.from_iterable(tries):
        try:
            carry = partial(carry_through, partition, plan, embed, size, rewritten.weights, options, machine)
            mapped = with_room(carry)
        except CompileError as problem:
            refusal = refusal or problem
            continue
        return assemble(imported.source.file, rewritten.graph, mapped, options, machine, imported.assumptions)
    assert refusal is not None
    raise refusal


def carry_through(
    partition: Partition,
    plan: SizePlan,
    embed: Embed,
    size: Size,
    weights: Weights,
    options: Options,
    machine: Machine,
    margin: Mapping[RegionId, int],
) -> Mapped:
    """Place, embed, lay out and route one size plan; ``margin``: rows and columns to keep free beside regions."""
    target, defects = machine.target, machine.defects
    request = place_request(partition, plan, size.steering.pins)
    place = Place(seed=options.seed, reach=embed.reach, detour_hops=embed.detour_hops, margin=margin)
    placement = place(request, target, defects)
    embedding = embed(placement, defects)
    regions = tuple(embedding.regions[s.region].region(s.region) for s in partition.stages)
    blocks = size.solve(partition, plan, target)
    instances, tiles = make_instances(partition, blocks, weights)
    demands = stream_demands(partition, blocks, instances)
    route = Route(max_lanes=options.max_lanes)
    order = order_tasks(instances, demands)
    served = tuple(task.stream for task in order if isinstance(task, Transfer))
    routing = route(regions, {n: b.block for n, b in blocks.items()}, instances, demands, served, target, defects)
    reasons = placement_reasons(request, placement, target, defects, embed)
    return Mapped(blocks, instances, tiles, order, placement, embedding, regions, routing, embed, reasons)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the cycle collector away: the passes make no cycles, and it would walk all that the searches remember.

    Measured on llama-dyn18past: 4.3 s of processor time with it, 3.1 s without.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
