"""``python -m wafercc.conformance``: run the node tests and write docs/conformance.md and docs/conformance.csv."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import onnx

from .page import BAR, from_csv, page, to_csv
from .suite import FAILED, PASSED, cases, run


@click.command(help=__doc__)
@click.option("--docs", type=click.Path(path_type=Path), default=Path("docs"), help="The folder to write to.")
@click.option("--check", is_flag=True, help="Write nothing; fail if a run differs from what stands there.")
@click.option("--jobs", type=int, default=2, help="Processes to run tests in.")
@click.option("--only", metavar="WORD", help="Print what becomes of the tests with this word in their names.")
def main(docs: Path, check: bool, jobs: int, only: str | None) -> None:
    names = [name for name in cases() if only is None or only in name]
    with ProcessPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(run, names, chunksize=16))
    if only is not None:
        for one in outcomes:
            click.echo(f"{one.status:12} {one.name} ({one.tiles} tiles of {one.elements}) {one.reason}")
        return
    texts = {"conformance.csv": to_csv(outcomes), "conformance.md": page(outcomes, onnx.__version__)}
    passed, failed = (sum(one.status == status for one in outcomes) for status in (PASSED, FAILED))
    click.echo(f"{passed} of {passed + failed} tests in scope pass", err=True)
    if check:
        known = from_csv((docs / "conformance.csv").read_text(encoding="utf-8"))
        changed = [one.name for one in outcomes if known.get(one.name) != one]
        if changed or any((docs / name).read_text(encoding="utf-8") != text for name, text in texts.items()):
            raise click.ClickException(f"{len(changed)} outcomes differ from {docs}: {', '.join(changed[:20])}")
    else:
        for name, text in texts.items():
            (docs / name).write_text(text, encoding="utf-8")
    if passed < BAR * (passed + failed):
        raise click.ClickException(f"fewer than {BAR:.0%} of the tests in scope pass")


if __name__ == "__main__":
    main()
