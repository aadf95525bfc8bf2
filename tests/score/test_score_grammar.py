"""Grammar, against corrections made by people (en) and mistakes that are certain (zh)."""

from __future__ import annotations

import re

import pytest
from score_rows import alpaca, read, row

from zhiling.score import grammar as module
from zhiling.score.grammar import grammar


def say(*instructions):
    return list(grammar([row(instruction) for instruction in instructions]))


def joined(tokenised: str) -> str:
    """JFLEG's sentences with the spaces before punctuation taken out."""
    plain = re.sub(r"\s+([.,!?;:%)\]]|n't|'s|'re|'ve|'ll|'m)", r"\1", tokenised.strip())
    return re.sub(r"([(\[])\s+|``\s*|\s*''", lambda found: (found.group(1) or '"').strip(), plain)


def test_corrections_score_higher(shared):
    """Where source and correction differ in score, the correction wins, nearly always."""
    rows = read(shared / "11_english_tasks/jfleg_dev.jsonl.gz", 250)
    wins = losses = 0
    for item in rows:
        source, *corrected = (score.value for score in say(joined(item["source"]), *map(joined, item["refs"])))
        for value, reference in zip(corrected, item["refs"], strict=True):
            if reference.strip() != item["source"].strip() and None not in (source, value):
                wins, losses = wins + (value > source), losses + (value < source)
    assert wins > 300
    assert wins / (wins + losses) > 0.96


def test_instructions_written_with_care_are_right(shared):
    """People's own instructions, zh and en: few are marked down."""
    for file in ("02_alpaca/raschka_instruction_1100.jsonl", "02_alpaca/llamafactory_alpaca_zh_demo.jsonl.gz"):
        values = [score.value for score in grammar(alpaca(shared / file, 400))]
        assert values.count(1.0) > 0.94 * sum(value is not None for value in values)


@pytest.mark.parametrize(
    ("instruction", "value"),
    [
        ("Find the most frequent word in the sentence.", 1),
        ("Find the word with the most occurences in the text.", 0.5),
        ("Write an biography of a famous painter.", 0.5),
        ("Summarise the colour of the theatre programme.", 1),  # British spelling
        ("Ask Mr Zhukovsky about OpenSSL, numpy_array and the GPT model.", 1),  # names
        ('Correct the sentence: "he go too school yesturday"', 1),  # quoted
        ("Correct the following sentence:\nhe go too school yesturday", 1),
        ("Explain the theodicy of Leibniz.", 1),  # rare, not misspelt
    ],
)
def test_english(instruction, value):
    assert say(instruction)[0].value == value


@pytest.mark.parametrize(
    ("instruction", "value", "code"),
    [
        ("请写一篇关于春天的短文。", 1, ""),
        ("请写一个书。", 0.5, "measure"),
        ("请写三个短文，并翻译。", 0.5, "measure"),
        ("说说他为什么跑的很快。", 0.5, "de"),
        ("说说他为什么跑得很快。", 1, ""),
        ("他慢慢的走着，请续写。", 0.5, "de"),
        ("我觉的这不对，请说明理由。", 0.5, "de"),
        ("请说明他的的理由。", 0.5, "doubled"),
        ("为了了解历史，请介绍南京。", 1, ""),
        ("他目的的确不明，请说明。", 1, ""),
        ("请介绍《红楼梦的作者。", 0.5, "pairs"),
        ("请介绍《红楼梦》（小说）的“作者”。", 1, ""),
        ("请列出：1）优点；2）缺点。", 1, ""),
        ("请翻译，，然后解释。", 0.5, "punctuation"),
        ("你好,请翻译。", 0.75, "punctuation"),
        ("价格是1,200元，比例是3:1。", 1, ""),
        ("这是新的的话，请说明；打的的费用是多少？", 1, ""),
        ("一个歌手和一个书店，写一个故事。", 1, ""),
    ],
)  # fmt: skip
def test_chinese(instruction, value, code):
    score = say(instruction)[0]
    assert score.value == value
    assert score.why.startswith(code)


@pytest.mark.parametrize(
    "instruction",
    [
        "",
        "123 + 456",
        "🙂",
        "def f(x):\n    return x\nprint(f(2))",
        "Veuillez traduire cette phrase en anglais pour moi",
        "Как дела?",
        "今日はいい天気ですね",
    ],
)
def test_abstains(instruction):
    score = say(instruction)[0]
    assert score.value is None
    assert score.why


def test_equal_texts_are_checked_once(monkeypatch):
    asked = []

    class Counting:
        def organized_lints(self, passage, language):
            asked.append(passage)
            return {}

    monkeypatch.setattr(module, "_linter", Counting)
    assert [score.value for score in say(*["Name a colour nobody else named."] * 5, "Name one.")] == [1.0] * 6
    assert len(asked) == 2


def test_a_checker_per_thread():
    """Harper refuses to be shared between threads; ours is not."""
    from concurrent.futures import ThreadPoolExecutor

    wordings = [
        [f"Name the {number} cities and thier mayors." for number in range(start, start + 20)]
        for start in (0, 100, 200)
    ]
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda part: [score.value for score in say(*part)], wordings))
    assert results == [[0.5] * 20] * 3
