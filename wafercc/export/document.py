"""Document: a placed program as one JSON object and named arrays, with everything that follows by rule written out.

The JSON grows with blocks, instances and nets; whatever grows with PEs, elements or wires is in arrays. docs/export.md
describes both; schema/program-1.schema.json is the JSON's schema.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from ..ir.block import AllGather, AllReduce, Block, Compute, Instance, LocalName, Step, step_ins, step_outs
from ..ir.codec import Json, encode_attr
from ..ir.dtypes import from_numpy
from ..ir.graph import TensorType, ValueName
from ..ir.layout import Tiled
from ..ir.program import Execute, PlacedProgram, Region, Task, WeightTiles
from .alive import alive
from .memory import COLUMNS as MEMORY_COLUMNS
from .memory import timelines
from .nets import Nets
from .patterns import Pattern, patterns_of
from .tensors import Array, Arrays, capacity_bytes, part_of, tensor_form, type_form

_ROUTER_COLUMNS = ("wafer", "x", "y", "colour", "position", "ins", "outs", "net")


def document(program: PlacedProgram, with_weights: bool) -> tuple[dict[str, Json], Mapping[str, Array]]:
    """The JSON object and the arrays it names. ``with_weights``: whether the tiles of weights are among them.

    What has an order in the program (signature, regions, instances, streams, schedule) keeps it; the rest is sorted.
    """
    arrays = Arrays()
    nets = Nets(program, arrays)
    nets.add_collectives()
    streams: dict[str, Json] = {stream.id: nets.stream(stream) for stream in program.streams}
    blocks: dict[str, Json] = {name: _block(block, nets, arrays) for name, block in sorted(program.blocks.items())}
    memory = timelines(program)
    form: dict[str, Json] = {
        "model": program.model,
        "versions": _plain(program.versions),
        "options": _plain(program.options),
        "assumptions": list(program.assumptions),
        "target": _plain(program.target),
        "defects": _plain(program.defects),
        "n_past_max": program.past_max,
        "inputs": _signature(program.inputs),
        "outputs": _signature(program.outputs),
        "states": _plain(program.states),
        "id_limits": _plain(program.id_limits),
        "alive": arrays.put("alive", alive(program.target, program.defects)),
        "regions": {
            region.id: _region(program, i, region, arrays, memory[region.id])
            for i, region in enumerate(program.regions)
        },
        "blocks": blocks,
        "instances": {instance.id: _instance(instance) for instance in program.instances},
        "weights": {
            key: _weight(i, weight, arrays, with_weights)
            for i, (key, weight) in enumerate(sorted(program.weights.items()))
        },
        "streams": streams,
        "patterns": [_pattern(pattern) for pattern in nets.patterns],
        "nets": cast(Json, nets.forms),
        "hops": nets.hops(),
        "routers": {
            **{name: arrays.put(f"routers/{name}", getattr(program.routers, name)) for name in _ROUTER_COLUMNS},
            "labels": list(program.routers.nets),
        },
        "schedule": [_task(task) for task in program.order],
        "ranks": {
            "tasks": [list(window) for window in program.certificate.tasks],
            "steps": {name: [list(bounds) for bounds in ranks] for name, ranks in program.certificate.steps.items()},
            "segments": arrays.put("ranks/segments", program.certificate.segments),
        },
        "memory_columns": list(MEMORY_COLUMNS),
    }
    return form, arrays.members


def _region(program: PlacedProgram, index: int, region: Region, arrays: Arrays, memory: Array) -> Json:
    rect, plan = region.rect, program.sram.get(region.id)
    planned: Json = None
    if plan is not None:
        planned = {
            "weights_bytes": plan.weights_bytes,
            "caches_bytes": plan.state_bytes,
            "values_bytes": plan.peak_activation_bytes,
            "bound_bytes": plan.bound_bytes,
        }
    return {
        "wafer": rect.wafer,
        "x": rect.x,
        "y": rect.y,
        "width": rect.w,
        "height": rect.h,
        "rows": region.rows,
        "columns": region.columns,
        "pe_x": arrays.put(f"regions/{index}/x", region.xs),
        "pe_y": arrays.put(f"regions/{index}/y", region.ys),
        "plan": planned,
        "memory": arrays.put(f"regions/{index}/memory", memory),
    }


def _block(block: Block, nets: Nets, arrays: Arrays) -> Json:
    return {
        "rows": block.mesh.rows,
        "columns": block.mesh.columns,
        "axes": [{"name": axis.name, "extent": axis.extent, "along": axis.along} for axis in block.mesh.axes],
        "values": {str(name): _tensor(tiled, block, arrays) for name, tiled in sorted(block.values.items())},
        "params": list(block.params),
        "inputs": list(block.inputs),
        "outputs": list(block.outputs),
        "states": _plain(block.states),
        "steps": [_step(block, step, nets) for step in block.steps],
    }


def _tensor(tiled: Tiled, block: Block, arrays: Arrays) -> Json:
    return cast(Json, tensor_form(tiled, block.mesh, arrays))


def _step(block: Block, step: Step, nets: Nets) -> Json:
    form: dict[str, Json] = {"id": step.id, "reads": list(step_ins(step)), "writes": list(step_outs(step))}
    match step:
        case Compute():
            op: Json = {
                "id": step.op.id,
                "kind": step.op.kind,
                "attrs": {name: encode_attr(value) for name, value in sorted(step.op.attrs.items())},
                "onnx_node": step.op.source or None,
            }
            return form | {"kind": "compute", "op": op, "phase": str(step.phase), "operands": list(step.ins)}
        case AllReduce():
            bytes_ = sum(_tile_bytes(block, name) for name in step.ins)
            sizes = [(pattern, bytes_) for pattern in patterns_of(block, step)]
            form |= {"kind": "all_reduce", "combine": str(step.combine), "algorithm": str(step.algorithm)}
            return form | _line(step, sizes, nets)
        case AllGather():
            sent = {"collect": step.source, "broadcast": step.result}
            sizes = [(pattern, _tile_bytes(block, sent[pattern.kind])) for pattern in patterns_of(block, step)]
            return form | {"kind": "all_gather"} | _line(step, sizes, nets)
        case _:
            return form | {"kind": "narrow"}


def _line(step: AllReduce | AllGather, sizes: list[tuple[Pattern, int]], nets: Nets) -> dict[str, Json]:
    traffic: list[Json] = [{"pattern": nets.pattern(pattern), "bytes": size} for pattern, size in sizes]
    return {"axes": list(step.axes), "root": step.root, "traffic": traffic}


def _tile_bytes(block: Block, name: LocalName) -> int:
    return capacity_bytes(block.values[name], block.mesh)


def _instance(instance: Instance) -> Json:
    return {
        "block": instance.block,
        "region": instance.region,
        "weights": _plain(instance.weights),
        "bindings": _plain(instance.bindings),
    }


def _weight(index: int, weight: WeightTiles, arrays: Arrays, with_weights: bool) -> Json:
    """A weight's layout, which tile each PE holds, and what is stored of the tiles."""
    mesh = weight.mesh
    cut = [axis.name for axis in mesh.axes if axis.name in weight.tiled.layout.cut_axes]
    stored: Json = None
    if weight.tiles is not None:
        lead, slots = weight.tiles.shape[: len(mesh.axes)], weight.tiles.shape[len(mesh.axes) :]
        tiles = _nameable(weight.tiles.reshape(math.prod(lead), *slots))
        if with_weights:
            arrays.members[f"weights/{index}"] = tiles
        stored = {
            "shape": list(tiles.shape),
            "dtype": str(weight.tiled.dtype if weight.tiled.dtype.is_packed else from_numpy(weight.tiles.dtype)),
            "sha256": hashlib.sha256(tiles.reshape(-1).view(np.uint8).data).hexdigest(),
            "array": f"weights/{index}" if with_weights else None,
        }
    return {
        "origin": weight.origin,
        "tensor": cast(Json, tensor_form(weight.tiled, mesh, arrays)),
        "tile": arrays.shared("parts", part_of(mesh, cut)),
        "stored": stored,
    }


def _nameable(array: Array) -> Array:
    """The array itself, or its raw bytes where numpy has no name for its type."""
    array = np.ascontiguousarray(array)
    known = array.dtype.kind in "biuf" and array.dtype.isbuiltin != 2
    return array if known else array.view({1: np.uint8, 2: np.uint16}[array.dtype.itemsize])


def _pattern(pattern: Pattern) -> Json:
    return dict(pattern._asdict())


def _task(task: Task) -> Json:
    return ["execute", task.instance] if isinstance(task, Execute) else ["transfer", task.stream]


def _signature(types: Mapping[ValueName, TensorType]) -> Json:
    return {str(name): type_form(type_) for name, type_ in types.items()}


def _plain(value: Any) -> Json:
    """JSON as it stands, with sorted keys; tuples become lists."""
    match value:
        case Mapping():
            return {str(key): _plain(value[key]) for key in sorted(value)}
        case list() | tuple():
            return [_plain(item) for item in value]
    return cast(Json, value)
