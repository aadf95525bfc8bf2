"""Semantic clarity by rules: faults that are planted, rows that are sound, and how often good data is blamed."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from score_rows import alpaca, row

from zhiling.score.asks import FAULTS, asks
from zhiling.types import Example


def judged(*fields, **more):
    score = next(asks([Example("t", *fields, **more)]))
    return score.value, score.why.split(": ")[0].split(", ") if score.why else []


FAULTY = [
    ("missing_input", "Summarize the following article."),
    ("missing_input", "Rewrite this sentence in the passive voice."),
    ("missing_input", "Classify the given review as positive or negative."),
    ("missing_input", "总结下面这篇文章。"),
    ("missing_input", "将给定的句子翻译成英文。"),
    ("missing_input", "请把以下段落改写得更简洁。"),
    ("reference", "Translate the above into French."),
    ("reference", "As mentioned, list three more."),
    ("reference", "Expand on your previous answer."),
    ("reference", "根据上文回答问题。"),
    ("reference", "把前面提到的例子改成英文。"),
    ("impossible", "Describe what you see in the picture."),
    ("impossible", "Watch this video and summarize it."),
    ("impossible", "Open this link and read the news."),
    ("impossible", "Listen to the following recording and write it down."),
    ("impossible", "What is the weather like today?"),
    ("impossible", "What time is it?"),
    ("impossible", "Summarize the following article: https://news.example.org/2023/one"),
    ("impossible", "看图片，描述其中的人物。"),
    ("impossible", "观看下面视频并写一段感想。"),
    ("impossible", "打开这个链接，告诉我标题。"),
    ("impossible", "今天的天气怎么样？"),
    ("impossible", "现在几点了？"),
    ("impossible", "总结以下文章：https://news.example.org/2023/one"),
    ("merged", "Write a poem about autumn leaves. List the largest rivers of South America."),
    ("merged", "写一首关于秋天的诗。列出南美洲最长的河流。"),
    ("contradiction", "Answer in one word. Use at least 50 words."),
    ("contradiction", "Write at least 300 words, but no more than 100 words, about bees."),
    ("contradiction", "Return only JSON, and then explain your reasoning."),
    ("contradiction", "Do not use the word 'sea'. You must include the word 'sea'."),
    ("contradiction", "用一句话回答，不少于五百字。".replace("五百", "500")),
    ("contradiction", "写一篇短文，至少800字，不超过200字。"),
    ("contradiction", "只返回JSON，并解释理由。"),
    ("contradiction", "只用中文作答，最后用英文回答一遍。"),
    ("underspecified", "Write something."),
    ("underspecified", "Help"),
    ("underspecified", "写点东西"),
    ("underspecified", "帮我"),
    ("leftover", "Thanks, now make it shorter."),
    ("leftover", "As I said, the order matters to me."),
    ("leftover", "你刚才说的不对，再想想。"),
    ("leftover", "谢谢！请重新生成一次。"),
]


@pytest.mark.parametrize(("code", "instruction"), FAULTY)
def test_planted_faults(code, instruction):
    value, codes = judged(instruction)
    assert code in codes
    assert value == pytest.approx(max(0, 1 - sum(FAULTS[each][0] for each in codes)))


def test_every_fault_is_planted_in_both_languages():
    planted = Counter((code, instruction.isascii()) for code, instruction in FAULTY)
    assert set(planted) == {(code, ascii) for code in FAULTS for ascii in (True, False)}


@pytest.mark.parametrize(
    "fields",
    [
        ("Summarize the following article.", "The council met on Monday and agreed on a new library."),
        ("Summarize the following article: The council met on Monday and agreed on a new library.",),
        ("Is the following statement true or false? One day has 24 hours",),
        ("Convert this number into a Roman numeral: 23",),
        ("Write a function that checks whether the given string is a palindrome.",),
        ("总结下面这篇文章。", "市议会周一开会，同意新建图书馆。"),
        ("下面这句话是对还是错？人类可以在水下呼吸。",),
        ("编写一个函数，判断给定的字符串是否为回文。",),
        ("Paris is large and old. " * 4 + "Translate the above into French.",),
        ("写一段五句话以上的故事。",),
        ("Describe a picture of a harbour at dusk.",),
        ("What is the weather usually like in a desert?",),
        ("What is the weather in Tajikistan in December?",),
        ("Describe the given photo.", "A photo of a girl sitting in a field with a basket of red apples"),
        ("描述给出的照片。", "照片里一个女孩坐在田野里，旁边放着一篮红苹果。"),
        ("Write a story in which somebody asks what time it is.",),
        ("Name the parts of this URL: https://example.org/a?b=1",),
        ("写一个小程序，显示今天的天气。",),
        ("Write a poem about autumn. Make it rhyme.",),
        ("Explain photosynthesis. Give three examples of plants.",),
        ("Who wrote Hamlet, and when was it first played?",),
        ("写一首诗。给出它的标题。",),
        ("Write at least 100 words and at most 200 words about bees.",),
        ("Rewrite the sentence without using the word 'happy': Paul was happy.",),
        ("Answer in one sentence of at least ten words.",),
        ("Return only JSON. Do not explain your answer.",),
        ("写一篇不少于200字、不超过400字的短文。",),
        ("只返回JSON，不要解释。",),
        ("Write a story about something.",),
        ("Help me write a letter to my landlord.",),
        ("写点关于春天的东西。",),
        ("为什么天是蓝的？",),
        ("Write a note that begins with “Thanks, now I can rest”.",),
        ("谢谢用英语怎么说？",),
    ],
)
def test_sound_asks(fields):
    assert judged(*fields) == (1, [])


def test_a_conversation_may_be_referred_to():
    history = (("user", "Name a river."), ("assistant", "The Rhine."))
    for instruction in ("Thanks, now make it shorter.", "Translate the above into French.", "根据上文回答问题。"):
        assert judged(instruction)[0] < 1
        assert judged(instruction, history=history) == (1, [])


def test_it_abstains_without_words_and_for_other_languages():
    for instruction in ("", "123 ...", "Напишите короткую историю", "物語を書いてください"):
        score = next(asks([row(instruction)]))
        assert score.value is None
        assert score.why


def test_reasons_are_for_people(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert "没有文字" in next(asks([row("")])).why


def seeds(path):
    return [
        Example("t", item["instruction"], case["input"], case["output"])
        for item in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        for case in item["instances"][:1]
    ]


def test_sound_data_is_hardly_blamed(shared):
    for file in ("01_self_instruct/seed_tasks.jsonl", "04_belle/zh_seed_tasks.jsonl"):
        assert not [score for score in asks(seeds(shared / file)) if score.value != 1]
    people = alpaca(shared / "02_alpaca/alpagasus_dolly_3k.jsonl.gz")
    assert sum(score.value != 1 for score in asks(people)) <= 5


def test_rows_that_a_model_declined_for_want_of_input(shared):
    """Chinese rows whose answer says that nothing was given are found by their question alone."""
    rows = alpaca(shared / "02_alpaca/llamafactory_alpaca_zh_demo.jsonl.gz")
    wanting = [item for item in rows if "没有提供" in item.output[:30] or "并未提供" in item.output[:30]]
    found = [score for score in asks(wanting) if score.value is not None and score.value < 1]
    assert len(wanting) >= 5
    assert len(found) >= 0.6 * len(wanting)


def test_an_address_alone_is_no_input():
    for instruction in ("Rewrite it from another angle", "换个角度重写这篇文章", "Suggest a title."):
        assert judged(instruction, "https://www.example.org/490/text.html")[1] == ["impossible"]
    assert judged("Name the parts of this URL.", "https://www.example.org/490/text.html") == (1, [])
    assert judged("解析这个网址。", "https://www.example.org/490/text.html") == (1, [])
