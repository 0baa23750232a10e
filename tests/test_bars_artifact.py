"""The placed program is what runs: its tiles decide the outputs, its provenance does not, its SRAM plan holds, and the
same compile gives the same bytes anywhere."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from importer_models import DATA, recorded
from tiny_models import CASES, TARGET, Array, defects, environ, program_of

import wafercc
from wafercc.ir import artifact
from wafercc.ir.container import open_container

pytestmark = pytest.mark.pipeline
NAME, CASE = "llama-dyn18past", "decode1"
INPUTS = recorded(NAME)[CASE][0]

COMPILE = """
import sys
from wafercc import DefectMap, compile
from wafercc.npz import read_npz

defects = DefectMap.load("defects.json")
compile(sys.argv[1], target=sys.argv[2], inputs_like=read_npz("in.npz"), defects=defects, seed=3).save(sys.argv[3])
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "model.wafer"
    program_of(NAME, CASE, True).save(path)
    return path


@pytest.fixture(scope="module")
def outputs() -> dict[str, Array]:
    return dict(program_of(NAME, CASE, True).run(INPUTS).outputs)


def differs(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return any(not np.array_equal(a[name], b[name]) for name in a)


def with_one_value_changed(tiles: Array, origin: str) -> Array:
    """The tiles with one value another: the largest, or of the embedding one in a row that is looked up."""
    changed = tiles.copy()
    where: tuple[int, ...] = np.unravel_index(np.abs(tiles).argmax(), tiles.shape)  # type: ignore[assignment]
    if "embed_tokens" in origin:
        where = (0, 0, int(INPUTS["input_ids"].flat[-1]), 0)
    changed[where] += 1
    return changed


def test_one_value_flipped_in_one_tile_of_any_weight_changes_the_outputs(
    saved: Path, outputs: dict[str, Array], tmp_path: Path
) -> None:
    container = open_container(saved)
    members = [name for name in container.extents if name.startswith("weights/")]
    assert len(members) == len(program_of(NAME, CASE, True).placed.weights) > 20
    for member in members:
        tiles = np.load(io.BytesIO(bytes(container.member(member))))
        content = io.BytesIO()
        np.save(content, with_one_value_changed(tiles, member))
        path = tmp_path / "changed.wafer"
        path.write_bytes(saved.read_bytes())
        artifact.reseal(path, {member: content.getvalue()})
        changed = wafercc.load(path).run(INPUTS)
        assert differs(dict(changed.outputs), outputs), member
        assert changed.cycles == wafercc.load(saved).run({}, timing_only=True).cycles


def test_a_program_without_its_graph_runs_identically(
    saved: Path, outputs: dict[str, Array], tmp_path: Path
) -> None:
    artifact.strip_graph(saved, tmp_path / "stripped.wafer")
    stripped = wafercc.load(tmp_path / "stripped.wafer")
    assert stripped.placed.graph_text == "" and wafercc.load(saved).placed.graph_text != ""
    stripped.verify()
    done = stripped.run(INPUTS)
    assert not differs(dict(done.outputs), outputs)
    assert done.report == wafercc.load(saved).run(INPUTS).report


@pytest.mark.parametrize(("name", "case"), CASES)
def test_sram_measured_from_the_arrays_held_stays_within_the_plan(name: str, case: str) -> None:
    program = program_of(name, case, True)
    used = program.run(recorded(name)[case][0]).report.regions
    assert {use.region for use in used} == set(program.placed.sram)
    for use in used:
        assert 0 < use.sram_bytes <= use.planned_bytes <= use.bound_bytes, use


def test_the_same_compile_in_two_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    defects().save(tmp_path / "defects.json")
    np.savez(tmp_path / "in.npz", **INPUTS)
    model = str(DATA / f"{NAME}.onnx")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COMPILE, model, TARGET, f"{seed}.wafer"],
            cwd=tmp_path,
            env=environ(PYTHONHASHSEED=seed),
        )
        for seed in ("1", "31337")
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert (tmp_path / "1.wafer").read_bytes() == (tmp_path / "31337.wafer").read_bytes()
