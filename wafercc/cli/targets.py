"""``wafercc targets``: the machines wafercc knows, and where each of their numbers comes from."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.table import Table

from .talk import result, result_json, tables


@click.group("targets", short_help="List the machines wafercc knows.", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the machines as JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the machines wafercc knows, or show one with the sources of its numbers."""
    if ctx.invoked_subcommand:
        return
    from wafercc import targets

    keys = ("width", "height", "view", "pe.sram_bytes", "clock_ghz")
    rows = {}
    for name in targets.names():
        page = {} if "WxH" in name else {fact.key: fact.value for fact in targets.facts(name)}
        rows[name] = {key: page.get(key) for key in keys}
    if as_json:
        result_json({"targets": rows})
        return
    table = Table("target", "width", "height", "view", "SRAM bytes per PE", "clock GHz", box=None)
    for name, row in rows.items():
        if row["width"] is None:
            table.add_row(name, "W", "H", "any grid of wse3's PEs")
        else:
            table.add_row(name, *(str(value) for value in row.values()))
    tables().print(table)


@command.command("show")
@click.argument("name")
@click.option("--toml", "as_toml", is_flag=True, help="Print an editable page, to be given back as --target FILE.toml.")
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
def show(name: str, as_toml: bool, as_json: bool) -> None:
    """Show every number of the machine NAME, how sure it is, and its source."""
    from wafercc import targets

    if as_toml:
        result(targets.page_text(name).rstrip("\n"))
        return
    facts = targets.facts(name)
    if as_json:
        result_json({"target": name, "facts": [asdict(fact) for fact in facts]})
        return
    table = Table("number", "value", "range", "mark", "source", box=None)
    for fact in facts:
        disputed = "" if fact.low is None else f"{fact.low:g} .. {fact.high:g}"
        table.add_row(fact.key, str(fact.value), disputed, fact.mark, fact.source)
    tables().print(table)
