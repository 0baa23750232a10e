"""Stages: the steps of the pipeline as data: what each is called, which options it reads, how its product is made,
printed and read back.

A stage sees of the options only those it declares (`Settings`), and its product can depend on nothing else and on the
products it is given. That is what a stage file relies on when it refuses an option that an earlier stage has used, and
what the cache relies on when it takes a product for known. To add an option to a stage, add its name here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from wafercc.errors import CompileError, TextError
from wafercc.ir.block import BlockName, Instance, RegionId
from wafercc.ir.embedding import Embedding, parse_embedding
from wafercc.ir.evaluate import check
from wafercc.ir.graph import Graph
from wafercc.ir.lines import Excerpt, name_text
from wafercc.ir.partition import Partition
from wafercc.ir.placement import Placement, PlaceRequest, parse_placement
from wafercc.ir.program import Execute, Region, StreamId, Task, Transfer
from wafercc.ir.routing import Routing, StreamDemand
from wafercc.ir.schedule import Schedule, parse_schedule
from wafercc.ir.text import parse_graph, print_graph
from wafercc.silicon import DefectMap
from wafercc.targets import Target

from .cache import Remember
from .embed import Embed, check_embedding
from .layout import SolvedBlock, parse_blocks, print_blocks
from .machine import Machine
from .options import Options
from .partition import MakePartition, parse_partition
from .place import Place, settle
from .route import Route
from .route.text import parse_routing, print_routing
from .schedule import plan_regions
from .size import Size, carried_values
from .size_plan import SizePlan, parse_plans
from .steer import Steering

P = ParamSpec("P")
T = TypeVar("T")

TARGET = ("target", "target_overrides")
DEFECTS = ("defects", "defect_rate", "defect_seed")
MACHINE = (*TARGET, *DEFECTS)


@dataclass(frozen=True)
class Settings:
    """What one stage may know of the options: those it declares. ``remember`` answers for its stage."""

    stage: str
    declared: tuple[str, ...]
    options: Options
    machine: Machine
    remember: Remember

    def __getitem__(self, name: str) -> Any:
        """The value of an option."""
        self._check(name)
        return getattr(self.options, name)

    @property
    def target(self) -> Target:
        self._check("target")
        return self.machine.target

    @property
    def defects(self) -> DefectMap:
        self._check("defects")
        return self.machine.defects

    def _check(self, name: str) -> None:
        assert name in self.declared, f"stage {self.stage} reads the option {name} without declaring it"


def content(declared: Sequence[str], options: Options, machine: Machine) -> dict[str, Any]:
    """All that declared options tell a stage, as plain data: the machine itself in place of what names it."""
    known: dict[str, Any] = {name: getattr(options, name) for name in declared if name not in MACHINE}
    if "target" in declared:
        known["target"] = machine.target.to_dict()
    if "defects" in declared:
        known["defects"] = machine.defects.to_dict()
    return known


@dataclass(frozen=True)
class Stage(Generic[P, T]):
    """One step. ``make`` and ``read`` take its settings and the products it needs; ``read`` inverts ``text`` and raises
    `TextError` or `CompileError` where the text decides what cannot be.

    ``tried``: decided anew for each size plan, so what it decided is known only when all later stages have succeeded.
    ``remembered``: the options on which what it keeps in the cache depends; ``whole``: that is its product.
    """

    name: str
    options: tuple[str, ...]
    make: Callable[Concatenate[Settings, P], T]
    text: Callable[[T], str]
    read: Callable[Concatenate[Excerpt, Settings, P], T]
    tried: bool = True
    remembered: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Traffic:
    """What is to be routed: regions, what runs in them, what moves between them, and in which order it is served."""

    regions: tuple[Region, ...]
    blocks: Mapping[BlockName, SolvedBlock]
    instances: tuple[Instance, ...]
    demands: tuple[StreamDemand, ...]
    order: tuple[Task, ...]
    past_max: int

    @property
    def served(self) -> tuple[StreamId, ...]:
        return tuple(task.stream for task in self.order if isinstance(task, Transfer))


def _same_graph(settings: Settings, graph: Graph) -> Graph:
    return graph


def _read_graph(text: Excerpt, settings: Settings, computed: Graph) -> Graph:
    """A graph whose weights are those of the graph computed here, where their numbers come from."""
    graph = parse_graph(text)
    for name in graph.weights:
        if name in computed.weights and graph.types[name] == computed.types[name]:
            continue
        lines = text.text.split("\n")
        where = text.where(next(i for i, line in enumerate(lines) if f"%{name_text(name)}" in line))
        if name not in computed.weights:
            raise TextError(f"the model has no weight {name} at this stage", where=where)
        raise TextError(f"weight {name} is {computed.types[name]}, not {graph.types[name]}", where=where)
    check(graph)
    return graph


def _make_partition(settings: Settings, graph: Graph) -> Partition:
    return MakePartition(settings["stages"])(graph)


def _read_partition(text: Excerpt, settings: Settings, graph: Graph) -> Partition:
    return parse_partition(text, graph)


def _make_sizes(settings: Settings, partition: Partition, steering: Steering) -> tuple[SizePlan, ...]:
    live = settings.defects.alive(0).cores
    return tuple(Size(steering, remember=settings.remember)(partition, settings.target, live))


def _print_sizes(plans: Sequence[SizePlan]) -> str:
    return "".join(f"{plan}\n" for plan in plans)


def _read_sizes(text: Excerpt, settings: Settings, partition: Partition, steering: Steering) -> tuple[SizePlan, ...]:
    return parse_plans(text, partition, settings.target)


def _make_placement(
    settings: Settings, request: PlaceRequest, embed: Embed, margin: Mapping[RegionId, int]
) -> Placement:
    place = Place(seed=settings["seed"], reach=embed.reach, detour_hops=embed.detour_hops, margin=margin)
    return place(request, settings.target, settings.defects)


def _read_placement(
    text: Excerpt, settings: Settings, request: PlaceRequest, embed: Embed, margin: Mapping[RegionId, int]
) -> Placement:
    return settle(parse_placement(text), request, settings.target, settings.defects)


def _make_embedding(settings: Settings, placement: Placement) -> Embedding:
    return Embed(placement.reach, placement.detour_hops)(placement, settings.defects)


def _read_embedding(text: Excerpt, settings: Settings, placement: Placement) -> Embedding:
    return check_embedding(parse_embedding(text), placement, settings.defects)


def _make_blocks(
    settings: Settings, partition: Partition, plan: SizePlan, steering: Steering
) -> dict[BlockName, SolvedBlock]:
    return Size(steering, remember=settings.remember).solve(partition, plan, settings.target)


def _read_blocks(
    text: Excerpt, settings: Settings, partition: Partition, plan: SizePlan, steering: Steering
) -> dict[BlockName, SolvedBlock]:
    carried = {name: carried_values(partition, name) for name in partition.templates}
    blocks = parse_blocks(text, partition.templates, carried, settings.target, settings["whole_elements"])
    for name, solved in blocks.items():
        mesh, (rows, columns) = solved.block.mesh, plan.shapes[name]
        if (mesh.rows, mesh.columns) != (rows, columns):
            raise CompileError(
                f"its mesh {mesh} has {mesh.columns} columns x {mesh.rows} rows; its regions are placed with {columns} "
                f"columns x {rows} rows",
                where=f"block {name}",
                hint="edit the placement first, and resume from it",
            )
    return blocks


def _make_routing(settings: Settings, traffic: Traffic) -> Routing:
    return Route(settings["max_lanes"])(
        traffic.regions, {n: b.block for n, b in traffic.blocks.items()}, traffic.instances, traffic.demands,
        traffic.served, settings.target, settings.defects,
    )  # fmt: skip


def _read_routing(text: Excerpt, settings: Settings, traffic: Traffic) -> Routing:
    regions: dict[RegionId, Region] = {r.id: r for r in traffic.regions}
    written = parse_routing(text, [d.id for d in traffic.demands], regions, settings.target)
    return Route().again(
        traffic.regions, {n: b.block for n, b in traffic.blocks.items()}, traffic.instances, traffic.demands,
        traffic.served, written, settings.target, settings.defects,
    )  # fmt: skip


def _make_schedule(settings: Settings, traffic: Traffic) -> Schedule:
    blocks = {name: solved.block for name, solved in traffic.blocks.items()}
    bound = settings.target.pe.usable_bytes
    return Schedule(traffic.order, plan_regions(blocks, traffic.instances, traffic.past_max, bound))


def _read_schedule(text: Excerpt, settings: Settings, traffic: Traffic) -> Schedule:
    """A schedule of exactly the tasks and regions there are; whether the order works is the verifier's question."""
    schedule = parse_schedule(text)
    for what, wanted, found in (
        ("task", list(map(_task_name, traffic.order)), list(map(_task_name, schedule.order))),
        ("region", [r.id for r in traffic.regions], list(schedule.sram)),
    ):
        if unknown := [each for each in found if each not in wanted]:
            raise TextError(f"the program has no {what} {unknown[0]}", where=text.where(0))
        if missing := [each for each in wanted if each not in found]:
            raise TextError(f"{what} {missing[0]} is missing", where=text.end)
    return schedule


def _task_name(task: Task) -> str:
    return f"run {task.instance}" if isinstance(task, Execute) else f"transfer {task.stream}"


def _kept_whole(
    name: str,
    options: tuple[str, ...],
    make: Callable[Concatenate[Settings, P], T],
    text: Callable[[T], str],
    read: Callable[Concatenate[Excerpt, Settings, P], T],
) -> Stage[P, T]:
    """A stage whose product is kept in the cache."""
    return Stage(name, options, make, text, read, remembered=options, whole=True)


_BOUND = ("shapes", "dims", "inputs_like", "context", "new_tokens", "batch")
# They reach their stages as `Steering`, and what is remembered by its inputs.
_FORCED = ("meshes", "strategies", "whole_elements")
_WHOLE = ("entries", "wafers", "objective", "dtype", "weightless")  # what kind of program it is to be

IMPORT = Stage("import", (*_BOUND, *_WHOLE), _same_graph, print_graph, _read_graph, tried=False)
REWRITE = Stage("rewrite", ("disabled_passes",), _same_graph, print_graph, _read_graph, tried=False)
PARTITION = Stage("partition", ("stages",), _make_partition, str, _read_partition, tried=False)
SIZE = Stage(
    "size", (*MACHINE, "region", *_FORCED, "pins"), _make_sizes, _print_sizes, _read_sizes, tried=False,
    remembered=TARGET,
)  # fmt: skip
_EMBEDDINGS = ("reach", "detour_hops")  # which kinds are tried
PLACE = _kept_whole("place", (*MACHINE, "seed", "pins", *_EMBEDDINGS), _make_placement, str, _read_placement)
EMBED = Stage("embed", MACHINE, _make_embedding, str, _read_embedding)
LAYOUT = Stage("layout", (*TARGET, *_FORCED, "layouts"), _make_blocks, print_blocks, _read_blocks, remembered=TARGET)
ROUTE = _kept_whole("route", (*MACHINE, "max_lanes"), _make_routing, print_routing, _read_routing)
SCHEDULE = Stage("schedule", TARGET, _make_schedule, str, _read_schedule)

STAGES: tuple[Stage[..., Any], ...] = (
    IMPORT, REWRITE, PARTITION, SIZE, PLACE, EMBED, LAYOUT, ROUTE, SCHEDULE,
)  # fmt: skip
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def used_options(last: str) -> frozenset[str]:
    """The options that the stages up to ``last`` read."""
    upto = STAGES[: STAGE_NAMES.index(last) + 1]
    return frozenset(name for stage in upto for name in stage.options)
