"""Session: runs of a program that leave the caches where they are, so that nothing but tokens passes the host.

The tiles that one run has written are those that the next one reads, whichever entry it is of; the number of tokens in
the caches advances by what each run takes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from ..errors import RunError
from ..ir.program import PlacedProgram
from .caches import Caches, check_alike, taken_tokens
from .report import Result
from .tiles import Array


class Session:
    """Runs that keep their caches. It begins with empty ones; ``n_past`` is the number of tokens they hold.

    Raises:
        RunError: the program's caches have a fixed length, or two entries hold one differently.
    """

    def __init__(self, program: PlacedProgram) -> None:
        check_alike(program.entries)
        self._program = program
        self._caches: Caches | None = Caches()

    @property
    def n_past(self) -> int:
        """How many tokens the caches hold."""
        return self._open().n_past

    @property
    def context(self) -> int:
        """How many tokens the caches can hold."""
        return max(entry.past_max + taken_tokens(entry) for entry in self._program.entries.values())

    def room(self, entry: str) -> int:
        """How many times an entry can still run before the caches are full."""
        placed = self._entry(entry)
        tokens = taken_tokens(placed)
        return 1 + (placed.past_max - self.n_past) // tokens if tokens and self.n_past <= placed.past_max else 0

    def run(self, entry: str, inputs: Mapping[str, Array], *, timing_only: bool = False, trace: bool = False) -> Result:
        """Run an entry once. ``inputs`` are all of its inputs but the caches; the caches are no outputs either.

        Raises:
            RunError: no such entry; the tokens no longer fit the context; or an input is wrong. Then nothing has
            changed.
        """
        from .engine import execute

        placed, caches = self._entry(entry), self._open()
        tokens = taken_tokens(placed)
        if placed.states and caches.n_past > placed.past_max:
            raise RunError(
                f"the context is full: the caches hold {caches.n_past} tokens of {self.context}, and a run takes "
                f"{tokens} more",
                where=f"entry {entry}",
                hint="compile with a larger --context, or begin a new session",
            )
        after = Caches(caches.n_past, dict(caches.tiles))
        result = execute(placed, inputs, not timing_only, {}, {}, trace, after)
        caches.tiles, caches.n_past = after.tiles, caches.n_past + tokens
        return result

    def caches(self) -> dict[str, Array]:
        """What the caches hold, as one array each, by the name of the input that a stateless run takes it from."""
        return self._open().whole(self._program)

    def close(self) -> None:
        """Let go of the caches; the session cannot be used afterwards."""
        self._caches = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Caches:
        if self._caches is None:
            raise RunError("the session is closed", where=self._program.model, hint="begin a new one")
        return self._caches

    def _entry(self, name: str) -> PlacedProgram:
        return entry_of(self._program, name)


def entry_of(program: PlacedProgram, name: str) -> PlacedProgram:
    """An entry by name.

    Raises:
        RunError: there is none of that name.
    """
    if name not in program.entries:
        raise RunError(f"no entry {name!r}; the program has {', '.join(program.entries)}", where=program.model)
    return program.entries[name]
