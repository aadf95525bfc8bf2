"""What a tuning run may be told, and the learning-rate schedule as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from zhiling import registry
from zhiling.errors import RecipeError, say


class Sees(StrEnum):
    """What the loss sees of a rendered row."""

    ANSWER = "answer"
    """The last assistant turn and its end-of-turn token: the y of the formula. The default."""
    REPLIES = "replies"
    """Every assistant turn with its end-of-turn token, those in the history too."""
    ALL = "all"
    """Every token but the first: ordinary language modelling of the whole row."""


Objective = Literal["token_mean", "sample_mean", "sum"]
"""How the token losses -log p of a set of rows become one number, which is also what each step minimises over its own rows.

With n_i trained tokens in row i and s_i the sum of their losses, over the rows of a step, a task or a whole set alike:

* "token_mean": (sum of s_i) / (sum of n_i). A long answer weighs more. What most trainers mean by "the loss".
* "sample_mean": mean over rows of s_i / n_i. Every row weighs the same.
* "sum": sum of s_i. L(θ) = Σ_t Σ_i l(f(x_i^t; θ), y_i^t) to the letter, l being the negative log-likelihood of the answer; it
  adds up over tasks, and it grows with the rows.
"""


@dataclass(frozen=True)
class TuneSettings:
    """Settings of one tuning run; the defaults serve a small model and some hundreds of short rows.

    Raises RecipeError for a value out of range.
    """

    method: Literal["lora", "full"] = "lora"
    objective: Objective = "token_mean"
    sees: Sees = Sees.ANSWER
    epochs: float = 2.0
    """Passes over the rows; may be a fraction."""
    max_steps: int | None = None
    """Stop after that many optimizer steps, even if the epochs are not over."""
    batch_rows: int = 8
    """Rows per optimizer step."""
    batch_tokens: int = 768
    """Tokens computed at once: bounds the memory, changes nothing else (gradients add up within a step)."""
    max_length: int = 1024
    """Longer rows (in tokens, also those longer than the model's context) are left out and counted, never cut."""
    lr: float | None = None
    """Peak learning rate; None is 1e-3 for LoRA and 5e-5 for full tuning."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of a step's gradient; 0 leaves it as it is."""
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    """Names of the layers that LoRA adapts; empty means all projections of the attention and MLP blocks."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Visits per epoch for each row of a task, 1 where a task is not named: 2 shows every row twice, 0.5 half of the rows (another
    half in the next epoch), 0 none. The formula's sum runs over the visits."""
    caps: Mapping[str, int] = field(default_factory=dict)
    """Most visits per epoch of a task, however many rows it has (other rows in the next epoch); a limit on "*" holds for tasks not named."""
    temperature: float = 1.0
    """Evens out the tasks: a task of n visits gets a share in proportion to n ** (1 / temperature), after weights and caps, and an epoch
    keeps its length. 1 leaves the shares as they are, large values make them equal (T5, arXiv:1910.10683, section 3.5.2)."""
    task_epochs: Mapping[str, float] = field(default_factory=dict)
    """Passes over the rows of a task where they are not `epochs`: a task that is learnt early, or easily overfitted, leaves early."""
    validation: float = 0.0
    """Share of each task's rows kept out of training; their loss is measured before tuning and after each epoch."""
    keep: Literal["last", "best"] = "last"
    """Which weights are saved: the last, or those of the epoch with the lowest validation loss."""
    patience: int = 0
    """Stop when so many epochs in a row have not lowered the validation loss; 0 goes on to the end."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the layers compute in; trained weights and losses stay fp32. "auto" is bf16 on a GPU, fp32 on a CPU."""
    quantize: Literal["4bit"] | None = None
    """Hold the frozen base of LoRA in 4 bits (QLoRA, arXiv:2305.14314: NF4, double quantisation), a quarter of bf16. CUDA only."""
    recompute: bool = False
    """Keep only each block's input for the backward pass and compute the rest again: a fifth to a third slower, for much less memory."""
    shard: bool = False
    """Among ranks: each holds its part of the weights, gradients and moments only (FSDP), for models that one chip cannot hold."""
    seed: int = 0
    threads: int = 0
    """CPU threads; 0 takes all physical cores that the process may use."""
    checkpoint_every: int = 20
    """Steps between checkpoints; 0 writes none."""
    log: str | Mapping[str, Mapping[str, Any] | None] | tuple[str | Mapping[str, Mapping[str, Any] | None], ...] = ()
    """Loggers that are told each step besides metrics.jsonl: a name, {name: {setting: value}} or a list of these, such as "tensorboard"."""

    def __post_init__(self) -> None:
        rules = {
            "method": (self.method in ("lora", "full"), "lora | full"),
            "objective": (self.objective in ("token_mean", "sample_mean", "sum"), "token_mean | sample_mean | sum"),
            "schedule": (self.schedule in ("linear", "cosine", "constant"), "linear | cosine | constant"),
            "precision": (self.precision in ("auto", "fp32", "bf16"), "auto | fp32 | bf16"),
            "quantize": (
                self.quantize is None or (self.quantize == "4bit" and self.method == "lora" and not self.shard),
                "4bit (method: lora, shard: false)",
            ),
            "sees": (self.sees in list(Sees), " | ".join(Sees)),
            "epochs": (0 < self.epochs < math.inf, "> 0"),
            "max_steps": (self.max_steps is None or self.max_steps > 0, "> 0"),
            "batch_rows": (self.batch_rows > 0, "> 0"),
            "batch_tokens": (self.batch_tokens > 0, "> 0"),
            "max_length": (self.max_length > 1, "> 1"),
            "lr": (self.lr is None or 0 <= self.lr < math.inf, ">= 0"),
            "warmup": (0 <= self.warmup <= 1, "0..1"),
            "weight_decay": (0 <= self.weight_decay < math.inf, ">= 0"),
            "clip": (0 <= self.clip < math.inf, ">= 0"),
            "rank": (self.rank > 0, "> 0"),
            "alpha": (0 < self.alpha < math.inf, "> 0"),
            "dropout": (0 <= self.dropout < 1, "0..1"),
            "weights": (all(0 <= weight < math.inf for weight in self.weights.values()), ">= 0"),
            "caps": (all(cap > 0 for cap in self.caps.values()), "> 0"),
            "temperature": (1 <= self.temperature < math.inf, ">= 1"),
            "task_epochs": (all(0 < epochs < math.inf for epochs in self.task_epochs.values()), "> 0"),
            "validation": (0 <= self.validation < 1, "0..1"),
            "keep": (
                self.keep == "last" or (self.keep == "best" and self.validation > 0),
                "last | best (validation > 0)",
            ),
            "patience": (self.patience == 0 or (self.patience > 0 and self.validation > 0), "0 | > 0 (validation > 0)"),
            "threads": (self.threads >= 0, ">= 0"),
            "checkpoint_every": (self.checkpoint_every >= 0, ">= 0"),
        }
        for key, (good, range_) in rules.items():
            if not good:
                value = getattr(self, key)
                raise RecipeError(
                    say(f"'{key}' must be {range_}, got {value!r}", f"“{key}”应为 {range_}，实际为 {value!r}"),
                    where=f"tune.{key}",
                )
        object.__setattr__(self, "sees", Sees(self.sees))
        self.loggers()

    def loggers(self) -> list[tuple[registry.Plugin, dict[str, Any]]]:
        """The loggers of `log` with their settings. Raises RecipeError for an unknown one, or a setting that it does not take."""
        found = dict[str, tuple[registry.Plugin, dict[str, Any]]]()
        for given in [self.log] if isinstance(self.log, str | Mapping) else self.log:
            for name, own in [(given, None)] if isinstance(given, str) else given.items():
                plugin = registry.get("logger", name, "tune.log")
                found[name] = plugin, registry.settle(plugin, own or {}, f"tune.log.{name}")
        return list(found.values())

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up."""
        return self.lr if self.lr is not None else 1e-3 if self.method == "lora" else 5e-5


def lr_at(settings: TuneSettings, step: int, steps: int) -> float:
    """The learning rate of step 1..steps: up over the warm-up, then level or down to nearly zero at the last step."""
    warm = math.ceil(settings.warmup * steps)
    if step <= warm:
        return settings.peak_lr * step / (warm + 1)
    left = (steps - step + 1) / (steps - warm) if settings.schedule != "constant" else 1.0
    return settings.peak_lr * (0.5 * (1 - math.cos(math.pi * left)) if settings.schedule == "cosine" else left)
