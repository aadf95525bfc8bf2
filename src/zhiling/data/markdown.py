"""Markdown as Blocks, line by line: headings, paragraphs, list items with what is nested in them, tables, fenced code, marked questions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from zhiling.data.passages import PIECE, Block, asks

HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
ASKED = re.compile(r"^\s*(?:[-*]\s+)?\**\s*(?:Q\d*|Question|问|问题)\s*\**\s*[:：]\s*\**\s*(.+?)\s*$", re.IGNORECASE)
ANSWERED = re.compile(r"^\s*(?:[-*]\s+)?\**\s*(?:A\d*|Answer|答|答案)\s*\**\s*[:：]\s*\**\s*(.*?)\s*$", re.IGNORECASE)
_fence = re.compile(r"^\s*(`{3,}|~{3,})")
_item = re.compile(r"^(?:[-*+]|\d{1,9}[.)])\s+")
_underline = re.compile(r"^(=+|-{2,})\s*$")
_link = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_anchor = re.compile(r"\s*\{\s*#[^}]*\}\s*$")
_tags = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>|\{\{[<%].*?[>%]\}\}")


def plain(said: str) -> str:
    """A line of Markdown without links, emphasis, code marks, tags and anchors: what a heading says."""
    said = _tags.sub("", _anchor.sub("", _link.sub(r"\1", said)))
    return re.sub(r"\*\*|__|`", "", said).strip().strip("*").strip()


class _Reader:
    """The block under way. `flush` gives it up; at most about PIECE characters are held."""

    def __init__(self) -> None:
        self.kind, self.lines, self.at, self.size = "text", list[str](), 0, 0
        self.fence, self.question, self.comment, self.quoted = "", ("", 0), False, False

    def flush(self) -> Iterator[Block]:
        said, kind, at = "\n".join(self.lines).strip("\n"), self.kind, self.at
        (question, asked), self.question = self.question, ("", 0)
        self.kind, self.lines, self.size, self.quoted = "text", [], 0, False
        if not said.strip():
            if question:
                yield Block("text", question, asked)
        elif question:
            yield Block("text", said.strip(), asked, question=question)
        elif kind == "item" and (pair := _paired(said, at)):
            yield pair
        else:
            yield Block(kind, said, at)  # type: ignore[arg-type]

    def add(self, line: str, number: int) -> Iterator[Block]:
        if self.size > PIECE:  # goes on without an end: handed on in pieces
            kind, quoted = self.kind, self.quoted
            yield from self.flush()
            self.kind, self.quoted = kind, quoted
        if not self.lines:
            self.at = number
        self.lines.append(line)
        self.size += len(line) + 1


def blocks(lines: Iterable[tuple[int, str]]) -> Iterator[Block]:
    """The Blocks of a Markdown document, given as (number, line). Front matter, comments and lines of
    nothing but tags (of HTML, or a site generator's shortcodes) are left out.

    A marked question ("Q: ...", "问：……") and a list item that asks and has something nested in it are blocks with a `question`.
    """
    now, front = _Reader(), False
    for number, raw in lines:
        line = raw.rstrip("\r\n")
        if number == 1 and line.strip() == "---":
            front = True
        elif front:
            front = line.strip() not in ("---", "...")
        elif now.fence:
            yield from now.add(line, number)
            if line.strip().startswith(now.fence) and not line.strip().strip(now.fence[0]):
                now.fence = ""
                if now.kind == "code":
                    yield from now.flush()
        else:
            yield from _line(now, line, number)
    yield from now.flush()


def _line(now: _Reader, line: str, number: int) -> Iterator[Block]:
    if now.comment or line.lstrip().startswith("<!--"):
        now.comment = "-->" not in line
        return
    found = _fence.match(line)
    if found:
        if not _nested(now, line) and not now.question[0]:
            yield from now.flush()
            now.kind = "code"
        now.fence = found[1]
        yield from now.add(line, number)
    elif heading := HEADING.match(line):
        yield from now.flush()
        yield Block("heading", plain(heading[2]), number, level=len(heading[1]))
    elif now.kind == "text" and len(now.lines) == 1 and not now.question[0] and (under := _underline.match(line)):
        said, at = now.lines[0], now.at
        now.lines, now.size = [], 0
        yield Block("heading", plain(said), at, level=1 if under[1][0] == "=" else 2)
    elif asked := ASKED.match(line):
        yield from now.flush()
        now.question = (plain(asked[1]), number)
    elif now.question[0] and not now.quoted and (answer := ANSWERED.match(line)):
        now.quoted = True
        yield from now.add(answer[1].rstrip("*").strip(), number)
    else:
        yield from _prose(now, line, number)


def _prose(now: _Reader, line: str, number: int) -> Iterator[Block]:
    bare = line.strip()
    if bare and not _tags.sub("", bare).strip():
        return  # an anchor, or another line of tags alone
    if now.question[0]:
        yield from now.add(line, number)
    elif bare.startswith("|") and not _nested(now, line):
        if now.kind != "table":
            yield from now.flush()
            now.kind = "table"
        yield from now.add(bare, number)
    elif _item.match(line):
        yield from now.flush()
        now.kind = "item"
        yield from now.add(line, number)
    elif now.kind == "item" and (not bare or _nested(now, line) or now.lines[-1].strip()):
        yield from now.add(line, number)
    elif bare:
        if now.kind != "text":
            yield from now.flush()
        yield from now.add(line, number)
    else:
        yield from now.flush()


def _nested(now: _Reader, line: str) -> bool:
    return now.kind == "item" and bool(now.lines) and line[:1] in (" ", "\t")


def _paired(said: str, at: int) -> Block | None:
    """A list item that asks, with its nested answer; None for any other."""
    first, _, rest = said.partition("\n")
    question = plain(_item.sub("", first, count=1)).rstrip(":：")
    answer = "\n".join(
        re.sub(r"^\s*(?:>\s?)?", "", line) if line.lstrip().startswith(">") else line.strip()
        for line in rest.splitlines()
    )
    if not answer.strip() or len(question) > 300 or not asks(re.sub(r"^[^:：]{1,40}[:：]\s*", "", question)):
        return None
    return Block("text", answer.strip(), at, question=question)
