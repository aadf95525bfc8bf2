"""A selection from files says the same in memory and in blocks, in one process, two and on Ray, whatever the order of the rows."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from test_select_walk import planted, small

from zhiling.judging.dataset import Asked, select
from zhiling.pool import Pool
from zhiling.select.duplicates import exact, near
from zhiling.select.rank import fields
from zhiling.store import current, read, write

CHAIN = [
    "exact",
    {"near": {"threshold": 0.6, "keep": "grammar"}},
    {"near": {"threshold": 0.5, "over": "output"}},
    {"top": {"rows": 120, "by": ["echo", "grammar"], "similar": 0.95}},
]


def went(folder: Path) -> list[tuple[str, ...]]:
    """What each selector said of each row, and the last word on it."""
    said = [
        item
        for done in current(folder)
        for kind in ("verdicts", "ledger", "kept")
        for item in read(folder, done.of(kind))
    ]
    return [
        (item.example, item.selector, item.kept, item.why, item.rival) if hasattr(item, "selector") else item.id
        for item in said
    ]


def chosen(rows, folder: Path, **how) -> list[tuple[str, ...]]:
    folder.mkdir()
    file = folder / "rows.jsonl"
    lines = [
        json.dumps({"instruction": row.instruction, "input": row.input, "output": row.output}, ensure_ascii=False)
        for row in rows
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    select(Asked([file], ["echo", "grammar"], CHAIN), folder / "out.jsonl", folder / "run", **how)
    return went(folder / "run")


@pytest.fixture(scope="module")
def rows():
    return planted(11, 300)


@pytest.fixture(scope="module")
def whole(rows, tmp_path_factory):
    return chosen(rows, tmp_path_factory.mktemp("scale") / "whole", workers=1)


def test_in_blocks_and_another_order(rows, whole, tmp_path):
    assert (
        len({one[2] for one in whole if isinstance(one, tuple) and one[1] == "near"}) == 2
    )  # it drops some and keeps some
    shuffled = random.Random(2).sample(rows, len(rows))
    with small(tokens=500):
        assert chosen(shuffled, tmp_path / "blocks", workers=1) == whole
    assert not [file for file in (tmp_path / "blocks").rglob("*") if "tmp" in file.name]


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "workers"), [("local", 2), ("ray", 2)])
def test_on_other_engines(rows, whole, tmp_path, engine, workers):
    if engine == "ray":
        pytest.importorskip("ray")
    with small(tokens=500):
        assert chosen(rows, tmp_path / engine, engine=engine, workers=workers) == whole


def test_a_pool_is_selected_from_as_a_list_is(rows, tmp_path):
    """Without holding its rows: only the columns that are compared are read, and no row is made of them."""
    made = sorted({row.id: row for row in rows}.values(), key=lambda row: row.id)
    pool = Pool(
        tmp_path,
        [write(tmp_path, f"e/{at}.parquet", "examples", made[at : at + 100]) for at in range(0, len(made), 100)],
    )
    assert list(fields(pool, ("history", "output"))) == [(row.history, row.output) for row in made]

    class Unmade(Pool):
        def __iter__(self):
            raise AssertionError("a row was made")

    pool.__class__ = Unmade
    for selector in (exact, near):
        assert list(selector(pool, scores={})) == list(selector(made, scores={}))
