"""HTML pages as Blocks, streaming: headings, paragraphs, lists, tables, preformatted text; navigation, scripts and forms left out."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from zhiling.data.lines import PROBE, encoding_of
from zhiling.data.passages import PIECE, Block, asks

CHUNK = 1 << 16
ROWS = 1000
"""Rows of a table that are held; a longer one is handed on in pieces, each with its first row."""
_skipped = frozenset(
    {"script", "style", "noscript", "template", "svg", "nav", "form", "iframe", "object", "head", "math"}
)
_blocks = frozenset({
    "p", "div", "section", "article", "main", "header", "footer", "aside", "blockquote", "ul", "ol", "dl", "figure", "figcaption", "body",
    "address", "hr", "tbody", "thead", "tfoot", "fieldset", "details", "html",
})  # fmt: skip
_headings = {f"h{level}": level for level in range(1, 7)}
_charset = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.I)
_space = re.compile(r"[ \t\r\n\f\xa0]+")


class _Page:
    """What lxml's parser tells of tags and text, as Blocks in `out`."""

    def __init__(self) -> None:
        self.out: list[Block] = []
        self.count = 0
        self.skip = 0
        self.pre = 0
        self.kind, self.level = "text", 0
        self.said: list[str] = []
        self.size = 0
        self.rows: list[list[str]] = []
        self.tables = 0
        self.asked: str | None = None
        self.answer: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self.skip or tag in _skipped:
            self.skip += tag in _skipped
        elif tag == "table":
            self.flush()
            self.tables += 1
        elif self.tables:
            self._cell(tag)
        elif tag in _headings:
            self.flush()
            self.answered()
            self.kind, self.level = "heading", _headings[tag]
        elif tag == "pre":
            self.flush()
            self.pre += 1
            self.kind = "code"
        elif tag in ("li", "dd"):
            self.flush()
            self.kind = "item" if tag == "li" else "text"
        elif tag in ("summary", "dt"):
            self.flush()
            self.answered()
        elif tag == "br":
            self.said.append("\n")
        elif tag in _blocks:
            self._break()

    def end(self, tag: str) -> None:
        if tag in _skipped:
            self.skip = max(0, self.skip - 1)
        elif self.skip:
            return
        elif tag == "table":
            self.tables = max(0, self.tables - 1)
            if not self.tables:
                self._table()
        elif self.tables:
            if tag in ("td", "th") and self.rows and self.rows[-1]:
                self.said.append(" ")
                self.rows[-1][-1] = _space.sub(" ", "".join(self.said)).strip()
                self.said = []
        elif tag == "pre":
            self.flush()
            self.pre = max(0, self.pre - 1)
        elif tag in ("summary", "dt"):
            self.asked, self.said = _space.sub(" ", "".join(self.said)).strip(), []
        elif tag in ("details", "dl"):
            self.flush()
            self.answered()
        elif tag in _headings or tag in ("li", "dd") or tag in _blocks:
            self._break()

    def data(self, said: str) -> None:
        if self.skip:
            return
        self.said.append(said)
        self.size += len(said)
        if (
            self.size > PIECE and not self.tables and self.kind != "heading"
        ):  # goes on without an end: handed on in pieces
            kind = self.kind
            self.flush()
            self.kind = kind

    def close(self) -> None:
        self.flush()
        self.answered()

    def _break(self) -> None:
        if self.kind != "code":
            self.flush()

    def _cell(self, tag: str) -> None:
        if tag == "tr":
            if len(self.rows) >= ROWS:
                head = self.rows[0]
                self._table()
                self.rows = [head]
            self.rows.append([])
        elif tag in ("td", "th"):
            self.said = []
            self.rows = self.rows or [[]]
            self.rows[-1].append("")
        elif tag == "br" or tag in _blocks:
            self.said.append(" ")

    def _table(self) -> None:
        rows, self.rows, self.said = [row for row in self.rows if any(row)], [], []
        if len(rows) == 1 or all(len(row) == 1 for row in rows):  # for layout
            for row in rows:
                for cell in filter(None, row):
                    self._out(Block("text", cell, self._next()))
            return
        width = max((len(row) for row in rows), default=0)
        lines = [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in [*row, *[""] * (width - len(row))]) + " |"
            for row in rows
        ]
        if lines:
            lines.insert(1, "|" + " --- |" * width)
            self._out(Block("table", "\n".join(lines), self._next()))

    def flush(self) -> None:
        """The block under way is at its end."""
        kind, level, raw = self.kind, self.level, "".join(self.said)
        self.kind, self.level, self.said, self.size = "text", 0, [], 0
        if kind == "code":
            said = raw.strip("\n")
        else:
            said = (
                "\n".join(filter(None, (_space.sub(" ", line).strip() for line in raw.split("\n"))))
                if "\n" in raw
                else _space.sub(" ", raw)
            )
            said = said.strip()
        if not said.strip():
            return
        if kind == "heading":
            self._out(Block("heading", said.replace("\n", " ").rstrip("¶#").strip(), self._next(), level=level))
        elif kind == "item":
            self._out(Block("item", f"- {said}", self._next()))
        else:
            self._out(Block(kind, said, self._next()))  # type: ignore[arg-type]

    def answered(self) -> None:
        """What a summary or term announced is at its end: a pair where it asks, else a text with its term before it."""
        asked, said = self.asked, "\n\n".join(self.answer)
        self.asked, self.answer = None, []
        if asked and said and asks(asked):
            self.out.append(Block("text", said, self._next(), question=asked))
        elif asked:
            self.out.append(Block("text", f"{asked}\n{said}".strip(), self._next()))

    def _out(self, block: Block) -> None:
        if self.asked is not None and block.kind != "heading":
            self.answer.append(block.text)
        else:
            self.out.append(block)

    def _next(self) -> int:
        self.count += 1
        return self.count


def charset(head: bytes) -> str:
    """A page's encoding: by its byte order mark, what its head declares where that holds, else as for any text."""
    found = encoding_of(head)
    declared = _charset.search(head[:4096])
    if declared and not head.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        name = declared[1].decode("ascii").lower()
        name = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "iso-8859-1": "cp1252"}.get(name, name)
        try:
            codecs.lookup(name)
            head[: len(head) - 4 if len(head) >= PROBE else len(head)].decode(name)
        except (LookupError, UnicodeDecodeError):
            return found
        return name
    return found


def blocks(path: Path, troubles: list[tuple[int, str]]) -> Iterator[Block]:
    """The Blocks of a page, their `at` counted from 1. A `summary` or `dt` that asks gives a block with a question."""
    from lxml import etree  # type: ignore[import-untyped]

    with path.open("rb") as file:
        encoding = charset(file.read(PROBE))
    page = _Page()
    parser = etree.HTMLParser(target=page, huge_tree=False, no_network=True, encoding="utf-8")
    with path.open(encoding=encoding, errors="replace", newline="") as text:
        while chunk := text.read(CHUNK):
            parser.feed(chunk.replace("\0", "").encode("utf-8", "replace"))
            yield from _taken(page)
    parser.close()
    yield from _taken(page)


def _taken(page: _Page) -> Iterator[Block]:
    taken, page.out = page.out, []
    yield from taken
