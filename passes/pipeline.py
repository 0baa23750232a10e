"""The pipeline, from an ONNX file to a placed program: the table of contents of this compiler.

    model.onnx - importer -> Graph - rewrites -> Graph - partition -> Partition - size -> plans - place -> Placement
               - embed -> Embedding - layout -> blocks - route -> Routing - schedule -> Schedule
               - assemble -> PlacedProgram

Where nets find too few colours, placement is retried with more room between regions. A size plan is tried with straight
lines only, which leave most colours free, then with detours around what is dead, then with jogs of one column too.
Where defects leave too little room even so, or nets too few colours, the next smaller plan is tried, and after all of
them wider jogs. The first refusal is the answer if none works. A resumed stage file leaves only what it decides.

`compile_graph` shows the stages one after another; `stages.py` says what each of them reads, and the journal where its
product comes from.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import product
from os import PathLike
from pathlib import Path

from wafercc.errors import CompileError, DoesNotFit
from wafercc.importer import Binding, Imported, open_model
from wafercc.ir.block import RegionId
from wafercc.ir.partition import Partition
from wafercc.ir.program import PlacedProgram
from wafercc.ir.weights import Weights

from .assemble import Mapped, assemble
from .base import run_rewrites
from .constraints import with_constraints
from .embed import Embed
from .entries import Entry, import_entries, without_others
from .fit import check_forced_region, check_values, needs_wafers
from .follow import check_together, follow
from .journal import Course, Journal, Stopped
from .lower import Tiles, make_instances, stream_demands
from .machine import find_machine
from .options import MAIN, Options
from .place.reasons import placement_reasons
from .place.request import place_request, placed_plan
from .rewrite import all_rewrites, refuse_unknown
from .room import with_room
from .schedule import SRAM_PER_PE, order_tasks
from .size_plan import SizePlan
from .solve import Follower, Solve
from .stage_file import print_stage_file
from .stages import EMBED, IMPORT, LAYOUT, PARTITION, PLACE, REWRITE, ROUTE, SCHEDULE, SIZE, Traffic
from .steer import Steering, steer

MOST_CROWDED = 2  # tries in which entries that nobody asked for crowd the memory; later plans have smaller regions


def compile_model(model: str | PathLike[str], options: Options, course: Course | None = None) -> PlacedProgram:
    """The placed program of an ONNX file.

    Raises:
        ImportFailed, CompileError, DoesNotFit, TargetError: see `wafercc.compile`.
        TextError, CompileError: the stage file that is resumed is wrong, or not of this model and machine.
    """
    with _begun(Path(model), options, course or Course()) as (entries, journal):
        return _compile(entries, journal)


def stop_model(model: str | PathLike[str], options: Options, course: Course, path: Path) -> str:
    """The text of a stage file, to be written at ``path``, of a compile that stops after a stage (``course.until``).

    Which placement, layout and so on a compile ends with is known when all later stages have succeeded, so those
    stages run, too.

    Raises: as `compile_model`.
    """
    assert course.until is not None
    with _begun(Path(model), options, course) as (entries, journal):
        with suppress(Stopped):
            _compile(entries, journal)
        return print_stage_file(
            path, course.until, Path(model), entries[0].imported.source.sha256, journal.options, journal.machine,
            journal.sections(),
        )  # fmt: skip


def _compile(entries: Sequence[Entry], journal: Journal) -> PlacedProgram:
    """The program of these entries; of the first alone where nobody asked for the others and they cannot follow it."""
    try:
        return compile_entries(entries, journal)
    except CompileError as refusal:
        if len(entries) == 1 or journal.options.entries:
            raise
        return compile_entries(without_others(entries, refusal), journal)


def compile_graph(imported: Imported, journal: Journal) -> PlacedProgram:
    """The program of a graph, its only entry; see `compile_entries`."""
    return compile_entries((Entry(MAIN, 0, imported),), journal)


def compile_entries(entries: Sequence[Entry], journal: Journal) -> PlacedProgram:
    """The stages after import, one a line.

    Raises:
        Stopped: the stage to stop after is decided.
    """
    options, machine, imported = journal.options, journal.machine, entries[0].imported
    graph = journal.decide(IMPORT, imported.graph)
    rewritten = run_rewrites(
        graph, imported.weights, all_rewrites(options.disabled_passes), seen=journal.rewritten
    )
    graph = journal.decide(REWRITE, rewritten.graph)
    check_values(graph, machine)
    partition = journal.decide(PARTITION, graph)
    check_forced_region(options, partition, machine)
    steering = steer(options, partition, machine)
    followed = follow(entries, partition, options)
    for each in followed:
        check_values(each.partition.graph, machine)
    refusal: CompileError | None = None
    crowded = 0
    for plan, embed in _tries(partition, steering, journal, followed):
        carry = partial(carry_through, partition, plan, embed, steering, rewritten.weights, journal, followed)
        try:
            mapped = carry({}) if journal.has(PLACE) else with_room(carry)
        except CompileError as problem:
            refusal = refusal or problem
            crowded += bool(followed) and isinstance(problem, DoesNotFit) and problem.resource == SRAM_PER_PE
            if crowded == MOST_CROWDED and not options.entries:
                raise problem from None
            continue
        file, graphs = imported.source.file, (graph, *(f.partition.graph for f in followed))
        first, *others = (
            assemble(file, own, each, options, machine, entry.imported.assumptions, entry.name)
            for own, each, entry in zip(graphs, mapped, entries, strict=True)
        )
        return replace(first, others=tuple(others))
    assert refusal is not None
    raise refusal


def _tries(
    partition: Partition, steering: Steering, journal: Journal, followed: tuple[Follower, ...]
) -> Iterator[tuple[SizePlan, Embed]]:
    """What may be carried through, best first: size plan and kind of embedding; only one if a file has placed it."""
    if journal.has(PLACE):
        yield placed_plan(journal.course.given[PLACE.name], partition), Embed()
    else:
        plans = journal.decide(SIZE, partition, steering, followed)
        for embeddings in steering.embeddings:
            yield from product(plans, embeddings)


def carry_through(
    partition: Partition,
    plan: SizePlan,
    embed: Embed,
    steering: Steering,
    weights: Weights,
    journal: Journal,
    followed: tuple[Follower, ...],
    margin: Mapping[RegionId, int],
) -> tuple[Mapped, ...]:
    """Place, embed, lay out, route and schedule one size plan, for every entry; ``margin``: lines to keep free beside
    regions."""
    request = place_request(partition, plan, steering.pins)
    laid = []
    if followed:  # what the others cannot follow need not be placed
        blocks = journal.decide(LAYOUT, partition, plan, steering, followed)
        solve = Solve(Steering(whole_elements=steering.whole_elements), remember=journal.remember(LAYOUT))
        laid = [solve.follow(each, partition, blocks, journal.machine.target) for each in followed]
    placement = journal.decide(PLACE, request, embed, margin)
    embedding = journal.decide(EMBED, placement)
    blocks = journal.decide(LAYOUT, partition, plan, steering, followed)
    regions = tuple(embedding.regions[s.region].region(s.region) for s in partition.stages)
    tiles = Tiles()
    instances = make_instances(partition, blocks, weights, tiles)
    entries = [(partition, blocks, instances, journal)]
    for each, own in zip(followed, laid, strict=True):
        own_instances = make_instances(each.partition, own, each.weights, tiles)
        entries.append((each.partition, own, own_instances, journal.branch()))
    reasons = placement_reasons(request, placement, journal.machine.target, journal.machine.defects)
    mapped = []
    for cut, solved, placed, decided_in in entries:
        demands = stream_demands(cut, solved, placed)
        traffic = Traffic(regions, solved, placed, demands, order_tasks(placed, demands), cut.graph.past_max)
        routing = decided_in.decide(ROUTE, traffic)
        schedule = decided_in.decide(SCHEDULE, traffic)
        mapped.append(Mapped(solved, placed, tiles.of(placed), placement, regions, routing, schedule, reasons))
    check_together(mapped, [cut.graph.past_max for cut, *_ in entries], journal.machine.target)
    return tuple(mapped)


@contextmanager
def _begun(model: Path, options: Options, course: Course) -> Iterator[tuple[tuple[Entry, ...], Journal]]:
    """What precedes all stages: the machine is found and the model imported; and what follows them."""
    options = with_constraints(options)
    options.refuse_what_is_to_come()
    refuse_unknown(options.disabled_passes)
    machine = find_machine(options)
    if course.resumed is not None:
        course.resumed.check_machine(machine)
    binding = Binding(
        shapes=options.bound_shapes,
        dims=options.dims,
        inputs_like=options.inputs_like,
        context=options.context,
        new_tokens=options.new_tokens,
        batch=options.batch,
    )
    entries = import_entries(open_model(model, allow_missing_weights=options.weightless), options, binding)
    imported = entries[0].imported
    if course.resumed is not None:
        course.resumed.check_model(imported.source.sha256, model)
    journal = Journal(options, machine, course)
    try:
        with _collector_paused():
            yield entries, journal
        journal.report()
    except DoesNotFit as refusal:
        if options.wafers != "auto":
            raise
        raise needs_wafers(imported.graph, refusal, machine) from None
    finally:
        journal.close()


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
