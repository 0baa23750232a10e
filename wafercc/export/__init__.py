"""Export: a placed program for other people's tools, as a folder of `program.json` and `arrays.npz`.

What the program file says by rule (embeddings, layouts, combs, collective patterns, the plan of memory) is written out
here, so that a reader needs JSON, numpy and docs/export.md, and nothing of wafercc. The folder appears under its name
when it is complete; equal programs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import WaferError
from ..ir.codec import Json
from ..ir.program import PlacedProgram
from .document import document
from .tensors import Array

__all__ = ["ARRAYS", "DOCUMENT", "VERSION", "check_folder", "export", "schema"]

VERSION = "1.0"
DOCUMENT, ARRAYS = "program.json", "arrays.npz"
_SCHEMA = "schema/program-1.schema.json"
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `program.json`."""
    return cast("dict[str, Any]", json.loads(files(__package__).joinpath(_SCHEMA).read_text(encoding="utf-8")))


def export(program: PlacedProgram, folder: str | os.PathLike[str], *, weights: bool = False) -> dict[str, int]:
    """Write a program whose names all refer to something; the bytes of each file written.

    ``weights``: whether the tiles of weights are among the arrays. A former export in the folder is replaced.

    Raises:
        WaferError: the folder holds something else than an export.
        OSError: the file system refuses.
    """
    check_folder(Path(folder))
    final = Path(folder).resolve()
    form, arrays = document(program, weights)
    with _whole_folder(final) as draft:
        _write_arrays(draft / ARRAYS, arrays)
        with (draft / ARRAYS).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        listed: dict[str, Json] = {"schema": VERSION, "arrays": {"file": ARRAYS, "sha256": digest}}
        text = json.dumps(listed | form, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (draft / DOCUMENT).write_text(text, encoding="utf-8")
        return {name: (draft / name).stat().st_size for name in (DOCUMENT, ARRAYS)}


def check_folder(folder: Path) -> None:
    """Hold that an export may take this name: there is nothing yet, or an empty folder, or an export.

    Raises:
        WaferError: something else is there, or it is the folder that the user is in.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WaferError("cannot export: it is a file, not a folder", where=str(folder), hint="choose another name")
    if folder.samefile(Path.cwd()):
        problem = "cannot export: an export replaces its folder, and this is the current one"
        raise WaferError(problem, where=str(folder), hint="name a new folder in it, such as ./model.export")
    others = sorted({path.name for path in folder.iterdir()} - {DOCUMENT, ARRAYS})
    if others:
        problem = f"cannot export: the folder holds {others[0]}, which is no part of an export"
        raise WaferError(problem, where=str(folder), hint="choose another or a new folder")


def _write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an npz file: weights as they are, so that they cost no memory, all else compressed.

    Members are sorted and carry no time, so equal arrays give equal bytes.
    """
    with zipfile.ZipFile(path, "w") as file:
        for name, array in sorted(arrays.items()):
            member = zipfile.ZipInfo(f"{name}.npy", _NO_TIME)
            member.compress_type = zipfile.ZIP_STORED if name.startswith("weights/") else zipfile.ZIP_DEFLATED
            with file.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


@contextmanager
def _whole_folder(final: Path) -> Iterator[Path]:
    """A folder that takes its name only when the block has ended well; what was there before goes then, not earlier.

    Raises:
        OSError: the file system refuses; it names the final folder.
    """
    draft = final.with_name(f".{final.name}.{os.getpid()}.part")
    former = final.with_name(f".{final.name}.{os.getpid()}.old")
    try:
        draft.mkdir()
        yield draft
        if final.exists():
            final.rename(former)
        draft.rename(final)
    except BaseException as problem:
        if former.exists() and not final.exists():
            former.rename(final)
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(problem, OSError) and str(problem.filename).startswith(str(draft)):
            problem.filename = str(final)
        raise
    shutil.rmtree(former, ignore_errors=True)
