"""Summaries keep the facts and add none; extractions are valid by their schema and found in the text; zh and en alike."""

import asyncio
import json
from pathlib import Path

import pytest

from zhiling.construct.documents.extract import extract
from zhiling.construct.documents.extract import wrong as extraction_fault
from zhiling.construct.documents.summary import chief_facts, summary, wrong
from zhiling.embed import Use
from zhiling.errors import RecipeError
from zhiling.llm import open_model
from zhiling.text import length
from zhiling.types import Example, Record, Reject, Score, Task

EN = (
    "The town council of Harwick has voted to close the old swing bridge for eleven weeks from 4 May. Engineers found cracks in two of the "
    "beams last winter. While the bridge is closed, a free ferry will run every twenty minutes between Harwick and the station, paid for by "
    "the council. Lorries must take the ring road. The repair costs 2.4 million pounds, half of which comes from the county."
)
ZH = (
    "哈维克镇议会决定，从五月四日起封闭旧旋转桥十一周。去年冬天，工程师在两根横梁上发现了裂缝。封桥期间，镇上与车站之间每二十分钟有一班免费渡船，"
    "费用由镇议会承担。货车须绕行环城路。维修费用为 240 万元，其中一半由郡里出资。渡船只载人和自行车，不载汽车。"
)
TASK = Task("sums", "Sum up.\n概括。", "summarisation", ("document",), "summary", langs=("en", "zh"))
DATA = Task("data", "Extract.\n抽取。", "extraction", ("text",), "json", langs=("en", "zh"))
SCHEMA = {
    "type": "object",
    "properties": {
        "what": {"type": "string"}, "weeks": {"type": ["integer", "null"]}, "cost": {"type": ["number", "null"]},
        "kind": {"enum": ["closure", "opening"]}, "paid_by": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["what", "kind"], "additionalProperties": False,
}  # fmt: skip


def record(text, field="document"):
    return Record("t", {field: text, "heading": "Bridge", "source": "d.md", "page": ""}, "", "d.md", 3)


async def unchecked(rows):
    return [Score(row.id, "verify", None, "no verifier") for row in rows]


def go(make, script=None, records=(), task=TASK, **more):
    model = open_model({"provider": "fake", "script": script}, cache=None) if script is not None else None
    more = {"seed": 3, "here": Path(), "floor": 0.0, **more}
    if make is summary:
        more["embedder"] = Use()
    made = asyncio.run(make(task=task, records=list(records), verify=unchecked, model=model, **more))
    return [one for one in made if isinstance(one, Example)], [one for one in made if isinstance(one, Reject)]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("Harwick closes its old swing bridge for eleven weeks from 4 May, with a free ferry meanwhile.", ""),
        (
            "Harwick closes its old swing bridge for twelve weeks from 14 May, with a free ferry meanwhile.",
            "invented: not in the passage: 14",
        ),
        (
            "Harwick and Lower Marsh close the swing bridge for eleven weeks from 4 May.",
            "invented: not in the passage: Lower, Marsh",
        ),
        ("The old swing bridge is closed for eleven weeks and a free ferry runs.", "facts: none of Harwick"),
        ("Harwick 关闭了旧桥，要关闭十一周。", "language"),
        (EN, "compression"),
        ("Closed.", "compression"),
        ("Harwick closes its swing bridge. A free ferry runs.", "length: 2 sentences, one sentence asked for"),
        ("Harwick wants happy visitors to enjoy every lovely afternoon beside cool water.", "words: the passage has"),
    ],
)
def test_what_is_no_summary(said, why):
    found = wrong(said, record(EN), "sentence", TASK)
    assert found.startswith(why) if why else found == ""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("从五月四日起封闭旧旋转桥十一周，期间有免费渡船。", ""),
        ("从五月四日起封闭旧旋转桥 15 周，期间有免费渡船。", "invented"),
        ("The bridge is closed for eleven weeks.", "language"),
        ("议员们感到非常高兴，市民纷纷表示赞同和欢迎。", "words"),
    ],
)
def test_what_is_no_chinese_summary(said, why):
    found = wrong(said, record(ZH), "sentence", TASK)
    assert found.startswith(why) if why else found == ""


def test_a_models_summaries_at_each_length_in_both_languages():
    good = "Harwick closes its old swing bridge for eleven weeks from 4 May; a free ferry runs."
    script = {
        "in one sentence[\\s\\S]*council of": good,
        "two or three[\\s\\S]*council of": "A new bridge opens in Paris in 1999. It is free.",
        "一句话": "从五月四日起封闭旧旋转桥十一周，有免费渡船。",
        "两三句": "",
    }
    rows, rejects = go(summary, script, [record(EN), record(ZH), record("Too short to sum up.")], style="large")
    assert {(row.lang, row.output) for row in rows} == {
        ("en", good),
        ("zh", "从五月四日起封闭旧旋转桥十一周，有免费渡船。"),
    }
    assert all(row.parents[0] in {record(EN).id, record(ZH).id} and row.maker.startswith("summary:") for row in rows)
    assert sorted((one.state, one.why.partition(":")[0]) for one in rejects) == [
        ("dropped", "invented"),
        ("dropped", "passage"),
        ("failed", "empty"),
    ]


def test_extracts_need_no_model_and_say_nothing_new():
    rows, rejects = go(summary, None, [record(EN), record(ZH)], by="extract", lengths=["sentence", "short"])
    assert len(rows) + len(rejects) == 4 and {row.lang for row in rows} == {"en", "zh"}
    for row in rows:
        assert all(part in EN + ZH for part in row.output.replace(". ", ".|").replace("。", "。|").split("|") if part)
        assert length(row.output) <= (80 if row.lang == "en" else 120)
    asked = {row.prompt.count("one sentence") + row.prompt.count("一句话") for row in rows}
    assert asked <= {0, 1} and 1 in asked  # the length is told


def test_chief_facts_are_the_names_said_most():
    assert chief_facts(EN) == ["Harwick"] and chief_facts("TiDB 支持 MySQL。TiDB 也支持 TiFlash。") == ["TiDB"]


GOOD = {"what": "swing bridge", "weeks": 11, "cost": 2.4, "kind": "closure", "paid_by": ["the county"]}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (GOOD, ""), ({**GOOD, "weeks": None}, ""), ({**GOOD, "weeks": 9}, "values: $.weeks"), ({**GOOD, "what": "railway"}, "values: $.what"),
        ({**GOOD, "kind": "repair"}, "schema"), ({**GOOD, "more": 1}, "schema"), ({"kind": "closure"}, "schema"), ({**GOOD, "paid_by": ["the queen"]}, "values: $.paid_by[0]"),
        ([], "schema"),
    ],
)  # fmt: skip
def test_what_is_no_extraction(value, why):
    found = extraction_fault(value, SCHEMA, EN)
    assert found.startswith(why) if why else found == ""


def test_an_extraction_of_nothing_is_kept_only_where_asked_for():
    form = {"type": "object", "properties": {"name": {"type": ["string", "null"]}}}
    assert (
        extraction_fault({"name": None}, form, EN).startswith("empty")
        and extraction_fault({"name": None}, form, EN, empty=True) == ""
    )


def test_extraction_rows_in_both_languages_from_a_schema_file(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    script = {
        "council of": json.dumps(GOOD),
        "镇议会": json.dumps(
            {"what": "旧旋转桥", "weeks": 11, "cost": 240, "kind": "closure", "paid_by": ["郡里"]}, ensure_ascii=False
        ),
    }
    shard = [record(EN, "text"), record(ZH, "text")]
    rows, rejects = go(extract, script, shard, DATA, schema="s.json", here=tmp_path)
    assert not rejects and [json.loads(row.output)["what"] for row in rows] == ["swing bridge", "旧旋转桥"]
    assert all("what, weeks, cost, kind, paid_by" in row.prompt for row in rows)
    _, rejects = go(extract, {".": "I cannot."}, shard, DATA, schema=SCHEMA)
    assert [one.state for one in rejects] == ["failed", "failed"]


def test_a_schema_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        go(extract, {".": "x"}, [record(EN, "text")], DATA, schema="none.json", here=tmp_path)
    (tmp_path / "l.json").write_text("[1]")
    with pytest.raises(RecipeError, match="no JSON object"):
        go(extract, {".": "x"}, [record(EN, "text")], DATA, schema="l.json", here=tmp_path)
