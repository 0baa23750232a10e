"""The recipes of CONTRIBUTING.md work as written: each is followed in a copy of the repository, and its result is used.

A recipe's changes touch exactly the files that its section names, so that no page sends people to the wrong place.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from importer_models import F32, model
from numpy.typing import NDArray
from onnx import helper
from tiny_models import environ

from wafercc.npz import read_npz, write_npz

ROOT = Path(__file__).parent.parent
# Several commands in one process, which is quicker than one each.
COMMANDS = """
import json, sys
from wafercc.cli.main import app

for words in json.loads(sys.argv[1]):
    app(words, standalone_mode=False)
"""
FOLDERS = ("wafercc", "passes", "runtime", "models", "tests")
X = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(16, 24)).astype(np.float32)


class Repository:
    """A copy of the repository in which a recipe is followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        skip = shutil.ignore_patterns("__pycache__", "data", "golden")
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=skip)
        shutil.copy(ROOT / "pyproject.toml", folder)
        self.touched: set[str] = set()

    def add(self, path: str, text: str) -> None:
        """A new file."""
        assert not (self.folder / path).exists()
        (self.folder / path).write_text(text, encoding="utf-8")
        self.touched.add(path)

    def insert(self, path: str, after: str, text: str) -> None:
        """Lines after the first line that begins with ``after``."""
        file = self.folder / path
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        where = next((i for i, line in enumerate(lines) if line.startswith(after)), None)
        assert where is not None, f"{path} has no line that begins with {after!r}"
        file.write_text("".join([*lines[: where + 1], text, *lines[where + 1 :]]), encoding="utf-8")
        self.touched.add(path)

    def replace(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path} holds {old!r} {text.count(old)} times"
        file.write_text(text.replace(old, new), encoding="utf-8")
        self.touched.add(path)

    def python(self, *words: str) -> str:
        """Standard output of this Python, which sees the copy and nothing else of wafercc."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=environ() | {"PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, proto: onnx.ModelProto, *options: str, target: str = "mesh:8x8") -> NDArray[np.float32]:
        """Compile, verify and execute a model of one input x and one output y by the commands; gives y."""
        (self.folder / "model.onnx").write_bytes(proto.SerializeToString())
        write_npz(self.folder / "in.npz", {"x": X})
        commands = (
            ["compile", "model.onnx", "--target", target, "-o", "p.wafer", *options],
            ["verify", "p.wafer"],
            ["run", "p.wafer", "--inputs", "in.npz", "--outputs", "out.npz"],
        )
        said = self.python("-c", COMMANDS, json.dumps(commands))
        assert re.match(r"p.wafer\nok: .*\ncycles \d+\n", said), said
        return read_npz(self.folder / "out.npz")["y"]

    def graph(self) -> str:
        """The graph in the program compiled last, as text."""
        return self.python("-c", "import wafercc; print(wafercc.load('p.wafer').placed.graph_text)")

    def tests_of(self, kind: str) -> None:
        """The table-driven tests of one op kind."""
        files = ("test_ops.py", "test_op_loops.py", "test_runtime_kernels.py")
        words = ["-m", "pytest", "-p", "no:cacheprovider", "-k", kind, *(f"tests/{name}" for name in files)]
        assert re.search(r"^[5-9] passed|^\d\d+ passed", self.python(*words), re.M)


@pytest.fixture
def copy(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "copy")


def recipe(title: str) -> str:
    """A section of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.S | re.M)
    assert found, title
    return found[1]


def named(section: str) -> Mapping[str, re.Pattern[str]]:
    """The files of a section's numbered steps, with FAMILY and NAME standing for any name."""
    steps = " ".join(re.findall(r"^\d+\. (.*?)(?=^\d+\. |^\S|\Z)", section, re.S | re.M))
    paths = re.findall(r"`((?:[\w.]+/)+[\w.]+)`", steps)
    return {p: re.compile(re.sub(r"FAMILY|NAME", r"\\w+", re.escape(p))) for p in paths}


def assert_as_written(touched: set[str], title: str) -> None:
    """Every file touched is named by the recipe, and every file it names was touched."""
    patterns = named(recipe(title))
    assert patterns
    unnamed = {path for path in touched if not any(p.fullmatch(path) for p in patterns.values())}
    idle = {path for path, p in patterns.items() if not any(p.fullmatch(t) for t in touched)}
    assert not unnamed and not idle, f"not named: {unnamed}; named in vain: {idle}"


def chain(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """h = x @ w, then nodes that make y of it."""
    first = helper.make_node("MatMul", ["x", "w"], ["h"])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("example", 1)]
    proto = model([first, *nodes], {"x": (F32, X.shape)}, ["y"], {"w": W})
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    return proto


@pytest.mark.pipeline
def test_an_elementwise_op_is_added_as_written(copy: Repository) -> None:
    row = '    Row("cbrt", 1, np.cbrt, special=1, simple=0),\n'
    copy.insert("wafercc/ir/ops/elementwise.py", '    Row("sin",', row)
    copy.replace("wafercc/ir/ops/__init__.py", "sqrt reciprocal sin cos", "sqrt cbrt reciprocal sin cos")
    copy.insert("wafercc/importer/ops_elementwise.py", "UNARY = {", '    "Cbrt": "cbrt",\n')
    copy.replace("tests/op_samples.py", 'sample("silu", x),', 'sample("silu", x), sample("cbrt", x),')
    assert_as_written(copy.touched, "Add an elementwise op")
    y = copy.run(chain(helper.make_node("Cbrt", ["h"], ["y"])))
    np.testing.assert_allclose(y, np.cbrt(X @ W), rtol=1e-5, atol=1e-6)
    assert " cbrt(" in copy.graph()
    copy.tests_of("cbrt")


KERNEL = '''
def reduce_l1(call: Call) -> tuple[Array, ...]:
    x, axes = call.operand(0), _axes(call)
    data = np.abs(x.masked(axes, 0).wide())
    return (call.give(np.sum(data, axis=_behind(call, axes), keepdims=True, dtype=data.dtype)),)


'''
LOWERING = '''
@lowers("SumOfAbs", domain="example")
def sum_of_abs(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    return _reduced(cx, "reduce_l1", x, (x.rank - 1,), True)

'''


@pytest.mark.pipeline
def test_an_op_that_reduces_is_added_as_written(copy: Repository) -> None:
    row = '    Row("reduce_l1", lambda x, axes: _sum(np.abs(x), axes), Combine.SUM).spec(),\n'
    copy.insert("wafercc/ir/ops/reduce.py", "SPECS: tuple", row)
    copy.replace("wafercc/ir/ops/__init__.py", "    reduce_sum reduce_mean", "    reduce_l1 reduce_sum reduce_mean")
    copy.insert("wafercc/importer/ops_reduce.py", "PLAIN = {", LOWERING)
    copy.replace("runtime/kernels/reduce.py", "\nKERNELS = {\n", f'{KERNEL}KERNELS = {{\n    "reduce_l1": reduce_l1,\n')
    copy.replace("wafercc/verify/reductions.py", 'case "reduce_sum" |', 'case "reduce_l1" | "reduce_sum" |')
    sample = '    sample("reduce_l1", f32(3, 4, 5), axes=(1,), keep=True),\n'
    copy.insert("tests/op_samples.py", "SAMPLES: tuple", sample)
    assert_as_written(copy.touched, "Add an op that reduces, indexes or moves elements")
    y = copy.run(chain(helper.make_node("SumOfAbs", ["h"], ["y"], domain="example")))
    np.testing.assert_allclose(y, np.abs(X @ W).sum(axis=1, keepdims=True), rtol=1e-5)
    copy.tests_of("reduce_l1")


PASS = '''"""Drop idle ReLU: relu(abs(x)) becomes abs(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite


@dataclass(frozen=True)
class DropIdleRelu:
    """Bit by bit the same numbers. Cost: linear in ops."""

    name: ClassVar[str] = "drop_idle_relu"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    inner = draft.made_by(op.operands[0], "abs") if op.kind == "relu" else None
    return None if inner is None else inner.outputs[0]
'''
PASS_TEST = '''"""Drop idle ReLU."""

from rewriting import applied, assert_same

from wafercc.passes.rewrite.drop_idle_relu import DropIdleRelu

TEXT = """
graph idle
input %x: f32[2,3]
%a: f32[2,3] = abs(%x)  @a
%b: f32[2,3] = relu(%a)  @b
%y: f32[2,3] = neg(%b)  @y
return %y
"""


def test_an_idle_relu_goes() -> None:
    before, after, weights, kept = applied(DropIdleRelu(), TEXT)
    assert [op.kind for op in after.ops] == ["abs", "neg"]
    assert_same(before, after, weights, kept)
'''


@pytest.mark.pipeline
def test_a_pass_is_added_as_written(copy: Repository) -> None:
    copy.add("passes/rewrite/drop_idle_relu.py", PASS)
    copy.insert("passes/rewrite/__init__.py", "from .dead_code", "from .drop_idle_relu import DropIdleRelu\n")
    copy.insert("passes/rewrite/__init__.py", "    FuseLayerNorm(),", "    DropIdleRelu(),\n")
    copy.add("tests/test_rewrite_drop_idle_relu.py", PASS_TEST)
    assert_as_written(copy.touched, "Add a pass")
    nodes = [helper.make_node(kind, [a], [b]) for kind, a, b in (("Abs", "h", "n"), ("Relu", "n", "m"))]
    proto = chain(*nodes, helper.make_node("Neg", ["m"], ["y"]))
    dropped = copy.run(proto)
    assert " relu(" not in copy.graph()
    kept = copy.run(proto, "--no-pass", "drop_idle_relu")
    assert " relu(" in copy.graph()
    np.testing.assert_array_equal(dropped, kept)
    np.testing.assert_allclose(dropped, -np.abs(X @ W), rtol=1e-5, atol=1e-6)
    copy.python("-m", "pytest", "-p", "no:cacheprovider", "tests/test_rewrite_drop_idle_relu.py")


PAGE = """# A toy with wse3's PEs.
name = "toy"
base = "wse3"
width = { value = 10, mark = "assumed", source = "a toy" }
height = { value = 7, mark = "assumed", source = "a toy" }

[router]
ramp_cycles = { value = 9, mark = "assumed", source = "a toy" }
"""


@pytest.mark.pipeline
def test_a_target_is_added_as_written(copy: Repository) -> None:
    copy.add("wafercc/targets/toy.toml", PAGE)
    copy.replace("wafercc/targets/pages.py", '_BUILT_IN = ("wse2",', '_BUILT_IN = ("toy", "wse2",')
    copy.replace("wafercc/targets/pages.py", 'return ("wse2",', 'return ("toy", "wse2",')
    assert_as_written(copy.touched, "Add a target")
    y = copy.run(chain(helper.make_node("Abs", ["h"], ["y"])), target="toy")
    np.testing.assert_allclose(y, np.abs(X @ W), rtol=1e-5, atol=1e-6)
    assert re.search(r"^ *toy +10 +7 ", copy.python("-m", "wafercc", "targets"), re.M)
    placed = "import wafercc; t = wafercc.load('p.wafer').placed.target; print(t['width'], t['router']['ramp_cycles'])"
    assert copy.python("-c", placed).split() == ["10", "9"]


@pytest.mark.pipeline
def test_a_page_of_ones_own_needs_no_change(copy: Repository) -> None:
    assert "wafercc targets show wse3 --toml > mine.toml" in recipe("Add a target")
    page = copy.python("-m", "wafercc", "targets", "show", "wse3", "--toml")
    page = re.sub(r"^(width|height) = \d+", r"\1 = 9", page, flags=re.M)
    (copy.folder / "mine.toml").write_text(page, encoding="utf-8")
    y = copy.run(chain(helper.make_node("Abs", ["h"], ["y"])), target="mine.toml")
    np.testing.assert_allclose(y, np.abs(X @ W), rtol=1e-5, atol=1e-6)


def test_a_recipe_that_names_other_files_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"not named: {'passes/elsewhere.py'}"):
        assert_as_written({"passes/elsewhere.py"}, "Add a pass")
    with pytest.raises(AssertionError, match="named in vain"):
        assert_as_written(set(), "Add a target")
