"""Worker: a process with little memory and a processor clock, that answers one number a line.

In: the number of a case. Out: JSON with its answer. What hangs in foreign code the parent ends (`__main__.py`).
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import wafercc
from wafercc.errors import WaferError
from wafercc.importer import Binding, import_model

from . import MEMORY_BYTES, SECONDS
from .cases import Case, make_case

LONGEST_MESSAGE = 4000
COMPILED_OPS = 400


class Hang(BaseException):
    """The processor time of one file is used up."""


def answer(number: int, keep: Path | None = None) -> dict[str, Any]:
    """What becomes of one case: ``fault`` is empty if it is answered as it should be."""
    with tempfile.TemporaryDirectory() as name:
        started = time.process_time()
        case = make_case(number, Path(name))
        built = time.process_time()
        outcome, message, fault = _tried(case)
        if fault and keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(case.path, keep / f"{number}.onnx")
    return {
        "number": number,
        "made_of": case.made_of,
        "outcome": outcome,
        "message": message[:300],
        "fault": fault,
        "seconds": round(time.process_time() - built, 3),
        "build_seconds": round(built - started, 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def _tried(case: Case) -> tuple[str, str, str]:
    """Outcome, message, and what is wrong with the answer."""
    outcome = "refused"
    try:
        with _clock():
            imported = import_model(case.path, Binding(**case.options), allow_missing_weights=case.weightless)
            outcome = "imported"
            if case.compiled and len(imported.graph.ops) <= COMPILED_OPS:
                wafercc.compile(case.path, target="mesh:16x16", weightless=case.weightless, **case.options)
                outcome = "compiled"
    except WaferError as problem:
        message = str(problem)
        return f"{outcome}, {type(problem).__name__}", message, _bad(message)
    except Hang:
        return outcome, "", f"hang: more than {SECONDS} s\n{traceback.format_exc()[-1500:]}"
    except BaseException as problem:
        return outcome, "", f"{type(problem).__name__}: {problem!s:.200}\n{traceback.format_exc()[-2500:]}"
    return outcome, "", ""


def _bad(message: str) -> str:
    """What is wrong with the form of a message, if anything is."""
    if not message.strip():
        return "an empty message"
    return f"a message of {len(message)} characters: {message[:200]}" if len(message) > LONGEST_MESSAGE else ""


@contextmanager
def _clock() -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _limit_memory() -> None:
    """Hold this process to `MEMORY_BYTES` more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def main() -> None:
    keep = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    answer(0)  # imports what is imported late
    _limit_memory()
    for line in sys.stdin:
        print(json.dumps(answer(int(line), keep)), flush=True)


if __name__ == "__main__":
    main()
