"""The report tells whether hypotheses alone give labels away: of the kept rows, with the dropped ones told by what the kept ones teach."""

from random import Random

import duckdb

from zhiling.nli import LABELS
from zhiling.report.rows import alone_told
from zhiling.types import Example


def database(habit, dropped):
    draw, rows = Random(3), []
    for at in range(60):
        for label in LABELS:
            word = {"contradiction": "never", "neutral": "perhaps", "entailment": "indeed"}[label]
            said = f"the mill {word if draw.random() < habit else ''} burnt in {draw.randint(1800, 1900)}"
            rows.append(Example("t", "Premise: note {at}".replace("{at}", str(at)), f"Hypothesis: {said}", label))
    rows.append(Example("qa", "What is a premise?", "", "A statement."))
    db = duckdb.connect(":memory:")
    columns = "id text, task text, instruction text, input text, output text"
    for view, some in (("examples", rows), ("kept", [row for row in rows if not dropped(row)])):
        db.execute(f"create table {view} ({columns})")
        db.executemany(
            f"insert into {view} values (?, ?, ?, ?, ?)",
            [(r.id, r.task, r.instruction, r.input, r.output) for r in some],
        )
    db.execute("create table verdicts (example text, selector text, kept boolean)")
    said = [(row.id, "hypothesis_only", not dropped(row)) for row in rows]
    db.executemany("insert into verdicts values (?, ?, ?)", said)
    return db


def test_what_hypotheses_give_away_is_told_of_kept_and_dropped_rows():
    (found,) = alone_told(database(0.9, lambda row: False))
    assert (found.task, found.lang, found.rows) == ("t", "en", 180) and found.gives_away
    (found,) = alone_told(database(0.5, lambda row: any(word in row.input for word in ("never", "perhaps", "indeed"))))
    assert found.rows == 180 and not found.gives_away  # the rest teaches no habit, and all rows were told by it


def test_a_run_without_such_rows_says_nothing():
    db = database(0.0, lambda row: row.task == "t")
    assert alone_told(db) == ()
