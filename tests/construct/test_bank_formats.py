"""Rows of other houses in a bank, and the bank from the command line."""

import json
import os

import pytest
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.construct.bank import Bank
from zhiling.construct.bank_formats import FORMATS, converted, recognise
from zhiling.errors import DataError

SAMPLES = {
    "alpaca": ({"instruction": "写诗", "input": "秋", "output": "x", "license": "MIT"}, ("写诗", "秋", "x")),
    "sharegpt": (
        {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        ("q", None, "a"),
    ),
    "messages": (
        {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}, {"role": "user", "content": "再问"}]},
        ("问", None, "答"),
    ),
    "natural instructions v2": (
        {"task": "t1", "Definition": ["Do it."], "Positive Examples": [{"input": "i", "output": "o"}], "Instance License": ["MIT"]},
        ("Do it.", "i", "o"),
    ),
    "natural instructions v1": (
        {"Title": "T", "Definition": "Do it.", "Examples": {"Positive Examples": [{"input": "i", "output": "o"}]}},
        ("Do it.", "i", "o"),
    ),
    "self-instruct": ({"id": "seed_1", "instruction": "做", "instances": [{"input": "", "output": "o"}]}, ("做", "", "o")),
    "promptsource": ({"prompt": "p", "completion": "c", "template": "imdb_1"}, ("p", None, "c")),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_told_and_taken(form):
    row, (instruction, source, output) = SAMPLES[form]
    assert recognise(row) == form
    made = converted(row, form)
    assert (made["instruction"], made.get("input"), made.get("output")) == (instruction, source, output)


def test_licence_source_and_name_go_along():
    assert converted(SAMPLES["alpaca"][0], "alpaca")["licence"] == "MIT"
    made = converted(SAMPLES["natural instructions v2"][0], "natural instructions v2")
    assert (made["licence"], made["task"]) == ("MIT", "t1")
    unknown = {**SAMPLES["natural instructions v2"][0], "Instance License": ["Unknown"]}
    assert "licence" not in converted(unknown, "natural instructions v2")
    assert converted(SAMPLES["promptsource"][0], "promptsource")["task"] == "imdb_1"


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": 7},
        {"messages": [None, {"role": "user"}]},
        {"Definition": 3},
        {"instruction": 4, "instances": "x"},
    ],
)
def test_rows_of_the_wrong_shape_break_nothing(row):
    made = converted(row, recognise(row))
    assert not isinstance(made.get("instruction"), list)


def test_an_unknown_format_names_its_keys_and_the_known_ones():
    with pytest.raises(
        DataError, match=r"f.json: cannot tell the format from the keys query, title — known: .*alpaca \(instruction\)"
    ):
        recognise({"query": "q", "title": "t"}, "f.json")


def test_every_shared_file_of_a_known_format_is_taken(shared):
    from zhiling.data import rows

    for name, form in {
        "05_natural_instructions/tasks.jsonl.gz": "natural instructions v2",
        "05_natural_instructions/v1_subtasks.jsonl.gz": "natural instructions v1",
        "04_belle/zh_seed_tasks.jsonl": "self-instruct",
        "01_self_instruct/t0_rendered_prompts.jsonl.gz": "promptsource",
        "02_alpaca/llamafactory_dpo_zh_demo.jsonl.gz": "sharegpt",
    }.items():
        given = [row for _, row in rows(shared / name) if not isinstance(row, str)]
        assert given and {recognise(row) for row in given} == {form}, name
        assert all(converted(row, form).get("instruction", "").strip() for row in given), name


# The command line.


def ran(*args, code=0, lang="en"):
    done = CliRunner().invoke(app, ["bank", *map(str, args)], env={**os.environ, "ZHILING_LANG": lang})
    if done.exception and not isinstance(done.exception, SystemExit):
        assert code == 2 and isinstance(done.exception, DataError), done.exception
        return str(done.exception)
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.model
def test_a_bank_is_kept_from_the_command_line(tmp_path):
    data, bank = tmp_path / "rows.jsonl", tmp_path / "bank"
    rows = [
        {"id": "fr", "instruction": "把句子翻译成法语。", "output": "x", "quality": 0.9},
        {"id": "poem", "instruction": "Write a poem about the sea.", "output": "y", "license": "MIT"},
    ]
    data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert "row 1 has no licence" in ran("add", bank, data, code=2)
    assert "2 added" in ran("add", bank, data, "--licence", "CC0", "--source", "mine")
    (hit,) = json.loads(ran("search", "法语", "-b", bank, "-k", 1, "--json"))
    assert hit["row"]["licence"] == "CC0" and hit["row"]["source"] == "mine" and "法语" in hit["terms"]
    shown = ran("search", "法语", "-b", bank, "-k", 1, "--quality", "0.5", lang="zh")
    assert "关键词" in shown and "筛选：quality=0.5" in shown and "把句子翻译成法语。" in shown
    ran("snapshot", bank, "first")
    data.write_text(
        '{"id": "fr", "instruction": "把句子翻译成德语。"}\n{"id": "no", "instruction": "x"}', encoding="utf-8"
    )
    told = ran("update", bank, data)
    assert "1 updated" in told and "no row of this id" in told
    assert "no row of this id" in ran("remove", bank, "nobody", code=1)
    assert "1 removed" in ran("remove", bank, "--licence", "MIT")
    assert "give either ids or filters" in ran("remove", bank, code=2)
    log = json.loads(ran("log", bank, "--json"))
    assert [(entry["what"], entry["snapshots"]) for entry in log] == [
        ("add", ["first"]),
        ("update", []),
        ("remove", []),
    ]
    assert json.loads(ran("info", "-b", bank, "--json"))["rows"] == 1
    assert "2 rows" in ran("export", tmp_path / "old.jsonl", "-b", bank, "--at", "first")
    assert "version 4" in ran("rebuild", bank)
    assert "cannot tell the format" in _unknown(tmp_path, bank)


def _unknown(tmp_path, bank):
    other = tmp_path / "other.jsonl"
    other.write_text('{"query": "q"}', encoding="utf-8")
    return ran("add", bank, other, code=2)


def test_two_rows_of_one_id_that_differ_are_told_and_never_taken_for_one(tmp_path):
    bank = Bank.create(tmp_path / "bank")
    first = bank.add([{"id": "1", "instruction": "翻译成法语"}, {"id": "1", "instruction": "写一首诗"}], licence="MIT")
    assert (first.added, first.duplicates, len(first.refused)) == (1, 0, 1) and "id" in first.refused[0].why
    other = [{"id": "1", "instruction": "Count the sheep."}, {"id": "1", "instruction": "翻译成法语"}]
    again = bank.add(other, licence="MIT")
    assert (again.added, again.duplicates, [one.where for one in again.refused]) == (0, 1, ["id 1"])
    assert [row.instruction for row in bank.rows()] == ["翻译成法语"]
    assert (
        bank.update([{"id": 1, "quality": 0.5}, {"id": ["x"], "quality": 0.5}]).updated == 1
    )  # JSON's number is the same id


def test_a_row_of_no_format_costs_itself_alone(tmp_path):
    rows = [
        {"foo": 1},
        {"instruction": None, "output": "y"},
        {"conversations": 5},
        {"instruction": "翻译成法语", "output": "x"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in [*rows, rows[-1]]), encoding="utf-8")
    told = CliRunner().invoke(app, ["bank", "add", str(tmp_path / "bank"), str(file), "--licence", "MIT"])
    assert told.exit_code == 0, told.output
    assert "1 added, 1 there already, 3 unreadable or refused" in told.output
