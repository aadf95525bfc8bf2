"""Run as a script: tune, and be killed (SIGKILL) at the n-th call of a function. Arguments: base, out, rows as JSON, module, name, n."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from zhiling.tune.settings import TuneSettings
from zhiling.tune.train import tune
from zhiling.types import Example

SETTINGS = TuneSettings(
    epochs=2,
    batch_rows=5,
    batch_tokens=150,
    rank=4,
    lr=5e-3,
    dropout=0.1,
    checkpoint_every=3,
    threads=1,
    validation=0.1,
)


def deadly(module: str, name: str, at: int) -> None:
    owner: object = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    real, calls = getattr(owner, last), 0

    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(owner, last, wrapped)


if __name__ == "__main__":
    base, out, rows, module, name, at = sys.argv[1:]
    if int(at):
        deadly(module, name, int(at))
    tune(base, [Example(**row) for row in json.loads(rows)], Path(out), SETTINGS)
