"""The adviser's predictions against what was then measured: the memory and the time of tuning steps.

    python benchmarks/advise.py [--quick] [--data DIR] [--json FILE]

This machine is calibrated as `zhiling advise` does it, with its own made-up models. Then 12 (without --quick 16) other configurations (model x
method x length x batch), none of which was calibrated on, are predicted, and only then each is run for a few steps in a process of its own.
* `memory_error`, `time_error`: the mean of |predicted / measured - 1| of the peak resident memory and of a step's median seconds.
* `memory_error_most`, `time_error_most`: the largest of them. `ran`: how many configurations ended.
* `time_error_cpu`: that of a step's CPU seconds, predicted by constants fitted to CPU seconds: what is left of `time_error` where others
  use the machine too. `load` is the load average at the start and at the end.
--data is taken for the sake of the other benchmarks and not used: what a step costs depends on lengths only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from zhiling.errors import EngineError
from zhiling.llm import embedded
from zhiling.llm.machine import cores
from zhiling.tune import calibrate
from zhiling.tune.cost import Constants, Shape, Step, fit, peak, seconds, shape_in
from zhiling.tune.rehearse import rehearse
from zhiling.tune.settings import TuneSettings

A = Shape(192, 512, 6, 3, 192, 192, 6000)
B = Shape(512, 1408, 6, 8, 512, 128, 20000)
C = Shape(320, 864, 12, 5, 320, 320, 16000, tied=False)
# (model, method, rows per step, tokens per pass, length, answer)
HELD_OUT: list[tuple[Shape | str, str, int, int, int, int]] = [
    (A, "lora", 8, 768, 64, 16),
    (A, "full", 4, 768, 160, 40),
    (A, "lora", 4, 900, 220, 150),
    (A, "full", 8, 300, 64, 16),
    (B, "lora", 4, 768, 64, 32),
    (B, "full", 4, 768, 96, 32),
    (B, "lora", 3, 768, 160, 40),
    (B, "full", 4, 200, 64, 16),
    (C, "lora", 4, 768, 64, 16),
    (C, "full", 3, 768, 96, 64),
    (C, "lora", 6, 400, 96, 24),
    ("embedded", "lora", 2, 768, 48, 16),
    ("embedded", "full", 2, 768, 48, 16),
    ("embedded", "lora", 4, 768, 160, 40),
    (B, "lora", 2, 1100, 512, 64),
    (C, "full", 8, 400, 128, 32),
]
QUICK = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    load = [os.getloadavg()[0]]
    constants, cpu = calibrated(240.0 if not options.quick else calibrate.BUDGET)
    with tempfile.TemporaryDirectory() as top:
        rows = [predicted(number, one, constants, cpu, Path(top)) for number, one in enumerate(HELD_OUT)]
        rows = [measured(row) for row in (rows[:QUICK] if options.quick else rows)]
    load.append(os.getloadavg()[0])
    done = [row for row in rows if "seconds" in row]
    figures: dict[str, Any] = {"ran": len(done), "load": load}
    for key, of in (("memory_error", "bytes"), ("time_error", "seconds"), ("time_error_cpu", "cpu_seconds")):
        errors = [abs(row[f"{of}_predicted"] / row[of] - 1) for row in done]
        figures[key] = round(fmean(errors), 4) if errors else None
        figures[f"{key}_most"] = round(max(errors), 4) if errors else None
    print(json.dumps(figures))
    if options.json:
        machine = f"{platform.machine()}, {cores()} cores"
        told = {"name": "advise", "machine": machine, "figures": figures, "rows": rows}
        options.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


def calibrated(budget: float) -> tuple[Constants, Constants]:
    """The constants of wall time, as advice uses them, and the same of CPU time."""
    began, seen, slow = time.monotonic(), [], []
    with tempfile.TemporaryDirectory() as top:
        folders = {
            shape: calibrate.make(shape, Path(top) / str(shape.width)) for shape in (calibrate.SMALL, calibrate.LARGE)
        }
        for shape, settings, length, answer in calibrate.TRIALS:
            left = budget - (time.monotonic() - began)
            if left < 1:
                break
            try:
                found = calibrate.run(str(folders[shape]), settings, length, answer, limit=left)
            except EngineError as error:
                print(error)
                continue
            seen.append(found)
            slow.append(replace(found, seconds=found.cpu_seconds))
    print(f"calibrated on {len(seen)} configurations in {time.monotonic() - began:.0f} s")
    return fit(seen), fit(slow)


def predicted(
    number: int, one: tuple[Shape | str, str, int, int, int, int], wall: Constants, cpu: Constants, top: Path
) -> dict[str, Any]:
    """What is said of a configuration before it is run."""
    model, method, rows, tokens, length, answer = one
    base = str(embedded.folder()) if isinstance(model, str) else str(calibrate.make(model, top / str(number)))
    given = {"method": method, "batch_rows": rows, "batch_tokens": tokens}
    settings = TuneSettings(**given)  # type: ignore[arg-type]
    shape, step = shape_in(Path(base)), Step.of(settings, length, answer)
    return {
        "model": model if isinstance(model, str) else f"{shape.parameters / 1e6:.0f}M", "method": method, "rows": rows, "tokens": tokens,
        "length": length, "answer": answer, "base": base, "given": given, "bytes_predicted": peak(shape, settings, step, wall)["total"],
        "seconds_predicted": seconds(shape, settings, step, wall), "cpu_seconds_predicted": seconds(shape, settings, step, cpu),
    }  # fmt: skip


def measured(row: dict[str, Any]) -> dict[str, Any]:
    """The same with what was measured, or with the reason why nothing was."""
    base, given = row.pop("base"), row.pop("given")
    try:
        found = rehearse(base, given, row["rows"], row["length"], row["answer"], 6, 180.0)
    except EngineError as error:
        print(error)
        return {**row, "skipped": str(error)}
    told = {"seconds": median(found.seconds), "cpu_seconds": median(found.cpu_seconds)}
    row |= {**told, "bytes": found.memory}
    print(
        f"{row['model']:>9} {row['method']:>4} {row['rows']} x {row['length']:>3}  "
        f"MB {row['bytes_predicted'] / 2**20:6.0f} {row['bytes'] / 2**20:6.0f}   "
        f"s {row['seconds_predicted']:6.2f} {row['seconds']:6.2f}   cpu s {row['cpu_seconds_predicted']:6.2f} {row['cpu_seconds']:6.2f}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
