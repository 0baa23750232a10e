"""The runtime: executes a placed program with numpy and counts its cycles (fidelity "simulate").

It knows the program and machine constants, and none of the compiler's cycle formulas, so that it can contradict them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..ir.program import PlacedProgram
    from .report import Report, Result, Segment
    from .session import Session

__all__ = ["Report", "Result", "Segment", "Session", "run"]


def run(
    program: PlacedProgram,
    inputs: Mapping[str, NDArray[np.generic]],
    *,
    timing_only: bool = False,
    delays: Mapping[tuple[str, int, int, str | None], int] | None = None,
    constants: Mapping[str, float] | None = None,
    trace: bool = False,
) -> Result:
    """Execute a program once, from the caches given as inputs, and time it.

    ``timing_only`` skips values (inputs may then be absent). ``delays`` makes PEs slow: ``(region, row, column,
    step)`` → cycles on top of what the PE does in that step; step ``None`` delays its first one. ``constants``
    replaces machine constants: ``{"router.hop_cycles": 2}``. ``trace`` records the critical path.

    Raises:
        RunError: the inputs, delays or constants are not ones of this program.
        TargetError: a constant out of range.
    """
    from .engine import execute

    return execute(program, inputs, not timing_only, delays or {}, constants or {}, trace)


def __getattr__(name: str) -> Any:
    if name in ("Report", "Result", "Segment"):
        from . import report

        return getattr(report, name)
    if name == "Session":
        from .session import Session

        return Session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
