"""Reading: every line is a record or a quarantined reject with file and line."""

import gzip
import json

import pytest

from zhiling.data import Source, encoding_of, expand, read, rows
from zhiling.errors import DataError
from zhiling.types import Record, Reject, Task

TASK = Task("t", inputs=("text",), target="label")


def both(path, task=TASK, **more):
    items = list(read(Source(path, **more), task))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Reject)]


def test_csv_with_columns_of_another_name_and_language(tmp_path):
    path = tmp_path / "评论.csv"
    path.write_text('评论,标签\n"好，\n真好",正面\n差,负面\n', encoding="utf-8")
    good, bad = both(path, columns={"text": "评论", "label": "标签"})
    assert [dict(r.fields) for r in good] == [{"text": "好，\n真好", "label": "正面"}, {"text": "差", "label": "负面"}]
    assert [r.line for r in good] == [2, 4] and not bad


def test_broken_json_in_one_line_costs_one_row(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("w") as out:
        for i in range(1, 15_001):
            out.write('{"text": "half\n' if i == 14_007 else json.dumps({"text": f"x{i}", "label": "y"}) + "\n")
    good, bad = both(path)
    assert len(good) == 14_999
    assert [b.where for b in bad] == ["a.jsonl:14007"] and bad[0].state == "quarantined" and "JSON" in bad[0].why


def test_rows_that_cannot_be_used_say_why(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "ok", "label": "y"}\n[1]\n{"text": "no label"}\n{"text": "\\ud800", "label": "y"}\n\n{"text": 5, "label": true}\n'
    )
    good, bad = both(path)
    assert [dict(r.fields) for r in good] == [{"text": "ok", "label": "y"}, {"text": "5", "label": "true"}]
    assert [(b.where, b.why) for b in bad] == [
        ("a.jsonl:2", "not a JSON object"), ("a.jsonl:3", "the field 'label' is missing"), ("a.jsonl:4", "the field 'text' is not valid Unicode"),
    ]  # fmt: skip


def test_a_wrong_column_is_an_error_at_once_and_names_what_there_is(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("review,label\ngood,pos\n")
    with pytest.raises(DataError, match=r"no column 'text'; the file has: review, label"):
        both(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_encodings(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n价格便宜，服务周到,正面\n", encoding=encoding)
    good, bad = both(path)
    assert dict(good[0].fields) == {"text": "价格便宜，服务周到", "label": "正面"} and not bad


def test_bytes_that_no_encoding_explains_cost_their_own_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\nfine,y\nbad \xff\xfe\xff,y\nfine too,y\n")
    good, bad = both(path)
    assert len(good) == 2 and [b.where for b in bad] == ["a.csv:3"]


def test_ragged_csv_rows_are_quarantined(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\na\tb\nonly one\nx\ty\tz\n")
    good, bad = both(path)
    assert len(good) == 1 and [b.where for b in bad] == ["a.tsv:3", "a.tsv:4"]


def test_gzip_json_array_and_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as out:
        out.write('{"text": "a", "label": "b"}\n')
    (tmp_path / "a.json").write_text('[{"text": "a", "label": "b"}, 3]')
    pq.write_table(pa.table({"text": ["a", None], "label": ["b", "c"]}), tmp_path / "a.parquet")
    assert len(both(tmp_path / "a.jsonl.gz")[0]) == 1
    assert [len(x) for x in both(tmp_path / "a.json")] == [1, 1]
    assert [r.fields["text"] for r in both(tmp_path / "a.parquet")[0]] == ["a", ""]


def test_a_json_array_that_is_broken_names_the_line(tmp_path):
    (tmp_path / "a.json").write_text('[\n{"text": 1, "label": 2},\n{]')
    with pytest.raises(DataError, match=r"a.json:3"):
        both(tmp_path / "a.json")


def test_a_markdown_handbook_gives_questions_with_their_passage(tmp_path):
    path = tmp_path / "h.md"
    path.write_text(
        "# Desk\n\n## Hours\n\nWe open at nine.\n\n**Q:** When do you open?\n**A:** at nine\n\n## 借书 ##\n每人五本。\n\n**问：**几本？\n**答：**五本\n\n## Why come?\n\nBooks.\n"
    )
    found = [row for _, row in rows(path)]
    assert found[0] == {
        "title": "Desk",
        "heading": "Hours",
        "passage": "We open at nine.",
        "question": "When do you open?",
        "answer": "at nine",
    }
    assert (found[1]["question"], found[1]["answer"], found[1]["passage"]) == ("几本？", "五本", "每人五本。")
    assert (found[2]["question"], found[2]["answer"]) == ("Why come?", "Books.")


def test_headings_inside_code_fences_are_text(tmp_path):
    path = tmp_path / "h.md"
    path.write_text("## A\n```\n# not a heading\n```\nend\n")
    assert [row["passage"] for _, row in rows(path)] == ["```\n# not a heading\n```\nend"]


def test_paragraphs_of_a_plain_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\n\nthree\n")
    assert [(line, row["passage"]) for line, row in rows(path)] == [(1, "one\ntwo"), (5, "three")]


def test_where_and_limit(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,kind\n" + "".join(f"x{i},y,{i % 2}\n" for i in range(10)))
    assert [r.fields["text"] for r in both(path, where={"kind": "1"}, limit=2)[0]] == ["x1", "x3"]


@pytest.mark.parametrize(("name", "content", "said"), [("a.csv", None, "no such file"), ("a.xyz", "x", "how to read"), ("a.csv", "", "no rows"), ("a.parquet", "x", "cannot read this as Parquet")])  # fmt: skip
def test_files_that_cannot_be_used_at_all(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=said):
        both(path)


def test_utf8_cut_within_a_character_at_the_probes_end_is_still_utf8():
    assert encoding_of(("好" * 30000).encode()[:65536]) == "utf-8"


def test_paths_may_use_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    assert expand("${MY_DATA}/a.csv", tmp_path / "x") == tmp_path / "a.csv"
    assert expand("b.csv", tmp_path) == tmp_path / "b.csv"
    with pytest.raises(DataError, match="NOT_SET"):
        expand("${NOT_SET}/a", tmp_path)


def test_real_files_of_both_languages(shared):
    ni = Source(shared / "05_natural_instructions/tasks.jsonl.gz", "natural_instructions", limit=300)
    found = list(read(ni, Task("ni", inputs=("input",))))
    assert len(found) == 300 and all(isinstance(r, Record) and r.fields["definition"] for r in found)
    belle = Source(shared / "04_belle/zh_seed_tasks.jsonl", "self_instruct")
    assert len(list(read(belle, Task("b", inputs=("instruction", "input"))))) == 175
    waimai = Source(shared / "11_zh_tasks/waimai_reviews.jsonl", columns={"text": "review"})
    assert sum(isinstance(r, Record) for r in read(waimai, TASK)) == 2000
