"""The pages say what the code does: files, options, lists and keys that they name are those of the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from tiny_models import environ
from two_regions import two_regions

from wafercc.export import schema
from wafercc.ir import artifact
from wafercc.models.tiny_llama import TinyLlama
from wafercc.runtime import report

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# Options of other commands than wafercc.
OTHERS = {"--update-golden", "--quick", "--strict", "--help"}


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text(page), re.S | re.M)
    assert found, f"{page} has no section {title}"
    return found[1]


def emphasised(page: str, title: str) -> list[str]:
    """The list items of a section, as far as they are in bold, without their full stop."""
    items = re.findall(r"^- \*\*(.+?)\.\*\*", section(page, title), re.S | re.M)
    return [" ".join(item.split()) for item in items]


@pytest.mark.parametrize(
    ("title", "wanted"),
    [("Executed", (report.EXECUTED,)), ("Timed", report.MODELLED), ("Ignored in time", report.IGNORED)],
)
def test_the_lists_of_every_report_stand_in_the_page_that_explains_them(title: str, wanted: tuple[str, ...]) -> None:
    assert emphasised("docs/modelled.md", title) == list(wanted)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_folders_named_in_the_pages_exist(page: Path) -> None:
    named = re.findall(r"`((?:wafercc|passes|runtime|models|tests|docs|benchmarks)/[\w./-]*)`", page.read_text("utf-8"))
    missing = {n for n in named if not re.search("NAME|FAMILY", n) and not (ROOT / n).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_named_in_the_pages_exist(page: Path) -> None:
    from wafercc.cli.main import app

    known = {opt for command in app.commands.values() for param in command.params for opt in param.opts}
    known |= {opt for param in app.commands["targets"].commands["show"].params for opt in param.opts}  # type: ignore[attr-defined]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text("utf-8")))
    assert named <= known | OTHERS


def test_headings_that_links_point_into_exist() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([\w./]*)#([\w-]+)\)", page.read_text("utf-8")):
            there = (page.parent / target) if target else page
            headings = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.M)
            anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{page.name}: {target}#{anchor}"


def first_cells(page: str, title: str) -> set[str]:
    """The names in the first column of the table of a section."""
    rows = [line.split("|")[1] for line in section(page, title).splitlines() if line.startswith("|")]
    return {name for cell in rows for name in re.findall(r"`([\w.*/-]+)`", cell)}


def test_the_artifact_page_lists_the_members_and_keys_of_the_file(tmp_path: Path) -> None:
    artifact.save(replace(two_regions(), graph_text="graph two\n"), tmp_path / "two.wafer")
    with zipfile.ZipFile(tmp_path / "two.wafer") as file:
        members = file.namelist()
        manifest = json.loads(file.read("program.json"))
    assert first_cells("docs/artifact.md", "Manifest") == set(manifest)
    shown = first_cells("docs/artifact.md", "Container")
    assert {re.sub(r"(arrays|weights)/.*", r"\1/*.npy", name) for name in members} == shown
    arrays = {name[7:-4] for name in members if name.startswith("arrays/")}
    shown = first_cells("docs/artifact.md", "Arrays")
    assert arrays == {f"routers{name}" if name.startswith("-") else name for name in shown}


def test_the_export_page_lists_every_key_of_the_schema() -> None:
    parts, root = schema()["$defs"], schema()["properties"]
    steps = [step["properties"] for step in parts["block"]["properties"]["steps"]["items"]["oneOf"]]
    tables = {
        "The document": [root],
        "Regions": [parts["region"]["properties"]],
        "Tensors": [parts["tensor"]["properties"]],
        "Blocks": [parts["block"]["properties"], dict.fromkeys(step["kind"]["const"] for step in steps)],
        "Instances and weights": [parts["weight"]["properties"]],
        "Streams": [parts["stream"]["properties"], parts["stream"]["properties"]["lanes"]["items"]["properties"]],
        "Nets and hops": [root["hops"]["properties"]],
        "Router table": [root["routers"]["properties"]],
        "Schedule and memory": [dict.fromkeys(root["memory_columns"]["const"])],
    }
    for title, keys in tables.items():
        wanted = {key for part in keys for key in part} - {"labels"}
        assert first_cells("docs/export.md", title) == wanted, title


def test_the_export_page_names_every_key_below_its_tables() -> None:
    def names(node: object) -> set[str]:
        found = set(node.get("properties", ())) if isinstance(node, dict) else set()
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        return found.union(*map(names, children))

    prose = re.sub(r"```.*?```", "", text("docs/export.md"), flags=re.S)
    quoted = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", prose))))
    assert not names(schema()) - quoted


def test_the_design_page_numbers_the_rules_as_the_verifier_does() -> None:
    from wafercc import verify

    here = re.findall(r"^(\d)\. ", section("docs/design.md", "What always holds"), re.M)
    assert here == re.findall(r"^(\d)\. ", verify.__doc__ or "", re.M)


def test_every_pass_of_the_tree_stands_in_the_flow_of_the_design_page() -> None:
    flow = set(re.findall(r"`passes/(\w+)", section("docs/design.md", "The flow")))
    folders = {p.name for p in (ROOT / "passes").iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders <= flow


def test_the_readme_names_the_dependencies() -> None:
    wanted = tomllib.loads(text("pyproject.toml"))["project"]["dependencies"]
    (named,) = re.findall(r"The dependencies \(([^)]+)\)", text("README.md"))
    assert re.split(r",\s+", named) == [re.split("[<>=~]", name)[0] for name in wanted]


@pytest.mark.pipeline
def test_the_python_of_the_readme_runs_as_written(tmp_path: Path) -> None:
    (tmp_path / "demo-out").mkdir()
    small = TinyLlama(layers=1, hidden=32, intermediate=48, vocabulary=64)
    onnx.save(small.onnx(), str(tmp_path / "demo-out/model.onnx"))
    (block,) = re.findall(r"^```python\n(.*?)^```", text("README.md"), re.S | re.M)
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, env=environ())
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ \(1, 16, 64\)\n", done.stdout)


@pytest.mark.pipeline
def test_the_benchmarks_run() -> None:
    """Whatever they measure: no bar is held here, since this machine may be busy."""
    words = [sys.executable, "-m", "benchmarks.bench", "--quick"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environ())
    assert done.returncode == 0, done.stderr
    for title in ("Commands", "Sizes of regions", "Collectives", "Placement", "Bars"):
        assert re.search(rf"^{title}", done.stdout, re.M), title
    assert len(re.findall(r"(?:ok|MISS) *$", done.stdout, re.M)) >= 4
