"""Personal data: every number with a valid checksum is found, none with an invalid one, in zh and en."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.score.pii import find, luhn, pii
from zhiling.types import Example

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
SENTENCES = [
    "我的号码是{}。",
    "客户（{}）已登记",
    "请记录：{}，谢谢",
    "My number is {}.",
    "number:{}",
    "{}",
    "“{}”",
    "a\n{}\nb",
]


def kinds(text):
    return [kind for kind, _ in find(text)]


def identity(region, year, month, day, serial):
    body = f"{region}{year:04d}{month:02d}{day:02d}{serial:03d}"
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, WEIGHTS, strict=True)) % 11]


identities = st.builds(
    identity,
    st.sampled_from(["110105", "310115", "440306", "510107", "650102", "810000"]),
    st.integers(1930, 2025),
    st.integers(1, 12),
    st.integers(1, 28),
    st.integers(0, 999),
)


def card(prefix, length, rest):
    body = (prefix + rest)[: length - 1]
    return next(body + str(d) for d in range(10) if luhn(body + str(d)))


cards = st.builds(
    lambda issuer, rest: card(*issuer, rest),
    st.sampled_from([("62", 19), ("62", 16), ("4", 16), ("51", 16), ("2720", 16), ("37", 15), ("3530", 16)]),
    st.text("0123456789", min_size=19, max_size=19).filter(lambda s: len(set(s[:8])) > 3),
)


@given(identities, st.sampled_from(SENTENCES))
def test_an_identity_number_counts_only_with_its_checksum(number, sentence):
    assert "zh_id" in kinds(sentence.format(number))
    for last in "0123456789X":
        assert ("zh_id" in kinds(sentence.format(number[:17] + last))) == (last == number[17])


@given(cards, st.sampled_from(SENTENCES))
def test_a_card_counts_only_with_luhns_digit(number, sentence):
    assert "card" in kinds(sentence.format(number))
    wrong = number[:-1] + str((int(number[-1]) + 5) % 10)
    assert "card" not in kinds(sentence.format(wrong))
    if len(number) == 16:
        spaced = " ".join(number[i : i + 4] for i in range(0, 16, 4))
        assert kinds(sentence.format(spaced)) == ["card"]
        assert kinds(sentence.format(spaced[:-1] + wrong[-1])) == []


@given(
    st.sampled_from(["138", "147", "159", "166", "186", "191", "199"]),
    st.integers(10**7, 10**8 - 1).filter(lambda n: len(set(str(n))) > 2),
    st.sampled_from(["{}{}{}", "{} {} {}", "{}-{}-{}", "+86 {} {} {}", "+86-{}{}{}"]),
)
def test_mobile_numbers_however_written(segment, rest, written):
    number = written.format(segment, str(rest)[:4], str(rest)[4:])
    assert kinds(f"联系电话{number}，随时可打") == ["zh_mobile"]
    assert kinds(f"order {segment}{rest}7") == []  # twelve digits are no mobile number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("写信到 li.wei@shu.edu.cn 即可", ["email"]),
        ("Mail jane_roe+news@mail.acme.co.uk today", ["email"]),
        ("john@example.com, a@b.test", []),
        ("电话 010-62785001 转 12", ["zh_phone"]),
        ("Call (212) 664-7665.", ["phone"]),
        ("Call 212-555-0147 now", []),
        ("+44 20 7946 0958", ["phone"]),
        ("SSN 219-45-6781", ["ssn"]),
        ("078-05-1120 and 000-12-3456", []),
        ("号码１３８１２３４５６７８", ["zh_mobile"]),
        ("pi is 3.14159265358979323846", []),
        ("2024-11-24 12:30:00, version 1.2.3.4, 100000000000", []),
        ("12345678901 和 110105199901011234", []),
        ("v=4111111111111111", []),
        ("@home and user@", []),
        ("", []),
    ],
)
def test_what_counts_and_what_does_not(text, expected):
    assert kinds(text) == expected


def test_the_score_names_kinds_and_fields_but_not_the_data():
    row = Example(
        task="t", instruction="记下 13812345678", input="", output="mail a.b@shu.edu.cn", lang="zh", maker="m"
    )
    clean = Example(task="t", instruction="写诗", input="", output="好", lang="zh", maker="m")
    found, nothing = pii([row, clean])
    assert (found.value, nothing.value) == (1.0, 0.0)
    assert "zh_mobile" in found.why and "instruction" in found.why and "email" in found.why and "output" in found.why
    assert "138" not in found.why and "shu" not in found.why
    assert nothing.why == ""


@given(st.text(max_size=300))
def test_any_text_is_looked_at_and_spans_are_ordered(text):
    spans = [span for _, span in find(text)]
    assert all(start < end <= len(text) for start, end in spans)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
