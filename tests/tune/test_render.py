from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tokenizer as build

from zhiling.errors import DataError
from zhiling.tune.render import LeftOut, prepare, render, render_all
from zhiling.tune.settings import Sees
from zhiling.types import Example

CHAT, BASE = build(True), prepare(build(False))
ZH = Example("sentiment", "判断这条评论是正面还是负面。", "这家店的面很好吃，下次还来。", "正面", system="你是助手。")
EN = Example("sentiment", "Is the review positive or negative?", "The soup was cold.", "negative")


def expected(words, answer: str) -> str:
    """What the loss should see: a base model's transcript puts a space before an answer and does not keep white space after it."""
    return (f" {answer.rstrip()}" if words is BASE else answer) + words.eos_token


def seen(row, words, sees=True) -> str:
    return words.decode([i for i, trained in zip(row.ids, row.trained, strict=True) if trained is sees])


@pytest.mark.parametrize("words", [CHAT, BASE], ids=["chat", "base"])
@pytest.mark.parametrize("example", [ZH, EN], ids=["zh", "en"])
def test_the_loss_sees_the_answer_and_the_end_of_turn_and_nothing_else(words, example):
    row = render(example, words)
    assert seen(row, words) == expected(words, example.output)
    assert seen(row, words, False) == words.apply_chat_template(
        example.messages(answer=False), tokenize=False, add_generation_prompt=True
    )
    assert row.ids[-1] == words.eos_token_id and row.trained[-1]


@pytest.mark.parametrize("words", [CHAT, BASE], ids=["chat", "base"])
@pytest.mark.parametrize("example", [ZH, EN], ids=["zh", "en"])
def test_the_prompt_is_tokenised_as_it_is_when_the_model_is_asked(words, example):
    row = render(example, words)
    prompt = words.apply_chat_template(example.messages(answer=False), tokenize=False, add_generation_prompt=True)
    asked = words(prompt, add_special_tokens=False)["input_ids"]
    assert list(row.ids[: len(asked)]) == asked and not any(row.trained[: len(asked)])
    # the trap this avoids: as one text, this tokenizer merges across the border
    whole = words(prompt + expected(words, example.output), add_special_tokens=False)["input_ids"]
    assert whole[: len(asked)] != asked


texts = st.text(st.characters(codec="utf-8", exclude_characters="<"), min_size=1, max_size=30).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(texts, texts, st.sampled_from([CHAT, BASE]))
def test_any_text_comes_back_exactly(prompt, answer, words):
    row = render(Example("t", prompt, "", answer), words)
    assert seen(row, words) == expected(words, answer)
    assert len(row.ids) == len(row.trained) and not row.trained[0]


def test_replies_sees_every_assistant_turn_and_all_sees_everything():
    history = (("user", "谁写了这本书？"), ("assistant", "鲁迅"))
    example = replace(EN, history=history)
    assert seen(render(example, CHAT, Sees.ANSWER), CHAT) == "negative<|im_end|>"
    assert seen(render(example, CHAT, Sees.REPLIES), CHAT) == "鲁迅<|im_end|>negative<|im_end|>"
    replies, everything = render(example, CHAT, Sees.REPLIES), render(example, CHAT, Sees.ALL)
    assert CHAT.decode(replies.ids) == CHAT.decode(everything.ids)
    assert everything.targets == len(everything.ids) - 1


def test_a_template_without_an_end_of_turn_gets_one():
    words = build(True)
    words.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    assert seen(render(ZH, words), words) == "正面<|im_end|>"


def test_a_template_that_rewrites_earlier_turns_is_refused():
    words = build(True)
    words.chat_template = "{{ messages | length }}" + words.chat_template
    with pytest.raises(DataError, match=r"rewrites|改写"):
        render(ZH, words)


def test_a_template_that_refuses_a_row_is_one_line():
    words = build(True)
    words.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system text') }}{% endif %}"
        + words.chat_template
    )
    with pytest.raises(DataError, match="no system text") as caught:
        render(ZH, words)
    assert ZH.id in str(caught.value)


@pytest.mark.parametrize(
    ("example", "why"),
    [
        (replace(EN, output="  \n"), "empty"),
        (replace(EN, output="negative<|im_end|>\n<|im_start|>user"), "control"),
        (replace(EN, input="很长" * 300), "long"),
    ],
)
def test_rows_that_cannot_be_tuned_on_say_why(example, why):
    with pytest.raises(LeftOut) as caught:
        render(example, CHAT, limit=200)
    assert caught.value.why == why


def test_everything_is_counted_and_nothing_lost():
    given = [ZH, EN, EN, replace(EN, output=""), replace(EN, input="很长" * 300)]
    rows, counts = render_all(given, CHAT, Sees.ANSWER, 200)
    assert {row.id for row in rows} == {ZH.id, EN.id}
    assert counts == {"rows": 5, "trained": 2, "empty": 1, "long": 1, "control": 0, "duplicate": 1}
    assert counts["rows"] == sum(value for key, value in counts.items() if key != "rows")


def test_a_task_of_which_nothing_is_left_is_named():
    with pytest.raises(DataError, match="'qa'|“qa”") as caught:
        render_all([ZH, Example("qa", "谁写了这本书？", "", " ")], CHAT, Sees.ANSWER, 200)
    assert "max_length" in str(caught.value)
    with pytest.raises(DataError):
        render_all([], CHAT, Sees.ANSWER, 200)
