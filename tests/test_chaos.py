"""SIGKILL in every stage of a recipe: the same command goes on, asks no answered question again, and ends with the same bytes.

The whole sentence runs on small stand-ins: a loopback endpoint for the candidates, a random two-layer model for tuning.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import loopback
import making
import pytest
import yaml

from zhiling.store import views

STAGES = ("read", "construct/1-generate", "construct/0-template", "score/relevance", "select", "tune", "evaluate/base")
ASKED = {"candidates": 40, "keep": 2, "floor": 0.05, "tasks": ["mood"], "weights": {"relevance": 1.0}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    pytest.importorskip("torch")
    sys.path.insert(0, str(Path(__file__).parent / "tune"))
    from tiny_models import tiny

    return tiny(tmp_path_factory.mktemp("tiny") / "model", "llama")


def recipe(folder: Path, url: str, tiny: Path) -> Path:
    return making.write(
        folder,
        models={"m": {"provider": "openai", "model": "x", "base_url": url, "lanes": 4}},
        construct=[{"template": {"per_record": 1}}, {"generate": ASKED}],
        tune={"model": str(tiny), "max_steps": 30, "checkpoint_every": 3, "batch_rows": 4, "threads": 1},
        evaluate={"rows": 6, "max_tokens": 4},
        report={"langs": ["zh"]},
    )


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zhiling.cli", "run", str(recipe), "-o", str(out), "--workers", "2"]
    env = {**os.environ, "ZHILING_LANG": "en"}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True, env=env
    )


def killed_in(work: subprocess.Popen[str], stage: str, delay: float) -> bool:
    """Wait until the stage begins and a little longer, then SIGKILL the command and its workers; False when it ended before."""
    words = stage.split("/")
    for line in work.stderr:
        if all(word in line for word in words):
            time.sleep(delay)
            os.killpg(work.pid, signal.SIGKILL)
            work.wait()
            return True
    return work.wait() != 0


def answered(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def cached_bodies(out: Path, url: str, recipe: Path) -> set[str]:
    """The bodies, as the server's log names them, of the requests whose replies are in the cache."""
    from zhiling.construct.generate.instructions import requests
    from zhiling.llm import open_model
    from zhiling.recipe import load
    from zhiling.steps import task_seed

    path = out / "replies.sqlite"
    if not path.exists():
        return set()
    keys = {row[0] for row in sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("select key from replies")}
    task = load(recipe).tasks["mood"].task("mood")
    provider = open_model({"provider": "openai", "model": "x", "base_url": url}, cache=None).provider
    asked = requests(task, "en", 40, task_seed(5, task, "1-generate"), 0.6, 64)
    return {loopback.body_hash(provider._body(request)) for _, request in asked if request.key(provider.model) in keys}


def results(out: Path) -> dict[str, bytes]:
    """Everything that must not depend on what happened on the way."""
    weights = next((out / "tune").rglob("adapter_model.safetensors"))
    return {**making.files(out), "weights": weights.read_bytes(), "results": (out / "results.json").read_bytes()}


@pytest.mark.slow
def test_killed_in_every_stage_nothing_is_lost_or_asked_twice(tmp_path, tiny, pytestconfig):
    kills = pytestconfig.getoption("chaos_kills")
    log, chance = tmp_path / "answered.log", random.Random(11)
    with loopback.Loopback(delay_ms=30, log=log) as server:
        made = recipe(tmp_path / "r", server.url, tiny)
        whole = start(made, tmp_path / "whole")
        said = whole.stderr.read()
        assert whole.wait() == 0, said
        expected, once = results(tmp_path / "whole"), len(answered(log))
        assert once == 40
        done, number, hit = 0, 0, dict.fromkeys(STAGES, 0)
        out = tmp_path / "out0"
        while done < kills:
            stage = STAGES[number % len(STAGES)]
            number += 1
            before, known = answered(log), cached_bodies(out, server.url, made)
            if killed_in(start(made, out), stage, chance.uniform(0, 0.5)):
                done, hit[stage] = done + 1, hit[stage] + 1
            fresh = answered(log)[len(before) :]
            assert not known & set(fresh), "a reply that was in the cache was asked for again"
            if stage == STAGES[-1]:  # next time round from the beginning
                assert start(made, out).wait() == 0
                assert results(out) == expected
                out = tmp_path / f"out{number}"
        assert start(made, out).wait() == 0
        assert results(out) == expected
        assert all(hit.values()), f"some stage was never hit: {hit}"


# ---------------------------------------------------------------- ten thousand calls under every fault that passes, killed at random

FAULTS = {"429": 0.06, "429-soon": 0.02, "500": 0.03, "503": 0.02, "reset": 0.02, "cut": 0.01, "truncated": 0.02, "garbage": 0.01,
          "empty": 0.01, "html502": 0.01, "noise": 0.01, "hang": 0.002, "drip": 0.002}  # fmt: skip
ASKER = """
from zhiling.registry import scorer
from zhiling.types import Reply, Request, Score


def question(example):
    return Request(messages=(("user", f"Is this clear? {example.instruction} {example.input}"),), max_tokens=32)


@scorer("asked", low=0, high=9, better="none", langs=("zh", "en"))
async def asked(examples, *, model):
    \"\"\"A score that asks a model about each row.\"\"\"
    replies = await model.ask_all([question(example) for example in examples])
    return [
        Score(example.id, "asked", len(reply.text) % 10, reply.text)
        if isinstance(reply, Reply)
        else Score(example.id, "asked", None, str(reply))
        for example, reply in zip(examples, replies, strict=True)
    ]
"""


def plug_in(folder: Path) -> Path:
    """A package with the scorer `asked`, as pip would lay it out: whoever has the folder on PYTHONPATH has the plug-in."""
    facts = folder / "asker-1.dist-info"
    facts.mkdir(parents=True)
    (folder / "asker.py").write_text(ASKER)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: asker\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[zhiling]\nasker = asker\n")
    return folder


def many_calls(folder: Path, url: str, rows: int) -> Path:
    """A recipe with one call per row: half its rows Chinese, half English."""
    folder.mkdir()
    for lang, text in (("en", "The kettle of order number {} worked."), ("zh", "编号{}的水壶很好用。")):
        lines = (json.dumps({"text": text.format(i), "label": "good"}) for i in range(rows // 2))
        (folder / f"{lang}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = {"family": "classification", "description": "Say whether a review is good. 判断评论好坏。", "inputs": ["text"],
            "target": "label", "labels": ["good", "bad"]}  # fmt: skip
    made = {
        "name": "calls",
        "shard_rows": max(100, rows // 12),
        "models": {
            "m": {"provider": "openai", "model": "x", "base_url": url, "lanes": 32, "timeout": 0.5, "retries": 12}
        },
        "tasks": {lang: {**task, "langs": [lang], "data": f"{lang}.jsonl"} for lang in ("en", "zh")},
        "construct": [{"template": {"per_record": 1}}],
        "score": ["asked"],
        "select": ["exact"],
        "report": False,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(made, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def bodies(out: Path, url: str) -> dict[str, str]:
    """The server's name of each row's question, by its key in the reply cache."""
    import asker

    from zhiling.llm import open_model
    from zhiling.store import current, read

    provider = open_model({"provider": "openai", "model": "x", "base_url": url}, cache=None).provider
    asked = map(asker.question, read(out, [output for done in current(out) for output in done.of("examples")]))
    return {request.key(provider.model): loopback.body_hash(provider._body(request)) for request in asked}


def known(out: Path) -> set[str]:
    path = out / "replies.sqlite"
    if not path.exists():
        return set()
    return {row[0] for row in sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("select key from replies")}


@pytest.mark.slow
def test_thousands_of_calls_under_every_passing_fault_killed_at_random(tmp_path, pytestconfig, monkeypatch):
    """No answered call is asked twice, no row is lost, and the bytes are those of a run that nothing disturbed."""
    long = pytestconfig.getoption("chaos_kills") > 20
    rows, kills = (10_000, 10) if long else (1_200, 4)
    plugged = plug_in(tmp_path / "plugged")
    monkeypatch.syspath_prepend(str(plugged))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugged), *sys.path[1:]]))
    chance = random.Random(rows)
    with loopback.Loopback(delay_ms=2) as server:
        made = many_calls(tmp_path / "r", server.url, rows)
        assert start(made, tmp_path / "calm").wait() == 0
        named, calm = bodies(tmp_path / "calm", server.url), making.files(tmp_path / "calm")
        assert len(named) == len(server.done) == sum(server.tries.values()) == rows
        server.done.clear()
        server.tries.clear()
        server.faults, out, done = FAULTS, tmp_path / "out", 0
        for moment in sorted(chance.sample(range(rows // 20, rows - rows // 20), kills)):
            before, tried = {named[key] for key in known(out)}, server.tries.copy()
            work = start(made, out)
            while len(server.done) < moment and work.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.05))
            os.killpg(work.pid, signal.SIGKILL)
            done += work.wait() != 0
            assert not before & (server.tries - tried).keys(), "a reply that was in the cache was asked for again"
        before, tried = {named[key] for key in known(out)}, server.tries.copy()
        last = start(made, out)
        told = last.stderr.read()
        assert last.wait() == 0, told
        assert not before & (server.tries - tried).keys()
        faults, twice = sum(server.tries.values()) - sum(server.done.values()), sum(server.done.values()) - rows
    assert done == kills and faults > rows // 10
    assert making.files(out) == calm
    ledger = views(out).execute("select state, count(*) from ledger group by state").fetchall()
    assert ledger == [("kept", rows)] == views(out).execute("select 'kept', count(value) from scores").fetchall()
    assert len(known(out)) == len(server.done) == rows
    # answered a second time is at most what was on the wire, or not yet on disk, when a blow fell
    print(f"{rows} rows, {kills} kills, {faults} faults, {twice} answered twice")
    assert twice <= kills * 32 * 4
