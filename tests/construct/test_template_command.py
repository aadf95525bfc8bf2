"""`zhiling template list | show | render` as a user meets them."""

import json

import pytest
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.construct.library import list_definitions
from zhiling.errors import DataError, RecipeError


def told(*words):
    made = CliRunner().invoke(app, ["template", *words])
    if made.exception is not None and not isinstance(made.exception, SystemExit):
        raise made.exception
    return made.stdout


def test_list_filters_and_counts():
    rows = json.loads(told("list", "--family", "sql", "--lang", "zh", "--json"))
    known = {d.id: sum(p.lang == "zh" for p in d.phrasings) for d in list_definitions("sql")}
    assert {row["id"]: row["phrasings"] for row in rows} == known
    assert f"{len(known)} definitions, {sum(known.values())} phrasings" in told(
        "list", "--family", "sql", "--lang", "zh"
    )
    with pytest.raises(DataError, match="no family 'sqll'"):
        told("list", "--family", "sqll")


@pytest.mark.parametrize(("lang", "answer"), [("zh", "正面"), ("en", "positive")])
def test_show_renders_each_phrasing_of_a_language(lang, answer):
    shown = json.loads(told("show", "classification_sentiment", "--lang", lang, "--json"))
    assert len(shown["phrasings"]) >= 5 and {phrasing["lang"] for phrasing in shown["phrasings"]} == {lang}
    assert all(phrasing["example"]["output"] == answer for phrasing in shown["phrasings"])
    page = told("show", "classification_sentiment", "--lang", lang)
    assert page.count(f"→ {answer}") == len(shown["phrasings"])


def test_render_a_text_and_a_definition(tmp_path):
    assert told("render", "将句子翻译成{语言}：{句子}", "语言=法语", "句子=你好") == "将句子翻译成法语：你好\n"
    data = tmp_path / "行.csv"
    data.write_text("text,label\n第一行,positive\n房间很干净。,negative\n", encoding="utf-8")
    assert json.loads(told("render", "说{text}", "--data", str(data), "--row", "2", "--json")) == {
        "prompt": "说房间很干净。"
    }
    made = json.loads(
        told("render", "classification_sentiment", "--data", str(data), "--row", "2", "--lang", "zh", "--json")
    )
    assert len(made) >= 5 and {row["output"] for row in made} == {"负面"}
    assert all("房间很干净。" in row["instruction"] + row["input"] for row in made)


def test_render_says_what_is_wrong(tmp_path):
    data = tmp_path / "rows.csv"
    data.write_text("review,label\nfine,positive\n", encoding="utf-8")
    with pytest.raises(DataError, match="it needs text, label; given: review, label"):
        told("render", "classification_sentiment", "--data", str(data))
    with pytest.raises(DataError, match="the file has 1 rows"):
        told("render", "classification_sentiment", "--data", str(data), "--row", "7")
    with pytest.raises(DataError, match="no template 'nope'"):
        told("render", "nope")
    with pytest.raises(RecipeError, match="'句子'"):
        told("render", "翻译：{句子}", "语言=法语")
