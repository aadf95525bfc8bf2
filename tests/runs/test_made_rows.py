"""Rows that a model makes, in whole runs: no data needed, the same files from one process and two, every candidate in the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from making import files

from zhiling import registry
from zhiling.errors import DataError, ProviderError
from zhiling.ledger import why
from zhiling.recipe import build, load
from zhiling.run import Run
from zhiling.store import current, read
from zhiling.types import Score

LINES = [
    "Why do leaves turn red before they fall?", "Tell me how to mend a bicycle tyre on the road.", "Which birds stay in the north all winter?",
    "Plan a supper for six that costs little.", "What should I say at a friend's wedding?", "Explain compound interest with one example.",
    "How long does fresh paint smell, and is it harmful?", "Compare wool and cotton for a long walk.", "Write a note to the neighbours about the noise.",
    "Is it safe to swim after a storm at sea?", "Give me three games to play on a train.", "How do I teach a dog to wait at the door?",
    "Suggest a name for a small bakery by the harbour.", "What is the best way to store apples?", "Describe a foggy morning in two sentences.",
    "Why does bread go stale faster in the fridge?", "How can I sleep better during hot nights?", "What do I need to grow mint indoors?",
]  # fmt: skip
BACK = ["It is best to take that slowly and to look twice.", "Most of these depend on the weather and on patience."]


def recipe(folder: Path, script=LINES, **changes):
    data = {
        "name": "made", "seed": 4, "shard_rows": 4,
        "models": {"scripted": {"provider": "fake", "script": script}},
        "tasks": {"talk": {"family": "other", "description": "Questions of everyday life.", "langs": ["en"]}},
        "construct": [{"magpie": {"rows": 10, "tries": 2.0, "template": "chatml", "repair": False}}],
        "score": ["length", "language"], "select": ["exact"], "report": False, **changes,
    }  # fmt: skip
    return build(data, folder)


def ran(made, folder: Path, workers: int = 1):
    with Run(made, folder, until="select", workers=workers) as run:
        summary = run.execute()
    kinds = ("kept", "rejects", "heldout")
    return summary, {kind: [row for done in current(folder) for row in read(folder, done.of(kind))] for kind in kinds}


def test_rows_without_any_data_balance_and_tell_where_they_come_from(tmp_path: Path):
    summary, rows = ran(recipe(tmp_path), tmp_path / "one")
    assert len(rows["kept"]) >= 5 and rows["rejects"]
    assert summary.balance.came == sum(summary.balance.states.values()) == len(rows["kept"]) + len(rows["rejects"])
    assert {row.maker.partition("#")[0] for row in rows["kept"]} == {"magpie:fake"}
    told = why(tmp_path / "one", rows["rejects"][0].id)
    assert "novelty" in str(told)


def test_one_process_and_two_write_the_same_files_and_a_second_run_asks_nothing(tmp_path: Path):
    records = "\n".join(["instruction,output", *(f'"{line}","{BACK[at % 2]} {at}"' for at, line in enumerate(LINES))])
    (tmp_path / "talk.csv").write_text(records, encoding="utf-8")
    talk = {
        "family": "other", "description": "Questions of everyday life.", "langs": ["en"], "inputs": ["instruction"], "target": "output",
        "data": "talk.csv",
    }  # fmt: skip
    steps = [
        {"evol": {"rounds": 2, "floor": 0.0}},
        {"dialogue": {"turns": 2, "least": 1, "floor": 0.0}},
        {"backtranslate": {"least": 1, "floor": 0.0}},
        {"magpie": {"rows": 6, "template": "chatml"}},
    ]
    made = recipe(tmp_path, tasks={"talk": talk}, construct=steps)
    _, rows = ran(made, tmp_path / "one")
    ways = {row.maker.partition(":")[0] for row in rows["kept"]}
    assert {"evol", "magpie"} <= ways
    ran(made, tmp_path / "two", workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    before = (tmp_path / "one" / "bills.jsonl").read_text(encoding="utf-8")
    ran(made, tmp_path / "one")
    assert (tmp_path / "one" / "bills.jsonl").read_text(encoding="utf-8") == before


def test_a_step_stopped_by_its_floor_loses_nothing_and_goes_on_with_a_lower_one(tmp_path: Path):
    refuse = "I'm sorry, but as an AI language model I cannot assist with that request."
    steps = [{"magpie": {"rows": 40, "template": "chatml"}}]
    with pytest.raises(ProviderError, match=r"only 0 of the first 32 candidates .* 32x refusal"):
        ran(recipe(tmp_path, [refuse], construct=steps), tmp_path / "run")
    paid = (tmp_path / "run" / "bills.jsonl").read_text(encoding="utf-8")
    steps[0]["magpie"] |= {"floor": 0.0, "tries": 1.0, "wave": 40}
    with pytest.raises(DataError, match="nothing was constructed"):
        ran(recipe(tmp_path, [refuse], construct=steps), tmp_path / "run")
    rejects = [row for done in current(tmp_path / "run") for row in read(tmp_path / "run", done.of("rejects"))]
    assert len(rejects) == 40 and {row.why.partition(":")[0] for row in rejects} == {"refusal"}
    bills = (tmp_path / "run" / "bills.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(json.loads(line)["calls"] for line in bills) == 40  # the first 32 were not asked again
    assert json.loads(paid.splitlines()[-1])["calls"] == 32


def test_a_verifier_of_the_task_sends_rows_back_once(tmp_path: Path, monkeypatch):
    # put back alone: what is imported meanwhile must stay registered for the tests after this one
    monkeypatch.setitem(registry._table, ("verifier", "ends_in_full_stop"), None)

    @registry.verifier("ends_in_full_stop")
    def ends(examples):
        """Whether the output is a statement."""
        for row in examples:
            fine = row.output.endswith(".")
            yield Score(row.id, "ends_in_full_stop", float(fine), "" if fine else "it is no statement")

    tasks = {"talk": {"langs": ["en"], "verifier": "ends_in_full_stop"}}
    steps = [{"magpie": {"rows": 1, "tries": 1.0, "template": "chatml", "floor": 0.0}}]
    for mended in ("They are bears, foxes and hares.", "Bears, foxes, hares"):
        script = {
            "Fault that was found:": mended,
            "im_start": "Which animals stay white in winter?",
            "Which animals": "White ones",
        }
        folder = tmp_path / mended[:4]
        if mended.endswith("."):
            _, rows = ran(recipe(tmp_path, script, tasks=tasks, construct=steps), folder)
            (row,) = rows["kept"]
            assert row.output == mended and row.maker == "magpie:fake+repair" and len(row.parents) == 3
            continue
        with pytest.raises(DataError, match="nothing was constructed"):
            ran(recipe(tmp_path, script, tasks=tasks, construct=steps), folder)
        (lost,) = [row for done in current(folder) for row in read(folder, done.of("rejects"))]
        assert lost.why == "ends_in_full_stop: it is no statement" and lost.maker == "magpie:fake+repair"


@pytest.mark.model
@pytest.mark.slow
def test_the_shipped_recipe_runs_on_the_embedded_model_and_every_candidate_is_told(tmp_path: Path):
    made = load(Path(__file__).parents[2] / "recipes" / "made_rows.yaml")
    summary, rows = ran(made, tmp_path)
    everything = [*rows["kept"], *rows["rejects"]]
    assert summary.balance.came == sum(summary.balance.states.values())
    ways = {row.maker.partition(":")[0] for row in everything}
    assert ways >= {"self_instruct", "magpie", "coverage", "evol", "backtranslate", "dialogue"}
    assert all(":" in row.why for row in rows["rejects"])
    talks = [row for row in rows["kept"] if row.maker.startswith("dialogue")]
    assert all(row.system for row in talks)
