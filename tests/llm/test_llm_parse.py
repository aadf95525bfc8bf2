"""Replies in prose become values: JSON, lists and choices, in both languages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.llm.parse import choice, items, json_value, unquote

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
containers = st.lists(values, min_size=1, max_size=4) | st.dictionaries(
    st.text(max_size=8), values, min_size=1, max_size=4
)


@given(containers)
def test_bare_json_is_read_as_it_is(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2)):
        assert json_value(text) == (value, False)


@given(containers.filter(lambda value: "`" not in json.dumps(value)))
def test_fences_and_prose_around_json_do_not_matter(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert json_value(f"Sure, here it is:\n```json\n{text}\n```\nHope this helps!") == (value, False)
    assert json_value(f"好的，结果如下：\n{text}\n希望对你有帮助。") == (value, False)


@given(containers, st.integers(1, 60))
def test_a_cut_off_reply_gives_a_container_or_a_value_error(value: object, keep: int) -> None:
    try:
        found = json_value(json.dumps(value)[:keep])
    except ValueError:
        return
    assert isinstance(found.value, (dict, list))


def test_a_truncated_object_is_repaired_and_says_so() -> None:
    assert json_value('{"score": 4, "why": "clear and sho') == ({"score": 4, "why": "clear and sho"}, True)
    assert json_value("{'score': 4, \"items\": [1, 2,]}") == ({"score": 4, "items": [1, 2]}, True)


def test_thinking_aloud_is_not_the_answer() -> None:
    assert json_value('<think>{"a": 0} or so?</think>\n{"a": 1}') == ({"a": 1}, False)


@pytest.mark.parametrize(
    "text", ["", "no json here", "I cannot do that.", "抱歉，我不能。", "[" * 100_000, '{"a":' * 50_000]
)
def test_what_holds_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        json_value(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. Translate this.\n2. Sum it up.\n3. Explain.", ["Translate this.", "Sum it up.", "Explain."]),
        ("Here are two instructions:\n\n1) First one\n2) Second one\n", ["First one", "Second one"]),
        ("- alpha\n- beta\n* gamma\n• delta", ["alpha", "beta", "gamma", "delta"]),
        (
            "以下是三条指令：\n1. 翻译下面的句子。\n2、概括这段话。\n3．判断情感。",
            ["翻译下面的句子。", "概括这段话。", "判断情感。"],
        ),
        ("一、翻译句子\n二、改写句子\n三、解释句子", ["翻译句子", "改写句子", "解释句子"]),
        ("（1）翻译句子\n（二）改写句子\n(3) 解释句子", ["翻译句子", "改写句子", "解释句子"]),
        ("①翻译\n②改写", ["翻译", "改写"]),
        ("第一条：翻译\n第二条：改写", ["翻译", "改写"]),
        ('1. "Translate it."\n2. **Explain it**\n3. “解释一下”', ["Translate it.", "Explain it", "解释一下"]),
        ("1. Write a poem\n   about the sea.\n2. Count to 3.14", ["Write a poem about the sea.", "Count to 3.14"]),
        ("Translate this.\n\nSum it up.", ["Translate this.", "Sum it up."]),
        ("1. Same.\n2. Same.\n3. Other.", ["Same.", "Other."]),
        ("3.14 is pi\n2.71 is e", ["3.14 is pi", "2.71 is e"]),
        ("一天，小明去上学。\n二月很冷。", ["一天，小明去上学。", "二月很冷。"]),
        ("", []),
    ],
)
def test_lists_are_read_in_both_languages(text: str, expected: list[str]) -> None:
    assert items(text) == expected


@given(
    st.lists(
        st.text("abc 翻译句子", min_size=1, max_size=12).map(str.strip).filter(bool),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_a_numbered_list_gives_back_its_items(lines: list[str]) -> None:
    assert items("\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))) == lines
    assert items("\n".join(f"（{i}）{line}" for i, line in enumerate(lines, 1))) == lines


def test_only_quotes_around_the_whole_are_taken_off() -> None:
    assert unquote('"a"') == "a"
    assert unquote("「甲」") == "甲"
    assert unquote('"a" and "b"') == '"a" and "b"'
    assert unquote('say "a"') == 'say "a"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("positive", "positive"),
        ("Positive.", "positive"),
        ("The answer is: negative", "negative"),
        ("negative\nBecause the waiter was rude, not positive at all.", "negative"),
        ("I would say it is positive overall.", "positive"),
        ("It is both positive and negative.", None),
        ("no idea", None),
        ("nonpositive", None),
        ("(B)", "negative"),
        ("2. ", "negative"),
        ("", None),
    ],
)
def test_choices_in_english(text: str, expected: str | None) -> None:
    assert choice(text, ("positive", "negative")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("正面", "正面"), ("答案：负面。", "负面"), ("这条评论是正面的。", "正面"), ("正面或负面", None), ("中性", None)],
)
def test_choices_in_chinese(text: str, expected: str | None) -> None:
    assert choice(text, ("正面", "负面")) == expected


def test_the_longer_of_nested_choices_wins() -> None:
    assert choice("It is very good indeed", ("good", "very good")) == "very good"
    assert choice("A", ("A", "B")) == "A"
    assert choice("2", ("1", "2", "3")) == "2"
