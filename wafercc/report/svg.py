"""A small SVG writer: shapes and text at given places, and the room that each text takes, so that none lies on another.

Written by hand because pictures need only these few elements, the same bytes every time, and no further library.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
LINE = 1.3  # line height over font size
BOLD = 1.12  # bold text is so much wider
# Widths of DejaVu Sans, the widest of the fonts asked for, in units of the font size.
_NARROW, _WIDE = "iljI.,:;|!'()[]/ft·… ", "mwMWQ@%→×"
_WIDTHS = {**dict.fromkeys(_NARROW, 0.40), **dict.fromkeys(_WIDE, 0.92)}

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the picture, in its units."""

    x: float
    y: float
    w: float
    h: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share more than an edge."""
        across = self.x < other.x + other.w and other.x < self.x + self.w
        return across and self.y < other.y + other.h and other.y < self.y + self.h

    def holds(self, other: Box) -> bool:
        """Whether the other lies inside."""
        across = self.x <= other.x and other.x + other.w <= self.x + self.w
        return across and self.y <= other.y and other.y + other.h <= self.y + self.h

    def touches(self, points: Iterable[Point]) -> int:
        """How many of the points lie inside."""
        return sum(self.x <= x <= self.x + self.w and self.y <= y <= self.y + self.h for x, y in points)

    def grown(self, by: float) -> Box:
        return Box(self.x - by, self.y - by, self.w + 2 * by, self.h + 2 * by)

    @property
    def centre(self) -> Point:
        return self.x + self.w / 2, self.y + self.h / 2


def text_width(text: str, size: float, bold: bool = False) -> float:
    """How wide a text is at most, whichever of the fonts the reader has."""
    width = sum(_WIDTHS.get(c, 0.76 if c.isupper() else 0.64) for c in text)
    return width * size * (BOLD if bold else 1.0)


def fitted(text: str, size: float, room: float, bold: bool = False) -> str:
    """The text, cut off with an ellipsis where it is too long for the room."""
    if text_width(text, size, bold) <= room:
        return text
    while text and text_width(text + "…", size, bold) > room:
        text = text[:-1]
    return text.rstrip(" ,·") + "…"


def number(value: float) -> str:
    """A coordinate with at most two decimals, the shortest way."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def polyline(points: Sequence[Point]) -> str:
    """The path data of a line through points."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


@dataclass
class Canvas:
    """A picture being drawn. ``labels`` are the boxes of all text on it, in the order it was written."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)
    labels: list[Box] = field(default_factory=list)

    def add(self, tag: str, inside: str = "", /, **attributes: object) -> None:
        """One element. Attribute names are written with ``_`` for ``-``; ``None`` leaves one out."""
        words = [tag]
        for name, value in attributes.items():
            if value is not None:
                shown = number(value) if isinstance(value, float) else str(value)
                words.append(f"{name.rstrip('_').replace('_', '-')}={quoteattr(shown)}")
        self.parts.append(f"<{' '.join(words)}>{inside}</{tag}>" if inside else f"<{' '.join(words)}/>")

    def rect(self, box: Box, **attributes: object) -> None:
        self.add("rect", x=float(box.x), y=float(box.y), width=float(box.w), height=float(box.h), **attributes)

    def open(self, **attributes: object) -> None:
        """Begin a group; `close` ends it."""
        self.add("g", "", **attributes)
        self.parts[-1] = self.parts[-1][:-2] + ">"

    def close(self) -> None:
        self.parts.append("</g>")

    def text(
        self, x: float, y: float, text: str, size: float, *, anchor: str = "start", bold: bool = False, **more: object
    ) -> Box:
        """A line of text whose middle line is at ``y``; gives the box it takes."""
        width = text_width(text, size, bold)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = Box(left, y - size * LINE / 2, width, size * LINE)
        self.labels.append(box)
        weight = "bold" if bold else None
        self.add(
            "text",
            escape(text),
            x=float(x),
            y=float(y + 0.35 * size),
            font_size=float(size),
            text_anchor=None if anchor == "start" else anchor,
            font_weight=weight,
            **more,
        )
        return box

    def document(self, title: str) -> str:
        """The whole file."""
        size = f'width="{number(self.width)}" height="{number(self.height)}"'
        view = f'viewBox="0 0 {number(self.width)} {number(self.height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} font-family="{FONT}" fill="#1a1a1a">'
        back = f'<rect width="{number(self.width)}" height="{number(self.height)}" fill="#ffffff"/>'
        return "\n".join([head, f"<title>{escape(title)}</title>", back, *self.parts, "</svg>", ""])
