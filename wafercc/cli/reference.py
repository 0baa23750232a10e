"""docs/cli.md, written from the commands themselves: ``python -m wafercc.cli.reference``."""

from __future__ import annotations

from collections.abc import Iterator

import click

HEAD = """\
# The command line

Written from the code; `pytest --update-golden` writes it again. The result goes to stdout, everything else to stderr.
Exit 0: done. Exit 1: the input cannot be compiled or run, and one line on stderr says why. Exit 2: the command was
misused.
"""


def markdown() -> str:
    """The reference of every verb."""
    from .main import app

    return "\n".join([HEAD, *(line for name in sorted(app.commands) for line in _pages(app.commands[name], name))])


def _pages(command: click.Command, name: str) -> Iterator[str]:
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option)]
    yield f"## wafercc {' '.join([name, *((p.name or '').upper() for p in arguments)])}\n"
    yield f"{_plain(command.help or '')}\n"
    if options:
        yield "| Option | Meaning |\n|---|---|"
        yield from (f"| `{_usage(p)}` | {_plain(p.help or '')} |" for p in options)
        yield ""
    if isinstance(command, click.Group):
        for verb in sorted(command.commands):
            yield from _pages(command.commands[verb], f"{name} {verb}")


def _usage(option: click.Option) -> str:
    if option.is_flag:
        value = ""
    elif isinstance(option.type, click.Choice):
        value = " " + " or ".join(option.type.choices)
    else:
        value = f" {option.metavar or 'TEXT'}"
    return ", ".join(option.opts) + value


def _plain(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
