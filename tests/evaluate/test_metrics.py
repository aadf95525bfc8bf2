from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling import registry
from zhiling.evaluate.bleu import bleu
from zhiling.evaluate.metrics import chrf, exact_match, f1, rouge_1, rouge_2, rouge_l
from zhiling.text import normalise

ALL = [exact_match, f1, chrf, rouge_l, rouge_1, rouge_2, bleu]
words = st.text(st.sampled_from("ab 猫狗。，. \nＡ"), max_size=12)


def test_the_registry_knows_them_all():
    assert {registry.get("metric", metric.__name__).fn for metric in ALL} == set(ALL)


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


def test_rouge_counts_characters_in_chinese_and_words_in_english_and_repeats_only_as_often():
    assert rouge_1("猫追狗", "狗追猫") == 1.0 and rouge_2("猫追狗", "狗追猫") == 0.0
    assert rouge_2("the cat sat", "the cat ran") == pytest.approx(0.5)
    assert rouge_2("今天天气好", "今天天气坏") == pytest.approx(3 / 4)
    assert rouge_1("the the the", "the cat") == pytest.approx(2 / 5)
    assert rouge_2("好", "好") == 1.0 and rouge_2("好", "好吃") == 0.0


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("Good morning, did you sleep well?", "Good morning, have you slept well?"), ("早上好，昨晚睡得好吗？", "早上好，昨天晚上睡得好不好？"),
        ("It costs $3.50, or 1,000 yen; state-of-the-art.", "It costs $3.50 or 1,000 yen."), ("a", "b c d e"), ("GPT-4模型很好。", "GPT-4 模型非常好！"),
        ("the cat", "the cat sat on the mat and slept"), ("the cat sat on the mat and slept", "the cat"), ("It's 5-6 (or 7).", "It's 5-6, or 7."),
    ],
)  # fmt: skip
def test_bleu_is_sacrebleus(answer, reference):
    assert bleu(answer, reference) == pytest.approx(theirs(answer, reference), abs=1e-9)


def theirs(answer: str, reference: str) -> float:
    sacrebleu = pytest.importorskip("sacrebleu")
    sort = "zh" if any("\u3000" <= sign <= "\u9fff" for sign in answer + reference) else "13a"
    return sacrebleu.sentence_bleu(normalise(answer), [normalise(reference)], tokenize=sort).score / 100


@given(
    st.text(st.sampled_from("ab1 .,-'好我。，？("), min_size=1, max_size=25),
    st.text(st.sampled_from("ab1 .,-'好我。，？("), min_size=1, max_size=25),
)
def test_bleu_is_sacrebleus_on_anything(answer, reference):
    # sacrebleu leaves a full stop at the very end of a Chinese text on its number ("1."), which it does not in English
    answer, reference = (normalise(side).strip(" .,-") for side in (answer, reference))
    if answer and reference:
        assert bleu(answer, reference) == pytest.approx(theirs(answer, reference), abs=1e-9)


def test_rouge_agrees_with_the_reference_implementation_on_english():
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge_score is not installed")
    pairs = [("the cat sat on the mat", "the cat lay on a mat today"), ("Rain, then sun; rain again.", "sun then rain")]
    for ours, name in ((registry.get("metric", m).fn, r) for m, r in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL"))):  # fmt: skip
        for said, gold in pairs:
            theirs = scorer.RougeScorer([name]).score(gold, said)[name].fmeasure
            assert ours(said, gold) == pytest.approx(theirs, abs=1e-9)
