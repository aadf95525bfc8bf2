"""A shard is finished and known, or worth nothing."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling import store
from zhiling.errors import EngineError
from zhiling.types import Example, Record, Reject, Score, Template, Verdict

NOUNS = {
    "records": [Record("t", {"b": "1", "a": "二"}, "zh", "f.csv", 3)],
    "templates": [Template("t", "zh", "译：{{ s }}", parents=("a",), why="w")],
    "examples": [
        Example("t", "译", "x", "y", system="s", history=(("user", "h"), ("assistant", "g")), parents=("a", "b"))
    ],
    "scores": [Score("e", "s", None, "no"), Score("e", "s", 0.5)],
    "verdicts": [Verdict("e", "near", False, "w", "r")],
    "rejects": [Reject("t", "m", "quarantined", "w", "f:3", "text", ("p",))],
    "ledger": [store.Entry("i", "t", "m", "kept", "s")],
}


@pytest.mark.parametrize("kind", NOUNS)
def test_nouns_come_back_as_they_went(tmp_path, kind):
    output = store.write(tmp_path, f"{kind}/a.parquet", kind, NOUNS[kind])
    assert list(store.read(tmp_path, [output])) == NOUNS[kind]
    assert output.rows == len(NOUNS[kind])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(), max_size=20))
def test_any_text_is_kept_or_replaced_never_lost(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("s")
    rows = [Example("t", text, "\ud800" if i == 3 else "") for i, text in enumerate(texts)]
    back = list(store.read(folder, [store.write(folder, "examples/a.parquet", "examples", rows)]))
    assert [row.instruction for row in back] == texts and len(back) == len(rows)


def test_equal_rows_give_equal_bytes(tmp_path):
    rows = [Example("t", f"指令 {i}", "x" * i) for i in range(3000)]
    a, b = (
        store.write(tmp_path, "a.parquet", "examples", rows),
        store.write(tmp_path, "b.parquet", "examples", iter(rows)),
    )
    assert (tmp_path / a.path).read_bytes() == (tmp_path / b.path).read_bytes()


def test_a_file_is_whole_or_absent(tmp_path):
    def failing():
        yield NOUNS["examples"][0]
        raise ValueError("midway")

    with pytest.raises(ValueError):
        store.write(tmp_path, "examples/a.parquet", "examples", failing())
    assert not (tmp_path / "examples/a.parquet").exists()


def test_only_what_is_journalled_and_whole_is_found(tmp_path):
    opened = store.Store(tmp_path)
    opened.begin()
    output = store.write(tmp_path, "examples/a.parquet", "examples", NOUNS["examples"])
    assert opened.find("k") is None
    opened.commit(store.Done("k", "construct/x", "0", (output,), {"made": 1}))
    assert opened.find("k").facts == {"made": 1}
    (tmp_path / output.path).write_bytes(b"cut")
    assert opened.find("k") is None
    (tmp_path / output.path).unlink()
    assert opened.find("k") is None
    opened.close()


def test_the_current_plan_is_what_the_latest_run_stands_on(tmp_path):
    opened = store.Store(tmp_path)
    opened.begin()
    opened.commit(store.Done("old", "a", "0", (), {}))
    opened.begin()
    opened.commit(store.Done("new", "a", "0", (), {}))
    assert [done.key for done in store.current(tmp_path)] == ["new"]
    assert opened.find("old") is not None  # still known, and current again once a plan uses it
    assert [done.key for done in store.current(tmp_path)] == ["new", "old"]
    opened.close()


def test_leftovers_of_a_killed_writer_are_swept(tmp_path):
    (tmp_path / "examples").mkdir()
    left = tmp_path / "examples" / ".a.parquet.123.tmp"
    left.write_text("half")
    store.Store(tmp_path).close()
    assert not left.exists()


def test_leftovers_of_a_killed_sort_are_swept(tmp_path):
    """A sort that goes by way of the disk (`pool.in_order`) leaves a folder of the database's when it is killed."""
    left = tmp_path / ".sort.tmp"
    left.mkdir()
    (left / "duckdb_temp_storage_DEFAULT-0.tmp").write_text("half")
    (left / ".hidden.tmp").write_text("half")
    store.Store(tmp_path).close()
    assert not left.exists()


def test_two_at_work_in_one_folder_is_refused(tmp_path):
    first = store.Store(tmp_path)
    with pytest.raises(EngineError, match="another process is at work"):
        store.Store(tmp_path)
    first.close()
    store.Store(tmp_path).close()


def test_a_newer_run_and_a_foreign_journal_are_refused(tmp_path):
    store.Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as journal:
        journal.execute("pragma user_version = 99")
    with pytest.raises(EngineError, match="newer zhiling"):
        store.Store(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "journal.sqlite").write_text("not a database at all, really not one")
    with pytest.raises(EngineError, match="cannot use the journal"):
        store.Store(other)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(EngineError, match="not a run's folder"):
        store.current(tmp_path)


def test_views_show_every_kind_and_nothing_outside(tmp_path):
    import duckdb

    opened = store.Store(tmp_path)
    opened.begin()
    outputs = tuple(store.write(tmp_path, f"{kind}/a.parquet", kind, rows) for kind, rows in NOUNS.items())
    opened.commit(store.Done("k", "s", "0", outputs, {}))
    opened.close()
    base = store.views(tmp_path)
    assert base.execute("select fields['a'], line from records").fetchall() == [("二", 3)]
    assert base.execute("select count(*) from kept").fetchall() == [(0,)]
    (tmp_path.parent / "outside.csv").write_text("a\n1\n")
    with pytest.raises(duckdb.PermissionException):
        base.execute(f"select * from read_csv('{tmp_path.parent / 'outside.csv'}')")


def test_a_row_that_was_altered_is_noticed(tmp_path):
    import pyarrow.parquet as pq

    output = store.write(tmp_path, "a.parquet", "examples", NOUNS["examples"])
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    table[0]["output"] = "forged"
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(table, schema=store.schema("examples")), tmp_path / "a.parquet")
    with pytest.raises(EngineError, match="altered"):
        list(store.read(tmp_path, [output]))
