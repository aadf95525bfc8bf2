"""The leak guard."""

from __future__ import annotations

import pytest
from select_rows import kept, read

from zhiling.errors import RecipeError
from zhiling.select.heldout import heldout
from zhiling.types import Example

LONG_ZH = "这家酒店的房间很干净，服务员也很热情，早餐的种类不少，离地铁站只有五分钟，下次出差我还会选择住在这里。"
LONG_EN = (
    "The room was clean and the staff were friendly, breakfast had a lot of choice, and the station is five minutes away; next time I travel for work "
    "I shall stay here again, and bring my family along if the school holidays allow it."
)


def drops(rows, held):
    return {verdict.example: verdict.rival for verdict in heldout(rows, heldout=held) if not verdict.kept}


@pytest.mark.parametrize("content", [LONG_ZH, LONG_EN, "热", "hot"])
def test_other_wording_of_a_held_out_input(content):
    held = Example("mood", "Positive or negative?", content, "positive")
    leak = Example("mood", "判断情感。", content + " ", "negative")
    other = Example("price", "How expensive?", content, "cheap")
    copied = Example("price", "How expensive?", content, "Positive")
    assert drops([leak, other, copied], [held]) == {leak.id: held.id, copied.id: held.id}


@pytest.mark.parametrize("content", [LONG_ZH, LONG_EN])
def test_nearly_a_held_out_input(content):
    held = Example("mood", "Positive or negative?", content, "positive")
    edited = content.replace("五分钟", "六分钟").replace("five minutes", "six minutes")
    assert edited != content
    rows = [Example("mood", "How did they feel?", edited, "good"), Example("mood", "How?", content[:20], "good")]
    assert drops(rows, [held]) == {rows[0].id: held.id}
    assert drops([Example("mood", edited, "", "good")], [Example("mood", content, "", "good")])


def test_the_instruction_is_the_content_without_an_input():
    held = Example("say", "Translate to French: hello", "", "bonjour")
    rows = [
        Example("say", "translate to French:  Hello", "<noinput>", "salut"),
        Example("say", "Translate to French: night", "", "nuit"),
    ]
    assert drops(rows, [held]) == {rows[0].id: held.id}


def test_two_rows_without_an_input_are_not_alike_by_that():
    assert not drops([Example("t", "Name a fruit.", "N/A", "pear")], [Example("t", "Name a tree.", "N/A", "oak")])
    assert not drops([Example("t", "", "", "")], [Example("t", "", "", "")])


def test_worked_examples_in_the_prompt_are_no_content(shared):
    """A long few-shot prompt around short texts with two labels: what rows share is the task's wording."""
    shots = "判断评论的情感，只回答正面或负面。\n评论：房间很大，早餐不错，服务员非常热情，下次还来。\n情感：正面\n评论：隔音太差，一晚上没睡好。\n情感：负面\n评论："
    reviews = read(shared / "11_zh_tasks/chnsenticorp_hotel.jsonl.gz", 400)
    rows = list(
        {row.id: row for row in (Example("mood", shots + r["review"][:40], "", r["label"]) for r in reviews)}.values()
    )
    held, rest = rows[:40], rows[40:]
    assert not drops(rest, held)
    assert drops([*rest, held[3]], held) == {held[3].id: held[3].id}


def test_a_passage_that_many_questions_share_is_context(shared):
    for article in read(shared / "10_parallel_docs/xquad_en_zh.jsonl.gz", 40):
        if len(article["qas_zh"]) < 5:
            continue
        for lang in ("zh", "en"):
            rows = [
                Example("qa", question, article[f"context_{lang}"], answer)
                for question, answer in {
                    i["question"].strip(): i["answers"][0]["text"] for i in article[f"qas_{lang}"]
                }.items()
            ]
            assert set(drops(rows, rows[:3])) == {row.id for row in rows[:3]}  # three of them show it is context
            assert set(drops(rows, rows[:1])) == {row.id for row in rows}  # of a single one it must be feared
        return
    pytest.fail("no article with five questions in the shared data")


def test_nothing_held_out_drops_nothing():
    assert kept(heldout([Example("t", "a"), Example("t", "b")], heldout=[])) == {Example("t", x).id for x in "ab"}
    assert list(heldout([], heldout=[Example("t", "a")])) == []


def test_wrong_threshold():
    with pytest.raises(RecipeError, match=r"^heldout\.threshold"):
        list(heldout([], heldout=[], threshold=0))
