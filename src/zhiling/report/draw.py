"""Pictures as inline SVG: bars, histograms, lines, whiskers and ribbons, drawn by plain functions from plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from zhiling.report import svg

WIDE, NARROW, SMALL = 960, 440, 300
"""Natural widths: of a picture that fills the page, of one that shares a row or fills a phone, and of one of many."""


class Part(NamedTuple):
    """A piece of a bar: its length in data units, its colour class, and its tooltip."""

    n: float
    fill: str
    tip: str


class Bar(NamedTuple):
    """A labelled row of one or more thin bars, each made of parts; `start` shifts them to the right, as in a waterfall."""

    label: str
    tracks: Sequence[Sequence[Part]]
    note: str = ""
    start: float = 0.0


class Bin(NamedTuple):
    """A histogram's column: what it covers in words, all rows in it, and how many of them are kept (None: not decided)."""

    tip: str
    n: int
    kept: int | None


class Line(NamedTuple):
    """A series: its name, its colour class, and (x, y) points; `marks` draws points instead of a line."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    marks: bool = False


class Whisker(NamedTuple):
    """A labelled row of dots (position, colour class, tooltip), with an interval where one is known."""

    label: str
    dots: Sequence[tuple[float, str, str]]
    low: float | None = None
    high: float | None = None
    note: str = ""


class Column(NamedTuple):
    """A stage of a flow: heading, total in words, how much each band holds, the unit that is counted, the bands' colour classes."""

    label: str
    total: str
    bands: Sequence[float]
    unit: str
    fills: Sequence[str]


def bars(rows: Sequence[Bar], title: str, desc: str, *, thick: int = 12, size: int = NARROW) -> Markup:
    """Horizontal bars on one scale, a line of label and note above each. A part that is not empty stays visible."""
    longest = max((row.start + sum(part.n for part in track) for row in rows for track in row.tracks), default=0) or 1
    scale, y, body = size / longest, 0.0, list[str]()
    for row in rows:
        room = size - svg.width(row.note) - 12
        body.append(svg.text(0, y + 12, svg.fit(row.label, room), tip=row.label if svg.width(row.label) > room else ""))
        body.append(svg.text(size, y + 12, row.note, "n", "end"))
        y += 19
        body.append(svg.rect(0, y, size, len(row.tracks) * (thick + 2) - 2, "f-track"))
        for track in row.tracks:
            x = row.start * scale
            for part in track:
                if part.n > 0:
                    long = max(part.n * scale, 1.5)
                    body.append(svg.rect(min(x, size - long), y, long, thick, part.fill, part.tip))
                    x += part.n * scale
            y += thick + 2
        y += 12
    return svg.picture(size, max(y - 10, 1), title, desc, body)


def histogram(
    bins: Sequence[Bin], ends: Sequence[str], title: str, desc: str, *, aside: tuple[int, str] = (0, "")
) -> Markup:
    """Columns of all rows, the kept ones at their foot in a second colour.

    `ends` are the axis labels: one per column where columns are single values, else two for the ends of the range. `aside` is
    (how many rows have no value, in words): they stand apart at the right, hatched, never among the values.
    """
    foot, each = 126.0, (SMALL - (40 if aside[0] else 0)) / max(len(bins), 1)
    most = max([aside[0], *(column.n for column in bins), 1])
    slim = len(ends) == len(bins)
    wide = min(each * 0.8, 44.0) if slim else each - min(1.5, each / 4)
    body = [svg.line(0, foot, each * len(bins), foot, "s-axis"), svg.text(0, 10, f"{most:,}", "n")]
    for i, column in enumerate(bins):
        for n, fill in ((column.n, "f-plain" if column.kept is None else "f-lost"), (column.kept or 0, "f-kept")):
            if n:
                tall = max(110 * n / most, 1)
                body.append(svg.rect((i + 0.5) * each - wide / 2, foot - tall, wide, tall, fill, column.tip))
    if aside[0]:
        left, tall = SMALL - 26, max(110 * aside[0] / most, 2)
        body.append(svg.rect(left, foot - tall, 26, tall, "f-track", aside[1]))
        body += [svg.line(left, foot - 2 - y, SMALL, foot - 2 - y, "s-hatch") for y in range(0, int(tall), 4)]
        body += [
            svg.line(left, foot, SMALL, foot, "s-axis"),
            svg.text(left + 13, foot + 16, "∅", "n", "middle", aside[1]),
        ]
    if slim:
        body += [
            svg.text((i + 0.5) * each, foot + 16, svg.fit(end, each - 4, 12), "n", "middle")
            for i, end in enumerate(ends)
        ]
    else:
        body += [svg.text(0, foot + 16, ends[0], "n"), svg.text(each * len(bins), foot + 16, ends[1], "n", "end")]
    return svg.picture(SMALL, foot + 22, title, desc, body)


def lines(series: Sequence[Line], title: str, desc: str, x_name: str, y_name: str) -> Markup:
    """Line chart, the y axis from zero. A point that is not there is not drawn: never as zero."""
    points = [point for one in series for point in one.points]
    if not points:
        return Markup("")
    x_first, x_last = min(x for x, _ in points), max(x for x, _ in points)
    x_last = max(x_last, x_first + 1)
    marks = svg.ticks(min(0.0, *(y for _, y in points)), max(y for _, y in points))
    left, top, foot = 40.0, 22.0, 272.0

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_first) / (x_last - x_first), (y - marks[0]) / (marks[-1] - marks[0])
        return left + (NARROW - left - 8) * across, foot - (foot - top) * up

    body = [svg.text(0, 10, y_name, "n"), svg.text(NARROW, foot + 36, x_name, "n", "end")]
    for mark in marks:
        y = at(x_first, mark)[1]
        body += [svg.line(left, y, NARROW, y, "s-grid"), svg.text(left - 8, y + 4, svg.short(mark), "n", "end")]
    for mark in svg.ticks(x_first, x_last):
        if x_first <= mark <= x_last:
            x = at(mark, 0)[0]
            body.append(svg.line(x, foot, x, foot + 4, "s-axis"))
            body.append(svg.text(x, foot + 18, svg.short(mark), "n", "end" if x > NARROW - 24 else "middle"))
    for one in series:
        placed = [(at(x, y), y) for x, y in sorted(one.points)]
        if one.marks or len(placed) == 1:
            body += [svg.dot(x, y, one.colour, f"{one.name}: {value:.3f}", 4) for (x, y), value in placed]
        elif placed:
            path = " ".join(f"{svg.number(x)},{svg.number(y)}" for (x, y), _ in placed)
            tip = f"<title>{escape(one.name)}</title>"
            body.append(f'<polyline class="line s-{one.colour}" points="{path}">{tip}</polyline>')
    return svg.picture(NARROW, foot + 40, title, desc, body)


def whiskers(
    rows: Sequence[Whisker],
    title: str,
    desc: str,
    x_name: str,
    *,
    zero: bool = False,
    span: tuple[float, float] | None = None,
) -> Markup:
    """Dots with intervals, a line of label and note above each; dots of one row are joined.

    `zero` draws the line of no difference, `span` sets the axis where the range is known.
    """
    values = [v for row in rows for v in (*(dot[0] for dot in row.dots), row.low, row.high) if v is not None]
    if not values:
        return Markup("")
    low, high = span or (min(values), max(values))
    marks = svg.ticks(min(low, 0.0), max(high, 0.0)) if zero else svg.ticks(low, high)
    bottom = len(rows) * 46 + 4

    def at(value: float) -> float:
        share = (value - marks[0]) / (marks[-1] - marks[0])
        return 8 + (NARROW - 16) * min(max(share, 0.0), 1.0)

    body = [svg.text(NARROW, bottom + 36, x_name, "n", "end")]
    for mark in marks:
        x = at(mark)
        anchor = "start" if x < 20 else "end" if x > NARROW - 20 else "middle"
        body.append(svg.line(x, 8, x, bottom, "s-zero" if zero and mark == 0 else "s-grid"))
        body.append(
            svg.text({"start": 0.0, "end": float(NARROW)}.get(anchor, x), bottom + 17, svg.short(mark), "n", anchor)
        )
    for i, row in enumerate(rows):
        y, room = i * 46 + 33, NARROW - svg.width(row.note) - 12
        body.append(
            svg.text(0, y - 17, svg.fit(row.label, room), "halo", tip=row.label if svg.width(row.label) > room else "")
        )
        body.append(svg.text(NARROW, y - 17, row.note, "halo n", "end"))
        body += _interval(row, at, y)
        body += [svg.dot(at(value), y, colour, tip, 6) for value, colour, tip in row.dots]
    return svg.picture(NARROW, bottom + 42, title, desc, body)


def _interval(row: Whisker, at: Callable[[float], float], y: float) -> list[str]:
    if row.low is None or row.high is None:
        spots = [at(dot[0]) for dot in row.dots]
        return [svg.line(min(spots), y, max(spots), y, "s-join")] if len(spots) > 1 else []
    a, b, kind = at(row.low), at(row.high), f"whisker s-{row.dots[0][1] if row.dots else 'plain'}"
    return [svg.line(a, y, b, y, kind), svg.line(a, y - 5, a, y + 5, kind), svg.line(b, y - 5, b, y + 5, kind)]


def ribbons(columns: Sequence[Column], below: Sequence[str], title: str, desc: str) -> Markup:
    """A flow from stage to stage: each band's height is its share of its unit's fullest stage; `below` says what each step did.

    Columns of one unit share a scale. Where two neighbours have other bands, one neutral ribbon joins their totals.
    """
    high, top, post = 150.0, 54.0, 14.0
    most = {one.unit: max(sum(other.bands) for other in columns if other.unit == one.unit) or 1 for one in columns}
    gap, body = (WIDE - post) / max(len(columns) - 1, 1), list[str]()
    placed = [_spans([high * n / most[one.unit] for n in one.bands], top + high / 2) for one in columns]
    for i, (column, here) in enumerate(zip(columns, placed, strict=True)):
        x = i * gap
        if i + 1 < len(columns):
            there, to = placed[i + 1], x + gap
            if column.fills == columns[i + 1].fills:
                flows = zip(here, there, column.fills, strict=True)
                body += [svg.ribbon(x + post, a, to, b, fill) for a, b, fill in flows if a[1] > a[0]]
            elif here and there:
                body.append(svg.ribbon(x + post, (here[0][0], here[-1][1]), to, (there[0][0], there[-1][1]), "f-lost"))
            said = svg.fit(below[i], gap - post - 8, 12)
            body.append(
                svg.text(
                    x + (gap + post) / 2, top + high + 26, said, "n", "middle", below[i] if said != below[i] else ""
                )
            )
        body += [
            svg.rect(x, a, post, max(b - a, 1), fill) for (a, b), fill in zip(here, column.fills, strict=True) if b > a
        ]
        anchor, edge = ("end", x + post) if i + 1 == len(columns) else ("start", x)
        body += [svg.text(edge, 14, column.label, "n", anchor), svg.text(edge, 40, column.total, "big", anchor)]
    return svg.picture(WIDE, top + high + 36, title, desc, body)


def _spans(heights: Sequence[float], middle: float) -> list[tuple[float, float]]:
    """Bands stacked without gaps, their whole centred on `middle`."""
    y, out = middle - sum(heights) / 2, list[tuple[float, float]]()
    for tall in heights:
        out.append((y, y + tall))
        y += tall
    return out
