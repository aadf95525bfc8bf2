"""Ease of reading and register: which of two texts lies higher, in English and Chinese, and where nothing is said."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from score_rows import HOSTILE, row

from zhiling.score.readability import readability, register, syllables

EASY = "The cat sat on the mat. It was a warm day. The dog came by and sat down too. They like to play in the sun all day long."
HARD = (
    "Notwithstanding considerable methodological heterogeneity, contemporary investigations consistently demonstrate that institutional "
    "accountability significantly facilitates organisational transparency, particularly regarding administrative implementation, "
    "environmental documentation and the subsequent evaluation of intergovernmental agreements."
)
EASY_ZH = (
    "今天天气真好呀！我和小猫去公园玩。我们跑呀跳呀，特别开心。你也来吧！我们一起玩，好不好呢？大家都觉得很有意思。"
)
HARD_ZH = "鉴于上述规定，有关部门应当依据相关法律法规的要求，对其所辖区域内的企业实施有效监督，并就监督过程中所发现的问题及其整改情况予以记录，以及向上级主管机关提交具有法律效力的书面报告。"


def value(score, output):
    return next(score([row("x", output)])).value


def test_easy_and_hard_texts():
    assert value(readability, EASY) > value(readability, HARD) + 0.4
    assert value(readability, EASY_ZH) > value(readability, HARD_ZH) + 0.4


def test_chatty_and_official_texts():
    chatty = "Hey guys, I'm gonna tell you about my new bike! It's super cool and you'll really love it, lol. We're going for a ride tomorrow, wanna come with us?"
    assert value(register, HARD) > 0.7 > 0.3 > value(register, chatty)
    assert value(register, HARD_ZH) > 0.7 > 0.3 > value(register, EASY_ZH)


@pytest.mark.parametrize(
    ("word", "count"),
    [("cat", 1), ("table", 2), ("make", 1), ("wanted", 2), ("jumped", 1), ("banana", 3), ("rhythm", 1), ("documentation", 5), ("the", 1)],
)  # fmt: skip
def test_syllables(word, count):
    assert syllables(word) == count


def test_it_abstains_for_short_texts_code_and_other_languages():
    for output in (
        "",
        "Blue",
        "蓝色",
        "def f(x):\n    return x\nimport os\nfor a in b:\n" * 9,
        "Это предложение на русском языке. " * 9,
    ):
        for score in (readability, register):
            found = next(score([row("x", output)]))
            assert found.value is None
            assert found.why
    fenced = f"```python\n{'print(1)' * 40}\n```\n{EASY}"
    assert value(readability, fenced) == value(readability, EASY)


def test_hostile_rows():
    for score in (readability, register):
        found = list(score(HOSTILE))
        assert [one.example for one in found] == [one.id for one in HOSTILE]
        assert all(one.value is None or 0 <= one.value <= 1 for one in found)


def test_both_languages_share_the_scale(shared):
    """Passages and their translations: like means, and reviews are chattier than abstracts and encyclopaedias."""
    read = lambda path: [json.loads(line) for line in gzip.decompress((shared / path).read_bytes()).splitlines()]  # noqa: E731
    news = read("10_parallel_docs/ntrex_en_zh_de_ja_fr.jsonl.gz")
    passages = [
        (" ".join(one["en"] for one in news[at : at + 4]), "".join(one["zh"] for one in news[at : at + 4]))
        for at in range(0, 600, 4)
    ]
    pairs = np.array([(value(readability, en), value(readability, zh)) for en, zh in passages])
    assert abs(pairs[:, 0].mean() - pairs[:, 1].mean()) < 0.08
    assert np.corrcoef(pairs.T)[0, 1] > 0.5
    abstracts = [value(register, one["input"]) for one in read("11_zh_tasks/csl_title_dev.jsonl.gz")[:200]]
    reviews = [value(register, one["review"]) for one in read("11_zh_tasks/chnsenticorp_hotel.jsonl.gz")[:400]]
    high, low = (np.array([one for one in side if one is not None]) for side in (abstracts, reviews))
    assert (high[:, None] > low[None, :]).mean() > 0.85
