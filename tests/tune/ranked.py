"""Run by torchrun: tune among ranks. Arguments: base, out, rows as JSON, settings as JSON, a step at which the first rank is killed (0: none)."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from zhiling.tune.log import Log
from zhiling.tune.settings import TuneSettings
from zhiling.tune.train import tune
from zhiling.types import Example

if __name__ == "__main__":
    base, out, rows, settings, at = sys.argv[1:]
    real = Log.write

    def write(self, row):
        if row["step"] == int(at) and int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, row)

    Log.write = write
    tune(Path(base), [Example(**row) for row in json.loads(rows)], Path(out), TuneSettings(**json.loads(settings)))
