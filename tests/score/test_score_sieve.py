"""What is looked at in bulk is scored as each row is alone: there no sieve stands before the exact patterns."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_rows import HOSTILE, alpaca, row

from zhiling import text
from zhiling.score.rules import RUN, RUN_WORDS, echo, format, language, length, placeholder, refusal
from zhiling.score.sieve import FEW, ROWS, Sieve

RULES = (length, language, echo, refusal, placeholder, format)
BITS = (
    "no input", "N/A", "无输入", "无", "none", "<noinput>", "&lt;noinput", "<|im_end|>", "<start_of_turn>", "[INST]", "</s>", "{{name}}", "{name}",
    "[INSERT NAME]", "[your `x` name]", "[name]", "<date>", "XXX", "xXx", "张XX，", "××年", "Lorem ipsum", "（此处填写）", "【姓名】", "```", "`x`", "$a$",
    "\\[x\\]", "I'm sorry, I cannot help with that.", "as an AI language model,\n I can't", "As a chatbot, I am  unable", "I must decline",
    "it is not appropriate to ask", "作为一个人工智能语言模型，我无法回答", "抱歉，我不清楚", "### Response:", "1. Instruction: a\n1. Output: b", "\n  Q: a\nA: b",
    "问：甲\n答：乙", "Input: a\nInstruction: b", "You are a helpful assistant", "below is an instruction that describes a task", "你是一个乐于助人的助手",
    "以下是一条描述任务的指令", "&nbsp;", "\x00", "\x85", "\ud800", "\ufffd", "Ã©", "â€™", "æ–‡å", "ﬁ", "Ａｂｃ", "İ", "ſ", "K", "’", "'", "''", "\u3000", "\n",
    "ha ha ha ha ha ha ha ha ha", "and the", "，", "Translate into French:", "Answer in plain English.", "用英语回答", "ねこ", "고양이", "кот", "ملاحظة", "⼈", "é",
    "one two three four five six seven eight nine", "今天天气很好我们去公园散步吧", "Return it as valid JSON", "{\"a\": 1", "：", ":", ".", "。", "x", " ",
)  # fmt: skip
rows_of_bits = st.tuples(*[st.lists(st.sampled_from(BITS), max_size=5).map("".join)] * 3).map(lambda made: row(*made))


def said(scorer, rows):
    return [(score.example, score.value, score.why) for score in scorer(rows)]


def alone(scorer, rows):
    return [said(scorer, [one])[0] for one in rows]


@settings(max_examples=40, deadline=None)
@given(st.lists(rows_of_bits, min_size=3 * FEW, max_size=40))
def test_bulk_scores_are_those_of_each_row_alone(rows):
    for scorer in RULES:
        assert said(scorer, rows) == alone(scorer, rows)


@pytest.mark.parametrize(
    "file", ["02_alpaca/alpaca_52k_original.jsonl.gz", "02_alpaca/alpaca_zh_community_translated.jsonl.gz"]
)
def test_so_are_those_of_real_rows_with_defects_put_in(shared, file):
    rng = random.Random(5)
    rows = alpaca(shared / file, 400)
    for one in rows[:250]:
        fields = [one.instruction, one.output, one.input]
        at = rng.randrange(3)
        where = rng.randrange(len(fields[at]) + 1)
        fields[at] = fields[at][:where] + rng.choice(BITS) + fields[at][where:]
        rows.append(row(*fields))
    for scorer in RULES:
        assert said(scorer, rows) == alone(scorer, rows)


def test_hostile_rows_are_told_apart_in_bulk_too():
    rows = [*HOSTILE, *(row("Name a colour.", "Blue.") for _ in range(3 * FEW))]
    for scorer in (language, refusal, placeholder):
        assert said(scorer, rows) == alone(scorer, rows)


def plain_echo(one):
    """The definition, token by token."""
    said, asked = text.tokens(one.output), text.tokens(one.prompt)
    run = RUN_WORDS if one.output.isascii() else RUN.get(text.lang(one.output), RUN_WORDS)
    if len(said) < run:
        return (float(len(said) > 2 and said == text.tokens(one.instruction))) if said else None
    known = {tuple(asked[i : i + run]) for i in range(len(asked) - run + 1)}
    hit = {i + k for i in range(len(said) - run + 1) if tuple(said[i : i + run]) in known for k in range(run)}
    return round(len(hit) / len(said), 4)


tokens = st.lists(st.sampled_from(["a", "b", "c", "天", "地"]), max_size=40).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(tokens, tokens, tokens), min_size=1, max_size=12))
def test_echo_is_the_share_of_tokens_in_runs_of_the_prompt(made):
    rows = [row(a, f"{b} {a[k:]}" if k % 2 else b, c) for k, (a, b, c) in enumerate(made)]
    assert [score.value for score in echo(rows)] == [plain_echo(one) for one in rows]


def test_a_sieve_lets_through_what_holds_its_pattern_and_what_it_cannot_judge():
    sieve = Sieve("sorry|task", "抱歉")
    texts = ["I am SORRY.", "fine", "我很抱歉", "很好", "taſk", "\ud800 fine", *["fine"] * FEW, *["很好"] * FEW]
    assert sieve.holds(texts) == [True, False, True, False, True, True, *[False] * (2 * FEW)]
    assert sieve.holds(texts[:2]) == [True, True], "for a few texts a sieve does not pay"
    assert all(Sieve("", "").holds(["x", "天"] * FEW))


def test_rows_beyond_one_look_keep_their_places():
    rows = [row(str(at), "sorry" if at % 1000 == 7 else "fine") for at in range(ROWS + 50)]
    found = list(Sieve("sorry", "").sift(rows, lambda one: one.output))
    assert [one.id for one, _ in found] == [one.id for one in rows]
    assert [at for at, (_, held) in enumerate(found) if held] == [at for at in range(len(rows)) if at % 1000 == 7]
