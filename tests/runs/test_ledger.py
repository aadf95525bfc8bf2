"""The ledger of many rows: in the order of ids, found without reading the rest, and able to say what would have kept a row."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from zhiling import ledger
from zhiling.judging.dataset import Asked, select
from zhiling.pool import Book, Fates, Marks, Pool, in_order
from zhiling.recipe import Step
from zhiling.store import current, read, write
from zhiling.tables import find, tables, write_tables
from zhiling.types import Example, Score, Verdict

CHAIN = [
    {"quota": {"rows": 40, "per": "lang", "by": "echo"}},
    "exact",
    {"near": {"threshold": 0.6}},
]


def rows(count: int = 60) -> list[dict[str, str]]:
    made = []
    for at in range(count):
        made.append(
            {
                "instruction": f"Describe thing number {at}",
                "input": "",
                "output": f"It is a thing with {at} legs and {at * 7} arms",
            }
        )
        made.append(
            {"instruction": f"描述第{at}件东西", "input": "", "output": f"它有{at}条腿和{at * 7}只手臂，颜色各不相同"}
        )
    return made


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger")
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in [*rows(), *rows(2)]), encoding="utf-8")
    select(Asked([file], ["echo", "length"], CHAIN), folder / "out.jsonl", folder / "run", workers=1)
    return folder / "run"


def test_the_ledger_lies_in_the_order_of_ids_and_balances(chosen):
    entries = [entry for done in current(chosen) for entry in read(chosen, done.of("ledger"))]
    assert [entry.id for entry in entries] == sorted(entry.id for entry in entries)
    states = [entry.state for entry in entries]
    assert len(states) == 124 and states.count("merged") == 4 and states.count("kept") + states.count("dropped") == 120
    kept = [row.id for done in current(chosen) for row in read(chosen, done.of("kept"))]
    assert kept == [entry.id for entry in entries if entry.state == "kept"]


def test_every_row_says_why(chosen):
    for done in current(chosen):
        for entry in read(chosen, done.of("ledger")):
            found = ledger.why(chosen, entry.id)
            assert found["row"]["id"] == entry.id and len(found["scores"]) == 2
            assert (entry.state, entry.why) in {(one["state"], one["why"]) for one in found["ledger"]}
            last = found["verdicts"][-1]
            fate = next(one for one in found["ledger"] if one["state"] != "merged")
            assert (fate["state"] == "kept") == last["kept"] and fate["stage"] == last["selector"]
            assert bool(found["rivals"]) == any(one["rival"] for one in found["ledger"])


def test_what_would_have_kept_a_row_does_keep_it(chosen, tmp_path):
    """The advice of a quota is followed, and the row is kept by it."""
    entries = [entry for done in current(chosen) for entry in read(chosen, done.of("ledger"))]
    dropped = next(entry.id for entry in entries if entry.stage == "quota" and entry.state == "dropped")
    (advice,) = ledger.why(chosen, dropped)["instead"]
    name, number = advice.split(" >= ")
    assert name == "quota.rows" and int(number) > 40
    looser = [{"quota": {"rows": int(number), "per": "lang", "by": "echo"}}, *CHAIN[1:]]
    file = chosen.parent / "rows.jsonl"
    for least, passes in ((int(number), True), (int(number) - 1, False)):
        looser[0] = {"quota": {"rows": least, "per": "lang", "by": "echo"}}
        select(Asked([file], ["echo", "length"], looser), tmp_path / "o.jsonl", tmp_path / "run", workers=1)
        assert ledger.why(tmp_path / "run", dropped)["verdicts"][0]["kept"] == passes


NEAR = {"selector": "near", "settings": {"threshold": 0.8}}
BOUND = {"selector": "threshold", "settings": {"scorer": "format", "min": 1.0, "max": None}}


@pytest.mark.parametrize(
    ("chain", "why", "value", "said"),
    [
        ([NEAR], "Jaccard 0.86 with a row that is kept", None, ["near.threshold >= 0.87"]),
        ([NEAR], "与保留的一行 Jaccard 为 0.86", None, ["near.threshold >= 0.87"]),
        ([NEAR], "Jaccard 1.00 with a row that is kept", None, []),
        ([BOUND], "format 0 < 1", 0.0, ["format.min <= 0"]),
        ([BOUND], "format could not be scored", None, ["format.missing = keep"]),
        ([{"selector": "threshold", "settings": {"scorer": "format", "min": None, "max": 0.5}}], "format 0.75 > 0.5", 0.75, ["format.max >= 0.75"]),
        ([{"selector": "exact", "settings": {"keep": None}}], "same prompt and output", None, []),
        ([{"selector": "top", "settings": {"rows": 10, "similar": 0.9}}], "10 rows do better", None, []),
    ],
)  # fmt: skip
def test_counterfactuals(chain, why, value, said):
    verdict = {"selector": chain[0]["selector"], "kept": False, "why": why}
    assert ledger.instead(chain, [verdict], [{"scorer": "format", "value": value}]) == said
    assert ledger.instead(chain, [{**verdict, "kept": True}], []) == []
    assert ledger.instead([], [verdict], []) == []


def test_the_waterfall_of_reasons_ends_with_what_is_kept(chosen):
    told = ledger.reasons(chosen)
    kept = sum(row.rows for done in current(chosen) for row in done.of("kept"))
    assert told[0]["rows"] == told[0]["left"] == 124 and told[-1]["left"] == kept
    assert all(b["left"] == a["left"] + b["rows"] for a, b in pairwise(told))
    assert [row["stage"] for row in told][:3] == ["", "merged", "quota"]
    assert all(not any(sign.isdigit() for sign in row["why"]) for row in told)


def examples(count: int) -> list[Example]:
    return [
        Example(
            "任务" if at % 3 else "t",
            f"row {at}",
            "",
            "x" * (at % 5),
            lang="zh" if at % 2 else "en",
            maker=f"m:{at % 4}",
        )
        for at in range(count)
    ]


def test_drafts_are_put_in_order_and_the_first_of_equals_stands(tmp_path):
    made = examples(5000)
    again = [Example(row.task, row.instruction, row.input, row.output, maker="later") for row in made[:7]]
    parts = [made[:100], made[100:], again]
    drafts = [write(tmp_path, f"drafts/{at}.parquet", "drafts", part) for at, part in enumerate(parts)]
    shards, merged, firsts = in_order(tmp_path, drafts, "k", 2000)
    assert [shard.rows for shard in shards] == [2000, 2000, 1000]
    there = list(read(tmp_path, shards))
    assert there == sorted(made, key=lambda row: row.id)
    assert sorted(read(tmp_path, merged), key=lambda row: row.id) == sorted(again, key=lambda row: row.id)
    assert firsts == [there[0].id, there[2000].id, there[4000].id]


def test_a_pool_is_the_rows_it_stands_for(tmp_path):
    made = sorted(examples(5000), key=lambda row: row.id)
    outputs = [write(tmp_path, f"examples/{at}.parquet", "examples", made[at : at + 2000]) for at in (0, 2000, 4000)]
    pool = Pool(tmp_path, outputs)
    mask = [random.Random(at).random() < 0.01 or at in (0, 4999) for at in range(5000)]
    import numpy as np

    for some, rows_ in (
        (pool, made),
        (pool.those(np.array(mask)), [row for row, yes in zip(made, mask, strict=True) if yes]),
    ):
        known = [row.id for row in rows_]
        assert len(some) == len(rows_) and list(some) == rows_ and list(some.ids) == known
        assert [some.ids[0], some.ids[-1], *some.ids[3:9:2]] == [known[0], known[-1], *known[3:9:2]]
        assert list(some.fields(["output", "id", "history"])) == [(row.output, row.id, row.history) for row in rows_]
        assert some.column("task") == [row.task for row in rows_] and some.column("lang") == [row.lang for row in rows_]
        assert some[0] == rows_[0] and some[-1] == rows_[-1] and some[3:9:2] == rows_[3:9:2]
        assert [some[at] for at in (7, 1, len(rows_) - 2)] == [rows_[at] for at in (7, 1, len(rows_) - 2)]
        with pytest.raises(IndexError):
            some[len(rows_)]
    assert len(pool.those(np.zeros(5000, dtype=bool))) == 0 and list(pool.those(np.zeros(5000, dtype=bool))) == []


def test_tables_are_written_as_rows_are(tmp_path):
    made = examples(3000)
    one = write(tmp_path, "a.parquet", "examples", made)
    other = write_tables(
        tmp_path,
        "b.parquet",
        "examples",
        (part.slice(at, 700) for part in tables(tmp_path, [one]) for at in range(0, 3000, 700)),
    )
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes() and other.rows == one.rows
    key = made[1234].id
    assert (
        [row["id"] for row in find(tmp_path, [one], "id", [key])]
        == [row["id"] for row in find(tmp_path, [one], "id", key[:12])]
        == [key]
    )
    assert find(tmp_path, [one], "id", []) == find(tmp_path, [one], "id", "zz") == []


def test_marks_are_a_mapping_of_scores(tmp_path):
    made = sorted(examples(50), key=lambda row: row.id)
    said = [
        Score(row.id, "echo", None if at % 5 == 0 else at / 50, "无" if at % 5 == 0 else "")
        for at, row in enumerate(made)
    ]
    said += [Score(made[3].id, "grammar", 0.5)]
    outputs = [
        write(tmp_path, f"scores/{at}.parquet", "scores", part) for at, part in enumerate((said[:20], said[20:]))
    ]
    pool = Pool(tmp_path, [write(tmp_path, "examples/a.parquet", "examples", made)])
    marks = Marks(tmp_path, outputs, pool.all)
    assert dict(marks) == {(score.example, score.scorer): score for score in said} and len(marks) == 51
    assert (made[4].id, "grammar") not in marks and ("zz", "echo") not in marks and (made[3].id, "no") not in marks
    assert marks.of(made[3].id) == {"echo": said[3], "grammar": said[50]}


@pytest.mark.parametrize("told", ["short", "twice", "more"])
def test_a_selector_must_speak_once_of_each_row(tmp_path, told):
    from zhiling.errors import DataError

    made = sorted(examples(5), key=lambda row: row.id)
    pool = Pool(tmp_path, [write(tmp_path, "examples/a.parquet", "examples", made)])
    verdicts = [Verdict(row.id, "own", at != 2, "因", "r" * (at == 2)) for at, row in enumerate(made)]
    fates = Fates(pool)
    backwards = list(fates.hear(pool, reversed(verdicts), Step("own", {}, "select.0.own")))
    assert backwards == verdicts and fates.kept.tolist() == [True, True, False, True, True]
    assert [(entry.state, entry.rival) for entry in fates.entries()] == [
        ("dropped" if at == 2 else "kept", "r" * (at == 2)) for at in range(5)
    ]
    wrong = {
        "short": verdicts[:-1],
        "twice": [*verdicts[:-1], verdicts[0]],
        "more": [*verdicts, Verdict("zz", "own", True)],
    }[told]
    with pytest.raises(DataError, match="'own' must give one verdict per row"):
        list(Fates(pool).hear(pool, wrong, Step("own", {}, "select.0.own")))


def test_the_book_finds_the_last_word(chosen):
    outputs = [output for done in current(chosen) for output in done.of("ledger")]
    book = Book(chosen, outputs)
    entries = {entry.id: entry for entry in read(chosen, outputs) if entry.state != "merged"}
    assert len(book) == len(entries)
    for row, entry in entries.items():
        assert book.at(book.place(row)) == (entry.state, entry.stage, entry.why, entry.rival)
    with pytest.raises(KeyError):
        book.place("f" * 20)
