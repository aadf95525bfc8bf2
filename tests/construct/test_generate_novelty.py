"""The novelty filter decides as the definition of ROUGE-L does, in zh and en, whatever it leaves uncompared."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.construct.generate import novelty
from zhiling.construct.generate.novelty import Pool, tokens
from zhiling.errors import RecipeError


def rouge_l(a: list[str], b: list[str]) -> float:
    """F by the definition: the table of longest common subsequences, cell by cell."""
    if not a or not b:
        return 0.0
    above = [0] * (len(b) + 1)
    for one in a:
        row = [0]
        for at, other in enumerate(b):
            row.append(above[at] + 1 if one == other else max(above[at + 1], row[at]))
        above = row
    p, r = above[-1] / len(a), above[-1] / len(b)
    return 2 * p * r / (p + r) if p + r else 0.0


def expected(text: str, pool: list[str], threshold: float) -> tuple[int, float] | None:
    scores = [rouge_l(tokens(text), tokens(other)) for other in pool]
    best = max(scores, default=0.0)
    return (scores.index(best), best) if best >= threshold else None


words = st.lists(
    st.sampled_from(["write", "a", "poem", "the", "写", "一", "首", "诗", "c3", "привет", ",", "。"]), max_size=14
)


@given(st.lists(words, max_size=12), words, st.sampled_from([0.3, 0.5, 0.6, 0.7, 0.8, 1.0]))
def test_every_decision_and_every_rival_is_that_of_the_definition(pool, text, threshold):
    texts = [" ".join(one) for one in pool]
    found = Pool(texts, threshold).rival(" ".join(text))
    wanted = expected(" ".join(text), texts, threshold)
    assert (None if found is None else (found.place, found.f)) == wanted


@given(st.integers(0, 10**6))
def test_texts_far_longer_than_the_bag_has_bits_are_decided_alike(seed):
    rng = random.Random(seed)
    base = [rng.choice("abcdefghij") * rng.randrange(1, 4) for _ in range(300)]
    close = [word if rng.random() > 0.33 else "z" for word in base]
    texts = [" ".join(close), " ".join(base[:170]), " ".join(reversed(base))]
    found = Pool(texts).rival(" ".join(base))
    wanted = expected(" ".join(base), texts, 0.7)
    assert (None if found is None else (found.place, found.f)) == wanted


def test_a_share_of_exactly_the_threshold_is_not_novel_and_one_word_less_is():
    pool = Pool(["a b c d e f g x y z"])  # 7 of 10 and 10: the share's last bit decides
    f = rouge_l(list("abcdefgxyz"), list("abcdefguvw"))
    assert (pool.rival("a b c d e f g u v w") is None) == (f < 0.7)
    assert pool.rival("a b c d e f t u v w") is None
    assert Pool(["a b c"], threshold=1.0).rival("a b c").f == 1.0


def test_sorting_in_and_growing_forget_nothing(monkeypatch):
    monkeypatch.setattr(novelty, "FRESH", 8)
    rng = random.Random(3)
    texts = [" ".join(rng.choices("abcdefgh", k=rng.randrange(1, 90))) for _ in range(120)]
    pool = Pool()
    for size, text in enumerate(texts):
        found = pool.rival(text)
        wanted = expected(text, texts[:size], 0.7)
        assert (None if found is None else (found.place, found.f)) == wanted
        pool.add(text)
    assert len(pool) == 120 and pool._sorted > 100


def test_more_kinds_of_words_than_ordinary_characters_are_kept_apart():
    many = [f"w{i}" for i in range(70_000)]  # passes the surrogates and the end of the basic plane
    pool = Pool([" ".join(many[i : i + 10]) for i in range(0, 70_000, 10)])
    assert pool.rival(" ".join(many[69_990:])).place == 6_999
    assert pool.rival(" ".join(many[55_290:55_300])).place == 5_529
    assert pool.rival(" ".join(f"new{i}" for i in range(10))) is None


def test_ten_good_chinese_instructions_are_kept_and_their_rewordings_found():
    good = [
        "写一首关于秋天的七言绝句。", "把下面的句子翻译成英文。", "列出五种可以在家里做的运动。", "解释一下什么是通货膨胀。",
        "根据给出的食材推荐一道菜。", "判断这条评论是正面还是负面。", "帮我给客户写一封道歉邮件。", "计算一个圆的面积，半径为三厘米。",
        "为一家新开的咖啡馆起三个名字。", "总结这篇新闻的主要内容。",
    ]  # fmt: skip
    pool = Pool()
    for text in good:
        assert pool.why(text) == ""
        pool.add(text)
    assert pool.rival("写一首关于秋天的七言绝句").place == 0
    assert pool.rival("请列出五种可以在家里做的运动。").place == 2
    assert pool.rival("请解释一下，什么是通货膨胀？").place == 3
    assert pool.rival("写一首关于海边的现代诗。") is None
    assert "什么是通货膨胀" in pool.why("请解释一下，什么是通货膨胀？")


def test_tokens_are_those_of_rouge_score_in_latin_script_and_characters_in_chinese():
    assert tokens("Don't re-use “naïve” C3PO_x!") == ["don", "t", "re", "use", "na", "ve", "c3po", "x"]
    assert tokens("用ＧＰＴ写1首诗，привет") == ["用", "gpt", "写", "1", "首", "诗", "привет"]
    assert tokens("...！？") == []


def test_what_has_no_words_is_novel_and_matches_nothing():
    pool = Pool(["?!", "", "ok then"])
    assert pool.rival("?!") is None and pool.rival("") is None
    assert pool.rival("ok then").place == 2


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_a_threshold_that_means_nothing_is_refused(threshold):
    with pytest.raises(RecipeError, match="novelty"):
        Pool(threshold=threshold)


def test_real_chinese_seed_tasks_keep_their_distance_and_their_copies_do_not(shared: Path):
    lines = (shared / "04_belle/zh_seed_tasks.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["instruction"] for line in lines]
    pool = Pool()
    kept = []
    for text in texts:
        found = pool.rival(text)
        wanted = expected(text, pool.texts, 0.7)
        assert (None if found is None else (found.place, found.f)) == wanted
        kept.append(found is None)
        pool.add(text)
    assert sum(kept) >= 0.95 * len(kept)
    assert all(pool.rival(f"请{text}") is not None for text in texts if len(tokens(text)) >= 4)
