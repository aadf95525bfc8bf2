"""The shipped recipes that show one feature each run as they stand, and what they promise is in their rows."""

import json
from pathlib import Path

import pytest
from making import files

from zhiling.export import export
from zhiling.recipe import load
from zhiling.run import Run
from zhiling.store import current, read

RECIPES = Path(__file__).parents[2] / "recipes"


def ran(name, folder, workers=1):
    with Run(load(RECIPES / f"{name}.yaml"), folder, until="select", workers=workers) as run:
        run.execute()
    return {kind: [row for done in current(folder) for row in read(folder, done.of(kind))] for kind in ("kept", "heldout", "records", "rejects")}  # fmt: skip


@pytest.mark.model
def test_few_shot(tmp_path):
    rows = ran("few_shot", tmp_path / "one")
    shown = [row for row in rows["kept"] if len(row.parents) > 2]
    held = {row.parents[1] for row in rows["heldout"]}
    assert len(held) == 40 and all(len(row.parents) == 4 for row in rows["heldout"])
    for row in [*shown, *rows["heldout"]]:
        assert not {*row.parents[2:]} & {row.parents[1], *held}  # neither the row itself nor a held-out one
    makers = [row.maker for row in shown]
    assert makers and max(map(makers.count, makers)) == 30
    assert {row.output for row in rows["kept"]} == {"好评", "差评", "favourable", "unfavourable"}
    ran("few_shot", tmp_path / "two", workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_inverted(tmp_path):
    rows = ran("inverted", tmp_path)
    kept, records = rows["kept"], {row.id: row.fields for row in rows["records"]}
    asked = [row for row in kept if row.output == records[row.parents[1]]["question"]]
    talks = [row for row in kept if row.history]
    assert 0.3 < len(asked) / len(kept) < 0.7 and {row.lang for row in asked} == {row.lang for row in talks} == {
        "zh",
        "en",
    }
    assert all(records[row.parents[1]]["answer"] in row.prompt for row in asked)
    assert all(row.output == records[row.parents[1]]["answer"] for row in rows["heldout"])
    for form, key in (("messages", "messages"), ("sharegpt", "conversations")):
        assert export(tmp_path, tmp_path / "o.jsonl", form) == len(kept)
        written = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
        assert sum(len(row[key]) == 4 for row in written) == len(talks)


@pytest.mark.parametrize("form", ["alpaca", "natural_instructions"])
def test_an_export_read_back_is_the_rows(tmp_path, form):
    from zhiling.data import rows as raw
    from zhiling.data.formats import samples
    from zhiling.export import sample_of

    kept = ran("inverted", tmp_path)["kept"]
    export(tmp_path, tmp_path / "o.jsonl", form)
    key = lambda one: (one.instruction, one.input, one.output, one.system, str(one.history))  # noqa: E731
    back = [one for _, one in samples(form, raw(tmp_path / "o.jsonl"))]
    assert sorted(map(key, back)) == sorted(key(sample_of(row)) for row in kept)


def test_preferences_come_out_as_they_went_in(tmp_path, shared):
    import gzip

    kept = ran("preferences", tmp_path)["kept"]
    assert export(tmp_path, tmp_path / "o.jsonl", "dpo") == len(kept) > 500
    source = set()
    for lang in ("en", "zh"):
        with gzip.open(shared / f"02_alpaca/llamafactory_dpo_{lang}_demo.jsonl.gz", "rt", encoding="utf-8") as given:
            source |= {json.dumps(json.loads(line), sort_keys=True) for line in given}
    for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines():
        assert json.dumps(json.loads(line), sort_keys=True) in source
    assert any(row.history for row in kept) and any(row.system for row in kept)


def test_sources(tmp_path, shared):
    rows = ran("sources", tmp_path)
    files_ = {row.file.rpartition(":")[2] for row in rows["records"]}
    assert files_ == {"20130808-AVvgpKt5uCA_ass.combination.ass", "Track"} and len(rows["kept"]) > 150
    assert {row.why for row in rows["rejects"]} == {"the field 'input' is empty", "the field 'output' is empty"}


@pytest.mark.model
def test_why_names_a_rows_own_record_first(tmp_path):
    from zhiling.ledger import why

    row = next(row for row in ran("few_shot", tmp_path)["kept"] if len(row.parents) > 2)
    assert [record["id"] for record in why(tmp_path, row.id)["records"]] == list(row.parents[1:])


@pytest.mark.parametrize("named", ["", "data"])
def test_the_shared_folder_may_be_named_with_or_without_its_data(tmp_path, monkeypatch, named):
    from zhiling.data import expand

    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ZHILING_SHARED", str(tmp_path / named))
    assert expand("${ZHILING_SHARED}/x.csv", tmp_path) == tmp_path / "data" / "x.csv"
