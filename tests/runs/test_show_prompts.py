"""`zhiling show --prompts`: what models are asked with can be read without the source, with and without a run."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from zhiling import cli
from zhiling.construct.generate.asking import book
from zhiling.show import prompts


def said(monkeypatch, capsys, *words: str, code: int = 0) -> str:
    monkeypatch.setattr(sys, "argv", ["zhiling", "show", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code or 0) == code
    out = capsys.readouterr()
    return out.out + out.err


def test_all_prompts_are_listed_with_their_paper_and_languages(monkeypatch, capsys):
    out = said(monkeypatch, capsys, "--prompts")
    for name in ("self_instruct", "evol", "magpie", "backtranslate", "coverage", "dialogue", "repair", "generate"):
        assert name in out
    assert "arXiv:2212.10560" in out
    rows = json.loads(said(monkeypatch, capsys, "--prompts", "--json"))
    assert all(set(row["langs"].split(", ")) == {"en", "zh"} for row in rows if row["steps"])


@pytest.mark.parametrize("name", list(prompts.books()))
def test_every_text_of_a_book_is_shown_in_both_languages(monkeypatch, capsys, name):
    out = said(monkeypatch, capsys, "--prompts", name)
    shipped = prompts.books()[name]["prompts"]
    for one in shipped:
        turns = one.get("turns") or [{"user": one["user"]}]
        assert all(line in out for turn in turns for content in turn.values() for line in str(content).splitlines())
    assert {one["lang"] for one in shipped} in (
        {"zh", "en"},
        set(),
    )  # a book may hold wordings that no model is asked with


def test_what_a_run_asked_with_is_told_and_its_own_file_comes_first(monkeypatch, capsys, tmp_path):
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    recipe = {"construct": ["template", {"evol": {"prompts": "ours.yaml", "style": "small"}}], "score": ["length"]}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    out = said(monkeypatch, capsys, str(run), "--prompts")
    assert "construct.evol" in out and "ours.yaml" in out and "small" in out and "repair" in out
    assert "beside the recipe" in said(monkeypatch, capsys, str(run), "--prompts", "evol")
    ours = {"version": 3, "prompts": [{"id": "wider", "lang": "zh", "turns": [{"user": "换个花样：{instruction}"}]}]}
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump(ours, allow_unicode=True), encoding="utf-8")
    out = said(monkeypatch, capsys, str(run), "--prompts", "evol")
    assert out.index("换个花样") < out.index("== deeper")
    assert book("evol", "ours.yaml", tmp_path).version == 3


def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path):
    assert "did you mean 'evol'?" in said(monkeypatch, capsys, "--prompts", "evoll", code=2)
    assert "not a run's folder" in said(monkeypatch, capsys, str(tmp_path), "--prompts", code=2)
    assert "RUN" in said(monkeypatch, capsys, code=2)
