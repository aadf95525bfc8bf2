"""Natural Instructions tasks and `str.format` texts, imported; and what is none of these, refused in one line."""

import gzip
import json

import pytest
import yaml
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.construct.importing import Draft, Skipped, import_files, write
from zhiling.errors import RecipeError
from zhiling.recipe import load

V2 = {
    "task": "task1_mood", "Categories": ["Sentiment Analysis"], "Definition": ["Say POS or NEG for {this} text."],
    "Positive Examples": [{"input": "Fine.", "output": "POS", "explanation": "praise"}],
    "Negative Examples": [{"input": "Awful.", "output": "POS", "explanation": "it complains"}],
    "Instances": [{"id": "1", "input": f"Text {i}", "output": ["POS" if i % 2 else "NEG", "other"]} for i in range(12)],
}  # fmt: skip
V1 = {
    "task": "subtask1", "Title": "Writing questions", "Prompt": "Write a question.", "Definition": "Write a question about time.",
    "Things to Avoid": "-", "Emphasis & Caution": "Keep it short.",
    "Examples": {"Positive Examples": [{"input": "He slept.", "output": "How long?", "reason": "-"}],
                 "Negative Examples": [{"input": "He ran.", "output": "He ran?", "reason": "no question about time", "suggestion": "-"}]},
    "Instances": [{"input": "She sang.", "output": ["When?"]}],
}  # fmt: skip


def put(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def test_version_2_becomes_a_task_with_demos_and_data(tmp_path):
    (draft,) = import_files([put(tmp_path, "one.json", V2)])
    definition = draft.checked()
    assert definition.family == "classification" and definition.examples["en"] == ({"input": "Fine.", "output": "POS"},)
    assert [phrasing.id for phrasing in definition.phrasings] == ["definition", "negative"]
    assert "it complains" in definition.phrasings[1].instruction and "Awful." in definition.phrasings[1].instruction
    assert draft.task["demos"] == [{"input": "Fine.", "output": "POS"}] and draft.task["labels"] == ["NEG", "POS"]
    assert draft.rows[0] == {"input": "Text 0", "output": "NEG", "references": '["NEG", "other"]'}


def test_version_1_becomes_phrasings_of_its_sections(tmp_path):
    (draft,) = import_files([put(tmp_path, "one.json", V1)])
    wordings = {phrasing.id: phrasing.instruction for phrasing in draft.checked().phrasings}
    assert wordings["prompt"] == "Write a question." and wordings["definition"] == "Write a question about time."
    assert wordings["full"] == "Write a question about time.\nKeep in mind: Keep it short.\nWrite a question."
    assert "no question about time" in wordings["negative"] and "avoid" not in wordings["full"]


def test_a_chinese_task_speaks_chinese(tmp_path):
    row = {**V2, "Definition": ["判断文本的情感，回答 POS 或 NEG。"]}
    (draft,) = import_files([put(tmp_path, "one.json", row)])
    assert draft.definition["langs"] == ["zh"]
    assert "错误示范：\n输入：Awful.\n输出：POS\n错在：it complains" in draft.definition["phrasings"][1]["instruction"]


def test_imported_tasks_run(tmp_path):
    """From the file of a task to kept rows, with the command line alone."""
    run = CliRunner()
    source = put(tmp_path, "tasks.jsonl", json.dumps(V2) + "\n" + json.dumps(V1) + "\n")
    told = run.invoke(app, ["template", "import", str(source), "-o", str(tmp_path / "made")])
    assert told.exit_code == 0 and "2 definitions, 6 phrasings, 13 rows" in told.output, told.output
    made = run.invoke(
        app, ["run", str(tmp_path / "made"), "--until", "select", "--workers", "1", "-o", str(tmp_path / "run")]
    )
    assert made.exit_code == 0, made.output
    rows = run.invoke(
        app, ["sql", str(tmp_path / "run"), "select instruction, output from kept where task = 'task1_mood'", "--json"]
    )
    kept = json.loads(rows.stdout)
    assert len(kept) >= 8 and {row["output"] for row in kept} == {"POS", "NEG"}
    assert all("Say POS or NEG for {this} text." in row["instruction"] for row in kept)


def test_all_shared_tasks_become_tasks_with_demos(shared, tmp_path):
    files = sorted((shared / "05_natural_instructions").glob("*.jsonl.gz"))
    made = list(import_files(files))
    count = sum(len(gzip.decompress(file.read_bytes()).splitlines()) for file in files)
    assert len(made) == count and not [one for one in made if isinstance(one, Skipped)]
    assert all(draft.task["demos"] and draft.rows for draft in made)
    write(made, tmp_path / "all")
    assert len(load(tmp_path / "all").tasks) == count


def test_format_texts(tmp_path):
    (draft,) = import_files(
        [
            put(
                tmp_path,
                "句子.txt",
                "# 注释\n将句子翻译成{语言}：{句子} ||| {译文}\n把“{句子}”译为{语言}，用 {{}} 括起来。\n",
            )
        ]
    )
    definition = draft.checked()
    assert definition.fields == ("语言", "句子", "译文") and definition.target == "译文" and definition.langs == ("zh",)
    assert definition.phrasings[1].output == "{{ 译文 }}"
    (paragraphs,) = import_files(
        [put(tmp_path, "p.txt", "Translate into {lang}.\n{text}\n\nSay {text} in {lang}.")], target="said"
    )
    assert [one["instruction"] for one in paragraphs.definition["phrasings"]] == [
        "Translate into {{ lang }}.\n{{ text }}", "Say {{ text }} in {{ lang }}.",
    ]  # fmt: skip
    assert paragraphs.definition["target"] == "said"


WRONG = [
    ("one.json", "{", "", r"one\.json:1.*broken JSON"),
    ("one.jsonl", json.dumps(V2) + "\n{half", "", r"one\.jsonl:2.*broken JSON"),
    ("one.json", "[1]", "", "not a JSON object"),
    ("one.json", '{"a": 1}', "", "cannot tell what this file is"),
    ("one.csv", "a,b\n", "", "cannot tell what this file is"),
    ("one.txt", "no slots here\n", "", "has a slot"),
    ("one.txt", "", "", "no template in the file"),
    ("one.txt", "fine {a}\nbroken {a\n", "", r"one\.txt:2.*not a format text"),
    ("one.txt", "fine {a}\n{0}\n", "", r"one\.txt:2.*not a plain name"),
    ("one.txt", "{a.__class__}\n", "", r"one\.txt:1.*not a plain name"),
    ("one.jsonl.gz", "not gzip", "", "cannot read the file"),
    ("one.json", json.dumps(V2), "ni3", "no such kind"),
]


@pytest.mark.parametrize(("name", "content", "kind", "said"), WRONG)
def test_what_cannot_be_imported_is_one_line(tmp_path, name, content, kind, said):
    with pytest.raises(RecipeError, match=said) as caught:
        list(import_files([put(tmp_path, name, content)], kind))
    assert "\n" not in str(caught.value)


def test_a_task_that_cannot_be_used_costs_itself_only(tmp_path):
    path = put(
        tmp_path,
        "t.jsonl",
        json.dumps({"task": "x", "Definition": [""], "Positive Examples": []}) + "\n" + json.dumps(V2),
    )
    skipped, draft = import_files([path])
    assert isinstance(skipped, Skipped) and "'Definition' is empty" in skipped.why and ":1" in skipped.where
    assert isinstance(draft, Draft)


def test_files_that_say_something_else_are_not_overwritten(tmp_path):
    made = list(import_files([put(tmp_path, "one.json", V2)]))
    write(made, tmp_path / "out")
    write(made, tmp_path / "out")
    (tmp_path / "out" / "recipe.yaml").write_text("mine: true\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"recipe\.yaml: the file is there already"):
        write(made, tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text(encoding="utf-8")) == {"mine": True}
