"""Every mistake in a recipe is one line with file, line and key."""

from pathlib import Path

import pytest

from zhiling.errors import RecipeError
from zhiling.recipe import load, loads

GOOD = """\
name: r
seed: 3
tasks:
  a:
    family: classification
    data: x.csv
    inputs: [text]
    target: label
    heldout: 3
construct:
  - template: {per_record: 2}
score: [length]
select:
  - near: {threshold: 0.8}
tune: {method: lora, epochs: 1}
evaluate: {rows: 10}
"""


def test_a_recipe_reads_as_written():
    recipe = loads(GOOD, Path("."))
    assert (recipe.name, recipe.seed, list(recipe.tasks)) == ("r", 3, ["a"])
    assert recipe.construct[0].kind == "template" and recipe.construct[0].per_record == 2
    assert recipe.select[0].settings["threshold"] == 0.8
    assert recipe.tune is not None and recipe.tune.settings == {"method": "lora", "epochs": 1}
    assert recipe.models == {"embedded": {"provider": "gguf"}}


WRONG = [
    (GOOD.replace("seed: 3", "sede: 3"), r"r.yaml:2 sede: unknown key 'sede' — did you mean 'seed'\?"),
    (GOOD.replace("inputs:", "input:"), r"r.yaml:7 tasks.a.input: unknown key 'input' — did you mean 'inputs'\?"),
    (GOOD.replace("heldout: 3", "heldout: many"), r"r.yaml:9 tasks.a.heldout: .*number.*got 'many'"),
    (GOOD.replace("data: x.csv", "data: {pat: x}"), r"r.yaml:6 tasks.a.data.*path.*missing"),
    (GOOD.replace("    data: x.csv\n", ""), r"r.yaml:4 tasks.a: the task 'a' has no data"),
    (
        GOOD.replace("- template", "- templte"),
        r"r.yaml:11 construct.0.templte: unknown constructor 'templte' — did you mean 'template'\?",
    ),
    (
        GOOD.replace("per_record: 2", "per_recor: 2"),
        r"r.yaml:11 construct.0.template.per_recor: unknown key 'per_recor'",
    ),
    (GOOD.replace("per_record: 2", "per_record: 0"), r"per_record is a whole number from 1 on"),
    (GOOD.replace("per_record: 2", "tasks: [b]"), r"construct.0.template.tasks: unknown task 'b'"),
    (GOOD.replace("threshold: 0.8", "threshold: high"), r"r.yaml:14 select.0.near.threshold: .*got 'high'"),
    (GOOD.replace("[length]", "[lenght]"), r"score.0: unknown scorer 'lenght' — did you mean 'length'\?"),
    (GOOD.replace("[length]", "[{length: 3}]"), r"'length' needs a mapping"),
    (GOOD.replace("[length]", "[{length: {}, echo: {}}]"), r"a step is a name"),
    (GOOD + "models: {big: {model: x}}\n", r"r.yaml:17 models.big: a model needs a provider"),
    (GOOD + "models: {big: {provider: opnai}}\n", r"unknown provider 'opnai' — did you mean 'openai'\?"),
    (GOOD + "tasks: {}\n", r"r.yaml:17 tasks: the key 'tasks' appears twice"),
    (
        GOOD.replace("family: classification", "metric: exactmatch"),
        r"r.yaml:5 tasks.a.metric: unknown metric 'exactmatch'",
    ),
    (GOOD.replace("heldout: 3", "heldout: -1"), r"heldout cannot be negative"),
    ("tasks: {}", r"no tasks"),
    ("a: [", r"r.yaml:1: not valid YAML"),
    ("", r"a recipe is a mapping"),
    ("- a", r"a recipe is a mapping"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_mistakes_are_named(text, said):
    with pytest.raises(RecipeError, match=said):
        loads(text, Path("."), "r.yaml")


def test_mistakes_are_named_in_chinese_too(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(RecipeError, match=r"r.yaml:2 sede: 未知的键“sede” — 是否想写“seed”？"):
        loads(WRONG[0][0], Path("."), "r.yaml")
    with pytest.raises(RecipeError, match=r"应为数字，实际为 'many'"):
        loads(WRONG[2][0], Path("."), "r.yaml")


def test_set_overrides_any_key():
    sets = [
        "seed=9",
        "tasks.a.heldout=0.5",
        "construct.0.template.per_record=4",
        "score.0.length={}",
        "report.samples=2",
        "name=新",
    ]
    recipe = loads(GOOD, Path("."), sets=sets)
    assert (recipe.seed, recipe.tasks["a"].heldout, recipe.construct[0].per_record, recipe.name) == (9, 0.5, 4, "新")
    assert recipe.report is not None and recipe.report.samples == 2


@pytest.mark.parametrize("wrong", ["seed", "=3", "construct.9.template=1", "seed.x.0.y=[", "construct.x=3"])
def test_wrong_overrides_are_named(wrong):
    with pytest.raises(RecipeError):
        loads(GOOD, Path("."), sets=[wrong])


def test_descriptions_in_two_languages_are_joined():
    recipe = loads(GOOD.replace("    data:", "    description: {en: Say it., zh: 说出来。}\n    data:"), Path("."))
    assert recipe.tasks["a"].task("a").description == "Say it.\n说出来。"


def test_a_folder_stands_for_its_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text("\ufeff" + GOOD, encoding="utf-8")
    assert load(tmp_path).here == tmp_path
    with pytest.raises(RecipeError, match="no such recipe"):
        load(tmp_path / "none")
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a UTF-8 text file"):
        load(tmp_path)


def test_sources_inherit_the_tasks_columns():
    recipe = loads(
        GOOD.replace(
            "data: x.csv", "columns: {text: 评论}\n    data: [x.csv, {path: y.csv, columns: {text: t}, limit: 3}]"
        ),
        Path("."),
    )
    first, second = recipe.tasks["a"].sources()
    assert (first.columns, second.columns, second.limit) == ({"text": "评论"}, {"text": "t"}, 3)
