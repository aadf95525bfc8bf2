"""The letters of our pictures: SVG elements as text, and the measuring that makes labels fit.

One unit is one CSS pixel at the picture's natural size. Colours are CSS classes (`f-NAME` fills, `s-NAME` strokes) that the page
defines for light and dark. Every text is escaped here, so labels may come from data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from markupsafe import Markup, escape

SIZE = 15  # of the largest labels, those of a phone, in pixels: what fits there fits everywhere


def width(label: str, size: float = SIZE) -> float:
    """About how wide a text is in a system sans-serif: one em per CJK character or full-width mark, about half of one elsewhere."""
    return size * sum(_em(char) for char in label)


def _em(char: str) -> float:
    if char > "\u2e7f" or char in "—…∅":
        return 1.0
    if char in " .,:;'|!ijl()":
        return 0.33
    return 0.7 if char.isupper() or char in "mw%+−" else 0.56


def fit(label: str, room: float, size: float = SIZE) -> str:
    """The text, cut with an ellipsis where it is wider than `room` pixels."""
    if width(label, size) <= room:
        return label
    while label and width(label + "…", size) > room:
        label = label[:-1]
    return label.rstrip() + "…"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that cover [low, high] in about `count` steps, the first at or below `low`, the last at or above `high`."""
    if high - low < 1e-6 * max(1.0, abs(low), abs(high)):
        high = low + (abs(low) if abs(low) > 1e-6 else 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def short(value: float) -> str:
    """A number as short as it can be said, with a true minus sign."""
    said = f"{value:,.10g}" if abs(value) >= 1 or value == 0 else f"{value:.6g}"
    return said.replace("-", "\u2212")


def text(x: float, y: float, label: str, kind: str = "", anchor: str = "start", tip: str = "") -> str:
    """A label; `kind` is its CSS class ("n" for small figures, "big", "halo" where it crosses a grid line)."""
    if not label:
        return ""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    css = f' class="{kind}"' if kind else ""
    return f'<text x="{number(x)}" y="{number(y)}"{css}{place}>{escape(label)}{_tip(tip)}</text>'


def rect(x: float, y: float, wide: float, tall: float, fill: str, tip: str = "") -> str:
    """A filled rectangle, with a tooltip where `tip` says something."""
    at = f'x="{number(x)}" y="{number(y)}" width="{number(wide)}" height="{number(tall)}"'
    return f'<rect class="{fill}" {at}>{_tip(tip)}</rect>' if tip else f'<rect class="{fill}" {at}/>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of the CSS class `kind`."""
    return f'<line class="{kind}" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"/>'


def dot(x: float, y: float, colour: str, tip: str, radius: float) -> str:
    """A filled circle with its tooltip."""
    return f'<circle class="f-{colour}" cx="{number(x)}" cy="{number(y)}" r="{number(radius)}">{_tip(tip)}</circle>'


def ribbon(x: float, a: tuple[float, float], to: float, b: tuple[float, float], fill: str) -> str:
    """A band that flows from the span `a` at `x` to the span `b` at `to`."""
    mid = number((x + to) / 2)
    p, q, r, s = (number(y) for y in (*a, *b))
    there = f"M{number(x)},{p}C{mid},{p} {mid},{r} {number(to)},{r}"
    back = f"L{number(to)},{s}C{mid},{s} {mid},{q} {number(x)},{q}Z"
    return f'<path class="ribbon {fill}" d="{there}{back}"/>'


def picture(wide: float, tall: float, title: str, desc: str, body: Iterable[str]) -> Markup:
    """The finished picture; `title` and `desc` are what a screen reader says of it."""
    box = f'viewBox="0 0 {number(wide)} {number(tall)}" width="{number(wide)}" height="{number(tall)}"'
    said = f"<title>{escape(title)}</title><desc>{escape(desc)}</desc>"
    return Markup(f'<svg class="pic" {box} role="img">{said}{"".join(body)}</svg>')


def swatch(colour: str, *, marks: bool = False) -> Markup:
    """A line's key, for a legend or a table."""
    inner = line(0, 6, 24, 6, f"line s-{colour}") if not marks else dot(12, 6, colour, "", 4)
    return Markup(f'<svg class="key" width="24" height="12" aria-hidden="true">{inner}</svg>')


def number(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def _tip(said: str) -> str:
    return f"<title>{escape(said)}</title>" if said else ""
