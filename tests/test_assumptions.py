"""Assumptions: under every exporter's names, what is assumed is said with a flag, and that flag changes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from importer_models import F32, I64, Dims, model, saved
from onnx import helper

from wafercc.importer import Binding, Imported, import_model


@dataclass(frozen=True)
class Style:
    """How one exporter calls things: inputs with their dimensions, of which caches are extended along axis 2."""

    inputs: dict[str, tuple[int, Dims]]
    presents: tuple[str, ...]

    @property
    def caches(self) -> list[str]:
        return [name for name, (dtype, dims) in self.inputs.items() if dtype == F32 and len(dims) == 4]


def ids(*dims: int | str | None) -> tuple[int, Dims]:
    return I64, list(dims)


def cache(*dims: int | str | None) -> tuple[int, Dims]:
    return F32, list(dims)


STYLES = {
    "dynamo": Style(
        {
            "input_ids": ids("s44", "s70"),
            "attention_mask": ids("s43", "s53"),
            "position_ids": ids("s44", "s70"),
            "past_key_values.0.key": cache("s44", 2, "s6", 4),
            "past_key_values.0.value": cache("s44", 2, "s81", 4),
        },
        ("present.0.key", "present.0.value"),
    ),
    "TorchScript": Style(
        {
            "input_ids": ids("batch", "seq"),
            "attention_mask": ids("batch", "total"),
            "past_key_values.0.key": cache("batch", 2, "past", 4),
            "past_key_values.0.value": cache("batch", 2, "past", 4),
        },
        ("present.0.key", "present.0.value"),
    ),
    "optimum": Style(
        {
            "input_ids": ids("batch_size", "sequence_length"),
            "past_key_values.0.key": cache("batch_size", 2, "past_sequence_length", 4),
            "past_key_values.0.value": cache("batch_size", 2, "past_sequence_length", 4),
            "attention_mask": ids("batch_size", "past_sequence_length + sequence_length"),
        },
        ("present.0.key", "present.0.value"),
    ),
    "transformers": Style(
        {
            "input_ids": ids("s44", "s70"),
            "attention_mask": ids("s43", "s53"),
            "input.past_key_values.layers.0.keys": cache("s44", "2", "s36", "4"),
            "input.past_key_values.layers.0.values": cache("s44", "2", "s36", "4"),
            "input.past_key_values.layers.0._sliding_window_tensor": ids(),
        },
        ("output.past_key_values.layers.0.keys", "output.past_key_values.layers.0.values"),
    ),
    "genai": Style(
        {
            "input_ids": ids("batch_size", "sequence_length"),
            "attention_mask": ids("batch_size", "total_sequence_length"),
            "past_key_values.0.key": cache("batch_size", 2, "past_sequence_length", "kv_cache_dim"),
            "past_key_values.0.value": cache("batch_size", 2, "past_sequence_length", "kv_cache_dim"),
        },
        ("present.0.key", "present.0.value"),
    ),
    "unnamed": Style(
        {
            "tokens": ids(None, None),
            "mask": ids(None, None),
            "k": cache(None, 2, None, 4),
            "v": cache(None, 2, None, 4),
        },
        ("a", "b"),
    ),
}


def proto(style: Style, folder: Path) -> Path:
    """Caches extended by keys of the new tokens, made of the first input; everything else is read somewhere."""
    first = next(iter(style.inputs))
    tensors = {"table": [[0.5] * 8] * 9, "w": [[0.25] * 8] * 8, "heads": [0, 0, 2, -1]}
    nodes = [
        helper.make_node("Gather", ["table", first], ["x"], "x"),
        helper.make_node("MatMul", ["x", "w"], ["rows"], "rows"),
        helper.make_node("Reshape", ["rows", "heads"], ["apart"], "apart"),
        helper.make_node("Transpose", ["apart"], ["new"], "new", perm=[0, 2, 1, 3]),
    ]
    outputs = list(style.presents)
    for past, present in zip(style.caches, style.presents, strict=True):
        nodes.append(helper.make_node("Concat", [past, "new"], [present], present, axis=2))
    for number, name in enumerate(n for n in style.inputs if n != first and n not in style.caches):
        nodes.append(helper.make_node("Neg", [name], [f"read{number}"], f"read{number}"))
        outputs.append(f"read{number}")
    held = {name: np.array(rows, np.int64 if name == "heads" else np.float32) for name, rows in tensors.items()}
    return saved(model(nodes, style.inputs, outputs, held), folder)


def shapes(imported: Imported) -> list[str]:
    return [str(imported.graph.types[name]) for name in imported.graph.inputs]


@pytest.mark.parametrize("name", STYLES)
def test_the_defaults_of_every_style_are_one_sequence_one_token_and_a_capacity(name: str, tmp_path: Path) -> None:
    style = STYLES[name]
    imported = import_model(proto(style, tmp_path))
    assert dict(imported.graph.states) == dict(zip(style.caches, style.presents, strict=True))
    for spec in imported.graph.inputs:
        text = str(imported.graph.types[spec])
        if spec in style.caches:
            assert text == "f32[1,2,n_past,4]"
        elif "mask" in spec:
            assert text == "i64[1,n_past+1]"
        else:
            assert text in ("i64[1,1]", "i64[]")
    said = [assumption.text for assumption in imported.assumptions]
    assert said[:2] == ["batch = 1", "new tokens = 1"]
    assert said[2:] == ["the cache holds up to 511 tokens before the 1 new (context 512)"]


@pytest.mark.parametrize("name", STYLES)
def test_every_assumption_is_changed_by_its_flag(name: str, tmp_path: Path) -> None:
    """What ``--dim`` or ``--shape`` names is bound as the flag says, and is then no longer assumed."""
    path = proto(STYLES[name], tmp_path)
    before = import_model(path)
    for place, assumption in enumerate(before.assumptions):
        binding, wanted = follow(assumption.flag, place)
        after = import_model(path, binding)
        assert assumption.text not in [a.text for a in after.assumptions]
        for axis, extent in wanted.items():
            assert after.graph.types[after.graph.inputs[0]].shape[axis] == extent
            assert shapes(after) != shapes(before)
        if "context" in assumption.flag:
            assert before.graph.past_max == 511 and after.graph.past_max == 6


@pytest.mark.parametrize("name", STYLES)
def test_the_length_of_one_cache_fixes_the_others_and_the_mask(name: str, tmp_path: Path) -> None:
    style = STYLES[name]
    fixed = import_model(proto(style, tmp_path), Binding(shapes={style.caches[0]: (1, 2, 5, 4)}))
    assert fixed.graph.past_max == 0 and [a.text for a in fixed.assumptions] == ["new tokens = 1"]
    assert {str(fixed.graph.types[name]) for name in style.caches} == {"f32[1,2,5,4]"}
    assert [str(fixed.graph.types[n]) for n in fixed.graph.inputs if "mask" in n] == ["i64[1,6]"]


def follow(flag: str, place: int) -> tuple[Binding, dict[int, int]]:
    """The binding that a flag's text asks for, with 3 for each N; and extents of the token ids that follow."""
    if found := re.fullmatch(r"--dim (\S+)=N", flag):
        return Binding(dims={found[1]: 3}), {place: 3}
    if flag in ("--batch N", "--new-tokens N"):
        return Binding(batch=3) if flag == "--batch N" else Binding(new_tokens=3), {place: 3}
    assert flag.startswith("--context N")
    return replace(Binding(), context=7), {}
