"""Chinese numbers have one reader, and whoever meets them reads the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.construct.documents.evidence import figures
from zhiling.construct.verify.constraints import conditions
from zhiling.construct.verify.translation import missing_numbers
from zhiling.numerals import SIGNS, han_value, number
from zhiling.score.faithful import faithful
from zhiling.select.semantic_pairs import numbers
from zhiling.types import Example

GOLDEN = {
    "零": 0, "〇": 0, "两": 2, "十": 10, "十一": 11, "二十": 20, "九十九": 99, "一百": 100, "百": 100, "一百零三": 103, "一百一十": 110,
    "二百五": 250, "两千三": 2300, "一千零五": 1005, "一千零五十": 1050, "三万五": 35_000, "三万五千": 35_000, "三万零五": 30_005, "十万": 100_000,
    "一百二十万": 1_200_000, "三亿五千万": 350_000_000, "一亿二千万": 120_000_000, "三亿": 300_000_000, "十二亿三千四百五十六万七千八百九十": 1_234_567_890,
    "二〇二四": 2024, "一九九八": 1998, "万": 10_000, "一亿零一": 100_000_001, "五千万亿": 5_000 * 10**12,
}  # fmt: skip


def written(value):
    """A number below ten thousand times ten thousand as it is written, with 零 where it belongs."""
    units, out, zero = [(1000, "千"), (100, "百"), (10, "十"), (1, "")], "", False
    for scale, name in ((10_000, "万"), (1, "")):
        part, some = value // scale % 10_000, ""
        for unit, sign in units:
            digit = part // unit % 10
            if digit:
                some += ("零" if zero and (some or out) else "") + "零一二三四五六七八九"[digit] + sign
            zero = (not digit) if (some or out) else False
        out += some + (name if some else "")
        zero = bool(out) and (value // scale % 10 == 0 or zero)
    return out or "零"


@pytest.mark.parametrize(("said", "value"), GOLDEN.items())
def test_golden(said, value):
    assert han_value(said) == value == number(said)


@given(st.integers(0, 99_999_999))
def test_what_is_written_is_read(value):
    said = written(value)
    assert han_value(said) == value, said


@given(st.text(SIGNS, min_size=1, max_size=12))
def test_any_run_has_a_value(run):
    assert han_value(run) >= 0


def test_other_words_are_no_numbers():
    assert [number(said) for said in ("12", "１２", "", "twelve", "第三", "²")] == [12, 12, None, None, None, None]


def test_everyone_reads_the_same():
    assert "123" in figures("一百二十三人") and "123" in numbers("共一百二十三人")
    assert missing_numbers("There were 123 people.", "共有一百二十三人。") == ""
    (score,) = faithful(
        [Example("t", "根据原文回答：", "船上共有一百二十三名乘客，三名船员。", "船上有123名乘客和3名船员。")]
    )
    assert "123" not in score.why
    told = Example("t", "写一首诗，不超过一百二十字。", "", "春" * 121)
    assert [bool(check.fault(told.output)) for check in conditions(told.instruction)] == [True]
