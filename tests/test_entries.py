"""Entries: prefill and decode on the same weights and caches, and sessions that keep the caches in place."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import wafercc
from wafercc.errors import CompileError, RunError
from wafercc.ir.program import PlacedProgram
from wafercc.passes.entries import default_chunk
from wafercc.verify import verify

MODEL = Path(__file__).parent / "data" / "llama-dyn18past.onnx"
CONTEXT, CHUNK = 32, 8
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> wafercc.Program:
    """The model compiled with no option that concerns entries, saved and loaded."""
    path = tmp_path_factory.mktemp("entries") / "model.wafer"
    wafercc.compile(MODEL, target="mesh:16x16", context=CONTEXT).save(path)
    return wafercc.load(path)


@pytest.fixture(scope="module")
def oracle() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(MODEL.read_bytes(), providers=["CPUExecutionProvider"])


def inputs(tokens: list[int], n_past: int) -> Arrays:
    """All inputs but the caches."""
    ids = np.array([tokens], np.int64)
    return {
        "input_ids": ids,
        "attention_mask": np.ones((1, n_past + ids.size), np.int64),
        "position_ids": np.arange(n_past, n_past + ids.size, dtype=np.int64)[None],
    }


def caches(program: wafercc.Program, n_past: int) -> Arrays:
    """Caches of this length, empty or of some numbers."""
    generator = np.random.default_rng(3)
    return {
        str(name): generator.standard_normal(program.placed.inputs[name].at(n_past)).astype(np.float32)
        for name in program.placed.states
    }


def wanted(oracle: Any, given: Arrays) -> Arrays:
    return dict(zip([o.name for o in oracle.get_outputs()], oracle.run(None, given), strict=True))


def close(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * float(np.abs(want).max()))


TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3]


def test_a_cached_model_gets_prefill_and_decode_and_is_told_so(program: wafercc.Program) -> None:
    assert program.entries == ("decode", "prefill")
    sizes = {name: entry.inputs["input_ids"].shape for name, entry in program.placed.entries.items()}  # type: ignore[index]
    assert sizes == {"decode": (1, 1), "prefill": (1, CHUNK)}
    assert any("decode (1 new token) and prefill (8 new tokens) (--entry" in each for each in program.assumptions)
    assert not verify(program.placed)


def test_chunks_and_tokens_in_a_session_equal_onnxruntime_on_the_whole(program: wafercc.Program, oracle: Any) -> None:
    whole = wanted(oracle, {**inputs(TOKENS, 0), **caches(program, 0)})
    rows = []
    with program.session() as session:
        for start in (0, CHUNK):
            rows.append(session.run("prefill", inputs(TOKENS[start : start + CHUNK], start)).outputs["logits"])
        for at in (16, 17):
            result = session.run("decode", inputs(TOKENS[at : at + 1], at))
            rows.append(result.outputs["logits"])
            assert set(result.outputs) == {"logits"} and result.report.state_io_cycles == 0
        assert session.n_past == len(TOKENS)
        for name, held in session.caches().items():
            close(held, whole[program.placed.states[name]])  # type: ignore[index]
    close(np.concatenate(rows, axis=1), whole["logits"])


@pytest.mark.parametrize(("entry", "tokens"), [("decode", 1), ("prefill", CHUNK)])
def test_a_stateless_run_takes_the_caches_and_gives_them_back(
    program: wafercc.Program, oracle: Any, entry: str, tokens: int
) -> None:
    given = {**inputs(TOKENS[:tokens], 7), **caches(program, 7)}
    want = wanted(oracle, given)
    result = program.run(given)  # the entry is the one that these inputs fit
    assert result.cycles == program.run(given, entry=entry).cycles and result.report.state_io_cycles > 0
    for name, array in result.outputs.items():
        close(array, want[name])


def test_a_full_context_is_refused_before_anything_is_computed(program: wafercc.Program) -> None:
    with program.session() as session:
        for at in range(0, CONTEXT, CHUNK):
            assert session.room("decode") == CONTEXT - at
            session.run("prefill", {}, timing_only=True)
        for entry in ("prefill", "decode"):
            with pytest.raises(RunError, match=r"holds? 32 tokens of 32.*--context"):
                session.run(entry, {}, timing_only=True)
        assert session.n_past == CONTEXT and session.room("prefill") == 0
    with pytest.raises(RunError, match="closed"):
        _ = session.n_past


def test_a_wrong_input_changes_nothing_in_a_session(program: wafercc.Program) -> None:
    with program.session() as session:
        session.run("decode", inputs([1], 0))
        for given, words in (
            (inputs([1], 0), r"n_past 1"),
            ({**inputs([1], 1), **caches(program, 1)}, "the session holds this cache"),
            ({"input_ids": np.zeros((1, 1), np.int64)}, "missing"),
        ):
            with pytest.raises(RunError, match=words):
                session.run("decode", given)
        with pytest.raises(RunError, match="no entry 'main'; the program has decode, prefill"):
            session.run("main", {})
        assert session.n_past == 1
        session.run("decode", inputs([1], 1))


def test_inputs_that_fit_no_entry_are_told_why(program: wafercc.Program) -> None:
    with pytest.raises(RunError, match=r"no entry takes these inputs: decode: .*\[1,3\].*; prefill: "):
        program.run({**inputs([1, 2, 3], 0), **caches(program, 0)})


def test_weights_that_both_entries_use_are_stored_once(program: wafercc.Program, tmp_path: Path) -> None:
    program.save(tmp_path / "again.wafer")
    with zipfile.ZipFile(tmp_path / "again.wafer") as file:
        members = [name for name in file.namelist() if name.startswith("weights/")]
    decode, prefill = program.placed.entries.values()
    shared = decode.weights.keys() & prefill.weights.keys()
    large = {w.value for w in prefill.weights.values() if w.tiles is not None and w.tiles.size > 4096}
    assert large <= {decode.weights[key].value for key in shared}
    assert len(members) == len(decode.weights.keys() | prefill.weights.keys())
    wafercc.load(tmp_path / "again.wafer").save(tmp_path / "third.wafer")
    assert (tmp_path / "again.wafer").read_bytes() == (tmp_path / "third.wafer").read_bytes()


def moved(placed: PlacedProgram) -> PlacedProgram:
    first = placed.regions[0]
    return replace(placed, regions=(replace(first, xs=first.xs + 1), *placed.regions[1:]))


def altered(placed: PlacedProgram) -> PlacedProgram:
    key, weight = next((k, w) for k, w in placed.weights.items() if w.tiles is not None and w.tiles.dtype.kind == "f")
    assert weight.tiles is not None
    return replace(placed, weights={**placed.weights, key: replace(weight, tiles=weight.tiles + 1)})


def swapped(placed: PlacedProgram) -> PlacedProgram:
    (a, b), (c, d), *more = placed.states.items()
    return replace(placed, states={a: d, c: b, **dict(more)})


@pytest.mark.parametrize(
    ("change", "words"),
    [(moved, "other regions"), (altered, "not the same in the entries"), (swapped, "other caches")],
)
def test_the_verifier_sees_what_entries_do_not_share(program: wafercc.Program, change: Any, words: str) -> None:
    broken = replace(program.placed, others=tuple(map(change, program.placed.others)))
    assert any(words in str(violation) for violation in verify(broken))


def test_entries_are_those_asked_for_and_one_length_makes_main() -> None:
    entries = {"all": {"new": 4}, "one": {"new": 1}}
    both = wafercc.compile(MODEL, target="mesh:16x16", context=CONTEXT, entries=entries)
    assert both.entries == ("one", "all") and not verify(both.placed)
    single = wafercc.compile(MODEL, target="mesh:16x16", context=CONTEXT, new_tokens=2)
    assert single.entries == ("main",)


def test_entries_of_different_batches_cannot_share_a_cache() -> None:
    entries = {"one": {"new": 1}, "two": {"new": 2, "batch": 2}}
    with pytest.raises(CompileError, match=r"cannot share it.*same batch"):
        wafercc.compile(MODEL, target="mesh:16x16", context=CONTEXT, entries=entries)


@pytest.mark.parametrize(("context", "chunk"), [(512, 64), (4096, 64), (32, 8), (30, 4), (8, 2), (4, 0), (1, 0)])
def test_a_default_chunk_is_at_most_a_quarter_of_the_context(context: int, chunk: int) -> None:
    class Cached:
        any_length = True
        graph = replace(wafercc.ir.graph.Graph("g", {}, (), (), (), ()), past_max=context - 1)

    assert default_chunk(Cached()) == chunk  # type: ignore[arg-type]
