"""Certificate: ranks which prove that no message of a program waits for another in a circle.

Whatever may have to wait gets an integer, and it only ever waits for what has a smaller one; so the wait ends. See
docs/fabric.md for who waits for whom. Ranks are small and coarse: one for each task, each phase of a step, each
straight stretch of a message's way; within a stretch the distance left decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .block import BlockName

SEGMENT_COLUMNS = ("owner", "line", "x0", "y0", "x1", "y1", "rank")


def no_segments() -> NDArray[np.int32]:
    """The segment table of a program in which nothing moves."""
    return np.empty((0, len(SEGMENT_COLUMNS)), np.int32)


@dataclass(frozen=True, eq=False)
class Certificate:
    """The ranks of a program.

    ``tasks``: for each task of the order, the rank at which the PEs concerned begin it and the one at which they end.

    ``steps``: block → for each step, the ranks between its phases, counted from the begin of the task: one more than
    it has phases, so the first is its begin and the last its end.

    ``segments[n, 7]``: straight stretches of links, in order of owner: owner, line, the router (x, y) that the first
    link leaves, the router that the last link enters, and the rank, counted from the begin of the phase or transfer.
    Owners are the collective nets of the program in their order, then its `distinct_lanes`. A link's own rank is (rank
    of its stretch, links left to the end of the stretch), in that order of weight. ``line`` is the logical row or
    column that a collective net serves there; 0 for a lane.
    """

    tasks: tuple[tuple[int, int], ...] = ()
    steps: Mapping[BlockName, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    segments: NDArray[np.int32] = field(default_factory=no_segments)
