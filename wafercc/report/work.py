"""Where work and data lie: multiply-accumulates per PEs used, values gathered, and weights with their replicas.

Everything is derived from the blocks' layouts, at the context capacity.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..ir.block import AllGather, Block, Compute, LocalName, Phase
from ..ir.dims import at, shape_at
from ..ir.layout import AxisName, Mesh, Tiled, tile_bytes, tile_extent, tile_shape
from ..ir.optable import spec_of
from ..ir.program import PlacedProgram

HEAVY = ("matmul", "moe_experts", "attention")
WIDE_PES = 16


def spread(program: PlacedProgram) -> dict[str, Any]:
    """How far matmul and attention ops are spread: MACs of all instances, and on how many PEs each op runs."""
    ops: list[dict[str, Any]] = []
    for block in program.blocks.values():
        times = sum(i.block == block.name for i in program.instances)
        for step in block.steps:
            if isinstance(step, Compute) and step.op.kind in HEAVY and step.phase is not Phase.FINISH:
                row: dict[str, Any] = {"block": block.name, "op": step.op.id, "kind": step.op.kind, "times": times}
                row["macs"] = step_macs(step, block, program.past_max)
                row["pes"] = busy_pes(step, block, program.past_max)
                ops.append(row)
    total = sum(op["macs"] * op["times"] for op in ops)
    wide = sum(op["macs"] * op["times"] for op in ops if op["pes"] >= WIDE_PES)
    return {"macs": total, "wide_pes": WIDE_PES, "share_on_wide_ops": wide / total if total else 1.0, "ops": ops}


def step_macs(step: Compute, block: Block, n_past: int) -> int:
    """Multiply-accumulates of the whole op, over all PEs, replicas counted once."""
    types = [None if name is None else block.values[name].type for name in step.ins]
    spec = spec_of(step.op)
    results = spec.infer(step.op, types)
    ins = [None if kind is None else shape_at(kind.shape, n_past) for kind in types]
    return int(spec.work(step.op, ins, [shape_at(kind.shape, n_past) for kind in results]).macs)


def busy_pes(step: Compute, block: Block, n_past: int) -> int:
    """PEs that hold different work of a step: the product of its cut loops, each no more than its extent fills.

    PEs that only repeat what another does are not counted.
    """
    parts: dict[tuple[AxisName, ...], int] = {}
    for name in (*step.ins, *step.outs):
        if name is None:
            continue
        tiled = block.values[name]
        for dim, split in zip(tiled.type.shape, tiled.layout.splits, strict=True):
            if split.axes:
                filled = _filled(at(dim, n_past), tile_extent(1, split, 1), tiled, split.axes, block.mesh)
                parts[split.axes] = min(filled, parts.get(split.axes, filled))
    return _product(parts)


def _filled(extent: int, granule: int, tiled: Tiled, axes: tuple[AxisName, ...], mesh: Mesh) -> int:
    """Of the parts of a cut dimension, those that hold at least one element."""
    count, granules = mesh.parts(axes), -(-extent // granule)
    split = next(s for s in tiled.layout.splits if s.axes == axes)
    return min(count, granules) if split.cyclic else -(-granules // max(1, -(-granules // count)))


def _product(parts: dict[tuple[AxisName, ...], int]) -> int:
    """The PEs of independent cuts; where two cuts share an axis (`y0` here, `y0*x0` there), the finer one counts."""
    total, used = 1, set[AxisName]()
    for axes in sorted(parts, key=len, reverse=True):
        if used.isdisjoint(axes):
            total *= parts[axes]
            used.update(axes)
    return total


def gathers(program: PlacedProgram) -> dict[str, Any]:
    """Every all-gather: what each PE holds afterwards of a value that had been cut."""
    found: list[dict[str, Any]] = []
    for block in program.blocks.values():
        times = sum(i.block == block.name for i in program.instances)
        for step in block.steps:
            if isinstance(step, AllGather):
                result = block.values[step.result]
                shape = tile_shape(result, block.mesh, program.past_max)
                found.append(
                    {
                        "block": block.name,
                        "value": step.source,
                        "axes": list(step.axes),
                        "elements_per_pe": math.prod(shape),
                        "bytes_per_pe": tile_bytes(result, block.mesh, program.past_max),
                        "times": times,
                    }
                )
    return {
        "count": sum(g["times"] for g in found),
        "most_elements_per_pe": max((g["elements_per_pe"] for g in found), default=0),
        "each": found,
    }


def weights(program: PlacedProgram) -> dict[str, Any]:
    """The weights once, and as PEs hold them: with replicas and padding."""
    once: dict[str, int] = {}
    held = replicas = 0
    for instance in program.instances:
        block = program.blocks[instance.block]
        for local, key in instance.weights.items():
            tiled = block.values[local]
            origin = program.weights[key].origin
            once[origin] = tiled.dtype.sram_bytes(math.prod(at(d, program.past_max) for d in tiled.type.shape))
            held += tile_bytes(tiled, block.mesh, program.past_max) * _holders(local, block)
            replicas = max(replicas, _copies(tiled, block.mesh))
    present = all(w.tiles is not None for w in program.weights.values())
    return {
        "tensors": len(once),
        "bytes": sum(once.values()),
        "bytes_on_pes": held,
        "most_replicas": replicas,
        "have_values": present,
    }


def _holders(local: LocalName, block: Block) -> int:
    """PEs that hold a tile of a value: all, except where the layout keeps it at one index of an axis."""
    return block.mesh.pes // block.mesh.parts(axis for axis, _ in block.values[local].layout.held)


def _copies(tiled: Tiled, mesh: Mesh) -> int:
    """How many PEs hold each tile: the extents of the axes that cut nothing."""
    named: Iterable[AxisName] = (*tiled.layout.cut_axes, *(axis for axis, _ in tiled.layout.held))
    return mesh.pes // mesh.parts(set(named))
