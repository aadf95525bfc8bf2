"""Ten thousand rows against an endpoint that does everything wrong, killed ten times: each row is accounted for, nothing kept is asked again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from zhiling.llm import ReplyCache

ROWS, KILLS, LANES = 10_000, 10, 32
PASSING = (
    "429", "429-soon", "500", "503", "reset", "cut", "truncated", "garbage", "empty", "html502", "noise", "hang", "drip",
)  # fmt: skip
OWN = ("400", "blocked", "filter", "length", "null")
RUN = """
    import asyncio, collections, json, os, sys
    from pathlib import Path
    from zhiling.llm import open_model, wrap
    from zhiling.types import Reply, Request

    wrap.BACKOFF, wrap.LONGEST_BACKOFF = 0.01, 0.1

    async def main():
        spec = {"provider": "openai", "model": "m", "base_url": sys.argv[1], "lanes": int(sys.argv[4]), "timeout": 0.5, "retries": 20}
        ended = collections.Counter()
        async with open_model(spec, cache=Path(sys.argv[2])) as model:
            async for _, got in model.map(Request(messages=(("user", f"row {i}"),)) for i in range(int(sys.argv[3]))):
                ended[got.finish if isinstance(got, Reply) else got.kind] += 1
                if isinstance(got, Reply):
                    os.write(1, f"{got.key}\\n".encode())
        print("ended " + json.dumps(ended), flush=True)

    asyncio.run(main())
"""


@pytest.mark.slow
def test_all_faults_mixed_and_ten_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """An answer that nobody heard, as it was under way at a blow, may be asked again: at most one per lane and what waited for its commit."""
    script, log, cache = tmp_path / "run.py", tmp_path / "answered", tmp_path / "c"
    script.write_text(textwrap.dedent(RUN))
    faults = [f"--fault={kind}=0.01" for kind in PASSING] + [f"--fault={kind}=0.005" for kind in OWN]
    served = [
        sys.executable,
        str(Path(__file__).with_name("loopback.py")),
        "--delay-ms",
        "2",
        "--log",
        str(log),
        *faults,
    ]
    server = subprocess.Popen(served, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        command = [sys.executable, str(script), url, str(cache), str(ROWS), str(LANES)]
        dice, seen = random.Random(7), set[str]()
        for _ in range(KILLS):
            before = len(log.read_text().split()) if log.exists() else 0
            blow = before + dice.randrange(200, 900)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=(tmp_path / "said").open("wb")) as run:
                assert run.stdout is not None
                os.set_blocking(run.stdout.fileno(), False)
                heard = b""
                while len(log.read_text().split()) < blow and run.poll() is None:
                    heard += run.stdout.read() or b""
                    time.sleep(0.01)
                run.send_signal(signal.SIGKILL)
                assert run.wait(10) == -signal.SIGKILL, (tmp_path / "said").read_text()
                heard += run.stdout.read() or b""
            seen |= set(heard.decode().split("\n")[:-1])
        kept = ReplyCache(cache)
        assert len(seen) > 1000 and all(kept.get(key) is not None for key in seen)
        kept.close()
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        ended = counts(done.stdout.splitlines()[-1])
        assert sum(ended.values()) == ROWS  # every row has its reply or the reason why it has none
        assert {"timeout", "network", "server", "rate"}.isdisjoint(ended) and {"filter", "length"} <= ended.keys()
        answered = log.read_text().split()
        repeats = len(answered) - len(set(answered))
        assert (
            repeats <= KILLS * (2 * LANES + 200)
            and len(set(answered)) == ended["stop"] + ended["filter"] + ended["length"]
        )
        again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        assert counts(again.stdout.splitlines()[-1]) == ended and log.read_text().split() == answered
    finally:
        server.terminate()
        server.wait(10)


def counts(line: str) -> dict[str, int]:
    """The counts in the script's last line."""
    found: dict[str, int] = json.loads(line.removeprefix("ended "))
    return found
