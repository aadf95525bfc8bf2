"""Passages of a document: what stands under one heading, in pieces of bounded size, with their heading path and place.

A reader of some format turns a document into Blocks; `pack` puts them together. Nothing overlaps, nothing is lost, and the memory it
takes does not grow with the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from zhiling.data.files import Row
from zhiling.text import CJK, normalise, sentences

SIZE = 400
"""Most tokens of a passage: characters in Chinese, words elsewhere."""
WHOLE = 1200
"""Up to so many tokens a table, a piece of code and the answer to a heading that asks stay in one passage."""
PIECE = 20_000
"""Longest text, in characters, that a reader hands on as one Block."""

_number = re.compile(
    r"^\s*(?:\d+(?:\.\d+)*[.)、．]?|[（(]?[一二三四五六七八九十]+[)）、.]|Q\d*[.:：])\s+|^\s*[一二三四五六七八九十]+、\s*",
    re.I,
)
_asking = re.compile(
    r"^(?:how (?:to|do|does|can|should|long|much|many|often)|why|what|where|when|who|which|can|is|are|do|does)\b", re.I
)
_asking_plain = re.compile(
    r"^(?:how (?:to|do|does|can|should|long|much|many|often)|why (?:do|does|is|are|can))\b", re.I
)
_asking_zh = re.compile(
    r"如何|怎么|怎样|为什么|为何|是否|什么|哪些|哪个|哪里|多少|多久|能否|可否|有没有|会不会|能不能|可不可以|吗$"
)


_unit = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")


def length(said: str) -> int:
    """Tokens of a text, near what `text.length` counts, in a fifth of its time: documents are long."""
    return len(_unit.findall(said))


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a document in reading order.

    `at` is its line (text formats), page (PDF) or number among the blocks (HTML, DOCX); `page` the page or time as a reader says it, "" where
    there is none; `level` a heading's depth from 1. One with a `question` is the answer to it, and a passage of its own.
    """

    kind: Literal["heading", "text", "item", "table", "code"]
    text: str
    at: int = 0
    page: str = ""
    level: int = 0
    question: str = ""


def asks(heading: str) -> bool:
    """Whether a heading is a question, with or without its mark."""
    said = unnumbered(heading)
    if said.endswith(("?", "？")):
        return True
    return bool(_asking_plain.match(said) or (_asking_zh.search(said) and not _asking.match(said)))


_faq = re.compile(r"\bFAQs?\b|\bfrequently asked|\bQ\s*&\s*A\b|常见问题|常見問題|问答", re.I)


def entry(title: str, level: int, heading: str) -> bool:
    """Whether a heading is an entry of an FAQ page: one below the title of a page that calls itself so, of three words or more."""
    return bool(_faq.search(title)) and level > 1 and length(unnumbered(heading)) >= 3 and not _faq.search(heading)


def unnumbered(heading: str) -> str:
    """A heading without its number ("1.1.2 ", "三、", "Q3: ")."""
    return _number.sub("", heading.strip()).strip()


@dataclass(slots=True)
class _Section:
    """What stands under one heading and is not packed yet."""

    path: list[tuple[int, str]] = field(default_factory=list)
    held: list[Block] = field(default_factory=list)
    size: int = 0
    pieces: int = 0
    pairs: list[Block] = field(default_factory=list)

    def question(self, title: str) -> str:
        """Its heading where that is a question, "" where it is none."""
        level, heading = self.path[-1] if self.path else (0, "")
        return unnumbered(heading) if asks(heading) or entry(title, level, heading) else ""


def pack(blocks: Iterable[Block], source: str, size: int = SIZE) -> Iterator[Row]:
    """Blocks as rows {title, heading, passage, page, source, question, answer} of at most `size` tokens.

    `heading` is the path of headings ("Guide > Install"). A section whose heading asks something, or is an entry of an FAQ page, is kept
    whole up to WHOLE tokens, its heading and text are `question` and `answer`; so are pairs that the document marks. Both are empty
    elsewhere. Tables and code
    of up to WHOLE tokens are whole; longer ones are parted between lines, a table's head being said again, text between sentences. What
    ends in a colon stays with what it announces.
    """
    now, title = _Section(), ""
    for block in blocks:
        if block.kind == "heading":
            yield from _close(now, title, source)
            path = [item for item in now.path if item[0] < block.level]
            title = title or block.text
            now = _Section([*path, (block.level, block.text)])
        elif block.question:
            now.pairs.append(block)
            if len(now.pairs) >= 1000:
                yield from _paired(now, "", title, source)
        elif block.text.strip():
            yield from _add(now, block, title, source, size)
    yield from _close(now, title, source)


def _add(now: _Section, block: Block, title: str, source: str, size: int) -> Iterator[Row]:
    most = WHOLE if not now.pieces and now.question(title) else size
    for part, tokens in _parts(block, size):
        if now.held and now.size + tokens > most:
            most = size
            last = now.held[-1]
            announces = len(now.held) > 1 and last.text.rstrip().endswith((":", "："))
            carried = [now.held.pop()] if announces else []
            yield _row(now, now.held, title, source)
            now.pieces += 1
            now.held, now.size = carried, sum(length(one.text) for one in carried)
        now.held.append(part)
        now.size += tokens


def _close(now: _Section, title: str, source: str) -> Iterator[Row]:
    """The end of a section: what is left of it, as the answer to its heading where that asks and all of it is here."""
    said = _said(now.held)
    yield from _paired(now, said, title, source)
    if now.held:
        question = now.question(title) if not now.pieces else ""
        yield _row(now, now.held, title, source, question, said if question else "")


def _paired(now: _Section, text: str, title: str, source: str) -> Iterator[Row]:
    """The section's marked pairs. The passage of one is the section's text where the answer is taken from it, else the answer itself.

    A section that is told in its pairs is told once.
    """
    plain, taken = normalise(text), False
    for pair in now.pairs:
        inside = bool(plain) and normalise(pair.text) in plain
        taken |= inside
        base = _row(now, now.held if inside else [pair], title, source, pair.question, pair.text)
        yield (pair.at, base[1])
    now.pairs = []
    if taken:
        now.held = []


def _said(blocks: Iterable[Block]) -> str:
    out: list[str] = []
    before = ""
    for block in blocks:
        close = block.kind == before == "item" or (block.page and "-->" in block.page)
        out += ["\n" if close else "\n\n"] if out else []
        out.append(block.text.strip("\n"))
        before = block.kind
    return "".join(out).strip()


def _row(
    now: _Section, blocks: list[Block], title: str, source: str, question: str = "", answer: str = ""
) -> tuple[int, dict[str, str]]:
    first, last = blocks[0].page, blocks[-1].page
    page = first if first == last or not last else f"{first.split('–')[0]}–{last.split('–')[-1]}"
    return blocks[0].at, {
        "title": title, "heading": " > ".join(said for _, said in now.path), "passage": _said(blocks), "page": page, "source": source,
        "question": question, "answer": answer,
    }  # fmt: skip


def _parts(block: Block, size: int) -> Iterator[tuple[Block, int]]:
    """A block as it may stand in a passage, with its tokens: whole, or in pieces where it is too long."""
    tokens = length(block.text)
    if tokens <= size or (block.kind in ("table", "code") and tokens <= WHOLE):
        yield block, tokens
        return
    for said in _ruled(block) if block.kind in ("table", "code") else _prose(block, size):
        yield Block(block.kind, said, block.at, block.page), length(said)


def _prose(block: Block, size: int) -> Iterator[str]:
    spaced = re.split(r"(?<=\n)", block.text) if block.kind == "item" else _spaced(block.text)
    return _gathered((part for one in spaced for part in _cut(one, size)), size)


def _ruled(block: Block) -> Iterator[str]:
    """A long table with its head said again in each piece, long code with its fences."""
    lines = block.text.splitlines(keepends=True)
    headed = block.kind == "table" and len(lines) > 2 and set(lines[1].strip()) <= set("|-: ")
    head = "".join(lines[:2]) if headed else ""
    fence = lines[0].strip() if block.kind == "code" and lines[0].lstrip().startswith(("```", "~~~")) else ""
    cut = (piece for line in lines[2 if headed else 0 :] for piece in _cut(line, WHOLE))
    pieces = list(_gathered(cut, WHOLE - length(head)))
    for at, said in enumerate(pieces):
        opened = f"{fence}\n{said}" if fence and at else head + said
        yield f"{opened}\n{fence[:3]}" if fence and at < len(pieces) - 1 else opened


def _spaced(said: str) -> list[str]:
    """The sentences of a text, each with the white space that follows it."""
    out, at = list[str](), 0
    for sentence in sentences(said):
        start = said.find(sentence, at)
        end = start + len(sentence)
        while end < len(said) and said[end].isspace():
            end += 1
        out.append(said[at:end])
        at = end
    return [*out, said[at:]] if at < len(said) else out


def _cut(said: str, size: int) -> Iterator[str]:
    """A line or sentence that is itself too long, in pieces."""
    if length(said) <= size:
        yield said
        return
    step = max(1, int(size * len(said) / length(said)))
    for at in range(0, len(said), step):
        yield said[at : at + step]


def _gathered(pieces: Iterable[str], size: int) -> Iterator[str]:
    held, count = list[str](), 0
    for piece in pieces:
        tokens = length(piece)
        if held and count + tokens > size:
            yield "".join(held).rstrip()
            held, count = [], 0
        held.append(piece)
        count += tokens
    if held:
        yield "".join(held).rstrip()
