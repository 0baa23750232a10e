"""Cache: what passes have found before, as texts in a folder, named by what they were found from.

The name of an entry is the sha256 of everything its content depends on: the compiler's own code and the versions of its
libraries, the stage, the options it declares, the products it reads (`digest`). So nothing is ever out of date; entries
that nobody asks for any more are removed, least recently used first, when the folder outgrows its bound. An entry
starts with the sha256 of the rest: one that was cut short or altered counts as absent and is written again. Entries
are written whole under another name and then renamed, so any number of compilers may share a folder. What cannot be
written is not kept, which costs time and nothing else. Entries have an ending of their own, and nothing else is ever
removed: the folder may be one that holds other things.

A text in a file of one's own, not a database of pickled objects as `diskcache` has: whatever a stage can print it can
read back, people can look at it, and reading it can execute nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from wafercc import ir, silicon, targets
from wafercc.errors import CannotRoute, CompileError, DoesNotFit, TextError
from wafercc.ir.lines import Excerpt
from wafercc.version import __version__

T = TypeVar("T")

MOST_BYTES = 1 << 28  # 256 MiB: some thousands of compiles
ENDING, UNFINISHED = ".wafercc-found", ".wafercc-part"  # of an entry, and of one that is being written
BLOCK_BYTES = 4096  # a small file takes a block of the disk
KEPT_SHARE = 0.9  # of the bound, once it was passed, so that not every compile removes something
_DONE, _REFUSED = "done\n", "refused\n"
# The refusals that are remembered, and what each says besides its message.
_PARTS: dict[type[CompileError], tuple[str, ...]] = {
    CompileError: (),
    DoesNotFit: ("resource", "demand", "bound"),
    CannotRoute: ("regions",),
}


class Remember(Protocol):
    """How a pass asks whether something was computed before.

    ``inputs``: all it depends on besides the options of its stage. ``text`` and ``read`` turn the result into text and
    back. A `CompileError` is remembered like a result, if it can be made again from its words.
    """

    def __call__(
        self, inputs: object, compute: Callable[[], T], text: Callable[[T], str], read: Callable[[Excerpt], T]
    ) -> T: ...


def anew(inputs: object, compute: Callable[[], T], text: Callable[[T], str], read: Callable[[Excerpt], T]) -> T:
    """Remember nothing."""
    return compute()


@dataclass(frozen=True)
class Cache:
    """A folder of entries. It may be absent until the first is written."""

    folder: Path
    most_bytes: int = MOST_BYTES

    @staticmethod
    def default_folder() -> Path:
        """``wafercc`` in the user's folder for caches."""
        home = os.environ.get("XDG_CACHE_HOME", "")
        return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "wafercc"

    def recall(
        self, key: str, compute: Callable[[], T], text: Callable[[T], str], read: Callable[[Excerpt], T]
    ) -> T:
        """The result under a key, computed and kept if it was not known.

        Raises:
            CompileError: that was the result.
        """
        known = self._read(key)
        if known is not None and known.startswith(_REFUSED):
            raise _refusal(known.removeprefix(_REFUSED))
        if known is not None:
            try:
                return read(Excerpt(known.removeprefix(_DONE), file=key))
            except (TextError, ValueError):
                pass  # written by other code that has the same name; computed anew below
        try:
            result = compute()
        except CompileError as problem:
            if type(problem) in _PARTS:
                self._write(key, _REFUSED + _refusal_text(problem))
            raise
        self._write(key, _DONE + text(result))
        return result

    def trim(self) -> None:
        """Remove what was used longest ago until the rest is within the bound."""
        found: list[tuple[int, int, str]] = []
        try:
            for folder in os.scandir(self.folder):
                if folder.is_dir():
                    for entry in os.scandir(folder):
                        if not entry.name.endswith((ENDING, UNFINISHED)):
                            continue
                        about = entry.stat()
                        size = -(-about.st_size // BLOCK_BYTES) * BLOCK_BYTES
                        found.append((about.st_mtime_ns, size, entry.path))
        except OSError:
            return  # another process is removing, too
        total = sum(size for _, size, _ in found)
        if total <= self.most_bytes:
            return
        for _, size, path in sorted(found):
            if total <= self.most_bytes * KEPT_SHARE:
                return
            try:
                os.unlink(path)
            except OSError:
                continue
            total -= size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}{ENDING}"

    def _read(self, key: str) -> str | None:
        path = self._path(key)
        try:
            found, _, content = path.read_bytes().partition(b"\n")
            os.utime(path)
        except OSError:
            return None
        if hashlib.sha256(content).hexdigest().encode() != found:
            return None
        return content.decode()

    def _write(self, key: str, text: str) -> None:
        path, content = self._path(key), text.encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=UNFINISHED)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                os.replace(name, path)
            except BaseException:
                os.unlink(name)
                raise
        except OSError:
            return


def _refusal_text(problem: CompileError) -> str:
    """A refusal as JSON: its type, and the arguments that make it again."""
    named = {name: getattr(problem, name) for name in ("message", "where", "hint", *_PARTS[type(problem)])}
    return json.dumps([type(problem).__name__, named])


def _refusal(text: str) -> CompileError:
    name, named = json.loads(text)
    kind = next(each for each in _PARTS if each.__name__ == name)
    return kind(named.pop("message"), **named)


def digest(*parts: object) -> str:
    """The sha256 of plain data: numbers, texts, arrays, and dataclasses, mappings and sequences of such, in order."""
    hasher = hashlib.sha256(fingerprint().encode())
    _feed(hasher, parts)
    return hasher.hexdigest()


def _feed(hasher: hashlib._Hash, value: object) -> None:
    match value:
        case Enum():
            hasher.update(f"e{value}\n".encode())
        case None | bool() | int() | float() | np.generic():
            hasher.update(f"{type(value).__name__}{value!r}\n".encode())
        case str():
            hasher.update(f"s{len(value)} {value}\n".encode())
        case np.ndarray():
            hasher.update(f"a{value.dtype}{value.shape}\n".encode() + np.ascontiguousarray(value).tobytes())
        case Mapping():
            hasher.update(f"m{len(value)}\n".encode())
            for key, item in value.items():
                _feed(hasher, key)
                _feed(hasher, item)
        case tuple() | list():
            hasher.update(f"l{len(value)}\n".encode())
            for item in value:
                _feed(hasher, item)
        case _ if is_dataclass(value):
            hasher.update(f"d{type(value).__qualname__}\n".encode())
            for each in fields(value):
                _feed(hasher, getattr(value, each.name))
        case _:
            raise TypeError(f"{type(value).__name__} is not plain data")


@cache
def fingerprint() -> str:
    """What stands for the compiler itself: the versions of what computes, and the code of all that decides."""
    versions = [__version__, sys.version, *(f"{name} {version(name)}" for name in ("numpy", "ortools", "networkx"))]
    hasher = hashlib.sha256("\n".join(versions).encode())
    folders = [Path(__file__).parent, *(Path(str(package.__file__)).parent for package in (ir, targets, silicon))]
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            hasher.update(path.read_bytes())
    return hasher.hexdigest()
