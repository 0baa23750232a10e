"""Programs in which only the meaning is wrong: sealed anew, they load, and the verifier names what is wrong and where.

Each mutation changes a compiled program, saves it (which computes all checksums, the hashes of the machine and of the
defect map), loads it and verifies it. So nothing but the rules themselves can refuse it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from two_regions import H, streams, tiled, two_regions

import wafercc
from wafercc.ir import artifact
from wafercc.ir.block import AllGather, AllReduce, Block, Compute, Instance, Phase, Step
from wafercc.ir.graph import Op
from wafercc.ir.program import EAST, Execute, Fan, Lane, PlacedProgram, RouterTable, Stream, Transfer
from wafercc.models.tiny_llama import TinyLlama
from wafercc.verify import verify

MODEL = TinyLlama(layers=2, hidden=32, heads=4, kv_heads=2, intermediate=48, vocabulary=64)


@cache
def good() -> PlacedProgram:
    """A decoder of two layers on a mesh with a few dead cores and links."""
    import tempfile

    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.onnx"
        onnx.save(MODEL.onnx(), str(path))
        program = wafercc.compile(
            path, target="mesh:36x36", shapes={"input_ids": (1, 4)}, defect_rate=0.004, defect_seed=3
        )
    return program.placed


def found(program: PlacedProgram, folder: Path) -> list[str]:
    """The violations of a program that was saved, and so sealed, and loaded."""
    artifact.save(program, folder / "changed.wafer")
    return [str(violation) for violation in verify(artifact.load(folder / "changed.wafer"))]


# --- parts of the good program, and programs with one part changed


def between() -> Stream:
    """A stream from one region to another, of several lanes if there is one."""
    return max((s for s in good().streams if s.source and s.destination), key=lambda s: len(s.lanes))


def step_of(kind: type[Step]) -> tuple[Block, int]:
    """The first step of a kind that has nets, and its block."""
    for block in good().blocks.values():
        for i, step in enumerate(block.steps):
            axes = getattr(step, "axes", ())
            if isinstance(step, kind) and (not axes or block.mesh.parts(axes) > 2):
                return block, i
    raise AssertionError(f"no step {kind.__name__}")


def with_step(block: Block, index: int, step: Step) -> PlacedProgram:
    steps = (*block.steps[:index], step, *block.steps[index + 1 :])
    return replace(good(), blocks={**good().blocks, block.name: replace(block, steps=steps)})


def with_stream(stream: Stream) -> PlacedProgram:
    return replace(good(), streams=tuple(stream if s.id == stream.id else s for s in good().streams))


def with_lane(stream: Stream, index: int, lane: Lane) -> PlacedProgram:
    return with_stream(replace(stream, lanes=(*stream.lanes[:index], lane, *stream.lanes[index + 1 :])))


def with_dead(**rows: list[list[int]]) -> PlacedProgram:
    program = good()
    return replace(program, defects={**program.defects, **{k: [*program.defects[k], *v] for k, v in rows.items()}})


def with_region(index: int, **changes: object) -> PlacedProgram:
    regions = list(good().regions)
    regions[index] = replace(regions[index], **changes)  # type: ignore[arg-type]
    return replace(good(), regions=tuple(regions))


def table(rows: np.ndarray) -> RouterTable:
    """A router table of rows (wafer, y, x, colour, position, ins, outs, net), put in order and counted anew."""
    rows = rows[np.lexsort(rows.T[[4, 3, 2, 1, 0]])]
    at = rows[:, :4]
    new = np.append(True, (at[1:] != at[:-1]).any(axis=1))
    start = np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))
    wafer, y, x, colour, _, ins, outs, net = rows.T.astype(np.int32)
    position = (np.arange(len(rows)) - start).astype(np.int32)
    return RouterTable(wafer, x, y, colour, position, ins, outs, net, good().routers.nets)


def rows() -> np.ndarray:
    t = good().routers
    return np.stack([t.wafer, t.y, t.x, t.colour, t.position, t.ins, t.outs, t.net], axis=1).astype(np.int64)


def recoloured(colour: int) -> PlacedProgram:
    """A stream of one region to the next on another colour, in its lanes and in the router table alike."""
    stream = between()
    known = rows()
    mine = np.array([good().routers.nets[n] == f"stream {stream.id}" for n in known[:, 7]])
    known[mine, 3] = colour
    lanes = tuple(replace(lane, colour=colour) for lane in stream.lanes)
    return replace(with_stream(replace(stream, lanes=lanes)), routers=table(known))


# --- the mutations


def overlapping() -> PlacedProgram:
    first, second = good().regions[:2]
    moved = replace(second.rect, x=first.rect.x, y=first.rect.y)
    dx, dy = second.rect.x - moved.x, second.rect.y - moved.y
    return with_region(1, rect=moved, xs=second.xs - dx, ys=second.ys - dy)


def dead_under_a_tile() -> PlacedProgram:
    region = good().regions[1]
    return with_dead(dead_cores=[[0, int(region.xs[1, 1]), int(region.ys[1, 1])]])


def on_the_way() -> tuple[int, int, int, int]:
    """Two routers in a row, from west to east, that a lane passes outside all regions' cores."""
    for stream in good().streams:
        for lane in stream.lanes:
            for (x0, y0), (x1, y1) in zip(lane.path[:-1].tolist(), lane.path[1:].tolist(), strict=True):
                if y0 == y1 and not any((x, y0) in pes() for x in (x0, x1)):
                    return min(x0, x1), y0, max(x0, x1), y1
    raise AssertionError("no lane runs along a row outside the regions")


@cache
def pes() -> frozenset[tuple[int, int]]:
    return frozenset((x, y) for r in good().regions for x, y in zip(r.xs.flat, r.ys.flat, strict=True))


def dead_router_on_a_path() -> PlacedProgram:
    x, y, _, _ = on_the_way()
    return with_dead(dead_routers=[[0, x, y]])


def dead_link_on_a_path() -> PlacedProgram:
    x, y, _, _ = on_the_way()
    return with_dead(dead_links=[[0, x, y, EAST]])


def dead_link_in_a_region() -> PlacedProgram:
    region = good().regions[1]
    return with_dead(dead_links=[[0, int(region.xs[2, 1]), int(region.ys[2, 1]), EAST]])


def gap_in_a_path() -> PlacedProgram:
    stream = between()
    i, lane = max(enumerate(stream.lanes), key=lambda item: len(item[1].path))
    return with_lane(stream, i, replace(lane, path=np.delete(lane.path, len(lane.path) // 2, axis=0)))


def fifth_position() -> PlacedProgram:
    """A net takes a fifth configuration at a router that has one of it: other ports, all else in order."""
    known = rows()
    one = known[len(known) // 2].copy()
    more = np.repeat(one[None], 4, axis=0)
    more[:, 6] = [m for m in (1, 2, 4, 8, 16, 3, 6) if m not in (one[5], one[6])][:4]
    mine = (known[:, :4] == one[:4]).all(axis=1)
    return replace(good(), routers=table(np.concatenate([known[~mine], one[None], more])))


def clash() -> PlacedProgram:
    """The stream takes the colour of a collective net of the region it comes from."""
    assert between().source is not None
    region = good().instance[between().source[0]].region
    return recoloured(next(net.colours[0] for net in good().collectives if net.region == region))


def without_a_lane() -> PlacedProgram:
    """A stream loses one of its lanes, and all that belongs to it."""
    stream = between()
    assert len(stream.lanes) > 1
    return with_stream(replace(stream, lanes=stream.lanes[1:]))


def weight(change: Callable[[np.ndarray], np.ndarray]) -> PlacedProgram:
    key, entry = max(good().weights.items(), key=lambda item: 0 if item[1].tiles is None else item[1].tiles.size)
    assert entry.tiles is not None
    return replace(good(), weights={**good().weights, key: replace(entry, tiles=change(np.array(entry.tiles)))})


def cut_axis(tiles: np.ndarray) -> int:
    return next(i for i, n in enumerate(tiles.shape) if n > 1)


def altered_replica() -> PlacedProgram:
    """One region reads a copy of a weight that another holds, and one number of the copy is another."""
    key = next(k for i in good().instances for k in i.weights.values() if good().weights[k].tiles is not None)
    entry = good().weights[key]
    assert entry.tiles is not None and entry.value
    copy = np.array(entry.tiles)
    copy.ravel()[3] += 1
    user = next(i for i in good().instances if key in i.weights.values())
    bound = {local: "copy" if k == key else k for local, k in user.weights.items()}
    instances = tuple(replace(i, weights=bound) if i.id == user.id else i for i in good().instances)
    return replace(good(), weights={**good().weights, "copy": replace(entry, tiles=copy)}, instances=instances)


def sram_in_one_phase() -> PlacedProgram:
    """A machine with one byte less than the fullest step of the fullest region needs; all other steps fit."""
    worst = max(plan.total_bytes for plan in good().sram.values())
    pe = {**good().target["pe"], "sram_bytes": worst - 1 + good().target["pe"]["reserved_bytes"]}
    plans = {r: replace(p, bound_bytes=worst - 1) for r, p in good().sram.items()}
    return replace(good(), target={**good().target, "pe": pe}, sram=plans)


def reads_before_it_writes() -> PlacedProgram:
    stream = between()
    order = [t for t in good().order if t != Transfer(stream.id)]
    return replace(good(), order=(Transfer(stream.id), *order))


def steps_crossed() -> PlacedProgram:
    block, i = step_of(AllReduce)
    steps = list(block.steps)
    steps[i - 1], steps[i] = steps[i], steps[i - 1]
    return replace(good(), blocks={**good().blocks, block.name: replace(block, steps=tuple(steps))})


def without_a_buffer() -> PlacedProgram:
    block, i = step_of(AllGather)
    gather = block.steps[i]
    assert isinstance(gather, AllGather)
    return with_step(block, i, replace(gather, buffered=False))


def ranks(change: Callable[[np.ndarray], None]) -> PlacedProgram:
    certificate = good().certificate
    segments = certificate.segments.copy()
    change(segments)
    return replace(good(), certificate=replace(certificate, segments=segments))


def swap_ranks(segments: np.ndarray) -> None:
    """Two stretches of one lane change ranks."""
    owner = np.flatnonzero(np.diff(segments[:, 0], prepend=-1))
    for start, stop in zip(owner, [*owner[1:], len(segments)], strict=True):
        ranks_here = segments[start:stop, 6]
        if segments[start, 0] >= len(good().collectives) and ranks_here.max() > 1:
            low, high = start + int(ranks_here.argmin()), start + int(ranks_here.argmax())
            segments[[low, high], 6] = segments[[high, low], 6]
            return
    raise AssertionError("no lane turns")


def tasks_permuted() -> PlacedProgram:
    certificate, order = good().certificate, good().order
    i = next(i for i, t in enumerate(order) if isinstance(t, Execute))
    windows = list(certificate.tasks)
    windows[i], windows[-1] = windows[-1], windows[i]
    return replace(good(), certificate=replace(certificate, tasks=tuple(windows)))


def steps_permuted() -> PlacedProgram:
    certificate = good().certificate
    name, bounds = next((n, b) for n, b in certificate.steps.items() if len(b) > 2)
    same = [i for i, b in enumerate(bounds) if len(b) == len(bounds[0])]
    turned_round = list(bounds)
    turned_round[same[0]], turned_round[same[-1]] = bounds[same[-1]], bounds[same[0]]
    return replace(good(), certificate=replace(certificate, steps={**certificate.steps, name: tuple(turned_round)}))


def crossed_receives() -> PlacedProgram:
    """Two regions, each of which waits for the other's value before it sends its own."""
    base = two_regions()
    neg = Compute("neg", Op("m.neg", "neg", ("in",), ("out",)), Phase.WHOLE, ("in",), ("out",))
    blocks, instances = {}, []
    for name, layout in (("a", "(y0,x0)"), ("b", "(y0,x0)")):
        values = {"in": tiled(H, layout), "out": tiled(H, layout)}
        blocks[name] = Block(name, base.blocks[name].mesh, values, (), ("in",), ("out",), (neg,))
    instances = (
        Instance("ia", "a", "a", {}, {"in": "u", "out": "v"}),
        Instance("ib", "b", "b", {}, {"in": "v", "out": "u"}),
    )
    lanes = streams()[1].lanes
    there = Stream("sv", "v", H, ("ia", "out"), ("ib", "in"), lanes)
    back = Stream("su", "u", H, ("ib", "out"), ("ia", "in"), tuple(turned(lane) for lane in lanes))
    order = (Transfer("su"), Execute("ia"), Transfer("sv"), Execute("ib"))
    return replace(
        base, blocks=blocks, instances=instances, streams=(there, back), order=order, inputs={}, outputs={}, weights={}
    )


def turned(lane: Lane) -> Lane:
    assert isinstance(lane.source, Fan) and isinstance(lane.destination, Fan)
    return replace(lane, source=lane.destination, destination=lane.source, path=lane.path[::-1].copy(), colour=9)


MUTATIONS: dict[str, tuple[Callable[[], PlacedProgram], int, Callable[[], tuple[str, ...]]]] = {
    "two regions overlap": (overlapping, 2, lambda: (f"regions {good().regions[0].id} and {good().regions[1].id}",)),
    "a tile on a dead core": (dead_under_a_tile, 2, lambda: (f"region {good().regions[1].id}", "PE (", "dead")),
    "a path through a dead router": (
        dead_router_on_a_path,
        4,
        lambda: ("stream ", "passes dead router at PE ({}, {})".format(*on_the_way()[:2])),
    ),
    "a path through a dead link": (
        dead_link_on_a_path,
        4,
        lambda: ("stream ", "crosses a dead link", "of PE (", f", {on_the_way()[1]})"),
    ),
    "a row through a dead link": (dead_link_in_a_region, 2, lambda: (f"region {good().regions[1].id}", "cut off")),
    "a path with a gap": (gap_in_a_path, 4, lambda: (f"stream {between().id}", "its path jumps after PE (")),
    "a fifth switch position": (fifth_position, 4, lambda: ("PE (", "more than 4 switch positions")),
    "two nets clashing on a colour": (clash, 4, lambda: (f"stream {between().id}", "configure a router differently")),
    "a colour out of range": (lambda: recoloured(21), 4, lambda: (f"stream {between().id}", "colour 21; usable are 0")),
    "a missing slice of a stream": (without_a_lane, 4, lambda: (f"stream {between().id}", "are carried by no lane")),
    "a weight tile missing": (
        lambda: weight(lambda t: np.delete(t, 0, axis=cut_axis(t))),
        1,
        lambda: ("weight ", "tiles are "),
    ),
    "a weight tile doubled": (
        lambda: weight(lambda t: np.concatenate([t, t.take([0], axis=cut_axis(t))], axis=cut_axis(t))),
        1,
        lambda: ("weight ", "tiles are "),
    ),
    "an altered replica": (
        altered_replica,
        1,
        lambda: ("weight ", "copy", "on logical PE (", "is not that of its replica"),
    ),
    "too much SRAM in one phase": (sram_in_one_phase, 3, lambda: ("region ", "bytes per PE", " at instance ", "step ")),
    "a schedule that reads before it writes": (
        reads_before_it_writes,
        6,
        lambda: (f"stream {between().id}", "is served before instance"),
    ),
    "steps that read before they write": (steps_crossed, 1, lambda: ("block ", "which nothing before it writes")),
    "a ring whose buffer was removed": (
        without_a_buffer,
        5,
        lambda: ("who waits for whom", f"step {step_of(AllGather)[0].steps[step_of(AllGather)[1]].id}", "waits for"),
    ),
    "two crossed blocking receives": (
        crossed_receives,
        5,
        lambda: ("who waits for whom", "instance ia waits for stream su (u)", "instance ib waits for stream sv (v)"),
    ),
    "ranks of links permuted": (
        lambda: ranks(swap_ranks),
        5,
        lambda: ("stream ", "PE (", "whose rank is not above that of the link they wait for"),
    ),
    "ranks of tasks permuted": (tasks_permuted, 5, lambda: ("begins at rank", "and waits for")),
    "ranks of steps permuted": (steps_permuted, 5, lambda: ("block ", "step ", "do not rise")),
}


def test_the_good_program_is_good(tmp_path: Path) -> None:
    assert found(good(), tmp_path) == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_sealed_program_with_a_wrong_meaning_is_refused_by_name(name: str, tmp_path: Path) -> None:
    change, rule, words = MUTATIONS[name]
    texts = found(change(), tmp_path)
    wanted = words()
    assert any(text.startswith(f"rule {rule}: ") and all(word in text for word in wanted) for text in texts), texts
