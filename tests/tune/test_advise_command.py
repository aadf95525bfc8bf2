"""`zhiling advise` as it is typed, in both languages, and what it learns from a real run."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from zhiling import advise
from zhiling.advise import Option, choose, data, learn, rows
from zhiling.advise.rows import Probe, gather, probe
from zhiling.cli import app
from zhiling.errors import DataError, RecipeError
from zhiling.proof import prove
from zhiling.tune import calibrate
from zhiling.tune.cost import Constants, Shape, shape_of
from zhiling.tune.settings import TuneSettings

MEASURED = Constants(seen=5, spread_memory=0.02, spread_time=0.1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A machine that was calibrated, its cache in a folder of its own, without the models that a test would take long to ask."""
    monkeypatch.setenv("ZHILING_CACHE", str(tmp_path / "cache"))
    calibrate.keep(MEASURED)
    monkeypatch.setattr(advise, "_embedded", lambda: False)
    return tmp_path


@pytest.fixture
def file(tmp_path):
    rows = [{"instruction": "判断评论的情感：", "input": f"这家店的面很好吃{k}", "output": "正面"} for k in range(30)]
    path = tmp_path / "mood.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def test_it_recommends_what_fits_and_knows_the_language(here, file):
    ran = CliRunner().invoke(app, ["advise", str(file), "--json", "--probe", "0", "--memory", "9", "--hours", "1000"])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    options = {(one["base"], one["method"]): one for one in told["options"]}
    assert told["facts"]["rows"] == 30 and told["facts"]["langs"] == ["zh"]
    assert "does not claim zh" in options["embedded", "lora"]["against"]
    assert any("of 9.0 GB" in why for why in options["Qwen/Qwen3-8B", "full"]["against"])
    chosen = told["choice"]
    assert not chosen["against"] and chosen["bytes"] < 9e9 and chosen["base"].startswith("Qwen/")
    assert sum(v for k, v in chosen["parts"].items() if k != "total") == pytest.approx(chosen["parts"]["total"])
    assert told["constants"]["spread_memory"] == 0.02 and told["past"]["runs"] == 0
    assert all(row["source"] and row["date"] for row in told["hire"])


@pytest.mark.parametrize(
    ("lang", "said"),
    [("zh", ("推荐", "内存峰值", "需先下载")), ("en", ("recommended", "memory at its peak", "must be fetched"))],
)
def test_it_speaks_both_languages(here, file, monkeypatch, lang, said):
    monkeypatch.setenv("ZHILING_LANG", lang)
    ran = CliRunner().invoke(app, ["advise", str(file), "--probe", "0", "--memory", "9", "--hours", "1000"])
    assert ran.exit_code == 0, ran.output
    assert all(word in ran.stdout for word in said)


@pytest.mark.parametrize(("seen", "said"), [(0, "not measured"), (2, "only 2 measurements"), (5, "within 2%")])
def test_how_uncertain_it_is_follows_from_what_was_measured(here, file, seen, said):
    calibrate.keep(Constants(seen=seen, **({"spread_memory": 0.02, "spread_time": 0.1} if seen > 2 else {})))
    ran = CliRunner().invoke(app, ["advise", str(file), "--probe", "0", "--memory", "9"])
    assert ran.exit_code == 0 and said in ran.stdout


def test_a_budget_that_nothing_meets_is_said(here, file):
    ran = CliRunner().invoke(app, ["advise", str(file), "--probe", "0", "--memory", "0.2", "--usd", "0"])
    assert ran.exit_code == 0 and "no recommendation" in ran.stdout and "list prices" not in ran.stdout


def test_a_local_model_is_weighed_and_asked(here, file, llama):
    ran = CliRunner().invoke(
        app, ["advise", str(file), "--model", str(llama), "--probe", "2", "--memory", "1", "--json"]
    )
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    mine = next(one for one in told["options"] if one["base"] == str(llama))
    assert mine["here"] and mine["probe"]["rows"] == 2 and 0 <= mine["probe"]["value"] <= 1
    assert told["choice"]["base"] == str(llama)


def test_labels_are_weighed_and_what_could_not_be_asked_is_said(here, llama, tmp_path, monkeypatch):
    rows = [
        {"instruction": "好评还是差评？", "input": f"这家店{k}", "output": ("好评", "差评")[k % 2]} for k in range(30)
    ]
    path = tmp_path / "two.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    gathered = gather(path)
    assert next(iter(gathered.tasks.values())).labels == ("好评", "差评")
    found = probe(str(llama), gathered, 6, lambda event: None)
    assert found.rows == 6 and found.value is not None and 0 < found.value < 1  # one of the labels, whatever the model
    late = Probe(None, why="not done in 60 s")
    monkeypatch.setattr("zhiling.advise.probe", lambda *given: late)
    for lang, said in (("en", "untuned: not done"), ("zh", "微调前：not done")):
        monkeypatch.setenv("ZHILING_LANG", lang)
        assert said in CliRunner().invoke(app, ["advise", str(path), "--model", str(llama), "--memory", "9"]).stdout


def test_mistakes_are_named(here, file, tmp_path):
    def error(*arguments):
        return CliRunner().invoke(app, ["advise", *map(str, arguments)]).exception

    assert "no such file" in str(error(tmp_path / "none.jsonl"))
    assert "epochs" in str(error(file, "--set", "epchs=3")) and isinstance(error(file, "--set", "x"), RecipeError)
    assert "no such model folder" in str(error(file, "--model", tmp_path / "none"))
    (tmp_path / "empty.jsonl").write_text('{"instruction": "a", "input": "", "output": ""}\n', encoding="utf-8")
    assert isinstance(error(tmp_path / "empty.jsonl"), DataError)


def test_an_interrupt_is_one_line(here, file, monkeypatch):
    def stopped(watch):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "calibrate", stopped)
    ran = CliRunner().invoke(app, ["advise", str(file), "--again"])
    assert ran.exit_code == 1 and "interrupted" in ran.stderr and "Traceback" not in ran.stderr


def test_a_real_run_is_held_against_the_prediction(here, llama, rows, tmp_path):
    settings = TuneSettings(rank=4, epochs=1, batch_rows=7, threads=1)
    for _ in range(2):  # the second call finds the run finished: nothing was run, nothing is learnt
        prove.tune(str(llama), rows, tmp_path / "out", settings, lambda event: None)
    told = json.loads((tmp_path / "out" / learn.FILE).read_text(encoding="utf-8"))
    assert told["seconds"] > 0 and told["seconds_error"] == pytest.approx(
        told["seconds_predicted"] / told["seconds"] - 1
    )
    past = learn.past()
    assert past["runs"] == 1 and past["bytes_error"] == pytest.approx(abs(told["bytes_error"]))


def test_nothing_is_learnt_where_nothing_was_measured(llama, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("ZHILING_CACHE", str(tmp_path / "cache"))
    learn.learn(str(llama), rows, tmp_path, TuneSettings(), lambda event: None)
    assert not (tmp_path / learn.FILE).exists() and learn.past()["runs"] == 0


def _option(base, probe=None, against=(), method="lora"):
    return Option(base, base, method, 1e9, 60.0, {}, True, against, probe)


SHAPES = {"small": Shape(64, 128, 2, 2, 64, 64, 500), "large": Shape(128, 256, 2, 2, 128, 128, 500)}


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ([_option("small"), _option("large")], "large"),
        ([_option("small"), _option("large", against=("too much",))], "small"),
        ([_option("small", Probe(0.9, 0.05, 50)), _option("large", Probe(0.2, 0.1, 50))], "small"),
        ([_option("small", Probe(0.6, 0.3, 8)), _option("large", Probe(0.5, 0.3, 8))], "large"),
        ([_option("small", Probe(0.9, 0.05, 50)), _option("large", Probe(None, why="-"))], "large"),
    ],
)
def test_the_choice_goes_by_size_unless_a_probe_is_clear(options, chosen):
    found = choose(options, SHAPES)
    assert found is not None and found.base == chosen


def test_no_choice_where_nothing_will_do():
    assert choose([_option("small", against=("no",))], SHAPES) is None


def test_the_data_is_dated_and_says_where_it_is_from():
    models, hire = data("models"), data("hire")
    assert models["date"] and all(
        told["source"] and shape_of(told["shape"]).known for told in models["models"].values()
    )
    sizes = {base: shape_of(told["shape"]).parameters / 1e6 for base, told in models["models"].items()}
    known = {
        "embedded": 134.5,
        "Qwen/Qwen2.5-0.5B-Instruct": 494,
        "Qwen/Qwen2.5-1.5B-Instruct": 1544,
        "Qwen/Qwen3-0.6B": 596,
    }
    assert all(sizes[base] == pytest.approx(size, rel=0.01) for base, size in known.items())
    assert all(one["source"] and one["date"] for part in ("gpus", "apis") for one in hire[part].values())
    assert all(one["source"] and one["date"] for told in models["models"].values() for one in told.get("scores", ()))


def test_a_recipe_not_yet_run_gives_rows_and_settings():
    from importlib.resources import files

    found = rows.gather(files("zhiling") / "library" / "demo" / "recipe.yaml")
    assert found.count >= len(found.sample) > 0 and found.langs == {"en", "zh"}
    long = rows.lengths(found)
    assert 0 < long.answer < long.mean <= long.longest
    assert advise.candidates([])
