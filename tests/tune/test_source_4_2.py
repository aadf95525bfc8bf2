from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "source_4_2_multitask.py"


@pytest.mark.model
def test_the_sources_multitask_example_prints_the_formulas_loss(tmp_path, capsys):
    runpy.run_path(str(EXAMPLE))["main"](tmp_path)  # it asserts that the two agree, per task and in all
    out = capsys.readouterr().out
    assert out.count("step ") == 4 and out.count("classification") == out.count("question answering") == 6
    assert "the printed loss is the formula's" in out
