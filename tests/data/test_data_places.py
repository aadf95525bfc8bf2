"""Where rows may come from: folders, databases, Arrow, subtitles; each streams, none is written to, and what is broken is said."""

import gzip
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.data import MAX_FIELD, Source, kinds, read, rows
from zhiling.errors import DataError
from zhiling.types import Record, Reject, Task

TASK = Task("t", inputs=("text",), target="label")
ROWS = [{"text": "房间很干净", "label": "正面"}, {"text": "Cold soup {{ label }}", "label": "negative"}]


def both(path, task=TASK, **more):
    items = list(read(Source(path, **more), task))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Reject)]


def fields(path, **more):
    return [{key: r.fields[key] for key in ("text", "label")} for r in both(path, **more)[0]]


def arrow_file(path, table, form):
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    opened = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}[form]
    with pa.OSFile(str(path), "wb") as sink, opened(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    return path


def database(path, script="", rows=ROWS):
    with sqlite3.connect(path) as base:
        base.execute("create table reviews (text text, label text)")
        base.executemany("insert into reviews values (:text, :label)", rows)
        base.executescript(script)
    base.close()
    return path


@pytest.mark.parametrize("form", ["file", "stream"])
def test_arrow_in_both_forms(tmp_path, form):
    import pyarrow as pa

    path = arrow_file(tmp_path / "a.arrow", pa.Table.from_pylist(ROWS), form)
    assert fields(path) == ROWS
    assert [line for line, _ in rows(path)] == [1, 2]


@pytest.mark.parametrize(("form", "kept"), [("file", 0), ("stream", 1)])
def test_an_arrow_file_cut_short_says_so(tmp_path, form, kept):
    import pyarrow as pa

    path = arrow_file(tmp_path / "a.arrow", pa.Table.from_pylist(ROWS), form)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    seen = []
    with pytest.raises(DataError, match="Arrow file"):
        seen += [row for _, row in _collecting(rows(path), seen)]
    assert len(seen) <= max(kept, 1)


def _collecting(stream, seen):
    for item in stream:
        seen.append(item)
    return []


def saved(folder, table):
    """As `datasets.Dataset.save_to_disk` lays a data set out, in two files."""
    arrow_file(folder / "data-00000-of-00002.arrow", table.slice(0, 1), "stream")
    arrow_file(folder / "data-00001-of-00002.arrow", table.slice(1), "stream")
    listed = [{"filename": f"data-{i:05d}-of-00002.arrow"} for i in range(2)]
    state = {"_data_files": listed, "_fingerprint": "f", "_format_type": None, "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}, "splits": {}}))
    return folder


def test_a_saved_data_set_and_one_with_splits(tmp_path):
    import pyarrow as pa

    table = pa.Table.from_pylist(ROWS)
    assert fields(saved(tmp_path / "one", table)) == ROWS
    good, _ = both(tmp_path / "one")
    assert [(r.file, r.line) for r in good] == [
        ("one/data-00000-of-00002.arrow", 1),
        ("one/data-00001-of-00002.arrow", 1),
    ]
    saved(tmp_path / "dict" / "train", table)
    saved(tmp_path / "dict" / "test", table.slice(0, 1))
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert fields(tmp_path / "dict", table="train") == ROWS
    with pytest.raises(DataError, match="set table: one of train, test"):
        fields(tmp_path / "dict")
    with pytest.raises(DataError, match="no split 'dev' — there are: train, test"):
        fields(tmp_path / "dict", table="dev")


def test_a_data_set_cannot_name_files_outside_itself(tmp_path):
    import pyarrow as pa

    folder = saved(tmp_path / "one", pa.Table.from_pylist(ROWS))
    (tmp_path / "secret.arrow").write_bytes(b"x")
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../secret.arrow"}]}')
    with pytest.raises(DataError, match="which is not in it"):
        fields(folder)


def test_a_published_folder_of_parts(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "data set"
    for i, row in enumerate(ROWS):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row]), folder / "data" / f"train-{i:05d}-of-00002.parquet")
    (folder / "README.rst").write_text("about")
    assert fields(folder) == ROWS
    (folder / "data" / "test-00000.jsonl").write_text(json.dumps(ROWS[0]) + "\n", encoding="utf-8")
    assert fields(folder, table="test") == ROWS[:1]
    with pytest.raises(DataError, match="one of test, train"):
        fields(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data file in this folder"):
        fields(tmp_path / "empty")


def test_sqlite_tables_and_views(tmp_path):
    path = database(tmp_path / "旅馆 ?#.sqlite", "create view bad as select * from reviews where label = 'negative';")
    assert fields(path, table="reviews") == ROWS and fields(path, table="bad") == ROWS[1:]
    (good, *_), _ = both(path, table="reviews")
    assert (good.file, good.line) == ("旅馆 ?#.sqlite:reviews", 1)
    with pytest.raises(DataError, match="2 tables, and none is named — set table: one of bad, reviews"):
        fields(path)
    with pytest.raises(DataError, match="no table 'x; drop table reviews'"):
        fields(path, table="x; drop table reviews")
    assert fields(database(tmp_path / "one.db")) == ROWS


def test_a_database_is_only_read(tmp_path):
    path = database(tmp_path / "wal.sqlite", "pragma journal_mode = wal;")
    before = path.read_bytes()
    assert fields(path) == ROWS
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["wal.sqlite"]
    writer = sqlite3.connect(path)  # what another program has written but not yet folded in is there too
    writer.execute("insert into reviews values ('new', 'y')")
    writer.commit()
    assert len(fields(path)) == 3
    writer.close()


def test_what_sqlite_holds_beside_text(tmp_path):
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as base:
        base.execute("create table t (text, label, picture blob)")
        rows_ = [(5, 1.5, b"\xff\xd8"), (None, "y", None), (b"\xe5\xa5\xbd", "y", b"ok"), ("a\0b", "y", None)]
        base.executemany("insert into t values (?, ?, ?)", rows_)
        base.execute("insert into t values (cast(x'ff41' as text), 'y', null)")
    base.close()
    good, bad = both(path)
    assert [r.fields["text"] for r in good] == ["5", "", "好", "a\0b"]
    assert "picture" not in good[0].fields and good[2].fields["picture"] == "ok"
    assert [(b.where, b.state) for b in bad] == [("a.sqlite:5", "quarantined")] and "not valid Unicode" in bad[0].why


def test_duckdb_tables_reach_nothing_else(tmp_path):
    import duckdb

    path = tmp_path / "a.duckdb"
    (tmp_path / "secret.csv").write_text("text,label\nsecret,y\n")
    with duckdb.connect(str(path)) as base:
        base.execute("create table reviews (text varchar, label varchar, day date)")
        base.executemany("insert into reviews values (?, ?, '2026-01-02')", [list(row.values()) for row in ROWS])
        base.execute(f"create view spy as select * from read_csv('{tmp_path / 'secret.csv'}')")
    before = path.read_bytes()
    assert fields(path, table="reviews") == ROWS
    assert both(path, table="reviews")[0][0].fields["day"] == "2026-01-02"
    with pytest.raises(DataError, match="disabled by configuration"):
        fields(path, table="spy")
    assert path.read_bytes() == before


def test_a_parquet_file_with_a_damaged_page_or_an_impossible_date_says_so(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [str(i) * 50 for i in range(20_000)]}), tmp_path / "page.parquet", compression="zstd")
    data = bytearray((tmp_path / "page.parquet").read_bytes())
    data[2000:2600] = bytes(byte ^ 0x5A for byte in data[2000:2600])
    (tmp_path / "page.parquet").write_bytes(data)
    pq.write_table(pa.table({"a": pa.array([2**62], pa.timestamp("us"))}), tmp_path / "date.parquet")
    for name in ("page", "date"):
        with pytest.raises(
            DataError, match=rf"{name}\.parquet: (cannot read this as Parquet|the Parquet file is unreadable)"
        ):
            list(rows(tmp_path / f"{name}.parquet"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", '{"_data_files": "x"}'),
        ("state.json", '{"_data_files": [1]}'),
        ("dataset_dict.json", '{"splits": 5}'),
    ],
)
def test_a_data_set_whose_listing_is_no_list(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError):
        list(rows(tmp_path))


@pytest.mark.parametrize("name", ["a.sqlite", "a.duckdb", "a.arrow", "a.parquet"])
def test_what_is_not_what_its_name_says(tmp_path, name):
    (tmp_path / name).write_text("not at all what the name says, not in the least" * 50)
    with pytest.raises(DataError, match="cannot read this as"):
        fields(tmp_path / name)
    with pytest.raises(DataError, match="'table' is for databases"):
        fields(tmp_path / name, table="x", format="csv")


SRT = (
    "1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>你好，世界。</i>\r\nHello, world.\r\n\r\n"
    "2\n00:00:03,000 --> 00:00:04,000 X1:10\n{\\an8}Only English\nin two lines\n\n3\nno times here\n\n4\n0:1 --> 0:2\nbad\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_subtitles_and_bilingual_cues(tmp_path, encoding):
    path = tmp_path / "a.srt"
    path.write_bytes(SRT.encode(encoding))
    found = list(rows(path))
    assert found[0] == (2, {"start": "00:00:01,000", "end": "00:00:02,500", "text": "你好，世界。\nHello, world.", "zh": "你好，世界。", "en": "Hello, world."})  # fmt: skip
    assert found[1][1]["en"] == found[1][1]["text"] == "Only English\nin two lines" and found[1][1]["zh"] == ""
    assert [(line, isinstance(row, str)) for line, row in found[2:]] == [(11, True), (15, True)]


def test_vtt_and_ass(tmp_path):
    (tmp_path / "a.vtt").write_text(
        "WEBVTT\n\nNOTE a\nb\n\nSTYLE\n::cue {}\n\nintro\n00:01.000 --> 00:02.000 align:left\n<v Ann>Hi\n"
    )
    assert [(line, row["text"], row["start"]) for line, row in rows(tmp_path / "a.vtt")] == [(10, "Hi", "00:01.000")]
    (tmp_path / "a.ass").write_text(
        "[Events]\nFormat: Layer, Start, End, Style, Text\nDialogue: 0,0:00:01.00,0:00:02.00,D,{\\b1}早上好,各位\\NGood morning, all\nDialogue: 0,1\n",
        encoding="utf-8",
    )
    (_, cue), (_, bad) = rows(tmp_path / "a.ass")
    assert (cue["zh"], cue["en"]) == ("早上好,各位", "Good morning, all") and isinstance(bad, str)


def test_real_subtitles_and_databases(shared):
    folder = shared / "10_parallel_docs/subtitles"
    for path in sorted(folder.glob("*.srt")):
        blocks = path.read_text(encoding="utf-8-sig").count("-->")
        found = [row for _, row in rows(path)]
        side, other = ("zh", "en") if ".zh." in path.name else ("en", "zh")
        assert len(found) == blocks and not any(isinstance(row, str) for row in found)
        assert sum(bool(row[side]) for row in found) > 0.9 * blocks > sum(bool(row[other]) for row in found)
    for path in sorted(folder.glob("*.ass")):
        found = [row for _, row in rows(path)]
        assert sum(bool(row["zh"] and row["en"]) for row in found if not isinstance(row, str)) > 0.5 * len(found)
    assert len(list(rows(folder / "elephantsdream.captions.en.vtt"))) > 50
    chinook = shared / "10b_text2sql/db/Chinook_Sqlite.sqlite"
    assert len(list(rows(chinook, table="Track"))) == 3503


def test_gzip_is_told_by_content_and_a_cut_one_is_named(tmp_path):
    text = "\n".join(json.dumps({"text": f"{i}", "label": "y"}) for i in range(5000))
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "plain.jsonl.gz").write_text(text)
    assert len(fields(tmp_path / "a.jsonl")) == len(fields(tmp_path / "plain.jsonl.gz")) == 5000
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(text.encode())[:-2000])
    with pytest.raises(DataError, match=r"cut.jsonl.gz: the gzip file is damaged or cut short"):
        fields(tmp_path / "cut.jsonl.gz")


def test_the_first_chinese_row_decides_however_late_it_comes(tmp_path):
    head = "text,label\n" + "plain English,y\n" * 10_000
    for encoding in ("gbk", "utf-8", "gb18030"):
        (tmp_path / "a.csv").write_bytes((head + "价格便宜，服务周到,正面\n").encode(encoding))
        good, bad = both(tmp_path / "a.csv")
        assert good[-1].fields["text"] == "价格便宜，服务周到" and not bad


def test_a_quote_that_is_never_closed_costs_its_own_line(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\na,y\n"open,y\nb,y\n"two\nlines",y\nc,y\n')
    good, bad = both(tmp_path / "a.csv")
    assert [r.fields["text"] for r in good] == ["a", "b", "two\nlines", "c"]
    assert [(b.where, b.why) for b in bad] == [("a.csv:3", "broken CSV: a quote in the middle of a cell")]
    (tmp_path / "b.csv").write_text('text,label\na,y\n"open,y\nb,y\nc,y\n')
    good, bad = both(tmp_path / "b.csv")
    assert [r.fields["text"] for r in good] == ["a", "b", "c"]
    assert [(b.where, b.why) for b in bad] == [("b.csv:3", "broken CSV: a quote is never closed")]


def test_old_line_ends_doubled_columns_and_zero_bytes(tmp_path):
    (tmp_path / "mac.csv").write_bytes(b"text,label\ra,y\rb,y\r")
    assert [row["text"] for row in fields(tmp_path / "mac.csv")] == ["a", "b"]
    (tmp_path / "zero.csv").write_bytes(b"text,label\na\0b,y\n")
    assert fields(tmp_path / "zero.csv") == [{"text": "a\0b", "label": "y"}]
    (tmp_path / "twice.csv").write_text("text,label,text\n1,2,3\n")
    with pytest.raises(DataError, match="the column 'text' stands twice"):
        fields(tmp_path / "twice.csv")


def test_json_that_is_odd(tmp_path):
    path = tmp_path / "a.jsonl"
    odd = ['{"text": 1' + "0" * 5000 + "}", '{"text": NaN, "label": 1e400}', "[" * 9000, '{"text": "x", "label": {}}']
    path.write_text("\n".join(odd))
    good, bad = both(path)
    assert [b.where for b in bad] == ["a.jsonl:1", "a.jsonl:3"]
    assert [r.fields["label"] for r in good] == ["inf", "{}"]
    for name, text in (("lines.json", '{"text": "a", "label": "b"}\n' * 2), ("data.json", '{"data": [{"text": "a", "label": "b"}, 7]}'), ("one.json", '{"text": "a",\n "label": "b"}')):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert fields(tmp_path / name)[0] == {"text": "a", "label": "b"}


@settings(max_examples=60)
@given(st.lists(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.dictionaries(st.text(max_size=3), x, max_size=3) | st.lists(x, max_size=3), max_leaves=6), max_size=6), st.sampled_from([None, 2]), st.integers(1, 9))  # fmt: skip
def test_an_array_read_in_pieces_is_the_array(tmp_path_factory, values, indent, chunk):
    from zhiling.data import jsons

    path = tmp_path_factory.mktemp("j") / "a.json"
    path.write_text(json.dumps(values, indent=indent), encoding="utf-8")
    before, jsons.CHUNK = jsons.CHUNK, chunk
    try:
        found = [row for _, row in rows(path)]
    finally:
        jsons.CHUNK = before
    assert [row if isinstance(row, dict) else None for row in found] == [
        v if isinstance(v, dict) else None for v in values
    ]


@pytest.mark.parametrize("text", ['[{"a": 1} {"a": 2}]', '[{"a": 1},]', '[{"a": 1}', '[{"a": 1}] x', "[,]", "["])
def test_arrays_that_are_none(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="broken JSON"):
        list(rows(tmp_path / "a.json"))


def test_ten_megabytes_are_data_and_more_than_the_limit_is_quarantined(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("w") as out:
        for size in (10_000_000, MAX_FIELD + 1, 1):
            out.write(json.dumps({"text": "x" * size, "label": "y"}) + "\n")
    good, bad = both(path)
    assert [len(r.fields["text"]) for r in good] == [10_000_000, 1]
    assert [b.where for b in bad] == ["a.jsonl:2"] and len(bad[0].text) <= 500


def test_rows_that_are_alike_are_alike_and_their_ids_are_data(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "text": "a", "label": "y"}\n' * 2 + '{"id": 1, "text": "b", "label": "y"}\n')
    good, _ = both(path)
    assert len({r.id for r in good}) == 2 and [r.fields["id"] for r in good] == ["1", "1", "1"]


def big(kind, path: Path, count=300_000):
    row = {"text": "The kettle worked from the first day and still does. 水壶很好用。", "label": "positive"}
    if kind == "sqlite":
        return database(path, rows=({**row, "text": f"{row['text']} {i}"} for i in range(count)))
    with path.open("w", encoding="utf-8") as out:
        if kind == "csv":
            out.write("text,label\n")
            out.writelines(f"{row['text']} {i},positive\n" for i in range(count))
        else:
            text = json.dumps(row, ensure_ascii=False)
            out.write("[" if kind == "json" else "")
            out.writelines(f"{',' if kind == 'json' and i else ''}{text}\n" for i in range(count))
            out.write("]" if kind == "json" else "")
    return path


COUNT = """
import resource, sys, pathlib
from zhiling.data import rows
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
stream = rows(pathlib.Path(sys.argv[1]))
for _ in range(3000): next(stream)
before = peak()
print(3000 + sum(1 for _ in stream), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "sqlite"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    path = big(kind, tmp_path / f"a.{kind}")
    done = subprocess.run([sys.executable, "-c", COUNT, str(path)], capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 300_000 and path.stat().st_size > 20_000_000 and grown < 6_000  # kilobytes


def test_every_format_is_named_when_none_fits(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(DataError, match="alpaca, arrow, ass, csv, docx, dpo, duckdb"):
        fields(tmp_path / "a.xlsx")
    assert {
        "csv",
        "tsv",
        "json",
        "jsonl",
        "parquet",
        "arrow",
        "sqlite",
        "duckdb",
        "srt",
        "vtt",
        "md",
        "txt",
        "kto",
    } <= set(kinds())


def test_a_table_that_is_not_there_is_told_in_chinese(tmp_path, monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(DataError, match="没有名为“订单”的表 — 请设置 table：reviews 之一"):
        fields(database(tmp_path / "a.sqlite"), table="订单")
