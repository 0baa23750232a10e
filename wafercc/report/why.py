"""Why: the decisions behind one op or one region, as the compiler recorded them, against the next best.

An op's answer comes from the layout search: what its block would take if the op had to be cut in another way and all
else were chosen anew. A region's comes from placement: what its flows cost where it lies and at the next best spot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import WaferError
from ..ir.block import Block, Compute, Phase, RegionId
from ..ir.dims import upper
from ..ir.graph import Op
from ..ir.op_names import block_ops, few, find_ops, nearest_ops, split_block
from ..ir.optable import spec_of
from ..ir.program import PlacedProgram
from .naming import region_titles
from .path import own_ops_of

MOST_OPS = 6  # ops of a pattern that are told in full


def why(program: PlacedProgram, name: str) -> dict[str, Any]:
    """The decisions about a region (``r3``) or about ops (an id, an ONNX node, a kind, a pattern), as plain JSON.

    Raises:
        WaferError: there is no such region or op, or the program does not hold its decisions.
    """
    if not {"blocks", "regions"} <= program.decisions.keys():
        raise WaferError("the program does not hold its decisions", where=program.model, hint="compile it again")
    if RegionId(name) in program.region:
        return {"region": _region(program, RegionId(name))}
    own = own_ops_of(program)
    block, rest = split_block(name, program.blocks)
    found: list[dict[str, Any]] = []
    for candidate in program.blocks.values():
        if block in (None, candidate.name):
            found += [_op(program, candidate, op, own) for op in _meant(program, candidate, rest, own)]
    if not found:
        every = [op for each in program.blocks.values() for op in block_ops(each)]
        raise WaferError(
            f"no region or op {name!r}; regions: {few(program.region)}; nearest ops: {nearest_ops(rest, every)}",
            where=program.model,
            hint="ids, ONNX nodes, kinds and patterns of them are understood",
        )
    return {"ops": found}


def _meant(program: PlacedProgram, block: Block, name: str, own: Mapping[str, Mapping[Any, Op]]) -> list[Op]:
    """A block's ops that a name means, in its own words or in those of a layer that shares it."""
    ops = block_ops(block)
    found = find_ops(name, ops)
    if found:
        return found
    regions = [i.region for i in program.instances if i.block == block.name]
    meant = {ours for r in regions for ours, op in own.get(r, {}).items() if find_ops(name, [op])}
    return [op for op in ops if op.id in meant]


def _op(program: PlacedProgram, block: Block, op: Op, own: Mapping[str, Mapping[Any, Op]]) -> dict[str, Any]:
    decided = program.decisions["blocks"].get(block.name, {})
    regions = [i.region for i in program.instances if i.block == block.name]
    sources = [own.get(region, {}).get(op.id, op) for region in regions]
    return {
        "op": op.id,
        "kind": op.kind,
        "block": block.name,
        "mesh": {along: [a.extent for a in block.mesh.axes if a.along == along] for along in ("x", "y")},
        "regions": regions,
        "nodes": [source.source or source.id for source in sources],
        "loops": loops_text(block, op),
        "block_cycles": decided.get("cycles"),
        "byte_price": decided.get("byte_price"),
        **decided.get("ops", {}).get(op.id, {}),
    }


def loops_text(block: Block, op: Op) -> str:
    """The loops that strategies name: ``m=16 n=352 k=128 (k: sum)``, at the context capacity."""
    step = next(s for s in block.steps if isinstance(s, Compute) and s.op == op and s.phase is not Phase.FINISH)
    ins = [None if name is None else block.values[name].type for name in step.ins]
    spec = spec_of(op)
    loops = spec.loops(op, ins, spec.infer(op, ins)).loops
    words = " ".join(f"{loop.name}={upper(loop.extent)}" for loop in loops)
    combined = ", ".join(f"{loop.name}: {loop.combine}" for loop in loops if loop.combine is not None)
    return f"{words} ({combined})" if combined else words


def _region(program: PlacedProgram, region: RegionId) -> dict[str, Any]:
    placed = program.region[region]
    return {
        "id": region,
        "title": region_titles(program)[region],
        "rows": placed.rows,
        "columns": placed.columns,
        "objective": program.decisions["placement"]["objective"],
        **program.decisions["regions"][region],
    }


def why_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The answer for people, in lines of less than a hundred characters."""
    if "region" in answer:
        yield from _region_lines(answer["region"])
        return
    for i, op in enumerate(answer["ops"][:MOST_OPS]):
        if i:
            yield ""
        yield from _op_lines(op)
    if len(answer["ops"]) > MOST_OPS:
        yield f"\nand {len(answer['ops']) - MOST_OPS} more ops: name one, or --json"


def _op_lines(op: Mapping[str, Any]) -> Iterator[str]:
    regions = op["regions"]
    where = f"regions {regions[0]} .. {regions[-1]}" if len(regions) > 1 else f"region {regions[0]}"
    yield f"{op['op']} ({op['kind']})"
    columns, rows = ("*".join(map(str, op["mesh"][along])) for along in ("x", "y"))
    yield f"  block      {op['block']} on {columns} columns x {rows} rows, {where}"
    if op["nodes"][0] != op["op"]:
        yield f"  ONNX node  {op['nodes'][0]}"
    yield f"  loops      {op['loops']}"
    if "strategy" not in op:
        yield "  strategy   not recorded"
        return
    how = "forced" if op["forced"] else f"best of {op['tried']} tried, {op['known']} exist"
    yield f"  strategy   {op['strategy']}, {how}"
    yield f"  estimate   {op['own_cycles']:,} cycles by itself; the block takes {op['block_cycles']:,}"
    if op["byte_price"]:
        yield f"  memory     short: {op['byte_price']} cycles were charged for each 64 bytes of weights on a PE"
    for i, (name, cycles) in enumerate(op["others"]):
        more = cycles - op["block_cycles"]
        percent = f" ({100 * more / op['block_cycles']:.1f} %)" if op["block_cycles"] else ""
        extra = f"+{more:,} cycles{percent}" if more else "the same"
        yield f"  {'next best' if not i else '':<9}  {name:<28} the block would take {cycles:,}: {extra}"
    if not op["others"] and not op["forced"]:
        yield "  next best  none: no other strategy leads through the block"


def _region_lines(region: Mapping[str, Any]) -> Iterator[str]:
    yield f"{region['id']} ({region['title']})"
    yield f"  place      {_span(region['rect'])}, for a mesh of {region['columns']} columns x {region['rows']} rows"
    share = f"{100 * region['share']:.1f} % of the placement's {region['objective']:,.1f}"
    yield f"  cost       {region['cycles']:,.1f} hop cycles, {share} (flows count at both ends)"
    for i, (partner, words, hops) in enumerate(region["partners"]):
        yield f"  {'talks to' if not i else '':<9}  {partner:<5} {words:>9,} words, {hops:,.1f} hops between centres"
    following = region["next"]
    if following is None:
        yield "  next best  no other free rectangle was found"
    else:
        cost = f"{following['cycles']:,.1f} hop cycles, {_more(region, following)}"
        yield f"  next best  {_span(following['rect'])}: {cost}"
    yield f"  held by    {_held(region)}"


def _held(region: Mapping[str, Any]) -> str:
    """What kept the region from lying better: its pin, defects, or nothing but its partners."""
    words = []
    if region["pinned"]:
        free = region["without_pin"]
        cost = f"without: {_span(free['rect'])}, {_more(region, free)}" if free else "which costs nothing"
        words.append(f"its pin, {cost}")
    if region["dead"] or region["detour"]:
        words.append(f"{_count(region['dead'], 'dead core')} inside, {_count(region['detour'], 'hop')} of detour")
    healed = region.get("without_defects")
    if healed:
        words.append(f"defects; without them: {_span(healed['rect'])}, {_more(region, healed)}")
    return "; ".join(words) or "its partners only"


def _more(region: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    more = other["cycles"] - region["cycles"]
    return f"{more:+,.1f}" if more else "the same"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' if number != 1 else ''}"


def _span(rect: list[int]) -> str:
    x, y, w, h = rect
    return f"x {x}..{x + w - 1}, y {y}..{y + h - 1}"


def strategy_rows(program: PlacedProgram, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    """The strategies of ops of these kinds with the next best, for a summary: most cycles first in each block."""
    rows: list[dict[str, Any]] = []
    decisions = program.decisions.get("blocks", {})
    for name, block in program.blocks.items():
        decided, ops = decisions.get(name, {}), block_ops(block)
        mine = [
            {"block": name, "op": op.id, "kind": op.kind, "block_cycles": decided["cycles"], **decided["ops"][op.id]}
            for op in ops
            if op.kind in kinds and op.id in decided.get("ops", {})
        ]
        rows += sorted(mine, key=lambda row: -row["own_cycles"])
    return rows
