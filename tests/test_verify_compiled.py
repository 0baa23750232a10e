"""Programs the passes make satisfy the verifier, and what is changed in one of them is found."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from wafercc.ir import artifact
from wafercc.ir.program import PlacedProgram, Transfer
from wafercc.passes.options import Options
from wafercc.passes.pipeline import compile_model
from wafercc.silicon import DefectMap
from wafercc.verify import verify

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.pipeline


@cache
def compiled(name: str, target: str = "mesh:48x48", rate: float = 0.0, seed: int = 0) -> PlacedProgram:
    defects = DefectMap.random(target, core_rate=rate, router_rate=rate / 4, link_rate=rate / 4, seed=seed)
    return compile_model(DATA / f"{name}.onnx", Options(target=target, defects=defects, new_tokens=1))


@pytest.mark.parametrize(("name", "seed"), [("llama-dyn18past", 1), ("gpt2-ts17past", 2)])
def test_a_compiled_program_around_defects_satisfies_every_rule(name: str, seed: int) -> None:
    assert [str(v) for v in verify(compiled(name, rate=0.002, seed=seed))] == []


def test_a_saved_program_verifies_as_the_one_in_memory_and_saves_as_the_same_bytes(tmp_path: Path) -> None:
    program = compiled("llama-dyn18past", rate=0.002, seed=1)
    artifact.save(program, tmp_path / "a.wafer")
    loaded = artifact.load(tmp_path / "a.wafer")
    assert verify(loaded) == ()
    artifact.save(loaded, tmp_path / "b.wafer")
    assert (tmp_path / "a.wafer").read_bytes() == (tmp_path / "b.wafer").read_bytes()


def test_a_change_of_any_router_row_is_found() -> None:
    program = compiled("llama-dyn18past", rate=0.002, seed=1)
    table = program.routers
    rng = np.random.default_rng(0)
    for index, column in zip(
        rng.integers(0, len(table.x), 12), ("x", "y", "colour", "ins", "outs", "position") * 2, strict=True
    ):
        changed = getattr(table, column).copy()
        changed[index] ^= 1
        assert verify(replace(program, routers=replace(table, **{column: changed}))), (column, index)


def test_a_core_that_dies_under_a_tile_is_found_by_its_name() -> None:
    program = compiled("llama-dyn18past", rate=0.002, seed=1)
    region = program.regions[1]
    x, y = int(region.xs[3, 4]), int(region.ys[3, 4])
    dead = [*program.defects["dead_cores"], [0, x, y]]
    found = verify(replace(program, defects={**program.defects, "dead_cores": dead}))
    assert [str(v) for v in found] == [f"rule 2: region {region.id}: PE ({x}, {y}) dead, yet holding tiles"]


def test_a_stream_served_too_late_is_found_by_its_name() -> None:
    program = compiled("llama-dyn18past", rate=0.002, seed=1)
    between = next(s for s in program.streams if s.source is not None and s.destination is not None)
    late = (*(t for t in program.order if t != Transfer(between.id)), Transfer(between.id))
    found = [str(v) for v in verify(replace(program, order=late))]
    assert any(f"rule 6: stream {between.id} ({between.value}): is served after instance" in text for text in found)
