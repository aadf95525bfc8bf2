"""Tasks of EleutherAI's lm-evaluation-harness, where that package is installed, in the shape of our own results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist
from typing import Any

from zhiling.errors import DataError, RecipeError, say
from zhiling.proof.sides import Side

PREFIX = "lm_eval:"
Watch = Callable[[Mapping[str, Any]], None]


def measure(
    side: Side, name: str, *, rows: int | None = None, seed: int = 0, confidence: float = 0.95, include: Path | None = None, watch: Watch
) -> dict[str, Any]:  # fmt: skip
    """One model on the task `name` (without its prefix), at most `rows` rows; `include` is a folder of the user's own task files.

    Its metrics are the harness's, in [low, high] by its standard error and the normal distribution; "score" is the first of them. Tasks that
    bring no data fetch it from the hub. Raises RecipeError where the package is absent, the task unknown or the model not local.
    """
    if find_spec("lm_eval") is None:
        what = say("lm-evaluation-harness is not installed", "未安装 lm-evaluation-harness")
        raise RecipeError(what, where=f"{PREFIX}{name}", mend="pip install lm-eval")
    args = _model(side)
    lm_eval, managers = import_module("lm_eval"), import_module("lm_eval.tasks")
    tasks = managers.TaskManager(include_path=str(include) if include else None)
    if name not in tasks.all_tasks:
        mend = say("--include names a folder of task files", "可用 --include 指定任务文件夹")
        what = say(f"the harness has no task '{name}'", f"评测框架没有任务“{name}”")
        raise RecipeError(what, where=f"{PREFIX}{name}", mend=mend)
    watch({"stage": "evaluate", "task": f"{PREFIX}{name}"})
    found = lm_eval.simple_evaluate(
        model="hf", model_args=args, device=_device(), tasks=[name], limit=rows, task_manager=tasks, log_samples=False, bootstrap_iters=1000,
        random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
    )  # fmt: skip
    if found is None or name not in found["results"]:
        raise DataError(say("the harness gave no result", "评测框架没有给出结果"), where=f"{PREFIX}{name}")
    counts = found.get("n-samples", {}).get(name, {})
    return told(side.label, f"{PREFIX}{name}", found["results"][name], counts.get("effective"), confidence)


def told(model: str, task: str, values: Mapping[str, Any], rows: int | None, confidence: float) -> dict[str, Any]:
    """The harness's numbers ("acc,none", "acc_stderr,none", ...) as our results."""
    z, metrics = NormalDist().inv_cdf(0.5 + confidence / 2), dict[str, dict[str, Any]]()
    for key, value in values.items():
        metric, _, version = key.partition(",")
        if metric.endswith("_stderr") or not version or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        error = values.get(f"{metric}_stderr,{version}")
        reach = z * error if isinstance(error, int | float) else None
        low, high = (None, None) if reach is None else (value - reach, value + reach)
        metrics[metric if version == "none" else key] = {"score": value, "low": low, "high": high}
    if not metrics:
        raise DataError(say("the harness gave no number", "评测框架没有给出数值"), where=task)
    first = next(iter(metrics))
    one = {"n": rows, "failed": 0, **metrics[first]}
    return {
        "model": model, "tasks": {task: {"metric": first, **one, "metrics": metrics}}, "overall": one, "langs": {}, "families": {},
        "confidence": confidence, "unusable": 0, "spent": {},
        "contamination": {"checked": False, "training_rows": None, "unknown": [], "rows": 0, "counted_in": 0},
    }  # fmt: skip


def _device() -> str:
    """Where the harness shall work: left alone it asks for CUDA."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _model(side: Side) -> dict[str, Any]:
    """The harness's arguments for a model of this machine: a folder or hub name, with its adapter. Raises RecipeError for any other."""
    if side.entry.get("provider") != "transformers":
        what = say("the harness is given models of this machine only", "评测框架只能评测本机模型")
        mend = say("name a folder, a tuned run or a hub name", "请给出模型文件夹、调优结果或模型名")
        raise RecipeError(what, where=side.label, mend=mend)
    from zhiling.llm import embedded

    model = str(side.entry.get("model", "embedded"))
    adapter = {"peft": str(side.entry["adapter"])} if side.entry.get("adapter") else {}
    return {"pretrained": str(embedded.folder()) if model == "embedded" else model, **adapter}
