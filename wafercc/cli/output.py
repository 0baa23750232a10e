"""Where results go: refused before any work is done, not after."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..errors import WaferError


def check_writable(path: Path, *sources: Path | None) -> None:
    """Hold that a file could be written at ``path``, and that it is none of the files that are read.

    Raises:
        WaferError: its folder is missing or closed to the user.
        click.UsageError: it would overwrite a source.
    """
    if path.exists() and any(s is not None and s.exists() and path.samefile(s) for s in sources):
        raise click.UsageError(f"{path} would overwrite what is read; give another name.")
    folder = path.parent
    if not folder.is_dir():
        state, lever = ("is not a folder", "choose") if folder.exists() else ("does not exist", "create it or choose")
        raise WaferError(f"cannot write: {folder} {state}", where=str(path), hint=f"{lever} another folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WaferError(f"cannot write: {folder} is not writable", where=str(path), hint="choose another folder")


def check_folder(path: Path) -> None:
    """Hold that a folder is there, or can be made, and is open to the user.

    Raises:
        WaferError: it is not.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise WaferError(f"the folder cannot be made: {problem.strerror}", where=str(path)) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise WaferError("the folder is not writable", where=str(path), hint="choose another folder")
