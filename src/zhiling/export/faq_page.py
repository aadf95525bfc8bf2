"""How an FAQ looks: Markdown and HTML by the templates in `library/pages`, where passages stand, what in them answers rest on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from zhiling import text
from zhiling.construct.documents import evidence
from zhiling.types import Record

if TYPE_CHECKING:
    from zhiling.export.faq import Entry, Page

_local = re.compile(r"!?\[([^\]]*)\]\((?!https?://)[^)]*\)|!\[([^\]]*)\]\([^)]*\)")

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "faq": "Questions and answers", "contents": "Contents", "sources": "Passages", "cite": "Source", "page": "p.", "line": "line",
        "also": "Also asked as", "against": "Contradicted", "covers": "{cited} of {total} passages cited, {share} of the text",
        "count": "{count} questions", "uncited": "Passages that no question cites", "back": "back", "flags": "{count} contradictions",
        "other": "Answers",
    },
    "zh": {
        "faq": "常见问题", "contents": "目录", "sources": "原文", "cite": "出处", "page": "第 {} 页", "line": "第 {} 行",
        "also": "另一种问法", "against": "有矛盾", "covers": "引用了 {total} 段中的 {cited} 段，占原文的 {share}",
        "count": "{count} 个问题", "uncited": "没有问题引用的原文", "back": "返回", "flags": "{count} 处矛盾", "other": "答案",
    },
}  # fmt: skip


def render(page: Page, template: str) -> str:
    """The page as text, by a template of `library/pages`. What documents and models wrote is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    words = WORDS[page.lang]
    env = Environment(
        loader=PackageLoader("zhiling", "library/pages"), autoescape=template.endswith(".html.j2"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    cited, total, share = page.coverage
    numbers = {record.id: at for at, record in enumerate(page.passages, 1)}
    uses: dict[str, list[tuple[int, Entry]]] = {}
    for at, entry in enumerate(page.entries, 1):
        for record in entry.cites:
            uses.setdefault(record.id, []).append((at, entry))
    env.globals.update(
        w=words, id_of=id, where=lambda record: place(record, page.lang), number=lambda record: numbers[record.id],
        marked=lambda record: marked(record.fields[page.said_in], [entry for _, entry in uses.get(record.id, ())]),
        covers=words["covers"].format(cited=cited, total=total, share=f"{share:.0%}"), uses=uses, quoted=quoted, flat=flat,
        cut=text.cut, html_of=html_of, safe=safe,
        flags=sum(bool(entry.against) for entry in page.entries), entry_number={id(entry): at for at, entry in enumerate(page.entries, 1)},
        said=lambda record: record.fields[page.said_in],
    )  # fmt: skip
    return env.get_template(template).render(page=page, title=page.title or words["faq"])


def place(record: Record, lang: str) -> str:
    """Where a passage stands, in words: document, headings, page or line."""
    fields, words = record.fields, WORDS[lang]
    path = fields.get("heading", "").replace(" > ", " › ")
    parts = [fields.get("source") or record.file, path]
    if page := fields.get("page", ""):
        parts.append(
            page if ":" in page else words["page"].format(page) if "{}" in words["page"] else f"{words['page']} {page}"
        )
    elif record.line and not record.file.lower().endswith((".html", ".htm", ".docx")):  # which have no lines
        parts.append(words["line"].format(record.line) if "{}" in words["line"] else f"{words['line']} {record.line}")
    return ("，" if lang == "zh" else ", ").join(part for part in parts if part)


def marked(passage: str, entries: Sequence[Entry]) -> list[tuple[str, bool]]:
    """A passage in stretches (text, whether answers rest on it)."""
    spans = sorted({span for entry in entries if (span := _support(passage, entry.answer))})
    out, at = list[tuple[str, bool]](), 0
    for start, end in spans:
        if end <= at:
            continue
        if start > at:
            out.append((passage[at:start], False))
        out.append((passage[max(at, start) : end], True))
        at = end
    return [*out, (passage[at:], False)] if at < len(passage) else out


def _support(passage: str, answer: str) -> tuple[int, int] | None:
    """The stretch that an answer is taken from, or the sentence that holds most of its words."""
    if span := evidence.locate(passage, answer):
        return span.start, span.end
    best = max(text.sentences(passage), key=lambda one: (evidence.covered(answer, one), -len(one)), default="")
    at = passage.find(best)
    return (at, at + len(best)) if best and at >= 0 and evidence.covered(answer, best) >= 0.3 else None


def html_of(said: str) -> Markup:
    """An answer's Markdown as HTML: no tags of its own, no pictures, and links to the web alone."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")
    return Markup(reader.render(_local.sub(r"\1", said)))  # what it is given is escaped


def quoted(said: str) -> str:
    """A text as a Markdown quotation."""
    return "\n".join(f"> {line}".rstrip() for line in safe(said).splitlines())


_code = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)


def safe(said: str) -> str:
    """Markdown without tags and headings of its own, outside code: it stands within a page."""
    parts = _code.split(said)
    return "".join(
        part if at % 2 else re.sub(r"^(\s*)#", r"\1\\#", part.replace("<", "\\<"), flags=re.MULTILINE)
        for at, part in enumerate(parts)
    )


def flat(said: str) -> str:
    """A text on one line that Markdown takes for no heading, link or tag."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(said.split()))
