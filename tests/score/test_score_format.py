"""Structural defects: each code on planted rows, counted on the real ones, and absent from what people wrote."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from score_rows import alpaca, row

from zhiling.score.format import CHECKS, format


def codes(*fields):
    score = next(format([row(*fields)]))
    found = score.why.split(": ")[0].split(", ") if score.why else []
    assert score.value == float(not found)
    return found


LONG = "The committee met three times in the spring and then agreed on a plan for the new library building"
PROSE = "Days grow short in autumn. The tree gets less light than before. Water moves more slowly through its leaves."


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("empty_instruction", (" \n", "A colour.")),
        ("empty_instruction", ("N/A", "A colour.")),
        ("empty_output", ("Name a colour.", "  \n")),
        ("fake_input", ("Name a colour.", "Blue", "<noinput>")),
        ("fake_input", ("Name a colour.", "Blue", "No input required.")),
        ("fake_input", ("说一种颜色。", "蓝色", "（无输入）")),
        ("fake_output", ("Draw a cat.", "<nooutput>")),
        ("fake_output", ("画一只猫。", "无需输出")),
        ("merged", ("Why is the sky blue?", "Light is scattered.\n##\n7. Instruction: Name a fruit.\n7. Input:\n<noinput>\n7. Output:\nPear")),
        ("merged", ("天为什么是蓝的？", "因为光的散射。\n\n指令：说一种水果。\n输出：梨")),
        ("merged", ("Name a fruit.", "Pear\n\n### Instruction:\nName a tree.")),
        ("truncated", ("What happened?", LONG + " because the")),
        ("truncated", ("What happened?", LONG + ",")),
        ("truncated", ("发生了什么？", "委员会在春天开了三次会，最后同意了新图书馆的建设方案，并且")),
        ("code_fence", ("Print a.", "Here:\n```python\nprint('a')")),
        ("json", ("Return the names as JSON.", '{"names": ["Ann", "Bob"]')),
        ("json", ("以 JSON 格式输出。", '{"姓名": 安,}')),
        ("mojibake", ("Say it.", "It\u00e2\u20ac\u2122s a fine day.")),
        ("mojibake", ("说吧。", "今天\ufffd天气很好。")),
        ("entities", ("说吧。", "他说&quot;你好&quot;。")),
        ("control", ("Say it.", "A fine\x07 day.")),
        ("control", ("说吧。", "今天\ud800天气很好。")),
        ("merged", ("Why is the sky blue?", "Light is scattered.\n\nUser: Name a fruit.\nAssistant: Pear")),
        ("merged", ("天为什么是蓝的？", "因为光的散射。\n\n用户：说一种水果。\n助手：梨")),
        ("truncated", ("Why do leaves fall?", PROSE + " After some weeks the tree has lost most of its green colour and starts to")),
        ("truncated", ("Why do leaves fall?", PROSE + " After some weeks the tree has lost most of its green colour")),
        ("truncated", ("树叶为什么落？", "秋天白天变短。树木得到的光变少。叶子里的水分也在减少。几个星期之后，大部分的绿色已经消失，树木开始进")),
        ("repetition", ("What is tea?", "Tea is a drink. " + "It is a drink made of leaves. " * 6)),
        ("repetition", ("What is tea?", "Tea is very " * 20)),
        ("repetition", ("What is tea?", "Leaves are dried first.\n" * 5)),
        ("repetition", ("茶是什么？", "茶是一种饮料，" * 8)),
        ("repetition", ("茶是什么？", "茶是一种饮料。很好喝" + "很好喝" * 16)),
        ("truncated", ("List three ways to help.", "1. Plant trees in the yard.\n2. Walk to work instead of driving.\n3. Buy what is grown nearby so that lorries")),
        ("truncated", ("How do I print it?", "Open the file first. Then call this. It is short.\n```python\nprint(1)\n```\nThe call above writes the number to the")),
        ("truncated", ("列出三个办法。", "1. 多种树：树木吸收二氧化碳，也能遮阳。\n2. 少开车：步行和骑车都不排放废气。\n3. 买本地产品：运输的路程短，需要的")),
        ("truncated", ("解释“光合作用”。", "植物利用阳光。它们吸收水分。\n\n叶子里有叶绿素。氧气由此产生。\n\n这个过程叫做光合作用。植物因此被称为“生产")),
        ("repetition", ("Write a song about tea.", "Tea is warm and sweet.\n" + "We drink it in the morning. " * 9)),
        ("repetition", ("写一首关于茶的诗。", "清茶一杯香满屋，" + "香满屋，" * 9)),
        ("repetition", ("What is tea made of?", "Of leaves. leaves. leaves. leaves. leaves. leaves. leaves. leaves. leaves. leaves.")),
        ("leaked", ("What fraction is 0.5?", "What fraction is 0.5?\n1/2")),
        ("leaked", ("Plan a party for a friend", "Plan a party for a friend\nInvite everybody.")),
        ("leaked", ("用“勤勉”造一个句子。", "用“勤勉”造一个句子。\n他很勤勉。")),
        ("leaked", ("How does AI help doctors?", "Below is an instruction that describes a task. It reads scans.")),
        ("leaked", ("What is tea?", "<|im_start|>assistant\nTea is a drink.<|im_end|>")),
        ("leaked", ("What is tea?", "[INST] What is tea? [/INST] Tea is a drink.")),
        ("leaked", ("What is tea?", "Below is an instruction that describes a task. Tea is a drink.")),
        ("leaked", ("Explain what tea is made of.", "Explain what tea is made of. Tea is made of dried leaves and hot water.")),
        ("leaked", ("茶是什么？", "以下是一条描述任务的指令。茶是一种饮料。")),
        ("leaked", ("请用几句话介绍一下中国的绿茶和红茶。", "请用几句话介绍一下中国的绿茶和红茶。绿茶不发酵，红茶全发酵，二者的颜色和味道都不一样，各有特点。")),
    ],
)  # fmt: skip
def test_planted_defects(code, fields):
    assert code in codes(*fields)


@pytest.mark.parametrize(
    "fields",
    [
        ("提取文中的电话号码，没有则写“无”。", "无", "请到前台办理。"),
        ("Extract the phone number; write none if there is none.", "None", "Ask at the desk."),
        ("Name a colour.", "Blue"),
        ("说一种颜色。", "蓝色"),
        ("How many are left?", "None"),
        ("还剩下什么？", "无"),
        ("What does it print?", "null"),
        ("Decode this.", "SOS", "... --- ..."),
        ("将句子翻译成法语：你好，世界！\n示例：\n输入：Hello, world!\n输出：Bonjour, le monde!", "Bonjour, le monde!"),
        ("Invent an instruction with its input and output.", "Instruction: Add.\nInput: 1 2\nOutput: 3"),
        ("Give the recipe.", "Ingredients:\n- rice\nInstructions:\n1. Boil it."),
        ("Show the steps.", "1. Input: read the file\n2. Output: write the file"),
        ("Which song titles?", "Let it Be, Hey Jude"),
        ("Write a haiku.", "White clouds move slowly by the empty hill,\nCalmly drifting on"),
        ("Write a sonnet line.", "The calm and empty evening sky above the"),
        ("Write SQL.", "SELECT name FROM people WHERE age > 3;"),
        ("Sign off.", "Yours sincerely,"),
        ("Parse this JSON and say what it holds.", "[name and age]"),
        ("Return JSON.", '```json\n{"a": [1, 2]}\n```'),
        ("Escape this for HTML.", "&lt;b&gt;"),
        ("Traduis.", "Voilà une phrase écrite à Paris, où l’été naît — ça ira."),
        ("Say it in German.", "Schöne Grüße aus Köln, äöü ß."),
        ("说明步骤。", "第一步，打开文件；第二步，保存。"),
        ("Why do leaves fall?", PROSE),
        ("Write a letter.", PROSE + "\n\nYours ever,\nyour old friend from the north"),
        ("Name teas.", PROSE + "\n- green tea\n- black tea from the southern hills of China"),
        ("Tell a joke.", "Q: Why?\nA: Because.\n\nQ: Who?\nA: Me."),
        ("Write a chorus.", "Let it shine all night\n" * 6),
        ("Repeat the word tea ten times.", "tea tea tea tea tea tea tea tea tea tea"),
        ("把“好”重复二十遍。", "好" * 20),
        ("Print the first numbers.", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
        ("Which token ends a turn in ChatML?", "The turn ends with the token im_end."),
        ("What does a system prompt look like?", "You are a helpful assistant that answers questions."),
        ("系统提示词一般怎么写？", "你是一个乐于助人的助手。"),
        (
            "Name three fruits.",
            "- red apples from the north\n- green pears from the south\n- sweet plums from the garden",
        ),
        ("列出三种水果。", "1. 北方的红苹果\n2. 南方的绿梨子\n3. 花园里的甜李子"),
        ("Laugh.", "Ha ha ha ha ha ha ha ha ha ha ha"),
        ("Say tea ten times.", "tea tea tea tea tea tea tea tea tea tea tea tea"),
        ("The Road Not Taken", "The Road Not Taken\nTwo roads parted in a yellow wood."),
        ("静夜思", "静夜思\n床前明月光"),
        ("Write a system message for a chatbot.", "You are a helpful assistant. Be brief."),
        (
            "Who wrote it?",
            "It was written in 1920. Nobody knew it then. It came out much later.\n\nWith kind regards\nyour old librarian in Leeds",
        ),
        ("Once upon a time there was", "Once upon a time there was a king who had three sons and a daughter."),
    ],
)
def test_sound_rows(fields):
    assert codes(*fields) == []


def test_every_check_has_a_planted_row():
    planted = {mark.args[1][i][0] for mark in test_planted_defects.pytestmark for i in range(len(mark.args[1]))}
    assert planted == set(CHECKS)


def test_what_can_be_counted_exactly_in_alpaca(shared):
    """The defects of the 52k rows that a plain pattern finds are all flagged, and little else is."""
    rows = alpaca(shared / "02_alpaca/alpaca_52k_original.jsonl.gz")
    found = {item.id: score.why for item, score in zip(rows, format(rows), strict=True)}
    empty = [item.id for item in rows if not item.output.strip()]
    fake = [item.id for item in rows if re.fullmatch(r"\W*(no ?input\w*|none|n/a)\W*", item.input.lower())]
    void = [item.id for item in rows if re.fullmatch(r"\W*(no ?output|none|n/a)\W*", item.output.lower())]
    marked = [item.id for item in rows if re.search(r"<no ?(in|out)put", (item.prompt + item.output).lower())]
    merged = [item.id for item in rows if re.search(r"\n\W*\d+\. Instruction:[\s\S]*\n\W*\d+\. Output:", item.output)]
    assert (len(empty), len(fake), len(void)) == (28, 635, 39)
    assert len(marked) > 200
    assert len(merged) > 30
    assert all("empty_output" in found[key] for key in empty)
    assert all("fake_input" in found[key] for key in fake)
    assert all("fake_output" in found[key] for key in void)
    assert all(found[key] for key in marked)
    assert all("merged" in found[key] for key in merged)
    counts = Counter(code for why in found.values() if why for code in why.split(": ")[0].split(", "))
    assert set(counts) <= set(CHECKS)
    assert sum(bool(why) for why in found.values()) < 0.02 * len(rows)


@pytest.mark.parametrize(
    ("file", "most"),
    [
        (
            "02_alpaca/alpagasus_dolly_3k.jsonl.gz",
            16,
        ),  # people who end without a full stop; one who begins with the question
        ("02_alpaca/raschka_instruction_1100.jsonl", 0),
        ("02_alpaca/llamafactory_alpaca_zh_demo.jsonl.gz", 2),  # one fence that is not closed, one cut off in a year
        ("02_alpaca/zh_extra_topics.jsonl.gz", 5),  # one empty, three without an end, one in a loop
    ],
)
def test_sound_data_stays_whole(shared, file, most):
    scores = list(format(alpaca(shared / file)))
    assert sum(score.value == 0 for score in scores) <= most


def test_translated_rows_with_left_over_entities(shared):
    rows = alpaca(shared / "02_alpaca/alpaca_zh_community_translated.jsonl.gz")
    found = [score.why for item, score in zip(rows, format(rows), strict=True) if "&quot;" in item.output]
    assert len(found) > 5
    assert all("entities" in why for why in found)
