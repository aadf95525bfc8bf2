"""The second way of constructing: the nearest instructions of a bank, made the task's own, and checked that they are.

    search -> adapt (by rule, or by a model) -> judge -> keep the best that differ

Every candidate ends as a Template or as a Reject that says why. At the level "rows" they are Examples instead: see `retrieve_rows`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zhiling import text
from zhiling.construct.bank import Hit, Store, opened
from zhiling.construct.bank_index import analyse
from zhiling.construct.bind import fitting, label_words, shaped
from zhiling.construct.library import list_definitions
from zhiling.construct.retrieve_adapt import Adapted, as_is
from zhiling.construct.retrieve_adapt import adapt as by_rule
from zhiling.construct.retrieve_differ import differing
from zhiling.construct.retrieve_model import Tried, reworded
from zhiling.construct.retrieve_question import question
from zhiling.construct.retrieve_rows import nearest_rows
from zhiling.embed import Embedder
from zhiling.errors import RecipeError, say
from zhiling.registry import constructor
from zhiling.types import Example, Reject, Task, Template

if TYPE_CHECKING:
    from zhiling.llm import Model

_jinja = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.S)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A hit made the task's own. `relevance` is its score, less what it says that the task does not."""

    hit: Hit
    adapted: Adapted
    relevance: float


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether `retrieve` asks a model with these settings."""
    return bool(settings["level"] == "adapted" and settings["adapt"] == "model")


def ready(settings: Mapping[str, Any], task: Task) -> int | None:
    """How many rows `retrieve` has ready for a task at most; None where it gives templates, which records fill."""
    return int(settings["rows"]) * len(task.langs) if settings["level"] == "rows" else None


@constructor("retrieve", asks=asks, needs=("chat",), ready=ready)
async def retrieve(
    *,
    task: Task,
    embedder: Embedder,
    here: Path,
    seed: int,
    model: Model | None = None,
    level: Literal["as_is", "adapted", "rows"] = "adapted",
    adapt: Literal["rules", "model"] = "rules",
    bank: str = "seeds",
    keep: int = 3,
    pool: int = 30,
    floor: float = 0.2,
    rows: int = 100,
) -> list[Template | Example | Reject]:
    """The nearest instructions of a bank as the task's templates, at most `keep` per language; or its nearest rows as examples.

    `level`: "as_is" takes only instructions in which nothing would have to be replaced (a slot, a language, a list of answers);
    "adapted" replaces it by rule, or, with `adapt: model`, asks `model` to reword what the rules cannot and checks its reply as the
    rules' own results are checked; "rows" takes up to `rows` rows per language with their answers, as a training mixture.

    `bank` is "seeds" (those shipped), a bank's folder, relative to the recipe, or a qdrant:// address. Of the `pool` nearest, those
    that cannot speak of this task, whose relevance lies below `floor` (0 to 1), or that repeat one already kept become Rejects.
    Relevance is the search score times the share of the wording that the task accounts for, words weighted by rarity; of rows it is
    the search score.

    Raises RecipeError for settings out of range, DataError for a folder that is no bank, ProviderError where no call to the model is
    answered.
    """
    if not 1 <= keep <= pool:
        what = say(
            f"keep must lie between 1 and pool ({pool}), got {keep}",
            f"keep 应在 1 与 pool（{pool}）之间，实际为 {keep}",
        )
        raise RecipeError(what)
    source = opened(bank, embedder, here)
    if level == "rows":
        return list(nearest_rows(task, source, embedder=embedder, count=rows, floor=floor))
    out: list[Template | Example | Reject] = []
    for lang in task.langs:
        tried = [
            Tried(hit, (as_is if level == "as_is" else by_rule)(hit.row, task, lang))
            for hit in _nearest(source, task, lang, pool)
        ]
        if level == "adapted" and adapt == "model":
            assert model is not None  # the house hands one where `asks` says so
            tried = await reworded(tried, task, lang, model, seed)
        known = _vocabulary(task, lang)
        passed: list[_Candidate] = []
        for one in tried:
            made = one.made
            judged = _judged(one.hit, made, source, known, floor) if isinstance(made, Adapted) else made
            if isinstance(judged, _Candidate):
                passed.append(judged)
            else:
                out.append(judged if isinstance(judged, Reject) else _dropped(task, one.hit, judged))
        kept, lost = _diverse(passed, keep, embedder)
        out += [_template(task, lang, candidate) for candidate in kept]
        out += [_dropped(task, candidate.hit, why) for candidate, why in lost]
    return out


def _nearest(bank: Store, task: Task, lang: str, pool: int) -> list[Hit]:
    """The nearest rows of the language: of the task's family where the bank knows any, else of all."""
    asked = question(task, lang)
    if task.family != "other":
        own = bank.search(asked, pool, lang=lang, family=task.family)
        if own:
            return own
    return bank.search(asked, pool, lang=lang)


def _judged(hit: Hit, adapted: Adapted, bank: Store, known: frozenset[str], floor: float) -> _Candidate | str:
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
    """The candidates to keep, and the others with what beat them."""
    kept: list[_Candidate] = []
    lost: list[tuple[_Candidate, str]] = []
    said, relevance = [one.adapted.instruction for one in passed], [one.relevance for one in passed]
    for at, fate, twin in differing(said, relevance, keep, embedder):
        if fate == "kept":
            kept.append(passed[at])
        elif fate == "copy":
            shown = text.cut(passed[twin].hit.row.instruction, 40)
            lost.append((passed[at], say(f"a near copy of '{shown}'", f"与“{shown}”几乎相同")))
        else:
            lost.append((passed[at], say(f"not among the best {keep}", f"不在最好的 {keep} 条之内")))
    return kept, lost


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
        parents=(hit.row.id, adapted.reply) if adapted.reply else (hit.row.id,),
        why=f"keyword {hit.keyword:.2f} vector {vector} relevance {candidate.relevance:.2f}",
    )


def _dropped(task: Task, hit: Hit, why: str) -> Reject:
    return Reject(task.name, f"retrieve:{hit.row.id}", "dropped", why, text=hit.row.instruction, parents=(hit.row.id,))
