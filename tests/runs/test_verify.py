"""Verifiers, and constructors that work on records, as a recipe uses them."""

from __future__ import annotations

import json

import pytest

from zhiling import recipe as recipes
from zhiling import registry
from zhiling.errors import RecipeError
from zhiling.ledger import why
from zhiling.plan import estimate
from zhiling.run import Run
from zhiling.show import query
from zhiling.types import Example, Reject, Request, Score


@pytest.fixture(autouse=True)
def plugged():
    """Two verifiers and two constructors, registered for one test."""
    before = set(registry._table)
    _register()
    yield
    for key in {
        ("verifier", "shorter_than"),
        ("verifier", "judged"),
        ("constructor", "ask"),
        ("constructor", "invent"),
    } - before:
        del registry._table[key]


def _register():
    @registry.verifier("shorter_than", langs=("en", "zh"))
    def shorter_than(examples, *, limit: int):
        for row in examples:
            if row.output == "?":
                yield Score(row.id, "shorter_than", None, "nothing to measure")
            else:
                short = len(row.output) < limit
                yield Score(row.id, "shorter_than", float(short), "" if short else f"{len(row.output)} characters")

    @registry.verifier("judged", langs=("en", "zh"))
    async def judged(examples, *, model):
        replies = await model.ask_all([Request(messages=(("user", row.output),)) for row in examples])
        return [Score(row.id, "judged", 1.0, reply.text) for row, reply in zip(examples, replies, strict=True)]

    @registry.constructor("ask", over="records", calls=lambda s, task: 1, ready=lambda s, task: 1)
    async def ask(*, task, records, model, verify):
        rows = list(records)
        replies = await model.ask_all([Request(messages=(("user", record.fields["text"]),)) for record in rows])
        made = [Example(task.name, "Say it.", r.fields["text"], a.text, maker="ask:fake", parents=(r.id, a.key)) for r, a in zip(rows, replies, strict=True)]  # fmt: skip
        for row, score in zip(made, await verify(made), strict=True):
            yield Reject(task.name, row.maker, "dropped", score.why) if score.value == 0.0 else row

    @registry.constructor("invent", makes="rows", asks=lambda s: False)
    def invent(*, task, number: int = 4):
        return [Example(task.name, "Name a colour.", "", f"colour {n}", maker="invent") for n in range(number)]


def run_of(folder, data, **settings):
    with Run(recipes.build(data, folder), folder / "run", workers=1, **settings) as run:
        summary = run.execute()
        return run, summary


def written(folder, texts):
    (folder / "t.jsonl").write_text(
        "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts), encoding="utf-8"
    )


def of_records(**task):
    return {
        "models": {"m": {"provider": "fake"}},
        "tasks": {"t": {"inputs": ["text"], "data": "t.jsonl", **task}},
        "construct": ["ask"],
    }


def test_what_a_verifier_refuses_is_dropped_with_its_reason(tmp_path):
    rows = [{"text": "海", "output": "短"}, {"text": "sky", "output": "far too long an answer"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {
        "tasks": {
            "t": {"inputs": ["text"], "data": "t.jsonl", "description": "Say it.", "verifier": {"shorter_than": {"limit": 9}}}
        },
        "construct": ["template"],
    }  # fmt: skip
    _, summary = run_of(tmp_path, data, until="select")
    assert summary.kept == 1 and summary.balance.states["dropped"] == 1
    rows = query(tmp_path / "run", "select id, why from ledger where state = 'dropped'")
    assert rows[0]["why"] == "shorter_than: 22 characters"
    told = why(tmp_path / "run", rows[0]["id"])
    assert {"scorer": "verify", "value": 0.0, "why": "shorter_than: 22 characters"} in told["scores"]
    assert [v["selector"] for v in told["verdicts"] if not v["kept"]] == ["verify"]


@pytest.mark.parametrize(("unverified", "kept"), [("drop", 1), ("keep", 2)])
def test_a_row_that_could_not_be_checked(tmp_path, unverified, kept):
    (tmp_path / "t.jsonl").write_text('{"text": "a", "output": "?"}\n{"text": "b", "output": "c"}\n', encoding="utf-8")
    task = {"inputs": ["text"], "data": "t.jsonl", "description": "Say it.", "verifier": {"shorter_than": {"limit": 9}}}
    data = {"tasks": {"t": {**task, "unverified": unverified}}, "construct": ["template"]}
    assert run_of(tmp_path, data, until="select")[1].kept == kept


def test_rows_made_of_records_without_answers(tmp_path):
    written(tmp_path, ["水", "water", "a text that is a good deal longer than the others"])
    data = of_records(verifier=["judged", {"shorter_than": {"limit": 200}}])
    _, first = run_of(tmp_path, data, until="select")
    assert first.kept + first.balance.states["dropped"] == 3 and first.kept
    _, again = run_of(tmp_path, data, until="select")
    assert again.kept == first.kept and again.worked == 0  # resumed, nothing done twice


def test_a_constructor_refuses_by_the_tasks_verifier(tmp_path):
    written(tmp_path, ["水", "water"])
    with pytest.raises(Exception, match="nothing was constructed|没有构造出"):
        run_of(tmp_path, of_records(verifier={"shorter_than": {"limit": 1}}), until="select")
    rows = query(tmp_path / "run", "select why, count(*) from rejects group by all")
    assert len(rows) <= 2 and all(row["why"].startswith("shorter_than: ") for row in rows)


def test_held_out_records_make_held_out_rows(tmp_path):
    written(tmp_path, [f"text {n}" for n in range(10)])
    run, summary = run_of(tmp_path, of_records(heldout=4), until="select")
    drafts = [done for done in run.done if done.stage.startswith("propose/")]
    held = [done for done in run.done if done.stage.startswith("heldout/")]
    assert sum(done.facts["ready"] for done in drafts) == 6 and sum(done.facts["ready"] for done in held) == 4
    assert summary.balance.came == 6


def test_a_task_whose_rows_are_invented_needs_no_data(tmp_path):
    data = {"tasks": {"t": {"description": "Colours."}}, "construct": ["invent"]}
    assert run_of(tmp_path, data, until="select")[1].kept == 4
    with pytest.raises(RecipeError, match=r"no data|没有数据"):
        recipes.build({**data, "construct": ["invent", "template"]}, tmp_path)


def test_the_plan_counts_calls_by_record(tmp_path):
    written(tmp_path, [f"text {n}" for n in range(100)])
    rows = {row["step"]: row for row in estimate(recipes.build(of_records(verifier="judged", heldout=20), tmp_path))}
    assert rows["construct ask"]["calls"] == 200  # each row is asked for once, and judged once; held-out ones too
    assert rows["construct ask"]["rows"] == 80


def test_mistakes_in_a_verifier_are_named(tmp_path):
    for wrong, said in [
        ({"shorter": {}}, "verifier"),
        ({"shorter_than": {"most": 3}}, "most"),
        ({"shorter_than": {}}, "limit"),
        ([{"judged": {"model": "m"}}, {"judged": {"model": "n"}}], "several"),
    ]:
        models = {"m": {"provider": "fake"}, "n": {"provider": "fake"}}
        with pytest.raises(RecipeError, match=said):
            recipes.build({**of_records(verifier=wrong), "models": models}, tmp_path)
