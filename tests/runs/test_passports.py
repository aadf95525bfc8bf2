"""Metric passports: the shipped ones, how they are shown, and what is not believed without one."""

from __future__ import annotations

import json
from pathlib import Path

import making
import pytest
from typer.testing import CliRunner

from zhiling import registry
from zhiling.cli import app
from zhiling.errors import RecipeError
from zhiling.judging import passports
from zhiling.recipe import build, load
from zhiling.types import Score

MEASURED = str.split(
    "answers asks constraints echo faithful format grammar grammar_lm lacks_input language length pii placeholder quality readability refusal register relevance safety"
    " wording"
)
FAIR = str.split(
    "answers asks constraints echo faithful format grammar language pii placeholder quality refusal safety wording"
)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def unmeasured():
    """A scorer of somebody else's, of which nothing is known."""

    @registry.scorer("hunch", low=0, high=1, better="high", langs=("zh", "en"))
    def hunch(examples):
        """A feeling."""
        return [Score(row.id, "hunch", 0.5) for row in examples]

    yield "hunch"
    registry._table.pop(("scorer", "hunch"))


def recipe(step):
    data = {"tasks": {"t": {"data": "x.jsonl"}}, "construct": ["template"], "score": ["length"], "select": [step]}
    return build(data, Path.cwd())


@pytest.mark.parametrize("name", MEASURED)
def test_a_shipped_passport_says_what_it_must(name):
    told = registry.passport(name)
    for lang in ("en", "zh"):
        one = told[lang]
        assert one["kind"] in passports.KINDS and one["measure"] in ("auc", "pairs") and one["data"]
        assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1 and one["n"] >= 30
        assert one["low"] > 0.5, "each of these was better than chance"
    assert -1 <= told["length"] <= 1 and told["rows_per_cpu_s"] > 0 and told["cost_per_1000"] == 0
    assert registry.passports()["date"]


def test_what_was_fitted_to_the_labels_says_what_cross_validation_gave():
    for name in ("quality", "wording", "safety"):
        one = registry.passport(name)["en"]
        assert 0.5 < one["cross_validated"] < 1 and one["cross_validated"] <= one["value"]


@pytest.mark.parametrize("name", FAIR)
def test_a_shipped_passport_compares_chinese_with_english(name):
    """No metric differs by more than a third of its spread on the same content, and where it differs the page shows it."""
    told = registry.passport(name)["zh_minus_en"]
    assert told["n"] >= 100 and told["low"] <= told["value"] <= told["high"]
    assert told["spread"] == 0 or abs(told["value"]) < told["spread"] / 3
    for file in ("passports.md", "passports.zh.md"):
        page = (DOCS / file).read_text(encoding="utf-8")
        assert all(
            f"| {name} | {one['set']} | {one['n']} | {one['value']:+.3f}" in page for one in told["sets"] if one["n"]
        )


@pytest.mark.parametrize("name", ["quality", "safety", "wording"])
def test_a_shipped_passport_says_what_another_groups_name_does(name):
    told = registry.passport(name)["swapped"]
    assert [one["set"] for one in told] == ["CrowS-Pairs", "BBQ", "CBBQ (zh)"]
    assert all(one["n"] >= 100 and 0 <= one["moved"] < 0.05 and one["flipped"] < 0.1 for one in told)


def test_fluency_does_not_pass_for_quality():
    """Clarity tells mended from faulty English, but hardly what editors made of instructions: its passport says so, and it filters nothing."""
    told = registry.passport("clarity")
    assert told["en"]["low"] < 0.5 < told["also"][0]["low"]
    with pytest.raises(RecipeError, match="chance"):
        recipe({"threshold": {"scorer": "clarity", "min": 0.5}})


@pytest.mark.parametrize(("lang", "words"), [("en", "no better than chance"), ("zh", "不优于随机")])
def test_a_small_judge_is_told_to_be_one_and_filters_nothing(monkeypatch, lang, words):
    """The embedded model's grades agree with people no more than a coin does; what it weighs of grammar does."""
    monkeypatch.setenv("ZHILING_LANG", lang)
    told = registry.passport("judge")
    assert told["asked"] == "SmolLM2-135M-Instruct" and told["en"]["n"] >= 30 and not registry.above_chance(told)
    with pytest.raises(RecipeError, match=words) as caught:
        recipe({"threshold": {"scorer": "judge", "min": 0.5}})
    assert "force: true" in caught.value.mend
    recipe({"threshold": {"scorer": "judge", "min": 0.5, "force": True}})
    recipe({"threshold": {"scorer": "grammar_lm", "min": 0.5}})
    believed = {said[0]: ok for said, ok in passports.lines() if said[0] in ("judge", "grammar_lm")}
    assert believed == {"judge": False, "grammar_lm": True}


@pytest.mark.parametrize(("lang", "words"), [("en", "no passport"), ("zh", "没有证书")])
def test_a_scorer_without_passport_is_no_hard_filter(unmeasured, monkeypatch, lang, words):
    monkeypatch.setenv("ZHILING_LANG", lang)
    with pytest.raises(RecipeError, match=words) as caught:
        recipe({"threshold": {"scorer": unmeasured, "min": 0.5}})
    assert caught.value.where.endswith("threshold.scorer") and "force: true" in caught.value.mend
    recipe({"threshold": {"scorer": unmeasured, "min": 0.5, "force": True}})
    recipe({"threshold": {"scorer": "format", "min": 1}})


def test_an_unknown_scorer_is_unknown_and_not_unmeasured():
    with pytest.raises(RecipeError, match="did you mean 'format'"):
        recipe({"threshold": {"scorer": "fromat", "min": 1}})


@pytest.mark.parametrize(
    ("lang", "words", "page"), [("en", "no better than chance", "worse than chance"), ("zh", "不优于随机", "劣于随机")]
)
def test_a_passport_no_better_than_chance_is_shown_and_believed_by_nobody(unmeasured, monkeypatch, lang, words, page):
    monkeypatch.setenv("ZHILING_LANG", lang)
    one = {"kind": "human", "measure": "pairs", "value": 0.41, "low": 0.36, "high": 0.46, "n": 300, "data": "edits"}
    told = {"en": one, "zh": {**one, "high": 0.52}, "length": 0.1, "rows_per_cpu_s": 9.0, "cost_per_1000": 0.0}
    fn = registry.get("scorer", unmeasured).fn
    registry.scorer(unmeasured, low=0, high=1, better="high", langs=("en", "zh"), passport=told)(fn)
    with pytest.raises(RecipeError, match=words) as caught:
        recipe({"threshold": {"scorer": unmeasured, "min": 0.5}})
    assert "force: true" in caught.value.mend
    recipe({"threshold": {"scorer": unmeasured, "min": 0.5, "force": True}})
    shown = [(said[2], believed) for said, believed in passports.lines() if said[0] == unmeasured]
    assert [believed for _, believed in shown] == [False, False]
    assert page in shown[0][0] and words in shown[1][0]


def test_above_chance_in_one_language_is_enough_and_the_other_stays_grey():
    en, zh = {"low": 0.7}, {"low": 0.45}
    assert registry.above_chance({"en": en, "zh": zh}) and not registry.above_chance({"zh": zh})
    assert registry.above_chance({"en": {"kind": "human"}})


def test_a_scorer_may_bring_its_own_passport(unmeasured):
    fn = registry.get("scorer", unmeasured).fn
    registry.scorer(unmeasured, low=0, high=1, better="high", langs=("en",), passport={"en": {"kind": "human"}})(fn)
    recipe({"threshold": {"scorer": unmeasured, "min": 0.5}})


def test_our_own_recipes_filter_by_nothing_unmeasured(tmp_path):
    assert load(making.write(tmp_path / "recipe")).select
    for file in sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")):
        if file.name in ("shared.yaml", "preferences.yaml"):
            load(file)


@pytest.mark.parametrize(
    ("lang", "words"), [("en", ("metric passports", "people", "no passport")), ("zh", ("指标证书", "人工", "无证书"))]
)
def test_the_command_shows_them(monkeypatch, lang, words):
    monkeypatch.setenv("ZHILING_LANG", lang)
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, ["score", "--passport"])
    assert shown.exit_code == 0
    assert all(word in shown.output for word in (*words, *MEASURED))


def test_the_command_says_them_to_machines():
    told = json.loads(CliRunner().invoke(app, ["score", "--passport", "--json"]).output)
    assert {row["metric"] for row in told["rows"]} == set(registry.names("scorer"))
    assert all(row["kind"] is None for row in told["rows"] if row["metric"] == "verify")


def test_without_files_the_command_asks_for_them():
    failed = CliRunner().invoke(app, ["score"])
    assert isinstance(failed.exception, RecipeError) and "--passport" in failed.exception.mend


@pytest.mark.parametrize("file", ["passports.md", "passports.zh.md"])
def test_the_pages_say_what_was_measured(file):
    page = (DOCS / file).read_text(encoding="utf-8")
    for row in passports.table():
        if row["kind"]:
            cells = passports.cells(row, "zh" if "zh" in file else "en")
            assert "| " + " | ".join(cells) + " |" in page


def test_quality_comes_with_its_standing_and_its_raw_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [
        {"instruction": f"Say how river number {n} runs.", "output": f"River {n} runs to the sea. " * (n % 9 + 1)} for n in range(30)
    ] + [{"instruction": "Say nothing.", "output": "print(1)"}]  # fmt: skip
    Path("rows.jsonl").write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    done = CliRunner().invoke(
        app, ["score", "rows.jsonl", "-o", "out.jsonl", "--with", "quality", "--with", "length", "--workers", "1"]
    )
    assert done.exit_code == 0, done.output
    out = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").splitlines()]
    assert [row["instruction"] for row in out] == [line["instruction"] for line in lines]
    assert (
        out[-1]["zhiling_quality"] is None
        and out[-1]["zhiling_quality_raw"] is None
        and "code" in out[-1]["zhiling_why"]["quality"]
    )
    assert {min(row["zhiling_quality"] for row in out[:-1]), max(row["zhiling_quality"] for row in out[:-1])} == {0, 1}
    assert all(0 < row["zhiling_quality_raw"] < 1 and "zhiling_length_raw" not in row for row in out[:-1])
