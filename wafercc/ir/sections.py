"""Sections: a placed program as a manifest and arrays, the two things its file is made of, and back.

The manifest is JSON of the size O(blocks + instances): whatever grows with PEs or wires is in arrays. Five classes
leave the manifest, wholly or partly: `Region` (its embedding and detours), `Lane` (one row of a table), `RouterTable`
(its columns), `Certificate` (its segments) and `WeightTiles` (its tiles); all else is stored by the rules of `codec`.

Arrays are stored in the smallest integer type that holds them and read back as int32.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from .block import RegionId
from .certificate import SEGMENT_COLUMNS, Certificate
from .codec import Decoder, Json, Malformed, as_list, as_object, encode, field_types, required_fields
from .graph import TensorType, ValueName
from .layout import Mesh, Tiled
from .program import (
    Detour,
    EdgePort,
    Fan,
    IntArray,
    Lane,
    PlacedProgram,
    Rect,
    Region,
    RouterTable,
    Stream,
    WeightTiles,
)

Array = NDArray[np.generic]
Manifest = dict[str, Json]

# The fields with a form of their own; the others go through `codec` by their type.
_OWN_FORM = {"inputs", "outputs", "regions", "streams", "routers", "weights", "certificate", "graph_text"}
_PLAIN_JSON = {"target", "defects", "options", "versions", "decisions"}
_ROUTER_COLUMNS = ("wafer", "x", "y", "colour", "position", "ins", "outs", "net")

# One row of the lane table. An end is (kind, a, b, c, d, e, f): a fan (region, along, lo, hi, trunk, gate), or a port
# (wafer, x, y, side, 0, 0). ``hops`` counts the routers of the path; ``dim`` is -1 for the whole value.
_END_COLUMNS = 7
_LANE_COLUMNS = 2 * _END_COLUMNS + 5
_FAN_Y, _FAN_X, _PORT = 0, 1, 2

# One row of the detour table: region, direction (0 along y, 1 along x), row, column, routers of its path.
_DETOUR_COLUMNS = 5
_STORED = (np.uint8, np.int16, np.int32)


@dataclasses.dataclass(frozen=True)
class Sections:
    """A program taken apart. ``arrays`` and ``weights`` are by member name (without folder and ending)."""

    manifest: Manifest
    arrays: Mapping[str, Array]
    weights: Mapping[str, Array]


def take_apart(program: PlacedProgram) -> Sections:
    """The manifest and arrays of a program. Equal programs give equal sections."""
    manifest: Manifest = {
        f.name: _plain(getattr(program, f.name), f.name) if f.name in _PLAIN_JSON else encode(getattr(program, f.name))
        for f in dataclasses.fields(program)
        if f.name not in _OWN_FORM
    }
    # The order of inputs and outputs is the model's signature, so it is kept; other mappings are sorted by key.
    manifest["inputs"] = [[name, str(type_)] for name, type_ in program.inputs.items()]
    manifest["outputs"] = [[name, str(type_)] for name, type_ in program.outputs.items()]
    manifest["regions"] = [
        {"id": r.id, "rect": encode(r.rect), "rows": r.rows, "columns": r.columns} for r in program.regions
    ]
    manifest["streams"] = [_stream_form(stream) for stream in program.streams]
    manifest["nets"] = list(program.routers.nets)
    manifest["certificate"] = {
        "tasks": encode(program.certificate.tasks), "steps": encode(program.certificate.steps)
    }  # fmt: skip
    arrays: dict[str, Array] = {
        "embeddings": _narrow(_joined([np.stack([r.xs.ravel(), r.ys.ravel()], 1) for r in program.regions], 2)),
        "detours": _narrow(_detour_table(program)),
        "detour-paths": _narrow(_joined([detour.path for r in program.regions for detour in r.detours], 2)),
        "lanes": _narrow(_lane_table(program)),
        "paths": _narrow(_joined([lane.path for stream in program.streams for lane in stream.lanes], 2)),
        "segments": _narrow(program.certificate.segments),
    }
    for column in _ROUTER_COLUMNS:
        arrays[f"routers-{column}"] = _narrow(getattr(program.routers, column))
    forms: Manifest = {}
    tiles: dict[str, Array] = {}
    for index, (key, weight) in enumerate(sorted(program.weights.items())):
        member = None if weight.tiles is None else f"{index:05d}-{re.sub('[^A-Za-z0-9._-]+', '_', key)[-60:]}"
        if member is not None and weight.tiles is not None:
            tiles[member] = weight.tiles
        shape = None if weight.tiles is None else list(weight.tiles.shape)
        origin = weight.origin
        forms[key] = {
            "tiled": str(weight.tiled), "mesh": encode(weight.mesh), "origin": origin, "value": weight.value,
            "member": member, "shape": shape,
        }  # fmt: skip
    manifest["weights"] = forms
    return Sections(manifest, arrays, tiles)


def put_together(sections: Sections, graph_text: str, *, ignore_unknown: bool) -> PlacedProgram:
    """The program of its sections.

    Raises:
        Malformed: the sections are not those of a program.
    """
    manifest = sections.manifest
    past_max = manifest.get("past_max")
    if type(past_max) is not int or past_max < 0:
        raise Malformed("past_max", "wanted a count of tokens")
    decoder = Decoder(past_max, ignore_unknown)
    fields: dict[str, object] = {}
    known = {f.name for f in dataclasses.fields(PlacedProgram)} | {"nets"}
    if not ignore_unknown and (unknown := manifest.keys() - known):
        raise Malformed("manifest", f"unknown field {min(unknown)}")
    required = {*required_fields(PlacedProgram), "nets"} - {"routers"}
    if missing := required - manifest.keys():
        raise Malformed("manifest", f"missing field {min(missing)}")
    for name, hint in field_types(PlacedProgram).items():
        if name in _OWN_FORM or name not in manifest:
            continue
        plain = name in _PLAIN_JSON
        fields[name] = as_object(manifest[name], name) if plain else decoder.value(manifest[name], hint, name)
    regions = _regions(decoder, manifest["regions"], _table(sections, "embeddings", 2))
    regions = _with_detours(regions, sections)
    fields |= {
        "inputs": _signature(decoder, manifest["inputs"], "inputs"),
        "outputs": _signature(decoder, manifest["outputs"], "outputs"),
        "regions": regions,
        "streams": _streams(decoder, manifest["streams"], sections, regions),
        "routers": _routers(decoder, manifest["nets"], sections),
        "weights": _weights(decoder, manifest["weights"], sections.weights),
        "certificate": _certificate(decoder, manifest, sections),
        "graph_text": graph_text,
    }
    return PlacedProgram(**fields)  # type: ignore[arg-type]


def _plain(value: object, where: str) -> Json:
    """A JSON section as it stands. A tuple becomes a list; anything else that JSON lacks is a bug of ours."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [_plain(item, where) for item in value]
        case Mapping():
            assert all(isinstance(key, str) for key in value), f"{where}: keys are text"
            return {key: _plain(item, where) for key, item in value.items()}
    raise TypeError(f"{where}: {type(value).__name__} is not JSON")


def _stream_form(stream: Stream) -> Json:
    form = encode(dataclasses.replace(stream, lanes=()))
    assert isinstance(form, dict)
    return {**form, "lanes": len(stream.lanes)}


def _lane_table(program: PlacedProgram) -> IntArray:
    index = {region.id: i for i, region in enumerate(program.regions)}
    rows = [
        (
            *_end_row(lane.source, index),
            *_end_row(lane.destination, index),
            *(lane.colour, -1 if lane.dim is None else lane.dim, lane.lo, lane.hi, len(lane.path)),
        )
        for stream in program.streams
        for lane in stream.lanes
    ]
    return np.array(rows, np.int64).reshape(len(rows), _LANE_COLUMNS).astype(np.int32)


def _end_row(end: Fan | EdgePort, index: Mapping[RegionId, int]) -> tuple[int, ...]:
    if isinstance(end, EdgePort):
        return (_PORT, end.wafer, end.x, end.y, end.side, 0, 0)
    kind = _FAN_Y if end.along == "y" else _FAN_X
    return (kind, index[end.region], end.lo, end.hi, end.trunk, end.gate, 0)


def _end(row: list[int], regions: tuple[Region, ...], where: str) -> Fan | EdgePort:
    kind, first, *rest = row
    if kind == _PORT:
        return EdgePort(first, rest[0], rest[1], rest[2])
    if kind not in (_FAN_Y, _FAN_X) or not 0 <= first < len(regions):
        raise Malformed(where, f"not the end of a lane: {row}")
    along: Literal["y", "x"] = "y" if kind == _FAN_Y else "x"
    return Fan(regions[first].id, along, *rest[:4])


def _regions(decoder: Decoder, forms: Json, embeddings: IntArray) -> tuple[Region, ...]:
    regions: list[Region] = []
    start = 0
    for i, item in enumerate(as_list(forms, "regions")):
        where = f"regions[{i}]"
        match item:
            case {"id": str(name), "rect": rect, "rows": int(rows), "columns": int(columns)} if min(rows, columns) > 0:
                place = decoder.read(rect, Rect, f"{where}.rect")
                coordinates = embeddings[start : start + rows * columns]
            case _:
                raise Malformed(where, "not a region")
        if len(coordinates) != rows * columns:
            raise Malformed("embeddings", f"too few rows for region {name}")
        start += rows * columns
        xs, ys = (np.ascontiguousarray(coordinates[:, k]).reshape(rows, columns) for k in (0, 1))
        regions.append(Region(RegionId(name), place, xs, ys))
    if start != len(embeddings):
        raise Malformed("embeddings", f"{len(embeddings)} rows for {start} PEs")
    return tuple(regions)


def _detour_table(program: PlacedProgram) -> IntArray:
    rows = [
        (i, int(detour.along == "x"), detour.row, detour.column, len(detour.path))
        for i, region in enumerate(program.regions)
        for detour in region.detours
    ]
    return np.array(rows, np.int32).reshape(len(rows), _DETOUR_COLUMNS)


def _with_detours(regions: tuple[Region, ...], sections: Sections) -> tuple[Region, ...]:
    """The regions with the detours of the table, which a file of schema 1.0 does not have."""
    if "detours" not in sections.arrays:
        return regions
    table, paths = _table(sections, "detours", _DETOUR_COLUMNS), _table(sections, "detour-paths", 2)
    starts = _starts(table[:, -1], paths, "detour-paths")
    found: list[list[Detour]] = [[] for _ in regions]
    for i, (row, (start, stop)) in enumerate(zip(table.tolist(), pairwise(starts), strict=True)):
        region, direction, pe_row, pe_column, _ = row
        if not 0 <= region < len(regions) or direction not in (0, 1):
            raise Malformed(f"detours[{i}]", f"not a detour: {row}")
        found[region].append(Detour("x" if direction else "y", pe_row, pe_column, paths[start:stop]))
    return tuple(dataclasses.replace(r, detours=tuple(d)) for r, d in zip(regions, found, strict=True))


def _starts(lengths: IntArray, paths: IntArray, name: str) -> list[int]:
    """Where each path of a table begins, and where the last one ends."""
    if (lengths < 0).any() or int(lengths.sum(dtype=np.int64)) != len(paths):
        raise Malformed(name, f"{len(paths)} rows do not match their table")
    return [0, *np.cumsum(lengths, dtype=np.int64).tolist()]


def _streams(decoder: Decoder, forms: Json, sections: Sections, regions: tuple[Region, ...]) -> tuple[Stream, ...]:
    table = _table(sections, "lanes", _LANE_COLUMNS)
    paths = _table(sections, "paths", 2)
    starts = _starts(table[:, -1], paths, "paths")
    lanes: list[Lane] = []
    for i, (row, (start, stop)) in enumerate(zip(table.tolist(), pairwise(starts), strict=True)):
        source = _end(row[:_END_COLUMNS], regions, f"lanes[{i}]")
        destination = _end(row[_END_COLUMNS : 2 * _END_COLUMNS], regions, f"lanes[{i}]")
        colour, dim, lo, hi, _ = row[2 * _END_COLUMNS :]
        lanes.append(Lane(source, destination, paths[start:stop], colour, None if dim < 0 else dim, lo, hi))
    streams: list[Stream] = []
    taken = 0
    for i, item in enumerate(as_list(forms, "streams")):
        form = as_object(item, f"streams[{i}]")
        count = form.get("lanes")
        if type(count) is not int or not 0 <= count <= len(lanes) - taken:
            raise Malformed(f"streams[{i}].lanes", "not a count of lanes of the table")
        stream = decoder.read({**form, "lanes": []}, Stream, f"streams[{i}]")
        streams.append(dataclasses.replace(stream, lanes=tuple(lanes[taken : taken + count])))
        taken += count
    if taken != len(lanes):
        raise Malformed("lanes", f"{len(lanes)} rows, of which streams take {taken}")
    return tuple(streams)


def _routers(decoder: Decoder, nets: Json, sections: Sections) -> RouterTable:
    columns = {name: _column(sections, f"routers-{name}") for name in _ROUTER_COLUMNS}
    if len({len(column) for column in columns.values()}) != 1:
        raise Malformed("routers", "columns differ in length")
    names = cast("tuple[str, ...]", decoder.value(nets, tuple[str, ...], "nets"))
    return RouterTable(**columns, nets=names)


def _certificate(decoder: Decoder, manifest: Manifest, sections: Sections) -> Certificate:
    """The ranks; none in a file of schema 1.0, which had no certificate."""
    if "certificate" not in manifest:
        return Certificate()
    form = as_object(manifest["certificate"], "certificate")
    plain = decoder.read({name: form[name] for name in form if name != "segments"}, Certificate, "certificate")
    return dataclasses.replace(plain, segments=_table(sections, "segments", len(SEGMENT_COLUMNS)))


def _weights(decoder: Decoder, forms: Json, tiles: Mapping[str, Array]) -> dict[str, WeightTiles]:
    weights: dict[str, WeightTiles] = {}
    for key, item in as_object(forms, "weights").items():
        where = f"weights.{key}"
        match item:
            case {"tiled": tiled_text, "mesh": mesh_form, "origin": str(origin), "member": member, "shape": shape}:
                tiled = decoder.read(tiled_text, Tiled, f"{where}.tiled")
                mesh = decoder.read(mesh_form, Mesh, f"{where}.mesh")
            case _:
                raise Malformed(where, "not the description of a weight")
        array: Array | None = None
        if member is not None:
            if not isinstance(member, str) or member not in tiles:
                raise Malformed(where, f"its tiles {member!r} are missing")
            array = tiles[member]
            stored = np.dtype(np.uint8) if tiled.dtype.is_packed else tiled.dtype.numpy
            if array.dtype.itemsize != stored.itemsize or list(array.shape) != shape:
                raise Malformed(where, f"tiles {array.dtype}{list(array.shape)} are not {tiled.dtype}{shape}")
            array = array.view(stored)
        value = as_object(item, where).get("value", "")
        if not isinstance(value, str):
            raise Malformed(where, "wanted the name of a graph's weight as its value")
        weights[key] = WeightTiles(tiled, mesh, array, origin, value)
    return weights


def _signature(decoder: Decoder, pairs: Json, where: str) -> dict[ValueName, TensorType]:
    items = (as_list(pair, where) for pair in as_list(pairs, where))
    found: dict[ValueName, TensorType] = {}
    for item in items:
        match item:
            case [str(name), type_]:
                found[ValueName(name)] = decoder.read(type_, TensorType, f"{where}.{name}")
            case _:
                raise Malformed(where, "not a pair of name and type")
    return found


def _narrow(array: IntArray) -> Array:
    """The same integers in the smallest of uint8, int16 and int32."""
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    fits = next(kind for kind in _STORED if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return array.astype(fits)


def _joined(tables: list[IntArray], columns: int) -> IntArray:
    return np.concatenate([np.empty((0, columns), np.int32), *tables])


def _column(sections: Sections, name: str) -> IntArray:
    array = sections.arrays.get(name)
    if array is None or array.dtype not in _STORED or array.ndim != 1:
        raise Malformed(name, "missing, or not a column of integers")
    return array.astype(np.int32)


def _table(sections: Sections, name: str, columns: int) -> IntArray:
    array = sections.arrays.get(name)
    if array is None or array.dtype not in _STORED or array.shape[1:] != (columns,):
        raise Malformed(name, f"missing, or not a table of {columns} columns of integers")
    return array.astype(np.int32)
