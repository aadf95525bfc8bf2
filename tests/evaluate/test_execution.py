"""Execution accuracy: what was written is run beside the reference, in the cage, and what cannot be run gets no score, never 0."""

from __future__ import annotations

import sqlite3

import pytest
from test_evaluate_command import call, write

from zhiling import registry
from zhiling.construct import cage
from zhiling.errors import EngineError, RecipeError
from zhiling.evaluate.predict import Prediction
from zhiling.evaluate.suite import score
from zhiling.proof.execution import check, executor
from zhiling.types import Example, Task

GOLD = "select name, price from goods order by price desc"
QUERIES = {  # what was written for the gold query, and its score
    GOLD: 1.0,
    "SELECT name AS 名称, price * 1.0 FROM goods ORDER BY price DESC;": 1.0,  # names do not count, 2.0 is 2
    "```sql\nselect name, price from goods order by price\n```": 0.0,  # the reference orders them
    "select name from goods order by price desc": 0.0,
    "select colour from goods": 0.0,
    "drop table goods": 0.0,
    "I do not know.": 0.0,
    "": 0.0,
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZHILING_LANG", "en")
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.executescript(
            "create table goods (name text, price int); insert into goods values ('茶', 2), ('纸', 1), ('lamp', 3)"
        )
    return tmp_path


def scored(task, rows, answers, execute):
    why = {}
    said = [Prediction(row.id, answer, "stop") for row, answer in zip(rows, answers, strict=True)]
    found = score(rows, said, {task.name: task}, execute, why)
    return [found[row.id] for row in rows], [why.get(row.id, "") for row in rows]


def test_queries_are_right_by_the_rows_that_they_give(place):
    task = Task("ask", family="sql", metric="execution")
    run = executor({"ask": [("sql", {"database": "shop.db"})]}, place)
    rows = [Example("ask", f"问题 {k}", output=GOLD) for k in range(len(QUERIES))]
    values, why = scored(task, rows, QUERIES, run)
    assert values == list(QUERIES.values())
    assert "no such column" in why[4] and "not allowed" in why[5] and "no query" in why[6]
    bags = ["select name from goods", "select count(*) from goods", "select name from nowhere", "It cannot be told."]
    rows = [Example("ask", f"q{k}", output=gold) for k, gold in enumerate(bags)]
    values, why = scored(
        task, rows, ["select name from goods order by name desc", "select 3", GOLD, "Nobody knows."], run
    )
    assert values == [1.0, 1.0, None, 1.0] and "the reference cannot be run" in why[2]
    assert sqlite3.connect(place / "shop.db").execute("select count(*) from goods").fetchone() == (3,)


def test_programs_are_right_by_the_reference_s_tests(place):
    task = Task("code", family="code", metric="execution")
    gold = "def add(a, b):\n    return a + b\n\nassert add(2, 3) == 5"
    lost = "def add(a, b):\n    return a - b\n\nassert add(2, 3) == 5"
    rows = [
        Example("code", f"写一个加法函数 {k}", output=out)
        for k, out in enumerate([gold, gold, gold, lost, "def f(): pass"])
    ]
    answers = [
        "```python\ndef add(x, y):\n    return y + x\n```",
        "def add(x, y):\n    return 5 * x\n\nassert True",
        "我不会",
        gold,
        gold,
    ]
    values, why = scored(task, rows, answers, executor({"code": [("code", {})]}, place))
    assert values == [1.0, 0.0, 0.0, None, None]
    assert "fails its own tests" in why[3] and "tests" in why[4]


def test_without_a_cage_there_is_no_score_and_without_a_verifier_no_work(place, monkeypatch):
    def none():
        raise EngineError("no safe place")

    monkeypatch.setattr(cage, "need", none)
    task = Task("code", metric="execution")
    rows = [Example("code", "q", output="def f():\n    return 1\nassert f()")]
    values, why = scored(task, rows, ["def f(): return 1"], executor({"code": [("code", {})]}, place))
    assert values == [None] and "no safe place" in why[0]
    for wrong in (lambda: check({"code": task}, {}), lambda: executor({}, place)(task, rows, ["x"])):
        with pytest.raises(RecipeError, match=r"tasks\.code\.metric: nothing says how to run"):
            wrong()
    check({"code": task}, {"code": [("code", {})]})
    with pytest.raises(RecipeError, match="not an answer alone"):
        registry.get("metric", "execution").fn("a", "b")


def test_the_command_line_runs_queries_on_the_database_that_is_named(place):
    write(place / "ask.jsonl", [{"instruction": "List the goods.", "output": "select name from goods"}, {"instruction": "有几种商品？", "output": "select count(*) from goods"}])  # fmt: skip
    model = "provider: fake, script: {List: 'select name from goods order by 1', 几种: 'select 4'}"
    told = call("evaluate", model, "ask.jsonl", "--metric", "execution", "--database", "shop.db", "-o", "answers.jsonl")
    assert "0.500" in told and "other rows than the reference's" in (place / "answers.jsonl").read_text("utf-8")
    error = call("evaluate", model, "ask.jsonl", "--metric", "execution", "--database", "none.db", code=2)
    assert "none.db" in str(error)
