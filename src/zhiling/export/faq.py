"""A run's FAQ rows as a page: grouped by topic, each question once, answers that contradict each other flagged, every answer citing the
passage that supports it, and how much of the documents they cover. As Markdown and as HTML that needs nothing but itself."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zhiling import text
from zhiling.construct.documents import evidence
from zhiling.construct.documents.pieces import plain
from zhiling.embed import Embedder, Use
from zhiling.errors import DataError, RecipeError, boundary, say
from zhiling.export.faq_page import render
from zhiling.select.semantic_pairs import difference, facts
from zhiling.store import current, read
from zhiling.types import Example, Record, Verdict

LIKE = 0.7
"""Cosine from which on two questions are like enough for their answers to be compared."""
SHORT = 40
"""Tokens up to which two answers that give different numbers are taken to contradict each other."""
MANY = 15
"""Questions of one document from which on they are grouped by meaning."""
TOGETHER = 0.42
"""Cosine to a group's centre from which on a question belongs to it."""
SAME_ROWS = frozenset({"exact", "near", "semantic"})
_no = re.compile(
    r"\b(?:no|not|cannot|can't|never|none|isn't|doesn't|don't|won't|unsupported)\b|"
    r"不(?:支持|能|可|会|行|允许|需|用|必|应|得|建议|是|存在|包含|提供|收)|无法|没有|尚未|禁止|否(?!则)", re.I,
)  # fmt: skip
_amount = re.compile(
    r"\bhow (?:many|much|long|often|far|old)\b|\bwhen\b|\bwhat (?:time|date|version|size|limit)\b"
    r"|多少|多久|多长|多大|几|何时|什么时候|上限", re.I,
)  # fmt: skip
_whether = re.compile(
    r"^(?:can|could|do|does|did|is|are|was|were|will|should|may|must|has|have)\b|是否|能否|可否|吗|能不能|可不可以|有没有",
    re.I,
)


@dataclass(slots=True)
class Entry:
    """One question of the page: its answer, the passages that it cites, and answers that say otherwise (question, answer, record, why)."""

    row: Example
    cites: list[Record]
    also: list[str] = field(default_factory=list)
    against: list[tuple[str, str, Record, str]] = field(default_factory=list)

    @property
    def question(self) -> str:
        return self.row.instruction

    @property
    def answer(self) -> str:
        return self.row.output


@dataclass(frozen=True, slots=True)
class Page:
    """An FAQ: [(topic, entries)] in the order of the documents, the passages in that order, and those that nothing cites."""

    title: str
    lang: str
    groups: list[tuple[str, list[Entry]]]
    passages: list[Record]
    uncited: list[Record]
    said_in: str

    @property
    def entries(self) -> list[Entry]:
        return [entry for _, entries in self.groups for entry in entries]

    @property
    def coverage(self) -> tuple[int, int, float]:
        """(passages cited, passages, share of the documents' tokens that lies in cited ones)."""
        size = {record.id: text.length(record.fields[self.said_in]) for record in self.passages}
        lost = sum(size[record.id] for record in self.uncited)
        total = sum(size.values())
        return len(self.passages) - len(self.uncited), len(self.passages), 1 - lost / total if total else 0.0


def write(folder: Path, out: Path, embedder: Embedder | None = None) -> int:
    """Write a run's FAQ to `out` (.html or .md), and beside it in the other format; returns how many questions it has.

    Raises RecipeError for another ending, DataError for a run without FAQ rows.
    """
    if out.suffix.lower() not in (".html", ".htm", ".md", ".markdown"):
        mend = say("name a file that ends in .html or .md", "请使用 .html 或 .md 结尾的文件名")
        raise RecipeError(
            say("an FAQ is written as HTML and Markdown", "FAQ 以 HTML 和 Markdown 写出"), where=str(out), mend=mend
        )
    page = gather(folder, embedder or Use())
    html = out.suffix.lower().startswith(".h")
    for path, name in (
        (out if html else out.with_suffix(".html"), "faq.html.j2"),
        (out.with_suffix(".md") if html else out, "faq.md.j2"),
    ):
        _save(path, render(page, name))
    return len(page.entries)


def gather(folder: Path, embedder: Embedder) -> Page:
    """The page of a run: its kept FAQ rows, with what was dropped as a repeat of one as a further citation, or as a contradiction."""
    done = current(folder)
    records = {one.id: one for step in done for one in read(folder, step.of("records"))}
    kept = {row.id: row for step in done for row in read(folder, step.of("kept")) if _is_faq(row)}
    if not kept:
        raise DataError(
            say("this run has kept no FAQ rows", "该运行没有保留 FAQ 数据"),
            where=str(folder),
            mend=say(
                "construct them with faq, and run at least until select", "请用 faq 构造，并至少运行到 select 阶段"
            ),
        )
    verdicts = (one for step in done for one in read(folder, step.of("verdicts")))
    fell = {one.example: one.rival for one in verdicts if _repeats(one)}
    every = {
        row.id: row for step in done for row in read(folder, step.of("examples")) if row.id in fell and _is_faq(row)
    }
    cited = [row for row in (*kept.values(), *every.values()) if row.parents and row.parents[0] in records]
    tasks = {row.task for row in cited}
    passages = _passages(one for one in records.values() if one.task in tasks)
    at_record = {row.id: passages[row.parents[0]] for row in cited}
    entries = _entries([row for row in cited if row.id in kept], at_record)
    _repeated([every[one] for one in sorted(every) if one in at_record], fell, entries, at_record)
    _opposed(entries, at_record, embedder)
    distinct = list({one.id: one for one in passages.values()}.values())
    seen = {record.id for entry in entries for record in entry.cites}
    langs = Counter(entry.row.lang for entry in entries)
    titles = list(dict.fromkeys(one.fields.get("title") or one.fields.get("source", "") for one in distinct))
    return Page(
        titles[0] if len(titles) == 1 else "", "zh" if langs["zh"] > len(entries) / 2 else "en", grouped(entries, embedder),
        distinct, [one for one in distinct if one.id not in seen], said_in(distinct[0]),
    )  # fmt: skip


def _passages(records: Iterable[Record]) -> dict[str, Record]:
    """{record id: the first record with its passage} in the documents' order: several questions may stand on one passage."""
    first: dict[tuple[str, str], Record] = {}
    out: dict[str, Record] = {}
    for one in sorted(records, key=lambda one: (one.file, one.line, one.id)):
        said = one.fields.get(said_in(one), "")
        if said.strip():
            out[one.id] = first.setdefault((one.file, said), one)
    return out


def _is_faq(row: Example) -> bool:
    return row.maker.startswith("faq:")


def _repeats(verdict: Verdict) -> bool:
    return not verdict.kept and bool(verdict.rival) and verdict.selector in SAME_ROWS


def said_in(record: Record) -> str:
    """The field that holds the passage."""
    return next((name for name in ("passage", "document", "text") if name in record.fields), next(iter(record.fields)))


def _entries(rows: Sequence[Example], at_record: Mapping[str, Record]) -> list[Entry]:
    """One entry a row, in the documents' order; rows of one question and answer are one entry."""
    found: dict[tuple[str, str], Entry] = {}
    for row in sorted(rows, key=lambda row: (at_record[row.id].file, at_record[row.id].line, row.id)):
        key = text.normalise(row.instruction), text.normalise(row.output)
        if key not in found:
            found[key] = Entry(row, [])
        if at_record[row.id] not in found[key].cites:
            found[key].cites.append(at_record[row.id])
    return list(found.values())


def _repeated(
    dropped: Sequence[Example], fell: Mapping[str, str], entries: Sequence[Entry], at_record: Mapping[str, Record]
) -> None:
    """What was dropped as a repeat: its wording, and its passage as a further citation, or what it says against the answer that stayed."""
    by_row = {entry.row.id: entry for entry in entries}
    for row in dropped:
        rival, steps = fell[row.id], 0
        while rival in fell and steps < 10:
            rival, steps = fell[rival], steps + 1
        entry = by_row.get(rival)
        if entry is None:
            continue
        record = at_record[row.id]
        if why := conflict(entry.question, entry.answer, row.output):
            entry.against.append((row.instruction, row.output, record, why))
            continue
        if text.normalise(row.instruction) != text.normalise(entry.question):
            entry.also.append(row.instruction)
        if record not in entry.cites:
            entry.cites.append(record)


def _opposed(entries: Sequence[Entry], at_record: Mapping[str, Record], embedder: Embedder) -> None:
    """Entries that ask the like of another one, with the same numbers and names, and answer otherwise: flagged on both."""
    vectors = embedder([entry.question for entry in entries])
    known = [facts(entry.question) for entry in entries]
    for at, one in enumerate(entries):
        for place in np.flatnonzero(np.round(vectors[at + 1 :] @ vectors[at], 4) >= LIKE):
            other = entries[at + 1 + int(place)]
            if one.row.lang != other.row.lang or difference(known[at], known[at + 1 + int(place)]):
                continue
            if why := conflict(one.question, one.answer, other.answer):
                one.against.append((other.question, other.answer, at_record[other.row.id], why))
                other.against.append((one.question, one.answer, at_record[one.row.id], why))


def conflict(question: str, one: str, other: str) -> str:
    """How two answers to like questions contradict each other; "" where they do not, as far as can be told.

    Told by rule: to a question for an amount or time each gives a number that the other has not; or one affirms and the other denies what
    the question asks whether.
    """
    a, b = (evidence.figures(said) - evidence.figures(question) for said in (one, other))
    if a - b and b - a and _amount.search(question) and max(text.length(one), text.length(other)) <= SHORT:
        return say(
            f"numbers differ: {_listed(a - b)} / {_listed(b - a)}", f"数字不同：{_listed(a - b)} / {_listed(b - a)}"
        )
    if _whether.search(question):
        first, second = (bool(_no.search((text.sentences(said) or [""])[0])) for said in (one, other))
        shared = min(evidence.covered(one, other), evidence.covered(other, one))
        if first != second and (shared >= 0.2 or min(text.length(one), text.length(other)) <= 6):
            return say("one says yes, the other no", "一个肯定，一个否定")
    return ""


def _listed(found: set[str]) -> str:
    return ", ".join(sorted(found)[:3])


def grouped(entries: Sequence[Entry], embedder: Embedder) -> list[tuple[str, list[Entry]]]:
    """[(topic, entries)]: by the section that they stand in, else by the document; those of more than MANY are parted by meaning."""
    sections: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        sections.setdefault((_spoken(entry), entry.cites[0].file, _section(entry)), []).append(entry)
    documents: dict[tuple[str, str], list[Entry]] = {}
    out: list[tuple[str, list[Entry]]] = []
    for (lang, file, topic), some in sections.items():
        if topic and len(some) > 1:
            out.append((topic, some))
        else:
            documents.setdefault((lang, file), []).extend(some)
    several = len({file for _, file in documents}) > 1
    for (lang, file), some in documents.items():
        title = (some[0].cites[0].fields.get("title") or Path(file).stem) if several or out else ""
        out += [(title, some)] if len(some) <= MANY else _by_meaning(some, embedder, lang, title)
    place = {id(entry): at for at, entry in enumerate(entries)}
    return sorted(out, key=lambda group: (_spoken(group[1][0]), place[id(group[1][0])]))


def _spoken(entry: Entry) -> str:
    """The language that a question is asked in: error messages and names in it do not make it English."""
    return "zh" if re.search(f"[{text.HAN}]", entry.question) else "en"


def _section(entry: Entry) -> str:
    """The heading that an entry stands under: above its own, where its own is the question; not the document's title."""
    record = entry.cites[0]
    path = [one for one in record.fields.get("heading", "").split(" > ") if one]
    if path and text.normalise(path[-1]).endswith(text.normalise(entry.question)):
        path = path[:-1]
    if path and path[0] == record.fields.get("title"):
        path = path[1:]
    return path[-1] if path else ""


def _by_meaning(entries: Sequence[Entry], embedder: Embedder, lang: str, title: str) -> list[tuple[str, list[Entry]]]:
    """An entry joins the group whose centre is nearest, from a cosine of TOGETHER on; else it opens one."""
    vectors = embedder([f"{entry.question} {plain(entry.answer)[:200]}" for entry in entries])
    sums: list[Any] = []
    members: list[list[int]] = []
    for at, vector in enumerate(vectors):
        cosines = [round(float(vector @ (one / max(1e-9, float(np.linalg.norm(one))))), 4) for one in sums]
        best = max(range(len(sums)), key=lambda one: (cosines[one], -one), default=-1)
        if best >= 0 and cosines[best] >= TOGETHER:
            sums[best] = sums[best] + vector
            members[best].append(at)
        else:
            sums.append(vector)
            members.append([at])
    whole = [group for group in members if len(group) > 1]
    alone = [at for group in members if len(group) == 1 for at in group]
    said = Counter(term for entry in entries for term in _terms(entry))
    out = [(_topic([entries[at] for at in group], said) or title, [entries[at] for at in group]) for group in whole]
    if alone:
        out.append((title or ("其他" if lang == "zh" else "More questions"), [entries[at] for at in alone]))
    return out


_terms_of = re.compile(r"[A-Za-z][\w.+#-]*")
_common = frozenset({
    "what", "how", "why", "when", "where", "which", "who", "does", "can", "the", "are", "and", "for", "you", "with", "from", "have", "is",
    "do", "it", "to", "in", "of", "on", "my", "be", "an", "or",
})  # fmt: skip
_asking = re.compile(
    r"什么|如何|怎么|怎样|是否|为何|哪些|哪个|多少|能否|可以|可否|有没有|"
    r"[的了是在有吗呢和与或及把被对中上下会能要该这那一个时后前出现几哪为从到将]"
)


def _terms(entry: Entry) -> set[str]:
    """What a topic may be called by: names and words of a question; in Chinese, stretches of two to four characters."""
    found = {one for one in _terms_of.findall(entry.question) if one.lower() not in _common and len(one) > 1}
    if entry.row.lang == "zh":
        for run in re.findall(r"[\u4e00-\u9fff]+", _asking.sub(" ", entry.question)):
            found |= {run[at : at + size] for size in (2, 3, 4) for at in range(len(run) - size + 1)}
    return found


def _topic(entries: Sequence[Entry], everywhere: Mapping[str, int]) -> str:
    """A group's name: what at least two of its questions have in common, the more of them and the fewer others the better."""
    counts = Counter(term for entry in entries for term in _terms(entry))
    able = [term for term, count in counts.items() if count > 1]
    best: list[str] = []
    for term in sorted(able, key=lambda term: (-(counts[term] ** 2) * min(len(term), 4) / everywhere[term], term)):
        if not any(term in one or one in term for one in best):
            best.append(term)
    return " · ".join(best[:2])


def _save(path: Path, said: str) -> None:
    """The file whole or absent."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text.valid(said), encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    except OSError as error:
        raise boundary(error, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
