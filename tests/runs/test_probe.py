"""Whether selection is worth it: equal tokens, nothing asked that was tuned on, an honest verdict, and a kill that costs nothing done."""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_model
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import DataError, EngineError, RecipeError
from zhiling.judging.dataset import Asked, select
from zhiling.proof import probe as room
from zhiling.proof import prove
from zhiling.proof.probe_rows import Arms
from zhiling.store import current, read
from zhiling.types import Example, Task

COLOURS = {
    "sky": "blue",
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "天空": "蓝色",
    "草地": "绿色",
    "白雪": "白色",
    "煤炭": "黑色",
}
SMALL = {"tokens": 600, "rows": 12, "seeds": 2}


def asks(count: int, clean: bool, seed: int) -> list[dict[str, str]]:
    """Rows that teach something, or whose answers are long noise."""
    rng, rows = random.Random(seed), []
    for at in range(count):
        thing, colour = rng.choice(sorted(COLOURS.items()))
        ask = (
            f"{at}{'甲' if clean else '乙'}：{thing}是什么颜色？"
            if thing > "z"
            else f"{at}{'c' if clean else 'n'}: what colour is {thing}?"
        )
        rows.append(
            {"instruction": ask, "input": "", "output": colour if clean else " ".join(rng.choices("qxzjvkwy", k=6))}
        )
    return rows


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("tiny")))


def selected(folder: Path, bound: dict[str, int], exam: bool = True) -> Path:
    """The folder of a selection that keeps the short answers, or the long ones."""
    data = written(folder / "rows.jsonl", asks(150, True, 1) + asks(150, False, 2))
    against = [written(folder / "exam.jsonl", asks(30, True, 3))] if exam else []
    chain = [
        {"heldout": {"threshold": 1.0}},
        {"decontaminate": {"threshold": 1.0}},
        {"threshold": {"scorer": "length", **bound}},
    ]
    select(Asked([data], ["length"], chain, against=against), folder / "kept.jsonl", folder / "run", workers=1)
    return folder / "run"


def told(folder: Path, base: str, **changes: object) -> dict[str, object]:
    return room.probe(folder, room.Settings(**{"model": base, **SMALL, **changes}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model that a LoRA of some steps moves."""
    place = Path(__file__).parents[1] / "tune" / "tiny_models.py"
    spec = importlib.util.spec_from_file_location("tiny_models_of_tune", place)
    assert spec is not None and spec.loader is not None
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    return str(models.tiny(tmp_path_factory.mktemp("learner"), "llama"))


@pytest.mark.slow
def test_a_planted_truth_is_told(tmp_path, learner):
    """Half of the pool answers noise; the short answers, which selection keeps, are what the evaluation file asks for."""
    found = told(selected(tmp_path, {"max": 3}), learner, tokens=3000, rows=20)
    assert found["verdict"] == "worth it" and found["low"] > 0, found
    assert found["source"] == "against"
    assert found["difference"] == pytest.approx(found["selected"] - found["random"])


def test_equal_tokens_and_nothing_asked_is_tuned_on(tmp_path, base, monkeypatch):
    seen: dict[str, list[list[str]]] = {"selected": [], "random": []}
    before = prove.tune

    def heard(model, rows, out, settings, watch):
        seen[out.name.split("-")[0]].append([row.id for row in rows])
        return before(model, rows, out, settings, watch)

    monkeypatch.setattr(prove, "tune", heard)
    folder = selected(tmp_path, {"max": 3}, exam=False)
    asked: list[str] = []
    scored = prove.likelihoods_of

    async def asking(name, tuned, rows, *rest, **more):
        asked.extend(row.id for row in rows)
        return await scored(name, tuned, rows, *rest, **more)

    monkeypatch.setattr(prove, "likelihoods_of", asking)
    found = told(folder, base)
    assert found["source"] == "pool"
    kept = {row.id for row in read(folder, [o for done in current(folder) for o in done.of("kept")])}
    for arm in ("selected", "random"):
        assert len(seen[arm]) == 2 and seen[arm][0] != seen[arm][1]
        assert not set(asked) & {row for part in seen[arm] for row in part}
    assert all(set(part) <= kept for part in seen["selected"])
    assert not all(set(part) <= kept for part in seen["random"])
    tokens = found["tuned"]
    pairs = zip(tokens["selected"]["tokens"], tokens["random"]["tokens"], strict=True)
    assert all(0 <= a - b < 40 for a, b in pairs)  # less than one row
    assert not list((folder / "probe").glob("selected-*"))  # the adapters went
    monkeypatch.setattr(prove, "tune", None)  # the second call tunes nothing
    assert told(folder, base) == found


def test_a_killed_probe_goes_on_to_the_same_end(tmp_path, base, monkeypatch):
    folder = selected(tmp_path, {"max": 3})
    before, count = prove.tune, []

    def dying(*given):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return before(*given)

    monkeypatch.setattr(prove, "tune", dying)
    with pytest.raises(KeyboardInterrupt):
        told(folder, base)
    steps: list[str] = []
    monkeypatch.setattr(prove, "tune", before)
    settings = room.Settings(model=base, **SMALL)
    found = room.probe(folder, settings, watch=lambda event: steps.append(str(event.get("task", ""))))
    tuned = {step.split(":")[0] for step in steps if step.endswith("tune")}
    assert tuned == {"3 of 4", "4 of 4"}  # the first two were finished
    (tmp_path / "other").mkdir()
    whole = told(selected(tmp_path / "other", {"max": 3}), base)
    assert {**whole, "seconds": 0} == {**found, "seconds": 0}


def test_it_says_what_it_found_in_both_languages(tmp_path, base, monkeypatch):
    folder = selected(tmp_path, {"max": 3})
    args = ["probe", str(folder), "--model", base, "--tokens", "500", "--rows", "12", "--seeds", "2"]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    assert "tuned on" in done.output and "points (95% interval" in done.output
    monkeypatch.setenv("ZHILING_LANG", "zh")
    done = CliRunner().invoke(app, args)
    assert any(word in done.output for word in ("值得筛选", "无法判断", "反而更差")) and "95% 区间" in done.output
    assert json.loads(CliRunner().invoke(app, [*args, "--json"]).output.splitlines()[-1])["seeds"] == 2


def test_mistakes_are_told(tmp_path, base):
    with pytest.raises(EngineError, match="not a run's folder"):
        room.probe(tmp_path)
    folder = selected(tmp_path, {"max": 1000})
    with pytest.raises(DataError, match="kept every row"):
        told(folder, base)
    for name, value in (("tokens", 10), ("rows", 0), ("seeds", 1), ("confidence", 1.0)):
        with pytest.raises(RecipeError, match=name):
            told(folder, base, **{name: value})


def test_a_task_with_labels_goes_by_the_answers_that_its_rows_give():
    """A Chinese wording says 正面 where the task's label is Positive; asked is between what is answered, not between what is never said."""
    rows = [Example("tone", "好吗？", text, answer) for text, answer in (("真好", "正面"), ("真差", "负面"))]
    arms = Arms(rows[:1], "heldout", [rows[1:]], [rows[:1]], {}, 2, 1)
    tone = Task("tone", labels=("Positive", "Negative"))
    assert room._by_choice(tone, arms) == replace(tone, metric="choice", labels=("正面", "负面"))
    for other in (Task("tone"), Task("tone", labels=("x",)), Task("news", labels=("a", "b"))):
        expected = other if other.labels != ("x",) else replace(other, metric="choice", labels=("正面", "负面"))
        assert room._by_choice(other, arms) == expected
