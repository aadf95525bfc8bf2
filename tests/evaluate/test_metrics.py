from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling import registry
from zhiling.evaluate.metrics import chrf, exact_match, f1, rouge_l
from zhiling.text import normalise

ALL = [exact_match, f1, chrf, rouge_l]
words = st.text(st.sampled_from("ab 猫狗。，. \nＡ"), max_size=12)


def test_the_registry_knows_them_all():
    assert {registry.get("metric", name).fn for name in ("exact_match", "f1", "chrf", "rouge_l")} == set(ALL)


@pytest.mark.parametrize("metric", ALL)
@given(a=words, b=words)
def test_every_metric_lies_in_0_1_is_1_on_itself_and_does_not_see_width_or_case(metric, a, b):
    value = metric(a, b, lang="zh")
    assert 0.0 <= value <= 1.0
    assert metric(a, a, lang="") == 1.0
    assert metric(normalise(a) if "\n" not in a else a, b, lang="en") == value or "\n" in a


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(("answer", "reference"), [("", "正面"), ("bread", "水"), ("完全不同", "正面"), ("", "word")])
def test_nothing_in_common_is_0(metric, answer, reference):
    assert metric(answer, reference, lang="") == 0.0


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("Positive.", "positive"), ("“正面”。", "正面"), ("ＰＯＳＩＴＩＶＥ", "positive"), ("positive\nbecause the food was good", "positive"),
        ("\n\n正面\n理由：好吃", "正面"), (" 「正面」！", "正面"), ("**positive**", "Positive"), ("On Fridays", "on fridays."), ("A\nB", "a\nb"),
    ],
)  # fmt: skip
def test_dress_does_not_matter_to_an_exact_match(answer, reference):
    assert exact_match(answer, reference) == 1.0


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("not positive", "positive"),
        ("不正面", "正面"),
        ("A", "A\nB"),
        ("positive negative", "positive"),
        ("3.5", "35"),
        ("-5", "5"),
        (".5", "5"),
        ("-", "正面"),
    ],
)
def test_another_answer_is_no_exact_match(answer, reference):
    assert exact_match(answer, reference) == 0.0


def test_f1_counts_characters_in_chinese_and_words_in_english():
    assert f1("二楼东厅", "东厅") == pytest.approx(2 * 2 / 6)
    assert f1("on the second floor", "second floor") == pytest.approx(2 * 2 / 6)
    assert f1("the the the", "the cat") == pytest.approx(2 * 1 / 5)


def test_rouge_l_respects_order():
    assert rouge_l("猫追狗", "狗追猫") == pytest.approx(2 * 1 / 6)
    assert rouge_l("the cat sat on the mat", "the cat on a mat") == pytest.approx(2 * 4 / 11)


@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=40),
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=40),
)
def test_rouge_l_finds_the_longest_common_subsequence(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(2 * table[-1][-1] / (len(a) + len(b)))


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("Good morning, did you sleep well?", "Good morning, have you slept well?"), ("早上好，昨晚睡得好吗？", "早上好，昨天晚上睡得好不好？"),
        ("明天车站见", "明天在车站见。"), ("a", "ab"), ("Bonjour le monde", "Bonjour, le monde !"), ("x", "y"), ("水", "水"), ("ab", "abcdefgh"),
    ],
)  # fmt: skip
def test_chrf_is_sacrebleus(answer, reference):
    sacrebleu = pytest.importorskip("sacrebleu")
    theirs = sacrebleu.sentence_chrf(normalise(answer), [normalise(reference)]).score / 100
    assert chrf(answer, reference) == pytest.approx(theirs, abs=1e-9)


@given(
    st.text(st.sampled_from("abc 你好，"), min_size=1, max_size=25),
    st.text(st.sampled_from("abc 你好，"), min_size=1, max_size=25),
)
def test_chrf_is_sacrebleus_on_anything(answer, reference):
    sacrebleu = pytest.importorskip("sacrebleu")
    if normalise(answer) and normalise(reference):
        theirs = sacrebleu.sentence_chrf(normalise(answer), [normalise(reference)]).score / 100
        assert chrf(answer, reference) == pytest.approx(theirs, abs=1e-9)
