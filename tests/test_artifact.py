"""The artifact: what is saved is what is loaded, the same program is the same bytes, and damage is told apart."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafercc.errors import ArtifactError
from wafercc.ir import artifact
from wafercc.ir.block import AllGather, AllReduce, Block, Compute, Instance, Narrow, Phase, ReduceAlgorithm
from wafercc.ir.codec import Decoder, encode, encode_attr
from wafercc.ir.dims import affine
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import Op, TensorType
from wafercc.ir.layout import Layout, Mesh, Split, Tiled
from wafercc.ir.loops import Combine
from wafercc.ir.program import (
    CollectiveNet,
    Detour,
    EdgePort,
    Execute,
    Fan,
    Lane,
    PlacedProgram,
    Rect,
    Region,
    RouterTable,
    SramPlan,
    Stream,
    Transfer,
    WeightTiles,
)

PAST_MAX = 64
MESH = Mesh.of([2, 1], [3])
ATTRS = {
    "axis": 1,
    "keep": True,
    "scale": 0.125,
    "whole": 2.0,
    "mask": -math.inf,
    "dtype": DType.F16,
    "mode": "tanh",
    "count": affine(1, 1, PAST_MAX),
    "shape": (1, affine(-2, 3, PAST_MAX), 96),
    "value": ((0.5, math.inf), (True, -3), (), "n_past"),
}


def same(a: object, b: object) -> bool:
    """Equality by value, of arrays too, that tells 1, 1.0 and True apart."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def tiled(dtype: DType, *shape: object, layout: Layout | None = None) -> Tiled:
    return Tiled(TensorType(dtype, shape), layout or Layout.replicated(len(shape)))  # type: ignore[arg-type]


def block() -> Block:
    n = affine(1, 1, PAST_MAX)
    cut = Layout((Split(("y0", "x0"), 16, True), Split()), (("y1", Combine.SUM),), (("y1", 0),))
    values = {"x": tiled(DType.F32, 1, n), "cut": tiled(DType.F16, n, 4, layout=cut)}
    values |= {"s": tiled(DType.F32), "w": tiled(DType.BF16, 3)}
    op = Op("n0", "reshape", ("x", None), ("s",), ATTRS, "/model/Reshape")
    steps = (
        Compute("s0", op, Phase.LOCAL, ("x", None), ("s",)),
        AllReduce("s1", ("s",), ("s2", "s3"), ("x0",), Combine.SOFTMAX, ReduceAlgorithm.TWO_PHASE, 1, 2),
        AllGather("s2", "s", "cut", ("y0", "y1"), 1),
        Narrow("s3", "cut", "x"),
    )
    return Block("layer", MESH, values, ("w",), ("x",), ("s",), steps, {"x": "s"})


def program() -> PlacedProgram:
    """One of everything; it need not be runnable."""
    xs = np.arange(6, dtype=np.int32).reshape(2, 3)
    one = xs[:1, :1]
    path = np.array([[0, 0], [1, 0], [1, 70_000]], np.int32)
    detours = (Detour("x", 1, 0, path), Detour("y", 0, 2, path[:2]))
    regions = (Region("r0", Rect(0, 1, 2, 3, 4), xs, xs + 300, detours), Region("r1", Rect(1, 5, 0, 1, 1), one, one))
    lanes = (
        Lane(EdgePort(0, 0, 5, 8), Fan("r0", "y", 0, 2, 1, 1), path, 3),
        Lane(Fan("r0", "x", 0, 3, 1, 0), Fan("r1", "y", 0, 1, 0, 0), path[:1], 4, 2, 16, 32),
    )
    text = TensorType(DType.I64, (1, affine(1, 1, PAST_MAX)))
    column = np.arange(5, dtype=np.int32)
    routers = RouterTable(*[column * k for k in range(8)], ("lane s0.0", "r0 chain"))
    bf16 = np.arange(6).astype(DType.BF16.numpy).reshape(1, 1, 2, 3)
    int4 = np.array([[0x78]], np.uint8)  # -8 and 7, packed
    return PlacedProgram(
        model="tiny",
        target={"name": "mesh:8x8", "grid": {"width": 8, "clock_ghz": 1.1}, "marks": ["sourced", None, True]},
        defects={"dead": [[1, 2]], "seed": 3},
        options={"seed": 0, "name": "größe"},
        versions={"numpy": "2"},
        inputs={"z_ids": text, "a_mask": text},
        outputs={"logits": TensorType(DType.F32, ()), "a": text},
        states={"past": "present"},
        past_max=PAST_MAX,
        id_limits={"z_ids": 128},
        regions=regions,
        blocks={"layer": block()},
        instances=(Instance("i0", "layer", "r0", {"w": "layer.0/w"}, {"x": "z_ids", "s": "logits"}),),
        streams=(
            Stream("s0", "z_ids", text, None, ("i0", "x"), lanes[:1]),
            Stream("s1", "logits", text, ("i0", "s"), None, (), True),
            Stream("s2", "h", text, ("i0", "s"), ("i0", "x"), lanes[1:]),
        ),
        collectives=(CollectiveNet("r0", "x", 3, 1, "collect", (5, 6), 1, 2, 2),),
        routers=routers,
        order=(Transfer("s0"), Execute("i0"), Transfer("s1")),
        sram={"r0": SramPlan(1, 2, 3, 49_152)},
        weights={
            "layer.0/w": WeightTiles(tiled(DType.BF16, 2, 3), MESH, bf16, "w.weight"),
            "four": WeightTiles(tiled(DType.I4, 2), MESH, int4, "q"),
            "flag": WeightTiles(tiled(DType.BOOL), MESH, np.array(True).reshape(1, 1, 1), "flag"),
            "none": WeightTiles(tiled(DType.F32, affine(1, 0, PAST_MAX)), MESH, None, "absent"),
            "empty": WeightTiles(tiled(DType.F32, 0), MESH, np.zeros((1, 1, 1, 0), np.float32), "empty"),
        },
        decisions={"strategy": {"n0": ["row", 1.5]}},
        graph_text="graph tiny\n",
        assumptions=("batch 1",),
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.wafer"
    artifact.save(program(), path)
    return path


def manifest_of(path: Path) -> dict[str, object]:
    with zipfile.ZipFile(path) as archive:
        return dict(json.loads(archive.read("program.json")))


def test_a_loaded_program_equals_the_saved_one_in_every_field(saved: Path) -> None:
    assert same(artifact.load(saved), program())


def test_the_order_of_inputs_and_outputs_is_kept(saved: Path) -> None:
    loaded = artifact.load(saved)
    assert list(loaded.inputs) == ["z_ids", "a_mask"]
    assert list(loaded.outputs) == ["logits", "a"]


def test_equal_programs_are_equal_bytes_whatever_the_order_of_their_mappings(saved: Path, tmp_path: Path) -> None:
    again = program()
    shuffled = dataclasses.replace(
        again,
        weights=dict(reversed(again.weights.items())),
        blocks={"layer": dataclasses.replace(block(), values=dict(reversed(block().values.items())))},
    )
    artifact.save(shuffled, tmp_path / "again.wafer")
    assert (tmp_path / "again.wafer").read_bytes() == saved.read_bytes()
    artifact.save(artifact.load(saved), tmp_path / "loaded.wafer")
    assert (tmp_path / "loaded.wafer").read_bytes() == saved.read_bytes()


def test_members_are_stored_sorted_and_aligned_to_64_bytes(saved: Path) -> None:
    content = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
    assert [e.filename for e in entries] == sorted(e.filename for e in entries)
    for entry in entries:
        name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
        assert entry.compress_type == zipfile.ZIP_STORED
        assert (entry.header_offset + 30 + name + extra) % 64 == 0
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)


def test_weights_are_read_only_views_of_the_file(saved: Path) -> None:
    tiles = artifact.load(saved).weights["layer.0/w"].tiles
    assert tiles is not None
    assert not tiles.flags.writeable
    assert not tiles.flags.owndata
    assert tiles.ctypes.data % 64 == 0


def test_a_program_without_its_graph_section_is_otherwise_the_same(saved: Path, tmp_path: Path) -> None:
    artifact.strip_graph(saved, tmp_path / "bare.wafer")
    assert same(artifact.load(tmp_path / "bare.wafer"), dataclasses.replace(program(), graph_text=""))


attributes = st.recursive(
    st.integers() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.sampled_from(list(DType))
    | st.builds(affine, st.integers(-9, 9), st.integers(-9, 9), st.just(PAST_MAX)),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)  # fmt: skip


@given(attributes)
def test_any_op_attribute_survives_json(value: object) -> None:
    text = json.dumps(encode_attr(value), allow_nan=False)  # type: ignore[arg-type]
    assert same(Decoder(PAST_MAX).attr(json.loads(text), "attr"), value)


def test_a_value_without_a_json_form_is_refused_not_mangled() -> None:
    with pytest.raises(TypeError, match="no JSON form for set"):
        encode({"a": {1}})


# --- damage


def refused(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        artifact.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.wafer")


@pytest.mark.parametrize("content", [b"", b"onnx model", b"PK"])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.wafer").write_bytes(content)
    assert "not a .wafer file" in refused(tmp_path / "other.wafer")


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.wafer", "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    assert "not a .wafer file" in refused(tmp_path / "other.wafer")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot read" in refused(tmp_path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved: Path, part: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * part)])
    assert "truncated" in refused(saved)


@pytest.mark.parametrize("member", ["program.json", "arrays/paths.npy", "weights/00003-layer.0_w.npy", "graph.txt"])
def test_an_altered_member_is_named(saved: Path, member: str) -> None:
    with zipfile.ZipFile(saved) as archive:
        content = archive.read(member)
    start = saved.read_bytes().index(content)
    altered = bytearray(saved.read_bytes())
    altered[start + len(content) - 1] ^= 1
    saved.write_bytes(altered)
    message = refused(saved)
    assert f"{member}: checksum" in message


def test_any_flipped_byte_is_refused_or_changes_nothing(saved: Path) -> None:
    good, rng = saved.read_bytes(), np.random.default_rng(0)
    places = [*rng.integers(0, len(good), 150), *range(len(good) - 60, len(good))]
    for place in places:
        altered = bytearray(good)
        altered[int(place)] ^= 0x41
        saved.write_bytes(altered)
        try:
            loaded = artifact.load(saved)
        except ArtifactError:
            continue
        assert same(loaded, program()), place


def test_large_weights_are_checked_on_request(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert artifact.check_weights(saved) == 4
    monkeypatch.setattr(artifact, "CHECK_WEIGHTS_BYTES", 0)
    altered = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        content = archive.read("weights/00003-layer.0_w.npy")
    altered[bytes(altered).index(content) + len(content) - 1] ^= 1
    saved.write_bytes(altered)
    artifact.load(saved)
    with pytest.raises(ArtifactError, match=r"00003-layer\.0_w\.npy: checksum"):
        artifact.check_weights(saved)


def test_a_resealed_change_of_a_weight_loads_as_the_change(saved: Path) -> None:
    member = "weights/00003-layer.0_w.npy"
    with zipfile.ZipFile(saved) as archive:
        content = bytearray(archive.read(member))
    content[-1] ^= 1
    artifact.reseal(saved, {member: bytes(content)})
    tiles = artifact.load(saved).weights["layer.0/w"].tiles
    assert tiles is not None
    assert tiles.tobytes()[-1] == content[-1]
    with pytest.raises(ArtifactError, match="missing member"):
        artifact.reseal(saved, {"weights/none.npy": b""})


def edited(path: Path, **changes: object) -> Path:
    artifact.reseal(path, {"program.json": json.dumps(manifest_of(path) | changes).encode()})
    return path


def test_an_unknown_schema_is_refused_with_both_numbers(saved: Path) -> None:
    assert "schema 99.0; this version reads 1 to 1" in refused(edited(saved, schema="99.0"))
    assert "malformed" in refused(edited(saved, schema="soon"))


def test_a_field_of_a_newer_minor_schema_is_ignored_and_of_this_one_refused(saved: Path) -> None:
    assert same(artifact.load(edited(saved, schema="1.7", novelty=1)), program())
    assert "unknown field novelty" in refused(edited(saved, schema="1.0"))


def test_a_missing_member_is_named(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for gone in ("arrays/paths.npy", "program.json", "checksums.json", "graph.txt"):
        with zipfile.ZipFile(saved, "w") as archive:
            for name, content in members.items():
                if name != gone:
                    archive.writestr(name, content)
        assert f"{gone}: missing member" in refused(saved)
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in [*members.items(), ("more.txt", b"")]:
            archive.writestr(name, content)
    assert "more.txt: has no checksum" in refused(saved)


WEIGHT = {"tiled": "f32[2] (-)", "mesh": [], "origin": "", "member": None, "shape": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"past_max": "many"}, "past_max: wanted a count of tokens"),
        ({"regions": [{"id": "r0"}]}, "regions[0]: not a region"),
        ({"blocks": {"layer": {"name": "layer"}}}, "blocks.layer: missing field"),
        ({"order": [{"Sleep": {}}]}, "order[0]: wanted one of Transfer, Execute"),
        ({"streams": []}, "lanes: 2 rows, of which streams take 0"),
        ({"inputs": [["z_ids", "i64[1,n_future]"]]}, "not a dimension: 'n_future'"),
        ({"weights": {"w": WEIGHT | {"tiled": "f32[2] (-,-)"}}}, "a layout of rank 2 on a type of rank 1"),
        ({"weights": {"w": WEIGHT | {"member": "x", "shape": [2]}}}, "its tiles 'x' are missing"),
    ],
)
def test_a_malformed_manifest_is_refused_at_its_place(saved: Path, change: dict[str, object], message: str) -> None:
    assert message in refused(edited(saved, **change))


def test_a_manifest_that_is_not_json_is_refused(saved: Path) -> None:
    artifact.reseal(saved, {"program.json": b"{"})
    assert "program.json: malformed" in refused(saved)


def test_an_array_of_objects_is_refused_without_unpickling(saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{}], object), allow_pickle=True)
    artifact.reseal(saved, {"arrays/paths.npy": (tmp_path / "evil.npy").read_bytes()})
    assert "arrays/paths.npy: malformed array" in refused(saved)


def test_an_altered_target_does_not_match_its_hash(saved: Path) -> None:
    assert set(artifact.digests(saved)) == {"target", "defects"}
    before = artifact.digests(saved)["target"]
    edited(saved, target={"name": "mesh:9x9"})
    assert artifact.digests(saved)["target"] != before
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    listing = json.loads(members["checksums.json"])
    listing["sections"]["target"] = before
    members["checksums.json"] = json.dumps(listing).encode()
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "target: sha256" in refused(saved)


# --- writing


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    saved: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException | type[BaseException]
) -> None:
    before = saved.read_bytes()

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("wafercc.ir.container.os.replace", fail)
    with pytest.raises((KeyboardInterrupt, ArtifactError)):
        artifact.save(dataclasses.replace(program(), model="other"), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_saving_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot write: No such file"):
        artifact.save(program(), tmp_path / "none" / "x.wafer")


def test_a_program_may_be_saved_over_the_file_it_was_loaded_from(saved: Path) -> None:
    artifact.save(dataclasses.replace(artifact.load(saved), model="renamed"), saved)
    assert same(artifact.load(saved), dataclasses.replace(program(), model="renamed"))


def test_the_saved_file_names_no_folder_of_this_machine(saved: Path) -> None:
    assert str(saved.parent).encode() not in saved.read_bytes()
