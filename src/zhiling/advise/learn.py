"""What a real run taught about the predictions: the error is put beside the tuned model, and shown when advice is next asked."""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from zhiling.advise import predict
from zhiling.advise.rows import Rows, lengths
from zhiling.errors import say
from zhiling.llm.embedded import cache_home
from zhiling.tune import calibrate
from zhiling.tune.cost import Constants, Step, seconds, shape_in
from zhiling.tune.settings import TuneSettings
from zhiling.types import Example

Watch = Callable[[Mapping[str, Any]], None]
FILE = "advice.json"
SHOWN = 20


def learn(base: str, rows: Sequence[Example], out: Path, settings: TuneSettings, watch: Watch) -> None:
    """After a run into `out`: note there, and in the cache folder, what the constants in hand say of such a run, and what it was.

    Nothing where this machine was never calibrated, on a GPU and among ranks. The run is not harmed by trouble here, which `watch` is told.
    """
    constants = calibrate.known(days=math.inf)
    if constants is None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return
    try:
        found = _compare(base, rows, out, settings, constants)
        if found is not None:
            _write(out, found)
    except (OSError, ValueError, KeyError) as error:
        said = say(f"the prediction could not be checked: {error}", f"无法核对预测：{error}")
        watch({"stage": "tune", "note": said})


def _compare(
    base: str, rows: Sequence[Example], out: Path, settings: TuneSettings, constants: Constants
) -> dict[str, Any] | None:
    """The prediction, which knows the rows' lengths and the settings and nothing of the run, and what was.

    Time is the median step's, without the first. Memory is the process's peak, the run's own where the process did nothing larger.
    """
    from zhiling.tune import model as models
    from zhiling.tune.log import read

    lines = [line for line in read(out / "metrics.jsonl") if line["step"] > 1]
    name = models.locate(base)
    if not lines or models.device() != "cpu" or not Path(name).is_dir():
        return None
    shape = shape_in(Path(name))
    long = lengths(Rows(len(rows), tuple(rows[:400]), {}, {}), models.load_tokenizer(name))
    usual = Step.of(settings, long.mean, long.answer)
    found: dict[str, Any] = {
        "base": base,
        "method": settings.method,
        "seconds": median(line["tokens"] / line["rate"] for line in lines if line["rate"]),
        "seconds_predicted": seconds(shape, settings, usual, constants),
        "bytes": _peak(),
        "bytes_predicted": predict(shape, settings, len(rows), long, constants)[0]["total"],
    }
    for key in ("seconds", "bytes"):
        found[f"{key}_error"] = found[f"{key}_predicted"] / found[key] - 1 if found[key] else None
    return found


def _peak() -> int | None:
    """This process's highest resident memory in bytes; None where the system counts otherwise."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if sys.platform.startswith("linux") else None


def _write(out: Path, found: Mapping[str, Any]) -> None:
    line = json.dumps(found, ensure_ascii=False)
    (out / FILE).write_text(line + "\n", encoding="utf-8")
    history = cache_home() / "advise" / "errors.jsonl"
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def past() -> dict[str, Any]:
    """Of the last SHOWN runs: how many, and the median of the absolute errors of time and memory; None where none is known."""
    try:
        lines = (cache_home() / "advise" / "errors.jsonl").read_text(encoding="utf-8").splitlines()[-SHOWN:]
    except OSError:
        lines = []
    runs = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    told: dict[str, Any] = {"runs": len(runs)}
    for key in ("seconds", "bytes"):
        errors = [abs(run[f"{key}_error"]) for run in runs if run.get(f"{key}_error") is not None]
        told[f"{key}_error"] = median(errors) if errors else None
    return told
