"""Rows that ask the same in other words, in Chinese and English, and rows that only look so."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from select_rows import kept

from zhiling.embed import Use
from zhiling.errors import RecipeError
from zhiling.select.duplicates import near
from zhiling.select.semantic import nearest, semantic
from zhiling.select.semantic_pairs import difference, facts, features, numbers
from zhiling.types import Example, Verdict


def run(rows: Sequence[Example], **settings: object) -> list[Verdict]:
    return list(semantic(rows, scores={}, embedder=Use(), **settings))  # type: ignore[arg-type]


def ask(instruction: str, given: str = "", output: str = "x") -> Example:
    return Example("t", instruction, given, output)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("社交媒体如何影响我们的沟通方式？", "社交媒体如何影响沟通？"),
        ("我们如何减少空气污染？", "有哪些方法可以减少空气污染？"),
        ("Explain why recycling is important.", "Why is recycling important?"),
        ("How do computers process information?", "How does a computer process data?"),
    ],
)
def test_a_reworded_prompt_falls_and_names_its_rival(one: str, other: str) -> None:
    rows = [ask(one), ask(other), ask("Translate the sentence into French."), ask("写一首关于春天的诗。")]
    said = {verdict.example: verdict for verdict in run(rows)}
    first, second = sorted(rows[:2], key=lambda row: row.id)
    assert said[first.id].kept
    assert not said[second.id].kept
    assert said[second.id].rival == first.id
    assert said[rows[2].id].kept
    assert said[rows[3].id].kept


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("2019年放假安排是什么？", "2020年放假安排是什么？", "number"),
        ("三个苹果多少钱？", "五个苹果多少钱？", "number"),
        ("How long is a trip of 20 miles?", "How long is a trip of thirty miles?", "number"),
        ("手机可以带上飞机吗？", "手机不可以带上飞机吗？", "negation"),
        ("Why is it allowed to park here?", "Why is it not allowed to park here?", "negation"),
        ("北京有哪些好玩的地方？", "上海有哪些好玩的地方？", "name"),
        ("What is the capital of France?", "What is the capital of Germany?", "name"),
        ("《红楼梦》的作者是谁？", "《西游记》的作者是谁？", "name"),
    ],
)
def test_another_number_negation_or_name_is_another_question(one: str, other: str, what: str) -> None:
    assert difference(facts(one), facts(other)) == difference(facts(other), facts(one)) == what
    assert len(kept(run([ask(one), ask(other)], threshold=0.01))) == 2


def test_numbers_are_read_however_they_are_written() -> None:
    assert numbers("twenty-five kids and 1,200 books") == ["25", "1200"]
    assert numbers("一百二十个人，二〇一九年，三万五千元") == ["120", "2019", "35000"]
    assert numbers("一下子统一起来，十分重要") == []
    assert not difference(facts("有没有办法"), facts("有办法没有？"))


def test_features_are_symmetric_and_bounded() -> None:
    texts = ["从北京到上海的航班", "从上海到北京的航班", "How do I swim?", "", "!!!", "わたしは学生です"]
    for one in texts:
        for other in texts:
            there, back = features(facts(one), facts(other)), features(facts(other), facts(one))
            assert there == pytest.approx(back)
            assert all(0 <= value <= 1 for value in there)
    assert features(facts(texts[0]), facts(texts[1]))[-1] > 0  # the cities stand the other way round


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [
        ask(f"{verb}{thing}。")
        for verb in ("描述", "请描述一下", "解释", "说说")
        for thing in ("光合作用的过程", "股市的运作")
    ]
    expected = {verdict.example: verdict for verdict in run(rows)}
    assert 2 <= sum(verdict.kept for verdict in expected.values()) < len(rows)
    for seed in range(3):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert {verdict.example: verdict for verdict in run(shuffled)} == expected


def test_every_rival_is_kept() -> None:
    rows = [ask("Why is recycling important?", output=str(at)) for at in range(5)]
    rows += [ask("Explain why recycling is important.", output=str(at)) for at in range(5)]
    said = {verdict.example: verdict for verdict in run(rows)}
    assert sum(verdict.kept for verdict in said.values()) == 1
    assert all(verdict.kept or said[verdict.rival].kept for verdict in said.values())


def test_input_system_history_and_language_set_rows_apart() -> None:
    base = ask("Summarise the text.", "The cat sat on the mat.")
    rows = [
        base,
        ask("Summarise the text.", "Profits of the bank rose last year."),
        Example("t", "Summarise the text.", "The cat sat on the mat.", "x", system="Answer as a pirate."),
        Example(
            "t", "Summarise the text.", "The cat sat on the mat.", "x", history=(("user", "hi"), ("assistant", "yes"))
        ),
        ask("总结这段文字。", "猫坐在垫子上。"),
    ]
    assert len(kept(run(rows))) == len(rows)
    assert len(kept(run([base, ask("Summarise the text.", "The cat sat on the mat.", "another answer")]))) == 1


def test_a_hundred_chinese_rows_of_four_clusters_keep_four_to_eight() -> None:
    seeds = [
        "请介绍一下人工智能在医疗领域的主要应用和未来的发展趋势",
        "如何才能在一个月之内有效地提高自己的英语口语水平",
        "写一封信给你的朋友，邀请他周末来家里参加生日聚会",
        "为什么冬天的时候北方的湖面会结冰而湖底的鱼不会冻死",
    ]
    openings, ends = ("", "请问，", "你好，", "麻烦你，", "谢谢，"), ("。", "？", "！", "呢？", "，谢谢。")
    rows = [ask(f"{opening}{seed}{end}") for seed in seeds for opening in openings for end in ends]
    assert len(rows) == 100
    thinned = kept(near(rows, scores={}, over="prompt"))
    left = kept(run([row for row in rows if row.id in thinned]))
    assert 4 <= len(left) <= 8
    assert {next(seed for seed in seeds if seed in row.instruction) for row in rows if row.id in left} == set(seeds)


def test_hostile_rows_are_data() -> None:
    rows = [
        ask(""),
        ask("   ", "N/A"),
        ask("\ud800 broken \udfff"),
        ask("\x00\x00"),
        ask("Перечислите три способа экономии энергии."),
        ask("エネルギーを節約する方法を三つ挙げてください。"),
        ask("Summarise.", "word " * 200_000),
        ask("Summarise.", "word " * 200_000 + "end"),
        ask("Say it.", output="y" * 1_000_000),
    ]
    verdicts = run(rows)
    assert [verdict.example for verdict in verdicts] == [row.id for row in rows]
    assert all(verdict.kept for verdict in verdicts[:6])
    assert run([]) == []


def test_a_crowd_of_equal_prompts_costs_one_look() -> None:
    class Counting(Use):
        asked = 0

        def __call__(self, texts: Sequence[str]) -> np.ndarray:  # type: ignore[override]
            self.asked += len(texts)
            return super().__call__(texts)

    embedder = Counting()
    rows = [ask("给我讲个笑话。", output=str(at)) for at in range(20_000)]
    verdicts = list(semantic(rows, scores={}, embedder=embedder))
    assert sum(verdict.kept for verdict in verdicts) == 1
    assert embedder.asked <= 2


def test_nearest_looks_back_only_and_at_no_more_than_asked() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 0]]
    block = np.arange(5)
    a, b = nearest(vectors, block, block, most=2)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (0, 4), (1, 4)]


def test_mistakes_are_told() -> None:
    with pytest.raises(RecipeError, match="probability"):
        run([ask("a")], threshold=0.0)

    class Other(Use):
        name = "other"

    with pytest.raises(RecipeError, match="other"):
        list(semantic([ask("a")], scores={}, embedder=Other()))
