"""Leaks and rewordings on the way through a whole run: audit, select, and an evaluation file that changes."""

from __future__ import annotations

import json
from pathlib import Path

from zhiling.judging.audit import audit, grouped
from zhiling.judging.dataset import Asked, select
from zhiling.text import lang

ITEM = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did she sell altogether?"
SHOWN = "What number of clips did Greta sell in all, if she sold clips to forty-eight of her pals in April, and after that half as many clips in May?"
POEM = "写一首关于秋天的诗，不超过四行。"


def written(path: Path, *instructions: str) -> Path:
    rows = ({"instruction": text, "input": "", "output": f"answer {at}"} for at, text in enumerate(instructions))
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_an_audit_tells_a_reworded_leak_from_a_copy(tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.jsonl", ITEM, SHOWN, POEM)
    found = grouped(
        audit(Asked([rows], ("format",), against=[written(tmp_path / "exam.jsonl", ITEM)]), tmp_path / "run")
    )
    counts = {finding["code"]: finding["rows"] for finding in found["findings"]}
    assert counts["leak"] == 1
    assert counts["leak_reworded"] == 1


def test_an_edited_evaluation_file_selects_anew(tmp_path: Path) -> None:
    rows, exam = written(tmp_path / "rows.jsonl", SHOWN, POEM), tmp_path / "exam.jsonl"
    exam.write_text(json.dumps({"question": "哪个城市是法国的首都，它位于哪条河上？"}) + "\n", encoding="utf-8")
    asked = Asked([rows], ("length",), [{"decontaminate": {"against": [str(exam)]}}])
    assert select(asked, tmp_path / "kept.jsonl", tmp_path / "run").kept == 2
    exam.write_text(json.dumps({"question": ITEM}) + "\n", encoding="utf-8")
    assert select(asked, tmp_path / "kept.jsonl", tmp_path / "run").kept == 1


def test_the_guards_run_unasked_and_the_rival_is_the_evaluation_row(tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.jsonl", ITEM, SHOWN, POEM)
    exam = written(tmp_path / "exam.jsonl", ITEM)
    found = select(Asked([rows], ("length",), ["exact"], against=[exam]), tmp_path / "kept.jsonl", tmp_path / "run")
    assert found.kept == 1 and found.reasons == {"heldout": 1, "decontaminate": 1}
    free = select(Asked([rows], ("length",), ["exact"]), tmp_path / "all.jsonl", tmp_path / "free")
    assert free.kept == 3  # where nothing is evaluated there is nothing to leak


def test_a_run_with_heldout_rows_decontaminates_and_drops_no_row_for_its_wording(tmp_path: Path) -> None:
    """Short reviews of like wording in many templates: only the other language's version of a held-out review may go, none of its own."""
    import making

    from zhiling.recipe import load
    from zhiling.run import Run
    from zhiling.store import current, read

    with Run(load(making.write(tmp_path / "small")), tmp_path / "run", until="select", workers=1) as run:
        run.execute()
    chosen = next(done for done in current(tmp_path / "run") if done.stage == "select")
    assert [step["selector"] for step in chosen.facts["chain"]][:2] == ["heldout", "decontaminate"]
    gone = [v for v in read(tmp_path / "run", chosen.of("verdicts")) if v.selector == "decontaminate" and not v.kept]
    held = {
        row.id: row for row in read(tmp_path / "run", [o for d in current(tmp_path / "run") for o in d.of("heldout")])
    }
    rows = {
        row.id: row for row in read(tmp_path / "run", [o for d in current(tmp_path / "run") for o in d.of("examples")])
    }
    assert 0 < len(gone) < 0.05 * len(rows)
    assert all(lang(rows[v.example].input) != lang(held[v.rival].input) for v in gone)
