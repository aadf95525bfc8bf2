"""Documents: Markdown by section and question, plain text by paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zhiling.data.files import Row
from zhiling.data.lines import lines

_heading = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_asked = re.compile(r"^\s*(?:[-*]\s+)?\**\s*(?:Q|Question|问|问题)\s*\**\s*[:：]\s*\**\s*(.+?)\s*$", re.IGNORECASE)
_answered = re.compile(r"^\s*(?:[-*]\s+)?\**\s*(?:A|Answer|答|答案)\s*\**\s*[:：]\s*\**\s*(.+?)\s*$", re.IGNORECASE)


def markdown(path: Path) -> Iterator[Row]:
    """A document as rows: {title, heading, passage, question, answer} per question of a section; a section without any has one row
    whose question and answer are its heading and its passage when the heading asks something, else empty."""
    title = heading = ""
    passage: list[str] = []
    asked: list[tuple[int, str, str]] = []
    start, pending = 1, (0, "")

    def section() -> Iterator[Row]:
        text = "\n".join(passage).strip()
        base = {"title": title, "heading": heading, "passage": text}
        if asked:
            for line, question, answer in asked:
                yield line, {**base, "question": question, "answer": answer}
        elif text and heading.rstrip().endswith(("?", "？")):
            yield start, {**base, "question": heading, "answer": text}
        elif text:
            yield start, {**base, "question": "", "answer": ""}

    fenced = False
    for number, raw in lines(path):
        line = raw.rstrip("\r\n")
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        found = None if fenced else _heading.match(line)
        if found:
            yield from section()
            passage, asked, start = [], [], number
            if len(found[1]) == 1:
                title = found[2]
            heading = found[2]
        elif not fenced and (question := _asked.match(line)):
            pending = (number, question[1].strip("*").strip())
        elif not fenced and pending[1] and (answer := _answered.match(line)):
            asked.append((*pending, answer[1].strip("*").strip()))
            pending = (0, "")
        else:
            passage.append(line)
    yield from section()


def plain(path: Path) -> Iterator[Row]:
    """Paragraphs, separated by blank lines, as {passage}."""
    start, held = 1, list[str]()
    for number, line in lines(path):
        if line.strip():
            start = start if held else number
            held.append(line.rstrip())
        elif held:
            yield start, {"passage": "\n".join(held)}
            held = []
    if held:
        yield start, {"passage": "\n".join(held)}
