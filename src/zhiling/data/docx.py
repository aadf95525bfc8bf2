"""Word documents (DOCX) as Blocks: the XML inside is streamed, sizes are checked before anything is unpacked, no entity is resolved."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhiling.data.passages import Block
from zhiling.errors import say

BODY, STYLES = "word/document.xml", "word/styles.xml"
LARGEST = 200 * 1024 * 1024
"""Most bytes that a part may unpack to."""
RATIO = 300
"""Most that a part of more than a megabyte may be packed by: prose reaches 10 to 20, a bomb 1,000."""
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_heading = re.compile(r"^(?:heading|标题|標題)\s*([1-9])$", re.I)


def is_docx(path: Path) -> bool:
    """Whether a ZIP archive is a Word document; a damaged one is taken for what its name says."""
    try:
        with zipfile.ZipFile(path) as archive:
            return BODY in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return path.suffix.lower() in (".docx", ".docm")


def blocks(path: Path, troubles: list[tuple[int, str]]) -> Iterator[Block]:
    """The Blocks of a document, their `at` counted from 1. What was deleted with changes tracked is left out, as are notes and headers.

    A damaged, encrypted or oversized archive is told in `troubles`.
    """
    from lxml import etree  # type: ignore[import-untyped]

    count = 0
    try:
        with zipfile.ZipFile(path) as archive:
            if why := _unsafe(archive):
                troubles.append((0, why))
                return
            levels = _levels(archive, etree)
            with archive.open(BODY) as body:
                for block in _body(etree.iterparse(body, events=("start", "end"), **_SAFE), levels):
                    count += 1
                    yield Block(block.kind, block.text, count, level=block.level)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        troubles.append((count, _broken(error)))
    except etree.XMLSyntaxError as error:
        troubles.append((count, _broken(error)))
    except (
        Exception
    ) as error:  # zlib.error, struct.error, ...: whatever a damaged archive makes a library raise is said
        troubles.append((count, _broken(error)))


_SAFE: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": False,
    "recover": False,
}


def _broken(error: Exception) -> str:
    if isinstance(error, RuntimeError) and "password" in str(error):
        return say("the document is encrypted: save it without a password", "文档已加密：请去掉密码后另存")
    return say(f"the DOCX file is damaged ({error}): save it again", f"DOCX 文件已损坏（{error}）：请重新保存")


def _unsafe(archive: zipfile.ZipFile) -> str:
    for name in (BODY, STYLES):
        if name not in archive.namelist():
            continue
        part = archive.getinfo(name)
        packed = max(1, part.compress_size)
        if part.file_size > LARGEST or (part.file_size > 1024 * 1024 and part.file_size / packed > RATIO):
            size = f"{part.file_size / 1024 / 1024:.0f} MB"
            return say(
                f"{name} would unpack {part.compress_size / 1024:.0f} KB to {size}: not opened (a ZIP bomb?)",
                f"{name} 会从 {part.compress_size / 1024:.0f} KB 解压成 {size}：没有打开（可能是压缩炸弹）",
            )
    return ""


def _levels(archive: zipfile.ZipFile, etree: Any) -> dict[str, int]:
    """{style id: depth} of the styles that are headings, by their outline level or name."""
    found: dict[str, int] = {}
    if STYLES not in archive.namelist():
        return found
    based: dict[str, str] = {}
    with archive.open(STYLES) as file:
        for _, style in etree.iterparse(file, events=("end",), tag=f"{_W}style", **_SAFE):
            key = style.get(f"{_W}styleId", "")
            name, outline = style.find(f"{_W}name"), style.find(f"{_W}pPr/{_W}outlineLvl")
            said = name.get(f"{_W}val", "") if name is not None else ""
            parent = style.find(f"{_W}basedOn")
            if parent is not None:
                based[key] = parent.get(f"{_W}val", "")
            if match := _heading.match(said):
                found[key] = int(match[1])
            elif (
                outline is not None and outline.get(f"{_W}val", "9").isdigit() and int(outline.get(f"{_W}val", "9")) < 9
            ):
                found[key] = int(outline.get(f"{_W}val", "9")) + 1
            elif said.lower() == "title":
                found[key] = 1
            style.clear()
    for key, parent_key in based.items():
        if key not in found and parent_key in found:
            found[key] = found[parent_key]
    return found


def _body(events: Any, levels: dict[str, int]) -> Iterator[Block]:
    """Paragraphs and tables in order; what was read is freed at once."""
    depth = 0  # of tables
    for event, node in events:
        if node.tag == f"{_W}tbl":
            depth += 1 if event == "start" else -1
            if event == "end" and not depth:
                if said := _table(node):
                    yield Block("table", said)
                _free(node)
        elif node.tag == f"{_W}p" and event == "end" and not depth and not _inside(node):
            if block := _paragraph(node, levels):
                yield block
            _free(node)


def _inside(node: Any) -> bool:
    """Whether a paragraph stands within another one: a text box, which that one tells."""
    parent = node.getparent()
    while parent is not None:
        if parent.tag == f"{_W}p":
            return True
        parent = parent.getparent()
    return False


def _free(node: Any) -> None:
    node.clear()
    while node.getprevious() is not None and node.getparent() is not None:
        del node.getparent()[0]


def _paragraph(node: Any, levels: dict[str, int]) -> Block | None:
    said = _text(node).strip()
    if not said:
        return None
    style, outline = node.find(f"{_W}pPr/{_W}pStyle"), node.find(f"{_W}pPr/{_W}outlineLvl")
    level = levels.get(style.get(f"{_W}val", ""), 0) if style is not None else 0
    if outline is not None and outline.get(f"{_W}val", "9") in set("012345678"):
        level = int(outline.get(f"{_W}val")) + 1
    if level:
        return Block("heading", said.replace("\n", " "), level=level)
    if node.find(f"{_W}pPr/{_W}numPr") is not None:
        return Block("item", f"- {said}")
    return Block("text", said)


def _text(node: Any) -> str:
    """The words of a paragraph: those of links and insertions too; not what was deleted, nor an older program's copy of a text box."""
    out = list[str]()
    for part in node:
        tag = part.tag.rpartition("}")[2] if isinstance(part.tag, str) else ""
        if tag == "t":
            out.append(part.text or "")
        elif tag == "tab":
            out.append("\t")
        elif tag in ("br", "cr"):
            out.append("\n")
        elif tag == "noBreakHyphen":
            out.append("-")
        elif tag not in ("del", "moveFrom", "Fallback", "pPr", "rPr", "instrText", "delText"):
            out.append(_text(part))
            if tag == "p":
                out.append("\n")
    return "".join(out)


def _table(node: Any) -> str:
    rows = []
    for row in node.iterchildren(f"{_W}tr"):
        cells = [" ".join(_text(cell).split()).replace("|", "\\|") for cell in row.iterchildren(f"{_W}tc")]
        if any(cells):
            rows.append(cells)
    if not rows:
        return ""
    width = max(len(row) for row in rows)
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in rows]
    if len(lines) > 1:
        lines.insert(1, "|" + " --- |" * width)
    return "\n".join(lines)
