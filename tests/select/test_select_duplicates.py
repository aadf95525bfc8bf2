"""Exact and near duplicates, zh and en."""

from __future__ import annotations

import random

import pytest
from select_rows import alpaca, kept, read, scores

from zhiling import text
from zhiling.errors import RecipeError
from zhiling.select.duplicates import exact, near
from zhiling.types import Example

ZH = [
    ("请写一篇关于人工智能发展历史的短文，不少于三百字，语言要通俗。",
     "人工智能的研究始于二十世纪五十年代，经历了数次起伏。早期的程序会下棋、会证明定理，却不懂常识。如今深度学习让机器能够识别图像、"
     "理解语言，并在医疗、交通和教育等许多行业中得到应用。"),
    ("请介绍一下南京的历史和主要景点，适合第一次来的游客阅读。",
     "南京是六朝古都，位于长江下游，城墙保存完好。游客可以参观中山陵、明孝陵和夫子庙，晚上坐船游览秦淮河，再尝一尝盐水鸭和鸭血粉丝汤，"
     "两三天的时间比较充裕。"),
    ("请为一家新开的咖啡店写一段宣传文案，突出环境安静、价格实惠。",
     "忙碌的一天里，来这里坐一坐吧。安静的角落，温暖的灯光，一杯刚刚磨好的咖啡，价格也很亲民。带上一本书，或者约上三五好友，"
     "把城市的喧闹留在门外。"),
    ("请解释什么是光合作用，并说明它对地球上的生命有什么意义。",
     "光合作用是绿色植物利用太阳光，把二氧化碳和水合成有机物并放出氧气的过程。它为几乎所有生物提供食物和能量，也维持着大气中"
     "氧气和二氧化碳的平衡，没有它就没有我们今天的世界。"),
]  # fmt: skip
EN = [
    ("Describe how to prepare a garden for the winter in a cold climate.",
     "Pull out dead annuals, cut back perennials once they have died down, and cover the beds with a thick layer of leaves or straw. Drain the "
     "hoses, store the pots under a roof, and water evergreens well before the ground freezes for good."),
    ("Explain in simple words why the sky looks blue during the day.",
     "Sunlight is a mixture of all colours. On its way through the air it meets tiny molecules that scatter short waves much more than long ones, "
     "so blue light reaches our eyes from every direction while red light mostly goes straight on."),
]  # fmt: skip


def variants(pairs, count, letters, rng):
    """`count` rows per pair, each with one small edit: mostly in its output, else in its prompt."""

    def edit(passage):
        units = list(passage) if letters else passage.split()
        at = rng.randrange(1, len(units) - 1)
        units[at : at + rng.randrange(2)] = [rng.choice("的了也很还" if letters else ["very", "also", "quite"])]
        return ("" if letters else " ").join(units)

    def variant(prompt, output):
        return (
            Example("t", edit(prompt), "", output) if rng.randrange(3) == 0 else Example("t", prompt, "", edit(output))
        )

    return [variant(*pair) for pair in pairs for _ in range(count)]


@pytest.mark.parametrize(("pairs", "letters", "most"), [(ZH, True, 8), (EN, False, 4)], ids=["zh", "en"])
def test_near_duplicates_collapse_to_their_clusters(pairs, letters, most):
    rows = variants(pairs, 25, letters, random.Random(5))
    assert len({row.id for row in rows}) >= 0.9 * len(rows)
    verdicts = list(near(rows, scores={}))
    by_id = {row.id: row for row in rows}
    alive = kept(verdicts)
    assert len(pairs) <= len(alive) <= most
    for verdict in verdicts:
        if not verdict.kept:
            one, other = by_id[verdict.example], by_id[verdict.rival]
            assert other.id in alive
            sets = [text.shingles(f"{row.prompt}\n{row.output}", 2) for row in (one, other)]
            assert text.jaccard(*sets) >= 0.8
            assert f"{text.jaccard(*sets):.2f}" in verdict.why


def test_real_rows_against_brute_force(shared):
    """All near pairs among 1,500 real outputs, zh and en, and no others."""
    zh = alpaca(shared / "02_alpaca/zh_extra_topics.jsonl.gz", 1000)
    en = alpaca(shared / "02_alpaca/alpaca_52k_original.jsonl.gz", 500)
    rows = sorted({row.id: row for row in [*zh, *en]}.values(), key=lambda row: row.id)
    sets = [text.shingles(row.output, 3) for row in rows]
    expected = {}
    for at, row in enumerate(rows):
        for before in range(at):
            if rows[before].id not in expected and sets[at] and text.jaccard(sets[before], sets[at]) >= 0.7:
                expected[row.id] = rows[before].id
                break
    verdicts = list(near(rows, scores={}, threshold=0.7, n=3, over="output"))
    assert {verdict.example: verdict.rival for verdict in verdicts if not verdict.kept} == expected
    assert len(expected) > 10


def test_questions_about_one_passage_are_no_duplicates(shared):
    """Rows that share a long passage and differ in question and answer stay, as instruction or as input."""
    article = read(shared / "10_parallel_docs/xquad_en_zh.jsonl.gz", 1)[0]
    for lang in ("zh", "en"):
        asked = {item["question"].strip(): item for item in article[f"qas_{lang}"]}.values()
        rows = [
            Example("qa", item["question"], article[f"context_{lang}"], item["answers"][0]["text"]) for item in asked
        ]
        assert len(rows) > 1
        assert len(kept(near(rows, scores={}))) == len(rows)


def test_short_labels_and_numbers_must_agree():
    long = "Read the statement with care and answer with one word, true or false, and nothing else at all: "
    rows = [Example("t", f"{long}ice is {word}", "", answer) for word, answer in (("cold", "true"), ("hot", "false"))]
    assert len(kept(near(rows, scores={}, threshold=0.7))) == 2
    assert len(kept(near(rows, scores={}, threshold=0.7, over="prompt"))) == 1


def test_exact_folds_case_width_and_space_only():
    rows = [
        Example("t", "Translate：　ＡＢＣ", "", "Yes"),
        Example("u", "translate: abc ", "", "yes"),
        Example("t", "Translate: ABC", "", "Yes!"),
        Example("t", "Translate: ABC", "", "Yes", system="Be brief."),
        Example("t", "Translate: ABC", "", "Yes", history=(("user", "Hi"),)),
        Example("t", "翻译：你好", "", "好"),
        Example("t", "翻译：　你好", "", "好"),
    ]
    verdicts = {verdict.example: verdict for verdict in exact(rows, scores={})}
    first, second = sorted(rows[:2], key=lambda row: row.id)
    assert not verdicts[second.id].kept
    assert verdicts[second.id].rival == first.id
    assert [verdicts[row.id].kept for row in rows[2:5]] == [True] * 3
    assert verdicts[rows[5].id].kept  # 翻译：你好 and 翻译： 你好 differ by a space, which is only folded, not removed
    assert verdicts[rows[6].id].kept


def test_the_best_by_a_scorer_is_kept():
    rows = [Example("t", "Name a colour.", "", "Blue" + " " * space) for space in range(3)]
    values = {rows[0].id: 0.2, rows[1].id: 0.9, rows[2].id: None}
    for selector in (exact, near):
        assert kept(selector(rows, scores=scores("grammar", values), keep="grammar")) == {rows[1].id}
        assert kept(selector(rows, scores=scores("echo", values), keep="echo")) == {rows[0].id}  # low is better
    with pytest.raises(RecipeError, match="neither better high nor low"):
        list(exact(rows, scores=scores("length", values), keep="length"))
    with pytest.raises(RecipeError, match="no row has a score by 'grammar'.*echo"):
        list(exact(rows, scores=scores("echo", values), keep="grammar"))


def test_rows_with_one_id_share_a_verdict():
    row = Example("t", "Say hello to the whole class in a friendly way.", "", "Hello, everybody!")
    for selector in (exact, near):
        assert [verdict.kept for verdict in selector([row, row], scores={})] == [True, True]


def test_hostile_rows_are_kept_apart():
    rows = [
        Example("t", ""), Example("t", "!!!"), Example("t", "???"), Example("t", "\ud800\x00"), Example("t", "x" * 1_000_000),
        Example("t", "字" * 300_000, "", "\n" * 1000),
    ]  # fmt: skip
    for selector in (exact, near):
        assert len(kept(selector(rows, scores={}))) == len(rows)
        assert list(selector([], scores={})) == []


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.5}, {"n": 0}])
def test_wrong_settings(wrong):
    with pytest.raises(RecipeError, match=r"^near\."):
        list(near([], scores={}, **wrong))
