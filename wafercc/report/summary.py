"""Summary: a placed program as plain JSON, every number that the tables and the pictures show.

All counts are of the program itself, at the context capacity; cycles come from a timing-only run of it, which needs no
inputs. Keys are stable: ``schema`` counts up when one changes its meaning or goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ..ir.block import AllGather, AllReduce, Block, Compute, Narrow, RegionId
from ..ir.program import PlacedProgram, Stream
from .naming import op_kinds, port_of, region_titles, stream_ends
from .timing import timing
from .why import strategy_rows
from .work import HEAVY, gathers, spread, weights

SCHEMA = 1


class Runnable(Protocol):
    """What `wafercc.Program` is to a report: the placed program, and a way to time it."""

    placed: PlacedProgram

    def run(self, inputs: Mapping[str, Any], *, timing_only: bool = ..., **observation: Any) -> Any:
        """Run the program; see `wafercc.Program.run`."""
        ...


def as_dict(program: Runnable | PlacedProgram, critical_path: bool = False) -> dict[str, Any]:
    """The program as JSON. A bare `PlacedProgram` cannot be timed, so its ``timing`` is ``None``.

    ``critical_path`` adds the chain of events that makes up the cycles.
    """
    placed = program if isinstance(program, PlacedProgram) else program.placed
    timed = None if isinstance(program, PlacedProgram) else timing(program.run, placed, critical_path)
    live = live_cores(placed)
    return {
        "schema": SCHEMA,
        "model": placed.model,
        "target": _target(placed),
        "defects": _defects(placed),
        "entry": placed.entry,
        "entries": {name: [str(kind) for kind in each.inputs.values()] for name, each in placed.entries.items()},
        "past_max": placed.past_max,
        "assumptions": list(placed.assumptions),
        "options": dict(placed.options),
        "versions": dict(placed.versions),
        "inputs": {name: str(kind) for name, kind in placed.inputs.items()},
        "outputs": {name: str(kind) for name, kind in placed.outputs.items()},
        "pes": _pes(placed, live),
        "regions": _regions(placed, live),
        "blocks": [_block(placed, block) for block in placed.blocks.values()],
        "instances": [{"id": i.id, "block": i.block, "region": i.region} for i in placed.instances],
        "streams": [_stream(placed, stream) for stream in placed.streams],
        "colours": _colours(placed),
        "weights": weights(placed),
        "gathers": gathers(placed),
        "spread": spread(placed),
        "strategies": strategy_rows(placed, HEAVY),
        "decisions": _decisions(placed),
        "timing": timed,
    }


def live_cores(program: PlacedProgram) -> int:
    """Cores of all wafers that can hold tiles: those not dead, with a live router."""
    dead = {tuple(row) for name in ("dead_cores", "dead_routers") for row in program.defects.get(name, ())}
    return _cores(program) - len(dead)


def _cores(program: PlacedProgram) -> int:
    return int(program.defects.get("wafers", 1)) * int(program.target["width"]) * int(program.target["height"])


def _target(program: PlacedProgram) -> dict[str, Any]:
    target = program.target
    pe = target["pe"]
    return {
        **{key: target[key] for key in ("name", "width", "height", "view", "wafers", "clock_ghz")},
        "sram_bytes": pe["sram_bytes"],
        "usable_bytes": pe["sram_bytes"] - pe["reserved_bytes"],
        "usable_colours": target["router"]["colours"],
    }


def _defects(program: PlacedProgram) -> dict[str, Any]:
    kinds = ("dead_cores", "dead_routers", "dead_links")
    view = program.defects.get("view", program.target["view"])
    return {"view": view, **{kind: len(program.defects.get(kind, ())) for kind in kinds}}


def _pes(program: PlacedProgram, live: int) -> dict[str, Any]:
    used = sum(int(r.xs.size) for r in program.regions)
    return {"total": _cores(program), "live": live, "used": used, "share_of_live": _share(used, live)}


def _regions(program: PlacedProgram, live: int) -> list[dict[str, Any]]:
    titles = region_titles(program)
    rows = []
    for region in program.regions:
        mine = [i for i in program.instances if i.region == region.id]
        plan, rect = program.sram[region.id], region.rect
        rows.append(
            {
                "id": region.id,
                "title": titles[region.id],
                "wafer": rect.wafer,
                "rect": {"x": rect.x, "y": rect.y, "w": rect.w, "h": rect.h},
                "rows": region.rows,
                "columns": region.columns,
                "pes": int(region.xs.size),
                "share_of_live": _share(int(region.xs.size), live),
                "blocks": list(dict.fromkeys(i.block for i in mine)),
                "instances": [i.id for i in mine],
                "sram_bytes": {
                    "weights": plan.weights_bytes,
                    "caches": plan.state_bytes,
                    "activations": plan.peak_activation_bytes,
                    "total": plan.total_bytes,
                    "bound": plan.bound_bytes,
                },
            }
        )
    return rows


def _block(program: PlacedProgram, block: Block) -> dict[str, Any]:
    kinds: dict[type, str] = {Compute: "compute", AllReduce: "all_reduce", AllGather: "all_gather", Narrow: "narrow"}
    steps = dict.fromkeys(kinds.values(), 0)
    for step in block.steps:
        steps[kinds[type(step)]] += 1
    return {
        "name": block.name,
        "mesh": str(block.mesh),
        "rows": block.mesh.rows,
        "columns": block.mesh.columns,
        "instances": sum(i.block == block.name for i in program.instances),
        "steps": steps,
        "ops": dict(op_kinds(block)),
        "reduces": dict(_count(str(step.algorithm) for step in block.steps if isinstance(step, AllReduce))),
    }


def _count(names: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def words(stream: Stream) -> int:
    """32-bit words of the stream's value at the context capacity."""
    return stream.type.dtype.wavelets(stream.type.elements)


def _stream(program: PlacedProgram, stream: Stream) -> dict[str, Any]:
    source, destination = stream_ends(stream, {i.id: i.region for i in program.instances})
    ports = {(p.wafer, p.x, p.y) for lane in stream.lanes for p in [port_of(lane)] if p}
    return {
        "id": stream.id,
        "value": stream.value,
        "type": str(stream.type),
        "source": source,
        "destination": destination,
        "state": stream.state,
        "words": words(stream),
        "lanes": len(stream.lanes),
        "colours": sorted({lane.colour for lane in stream.lanes}),
        "hops": max((len(lane.path) - 1 for lane in stream.lanes), default=0),
        "ports": [list(port) for port in sorted(ports)],
    }


def _colours(program: PlacedProgram) -> dict[str, Any]:
    """Colours in use: by the collectives of each region, by streams, and on the router that has most."""
    local: dict[RegionId, set[int]] = {r.id: set() for r in program.regions}
    for net in program.collectives:
        local[net.region].update(net.colours)
    transit = {lane.colour for stream in program.streams for lane in stream.lanes}
    table = program.routers
    most = 0
    if len(table.x):
        rows = np.unique(np.stack([table.wafer, table.y, table.x, table.colour], axis=1), axis=0)
        most = int(np.unique(rows[:, :3], axis=0, return_counts=True)[1].max())
    return {
        "collectives": {region: len(colours) for region, colours in local.items()},
        "streams": len(transit),
        "most_on_one_router": most,
        "usable": program.target["router"]["colours"],
        "collective_nets": dict(_count(net.kind for net in program.collectives)),
        "router_rows": len(table.x),
    }


def _decisions(program: PlacedProgram) -> dict[str, Any]:
    decided = dict(program.decisions)
    place = decided.get("placement")
    if isinstance(place, Mapping) and {"objective", "bound"} <= place.keys():
        objective, bound = float(place["objective"]), float(place["bound"])
        gap = 0.0 if objective <= bound else (objective - bound) / max(bound, 0.5)
        decided["placement"] = {**place, "gap": gap}
    return decided


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
