"""The critical path: what each piece of it was, where, and what its time was spent on; folded for reading.

The runtime's segments follow one another from zero to the last cycle, so every sum here is the run's cycles exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import WaferError
from ..ir.block import RegionId
from ..ir.graph import Graph, Op, OpId
from ..ir.op_names import block_ops, instance_ops
from ..ir.program import PlacedProgram
from ..ir.text import parse_graph
from .naming import HOST, stream_ends

PARTS = ("work", "hops", "words", "wait")
MOST_BOTTLENECKS = 5


def path(report: Any, program: PlacedProgram) -> list[dict[str, Any]]:
    """The critical path, consecutive segments of one thing joined; the cycles of all rows sum to the run's."""
    nodes = onnx_nodes(program)
    ends = {s.id: stream_ends(s, {i.id: i.region for i in program.instances}) for s in program.streams}
    rows: list[dict[str, Any]] = []
    for segment in report.critical_path():
        key = (segment.kind, segment.name, segment.region, segment.step)
        if not rows or key != tuple(rows[-1][name] for name in ("kind", "name", "region", "step")):
            row: dict[str, Any] = dict(zip(("kind", "name", "region", "step"), key, strict=True))
            row["node"] = nodes.get(segment.region, {}).get(OpId(segment.name), "")
            row["ends"] = list(ends.get(segment.name, ()))
            row |= {"start_cycle": segment.start_cycle, "pe": None, "xy": None, **{f"{p}_cycles": 0 for p in PARTS}}
            rows.append(row)
        rows[-1]["end_cycle"] = segment.end_cycle
        rows[-1][f"{segment.part}_cycles"] += segment.cycles
        if segment.pe is not None:
            region = program.region[RegionId(segment.region)]
            rows[-1]["pe"] = list(segment.pe)
            rows[-1]["xy"] = [int(region.xs[segment.pe]), int(region.ys[segment.pe])]
    for row in rows:
        row["cycles"] = row["end_cycle"] - row["start_cycle"]
        row["share"] = row["cycles"] / report.cycles if report.cycles else 0.0
    return rows


def graph_of(program: PlacedProgram) -> Graph | None:
    """The graph that a program was made from; None where the file does not hold it."""
    try:
        return parse_graph(program.graph_text) if program.graph_text else None
    except WaferError:
        return None


def own_ops_of(program: PlacedProgram) -> dict[str, dict[OpId, Op]]:
    """Region → op of its block → the op of the graph that it stands for there."""
    graph = graph_of(program)
    found: dict[str, dict[OpId, Op]] = {}
    if graph is not None:
        for instance in program.instances:
            block = program.blocks[instance.block]
            found.setdefault(instance.region, {}).update(instance_ops(block, instance, graph))
    return found


def onnx_nodes(program: PlacedProgram) -> dict[str, dict[OpId, str]]:
    """Region → op of its block → the ONNX node that it came from, as far as known."""
    return {
        region: {name: op.source or op.id for name, op in ops.items()} for region, ops in own_ops_of(program).items()
    }


def folded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a path for a table: an op with its collectives is one row, a stream with its port another, and
    regions that do the same one after the other are told once, the rest in one row (``again`` says of which regions).
    """
    joined: list[dict[str, Any]] = []
    for row in rows:
        place = "" if row["ends"] else row["region"]
        key = (row["name"], place)
        if joined and joined[-1]["key"] == key:
            _add(joined[-1], row)
        else:
            joined.append({**row, "key": key, "region": place, "again": []})
    visits: list[list[dict[str, Any]]] = []
    for row in joined:
        if row["ends"] or not visits:
            visits.append([])
        visits[-1].append(row)
    found: list[dict[str, Any]] = []
    told: tuple[str, ...] = ()
    for visit in visits:
        names = tuple(row["name"] for row in visit if not row["ends"])
        if len(names) > 1 and names == told:
            if not found[-1]["again"]:
                found.append({**visit[0], "again": []})
                visit = [visit[0], *visit[1:]]
                _clear(found[-1])
            for row in visit:
                _add(found[-1], row)
            found[-1]["again"].append(visit[-1]["region"])
        else:
            found += visit
        told = names
    return found


def _add(row: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key in ("cycles", "share", *(f"{part}_cycles" for part in PARTS)):
        row[key] += more[key]
    row["xy"], row["end_cycle"] = more["xy"] or row["xy"], more["end_cycle"]


def _clear(row: dict[str, Any]) -> None:
    for key in ("cycles", "share", *(f"{part}_cycles" for part in PARTS)):
        row[key] = 0


def bottlenecks(rows: list[dict[str, Any]], program: PlacedProgram) -> list[dict[str, Any]]:
    """What takes most of the critical path, the largest first: work by kind of op, messages inside regions and between
    them by what their time is spent on, and ports.

    ``what``: work, collective, stream (between regions), host; ``of``: the kind of op, or hops, words or wait.
    ``largest``: the name with most cycles among them.
    """
    kinds = {op.id: op.kind for block in program.blocks.values() for op in block_ops(block)}
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        for part in PARTS:
            cycles = row[f"{part}_cycles"]
            if cycles:
                what = {"compute": "work", "collective": "collective"}.get(row["kind"], "")
                if not what:
                    what = "host" if HOST in row["ends"] else "stream"
                of = kinds.get(row["name"], row["name"]) if what == "work" else part
                names = groups.setdefault((what, of), {})
                names[row["name"]] = names.get(row["name"], 0) + cycles
    total = sum(row["cycles"] for row in rows)
    found = [
        {
            "what": what,
            "of": of,
            "cycles": sum(names.values()),
            "share": sum(names.values()) / total,
            "largest": max(names, key=lambda name: (names[name], name)),
        }
        for (what, of), names in groups.items()
    ]
    return sorted(found, key=lambda group: (-group["cycles"], group["what"], group["of"]))[:MOST_BOTTLENECKS]
