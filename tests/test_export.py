"""The export: valid by its schema, complete, whole or not at all, and what the verifier derives too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from test_verify_walks import ONE_ROW, jogging
from tiny_models import program_of
from two_regions import two_regions

from wafercc import VerifyError, WaferError
from wafercc.cli.main import main
from wafercc.export import ARRAYS, DOCUMENT, export, schema
from wafercc.export.combs import comb_of
from wafercc.export.hops import COLUMNS, Weaver
from wafercc.export.lines import neighbour_links
from wafercc.ir import artifact
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import TensorType
from wafercc.ir.layout import Tiled
from wafercc.ir.program import CollectiveNet, Fan, PlacedProgram
from wafercc.program import Program
from wafercc.verify import combs
from wafercc.verify.collectives import net_rows
from wafercc.verify.fabric import packed, trace


def exported(program: PlacedProgram, folder: Path, **options: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    Program(program).export(folder, **options)
    with np.load(folder / ARRAYS) as file:
        return json.loads((folder / DOCUMENT).read_text("utf-8")), {name: file[name] for name in file.files}


def compiled() -> PlacedProgram:
    return program_of("llama-dyn18past", "decode2", defective=True).placed


def closed(node: Any) -> Any:
    """The schema with every object closed: what it does not describe is an error."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(value) for key, value in node.items()}
    return {"additionalProperties": False, **node} if node.get("type") == "object" and "properties" in node else node


def problems(document: dict[str, Any], by: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(by).iter_errors(document)]


def texts(node: Any) -> Iterator[str]:
    """Every text in a document that is no key."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from texts(child)
    if isinstance(node, str):
        yield node


# --- the form


@pytest.mark.parametrize("program", [two_regions, compiled])
def test_an_export_is_valid_by_its_schema_which_describes_every_key(
    program: Callable[[], PlacedProgram], tmp_path: Path
) -> None:
    Draft202012Validator.check_schema(schema())
    document, _ = exported(program(), tmp_path / "e", weights=True)
    assert problems(document, closed(schema())) == []


def test_the_schema_takes_what_a_later_minor_version_may_add_and_nothing_that_is_amiss(tmp_path: Path) -> None:
    document, _ = exported(two_regions(), tmp_path / "e")
    assert problems(document, schema()) == []
    assert problems({**document, "schema": "1.7", "heat": {}}, schema()) == []
    assert problems({**document, "ranks": {}}, closed(schema()))
    assert problems({**document, "schema": "2.0"}, schema())
    assert problems({key: value for key, value in document.items() if key != "hops"}, schema())
    document["blocks"]["a"]["steps"][0]["kind"] = "guess"
    assert problems(document, schema())


def test_all_arrays_are_named_in_the_document_and_all_named_arrays_exist(tmp_path: Path) -> None:
    document, arrays = exported(compiled(), tmp_path / "e", weights=True)
    folders = {name.split("/")[0] for name in arrays}
    named = {text for text in texts(document) if re.fullmatch(f"({'|'.join(folders)})(/[a-z0-9_]+)+|alive", text)}
    assert named == arrays.keys()


def test_equal_programs_export_as_equal_bytes_saved_or_not(tmp_path: Path) -> None:
    artifact.save(compiled(), tmp_path / "p.wafer")
    export(compiled(), tmp_path / "a")
    export(artifact.load(tmp_path / "p.wafer"), tmp_path / "b")
    for name in (DOCUMENT, ARRAYS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# --- what it says


def test_every_weight_can_be_put_together_from_tiles_and_tables_by_indexing_alone(tmp_path: Path) -> None:
    program = compiled()
    document, arrays = exported(program, tmp_path / "e", weights=True)
    assert len(document["weights"]) == len(program.weights) > 10
    for key, weight in [*document["weights"].items()][::4]:
        tensor, tiles = weight["tensor"], arrays[weight["stored"]["array"]]
        shape = [size["max"] for size in tensor["type"]["shape"]]
        whole, times = np.zeros(shape, tiles.dtype), np.zeros(shape, int)
        for row, column in np.ndindex(*arrays[weight["tile"]].shape):
            tile = tiles[arrays[weight["tile"]][row, column]]
            where = [arrays[cut["elements"]][arrays[cut["part"]][row, column]] for cut in tensor["cuts"]]
            inside = np.ix_(*(element >= 0 for element in where))
            at = np.ix_(*(element[element >= 0] for element in where))
            assert times[at].max(initial=0) == 0 or np.array_equal(whole[at], tile[inside]), key
            whole[at] = tile[inside]
            times[at] += 1
        assert (times == tensor["copies"]).all(), key


def test_weights_stay_out_unless_asked_for_and_are_known_by_their_hash(tmp_path: Path) -> None:
    document, arrays = exported(two_regions(), tmp_path / "e")
    stored = document["weights"]["w"]["stored"]
    assert stored["array"] is None and stored["shape"] == [3, 2, 2] and "weights/0" not in arrays
    other = replace(two_regions().weights["w"], tiles=two_regions().weights["w"].tiles + 1)
    changed, _ = exported(replace(two_regions(), weights={"w": other}), tmp_path / "f")
    assert changed["weights"]["w"]["stored"]["sha256"] != stored["sha256"]
    weightless, _ = exported(replace(two_regions(), weights={"w": replace(other, tiles=None)}), tmp_path / "g")
    assert weightless["weights"]["w"]["stored"] is None


def test_element_types_without_a_name_in_numpy_are_exported_as_their_bits(tmp_path: Path) -> None:
    weight = two_regions().weights["w"]
    tiled = Tiled(TensorType(DType.BF16, weight.tiled.type.shape), weight.tiled.layout)
    tiles = weight.tiles.astype(ml_dtypes.bfloat16)
    program = replace(two_regions(), weights={"w": replace(weight, tiled=tiled, tiles=tiles)})
    document, arrays = exported(program, tmp_path / "e", weights=True)
    assert document["weights"]["w"]["stored"]["dtype"] == "bf16"
    assert np.array_equal(arrays["weights/0"].view(ml_dtypes.bfloat16), tiles.reshape(3, 2, 2))


def test_memory_over_time_is_what_paper_says(tmp_path: Path) -> None:
    document, arrays = exported(two_regions(), tmp_path / "e")
    assert document["schedule"] == [[k, n] for k, n in pairwise_tasks()]
    # Region a: x arrives (8 bytes), the matmul adds part (8) and x dies, the sum turns part into h (8), h is sent.
    assert arrays[document["regions"]["a"]["memory"]].tolist() == [
        [0, -1, 16, 0, 8, 0],
        [1, -1, 16, 0, 8, 0],
        [1, 0, 16, 0, 8, 8],
        [1, 1, 16, 0, 0, 16],
    ]
    assert arrays[document["regions"]["b"]["memory"]].tolist() == [
        [2, -1, 0, 0, 4, 0],
        [3, -1, 0, 0, 4, 0],
        [3, 0, 0, 0, 4, 4],
    ]


def pairwise_tasks() -> list[tuple[str, str]]:
    names = ["sx", "ia", "sh", "ib", "sy"]
    return [("execute" if name.startswith("i") else "transfer", name) for name in names]


def test_a_lane_can_be_followed_hop_by_hop(tmp_path: Path) -> None:
    document, arrays = exported(two_regions(), tmp_path / "e")
    lane = document["streams"]["sx"]["lanes"][0]
    start, stop = document["nets"][lane["net"]]["hops"]
    columns = ("order", "x", "y", "colour", "ins", "outs", "messages")
    rows = zip(*(arrays[document["hops"][c]][start:stop].tolist() for c in columns), strict=True)
    assert sorted(rows) == [
        (0, 0, 0, 5, 8, 2, 1),
        (1, 1, 0, 5, 8, 2 + 4 + 16, 1),
        (2, 1, 1, 5, 1, 2 + 16, 1),
        (2, 2, 0, 5, 8, 2 + 16, 1),
        (3, 2, 1, 5, 8, 2 + 16, 1),
        (3, 3, 0, 5, 8, 16, 1),
        (4, 3, 1, 5, 8, 16, 1),
    ]
    assert (lane["dim"], lane["lo"], lane["hi"], lane["bytes"]) == (0, 0, 2, 48)


def test_a_collect_counts_the_messages_that_pass_each_router() -> None:
    net = CollectiveNet(ONE_ROW.id, "x", 5, 1, "collect", (0, 1))
    rows = Weaver({ONE_ROW.id: ONE_ROW}).collective(net)
    told = [rows[COLUMNS.index(column)].tolist() for column in ("x", "order", "ins", "outs", "messages")]
    found = sorted(zip(*told, strict=True))
    assert found == [
        (1, 0, 16, 2, 1),
        (2, 1, 8, 16, 1), (2, 4, 2, 16, 3),
        (3, 3, 2, 8, 3),
        (4, 2, 2, 8, 2), (4, 2, 16, 8, 1),
        (5, 1, 2, 8, 1), (5, 1, 16, 8, 1),
        (6, 0, 16, 8, 1),
    ]  # fmt: skip


# --- two derivations agree: the export's and the verifier's, which share no code


@cache
def jogged(seed: int) -> Any:
    return jogging(seed, 6, 5)


@pytest.mark.parametrize("seed", range(12))
def test_combs_are_the_trees_that_the_verifier_finds(seed: int) -> None:
    region = jogged(seed)
    links = {along: neighbour_links(region, along) for along in ("x", "y")}  # type: ignore[arg-type]
    for along, lo, hi, trunk, gate in (("y", 0, 6, 2, 3), ("x", 0, 5, 2, 3), ("x", 1, 4, 0, 1), ("y", 2, 3, 4, 2)):
        fan = Fan(region.id, along, lo, hi, trunk, gate)  # type: ignore[arg-type]
        mine, theirs = comb_of(region, fan, links), combs.comb_of(region, fan)
        told = [
            sorted(zip(*(getattr(c, n).tolist() for n in ("x", "y", "toward", "away", "pe")), strict=True))
            for c in (mine, theirs)
        ]
        assert told[0] == told[1], fan


@pytest.mark.parametrize(
    "net",
    [
        ("x", 5, 2, "chain", (0, 1)),
        ("y", 3, 1, "chain", (0, 1, 2, 3), 0, 1, 2),
        ("y", 6, 0, "tree", (0, 1), 1),
        ("y", 6, 5, "tree", (0, 1), 2),
        ("x", 5, 4, "leaders", (0, 1), 0, 2),
        ("x", 2, 0, "broadcast", (3,)),
        ("y", 4, 3, "broadcast", (3,)),
        ("y", 6, 2, "collect", (3, 4)),
        ("x", 3, 2, "collect", (3, 4)),
    ],
    ids=str,
)
def test_collectives_are_the_rows_that_the_verifier_finds(net: tuple[Any, ...]) -> None:
    region = jogged(3)
    told = CollectiveNet(region.id, *net)
    rows = dict(zip(COLUMNS, Weaver({region.id: region}).collective(told), strict=True))
    mine = packed(0, rows["y"], rows["x"], rows["colour"], rows["ins"], rows["outs"])
    assert len(mine) and sorted(mine) == sorted(net_rows(told, trace(region, told.along), 0).rows)


def test_a_net_that_contradicts_itself_has_no_hops() -> None:
    weaver = Weaver({ONE_ROW.id: ONE_ROW})
    good = CollectiveNet(ONE_ROW.id, "x", 5, 1, "chain", (0, 1))
    wrong = [{"colours": (0,)}, {"root": 5}, {"group": 0}, {"classes": 0, "colours": ()}, {"stride": 0}, {"level": -1}]
    assert len(weaver.collective(good)[0])
    assert [len(weaver.collective(replace(good, **fields))[0]) for fields in wrong] == [0] * len(wrong)  # type: ignore[arg-type]


def test_the_worked_example_of_the_page_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parent.parent / "docs" / "export.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
    (tmp_path / "demo-out").mkdir()
    export(compiled(), tmp_path / "demo-out" / "model.export")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    told = capsys.readouterr().out.splitlines()
    last = compiled().instances[-1]
    region = compiled().region[last.region]
    assert told[0] == f"PE at {region.xs[2, 3]} {region.ys[2, 3]}"
    assert told[1].startswith(f"{min(last.weights)} elements [")
    orders = [int(line.split()[0]) for line in told[-20:]]
    assert orders == sorted(orders)


# --- the folder


def test_a_former_export_is_replaced_and_anything_else_is_left_alone(tmp_path: Path) -> None:
    export(two_regions(), tmp_path / "e")
    export(replace(two_regions(), model="other"), tmp_path / "e")
    assert json.loads((tmp_path / "e" / DOCUMENT).read_text())["model"] == "other"
    (tmp_path / "empty").mkdir()
    export(two_regions(), tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("text")
    with pytest.raises(WaferError, match=r"the folder holds thesis.txt, which is no part of an export"):
        export(two_regions(), tmp_path / "full")
    with pytest.raises(WaferError, match="it is a file, not a folder"):
        export(two_regions(), tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "empty", "file", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    (tmp_path / "link").symlink_to(tmp_path / "e")
    export(replace(two_regions(), model="third"), tmp_path / "link")
    assert json.loads((tmp_path / "e" / DOCUMENT).read_text())["model"] == "third"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(("fails", "time"), [("mkdir", 1), ("write_text", 1), ("rename", 1), ("rename", 2)])
def test_a_write_that_fails_leaves_the_former_export_and_no_trace(
    fails: str, time: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(two_regions(), tmp_path / "e")
    real, calls = getattr(Path, fails), []

    def full(path: Path, *rest: Any, **more: Any) -> Any:
        calls.append(path)
        if len(calls) == time:
            raise OSError(28, "No space left on device", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(Path, fails, full)
    with pytest.raises(OSError, match="No space left") as failure:
        export(replace(two_regions(), model="other"), tmp_path / "e")
    monkeypatch.undo()
    assert failure.value.filename == str(tmp_path / "e")
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    assert json.loads((tmp_path / "e" / DOCUMENT).read_text())["model"] == "two"


def test_a_program_whose_names_refer_to_nothing_is_not_exported(tmp_path: Path) -> None:
    lost = replace(two_regions(), instances=(replace(two_regions().instances[0], region="c"),))
    with pytest.raises(VerifyError, match="instance ia: region c does not exist"):
        Program(lost).export(tmp_path / "e")
    with pytest.raises(VerifyError, match="target and defect map: cannot be read"):
        Program(replace(two_regions(), defects={})).export(tmp_path / "e")
    assert not list(tmp_path.iterdir())


def test_the_command_exports_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact.save(two_regions(), tmp_path / "two.wafer")
    assert main(["export", str(tmp_path / "two.wafer")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'two.export'}\n"
    assert main(["export", str(tmp_path / "two.wafer"), "-o", str(tmp_path / "w"), "--weights", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == {name: (tmp_path / "w" / name).stat().st_size for name in (DOCUMENT, ARRAYS)}
    with np.load(tmp_path / "w" / ARRAYS) as file:
        assert "weights/0" in file.files


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["two.wafer", "-o", "none/e"], 1, "cannot write: none does not exist"),
        (["two.wafer", "-o", "two.wafer"], 2, "would overwrite what is read"),
        (["two.wafer", "-o", "."], 1, "an export replaces its folder, and this is the current one"),
        (["none.wafer"], 1, "none.wafer: no such file"),
        ([], 2, "Missing argument 'PROGRAM'"),
    ],
)
def test_the_command_refuses_in_one_line(
    words: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    artifact.save(two_regions(), tmp_path / "two.wafer")
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words]) == code
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["two.wafer"]


def test_every_pair_of_neighbours_is_joined_by_links_from_one_to_the_next() -> None:
    region = jogged(5)
    for along, xs, ys in (("x", region.xs, region.ys), ("y", region.xs.T, region.ys.T)):
        links = neighbour_links(region, along)  # type: ignore[arg-type]
        step = {1: (0, -1), 2: (1, 0), 4: (0, 1), 8: (-1, 0)}
        walks: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for line, gap, x, y, port in zip(
            *(getattr(links, n).tolist() for n in ("line", "gap", "x", "y", "port")), strict=True
        ):
            walk = walks.setdefault((line, gap), [(x, y)])
            assert walk[-1] == (x, y)
            walk.append((x + step[port][0], y + step[port][1]))
        for line, row in enumerate(zip(xs.tolist(), ys.tolist(), strict=True)):
            for gap, (here, there) in enumerate(pairwise(zip(*row, strict=True))):
                assert (walks[line, gap][0], walks[line, gap][-1]) == (here, there)
