"""Loops: the index space of one op, from which its legal layouts follow.

An op runs over named loops. Every dimension of every operand and result either follows one loop, ``granule`` elements a
step, or is *whole*: never cut. Cutting a loop over mesh axes therefore cuts all tensors that follow it alike, and the
local kernel on each PE's tiles computes its share of the result. A loop with a ``combine`` is a reduction: cutting it
leaves a partial result on each PE, which a collective must combine before the op can finish.

    matmul      b,m,n parallel; k sum.         in (b,m,k) (b,k,n)   out (b,m,n)
    attention   b,h,s parallel; t softmax.     q (b,h*group,s,-) k (b,h,t,-)   out (b,h*group,s,-)

This is the index-map view of GSPMD (Xu et al. 2021) and of the linalg dialect, for a mesh whose axes may be factored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .dims import Dim
from .dtypes import DType


class Combine(StrEnum):
    """How partial results on several PEs become one."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    SOFTMAX = "softmax"  # (max, sum of exp[, weighted values]): merged by rescaling to the larger maximum


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop: its name, its number of steps, and what it owes if it is cut.

    ``cyclic``: if cut, then only cyclically (a cache that grows along this loop).
    """

    name: str
    extent: Dim
    combine: Combine | None = None
    cyclic: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """How one tensor dimension follows the loops: ``granule`` elements per step of ``loop``; whole if ``None``."""

    loop: str | None
    granule: int = 1


WHOLE = Index(None)
Access = tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Partial:
    """One array that each PE contributes to a reduction: its element type, shape and index map."""

    dtype: DType
    shape: tuple[Dim, ...]
    access: Access


@dataclass(frozen=True, slots=True)
class Loops:
    """The loops of one op and the index map of each operand (``None`` if absent) and result.

    ``partials``: what the local kernel leaves to be combined if a reduction loop is cut. Empty means the results
    themselves are partial (a matmul): then nothing remains to be done after combining.
    """

    loops: tuple[Loop, ...]
    ins: tuple[Access | None, ...]
    outs: tuple[Access, ...]
    partials: tuple[Partial, ...] = ()

    def loop(self, name: str) -> Loop:
        return next(loop for loop in self.loops if loop.name == name)
