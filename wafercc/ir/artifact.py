"""The artifact: a placed program as one self-contained file NAME.wafer. docs/artifact.md describes the format.

    program.json     the manifest: everything that is not an array
    arrays/*.npy     embeddings, detours, lanes, their paths, router configuration
    weights/*.npy    the tiles of each weight; types numpy does not know as raw bytes, their type in the manifest
    graph.txt        provenance: the graph in text form; not needed to run (graph-ENTRY.txt of a further entry)
    checksums.json   sha256 of every other member, and of the target and the defect map

Weights are views of the mapped file: they cost no memory until touched. Loading compares the checksums of all members,
but of the weights only if they are small together (`CHECK_WEIGHTS_BYTES`); `check_weights` compares them all.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .codec import Json, Malformed, as_object
from .container import CHECKSUMS, Container, Pieces, canonical, open_container, sha256, write
from .entry_sections import put_together_entries, take_apart_entries
from .program import PlacedProgram
from .sections import Array, Manifest, Sections

SCHEMA = (1, 2)  # major: readers of another major may refuse; minor: adds fields that older readers may ignore
CHECK_WEIGHTS_BYTES = 64 << 20

_MANIFEST = "program.json"
_GRAPH = "graph.txt"
_HASHED_SECTIONS = ("target", "defects")
_NPY_PROBLEMS = (ValueError, SyntaxError, TypeError, EOFError, OverflowError, RecursionError, MemoryError)


def save(program: PlacedProgram, path: Path | str) -> None:
    """Write a program to one file, whole or not at all. Equal programs give equal bytes.

    Raises:
        ArtifactError: the file system refuses.
    """
    sections = take_apart_entries(program)
    schema: Manifest = {"schema": f"{SCHEMA[0]}.{SCHEMA[1]}"}
    members: dict[str, Pieces] = {_MANIFEST: (canonical(schema | sections.manifest),)}
    for name, array in sections.arrays.items():
        members[f"arrays/{name}.npy"] = _npy(array)
    for name, array in sections.weights.items():
        members[f"weights/{name}.npy"] = _npy(array)
    for name, entry in program.entries.items():
        if entry.graph_text:
            members[_GRAPH if entry is program else f"graph-{name}.txt"] = (entry.graph_text.encode(),)
    write(Path(path), members, _section_digests(sections.manifest))


def load(path: Path | str) -> PlacedProgram:
    """Read a program. Its weights and arrays are read-only; weights are mapped, not read.

    Raises:
        ArtifactError: no such file, not an artifact, truncated, altered, of an unknown schema, or malformed.
    """
    container = open_container(Path(path))
    if _MANIFEST not in container.extents:
        raise container.error(_MANIFEST, "missing member: not a .wafer file")
    container.check_names()
    manifest, newer_minor = _manifest(container)
    _check_sections(container, manifest)
    weight_members = [name for name in container.extents if name.startswith("weights/")]
    read = container.checked if _small(container, weight_members) else container.member
    arrays = {n[7:-4]: _array(container, n, container.checked(n)) for n in container.extents if n.startswith("arrays/")}
    weights = {name[8:-4]: _array(container, name, read(name)) for name in weight_members}
    graphs = {
        name[6:-4]: bytes(container.checked(name)).decode(errors="replace")
        for name in container.extents
        if _is_graph(name)
    }
    try:
        return put_together_entries(Sections(manifest, arrays, weights), graphs, ignore_unknown=newer_minor)
    except (Malformed, RecursionError) as error:
        raise container.error(_MANIFEST, f"malformed: {error}", "the file was written by a broken tool") from None


def check_weights(path: Path | str) -> int:
    """Compare every weight of a file with its checksum; the number of members compared.

    Raises:
        ArtifactError: the file cannot be read, or a weight was altered.
    """
    container = open_container(Path(path))
    names = [name for name in container.extents if name.startswith("weights/")]
    for name in names:
        container.checked(name)
    return len(names)


def digests(path: Path | str) -> Mapping[str, str]:
    """The recorded sha256 of the target and of the defect map: what the program was placed for."""
    return open_container(Path(path)).sections


def reseal(path: Path | str, changes: Mapping[str, bytes]) -> None:
    """Replace members of a file and compute its checksums anew: for experiments and for tests of what notices them.

    Raises:
        ArtifactError: the file cannot be read or written, or has no such member.
    """
    container = open_container(Path(path))
    members: dict[str, Pieces] = {n: (container.member(n),) for n in container.extents if n != CHECKSUMS}
    for name, content in changes.items():
        container.member(name)
        members[name] = (content,)
    _rewrite(container, members, Path(path))


def strip_graph(path: Path | str, out: Path | str) -> None:
    """Write the same program without its provenance.

    Raises:
        ArtifactError: the file cannot be read or written.
    """
    container = open_container(Path(path))
    kept = (name for name in container.extents if name != CHECKSUMS and not _is_graph(name))
    _rewrite(container, {name: (container.member(name),) for name in kept}, Path(out))


def _is_graph(name: str) -> bool:
    return name == _GRAPH or (name.startswith("graph-") and name.endswith(".txt"))


def _rewrite(container: Container, members: dict[str, Pieces], out: Path) -> None:
    try:
        manifest = json.loads(b"".join(members.get(_MANIFEST, ())))
        sections = _section_digests(manifest)
    except (ValueError, TypeError, KeyError):
        sections = dict(container.sections)
    write(out, members, sections)


def _section_digests(manifest: Manifest) -> dict[str, str]:
    return {name: sha256((canonical(manifest[name]),)) for name in _HASHED_SECTIONS}


def _manifest(container: Container) -> tuple[Manifest, bool]:
    """The manifest, and whether its minor schema is newer than ours. The schema is judged before anything else."""
    content = bytes(container.checked(_MANIFEST))
    try:
        loaded: Json = json.loads(content)
        manifest = as_object(loaded, "manifest")
        major, minor = (int(part) for part in str(manifest.pop("schema", "")).split("."))
    except (ValueError, RecursionError) as error:
        raise container.error(_MANIFEST, f"malformed: {error}") from None
    if not max(1, SCHEMA[0] - 1) <= major <= SCHEMA[0]:
        reads = f"this version reads {max(1, SCHEMA[0] - 1)} to {SCHEMA[0]}"
        hint = "use the wafercc that wrote it, or compile again"
        raise container.error(_MANIFEST, f"schema {major}.{minor}; {reads}", hint)
    return manifest, major == SCHEMA[0] and minor > SCHEMA[1]


def _check_sections(container: Container, manifest: Manifest) -> None:
    for name in _HASHED_SECTIONS:
        found = sha256((canonical(manifest.get(name)),))
        expected = container.sections.get(name, "missing")
        if found != expected:
            raise container.error(_MANIFEST, f"{name}: sha256 {found[:12]} is not the recorded {expected[:12]}")


def _small(container: Container, names: list[str]) -> bool:
    return sum(container.extents[name][1] for name in names) <= CHECK_WEIGHTS_BYTES


def _npy(array: Array) -> Pieces:
    """The bytes of an .npy file: its header, then the data without a copy. Types numpy cannot name go as raw bytes."""
    data = np.asarray(array, order="C")
    if data.dtype.kind not in "biuf" or data.dtype.isbuiltin == 2:
        data = data.view({1: np.uint8, 2: np.uint16}[data.dtype.itemsize])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(data))
    return header.getvalue(), data.reshape(-1).view(np.uint8).data


def _array(container: Container, name: str, content: memoryview) -> Array:
    """A read-only view of the array in an .npy member.

    Raises:
        ArtifactError: it is not an .npy file of plain numbers in C order, of exactly this size.
    """
    try:
        header = io.BytesIO(bytes(content[:10_240]))
        if np.lib.format.read_magic(header) != (1, 0):
            raise ValueError("an .npy of another version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
        if dtype.hasobject or dtype.kind not in "biuf" or fortran or any(extent < 0 for extent in shape):
            raise ValueError(f"dtype {dtype} or order not allowed")
        view: Array = np.frombuffer(content, dtype, offset=header.tell()).reshape(shape)
    except _NPY_PROBLEMS as error:
        raise container.error(name, f"malformed array: {error}") from None
    return view
