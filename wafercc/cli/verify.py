"""``wafercc verify``: check a placed program from the artifact alone."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import VerifyError
from .talk import result, result_json, say, working


@click.command("verify", short_help="Check every invariant of a placed program.")
@click.argument("program", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def command(program: Path, as_json: bool) -> None:
    """Check every invariant of PROGRAM (a .wafer file): print all violations, or "ok" with what was checked."""
    import wafercc
    from wafercc.ir.artifact import check_weights

    violations: tuple[str, ...] = ()
    verdict = ""
    with working(f"verifying {program.name}"):
        try:
            loaded = wafercc.load(program)
            check_weights(program)
            verdict = loaded.check()
        except VerifyError as problem:
            violations = problem.violations
    if as_json:
        result_json({"ok": not violations, "summary": verdict, "violations": list(violations)})
    else:
        for line in violations or (verdict,):
            result(line)
    if violations:
        say(f"error: {program}: {len(violations)} violation{'s' if len(violations) != 1 else ''}")
        raise click.exceptions.Exit(1)
