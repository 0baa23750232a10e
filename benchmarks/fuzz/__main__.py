"""``python -m benchmarks.fuzz [--files N] [--first NUMBER] [--keep FOLDER] [--json FILE]``; exit 1 on any finding.

The numbers are given to one worker, one after the other; a worker that does not answer is ended and counts as a hang,
one that dies counts as a crash, and a new one goes on with the next number.
"""

from __future__ import annotations

import argparse
import json
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import MEMORY_BYTES, SECONDS

PATIENCE_SECONDS = 12 * SECONDS  # on the wall: a loaded machine is no hang
FRESH = 2_000  # files after which a worker is replaced, so that what one remembers stays small


class Worker:
    """The process that tries the files."""

    def __init__(self, keep: Path | None) -> None:
        words = [sys.executable, "-W", "ignore", "-m", "benchmarks.fuzz.worker", *([str(keep)] if keep else [])]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.tried = 0

    def answer(self, number: int) -> dict[str, Any]:
        """What the worker says of a file, or what became of the worker."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        self.tried += 1
        if not select.select([self.process.stdout], [], [], PATIENCE_SECONDS)[0]:
            return self.lost(number, f"hang: no answer within {PATIENCE_SECONDS} s")
        line = self.process.stdout.readline()
        if not line:
            return self.lost(number, "crash")
        found: dict[str, Any] = json.loads(line)
        if found["peak_mib"] > MEMORY_BYTES >> 20:
            found["fault"] = found["fault"] or f"memory: {found['peak_mib']} MiB"
            self.end()
        return found

    def lost(self, number: int, fault: str) -> dict[str, Any]:
        code, talk = self.end()
        fault = f"{fault}: exit {code}: {talk[-500:]}" if fault == "crash" else fault
        return {
            "number": number, "made_of": "?", "outcome": "lost", "message": "", "fault": fault, "seconds": SECONDS,
            "peak_mib": 0,
        }  # fmt: skip

    def end(self) -> tuple[int, str]:
        """End the process; its exit code and last words."""
        code = self.process.poll()
        self.process.kill()
        _, talk = self.process.communicate()
        self.tried = FRESH
        return (code if code is not None else self.process.returncode), talk


def answers(numbers: Sequence[int], keep: Path | None) -> Iterator[dict[str, Any]]:
    """The answer of every number, in order."""
    worker = Worker(keep)
    try:
        for number in numbers:
            if worker.tried >= FRESH:
                worker.end()
                worker = Worker(keep)
            yield worker.answer(number)
    finally:
        worker.end()


def main(words: Sequence[str] | None = None) -> int:
    """Run the fuzzer and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").split("\n")[2])
    parser.add_argument("--files", type=int, default=20_000, help="how many files [default: 20000]")
    parser.add_argument("--first", type=int, default=1, help="the number of the first [default: 1]")
    parser.add_argument("--keep", type=Path, help="a folder for the files that are not answered as they should be")
    parser.add_argument("--json", type=Path, help="write every answer as a line of JSON")
    given = parser.parse_args(words)
    outcomes: Counter[str] = Counter()
    faults: list[dict[str, Any]] = []
    slowest, peak_mib, start = 0.0, 0, time.time()
    log = given.json.open("w") if given.json else None
    for found in answers(range(given.first, given.first + given.files), given.keep):
        outcomes[f"{found['made_of'].split()[0]}: {found['outcome']}"] += 1
        slowest, peak_mib = max(slowest, found["seconds"]), max(peak_mib, found["peak_mib"])
        if log is not None:
            print(json.dumps(found), file=log, flush=True)
        if found["fault"]:
            faults.append(found)
            print(f"{found['number']} ({found['made_of']}): {found['fault']}", flush=True)
    if log is not None:
        log.close()
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:>7,}  {outcome}")
    print(f"{sum(outcomes.values()):,} files in {time.time() - start:.0f} s; slowest {slowest:.1f} s of processor time")
    print(f"peak {peak_mib} MiB; {len(faults)} files not answered as they should be")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
