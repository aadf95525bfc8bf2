"""Does selection teach more than chance? Selected against random rows of equal tokens, on O-LoRA (en) and FewCLUE (zh) tasks.

    python benchmarks/lift.py [--quick] [--data DIR] [--json FILE] [--base MODEL] [--keep FOLDER]

A run words the tasks' rows by template and selects among them (duplicates out, then the best by relevance and grammar that are not all
alike, a third of all); `zhiling probe` then tunes the base on kept rows and on rows drawn from the whole pool, of equal tokens, over three
seeds, and scores both on held-out rows by the label that the model finds likeliest. Printed whatever it says.
* `selected_minus_random`: the difference of the mean over tasks, seeds and rows, in 0..1; `interval_low` and `interval_high` its 95% interval
  over rows and seeds.
* `base`, `selected`, `random`: the means themselves; `seconds` what the probe took, `cpu_seconds` what all of it took of the processor.

--keep names a folder for the run, so that a killed benchmark goes on where it stopped.
"""

from __future__ import annotations

# ruff: noqa: E402
import sys

sys.path[:] = sys.path[1:]  # select.py beside this file must not stand in for the standard library's

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is loaded

from zhiling.data import shared_data
from zhiling.progress import Meter
from zhiling.proof.probe import Settings, lines, probe
from zhiling.recipe import build
from zhiling.run import Run

ENGLISH = {
    "SST-2": ("Say whether the text is Good or Bad.", ["Good", "Bad"]),
    "agnews": (
        "Name the topic of the news item: World, Sports, Business, or Science or Technology.",
        ["World", "Sports", "Business", "Science or Technology"],
    ),
    "CB": (
        "Say how the second sentence relates to the first: entailment, contradiction or neutral.",
        ["entailment", "contradiction", "neutral"],
    ),
    "QQP": ("Say whether the two questions ask the same: True or False.", ["True", "False"]),
}
TNEWS = [f"news_{name}" for name in ("agriculture", "car", "culture", "edu", "entertainment", "finance", "game", "house", "military", "sports",
                                     "stock", "story", "tech", "travel", "world")]  # fmt: skip
CHINESE = {
    "eprstmt": ("sentence", "label", "判断商品评论的情感是 Positive 还是 Negative。", ["Positive", "Negative"]),
    "tnews": ("sentence", "label_desc", "给出新闻标题的类别，用英文类别名回答。", TNEWS),
}
QUICK = ("SST-2", "eprstmt")


def recipe(data: Path, quick: bool) -> dict[str, Any]:
    """The tasks with their data, and what is done to them."""
    tasks: dict[str, Any] = {}
    for name, (ask, labels) in ENGLISH.items():
        tasks[f"olora {name}"] = {
            "family": "classification", "description": ask, "langs": ["en"], "inputs": ["text"], "target": "label", "labels": labels,
            "data": {"path": str(data / "11_english_tasks/olora_classification_train.jsonl.gz"), "where": {"dataset": name}},
            "columns": {"text": "sentence"}, "heldout": 40,
        }  # fmt: skip
    for name, (text, label, ask, labels) in CHINESE.items():
        tasks[f"fewclue {name}"] = {
            "family": "classification", "description": ask, "langs": ["zh"], "inputs": ["text"], "target": "label", "labels": labels,
            "data": str(data / f"11_zh_tasks/fewclue_{name}_train_dev0.jsonl"), "columns": {"text": text, "label": label},
            "heldout": 16 if name == "eprstmt" else 40,
        }  # fmt: skip
    tasks = {name: task for name, task in tasks.items() if not quick or name.split()[1] in QUICK}
    rows = 120 if quick else 600
    return {
        "name": "lift", "seed": 7, "tasks": tasks, "construct": [{"template": {"per_record": 1}}], "report": False,
        "score": ["length", "format", "grammar", "relevance"],
        "select": ["exact", "near", {"top": {"rows": rows, "by": ["relevance", "grammar"], "diversity": 0.3}}],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="two tasks, few tokens, two seeds")
    parser.add_argument("--base", default="embedded", help="the model to tune")
    parser.add_argument("--keep", type=Path, help="a folder for the run")
    options = parser.parse_args()
    data = options.data or shared_data()
    size = {"tokens": 1500, "rows": 24, "seeds": 2} if options.quick else {}
    busy = _cpu()
    with tempfile.TemporaryDirectory() as work:
        folder, meter = options.keep or Path(work) / "run", Meter()
        with Run(
            build(recipe(data.resolve(), options.quick), Path.cwd()), folder, until="select", workers=1, watch=meter
        ) as run:
            run.execute()
        found = probe(folder, Settings(model=options.base, **size), watch=meter)
        meter.close()
    print("\n".join(lines(found)))
    figures = {
        "selected_minus_random": found["difference"],
        "interval_low": found["low"],
        "interval_high": found["high"],
    }
    figures |= {name: found[name] for name in ("base", "selected", "random", "seconds")}
    figures["cpu_seconds"] = round(_cpu() - busy)
    print(f"{figures['cpu_seconds']} CPU seconds")
    if options.json:
        machine = (
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        rows = [{"task": name, **one} for name, one in found["tasks"].items()]
        told = {"name": "lift", "machine": machine, "figures": figures, "rows": rows}
        options.json.write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")


def _cpu() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


if __name__ == "__main__":
    main()
