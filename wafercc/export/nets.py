"""Nets: every stream lane and every collective of a program as a net with its hops, and the patterns they follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ir.block import RegionId
from ..ir.codec import Json
from ..ir.dims import upper
from ..ir.program import CollectiveNet, EdgePort, Fan, Lane, PlacedProgram, Stream
from .hops import COLUMNS, Rows, Weaver
from .patterns import Pattern, pattern_of
from .tensors import Arrays, type_form


@dataclass
class Nets:
    """The nets of a program with their hops, and the patterns that steps and collective nets share."""

    program: PlacedProgram
    arrays: Arrays
    forms: list[dict[str, Json]] = field(default_factory=list)
    patterns: dict[Pattern, int] = field(default_factory=dict)
    _rows: list[Rows] = field(default_factory=list)
    _wafers: list[int] = field(default_factory=list)
    _taken: int = 0
    _lanes: dict[tuple[object, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weaver = Weaver(self.program.region)

    def pattern(self, pattern: Pattern) -> int:
        return self.patterns.setdefault(pattern, len(self.patterns))

    def add_collectives(self) -> None:
        for net in self.program.collectives:
            rows = self.weaver.collective(net)
            wafer = self.program.region[net.region].rect.wafer
            self._add(_title(net), wafer, rows, net.colours, net.region, self.pattern(pattern_of(net)))

    def stream(self, stream: Stream) -> dict[str, Json]:
        """A stream with its lanes; each lane names its net."""
        return {
            "value": stream.value,
            "type": type_form(stream.type),
            "bytes": stream.type.dtype.sram_bytes(stream.type.elements),
            "state": stream.state,
            "source": None if stream.source is None else list(stream.source),
            "destination": None if stream.destination is None else list(stream.destination),
            "lanes": [self._lane(stream, i, lane) for i, lane in enumerate(stream.lanes)],
        }

    def hops(self) -> Json:
        """The names of the columns of all hops, nets one after another."""
        empty = np.empty(0, np.int32)
        columns = {c: np.concatenate([empty, *(rows[i] for rows in self._rows)]) for i, c in enumerate(COLUMNS)}
        counts = np.array([len(rows[0]) for rows in self._rows], np.int64)
        columns["net"] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        columns["wafer"] = np.repeat(np.array(self._wafers, np.int32), counts)
        return {name: self.arrays.put(f"hops/{name}", column) for name, column in columns.items()}

    def _lane(self, stream: Stream, index: int, lane: Lane) -> Json:
        key = (lane.source, lane.destination, lane.colour, lane.path.tobytes())
        if key not in self._lanes:
            source = lane.source
            wafer = source.wafer if isinstance(source, EdgePort) else self.program.region[source.region].rect.wafer
            title = f"lane {index} of stream {stream.id}"
            self._lanes[key] = self._add(title, wafer, self.weaver.lane(lane), (lane.colour,))
        dim, lo, hi = lane.dim, lane.lo, lane.hi
        if dim is None:  # all of it: every element of the first dimension, or the one element of a scalar
            dim, lo, hi = (0, 0, upper(stream.type.shape[0])) if stream.type.rank else (None, 0, 1)
        elements = stream.type.elements
        if dim is not None and 0 <= dim < stream.type.rank:
            elements = elements // max(1, upper(stream.type.shape[dim])) * max(0, hi - lo)
        return {
            "net": self._lanes[key],
            "source": self._lane_end(lane.source),
            "destination": self._lane_end(lane.destination),
            "colour": lane.colour,
            "dim": dim,
            "lo": lo,
            "hi": hi,
            "bytes": stream.type.dtype.sram_bytes(elements),
            "links": len(lane.path) - 1,
        }

    def _lane_end(self, end: Fan | EdgePort) -> Json:
        if isinstance(end, EdgePort):
            return {"x": end.x, "y": end.y, "port": end.side, "comb": None}
        row, column, x, y = self.weaver.gate(end)
        teeth = "rows" if end.along == "y" else "columns"
        comb: Json = {"region": end.region, "teeth": teeth, "lo": end.lo, "hi": end.hi, "row": row, "column": column}
        return {"x": x, "y": y, "port": None, "comb": comb}

    def _add(
        self,
        title: str,
        wafer: int,
        rows: Rows,
        colours: Sequence[int],
        region: RegionId | None = None,
        pattern: int | None = None,
    ) -> int:
        start = self._taken
        self._taken += len(rows[0])
        self._rows.append(rows)
        self._wafers.append(wafer)
        self.forms.append(
            {
                "name": title,
                "wafer": wafer,
                "region": region,
                "pattern": pattern,
                "colours": list(colours),
                "hops": [start, self._taken],
            }
        )
        return len(self.forms) - 1


def _title(net: CollectiveNet) -> str:
    extra = {"tree": f" level {net.level}", "leaders": f" stride {net.stride}"}.get(net.kind, "")
    return f"{net.kind}{extra} along {net.along} of {net.group} with root {net.root} in region {net.region}"
