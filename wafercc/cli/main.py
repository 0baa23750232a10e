"""The command ``wafercc``: its verbs, and what becomes of every error.

Exit 0: done. Exit 1: the input cannot be compiled or run, or someone pressed Ctrl-C; one line on stderr says so.
Exit 2: misuse of the command. A traceback is always a bug of ours, so none is shown unless WAFERCC_DEBUG is set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from .. import __version__
from ..errors import WaferError
from . import compile, export, passes, run, show, targets, verify, viz
from .talk import say


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wafercc")
def app() -> None:
    """Map LLM graphs (ONNX) onto a wafer-scale processor, around its defects, and execute the placed program."""


VERBS = (compile, passes, run, show, verify, viz, export, targets)
for verb in VERBS:
    app.add_command(verb.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; never raises for bad input."""
    try:
        code = app.main(None if arguments is None else list(arguments), prog_name="wafercc", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as misuse:
        misuse.show()
        return misuse.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return 1
    except WaferError as problem:
        return _fail(str(problem))
    except OSError as problem:
        return _fail(f"{problem.filename or 'file'}: {problem.strerror or problem}")
    except MemoryError:
        return _fail("this computer has too little memory for it")
    except Exception as problem:
        if os.environ.get("WAFERCC_DEBUG"):
            raise
        say(f"error: {_one_line(f'{type(problem).__name__}: {problem}')}")
        say("This is a bug in wafercc, not in your input. WAFERCC_DEBUG=1 shows the traceback; please report it.")
        return 1


def _fail(message: str) -> int:
    say(f"error: {_one_line(message)}")
    return 1


def _one_line(message: str) -> str:
    return " ".join(message.split())


if __name__ == "__main__":
    sys.exit(main())
