"""Dimensions: what the user fixes, what follows from it, what is assumed, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from importer_models import DATA, F32, I64, model, run_graph, saved
from onnx import helper

from wafercc.errors import ImportFailed
from wafercc.importer import Binding, Imported, import_model

LLAMA, GPT2, STATELESS = (DATA / f"{name}.onnx" for name in ("llama-dyn18past", "gpt2-ts17past", "llama-dyn23"))


def shapes(imported: Imported) -> dict[str, str]:
    return {str(name): str(imported.graph.types[name]) for name in imported.graph.inputs}


def refusal(path: Path, binding: Binding) -> str:
    with pytest.raises(ImportFailed) as caught:
        import_model(path, binding)
    return str(caught.value)


def test_without_a_cache_the_default_is_one_sequence_of_stated_length() -> None:
    imported = import_model(STATELESS)
    assert shapes(imported) == {"input_ids": "i64[1,64]", "attention_mask": "i64[1,64]"}
    assert [str(a) for a in imported.assumptions] == ["batch = 1 (--dim s72=N)", "new tokens = 64 (--dim s53=N)"]


def test_with_a_cache_the_default_is_one_token_on_a_capacity() -> None:
    imported = import_model(GPT2)
    assert shapes(imported)["attention_mask"] == "i64[1,n_past+1]"
    assert shapes(imported)["past_key_values.2.value"] == "f32[1,4,n_past,16]"
    assert imported.graph.past_max == 255
    assert [str(a) for a in imported.assumptions] == [
        "batch = 1 (--dim batch=N)",
        "new tokens = 1 (--dim seq=N)",
        "the cache holds up to 255 tokens before the 1 new (context 256, the positions that the model knows) "
        "(--context N, or --shape with the past's length)",
    ]


def test_caches_with_symbols_of_their_own_share_one_past() -> None:
    """The exporter calls the past s64, s81, s64 and s36, and the mask's length s53."""
    found = shapes(import_model(LLAMA, Binding(context=64, new_tokens=3, batch=2)))
    assert found == {
        "input_ids": "i64[2,3]",
        "attention_mask": "i64[2,n_past+3]",
        "position_ids": "i64[2,3]",
        "past_key_values.0.key": "f32[2,2,n_past,16]",
        "past_key_values.0.value": "f32[2,2,n_past,16]",
        "past_key_values.1.key": "f32[2,2,n_past,16]",
        "past_key_values.1.value": "f32[2,2,n_past,16]",
    }


def test_one_shape_fixes_what_follows_from_it() -> None:
    past = import_model(LLAMA, Binding(shapes={"past_key_values.0.key": (2, 2, 11, 16)}))
    assert shapes(past)["attention_mask"] == "i64[2,12]"
    assert shapes(past)["past_key_values.1.value"] == "f32[2,2,11,16]"
    mask = import_model(LLAMA, Binding(shapes={"attention_mask": (1, 9), "input_ids": (1, 4)}))
    assert shapes(mask)["past_key_values.0.key"] == "f32[1,2,5,16]"


def test_a_past_of_length_zero_is_legal() -> None:
    imported = import_model(LLAMA, Binding(shapes={"past_key_values.0.key": (1, 2, 0, 16)}, new_tokens=7))
    assert shapes(imported)["attention_mask"] == "i64[1,7]"
    assert imported.graph.past_max == 0


def test_a_context_full_of_new_tokens_has_no_past() -> None:
    imported = import_model(LLAMA, Binding(context=8, new_tokens=8))
    assert imported.graph.past_max == 0 and shapes(imported)["past_key_values.0.key"] == "f32[1,2,0,16]"


def test_symbols_bind_by_name_and_sums_follow(tmp_path: Path) -> None:
    inputs = {
        "input_ids": (I64, ["batch_size", "sequence_length"]),
        "attention_mask": (I64, ["batch_size", "past_sequence_length + sequence_length"]),
        "past_key_values.0.key": (F32, ["batch_size", "2", "past_sequence_length", "16"]),
        "new": (F32, ["batch_size", 2, "sequence_length", 16]),
    }
    nodes = [
        helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], "append", axis=2),
        helper.make_node("Add", ["attention_mask", "attention_mask"], ["a"], "mask"),
        helper.make_node("Add", ["input_ids", "input_ids"], ["b"], "ids"),
    ]
    path = saved(model(nodes, inputs, ["present.0.key", "a", "b"]), tmp_path)
    found = import_model(path, Binding(dims={"batch_size": 3, "sequence_length": 2}, context=10))
    assert shapes(found)["attention_mask"] == "i64[3,n_past+2]" and found.graph.past_max == 8
    assert shapes(found)["past_key_values.0.key"] == "f32[3,2,n_past,16]"
    fixed = import_model(path, Binding(dims={"past_sequence_length": 5}, new_tokens=2))
    assert shapes(fixed)["attention_mask"] == "i64[1,7]"
    assert refusal(
        path, Binding(shapes={"attention_mask": (1, 9), "new": (1, 2, 3, 16)}, dims={"past_sequence_length": 5})
    ) == (
        "the dimension past_sequence_length + sequence_length is 8 in input attention_mask dimension 1, but 9 in "
        "input attention_mask dimension 1 (give shapes that agree)"
    )


def test_unnamed_dimensions_bind_by_their_role(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["input_ids"], ["y"], "neg")]
    imported = import_model(saved(model(nodes, {"input_ids": (I64, [None, None])}, ["y"]), tmp_path), Binding(batch=2))
    assert shapes(imported) == {"input_ids": "i64[2,64]"}
    assert [a.flag for a in imported.assumptions] == ["--new-tokens N"]


def test_initialisers_that_are_also_inputs_are_weights(tmp_path: Path) -> None:
    inputs = {"x": (F32, [2, 4]), "w": (F32, [4])}
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"], "scale")]
    imported = import_model(saved(model(nodes, inputs, ["y"], {"w": np.ones(4, np.float32)}), tmp_path))
    assert imported.graph.inputs == ("x",) and imported.graph.weights == ("w",)


def test_no_default_is_longer_than_the_table_of_positions(tmp_path: Path) -> None:
    """With a cache the context, without one the sequence; positions that are computed from shapes count alike."""
    tokens, positions = np.ones((900, 4), np.float32), np.ones((48, 4), np.float32)
    tables = {"tokens": tokens, "positions": positions, "kinds": np.ones((2, 4), np.float32)}
    ints = {name: np.array(n, np.int64) for name, n in (("zero", 0), ("one", 1))}
    lookups = [
        helper.make_node("Gather", ["tokens", "input_ids"], ["t"], "t"),
        helper.make_node("Gather", ["positions", "position_ids"], ["p"], "p"),
        helper.make_node("Gather", ["kinds", "zero"], ["k"], "k"),
        helper.make_node("Gather", ["kinds", "token_type_ids"], ["y"], "y"),
        helper.make_node("Sum", ["t", "p", "k", "y"], ["embedded"], "embedded"),
    ]
    counted = [
        helper.make_node("Shape", ["input_ids"], ["extents"], "extents"),
        helper.make_node("Gather", ["extents", "one"], ["new"], "new"),
        helper.make_node("Range", ["zero", "new", "one"], ["position_ids"], "range"),
    ]
    ids: dict[str, tuple[int, list[int | str | None]]] = {
        name: (I64, ["b", "s"]) for name in ("input_ids", "token_type_ids")
    }
    stateless = model(counted + lookups, ids, ["embedded"], tables | ints)
    assert shapes(import_model(saved(stateless, tmp_path)))["input_ids"] == "i64[1,48]"
    ids["position_ids"] = (I64, ["b", "s"])
    cache = helper.make_node("Concat", ["past_key", "embedded"], ["present_key"], "extend", axis=1)
    decoder = model([*lookups, cache], {**ids, "past_key": (F32, ["b", "p", 4])}, ["present_key"], tables | ints)
    imported = import_model(saved(decoder, tmp_path))
    assert imported.graph.past_max == 47
    assert "context 48, the positions that the model knows" in str(imported.assumptions[-1])
    assert import_model(saved(decoder, tmp_path), Binding(context=60)).graph.past_max == 59


def test_a_scalar_input_needs_no_binding(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"], "neg")]
    assert shapes(import_model(saved(model(nodes, {"x": (F32, [])}, ["y"]), tmp_path))) == {"x": "f32[]"}


def test_an_attention_op_shows_its_cache(tmp_path: Path) -> None:
    inputs = {name: (F32, ["b", 2, "new", 8]) for name in ("q", "k", "v")}
    inputs |= {name: (F32, ["b", 2, f"{name}_len", 8]) for name in ("old_k", "old_v")}
    nodes = [
        helper.make_node(
            "Attention", ["q", "k", "v", "", "old_k", "old_v"], ["y", "next_k", "next_v"], "a", is_causal=1
        )
    ]
    path = saved(model(nodes, inputs, ["y", "next_k", "next_v"], opset=23), tmp_path)
    imported = import_model(path, Binding(dims={"new": 2}, context=16))
    assert imported.graph.states == {"old_k": "next_k", "old_v": "next_v"}
    assert [op.kind for op in imported.graph].count("kv_append") == 2
    assert shapes(imported)["old_v"] == "f32[1,2,n_past,8]"
    rng = np.random.default_rng(3)
    for n_past in (0, 1, 5, 14):
        inputs = {
            str(name): rng.standard_normal(imported.graph.types[name].at(n_past)).astype(np.float32)
            for name in imported.graph.inputs
        }
        fixed = run_graph(import_model(path, Binding(inputs_like=inputs)), inputs)
        for name, array in run_graph(imported, inputs, n_past).items():
            assert np.array_equal(array, fixed[name]), (name, n_past)


def test_contradictions_name_both_sides() -> None:
    ids, past = np.zeros((2, 3), np.int64), np.zeros((1, 2, 4, 16), np.float32)
    assert refusal(LLAMA, Binding(inputs_like={"input_ids": ids, "past_key_values.0.key": past})) == (
        "the dimension s44 is 1 in input past_key_values.0.key dimension 0, but 2 in input input_ids dimension 0 "
        "(give shapes that agree)"
    )
    assert refusal(LLAMA, Binding(shapes={"input_ids": (1, 3)}, new_tokens=4)) == (
        "the new tokens is 3 in the shapes given, but --new-tokens says 4 (give one of them)"
    )
    assert refusal(LLAMA, Binding(shapes={"past_key_values.0.key": (1, 3, 4, 16)})) == (
        "input past_key_values.0.key: dimension 1 is 2 in the model, the shape given has 3"
    )
    assert refusal(LLAMA, Binding(shapes={"input_ids": (1, 3, 1)})) == (
        "input input_ids: has rank 2, the shape given has 3: 1x3x1"
    )


def test_inputs_that_do_not_fit_together_are_told_when_an_op_fails() -> None:
    wrong = {"input_ids": (1, 2), "attention_mask": (1, 5), "past_key_values.0.key": (1, 2, 4, 16)}
    message = refusal(LLAMA, Binding(shapes=wrong))
    assert "the total length is 5, but past 4 and new 2 make 6" in message


def test_unknown_names_list_the_known_ones() -> None:
    assert refusal(STATELESS, Binding(shapes={"ids": (1, 3)})) == (
        "the model has no input ids (its inputs: input_ids, attention_mask)"
    )
    assert refusal(STATELESS, Binding(dims={"batch": 1})) == (
        "the model has no dimension called batch (its symbols: s43, s53, s72)"
    )


def test_arrays_of_another_element_type_are_refused() -> None:
    assert refusal(STATELESS, Binding(inputs_like={"input_ids": np.zeros((1, 3), np.float32)})) == (
        "input input_ids: is given as f32, the model wants i64"
    )


def test_a_context_smaller_than_the_new_tokens_is_refused() -> None:
    assert refusal(LLAMA, Binding(context=4, new_tokens=8)) == (
        "the context of 4 is less than the 8 new tokens (give a larger --context)"
    )
    assert refusal(LLAMA, Binding(batch=0)) == "cannot have 0 as batch (give --batch a number of 1 or more)"


def test_a_context_without_a_cache_is_said_to_be_unused() -> None:
    imported = import_model(STATELESS, Binding(context=99, batch=1, new_tokens=5))
    assert [str(a) for a in imported.assumptions] == [
        "the model has no cache: the context of 99 is not used (leave out --context)"
    ]


def test_an_if_on_a_flag_of_the_model_is_resolved(tmp_path: Path) -> None:
    def branch(name: str, op_type: str) -> onnx.GraphProto:
        body = [helper.make_node(op_type, ["x"], [name], name)]
        return helper.make_graph(body, name, [], [helper.make_tensor_value_info(name, F32, [4])])

    nodes = [
        helper.make_node(
            "If", ["flag"], ["y"], "choice", then_branch=branch("a", "Neg"), else_branch=branch("b", "Abs")
        )
    ]
    for flag, kind in ((True, "neg"), (False, "abs")):
        proto = model(nodes, {"x": (F32, [4])}, ["y"], {"flag": np.array(flag)})
        graph = import_model(saved(proto, tmp_path)).graph
        assert [op.kind for op in graph] == [kind] and graph.ops[0].outputs == ("y",)


def test_a_branch_that_is_not_taken_need_not_be_supported(tmp_path: Path) -> None:
    def branch(name: str, op_type: str) -> onnx.GraphProto:
        body = [helper.make_node(op_type, ["x"], [name], name)]
        return helper.make_graph(body, name, [], [helper.make_tensor_value_info(name, F32, [4])])

    then, other = branch("a", "Neg"), branch("b", "Det")
    nodes = [helper.make_node("If", ["flag"], ["y"], "choice", then_branch=then, else_branch=other)]
    taken, not_taken = (model(nodes, {"x": (F32, [4])}, ["y"], {"flag": np.array(flag)}) for flag in (True, False))
    assert [op.kind for op in import_model(saved(taken, tmp_path)).graph] == ["neg"]
    message = refusal(saved(not_taken, tmp_path), Binding())
    assert message.startswith("node choice (If): 1 node of 1 unsupported op type: Det x1")
