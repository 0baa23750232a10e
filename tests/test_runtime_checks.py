"""Wrong inputs give one clear message that names the place and both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from placed_programs import all_reduce, block, compute, numbers, one_block, op, tiled
from test_runtime_values import two_regions

from wafercc.errors import RunError
from wafercc.ir.block import Phase
from wafercc.ir.dims import Affine
from wafercc.ir.dtypes import DType
from wafercc.ir.layout import Mesh
from wafercc.ir.program import PlacedProgram
from wafercc.runtime import run


def lookup() -> PlacedProgram:
    mesh = Mesh.of([2], [2])
    values = {
        "table": tiled("(y0,x0)", 8, 4),
        "ids": tiled("(-)", 3, dtype=DType.I64),
        "part": tiled("(-,x0) sum:y0", 3, 4),
        "rows": tiled("(-,x0)", 3, 4),
    }
    steps = [
        compute(op("embedding", 2), ["table", "ids"], ["part"], Phase.LOCAL),
        all_reduce(["part"], ["rows"], "y0"),
    ]
    return one_block(block(mesh, values, steps, "ids", "rows", "table"), {"table": numbers(8, 4)}, id_limits={"ids": 8})


def cache() -> PlacedProgram:
    mesh = Mesh.of([2], [1])
    length = Affine(1, 0, 4)
    values = {
        "past": tiled("(y0~)", length),
        "more": tiled("(y0~)", length),
        "new": tiled("(-)", 1),
        "present": tiled("(y0~)", length + 1),
    }
    steps = [compute(op("kv_append", 2, axis=0), ["past", "new"], ["present"])]
    body = block(mesh, values, steps, "past more new", "present", states={"past": "present"})
    return one_block(body, {}, past_max=4)


IDS = np.array([1, 2, 3])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input ids: missing; the program takes ids (pass it to run, on the command line with --inputs FILE)"),
        (
            {"ids": IDS, "mask": IDS},
            "input mask: the program has no such input; it takes ids",
        ),
        (
            {"ids": IDS[:2]},
            "input ids: has shape [2], the program takes [3] (compile for this shape with --shape or --dim)",
        ),
        (
            {"ids": IDS[None]},
            "input ids: has shape [1,3], the program takes [3] (compile for this shape with --shape or --dim)",
        ),
        (
            {"ids": IDS.astype(np.int32)},
            "input ids: given as int32, the program takes int64 (convert it with .astype(int64))",
        ),
        (
            {"ids": np.array([1, 8, 2])},
            "input ids: holds 8, but ids run from 0 to 7 (check that the tokenizer belongs to this model)",
        ),
        (
            {"ids": np.array([1, -3, 2])},
            "input ids: holds -3, but ids run from 0 to 7 (check that the tokenizer belongs to this model)",
        ),
    ],
)
def test_wrong_inputs_are_refused_by_name(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(RunError) as error:
        run(lookup(), inputs)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("past", "more", "message"),
    [
        (
            5,
            5,
            "input past: holds 5 where the program takes n_past with n_past from 0 to 4 "
            "(compile with a larger --context)",
        ),
        (
            2,
            3,
            "input more: has shape [3], the program takes [2] (n_past 2, as another input says) "
            "(caches, masks and positions must agree)",
        ),
    ],
)
def test_a_cache_of_the_wrong_length_is_refused(past: int, more: int, message: str) -> None:
    with pytest.raises(RunError) as error:
        run(cache(), {"past": numbers(past), "more": numbers(more), "new": numbers(1)})
    assert str(error.value) == message


def test_a_weightless_program_is_timed_but_not_executed() -> None:
    given = lookup()
    bare = replace(given, weights={k: replace(w, tiles=None) for k, w in given.weights.items()})
    timed = run(bare, {}, timing_only=True)
    assert timed.cycles == run(given, {"ids": IDS}).cycles and not timed.outputs and not timed.report.values_executed
    with pytest.raises(RunError, match="weight table: 1 of 1 weights have no numbers"):
        run(bare, {"ids": IDS})


def test_unknown_constants_and_pes_are_refused() -> None:
    with pytest.raises(RunError, match=r"constants: the machine description has no constant router\.speed"):
        run(lookup(), {"ids": IDS}, constants={"router.speed": 2})
    with pytest.raises(RunError, match=r"delays: PE \(2, 0\) of region r does not exist: 2x2 PEs"):
        run(lookup(), {"ids": IDS}, delays={("r", 2, 0, None): 1})
    with pytest.raises(RunError, match=r"delays: region r has no step dance"):
        run(lookup(), {"ids": IDS}, delays={("r", 0, 0, "dance"): 1})
    with pytest.raises(RunError, match=r"delays: a delay of -1 cycles is less than none"):
        run(lookup(), {"ids": IDS}, delays={("r", 0, 0, None): -1})


def test_the_critical_path_must_have_been_recorded() -> None:
    with pytest.raises(RunError, match="trace=True"):
        run(lookup(), {"ids": IDS}).report.critical_path()


def test_a_stream_that_lacks_a_lane_is_refused() -> None:
    given, inputs = two_regions(3)
    streams = tuple(replace(s, lanes=s.lanes[:2]) if s.id == "y" else s for s in given.streams)
    with pytest.raises(RunError, match="stream y: its lanes carry 40 elements, the value has 60"):
        run(replace(given, streams=streams), inputs)


def test_a_comb_that_misses_a_row_is_refused() -> None:
    given, inputs = two_regions(1)

    def shorter(stream: object) -> object:
        assert hasattr(stream, "lanes")
        (lane,) = stream.lanes
        return replace(stream, lanes=(replace(lane, destination=replace(lane.destination, hi=5)),))  # type: ignore[type-var]

    streams = tuple(shorter(s) if s.id == "y" else s for s in given.streams)
    with pytest.raises(RunError, match="stream y: its lanes do not reach 1 PEs"):
        run(replace(given, streams=streams), inputs)
