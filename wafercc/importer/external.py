"""External data: where a model keeps weights in other files, and whether those files may be read.

A model file may name any path. Only regular files inside the model's own folder are accepted, after following symbolic
links, and none that has a second name by a hard link, so that compiling somebody's model never reads anything else.
Nothing is read before it is needed: `mapped` gives a view of the file's bytes, and only of those of one tensor.
"""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImportFailed
from ..ir.dtypes import DType

INSIDE = "external data must lie in the model's folder: move the file there and save the model again"
ABSENT = "put the file into the model's folder, or compile with --weightless to time the model without it"
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes of one tensor: ``length`` of them from ``offset`` of a file."""

    path: Path
    offset: int
    length: int


@dataclass
class ExternalFiles:
    """The files beside one model; each is judged once, however many tensors lie in it.

    ``allow_missing``: absent files are no error.
    """

    folder: Path
    allow_missing: bool
    sizes: dict[str, int | None] = field(default_factory=dict)

    def extent(self, tensor: str, location: str, offset: int, length: int | None, needed: int) -> Extent | None:
        """The bytes of a tensor that needs so many; ``None`` if its file is absent and may be.

        Raises:
            ImportFailed: the path is absolute, leaves the folder, is absent, is no regular file, or does not hold what
                the tensor needs.
        """
        where = f"tensor {tensor}"
        if offset < 0 or (length is not None and length != needed):
            start, stop = offset, offset + (needed if length is None else length)
            raise ImportFailed(
                f"its external data is bytes {start} to {stop} of {location}; its type and shape need {needed} bytes",
                where=where,
                hint="the model is damaged: export it again",
            )
        if location not in self.sizes:
            self.sizes[location] = _size(self.folder, location, where)
        size = self.sizes[location]
        if size is None:
            if self.allow_missing:
                return None
            raise ImportFailed(
                f"its external data file {location} does not exist beside the model", where=where, hint=ABSENT
            )
        if offset + needed > size:
            raise ImportFailed(
                f"its external data ends at byte {offset + needed}, but {location} has {size} bytes",
                where=where,
                hint="the file is truncated: copy it again",
            )
        return Extent(self.folder / location, offset, needed)


def _size(folder: Path, location: str, where: str) -> int | None:
    """The bytes of an external file that may be read; ``None`` if there is none."""
    if os.path.isabs(location) or location.startswith(("~", "\\")) or Path(location).drive:
        raise ImportFailed(f"its external data has the absolute path {location}", where=where, hint=INSIDE)
    if ".." in location.replace("\\", "/").split("/"):
        raise ImportFailed(
            f"its external data {location} points outside the model's folder", where=where, hint=INSIDE
        )
    if not location or "\0" in location:
        raise ImportFailed(f"its external data has no usable path: {location!r}", where=where, hint=INSIDE)
    path = folder / location
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), "")):
        raise ImportFailed(
            f"its external data {location} is a link that points outside the model's folder", where=where, hint=INSIDE
        )
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise ImportFailed(f"its external data {location} cannot be read: {problem.strerror}", where=where) from None
    if not stat.S_ISREG(found.st_mode):
        raise ImportFailed(f"its external data {location} is not a file of data", where=where, hint=INSIDE)
    if found.st_nlink > 1:
        raise ImportFailed(
            f"its external data {location} is a hard link: the same file has {found.st_nlink} names, which may lie "
            "outside the model's folder",
            where=where,
            hint="copy the file",
        )
    return found.st_size


def mapped(extent: Extent) -> Bytes:
    """A read-only view of the bytes, mapped: what is never touched is never read.

    Raises:
        OSError, ValueError: the file has changed since it was judged.
    """
    if not extent.length:
        return np.zeros(0, np.uint8)
    with open(extent.path, "rb", opener=_opener) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size < extent.offset + extent.length:
            raise ValueError(f"{extent.path.name} has changed since the model was imported")
        return np.memmap(file, np.uint8, "r", extent.offset, (extent.length,))


def _opener(path: str, flags: int) -> int:
    """As ``open``, without waiting where a pipe has taken the place of the file."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def decoded(data: Bytes, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array from little-endian bytes; types of less than a byte lie packed, the first in the lowest bits."""
    if dtype is DType.BOOL:
        return np.not_equal(data, 0).reshape(shape)
    if dtype.bits >= 8:
        return data.view(dtype.numpy.newbyteorder("<")).reshape(shape)
    shifts = np.arange(0, 8, dtype.bits, dtype=np.uint8)
    parts = (data[:, None] >> shifts) & np.uint8((1 << dtype.bits) - 1)
    return parts.reshape(-1)[: math.prod(shape)].view(dtype.numpy).reshape(shape)

