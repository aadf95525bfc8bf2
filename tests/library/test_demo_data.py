"""The demo's own data is what its recipe promises: counted, balanced, distinct, in the right language, answerable."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from zhiling import data, recipe, text
from zhiling.construct.template import template
from zhiling.types import Record, Template

DEMO = Path(str(files("zhiling"))) / "library" / "demo"
RECIPES = Path(__file__).resolve().parents[2] / "recipes"
FRENCH = re.compile(
    r"[àâçéèêëîïôùûüœ]|\b[cdjlmnstq]'|\b(?:le|la|les|un|une|des|du|de|je|il|elle|on|nous|vous|est|et|ne|pas|qui|son|sa|au|aux)\b",
    re.I,
)
ENGLISH = re.compile(r"\b(?:the|is|and|of|you|my|with|was|to|in|it)\b", re.I)


@cache
def rows(name: str) -> tuple[Mapping[str, Any], ...]:
    found = [row for _, row in data.rows(DEMO / name)]
    assert all(isinstance(row, Mapping) for row in found), "an unreadable row"
    return tuple(row for row in found if isinstance(row, Mapping))


@cache
def spec() -> dict[str, Any]:
    return yaml.safe_load((DEMO / "recipe.yaml").read_text(encoding="utf-8"))


def sentences(language: str) -> list[str]:
    """Every sentence of the translation file in one language, source or target."""
    return [
        row[side]
        for row in rows("translation.jsonl")
        for side in ("source", "target")
        if row[f"{side}_lang"] == language
    ]


def closest(texts: Iterable[str]) -> tuple[float, str, str]:
    """The pair with the highest Jaccard overlap of token trigrams."""
    shingled = [(item, text.shingles(item)) for item in texts]
    pairs = itertools.combinations(shingled, 2)
    return max((text.jaccard(a[1], b[1]), a[0], b[0]) for a, b in pairs)


REVIEWS = [
    pytest.param("sentiment_en.csv", "text", "label", ("positive", "negative"), "latin", id="en"),
    pytest.param("sentiment_zh.csv", "评论", "标签", ("正面", "负面"), "zh", id="zh"),
]
reviews = pytest.mark.parametrize(("name", "review", "label", "labels", "script"), REVIEWS)
HANDBOOKS = [pytest.param("handbook.en.md", "latin", 6, id="en"), pytest.param("handbook.zh.md", "zh", 12, id="zh")]
handbooks = pytest.mark.parametrize(("name", "script", "longest"), HANDBOOKS)


@reviews
def test_reviews_are_balanced_and_distinct(
    name: str, review: str, label: str, labels: tuple[str, str], script: str
) -> None:
    assert Counter(row[label] for row in rows(name)) == {labels[0]: 80, labels[1]: 80}
    texts = [row[review] for row in rows(name)]
    assert len(set(texts)) == 160
    assert {text.lang(item) for item in texts} == {script}
    assert all(8 <= text.length(item) <= 60 for item in texts)
    assert closest(texts)[0] <= 0.6, closest(texts)


@reviews
def test_reviews_do_not_name_their_label(
    name: str, review: str, label: str, labels: tuple[str, str], script: str
) -> None:
    told = [row[review] for row in rows(name) if any(word in row[review].lower() for word in labels)]
    assert told == []


@reviews
def test_the_order_of_reviews_does_not_give_the_label_away(
    name: str, review: str, label: str, labels: tuple[str, str], script: str
) -> None:
    runs = [len(list(group)) for _, group in itertools.groupby(row[label] for row in rows(name))]
    assert max(runs) <= 4
    halves = Counter(row[label] for row in rows(name)[:80])
    assert abs(halves[labels[0]] - halves[labels[1]]) <= 8


def test_translation_has_the_promised_directions() -> None:
    directions = Counter((row["source_lang"], row["target_lang"]) for row in rows("translation.jsonl"))
    assert directions == {("zh", "en"): 60, ("en", "zh"): 50, ("zh", "fr"): 45, ("en", "fr"): 45}


@pytest.mark.parametrize(("language", "count"), [("zh", 155), ("en", 155), ("fr", 90)])
def test_translation_sentences_are_distinct(language: str, count: int) -> None:
    texts = sentences(language)
    assert len(texts) == len(set(texts)) == count
    assert {text.lang(item) for item in texts} == {"zh" if language == "zh" else "latin"}
    assert closest(texts)[0] <= 0.6, closest(texts)


def test_translation_sentences_are_short() -> None:
    assert all(5 <= len(item) <= 30 for item in sentences("zh"))
    assert all(3 <= text.length(item) <= 18 for language in ("en", "fr") for item in sentences(language))


def test_french_looks_french_and_english_does_not() -> None:
    assert [item for item in sentences("fr") if not FRENCH.search(item)] == []
    assert [item for item in sentences("fr") if ENGLISH.search(item)] == []
    assert [item for item in sentences("en") if re.search("[àâçéèêëîïôùûœ]", item)] == []


def test_punctuation_belongs_to_the_language() -> None:
    chinese = [*sentences("zh"), *(row["评论"] for row in rows("sentiment_zh.csv"))]
    chinese += [row[key] for row in rows("handbook.zh.md") for key in ("passage", "question", "answer")]
    assert [item for item in chinese if re.search(r"[,;:?!\"']", item)] == []
    latin = [*sentences("en"), *sentences("fr"), *(row["text"] for row in rows("sentiment_en.csv"))]
    assert [item for item in latin if re.search("[，。！？；：“”‘’]", item)] == []
    assert [item for item in sentences("fr") if re.search(r"[^ ][?!;:]", item)] == []
    assert all(item[-1] in ".?!" for item in latin)


@handbooks
def test_handbooks_ask_what_their_passages_answer(name: str, script: str, longest: int) -> None:
    found = rows(name)
    assert len(found) == 78
    assert len({row["heading"] for row in found}) == len({row["passage"] for row in found}) == 26
    assert [row for row in found if not row["answer"] or row["answer"] not in row["passage"]] == []
    assert [row for row in found if row["answer"] in row["question"]] == []
    assert all(text.length(row["answer"]) <= longest for row in found)
    assert len({row["question"] for row in found}) == 78


@handbooks
def test_handbooks_are_whole_passages_in_one_language(name: str, script: str, longest: int) -> None:
    passages = {row["passage"] for row in rows(name)}
    questions = {row["question"] for row in rows(name)}
    assert {text.lang(item) for item in passages | questions} == {script}
    shortest, most = (70, 160) if script == "zh" else (40, 90)
    assert all(shortest <= (len(item) if script == "zh" else len(item.split())) <= most for item in passages)
    assert closest(sorted(passages))[0] <= 0.6, closest(sorted(passages))
    assert closest(sorted(questions))[0] <= 0.6, closest(sorted(questions))


def test_answers_cannot_be_guessed_from_frequency() -> None:
    answers = Counter(row["answer"].lower() for name in ("handbook.en.md", "handbook.zh.md") for row in rows(name))
    assert max(answers.values()) <= 3, answers.most_common(5)


def test_demos_are_not_among_the_data() -> None:
    seen = [str(value) for row in rows("sentiment_en.csv") for value in row.values()]
    seen += [str(value) for row in rows("sentiment_zh.csv") for value in row.values()]
    seen += [str(row[key]) for row in rows("translation.jsonl") for key in ("source", "target")]
    seen += [
        row[key]
        for name in ("handbook.en.md", "handbook.zh.md")
        for row in rows(name)
        for key in ("passage", "question")
    ]
    shingled = [text.shingles(item) for item in seen]
    for name, task in spec()["tasks"].items():
        assert 2 <= len(task["demos"]) <= 3, name
        for demo in task["demos"]:
            # A translation demo names its direction first; the sentence is what must be new.
            said = [demo["input"].split(": ", 1)[-1], *([] if task.get("labels") else [demo["output"]])]
            for item in said:
                nearest = max(text.jaccard(text.shingles(item), other) for other in shingled)
                assert nearest <= 0.3, (name, item)
            assert not task.get("labels") or demo["output"] in task["labels"]


def read_all(loaded: recipe.Recipe) -> dict[str, list[Record]]:
    """Every row of every task of a recipe; an unreadable one fails the test."""
    found: dict[str, list[Record]] = {}
    for name, spec in loaded.tasks.items():
        task = spec.task(name)
        for source in spec.sources():
            path = data.expand(source.path, loaded.here)
            where = {key: str(value) for key, value in (source.where or {}).items()}
            for item in data.read(data.Source(path, source.format, source.columns, where, source.limit), task):
                assert isinstance(item, Record), item
                found.setdefault(name, []).append(item)
    return found


def test_the_recipe_reads_every_row() -> None:
    loaded = recipe.load(DEMO / "recipe.yaml")
    counts = {name: len({item.id for item in items}) for name, items in read_all(loaded).items()}
    assert counts == {"sentiment_en": 160, "sentiment_zh": 160, "translation": 200, "handbook_qa": 156}
    for name, items in read_all(loaded).items():
        labels = loaded.tasks[name].labels
        assert not labels or {item.fields[loaded.tasks[name].target] for item in items} == set(labels)


def test_the_recipe_uses_all_three_ways() -> None:
    loaded = recipe.load(DEMO)
    assert [step.kind for step in loaded.construct] == ["template", "retrieve", "generate"]
    assert loaded.tune is not None and loaded.evaluate is not None and loaded.report is not None


def test_the_second_recipe_reads_the_shared_data(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHILING_SHARED", str(shared))
    loaded = recipe.load(RECIPES / "shared.yaml")
    found = read_all(loaded)
    counts = {name: len(items) for name, items in found.items()}
    assert counts == {
        "question_type": 200, "film_reviews": 100, "drug_name": 200, "find_object": 200, "seed_tasks": 175
    }  # fmt: skip
    for name, spec in loaded.tasks.items():
        assert spec.heldout < counts[name]
        assert not spec.labels or {item.fields[spec.target] for item in found[name]} <= set(spec.labels)
        inputs = {item.fields[key] for item in found[name] for key in spec.inputs}
        assert not inputs & {demo.input for demo in spec.demos}


def test_the_second_recipe_has_wordings_for_its_tasks() -> None:
    loaded = recipe.load(RECIPES / "shared.yaml")
    for step in loaded.construct:
        if step.kind == "template":
            for name in step.tasks:
                made = template(task=loaded.tasks[name].task(name), here=loaded.here, **step.settings)
                wordings = [one for one in made if isinstance(one, Template)]
                assert wordings, name
                assert {one.lang for one in wordings} == set(loaded.tasks[name].langs)
