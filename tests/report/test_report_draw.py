"""Pictures are well-formed, finite and inside their frame, whatever numbers and labels they are given."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.report import draw, figures, svg
from zhiling.report.draw import Bar, Bin, Column, Line, Part, Whisker

LABELS = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), max_size=80)
SIZES = st.just(0.0) | st.floats(1e-3, 1e7)  # counts and shares
VALUES = st.floats(-1e6, 1e6)


def checked(picture: str) -> ElementTree.Element:
    """The picture as XML, after checking that what it draws is finite and inside its frame."""
    root = ElementTree.fromstring(picture)
    wide, tall = float(root.attrib["width"]), float(root.attrib["height"])
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    for node in root.iter():
        for axis, limit in (
            ("x", wide),
            ("x1", wide),
            ("x2", wide),
            ("cx", wide),
            ("y", tall),
            ("y1", tall),
            ("y2", tall),
            ("cy", tall),
        ):
            if axis in node.attrib:
                assert -1 <= float(node.attrib[axis]) <= limit + 1, ElementTree.tostring(node)
        if node.tag == "rect":
            assert float(node.attrib["x"]) + float(node.attrib["width"]) <= wide + 1
            assert float(node.attrib["width"]) >= 0 and float(node.attrib["height"]) >= 0
        for number in re.findall(r"[-\d.e]+", node.attrib.get("d", "") + " " + node.attrib.get("points", "")):
            assert math.isfinite(float(number))
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return [(node.text or "") for node in root.iter("text")]


@given(LABELS, st.floats(20, 400))
def test_a_label_is_cut_to_its_room(label: str, room: float):
    cut = svg.fit(label, room)
    assert svg.width(cut) <= room or cut == "…"
    assert cut == label or (cut.endswith("…") and label.startswith(cut[:-1]))


def test_chinese_is_measured_as_wide_as_it_is():
    assert svg.width("指令模板", 10) == 40
    assert 15 < svg.width("word", 10) < 30
    assert svg.fit("将句子翻译成法语", 60, 10) == "将句子翻译…"


@given(VALUES, VALUES, st.integers(2, 30))
def test_ticks_cover_the_range_in_equal_steps(a: float, b: float, count: int):
    low, high = min(a, b), max(a, b)
    marks = svg.ticks(low, high, count)
    step = marks[1] - marks[0]
    assert marks[0] <= low + step * 1e-5 and marks[-1] >= high - step * 1e-5
    assert 2 <= len(marks) <= count + 3
    assert all(y - x == pytest.approx(step, rel=1e-6) for x, y in itertools.pairwise(marks))


@given(st.lists(st.tuples(LABELS, st.lists(SIZES, max_size=4), SIZES, LABELS), max_size=6), LABELS)
def test_bars(rows: list[tuple[str, list[float], float, str]], title: str):
    bars = [
        Bar(label, [[Part(n, "f-kept", label) for n in parts]], note[:10], start) for label, parts, start, note in rows
    ]
    root = checked(draw.bars(bars, title, "desc"))
    assert root.findtext("title") == title
    parts = [n for _, parts, _, _ in rows for n in parts if n > 0]
    assert len([rect for rect in root.iter("rect") if rect.attrib["class"] == "f-kept"]) == len(parts)


def test_bars_are_as_long_as_their_numbers():
    root = checked(
        draw.bars(
            [
                Bar("a", [[Part(30, "f-kept", ""), Part(10, "f-lost", "")]]),
                Bar("b", [[Part(10, "f-kept", "")]], start=20),
            ],
            "t",
            "d",
        )
    )
    kept, lost, shifted = (rect for rect in root.iter("rect") if rect.attrib["class"] != "f-track")
    assert float(kept.attrib["width"]) == 3 * float(lost.attrib["width"]) == 330
    assert (shifted.attrib["x"], shifted.attrib["width"]) == ("220", "110")


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), LABELS), min_size=1, max_size=30),
    st.integers(0, 10**6),
    LABELS,
)
def test_histogram(rows: list[tuple[int, int, str]], aside: int, label: str):
    bins = [Bin(tip, max(a, b), min(a, b)) for a, b, tip in rows]
    ends = [label] * len(bins) if len(bins) < 6 else [label[:8], label[:8]]
    root = checked(draw.histogram(bins, ends, "t", "d", aside=(aside, label)))
    assert ("∅" in "".join(texts(root))) or not aside
    assert len([rect for rect in root.iter("rect") if rect.attrib["class"] == "f-lost"]) == sum(b.n > 0 for b in bins)


def test_columns_are_as_tall_as_their_numbers():
    root = checked(draw.histogram([Bin("", 40, 10), Bin("", 20, 0)], ["0", "1"], "t", "d", aside=(40, "none")))
    tall = {
        rect.attrib["class"]: float(rect.attrib["height"])
        for rect in root.iter("rect")
        if rect.attrib["class"] != "f-lost"
    }
    lost = [float(rect.attrib["height"]) for rect in root.iter("rect") if rect.attrib["class"] == "f-lost"]
    assert lost == [110, 55] and tall == {"f-kept": 27.5, "f-track": 110}


def test_histogram_without_decisions_has_one_colour():
    root = checked(draw.histogram([Bin("", 5, None), Bin("", 0, None), Bin("", 2, None)], ["0", "1", "2"], "t", "d"))
    assert [rect.attrib["class"] for rect in root.iter("rect")] == ["f-plain", "f-plain"]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 10**5), st.floats(0, 1e5)), max_size=30, unique_by=lambda p: p[0]), max_size=5
    )
)
def test_lines(series: list[list[tuple[int, float]]]):
    picture = draw.lines(
        [Line(f"任务 {i}", f"line{i}", points) for i, points in enumerate(series)], "t", "d", "step", "loss"
    )
    if not any(series):
        assert picture == ""
        return
    root = checked(picture)
    drawn = [len(node.attrib["points"].split()) for node in root.iter("polyline")]
    assert drawn == [len(points) for points in series if len(points) > 1]
    assert len(list(root.iter("circle"))) == sum(len(points) == 1 for points in series)


@given(
    st.lists(st.tuples(LABELS, st.lists(VALUES, max_size=2), st.none() | st.tuples(VALUES, VALUES)), max_size=6),
    st.booleans(),
)
def test_whiskers(rows: list[tuple[str, list[float], tuple[float, float] | None]], zero: bool):
    lines = [
        Whisker(label, [(value, "better", label) for value in dots], *(sorted(span) if span else (None, None)), note="note")
        for label, dots, span in rows
    ]  # fmt: skip
    picture = draw.whiskers(lines, "t", "d", "x", zero=zero)
    if not any(dots or span for _, dots, span in rows):
        assert picture == ""
        return
    root = checked(picture)
    assert len(list(root.iter("circle"))) == sum(len(dots) for _, dots, _ in rows)
    spans = sum(span is not None for _, _, span in rows)
    assert len([node for node in root.iter("line") if node.attrib["class"].startswith("whisker")]) == 3 * spans
    assert len([node for node in root.iter("line") if node.attrib["class"] == "s-zero"]) == zero


def test_whiskers_stand_where_their_numbers_are():
    root = checked(draw.whiskers([Whisker("a", [(0.5, "better", "")], 0.25, 1.0)], "t", "d", "x", zero=True))
    zero = next(float(n.attrib["x1"]) for n in root.iter("line") if n.attrib["class"] == "s-zero")
    dot = float(next(root.iter("circle")).attrib["cx"])
    ends = next(n for n in root.iter("line") if n.attrib["class"].startswith("whisker"))
    assert zero < float(ends.attrib["x1"]) < dot < float(ends.attrib["x2"])
    assert (dot - zero) == pytest.approx(2 * (float(ends.attrib["x1"]) - zero), abs=0.2)


@given(
    st.lists(
        st.tuples(LABELS, st.lists(SIZES, min_size=3, max_size=3), st.sampled_from(["rows", "templates"])),
        min_size=1,
        max_size=6,
    ),
    SIZES,
)
def test_ribbons(rows: list[tuple[str, list[float], str]], records: float):
    fills = ["f-template", "f-retrieve", "f-generate"]
    columns = [Column(label[:12], "7", bands, unit, fills) for label, bands, unit in rows]
    first = Column("records", "1", [records], "records", ["f-plain"])
    root = checked(draw.ribbons([first, *columns], [label for label, _, _ in rows], "t", "d"))
    assert len([node for node in root.iter("rect") if node.attrib["class"] == "f-plain"]) == (records > 0)
    assert (
        sum(node.attrib["class"] == "ribbon f-lost" for node in root.iter("path")) == 1
    )  # from the records to all ways


def test_figures_say_what_is_not_known():
    known = (
        figures.count(1234),
        figures.share(1, 8),
        figures.score(0.123456),
        figures.metric(0.5),
        figures.gain(-0.25),
        figures.money(12.5),
    )
    assert known == ("1,234", "12.5%", "0.1235", "50.0", "−25.0", "$12.50")
    for unknown in (figures.count, figures.score, figures.metric, figures.gain, figures.loss, figures.money):
        assert unknown(None) == "—"
    assert figures.share(None, 8) == figures.share(3, 0) == "—"
    assert [figures.money(usd) for usd in (0.0, 0.0312, 0.00000603)] == ["$0.00", "$0.031", "$6.0e-06"]
