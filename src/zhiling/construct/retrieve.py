"""The second way of constructing: the nearest instructions of a bank, made the task's own, and checked that they are.

    search -> adapt -> judge -> keep the best that differ

Every candidate ends as a Template or as a Reject that says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zhiling import text
from zhiling.construct.bank import Bank, Hit, shipped
from zhiling.construct.bank_index import analyse
from zhiling.construct.bind import fitting, label_words, said_in, shaped
from zhiling.construct.library import list_definitions
from zhiling.construct.retrieve_adapt import Adapted, adapt
from zhiling.embed import Embedder
from zhiling.errors import RecipeError, say
from zhiling.registry import constructor
from zhiling.types import Reject, Task, Template

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RELEVANCE = 0.7
"""What relevance counts against difference from those already kept (maximal marginal relevance, Carbonell and Goldstein 1998)."""
NEAR = 0.8
"""Shingle Jaccard above which an instruction is a copy of one already kept."""

_jinja = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.S)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A hit made the task's own. `relevance` is its score, less what it says that the task does not."""

    hit: Hit
    adapted: Adapted
    relevance: float


@constructor("retrieve")
def retrieve(
    *,
    task: Task,
    embedder: Embedder,
    here: Path,
    bank: str = "seeds",
    keep: int = 3,
    pool: int = 30,
    floor: float = 0.2,
) -> Iterator[Template | Reject]:
    """Templates from the nearest instructions of a bank, adapted by rule to the task: at most `keep` per language.

    `bank` is "seeds" (those shipped) or a bank's folder, relative to the recipe. Of the `pool` nearest, those that cannot be made
    to speak of this task, whose relevance lies below `floor` (0 to 1), or that repeat one already kept become Rejects. Relevance is
    the search score times the share of the adapted wording that the task accounts for, words weighted by rarity.

    Raises RecipeError for settings out of range, DataError for a folder that is no bank.
    """
    if not 1 <= keep <= pool:
        what = say(
            f"keep must lie between 1 and pool ({pool}), got {keep}",
            f"keep 应在 1 与 pool（{pool}）之间，实际为 {keep}",
        )
        raise RecipeError(what)
    source = shipped(embedder) if bank == "seeds" else Bank.open(here / bank, embedder)
    for lang in task.langs:
        known = _vocabulary(task, lang)
        passed: list[_Candidate] = []
        for hit in _nearest(source, task, lang, pool):
            adapted = adapt(hit.row, task, lang)
            judged = _judged(hit, adapted, source, known, floor) if isinstance(adapted, Adapted) else adapted
            if isinstance(judged, _Candidate):
                passed.append(judged)
            else:
                yield _dropped(task, hit, judged)
        kept, lost = _diverse(passed, keep, embedder)
        yield from (_template(task, lang, candidate) for candidate in kept)
        yield from (_dropped(task, candidate.hit, why) for candidate, why in lost)


def question(task: Task, lang: str) -> str:
    """What the bank is asked for: the task's description, output format, family, languages and labels, in one text."""
    family = _FAMILY.get(task.family, ("", ""))[0 if lang == "zh" else 1]
    labels = " ".join(label_words(task, lang)[:8])
    described, form = (said_in(prose, lang) or prose for prose in (task.description, task.output_format))
    said = [described, form, family, labels]
    if not task.description:
        said += [part for demo in task.demos[:2] for part in (text.cut(demo.input, 60), text.cut(demo.output, 40))]
    return " ".join(part for part in said if part)


def _nearest(bank: Bank, task: Task, lang: str, pool: int) -> list[Hit]:
    """The nearest rows of the language: of the task's family where the bank knows any, else of all."""
    asked = question(task, lang)
    if task.family != "other":
        own = bank.search(asked, pool, lang=lang, family=task.family)
        if own:
            return own
    return bank.search(asked, pool, lang=lang)


def _judged(hit: Hit, adapted: Adapted, bank: Bank, known: frozenset[str], floor: float) -> _Candidate | str:
    """The candidate with its relevance, or why it is too far from the task."""
    rarity = bank.rarity(adapted.rest)
    foreign = {term: weight for term, weight in rarity.items() if not _accounted(term, known)}
    share = sum(foreign.values()) / sum(rarity.values()) if rarity else 0.0
    relevance = round(hit.score * (1 - share), 4)
    if relevance >= floor:
        return _Candidate(hit, adapted, relevance)
    words = ", ".join(sorted(foreign, key=lambda term: (-foreign[term], term))[:3]) or "-"
    return say(
        f"too far from the task: {relevance} < {floor}; it speaks of {words}",
        f"与任务相距太远：{relevance} < {floor}；提到：{words}",
    )


def _vocabulary(task: Task, lang: str) -> frozenset[str]:
    """The index terms in which the task can be spoken of: its own words, and those of the shipped templates that fit it."""
    said = [task.description, task.output_format, " ".join((*task.inputs, task.target, *label_words(task, lang)))]
    said += [text.cut(part, 200) for demo in task.demos for part in demo]
    for definition in fitting(list_definitions(task.family), task):
        formats = (definition.description, definition.input_format or {}, definition.output_format or {})
        said += [words.get(lang, "") for words in formats]
        said += [_jinja.sub(" ", phrasing.instruction) for phrasing in definition.phrasings if phrasing.lang == lang]
    joined = "\n".join(said)
    return frozenset([*analyse(joined, query=False), *text.tokens(joined)])


def _accounted(term: str, known: frozenset[str]) -> bool:
    """Whether the task's words cover an index term: the term itself, or both characters of a CJK pair."""
    return term in known or (len(term) == 2 and not term.isascii() and known.issuperset(term))


def _diverse(
    passed: Sequence[_Candidate], keep: int, embedder: Embedder
) -> tuple[list[_Candidate], list[tuple[_Candidate, str]]]:
    """The candidates to keep, by maximal marginal relevance, and the others with what beat them."""
    if not passed:
        return [], []
    vectors = embedder([candidate.adapted.instruction for candidate in passed])
    kept: list[int] = []
    lost: list[tuple[_Candidate, str]] = []
    left = list(range(len(passed)))
    while left:
        best = max(left, key=lambda i: (round(_marginal(passed[i], vectors, i, kept), 6), -i))
        left.remove(best)
        copy = next((k for k in kept if _near(passed[best], passed[k])), None)
        if copy is not None:
            said = text.cut(passed[copy].hit.row.instruction, 40)
            lost.append((passed[best], say(f"a near copy of '{said}'", f"与“{said}”几乎相同")))
        elif len(kept) < keep:
            kept.append(best)
        else:
            lost.append((passed[best], say(f"not among the best {keep}", f"不在最好的 {keep} 条之内")))
    return [passed[i] for i in kept], lost


def _marginal(candidate: _Candidate, vectors: NDArray[np.float32], i: int, kept: Sequence[int]) -> float:
    nearest = max((float(vectors[i] @ vectors[k]) for k in kept), default=0.0)
    return RELEVANCE * candidate.relevance - (1 - RELEVANCE) * nearest


def _near(one: _Candidate, other: _Candidate) -> bool:
    return text.jaccard(text.shingles(one.adapted.instruction), text.shingles(other.adapted.instruction)) > NEAR


def _template(task: Task, lang: str, candidate: _Candidate) -> Template:
    hit, adapted = candidate.hit, candidate.adapted
    vector = "-" if hit.vector is None else f"{hit.vector:.2f}"
    return Template(
        task=task.name,
        lang=lang,
        instruction=shaped(adapted.instruction, task, lang),
        input=adapted.input,
        output=adapted.output,
        maker=f"retrieve:{hit.row.id}",
        parents=(hit.row.id,),
        why=f"keyword {hit.keyword:.2f} vector {vector} relevance {candidate.relevance:.2f}",
    )


def _dropped(task: Task, hit: Hit, why: str) -> Reject:
    return Reject(task.name, f"retrieve:{hit.row.id}", "dropped", why, text=hit.row.instruction, parents=(hit.row.id,))


_FAMILY = {
    "news": ("写新闻", "news writing"),
    "novel": ("写小说", "fiction writing"),
    "poetry": ("写诗", "poetry writing"),
    "code": ("编程", "programming"),
    "sql": ("SQL 查询", "SQL query"),
    "translation": ("翻译", "translate"),
    "subtitles": ("字幕翻译", "translate subtitles"),
    "qa": ("根据文章回答问题", "answer the question"),
    "faq": ("常见问题解答", "frequently asked questions"),
    "nli": ("推理关系判断", "premise and hypothesis"),
    "summarisation": ("概括摘要", "summarise"),
    "dialogue": ("对话回应", "conversation reply"),
    "classification": ("分类判断", "classify"),
    "extraction": ("信息抽取", "extract information"),
    "arithmetic": ("计算解题", "solve the problem"),
}
