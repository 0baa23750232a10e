"""``wafercc passes``: what a compile goes through, in order, and where each pass comes from."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click
from rich.table import Table

from .talk import result_json, tables

# The stages after the rewrites, and the module that says what each does.
STAGES = ("partition", "size", "place", "embed", "layout", "route", "schedule", "lower", "assemble")


@click.command("passes", short_help="List the passes of a compile in order.")
@click.option("--json", "as_json", is_flag=True, help="Print the passes as JSON.")
def command(as_json: bool) -> None:
    """List rewrites and stages in the order in which they run, what each does, and where it comes from.

    Rewrites may be left out with `wafercc compile --no-pass NAME`. Other packages add theirs by the entry point group
    wafercc.passes.
    """
    rows = [_stage("importer", "wafercc.importer"), *_rewrites()]
    rows += [_stage(name, f"wafercc.passes.{name}") for name in STAGES]
    if as_json:
        result_json({"passes": rows})
        return
    table = Table("pass", "kind", "from", "what it does", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["name"], row["kind"], row["from"], row["does"])
    tables().print(table)


def _rewrites() -> list[dict[str, Any]]:
    """The rewrites; a plugin that is broken is listed with what is wrong with it."""
    from ..errors import CompileError
    from ..passes.rewrite import STANDARD
    from ..passes.rewrite.plugins import Guarded, find_plugins, with_plugins

    plugins, broken = find_plugins(), {}
    for plugin in plugins:
        try:
            with_plugins(STANDARD, [plugin], frozenset())
        except CompileError as problem:
            broken[plugin.name] = problem.message
    rows = []
    for rewrite in with_plugins(STANDARD, plugins, frozenset(broken)):
        if isinstance(rewrite, Guarded):
            origin = f"{rewrite.plugin.distribution} {rewrite.plugin.version}"
            own = rewrite.rewrite if hasattr(rewrite.rewrite, "__name__") else type(rewrite.rewrite)
            does = _first_sentence(own.__doc__)
        else:
            origin, does = "wafercc", _first_sentence(sys.modules[type(rewrite).__module__].__doc__)
        rows.append({"name": rewrite.name, "kind": "rewrite", "from": origin, "does": does})
    for plugin in plugins:
        if plugin.name in broken:
            origin = f"{plugin.distribution} {plugin.version}"
            does = f"broken: {broken[plugin.name]}"
            rows.append({"name": plugin.name, "kind": "rewrite", "from": origin, "does": does})
    return rows


def _stage(name: str, module: str) -> dict[str, Any]:
    does = _first_sentence(import_module(module).__doc__)
    return {"name": name, "kind": "stage", "from": "wafercc", "does": does}


def _first_sentence(text: str | None) -> str:
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".:") + "." if paragraph else ""
