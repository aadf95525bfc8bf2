"""Demos from the data: near or random, the same wherever they are chosen, and never giving an answer away."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling import text as texts
from zhiling.construct.demos import LONGEST, POOL, Demos, pool
from zhiling.construct.fill import fill
from zhiling.construct.template import template
from zhiling.types import Example, Record, Task, Template

MOOD = Task("mood", family="classification", inputs=("text",), target="label", langs=("zh", "en"), labels=("positive", "negative"))  # fmt: skip
ASK = Task("ask", family="qa", inputs=("question",), target="answer", langs=("en",))
ZH = Template("mood", "zh", "判断情感。", input="{{ text }}", output="{{ label }}", demos=2)


def mood(said, label="positive", **more):
    return Record("mood", {"text": said, "label": label, **more}, lang="zh")


HOTELS = [mood(f"酒店{word}", label) for word, label in (("很干净", "positive"), ("太吵了", "negative"), ("早餐好吃", "positive"), ("有烟味", "negative"))]  # fmt: skip
BOOKS = [
    mood(f"这本书{word}", label)
    for word, label in (("写得好", "positive"), ("很无聊", "negative"), ("印刷差", "negative"))
]


def chosen(
    record, records, how="similar", count=2, task=MOOD, seed=1, asked=("text",), answer=("label",), embedder=None
):
    demos = Demos(records, task, seed, embedder)
    return demos.choose(record, count, how, asked=frozenset(asked), answer=frozenset(answer))


def test_the_nearest_stand_last():
    found = chosen(mood("这本书很好看"), HOTELS + BOOKS)
    assert [demo.fields["text"][:3] for demo in found] == ["这本书", "这本书"]


@pytest.mark.parametrize("how", ["similar", "random"])
def test_never_the_row_itself_nor_its_twin(how):
    twin = mood("酒店很干净", "positive", id="2")
    found = chosen(HOTELS[0], [*HOTELS, *BOOKS, twin], how, count=99)
    assert len(found) == 6 and {d.id for d in found}.isdisjoint({HOTELS[0].id, twin.id})


@pytest.mark.parametrize("twin", ["这家 酒店很干净！", "这家酒店很干净"])
def test_a_question_that_differs_only_in_how_it_is_typed_is_the_same_question(twin):
    near = [mood(twin, "positive", id=str(i)) for i in range(4)]
    assert chosen(mood("这家酒店，很干净"), near, count=9) == []
    books = [
        ask(said, "Mary Stone")
        for said in ("who wrote  the BALLAD", "Who wrote the ballad ?", "Ｗho wrote the ballad?")
    ]
    row = ask("Who wrote the ballad?", "Mary Stone")
    assert chosen(row, books, count=9, task=ASK, asked=("question",), answer=("answer",)) == []
    assert len(chosen(ask("?", "x"), [ask("!", "y")], task=ASK, asked=("question",), answer=("answer",))) == 1


def ask(question, answer, **more):
    return Record("ask", {"question": question, "answer": answer, **more}, lang="en")


def test_an_open_answer_is_not_given_away():
    row = ask("Who wrote the old ballad?", "Mary Stone")
    others = [
        ask("Who sang the ballad?", "mary  STONE"),
        ask("Did Mary Stone sing?", "yes"),
        ask("Who wrote the play?", "Ann Reed"),
    ]
    assert [d.fields["answer"] for d in chosen(row, others, task=ASK, asked=("question",), answer=("answer",))] == [
        "Ann Reed"
    ]
    copied = ask("Mary Stone or Ann Reed: who wrote it?", "Mary Stone")  # its own question says it
    assert len(chosen(copied, others, count=9, task=ASK, asked=("question",), answer=("answer",))) == 3


def test_what_many_answer_is_no_secret():
    row = ask("Is ice cold?", "yes")
    others = [ask(f"Is stone {i} hard?", "yes" if i % 2 else "no") for i in range(8)]
    found = chosen(row, others, count=8, task=ASK, asked=("question",), answer=("answer",))
    assert Counter(d.fields["answer"] for d in found) == {
        "yes": 4,
        "no": 4,
    }  # leaving out every yes would tell the answer too


def test_long_and_incomplete_rows_are_no_demos():
    assert chosen(mood("好"), [mood("x" * (LONGEST + 1)), mood(""), Record("mood", {"text": "好吗"})]) == []


@given(st.randoms(use_true_random=False), st.sampled_from(["similar", "random"]), st.integers(0, 5))
def test_order_changes_nothing(shuffle, how, seed):
    records = HOTELS + BOOKS
    before = [d.id for d in chosen(records[0], records, how, seed=seed)]
    mixed = records[:]
    shuffle.shuffle(mixed)
    assert [d.id for d in chosen(records[0], mixed, how, seed=seed)] == before
    many = [mood(f"第{i}条") for i in range(POOL + 50)]
    drawn = [r.id for r in pool(many, seed)]
    shuffle.shuffle(many)
    assert [r.id for r in pool([*many, *many[:9]], seed)] == drawn and len(drawn) == POOL


def test_random_demos_are_spread_over_the_pool():
    records = [mood(f"第{i}条") for i in range(60)]
    demos = Demos(records, MOOD, 3)
    seen = Counter(d.id for r in records for d in demos.choose(r, 3, "random", asked=frozenset(["text"]), answer=frozenset(["label"])))  # fmt: skip
    assert len(seen) > 50 and max(seen.values()) < 12


def filled(records, templates, task=MOOD, **how):
    rows = list(fill(records, templates, task=task, seed=1, demos=Demos(HOTELS + BOOKS, task, 1), **how))
    assert all(isinstance(row, Example) for row in rows)
    return rows


def test_demos_stand_in_the_prompt_as_the_template_words_them():
    worded = Template("mood", "zh", "判断情感。", input="评论：{{ text }}", output="{% if label == 'positive' %}正面{% else %}负面{% endif %}", demos=2)  # fmt: skip
    (row,) = filled([mood("这本书很好看")], [worded])
    said = "判断情感。\n\n示例：\n输入：评论：这本书写得好\n输出：正面\n示例：\n输入：评论：这本书很无聊\n输出：负面"
    assert sorted(row.instruction.splitlines()) == sorted(said.splitlines()) and row.input == "评论：这本书很好看"
    assert len(row.parents) == 4 and set(row.parents[2:]) <= {r.id for r in BOOKS}


def test_demos_stand_where_the_template_puts_them():
    placed = Template("mood", "en", "Look:\n{{ demos }}\nNow judge.", input="{{ text }}", output="{{ label }}", demos=1)
    (row,) = filled([mood("这本书很好看")], [placed], match_lang=False)
    assert row.instruction.startswith("Look:\nExample:\nInput: 这本书") and row.instruction.endswith("\nNow judge.")
    inside = Template("mood", "zh", "“{{ text }}”是褒是贬？", output="{{ label }}", demos=1)
    (row,) = filled([mood("这本书很好看")], [inside])
    assert row.instruction.startswith("示例：\n输入：这本书") and row.instruction.endswith(
        "\n\n“这本书很好看”是褒是贬？"
    )
    assert (
        next(iter(fill([mood("好")], [placed], task=MOOD, seed=1, match_lang=False))).instruction
        == "Look:\n\nNow judge."
    )


def test_braces_in_a_demo_are_data():
    hostile = mood("这本书{{ ''.__class__ }}{% for x in y %}", "negative")
    rows = list(fill([mood("这本书")], [ZH], task=MOOD, seed=1, demos=Demos([hostile], MOOD, 1)))
    assert "{{ ''.__class__ }}{% for x in y %}" in rows[0].instruction


def test_blocks_of_records_give_the_same_rows_as_one_by_one():
    records = [mood(f"这本书第{i}章") for i in range(150)]
    demos = Demos(HOTELS + BOOKS, MOOD, 1)
    together = list(fill(records, [ZH], task=MOOD, seed=1, demos=demos))
    alone = [row for r in records for row in fill([r], [ZH], task=MOOD, seed=1, demos=demos)]
    assert together == alone


@pytest.mark.model
def test_the_embedder_finds_the_same_meaning_in_other_words_and_the_other_language():
    from zhiling.embed import Use

    records = [
        mood("The bathroom was spotless."),
        mood("The plot of this novel drags."),
        mood("The battery dies in an hour.", "negative"),
    ]
    for said, start in (
        ("房间打扫得很干净", "The bathroom"),
        ("故事情节太拖沓了", "The plot"),
        ("手机充电后很快没电", "The battery"),
    ):
        (near,) = chosen(mood(said), records, count=1, embedder=Use())
        assert near.fields["text"].startswith(start)


def test_real_rows_of_both_languages(shared):
    """On real reviews: no prompt holds its own row, every demo is whole, and similar ones are nearer than random ones."""
    import json

    lines = (shared / "11_zh_tasks/waimai_reviews.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:700]]
    records = [
        mood(r["review"], "positive" if str(r["label"]) == "1" else "negative") for r in rows if r["review"].strip()
    ]
    near = {}
    for how in ("similar", "random"):
        made = [t for t in template(task=MOOD, here=Path(), demos=3, choose=how) if t.lang == "zh"]
        demos = Demos(pool(records[200:], 1), MOOD, 1)
        out = list(fill(records[:200], made, task=MOOD, seed=1, demos=demos))
        assert all(isinstance(row, Example) and len(row.parents) == 5 for row in out)
        by_id = {r.id: r for r in records}
        heard = [texts.shingles(by_id[p].fields["text"], 2) for row in out for p in row.parents[2:]]
        asked = [texts.shingles(by_id[row.parents[1]].fields["text"], 2) for row in out for _ in range(3)]
        near[how] = sum(texts.jaccard(a, b) for a, b in zip(heard, asked, strict=True))
        for row in out:
            assert row.instruction.count("示例：") == 3 and row.parents[1] not in row.parents[2:]
    assert near["similar"] > 3 * near["random"]


def test_random_is_not_pythons_hash(monkeypatch):
    first = [d.id for d in chosen(HOTELS[0], HOTELS + BOOKS, "random")]
    random.seed(99)
    assert [d.id for d in chosen(HOTELS[0], HOTELS + BOOKS, "random")] == first
