"""The source document's third example, on the embedded model: candidates are evaluated before one is returned."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]


@pytest.mark.model
@pytest.mark.slow
def test_5_3_candidates_are_judged_before_one_is_returned():
    pytest.importorskip("torch")
    command = [sys.executable, str(TOP / "examples" / "source_5_3_generation.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "生成一个将句子翻译成法语的指令：" in done.stdout
    fates = re.findall(r"^  (refused: |scored)", done.stdout, re.M)
    assert len(fates) == 12  # six draws for each language's prompt, every one accounted for
    qualities = [float(value) for value in re.findall(r"^  quality ([\d.]+) ", done.stdout, re.M)]
    returned = re.search(r"^returned: (.*)$", done.stdout, re.M)[1]
    if qualities:
        best = re.search(rf"^  quality {max(qualities)} .*\)  (.*)$", done.stdout, re.M)[1]
        assert returned == best
    else:
        assert returned.startswith("none")
