"""The constructors that check their rows, and the recipes of the families: what is kept was checked, what is not says why."""

import asyncio
import json
from pathlib import Path

import pytest

from zhiling import recipe as recipes
from zhiling import registry
from zhiling.construct import cage
from zhiling.construct.code_rows import functions
from zhiling.construct.verify.sql import sql as check_sql
from zhiling.construct.verify.sql_schema import read_schema
from zhiling.errors import DataError
from zhiling.run import Run
from zhiling.show import query
from zhiling.types import Example, Record, Reject, Reply, Task

TOP = Path(__file__).parents[2]
DATA = TOP / "recipes/data"
BOTH = Task("t", langs=("en", "zh"), inputs=("text",))
caged = pytest.mark.skipif(all(cage.breach(name) for name in cage.CAGES), reason="no cage holds on this machine")


class Writer:
    """A model that answers by rules: (part of the question, answer)."""

    label = "writer"

    class provider:
        can = frozenset({"chat"})
        name = "writer"

    def __init__(self, *rules):
        self.rules, self.asked = rules, []

    async def ask_all(self, requests):
        self.asked += requests
        return [
            Reply(next((say for part, say in self.rules if part in request.messages[-1][1]), ""), key=f"k{at}")
            for at, request in enumerate(requests)
        ]


def made(name, **given):
    out = registry.get("constructor", name).fn(**{"seed": 7, "here": DATA, "task": BOTH, **given})
    out = asyncio.run(out) if asyncio.iscoroutine(out) else out
    return list(out)


def split(rows):
    return [row for row in rows if isinstance(row, Example)], [row for row in rows if isinstance(row, Reject)]


# --- SQL


@caged
def test_drawn_questions_run_and_refusals_lack_their_column():
    rows, lost = split(made("sql", database="shop.sql", drawn=20, unanswerable=0.3))
    assert {row.lang for row in rows} == {"en", "zh"} and len(rows) > 30
    assert all(reject.why.startswith("sql: ") for reject in lost)
    scores = check_sql(rows, here=DATA, database="shop.sql")
    assert [score.why for score in scores if score.value != 1.0] == []
    refused = [row for row in rows if row.maker == "sql:drawn+without"]
    assert refused and all(row.parents for row in refused)
    for row in refused:
        missing = row.output.split("“" if row.lang == "zh" else '"')[1].split("”" if row.lang == "zh" else '"')[0]
        assert read_schema(DATA / "shop.sql").has(missing) and missing not in row.input.split(
            "问题" if row.lang == "zh" else "Question"
        )[0].replace("_id", "")
    assert rows == split(made("sql", database="shop.sql", drawn=20, unanswerable=0.3))[0]
    assert rows != split(made("sql", database="shop.sql", drawn=20, unanswerable=0.3, seed=8))[0]


@caged
def test_a_models_queries_are_run_and_sent_back_once():
    ask = "as JSON"
    good = json.dumps({"question": "Who lives in Lyon?", "query": "SELECT name FROM customer WHERE city = 'Lyon'"})
    bad = json.dumps({"question": "What is the colour of the kettle?", "query": "SELECT colour FROM product"})
    task = Task("t", langs=("en",))
    rows, lost = split(
        made("sql", task=task, database="shop.sql", drawn=0, asked=1, tries=1, model=Writer((ask, good)), style="small")
    )
    assert [(row.output, row.maker) for row in rows] == [
        ("SELECT name FROM customer WHERE city = 'Lyon'", "sql:writer")
    ] and not lost
    writer = Writer(("This query fails: sql: no such column: colour", "SELECT title FROM product"), (ask, bad))
    rows, lost = split(
        made("sql", task=task, database="shop.sql", drawn=0, asked=1, tries=1, model=writer, style="small")
    )
    assert [(row.output, row.maker) for row in rows] == [
        ("SELECT title FROM product", "sql:writer+repair")
    ] and not lost
    stubborn = Writer(("This query fails", "SELECT colour FROM product"), (ask, bad))
    rows, lost = split(
        made("sql", task=task, database="shop.sql", drawn=0, asked=1, tries=1, model=stubborn, style="small")
    )
    assert not rows and [reject.why for reject in lost] == ["sql: no such column: colour"]
    for said, why in (
        ("no JSON here", "form:"),
        (json.dumps({"question": "谁住在里昂？", "query": "SELECT 1"}), "language:"),
        (json.dumps({"question": "All?", "query": "DROP TABLE product"}), "sql: not allowed"),
    ):
        rows, lost = split(
            made(
                "sql",
                task=task,
                database="shop.sql",
                drawn=0,
                asked=1,
                tries=1,
                model=Writer((ask, said)),
                style="small",
            )
        )
        assert not rows and lost[0].why.startswith(why), lost


def test_a_database_that_cannot_be_read_is_explained_before_anything_is_asked(tmp_path):
    (tmp_path / "empty.db").write_bytes(b"")
    for name, word in (("no.db", "no such database"), ("empty.db", "no tables")):
        with pytest.raises(DataError, match=word):
            made("sql", database=name, here=tmp_path)


@caged
def test_the_shared_databases_keep_only_what_runs(shared):
    folder = shared / "10b_text2sql/db"
    for name in ("Chinook_Sqlite", "car_dealership", "yelp"):
        rows, lost = split(made("sql", here=folder, database=f"{name}.sqlite", drawn=5))
        assert len(rows) >= 8 and all(reject.why == "sql: it finds nothing" for reject in lost)
        assert {score.value for score in check_sql(rows, here=folder, database=f"{name}.sqlite")} == {1.0}


# --- code


@caged
def test_functions_of_a_repository_are_run_and_weak_examples_refused():
    rows, lost = split(made("code", repository="functions.py", mutations=4, task=Task("t", langs=("zh",))))
    assert len(rows) == 7 and [(reject.where, reject.why.split(":")[0]) for reject in lost] == [
        ("functions.py:95", "code")
    ]
    assert "too few faults" in lost[0].why
    distance = next(row for row in rows if "distance" in row.input)
    assert (
        distance.input.startswith("import math\n")
        and "return math.hypot" in distance.output
        and "hypot" not in distance.input
    )
    with pytest.raises(DataError, match=r"no function with examples.*1 could not be read: shop.sql:\d+: no Python"):
        made("code", repository="shop.sql")


def test_files_that_are_no_python_are_quarantined_once_with_their_line_and_a_plan_counts_what_is_there(tmp_path):
    good = 'def twice(x):\n    """Two of it.\n\n    >>> twice(2)\n    4\n    >>> twice(-1)\n    -2\n    """\n    return 2 * x\n'
    files = {"a/good.py": good, "b/old.py": "x = 1\nprint 'hello'\n", "z/torn.py": good.replace("    4\n", "  4\n"), "deep.py": "-" * 9000 + "1"}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "gbk.py").write_bytes("# ok\n# 中文\n".encode("gbk"))
    (tmp_path / "folder.py").mkdir()
    task, plugin = Task("t", langs=("en", "zh")), registry.get("constructor", "code")
    given = registry.settle(plugin, {"repository": tmp_path.name})
    assert plugin.facts["ready"](given, task, here=tmp_path.parent) == 2  # one function, asked for in two languages
    found = [one for one in functions(tmp_path, "t") if isinstance(one, Reject)]
    assert [(one.state, one.maker) for one in found] == [("quarantined", "code:repository")] * 4
    assert [(one.where, one.why.partition(":")[0]) for one in found] == [
        ("b/old.py:2", "no Python"), ("deep.py:0", "no Python"), ("gbk.py:2", "it is not UTF-8"), ("z/torn.py:1", "its examples cannot be read"),
    ]  # fmt: skip
    assert found[0].text == "print 'hello'"
    if all(cage.breach(name) for name in cage.CAGES):
        return
    rows, lost = split(made("code", repository=tmp_path.name, here=tmp_path.parent, killed=0.0, mutations=1, task=task))
    assert [row.lang for row in rows] == ["en", "zh"] and [one.id for one in lost] == [one.id for one in found]


@caged
def test_a_models_programs_are_run_and_sent_back_once():
    good = "Task: Write double(x).\n```python\ndef double(x):\n    return 2 * x\n```\n```python\nassert double(2) == 4\nassert double(-3) == -6\n```"
    bad = good.replace("2 * x", "x + 1").replace("double", "twice")
    task = Task("t", langs=("en",))
    settings = {"task": task, "asked": 1, "tries": 1, "mutations": 4, "style": "small"}
    rows, _ = split(made("code", model=Writer(("Write a small", good)), **settings))
    assert [row.instruction for row in rows] == ["Write double(x). Add assert statements that test it."]
    rows, lost = split(made("code", model=Writer(("This fails", good), ("Write a small", bad)), **settings))
    assert [row.maker for row in rows] == ["code:writer+repair"] and not lost
    rows, lost = split(made("code", model=Writer(("This fails", bad), ("Write a small", bad)), **settings))
    assert not rows and "AssertionError" in lost[0].why
    rows, lost = split(made("code", model=Writer(("Write a small", "I cannot do that.")), **settings))
    assert not rows and lost[0].why.startswith("form")


# --- arithmetic, subtitles, NLI


def test_every_drawn_problem_is_right_in_both_languages(tmp_path):
    rows, lost = split(made("arithmetic", rows=40))
    assert len(rows) == 80 and not lost and len({row.input for row in rows}) == 80
    assert {score.value for score in registry.get("verifier", "arithmetic").fn(rows)} == {1.0}
    assert rows == made("arithmetic", rows=40) != made("arithmetic", rows=40, seed=8)
    own = {
        "version": 1,
        "prompts": [],
        "things": {"en": {}, "zh": {}},
        "problems": [{"en": "{a} and {b}?", "zh": "{a}加{b}？", "steps": {"sum": "{a} + {b}"}}],
    }
    (tmp_path / "own.yaml").write_text(json.dumps(own))
    rows, lost = split(
        made(
            "arithmetic",
            here=tmp_path,
            prompts="own.yaml",
            rows=30,
            largest=5,
            plain=0.0,
            task=Task("t", langs=("zh",)),
        )
    )
    assert (
        len(rows) == 16
        and len(lost) == 14
        and "no new problem" in lost[0].why
        and all("加" in row.input for row in rows)
    )


CUES = [{"start": f"00:00:0{n},000", "end": f"00:00:0{n},900", "text": "", "zh": zh, "en": en} for n, (zh, en) in enumerate([("快跑！", "Run!"), ("等等我。", "Wait for me."), ("好。", "Fine."), ("", "Who is there?"), ("再见。", "Bye.")])]  # fmt: skip


def test_subtitles_keep_their_times_and_a_lacking_language_is_said_or_asked():
    records = [Record("t", cue) for cue in [*CUES, {**CUES[0], "start": "soon"}]]
    rows, lost = split(made("subtitles", records=records, cues=2))
    assert sorted(reject.why.split(":")[0] for reject in lost) == ["language", "times"]
    assert len(rows) == 6
    assert {score.value for score in registry.get("verifier", "subtitles").fn(rows, slow=1.0)} == {1.0}
    assert rows[0].input.split("\n")[1] == rows[0].output.split("\n")[1] == "00:00:00,000 --> 00:00:00,900"
    writer = Writer(("3. Fine.", "1. 快跑！\n2. 等等我。\n3. 好。\n4. 谁在那儿？"), ("1. Bye.", "1. 再见。"))
    rows, lost = split(made("subtitles", records=records[:5], cues=4, translate=True, model=writer, ways=["en-zh"]))
    assert (
        not lost
        and [row.maker for row in rows] == ["subtitles:writer", "subtitles:file"]
        and "谁在那儿？" in rows[0].output
    )
    rows, lost = split(
        made("subtitles", records=records[:4], cues=4, translate=True, model=Writer(("Fine", "1. 快跑！\n2. 好。")))
    )
    assert not rows and lost[0].why == "form: 2 lines for 4 cues"


def test_a_premise_gets_all_labels_or_none():
    writer = Writer(
        ("must be true", "Some people play."),
        ("may be true", "The men are brothers."),
        ("cannot be true", "Nobody is there."),
        ("一定为真", "有船。"),
        ("可真可假", "船是新的。"),
        ("不可能", "有船。"),
    )
    records = [Record("t", {"text": text}) for text in ("Two old men are playing chess.", "桥下停着三条旧木船。", " ")]
    rows, lost = split(made("nli", records=records, model=writer))
    assert [row.output for row in rows] == ["entailment", "neutral", "contradiction"]
    assert rows[0].input == "Premise: Two old men are playing chess.\nHypothesis: Some people play."
    assert sorted(reject.why.split(":")[0] for reject in lost) == ["balance", "balance", "novelty"]


# --- recipes

KEPT = {"sql": (60, "sql: it finds nothing"), "code": (14, "too few faults"), "arithmetic": (120, ""), "subtitles": (6, ""), "verse": (8, "not 5"), "extraction": (5, "not in the text: Oslo"), "translation": (150, ""), "classification": (70, ""), "dialogue": (4, "does not take up"), "writing": (8, "at most 20 words: it has 34"), "summary": (90, "two or three sentences asked for")}  # fmt: skip


@caged
@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_the_recipe_of_each_family_keeps_checked_rows_and_says_what_it_dropped(name, tmp_path):
    least, reason = KEPT[name]
    with Run(recipes.load(TOP / f"recipes/{name}.yaml"), tmp_path / "run", workers=1, until="select") as run:
        run.execute()
    kept = query(
        tmp_path / "run",
        "select value from scores where scorer = 'verify' and example in (select id from ledger where state = 'kept')",
    )
    assert len(kept) >= least and {row["value"] for row in kept} == {1.0}
    dropped = [row["why"] for row in query(tmp_path / "run", "select why from ledger where state = 'dropped'")]
    assert any(reason in why for why in dropped) if reason else not dropped or name in ("translation", "classification")


@pytest.mark.model
@pytest.mark.slow
def test_the_recipe_of_inference_runs_on_the_embedded_model_and_confirms_no_label(tmp_path):
    with Run(recipes.load(TOP / "recipes/nli.yaml"), tmp_path / "run", workers=1, until="select") as run:
        run.execute()
    said = query(tmp_path / "run", "select value, why from scores where scorer = 'verify'")
    assert said and all(row["value"] is None and "no independent judge" in row["why"] for row in said)
