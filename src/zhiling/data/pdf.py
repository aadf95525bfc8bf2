"""PDF as Blocks: the text of each page in reading order as pypdf gives it, headings by the document's outline.

A page that holds a picture and no text is a scan: it is told, with what mends it. Recognising letters in pictures is not done here.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhiling.data.passages import Block
from zhiling.errors import say
from zhiling.text import lang, normalise

LARGEST = 500 * 1024 * 1024
"""Largest file, in bytes."""
EDGE, SHORT = 2, 70
"""So many lines at a page's head and foot, of so many characters at most, may be its running title and number."""
_ends = re.compile(r"[.!?。！？:：;；]['\"”’」）)]*$")


def blocks(path: Path, troubles: list[tuple[int, str]]) -> Iterator[Block]:
    """The Blocks of a PDF; `at` and `page` are the page's number from 1.

    In `troubles`: a file that is damaged, too large or needs a password, and pages that are scanned or cannot be read.
    """
    import pypdf
    from pypdf.errors import DependencyError, FileNotDecryptedError

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # what it mends silently is no user's business
    if path.stat().st_size > LARGEST:
        troubles.append((0, say("a PDF of more than 500 MB: split it", "PDF 超过 500 MB：请拆分")))
        return
    try:
        reader = pypdf.PdfReader(path, strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise FileNotDecryptedError("password")
        total = len(reader.pages)
    except FileNotDecryptedError:
        troubles.append((0, _locked()))
        return
    except DependencyError:
        troubles.append((0, _locked() + say(" (or pip install cryptography)", "（或 pip install cryptography）")))
        return
    except Exception as error:  # whatever a damaged file makes the library raise is said, and costs this file alone
        troubles.append((0, _damaged(error)))
        return
    yield from _pages(reader, total, troubles)


def _locked() -> str:
    return say("the PDF is encrypted: save a copy without a password", "PDF 已加密：请另存一份不带密码的副本")


def _damaged(error: Exception) -> str:
    said = f"{type(error).__name__}: {str(error)[:80]}"
    return say(f"the PDF is damaged ({said}): save or download it again", f"PDF 已损坏（{said}）：请重新保存或下载")


def _pages(reader: Any, total: int, troubles: list[tuple[int, str]]) -> Iterator[Block]:
    outline = _outline(reader)
    scans, said, running = list[int](), 0, set[str]()
    for number in range(1, total + 1):
        try:
            page = reader.pages[number - 1]
            lines = [line.rstrip() for line in (page.extract_text() or "").splitlines()]
            if number == 1:
                running = _running(reader, total)
        except Exception as error:  # one page's damage costs that page alone
            troubles.append(
                (
                    number,
                    say(f"page {number} cannot be read", f"无法读取第 {number} 页")
                    + f" ({type(error).__name__}: {str(error)[:80]})",
                )
            )
            continue
        if not any(line.strip() for line in lines):
            if _pictures(page):
                scans.append(number)
            continue
        said += 1
        yield from _page(_body(lines, running), number, outline.get(number, []))
    if scans and not said:
        troubles.append(
            (
                0,
                say(f"a scanned PDF: {total} pages of pictures without text", f"扫描版 PDF：{total} 页图片，没有文字")
                + _ocr(),
            )
        )
    else:
        troubles += [
            (at, say(f"page {at} is a picture without text", f"第 {at} 页是图片，没有文字") + _ocr()) for at in scans
        ]


def _ocr() -> str:
    return say(
        " — add a text layer first, e.g. ocrmypdf IN.pdf OUT.pdf",
        " — 请先做文字识别（OCR），例如 ocrmypdf 输入.pdf 输出.pdf",
    )


def _pictures(page: Any) -> bool:
    try:
        objects = page["/Resources"]["/XObject"].get_object()
        return any(one.get_object().get("/Subtype") in ("/Image", "/Form") for one in objects.values())
    except (KeyError, TypeError, AttributeError):
        return False


def _outline(reader: Any) -> dict[int, list[tuple[int, str]]]:
    """{page: [(depth, title)]} of the document's bookmarks; none where they are broken."""
    found: dict[int, list[tuple[int, str]]] = {}

    def walk(items: Any, level: int) -> None:
        for item in items:
            if isinstance(item, list):
                if level < 9:
                    walk(item, level + 1)
                continue
            at = reader.get_destination_page_number(item)
            title = str(item.title or "").strip()
            if at is not None and at >= 0 and title:
                found.setdefault(at + 1, []).append((level, title))

    try:
        walk(reader.outline, 1)
    except Exception as error:  # bookmarks are a help, no content: without them nothing is lost but headings
        logging.getLogger(__name__).debug("outline: %s", error)
    return found


def _running(reader: Any, total: int) -> set[str]:
    """The lines, figures aside, that stand at the edge of most of the first pages: running titles and page numbers."""
    looked = min(total, 12)
    if looked < 3:
        return set()
    counts = Counter[str]()
    for at in range(looked):
        lines = [line for line in (reader.pages[at].extract_text() or "").splitlines() if line.strip()]
        counts.update({_shape(line) for line in [*lines[:EDGE], *lines[-EDGE:]] if len(line) <= SHORT})
    return {shape for shape, count in counts.items() if count > 0.6 * looked}


def _shape(line: str) -> str:
    return re.sub(r"\d+", "#", normalise(line))


def _body(lines: list[str], running: set[str]) -> list[str]:
    """The page's lines without its running title and number."""
    full = [at for at, line in enumerate(lines) if line.strip()]
    edge = {*full[:EDGE], *full[-EDGE:]}
    return [line for at, line in enumerate(lines) if at not in edge or _shape(line) not in running]


def _page(lines: list[str], number: int, titles: list[tuple[int, str]]) -> Iterator[Block]:
    """A page's paragraphs, a bookmark's title becoming a heading where the page says it (at the page's head where it does not)."""
    waiting = list(titles)
    missing = [one for one in waiting if not any(normalise(one[1]) in normalise(line) for line in lines)]
    for level, title in missing:
        yield Block("heading", title, number, str(number), level)
    waiting = [one for one in waiting if one not in missing]
    held = list[str]()
    width = (
        sorted(len(line) for line in lines if line.strip())[int(0.8 * sum(bool(line.strip()) for line in lines))]
        if any(lines)
        else 0
    )
    for line in lines:
        named = next(
            (one for one in waiting if normalise(one[1]) in normalise(line) and len(line) < len(one[1]) + 12), None
        )
        if named:
            yield from _paragraph(held, number)
            held = []
            waiting.remove(named)
            yield Block("heading", named[1], number, str(number), named[0])
            continue
        if not line.strip():
            yield from _paragraph(held, number)
            held = []
            continue
        held.append(line)
        if _ends.search(line) and len(line) < 0.75 * width:  # a short last line
            yield from _paragraph(held, number)
            held = []
    yield from _paragraph(held, number)


def _paragraph(lines: list[str], number: int) -> Iterator[Block]:
    """Lines set to a page's width as the running text that they are: words parted by a hyphen joined, Chinese joined without a space."""
    said = ""
    for raw in lines:
        line = raw.strip()
        if said.endswith("-") and said[-2:-1].isalpha() and line[:1].islower():
            said = said[:-1] + line
        elif (said and lang(said[-1]) == "zh") or (said[-1:] in "，。、；：！？）》”" and said):
            said += line
        else:
            said = f"{said} {line}".strip()
    if said:
        from zhiling.data.documents import paragraphs

        yield from paragraphs([(number, said)], str(number))
