"""What counts as evidence: found letter for letter or aligned, in zh and en; what an answer adds is noticed."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.construct.documents.evidence import ALIGNED, covered, figures, invented, locate

EN = "The **ferry** leaves at 7:30 from Pier 4, and returns twelve hours later. Bicycles cost two euros extra."
ZH = "渡船早上 7:30 从四号码头出发，十二小时后返回。自行车另收两欧元。"


@pytest.mark.parametrize(
    ("passage", "quote", "found"),
    [
        (EN, "leaves at 7:30 from pier 4", "leaves at 7:30 from Pier 4"),
        (EN, "the ferry leaves", "The **ferry** leaves"),
        (ZH, "从四号码头出发,十二小时后", "从四号码头出发，十二小时后"),
        (ZH, "早上７：３０", "早上 7:30"),
        (EN, "returns about twelve hours later", "returns twelve hours later"),
        (ZH, "自行车需另收两欧元。", "自行车另收两欧元"),
    ],
)
def test_quotations_are_found_whatever_their_marks(passage, quote, found):
    span = locate(passage, quote)
    assert passage[span.start : span.end] == found
    assert (span.share == 1.0) == (quote not in ("returns about twelve hours later", "自行车需另收两欧元。"))


@pytest.mark.parametrize(
    ("passage", "quote"),
    [
        (EN, "the bus leaves at noon from the station"),
        (ZH, "公交车中午从车站出发"),
        (EN, ""),
        (EN, "later twelve returns hours and Pier leaves"),
        ("", "x"),
    ],
)
def test_what_is_not_there_is_not_found(passage, quote):
    assert locate(passage, quote) is None


@given(st.text(st.sampled_from("ab好c 7.，\n*"), min_size=1, max_size=60), st.integers(0, 60), st.integers(1, 60))
def test_any_stretch_of_a_passage_is_found_in_it(passage, start, size):
    quote = passage[start : start + size]
    span = locate(passage, quote)
    if not any(char.isalnum() for char in quote):
        assert span is None
    else:
        assert span.share == 1.0 and [c for c in passage[span.start : span.end] if c.isalnum()] == [
            c for c in quote if c.isalnum()
        ]


def test_real_answers_lie_in_their_passages_and_others_do_not(shared):
    """XQuAD in zh and en: each gold answer's sentence is found in its own passage, never in another article's."""
    with gzip.open(shared / "10_parallel_docs/xquad_en_zh.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    keys = {lang: next(key for key in rows[0] if "context" in key and lang in key) for lang in ("en", "zh")}
    for key in keys.values():
        passages = list(dict.fromkeys(row[key] for row in rows))[:60]
        for at, passage in enumerate(passages):
            middle = passage[len(passage) // 3 : len(passage) // 3 + 80]
            assert locate(passage, middle).share == 1.0
            other = passages[(at + 7) % len(passages)]
            span = locate(other, middle)
            assert span is None or span.share >= ALIGNED


def test_numbers_and_names_that_are_new():
    assert invented("It leaves at 7:30 from Pier 4.", EN) == []
    assert invented("It leaves at 8:30, says Captain Miller, from Pier 4.", EN) == ["8:30", "Captain", "Miller"]
    assert invented("It returns 12 hours later.", EN) == []
    assert invented("渡船 9 点从 Hamburg 出发。", ZH) == ["9", "Hamburg"]
    assert invented("1. 四号码头\n2. 两欧元", ZH) == []
    assert {"12", "4"} <= figures(ZH.replace("十二", "12"))


def test_words_that_the_source_holds():
    assert covered("bicycles cost two euros", EN) == 1.0 and covered("自行车另收两欧元", ZH) == 1.0
    assert covered("dogs travel for free", EN) < 0.3 and covered("宠物一律免费", ZH) < 0.3
    assert covered("", EN) == 1.0


@pytest.mark.parametrize(
    ("said", "number"),
    [("十一周", "11"), ("二十分钟", "20"), ("二百零五页", "205"), ("三千万元", "30000000"), ("二〇二四年", "2024"), ("两欧元", "2"), ("一亿二千万", "120000000"), ("一百二十", "120"), ("eleven weeks", "11"), ("三万亿", "3000000000000"), ("1,200 rows", "1200")],
)  # fmt: skip
def test_numbers_in_words(said, number):
    assert number in figures(said)
