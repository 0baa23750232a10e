"""Entries: what the entries of a program are to be, and their graphs.

Where options name none, a model with a cache that takes any number of tokens after any past has two: `decode`, which
takes in one token, and `prefill`, which takes in a chunk of a prompt. Any other model has one, `main`.

Reads the model's file, once, and the options; writes a graph for each entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from wafercc.errors import CompileError, ImportFailed
from wafercc.importer import Assumption, Binding, Imported

from .options import MAIN, Options

CHUNK_TOKENS = 64  # of a prefill entry that nobody asked for, and at most a quarter of the context

Importer = Callable[[Binding], Imported]


@dataclass(frozen=True)
class Entry:
    """An entry and its graph; ``tokens``: how many a run takes in, 0 where only the shapes of inputs say so."""

    name: str
    tokens: int
    imported: Imported


def import_entries(model: Importer, options: Options, binding: Binding) -> tuple[Entry, ...]:
    """The entries asked for, the one first that takes in fewest tokens; if none is asked for, `decode` and `prefill` of
    a model that takes any number of tokens after any past, else `main`.

    Raises:
        ImportFailed: the model cannot be read with that many tokens.
    """

    def read(binding: Binding) -> Imported:
        imported = model(binding)
        return imported.without_numbers() if options.weightless else imported

    if options.entries:
        wanted = sorted(options.entries.items(), key=lambda item: item[1]["new"])
        return tuple(
            Entry(
                name,
                said["new"],
                read(replace(binding, new_tokens=said["new"], batch=said.get("batch", binding.batch))),
            )
            for name, said in wanted
        )
    first = read(binding)
    chunk = default_chunk(first)
    if not chunk:
        return (Entry(MAIN, 0, first),)
    context = first.graph.past_max + 1
    kept = tuple(a for a in first.assumptions if not a.text.startswith("new tokens ="))
    flag = "--entry NAME:new=N for each, or --new-tokens N for one entry, main"
    try:
        more = [Entry("prefill", chunk, read(replace(binding, new_tokens=chunk, context=context)))]
        said = Assumption(f"entries decode (1 new token) and prefill ({chunk} new tokens)", flag)
    except ImportFailed as problem:
        more = []
        said = Assumption(f"entry decode (1 new token), as {chunk} new tokens cannot be read: {problem}", flag)
    return (Entry("decode", 1, replace(first, assumptions=(*kept, said))), *more)


def default_chunk(first: Imported) -> int:
    """Tokens of the prefill chunk of a model for which nothing else is said; 0 if it is to have none."""
    if not first.any_length:
        return 0
    quarter = (first.graph.past_max + 1) // 4
    return min(CHUNK_TOKENS, 1 << quarter.bit_length() - 1) if quarter > 1 else 0


def without_others(entries: Sequence[Entry], refusal: CompileError) -> tuple[Entry, ...]:
    """The first entry alone, with what kept the others away."""
    first, names = entries[0], " and ".join(each.name for each in entries[1:])
    said = Assumption(f"no entry {names}, which cannot be mapped together with {first.name}: {refusal}", "--entry")
    assumptions = (*first.imported.assumptions, said)
    return (replace(first, imported=replace(first.imported, assumptions=assumptions)),)
