"""A run's rows as folders for other tuners and the hub, with a card; and as Vertex AI reads them."""

from __future__ import annotations

import ast
import json

import making
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.data.formats import FORMATS, guess
from zhiling.data.samples import Sample, Unsayable
from zhiling.errors import DataError, EngineError
from zhiling.export import FOLDERS, convert, export
from zhiling.recipe import load
from zhiling.run import Run
from zhiling.store import views
from zhiling.yamlines import as_text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Chinese rows state a licence, English ones none."""
    folder = tmp_path_factory.mktemp("sets")
    path = making.write(folder, score=["length"], select=["exact", {"quota": {"rows": 60}}])
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe["tasks"]["心情"]["data"] = {"path": "zh.csv", "licence": "CC-BY-4.0"}
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False), encoding="utf-8")
    with Run(load(path), folder / "run", workers=1) as work:
        work.execute()
    return folder / "run"


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def front(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_a_data_set_for_the_hub_tells_of_itself_what_the_run_counted(run, tmp_path):
    kept = export(run, tmp_path / "hf", "hf")
    card = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    head = front(card)
    assert head["language"] == ["en", "zh"] and head["license"] == "other" and head["size_categories"] == ["n<1K"]
    (config,) = head["configs"]
    train, test = (rows(tmp_path / "hf" / entry["path"]) for entry in config["data_files"])
    db = views(run)
    assert kept == len(train) == db.execute("select count(*) from kept").fetchone()[0] == 120
    assert len(test) == db.execute("select count(*) from heldout").fetchone()[0] > 0
    assert not {row["id"] for row in train} & {row["id"] for row in test}
    assert {row["lang"] for row in train} == {"zh", "en"} and all(
        row["messages"][-1]["role"] == "assistant" for row in train
    )
    for selector, stays, goes in db.execute(
        "select selector, count(*) filter (where kept), count(*) filter (where not kept) from verdicts group by selector"
    ).fetchall():
        assert f"| {selector} | {stays} | {goes} |" in card
    assert "| 心情 | zh.csv | CC-BY-4.0 |" in card and "| mood | en.csv | not stated |" in card
    assert "`heldout` looked at" in card and "0 of 120 rows were looked at by a person" in card
    assert str(run.parent) not in card


def test_the_card_speaks_chinese_to_who_reads_it(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    export(run, tmp_path / "hf", "hf")
    card = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert "## 如何制作" in card and "## 局限" in card and "| mood | en.csv | 未说明 |" in card and "## How" not in card


def test_llamafactory_finds_the_rows_by_its_info(run, tmp_path):
    out = tmp_path / "lf"
    kept = export(run, out, "llamafactory")
    info = json.loads((out / "dataset_info.json").read_text(encoding="utf-8"))
    settings = yaml.safe_load((out / "llamafactory.yaml").read_text(encoding="utf-8"))
    entry = info[settings["dataset"]]
    found = rows(out / entry["file_name"])
    turns, tags = entry["columns"]["messages"], entry["tags"]
    assert len(found) == kept and entry["formatting"] == "sharegpt"
    roles = {tags["user_tag"], tags["assistant_tag"], tags["system_tag"]}
    assert all(
        {turn[tags["role_tag"]] for turn in row[turns]} <= roles and row[turns][-1][tags["content_tag"]]
        for row in found
    )


def test_axolotl_and_trl_name_files_that_are_there(run, tmp_path):
    export(run, tmp_path / "ax", "axolotl")
    text = (tmp_path / "ax" / "axolotl.yaml").read_text(encoding="utf-8")
    given_ = yaml.safe_load(text)
    assert "&" not in text  # aliases, which other readers may not know
    for entry in (*given_["datasets"], *given_["test_datasets"]):
        assert all(entry["field_messages"] in row for row in rows(tmp_path / "ax" / entry["path"]))
    export(run, tmp_path / "trl", "trl")
    script = ast.parse((tmp_path / "trl" / "train_trl.py").read_text(encoding="utf-8"))
    (files,) = [ast.literal_eval(node) for node in ast.walk(script) if isinstance(node, ast.Dict)]
    for file in files.values():
        found = rows(tmp_path / "trl" / file)
        assert found and all(
            set(row) == {"prompt", "completion"} and row["prompt"][-1]["role"] == "user" for row in found
        )


def test_the_card_tells_of_the_recipe_as_it_was_run(tmp_path):
    """With what --set changed, and where the recipe was never a file."""
    path = making.write(tmp_path, score=[], select=[{"quota": {"rows": 60}}])
    changed = load(path, ["seed=9", "name=改名"])
    assert load(path).text == path.read_text(encoding="utf-8") and yaml.safe_load(changed.text)["seed"] == 9
    assert as_text({"name": "a", "here": tmp_path, "langs": ("zh",)}) == f"name: a\nhere: {tmp_path}\nlangs:\n- zh\n"


def test_only_an_earlier_export_is_written_over(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my notes", encoding="utf-8")
    for form in FOLDERS:
        with pytest.raises(DataError, match="something else"):
            export(run, tmp_path / "mine", form)
    assert (tmp_path / "mine" / "README.md").read_text(encoding="utf-8") == "my notes"
    first, again = (export(run, tmp_path / "again", "hf") for _ in range(2))
    assert first == again == 120


def test_a_full_disk_is_one_line_and_leaves_no_card(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zhiling.export.os.replace", full)
    with pytest.raises(EngineError, match="disk is full"):
        export(run, tmp_path / "hf", "hf")
    assert not list((tmp_path / "hf").rglob("*.jsonl")) and not (tmp_path / "hf" / "README.md").exists()


def test_vertex_rows_from_a_run_and_back(run, tmp_path):
    ran = CliRunner().invoke(app, ["export", str(run), "-o", str(tmp_path / "v.jsonl"), "--format", "vertex", "--json"])
    assert ran.exit_code == 0 and json.loads(ran.stdout)["rows"] == 120
    for row in rows(tmp_path / "v.jsonl"):
        assert [turn["role"] for turn in row["contents"]] == ["user", "model"] and guess(row) == "vertex"
    assert convert(tmp_path / "v.jsonl", tmp_path / "m.jsonl", "messages").rows == 120
    export(run, tmp_path / "direct.jsonl", "messages")
    assert rows(tmp_path / "m.jsonl") == rows(tmp_path / "direct.jsonl")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(texts, st.text(max_size=10), st.lists(st.tuples(texts, texts), max_size=2), texts)
def test_a_row_survives_vertex(prompt, system, history, output):
    turns = tuple(
        {"role": role, "content": said}
        for pair in history
        for role, said in zip(("user", "assistant"), pair, strict=True)
    )
    sample = Sample(instruction=prompt, output=output, system=system, history=turns)
    assert FORMATS["vertex"].read(FORMATS["vertex"].write(sample)) == sample


@pytest.mark.parametrize(
    "row",
    [
        {"contents": "hello"}, {"contents": []}, {"contents": [{"role": "user", "parts": [{"text": "a"}]}]},
        {"contents": [{"role": "user", "parts": [{"inlineData": "x"}]}, {"role": "model", "parts": [{"text": "b"}]}]},
        {"contents": [{"role": "model", "parts": []}]}, {"contents": [], "systemInstruction": "be kind"},
    ],
)  # fmt: skip
def test_what_is_no_vertex_row_says_so(row):
    with pytest.raises(Unsayable):
        FORMATS["vertex"].read(row)


def test_a_preference_is_not_bent_to_vertex():
    with pytest.raises(Unsayable, match="preference"):
        FORMATS["vertex"].write(Sample(instruction="a", output="b", rejected="c"))
