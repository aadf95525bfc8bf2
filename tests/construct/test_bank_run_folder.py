"""`zhiling bank add BANK RUN`: what a run kept becomes instructions of a bank, in both languages, once."""

import json

import making
import pytest
from typer.testing import CliRunner

from zhiling import api
from zhiling.cli import app
from zhiling.construct.bank import Bank
from zhiling.errors import DataError
from zhiling.store import current, read


@pytest.mark.model
def test_the_kept_rows_of_a_run_are_added_once_with_their_ids(tmp_path):
    path = making.write(tmp_path, score=["length"], select=["exact", {"quota": {"rows": 6}}])
    api.run(path, tmp_path / "run", until="construct")
    call = lambda *words: CliRunner().invoke(app, ["bank", *map(str, words)])  # noqa: E731
    early = call("add", tmp_path / "bank", tmp_path / "run", "--licence", "MIT")
    assert isinstance(early.exception, DataError) and "kept no rows yet" in str(early.exception)
    assert not (tmp_path / "bank").exists()  # a bank is not made for nothing

    api.run(path, tmp_path / "run")
    kept = {row.id: row for done in current(tmp_path / "run") for row in read(tmp_path / "run", done.of("kept"))}
    unlicensed = call("add", tmp_path / "bank", tmp_path / "run")
    assert isinstance(unlicensed.exception, DataError) and "no licence" in str(unlicensed.exception)
    assert f"{len(kept)} added" in call("add", tmp_path / "bank", tmp_path / "run", "--licence", "CC BY 4.0").output
    assert (
        f"0 added, {len(kept)} there already"
        in call("add", tmp_path / "bank", tmp_path / "run", "--licence", "x").output
    )

    rows = {row.id: row for row in Bank.open(tmp_path / "bank").rows()}
    assert rows.keys() == kept.keys() and {row.lang for row in rows.values()} == {"zh", "en"}
    for name, row in rows.items():
        assert (row.instruction, row.input, row.output) == (kept[name].instruction, kept[name].input, kept[name].output)
        assert (row.task, row.licence, row.source) == (kept[name].task, "CC BY 4.0", "run")
    found = json.loads(call("search", "判断评论", "-b", tmp_path / "bank", "-k", "1", "--json").output)
    assert found[0]["row"]["task"] == "心情"
