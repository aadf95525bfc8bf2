"""The model that learns: its losses, its gradients, and the steps of its optimizer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from zhiling.errors import EngineError, say
from zhiling.tune import model as models
from zhiling.tune.batch import Batch, batches, tree
from zhiling.tune.loss import Loss, Sums, chunks, laid_out, row_sums, scale, share, token_losses
from zhiling.tune.ranks import ALONE, Ranks
from zhiling.tune.render import Rendered
from zhiling.tune.settings import TuneSettings
from zhiling.tune.shard import rounds, sharded, whole
from zhiling.types import row_seed

Losses = list[tuple[Rendered, float]]
"""Rows, each with the sum s_i of its token losses."""


class Loop:
    """A model with its trained parameters and AdamW, in evaluation mode but for LoRA's own dropout where that is asked for.

    The base's dropout stays off, so that the loss printed is the formula's and not a noisy relative of it. `rows` are all that it will
    ever see: on some of them it is tried how the model may be called.
    """

    def __init__(self, model: Any, settings: TuneSettings, rows: Sequence[Rendered], ranks: Ranks = ALONE) -> None:
        import torch

        self.model, self.settings, self.ranks = model.eval(), settings, ranks
        self.params = models.trainable(model)
        self.optimizer = torch.optim.AdamW(self.params.values(), lr=0.0, weight_decay=settings.weight_decay, fused=True)
        self.dropouts = [module for name, module in model.named_modules() if name.endswith("lora_dropout")]
        self.split = sharded(model)
        with models.compute(settings):
            tolerance = 1e-3 if models.precision(settings) == "fp32" else 0.2
            self.shared = share(model, rows, tolerance)
            self.chunk = None if self.split else chunks(model, rows, tolerance)

    def step(self, number: int, rows: Sequence[Rendered], lr: float) -> tuple[Losses, dict[str, Any]]:
        """Optimizer step `number`, counted from 1: ((row, s_i) of each row, what the metrics say of the step).

        Raises EngineError where a loss or the gradient is not finite, naming the rows; the weights are then as they were.
        """
        import torch

        began = time.perf_counter()
        if self.ranks.size > 1:  # each rank's dropout is its own, and a resumed step's the same
            torch.manual_seed(row_seed(self.settings.seed, f"step {number}, rank {self.ranks.rank}"))
        losses, computed = self.gradients(rows)
        norm = self.update(number, losses, lr)
        loss, tokens = Sums(losses).loss(self.settings.objective), sum(row.targets for row in rows)
        told = {"loss": loss.total, "tasks": loss.tasks, "lr": lr, "norm": norm, "rows": len(rows), "tokens": tokens}
        return losses, {**told, "computed": computed, "rate": round(tokens / (time.perf_counter() - began), 2)}

    def update(self, number: int, losses: Losses, lr: float) -> float:
        """Move the parameters by the gradients that they have, and take these away; the norm that they had."""
        import torch

        norm = float(whole(torch.nn.utils.clip_grad_norm_(self.params.values(), self.settings.clip or math.inf)))
        _stop_unless_finite(number, losses, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def gradients(self, rows: Sequence[Rendered]) -> tuple[Losses, int]:
        """Add the gradient of a step's objective to the parameters, on every rank that of all ranks' rows.

        Returns (row, s_i) for each row of the step and the tokens computed, by all ranks.
        """
        import torch

        objective, tokens = self.settings.objective, sum(row.targets for row in rows)
        losses: Losses = []
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
            self.ranks.add_up(self.params)
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

        losses: Losses = []
        with torch.no_grad(), models.compute(self.settings):
            for batch, counts in self._batches(rows):
                each = token_losses(self.model, batch, self.chunk)
                losses += zip(batch.rows, row_sums(batch, each), strict=True) if counts else ()
        return Sums(self.ranks.gather(losses)).loss(self.settings.objective)


def _stop_unless_finite(number: int, losses: Losses, norm: float) -> None:
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
