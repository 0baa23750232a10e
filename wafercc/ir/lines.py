"""Lines: what all texts of this compiler are made of, one statement a line, read token by token.

Values are ``%name``, ops ``@name``; names and strings that are not plain words stand in JSON quotes. Sizes are
``30x28`` or, with a place, ``30x28+0+4``; runs are ``0-31``. Blank lines mean nothing, nor does whatever follows a
``#``. A line that is not of its form is one `TextError` with the number of the line and what was expected there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from ..errors import TextError
from .graph import OpId, ValueName

T = TypeVar("T")

_BARE_NAME = re.compile(r"[A-Za-z0-9_./-]+")
_BARE_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = frozenset({"true", "false", "inf", "nan", "n_past"})

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<value>%(?:[A-Za-z0-9_./-]+|"(?:[^"\\]|\\.)*"))
    | (?P<op>@(?:[A-Za-z0-9_./-]+|"(?:[^"\\]|\\.)*"))
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<size>\d+x\d+(?:\+\d+\+\d+(?:@\d+)?)?(?![\w.+]))
    | (?P<run>\d+-\d+(?![\w.+-]))
    | (?P<float>-?(?:\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+|inf\b|nan\b))
    | (?P<dim>-?(?:\d+\*)?n_past\b(?:[+-]\d+)?|-?\d+(?![\w.*]))
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<mark>->|[:=,()\[\]])
    )""",
    re.VERBOSE,
)
_END = re.compile(r"\s*(?:#.*)?$")
_REMARK = re.compile(r'((?:[^"#]|"(?:[^"\\]|\\.)*"|")*)(?:#.*)?$')


@dataclass(frozen=True)
class Excerpt:
    """A text and, for messages, where it stands: the number of its first line, and its file if it has one."""

    text: str
    first_line: int = 1
    file: str = ""

    def where(self, line: int) -> str:
        """The place of a line, counted from 0 in this text."""
        number = f"line {self.first_line + line}"
        return f"{self.file}, {number}" if self.file else number

    @property
    def end(self) -> str:
        """The place of the last line."""
        return self.where(self.text.rstrip("\n").count("\n"))


def excerpt_of(text: str | Excerpt) -> Excerpt:
    """The text as an excerpt; a bare one counts its own lines from 1."""
    return text if isinstance(text, Excerpt) else Excerpt(text)


def read_lines(text: str | Excerpt, kind: Callable[[str, str], T]) -> Iterator[T]:
    """Every line that says something, made by ``kind`` (a `Line`) from its text and its place."""
    excerpt = excerpt_of(text)
    for number, line in enumerate(excerpt.text.split("\n")):
        if not _END.match(line):
            yield kind(line.rstrip(), excerpt.where(number))


def name_text(name: str) -> str:
    """A name as it stands behind ``%`` or ``@``."""
    return name if _BARE_NAME.fullmatch(name) else json.dumps(name)


def word_text(text: str) -> str:
    """A word, in quotes if it is none or means something else."""
    return str(text) if _BARE_WORD.fullmatch(text) and text not in _RESERVED else json.dumps(text)


class Line:
    """One line, and how far it has been read. ``where``: its place, for messages."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.at = text, where, 0

    def error(self, message: str, hint: str = "") -> TextError:
        """What is wrong with this line."""
        return TextError(message, where=self.where, hint=hint)

    def fail(self, expected: str) -> NoReturn:
        found = self.peek()[1]
        raise self.error(f"expected {expected}, found {repr(found) if found else 'the end of the line'}")

    def peek(self) -> tuple[str, str]:
        """The kind and text of the next token; ("end", "") behind the last."""
        if _END.match(self.text, self.at):
            return "end", ""
        found = _TOKEN.match(self.text, self.at)
        if found is None or found.lastgroup is None:
            raise self.error(f"cannot read {self.text[self.at :].strip()[:40]!r}")
        return found.lastgroup, found[found.lastgroup]

    def step(self) -> str:
        """Go over the next token and give it."""
        found = _TOKEN.match(self.text, self.at)
        assert found is not None and found.lastgroup is not None, "peek() has seen it"
        self.at = found.end()
        return str(found[found.lastgroup])

    def accept(self, text: str) -> bool:
        """Step over a mark or word if it comes next."""
        kind, found = self.peek()
        if kind in ("mark", "word") and found == text:
            self.step()
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(repr(text))

    def take(self, kind: str, expected: str) -> str:
        if self.peek()[0] != kind:
            self.fail(expected)
        return self.step()

    def end(self) -> None:
        if self.peek()[0] != "end":
            self.fail("the end of the line")

    def rest(self) -> str:
        """All that is left, without the remark."""
        found = _REMARK.match(self.text, self.at)
        self.at = len(self.text)
        return found[1].strip() if found else ""

    def quoted(self, text: str) -> str:
        """The content of JSON quotes, or the text itself."""
        if not text.startswith('"'):
            return text
        try:
            return str(json.loads(text))
        except ValueError:
            raise self.error(f"not a JSON string: {text}") from None

    def value(self) -> ValueName:
        return ValueName(self.quoted(self.take("value", "a value (%name)")[1:]))

    def op_name(self) -> OpId:
        return OpId(self.quoted(self.take("op", "an op name (@name)")[1:]))

    def label(self, expected: str) -> str:
        """A bare word or a quoted string."""
        return self.quoted(self.take("string" if self.peek()[0] == "string" else "word", expected))

    def number(self, expected: str) -> int:
        """A whole number that is not negative."""
        if not self.peek()[1].isdigit():
            self.fail(expected)
        return int(self.step())

    def size(self, expected: str) -> tuple[int, ...]:
        """The numbers of a size, in the order written."""
        return tuple(int(n) for n in re.split(r"[x+@]", self.take("size", expected)))

    def runs(self, expected: str) -> list[tuple[int, int]]:
        """Runs ``lo-hi`` and single numbers ``n`` up to what is neither, as (first, last)."""
        found: list[tuple[int, int]] = []
        while self.peek()[0] == "run" or self.peek()[1].isdigit():
            first, _, last = self.step().partition("-")
            found.append((int(first), int(last or first)))
        if not found:
            self.fail(expected)
        return found
