"""The formats of instruction data: read, written and read again, nothing is lost; what a format cannot hold is said."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.data import Source, read, rows, sets
from zhiling.data.formats import FORMATS, guess, samples
from zhiling.data.natural import tasks
from zhiling.data.samples import Sample, Unsayable
from zhiling.errors import DataError
from zhiling.export import convert
from zhiling.types import Record, Task

text = st.text(max_size=12)
said = st.text(min_size=1, max_size=12)
more = st.dictionaries(st.sampled_from(["id", "source", "_file", "标签"]), st.none() | st.integers() | text, max_size=2)


@st.composite
def sample(draw, pairs=False, split=False, **fixed):
    turns = draw(st.lists(st.tuples(text, text), max_size=2))
    history = [m for q, a in turns for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    if not pairs and draw(st.booleans()):
        history += [
            {"role": draw(st.sampled_from(["tool", "assistant", "system"])), "content": draw(text), "name": "x"}
        ]
        history = [{"role": "user", "content": "first"}, *history]
    extra = {key: draw(value) for key, value in fixed.items()}
    return Sample(
        draw(said), draw(text) if split else "", draw(text), draw(text), tuple(history), more=draw(more), **extra
    )


def again(form, row):
    ((_, back),) = samples(form, [(1, json.loads(json.dumps(row)))])
    return back


@given(sample(pairs=True, split=True))
def test_alpaca_keeps_every_field(one):
    assert again("alpaca", FORMATS["alpaca"].write(one)) == one


@pytest.mark.parametrize("form", ["sharegpt", "messages"])
@given(sample())
def test_chats_keep_every_turn(form, one):
    assert again(form, FORMATS[form].write(one)) == one


@given(sample(rejected=text))
def test_dpo_keeps_both_answers(one):
    assert again("dpo", FORMATS["dpo"].write(one)) == one


@given(sample(label=st.booleans()))
def test_kto_keeps_the_label(one):
    assert again("kto", FORMATS["kto"].write(one)) == one


def _bare(one):
    return Sample(one.instruction, one.input, one.output, one.system, one.history, more={k: v for k, v in one.more.items() if k not in ("about", "outputs")})  # fmt: skip


@given(st.lists(st.tuples(sample(pairs=True, split=True), st.sampled_from(["t1", "任务二"])), max_size=6))
def test_natural_instructions_keep_every_field(given_rows):
    from dataclasses import replace

    listed = [replace(one, more={**one.more, "task": name}) for one, name in given_rows]
    written = json.loads(json.dumps(list(tasks(listed))))
    back = [_bare(one) for _, one in samples("natural_instructions", enumerate(written))]
    assert back == listed


@given(sample(split=True))
def test_a_chat_says_what_a_model_sees(one):
    back = again("messages", FORMATS["messages"].write(one))
    assert back.turns() == [dict(turn) for turn in one.turns()] and back.prompt == one.prompt


DPO = {"instruction": "A", "input": "", "output": "good", "rejected": "bad", "history": ()}


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "A"}], "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}},
        {"prompt": "A", "chosen": "good", "rejected": "bad"},
        {"prompt": [{"role": "user", "content": "A"}], "chosen": [{"role": "assistant", "content": "good"}], "rejected": [{"role": "assistant", "content": "bad"}]},
        {"chosen": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "good"}], "rejected": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "bad"}]},
        {"instruction": "A", "input": "", "output": "good", "chosen": "good", "rejected": "bad"},
        {"messages": [{"role": "user", "content": "A"}], "chosen": "good", "rejected": "bad"},
    ],
)  # fmt: skip
def test_preferences_as_they_are_published(row):
    one = again("dpo", row)
    assert {key: getattr(one, key) for key in DPO} == DPO and one.more == {} and guess(row) == "dpo"


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "good"}], "label": False},
        {"conversations": [{"from": "human", "value": "A"}, {"from": "gpt", "value": "good"}], "kto_tag": "false"},
        {"prompt": "A", "completion": "good", "label": 0},
        {"prompt": [{"role": "user", "content": "A"}], "completion": [{"role": "assistant", "content": "good"}], "label": False},
        {"instruction": "A", "input": "", "output": "good", "kto_tag": False},
    ],
)  # fmt: skip
def test_likings_as_they_are_published(row):
    one = again("kto", row)
    assert (one.instruction, one.output, one.label, one.more) == ("A", "good", False, {}) and guess(row) == "kto"


@pytest.mark.parametrize(
    ("form", "row", "why"),
    [
        ("alpaca", {"output": "x"}, "no instruction"),
        ("alpaca", {"instruction": "x", "history": [["a"]]}, "pairs of texts"),
        ("messages", {"messages": [{"role": "user", "content": "x"}]}, "does not end with an answer"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "x"}]}, "not text"),
        ("messages", {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0}]}, "more than text: weight"),
        ("messages", {"messages": "x"}, "no list of turns"),
        ("sharegpt", {"conversations": []}, "does not end"),
        ("dpo", {"prompt": "x", "chosen": "a"}, "no chosen or no rejected"),
        ("dpo", {"chosen": "a", "rejected": "b"}, "no prompt"),
        ("dpo", {"prompt": "x", "chosen": {"from": "gpt", "value": "a", "score": 9}, "rejected": "b"}, "more than an assistant's text"),
        ("kto", {"prompt": "x", "completion": "a", "label": "maybe"}, "no label"),
        ("natural_instructions", {"Definition": "x"}, "no Instances"),
    ],
)  # fmt: skip
def test_what_is_not_in_its_format_says_why(form, row, why):
    assert why in again(form, row)


def test_what_a_format_cannot_hold_is_refused():
    odd = Sample("q", output="a", history=({"role": "tool", "content": "x"},))
    with pytest.raises(Unsayable, match="pairs of question and answer"):
        FORMATS["alpaca"].write(odd)
    with pytest.raises(Unsayable, match="only dpo or kto"):
        FORMATS["messages"].write(Sample("q", output="a", rejected="b"))
    with pytest.raises(Unsayable, match="no rejected answer"):
        FORMATS["dpo"].write(Sample("q", output="a"))


FILES = [
    ("02_alpaca/llamafactory_alpaca_en_demo.jsonl.gz", "alpaca"),
    ("02_alpaca/llamafactory_alpaca_zh_demo.jsonl.gz", "alpaca"),
    ("02_alpaca/llamafactory_dpo_en_demo.jsonl.gz", "dpo"),
    ("02_alpaca/llamafactory_dpo_zh_demo.jsonl.gz", "dpo"),
    ("05_natural_instructions/tasks.jsonl.gz", "natural_instructions"),
    ("05_natural_instructions/v1_subtasks.jsonl.gz", "natural_instructions"),
]


@pytest.mark.parametrize(("name", "form"), FILES)
def test_published_files_come_back_as_they_went(shared, tmp_path, name, form):
    done = convert(shared / name, tmp_path / "o.jsonl", form)
    with gzip.open(shared / name, "rt", encoding="utf-8") as source:
        before = [json.loads(line) for line in source]
    after = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert done.form == form and not done.left_out and after == before


@pytest.mark.parametrize("name", [name for name, form in FILES[:2]])
@pytest.mark.parametrize("by", ["natural_instructions", "sharegpt", "messages"])
def test_from_format_to_format_and_back(shared, tmp_path, name, by):
    convert(shared / name, tmp_path / "there.jsonl", by)
    convert(tmp_path / "there.jsonl", tmp_path / "back.jsonl", "alpaca")
    before = [row for _, row in samples("alpaca", rows(shared / name))]
    after = [row for _, row in samples("alpaca", rows(tmp_path / "back.jsonl"))]
    assert [one.turns() for one in after] == [one.turns() for one in before]
    if by == "natural_instructions":
        assert [(one.instruction, one.input, one.output) for one in after] == [
            (one.instruction, one.input, one.output) for one in before
        ]


def test_real_preferences_as_alpaca_rows_and_uneven_ones(shared, tmp_path):
    done = convert(shared / "02_alpaca/raschka_preference_1100.jsonl.gz", tmp_path / "o.jsonl", "dpo")
    assert (done.rows, done.left_out) == (1100, [])
    uneven = convert(shared / "02_alpaca/zh_extra_topics.jsonl.gz", tmp_path / "u.jsonl", "messages")
    assert uneven.rows + len(uneven.left_out) == 3000 and uneven.rows > 2900


def test_every_format_reads_as_records(shared, tmp_path):
    dpo = shared / "02_alpaca/llamafactory_dpo_en_demo.jsonl.gz"
    task = Task("p", inputs=("instruction", "history", "system", "rejected"), target="chosen")
    found = list(read(Source(dpo, "dpo"), task))
    assert len(found) == 300 and all(isinstance(row, Record) and row.fields["rejected"] for row in found)
    turns = next(json.loads(row.fields["history"]) for row in found if row.fields["history"])
    assert [turn["role"] for turn in turns[:2]] == ["user", "assistant"]
    import pyarrow as pa
    import pyarrow.parquet as pq

    chat = {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]}
    pq.write_table(pa.Table.from_pylist([chat]), tmp_path / "a.parquet")
    (row,) = read(Source(tmp_path / "a.parquet", "messages"), Task("c", inputs=("instruction",)))
    assert (row.fields["instruction"], row.fields["output"]) == ("问", "答")


def test_rows_that_cannot_be_converted_are_told(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\nbroken\n{"output": "c"}\n')
    done = convert(tmp_path / "a.jsonl", tmp_path / "o.jsonl", "messages")
    assert done.rows == 1 and [where for where, _ in done.left_out] == ["a.jsonl:2", "a.jsonl:3"]
    with pytest.raises(DataError, match="not a known format; the rows have: x"):
        (tmp_path / "b.jsonl").write_text('{"x": 1}\n')
        convert(tmp_path / "b.jsonl", tmp_path / "o.jsonl", "messages")
    with pytest.raises(DataError, match="unknown format 'xml'"):
        convert(tmp_path / "a.jsonl", tmp_path / "o.jsonl", "xml")
    assert not list(tmp_path.glob(".*.tmp"))


def test_lone_surrogates_are_converted_as_they_are(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"instruction": "\\ud800", "output": "b"}\n')
    convert(tmp_path / "a.jsonl", tmp_path / "o.jsonl", "alpaca")
    assert json.loads((tmp_path / "o.jsonl").read_text())["instruction"] == "\ud800"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_cannot_be_written_leaves_the_older_file_as_it_was(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(sets, "BATCH", 2)
    out = tmp_path / f"a.{kind}"
    out.write_text("older")
    with pytest.raises(DataError, match="'b'"), sets.Writer(out) as file:
        for row in ({"a": 1}, {"a": 2}, {"a": 3, "b": 4}):  # the odd one comes when the file is closed
            file.write(row)
    assert out.read_text() == "older" and [path.name for path in tmp_path.iterdir()] == [out.name]
