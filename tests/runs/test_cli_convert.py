"""`zhiling convert` as a newcomer meets it."""

import json

import pytest
from test_bad_input import error_of, zhiling

ROW = {
    "instruction": "翻译",
    "input": "早上好",
    "output": "Good morning",
    "history": [["在吗", "在"]],
    "system": "简短。",
}


def test_there_and_back(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([ROW]), encoding="utf-8")
    done = zhiling(
        "convert", tmp_path / "a.json", "-o", tmp_path / "b.jsonl", "--format", "natural_instructions", "--json"
    )
    assert json.loads(done.stdout) == {"from": "alpaca", "format": "natural_instructions", "rows": 1, "left_out": []}
    assert zhiling("convert", tmp_path / "b.jsonl", "-o", tmp_path / "c.jsonl", "--format", "alpaca").returncode == 0
    back = json.loads((tmp_path / "c.jsonl").read_text(encoding="utf-8"))
    assert {key: back[key] for key in ROW} == ROW


def test_what_is_left_out_is_told_and_counts_as_failure(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW) + "\nnot json\n", encoding="utf-8")
    done = zhiling(
        "convert", tmp_path / "a.jsonl", "-o", tmp_path / "b.jsonl", "--format", "dpo", env={"ZHILING_LANG": "zh"}
    )
    assert done.returncode == 1 and "a.jsonl:1: 没有被拒绝的回答" in done.stderr and "2 行未写出" in done.stdout
    assert (tmp_path / "b.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("name", "content", "form", "said"),
    [
        ("none.jsonl", None, "alpaca", "no such file"),
        ("a.jsonl", '{"instruction": "x"}\n', "xml", "unknown format 'xml'"),
        ("a.csv", "x,y\n1,2\n", "alpaca", "not a known format; the rows have: x, y — name it with --from"),
        ("a.jsonl", "broken\n", "alpaca", "no readable row"),
    ],
)
def test_one_line_for_each_mistake(tmp_path, name, content, form, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    done = zhiling("convert", tmp_path / name, "-o", tmp_path / "o.jsonl", "--format", form)
    assert said in error_of(done) and done.returncode == 2 and not (tmp_path / "o.jsonl").exists()
