"""Planted defects: each spoils what it says, and the rules find what is planted in real rows, zh and en."""

from __future__ import annotations

import gzip
import json

import pytest
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import DataError
from zhiling.judging.selftest import NAMES, lines, selftest
from zhiling.judging.selftest_plant import PLANTS
from zhiling.types import Example

PROSE = "Days grow short in autumn. The tree gets less light. Water moves slowly. Leaves lose their green. In the end the cold wind of November takes them all away."
ROW = Example("t", "Summarise the text about trees in autumn.", "A long text about trees and their leaves. " * 8, PROSE)
OTHER = Example(
    "t", "Name two fruits that grow in the north.", "", "Apples and pears grow in the north, and so do many berries."
)
ZH = Example(
    "t",
    "请概括下面这段关于秋天的文字。",
    "秋天来了，白天变短，树木得到的光越来越少，叶子也开始变黄。" * 3,
    "秋天白天变短。树木得到的光变少。水分流动变慢。叶子失去绿色。最后秋天的大风把所有的叶子都吹落到地上。",
)
ZH_OTHER = Example("t", "请说出两种水果的名字和它们的颜色。", "", "苹果是红色的，香蕉是黄色的，两种水果都很好吃。")


@pytest.mark.parametrize("name", PLANTS)
@pytest.mark.parametrize(("row", "other"), [(ROW, OTHER), (ZH, ZH_OTHER)])
def test_every_plant_spoils_one_row_and_repeats(name, row, other):
    for seed in range(8):
        spoilt = PLANTS[name](row, other, seed)
        assert spoilt is not None
        assert spoilt == PLANTS[name](row, other, seed)
        assert spoilt.id != row.id
    changed = {
        key
        for key in ("instruction", "input", "output")
        if getattr(PLANTS[name](row, other, 0), key) != getattr(row, key)
    }
    assert len(changed) == 1


def test_every_plant_has_a_name_in_both_languages():
    assert set(NAMES) == set(PLANTS)


def test_rows_that_cannot_carry_a_defect_are_left_alone():
    short = Example("t", "Name a colour.", "", "Blue")
    for name in ("dropped", "swapped", "truncated", "language", "link", "repetition", "garbled"):
        assert PLANTS[name](short, short, 1) is None


def test_an_input_is_dropped_only_where_the_instruction_points_to_it():
    drop = PLANTS["dropped"]
    assert drop(ROW, OTHER, 1).input == ""
    assert (
        drop(
            Example("t", "Who painted the Mona Lisa?", "It was painted by Leonardo around 1503.", "Leonardo"), OTHER, 1
        )
        is None
    )
    assert drop(Example("t", "蒙娜丽莎是谁画的？", "它是列奥纳多在一五〇三年前后画的。", "列奥纳多"), OTHER, 1) is None
    held = "Put this sentence in the past tense: She walks to the old mill."
    assert drop(Example("t", held, "She walks to the old mill.", "She walked to the old mill."), OTHER, 1) is None


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("file", ["alpaca_52k_original", "llamafactory_alpaca_zh_demo"])
def test_what_is_planted_in_real_rows_is_found(shared, tmp_path, file):
    source = gzip.decompress((shared / f"02_alpaca/{file}.jsonl.gz").read_bytes()).splitlines()
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(source[:1200]))
    tested = selftest([path], rows=400)
    recall = {each.name: each.recall for each in tested.classes if each.planted >= 20}
    for name, found in recall.items():
        assert found >= 0.9, (name, found)
    assert set(tested.bounds) == set(tested.alarms) == {"answers", "lacks_input"}
    assert tested.false_alarms <= 0.04
    assert tested.told() == selftest([path], rows=400).told()
    assert len(lines(tested)) >= len(PLANTS)


def test_from_the_command_line(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    rows = [ROW, OTHER, ZH, ZH_OTHER]
    path.write_text(
        "".join(json.dumps({"instruction": r.instruction, "input": r.input, "output": r.output}) + "\n" for r in rows)
    )
    told = CliRunner().invoke(app, ["score", "--self-test", str(path), "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.output.splitlines()[-1])
    assert found["rows"] == 4
    assert found["bounds"] == {} and found["false_alarms"] is None
    classes = {each["name"]: each for each in found["classes"]}
    assert classes["empty"]["recall"] == 1
    assert classes["fence"]["by"]["format"] == 2
    monkeypatch.setenv("ZHILING_LANG", "zh")
    told = CliRunner().invoke(app, ["score", "--self-test", str(path)])
    assert "输出为空" in told.output
    assert "行数太少" in told.output


def test_files_without_rows_and_a_missing_output(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "Name a colour.", "output": ""}\n')
    with pytest.raises(DataError):
        selftest([path])
    told = CliRunner().invoke(app, ["score", str(path)])
    assert told.exit_code != 0
