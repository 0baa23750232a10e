"""Assemble: gather every decision into the placed program, with its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

from wafercc.ir.block import BlockName, Instance
from wafercc.ir.graph import Graph, ValueName
from wafercc.ir.placement import Placement
from wafercc.ir.program import PlacedProgram, Region, WeightTiles
from wafercc.ir.routing import Routing
from wafercc.ir.schedule import Schedule
from wafercc.ir.text import print_graph
from wafercc.version import __version__

from .certify import certify
from .layout import SolvedBlock
from .machine import Machine
from .options import Options
from .rewrite.plugins import find_plugins


@dataclass(frozen=True)
class Mapped:
    """One size plan carried through: every stage product up to the schedule, and why the regions lie where they lie."""

    blocks: Mapping[BlockName, SolvedBlock]
    instances: tuple[Instance, ...]
    tiles: Mapping[str, WeightTiles]
    placement: Placement
    regions: tuple[Region, ...]
    routing: Routing
    schedule: Schedule
    reasons: Mapping[str, Mapping[str, Any]]


def assemble(
    model: str, graph: Graph, mapped: Mapped, options: Options, machine: Machine, assumptions: Sequence[object]
) -> PlacedProgram:
    """Gather everything into the program; ``model`` is the file's name, ``assumptions`` print."""
    blocks = {name: solved.block for name, solved in mapped.blocks.items()}
    report = mapped.placement.report
    program = PlacedProgram(
        model=model,
        target=machine.target.to_dict(),
        defects=machine.defects.to_dict(),
        options=options.record(),
        versions=_versions(options),
        inputs={v: graph.types[v] for v in graph.inputs},
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
        order=mapped.schedule.order,
        sram=mapped.schedule.sram,
        weights=mapped.tiles,
        decisions={
            "estimate_cycles": {name: solved.estimate_cycles for name, solved in mapped.blocks.items()},
            "placement": {
                "objective": report.objective,
                "baseline": report.baseline,
                "bound": report.bound,
                "solver": report.solver,
                "reach": mapped.placement.reach,
                "detour_hops": mapped.placement.detour_hops,
            },
            "routing": {
                "colours": {region: asdict(budget) for region, budget in mapped.routing.budget.items()},
                "yields": mapped.routing.yields,
            },
            "blocks": {name: solved.decided for name, solved in mapped.blocks.items()},
            "regions": {region: dict(reason) for region, reason in mapped.reasons.items()},
        },
        graph_text=print_graph(graph),
        assumptions=tuple(map(str, assumptions)),
    )
    return replace(program, certificate=certify(program))


def id_limits(graph: Graph) -> dict[ValueName, int]:
    """For inputs that index a table (token ids, positions): how many rows it has."""
    limits: dict[ValueName, int] = {}
    for op in graph.ops:
        if op.kind not in ("embedding", "embedding_quant"):
            continue
        table, ids = op.operands[:2]
        while ids not in graph.inputs and graph.producer[ids].kind in ("reshape", "cast", "transpose", "expand"):
            ids = graph.producer[ids].operands[0]
        rows = graph.types[table].shape[0]
        if ids in graph.inputs and isinstance(rows, int):
            limits[ids] = min(rows, limits.get(ids, rows))
    return limits


def _versions(options: Options) -> dict[str, str]:
    """The versions of all that had a say in the program, packages with passes of their own included."""
    plugins = {p.distribution: p.version for p in find_plugins() if p.name not in options.disabled_passes}
    return plugins | {"wafercc": __version__, "ortools": version("ortools"), "numpy": version("numpy")}
