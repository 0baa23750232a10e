"""Passes of other packages: found by their entry point, run in their place, left out by name, and held to what they
promise. The packages are made on the fly: a module and a .dist-info folder on the path."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from importer_models import F32, model
from onnx import helper
from tiny_models import environ, python, tiny_file

import wafercc
from wafercc.cli.main import main
from wafercc.errors import CompileError
from wafercc.ir.text import parse_graph
from wafercc.passes.rewrite import STANDARD, all_rewrites, refuse_unknown

pytestmark = pytest.mark.pipeline
WORDS = ("--target", "mesh:16x16", "--shape", "input_ids=1x4", "--stages", "1", "--region", "4x4")

# Leaves a mark on every add, so that it can be seen to have run.
GOOD = '''
"""Passes of Acme."""

from dataclasses import replace


class RenameAdds:
    """Add a mark to the source of every add."""

    name = "rename_adds"

    def __call__(self, graph, weights):
        ops = tuple(replace(op, source="acme") if op.kind == "add" else op for op in graph.ops)
        if all(op.source == old.source for op, old in zip(ops, graph.ops)):
            return graph, weights
        return graph.with_ops(ops), weights


class Early(RenameAdds):
    name = "early"
    before = "fuse_rope"
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``install("acme-passes", source, name="module:object", ...)``: a distribution on the path of this process."""
    home = tmp_path / "site"
    home.mkdir()
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.chdir(tmp_path)
    tiny_file(tmp_path)

    def make(distribution: str, source: str, **entries: str) -> Path:
        module = distribution.replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (home / f"{module}.py").write_text(source)
        info = home / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = [f"{name} = {module}:{found}" for name, found in entries.items()]
        (info / "entry_points.txt").write_text("[wafercc.passes]\n" + "\n".join(lines) + "\n")
        return home

    return make


# Compiles as the command does, with and without the plugin, and prints how often it left its mark, and the versions.
SCRIPT = """
import sys, wafercc
from wafercc.cli.main import main
for more in ([], ["--no-pass", "rename_adds"]):
    assert main(["compile", "tiny.onnx", *sys.argv[1:], *more]) == 0
    placed = wafercc.load("tiny.wafer").placed
    print(placed.graph_text.count("acme"), placed.versions.get("acme-passes"))
"""


def test_a_plugin_runs_in_a_process_of_its_own_and_is_recorded(install: Callable[..., Path], tmp_path: Path) -> None:
    home = install("acme-passes", GOOD, rename_adds="RenameAdds")
    paths = os.pathsep.join([str(home), environ()["PYTHONPATH"]])
    done = python("-c", SCRIPT, *WORDS, cwd=tmp_path, PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    first, second = (line for line in done.stdout.splitlines() if line != "tiny.wafer")
    assert first == "2 1.2" and second == "0 None"


def test_plugins_stand_behind_the_standard_rewrites_or_where_they_ask(install: Callable[..., Path]) -> None:
    install("acme-passes", GOOD, rename_adds="RenameAdds", early="Early")
    names = [rewrite.name for rewrite in all_rewrites()]
    standard = [rewrite.name for rewrite in STANDARD]
    where = standard.index("fuse_rope")
    assert names == [*standard[:where], "early", *standard[where:], "rename_adds"]
    assert "early" not in [rewrite.name for rewrite in all_rewrites(["early"])]
    refuse_unknown(["early"])
    with pytest.raises(CompileError, match=r"there is no rewrite 'late'.*rename_adds"):
        refuse_unknown(["late"])


def test_the_passes_are_listed_in_order_with_where_they_come_from(
    install: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    install("acme-passes", GOOD, rename_adds="RenameAdds")
    install("broken-passes", "1 / 0", crash="Crash")
    assert main(["passes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["passes"]
    assert [row["name"] for row in rows if row["from"] == "wafercc" and row["kind"] == "rewrite"] == [
        rewrite.name for rewrite in STANDARD
    ]
    mine = {row["name"]: (row["from"], row["does"]) for row in rows if row["from"] != "wafercc"}
    assert mine == {
        "rename_adds": ("acme-passes 1.2", "Add a mark to the source of every add."),
        "crash": ("broken-passes 1.2", "broken: cannot be loaded: ZeroDivisionError: division by zero"),
    }
    assert all(row["does"] for row in rows)
    assert [row["name"] for row in rows if row["kind"] == "stage"][:3] == ["importer", "partition", "size"]
    assert main(["passes"]) == 0
    page = capsys.readouterr().out
    assert [line.split()[0] for line in page.splitlines()[1:]] == [row["name"] for row in rows]


def test_the_plugin_of_the_contributing_page_works_as_written(
    install: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^```toml\n(.*?)^```", page, re.S | re.M)
    (source,) = re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
    entries = tomllib.loads(table)["project"]["entry-points"]["wafercc.passes"]
    install("acme-passes", source, **{name: found.removeprefix("acme_passes:") for name, found in entries.items()})
    steps = (("Abs", "x", "n"), ("Relu", "n", "m"), ("Neg", "m", "y"))
    nodes = [helper.make_node(kind, [a], [b]) for kind, a, b in steps]
    onnx.save(model(nodes, {"x": (F32, (2, 3))}, ["y"]), "relu.onnx")
    for words, kinds in (((), ["abs", "neg"]), (("--no-pass", "drop_idle_relu"), ["abs", "relu", "neg"])):
        assert main(["compile", "relu.onnx", "--target", "mesh:4x4", *words]) == 0
        graph = parse_graph(wafercc.load("relu.wafer").placed.graph_text)
        assert [op.kind for op in graph.ops] == kinds
    capsys.readouterr()


HEAD = "from dataclasses import replace\nfrom wafercc.ir.weights import Weights\n"
BROKEN = {
    "import": ("import nowhere_at_all", "bad", "cannot be loaded: ModuleNotFoundError: No module named"),
    "missing": ("", "bad", "cannot be loaded: AttributeError: module"),
    "constructor": ("class bad:\n    def __init__(self, x): pass", "bad", "cannot be loaded: TypeError: "),
    "no function": ("bad = 3", "bad", "bad_passes:bad is a int, not a function of (graph, weights)"),
    "other name": ("def bad(g, w): return g, w\nbad.name = 'good'", "bad", "calls itself 'good'"),
    "unknown place": ("def bad(g, w): return g, w\nbad.before = 'lunch'", "bad", "wants to run before 'lunch'; there"),
    "raises": ("def bad(g, w): raise KeyError('x')", "bad", "failed: KeyError: 'x'"),
    "wrong type": ("def bad(g, w): return g", "bad", "gave a Graph, not (Graph, Weights)"),
    "malformed": (
        f"{HEAD}def bad(g, w): return replace(g, ops=g.ops[1:]), w",
        "bad",
        "made a malformed graph: ",
    ),
    "interface": (
        f"{HEAD}def bad(g, w): return replace(g, outputs=(g.ops[0].outputs[0],)), w",
        "bad",
        "changed what the model takes or gives: outputs",
    ),
    "weights": (f"{HEAD}def bad(g, w): return g, Weights()", "bad", "names weights that have no source: "),
    "taken name": ("def dead_code(g, w): return g, w", "dead_code", "its name is taken by a pass of wafercc"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_one_error_that_names_distribution_and_pass(
    what: str, install: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, name, message = BROKEN[what]
    install("bad-passes", source, **{name: name})
    assert main(["compile", "tiny.onnx", *WORDS]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"error: pass {name} of bad-passes 1.2: {message}"), err
    assert f"(leave it out with --no-pass {name}, or mend it)" in err
    assert not Path("tiny.wafer").exists()


def test_a_plugin_left_out_by_name_is_not_even_loaded(
    install: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    install("bad-passes", "import nowhere_at_all", bad="bad")
    assert main(["compile", "tiny.onnx", *WORDS, "--no-pass", "bad"]) == 0
    assert capsys.readouterr().out == "tiny.wafer\n"
