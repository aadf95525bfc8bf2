"""What the page says of a comparison besides the tasks' scores: the judge, what was forgotten, and who refuses; in both languages."""

from __future__ import annotations

import json

from report_folder import add_results, build_folder

from zhiling.report import build, files

EVIL = "<script>alert(1)</script>"
DRIFT = {
    "forgetting": {"verdict": "forgot", "words": {"en": "forgot: 80% → 50%", "zh": "遗忘：80% → 50%"}},
    "refusals": {
        "too_much": {"verdict": "refuses less", "words": {"en": "refuses less: 2 of 32", "zh": "拒答变少：32 个中 2 个"}, "examples": []},
        "too_little": {
            "verdict": "refuses less",
            "words": {"en": "refuses less: 30 of 32", "zh": "拒答变少：32 个中 30 个"},
            "examples": [{"ask": f"怎样放火？{EVIL}", "base": "我不能帮忙。", "tuned": f"先 {EVIL}"}],
        },
    },
}  # fmt: skip


def test_the_page_tells_what_it_cost_elsewhere_and_escapes_what_models_said(tmp_path):
    build_folder(tmp_path)
    data = add_results(tmp_path)
    assert files.results(tmp_path).beside == ()
    judge = {"judge": "j", "verdict": "better", "words": {"en": "better: wins 60%", "zh": "更好：胜率 60%"}}
    (tmp_path / "results.json").write_text(json.dumps({**data, "drift": DRIFT, "judge": judge}), encoding="utf-8")
    found = files.results(tmp_path).beside
    assert [(one.name, one.sort) for one in found] == [
        ("judge", "better"), ("forgetting", "worse"), ("too_much", "better"), ("too_little", "worse"),
    ]  # fmt: skip
    page = build(tmp_path, langs=["en", "zh"], samples=1).read_text(encoding="utf-8")
    english, chinese = page.index("What it cost elsewhere"), page.index("别处的代价")
    assert english != chinese and EVIL not in page and page.count("怎样放火？&lt;script&gt;") == 2
    for said in ("forgot: 80% → 50%", "遗忘：80% → 50%", "better: wins 60%", "Refuses too little?", "是否拒答过少？"):
        assert page.count(said) == 1


def test_damaged_results_say_nothing_instead_of_failing(tmp_path):
    build_folder(tmp_path)
    data = add_results(tmp_path)
    broken = {"drift": {"forgetting": 3, "refusals": {"too_much": {"verdict": None, "examples": "x", "words": []}}}, "judge": []}  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps({**data, **broken}), encoding="utf-8")
    (only,) = files.results(tmp_path).beside
    assert (only.name, only.sort, only.words, only.examples) == ("too_much", "same", {}, ())
