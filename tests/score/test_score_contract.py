"""What every scorer owes: one score per row, in order, in its range or None with a reason, whatever the row."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_rows import HOSTILE

from zhiling import registry
from zhiling.types import Example

RULES = [
    "length",
    "language",
    "echo",
    "refusal",
    "placeholder",
    "format",
    "grammar",
    "asks",
    "constraints",
    "faithful",
    "readability",
    "register",
]
signs = st.text(
    alphabet=st.sampled_from("ab 一的了，。“”（）(){}<>[]`\"'\\$X_:;&\n\t1Aé\x00\ud800\ufffd🙂 "), max_size=60
)
rows = st.lists(st.builds(Example, task=st.just("t"), instruction=signs, input=signs, output=signs), max_size=5)


def holds(name, examples):
    plugin = registry.get("scorer", name)
    scores = list(plugin.fn(examples))
    assert [score.example for score in scores] == [example.id for example in examples]
    for score in scores:
        assert score.scorer == name
        if score.value is None:
            assert score.why
        else:
            assert math.isfinite(score.value)
            assert plugin.facts["low"] <= score.value <= plugin.facts["high"]
            assert round(score.value, 4) == score.value
    return scores


@pytest.mark.parametrize("name", RULES)
def test_hostile_rows(name):
    assert holds(name, HOSTILE) == holds(name, HOSTILE)
    assert holds(name, []) == []


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=40, deadline=None)
@given(examples=rows)
def test_any_rows(name, examples):
    together = holds(name, examples)
    assert together == [score for example in examples for score in holds(name, [example])]


@pytest.mark.parametrize(
    "name", [*RULES, "clarity", "relevance", "answers", "lacks_input", "safety", "difficulty", "judge"]
)
def test_facts(name):
    plugin = registry.get("scorer", name)
    assert plugin.facts["better"] in ("high", "low", "none")
    assert plugin.facts["low"] < plugin.facts["high"]
    assert set(plugin.facts["langs"]) <= {"zh", "en"}
    assert plugin.doc


@pytest.mark.parametrize(("lang", "words"), [("zh", "输出为空"), ("en", "the output is empty")])
def test_reasons_are_told_in_the_reader_s_language(monkeypatch, lang, words):
    monkeypatch.setenv("ZHILING_LANG", lang)
    assert words in next(registry.get("scorer", "refusal").fn([Example("t", "a")])).why
    grammar = next(registry.get("scorer", "grammar").fn([Example("t", "跑的很快。")]))
    assert ("应用" in grammar.why) == (lang == "zh")
