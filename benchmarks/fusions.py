"""Fusions: does every graph compute the same with all rewrites left out, and how many ops do they save?

``python -m benchmarks.fusions FOLDER [--filter NAME]``. Every recorded case of every graph is compiled with no rewrite
(``--no-pass`` for each), verified, run and compared with the recorded outputs; the table says how many ops the graph
has then and how many with all rewrites. The last line counts: ``FUSIONS ok/total``; exit 0 only if all are.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import wafercc
from wafercc.importer import import_model
from wafercc.importer.model import Binding
from wafercc.passes.base import run_rewrites
from wafercc.passes.rewrite import NAMES, all_rewrites

from . import recorded
from .recorded import Arrays, Row


def main(words: Sequence[str] | None = None) -> int:
    """Run all graphs, or one in this process; returns the exit code."""
    args = recorded.parser("benchmarks.fusions", __doc__).parse_args(words)
    if args.one:
        return recorded.emit(rows(args.folder, args.target))
    good = total = 0
    for path, found in recorded.each("benchmarks.fusions", args):
        for row in found:
            mark, error = ("ok  " if row["ok"] else "FAIL"), row.get("error")
            shown = "-" if error is None else f"{error:.1e}"
            ops = f"ops {row.get('unfused', '-')!s:>5} -> {row.get('fused', '-')!s:>4}"
            took = f"{row.get('seconds', 0):6.1f} s"
            print(f"{mark} {path.stem:34} {row['case']:17} {ops} err {shown:8} {took} {row.get('why', '')}", flush=True)
        good, total = good + sum(row["ok"] for row in found), total + len(found)
    print(f"FUSIONS {good}/{total}")
    return 0 if good == total and total else 1


def rows(graph: Path, target: str) -> Iterator[Row]:
    """One graph: a row for every recorded case."""
    for case, (inputs, want) in recorded.cases(graph).items():
        yield recorded.attempt({"case": case}, partial(row, graph, inputs, want, target))


def row(graph: Path, inputs: Arrays, want: Arrays, target: str) -> Row:
    """Compile and run one case without rewrites: its error, its ops without and with them, seconds of processor."""
    imported = import_model(graph, Binding(inputs_like=inputs))
    fused = len(run_rewrites(imported.graph, imported.weights, all_rewrites()).graph.ops)
    found: Row = {"unfused": len(imported.graph.ops), "fused": fused}
    return recorded.attempt(found, partial(_without, graph, inputs, want, target, fused < found["unfused"]))


def _without(graph: Path, inputs: Arrays, want: Arrays, target: str, fewer: bool) -> Row:
    start = time.process_time()
    program = wafercc.compile(graph, target=target, inputs_like=inputs, disabled_passes=tuple(sorted(NAMES)))
    seconds = round(time.process_time() - start, 2)
    program.verify()
    error = recorded.relative_error(inputs, program.run(dict(inputs)).outputs, want)
    why = "" if fewer else "the rewrites save no op"
    return {"error": error, "ok": fewer and error <= recorded.tolerance(graph), "seconds": seconds, "why": why}


if __name__ == "__main__":
    sys.exit(main())
