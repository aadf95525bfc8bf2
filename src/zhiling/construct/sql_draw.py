"""Questions about a database with the query that answers them, drawn from its tables: no model is asked. In zh and en alike.

What a question says and what its query does are built from one draw, so that they cannot part; in the manner of the grammars of GraPPa
(Yu et al. 2021, arXiv:2009.13845). They are plain: a model may word them better, but not more truly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from zhiling.construct.verify.sql_schema import Column, Link, Schema, quoted

_number = re.compile(r"int|real|num|dec|doub|float|money", re.IGNORECASE)
_key = re.compile(
    r"(?:^|_)(?:id|key|code|no|num|zip|phone|year|month)s?$|[a-z](?:Id|ID)$|编号|序号|^(?:is|has)_|flag", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A question in both languages, its query, and a column that the query cannot do without, as (table, column)."""

    en: str
    zh: str
    query: str
    needs: tuple[str, str]


def draw(schema: Schema, random: Random) -> Drawn | None:
    """One question, None where the tables drawn do not serve the kind that was drawn. The same for the same state of `random`."""
    kind = random.choice(_KINDS)
    table = random.choice(list(schema.tables))
    return next(kind(schema, table, random), None)


def spoken(name: str) -> str:
    """A name as words: "unitPrice" and "unit_price" as "unit price"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").strip().lower() if name.isascii() else name


def literal(value: str, column: Column) -> str:
    """A value as SQL writes it."""
    return (
        value
        if _number.search(column.type) and re.fullmatch(r"-?\d+(?:\.\d+)?", value)
        else "'" + value.replace("'", "''") + "'"
    )


def amounts(schema: Schema, table: str) -> list[Column]:
    """Columns whose numbers can be compared and averaged: no keys, no codes."""
    keys = {link.column for link in schema.links if link.table == table} | {
        link.key for link in schema.links if link.other == table
    }
    return [
        c for c in schema.tables[table] if _number.search(c.type) and not _key.search(c.name) and c.name not in keys
    ]


def names(schema: Schema, table: str) -> list[Column]:
    """Columns that tell rows apart in words: short texts, those that are called names first."""
    texts = [
        c for c in schema.tables[table] if not _number.search(c.type) and c.values and max(map(len, c.values)) < 60
    ]
    called = [c for c in texts if re.search(r"name|title|名", c.name, re.IGNORECASE)]
    return called or texts


Draws = Iterator[Drawn]


def _count(schema: Schema, table: str, random: Random) -> Draws:
    for column in _some(random, [c for c in schema.tables[table] if c.values]):
        t, c = spoken(table), spoken(column.name)
        yield Drawn(
            f"How many different values of {c} are there in {t}?", f"{t} 表中有多少种不同的 {c}？",
            f"SELECT COUNT(DISTINCT {quoted(column.name)}) FROM {quoted(table)}", (table, column.name),
        )  # fmt: skip


def _filter(schema: Schema, table: str, random: Random) -> Draws:
    for shown in _some(random, names(schema, table)):
        for by in _some(random, [c for c in schema.tables[table] if c.values and c != shown and len(c.values[0]) < 40]):
            value, t = random.choice(by.values), spoken(table)
            yield Drawn(
                f"List the {spoken(shown.name)} of every {t} whose {spoken(by.name)} is {value}.",
                f"列出 {t} 表中 {spoken(by.name)} 为 {value} 的所有 {spoken(shown.name)}。",
                f"SELECT {quoted(shown.name)} FROM {quoted(table)} WHERE {quoted(by.name)} = {literal(value, by)}", (table, by.name),
            )  # fmt: skip


def _extreme(schema: Schema, table: str, random: Random) -> Draws:
    for amount in _some(random, amounts(schema, table)):
        for shown in _some(random, names(schema, table)):
            high = random.random() < 0.5
            count = random.choice((1, 3, 5))
            t, a, n = spoken(table), spoken(amount.name), spoken(shown.name)
            en, zh = ("highest", "最高") if high else ("lowest", "最低")
            yield Drawn(
                f"Which {count} {n} of {t} have the {en} {a}?" if count > 1 else f"Which {n} of {t} has the {en} {a}?",
                f"{t} 表中 {a} {zh}的{f'前 {count} 个' if count > 1 else ''} {n} 是什么？",
                f"SELECT {quoted(shown.name)} FROM {quoted(table)} WHERE {quoted(amount.name)} IS NOT NULL "
                f"ORDER BY {quoted(amount.name)} {'DESC' if high else 'ASC'} LIMIT {count}", (table, amount.name),
            )  # fmt: skip


_MEASURES = (("AVG", "average", "平均"), ("SUM", "total", "总"), ("MAX", "highest", "最高"), ("MIN", "lowest", "最低"))


def _mean(schema: Schema, table: str, random: Random) -> Draws:
    for amount in _some(random, amounts(schema, table)):
        does, en, zh = random.choice(
            (("AVG", "average", "平均"), ("SUM", "total", "总"), ("MAX", "highest", "最高"), ("MIN", "lowest", "最低"))
        )
        t, a = spoken(table), spoken(amount.name)
        yield Drawn(
            f"What is the {en} {a} in {t}?", f"{t} 表中 {a} 的{zh}值是多少？", f"SELECT {does}({quoted(amount.name)}) FROM {quoted(table)}",
            (table, amount.name),
        )  # fmt: skip


def _groups(schema: Schema, table: str, random: Random) -> Draws:
    for by in _some(random, names(schema, table)):
        t, b, many = spoken(table), spoken(by.name), random.random() < 0.5
        tail = " HAVING COUNT(*) > 1" if many else ""
        only_en, only_zh = (", counting only those with more than one", "，只看多于一条的") if many else ("", "")
        yield Drawn(
            f"How many rows of {t} are there for each {b}{only_en}?", f"{t} 表中每个 {b} 各有多少条记录{only_zh}？",
            f"SELECT {quoted(by.name)}, COUNT(*) FROM {quoted(table)} GROUP BY {quoted(by.name)}{tail}", (table, by.name),
        )  # fmt: skip


def _joined(schema: Schema, table: str, random: Random) -> Draws:
    for link in _some(random, [link for link in schema.links if link.table == table and link.other != table]):
        for shown in _some(random, names(schema, link.other)):
            yield random.choice((_each, _most))(link, shown)


def _each(link: Link, shown: Column) -> Drawn:
    t, o, n = spoken(link.table), spoken(link.other), spoken(shown.name)
    return Drawn(
        f"How many {t} rows belong to each {n} of {o}?", f"{o} 表的每个 {n} 各对应多少条 {t} 记录？",
        f"SELECT b.{quoted(shown.name)}, COUNT(*) FROM {_join(link)} GROUP BY b.{quoted(shown.name)}", (link.other, shown.name),
    )  # fmt: skip


def _most(link: Link, shown: Column) -> Drawn:
    t, o, n = spoken(link.table), spoken(link.other), spoken(shown.name)
    return Drawn(
        f"Which {n} of {o} has the most {t} rows?", f"{o} 表中哪个 {n} 对应的 {t} 记录最多？",
        f"SELECT b.{quoted(shown.name)} FROM {_join(link)} GROUP BY b.{quoted(shown.name)} ORDER BY COUNT(*) DESC LIMIT 1",
        (link.other, shown.name),
    )  # fmt: skip


def _join(link: Link) -> str:
    return f"{quoted(link.table)} a JOIN {quoted(link.other)} b ON a.{quoted(link.column)} = b.{quoted(link.key)}"


def _above(schema: Schema, table: str, random: Random) -> Draws:
    for amount in _some(random, amounts(schema, table)):
        for shown in _some(random, names(schema, table)):
            t, a, n = spoken(table), spoken(amount.name), spoken(shown.name)
            yield Drawn(
                f"Which {n} of {t} have a {a} above the average?", f"{t} 表中哪些 {n} 的 {a} 高于平均值？",
                f"SELECT {quoted(shown.name)} FROM {quoted(table)} WHERE {quoted(amount.name)} > "
                f"(SELECT AVG({quoted(amount.name)}) FROM {quoted(table)})", (table, amount.name),
            )  # fmt: skip


_KINDS: tuple[Callable[[Schema, str, Random], Draws], ...] = (
    _count,
    _filter,
    _extreme,
    _mean,
    _groups,
    _joined,
    _above,
)


def _some(random: Random, columns: list[Column] | list[Link]) -> list:  # type: ignore[type-arg]
    """The columns or links in a drawn order: the first that serves is taken."""
    return random.sample(columns, len(columns))
