"""What goes to a provider: which rows it would take, what they may cost, and that mistakes are named by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zhiling.errors import DataError, ProviderError, RecipeError
from zhiling.llm import google_rows, openai_rows, price
from zhiling.llm.tuning import Limits
from zhiling.tune.remote import cost, rows
from zhiling.tune.remote.base import Base, base_of, settings_of
from zhiling.types import Example


class Tuning:
    """A provider's rules without the provider."""

    def __init__(self, form: str, limits: Limits) -> None:
        self.form, self.limits = form, limits
        self.rules: Any = openai_rows if form == "messages" else google_rows
        self.wrong, self.texts = self.rules.wrong, self.rules.texts

    def kept(self, row: Any) -> dict[str, Any]:
        return {key: row[key] for key in self.rules.KEYS if key in row}


def openai(model: str = "gpt-4.1-mini-2025-04-14") -> Any:
    return Tuning("messages", openai_rows.limits(model))


def said(*turns: str, **more: Any) -> dict[str, Any]:
    """user, assistant, user, ... in turn."""
    return {
        "messages": [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)],
        **more,
    }


def contents(*turns: str, **more: Any) -> dict[str, Any]:
    return {
        "contents": [{"role": ("user", "model")[at % 2], "parts": [{"text": text}]} for at, text in enumerate(turns)],
        **more,
    }


def write(path: Path, items: list[Any]) -> Path:
    path.write_text(
        "\n".join(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in items),
        encoding="utf-8",
    )
    return path


GOOD = [said(f"第{at}个问题？", f"回答{at}") for at in range(12)]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": []}, "no list of messages"),
        ({"prompt": "x"}, "no list of messages"),
        (said("问"), "the last message is of 'user'"),
        (said("问", " \n"), "message 2: empty content"),
        ({"messages": [{"role": "human", "content": "x"}]}, "message 1: unknown role 'human'"),
        ({"messages": [{"role": "user", "content": "x", "loss": 1}]}, "unknown key 'loss'"),
        ({"messages": [{"role": "user", "content": "x", "weight": 1}]}, "weight belongs to assistant"),
        ({"messages": [*said("q")["messages"], {"role": "assistant", "content": "x", "weight": 0.5}]}, "weight must be 0 or 1, not 0.5"),
        ({"messages": [*said("q")["messages"], {"role": "assistant", "content": "x", "weight": True}]}, "weight must be 0 or 1, not True"),
        ({"messages": [*said("q")["messages"], {"role": "assistant", "content": "x", "weight": 0}]}, "every assistant message has weight 0"),
        ({"messages": [{"role": "user", "content": 7}]}, "neither text nor a list of parts"),
        ({"messages": ["hello"]}, "not a mapping"),
    ],
)  # fmt: skip
def test_what_openai_would_not_take(row: dict[str, Any], why: str) -> None:
    assert why in openai_rows.wrong(row)


def test_what_openai_takes() -> None:
    call = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    tools = [{"role": "user", "content": "天气？"}, {"role": "assistant", "content": None, "tool_calls": call}, {"role": "tool", "content": "晴", "tool_call_id": "c1"}]  # fmt: skip
    weighed = [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a", "weight": 0},
    ]
    parts = [{"role": "user", "content": [{"type": "text", "text": "看图"}]}, {"role": "assistant", "content": "好"}]
    for messages in (
        [*tools, *said("q", "晴天")["messages"][1:]],
        [*weighed, *said("q", "b")["messages"]],
        parts,
        GOOD[0]["messages"],
    ):
        assert openai_rows.wrong({"messages": messages}) == ""
    assert list(openai_rows.texts({"messages": parts})) == ["看图", "好"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": []}, "no list of contents"),
        (contents("问"), "the last turn is not the model's"),
        (contents("", "答"), "turn 1: an empty text"),
        ({"contents": contents("问", "答")["contents"][::-1]}, "turn 1: user and model must take turns"),
        (
            {"contents": contents("问", "答")["contents"] * 2 + contents("a", "b")["contents"][1:]},
            "turn 5: user and model must take turns",
        ),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "unknown role 'assistant'"),
        ({"contents": [{"role": "user", "parts": []}]}, "no list of parts"),
        ({"contents": [{"role": "user", "parts": [{"inline": 1}]}]}, "neither text nor a file"),
        (contents("问", "答", systemInstruction="x"), "systemInstruction: not a mapping"),
        (contents("问", "答", systemInstruction={"parts": [{"text": ""}]}), "systemInstruction: an empty text"),
    ],
)
def test_what_vertex_would_not_take(row: dict[str, Any], why: str) -> None:
    assert why in google_rows.wrong(row)


def test_what_vertex_takes() -> None:
    file = {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/x.png"}}
    row = contents("问", "答", "再问", "再答", systemInstruction={"role": "system", "parts": [{"text": "简短"}]})
    row["contents"][0]["parts"].append(file)
    assert google_rows.wrong(row) == ""
    assert [text for text in google_rows.texts(row)][:2] == ["简短", "问"]


def test_bad_rows_are_named_by_file_and_line_and_nothing_is_written(tmp_path: Path) -> None:
    path = write(
        tmp_path / "数据.jsonl", [*GOOD, said("问"), "{broken", said("q", "a") | {"messages": [{"role": "x"}]}]
    )
    with pytest.raises(DataError) as caught:
        rows.prepare(rows.of_file(path, "messages"), None, tmp_path / "out", openai(), 0, 0)
    text = str(caught.value)
    assert "3 rows would not be taken" in text and "数据.jsonl:13: the last message" in text and "数据.jsonl:14" in text
    assert "数据.jsonl:15: message 1: unknown role" in text and "nothing was sent" in text
    assert not list((tmp_path / "out").glob("*"))


def test_the_same_in_chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHILING_LANG", "zh")
    path = write(tmp_path / "数据.jsonl", [*GOOD, said("问")])
    with pytest.raises(DataError, match="1 行不会被接受：数据.jsonl:13: 最后一条消息来自“user”"):
        rows.prepare(rows.of_file(path, "messages"), None, tmp_path / "out", openai(), 0, 0)


@pytest.mark.parametrize(
    ("limits", "count", "why"),
    [
        (openai_rows.limits("gpt-4o-mini"), 9, "9 rows, 10 are needed"),
        (Limits(most=11), 12, "12 rows, 11 are taken"),
        (Limits(size=100), 12, "bytes, 100 are taken"),
        (Limits(validation=2), 12, "3 validation rows, 2 are taken"),
        (Limits(few=2, share=0.2, validation=9), 12, "3 validation rows, 1 are taken"),
    ],
)
def test_a_file_beyond_the_limits_is_refused(tmp_path: Path, limits: Limits, count: int, why: str) -> None:
    path, share = write(tmp_path / "a.jsonl", GOOD[:count]), 0.25 if "validation" in why else 0.0
    with pytest.raises(DataError, match=why):
        rows.prepare(rows.of_file(path, "messages"), None, tmp_path / "out", Tuning("messages", limits), share, 0)


def test_a_row_that_is_certainly_too_long_is_refused(tmp_path: Path) -> None:
    long = said("字" * 200_000, "好")  # 600,000 bytes: more than 65,536 tokens whatever counts them
    path = write(tmp_path / "a.jsonl", [*GOOD, long])
    with pytest.raises(DataError, match=r"a.jsonl:13: more than 65,536 tokens"):
        rows.prepare(rows.of_file(path, "messages"), None, tmp_path / "out", openai(), 0, 0)
    assert (
        rows.prepare(rows.of_file(path, "messages"), None, tmp_path / "out", openai("other-model"), 0, 0)[
            "training"
        ].rows
        == 13
    )


def test_a_row_that_may_be_too_long_is_counted(tmp_path: Path) -> None:
    doubtful = said("long words indeed " * 14_000, "好")  # 252,000 bytes: 50,000 tokens or more, 84,000 or fewer
    path = write(tmp_path / "a.jsonl", [*GOOD, doubtful])
    made = rows.prepare(rows.of_file(path, "messages"), None, tmp_path / "out", openai(), 0, 0)
    assert (made["training"].rows, made["training"].long) == (13, 1)


def test_a_file_in_their_own_format_goes_as_it_stands_without_what_only_we_know(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    own = [{"id": "1", "task": "t", **row, "tools": tools} for row in GOOD]
    own[0]["messages"][1]["weight"] = 1
    made = rows.prepare(
        rows.of_file(write(tmp_path / "a.jsonl", own), "messages"), None, tmp_path / "out", openai(), 0, 0
    )
    sent = [json.loads(line) for line in made["training"].path.read_text(encoding="utf-8").splitlines()]
    assert sent == [{"messages": row["messages"], "tools": tools} for row in own]


def test_any_other_format_is_told_in_theirs_and_trains_the_last_answer(tmp_path: Path) -> None:
    alpaca = [
        {
            "instruction": "翻译",
            "input": f"猫{at}",
            "output": f"cat {at}",
            "system": "你是译者",
            "history": [["你好", "您好"]],
        }
        for at in range(10)
    ]
    path = write(tmp_path / "a.jsonl", alpaca)
    first = next(rows.of_file(path, "messages"))
    roles = [(turn["role"], turn.get("weight")) for turn in first.row["messages"]]
    assert roles == [("system", None), ("user", None), ("assistant", 0), ("user", None), ("assistant", None)]
    assert first.where == "a.jsonl:1" and first.task == "a" and first.row["messages"][-2]["content"] == "翻译\n\n猫0"
    other = next(rows.of_file(path, "vertex")).row
    assert (
        other["systemInstruction"]["parts"] == [{"text": "你是译者"}]
        and [turn["role"] for turn in other["contents"]] == ["user", "model"] * 2
    )
    kept = next(rows.of_examples([Example("t", "问", "", "答", maker="template:x", parents=("p",))], "messages"))
    assert kept.where.startswith("t ") and kept.row == said("问", "答")


def test_a_share_of_each_task_is_kept_aside_the_same_whenever(tmp_path: Path) -> None:
    lines = [
        rows.Line(task, f"{task}:{at}", said(f"{task}{at}", "好"))
        for task, count in (("甲", 20), ("b", 2), ("c", 1))
        for at in range(count)
    ]
    made = [rows.prepare(iter(lines), None, tmp_path / name, openai(), 0.1, 7) for name in ("x", "y")]
    assert [file.rows for file in made[0].values()] == [20, 3] and made[0]["training"].sha == made[1]["training"].sha
    aside = made[0]["validation"].path.read_text(encoding="utf-8")
    assert aside.count("甲") == 2 and aside.count('"b') == 1 and "c0" not in aside
    other = rows.prepare(iter(lines), None, tmp_path / "z", openai(), 0.1, 8)
    assert other["validation"].sha != made[0]["validation"].sha


def test_a_validation_file_may_not_repeat_training_rows(tmp_path: Path) -> None:
    more = write(tmp_path / "v.jsonl", [said("新问题", "新回答"), GOOD[3]])
    lines = rows.of_file(write(tmp_path / "a.jsonl", GOOD), "messages")
    with pytest.raises(DataError, match=r"v.jsonl:2: a training row, too"):
        rows.prepare(lines, rows.of_file(more, "messages"), tmp_path / "out", openai(), 0, 0)


# -- the price -------------------------------------------------------------------------------------------------------------

OPENAI = "@https://api.openai.com/v1"


def file(tokens: int, most: int) -> rows.File:
    return rows.File(Path("x"), 10, 1, "a", tokens, most)


def test_the_price_is_tokens_times_epochs_from_the_dated_list() -> None:
    found = cost.estimate(file(1_000_000, 1_300_000), 3, "gpt-4.1-mini-2025-04-14" + OPENAI, None)
    assert (found.usd, found.usd_most) == (15.0, 19.5) and "about $15.00, at most $19.50, 2026-" in found.words()
    assert cost.estimate(file(10, 10), 3, "ft:gpt-4o-mini-2024-07-18:org::x" + OPENAI, None).rate == price.training(
        "gpt-4o-mini" + OPENAI
    )
    unknown = cost.estimate(file(10, 10), 3, "gpt-9" + OPENAI, None)
    assert unknown.usd is None and "price unknown" in unknown.words()
    assert cost.estimate(file(10**6, 10**6), 2, "gemini-3.5-flash@https://aiplatform.googleapis.com", None).usd is None
    assert cost.estimate(file(10**6, 10**6), 2, "gpt-9" + OPENAI, 4.0).usd == 8.0
    assert cost.estimate(file(10, 10), 3, "m@http://127.0.0.1:1/v1", None).usd == 0


def test_the_tuned_models_calls_have_their_own_price() -> None:
    own, base = (
        price.find("openai", "ft:gpt-4.1-mini-2025-04-14:org:x:1" + OPENAI),
        price.find("openai", "gpt-4.1-mini" + OPENAI),
    )
    assert own is not None and base is not None and own.prompt == 2 * base.prompt
    assert price.find("openai", "ft:gpt-9:org::1" + OPENAI) is None


@pytest.mark.parametrize(
    ("epochs", "rate", "budget", "why"),
    [
        (3, 5.0, 10.0, r"may cost \$19.50 \(about \$15.00\), the budget is \$10.00; nothing was sent"),
        ("auto", 5.0, 10.0, "the provider chooses the epochs"),
        (3, None, 10.0, "the price is unknown"),
        (3, 5.0, 19.5, ""),
        ("auto", None, None, ""),
    ],
)
def test_a_budget_refuses_what_may_exceed_it_and_what_nobody_can_tell(
    epochs: Any, rate: Any, budget: Any, why: str
) -> None:
    found = cost.estimate(file(1_000_000, 1_300_000), epochs, "gpt-9" + OPENAI, rate)
    if not why:
        cost.within(found, budget, "x")
        return
    with pytest.raises(ProviderError, match=why) as caught:
        cost.within(found, budget, "x")
    assert caught.value.kind == "budget"


def test_the_cautious_count_is_never_below_the_expected_one(tmp_path: Path) -> None:
    for text in ("1,2;3:4!5?" * 9, "下面的评论是正面还是负面？", "Is it positive?\n\n\n", "🙂" * 5, "a" * 300):
        made = rows.prepare(
            (rows.Line("t", "x", said(text, text)) for _ in range(10)), None, tmp_path / "out", openai(), 0, 0
        )
        assert made["training"].most >= made["training"].tokens > 0


# -- which base, which settings --------------------------------------------------------------------------------------------


def test_a_base_names_a_provider_or_is_tuned_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        base_of("openai:gpt-4.1-mini") == Base("openai", "gpt-4.1-mini")
        and str(base_of("vertex:gemini-3.5-flash")) == "vertex:gemini-3.5-flash"
    )
    assert base_of("openai:ft:gpt-4o-mini-2024-07-18:org::abc") == Base("openai", "ft:gpt-4o-mini-2024-07-18:org::abc")
    for here in ("embedded", "Qwen/Qwen3-0.6B", "./openai", "C:\\models\\x", "c:/models"):
        assert base_of(here) is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai:x").mkdir()
    assert base_of("openai:x") is None  # a folder of that name


@pytest.mark.parametrize(
    ("text", "mend"),
    [("opneai:gpt-4o", "did you mean 'openai:gpt-4o'"), ("gemini:gemini-3.5-flash", "vertex:gemini-3.5-flash"), ("openai:", "openai:MODEL")],
)  # fmt: skip
def test_a_base_that_names_none(text: str, mend: str) -> None:
    with pytest.raises(RecipeError, match=mend):
        base_of(text)


@pytest.mark.parametrize(
    ("base", "given", "where"),
    [
        ("openai:m", {"epoch": 2}, "tune.epoch"),
        ("openai:m", {"epochs": 0}, "tune.epochs"),
        ("openai:m", {"epochs": "many"}, "tune.epochs"),
        ("openai:m", {"lr": 1e-4}, "tune.lr"),
        ("openai:m", {"suffix": "很" * 3}, "tune.suffix"),
        ("openai:m", {"suffix": "x" * 65}, "tune.suffix"),
        ("openai:m", {"validation": 1.5}, "tune.validation"),
        ("openai:m", {"budget": -1}, "tune.budget"),
        ("vertex:m", {}, "tune.bucket"),
        ("vertex:m", {"bucket": "gs://b", "adapter_size": 3}, "tune.adapter_size"),
        ("vertex:m", {"bucket": "gs://b", "batch_size": 3}, "tune.batch_size"),
    ],
)
def test_wrong_settings_are_named(base: str, given: dict[str, Any], where: str) -> None:
    named = base_of(base)
    assert named is not None
    with pytest.raises(RecipeError) as caught:
        settings_of(named, given)
    assert caught.value.where == where
