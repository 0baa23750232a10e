"""Hostile files: a fixed sample of the fuzzer's, and what it once found, each held by a test of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from importer_models import F32, model, saved
from onnx import helper
from tiny_models import environ

import wafercc
from benchmarks.fuzz import bombs, wire, worker
from wafercc.errors import DoesNotFit, ImportFailed
from wafercc.importer import import_model
from wafercc.ir.layout import AxisName, Split, owned, same_tiles
from wafercc.passes.layout.relayout import _subset

ROOT = Path(__file__).parent.parent
Y0, X0 = AxisName("y0"), AxisName("x0")


def refusal(proto: onnx.ModelProto, folder: Path) -> str:
    with pytest.raises(ImportFailed) as caught:
        import_model(saved(proto, folder))
    return str(caught.value).replace(f"{folder}/", "")


def test_a_sample_of_hostile_files_is_answered_as_it_should_be() -> None:
    words = [sys.executable, "-m", "benchmarks.fuzz", "--files", "60"]
    done = subprocess.run(words, cwd=ROOT, env=environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 files not answered as they should be" in done.stdout


def test_the_fuzzer_tells_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that is broken is found out: neither a traceback nor a hang counts as an answer."""

    def broken(*_: object, **__: object) -> None:
        raise KeyError("broken on purpose")

    def endless(*_: object, **__: object) -> None:
        while True:
            pass

    monkeypatch.setattr(worker, "import_model", broken)
    assert worker.answer(3)["fault"].startswith("KeyError: 'broken on purpose'")
    monkeypatch.setattr(worker, "SECONDS", 0.2)
    monkeypatch.setattr(worker, "import_model", endless)
    assert worker.answer(3)["fault"].startswith("hang: more than 0.2 s")


@given(st.binary(max_size=200), st.integers(0, 1000))
def test_mutations_of_any_bytes_are_bytes_and_the_same_each_time(content: bytes, seed: int) -> None:
    first = wire.mutated(content, Random(seed))
    assert first == wire.mutated(content, Random(seed)) and isinstance(first, bytes)


def test_a_message_is_what_its_fields_encode_to() -> None:
    content = model([helper.make_node("Neg", ["x"], ["y"])], {"x": (F32, [4])}, ["y"]).SerializeToString()
    fields = wire.parsed(content)
    assert fields is not None and wire.encoded(fields) == content


def called(bodies: dict[str, list[str]]) -> onnx.ModelProto:
    """A model of local functions, each a chain of calls of others or of ops; it calls the first."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    made = []
    for name, body in bodies.items():
        ends = ["a", *(f"t{i}" for i in range(len(body) - 1)), "b"]
        nodes = [
            helper.make_node(op, [ends[i]], [ends[i + 1]], domain="local" if op in bodies else "")
            for i, op in enumerate(body)
        ]
        made.append(helper.make_function("local", name, ["a"], ["b"], nodes, opsets))
    calls = [helper.make_node(next(iter(bodies)), ["x"], ["y"], "call", domain="local")]
    return bombs.model(calls, functions=made)


def test_functions_that_call_each_other_in_a_ring_are_named(tmp_path: Path) -> None:
    assert refusal(called({"f": ["Neg", "g"], "g": ["f"]}), tmp_path) == (
        "model.onnx: its local functions call each other in a ring: local::f -> local::g -> local::f"
    )
    assert "in a ring: local::f -> local::f" in refusal(called({"f": ["f"]}), tmp_path)


def test_functions_that_double_are_refused_before_they_are_inlined(tmp_path: Path) -> None:
    bodies = {f"f{i}": [f"f{i + 1}"] * 2 for i in range(60)} | {"f60": ["Neg"]}
    assert refusal(called(bodies), tmp_path) == (
        "model.onnx: has about 10^18 nodes, its local functions inlined; the most supported is 200000"
    )
    imported = import_model(saved(called({f"f{i}": [f"f{i + 1}"] * 2 for i in range(5)} | {"f5": ["Neg"]}), tmp_path))
    assert [op.kind for op in imported.graph.ops] == ["neg"] * 32


def test_messages_stay_readable_whatever_the_model_calls_its_ops(tmp_path: Path) -> None:
    nodes = [helper.make_node(f"Op{i}", ["x"], [f"y{i}"]) for i in range(300)]
    message = refusal(model(nodes, {"x": (F32, [2])}, ["y0"]), tmp_path)
    assert "300 unsupported op types: Op0 x1" in message and "240 more; supported here: none" in message
    long = refusal(model([helper.make_node("N" * 100_000, ["x"], ["y"])], {"x": (F32, [2])}, ["y"]), tmp_path)
    assert len(long) < 4000 and "NNN ... NNN" in long and "unsupported op type" in long


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    proto = model([helper.make_node("Neg", ["x"], ["y"])], {"x": (F32, [2])}, ["y"])
    proto.graph.name = "GRAPHNAME"
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString().replace(b"GRAPHNAME", b"\xff\xfe\xfd names"))
    with pytest.raises(ImportFailed, match="is not valid text"):
        import_model(tmp_path / "model.onnx")


def test_a_past_without_a_cache_has_no_length(tmp_path: Path) -> None:
    proto = model([helper.make_node("Neg", ["x"], ["y"])], {"x": (F32, [2, 3, 4, 5, "past_length"])}, ["y"])
    assert "dimension 4 (past_length) has no value and no default" in refusal(proto, tmp_path)


def test_a_value_larger_than_the_wafer_is_told_before_layouts_are_searched(tmp_path: Path) -> None:
    nodes = [helper.make_node("Expand", ["x", "n"], ["g"], "grow"), helper.make_node("Exp", ["g"], ["y"], "read")]
    proto = model(nodes, {"x": (F32, [4, 4])}, ["y"], {"n": np.array([1 << 40, 4, 4])})
    with pytest.raises(DoesNotFit, match=r"op \w+ .*: its result \w+ is f32.*, 70368744177664 bytes; 256 live PEs"):
        wafercc.compile(saved(proto, tmp_path), target="mesh:16x16")


SPLITS = [Split((Y0,), granule, cyclic) for granule, cyclic in itertools.product((1, 2, 3, 4, 6), (False, True))]


@given(st.integers(1, 60), st.sampled_from(SPLITS), st.sampled_from(SPLITS), st.integers(1, 5))
def test_equal_splits_are_those_that_own_the_same(extent: int, a: Split, b: Split, parts: int) -> None:
    listed = a.cyclic == b.cyclic and np.array_equal(owned(extent, a, parts), owned(extent, b, parts))
    assert same_tiles(extent, a, b, parts) == listed


@given(st.integers(1, 60), st.sampled_from(SPLITS), st.sampled_from(SPLITS), st.integers(1, 4), st.integers(1, 3))
def test_what_lies_inside_is_found_without_listing_it(extent: int, a: Split, b: Split, parts: int, more: int) -> None:
    need = Split((Y0, X0), b.granule, b.cyclic)
    have_rows, need_rows = owned(extent, a, parts), owned(extent, need, parts * more)
    inside = all(
        set(need_rows[part][need_rows[part] >= 0]) <= set(have_rows[part // more]) for part in range(parts * more)
    )
    assert _subset(extent, a, need, parts, parts * more) == inside


def test_layouts_of_very_long_dimensions_cost_nothing() -> None:
    extent = 1 << 40  # listed, it would need terabytes
    runs, dealt = Split((Y0,), 1, False), Split((Y0,), 4, True)
    assert _subset(extent, runs, Split((Y0, X0), 1, False), 4, 16)
    assert _subset(extent, dealt, Split((Y0,), 4, True), 4, 4)
    assert not _subset(extent, dealt, Split((Y0, X0), 1, False), 4, 16)
