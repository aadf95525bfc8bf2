"""The shipped wordings: counted, balanced, each rendered with its examples, scored by our own metrics, and no two alike."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from zhiling import registry, text
from zhiling.construct.bind import bind
from zhiling.construct.fill import fill
from zhiling.construct.library import FAMILIES, Definition, list_definitions
from zhiling.construct.library_check import sample_task
from zhiling.types import Example, Record, Score

DEFINITIONS = list_definitions()
REGISTERS = {"plain", "brief", "formal", "casual", "detailed"}
NEAR = 0.7
ANY = {  # a definition without fields fits every task; these are two
    "zh": {
        "description": "把下面的动物按体重从轻到重排列。",
        "input": "大象、老鼠、山羊",
        "output": "老鼠、山羊、大象",
    },
    "en": {
        "description": "Put the animals into order from light to heavy.",
        "input": "elephant, mouse, goat",
        "output": "mouse, goat, elephant",
    },
}


def made(definition: Definition) -> Iterator[Example]:
    """Every phrasing of a definition filled with every example of its language; whatever is not an Example fails the test."""
    for lang in definition.langs:
        task = sample_task(definition, lang)
        rows = list((definition.examples or {}).get(lang, ()))
        if not definition.fields:
            task = replace(task, description=ANY[lang]["description"])
            rows = [{name: ANY[lang][name] for name in ("input", "output")}]
        assert rows, f"{definition.id} has no example in {lang}"
        for template in bind(definition, task):
            for row in rows:
                (one,) = fill([Record(task.name, row, lang=lang)], [template], task=task, seed=0)
                assert isinstance(one, Example), one
                yield one


@cache
def rendered() -> tuple[Example, ...]:
    return tuple(one for definition in DEFINITIONS for one in made(definition))


def test_the_library_is_large_and_balanced() -> None:
    assert len(DEFINITIONS) >= 60
    langs = Counter(phrasing.lang for definition in DEFINITIONS for phrasing in definition.phrasings)
    assert set(langs) == {"zh", "en"} and sum(langs.values()) >= 650, langs
    assert abs(langs["zh"] - langs["en"]) <= 0.02 * langs["zh"], langs


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_speaks_both_languages_in_every_register(family: str) -> None:
    found = list_definitions(family)
    assert len(found) >= 2
    for lang in ("zh", "en"):
        wordings = [p for definition in found for p in definition.phrasings if p.lang == lang]
        assert len(wordings) >= 10
        assert {p.register for p in wordings} == REGISTERS


@pytest.mark.parametrize("definition", DEFINITIONS, ids=[definition.id for definition in DEFINITIONS])
def test_a_definition_says_what_goes_in_and_out(definition: Definition) -> None:
    assert definition.id.startswith(f"{definition.family}_")
    for lang in definition.langs:
        assert definition.description[lang]
        if definition.fields:
            assert (definition.input_format or {}).get(lang) and (definition.output_format or {}).get(lang)
            for row in (definition.examples or {})[lang]:
                assert set(row) == set(definition.fields) and all(value.strip() for value in row.values())
    both = Counter(phrasing.lang for phrasing in definition.phrasings)
    assert both["zh"] == both["en"] >= 5


def test_every_phrasing_is_rendered() -> None:
    makers = {one.maker for one in rendered()}
    wanted = {f"template:{d.name(phrasing)}" for d in DEFINITIONS for phrasing in d.phrasings}
    assert makers == wanted


def test_every_row_is_filled_and_in_its_language() -> None:
    for one in rendered():
        assert not re.search(r"\{\{|\{%|\bNone\b|undefined", one.prompt), one.maker
        assert one.instruction.strip() == one.instruction and one.output.strip(), one.maker
        if one.lang == "zh" and not any(key in one.maker for key in ("translation", "subtitles", "code")):
            assert text.lang(one.instruction) == "zh", one.instruction
        if one.lang == "en":
            assert text.lang(re.sub('"[^"]*"', "", one.instruction)) == "latin", one.instruction


RULES = [("format", 1.0), ("placeholder", 0.0), ("refusal", 0.0), ("echo", 0.0), ("language", 1.0), ("grammar", 1.0)]


@pytest.mark.parametrize(("name", "wanted"), RULES)
def test_no_phrasing_is_rejected_by_our_own_metrics(name: str, wanted: float) -> None:
    """Quoting, cutting and mending a text repeat it rightly, so that only what repeats the instruction counts as an echo."""
    rows = [replace(one, input="") for one in rendered()] if name == "echo" else list(rendered())
    scores = list(registry.get("scorer", name).fn(rows))
    assert len(scores) == len(rows)
    bad = {
        (one.maker, score.value, score.why)
        for one, score in zip(rows, scores, strict=True)
        if score.value is not None and score.value != wanted
    }
    assert bad == set()
    assert sum(score.value is not None for score in scores) >= len(scores) * 0.8, "too few could be scored to tell"


def wordings() -> list[Example]:
    """The first rendering of each phrasing as an instruction alone, but for those that only quote the task's own words."""
    own = {definition.id for definition in DEFINITIONS if definition.fields}
    first = {one.maker: one for one in reversed(rendered()) if one.parents[0] in own or one.task in own}
    return [
        Example(task=one.lang, instruction=one.instruction, lang=one.lang, output=maker) for maker, one in first.items()
    ]


def test_no_two_phrasings_of_the_whole_library_are_near_duplicates() -> None:
    """Within a definition and across all of them."""
    near = registry.get("selector", "near").fn
    for n in (2, 3):
        verdicts = near(wordings(), scores={}, threshold=NEAR, n=n, over="prompt")
        assert [verdict for verdict in verdicts if not verdict.kept] == []


def test_no_two_rows_are_the_same() -> None:
    exact = registry.get("selector", "exact").fn
    assert [verdict for verdict in exact(rendered(), scores={}) if not verdict.kept] == []


@pytest.mark.model
def test_plain_english_phrasings_are_clearer_than_their_words_shuffled() -> None:
    """By the embedded model, which speaks English only. Chinese needs a model of the user's own."""
    pytest.importorskip("torch")
    from zhiling.llm.transformers import transformers
    from zhiling.llm.wrap import Model

    rng = random.Random(3)
    plain = [one for one in wordings() if one.output.endswith("/en1")]
    shuffled = [replace(one, instruction=" ".join(rng.sample(w := one.instruction.split(), len(w)))) for one in plain]

    async def clear() -> list[Score]:
        scorer = registry.get("scorer", "clarity").fn
        return [s async for s in scorer([*plain, *shuffled], model=Model(transformers(model="embedded", threads=1)))]

    scores = asyncio.run(clear())
    values = [score.value for score in scores if score.value is not None]
    assert len(plain) >= 60 and len(values) == 2 * len(plain)
    beaten = [
        one.instruction for one, a, b in zip(plain, values[: len(plain)], values[len(plain) :], strict=True) if a <= b
    ]
    assert len(beaten) <= 0.05 * len(plain), beaten
    assert min(values[: len(plain)]) > 0.35
