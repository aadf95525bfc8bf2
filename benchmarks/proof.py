"""Does tuning help, and does the verdict know when it does not? Three tasks, English and Chinese, base against tuned over seeds.

    python benchmarks/proof.py [--quick] [--data DIR] [--json FILE] [--base MODEL] [--keep FOLDER] [--other-rows]

A recipe words rows of three tasks that come with their answers: the tone of film reviews (SST-2) and the section of a news item (AG News) in
English, the tone of delivery reviews (waimai) in Chinese. The base is tuned on all three together, three times with other seeds, and
compared with itself untuned on the recipe's held-out rows, as `zhiling compare` does it: the answer that is written must name the right label.
Every label is as frequent as the others, and `always` in the table is what one answer for all held-out rows would score: a tuned model no
better than that has learnt the form of an answer, not the task.
* `<task>_gain`, `<task>_low`: tuned minus untuned in 0..1, and the lower end of its 95% interval over rows and seeds; `gain`, `low` of all.
* `told`: 1 where all three intervals are above zero.
The negative example is a control whose truth is known: the same film reviews with their answers shuffled, so that there is nothing to
learn but the form of an answer. By likelihood, where form gains nothing, the verdict must not be "better".
* `control_gain`, `control_low`, `control_high`; `control_refused` is 1 where the verdict is "cannot tell" or "worse".
* `minutes`, `cpu_minutes`: of everything.

--other-rows takes other rows of the same files, which measure nothing: settings were chosen on them. --keep names a folder, so that a killed
benchmark goes on where it stopped.
"""

from __future__ import annotations

# ruff: noqa: E402
import sys

sys.path[:] = sys.path[1:]  # select.py beside this file must not stand in for the standard library's

import argparse
import gzip
import json
import os
import platform
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from zhiling.data import shared_data
from zhiling.progress import Meter
from zhiling.proof import evaluation, prove
from zhiling.proof.sides import Side, side
from zhiling.recipe import build
from zhiling.run import Run
from zhiling.store import current, read
from zhiling.types import Example

OLORA = "11_english_tasks/olora_classification_train.jsonl.gz"
TUNE = {"epochs": 1, "batch_rows": 4, "checkpoint_every": 10}
CONTROL = "film reviews"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a task's rows are, which of them, under which keys, and what its labels are called."""

    file: str
    lang: str
    ask: str
    text: str
    label: str
    labels: Mapping[str, str]
    where: tuple[str, str] = ("", "")
    longest: int = 120


SOURCES = {
    "film reviews": Source(OLORA, "en", "Say whether the film review is Good or Bad.", "sentence", "label",
                           {"Good": "Good", "Bad": "Bad"}, ("dataset", "SST-2")),
    "news": Source(OLORA, "en", "Name the section of the news item: World, Sports, Business or Science.", "sentence", "label",
                   {"World": "World", "Sports": "Sports", "Business": "Business", "Science or Technology": "Science"},
                   ("dataset", "agnews"), 290),
    "外卖评价": Source("11_zh_tasks/waimai_reviews.jsonl", "zh", "判断这条外卖评价是好评还是差评。", "review", "label",
                   {"1": "好评", "0": "差评"}, longest=26),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Size:
    """Rows per task that are tuned on and held out, and tunings."""

    rows: int
    heldout: int
    seeds: int


FULL, QUICK = Size(48, 48, 3), Size(24, 16, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few rows, two seeds")
    parser.add_argument("--base", default="embedded", help="the model to tune")
    parser.add_argument("--keep", type=Path, help="a folder to work in")
    parser.add_argument("--other-rows", action="store_true", help="rows that settings may be chosen on")
    options = parser.parse_args()
    began, busy, size = time.monotonic(), _cpu(), QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as work:
        top = (options.keep or Path(work)).resolve()
        found, control = proved(options.data or shared_data(), top, options.base, size, options.other_rows)
    figures = told(found, control)
    figures |= {"minutes": round((time.monotonic() - began) / 60, 2), "cpu_minutes": round((_cpu() - busy) / 60, 2)}
    print("\n".join(lines(found, control, figures)))
    if options.json:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        rows = [{"task": name, **one} for name, one in found["tasks"].items()] + [{"task": "control", **control}]
        held = {"name": "proof", "machine": machine, "figures": figures, "rows": rows}
        options.json.write_text(json.dumps(held, ensure_ascii=False, indent=1), encoding="utf-8")


def proved(data: Path, top: Path, base: str, size: Size, other: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the comparison on the three tasks, that of the control), each against the untuned base."""
    top.mkdir(parents=True, exist_ok=True)
    meter = Meter()
    results = []
    for name, tasks, metric in (("tasks", list(SOURCES), "accuracy"), ("control", [CONTROL], "choice")):
        folder = top / name
        written = {task: _rows(data, SOURCES[task], size, other) for task in tasks}
        with Run(build(recipe(written, top, size), top), folder, until="select", workers=1, watch=meter) as run:
            run.execute()
        kept = [row for done in current(folder) for row in read(folder, done.of("kept"))]
        rows = shuffled(kept) if name == "control" else kept
        tuned = [tuning(base, rows, top / f"{name}-{seed}", seed, meter) for seed in range(size.seeds)]
        asked = evaluation.Asked(
            [folder], metric=metric, max_tokens=8, trained_on=[folder], cache=top / "replies.sqlite", drift=False
        )
        result = evaluation.compare([_side(base, base)], tuned, asked, meter)[0]
        held = [row for done in current(folder) for row in read(folder, done.of("heldout"))]
        for task in tasks:
            result["tasks"][task]["always"] = always([row.output for row in held if row.task == task])
        results.append(result)
    meter.close()
    return results[0], results[1]["tasks"][CONTROL]


def tuning(base: str, rows: Sequence[Example], out: Path, seed: int, meter: Meter) -> Side:
    """The base tuned on these rows with one seed."""
    prove.tune(base, rows, out, prove.settings_of(TUNE, seed=seed), meter)
    return _side(str(out), f"seed {seed}")


def _side(text: str, label: str) -> Side:
    return replace(side(text), label=label)


def always(answers: Sequence[str]) -> float:
    """What the most frequent answer would score, given to every row."""
    return Counter(answers).most_common(1)[0][1] / len(answers)


def shuffled(rows: Sequence[Example]) -> list[Example]:
    """The same rows, each with the answer of another one drawn by lot."""
    rows = sorted(rows, key=lambda row: row.id)
    answers = [row.output for row in rows]
    random.Random(1).shuffle(answers)
    return [replace(row, output=answer) for row, answer in zip(rows, answers, strict=True)]


def _rows(data: Path, source: Source, size: Size, other: bool) -> list[dict[str, str]]:
    """A task's rows in a drawn order, as many of each label, by our names for them: the first ones measure, the last are the other rows."""
    found: dict[str, list[dict[str, str]]] = {label: [] for label in source.labels.values()}
    for row in _read(data / source.file):
        fits = not source.where[0] or row[source.where[0]] == source.where[1]
        if fits and len(row[source.text]) <= source.longest and row[source.label] in source.labels:
            label = source.labels[row[source.label]]
            found[label].append({"text": row[source.text], "label": label})
    for label, rows in found.items():
        random.Random(f"7 {label}").shuffle(rows)
    count = (size.rows + size.heldout) // len(found)
    return [row for rows in found.values() for row in (rows[-count:] if other else rows[:count])]


def _read(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from map(json.loads, file)


def recipe(written: Mapping[str, Sequence[Mapping[str, str]]], top: Path, size: Size) -> dict[str, Any]:
    """The tasks with their rows written beside the runs."""
    tasks: dict[str, Any] = {}
    for name, rows in written.items():
        path, source = top / f"{name}.jsonl", SOURCES[name]
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        tasks[name] = {
            "family": "classification", "description": source.ask, "langs": [source.lang], "inputs": ["text"], "target": "label",
            "labels": list(source.labels.values()), "metric": "accuracy", "data": str(path), "heldout": size.heldout,
        }  # fmt: skip
    return {
        "name": "proof", "seed": 7, "tasks": tasks, "report": False,
        "construct": [{"template": {"per_record": 1}}], "select": ["exact", "near"],
    }  # fmt: skip


def told(found: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:
    """The figures."""
    figures: dict[str, Any] = {"gain": found["overall"]["difference"], "low": found["overall"]["low"]}
    for name, one in found["tasks"].items():
        key = {"film reviews": "film", "news": "news", "外卖评价": "waimai"}[name]
        figures |= {f"{key}_gain": one["difference"], f"{key}_low": one["low"]}
    figures["told"] = int(all(one["verdict"] == "better" for one in found["tasks"].values()))
    figures |= {f"control_{key}": control[of] for key, of in (("gain", "difference"), ("low", "low"), ("high", "high"))}
    figures["control_refused"] = int(control["verdict"] != "better")
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}


def lines(found: Mapping[str, Any], control: Mapping[str, Any], figures: Mapping[str, Any]) -> list[str]:
    """The table, and the verdicts in words."""
    named = {**found["tasks"], "all three": found["overall"], "control (shuffled)": control}
    out = [f"{'':20} {'rows':>4} {'always':>6} {'base':>6} {'tuned':>6}  verdict"]
    for name, one in named.items():
        same = f"{one['always']:.3f}" if "always" in one else ""
        out.append(f"{name:20} {one['n']:4} {same:>6} {one['base']:6.3f} {one['tuned']:6.3f}  {one['words']['en']}")
    return [*out, f"{figures['minutes']} minutes, {figures['cpu_minutes']} CPU minutes"]


def _cpu() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


if __name__ == "__main__":
    main()
