"""The reply cache: nothing acknowledged is ever lost, whatever happens to the process, the file or the disk."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.errors import EngineError
from zhiling.llm.cache import ReplyCache
from zhiling.types import Reply, Usage

replies = st.builds(
    Reply,
    text=st.text(),
    finish=st.sampled_from(["stop", "length", "filter"]),
    model=st.text(max_size=9),
    usage=st.builds(Usage, st.none() | st.integers(0, 10**9), st.none() | st.integers(0, 10**9)),
    logprobs=st.lists(st.tuples(st.text(max_size=5), st.floats(max_value=0, allow_nan=False)), max_size=4).map(tuple),
    seconds=st.floats(0, 1e6),
    usd=st.none() | st.floats(0, 1e3),
)


def put_all(cache: ReplyCache, pairs: dict[str, Reply], model: str = "m@x") -> None:
    async def put() -> None:
        await asyncio.gather(*(cache.put(key, model, reply) for key, reply in pairs.items()))

    asyncio.run(put())


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text("0123456789abcdef", min_size=1, max_size=20), replies, max_size=20))
def test_what_is_put_comes_back_whole(tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, Reply]) -> None:
    cache = ReplyCache(tmp_path_factory.mktemp("cache") / "replies.sqlite")
    put_all(cache, pairs)
    cache.close()
    again = ReplyCache(cache.path)
    for key, reply in pairs.items():
        found = again.get(key)
        assert found is not None
        assert found.cached and found.key == key
        kept = (found.text, found.finish, found.model, found.usage, found.logprobs, found.seconds, found.usd)
        text = reply.text.encode("utf-8", "replace").decode()
        assert kept == (text, reply.finish, reply.model, reply.usage, reply.logprobs, reply.seconds, reply.usd)
    assert again.get("never put") is None
    again.close()


def test_a_put_is_seen_at_once_by_its_own_process_and_soon_by_others(tmp_path: Path) -> None:
    first, second = ReplyCache(tmp_path / "c"), ReplyCache(tmp_path / "c")

    async def main() -> None:
        assert first.get("k") is None and second.get("k") is None  # both now read in a snapshot
        await first.put("k", "m", Reply("one"))
        assert first.get("k").text == "one"  # type: ignore[union-attr]
        await first.put("k", "m", Reply("two"))  # the first reply kept under a key stays
        for _ in range(200):
            if second.get("k") is not None:
                break
            await asyncio.sleep(0.02)
        assert second.get("k").text == "one"  # type: ignore[union-attr]

    asyncio.run(main())
    assert first.get("k").text == "one"  # type: ignore[union-attr]
    first.close(), second.close()


def test_the_cache_outlives_event_loops_and_a_close(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "c")
    for i in range(3):
        put_all(cache, {f"k{i}": Reply(str(i))})
        cache.close()
    assert [cache.get(f"k{i}").text for i in range(3)] == ["0", "1", "2"]  # type: ignore[union-attr]
    cache.close()


def test_a_copied_file_serves_elsewhere(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "here" / "c")
    put_all(cache, {"k": Reply("kept", usage=Usage(3, 4))})
    cache.close()
    (tmp_path / "there").mkdir()
    shutil.copy(cache.path, tmp_path / "there" / "c")  # the file alone, without what lies beside it
    copy = ReplyCache(tmp_path / "there" / "c")
    assert copy.get("k").text == "kept"  # type: ignore[union-attr]
    copy.close()


WRITER = """
    import asyncio, os, sys
    from zhiling.llm.cache import ReplyCache
    from zhiling.types import Reply

    async def one(cache, key):
        await cache.put(key, "m", Reply(f"text of {key}"))
        os.write(1, f"{key}\\n".encode())

    async def main():
        cache = ReplyCache(sys.argv[1])
        for start in range(0, 100_000, 50):
            await asyncio.gather(*(one(cache, f"{sys.argv[2]}{i}") for i in range(start, start + 50)))

    asyncio.run(main())
"""


@pytest.mark.parametrize("moment", [0.05, 0.15, 0.3])
def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path, moment: float) -> None:
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER))
    path = tmp_path / "c"
    command = [sys.executable, str(script), str(path)]
    processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in "ab"]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline()  # it is under way
    time.sleep(moment)
    acknowledged: list[str] = []
    for process, name in zip(processes, "ab", strict=True):
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        lines = process.stdout.read().decode().split("\n")
        acknowledged += [f"{name}0", *(line for line in lines[:-1])]  # the last line may be cut
        process.wait()
    cache = ReplyCache(path)
    missing = [key for key in acknowledged if (found := cache.get(key)) is None or found.text != f"text of {key}"]
    assert len(acknowledged) > 20 and missing == []
    cache.close()


def test_a_forked_child_writes_through_its_own_connections(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "c")
    put_all(cache, {"parent": Reply("p")})
    child = os.fork()
    if child == 0:
        ok = cache.get("parent") is not None
        put_all(cache, {"child": Reply("c")})
        os._exit(0 if ok and cache.get("child") is not None else 1)
    assert os.waitpid(child, 0)[1] == 0
    put_all(cache, {"after": Reply("a")})
    assert all(cache.get(key) is not None for key in ("parent", "child", "after"))
    cache.close()


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(EngineError, match="not a reply cache"):
        ReplyCache(path)
    assert path.read_bytes() == before


def test_a_file_of_another_kind_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all\n" * 100)
    with pytest.raises(EngineError, match=r"notes\.txt.*damaged or not a SQLite file.*move it away"):
        ReplyCache(path)


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "c")
    put_all(cache, {f"k{i}": Reply("x" * 500) for i in range(200)})
    cache.close()
    raw = bytearray(cache.path.read_bytes())
    for page in range(1, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    cache.path.write_bytes(bytes(raw))
    with pytest.raises(EngineError, match="damaged"):
        broken = ReplyCache(cache.path)
        broken.get("k1")


def test_a_newer_cache_is_not_touched(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "c")
    cache.close()
    with sqlite3.connect(cache.path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(EngineError, match="newer"):
        ReplyCache(cache.path)


def test_a_full_disk_is_said_so_and_what_was_kept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ReplyCache(tmp_path / "c")
    put_all(cache, {"small": Reply("x")})
    cache.close()
    connect = ReplyCache._connect

    def small_disk(self: ReplyCache) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA max_page_count=20")
        return connection

    monkeypatch.setattr(ReplyCache, "_connect", small_disk)
    with pytest.raises(EngineError, match="disk is full"):
        put_all(cache, {"large": Reply("x" * 200_000)})
    assert cache.get("small") is not None and cache.get("large") is None
    cache.close()


def test_info_prune_and_export(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "c")
    put_all(
        cache, {"a": Reply("甲", usage=Usage(10, 2), usd=0.5), "b": Reply("乙", usage=Usage(1, 1), usd=0.25)}, "paid@x"
    )
    put_all(cache, {"c": Reply("丙", usage=Usage(5, 5))}, "unknown@x")
    info = cache.info()
    assert info["replies"] == 3 and info["bytes"] > 0
    assert info["models"] == [
        {"model": "paid@x", "replies": 2, "prompt_tokens": 11, "completion_tokens": 3, "usd": 0.75},
        {"model": "unknown@x", "replies": 1, "prompt_tokens": 5, "completion_tokens": 5, "usd": None},
    ]
    assert cache.export(tmp_path / "out.jsonl") == 3
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["key"], row["text"]) for row in rows] == [("a", "甲"), ("b", "乙"), ("c", "丙")]
    with sqlite3.connect(cache.path) as connection:
        connection.execute("UPDATE replies SET created = created - 10 * 86400 WHERE key = 'a'")
    connection.close()
    assert cache.prune(older_than_days=9) == 1
    assert cache.get("a") is None and cache.get("b") is not None
    assert cache.prune(older_than_days=9) == 0
    cache.close()


def test_no_prompt_is_in_the_file(tmp_path: Path) -> None:
    from zhiling.llm import open_model
    from zhiling.types import Request

    async def main() -> None:
        async with open_model({"provider": "fake", "script": ["an answer"]}, cache=tmp_path / "c") as model:
            await model.ask(Request(messages=(("user", "a secret question"),)))

    asyncio.run(main())
    raw = (tmp_path / "c").read_bytes()
    assert b"an answer" in raw and b"secret" not in raw
