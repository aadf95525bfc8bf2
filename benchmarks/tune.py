"""Tuning: whether the printed loss is the formula's, how many tokens a second, and how that compares with TRL.

    python benchmarks/tune.py [--quick] [--data DIR] [--json FILE] [--base MODEL]

Rows: Alpaca in English and Chinese from the shared data, at most 400 tokens long; the shipped demo's rows where that data is absent.
LoRA of rank 16 on all projections, batches of 8 rows, fp32 on a CPU, one epoch; every side runs in a process of its own.
* `loss_identity_error`: the largest relative difference between the loss that the trainer prints and the formula recomputed outside
  it, over objectives x rows per step x tokens per batch x shared prefixes or none.
* `trained_tokens_per_s`, `tokens_per_s`, `rss_mb`: tokens that the loss sees, all tokens of the rows, and the peak memory.
* `tokens_saved`: the share of all tokens that was not computed because a row before had the same prefix.
* `ratio_trl`, `memory_ratio_trl`: TRL's time for the same rows, batches and adapter over ours, and our peak memory over TRL's. TRL runs
  its SFTTrainer, loss on completions only, without gradient checkpointing (which would slow it further), in an environment that is made
  on demand; skipped with the reason where it cannot be installed.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for both sides

from zhiling.tune import model as models
from zhiling.tune.loop import Loop
from zhiling.tune.loss import Sums, loss_of
from zhiling.tune.render import Rendered, prepare, render_all
from zhiling.tune.settings import Objective, Sees, TuneSettings
from zhiling.tune.train import tune
from zhiling.types import Example, content_id

SHARED = Path(__file__).parents[1] / "shared" / "data"
SETTINGS = TuneSettings(epochs=1, batch_rows=8, checkpoint_every=0, max_length=400, lr=5e-4)
TRL_VERSION = "1.16.0"

TRL = """
import json, resource, sys, time
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

job = json.load(open(sys.argv[1]))
model = AutoModelForCausalLM.from_pretrained(job["base"], dtype="float32")
tokenizer = AutoTokenizer.from_pretrained(job["base"])
rows = Dataset.from_list([{"prompt": r["messages"][:-1], "completion": r["messages"][-1:]} for r in job["rows"]])
config = SFTConfig(
    output_dir=job["out"], per_device_train_batch_size=job["batch"], num_train_epochs=1, learning_rate=job["lr"], seed=0, logging_steps=1,
    max_length=400, completion_only_loss=True, gradient_checkpointing=False, bf16=False, use_cpu=True, report_to="none", save_strategy="no",
)
lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=job["targets"], task_type="CAUSAL_LM")
trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer, peft_config=lora)
wall, cpu = time.perf_counter(), time.process_time()
trainer.train()
losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
print("RESULT" + json.dumps({
    "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "first_loss": losses[0], "last_loss": losses[-1],
    "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""  # fmt: skip


def examples(data: Path, count: int) -> list[Example]:
    """The same `count` rows on every machine: those of the smallest ids, half of them Chinese."""
    found = sorted(_shared(data) if (data / "02_alpaca").is_dir() else _demo(), key=lambda row: row.id)
    halves = [[row for row in found if row.task == task] for task in sorted({row.task for row in found})]
    return [row for half in halves for row in half[: count // len(halves)]]


def _shared(data: Path) -> Iterator[Example]:
    for name, lang in (("alpaca_52k_original", "en"), ("alpaca_zh_community_translated", "zh")):
        with gzip.open(data / "02_alpaca" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                row = json.loads(line)
                if row.get("output", "").strip() and len(line.encode()) < 700:
                    yield Example(f"alpaca {lang}", row["instruction"], row.get("input") or "", row["output"])
                if number > 4000:
                    break


def _demo() -> Iterator[Example]:
    from importlib.resources import files

    demo = files("zhiling") / "library" / "demo"
    for lang, ask in (("en", "Is this review positive or negative?"), ("zh", "这条评论是正面还是负面？")):
        with (demo / f"sentiment_{lang}.csv").open(encoding="utf-8") as lines:
            yield from (Example(f"sentiment {lang}", ask, row[0], row[-1]) for row in list(csv.reader(lines))[1:])


def identity(base: str, rows: list[Rendered]) -> tuple[float, list[dict[str, Any]]]:
    """The largest relative error of the trainer's loss against the formula, and the grid."""
    objectives: tuple[Objective, ...] = ("token_mean", "sample_mean", "sum")
    model = models.load(base, SETTINGS)
    table: list[dict[str, Any]] = []
    for size in (len(rows) // 2, len(rows)):
        formula = {objective: loss_of(model, rows[:size], objective) for objective in objectives}
        for batch_tokens, shared in ((1, False), (300, False), (300, True), (100_000, True)):
            loop = Loop(model, replace(SETTINGS, batch_tokens=batch_tokens), rows)
            loop.shared = shared
            losses, _ = loop.gradients(rows[:size])
            for objective in objectives:
                printed, true = Sums(losses).loss(objective), formula[objective]
                pairs = [(printed.total, true.total), *((printed.tasks[t], true.tasks[t]) for t in true.tasks)]
                case = {"objective": objective, "rows": size, "batch_tokens": batch_tokens, "shared": shared}
                table.append({**case, "error": max(abs(a - b) / abs(b) for a, b in pairs)})
    return max(row["error"] for row in table), table


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """One run of ours, in this process."""
    rows = [Example(**row["example"]) for row in job["rows"]]
    cpu = time.process_time()
    done = tune(job["base"], rows, Path(job["out"]), SETTINGS)
    cpu = time.process_time() - cpu
    lines = [line for line in done.history if line["step"] > 0]
    return {
        "seconds": sum(line["tokens"] / line["rate"] for line in lines),
        "cpu_seconds": cpu,
        "first_loss": lines[0]["loss"],
        "last_loss": lines[-1]["loss"],
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "trained": sum(line["tokens"] for line in lines),
        "computed": sum(line["computed"] for line in lines),
    }


def run(command: list[str], job: Path) -> dict[str, Any]:
    """Run one side in a process of its own and read its result."""
    ran = subprocess.run([*command, str(job)], capture_output=True, text=True, check=False)
    found = [line for line in ran.stdout.splitlines() if line.startswith("RESULT")]
    if ran.returncode or not found:
        raise RuntimeError((ran.stderr.strip().splitlines() or ["no result"])[-1])
    return dict(json.loads(found[0].removeprefix("RESULT")))


def trl_python(folder: Path) -> Path:
    """An interpreter with TRL on top of this environment's packages. Raises CalledProcessError when it cannot be installed."""
    import sysconfig

    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "base.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", f"trl=={TRL_VERSION}"], check=True, capture_output=True)
    return python


def sides(base: str, rows: list[Example], work: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Speed and memory of ours and of TRL on the same rows."""
    keys = ("task", "instruction", "input", "output")
    plain = [{"messages": row.messages(), "example": {key: getattr(row, key) for key in keys}} for row in rows]
    targets = sorted(models.PROJECTIONS & {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
    job = work / "job.json"
    common = {"base": base, "rows": plain, "batch": SETTINGS.batch_rows, "lr": SETTINGS.peak_lr, "targets": targets}
    job.write_text(json.dumps({**common, "out": str(work / "ours")}), encoding="utf-8")
    mine = run([sys.executable, __file__, "--side"], job)
    tokens = sum(len(row.ids) for row in rendered(base, rows))
    figures = {
        "trained_tokens_per_s": mine["trained"] / mine["seconds"],
        "tokens_per_s": tokens / mine["seconds"],
        "tokens_saved": 1 - mine["computed"] / (tokens - len(rows)),
        "rss_mb": mine["rss_mb"],
    }
    table = [{"side": "zhiling", "rows": len(rows), "tokens": tokens, **mine}]
    try:
        python = trl_python(work / "trl")
        script = work / "trl_side.py"
        script.write_text(TRL, encoding="utf-8")
        job.write_text(json.dumps({**common, "out": str(work / "theirs")}), encoding="utf-8")
        theirs = run([str(python), str(script)], job)
    except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
        said = getattr(error, "stderr", None) or str(error)
        said = said.decode(errors="replace") if isinstance(said, bytes) else said
        print(f"TRL skipped: {(said.strip().splitlines() or ['?'])[-1]}")
        return figures, table
    figures |= {"ratio_trl": theirs["seconds"] / mine["seconds"], "memory_ratio_trl": mine["rss_mb"] / theirs["rss_mb"]}
    return figures, [*table, {"side": "trl", "rows": len(rows), "tokens": tokens, **theirs}]


def rendered(base: str, rows: list[Example]) -> list[Rendered]:
    """The rows as tokens; those longer than the limit left out."""
    return render_all(rows, prepare(models.load_tokenizer(base)), Sees.ANSWER, SETTINGS.max_length)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=SHARED if SHARED.is_dir() else SHARED.parents[2] / "shared" / "data"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a small size")
    parser.add_argument("--base", default="embedded", help="the model to tune")
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print("RESULT" + json.dumps(ours(json.loads(options.side.read_text(encoding="utf-8")))))
        return
    base = models.locate(options.base)
    fits = {row.id for row in rendered(base, examples(options.data, 2000))}
    rows = [row for row in examples(options.data, 2000) if row.id in fits]
    rows = sorted(rows, key=lambda row: content_id("bench", row.id))[: 48 if options.quick else 256]
    print(f"{len(rows)} rows, {len({row.task for row in rows})} tasks, {base}")
    error, grid = identity(base, rendered(base, rows[: 4 if options.quick else 12]))
    with tempfile.TemporaryDirectory() as work:
        figures, table = sides(base, rows, Path(work))
    figures = {"loss_identity_error": error} | {key: round(value, 3) for key, value in figures.items()}
    for row in table:
        print(
            "  ".join(
                f"{key} {value if not isinstance(value, float) else round(value, 2)}" for key, value in row.items()
            )
        )
    print()
    for key, value in figures.items():
        print(f"{key:<24} {value:.3g}" if key == "loss_identity_error" else f"{key:<24} {value}")
    if options.json:
        machine = (
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        found = {"name": "tune", "machine": machine, "figures": figures, "rows": [*grid, *table]}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
