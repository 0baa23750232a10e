"""Named arrays in a file, as inputs come and outputs go: read with clear errors, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zipfile import BadZipFile

from .errors import RunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEVER = "write it with numpy.savez(file, NAME=array)"


def read_npz(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """All arrays of an npz file. Pickled objects are refused.

    Raises:
        RunError: there is no such file, or it is not an npz file of plain arrays.
    """
    import numpy as np

    where = f"inputs {os.fspath(path)}"
    try:
        stored = np.load(path, allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise RunError("the file holds one unnamed array", where=where, hint=_LEVER)
        with stored:
            return {name: stored[name] for name in stored.files}
    except OSError as problem:
        raise RunError(problem.strerror or "the file cannot be read", where=where) from problem
    except (ValueError, EOFError, BadZipFile, NotImplementedError) as problem:
        raise RunError("the file is not an npz file of plain arrays", where=where, hint=_LEVER) from problem


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to an npz file; an interrupted write leaves what was there before."""
    import numpy as np

    with whole_file(path) as file:
        np.savez(file, allow_pickle=False, **dict(arrays))


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when the block has ended well.

    Raises:
        OSError: the file system refuses; it names the final file.
    """
    final = Path(path)
    draft = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(final)
    except BaseException as problem:
        with suppress(OSError):
            draft.unlink()
        if isinstance(problem, OSError) and problem.filename == str(draft):
            problem.filename = os.fspath(path)
        raise
