"""A few real steps of a tuning run in a process of its own: the seconds each takes, and the memory it needs, part by part.

    python -m zhiling.tune.rehearse '{"base": "embedded", "settings": {"method": "lora"}, "rows": 8, "length": 128, "answer": 32}'

The rows are made up: random tokens of one length, no two beginning alike, so that exactly rows x (length - 1) tokens are computed. What a
step costs depends on the lengths and not on what the tokens say. Nothing is saved. Linux only where the memory is concerned.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.errors import EngineError, say

if TYPE_CHECKING:
    from zhiling.tune.render import Rendered

STEPS = 3
"""Steps by default; the first one makes the moments and warms the caches, so that it is not counted."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What was measured. Seconds are per step, wall and CPU, without the first step; bytes are peaks of the process's resident memory.

    `start` is the process before it loads a model, `load` the peak while it loads, `peak` that of the steps; None where the system does not
    say.
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    start: int | None
    load: int | None
    peak: int | None

    @property
    def memory(self) -> int | None:
        """The most that was needed at any time, in bytes."""
        return None if self.peak is None or self.load is None else max(self.peak, self.load)


def rehearse(
    base: str, settings: Mapping[str, Any], rows: int, length: int, answer: int, steps: int = STEPS, limit: float = 60.0
) -> Rehearsal:
    """Make `steps` steps of `rows` rows, each of `length` tokens of which the last `answer` are trained, and measure them.

    Raises EngineError when it takes longer than `limit` seconds or fails (out of memory among others); the last line of what it said is kept.
    """
    job = {"base": base, "settings": dict(settings), "rows": rows, "length": length, "answer": answer, "steps": steps}
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "zhiling.tune.rehearse", json.dumps(job)]
    where = f"{base}, {rows} x {length}"
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, env=environment)
    except subprocess.TimeoutExpired:
        slow = say(f"a rehearsal took longer than {limit:.0f} s", f"试跑超过 {limit:.0f} 秒")
        raise EngineError(
            slow, where=where, mend=say("the model is large for this machine", "该模型对本机过大")
        ) from None
    told = ran.stdout.strip().splitlines()
    if ran.returncode or not told:
        said = (ran.stderr.strip().splitlines() or [f"exit {ran.returncode}"])[-1]
        raise EngineError(say(f"a rehearsal failed: {said}", f"试跑失败：{said}"), where=where)
    found = json.loads(told[-1])
    times = tuple(found["seconds"]), tuple(found["cpu_seconds"])
    return Rehearsal(*times, found["start"], found["load"], found["peak"])


def _here(job: Mapping[str, Any]) -> Rehearsal:
    """The rehearsal, in this process."""
    import peft  # noqa: F401  (as every run does, so that the memory is a run's)
    import torch
    import transformers  # noqa: F401

    from zhiling.llm.machine import cores
    from zhiling.tune import model as models
    from zhiling.tune.loop import Loop
    from zhiling.tune.settings import TuneSettings

    settings = TuneSettings(**job["settings"])
    torch.set_num_threads(settings.threads or cores())
    name = job["base"] if Path(job["base"], "config.json").exists() else models.locate(job["base"])
    if (
        Path(name) / "tokenizer.json"
    ).exists():  # a part of every run's memory; models made up for a measurement have none
        models.load_tokenizer(name)
    start = _restart()
    model = models.load(name, settings)
    rows = _rows(job["rows"], job["length"], job["answer"], int(model.get_input_embeddings().weight.shape[0]))
    loop = Loop(model, settings, rows)
    load = _restart()
    seconds, cpu_seconds = [], []
    for _ in range(job["steps"]):
        wall, cpu = time.perf_counter(), time.process_time()
        loop.step(1, rows, lr=0.0)
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
    return Rehearsal(tuple(seconds[1:]), tuple(cpu_seconds[1:]), start, load, _restart())


def _rows(count: int, length: int, answer: int, vocabulary: int) -> Sequence[Rendered]:
    import numpy as np

    from zhiling.tune.render import Rendered

    draw = np.random.default_rng(0)
    first = draw.permutation(vocabulary)[:count]  # no two rows begin alike
    seen = tuple([False] * (length - answer) + [True] * answer)
    made = []
    for number in range(count):
        ids = (int(first[number]), *map(int, draw.integers(0, vocabulary, length - 1)))
        made.append(Rendered(f"{number:06}", "rehearsal", ids, seen))
    return made


def _restart() -> int | None:
    """The peak of the resident memory since the last call, in bytes; the next one counts from now. None where it cannot be had."""
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if sys.platform.startswith("linux") else None


if __name__ == "__main__":
    print(json.dumps(asdict(_here(json.loads(sys.argv[1])))))
