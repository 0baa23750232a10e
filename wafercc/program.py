"""Program: a placed program with what one can do with it. Immutable; everything heavy is imported when it is first
needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import VerifyError
from .ir.program import PlacedProgram

if TYPE_CHECKING:
    import numpy as np

    from .runtime import Result, Session


class Program:
    """A model placed on a wafer: verify it, run it, save it.

    ``placed`` is the plain data underneath, for reports and tools.
    """

    def __init__(self, placed: PlacedProgram) -> None:
        self.placed = placed

    @staticmethod
    def load(path: str | PathLike[str]) -> Program:
        """Read a ``.wafer`` file.

        Raises:
            ArtifactError: the file is missing, damaged, altered, or of a schema that this version cannot read.
        """
        from .ir.artifact import load

        return Program(load(Path(path)))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the program as one file, atomically: the whole file or none."""
        from .ir.artifact import save

        save(self.placed, Path(path))

    def verify(self) -> None:
        """Re-derive every invariant from the program alone.

        Raises:
            VerifyError: with every violation, a line each.
        """
        from .verify import verify

        violations = verify(self.placed)
        if violations:
            raise VerifyError([str(v) for v in violations], where=self.placed.model)

    def check(self) -> str:
        """Verify, and say in one line what was checked: ``ok: ...``."""
        from .verify import passed

        self.verify()
        return passed(self.placed)

    def export(self, folder: str | PathLike[str], *, weights: bool = False) -> dict[str, int]:
        """Write the program for other tools: ``program.json`` and ``arrays.npz`` in a folder; docs/export.md has the
        form. ``weights``: with the tiles of the weights. A former export there is replaced. Returns bytes by file name.

        A program that breaks an invariant is written as well, as long as all its names refer to something.

        Raises:
            VerifyError: a name refers to nothing, or target and defect map cannot be read.
            WaferError: the folder holds something else than an export.
            OSError: the file system refuses.
        """
        from .export import export
        from .verify import dangling

        broken = dangling(self.placed)
        if broken:
            raise VerifyError([str(v) for v in broken], where=self.placed.model)
        return export(self.placed, folder, weights=weights)

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of the program's entries, the one first that the others follow."""
        return tuple(self.placed.entries)

    def entry(self, name: str) -> Program:
        """One entry as a program of its own, for whatever looks at one.

        Raises:
            RunError: there is none of that name.
        """
        from .runtime.session import entry_of

        placed = entry_of(self.placed, name)
        return self if not self.placed.others else Program(replace(placed, others=()))

    def run(
        self,
        inputs: Mapping[str, np.ndarray],
        *,
        entry: str | None = None,
        timing_only: bool = False,
        **observation: Any,
    ) -> Result:
        """Execute the placed program: every tile on its PE, every reduction in the order of the fabric.

        Stateless: ``past_*`` inputs are loaded before, ``present_*`` outputs read back after, the timed part.
        ``entry``: which one; it need not be said where only one takes inputs of these shapes. ``observation`` takes
        ``delays``, ``constants`` and ``trace`` of `wafercc.runtime.run`.

        Raises:
            RunError: no such entry, or an input is missing, unknown, of the wrong shape or dtype, or out of range.
        """
        from .runtime import run
        from .runtime.checks import fitting_entry
        from .runtime.session import entry_of

        placed = fitting_entry(self.placed, inputs) if entry is None else entry_of(self.placed, entry)
        return run(placed, inputs, timing_only=timing_only, **observation)

    def session(self) -> Session:
        """Runs that keep the caches where they are: ``with program.session() as s: s.run("decode", {...})``.

        Raises:
            RunError: the caches have a fixed length.
        """
        from .runtime import Session

        return Session(self.placed)

    def constraints(self) -> str:
        """The decisions of this program as a TOML page: compiled with it, the same model gives the same program."""
        from .passes.constraints import constraints_text

        return constraints_text(self.placed)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the compiler assumed, each with the flag that changes it."""
        return self.placed.assumptions

    def __repr__(self) -> str:
        p = self.placed
        return f"<Program {p.model} on {p.target['name']}: {len(p.regions)} regions, {len(p.blocks)} blocks>"
