"""Target: the constants of one machine, and the few questions passes may ask of it.

A target is a grid of equal PEs with one router each, joined to the host by ports at the west and east edges. `view`
says whose grid it is: ``logical`` is what software sees after the maker's repair, ``physical`` is every core there
is. Cycles are the primary unit everywhere; ``clock_ghz`` only translates them into seconds for people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import TargetError
from ..ir.dtypes import DType
from ..ir.program import EAST, WEST
from .schema import check

View = Literal["logical", "physical"]
SIDES = {"west": WEST, "east": EAST}


@dataclass(frozen=True)
class PE:
    """One core: its memory and how fast its local kernels run.

    ``macs_per_cycle`` and ``simple_per_cycle`` are rates per dtype name; ``special_cycles`` is the time of one exp,
    tanh, sine, square root or division; ``task_cycles`` is the fixed overhead of starting a local kernel.
    """

    sram_bytes: int
    reserved_bytes: int
    special_cycles: float
    task_cycles: int
    macs_per_cycle: Mapping[str, float] = field(hash=False)
    simple_per_cycle: Mapping[str, float] = field(hash=False)

    @property
    def usable_bytes(self) -> int:
        """SRAM left for tiles and buffers beside code and stack."""
        return self.sram_bytes - self.reserved_bytes


@dataclass(frozen=True, slots=True)
class Router:
    """The router of each PE: times in cycles, words of ``wavelet_bits`` bits, colours the compiler may use."""

    hop_cycles: int
    ramp_cycles: int
    wavelet_bits: int
    words_per_cycle: float
    colours: int
    switch_positions: int
    switch_cycles: int


@dataclass(frozen=True, slots=True)
class IO:
    """The host's way in and out: a port every ``port_spacing_rows`` rows on each of ``edges``.

    One port moves ``port_words_per_cycle``; all ports of a wafer together ``wafer_words_per_cycle``.
    """

    edges: tuple[str, ...]
    port_spacing_rows: int
    port_words_per_cycle: float
    wafer_words_per_cycle: float


@dataclass(frozen=True)
class Target:
    """A machine. ``width`` x ``height`` is the usable grid of each of its ``wafers``."""

    name: str
    view: View
    wafers: int
    width: int
    height: int
    clock_ghz: float
    pe: PE
    router: Router
    io: IO

    def __str__(self) -> str:
        wafers = f"{self.wafers} x " if self.wafers > 1 else ""
        return (
            f"{self.name}: {wafers}{self.width}x{self.height} PEs ({self.view}), {self.pe.sram_bytes} bytes SRAM each"
        )

    @property
    def pes(self) -> int:
        """PEs of one wafer."""
        return self.width * self.height

    def seconds(self, cycles: float) -> float:
        """Cycles as time at this target's clock."""
        return cycles / (self.clock_ghz * 1e9)

    def ports(self) -> NDArray[np.int32]:
        """The edge ports of a wafer, one row (side, x, y) each: every so many rows, and at least one per edge."""
        spacing = self.io.port_spacing_rows
        rows = np.arange(min(spacing, self.height) // 2, self.height, spacing, dtype=np.int32)
        sides = [
            np.stack(
                [np.full_like(rows, SIDES[edge]), np.full_like(rows, 0 if edge == "west" else self.width - 1), rows],
                axis=1,
            )
            for edge in self.io.edges
        ]
        return np.concatenate(sides)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, complete: what an artifact embeds."""
        return {"schema": 1, **asdict(self), "io": {**asdict(self.io), "edges": list(self.io.edges)}}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Target:
        """The inverse of `to_dict`.

        Raises:
            TargetError: a key is missing, unknown or out of range, or the schema is another.
        """
        fields = dict(data)
        schema = fields.pop("schema", None)
        if schema != 1:
            raise TargetError(f"machine description has schema {schema!r}; this version reads 1", where="target")
        checked = check(fields)
        io = dict(checked["io"])
        io["edges"] = tuple(io["edges"])
        pe = PE(**checked["pe"])
        target = Target(**{**checked, "pe": pe, "router": Router(**checked["router"]), "io": IO(**io)})
        if pe.usable_bytes <= 0:
            raise TargetError(
                f"reserved_bytes is {pe.reserved_bytes} but sram_bytes only {pe.sram_bytes}",
                where=f"target {target.name}, pe",
                hint="raise pe.sram_bytes or lower pe.reserved_bytes",
            )
        return target

    def hash(self) -> str:
        """SHA-256 of the canonical JSON form, in hex."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def rate(rates: Mapping[str, float], dtype: DType) -> float:
    """Elements per cycle of a dtype in one of the PE's rate tables (every dtype is in every table)."""
    return rates[dtype.value]
