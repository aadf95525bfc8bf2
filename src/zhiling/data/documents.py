"""Documents: Markdown by section and question, plain text by paragraph; and any document by passages, whatever it is written in.

`passages` is the reader that a recipe names as `format: passages`: Markdown, HTML, PDF, DOCX, plain text, subtitles, or a folder of
them. Which format a file has is told by its first bytes where they say so, else by its name.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from zhiling.data.files import Row
from zhiling.data.lines import lines, opened
from zhiling.data.markdown import ANSWERED, ASKED, HEADING
from zhiling.data.passages import PIECE, Block, pack
from zhiling.errors import DataError, say

SUFFIXES = (
    "md", "markdown", "html", "htm", "xhtml", "pdf", "docx", "docm", "txt", "text", "rst", "log", "srt", "vtt", "ass", "ssa",
)  # fmt: skip
"""Names' endings that are read as documents."""
_READERS = {
    "md": "documents:_markdown", "txt": "documents:_plain", "srt": "documents:_subtitles", "ass": "documents:_subtitles",
    "html": "html:blocks", "pdf": "pdf:blocks", "docx": "docx:blocks",
}  # fmt: skip
_ALIKE = {
    "markdown": "md", "htm": "html", "xhtml": "html", "docm": "docx", "text": "txt", "rst": "txt", "log": "txt", "vtt": "srt", "ssa": "ass",
}  # fmt: skip
_chapter = re.compile(
    r"^(?:第\s*[一二三四五六七八九十百零〇\d]{1,6}\s*[章节回部篇卷条]|(?:Chapter|Section|Part|Appendix)\s+[\dA-Z])",
    re.I,
)
_numbered = re.compile(r"^(\d{1,3}(?:\.\d{1,3}){0,4})[.、]?\s+\S")


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
        found = None if fenced else HEADING.match(line)
        if found:
            yield from section()
            passage, asked, start = [], [], number
            if len(found[1]) == 1:
                title = found[2]
            heading = found[2]
        elif not fenced and (question := ASKED.match(line)):
            pending = (number, question[1].strip("*").strip())
        elif not fenced and pending[1] and (answer := ANSWERED.match(line)):
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


def passages(path: Path, source: str = "") -> Iterator[Row]:
    """A document's passages, as `passages.pack` says; `source` is what it is called in them (default: the file's name).

    What of it cannot be read, or all of it, is told in a row's stead: a scanned or encrypted PDF, a damaged or oversized archive, a file
    that is something else than its name says. Streams; only PDF and DOCX files are opened as a whole.
    """
    kind = kind_of(path)
    if isinstance(kind, tuple):
        yield 0, kind[0]
        return
    troubles = list[tuple[int, str]]()
    module, _, name = _READERS[kind].partition(":")
    reader = getattr(importlib.import_module(f"zhiling.data.{module}"), name)
    found = 0
    try:
        for row in pack(reader(path, troubles), source or path.name):
            while troubles:
                found += 1
                yield troubles.pop(0)
            found += 1
            yield row
    except DataError as error:  # a damaged gzip file costs itself alone, as any damaged document does
        troubles.append((found, error.what))
    yield from troubles
    if not found and not troubles:
        yield 0, say("the document holds no text", "文档中没有文字")


def readable(folder: Path) -> list[Path]:
    """The files of a folder that may be documents, in reading order: all but hidden ones and what office programs and systems leave lying.

    Raises DataError for a folder without any.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not _left(path.relative_to(folder)))
    if not any(_suffix(path) in SUFFIXES for path in found):
        raise DataError(
            say("no document in this folder", "文件夹中没有文档"),
            where=str(folder),
            mend=say(f"it may hold: {', '.join(SUFFIXES)}", f"可识别的格式：{'、'.join(SUFFIXES)}"),
        )
    return found


def alone(folder: Path) -> bool:
    """Whether a folder holds PDF, DOCX or HTML documents and no file of data rows: then it is meant as documents."""
    suffixes = {_suffix(path) for path in folder.rglob("*") if path.is_file() and not _left(path.relative_to(folder))}
    return bool(suffixes & {"pdf", "docx", "html", "htm"}) and not suffixes & {
        "csv", "tsv", "json", "jsonl", "ndjson", "parquet", "pq", "arrow", "feather", "sqlite", "db", "duckdb",
    }  # fmt: skip


def kind_of(path: Path) -> str | tuple[str]:
    """Which reader a document wants; (why,) where none can read it."""
    suffix = _suffix(path)
    kind = _ALIKE.get(suffix, suffix)
    with path.open("rb") as file:
        head = file.read(2048)
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        from zhiling.data.docx import is_docx

        return "docx" if is_docx(path) else (_else(suffix, say("a ZIP archive", "ZIP 压缩包")),)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        old = say("an old or encrypted Office file", "旧版或加密的 Office 文件")
        return (
            f"{_else(suffix, old)} — {say('save it as DOCX or PDF, without a password', '请另存为不带密码的 DOCX 或 PDF')}",
        )
    if kind in ("pdf", "docx"):
        what = say("a web page", "网页") if _is_html(head) else say("nothing of the kind", "并非该格式")
        return (_else(suffix, what if head else say("an empty file", "空文件")),)
    if kind not in _READERS:
        return (say(f"no reader for '.{suffix}' files", f"没有读取 .{suffix} 文件的方法"),)
    packed = head.startswith(b"\x1f\x8b") and path.suffix.lower() == ".gz" and kind != "html"
    if b"\0" in head and not packed and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return (_else(suffix, say("no text: it holds NUL bytes", "并非文本：含有空字节")) + _utf8(),)
    return "html" if kind == "txt" and _is_html(head) else kind


def _utf8() -> str:
    return say(" — if it is text, save it as UTF-8", " — 如果是文本，请另存为 UTF-8")


def _else(suffix: str, what: str) -> str:
    return say(f"named .{suffix}, but it is {what}", f"文件名为 .{suffix}，实际是{what}")


def _is_html(head: bytes) -> bool:
    return re.match(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<(?:!doctype\s+html|html)\b", head, re.I) is not None


def _left(path: Path) -> bool:
    """Hidden files, and what others leave: ~$report.docx, Thumbs.db, __MACOSX."""
    return (
        path.name.startswith("~$")
        or path.name.lower() in ("thumbs.db", "desktop.ini")
        or any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    )


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower().lstrip(".") for suffix in path.suffixes]
    if suffixes and suffixes[-1] == "gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text), over-long lines in pieces: a text of 200 MB may be one line."""
    with opened(path) as file:
        number = 1
        while line := file.readline(PIECE):
            yield number, line
            number += line.endswith("\n")


def _markdown(path: Path, troubles: list[tuple[int, str]]) -> Iterator[Block]:
    from zhiling.data.markdown import blocks

    return blocks(_lines(path))


def _plain(path: Path, troubles: list[tuple[int, str]]) -> Iterator[Block]:
    return paragraphs(_lines(path))


def paragraphs(given: Iterable[tuple[int, str]], page: str = "") -> Iterator[Block]:
    """Plain text as Blocks: paragraphs parted by blank lines, chapter and section headings on lines of their own, marked questions."""
    held, start, size = list[str](), 0, 0
    question = ("", 0)

    def flush() -> Iterator[Block]:
        nonlocal question, held, size
        said = "\n".join(held).strip("\n")
        if question[0]:
            yield Block("text", said or question[0], question[1], page, question=question[0] if said else "")
        elif said.strip():
            level = _level(said)
            yield Block("heading", said.strip(), start, page, level) if level else Block("text", said, start, page)
        question, held, size = ("", 0), [], 0

    for number, raw in given:
        line = raw.rstrip()
        if asked := ASKED.match(line):
            yield from flush()
            question = (asked[1], number)
        elif question[0] and not held and (answer := ANSWERED.match(line)):
            held, size = [answer[1]], len(answer[1])
        elif not line.strip() and not (question[0] and not held):
            yield from flush()
        elif line.strip():
            start = start if held else number
            held.append(line)
            size += len(line)
            if size > PIECE:
                yield from flush()
    yield from flush()


def _level(said: str) -> int:
    """A heading's depth, for a paragraph that looks like one: a chapter's name, or a number and a title; 0 for any other."""
    line = said.strip()
    if "\n" in line or len(line) > 80 or line[-1:] in ".。!！;；,，:：":
        return 0
    if _chapter.match(line):
        return 1
    found = _numbered.match(line)
    return found[1].count(".") + 1 if found and not line[-1:].isdigit() else 0


def _subtitles(path: Path, troubles: list[tuple[int, str]]) -> Iterator[Block]:
    """Subtitles as one text: each cue a line, its time what a page is to a book."""
    from zhiling.data.subtitles import ass, cues

    for number, row in (ass if _suffix(path) in ("ass", "ssa") else cues)(path):
        if isinstance(row, str):
            troubles.append((number, row))
        elif row["text"].strip():
            yield Block("item", str(row["text"]), number, _time(str(row["start"])))


def _time(stamp: str) -> str:
    return re.sub(r"[.,]\d+$", "", stamp)
