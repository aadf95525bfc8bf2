"""Preference pairs before a judge, from the command line: agreement, abstention and the bias for a place, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loopback import Loopback
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import DataError, ProviderError
from zhiling.judging.pairs import judge_pairs, wilson

FAIR = {
    r"\[Answer A\]\n(好|good)": '{"reason": "says what was asked", "better": "A"}',
    r"\[Answer B\]\n(好|good)": '{"reason": "says what was asked", "better": "B"}',
    r"【回答 A】\n(好|good)": '{"reason": "答了所问", "better": "A"}',
    r"【回答 B】\n(好|good)": '{"reason": "答了所问", "better": "B"}',
    r"same": '{"reason": "alike", "better": "tie"}',
    r"mumble": "no json at all",
}
ROWS = [
    {"instruction": "What is water?", "chosen": "good: a liquid", "rejected": "bad"},
    {"instruction": "水是什么？", "chosen": "好：一种液体", "rejected": "坏"},
    {"instruction": "What is ice?", "chosen": "bad", "rejected": "good: frozen water"},
    {"instruction": "What is fog?", "chosen": "same", "rejected": "same"},
    {"instruction": "What is rain?", "chosen": "mumble", "rejected": "grumble mumble"},
    {"instruction": "What is snow?", "chosen": "good", "rejected": ""},
    {"instruction": "What is hail?", "chosen": 3},
]


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_row_is_counted_once_and_comes_back(tmp_path):
    found = judge_pairs(
        [written(tmp_path / "pairs.jsonl", ROWS)],
        tmp_path / "out.jsonl",
        tmp_path / "run",
        {"provider": "fake", "script": FAIR},
    )
    assert (found.rows, found.unusable, found.pairs) == (7, 2, 5)
    assert (found.agreed, found.disagreed, found.ties, found.contradicted, found.unreadable) == (2, 1, 1, 0, 1)
    assert (found.first, found.second) == (3, 3)  # a fair judge names both places alike
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["zhiling_prefer"] for row in rows] == [1, 1, 0, 0.5, None, None, None]
    assert "答了所问" in rows[1]["zhiling_why"] and all(row["zhiling_why"] for row in rows)
    assert [row["instruction"] for row in rows] == [row["instruction"] for row in ROWS]


@pytest.mark.parametrize(("place", "share"), [("A", 1.0), ("B", 0.0)])
def test_a_judge_that_likes_a_place_abstains_and_its_bias_shows(tmp_path, place, share):
    script = {".": json.dumps({"reason": "x", "better": place})}
    found = judge_pairs(
        [written(tmp_path / "p.jsonl", ROWS[:3])],
        tmp_path / "o.jsonl",
        tmp_path / "run",
        {"provider": "fake", "script": script},
    )
    told = found.told()
    assert found.contradicted == 3 and told["agreement"] is None
    assert told["abstention"]["value"] == 1.0 and told["first_place"]["value"] == share


def test_the_command_says_it_in_both_languages_and_tells_mistakes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "pairs.jsonl", ROWS)
    args = [
        "score",
        "pairs.jsonl",
        "--pairs",
        "-o",
        "out.jsonl",
        "--model",
        "provider: fake, script: " + json.dumps(FAIR),
    ]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    assert (
        "agreement   66.7%" in done.output and "abstention  20.0%" in done.output and "first place 50.0%" in done.output
    )
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert "一致率  66.7%" in CliRunner().invoke(app, args).output
    monkeypatch.setenv("ZHILING_LANG", "en")
    told = json.loads(CliRunner().invoke(app, [*args, "--json"]).output.splitlines()[-1])
    assert told["agreed"] == 2 and told["abstention"]["value"] == 0.2
    written(tmp_path / "plain.jsonl", [{"instruction": "a", "output": "b"}])
    done = CliRunner().invoke(app, ["score", "plain.jsonl", "--pairs", "-o", "out2.jsonl", "--model", "provider: fake"])
    assert isinstance(done.exception, DataError) and "chosen" in str(done.exception)


def test_an_endpoint_that_is_slow_loses_no_pair_and_is_asked_once_and_one_that_refuses_ends_the_work(tmp_path):
    rows = [{"instruction": f"Question {at}?", "chosen": f"yes {at}", "rejected": f"no {at}"} for at in range(20)]
    data = written(tmp_path / "pairs.jsonl", rows)
    with Loopback(faults={"429-soon": 0.2}) as server:
        spec = {"provider": "openai", "model": "m", "base_url": server.url}
        found = judge_pairs([data], tmp_path / "out.jsonl", tmp_path / "run", spec)
        assert (found.pairs, found.contradicted) == (20, 20)  # it fills the asked form with the same place for all
        asked = sum(server.done.values())
        again = judge_pairs([data], tmp_path / "out.jsonl", tmp_path / "run", spec)
        assert again.contradicted == 20 and sum(server.done.values()) == asked >= 40
    with Loopback(faults={"404": 1.0}) as server:
        (tmp_path / "other").mkdir()
        with pytest.raises(ProviderError):
            judge_pairs([data], tmp_path / "other/out.jsonl", tmp_path / "other", {**spec, "base_url": server.url})
    assert not (tmp_path / "other/out.jsonl").exists()


@pytest.mark.model
def test_the_embedded_model_judges_pairs(tmp_path):
    """A small model decides little; what is shown is that its words are read, in a form that it was held to."""
    data = written(tmp_path / "p.jsonl", [ROWS[0], ROWS[2]])
    found = judge_pairs([data], tmp_path / "o.jsonl", tmp_path / "run", {"provider": "gguf"})
    assert found.pairs == 2 and found.unreadable < 2
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(row["zhiling_why"] for row in rows)


def test_the_interval_of_a_share():
    assert wilson(0, 0) is None
    assert wilson(8, 10) == (0.8, 0.4902, 0.9433)  # Wilson 1927, by hand
    assert wilson(10, 10).high == 1.0
