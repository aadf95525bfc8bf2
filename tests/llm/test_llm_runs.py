"""Whole runs against a server: killed at any moment, resumed, and never paying twice for what was seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from loopback import Loopback

from zhiling.llm import ReplyCache

RUN = """
    import asyncio, os, sys
    from pathlib import Path
    from zhiling.llm import open_model
    from zhiling.types import Reply, Request

    async def main():
        model = open_model({"provider": "openai", "model": "m", "base_url": sys.argv[1], "lanes": 16}, cache=Path(sys.argv[2]))
        done = 0
        async with model:
            async for _, reply in model.map(Request(messages=(("user", f"row {i}"),)) for i in range(600)):
                assert isinstance(reply, Reply)
                os.write(1, b"row\\n")
                done += 1
        print(f"done {done} asked {model.spent.calls}", flush=True)

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_run_killed_at_any_moment_asks_again_only_what_was_under_way(tmp_path: Path, sign: signal.Signals) -> None:
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))
    server = subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("loopback.py")),
            "--delay-ms",
            "10",
            "--log",
            str(tmp_path / "asked"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        command = [sys.executable, str(script), server.stdout.readline().strip(), str(tmp_path / "c")]
        kills = 0
        for moment in (1, 80, 200):  # rows seen before the blow
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_heed) as run:
                assert run.stdout is not None
                for _ in range(moment):
                    if run.stdout.readline() != b"row\n":
                        break
                run.send_signal(sign)
                kills += run.wait(30) != 0
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert finished.stdout.splitlines()[-1].startswith("done 600 ")
        answered = (tmp_path / "asked").read_text().split()
        assert len(set(answered)) == 600 and kills >= 2
        assert (
            len(answered) - 600 <= kills * 2 * 16 + 200
        )  # at most what was under way or not yet on disk when the blow came
    finally:
        server.terminate()
        server.wait(10)


def _heed() -> None:
    """In the child: heed Ctrl-C, even where a background job's shell has told us to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_nothing_seen_before_a_kill_is_asked_again(tmp_path: Path) -> None:
    """A reply that the consumer saw is on disk, so a rerun finds every row that was seen."""
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN).replace('os.write(1, b"row\\n")', 'os.write(1, f"{reply.key}\\n".encode())'))
    with Loopback(delay_ms=5) as server:
        with subprocess.Popen(
            [sys.executable, str(script), server.url, str(tmp_path / "c")], stdout=subprocess.PIPE
        ) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(0.2)
            run.send_signal(signal.SIGKILL)
            seen = run.stdout.read().decode().split("\n")[:-1]
        cache = ReplyCache(tmp_path / "c")
        assert seen and all(cache.get(key) is not None for key in seen if not key.startswith("done"))
        cache.close()


def test_import_is_light() -> None:
    code = "import zhiling.llm, sys; print([m for m in ('aiohttp', 'torch', 'transformers', 'xllamacpp', 'pydantic', 'yaml', 'sqlite3') if m in sys.modules])"
    env = {
        key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")
    }  # coverage imports sqlite3
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"
