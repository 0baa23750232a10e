"""External data: files of many gigabytes are mapped and not read, and no path leads to anything but the model's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from importer_models import F32, model, saved
from onnx import TensorProto, helper, numpy_helper
from tiny_models import environ

from wafercc.errors import ImportFailed
from wafercc.importer import import_model
from wafercc.importer.external import decoded
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import ValueName

GIB = 1 << 30


def stored(name: str, kind: int, dims: Sequence[int], **where: object) -> TensorProto:
    """A tensor in another file."""
    tensor = TensorProto(name=name, data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def sized(dims: Sequence[int], **where: object) -> onnx.ModelProto:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"], "add")], {"x": (F32, [4])}, ["y"])
    proto.graph.initializer.append(stored("w", F32, dims, **where))
    return proto


def refusal(path: Path) -> str:
    with pytest.raises(ImportFailed) as caught:
        import_model(path)
    return str(caught.value)


def sixteen_gigabytes(folder: Path, width: int = 8192, layers: int = 64) -> Path:
    """A chain of products whose weights lie in one sparse file; the last are beyond 4 GiB."""
    nodes, tensors, size = [], [], 4 * width * width
    for layer in range(layers):
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"], f"layer{layer}"))
        where = {"location": "w.bin", "offset": layer * size, "length": size}
        tensors.append(stored(f"w{layer}", F32, [width, width], **where))
    proto = model(nodes, {"x0": (F32, [1, width])}, [f"x{layers}"])
    proto.graph.initializer.extend(tensors)
    path = folder / "w.bin"
    path.touch()
    os.truncate(path, layers * size)
    with path.open("r+b") as file:
        file.seek((layers - 1) * size)
        file.write(np.float32(42).tobytes())
    assert path.stat().st_size == 16 * GIB and path.stat().st_blocks * 512 < GIB / 64
    return saved(proto, folder)


IMPORTS = """
import resource, sys
from wafercc.importer import import_model
imported = import_model(sys.argv[1])
last = imported.weights.load(imported.graph.weights[-1])
assert last[0, 0] == 42 and last[1, 1] == 0, "not the right bytes"
print(len(imported.graph.ops), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_importing_sixteen_gigabytes_takes_less_than_one(tmp_path: Path) -> None:
    path = sixteen_gigabytes(tmp_path)
    # The parent's memory counts as the child's until it starts its own program, so a small process stands between.
    between = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True)"
    words = [sys.executable, "-c", between, "-c", IMPORTS, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, env=environ(), check=False)
    assert done.returncode == 0, done.stderr
    ops, peak_kib = map(int, done.stdout.split())
    assert ops == 64 and peak_kib < GIB >> 10


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.int64, np.bool_, ml_dtypes.bfloat16, ml_dtypes.int4, ml_dtypes.uint4]
)
def test_bytes_of_a_file_mean_what_they_mean_inside_a_model(dtype: type) -> None:
    array = np.random.default_rng(1).integers(0, 2 if dtype is np.bool_ else 7, (3, 5)).astype(dtype)
    proto = numpy_helper.from_array(array)
    kind = next(kind for kind in DType if kind.numpy == np.dtype(dtype))
    got = decoded(np.frombuffer(proto.raw_data, np.uint8), kind, (3, 5))
    assert got.dtype == array.dtype and np.array_equal(got.astype(np.float32), array.astype(np.float32))


def outside(folder: Path) -> str:
    (folder.parent / "outside.bin").write_bytes(bytes(16))
    (folder / "w.bin").symlink_to(folder.parent / "outside.bin")
    return "w.bin is a link that points outside the model's folder"


def through_a_folder(folder: Path) -> str:
    (folder / "w.bin").symlink_to("/dev")
    return "w.bin is a link that points outside the model's folder"


def hard_link(folder: Path) -> str:
    (folder.parent / "secret.bin").write_bytes(bytes(16))
    os.link(folder.parent / "secret.bin", folder / "w.bin")
    return "w.bin is a hard link: the same file has 2 names, which may lie outside the model's folder (copy the file)"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "w.bin")
    return "w.bin is not a file of data"


def subfolder(folder: Path) -> str:
    (folder / "w.bin").mkdir()
    return "w.bin is not a file of data"


def loop(folder: Path) -> str:
    (folder / "w.bin").symlink_to("w.bin")
    return "w.bin cannot be read: Too many levels of symbolic links"


@pytest.mark.parametrize("make", [outside, through_a_folder, hard_link, pipe, subfolder, loop])
def test_what_is_no_file_of_the_models_own_is_refused(tmp_path: Path, make: object) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert callable(make)
    reason = make(folder)
    for allowed in (False, True):
        with pytest.raises(ImportFailed) as caught:
            import_model(saved(sized([4], location="w.bin"), folder), allow_missing_weights=allowed)
        assert str(caught.value).startswith("tensor w: its external data ") and reason in str(caught.value)


@pytest.mark.parametrize("location", ["/etc/hostname", "../w.bin", "a/../../w.bin", "~/w.bin", "\\\\host\\w.bin", ""])
def test_paths_that_leave_the_folder_are_refused_whether_or_not_they_exist(tmp_path: Path, location: str) -> None:
    path = saved(sized([4], location=location), tmp_path)
    for allowed in (False, True):
        with pytest.raises(ImportFailed, match="external data must lie in the model's folder"):
            import_model(path, allow_missing_weights=allowed)


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (tmp_path / "w.bin").symlink_to("blob")
    imported = import_model(saved(sized([4], location="w.bin"), tmp_path))
    assert imported.weights.load(ValueName("w")).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"offset": 8}, "its external data ends at byte 24, but w.bin has 16 bytes"),
        ({"offset": 1 << 62}, f"its external data ends at byte {(1 << 62) + 16}, but w.bin has 16 bytes"),
        ({"offset": -4}, "External data offset must be non-negative, got -4 for tensor 'w'"),
        ({"length": 8}, "its external data is bytes 0 to 8 of w.bin; its type and shape need 16 bytes"),
        ({"length": 1 << 40}, f"its external data is bytes 0 to {1 << 40} of w.bin; its type and shape need 16 bytes"),
        ({"offset": "x"}, "not a readable model: invalid literal for int() with base 10: 'x'"),
    ],
)
def test_lies_about_offset_and_length_are_told(tmp_path: Path, where: dict[str, object], message: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    assert message in refusal(saved(sized([4], location="w.bin", **where), tmp_path))


@pytest.mark.parametrize("dims", [[-4], [1 << 40, 1 << 40], [1 << 62, 4]])
def test_shapes_of_no_machine_are_refused(tmp_path: Path, dims: list[int]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    assert "extents are 0 or more, elements 1125899906842624 or less" in refusal(
        saved(sized(dims, location="w.bin"), tmp_path)
    )


def test_a_file_that_shrinks_after_the_import_is_an_error_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    imported = import_model(saved(sized([4], location="w.bin"), tmp_path))
    os.truncate(tmp_path / "w.bin", 8)
    with pytest.raises(ImportFailed, match=r"tensor w: cannot be read: w\.bin has changed since"):
        imported.weights.load(ValueName("w"))


def test_pipes_and_devices_are_no_models(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    assert "is a pipe or a device, not a file" in refusal(tmp_path / "model.onnx")
    assert "is a pipe or a device, not a file" in refusal(Path("/dev/zero"))


def test_a_model_file_beyond_what_protobuf_can_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    os.truncate(tmp_path / "model.onnx", 3 * GIB)
    assert "has 3221225472 bytes; a model file has at most 2147483647" in refusal(tmp_path / "model.onnx")
