"""The tuner: one flat loop from examples to a tuned model, on torch, transformers and peft."""

from __future__ import annotations

import json
import math
import os
import secrets
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zhiling.errors import EngineError, boundary, missing, say
from zhiling.llm.machine import cores
from zhiling.registry import module_version
from zhiling.tune import checkpoint, state
from zhiling.tune import model as models
from zhiling.tune.listen import Listener, Told
from zhiling.tune.log import Log, Progress, Quiet, read
from zhiling.tune.loop import Loop
from zhiling.tune.loss import Loss, Sums
from zhiling.tune.mix import Step, split, steps
from zhiling.tune.ranks import Ranks, joined
from zhiling.tune.ready import ready
from zhiling.tune.render import Rendered, prepare, render_all
from zhiling.tune.settings import TuneSettings, lr_at
from zhiling.tune.shard import wholes
from zhiling.types import Example, content_id

RUNTIME = ("threads", "checkpoint_every", "log")
"""Settings that may change between a run and its resumption."""
CODE = ("attention", "batch", "loop", "loss", "mix", "model", "ranks", "render", "settings", "shard", "state", "train")
"""What the weights depend on: a run is not resumed by other code than began it."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned model and how it came about.

    `folder` holds the adapter or the full model (safetensors) with its tokenizer. `loss` is each task's training loss over the
    last epoch, every row under the weights it met, and `total` the same over all tasks. `counts` says what became of the rows:
    see `render.render_all`, and "validation" were kept aside. `steps` were made; `saved` is the one whose weights `folder` holds, an
    earlier one with `keep: best`. `sources` says where the rows came from, as the caller of `tune` did. `history` has a row per step, as
    in metrics.jsonl.
    """

    folder: Path
    base: str
    steps: int
    saved: int
    total: float
    loss: dict[str, float]
    counts: dict[str, int]
    sources: tuple[dict[str, Any], ...]
    history: tuple[dict[str, Any], ...] = field(repr=False)


def tune(
    base: str | Path,
    examples: Sequence[Example],
    out: Path,
    settings: TuneSettings,
    *,
    progress: Progress | None = None,
    sources: Sequence[Mapping[str, Any]] = (),
) -> Tuned:
    """Tune `base` on the examples of all tasks together and save the result under `out`.

    `base` is "embedded", a model folder or a hub name. Each step minimises the settings' objective over its rows. `out` gets
    `metrics.jsonl` (a line per step), checkpoints while it runs, then `model/` and `done.json`. Killed at any moment, the same
    call goes on from the last whole checkpoint and ends with the same weights, to the bit on a CPU in fp32; finished, it
    returns at once; with other settings, examples or base it starts afresh. `progress` is shown each line of the metrics.
    Among ranks (torchrun, Ray Train) all call it with the same arguments, and `out` is a folder that all of them see. `sources`, where the
    examples came from, is noted in `done.json` as it is.

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
    ready(settings)
    name = models.locate(base)
    choices = {key: value for key, value in asdict(settings).items() if key not in RUNTIME}
    code = [module_version(f"zhiling.tune.{module}") for module in CODE]
    with joined() as ranks:
        parts = [sorted(example.id for example in examples), models.fingerprint(name), code, ranks.size]
        key = content_id("tune", choices, *parts)
        done = ranks.told(_done(out, key, sources) if ranks.first else None)
        if done is not None:
            return done
        with _threads(settings.threads), torch.random.fork_rng(), _memory(settings):
            return _tune(str(base), name, examples, out, settings, key, ranks, progress, sources)


def _tune(
    base: str,
    name: str,
    examples: Sequence[Example],
    out: Path,
    settings: TuneSettings,
    key: str,
    ranks: Ranks,
    progress: Progress | None,
    sources: Sequence[Mapping[str, Any]],
) -> Tuned:
    tokenizer = prepare(models.load_tokenizer(name))
    rows, counts = render_all(examples, tokenizer, settings.sees, min(settings.max_length, models.context(name)))
    rows, aside = split(rows, settings)
    counts = {**counts, "trained": len(rows), "validation": len(aside)}
    plan = steps(rows, settings)
    loop = Loop(models.load(name, settings, ranks), settings, [*rows, *aside], ranks)
    course = _resume(out, key, loop)
    log = _log(base, out, settings, course, progress) if ranks.first else Quiet()
    try:
        _train(loop, plan, aside, course, log, out)
    finally:
        log.close()
    ranks.wait()
    saved = course.step
    if settings.keep == "best" and course.watch.step:
        saved = course.watch.step
        state.put(loop.params, checkpoint.best(out, saved))
    final = course.epoch.loss(settings.objective)
    facts = (base, course.step, saved, final.total, final.tasks, counts, tuple(map(dict, sources)))
    made = Tuned(out / "model", *facts, tuple(log.history))
    models.save(loop.model, tokenizer, out / "model", base, ranks)
    if ranks.first:
        _finish(out, key, made)
    return ranks.told(made)


def _train(
    loop: Loop, plan: Sequence[Step], aside: Sequence[Rendered], course: _Course, log: Log | Quiet, out: Path
) -> None:
    """From the step that the course has come to, to the last one or the end of patience."""
    settings, ranks = loop.settings, loop.ranks
    if aside and course.step == 0:
        log.write(_validated({"step": 0}, loop.measure(aside)))
    for step in plan[course.step :]:
        if course.step == 0 or plan[course.step - 1].last:
            course.epoch = Sums()
        course.step += 1
        losses, told = loop.step(course.step, step.rows, lr_at(settings, course.step, len(plan)))
        course.epoch.add(losses)
        line = {"step": course.step, "steps": len(plan), "epoch": step.epoch + 1, **told}
        if aside and (step.last or course.step == len(plan)):
            measured = loop.measure(aside)
            line = _validated(line, measured)
            if course.watch.better(course.step, measured.total) and settings.keep == "best":
                weights = wholes(loop.params)
                if ranks.first:
                    checkpoint.save_best(out, course.step, weights)
        log.write(line)
        if course.watch.over(settings):
            break
        every = settings.checkpoint_every
        if every and course.step % every == 0 and course.step < len(plan):
            log.sync()
            tensors = state.snapshot(loop.params, loop.optimizer)
            if ranks.first:
                checkpoint.save(out, course.step, tensors, course.held())


def _validated(line: dict[str, Any], loss: Loss) -> dict[str, Any]:
    return {**line, "validation": loss.tasks, "validation_loss": loss.total}


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


@dataclass(slots=True)
class _Course:
    """How far the run `key` is: its step, the sums of the epoch so far, the validation so far. `id` names it to loggers, anew at each start."""

    key: str
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    step: int = 0
    epoch: Sums = field(default_factory=Sums)
    watch: _Watch = field(default_factory=_Watch)

    def held(self) -> dict[str, Any]:
        """What a checkpoint holds of it, beside the step."""
        return {"key": self.key, "id": self.id, "epoch": self.epoch.tasks, "watch": asdict(self.watch)}


def _log(base: str, out: Path, settings: TuneSettings, course: _Course, progress: Progress | None) -> Log:
    """The metrics file, and the loggers that the settings name."""
    log = Log(out / "metrics.jsonl", course.step, progress)
    plain = {key: value for key, value in asdict(settings).items() if key != "log"}
    for chosen in settings.loggers():
        told = Told(course.id, out.resolve().name, out / "logs" / chosen[0].name, {"base": base, **plain})
        log.listeners.append(Listener(chosen, told, log.history))
    return log


def _resume(out: Path, key: str, loop: Loop) -> _Course:
    """Go back to the last whole checkpoint of this very run. Other runs' files are removed."""
    found, damaged = checkpoint.load(out, key)
    for name in damaged:
        warnings.warn(
            say(
                f"the checkpoint {name} is damaged, the one before it is used",
                f"检查点 {name} 已损坏，改用之前的检查点",
            ),
            stacklevel=3,
        )
    loop.ranks.wait()  # until all have looked
    if found is None:
        if loop.ranks.first:
            checkpoint.clear(out)
        return _Course(key)
    state.restore(loop.params, loop.optimizer, found.tensors)
    held = found.state
    return _Course(key, held["id"], found.step, Sums(tasks=held["epoch"]), _Watch(**held["watch"]))


def _done(out: Path, key: str, sources: Sequence[Mapping[str, Any]]) -> Tuned | None:
    """What an earlier call finished under the same key. Where its rows are found now, is noted."""
    file = out / "done.json"
    if not file.is_file():
        return None
    held = json.loads(file.read_text(encoding="utf-8"))
    if held.pop("key") != key or not (out / "model").is_dir():
        file.unlink()
        return None
    named = tuple(map(dict, sources)) or tuple(held.pop("sources", ()))
    done = Tuned(folder=out / "model", history=tuple(read(out / "metrics.jsonl")), **{**held, "sources": named})
    _write(out, key, done)
    return done


def _finish(out: Path, key: str, tuned: Tuned) -> None:
    _write(out, key, tuned)
    checkpoint.clear(out)


def _write(out: Path, key: str, tuned: Tuned) -> None:
    held = {name: value for name, value in asdict(tuned).items() if name not in ("folder", "history")}
    try:
        partial = out / ".done.json.partial"
        partial.write_text(json.dumps({"key": key, **held}, ensure_ascii=False), encoding="utf-8")
        partial.replace(out / "done.json")
    except OSError as error:
        raise boundary(error, where=str(out / "done.json")) from error


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
