"""External data: where a model keeps weights in other files, and whether those files may be read.

A model file may name any path. Only files inside the model's own folder are accepted, after following symbolic
links, so that compiling somebody's model never reads anything else.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ImportFailed


def check_external(
    tensor: str, location: str, offset: int, length: int, folder: Path, *, allow_missing: bool
) -> Path | None:
    """The external file of one tensor; ``None`` if it is absent and may be.

    Raises:
        ImportFailed: the path is absolute, leaves the folder, is absent, or holds fewer bytes than the tensor needs.
    """
    where = f"tensor {tensor}"
    hint = "external data must lie in the model's folder: move the file there and save the model again"
    if os.path.isabs(location) or location.startswith(("~", "\\")) or Path(location).drive:
        raise ImportFailed(f"its external data has the absolute path {location}", where=where, hint=hint)
    if ".." in location.replace("\\", "/").split("/"):
        raise ImportFailed(f"its external data {location} points outside the model's folder", where=where, hint=hint)
    path = folder / location
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), "")):
        raise ImportFailed(
            f"its external data {location} is a link that points outside the model's folder", where=where, hint=hint
        )
    if not path.is_file():
        if allow_missing:
            return None
        raise ImportFailed(
            f"its external data file {location} does not exist beside the model",
            where=where,
            hint="put the file into the model's folder, or compile with --weightless to time the model without it",
        )
    size = path.stat().st_size
    if offset + length > size:
        raise ImportFailed(
            f"its external data ends at byte {offset + length}, but {location} has {size} bytes",
            where=where,
            hint="the file is truncated: copy it again",
        )
    return path
