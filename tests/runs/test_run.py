"""A run: what comes out, what is re-done, that the ledger balances and every row can be explained."""

from pathlib import Path

import making
import pytest

from zhiling import ledger
from zhiling.errors import DataError, EngineError, RecipeError
from zhiling.recipe import load
from zhiling.run import Run
from zhiling.store import views


def go(recipe: Path, folder: Path, sets=(), **options):
    with Run(load(recipe, sets), folder, workers=1, **options) as run:
        return run.execute()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    top = tmp_path_factory.mktemp("run")
    recipe = making.write(top / "recipe")
    return recipe, top / "out", go(recipe, top / "out")


def test_rows_in_are_rows_out(ran):
    _, folder, summary = ran
    assert summary.balance.came == summary.balance.went == sum(summary.balance.states.values())
    assert summary.balance.states["quarantined"] == 1
    assert summary.balance.states["merged"] > 0  # the row that was there twice
    assert summary.kept == summary.balance.states["kept"] == 120
    base = views(folder)
    assert base.execute("select count(*) from ledger").fetchone()[0] == summary.balance.came
    assert base.execute("select count(*) from (select id from kept group by id having count(*) > 1)").fetchone()[0] == 0


def test_the_quarantined_row_has_its_file_and_line(ran):
    _, folder, _ = ran
    found = views(folder).execute("select \"where\", why from ledger where state = 'quarantined'").fetchall()
    assert found == [("en.csv:9", "1 cells where the header has 2")]


def test_what_is_held_out_is_never_trained_on(ran):
    _, folder, _ = ran
    base = views(folder)
    assert base.execute("select task, count(*) from heldout group by task order by task").fetchall() == [
        ("mood", 12),
        ("心情", 18),
    ]
    assert (
        base.execute("select count(*) from kept where input <> '' and input in (select input from heldout)").fetchone()[
            0
        ]
        == 0
    )
    parents = "select unnest(parents) as p from"
    shared = f"select count(*) from ({parents} drafts) d join ({parents} heldout) h on d.p = h.p join records r on r.id = d.p"
    assert base.execute(shared).fetchone()[0] == 0


def test_chinese_rows_are_worded_in_chinese(ran):
    _, folder, _ = ran
    from zhiling.text import lang

    rows = views(folder).execute("select instruction, output, lang from kept where task = '心情'").fetchall()
    assert rows and all(
        lang(instruction) == "zh" and code == "zh" and output in ("正面", "负面") for instruction, output, code in rows
    )


@pytest.mark.parametrize("state", ["kept", "dropped", "merged", "quarantined"])
def test_any_row_can_say_why(ran, state):
    _, folder, _ = ran
    key = views(folder).execute("select id from ledger where state = ? order by id limit 1", [state]).fetchone()[0]
    found = ledger.why(folder, key[:12])
    assert found["id"] == key and state in {entry["state"] for entry in found["ledger"]}
    if state == "kept":
        assert len(found["scores"]) == 5 and len(found["records"]) == 1 and len(found["templates"]) == 1
        assert [v["selector"] for v in found["verdicts"]] == [
            "heldout",
            "decontaminate",
            "exact",
            "near",
            "threshold",
            "quota",
        ]
    if state == "dropped":
        assert any(not v["kept"] and v["why"] for v in found["verdicts"])


def test_why_names_an_id_that_is_not_there(ran):
    with pytest.raises(DataError, match="no row begins with 'zzzz'"):
        ledger.why(ran[1], "zzzz")
    with pytest.raises(DataError, match="several rows begin with ''"):
        ledger.why(ran[1], "")


def test_the_same_command_again_does_nothing_and_changes_no_byte(ran):
    recipe, folder, _ = ran
    before = making.files(folder)
    again = go(recipe, folder)
    assert again.worked == 0 and again.reused > 10
    assert making.files(folder) == before


def test_another_folder_gets_the_same_bytes(ran, tmp_path):
    recipe, folder, _ = ran
    go(recipe, tmp_path / "other")
    assert making.files(tmp_path / "other") == making.files(folder)


def test_a_changed_threshold_scores_nothing_again(ran):
    recipe, folder, _ = ran
    again = go(recipe, folder, ["select.3.quota.rows=30"])
    assert again.worked == 1 and again.kept == 60
    back = go(recipe, folder)
    assert back.worked == 0 and back.kept == 120


def test_an_edited_row_redoes_its_own_task_only(tmp_path):
    recipe = making.write(tmp_path / "recipe")
    go(recipe, tmp_path / "out", until="construct")
    data = tmp_path / "recipe" / "zh.csv"
    data.write_text(data.read_text(encoding="utf-8").replace("水壶", "茶壶"), encoding="utf-8")
    again = go(recipe, tmp_path / "out", until="construct")
    # 5 shards of English rows are found again on both sides, and so are both tasks' templates
    assert again.reused >= 12 and again.worked <= 12


@pytest.mark.parametrize(("until", "there"), [("read", False), ("construct", False), ("select", True)])
def test_until_stops_there(tmp_path, until, there):
    recipe = making.write(tmp_path / "recipe")
    summary = go(recipe, tmp_path / "out", until=until)
    assert (summary.balance is not None) == there
    with pytest.raises(RecipeError, match="unknown stage 'dance'"):
        go(recipe, tmp_path / "out", until="dance")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_one_process_three_and_ray_give_the_same_bytes(ran, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    recipe, folder, _ = ran
    with Run(load(recipe), tmp_path / "out", engine=engine, workers=3) as run:
        run.execute()
    assert making.files(tmp_path / "out") == making.files(folder)


def test_selection_that_keeps_nothing_says_so(tmp_path):
    recipe = making.write(tmp_path / "recipe", select=[{"threshold": {"scorer": "length", "min": 1000}}])
    with pytest.raises(DataError, match="the selection kept no row"):
        go(recipe, tmp_path / "out")


def test_a_task_without_a_usable_row_is_named(tmp_path):
    recipe = making.write(tmp_path / "recipe")
    (tmp_path / "recipe" / "en.csv").write_text("text,label\nonly\n")
    with pytest.raises(DataError, match="the task 'mood' has no usable rows"):
        go(recipe, tmp_path / "out")


def test_holding_out_everything_is_refused(tmp_path):
    recipe = making.write(tmp_path / "recipe")
    with pytest.raises(RecipeError, match="none left to learn from"):
        go(recipe, tmp_path / "out", ["tasks.mood.heldout=500"])


def test_a_damaged_shard_is_made_again(ran, tmp_path):
    recipe, folder, _ = ran
    go(recipe, tmp_path / "out")
    victim = next(path for path in making.files(tmp_path / "out") if path.startswith("scores/"))
    (tmp_path / "out" / victim).write_bytes(b"half")
    again = go(recipe, tmp_path / "out")
    assert again.worked == 1 and making.files(tmp_path / "out") == making.files(folder)


def test_a_ledger_that_does_not_balance_is_an_error():
    with pytest.raises(EngineError, match="does not balance: 2 rows in, 1 out"):
        ledger.balance(2, {"kept": 1})
    with pytest.raises(EngineError, match="does not balance"):
        ledger.balance(1, {"lost": 1})


def test_settings_of_tuning_are_checked_before_work_starts(tmp_path):
    recipe = making.write(tmp_path / "recipe", tune={"epoch": 3})
    with pytest.raises(RecipeError, match=r"tune.epoch: unknown key 'epoch' — did you mean 'epochs'\?"):
        go(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "records").exists()
