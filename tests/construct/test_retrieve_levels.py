"""The three levels of construction by retrieval, through a whole run: what comes out, and that the ledger balances."""

from pathlib import Path

import making
import pytest
import yaml

from zhiling import api
from zhiling import recipe as recipes
from zhiling.construct.bank import Bank, Row
from zhiling.construct.retrieve_adapt import Adapted, as_is
from zhiling.embed import Use
from zhiling.errors import RecipeError
from zhiling.ledger import why
from zhiling.plan import estimate
from zhiling.store import current, read
from zhiling.types import Task

ROOT = Path(__file__).parents[2]
FRENCH = Task("to_french", "把中文句子翻译成法语。", "translation", ("句子",), "译文", langs=("zh",))
MOOD = Task(
    "mood", "判断评论是正面还是负面。", "classification", ("text",), "label", langs=("zh",), labels=("正面", "负面")
)
ROWS = [
    {"id": "en-fit", "instruction": "Decide whether the review is positive or negative.", "input": "A fine pen.", "output": "positive"},
    {"id": "en-other", "instruction": "Reply whether this text sounds positive, negative or neutral.", "input": "It is a pen.", "output": "neutral"},
    {"id": "en-slot", "instruction": "Decide whether this review is positive or negative: {text}", "input": "", "output": "negative"},
    {"id": "zh-fit", "instruction": "判断这条评论是正面还是负面。", "input": "笔很好用。", "output": "正面"},
    {"id": "zh-other", "instruction": "读完下面这段话，回答正面、负面还是中性。", "input": "笔漏墨水。", "output": "中性"},
    {"id": "en-held", "instruction": "Is this review positive or negative?", "input": "HELD", "output": "positive"},
]  # fmt: skip


def prepared(folder, **settings):
    """A recipe whose only way is retrieval from a bank of ROWS, one of which shows the input of a held-out row."""
    making.write(folder)
    raw = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    held = next(iter(heldout(folder, raw)))
    rows = [
        {**row, "family": "classification", "input": held if row["input"] == "HELD" else row["input"]} for row in ROWS
    ]
    Bank.create(folder / "bank", Use()).add(rows, licence="MIT")
    raw |= {
        "construct": [{"retrieve": {"bank": "bank", "floor": 0.05, **settings}}],
        "score": ["length"],
        "select": ["exact"],
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return folder / "recipe.yaml"


def heldout(folder, raw):
    """The texts that the English task holds out, as a run of the plain recipe has them."""
    raw = raw | {"construct": ["template"], "score": [], "select": []}
    (folder / "plain.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    api.run(folder / "plain.yaml", folder / "plain", until="construct")
    rows = kinds(folder / "plain", "heldout")
    texts = [making.reviews()[0][i][0] for i in range(len(making.reviews()[0]))]
    return [text for text in texts if any(text in row.prompt for row in rows)]


def kinds(folder, kind):
    return [row for done in current(folder) for row in read(folder, done.of(kind))]


def ran(folder, **settings):
    summary = api.run(prepared(folder, **settings), folder / "run")
    assert summary.balance is not None and summary.balance.came == summary.balance.went > 0
    return summary, folder / "run"


def test_as_they_are(tmp_path):
    _, run = ran(tmp_path, level="as_is", keep=5)
    made = {one.instruction: one for one in kinds(run, "templates")}
    assert set(made) == {
        "Decide whether the review is positive or negative.", "Is this review positive or negative?", "判断这条评论是正面还是负面。"
    }  # fmt: skip
    assert all(one.parents[0] in {"en-fit", "en-held", "zh-fit"} for one in made.values())
    kept = kinds(run, "kept")
    assert {row.lang for row in kept} == {"en", "zh"} and all(row.input and row.output for row in kept)
    lost = {one.parents[0]: one.why for one in kinds(run, "rejects") if one.maker.startswith("retrieve")}
    assert (
        "other answers: positive, negative or neutral" in lost["en-other"] and "正面、负面还是中性" in lost["zh-other"]
    )
    assert "{text} is open" in lost["en-slot"]


def test_adapted_is_the_default_and_takes_what_as_is_would_not(tmp_path):
    _, run = ran(tmp_path, keep=5)
    made = {one.parents[0]: one.instruction for one in kinds(run, "templates")}
    assert made.keys() >= {"en-other", "zh-other"}
    assert made["en-other"] == "Reply whether this text sounds positive or negative."
    assert made["zh-other"] == "读完下面这段话，回答正面还是负面。"


def test_rows_are_a_training_mixture_without_what_is_held_out(tmp_path):
    summary, run = ran(tmp_path, level="rows", rows=10)
    drafts = {row.parents[0]: row for row in kinds(run, "drafts")}
    assert {"en-fit", "zh-fit", "zh-other", "en-held"} <= drafts.keys()  # nobody knows yet what will be held out
    assert drafts["zh-other"].output == "中性" and drafts["zh-other"].maker == "retrieve:rows:zh-other"
    kept = {row.parents[0] for row in kinds(run, "kept")}
    assert "en-held" not in kept and {"en-fit", "zh-fit"} <= kept
    told = why(run, drafts["en-held"].id)
    assert told["verdicts"][0]["selector"] == "heldout" and not told["verdicts"][0]["kept"]
    # what is held out is asked in the task's own words, since no template was made
    held = kinds(run, "heldout")
    assert {row.instruction for row in held if row.lang == "en"} == {"Decide whether a review is positive or negative."}
    assert {row.maker for row in held} == {"described"} and len(held) > 12
    assert summary.kept == len(kinds(run, "kept")) == len(kept)


def test_rows_beside_templates_and_again(tmp_path):
    path = prepared(tmp_path, level="rows")
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["construct"].append({"template": {"cap": 1}})
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    first = api.run(path, tmp_path / "run")
    assert {row.maker.split(":")[0] for row in kinds(tmp_path / "run", "kept")} == {"retrieve", "template"}
    assert {row.maker.split(":")[0] for row in kinds(tmp_path / "run", "heldout")} == {"template"}
    before = making.files(tmp_path / "run")
    again = api.run(path, tmp_path / "run")
    assert again.worked == 0 and again.kept == first.kept and making.files(tmp_path / "run") == before
    other = tmp_path / "elsewhere"
    assert api.run(path, other).kept == first.kept and making.files(other) == before


def test_construct_in_python_gives_rows_and_words_what_is_held_out(tmp_path):
    making.write(tmp_path)
    Bank.create(tmp_path / "bank", Use()).add([{**row, "family": "classification"} for row in ROWS], licence="MIT")
    task = Task(
        "mood", "Decide how a review feels.", "classification", ("text",), "label", labels=("positive", "negative")
    )
    data = [{"text": text, "label": label} for text, label in making.reviews()[0][:20]]
    ways = [{"retrieve": {"level": "rows", "bank": "bank", "floor": 0.0}}]
    made = api.construct(task, data, ways, heldout=4, here=tmp_path)
    assert {row.parents[0] for row in made.examples} >= {"en-fit", "en-other"} and not made.templates
    assert len(made.heldout) == 4 and {row.instruction for row in made.heldout} == {"Decide how a review feels."}


@pytest.mark.parametrize(
    ("said", "output", "task", "why_not"),
    [
        ("把下面的句子翻译成法语。", "", FRENCH, ""),
        ("把下面的句子翻译成法文，用三句话。", "", FRENCH, ""),  # another word for the same language; residue may stay
        ("把下面的句子翻译成西班牙语。", "", FRENCH, "languages are not the task's"),
        ("润色下面的句子。", "", FRENCH, "does not name the language"),
        ("把{句子}翻译成法语。", "", FRENCH, "{句子} is open"),
        ("判断评论是正面还是负面。", "正面", MOOD, ""),
        ("判断评论是正面、负面还是中性。", "中性", MOOD, "other answers"),
        ("判断评论的情感。", "5", MOOD, ""),
        ("长" * 1001, "", MOOD, "too long"),
    ],
)
def test_what_needs_no_adapting(said, output, task, why_not):
    made = as_is(Row("r", said, output=output, lang="zh"), task, "zh")
    if why_not:
        assert isinstance(made, str) and why_not in made
    else:
        assert isinstance(made, Adapted) and made.instruction == said and made.input.startswith("{{")


def test_no_model_is_opened_for_rules_and_a_wrong_level_is_named(tmp_path):
    path = prepared(tmp_path)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["models"] = {"far": {"provider": "fake", "without": ["chat"]}}
    (step,) = recipes.build(raw, tmp_path).construct
    assert step.model == ""
    raw["construct"] = [{"retrieve": {"level": "rowz"}}]
    with pytest.raises(RecipeError, match="as_is.*adapted.*rows"):
        recipes.build(raw, tmp_path)


@pytest.mark.model
def test_the_shipped_recipe_uses_all_three_levels(tmp_path, shared, monkeypatch):
    monkeypatch.setenv("ZHILING_SHARED", str(shared))
    recipe = ROOT / "recipes" / "retrieval.yaml"
    rows = [
        row["rows"] for row in estimate(recipes.load(recipe), tmp_path / "run") if row["step"] == "construct retrieve"
    ]
    assert rows == [60, 60, 50]  # 25 rows per language at most
    summary = api.run(recipe, tmp_path / "run", until="select")
    assert summary.balance is not None and summary.balance.came == summary.balance.went
    makers = [row.maker for row in kinds(tmp_path / "run", "drafts")]
    assert {maker.split(":")[1] == "rows" for maker in makers} == {True, False}
    assert {row.lang for row in kinds(tmp_path / "run", "kept")} == {"zh", "en"}
