"""Whether hypotheses alone give labels away: planted habits are found in both languages, honest rows are not blamed, and balance stays."""

from collections import Counter
from random import Random

import pytest
from select_rows import kept, read

from zhiling.nli import LABELS, label_of, pair_of
from zhiling.select.hypothesis import alone, hypothesis_only
from zhiling.types import Example

PLACES = {
    "en": [
        "the mill",
        "the quay",
        "the barn",
        "the inn",
        "the forge",
        "the chapel",
        "the bridge",
        "the market",
        "the tower",
        "the ferry",
    ],
    "zh": ["磨坊", "码头", "谷仓", "客栈", "铁铺", "教堂", "石桥", "集市", "塔楼", "渡口"],
}
DEEDS = {
    "en": [
        "was painted",
        "was sold",
        "stood empty",
        "burnt down",
        "was rented out",
        "opened late",
        "changed hands",
        "was repaired",
    ],
    "zh": ["刷了漆", "卖掉了", "空着", "烧毁了", "租了出去", "开得很晚", "换了主人", "修好了"],
}
HABIT = {"en": {"contradiction": "never", "neutral": "perhaps", "entailment": "indeed"}, "zh": {"contradiction": "从未", "neutral": "也许", "entailment": "确实"}}  # fmt: skip
NAMES = {"en": dict(zip(LABELS, LABELS, strict=True)), "zh": dict(zip(LABELS, ("蕴含", "中立", "矛盾"), strict=True))}


def rows(lang, share, premises=60, task="t", seed=1):
    """For each premise a hypothesis of every label; `share` of them bear their label's habit."""
    draw, out = Random(seed), []
    for at in range(premises):
        for label in LABELS:
            place, deed = draw.choice(PLACES[lang]), draw.choice(DEEDS[lang])
            word = HABIT[lang][label] if draw.random() < share else ""
            said = f"{place} {word} {deed} in {1800 + at}" if lang == "en" else f"{place}{word}{deed}，在{1800 + at}年"
            pair = (
                f"Premise: note {at} of the town\nHypothesis: {said}"
                if lang == "en"
                else f"前提：镇志第{at}条\n假设：{said}"
            )
            out.append(Example(task, "Say it." if lang == "en" else "判断。", pair, NAMES[lang][label], lang=lang))
    return out


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_habit_is_found_and_honest_rows_are_not_blamed(lang):
    (fair,), (biased,) = alone(rows(lang, 0.0)), alone(rows(lang, 0.9))
    assert (fair.lang, fair.rows, fair.commonest) == (lang, 180, pytest.approx(1 / 3, abs=1e-4))
    assert not fair.gives_away and fair.low < 1 / 3 < fair.high
    assert biased.gives_away and biased.accuracy > 0.8 and biased.low > 0.7
    assert "hypothesis_only" in biased.said() and biased.told()["gives_away"]


def test_fair_sets_are_seldom_blamed():
    """By a 95% interval one in forty is; of twelve at most two here."""
    assert sum(alone(rows("en", 0.0, 30, seed=seed))[0].gives_away for seed in range(12)) <= 2


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_rows_that_show_the_habit_are_dropped_and_labels_stay_balanced(lang):
    given = rows(lang, 0.35, premises=50)
    assert alone(given)[0].gives_away
    verdicts = list(hypothesis_only(given, seed=3))
    assert [verdict.example for verdict in verdicts] == [row.id for row in given]
    those = kept(verdicts)
    left, gone = [row for row in given if row.id in those], [row for row in given if row.id not in those]
    assert (
        gone
        and len(left) >= len(given) / 2
        and max(Counter(row.output for row in left).values()) <= 1.05 * len(left) / 3
    )
    marked = {row.id for row in given if any(word in row.input for word in HABIT[lang].values())}
    share = len({row.id for row in gone} & marked) / len(marked)
    assert share > 2 * len({row.id for row in gone} - marked) / (len(given) - len(marked))
    after = alone(left, gone)[0]  # what the rest teaches, told of every row
    assert after.rows == len(given) and after.accuracy < alone(given)[0].accuracy - 0.05
    assert all(verdict.why for verdict in verdicts if not verdict.kept)
    again = list(hypothesis_only(given[::-1], seed=3))
    assert {verdict.example: verdict for verdict in again} == {verdict.example: verdict for verdict in verdicts}


def test_a_set_that_cannot_be_mended_loses_no_more_than_it_may():
    given = rows("en", 1.0)
    those = kept(hypothesis_only(given, seed=0, least=0.8))
    left = [row for row in given if row.id in those]
    assert 0.8 * len(given) <= len(left) < len(given)
    assert alone(left, [row for row in given if row not in left])[0].gives_away  # and the report says so


def test_other_rows_and_few_rows_are_left_alone():
    other = [
        Example("qa", "Is it?", f"A text about {n}.\nIs it {n}?", "yes") for n in range(90)
    ]  # two lines, but no pair
    few = rows("en", 1.0, premises=19)
    strange = [Example("t", "x", "Premise: a\nHypothesis: ...", "entailment"), Example("t", "x", "", "")]
    assert alone([*other, *few, *strange]) == []
    assert all(verdict.kept for verdict in hypothesis_only([*other, *few, *strange], seed=0))


def test_both_languages_of_a_task_are_told_apart(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    found = alone([*rows("en", 0.9), *rows("zh", 0.0)])
    assert [(one.task, one.lang, one.gives_away) for one in found] == [("t", "en", True), ("t", "zh", False)]
    assert "泄露" not in found[1].said() and "只看假设就能猜出标签" in found[0].said() and "猜不出" in found[1].said()


def test_real_rows_are_known_to_give_some_away(shared):
    read_in = [row for row in read(shared / "11_zh_tasks/ocnli_dev.jsonl.gz") if row["label"] in LABELS]
    made = [Example("o", "判断关系。", f"前提：{r['sentence1']}\n假设：{r['sentence2']}", r["label"]) for r in read_in]
    assert all(pair_of(row) is not None for row in made)
    (found,) = alone(made)
    assert found.gives_away and 0.4 < found.accuracy < 0.6


def test_labels_are_read_in_both_languages():
    assert [label_of(said) for said in ("Entailment.", "蕴含", " 矛盾。", "NEUTRAL", "也许吧", "")] == [
        "entailment", "entailment", "contradiction", "neutral", "", "",
    ]  # fmt: skip
