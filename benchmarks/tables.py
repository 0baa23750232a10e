"""Tables: how measurements are printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from .bars import Bar

PIPED_WIDTH = 120
BAR_HEAD = ("what", ">measured", ">bar", "")


def console() -> Console:
    """Where tables go: plain text, as wide as the terminal."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, emoji=False, markup=False)


def show(out: Console, title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a column whose name begins with > is aligned right."""
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    for name in head:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    out.print()
    out.print(table)


def show_bars(out: Console, bars: Iterable[Bar]) -> None:
    show(out, "Bars", BAR_HEAD, (bar.row() for bar in bars))
