"""Templates: rows filled per CPU second, end to end into Parquet, against plain compiled Jinja.

    python benchmarks/template.py [--quick] [--data DIR] [--json FILE] [--no-rivals]

Real records (Chinese hotel reviews, Natural Instructions sentences) go through the shipped sentiment templates. `zhiling` chooses a
template per record, checks its fields, fills instruction, input and output, makes the row with its id and lineage, and writes
Parquet; `jinja` only renders the same three texts with Jinja templates compiled once, into nothing. Medians of interleaved runs.
* `ratio_jinja`: rows per CPU second, zhiling over jinja. `ratio_jinja_one` against a single Jinja text that holds all three.
* `ratio_promptsource`: zhiling, end to end, over promptsource's own `Template.apply` on the same records and texts, which ends in two
  strings and compiles its Jinja anew for every row. It is measured in an environment of its own, made on demand; where that cannot
  be made, there is a reason and no figure.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2

from zhiling import store
from zhiling.construct.fill import fill
from zhiling.construct.template import template
from zhiling.types import Record, Task, Template

TASK = Task(
    "sentiment",
    family="classification",
    inputs=("text",),
    target="label",
    langs=("zh", "en"),
    labels=("positive", "negative"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--no-rivals", action="store_true", help="make no environment for promptsource")
    args = parser.parse_args()
    records = list(repeated(list(read(args.data)), 10_000 if args.quick else 60_000))
    templates = [made for made in template(task=TASK, here=Path()) if isinstance(made, Template)]
    ways: dict[str, Callable[[], None]] = {
        "zhiling": lambda: ours(records, templates),
        "jinja": lambda: plain(records, templates, lambda one: [one.instruction, one.input, one.output]),
        "jinja_one": lambda: plain(records, templates, lambda one: [f"{one.instruction}\n\n{one.input}\n{one.output}"]),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3 if args.quick else 7):
        for name, way in ways.items():
            start = time.process_time()
            way()
            times[name].append(len(records) / (time.process_time() - start))
    rates = {name: statistics.median(rates) for name, rates in times.items()}
    figures = {f"ratio_{name}": rates["zhiling"] / rates[name] for name in ("jinja", "jinja_one")}
    rates_of_rival, why = (None, "not asked for") if args.no_rivals else promptsource(records[:1500], templates)
    if rates_of_rival is None:
        print(f"promptsource: skipped, {why}")
    else:
        rates["promptsource"] = rates_of_rival
        figures["ratio_promptsource"] = rates["zhiling"] / rates_of_rival
    for name, rate in rates.items():
        print(f"{name:<12} {rate:>10,.0f} rows per CPU second")
    for name, ratio in figures.items():
        print(f"{name:<18} {ratio:.2f}")
    if args.json:
        rows = [{"way": name, "rows_per_cpu_s": rate} for name, rate in rates.items()]
        report = {
            "name": "template",
            "machine": platform.processor() or platform.machine(),
            "figures": figures,
            "rows": rows,
        }
        args.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


RIVAL = """
import json, statistics, sys, time
from promptsource.templates import Template
given = json.load(open(sys.argv[1], encoding="utf-8"))
made = [Template(str(i), text, "") for i, text in enumerate(given["templates"])]
rates = []
for _ in range(3):
    start = time.process_time()
    for i, record in enumerate(given["records"]):
        prompt, answer = made[i % len(made)].apply(record)
    rates.append(len(given["records"]) / (time.process_time() - start))
assert prompt and answer
print(statistics.median(rates))
"""


def promptsource(records: list[Record], templates: list[Template]) -> tuple[float | None, str]:
    """Rows per CPU second of promptsource's `Template.apply`, or why it could not be measured."""
    texts = [f"{one.instruction}\n\n{one.input}|||{one.output}" for one in templates]
    with tempfile.TemporaryDirectory() as folder:
        home, given = Path(__file__).resolve().parents[1] / ".bench" / "template", Path(folder) / "given.json"
        given.write_text(json.dumps({"templates": texts, "records": [dict(one.fields) for one in records]}), "utf-8")
        python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        install = [str(python), "-m", "pip", "install", "--quiet"]
        try:
            if not python.exists():
                venv.create(home, with_pip=True)
            # it asks for Python 3.7 to 3.9, and for a web page's packages that applying a template does not need
            subprocess.run([*install, "jinja2", "pyyaml", "pandas", "setuptools<81"], check=True, capture_output=True)
            alone = ["--no-deps", "--ignore-requires-python", "promptsource"]
            subprocess.run([*install, *alone], check=True, capture_output=True)
            done = subprocess.run(
                [str(python), "-W", "ignore", "-c", RIVAL, str(given)], check=True, capture_output=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            return None, (said.decode() if isinstance(said, bytes) else said).strip().splitlines()[-1]
        return float(done.stdout), ""


def read(data: Path) -> Iterator[Record]:
    """Records without a language of their own, so that telling it is part of the work."""
    with gzip.open(data / "11_zh_tasks" / "chnsenticorp_hotel.jsonl.gz", "rt", encoding="utf-8") as rows:
        for line, text in enumerate(rows, 1):
            row: dict[str, Any] = json.loads(text)
            fields = {"text": str(row["review"]), "label": "positive" if str(row["label"]) == "1" else "negative"}
            yield Record(TASK.name, fields, file="hotel.jsonl", line=line)
    with gzip.open(data / "05_natural_instructions" / "tasks.jsonl.gz", "rt", encoding="utf-8") as tasks:
        sst = next(task for task in map(json.loads, tasks) if task["task"].startswith("task363_sst2"))
    for line, row in enumerate(sst["Instances"], 1):
        label = "positive" if row["output"][0] == "POS" else "negative"
        yield Record(TASK.name, {"text": row["input"], "label": label}, file="sst2.jsonl", line=line)


def repeated(records: list[Record], count: int) -> Iterator[Record]:
    for i in range(count):
        record = records[i % len(records)]
        fields = {**record.fields, "text": f"{record.fields['text']} ({i})"}
        yield Record(record.task, fields, file=record.file, line=record.line)


def ours(records: list[Record], templates: list[Template]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store.write(Path(folder), "rows", "drafts", fill(records, templates, task=TASK, seed=7))


def plain(records: list[Record], templates: list[Template], texts: Callable[[Template], list[str]]) -> None:
    env = jinja2.Environment(keep_trailing_newline=True)
    env.filters["language"] = lambda name, lang: name
    ready = [[env.from_string(text) for text in texts(one)] for one in templates]
    for i, record in enumerate(records):
        for text in ready[i % len(ready)]:
            text.render(record.fields)


if __name__ == "__main__":
    main()
