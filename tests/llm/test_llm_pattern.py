"""Regular expressions as automata: they agree with Python's `re`, never hang, and say the same to llama.cpp."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.errors import RecipeError
from zhiling.llm import parse, schema
from zhiling.llm.pattern import MOST_STATES, compiled, one_of, searching

_atoms = st.sampled_from(
    ["a", "b", "中", ".", "[ab]", "[^a]", "[一-鿿]", r"\d", r"\W", r"\s", r"\.", r"\u4e2d", "-", "[]a]", "[a-]"]
)
_marks = st.sampled_from(["", "*", "+", "?", "{2}", "{1,2}", "{0,2}", "{1,}", "*?", "+?"])
REGEXES = st.recursive(
    st.tuples(_atoms, _marks).map("".join),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, _marks).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=8,
)
TEXTS = st.text(alphabet="ab中 1-.]\n_é", max_size=8)


@given(REGEXES, TEXTS)
def test_a_pattern_matches_what_re_matches(regex: str, text: str) -> None:
    known = re.compile(regex, re.ASCII)
    assert compiled(regex).matches(text) == (known.fullmatch(text) is not None)
    found = known.search(text)
    assert searching(regex).matches(text) == (found is not None)


@given(st.text(alphabet="ab[](){}|*+?^$\\.-,01:<P>dw", max_size=12))
def test_whatever_is_written_is_read_or_refused_with_one_clear_line(regex: str) -> None:
    try:
        pattern = compiled(regex)
    except RecipeError as error:
        assert str(error).startswith("regex: a reply cannot be held to /") and "\n" not in str(error).split("/:")[1]
    else:
        re.compile(regex)  # what we take, Python takes too
        assert len(pattern.states) <= MOST_STATES


@given(REGEXES, TEXTS)
def test_from_every_state_a_text_can_be_completed(regex: str, text: str) -> None:
    pattern = compiled(regex)
    state = 0
    for char in text:
        if (state := pattern.step(state, ord(char))) < 0:
            return
    seen, todo = set[int](), [state]
    while todo:
        if (one := todo.pop()) not in seen:
            seen.add(one)
            todo += pattern.states[one].targets
    assert any(pattern.states[one].accepts for one in seen)


@pytest.mark.parametrize("regex", ["(a+)+b", "(a|aa)+$", "(a*)*b", "(.*a){12}", "([a-zA-Z]+)*!", r"(\w+\s?)*\d"])
def test_what_makes_re_hang_takes_time_in_proportion_to_the_text(regex: str) -> None:
    assert not compiled(regex).matches("a" * 50_000 + "\x01")
    assert parse.matching("a" * 50_000 + "\x01", compiled(regex)) is None
    assert schema.fault("a" * 50_000 + "\x01", {"type": "string", "pattern": f"^({regex.rstrip('$')})$"})


@pytest.mark.parametrize(
    ("regex", "said"),
    [
        ("(", "is not closed, at character 2"),
        ("a)", "a parenthesis too many"),
        ("[a", "a bracket is not closed"),
        ("*a", "nothing before '\\*'"),
        ("a{3,1}", "out of order"),
        ("[z-a]", "a range out of order"),
        ("(?=a)b", "look-around"),
        ("(?i)yes", "look-around, flags"),
        (r"(a)\1", r"'\\1'"),
        (r"\bword", r"'\\b'"),
        ("a^b", "write"),
        ("a\\", "a backslash at the end"),
        (r"\u12", "without its digits"),
        (r"[^\x01-\U0010FFFF]", "no text matches it"),
        ("(a|b)*a(a|b){12}", "more than 2000 states"),
        ("(a{1000}){1000}", "more than 2000 states"),
        ("(" * 50 + ")" * 50, "nested too deep"),
    ],
)
def test_what_cannot_be_held_to_is_said_before_anything_is_asked(regex: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        compiled(regex)
    assert caught.value.where == "regex" and caught.value.exit_code == 2 and caught.value.mend


def test_the_refusal_speaks_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(RecipeError, match="括号没有闭合（第 3 个字符）"):
        compiled("(中")


def test_the_grammar_has_one_rule_per_state_and_no_empty_rule() -> None:
    pattern = compiled("(是|否)(，因为[一-鿿]{2,4})?")
    lines = pattern.grammar().splitlines()
    assert lines[0] == "root ::= s0" and len(lines) == 1 + len(pattern.states)
    assert all(re.fullmatch(r"s\d+ ::= \S.*", line) for line in lines[1:])
    assert r"\U0000662F-\U0000662F" in lines[1]


def test_choices_are_a_pattern_too() -> None:
    pattern = one_of(("yes", "yes.", "不是"))
    assert [pattern.matches(text) for text in ("yes", "yes.", "不是", "ye", "", "no")] == [True] * 3 + [False] * 3


# ---------------------------------------------------------------- out of a reply


@pytest.mark.parametrize(
    ("reply", "regex", "found"),
    [
        ("2024-05-01", r"\d{4}-\d{2}-\d{2}", "2024-05-01"),
        (" 2024-05-01\n", r"\d{4}-\d{2}-\d{2}", "2024-05-01"),
        ('"2024-05-01"', r"\d{4}-\d{2}-\d{2}", "2024-05-01"),
        ("It was on 2024-05-01, I think.", r"\d{4}-\d{2}-\d{2}", "2024-05-01"),
        ("日期是2024-05-01。", r"\d{4}-\d{2}-\d{2}", "2024-05-01"),
        ("答案：正面", "正面|负面", "正面"),
        ("Answer: B", "[A-D]", "B"),
        ("B\nBecause it is so.", "[A-D]", "B"),
        ("<think>A or C?</think>C", "[A-D]", "C"),
        ("```\n42\n```", r"\d+", "42"),
        ("  indented", r"\s+indented", "  indented"),  # as it stands first: white space may be asked for
        ("Because of the cold", "[A-D]", None),  # a letter inside a word answers nothing
        ("12 apples", r"\d", None),
        ("A or B", "[A-D]", None),  # several: none is the answer
        ("是2024-05-01或2024-05-02", r"\d{4}-\d{2}-\d{2}", None),
        ("no date", r"\d{4}-\d{2}-\d{2}", None),
        ("", "a+", None),
        ("", "a*", ""),
    ],
)
def test_the_match_is_taken_out_of_a_reply_only_where_it_is_clear(reply: str, regex: str, found: str | None) -> None:
    assert parse.matching(reply, compiled(regex)) == found


@given(TEXTS, REGEXES)
def test_what_is_taken_out_matches_and_was_said(text: str, regex: str) -> None:
    found = parse.matching(text, compiled(regex))
    assert found is None or (compiled(regex).matches(found) and found in text)


@pytest.mark.parametrize(
    ("value", "pattern", "holds"),
    [
        ("id-12", "^id-[0-9]+$", True),
        ("my id-12!", "id-[0-9]+", True),  # JSON Schema looks anywhere in the text
        ("my id-12!", "^id-[0-9]+$", False),
        ("ab", "^a|c$", True),
        ("xa", "^a|c$", False),
        ("foobar", "foo(?=bar)", True),  # beyond our patterns: Python's
        ("foobaz", "foo(?=bar)", False),
        ("很好", "^[一-鿿]+$", True),
    ],
)
def test_a_schemas_pattern(value: Any, pattern: str, holds: bool) -> None:
    assert (schema.fault(value, {"type": "string", "pattern": pattern}) is None) == holds


def test_a_schemas_pattern_that_is_none_is_the_users_mistake() -> None:
    with pytest.raises(RecipeError, match="is not closed"):
        schema.fault("x", {"pattern": "("})
