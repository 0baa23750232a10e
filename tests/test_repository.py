"""The repository itself: what is committed is clean, packaged completely, and says what the code does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from wafercc.cli.reference import markdown

ROOT = Path(__file__).parent.parent
ROOT_FOLDERS = ("passes", "runtime", "models")
LONGEST_FILE_LINES = 400
# A path that only one computer has: a root folder of people's files, at the start of a word.
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work|tmp|opt|mnt|scratch)/[A-Za-z0-9_.]")


def tracked() -> list[Path]:
    """Every file under version control; without git (an unpacked release), every file that is not hidden or built."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        skip = {".venv", "build", "dist", "demo-out"}
        found = [p for top in ROOT.iterdir() if top.name not in skip for p in (top, *top.rglob("*"))]
    return [p for p in found if p.is_file() and not p.is_symlink() and p.suffix != ".pyc"]


def text_of(path: Path) -> str:
    """The text of a file, empty for a binary one."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return ""


def project() -> dict[str, dict[str, dict[str, object]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_no_path_of_one_computer_is_committed() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", ["home", "root", "tmp"])
def test_a_path_of_one_computer_is_recognised(folder: str) -> None:
    assert MACHINE_PATH.search(f'open("/{folder}/someone/model.onnx")')
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/page and a/{folder}/b")


def test_no_file_of_the_package_is_longer_than_one_sitting() -> None:
    folders = ("wafercc", *ROOT_FOLDERS)
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders
        if (count := len(text_of(path).splitlines())) > LONGEST_FILE_LINES
    }
    assert not long, long


def test_every_folder_with_python_is_packaged_under_its_installed_name() -> None:
    setuptools = project()["tool"]["setuptools"]
    listed = setuptools["packages"]
    assert isinstance(listed, list)
    links = [ROOT / "wafercc" / name for name in ROOT_FOLDERS]
    found = {
        path.parent.relative_to(ROOT)
        for folder in ("wafercc", *ROOT_FOLDERS)
        for path in (ROOT / folder).rglob("*.py")
        if not any(path.is_relative_to(link) for link in links)
    }
    named = {".".join(folder.parts) for folder in found}
    installed = {f"wafercc.{name}" if name.split(".")[0] in ROOT_FOLDERS else name for name in named}
    assert set(listed) == installed
    assert setuptools["package-dir"] == {f"wafercc.{name}": name for name in ROOT_FOLDERS}


def test_the_links_for_editors_lead_to_the_root_folders() -> None:
    for name in ROOT_FOLDERS:
        assert (ROOT / "wafercc" / name).resolve() == ROOT.resolve() / name


def test_versions_agree() -> None:
    import wafercc

    assert f"version: {wafercc.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_command_reference_is_what_the_code_says(same_text: Callable[[Path, str], None]) -> None:
    same_text(ROOT / "docs" / "cli.md", markdown())


def test_the_op_table_page_is_the_table_of_the_code(same_text: Callable[[Path, str], None]) -> None:
    from wafercc.ir import ops
    from wafercc.ir.optable import table

    described = ops.__doc__ or ""
    assert set(table()) <= set(re.findall(r"\w+", described)), "a kind is missing from the docstring of wafercc.ir.ops"
    head = "# Op table\n\nEvery op kind of the graph; from the docstring of `wafercc/ir/ops/__init__.py`."
    same_text(ROOT / "docs" / "ops.md", f"{head}\n\n```text\n{described.strip()}\n```")


def pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_inside_the_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if not t.startswith(("http:", "https:")) and not (page.parent / t).exists()]
    assert not missing


def blocks(language: str) -> list[str]:
    """The fenced blocks of README.md in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)


def commands() -> list[list[str]]:
    """The ``wafercc`` commands of the README, as words, comments left out."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("wafercc ")]
    return [shlex.split(line, comments=True) for line in lines]


def test_the_readme_names_only_options_that_exist() -> None:
    from wafercc.cli.main import app

    shown = commands()
    assert shown
    for _, verb, *words in shown:
        assert verb in app.commands, verb
        known = {opt for param in app.commands[verb].params for opt in param.opts}
        assert {word for word in words if word.startswith("-")} <= known


def test_the_readme_names_only_make_targets_that_exist() -> None:
    named = set(re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.M))
    defined = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert {"demo", "test"} <= named <= defined


@pytest.mark.pipeline
def test_the_tour_of_the_readme_runs_as_written(tmp_path: Path) -> None:
    """Run the tour's commands in order, where the demo has left its model and inputs."""
    python = [sys.executable, "-m"]
    subprocess.run([*python, "wafercc.models.demo"], cwd=tmp_path, check=True, capture_output=True)
    for command in commands():
        done = subprocess.run([*python, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
