"""Room: where routing finds no way, placement is asked again, with free lines beside the regions at the cut.

The lines stay empty of PEs in use, so that streams of other regions pass there and not through the region's routers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from wafercc.errors import CannotRoute, CompileError
from wafercc.ir.block import RegionId

T = TypeVar("T")
MARGINS = (2, 5)  # rows and columns kept free at the first and second retry


def with_room(carry: Callable[[Mapping[RegionId, int]], T]) -> T:
    """The result of placing and routing with the least margins that succeed.

    Raises:
        CompileError: that of the first try, if more room does not help or is not there.
    """
    margin: dict[RegionId, int] = {}
    refusal: CompileError | None = None
    for lines in (*MARGINS, 0):
        try:
            return carry(margin)
        except CannotRoute as problem:
            refusal = refusal or problem
            margin |= {RegionId(region): lines for region in problem.regions}
        except CompileError as problem:
            raise refusal or problem from None
    assert refusal is not None
    raise refusal
