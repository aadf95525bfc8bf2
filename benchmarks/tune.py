"""Tuning: whether the printed loss is the formula's, and trained tokens a second and peak memory against TRL and LLaMA-Factory.

    python benchmarks/tune.py [--quick] [--data DIR] [--json FILE] [--base MODEL] [--rivals DIR]

Rows: Alpaca in English and Chinese from the shared data, at most 400 tokens long; the shipped demo's rows where that data is absent.
All sides get the same rows, chat template, adapter (rank 16 on all projections) or full weights, batches of 8 rows, fp32 on a CPU, one
epoch, the loss on answers only. Each runs in a process of its own, in turns, and the median of its runs counts: of the training alone,
without loading and tokenising. Gradient checkpointing, which LLaMA-Factory turns on and which would slow it further, is off.
* `loss_identity_error`: the largest relative difference between the loss that the trainer prints and the formula recomputed outside
  it, over objectives x rows per step x tokens per batch x shared prefixes or none.
* `trained_tokens_per_cpu_s`, `trained_tokens_per_s`, `rss_mb`: tokens that the loss sees, and the peak memory, with LoRA.
* `tokens_saved`: the share of all tokens that was not computed because a row before had the same prefix.
* `ratio_trl`, `ratio_llamafactory`: their CPU seconds over ours with LoRA, as they come (TRL, LLaMA-Factory: padded batches);
  `..._wall` the same of wall seconds; `ratio_trl_packing` with TRL's packing; `ratio_trl_full`, `ratio_llamafactory_full` for full tuning.
* `memory_ratio_trl`, `memory_ratio_llamafactory`: our peak memory over theirs; `..._full` alike.
* `loss_trl`, `loss_llamafactory`: their mean loss over the steps less ours.
Rivals live in environments of their own, `--rivals DIR`/trl and /llamafactory, made on demand; where one cannot be had or fails, its
figures are null and the reason is printed.
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
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for both sides

from zhiling.llm.embedded import cache_home
from zhiling.tune import model as models
from zhiling.tune import train
from zhiling.tune.loop import Loop
from zhiling.tune.loss import Sums, loss_of
from zhiling.tune.render import Rendered, prepare, render_all
from zhiling.tune.settings import Objective, Sees, TuneSettings
from zhiling.types import Example, content_id

SHARED = Path(__file__).parents[1] / "shared" / "data"
SETTINGS = TuneSettings(
    epochs=1, batch_rows=8, checkpoint_every=0, max_length=400, lr=5e-4, warmup=0.0
)  # no warmup: what the rivals do unasked
PACKAGES = {
    "trl": "trl==1.16.0 transformers==5.23.0 peft==0.21.2",
    "llamafactory": "llamafactory==0.9.5",
}
TORCH = "torch==2.13.0"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

TIMED = """
import json, resource, sys, time
from transformers import Trainer

job, seen, train = json.load(open(sys.argv[1])), {}, Trainer.train

def timed(self, *args, **kwargs):
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        return train(self, *args, **kwargs)
    finally:
        seen.update(seconds=time.perf_counter() - wall, cpu_seconds=time.process_time() - cpu)
        seen["losses"] = [line["loss"] for line in self.state.log_history if "loss" in line]

Trainer.train = timed

def tell():
    losses = seen.pop("losses")
    seen.update(loss=sum(losses) / len(losses), rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print("RESULT" + json.dumps(seen))
"""
"""What both rivals' scripts begin with: the training loop is timed, and nothing else."""

TRL = """
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

model = AutoModelForCausalLM.from_pretrained(job["base"], dtype="float32")
tokenizer = AutoTokenizer.from_pretrained(job["base"])
rows = Dataset.from_list([{"prompt": r["messages"][:-1], "completion": r["messages"][-1:]} for r in job["rows"]])
config = SFTConfig(
    output_dir=job["out"], per_device_train_batch_size=job["batch"], num_train_epochs=1, learning_rate=job["lr"], seed=0, logging_steps=1,
    max_length=400, completion_only_loss=True, gradient_checkpointing=False, bf16=False, use_cpu=True, report_to="none", save_strategy="no",
    packing=job["packing"],
)
lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=job["targets"], task_type="CAUSAL_LM")
SFTTrainer(
    model=model, args=config, train_dataset=rows, processing_class=tokenizer, peft_config=lora if job["method"] == "lora" else None
).train()
tell()
"""  # fmt: skip

LLAMAFACTORY = """
import types
from pathlib import Path
sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # wants it for sound alone; there is none for this torch
from llamafactory.train.tuner import run_exp

data = Path(job["out"]) / "data"
data.mkdir(parents=True)
(data / "rows.json").write_text(json.dumps([r["example"] for r in job["rows"]]))
(data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
given = dict(
    stage="sft", do_train=True, model_name_or_path=job["base"], dataset="rows", dataset_dir=str(data), template=job["template"],
    finetuning_type=job["method"], cutoff_len=400, per_device_train_batch_size=job["batch"], gradient_accumulation_steps=1,
    learning_rate=job["lr"], num_train_epochs=1, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, seed=0,
    disable_gradient_checkpointing=True, output_dir=job["out"] + "/model", overwrite_cache=True, dataloader_num_workers=0, plot_loss=False,
)
if job["method"] == "lora":
    given |= dict(lora_rank=16, lora_alpha=32, lora_dropout=0.0, lora_target=",".join(job["targets"]))
run_exp(given)
tell()
"""


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
    """One run of ours, in this process; the training loop is timed, and nothing else."""
    seen: dict[str, Any] = {}
    loop = train._train

    def timed(*given: Any) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        loop(*given)
        seen.update(seconds=time.perf_counter() - wall, cpu_seconds=time.process_time() - cpu)

    train._train = timed
    rows = [Example(**row["example"]) for row in job["rows"]]
    done = train.tune(job["base"], rows, Path(job["out"]), replace(SETTINGS, method=job["method"], lr=job["lr"]))
    return {
        **seen,
        "loss": sum(line["loss"] for line in done.history) / len(done.history),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "trained": sum(line["tokens"] for line in done.history),
        "computed": sum(line["computed"] for line in done.history),
    }


def run(command: list[str], job: Path) -> dict[str, Any]:
    """Run one side in a process of its own and read its result. Raises RuntimeError with the last line that it said."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1", "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run([*command, str(job)], capture_output=True, text=True, check=False, env=offline)
    found = [line for line in ran.stdout.splitlines() if line.startswith("RESULT")]
    if ran.returncode or not found:
        raise RuntimeError((ran.stderr.strip().splitlines() or ["no result"])[-1])
    return dict(json.loads(found[0].removeprefix("RESULT")))


def interpreter(folder: Path, name: str) -> Path:
    """The Python of a rival's environment, which is made where it is not there. Raises CalledProcessError when it cannot be installed."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True, capture_output=True)
        for packages in (TORCH, f"{TORCH} {PACKAGES[name]}"):
            install = [str(python), "-m", "pip", "install", "-q", *packages.split()]
            subprocess.run(install, check=True, capture_output=True)
        # built for another torch than the CPU's, they fail where they are imported; rows of text need neither
        subprocess.run(
            [str(python), "-m", "pip", "uninstall", "-y", "-q", "torchvision", "torchaudio"],
            check=True,
            capture_output=True,
        )
    return python


Side = tuple[str, str, bool]
"""Who ("zhiling", "trl", "llamafactory"), how ("lora", "full"), and whether with the rival's packing."""
ROUNDS: tuple[tuple[Side, ...], ...] = (
    (("zhiling", "lora", False), ("trl", "lora", False), ("llamafactory", "lora", False)),
    (("zhiling", "full", False), ("trl", "full", False), ("llamafactory", "full", False)),
    (("trl", "lora", True),),
)


def sides(base: str, rows: list[Example], work: Path, rivals: Path, turns: int) -> dict[Side, list[dict[str, Any]]]:
    """What each side measured, in turns: LoRA `turns` times, the others once."""
    keys = ("task", "instruction", "input", "output")
    plain = [{"messages": row.messages(), "example": {key: getattr(row, key) for key in keys}} for row in rows]
    found: dict[Side, list[dict[str, Any]]] = {}
    broken: set[Side] = set()
    order = [side for _ in range(turns) for side in ROUNDS[0]] + [side for part in ROUNDS[1:] for side in part]
    for number, side in enumerate(order):
        who, method, packing = side
        if side in broken:
            continue
        job = work / f"{number}.json"
        given = {
            "base": base,
            "rows": plain,
            "batch": SETTINGS.batch_rows,
            "targets": TARGETS,
            "method": method,
            "packing": packing,
        }
        given |= {"lr": 5e-4 if method == "lora" else 5e-5, "template": "smollm2", "out": str(work / str(number))}
        job.write_text(json.dumps(given), encoding="utf-8")
        try:
            if who == "zhiling":
                measured = run([sys.executable, __file__, "--side"], job)
            else:
                script = work / f"side_{who}.py"  # a name of its own: it stands first on the path
                script.write_text(TIMED + (TRL if who == "trl" else LLAMAFACTORY), encoding="utf-8")
                measured = run([str(interpreter(rivals, who)), str(script)], job)
        except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
            said = getattr(error, "stderr", None) or str(error)
            said = said.decode(errors="replace") if isinstance(said, bytes) else said
            print(f"{who}, {method} skipped: {(said.strip().splitlines() or ['?'])[-1]}", flush=True)
            broken.add(side)
            continue
        print(f"{who} {method}{' packing' if packing else ''}: {measured}", flush=True)
        found.setdefault(side, []).append(measured)
    return found


def compared(found: Mapping[Side, list[dict[str, Any]]], tokens: int, rows: int) -> dict[str, float | None]:
    """The figures. One that a side has no measurement for is None."""

    def of(who: str, key: str, method: str = "lora", packing: bool = False) -> float | None:
        runs = found.get((who, method, packing))
        return median(run[key] for run in runs) if runs else None

    def over(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a / b

    mine = found[("zhiling", "lora", False)][0]
    figures = {
        "trained_tokens_per_cpu_s": over(mine["trained"], of("zhiling", "cpu_seconds")),
        "trained_tokens_per_s": over(mine["trained"], of("zhiling", "seconds")),
        "tokens_saved": 1 - mine["computed"] / (tokens - rows),
        "rss_mb": of("zhiling", "rss_mb"),
        "ratio_trl_packing": over(of("trl", "cpu_seconds", packing=True), of("zhiling", "cpu_seconds")),
    }
    for who in ("trl", "llamafactory"):
        figures[f"ratio_{who}"] = over(of(who, "cpu_seconds"), of("zhiling", "cpu_seconds"))
        figures[f"ratio_{who}_wall"] = over(of(who, "seconds"), of("zhiling", "seconds"))
        figures[f"ratio_{who}_full"] = over(of(who, "cpu_seconds", "full"), of("zhiling", "cpu_seconds", "full"))
        figures[f"memory_ratio_{who}"] = over(of("zhiling", "rss_mb"), of(who, "rss_mb"))
        figures[f"memory_ratio_{who}_full"] = over(of("zhiling", "rss_mb", "full"), of(who, "rss_mb", "full"))
        theirs, own = of(who, "loss"), of("zhiling", "loss")
        figures[f"loss_{who}"] = None if theirs is None or own is None else theirs - own
    return figures


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
    parser.add_argument("--rivals", type=Path, help="where the rivals' environments are, or are made")
    parser.add_argument("--rows", type=int, help="how many rows, instead of 256 (with --quick 48)")
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print("RESULT" + json.dumps(ours(json.loads(options.side.read_text(encoding="utf-8")))))
        return
    base = models.locate(options.base)
    fits = {row.id for row in rendered(base, examples(options.data, 2000))}
    rows = [row for row in examples(options.data, 2000) if row.id in fits]
    rows = sorted(rows, key=lambda row: content_id("bench", row.id))[: options.rows or (48 if options.quick else 256)]
    print(f"{len(rows)} rows, {len({row.task for row in rows})} tasks, {base}", flush=True)
    error, grid = identity(base, rendered(base, rows[: 4 if options.quick else 12]))
    print(f"loss_identity_error {error:.3g}", flush=True)
    with tempfile.TemporaryDirectory() as work:
        found = sides(base, rows, Path(work), options.rivals or cache_home() / "rivals", 1 if options.quick else 3)
    tokens = sum(len(row.ids) for row in rendered(base, rows))
    told = {
        key: value if value is None else round(value, 3) for key, value in compared(found, tokens, len(rows)).items()
    }
    figures = {"loss_identity_error": error} | told
    table = [
        {"side": who, "method": method, "packing": packing, "rows": len(rows), "tokens": tokens, **one}
        for (who, method, packing), runs in found.items()
        for one in runs
    ]
    print()
    for key, value in figures.items():
        print(f"{key:<30} {value:.3g}" if key == "loss_identity_error" else f"{key:<30} {value}")
    if options.json:
        machine = (
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        found = {"name": "tune", "machine": machine, "figures": figures, "rows": [*grid, *table]}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
