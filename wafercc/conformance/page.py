"""Page: docs/conformance.md, written from the record of a run, docs/conformance.csv."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .spread import LEAST_ELEMENTS
from .suite import FAILED, OUT, PASSED, Outcome

FIELDS = ("name", "op", "status", "tiles", "elements", "bound", "reason")
BAR = 0.9

HEAD = """# Conformance

The node tests of `onnx.backend.test` (onnx {version}), each compiled onto a mesh of 2 x 3 PEs and executed there, tile
by tile: written by `make conformance` (`python -m wafercc.conformance`). Each test stands in
[conformance.csv](conformance.csv) with what became of it; `tests/test_conformance.py` runs some of them on every
occasion, and holds this page to that record.

**{passed} of {scope} tests in scope pass, {share:.1f} %.** {out} of {total} are out of scope.

- A test passes if all results are within the suite's own tolerances, of the right shapes and element types, and each
  result of {least} elements or more lies in parts on at least two PEs, as the column *PEs* counts: the fewest PEs with
  different tiles in any test of the op.
- No result is computed off the fabric: the model is compiled for the shapes of its inputs, and the program is run on
  them. A program has fixed shapes, so inputs from which shapes follow (a Reshape's shape, a Slice's bounds, a Range's
  limits, a Loop's trip count; all in `wafercc/conformance/shapelike.py`) are bound when it is compiled. They are
  integers (a Range's and a OneHot's may be floats) of at most one dimension; {bound} tests have some. Inputs that carry
  data are never bound. Where all inputs of a test are bound, as of a Range, what PEs make or hold is known beforehand.
- Tests whose names hold *expanded*, in which an op is replaced by its definition as a function, count with the op.
- Out of scope are training, vision (convolutions, pooling, sampling and the like), strings, sequences (with optionals
  and maps) and random numbers, as `wafercc/conformance/scope.py` says.
"""


def page(outcomes: Sequence[Outcome], version: str) -> str:
    """The page of a run."""
    count = Counter(one.status for one in outcomes)
    scope = count[PASSED] + count[FAILED]
    head = HEAD.format(
        version=version,
        passed=count[PASSED],
        scope=scope,
        share=100 * count[PASSED] / max(scope, 1),
        out=count[OUT],
        total=len(outcomes),
        bound=sum(bool(one.bound) for one in outcomes),
        least=LEAST_ELEMENTS,
    )
    return "\n".join([head, *_ops(outcomes), "", *_failures(outcomes), "", *_left_out(outcomes), ""])


def _ops(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "## By op\n\n| Op | Passed | Failed | Out of scope | PEs |\n|---|---|---|---|---|"
    by_op: dict[str, list[Outcome]] = {}
    for one in outcomes:
        by_op.setdefault(one.op, []).append(one)
    for op, found in sorted(by_op.items(), key=lambda item: item[0].lower()):
        count = Counter(one.status for one in found)
        spread = [one.tiles for one in found if one.status == PASSED and one.elements >= LEAST_ELEMENTS]
        cells = [str(count[status] or "") for status in (PASSED, FAILED, OUT)]
        yield f"| {op} | {' | '.join(cells)} | {min(spread) if spread else ''} |"


def _failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "## Why tests fail\n\n| Tests | Reason | Such as |\n|---|---|---|"
    yield from _reasons([one for one in outcomes if one.status == FAILED])


def _left_out(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "## What is out of scope\n\n| Tests | For | Ops |\n|---|---|---|"
    out = [one for one in outcomes if one.status == OUT]
    for reason, number in sorted(Counter(one.reason for one in out).items()):
        ops = sorted({one.op for one in out if one.reason == reason}, key=str.lower)
        yield f"| {number} | {reason} | {', '.join(ops)} |"


def _reasons(failed: Sequence[Outcome]) -> Iterator[str]:
    groups: dict[str, list[Outcome]] = {}
    for one in failed:
        groups.setdefault(_kind(one), []).append(one)
    for reason, found in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"| {len(found)} | {reason} | {found[0].name} |"


def _kind(one: Outcome) -> str:
    """A reason without the names that differ from test to test, short enough for a table."""
    reason = re.sub(r"^[\w.]+: |^(node|input|output|op) \S+( \(.*?\))?: ", "", one.reason.replace(one.name, "the test"))
    reason = re.sub(r"; supported here: .*", "", reason)
    short = reason if len(reason) <= 100 else reason[:100].rsplit(" ", 1)[0] + " ..."
    return f"{one.op}: {short}".replace("|", "\\|").replace("<", "&lt;")


def to_csv(outcomes: Sequence[Outcome]) -> str:
    """The record of a run: a line for each test."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for one in outcomes:
        writer.writerow([" ".join(v) if isinstance(v, tuple) else v for v in (getattr(one, f) for f in FIELDS)])
    return text.getvalue()


def from_csv(text: str) -> Mapping[str, Outcome]:
    """The inverse of `to_csv`: outcomes by the test's name."""
    found = {}
    for row in csv.DictReader(io.StringIO(text)):
        found[row["name"]] = Outcome(
            row["name"],
            row["op"],
            row["status"],
            row["reason"],
            tuple(row["bound"].split()),
            int(row["elements"]),
            int(row["tiles"]),
        )
    return found
