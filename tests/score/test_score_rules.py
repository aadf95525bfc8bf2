"""Length, language and echo, zh and en."""

from __future__ import annotations

import pytest
from score_rows import alpaca, row

from zhiling.score.rules import echo, language, length


def value(scorer, *fields):
    return next(scorer([row(*fields)])).value


@pytest.mark.parametrize(
    ("output", "units"), [("今天天气很好。", 6), ("It's a fine day, isn't it?", 6), ("用 GPT-4 写", 4), ("", 0)]
)
def test_length_counts_characters_or_words(output, units):
    assert value(length, "", output) == units


@pytest.mark.parametrize(
    ("instruction", "output", "expected"),
    [
        ("介绍一下南京的历史。", "南京是六朝古都，历史悠久。", 1),
        ("介绍一下南京的历史。", "Nanjing was the capital of six dynasties in ancient China.", 0),
        ("Tell me about the history of Nanjing.", "南京是六朝古都，历史悠久。", 0),
        ("Tell me about the history of Nanjing.", "Nanjing was the capital of six dynasties.", 1),
        ("将句子翻译成法语：你好，世界！", "Bonjour, le monde!", 1),
        ("将句子翻译成法语：你好，世界！", "你好，世界，这里还是中文！", 0),
        ("Translate the sentence into Chinese: How are you today, my dear old friend?", "你今天好吗，我亲爱的老朋友？", 1),
        ("Translate the sentence into Chinese: How are you?", "How are you today, my dear old friend of mine?", 0),
        ("Translate this sentence.", "你今天好吗，我亲爱的老朋友？", None),
        ("用英语回答：你最喜欢什么颜色，为什么？", "I like blue best because it is calm.", 1),
        ("用英语回答：你最喜欢什么颜色，为什么？", "我最喜欢蓝色，因为它让人平静。", 0),
        ("解释什么是猫，不用英文。", "猫是一种动物，喜欢捉老鼠。", 1),
        ("解释什么是猫，不使用英文回答。", "猫是一种动物，喜欢捉老鼠。", 1),
        ("这条评论是正面还是负面？", "positive", None),
        ("计算 12 乘以 12。", "144", None),
        ("写一个函数，求两数之和。", "def add(a, b):\n    return a + b", None),
        ("列出五个类。", "class A:\n    pass\nclass B:\n    pass\nclass C:\n    pass", None),
        ("有哪些与 Cloning 相关的参考资料？", "与 Cloning 相关的资料有 Advanced Clone Usage 和 Using Clones for Text。", 1),
        ("Describe the number 8 in Chinese culture.", "In Chinese culture the number is a very lucky one indeed.", 1),
        ("", "An answer to nobody's question at all, in plain English words.", None),
        ("Translate into Thai: hello", "สวัสดี hello to you and all of your friends", None),
    ],
)  # fmt: skip
def test_language(instruction, output, expected):
    assert value(language, instruction, output) == expected


def test_language_of_a_text_that_the_row_brings():
    assert (
        value(language, "概括下面的文章。", "The city has grown fast in the last ten years.", "The city grew. " * 9)
        == 1
    )


@pytest.mark.parametrize(
    ("file", "most_wrong"),
    [
        ("02_alpaca/alpagasus_dolly_3k.jsonl.gz", 0),  # written by people, in English throughout
        ("02_alpaca/alpaca_52k_original.jsonl.gz", 5),
        ("02_alpaca/alpaca_zh_community_translated.jsonl.gz", 12),
        ("02_alpaca/zh_extra_topics.jsonl.gz", 12),
    ],
)
def test_language_seldom_errs_on_real_rows(shared, file, most_wrong):
    rows = alpaca(shared / file)
    values = [score.value for score in language(rows)]
    assert values.count(0.0) <= most_wrong
    assert values.count(1.0) > 0.9 * len(rows)


def test_language_finds_answers_given_to_another_row(shared):
    """Chinese questions with English answers, and the reverse."""
    zh = alpaca(shared / "02_alpaca/llamafactory_alpaca_zh_demo.jsonl.gz", 300)
    en = alpaca(shared / "02_alpaca/alpagasus_dolly_3k.jsonl.gz", 300)
    swapped = [row(a.instruction, b.output) for a, b in zip([*zh, *en], [*en, *zh], strict=True)]
    told = [score.value for score in language(swapped) if score.value is not None]
    assert len(told) > 400
    assert told.count(0.0) > 0.9 * len(told)


PASSAGE = {
    "zh": "南京是江苏省的省会，位于长江下游，历史上曾有六个朝代在此建都，因此被称为六朝古都。",
    "en": "Nanjing is the capital of Jiangsu province on the lower Yangtze, and six dynasties once had their seat in it.",
}


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_echo(lang):
    passage = PASSAGE[lang]
    ask = {"zh": "概括这段话。", "en": "Summarise this text."}[lang]
    short = {"zh": "江苏省的省会", "en": "Jiangsu province"}[lang]
    own = {"zh": "这段话说的是一座古老城市的由来与地位。", "en": "It tells where the city lies and why it mattered."}[
        lang
    ]
    assert value(echo, ask, passage, passage) == 1
    assert value(echo, ask, short, passage) == 0
    assert value(echo, ask, own, passage) == 0
    assert 0.3 < value(echo, ask, f"{own} {passage}", passage) < 0.9
    assert value(echo, ask, ask) == 1
    assert value(echo, ask, "…") is None
