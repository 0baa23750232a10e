"""Export: a placed program for other people's tools, as a folder of `program.json` and `arrays.npz`.

What the program file says by rule (embeddings, layouts, combs, collective patterns, the plan of memory) is written out
here, so that a reader needs JSON, numpy and docs/export.md, and nothing of wafercc. The folder appears under its name
when it is complete; equal programs give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import WaferError
from ..ir.codec import Json
from ..ir.program import PlacedProgram
from .document import VERSION, document
from .tensors import Array

__all__ = ["ARRAYS", "DOCUMENT", "VERSION", "check_folder", "export", "schema"]

DOCUMENT, ARRAYS = "program.json", "arrays.npz"
_SCHEMA = "schema/program-1.schema.json"


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
    final = Path(folder)
    check_folder(final)
    form, arrays = document(program, weights)
    packed = _npz(arrays)
    digest = hashlib.sha256(packed).hexdigest()
    listed: dict[str, Json] = {"schema": form.pop("schema"), "arrays": {"file": ARRAYS, "sha256": digest}}
    text = json.dumps(listed | form, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    content = {DOCUMENT: text.encode(), ARRAYS: packed}
    _write(final, content)
    return {name: len(data) for name, data in content.items()}


def check_folder(folder: Path) -> None:
    """Hold that an export may take this name: there is nothing yet, or an empty folder, or an export.

    Raises:
        WaferError: something else is there.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WaferError("cannot export: it is a file, not a folder", where=str(folder), hint="choose another name")
    others = sorted({path.name for path in folder.iterdir()} - {DOCUMENT, ARRAYS})
    if others:
        problem = f"cannot export: the folder holds {others[0]}, which is no part of an export"
        raise WaferError(problem, where=str(folder), hint="choose another or a new folder")


def _npz(arrays: Mapping[str, Array]) -> bytes:
    """The bytes of the npz file; its members carry no time, so equal arrays give equal bytes."""
    buffer = io.BytesIO()
    named = {name: arrays[name] for name in sorted(arrays)}
    np.savez_compressed(buffer, allow_pickle=False, **named)
    return buffer.getvalue()


def _write(final: Path, content: Mapping[str, bytes]) -> None:
    """Write the files beside the final name, then move the folder there: all of it or nothing."""
    draft = final.with_name(f".{final.name}.{os.getpid()}.part")
    former = final.with_name(f".{final.name}.{os.getpid()}.old")
    try:
        draft.mkdir()
        for name, data in content.items():
            (draft / name).write_bytes(data)
        if final.exists():
            final.rename(former)
        try:
            draft.rename(final)
        except OSError:
            if former.exists():
                former.rename(final)
            raise
    except BaseException as problem:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(problem, OSError) and str(problem.filename).startswith(str(draft)):
            problem.filename = str(final)
        raise
    with suppress(OSError):
        shutil.rmtree(former)
