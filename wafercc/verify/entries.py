"""Rules 1, 2, 3 and 7 between entries: what they share is one and the same, and all of it fits together.

Entries run one after the other, each with its own configuration of the routers, so streams and collectives of two of
them never meet. They meet in SRAM: the tiles of a weight that several use lie there once, and the caches that one
leaves are those that the next finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ..ir.layout import Layout, Mesh
from ..ir.program import PlacedProgram, Region, WeightTiles
from .machine import Machine
from .ownership import tile_sram
from .sram import peak_bytes, states_bytes
from .violation import Violation


def check_entries(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Every violation between the entries of a program that has several."""
    if not program.others:
        return
    names = [each.entry for each in (program, *program.others)]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield Violation(1, f"entry {name}", f"{names.count(name)} of this name")
    for other in program.others:
        where = f"entry {other.entry}"
        if other.others:
            yield Violation(1, where, "has entries of its own")
        if other.target != program.target or other.defects != program.defects:
            yield Violation(7, where, f"is for another machine than entry {program.entry}")
        if not _same_regions(program, other):
            yield Violation(2, where, f"has other regions than entry {program.entry}")
        yield from _weights(program, other)
    yield from _caches(program)
    yield from _together(program, machine)


def _same_regions(a: PlacedProgram, b: PlacedProgram) -> bool:
    return [r.id for r in a.regions] == [r.id for r in b.regions] and all(map(_same_region, a.regions, b.regions))


def _same_region(a: Region, b: Region) -> bool:
    alike = a.rect == b.rect and np.array_equal(a.xs, b.xs) and np.array_equal(a.ys, b.ys)
    return alike and len(a.detours) == len(b.detours) and all(
        (c.along, c.row, c.column) == (d.along, d.row, d.column) and np.array_equal(c.path, d.path)
        for c, d in zip(a.detours, b.detours, strict=True)
    )  # fmt: skip


def _weights(a: PlacedProgram, b: PlacedProgram) -> Iterator[Violation]:
    for key in sorted(a.weights.keys() & b.weights.keys()):
        if not _same_tiles(a.weights[key], b.weights[key]):
            yield Violation(1, f"weight {key}", f"is not the same in the entries {a.entry} and {b.entry}")


def _same_tiles(a: WeightTiles, b: WeightTiles) -> bool:
    if (a.tiled, a.mesh, a.origin, a.value, a.tiles is None) != (b.tiled, b.mesh, b.origin, b.value, b.tiles is None):
        return False
    if a.tiles is None or b.tiles is None or a.tiles is b.tiles:
        return True
    if a.tiles.__array_interface__["data"] == b.tiles.__array_interface__["data"] and a.tiles.shape == b.tiles.shape:
        return True
    return a.tiles.shape == b.tiles.shape and a.tiles.tobytes() == b.tiles.tobytes()


def _caches(program: PlacedProgram) -> Iterator[Violation]:
    """A cache is the same pair of values everywhere, of one capacity, each of which lies in one way in one region.

    Whether the two lie alike, so that a session can keep them, is asked when one begins.
    """
    lies: dict[str, tuple[str, str, Layout, Mesh]] = {}
    for entry in program.entries.values():
        where = f"entry {entry.entry}"
        if dict(entry.states) != dict(program.states):
            yield Violation(1, where, f"has other caches than entry {program.entry}")
        for stream in entry.streams:
            end = stream.source or stream.destination
            if not stream.state or end is None:
                continue
            instance = entry.instance[end[0]]
            block = entry.blocks[instance.block]
            cache = str(stream.value)
            here = entry.entry, str(instance.region), block.values[end[1]].layout, block.mesh
            known = lies.setdefault(cache, here)
            if known[1:] != here[1:]:
                told = f"lies as {known[2]} in region {known[1]} of entry {known[0]}, as {here[2]} in region {here[1]}"
                yield Violation(1, f"cache {cache}, {where}", told)
    for past, present in program.states.items():
        sizes = {
            name: entry.outputs[present].elements for name, entry in program.entries.items() if present in entry.outputs
        }
        for (a, m), (b, n) in pairwise(sizes.items()):
            if m != n:
                yield Violation(1, f"cache {past}", f"grows to {m} elements in entry {a}, to {n} in entry {b}")


def _together(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Rule 3 for all entries at once: their weights, the largest caches, the largest peak of everything else."""
    peaks = {name: peak_bytes(entry) for name, entry in program.entries.items()}
    for region in program.regions:
        held: dict[str, int] = {}
        caches: dict[str, int] = {}
        for name, entry in program.entries.items():
            for instance in (i for i in entry.instances if i.region == region.id):
                block = entry.blocks[instance.block]
                held |= {instance.weights[p]: tile_sram(block.values[p], block.mesh) for p in block.params}
                caches[name] = caches.get(name, 0) + states_bytes(block)
        weights, cached = sum(held.values()), max(caches.values(), default=0)
        values = max(peak.get(region.id, 0) for peak in peaks.values())
        total = weights + cached + values
        if total > machine.usable_bytes:
            parts = f"weights {weights}, caches {cached}, values {values}"
            problem = f"holds {total} bytes per PE for all entries ({parts}); {machine.usable_bytes} are usable"
            yield Violation(3, f"region {region.id}", problem)
