"""`zhiling cache`: what was paid for can be looked at, pruned, exported, merged, copied and shared."""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from loopback import Loopback
from test_bad_input import error_of, zhiling
from test_bill import recipe

from zhiling.llm import ReplyCache
from zhiling.llm.cache import ReplyCache as Cache
from zhiling.types import Reply, Usage


def filled(path: Path, replies: dict[str, Reply], model: str = "strong@https://x.example/v1") -> Path:
    async def put() -> None:
        cache = ReplyCache(path)
        await asyncio.gather(*(cache.put(key, model, reply) for key, reply in replies.items()))
        cache.close()

    asyncio.run(put())
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder like a run's, with three replies of two models."""
    folder = tmp_path / "运行"
    paid = {
        "a": Reply("甲", model="strong", usage=Usage(10, 2), usd=0.5),
        "b": Reply("b", model="strong", usage=Usage(1, 1), usd=0.25),
    }
    filled(folder / "replies.sqlite", paid)
    filled(folder / "replies.sqlite", {"c": Reply("丙", model="weak", usage=Usage(5, 5))}, "weak@https://y.example/v1")
    return folder


def test_info_tells_models_tokens_and_money(run: Path) -> None:
    found = json.loads(zhiling("cache", "info", run, "--json").stdout)
    assert (
        found["replies"] == 3
        and found["bytes"] > 0
        and found["first"] <= found["last"]
        and found["last"].endswith("+00:00")
    )
    assert [(m["replies"], m["prompt_tokens"], m["usd"]) for m in found["models"]] == [(2, 11, 0.75), (1, 5, None)]
    shown = zhiling("cache", "info", run / "replies.sqlite").stdout
    assert "0.75" in shown and "unknown" in shown and "strong@https://x.example/v1" in shown
    assert "未知" in zhiling("cache", "info", run, env={"ZHILING_LANG": "zh"}).stdout


def test_prune_only_says_what_would_go_until_told_to(run: Path) -> None:
    with sqlite3.connect(run / "replies.sqlite") as connection:
        connection.execute("UPDATE replies SET created = created - 10 * 86400 WHERE key = 'a'")
    connection.close()
    assert "1 replies would go" in zhiling("cache", "prune", run, "--older-than", 9).stdout
    assert "2 replies would go" in zhiling("cache", "prune", run, "--model", "strong").stdout
    assert (
        "1 replies would go"
        in zhiling("cache", "prune", run, "--model", "weak@https://y.example/v1", "--dry-run").stdout
    )
    assert json.loads(zhiling("cache", "info", run, "--json").stdout)["replies"] == 3
    assert (
        "1 replies forgotten" in zhiling("cache", "prune", run, "--model", "strong", "--older-than", 9, "--yes").stdout
    )
    cache = Cache(run / "replies.sqlite")
    assert cache.get("a") is None and cache.get("b") is not None and cache.get("c") is not None
    cache.close()
    nothing = zhiling("cache", "prune", run, "--yes")
    assert nothing.returncode == 2 and "say which replies to forget" in error_of(nothing)


def test_prune_refuses_while_a_run_is_at_work(run: Path) -> None:
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = zhiling("cache", "prune", run, "--model", "strong", "--yes")
        assert done.returncode == 1 and "a run is at work in this folder — wait for it to end" in error_of(done)
    assert zhiling("cache", "prune", run, "--model", "strong", "--yes").returncode == 0


def test_export_is_one_line_per_reply(run: Path, tmp_path: Path) -> None:
    assert "3 replies" in zhiling("cache", "export", run, "-o", tmp_path / "o.jsonl").stdout
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["key"], line["text"], line["usd"]) for line in lines] == [
        ("a", "甲", 0.5),
        ("b", "b", 0.25),
        ("c", "丙", None),
    ]
    assert lines[0]["usage"] == {"prompt": 10, "completion": 2} and lines[0]["date"].endswith("+00:00")


def test_merge_takes_in_what_is_not_there(run: Path, tmp_path: Path) -> None:
    other = filled(tmp_path / "other.sqlite", {"a": Reply("another"), "d": Reply("丁")})
    done = zhiling("cache", "merge", tmp_path / "all.sqlite", run, other)
    assert "3 replies taken in" in done.stdout and "1 replies taken in" in done.stdout
    cache = Cache(tmp_path / "all.sqlite")
    assert {key: cache.get(key).text for key in "abcd"} == {"a": "甲", "b": "b", "c": "丙", "d": "丁"}  # type: ignore[union-attr]
    cache.close()


@pytest.mark.parametrize("command", [("info",), ("prune", "--older-than", 1), ("export", "-o", "o.jsonl"), ("merge",)])
@pytest.mark.parametrize("wrong", ["none", "empty folder", "text", "foreign", "half", "empty"])
def test_a_wrong_file_is_one_line_and_left_as_it_is(run: Path, tmp_path: Path, command: tuple, wrong: str) -> None:
    file = tmp_path / "file"
    if wrong == "empty folder":
        file.mkdir()
    elif wrong == "foreign":
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    elif wrong == "half":
        filled(run / "replies.sqlite", {f"k{i}": Reply("text " * 50) for i in range(300)})
        whole = (run / "replies.sqlite").read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    elif wrong != "none":
        file.write_text("id,text\n1,a\n" * 999 if wrong == "text" else "")
    before = file.read_bytes() if file.is_file() else None
    args = ("merge", tmp_path / "into", file) if command == ("merge",) else (command[0], file, *command[1:])
    done = zhiling("cache", *args)
    assert done.returncode == 2
    said = {"foreign": "not a reply cache of zhiling", "half": "damaged", "text": "damaged or not a SQLite file"}
    assert said.get(wrong, "no reply cache here") in error_of(done) and str(file) in error_of(done)
    assert (file.read_bytes() if file.is_file() else None) == before and not (tmp_path / "into").exists()
    assert wrong != "none" or not file.exists()


def test_a_copied_cache_serves_elsewhere_and_is_shared(tmp_path: Path) -> None:
    """Paid once, copied to another place, and named there by a recipe: nothing is asked again, with no server to ask."""
    with Loopback() as server:
        path = recipe(tmp_path / "r", server.url)
        assert zhiling("run", path, "-o", tmp_path / "out", "--workers", 1, "--until", "construct").returncode == 0
        asked = sum(server.done.values())
    assert asked == 24
    (tmp_path / "far").mkdir()
    shutil.copy(tmp_path / "out" / "replies.sqlite", tmp_path / "far" / "shared.sqlite")
    shutil.rmtree(tmp_path / "out")
    shared = "cache=../far/shared.sqlite"
    done = zhiling("run", path, "-o", tmp_path / "new", "--workers", 1, "--until", "construct", "--set", shared)
    assert done.returncode == 0, done.stderr
    spent = json.loads((tmp_path / "new" / "run.json").read_text())["spent"]["strong"]
    assert (spent["calls"], spent["cached"], spent["usd"]) == (0, 24, 0.0)
    assert not (tmp_path / "new" / "replies.sqlite").exists()
