"""Whether scorers agree on the best rows, against chance."""

import random

import pytest

from zhiling.agreement import agreement
from zhiling.errors import DataError
from zhiling.store import Done, Store, write
from zhiling.types import Example, Score

ROWS = 1000


def folder_with(folder, values):
    """A run's folder with these scores, {scorer: function of a row's number}."""
    rows = sorted((Example("任务" if at % 2 else "t", f"{at}") for at in range(ROWS)), key=lambda row: row.id)
    store = Store(folder)
    store.begin()
    store.commit(
        Done("m", "merge", "all", (write(folder, "examples/a.parquet", "examples", rows),), {"firsts": [rows[0].id]})
    )
    for name, value in values.items():
        said = [Score(row.id, name, value(int(row.instruction))) for row in rows]
        store.commit(
            Done(name, f"score/{name}", "00000", (write(folder, f"scores/{name}.parquet", "scores", said),), {})
        )
    store.close()
    return folder


def test_the_same_opposite_and_unrelated_orders(tmp_path):
    lot = random.Random(1)
    drawn = [lot.random() for _ in range(ROWS)]
    told = agreement(
        folder_with(
            tmp_path,
            {
                "echo": lambda at: at / ROWS,
                "grammar": lambda at: 1 - at / ROWS,
                "relevance": lambda at: at / ROWS,
                "clarity": lambda at: drawn[at],
            },
        )
    )
    found = {(row["a"], row["b"]): row for row in told}
    assert len(told) == 6 and all(row["kept"] == 200 and row["chance"] == 40 for row in told)
    assert found["echo", "grammar"]["both"] == 200 and found["echo", "grammar"]["lift"] == 5  # a low echo is a good one
    assert found["echo", "relevance"]["both"] == 0 and found["grammar", "relevance"]["both"] == 0
    assert all(0.5 < found["clarity", other]["lift"] < 1.5 for other in ("echo", "grammar", "relevance"))


def test_ties_agree_by_chance_and_unscored_rows_do_not_count(tmp_path):
    told = agreement(folder_with(tmp_path, {"format": lambda at: 1.0, "language": lambda at: None if at % 2 else 1.0}))
    (row,) = told
    assert row["rows"] == 500 and row["kept"] == 100 and 0.5 < row["lift"] < 1.6


def test_one_scorer_has_nobody_to_agree_with(tmp_path):
    with pytest.raises(DataError, match="fewer than two scorers"):
        agreement(folder_with(tmp_path, {"echo": float, "length": float}))
