"""Journal: where each decision of a compile comes from, and what becomes of it.

The pipeline asks the journal for every stage's product. It takes it from a stage file, if one is resumed that decides
it; else from the cache, if one is used and knows it; else the stage makes it. What was decided is printed, kept for
a stage file, or the end of the compile, as the course of the compile wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import is_
from typing import Any, ParamSpec, TypeVar

from wafercc.errors import CompileError, ImportFailed
from wafercc.ir.graph import Graph
from wafercc.ir.lines import Excerpt
from wafercc.ir.text import print_graph

from .cache import Cache, Remember, anew, digest
from .machine import Machine
from .options import Options
from .rewrite import known_names
from .stage_file import StageFile
from .stages import IMPORT, SIZE, STAGE_NAMES, STAGES, Settings, Stage, content

P = ParamSpec("P")
T = TypeVar("T")


def _say_nothing(text: str) -> None:
    pass


@dataclass(frozen=True)
class Course:
    """How to go through the stages: which file is ``resumed``, after which stage to stop, where things are remembered,
    before and after which stages and rewrites the products are printed, and how it is said what is going on.

    Raises:
        CompileError: a stage or rewrite does not exist.
    """

    resumed: StageFile | None = None
    until: str | None = None
    cache: Cache | None = None
    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    say: Callable[[str], None] = _say_nothing

    def __post_init__(self) -> None:
        _refuse_unknown([self.until] if self.until else [], STAGE_NAMES, "stage", "until (--until)")
        places = (*STAGE_NAMES, *known_names())
        _refuse_unknown(self.before, places, "stage or rewrite", "before (--print-before)")
        _refuse_unknown(self.after, places, "stage or rewrite", "after (--print-after)")
        if self.until and self.resumed and STAGE_NAMES.index(self.until) < STAGE_NAMES.index(self.resumed.stage):
            raise CompileError(
                f"{self.resumed.path} goes on behind {self.resumed.stage}, which comes after {self.until}",
                where="option until (--until)",
                hint="stop at a later stage, or compile from the model",
            )

    @property
    def given(self) -> Mapping[str, Excerpt]:
        """The stages that the file decides, and how."""
        return self.resumed.sections if self.resumed else {}


def _refuse_unknown(names: Iterable[str], known: Iterable[str], what: str, option: str) -> None:
    for name in sorted(names):
        if name not in known:
            raise CompileError(
                f"there is no {what} {name!r}", where=f"option {option}", hint=f"there are: {', '.join(known)}"
            )


class Stopped(Exception):
    """The stage to stop after has been decided, and nothing that follows can change it."""


@dataclass(eq=False)
class Journal:
    """One compile's decisions so far."""

    options: Options
    machine: Machine
    course: Course = Course()
    reused: dict[str, list[bool]] = field(default_factory=dict)  # of each stage, whether what it asked for was known
    added: set[str] = field(default_factory=set)  # the keys of what this compile itself has computed

    def __post_init__(self) -> None:
        self.products: dict[str, tuple[Stage[..., Any], Any]] = {}
        self.made: dict[str, tuple[tuple[object, ...], Any]] = {}  # what each stage was last given and made
        self.latest = ""

    def branch(self) -> Journal:
        """A journal for an entry that follows the first: no file decides it, and nothing of it is printed."""
        course = Course(cache=self.course.cache, say=self.course.say)
        return Journal(self.options, self.machine, course, self.reused, self.added)

    def remember(self, stage: Stage[..., Any]) -> Remember:
        """What answers for a stage whether it was computed before."""
        return self._remember(stage)

    def has(self, stage: Stage[..., Any]) -> bool:
        """Whether the stage is decided by the file that is resumed."""
        return stage.name in self.course.given

    def read(self, stage: Stage[P, T], *inputs: P.args, **named: P.kwargs) -> T:
        """The product that the file decides.

        Raises:
            TextError: a line of it is wrong.
            CompileError: what it decides cannot be; the message names the file.
        """
        text = self.course.given[stage.name]
        try:
            return stage.read(text, self._settings(stage), *inputs, **named)
        except (CompileError, ImportFailed) as problem:
            raise CompileError(problem.message, where=f"{text.file}, {problem.where}", hint=problem.hint) from None

    def decide(self, stage: Stage[P, T], *inputs: P.args, **named: P.kwargs) -> T:
        """The product of a stage.

        Raises:
            TextError, CompileError: the file decides it wrongly, or the stage refuses.
            Stopped: it is all that is wanted.
        """
        self.print("before", stage.name, self._latest_text)
        settings = self._settings(stage)
        before, made = self.made.get(stage.name, ((), None))
        if inputs and not named and len(before) == len(inputs) and all(map(is_, before, inputs)):
            product: T = made  # of the very same inputs, as when one size plan is tried with another embedding
        elif self.has(stage):
            product = self.read(stage, *inputs, **named)
        elif stage.whole:
            product = settings.remember(
                (inputs, named),
                lambda: stage.make(settings, *inputs, **named),
                stage.text,
                lambda text: stage.read(text, settings, *inputs, **named),
            )
        else:
            product = stage.make(settings, *inputs, **named)
        self.made[stage.name] = inputs, product
        self.products[stage.name] = stage, product
        self.latest = stage.name
        self.print("after", stage.name, self._latest_text)
        if self.course.until == stage.name and not stage.tried:
            raise Stopped
        return product

    def rewritten(self, name: str, before: Graph, after: Graph) -> None:
        """A rewrite has changed the graph."""
        self.print("before", name, lambda: print_graph(before))
        self.print("after", name, lambda: print_graph(after))

    def print(self, when: str, name: str, text: Callable[[], str]) -> None:
        """Print a text if it was asked for."""
        if name in (self.course.before if when == "before" else self.course.after):
            self.course.say(f"# {when} {name}\n{text()}")

    def report(self) -> None:
        """Say what was reused: in whole, or how much of what was asked for."""
        known = [
            name if all(asked) else f"{name} ({sum(asked)} of {len(asked)})"
            for name, asked in self.reused.items()
            if any(asked)
        ]
        if known:
            self.course.say(f"reused from the cache: {', '.join(known)}")

    def close(self) -> None:
        """Keep the cache within its bound, if anything was added."""
        cache = self.course.cache
        if cache is not None and not all(each for asked in self.reused.values() for each in asked):
            cache.trim()

    def sections(self) -> dict[str, str]:
        """The texts from which a compile can go on behind the stage it is to stop after, by stage.

        An imported graph is superseded by the rewritten one, unless a file has decided it: then the numbers of weights
        follow from it. Sizes are superseded by the placement, which has them.
        """
        assert self.course.until is not None
        upto = STAGES[: STAGE_NAMES.index(self.course.until) + 1]
        superseded = {SIZE.name} | (set() if self.has(IMPORT) else {IMPORT.name})
        wanted = [s for s in upto if s.name == self.course.until or s.name not in superseded]
        return {s.name: s.text(self.products[s.name][1]) for s in wanted}

    def _latest_text(self) -> str:
        if not self.latest:
            return ""
        stage, product = self.products[self.latest]
        return stage.text(product)

    def _settings(self, stage: Stage[..., Any]) -> Settings:
        return Settings(stage.name, stage.options, self.options, self.machine, self._remember(stage))

    def _remember(self, stage: Stage[..., Any]) -> Remember:
        """What answers for a stage whether it was computed before."""
        cache = self.course.cache
        if cache is None:
            return anew
        known: list[str] = []

        def remember(
            inputs: object, compute: Callable[[], T], text: Callable[[T], str], read: Callable[[Excerpt], T]
        ) -> T:
            if not known:
                known.append(digest(stage.name, content(stage.remembered, self.options, self.machine)))
            key = digest(*known, inputs)
            asked = self.reused.setdefault(stage.name, [])
            if key not in self.added:  # else it is this compile's own, asked for once more
                asked.append(True)

            def counted() -> T:
                asked[-1] = False
                self.added.add(key)
                return compute()

            return cache.recall(key, counted, text, read)

        return remember
