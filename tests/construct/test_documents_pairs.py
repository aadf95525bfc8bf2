"""Questions and answers from passages: the document's own, definitions, a small and a large model's; every check has its reject."""

import asyncio
import json
from pathlib import Path

import pytest

from zhiling.construct.documents.faq import faq
from zhiling.construct.documents.pieces import own, pieces, plain, rules
from zhiling.construct.documents.qa import ABSENT, document_qa
from zhiling.embed import Use
from zhiling.errors import ProviderError, RecipeError
from zhiling.llm import open_model
from zhiling.types import Example, Record, Reject, Score, Task

FAQ = Task("faq", "Answer users.\n回答用户。", "faq", ("passage",), "answer", langs=("en", "zh"))
QA = Task("qa", "Answer from the passage.\n据原文作答。", "qa", ("passage",), "answer", langs=("en", "zh"))
PASSAGES = {
    "ferry": "The ferry leaves at 7:30 from Pier 4. It returns twelve hours later, and bicycles cost two euros extra.",
    "library": "Late books cost ten cents a day at the town library. Children pay nothing, and the fine stops at five euros.",
    "garden": "Plots in the community garden are rented by the year. Tools are shared, and water is turned off in November.",
    "pool": "The swimming pool closes for cleaning every Monday. Lockers take a one euro coin, which is returned at the end.",
    "tomatoes": "Tomatoes grow best in a sunny plot of the garden. Water them at the root, and tie them to a stick in June.",
    "compost": "The garden has three compost heaps. Bring peelings from the kitchen, and no meat, to feed the plots in spring.",
    "seeds": "Seeds for the garden plots are swapped in March. Bring what grew well for you, above all beans and tomatoes.",
    "渡船": "渡船早上七点半从四号码头出发，十二小时后返回。自行车另收两欧元，儿童免费乘坐。",
}


def record(name, text=None, **more):
    fields = {
        "passage": text or PASSAGES[name],
        "heading": name,
        "title": "",
        "question": "",
        "answer": "",
        "source": "d.md",
        "page": "",
    }
    return Record("t", {**fields, **more}, "", "d.md", 7)


SHARD = [record(name) for name in PASSAGES]


async def unchecked(rows):
    return [Score(row.id, "verify", None, "no verifier") for row in rows]


def go(make, script, records=SHARD, task=None, verify=unchecked, model=True, **more):
    asked = open_model({"provider": "fake", "script": script}, cache=None) if model else None
    task = task or (QA if make is document_qa else FAQ)
    more = {"seed": 3, "here": Path(), "floor": 0.0, "embedder": Use(), **more}
    made = asyncio.run(make(task=task, records=records, verify=verify, model=asked, **more))
    return [one for one in made if isinstance(one, Example)], [one for one in made if isinstance(one, Reject)]


def reply(*pairs):
    return json.dumps(
        {"pairs": [dict(zip(("question", "answer", "evidence"), pair, strict=True)) for pair in pairs]},
        ensure_ascii=False,
    )


LARGE = {
    "ferry leaves": reply(
        ("When does the ferry leave from Pier 4?", "At 7:30.", "The ferry leaves at 7:30 from Pier 4."),
        ("At what time does the ferry leave from Pier 4?", "It leaves at 7:30.", "The ferry leaves at 7:30 from Pier 4."),
        ("How much is a dog on the ferry?", "A dog costs nine euros.", "bicycles cost two euros extra"),
        ("Who steers the ferry?", "The captain.", "The captain steers it through the fog every single day."),
        ("What does the passage say about the ferry?", "It leaves at 7:30.", "The ferry leaves at 7:30"),
        ("The ferry leaves.", "At 7:30.", "The ferry leaves at 7:30"),
    ),
    "渡船": reply(("渡船几点从四号码头出发？", "早上七点半出发。", "渡船早上七点半从四号码头出发"), ("When does the ferry go?", "早上七点半。", "早上七点半")),
    "Late books": reply(("How do I grow tomatoes in my garden plot?", "It costs ten cents a day.", "Late books cost ten cents a day")),
    "Plots in": "I would rather not.",
    "swimming|Tomatoes|compost|Seeds": '{"pairs": []}',
}  # fmt: skip


def test_a_large_models_pairs_are_checked_and_each_fault_is_named():
    rows, rejects = go(faq, LARGE, style="large", questions=6)
    assert [(row.instruction, row.output, row.lang, row.input) for row in rows] == [
        ("When does the ferry leave from Pier 4?", "At 7:30.", "en", ""),
        ("渡船几点从四号码头出发？", "早上七点半出发。", "zh", ""),
    ]
    ids = {one.fields["heading"]: one.id for one in SHARD}
    assert rows[0].maker.startswith("faq:") and rows[0].parents[0] == ids["ferry"] and len(rows[0].parents) == 2
    whys = sorted(one.why.partition(":")[0] for one in rejects)
    assert whys == ["duplicate", "evidence", "form", "question", "question", "question", "round trip", "supported"]
    assert all(one.where == "d.md:7" and one.parents for one in rejects)
    assert {one.maker for one in rejects} == {rows[0].maker}  # its losses stand beside its rows


def test_a_small_model_words_questions_and_the_answer_is_the_documents_text():
    script = {
        "Text: The ferry": "When does the ferry leave\n",
        "原文：渡船": "渡船几点出发？",
        "Text: Late": "Question: What does a late library book cost?",
        "Text: Plots": "运河什么时候开？",
        "Text: The swim": "",
    }
    rows, rejects = go(faq, script, style="small", questions=1)
    asked = {row.instruction: row.output for row in rows}
    assert asked == {
        "When does the ferry leave?": PASSAGES["ferry"],
        "渡船几点出发？": PASSAGES["渡船"],
        "What does a late library book cost?": PASSAGES["library"],
    }
    assert sorted((one.state, one.why.partition(":")[0]) for one in rejects) == [
        ("dropped", "question"),
        *[("failed", "empty")] * 4,
    ]


@pytest.mark.parametrize("grounded", [False, True])
def test_without_a_model_documents_give_their_own_questions_and_definitions(grounded):
    shard = [
        record("own", "We open at nine.", question="When do you open?", answer="at nine"),
        record("own2", "每天九点开门。", question="几点开门？", answer="九点"),
        record(
            "is",
            "A shard is a part of the rows of a table. It has at most 4,096 of them. This is a note about nothing.",
        ),
        record("zh", "分片是一种把表中的行分开存放的方式。这是一个例子。每片最多有 4096 行。"),
        record("short", "Yes."),
        record("lost", "We open at nine.", question="Who are you?", answer="nobody at all"),
    ]
    rows, rejects = go(faq, [], shard, model=False, ways=["own", "rules"], grounded=grounded)
    assert [(row.instruction, row.output, row.maker) for row in rows] == [
        ("When do you open?", "at nine", "faq:own"),
        ("几点开门？", "九点", "faq:own"),
        ("What is a shard?", "A shard is a part of the rows of a table.", "faq:rules"),
        ("分片是什么？", "分片是一种把表中的行分开存放的方式。", "faq:rules"),
    ]
    assert {row.input for row in rows} == ({one.fields["passage"] for one in shard[:4]} if grounded else {""})
    assert [(one.maker, one.why.partition(":")[0]) for one in rejects] == [("faq", "passage"), ("faq", "passage")]


def test_the_documents_own_question_is_not_asked_again():
    shard = [record("own", PASSAGES["ferry"], question="When is it?", answer="at 7:30")]
    rows, rejects = go(faq, {".": "never asked"}, shard, style="small")
    assert [row.maker for row in rows] == ["faq:own"] and not rejects


def test_a_verifier_that_refuses_is_named():
    async def verify(rows):
        return [Score(row.id, "verify", 0.0 if "ferry" in row.instruction else 1.0, "mine: no ferries") for row in rows]

    rows, rejects = go(faq, LARGE, verify=verify, style="large", questions=1)
    assert [row.lang for row in rows] == ["zh"] and "mine: no ferries" in [one.why for one in rejects]


def test_question_answering_rows_quote_their_evidence_and_ask_what_is_not_there():
    rows, _ = go(document_qa, LARGE, style="large", questions=2, unanswerable=1.0, quote=True)
    answered = [row for row in rows if row.maker != "document_qa:unanswerable"]
    absent = [row for row in rows if row.maker == "document_qa:unanswerable"]
    assert {row.output for row in answered} == {
        'At 7:30.\n\nEvidence: "The ferry leaves at 7:30 from Pier 4"',
        "早上七点半出发。\n\n依据：“渡船早上七点半从四号码头出发”",
    }
    assert all(row.parents[0] == next(one.id for one in SHARD if one.fields["passage"] in row.input) for row in rows)
    assert [(row.lang, row.output) for row in absent] == [
        ("en", ABSENT["en"])
    ]  # there is one Chinese passage: no other to ask
    assert "When does the ferry leave from Pier 4?" in absent[0].input and PASSAGES["ferry"] not in absent[0].input
    assert answered[0].instruction and answered[0].instruction != answered[0].input


def test_losses_bear_the_name_of_the_constructor_that_had_them():
    shard = [*SHARD, record("short", "Yes.")]
    for make, name in ((faq, "faq"), (document_qa, "document_qa")):
        rows, rejects = go(make, LARGE, shard, style="large", questions=6)
        assert {one.maker.partition(":")[0] for one in (*rows, *rejects)} == {name} and len(rejects) >= 8


def test_what_a_model_knows_without_the_passage_is_dropped():
    script = {"^Answer in one": "At 7:30, I believe.", "^用一句话": "不知道", **LARGE}
    rows, rejects = go(document_qa, script, style="large", questions=1, unanswerable=0.0, closed_book=True)
    assert [row.lang for row in rows] == ["zh"]
    assert any(one.why.startswith("closed book: without the passage the model says 1.00") for one in rejects)


def test_a_model_that_is_of_no_use_is_stopped_early():
    shard = [record(str(at), f"{PASSAGES['ferry']} Line {at} of the timetable follows.") for at in range(60)]
    with pytest.raises(ProviderError, match="0 of the first"):
        go(faq, ["I cannot help with that."], shard, style="large", floor=0.1, ways=["model"])
    rows, rejects = go(faq, ["I cannot help with that."], shard, style="large", floor=0.0, ways=["model"])
    assert not rows and len(rejects) == 60 and {one.state for one in rejects} == {"failed"}


def test_a_recipes_own_prompts_are_used(tmp_path):
    (tmp_path / "p.yaml").write_text(
        "prompts:\n  - {id: question, lang: en, style: small, turns: [{user: 'MINE {passage}'}]}\n", encoding="utf-8"
    )
    rows, _ = go(
        faq,
        {"^MINE The ferry": "When does the ferry leave?"},
        SHARD[:1],
        style="small",
        questions=1,
        prompts="p.yaml",
        here=tmp_path,
    )
    assert [row.instruction for row in rows] == ["When does the ferry leave?"]
    (tmp_path / "p.yaml").write_text(
        "prompts:\n  - {id: question, lang: en, style: small, turns: [{user: '{pasage}'}]}\n", encoding="utf-8"
    )
    with pytest.raises(RecipeError, match="pasage"):
        go(faq, [], SHARD[:1], style="small", prompts="p.yaml", here=tmp_path)


def test_work_depends_on_neither_order_nor_batch():
    rows, rejects = go(faq, LARGE, style="large", questions=6)
    again, lost = go(faq, LARGE, SHARD[::-1], style="large", questions=6)
    assert {row.id for row in rows} == {row.id for row in again} and {one.id for one in rejects} == {
        one.id for one in lost
    }


def test_pieces_are_running_text():
    text = (
        "Intro line of **words** here.\n\n```\ncode = 1\n```\n\n| a | b |\n| - | - |\n\n- See [the guide](http://x.y/z) for more of it. "
        + "Another sentence follows it here. " * 30
    )
    assert plain(text).startswith("Intro line of words here.\nSee the guide for more of it.")
    made = pieces(text, 3)
    assert len(made) == 3 and not any("code" in one or "http" in one or "|" in one for one in made)
    assert pieces("短。", 2) == [] and len(pieces("这里讲的是第一件事情的来龙去脉。" * 20, 2)) == 2


def test_rules_and_own_find_nothing_where_there_is_nothing():
    task = FAQ
    for text in (
        "It is a fine day. There is no reason to go. This is the end.",
        "这是一种说法。我们是一类人。如果是，请回答。",
    ):
        assert list(rules(record("x", text), task)) == []
    assert list(own(record("x", "Text."), task)) == []


def test_reasons_in_chinese(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    _, rejects = go(faq, LARGE, style="large", questions=6)
    assert any("依据只含" in one.why for one in rejects) and any("比原段更接近" in one.why for one in rejects)


@pytest.mark.model
def test_the_embedded_model_asks_what_a_passage_answers():
    model = open_model({"provider": "gguf"}, cache=None)
    made = asyncio.run(
        faq(
            task=FAQ, records=SHARD[:4], embedder=Use(), verify=unchecked, seed=3, here=Path(), model=model, questions=1
        )
    )
    asyncio.run(model.close())
    rows = [one for one in made if isinstance(one, Example)]
    assert rows and all(row.instruction.endswith("?") and row.output in PASSAGES.values() for row in rows)
