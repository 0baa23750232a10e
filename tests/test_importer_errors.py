"""Bad models: one clear message each, naming the place and the lever."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from importer_models import BOOL, DATA, F32, I64, model, saved
from onnx import TensorProto, helper

from wafercc.errors import ImportFailed
from wafercc.importer import Binding, import_model


def refusal(path: Path, binding: Binding | None = None) -> str:
    """The message, without the folder of the test."""
    with pytest.raises(ImportFailed) as caught:
        import_model(path, binding)
    return str(caught.value).replace(str(path.parent) + os.sep, "")


def node(op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, outputs, f"the_{op_type.lower()}", **attrs)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.onnx") == "absent.onnx: no such file"


def test_a_folder_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert refusal(tmp_path / "folder") == "folder: is a folder, not a file (give the .onnx file inside it)"


@pytest.mark.parametrize("content", [b"hello, I am a text file\n", b"PK\x03\x04 zip", b"\x00" * 100, b"GGUF\x03\x00"])
def test_foreign_files_are_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert refusal(path).startswith("model.onnx: not an ONNX file")


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    assert refusal(tmp_path / "model.onnx") == "model.onnx: the file is empty"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_says_how_much_is_missing(tmp_path: Path, share: float) -> None:
    whole = (DATA / "llama-dyn23.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: int(len(whole) * share)])
    message = refusal(tmp_path / "model.onnx")
    assert message.startswith("model.onnx: truncated: a field needs ")
    assert f"the file has {int(len(whole) * share)}" in message


def test_all_unsupported_ops_are_listed_with_counts(tmp_path: Path) -> None:
    nodes = [
        node("MaxUnpool", ["x", "k"], ["a"]),
        helper.make_node("Det", ["a"], ["b"], "first"),
        helper.make_node("Det", ["a"], ["c"], "second"),
        node("Tokenizer", ["a", "b", "c"], ["d"], domain="com.microsoft"),
        node("Neg", ["d"], ["y"]),
    ]
    proto = model(nodes, {"x": (F32, [4])}, ["y"], {"k": np.array([1])})
    assert refusal(saved(proto, tmp_path)) == (
        "model.onnx: 4 nodes of 3 unsupported op types: Det x2, MaxUnpool x1, com.microsoft::Tokenizer x1; "
        "supported here: Neg x1 (export without fused or quantised ops, or see docs/ops.md for adding one)"
    )


def test_a_dimension_without_a_value_names_input_symbol_and_flags(tmp_path: Path) -> None:
    proto = model([node("Neg", ["x"], ["y"])], {"x": (F32, [2, "depth", "height", 3])}, ["y"])
    assert refusal(saved(proto, tmp_path)) == (
        "input x: dimension 1 (depth) has no value and no default (give --dim depth=N or --shape x=2xNxNx3)"
    )


def test_unsupported_element_types_are_named(tmp_path: Path) -> None:
    proto = model([node("Identity", ["x"], ["y"])], {"x": (TensorProto.STRING, [2])}, ["y"])
    assert refusal(saved(proto, tmp_path)).startswith("input x: the element type string is not supported (supported: ")
    cast = model([node("Cast", ["x"], ["y"], to=TensorProto.COMPLEX64)], {"x": (F32, [2])}, ["y"])
    assert refusal(saved(cast, tmp_path)).startswith(
        "node the_cast (Cast): the element type complex64 is not supported"
    )


def test_a_cycle_is_shown(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "c"], ["a"], "one"),
        helper.make_node("Neg", ["a"], ["b"], "two"),
        helper.make_node("Neg", ["b"], ["c"], "three"),
    ]
    assert refusal(saved(model(nodes, {"x": (F32, [2])}, ["c"]), tmp_path)) == (
        "node one (Add): the graph has a cycle of 3 nodes: one <- three <- two <- one"
    )


def test_a_value_that_nothing_writes_is_named(tmp_path: Path) -> None:
    proto = model([node("Add", ["x", "ghost"], ["y"])], {"x": (F32, [2])}, ["y"])
    assert refusal(saved(proto, tmp_path)) == "node the_add (Add): reads the value 'ghost', which nothing writes"
    missing = model([node("Neg", ["x"], ["z"])], {"x": (F32, [2])}, ["y"])
    assert refusal(saved(missing, tmp_path)) == "output y: nothing writes this graph output"


def external(folder: Path, location: str, length: int = 16) -> Path:
    """A model whose weight lies in another file."""
    proto = model([node("Add", ["x", "w"], ["y"])], {"x": (F32, [4])}, ["y"], {"w": np.zeros(4, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    folder.mkdir(exist_ok=True)
    return saved(proto, folder)


def test_missing_external_data_names_file_and_tensor(tmp_path: Path) -> None:
    assert refusal(external(tmp_path, "weights.bin")) == (
        "tensor w: its external data file weights.bin does not exist beside the model "
        "(put the file into the model's folder, or compile with --weightless to time the model without it)"
    )


def test_external_data_that_is_too_short_says_so(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"12345")
    assert refusal(external(tmp_path, "weights.bin")) == (
        "tensor w: its external data ends at byte 16, but weights.bin has 5 bytes "
        "(the file is truncated: copy it again)"
    )


@pytest.mark.parametrize("location", ["../secret.bin", "data/../../secret.bin", "..\\secret.bin"])
def test_external_data_above_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    message = refusal(external(tmp_path / "inner", location))
    assert message.startswith(f"tensor w: its external data {location} points outside the model's folder")


def test_external_data_at_an_absolute_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    message = refusal(external(tmp_path / "inner", str(tmp_path / "secret.bin")))
    assert message.startswith("tensor w: its external data has the absolute path ")


def test_external_data_behind_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    path = external(tmp_path / "inner", "weights.bin")
    (tmp_path / "inner" / "weights.bin").symlink_to(tmp_path / "secret.bin")
    assert refusal(path).startswith("tensor w: its external data weights.bin is a link that points outside the model's")


def test_a_shape_computed_from_data_is_refused(tmp_path: Path) -> None:
    proto = model([node("Reshape", ["x", "s"], ["y"])], {"x": (F32, [4]), "s": (I64, [2])}, ["y"])
    assert refusal(saved(proto, tmp_path)).startswith(
        "node the_reshape (Reshape): the shape depends on the model's data, not on shapes alone"
    )


def test_a_branch_on_data_into_two_shapes_is_refused(tmp_path: Path) -> None:
    def branch(kind: str, name: str) -> onnx.GraphProto:
        output = onnx.ValueInfoProto(name=name)
        return helper.make_graph([helper.make_node(kind, ["x"], [name], name)], name, [], [output])

    nodes = [node("If", ["flag"], ["y"], then_branch=branch("Neg", "a"), else_branch=branch("Size", "b"))]
    proto = model(nodes, {"x": (F32, [4]), "flag": (BOOL, [])}, ["y"])
    assert refusal(saved(proto, tmp_path)).startswith(
        "node the_if (If): branches on what is computed from the model's data"
    )


def test_operands_that_do_not_fit_name_the_node(tmp_path: Path) -> None:
    proto = model([node("MatMul", ["a", "b"], ["y"])], {"a": (F32, [2, 3]), "b": (F32, [4, 5])}, ["y"])
    message = refusal(saved(proto, tmp_path))
    assert message.startswith("node the_matmul (MatMul): ") and "f32[2,3]" in message and "f32[4,5]" in message


def test_statistics_of_a_norm_are_made_only_if_read(tmp_path: Path) -> None:
    norm = node("LayerNormalization", ["x", "w"], ["y", "mean"])
    tensors = {"w": np.ones(4, np.float32)}
    unread = import_model(saved(model([norm], {"x": (F32, [2, 4])}, ["y"], tensors), tmp_path))
    assert [op.kind for op in unread.graph] == ["layer_norm"]
    read = import_model(saved(model([norm], {"x": (F32, [2, 4])}, ["y", "mean"], tensors), tmp_path))
    assert "reduce_mean" in [op.kind for op in read.graph]


def test_a_past_whose_use_is_not_affine_is_refused_at_a_capacity_but_not_at_a_number(tmp_path: Path) -> None:
    """Taking the last 8 of the cache depends on whether it holds 8 yet."""
    nodes = [
        helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], "append", axis=2),
        node("Slice", ["present.0.key", "from", "to", "axis"], ["window"]),
    ]
    tensors = {"from": np.array([-8]), "to": np.array([2**62]), "axis": np.array([2])}
    inputs = {"past_key_values.0.key": (F32, ["b", 2, "past", 4]), "new": (F32, ["b", 2, 1, 4])}
    path = saved(model(nodes, inputs, ["present.0.key", "window"], tensors), tmp_path)
    message = refusal(path, Binding(context=32))
    assert message.startswith("node the_slice (Slice): the slice of dimension 2 depends on n_past")
    assert "bind the past to a number with --shape" in message
    import_model(path, Binding(shapes={"past_key_values.0.key": (1, 2, 5, 4)}))


def weightless_llama() -> bytes:
    """The recorded graph with its larger tensors moved to an absent file: 12 KB that are mostly structure."""
    proto = onnx.load(str(DATA / "llama-dyn23.onnx"))
    for item in proto.graph.node:
        del item.metadata_props[:]
    del proto.graph.value_info[:]
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) > 256:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="absent.bin")
    return proto.SerializeToString()


def test_damaged_bytes_never_give_anything_but_a_clear_refusal(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    whole, path, refused = weightless_llama(), tmp_path / "model.onnx", 0
    for _ in range(120):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), 3):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            import_model(path, allow_missing_weights=True)
        except ImportFailed as problem:
            assert problem.message
            refused += 1
    assert 60 < refused < 120


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"axis": 1.5}, "node the_softmax (Softmax): has axis = 1.5, not an integer"),
        ({"axis": 7}, "node the_softmax (Softmax): has the axis 7, but its operand has rank 2"),
    ],
)
def test_attributes_that_break_the_standard_are_refused(attrs: dict[str, object], message: str, tmp_path: Path) -> None:
    proto = model([node("Softmax", ["x"], ["y"], **attrs)], {"x": (F32, [2, 3])}, ["y"])
    assert refusal(saved(proto, tmp_path)) == message


def test_a_tensor_with_fewer_bytes_than_its_shape_is_refused(tmp_path: Path) -> None:
    proto = model([node("Reshape", ["x", "s"], ["y"])], {"x": (F32, [2, 3])}, ["y"], {"s": np.array([3, 2])})
    proto.graph.initializer[0].raw_data = b"\x03" * 9
    assert refusal(saved(proto, tmp_path)).startswith("tensor s: cannot be read: ")


def test_a_loop_without_end_is_refused(tmp_path: Path) -> None:
    step = helper.make_node("Neg", ["h"], ["z"], "step")
    carried = [onnx.ValueInfoProto(name=name) for name in ("turn", "going", "h")]
    body = helper.make_graph([step], "body", carried, [onnx.ValueInfoProto(name=name) for name in ("going", "z")])
    proto = model(
        [node("Loop", ["count", "", "x"], ["y"], body=body)], {"x": (F32, [2])}, ["y"], {"count": np.array(10**9)}
    )
    assert refusal(saved(proto, tmp_path)).startswith(
        "node the_loop (Loop): would make the model's loops run more than 4096 times"
    )
