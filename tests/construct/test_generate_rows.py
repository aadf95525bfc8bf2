"""What all constructors of rows share: bad replies become Rejects with a code, early stops, one repair, order, the cache."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from scripted import Scripted, construct, last, unverified

from zhiling.construct.generate.floor import code, in_waves
from zhiling.errors import ProviderError, RecipeError
from zhiling.llm import Model, ReplyCache
from zhiling.types import Example, Record, Reject, Reply, Request, Score, Task

THINGS = {
    "en": ["the tides", "a leaking tap", "sourdough bread", "train timetables", "solar panels", "a quiet cat", "chess openings", "tax forms",
           "coral reefs", "old coins", "wool socks", "bee hives", "night buses", "stage fright", "rust on bikes", "garden snails"],
    "zh": ["潮汐的成因", "漏水的龙头", "酸面包发酵", "列车时刻表", "太阳能板", "安静的猫", "象棋开局", "报税表格", "珊瑚礁", "旧硬币", "羊毛袜", "养蜂箱",
           "夜班公交", "舞台恐惧", "自行车生锈", "花园蜗牛"],
}  # fmt: skip
ASK = {"en": "Explain {}, {}, {} and {} to me.", "zh": "请给我解释{}、{}、{}和{}。"}
WHO = {
    "en": [
        "keeps goats",
        "sells hats",
        "drives a tram",
        "paints walls",
        "teaches maths",
        "fixes clocks",
        "grows leeks",
        "plays drums",
    ],
    "zh": ["养山羊", "卖帽子", "开电车", "刷墙", "教数学", "修钟表", "种韭菜", "打鼓"],
}
TOLD = {
    "en": "In short: {} depends on patience, weather and a good look at number {}.",
    "zh": "简单地说：{}要看耐心、天气，并仔细观察第{}点。",
}
ROWS = ("self_instruct", "magpie", "coverage")
RECORDS = ("evol", "backtranslate", "dialogue")
EVERY = (*ROWS, *RECORDS)


def good(lang: str):
    """Answers that pass: different requests, answers in the language."""

    def answer(request: Request) -> str:
        said, schema = last(request), json.dumps(request.schema or {})
        things = random.Random(request.seed).sample(THINGS[lang], 4)
        thing, who = things[0], WHO[lang][(request.seed or 0) % 8]
        wish, told = ASK[lang].format(*things), TOLD[lang].format(thing, (request.seed or 0) % 97)
        if request.choices:
            return {"Yes": "No", "是": "否", "Equal": "Different", "相同": "不同", "1": "5"}[request.choices[0]]
        if '"topics"' in schema:
            return json.dumps({"topics": THINGS[lang][:6]}, ensure_ascii=False)
        if '"output"' in schema:
            return json.dumps({"input": "", "output": told}, ensure_ascii=False)
        asks_back = {"en": f"And what would that mean for {thing}?", "zh": f"那它对{thing}意味着什么？"}[lang]
        if "next message" in said or "下一句话" in said:
            return asks_back
        if said.startswith(("Describe", "描述")):
            return who
        makes = (
            "Write one more task",
            "Write the request",
            "Write one new request",
            "Rewrite a request",
            "Write what",
            "You play",
            "<|im_start|>user",
        )
        zh = ("请为任务集再写", "请写出一个要求", "请写一个", "请改写", "请写出这个人", "你扮演")
        return wish if any(mark in said for mark in (*makes, *zh)) else told

    return answer


def task(lang: str) -> Task:
    return Task(
        "talk", {"en": "questions of everyday life", "zh": "日常生活中的问题"}[lang], inputs=("topic",), langs=(lang,)
    )


def records(lang: str, count: int = 20) -> list[Record]:
    out = []
    for at in range(count):
        thing, who = THINGS[lang][at % 16], WHO[lang][at % 8]
        text = TOLD[lang].format(thing, at) + {"en": f" So said a man who {who}.", "zh": f"一位{who}的人这样说。"}[lang]
        out.append(
            Record(
                "talk",
                {"instruction": ASK[lang].format(thing, *WHO[lang][:3]), "topic": thing, "output": text},
                lang,
                "talk.csv",
                at,
            )
        )
    return out


def run(name: str, provider: Scripted, lang: str = "en", count: int = 20, **settings):
    if name in ROWS:
        return construct(
            name,
            provider,
            task=task(lang),
            **{"rows": count, "template": "chatml", **settings} if name == "magpie" else {"rows": count, **settings},
        )
    settings = {"rounds": 1, **settings} if name == "evol" else settings
    return construct(name, provider, task=task(lang), records=records(lang, count), **settings)


def rows_of(made) -> list[Example]:
    return [item for item in made if isinstance(item, Example)]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", EVERY)
def test_a_good_model_gives_rows_in_the_language_with_their_lineage(name, lang):
    provider = Scripted(good(lang))
    made = run(name, provider, lang, 10)
    rows = rows_of(made)
    assert len(rows) == 10
    assert {row.lang for row in rows} == {lang} and {row.task for row in rows} == {"talk"}
    assert all(
        row.maker == f"{name}:scripted-70b" and len(row.parents) >= 2 and row.output and row.instruction for row in rows
    )
    assert len({row.instruction for row in rows}) >= 6
    if name in RECORDS:
        assert {row.parents[0] for row in rows} == {record.id for record in records(lang, 10)}


BAD = {
    "refusal": "I'm sorry, but as an AI language model I cannot assist with that request.",
    "language": "这是一个完全用中文写成的回答，与所要求的语言不同，而且足够长，可以判断。",
    "repeat": "Tell me about the weather. " * 12,
    "empty": "  \n ",
    "leak": "<|im_start|>assistant\nWhat is the tallest tree in the world and how old is it?",
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("fault", list(BAD))
def test_each_kind_of_bad_reply_is_a_reject_with_its_own_code(name, fault):
    """The model does everything wrong in one way: with no floor, every candidate is there with the reason."""

    def answer(request: Request) -> str | Reply:
        told = good("en")(request)
        if request.choices or (request.schema and "topics" in json.dumps(request.schema)):
            return told
        return json.dumps(dict.fromkeys(request.schema["properties"], BAD[fault])) if request.schema else BAD[fault]

    made = run(name, Scripted(answer), floor=0.0, tries=1.0) if name in ROWS else run(name, Scripted(answer), floor=0.0)
    assert not rows_of(made)
    assert {code(item) for item in made} == {fault} and len(made) == 20
    assert all(item.state == "dropped" for item in made)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("fault", ["refusal", "language", "repeat", "leak"])
def test_answers_alone_that_are_bad_are_told_apart_too(name, fault):
    if name == "backtranslate":
        pytest.skip("its answers are the user's own texts")

    def answer(request: Request) -> str:
        said = good("en")(request)
        if request.schema and '"output"' in json.dumps(request.schema):
            return json.dumps({"input": "", "output": BAD[fault]})
        return BAD[fault] if said.startswith("In short") else said

    settings = {"tries": 1.0} if name in ROWS else {}
    made = run(name, Scripted(answer), floor=0.0, repair=False, **settings)
    assert not rows_of(made) and {code(item) for item in made} <= {fault, "novelty"}
    assert any(code(item) == fault for item in made)


@pytest.mark.parametrize("name", EVERY)
def test_a_model_that_refuses_everything_stops_the_step_early_and_says_why(name):
    provider = Scripted(lambda request: BAD["refusal"] if not request.choices else good("en")(request))
    if name == "coverage":
        with pytest.raises(ProviderError, match="named 0 topics"):
            run(name, provider, count=200)
        return
    with pytest.raises(ProviderError, match="only 0 of the first") as error:
        run(name, provider, count=200)
    assert "usable (floor 0.1)" in str(error.value) and "cache" in str(error.value)
    assert len(provider.asked) < 200


def test_the_floor_counts_reasons_and_a_lower_floor_goes_on():
    def half(request: Request) -> str:
        return good("en")(request) if request.choices or (request.seed or 0) % 20 == 0 else BAD["refusal"]

    with pytest.raises(ProviderError, match=r"\d+x .*refus|\d+x refusal"):
        run("magpie", Scripted(half), count=200)
    made = run("magpie", Scripted(half), count=30, floor=0.0)
    assert len(made) == 90 and all(code(item) == "refusal" for item in made if isinstance(item, Reject))


def test_a_failing_row_is_sent_back_once_with_the_reason_and_marked():
    async def verify(rows):
        return [Score(row.id, "verify", float("patience and" in row.output), "sum: 12 is not 13") for row in rows]

    def answer(request: Request) -> str:
        if "Fault that was found" in last(request):
            return "It takes patience and time." if (request.seed or 0) % 2 else "It takes time."
        return good("en")(request)

    provider = Scripted(answer)
    made = construct(
        "magpie", provider, task=task("en"), verify=verify, rows=12, tries=1.0, template="chatml", floor=0.0
    )
    mended = rows_of(made)
    sent = [last(request) for request in provider.asked if "Fault that was found" in last(request)]
    assert mended and all(
        row.maker == "magpie:scripted-70b+repair" and row.output == "It takes patience and time." for row in mended
    )
    lost = [item for item in made if isinstance(item, Reject) and item.why == "sum: 12 is not 13"]
    assert lost and all(item.maker.endswith("+repair") for item in lost)
    assert len(sent) == len(mended) + len(lost)
    assert all("sum: 12 is not 13" in text for text in sent)
    made = construct(
        "magpie",
        Scripted(answer),
        task=task("en"),
        verify=verify,
        rows=12,
        tries=1.0,
        template="chatml",
        floor=0.0,
        repair=False,
    )
    assert not rows_of(made) and not any(item.maker.endswith("+repair") for item in made)


def test_what_no_verifier_could_check_is_left_to_the_house():
    assert len(rows_of(run("magpie", Scripted(good("en")), count=6))) == 6


@pytest.mark.parametrize("name", EVERY)
def test_the_same_rows_come_whatever_order_replies_come_in_and_a_second_run_asks_nothing(name, tmp_path: Path):
    first = Scripted(good("zh"))
    settings = {"cache": ReplyCache(tmp_path / "replies.sqlite")}
    made = run(name, first, "zh", 12, **settings)
    second = Scripted(good("zh"))
    again = run(name, second, "zh", 12, cache=ReplyCache(tmp_path / "replies.sqlite"))
    assert [item.id for item in made] == [item.id for item in again]
    assert first.asked and not second.asked
    third = Scripted(good("zh"))
    third.lanes = 1
    assert [item.id for item in run(name, third, "zh", 12)] == [item.id for item in made]


@pytest.mark.parametrize("name", ROWS)
def test_a_run_cut_off_in_the_middle_pays_nothing_twice(name, tmp_path: Path):
    class Dead(Exception):
        pass

    full = Scripted(good("en"))
    wanted = run(name, full, "en", 20)
    count = 0

    def dying(request: Request) -> str:
        nonlocal count
        count += 1
        if count > 25:
            raise Dead
        return good("en")(request)

    with pytest.raises(Dead):
        run(name, Scripted(dying), "en", 20, cache=ReplyCache(tmp_path / "replies.sqlite"))
    rest = Scripted(good("en"))
    made = run(name, rest, "en", 20, cache=ReplyCache(tmp_path / "replies.sqlite"))
    assert [item.id for item in made] == [item.id for item in wanted]
    assert (
        len(rest.asked) <= len(full.asked) - 18
    )  # of the 25 answered those that were under way with the 26th may be lost


@pytest.mark.parametrize("name", EVERY)
def test_failed_calls_are_rows_and_an_endpoint_that_never_answers_is_an_error(name):
    def sometimes(request: Request) -> str | ProviderError:
        if (request.seed or 0) % 4 == 0 and not (request.schema and "topics" in json.dumps(request.schema)):
            return ProviderError("content refused", kind="refused")
        return good("en")(request)

    settings = {"tries": 1.0} if name in ROWS else {}
    made = run(name, Scripted(sometimes), floor=0.0, **settings)
    failures = [item for item in made if isinstance(item, Reject) and item.state == "failed"]
    assert len(made) == 20 and rows_of(made) and failures
    assert all(code(item) == "call" for item in failures) and len({item.id for item in made}) == 20
    with pytest.raises(ProviderError, match="down"):
        run(name, Scripted(lambda request: ProviderError("down", kind="network")))


@pytest.mark.parametrize("name", EVERY)
def test_replies_cut_off_or_filtered_have_codes_of_their_own(name):
    for finish, wanted in (("length", "cut"), ("filter", "filter")):

        def answer(request: Request, finish: str = finish) -> str | Reply:
            said = good("en")(request)
            if request.choices or (request.schema and "topics" in json.dumps(request.schema)):
                return said
            return Reply(said, finish)

        settings = {"tries": 1.0} if name in ROWS else {}
        made = run(name, Scripted(answer), floor=0.0, **settings)
        assert len(made) == 20 and {code(item) for item in made} == {wanted}


@pytest.mark.parametrize("name", ["self_instruct", "magpie", "coverage"])
def test_a_model_that_says_the_same_again_and_again_is_refused_as_not_novel(name):
    said = {
        "task": "Name three things that float on water and say why.",
        "input": "",
        "output": "Wood, cork and ice, as they are light.",
    }

    def answer(request: Request) -> str:
        if request.choices or (request.schema and "topics" in json.dumps(request.schema)):
            return good("en")(request)
        return (
            json.dumps({key: said[key] for key in request.schema["properties"]})
            if request.schema
            else said["task"]
            if "short" not in good("en")(request)
            else said["output"]
        )

    made = run(name, Scripted(answer), floor=0.0, tries=1.0)
    assert len(rows_of(made)) == 1
    assert [code(item) for item in made if isinstance(item, Reject)] == ["novelty"] * 19
    with pytest.raises(ProviderError, match="novelty: ROUGE-L 1.00"):
        run(name, Scripted(answer), count=200)


@pytest.mark.parametrize("name", EVERY)
def test_a_wrong_setting_and_a_missing_file_are_one_line(name):
    with pytest.raises(RecipeError, match="floor"):
        run(name, Scripted(good("en")), floor=2.0)
    with pytest.raises(RecipeError, match="prompts cannot be read"):
        run(name, Scripted(good("en")), prompts="nowhere.yaml")


def test_messages_are_chinese_where_the_user_reads_chinese(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    made = run("magpie", Scripted(lambda request: BAD["refusal"]), floor=0.0, tries=1.0)
    assert all(code(item) == "refusal" and "其中说" in item.why for item in made)
    with pytest.raises(ProviderError, match="候选中只有 0 个可用"):
        run("magpie", Scripted(lambda request: BAD["refusal"]), count=200)


def test_a_row_that_could_not_be_checked_stays():
    async def unsure(rows):
        return [Score(row.id, "verify", None, "no such database") for row in rows]

    made = construct("magpie", Scripted(good("en")), task=task("en"), verify=unsure, rows=5, template="chatml")
    assert len(rows_of(made)) == 5
    assert unverified is not unsure


def test_waves_grow_and_never_ask_for_more_than_is_wanted():
    sizes: list[int] = []

    async def work(numbers: range):
        sizes.append(len(numbers))
        return [Example("t", f"number {at}") if at % 2 else Reject("t", "m", "dropped", f"odd: {at}") for at in numbers]

    model = Model(Scripted(good("en")))
    made = asyncio.run(in_waves(work, rows=300, tries=3.0, wave=4, floor=0.1, model=model, step="s"))
    assert sizes[:6] == [4, 8, 16, 32, 64, 64] and sum(isinstance(item, Example) for item in made) == 300
    sizes.clear()
    made = asyncio.run(in_waves(work, rows=5, tries=1.0, wave=4, floor=0.1, model=model, step="s"))
    assert sum(sizes) == 5 and len(made) == 5


def test_reasons_are_counted_by_their_check_in_both_languages():
    told = ("evidence: not in the passage: a", "evidence：原文中没有：b", "refusal: it declines")
    assert [code(Reject("t", "m", "dropped", why)) for why in told] == ["evidence", "evidence", "refusal"]
