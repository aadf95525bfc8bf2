"""The tuner: one flat loop from examples to a tuned model, on torch, transformers and peft."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zhiling.errors import EngineError, boundary, missing, say
from zhiling.llm.machine import cores
from zhiling.registry import module_version
from zhiling.tune import checkpoint, state
from zhiling.tune import model as models
from zhiling.tune.batch import Batch, batches, tree
from zhiling.tune.log import Log, Progress, Quiet, read
from zhiling.tune.loss import Loss, Sums, chunks, laid_out, row_sums, scale, share, token_losses
from zhiling.tune.mix import split, steps
from zhiling.tune.ranks import ALONE, Ranks, joined
from zhiling.tune.render import Rendered, prepare, render_all
from zhiling.tune.settings import TuneSettings, lr_at
from zhiling.tune.shard import rounds, sharded, whole, wholes
from zhiling.types import Example, content_id, row_seed

RUNTIME = ("threads", "checkpoint_every")
"""Settings that may change between a run and its resumption."""
CODE = ("attention", "batch", "loss", "mix", "model", "ranks", "render", "settings", "shard", "state", "train")
"""What the weights depend on: a run is not resumed by other code than began it."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned model and how it came about.

    `folder` holds the adapter or the full model (safetensors) with its tokenizer. `loss` is each task's training loss over the
    last epoch, every row under the weights it met, and `total` the same over all tasks. `counts` says what became of the rows:
    see `render.render_all`, and "validation" were kept aside. `steps` were made; `saved` is the one whose weights `folder` holds, an
    earlier one with `keep: best`. `history` has a row per step, as in metrics.jsonl.
    """

    folder: Path
    base: str
    steps: int
    saved: int
    total: float
    loss: dict[str, float]
    counts: dict[str, int]
    history: tuple[dict[str, Any], ...] = field(repr=False)


def tune(
    base: str | Path,
    examples: Sequence[Example],
    out: Path,
    settings: TuneSettings,
    *,
    progress: Progress | None = None,
) -> Tuned:
    """Tune `base` on the examples of all tasks together and save the result under `out`.

    `base` is "embedded", a model folder or a hub name. Each step minimises the settings' objective over its rows. `out` gets
    `metrics.jsonl` (a line per step), checkpoints while it runs, then `model/` and `done.json`. Killed at any moment, the same
    call goes on from the last whole checkpoint and ends with the same weights, to the bit on a CPU in fp32; finished, it
    returns at once; with other settings, examples or base it starts afresh. `progress` is shown each line of the metrics.
    Among ranks (torchrun, Ray Train) all call it with the same arguments, and `out` is a folder that all of them see.

    Raises RecipeError (settings, no such model), DataError (nothing to tune on), EngineError (disk or memory full, or a loss
    that is not finite: the message names the step and the rows).
    """
    if "torch" not in sys.modules:
        # OpenMP threads that spin while they wait stall one another where cores are shared: 4 to 9 times slower.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import peft  # noqa: F401
        import torch
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing(error.name or "torch") from error
    name = models.locate(base)
    choices = {key: value for key, value in asdict(settings).items() if key not in RUNTIME}
    code = [module_version(f"zhiling.tune.{module}") for module in CODE]
    with joined() as ranks:
        parts = [sorted(example.id for example in examples), models.fingerprint(name), code, ranks.size]
        key = content_id("tune", choices, *parts)
        done = ranks.told(_done(out, key) if ranks.first else None)
        if done is not None:
            return done
        with _threads(settings.threads), torch.random.fork_rng(), _memory(settings):
            return _tune(str(base), name, examples, out, settings, key, ranks, progress)


def _tune(
    base: str,
    name: str,
    examples: Sequence[Example],
    out: Path,
    settings: TuneSettings,
    key: str,
    ranks: Ranks,
    progress: Progress | None,
) -> Tuned:
    import torch

    tokenizer = prepare(models.load_tokenizer(name))
    rows, counts = render_all(examples, tokenizer, settings.sees, min(settings.max_length, models.context(name)))
    rows, aside = split(rows, settings)
    counts = {**counts, "trained": len(rows), "validation": len(aside)}
    plan = steps(rows, settings)
    model = models.load(name, settings, ranks)
    params = models.trainable(model)
    optimizer = torch.optim.AdamW(params.values(), lr=0.0, weight_decay=settings.weight_decay, fused=True)
    start, epoch, watch = _resume(out, key, params, optimizer, ranks)
    log = Log(out / "metrics.jsonl", start, progress) if ranks.first else Quiet()
    loop = _Loop(model, settings, [*rows, *aside], ranks)
    if aside and start == 0:
        log.write(_validated({"step": 0}, loop.measure(aside)))
    for number, step in enumerate(plan[start:], start + 1):
        began = time.perf_counter()
        lr = lr_at(settings, number, len(plan))
        if ranks.size > 1:  # each rank's dropout is its own, and a resumed step's the same
            torch.manual_seed(row_seed(settings.seed, f"step {number}, rank {ranks.rank}"))
        losses, computed = loop.gradients(step.rows)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(params.values(), settings.clip or math.inf)))
        _stop_unless_finite(number, losses, norm)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if number == 1 or plan[number - 2].last:
            epoch = Sums()
        epoch.add(losses)
        loss, tokens = Sums(losses).loss(settings.objective), sum(row.targets for row in step.rows)
        line = {"step": number, "steps": len(plan), "epoch": step.epoch + 1, "loss": loss.total, "tasks": loss.tasks}
        line |= {"lr": lr, "norm": norm, "rows": len(step.rows), "tokens": tokens, "computed": computed}
        line |= {"rate": round(tokens / (time.perf_counter() - began), 2)}
        if aside and (step.last or number == len(plan)):
            measured = loop.measure(aside)
            line = _validated(line, measured)
            if watch.better(number, measured.total) and settings.keep == "best":
                weights = wholes(params)
                if ranks.first:
                    checkpoint.save_best(out, number, weights)
        log.write(line)
        if watch.over(settings):
            break
        if settings.checkpoint_every and number % settings.checkpoint_every == 0 and number < len(plan):
            log.sync()
            tensors = state.snapshot(params, optimizer)
            if ranks.first:
                held = {"key": key, "epoch": epoch.tasks, "watch": asdict(watch)}
                checkpoint.save(out, number, tensors, held)
    saved = number
    ranks.wait()
    if settings.keep == "best" and watch.step:
        saved = watch.step
        state.put(params, checkpoint.best(out, saved))
    final = epoch.loss(settings.objective)
    made = Tuned(out / "model", base, number, saved, final.total, final.tasks, counts, tuple(log.history))
    models.save(model, tokenizer, out / "model", base, ranks)
    if ranks.first:
        _finish(out, key, made)
    return ranks.told(made)


@dataclass(slots=True)
class _Watch:
    """The validation loss over the epochs: the lowest so far, the step that it was measured after, and the epochs since."""

    lowest: float = math.inf
    step: int = 0
    since: int = 0

    def better(self, step: int, loss: float) -> bool:
        """Note an epoch's loss; whether none was lower."""
        if loss < self.lowest:
            self.lowest, self.step, self.since = loss, step, 0
            return True
        self.since += 1
        return False

    def over(self, settings: TuneSettings) -> bool:
        """Whether patience is at its end."""
        return bool(settings.patience) and self.since >= settings.patience


def _validated(line: dict[str, Any], loss: Loss) -> dict[str, Any]:
    return {**line, "validation": loss.tasks, "validation_loss": loss.total}


class _Loop:
    """What computes losses: the model in evaluation mode, but for LoRA's own dropout where it is asked for.

    The base's dropout stays off, so that the loss printed is the formula's and not a noisy relative of it.
    """

    def __init__(self, model: Any, settings: TuneSettings, rows: Sequence[Rendered], ranks: Ranks = ALONE) -> None:
        self.model, self.settings, self.ranks = model.eval(), settings, ranks
        self.dropouts = [module for name, module in model.named_modules() if name.endswith("lora_dropout")]
        self.split = sharded(model)
        with models.compute(settings):
            tolerance = 1e-3 if models.precision(settings) == "fp32" else 0.2
            self.shared = share(model, rows, tolerance)
            self.chunk = None if self.split else chunks(model, rows, tolerance)

    def gradients(self, rows: Sequence[Rendered]) -> tuple[list[tuple[Rendered, float]], int]:
        """Add the gradient of a step's objective to the parameters, on every rank that of all ranks' rows.

        Returns (row, s_i) for each row of the step and the tokens computed, by all ranks.
        """
        import torch

        objective, tokens = self.settings.objective, sum(row.targets for row in rows)
        losses: list[tuple[Rendered, float]] = []
        computed = 0
        for module in self.dropouts:
            module.train()
        for batch, counts in self._batches(rows):
            factors = torch.tensor([counts * scale(row, objective, tokens, len(rows)) for row in batch.rows])
            with laid_out(batch, self.model.device):
                with models.compute(self.settings):
                    each = token_losses(self.model, batch, self.chunk)
                (each * factors[torch.from_numpy(batch.owner)].to(each.device)).sum().backward()
            if counts:
                losses += zip(batch.rows, row_sums(batch, each), strict=True)
                computed += len(batch.ids)
        for module in self.dropouts:
            module.eval()
        if not self.split:
            self.ranks.add_up(models.trainable(self.model))
        return self.ranks.gather(losses), sum(self.ranks.gather([computed]))

    def _batches(self, rows: Sequence[Rendered]) -> Iterator[tuple[Batch, bool]]:
        """This rank's batches of a step, and whether each counts: see `shard.rounds`."""
        mine = batches(self.ranks.share(rows), self.settings.batch_tokens, self.shared)
        if not self.split:
            return ((batch, True) for batch in mine)
        return rounds(list(mine), tree(rows[:1]), self.ranks)

    def measure(self, rows: Sequence[Rendered]) -> Loss:
        """The objective over the rows, without gradient."""
        import torch

        losses: list[tuple[Rendered, float]] = []
        with torch.no_grad(), models.compute(self.settings):
            for batch, counts in self._batches(rows):
                each = token_losses(self.model, batch, self.chunk)
                losses += zip(batch.rows, row_sums(batch, each), strict=True) if counts else ()
        return Sums(self.ranks.gather(losses)).loss(self.settings.objective)


def _stop_unless_finite(number: int, losses: Sequence[tuple[Rendered, float]], norm: float) -> None:
    bad = [row for row, value in losses if not math.isfinite(value)]
    if not bad and math.isfinite(norm):
        return
    bad = bad or [row for row, _ in losses]
    named = ", ".join(f"{row.id} ({row.task})" for row in bad[:5]) + (f" +{len(bad) - 5}" if len(bad) > 5 else "")
    raise EngineError(
        say(f"the loss or its gradient is not finite for the rows {named}", f"以下数据的损失或梯度不是有限值：{named}"),
        where=say(f"tune, step {number}", f"微调第 {number} 步"),
        mend=say("look at them, lower lr, or use precision: fp32", "请检查这些数据、调小 lr，或使用 precision: fp32"),
    )


def _resume(out: Path, key: str, params: dict[str, Any], optimizer: Any, ranks: Ranks) -> tuple[int, Sums, _Watch]:
    """Go back to the last whole checkpoint of this very run: (its step, the epoch's sums so far, the validation so far).

    Other runs' files are removed.
    """
    found, damaged = checkpoint.load(out, key)
    for name in damaged:
        warnings.warn(
            say(
                f"the checkpoint {name} is damaged, the one before it is used",
                f"检查点 {name} 已损坏，改用之前的检查点",
            ),
            stacklevel=3,
        )
    ranks.wait()  # until all have looked
    if found is None:
        if ranks.first:
            checkpoint.clear(out)
        return 0, Sums(), _Watch()
    state.restore(params, optimizer, found.tensors)
    return found.step, Sums(tasks=found.state["epoch"]), _Watch(**found.state["watch"])


def _done(out: Path, key: str) -> Tuned | None:
    """What an earlier call finished under the same key."""
    file = out / "done.json"
    if not file.is_file():
        return None
    held = json.loads(file.read_text(encoding="utf-8"))
    if held.pop("key") != key or not (out / "model").is_dir():
        file.unlink()
        return None
    return Tuned(folder=out / "model", history=tuple(read(out / "metrics.jsonl")), **held)


def _finish(out: Path, key: str, tuned: Tuned) -> Tuned:
    held = {name: value for name, value in asdict(tuned).items() if name not in ("folder", "history")}
    try:
        partial = out / ".done.json.partial"
        partial.write_text(json.dumps({"key": key, **held}, ensure_ascii=False), encoding="utf-8")
        partial.replace(out / "done.json")
    except OSError as error:
        raise boundary(error, where=str(out / "done.json")) from error
    checkpoint.clear(out)
    return tuned


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # ranks on this machine share its cores
    torch.set_num_threads(count or max(1, cores() // beside))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _memory(settings: TuneSettings) -> Iterator[None]:
    """Out of memory is one line that says what to lower."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
        raise EngineError(
            say("out of memory while tuning", "微调时内存不足"),
            where="tune",
            mend=say(
                f"lower batch_tokens (now {settings.batch_tokens}) or max_length (now {settings.max_length}), or use method: lora",
                f"请调小 batch_tokens（现为 {settings.batch_tokens}）或 max_length（现为 {settings.max_length}），或使用 method: lora",
            ),
        ) from error
