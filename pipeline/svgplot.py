"""Line plots as SVG text, for documents and pages: no script, no font, no style sheet, everything escaped.

The same input gives the same text, byte for byte.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

FONT_PX = 11
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 48, 10, 20, 20
COLOURS = ("#0b62a4", "#c2410c", "#4d7c0f", "#7e22ce", "#64748b")
GREY, INK = "#cbd5e1", "#334155"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis from `low` to `high` with labelled places."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]] = ()

    def share(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`, and never beyond."""
        if not math.isfinite(value) or self.high <= self.low:
            return 0.5 if not math.isinf(value) else float(value > 0)
        # Halved first: the span of two huge numbers overflows.
        return min(1.0, max(0.0, (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)))


class Panel:
    """One plot at a place of a drawing, `width` by `height` pixels with its title and labels."""

    def __init__(self, x: Axis, y: Axis, *, width: int, height: int, title: str) -> None:
        self.x, self.y, self.width, self.height = x, y, width, height
        self._parts = [_text(LEFT_PX, TOP_PX - 7, title, weight="bold")]
        for value, name in y.ticks:
            at = self._down(value)
            self._parts.append(_line((LEFT_PX, at), (width - RIGHT_PX, at), GREY))
            self._parts.append(_text(LEFT_PX - 4, at + 4, name, anchor="end"))
        for value, name in x.ticks:
            self._parts.append(_text(self._across(value), height - 6, name, anchor="middle"))

    def line(self, points: Iterable[Point], colour: str, *, dots: bool = False, dash: str = "") -> None:
        """Draw a line through points; a NaN breaks it."""
        run: list[str] = []
        for x, y in points:
            if math.isnan(y):
                self._polyline(run, colour, dash)
                run = []
                continue
            across, down = _number(self._across(x)), _number(self._down(y))
            run.append(f"{across},{down}")
            if dots:
                self._parts.append(f'<circle cx="{across}" cy="{down}" r="2.5" fill="{colour}"/>')
        self._polyline(run, colour, dash)

    def band(self, first: float, last: float, colour: str, tip: str) -> None:
        """Shade the time from `first` to `last`, at least 2 pixels; the tip shows under the pointer."""
        left, right = self._across(first), self._across(last)
        self._parts.append(
            f'<rect x="{_number(left)}" y="{TOP_PX}" width="{_number(max(2.0, right - left))}" '
            f'height="{self.height - TOP_PX - BOTTOM_PX}" fill="{colour}" fill-opacity="0.25">'
            f"<title>{escape(tip)}</title></rect>"
        )

    def mark(self, x: float, colour: str, tip: str) -> None:
        """Draw a vertical line with a tip."""
        at = _number(self._across(x))
        self._parts.append(
            f'<line x1="{at}" y1="{TOP_PX}" x2="{at}" y2="{self.height - BOTTOM_PX}" stroke="{colour}" '
            f'stroke-width="1.5" stroke-dasharray="3 2"><title>{escape(tip)}</title></line>'
        )

    def placed(self, left: int, top: int) -> str:
        """The panel as a group of a drawing, moved to its place."""
        return f'<g transform="translate({left} {top})">{"".join(self._parts)}</g>'

    def _polyline(self, run: Sequence[str], colour: str, dash: str) -> None:
        if len(run) == 1:
            x, y = run[0].split(",")
            self._parts.append(f'<circle cx="{x}" cy="{y}" r="1" fill="{colour}"/>')
        elif run:
            dashed = f' stroke-dasharray="{dash}"' if dash else ""
            self._parts.append(
                f'<polyline points="{" ".join(run)}" fill="none" stroke="{colour}" stroke-width="1.3"'
                f"{dashed}/>"
            )

    def _across(self, value: float) -> float:
        return LEFT_PX + self.x.share(value) * (self.width - LEFT_PX - RIGHT_PX)

    def _down(self, value: float) -> float:
        return self.height - BOTTOM_PX - self.y.share(value) * (self.height - TOP_PX - BOTTOM_PX)


def drawing(parts: Sequence[str], width: int, height: int, title: str) -> str:
    """Put groups together to one SVG on white, with a title for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" font-size="{FONT_PX}">'
        f"<title>{escape(title)}</title>"
        f'<rect width="{width}" height="{height}" fill="#fff"/>' + "\n".join(parts) + "</svg>\n"
    )


def legend(names: Sequence[tuple[str, str]], left: int, top: int) -> str:
    """Colours (name, colour) and what they stand for, in one row."""
    parts, across = [], float(left)
    for name, colour in names:
        parts.append(_line((across, top - 4), (across + 16, top - 4), colour, width=3))
        parts.append(_text(across + 20, top, name))
        across += 40 + 6.2 * len(name)
    return "".join(parts)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers within a range, about `count` of them; none where the range is no range."""
    span = high - low
    if not math.isfinite(span) or not span / count > 0:
        return []
    step = 10.0 ** math.floor(math.log10(span / count))
    if not step > 0:  # a span of denormals
        return []
    step *= next((factor for factor in (1, 2, 5) if span / (step * factor) <= count), 10)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [each * step for each in range(first, last + 1)] if last - first < 100 else []


def _line(start: Point, end: Point, colour: str, *, width: int = 1) -> str:
    (x1, y1), (x2, y2) = start, end
    places = f'x1="{_number(x1)}" y1="{_number(y1)}" x2="{_number(x2)}" y2="{_number(y2)}"'
    return f'<line {places} stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    place = f'x="{_number(x)}" y="{_number(y)}"'
    return f'<text {place} text-anchor="{anchor}" font-weight="{weight}" fill="{INK}">{escape(text)}</text>'


def _number(value: float) -> str:
    """A coordinate in tenths of a pixel, short."""
    return f"{value:.1f}".removesuffix(".0")
