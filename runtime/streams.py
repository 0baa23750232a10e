"""Timing of streams: collected by a comb, along a path, spread by a comb; or in and out at an edge port.

The PEs of a source comb inject one after another, nearest the gate first; the path is a scan over its links; every PE
of the destination's teeth hears every word, so it has its own when the last word has passed. A transfer uses ramps
and links, not the compute of a PE. Combs hold all their links for the whole transfer, path links from their first to
their last word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..ir.dims import at
from ..ir.layout import Mesh, Tiled
from ..ir.program import EdgePort, Fan, Lane, Stream
from .fabric import Links
from .geometry import Geometry, Grid
from .machine import Machine
from .tape import Label, Part, Tape, Times
from .tiles import elements, held_elements, spread, valid_counts

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class End:
    """A stream's end inside a region: how the region holds the value."""

    tiled: Tiled
    mesh: Mesh
    geometry: Geometry


@dataclass(frozen=True)
class Front:
    """A message in flight at one router: when its first word is there and when its last has passed."""

    head: Times
    tail: Times


class Streams:
    """The timing of streams on one fabric."""

    def __init__(self, machine: Machine, grid: Grid, links: Links, tape: Tape, n_past: int) -> None:
        self.machine, self.grid, self.links, self.tape, self.n_past = machine, grid, links, tape, n_past
        self._ports: dict[EdgePort, Times] = {}

    def transfer(
        self, stream: Stream, source: End | None, ready: Times | None, target: End | None
    ) -> tuple[Times | None, Times, int]:
        """Serve a stream: when each PE of the destination has its part, when its last word passes, and its words.

        Raises:
            RunError: the lanes do not carry every element once, or not to every PE that needs it.
        """
        label = Label("stream", stream.id)
        arrivals: list[Times] = []
        ends: list[Times] = []
        words = 0
        carried = 0
        heard: Ints | int = 0
        for lane in stream.lanes:
            counts = self._sent(stream, lane, source)
            carried += int(counts.sum())
            lane_words = self.machine.words(counts, stream.type.dtype)
            words += int(lane_words.sum())
            front = self._leave(lane, lane_words, source, ready, label)
            front = self._travel(lane, front, lane_words, source, target, label)
            arrive, end, wanted = self._arrive(stream, lane, front, lane_words, target, label)
            ends.append(end)
            if arrive is not None:
                arrivals.append(arrive)
            heard = heard + wanted
        self._check(stream, carried, heard, target)
        last = self.tape.latest(Times.join(*(end.reshape(1) for end in ends)))
        return (self.tape.late(*arrivals) if arrivals else None), last, words

    def _check(self, stream: Stream, carried: int, heard: Ints | int, target: End | None) -> None:
        total = int(np.prod(stream.type.at(self.n_past)))
        if carried != total:
            raise RunError(
                f"its lanes carry {carried} elements, the value has {total}",
                where=f"stream {stream.id}",
                hint="run `wafercc verify` on the program",
            )
        if target is not None:
            wanted = held_elements(target.tiled, target.mesh, self.n_past).reshape(target.geometry.shape)
            lacking = int((wanted != heard).sum())
            if lacking:
                raise RunError(
                    f"its lanes do not reach {lacking} PEs that hold part of the value",
                    where=f"stream {stream.id}",
                    hint="run `wafercc verify` on the program",
                )

    # --- leaving

    def _sent(self, stream: Stream, lane: Lane, source: End | None) -> Ints:
        """Elements that each PE of the source sends over a lane; one number at an edge port."""
        if source is None or isinstance(lane.source, EdgePort):
            shape = list(stream.type.at(self.n_past))
            if lane.dim is not None:
                extent = shape[lane.dim]
                shape[lane.dim] = max(0, min(lane.hi, extent) - min(lane.lo, extent))
            return np.array([np.prod(shape, dtype=np.int64)])
        counts = self._share(lane, source.tiled, source.mesh)
        fan, mesh = lane.source, source.mesh
        row, column = (fan.gate, fan.trunk) if fan.along == "y" else (fan.trunk, fan.gate)
        held = dict(source.tiled.layout.held)
        for axis in mesh.axes:
            if axis.name not in source.tiled.layout.cut_axes:
                own = [a for a in mesh.axes if a.along == axis.along]
                index = np.unravel_index(row if axis.along == "y" else column, [a.extent for a in own])
                sender = held.get(axis.name, int(index[own.index(axis)]))
                here = np.zeros(axis.extent, np.int64)
                here[sender] = 1
                counts = counts * spread(here, (axis.name,), mesh)  # type: ignore[operator]
        return np.broadcast_to(counts, mesh.shape).reshape(source.geometry.shape) * self._teeth(fan, source)

    def _share(self, lane: Lane, tiled: Tiled, mesh: Mesh) -> Ints:
        """Elements of a lane that each PE holds, over the mesh axes."""
        count = np.ones((1,) * len(mesh.axes), np.int64)
        for d, held in enumerate(valid_counts(tiled, mesh, self.n_past)):
            if d == lane.dim:
                which = elements(at(tiled.type.shape[d], self.n_past), tiled.layout.splits[d], mesh)
                held = ((which >= lane.lo) & (which < lane.hi)).sum(axis=-1)
            count = count * held
        return count

    def _teeth(self, fan: Fan, end: End) -> Ints:
        rows, columns = end.geometry.shape
        index = np.arange(rows)[:, None] if fan.along == "y" else np.arange(columns)[None, :]
        inside = (index >= fan.lo) & (index < fan.hi)
        return np.broadcast_to(inside, (rows, columns)).astype(np.int64)

    def _leave(self, lane: Lane, words: Ints, source: End | None, ready: Times | None, label: Label) -> Front:
        """The message at the source's gate or port."""
        tape = self.tape
        if source is None or ready is None or isinstance(lane.source, EdgePort):
            assert isinstance(lane.source, EdgePort)
            head = self._ports.get(lane.source, tape.zeros(()))
            tail = tape.after(head, self.machine.port(words.sum()), Label("port", label.name))
            self._ports[lane.source] = tail
            return Front(head, tail)
        senders = words > 0
        geometry = source.geometry
        comb = geometry.comb(lane.source, senders, inwards=True)
        which = np.flatnonzero(senders)
        if not which.size:
            zero = tape.zeros(())
            return Front(zero, zero)
        away = comb.distance.ravel()[which]
        order = np.argsort(away, kind="stable")
        which, away = which[order], away[order]
        turn = self.machine.link(words.ravel()[which])
        name = label._replace(region=geometry.region.id)
        moving = name.on(Part.HOPS)
        own = tape.after(ready.reshape(-1)[which], self.machine.ramp + away * self.machine.hop, moving, which)
        bound = tape.after(self.links.free[comb.links], comb.away * self.machine.hop, moving)
        first = tape.late(own[:1], tape.latest(bound).reshape(1))
        heads = tape.scan(Times.join(first, own[1:]), turn[:-1], name, which)
        tail = tape.after(heads[-1], turn[-1], name, which[-1])
        self.links.hold(comb.links, tail)
        return Front(heads[0], tail)

    # --- on the way and arriving

    def _travel(
        self, lane: Lane, front: Front, words: Ints, source: End | None, target: End | None, label: Label
    ) -> Front:
        """The message at the destination's gate or port: link by link, each free of what came before."""
        if len(lane.path) < 2:
            return front
        tape, hop, moving = self.tape, self.machine.hop, label.on(Part.HOPS)
        wafer = (
            source.geometry.region.rect.wafer
            if source
            else lane.source.wafer
            if isinstance(lane.source, EdgePort)
            else 0
        )
        ids = self.grid.path(wafer, lane.path)
        hops = np.full(len(ids), hop)
        whole = self.machine.link(words.sum())
        free = self.links.free[ids]
        heads = tape.scan(Times.join(front.head.reshape(1), tape.after(free, hop, moving)), hops, moving)
        enter = tape.late(heads[:-1], free)
        steady = tape.after(front.tail.reshape(1).spread((len(ids),)), np.cumsum(hops), moving)
        tails = tape.late(steady, tape.after(heads[1:], whole, label))
        held = tape.after(enter, whole, label.on(Part.WAIT))
        self.links.hold(ids, tape.late(Times.join(front.tail.reshape(1), tails[:-1]), held))
        return Front(heads[-1], tails[-1])

    def _arrive(
        self, stream: Stream, lane: Lane, front: Front, words: Ints, target: End | None, label: Label
    ) -> tuple[Times | None, Times, Ints | int]:
        """When each PE has its part (0 where it takes none), when the last word passes, elements each PE takes."""
        tape = self.tape
        if target is None or isinstance(lane.destination, EdgePort):
            assert isinstance(lane.destination, EdgePort)
            head = tape.late(front.head, self._ports.get(lane.destination, tape.zeros(())))
            passed = tape.after(head, self.machine.port(words.sum()), Label("port", label.name))
            end = tape.late(front.tail, passed)
            self._ports[lane.destination] = end
            return None, end, 0
        fan, geometry = lane.destination, target.geometry
        held = held_elements(target.tiled, target.mesh, self.n_past) > 0
        wanted = np.where(held, self._share(lane, target.tiled, target.mesh), 0).reshape(geometry.shape)
        teeth = self._teeth(fan, target)
        comb = geometry.comb(fan, teeth > 0, inwards=False)
        name = label._replace(region=geometry.region.id)
        head = tape.late(front.head, tape.latest(self.links.free[comb.links]))
        tail = tape.late(front.tail, tape.after(head, self.machine.link(words.sum()), name))
        moving = name.on(Part.HOPS)
        self.links.hold(
            comb.links, tape.after(tail.reshape(1).spread(comb.away.shape), comb.away * self.machine.hop, moving)
        )
        delay = comb.distance * self.machine.hop + self.machine.ramp
        arrive = tape.after(tail.reshape(1, 1).spread(geometry.shape), delay, moving, geometry.place)
        took = wanted * teeth
        return Times.choose(took > 0, arrive, tape.zeros(geometry.shape)), tape.latest(arrive.reshape(-1)), took
