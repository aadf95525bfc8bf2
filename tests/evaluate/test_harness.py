"""Tasks of lm-evaluation-harness: its numbers in our shape, a clear word where it is absent, and a model of ours loaded by it."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from zhiling.errors import DataError, RecipeError
from zhiling.proof import harness
from zhiling.proof.sides import Side

LOCAL = Side("m", {"provider": "transformers", "model": "nowhere"})


def test_its_numbers_become_ours_with_intervals():
    values = {"alias": "x", "acc,none": 0.5, "acc_stderr,none": 0.05, "em,strict": 0.25, "em_stderr,strict": "N/A"}
    found = harness.told("m", "lm_eval:x", values, 100, 0.95)
    task = found["tasks"]["lm_eval:x"]
    assert (task["metric"], task["n"], task["score"]) == ("acc", 100, 0.5)
    assert task["low"] == pytest.approx(0.402, abs=1e-3) and task["high"] == pytest.approx(0.598, abs=1e-3)
    assert task["metrics"]["em,strict"] == {"score": 0.25, "low": None, "high": None}
    with pytest.raises(DataError, match="no number"):
        harness.told("m", "lm_eval:x", {"alias": "x"}, 1, 0.95)


def test_an_absent_package_and_a_far_model_are_one_line_each(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "en")
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="not installed — pip install lm-eval"):
        harness.measure(LOCAL, "arc_easy", watch=print)
    monkeypatch.setattr(harness, "find_spec", lambda name: object())
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(RecipeError, match="只能评测本机模型"):
        harness.measure(Side("far", {"provider": "openai", "model": "x"}), "arc_easy", watch=print)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")
def test_a_whole_model_of_ours_is_loaded_and_measured_on_a_local_task(tmp_path):
    sys.path.insert(0, str(Path(__file__).parents[1] / "tune"))
    from tiny_models import tiny

    rows = [{"q": f"{k} + 1 =", "choices": [str(k + 1), str(k + 2)], "gold": 0} for k in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "sums.yaml").write_text(
        f"task: zhiling_sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: '{{choices}}'\ndoc_to_target: gold\n"
        "metric_list: [{metric: acc}]\n",
        encoding="utf-8",
    )
    side = Side("tiny", {"provider": "transformers", "model": str(tiny(tmp_path / "model", "llama"))})
    found = harness.measure(side, "zhiling_sums", include=tmp_path, watch=lambda event: None)
    task = found["tasks"]["lm_eval:zhiling_sums"]
    assert task["metric"] == "acc" and task["n"] == 6 and 0.0 <= task["score"] <= 1.0 and task["low"] is not None
    with pytest.raises(RecipeError, match="zhiling_summs"):
        harness.measure(side, "zhiling_summs", include=tmp_path, watch=lambda event: None)
