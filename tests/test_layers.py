"""Imports run one way: who may see whom, read from the source of every module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The root folders by the names they are installed under.
ROOT_FOLDERS = ("passes", "runtime", "models")

# Layer → the layers it may import besides itself. `errors`, `version` and `npz` are at the bottom; the face sees all.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "npz": {"errors"},
    "ir": {"errors"},
    "targets": {"errors", "ir"},
    "silicon": {"errors", "ir", "targets"},
    "importer": {"errors", "ir"},
    "passes": {"errors", "version", "npz", "ir", "targets", "silicon", "importer"},
    "runtime": {"errors", "ir", "targets"},
    "verify": {"errors", "ir"},
    "report": {"errors", "ir"},
    "export": {"errors", "ir"},
}
# The public face: `wafercc/__init__.py`, the Program that users hold, the command, and models, which use it all.
FACE = {"", "__main__", "program", "cli", "models", "conformance"}
# What one layer may not see of a layer that is otherwise open to it.
CLOSED = {"runtime": ("wafercc.targets.cost",)}
# The pipeline's first step is the importer; no other pass knows that ONNX exists.
ONLY = {"wafercc.importer": {"wafercc.passes.pipeline"}}


def layer(module: str) -> str:
    """``wafercc.ir.graph`` is of layer ``ir``; ``wafercc`` itself of layer "" (the face)."""
    return [*module.split("."), ""][1]


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] in ROOT_FOLDERS:
        parts.insert(0, "wafercc")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    """Every module of the package, by its installed name; the links inside wafercc/ are not followed."""
    folders = [ROOT / "wafercc", *(ROOT / name for name in ROOT_FOLDERS)]
    links = tuple(ROOT / "wafercc" / name for name in ROOT_FOLDERS)
    found = {p for folder in folders for p in folder.rglob("*.py") if not any(p.is_relative_to(link) for link in links)}
    return {module_name(path): path for path in sorted(found)}


def imports(source: str, module: str, is_package: bool) -> set[str]:
    """Every module (or name in a module) that a source imports, in absolute form, wherever in the file it does."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{name}.{alias.name}" for alias in node.names)
    return found


def violations(module: str, seen: set[str]) -> list[str]:
    """The arrows that one module breaks, a line each."""
    broken: list[str] = []
    here = layer(module)
    for target in sorted(seen):
        if target.split(".")[0] in (*ROOT_FOLDERS, "tests"):
            broken.append(f"{module} imports {target} by a name that is not installed")
        if target.split(".")[0] != "wafercc" or here in FACE:
            continue
        there = layer(target)
        if there != here and there not in MAY_IMPORT.get(here, set()):
            broken.append(f"{module} imports {target}: {here} may not see {there or 'the face'}")
        if any(within(target, closed) for closed in CLOSED.get(here, ())):
            broken.append(f"{module} imports {target}, which is closed to {here}")
        for guarded, allowed in ONLY.items():
            if within(target, guarded) and not within(module, guarded) and module not in allowed:
                broken.append(f"{module} imports {target}, which only {', '.join(sorted(allowed))} may")
    return broken


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_imports_run_one_way() -> None:
    found = modules()
    assert "wafercc.passes.options" in found and "wafercc.ir.graph" in found
    broken = []
    for module, path in found.items():
        seen = imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
        broken += violations(module, seen)
    assert not broken, "\n".join(broken)


def test_every_folder_of_the_package_has_a_layer() -> None:
    known = {*MAY_IMPORT, *FACE}
    assert {layer(module) for module in modules()} <= known


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("wafercc.ir.graph", "from ..targets import Target"),
        ("wafercc.ir.graph", "def f():\n    import wafercc.passes.place"),
        ("wafercc.errors", "from .ir.graph import Op"),
        ("wafercc.targets.machine", "from ..silicon import DefectMap"),
        ("wafercc.passes.place", "from wafercc.runtime import engine"),
        ("wafercc.passes.place", "from ..verify import rules"),
        ("wafercc.passes.place", "from ..importer import import_model"),
        ("wafercc.passes.place", "from wafercc import Program"),
        ("wafercc.runtime.engine", "from ..passes import place"),
        ("wafercc.runtime.engine", "from ..targets import cost"),
        ("wafercc.runtime.engine", "import wafercc.targets.cost"),
        ("wafercc.runtime.engine", "from ..targets.cost import gemv"),
        ("wafercc.verify.rules", "from ..targets import load"),
        ("wafercc.verify.rules", "from ..runtime.engine import run"),
        ("wafercc.report.tables", "from ..passes.options import Options"),
        ("wafercc.export.hops", "from ..verify.fabric import trace"),
        ("wafercc.export.hops", "from ..passes.route.lines import lines_of"),
        ("wafercc.passes.place", "import runtime.engine"),
        ("wafercc.cli.main", "from tests.conftest import golden"),
        ("wafercc.importer.lower", "from ..passes import fold"),
    ],
)
def test_a_forbidden_import_is_caught(module: str, source: str) -> None:
    assert violations(module, imports(source, module, is_package=False))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("wafercc.passes.place", "from ..targets import cost\nfrom .base import Pass\nimport ortools"),
        ("wafercc.passes.pipeline", "from wafercc.importer import import_model"),
        ("wafercc.runtime.engine", "from ..targets import Target\nfrom . import kernels"),
        ("wafercc.cli.run", "import wafercc\nfrom ..npz import read_npz\nfrom ..report import tables"),
        ("wafercc.silicon.defects", "from ..targets.machine import Target\nfrom ..errors import TargetError"),
    ],
)
def test_an_allowed_import_is_not(module: str, source: str) -> None:
    assert violations(module, imports(source, module, is_package=False)) == []
