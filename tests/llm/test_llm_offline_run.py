"""A whole run whose model is asked in batch jobs: stopped while it waits, gone on with by the same command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import making
from loopback_batch import BatchServer


def start(recipe: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zhiling.cli", "run", str(recipe), "-o", str(out), "--workers", "1", *more]
    env = {**os.environ, "ZHILING_LANG": "en"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, preexec_fn=_heed
    )


def _heed() -> None:
    """In the child: heed Ctrl-C, even where a background job's shell has told us to ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def until(true: Any, run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert run.poll() is None and time.monotonic() < deadline, (
            run.stderr and run.poll() is not None and run.stderr.read()
        )
        time.sleep(0.01)


def test_a_run_stopped_while_it_waits_goes_on_with_the_same_command(tmp_path: Path) -> None:
    with BatchServer() as server:
        entry = {
            "provider": "openai", "model": "m", "base_url": server.url, "batch": {"poll_seconds": 0.1},
            "price": {"prompt": 1, "completion": 2}, "budget": {"calls": 40},
        }  # fmt: skip
        step = {"generate": {"model": "cheap", "candidates": 6, "floor": 0.0, "weights": {"relevance": 1.0}}}
        recipe = making.write(tmp_path / "r", models={"cheap": entry}, construct=[step], select=["exact"])
        out = tmp_path / "out"
        server.holding = True
        for blow, code in ((signal.SIGINT, 1), (signal.SIGKILL, -9)):
            seen = server.calls["look"]
            with start(recipe, out) as stopped:
                until(lambda seen=seen: server.calls["look"] > seen + 1, stopped)
                stopped.send_signal(blow)
                told = stopped.communicate(timeout=30)[1]
            assert stopped.returncode == code and "Traceback" not in told, told
            said = (
                "submitted 6 requests as batch batch0"
                if blow == signal.SIGINT
                else "batch batch0 of 6 requests is under way"
            )
            assert said in told
        assert len(server.jobs) == 1
        server.holding = False
        with start(recipe, out, "--json") as last:
            told = last.communicate(timeout=120)
        assert last.returncode == 0, told
        keys = [key for job in server.jobs.values() for key, _, _ in job["rows"]]
        assert len(server.jobs) == 2 and len(keys) == len(set(keys)) == 12  # one job per task, no request in two
        facts = json.loads((out / "run.json").read_text())
        spent = facts["spent"]["cheap"]
        assert spent["calls"] == 12 and spent["usd"] > 0 and facts["kept"] > 0
        with start(recipe, out) as again:
            again.communicate(timeout=120)
        assert again.returncode == 0 and len(server.jobs) == 2 and sum(server.done.values()) == 0
