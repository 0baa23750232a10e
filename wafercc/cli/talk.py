"""What the command says and where: the result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Timer
from typing import Any

import click
from rich.console import Console

PIPED_WIDTH = 200  # columns of a table that no terminal limits
PATIENCE_SECONDS = 1.0


def result(text: str) -> None:
    """Print a line of the result."""
    click.echo(text)


def result_json(value: Mapping[str, Any]) -> None:
    """Print the result for a machine: one JSON object, keys in their given order, with the version of its form."""
    click.echo(json.dumps({"schema": 1, **value}, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Print a line about what is going on."""
    click.echo(text, err=True)


def tables() -> Console:
    """A console on stdout for tables; plain text of fixed width where stdout is not a terminal."""
    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if terminal else PIPED_WIDTH, highlight=False, emoji=False, markup=False)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show a spinner on stderr while the block runs, if it takes more than a second and someone is watching."""
    if not sys.stderr.isatty():
        yield
        return
    status = Console(stderr=True, highlight=False, emoji=False, markup=False).status(what)
    timer = Timer(PATIENCE_SECONDS, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
