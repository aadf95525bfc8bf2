"""SIGKILL in every stage of a recipe: the same command goes on, asks no answered question again, and ends with the same bytes.

The whole sentence runs on small stand-ins: a loopback endpoint for the candidates, a random two-layer model for tuning.
"""

from __future__ import annotations

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
    from zhiling.construct.generate import requests
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
