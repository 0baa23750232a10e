"""Container: one file of named members, each with its checksum; written whole or not at all.

It is a zip that any zip tool opens, with rules that make it memory-mappable and reproducible: members are stored, not
compressed, in the order of their names; member data starts at a multiple of 64 bytes; every timestamp is the same. The
member ``checksums.json`` holds the sha256 of every other member. Zip's own CRC is written for other tools, never relied
on.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import struct
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import ArtifactError

CHECKSUMS = "checksums.json"
ALIGNMENT = 64
# Private extra field that carries the padding; the id is the one the Android tools use for the same purpose.
_PADDING_ID = 0xD935
_ZIP64_EXTRA_BYTES = 20  # what zipfile adds to the local header of a member that may pass 4 GiB
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_NOT_OURS = "pass a file written by `wafercc compile -o NAME.wafer`"
_DAMAGED = "the file is damaged or was altered; compile again, or copy it again"

# The bytes of one member, in pieces, so that a large array is written without a copy.
Pieces = tuple[bytes | memoryview, ...]


def sha256(pieces: Pieces) -> str:
    """The hex digest of a member."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spare spaces, so that equal values are equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def write(path: Path, members: Mapping[str, Pieces], sections: Mapping[str, str]) -> None:
    """Write a container in one step: a reader sees the old file or the whole new one.

    ``sections`` are further digests to keep beside those of the members. The file is built under another name in the
    same folder and removed on any failure, an interrupt included.

    Raises:
        ArtifactError: the file system refuses.
    """
    digests = {name: sha256(pieces) for name, pieces in members.items()}
    listing = canonical({"members": digests, "sections": dict(sections)})
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            with open(temporary, "xb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    for name, pieces in sorted({**members, CHECKSUMS: (listing,)}.items()):
                        _write_member(archive, file.tell(), name, pieces)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        hint = "check that the folder exists, is writable and has space"
        raise ArtifactError(f"cannot write: {error.strerror or error}", where=str(path), hint=hint) from None


def _write_member(archive: zipfile.ZipFile, offset: int, name: str, pieces: Pieces) -> None:
    size = sum(len(piece) for piece in pieces)
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.file_size = size
    info.external_attr = 0o644 << 16
    info.create_system = 3
    zip64 = size * 1.05 > zipfile.ZIP64_LIMIT  # the condition under which zipfile adds its own extra field
    start = offset + _LOCAL_HEADER.size + len(name.encode()) + _ZIP64_EXTRA_BYTES * zip64 + 4
    padding = -start % ALIGNMENT
    info.extra = struct.pack("<HH", _PADDING_ID, padding) + bytes(padding)
    with archive.open(info, "w", force_zip64=zip64) as member:
        for piece in pieces:
            member.write(piece)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Container:
    """An open file: where each member lies in the mapped bytes. Views of it keep the mapping alive."""

    path: Path
    data: memoryview
    extents: Mapping[str, tuple[int, int]]

    def member(self, name: str) -> memoryview:
        """The bytes of a member, not read until touched.

        Raises:
            ArtifactError: there is no such member.
        """
        if name not in self.extents:
            raise self.error(name, "missing member", _DAMAGED)
        offset, size = self.extents[name]
        return self.data[offset : offset + size]

    def checked(self, name: str) -> memoryview:
        """The bytes of a member, after comparing them with their checksum.

        Raises:
            ArtifactError: there is no such member, or its bytes are not those that were written.
        """
        content = self.member(name)
        found, expected = sha256((content,)), self.digests.get(name, "missing")
        if found != expected:
            raise self.error(name, f"checksum {found[:12]} is not the recorded {expected[:12]}", _DAMAGED)
        return content

    @cached_property
    def _listing(self) -> dict[str, dict[str, str]]:
        try:
            listing = json.loads(bytes(self.member(CHECKSUMS)))
            groups = {group: dict(listing[group]) for group in ("members", "sections")}
            if all(isinstance(text, str) for entries in groups.values() for text in entries.values()):
                return groups
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise self.error(CHECKSUMS, "not a list of checksums", _DAMAGED)

    @property
    def digests(self) -> Mapping[str, str]:
        return self._listing["members"]

    @property
    def sections(self) -> Mapping[str, str]:
        return self._listing["sections"]

    def check_names(self) -> None:
        """Compare the members present with those that have a checksum.

        Raises:
            ArtifactError: one is missing or was added.
        """
        present = self.extents.keys() - {CHECKSUMS}
        for name in sorted(self.digests.keys() ^ present):
            problem = "has no checksum" if name in present else "missing member"
            raise self.error(name, problem, _DAMAGED)

    def error(self, member: str, problem: str, hint: str = "") -> ArtifactError:
        return ArtifactError(problem, where=f"{self.path}: {member}", hint=hint)


def open_container(path: Path) -> Container:
    """Map a file and find its members; reads only the table of contents.

    Raises:
        ArtifactError: no such file, not a zip of stored members, or truncated.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            data = memoryview(mapped)
            starts_as_zip = bytes(data[:4]) == b"PK\x03\x04"
            if not starts_as_zip:
                raise ArtifactError("not a .wafer file", where=str(path), hint=_NOT_OURS)
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
    except FileNotFoundError:
        raise ArtifactError("no such file", where=str(path)) from None
    except OSError as error:
        raise ArtifactError(f"cannot read: {error.strerror or error}", where=str(path)) from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error, OverflowError) as error:
        raise ArtifactError(f"truncated or damaged: {error}", where=str(path), hint=_DAMAGED) from None
    return Container(path, data, _extents(path, data, entries))


def _extents(path: Path, data: memoryview, entries: list[zipfile.ZipInfo]) -> dict[str, tuple[int, int]]:
    extents: dict[str, tuple[int, int]] = {}
    for entry in entries:
        where = f"{path}: {entry.filename}"
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.compress_size != entry.file_size:
            raise ArtifactError("member is compressed or encrypted", where=where, hint=_NOT_OURS)
        if entry.filename in extents:
            raise ArtifactError("two members of one name", where=where, hint=_DAMAGED)
        head = data[entry.header_offset : entry.header_offset + _LOCAL_HEADER.size]
        if entry.header_offset < 0 or len(head) < _LOCAL_HEADER.size or bytes(head[:4]) != b"PK\x03\x04":
            raise ArtifactError("truncated or damaged: no local header", where=where, hint=_DAMAGED)
        *_, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(head)
        start = entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        if start + entry.file_size > len(data):
            raise ArtifactError("truncated: the member ends beyond the file", where=where, hint=_DAMAGED)
        extents[entry.filename] = (start, entry.file_size)
    return extents
