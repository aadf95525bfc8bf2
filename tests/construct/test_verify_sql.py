"""The verifier of SQL: what runs is kept, what lies is refused, and no statement gets out of its file."""

import sqlite3

import pytest

from zhiling.construct import cage
from zhiling.construct.verify.sql import answers, sql, statement
from zhiling.construct.verify.sql_schema import read_schema, shown_schema
from zhiling.errors import DataError
from zhiling.types import Example

pytestmark = pytest.mark.skipif(all(cage.breach(name) for name in cage.CAGES), reason="no cage holds on this machine")


@pytest.fixture
def shop(tmp_path):
    file = tmp_path / "shop.sqlite"
    with sqlite3.connect(file) as db:
        db.executescript("""
            create table product(id integer primary key, name text, price real);
            create table 订单(编号 integer primary key, product_id integer references product(id), 数量 integer);
            insert into product values (1, 'pen', 2.5), (2, '茶', 30), (3, 'lamp', null);
            insert into 订单 values (1, 1, 10), (2, 2, 1);
        """)
    db.close()
    return file


@pytest.fixture
def duck(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    if cage.need() == "landlock":
        pytest.skip("DuckDB does not run in Landlock alone")
    file = tmp_path / "shop.duckdb"
    with duckdb.connect(str(file)) as db:
        db.execute(
            "create table product(id integer, name text, price double); insert into product values (1, 'pen', 2.5), (2, '茶', 30)"
        )
    return file


def row(output, input="", instruction="Write the query."):
    return Example("t", instruction, input, output)


def told(file, *outputs, **settings):
    rows = [output if isinstance(output, Example) else row(output) for output in outputs]
    scores = sql(rows, here=file.parent, database=file.name, **settings)
    assert [score.example for score in scores] == [r.id for r in rows]
    return [(score.value, score.why) for score in scores]


def test_queries_that_run_are_kept_and_described(shop):
    said = told(
        shop, "SELECT name, price FROM product WHERE price > 10", "```sql\nselect count(*) from 订单;\n```", "WITH t AS (SELECT 1 AS x) SELECT x FROM t",
        "查询如下：\n```sql\nSELECT name AS 名称 FROM product\n```\n",
    )  # fmt: skip
    assert said == [(1.0, "1 rows: name, price"), (1.0, "1 rows: count(*)"), (1.0, "1 rows: x"), (1.0, "3 rows: 名称")]


def test_what_does_not_run_or_finds_nothing_is_refused(shop):
    said = told(
        shop, "SELECT colour FROM product", "SELECT * FROM customer", "SELEC * FROM product", "SELECT name FROM product WHERE price > 1000", "SELECT sum(price) FROM product WHERE id = 99", "",
        "SELECT name FROM",
    )  # fmt: skip
    assert [value for value, _ in said] == [0.0, 0.0, None, 0.0, 0.0, 0.0, 0.0]
    assert "no such column: colour" in said[0][1] and "needs a refusal" in said[0][1]
    assert "no such table: customer" in said[1][1]
    assert said[3][1] == said[4][1] == "it runs, but finds nothing"
    assert told(shop, "SELECT name FROM product WHERE price > 1000", empty="keep") == [(1.0, "0 rows: name")]


def test_the_reasons_are_said_in_chinese_too(shop, monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    said = told(shop, "SELECT colour FROM product", "无法回答：数据库中没有“颜色”。", "DELETE FROM product")
    assert [value for value, _ in said] == [0.0, 1.0, 0.0]
    assert "应当拒答" in said[0][1] and said[1][1] == "正确拒答：没有“颜色”" and "不允许" in said[2][1]


def test_a_refusal_must_name_what_is_really_missing(shop):
    said = told(
        shop, 'This cannot be answered: there is no column "colour" in product.', "无法回答：product 表没有“颜色”列。", 'This cannot be answered: there is no column "price".',
        "无法回答：缺少“数量”。", "I cannot answer that.", "This cannot be answered: the table `product` has no `discount`.",
    )  # fmt: skip
    assert [value for value, _ in said] == [1.0, 1.0, 0.0, 0.0, None, 1.0]
    assert "which is there" in said[2][1]


def test_the_schema_that_a_row_shows_is_what_it_may_use(shop):
    shown = "CREATE TABLE product (\n  id INTEGER,\n  name TEXT\n);\nWhich is the dearest product?"
    said = told(
        shop, row("SELECT name FROM product ORDER BY price DESC LIMIT 1", shown), row("SELECT name FROM product", shown), row('There is no "price".', shown),
        row("SELECT price FROM product", "表结构：product(id, name)\n问题：多少钱？"), row("SELECT name FROM product", "Schema: product(id, name)\nQuestion: which price (roughly, in euro)?"),
    )  # fmt: skip
    assert [value for value, _ in said] == [0.0, 1.0, 1.0, 0.0, 1.0]
    assert "the row shows" in said[0][1]


WRITES = [
    "DELETE FROM product", "UPDATE product SET price = 0", "INSERT INTO product VALUES (9, 'x', 1)", "DROP TABLE product", "CREATE TABLE t(x)", "ALTER TABLE product ADD x", "VACUUM",
    "VACUUM INTO '{out}'", "PRAGMA writable_schema=1", "PRAGMA journal_mode=WAL", "ATTACH '{out}' AS o", "ATTACH '{secret}' AS s", "SELECT 1; DROP TABLE product", "SELECT 1; ATTACH '{out}' AS o",
    "WITH t AS (SELECT 1) DELETE FROM product", "WITH t AS (SELECT 1) INSERT INTO product SELECT 9, 'x', 1", "BEGIN IMMEDIATE", "REINDEX", "EXPLAIN DELETE FROM product", "CREATE TEMP TABLE t AS SELECT 1",
]  # fmt: skip
READS = [
    "SELECT load_extension('{secret}')", "SELECT readfile('{secret}')", "SELECT writefile('{out}', 'x')", "SELECT edit('x')", "SELECT * FROM pragma_database_list", "SELECT fts3_tokenizer('simple', x'00')",
    "SELECT * FROM fsdir('/')", "SELECT * FROM csv('{secret}')", "SELECT * FROM dbstat",
]  # fmt: skip
BOMBS = [
    "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t", "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT group_concat(x) FROM t",
    "SELECT hex(randomblob(2000000000))", "SELECT zeroblob(2000000000)", "SELECT printf('%.*c', 2000000000, 'x')", "SELECT replace(hex(zeroblob(4000000)), '0', 'aaaaaaaa')",
    "SELECT count(*) FROM product a, product b, product c, product d, product e, product f, product g, product h, product i, product j, product k, product l, product m, product n, product o, product p, product q, product r, product s",
    "WITH RECURSIVE t(x) AS (SELECT randomblob(1000000) UNION ALL SELECT randomblob(1000000) FROM t) SELECT * FROM t",
]  # fmt: skip


def test_no_statement_writes_or_leaves_its_file(shop, tmp_path):
    secret, out = tmp_path / "secret.sqlite", tmp_path / "out.sqlite"
    with sqlite3.connect(secret) as db:
        db.execute("create table key(value)")
    before, kept = shop.read_bytes(), secret.read_bytes()
    asked = [attack.format(secret=secret, out=out) for attack in WRITES + READS]
    said = told(shop, *asked)
    assert [(attack, value) for attack, (value, _) in zip(asked, said, strict=True) if value != 0.0] == []
    assert shop.read_bytes() == before and secret.read_bytes() == kept and not out.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret.sqlite", "shop.sqlite"]


def test_no_statement_runs_past_its_limits(shop):
    said = told(shop, *BOMBS, seconds=0.3, memory=128)
    assert [(attack, value) for attack, (value, _) in zip(BOMBS, said, strict=True) if value == 1.0] == []
    assert "ran past its limit" in said[0][1]
    more = told(
        shop, "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT * FROM t", seconds=5, rows=100
    )
    assert more == [(1.0, "100+ rows: x")]


def test_duckdb_is_read_and_shut_as_well(duck, tmp_path):
    secret, out = tmp_path / "secret.csv", tmp_path / "out.csv"
    secret.write_text("a,b\n1,2\n")
    before = duck.read_bytes()
    good = told(
        duck,
        "SELECT name, price FROM product ORDER BY price DESC",
        "FROM product",
        "SELECT median(price) FROM product",
        "SELECT colour FROM product",
    )
    assert [value for value, _ in good] == [1.0, 1.0, 1.0, 0.0] and "needs a refusal" in good[3][1]
    attacks = [
        f"SELECT * FROM read_csv('{secret}')", f"SELECT * FROM '{secret}'", f"COPY product TO '{out}'", "SELECT * FROM read_csv('https://example.org/x.csv')", "INSTALL httpfs", "LOAD httpfs",
        f"SELECT * FROM read_text('{secret}')", "SELECT * FROM glob('/*')", f"ATTACH '{out}' AS o", "DELETE FROM product", "SET enable_external_access=true", "SELECT 1; DROP TABLE product",
        "SELECT getenv('HOME')", f"EXPORT DATABASE '{out}'", "CREATE TABLE t AS SELECT 1", "PRAGMA database_list", "CALL pragma_version()", "WITH t AS (SELECT 1) DELETE FROM product",
    ]  # fmt: skip
    said = told(duck, *attacks)
    assert [(attack, value) for attack, (value, _) in zip(attacks, said, strict=True) if value != 0.0] == []
    assert duck.read_bytes() == before and not out.exists()
    bombs = [
        "SELECT count(*) FROM range(100000000000) a, range(100000) b",
        "SELECT repeat('x', 2000000000)",
        "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t",
    ]
    assert not [value for value, _ in told(duck, *bombs, seconds=0.5, memory=256) if value == 1.0]


def test_a_script_of_tables_serves_where_there_is_no_database(tmp_path):
    file = tmp_path / "schema.sql"
    file.write_text(
        "CREATE TABLE 学生(学号 INTEGER, 姓名 TEXT, 年级 INTEGER);\nCREATE TABLE course(id INTEGER, title TEXT);",
        encoding="utf-8",
    )
    said = told(file, "SELECT COUNT(*) FROM 学生 WHERE 年级 = 3", "SELECT 姓名 FROM 学生", "SELECT teacher FROM course")
    assert [value for value, _ in said] == [1.0, 1.0, 0.0]
    hostile = tmp_path / "hostile.sql"
    hostile.write_text(f"CREATE TABLE t(x); ATTACH '{tmp_path / 'new'}' AS n; CREATE TABLE n.y(z);")
    with pytest.raises(DataError, match="cannot be read"):
        read_schema(hostile)
    endless = tmp_path / "endless.sql"
    endless.write_text(
        "CREATE TABLE t(x); INSERT INTO t WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r;"
    )
    with pytest.raises(DataError, match="cannot be read"):
        read_schema(endless)


@pytest.mark.parametrize(("make", "word", "zh"), [
    (lambda p: None, "no such database", "没有这个"), (lambda p: p.write_text("hello, not a database at all, just text"), "no database", "不是数据库"),
    (lambda p: sqlite3.connect(p).close(), "no tables", "没有表"), (lambda p: p.mkdir(), "folder", "文件夹"), (lambda p: p.write_bytes(b""), "no tables", "没有表"),
])  # fmt: skip
def test_files_that_fail_us_are_explained(tmp_path, make, word, zh, monkeypatch):
    file = tmp_path / "数据 100%?.db"
    make(file)
    with pytest.raises(DataError, match=word):
        read_schema(file)
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(DataError, match=zh):
        read_schema(file)


def test_a_locked_or_half_written_database_is_explained(shop):
    with sqlite3.connect(shop, isolation_level=None) as holder:
        holder.execute("begin exclusive")
        with pytest.raises(DataError, match=r"locked.*close the program"):
            read_schema(shop)
        holder.execute("rollback")
        holder.execute("pragma journal_mode=wal")
        holder.execute("insert into product values (4, 'new', 1)")
        with pytest.raises(DataError, match="is writing to this database"):
            read_schema(shop)
    holder.close()


def test_odd_names_are_quoted_and_read_back(tmp_path):
    file = tmp_path / "a b%20?#.db"
    with sqlite3.connect(file) as db:
        db.execute('create table "order"("select" int, "two words" text, [x"y] int, 中文 int)')
        db.execute("insert into \"order\" values (1, 'a', 2, 3)")
    db.close()
    schema = read_schema(file, 2)
    again = shown_schema(schema.script)
    assert again and {t: [c.name for c in cs] for t, cs in again.tables.items()} == {
        "order": ["select", "two words", 'x"y', "中文"]
    }
    assert schema.tables["order"][1].values == ("a",)
    assert told(file, 'select "two words", 中文 from "order"')[0][0] == 1.0


@pytest.mark.parametrize(("text", "found"), [
    ("SELECT 1;", "SELECT 1"), ("-- note\nselect 1", "-- note\nselect 1"), ("Here:\n```sql\nSELECT a\nFROM b;\n```", "SELECT a\nFROM b"), ("With this schema nothing can be said", ""),
    ("Select the first one, please", "Select the first one, please"), ("无法回答", ""), ("(SELECT 1) UNION (SELECT 2)", "(SELECT 1) UNION (SELECT 2)"), ("", ""), ("Cannot be answered.", ""),
])  # fmt: skip
def test_the_statement_in_an_answer(text, found):
    assert statement(text) == found


def test_gold_queries_of_the_shared_databases_run(shared):
    import json

    folder = shared / "10b_text2sql"
    rows = [json.loads(line) for line in (folder / "defog_instruct_basic_sqlite.jsonl").read_text().splitlines()]
    rows = [r for r in rows if r["query"].count(";") <= 1]
    assert len(rows) > 20
    made = [Example("t", "Write the query.", f"Database: {r['db_name']}\n{r['question']}", r["query"]) for r in rows]
    scores = sql(made, here=folder, database="db", empty="keep")
    assert [score.why for score in scores if score.value != 1.0] == []
    broken = [
        Example(
            "t",
            "Write the query.",
            f"Database: {r['db_name']}\n{r['question']}",
            r["query"].replace("FROM ", "FROM no_", 1),
        )
        for r in rows
    ]
    assert {score.value for score in sql(broken, here=folder, database="db")} == {0.0}


def test_a_big_answer_costs_no_memory_here(shop):
    big = answers([(shop, "SELECT hex(zeroblob(4000000)) AS x, name FROM product", "")])[0]
    assert big.count == 3 and len(big.sample[0][0]) == 200
