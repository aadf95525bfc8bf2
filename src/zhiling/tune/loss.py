"""The formula L(θ) = Σ_t Σ_i l(f(x_i^t; θ), y_i^t): token losses of a batch, their sums per task, and the formula on its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from zhiling.tune import attention
from zhiling.tune.batch import Batch, tree
from zhiling.tune.render import Rendered
from zhiling.tune.settings import Objective


@dataclass(frozen=True, slots=True)
class Loss:
    """A multi-task loss: `total` over all rows and its value for each task, all under one objective."""

    total: float
    tasks: dict[str, float]


class Sums:
    """What a loss is made of, per task: [sum of s_i, sum of n_i, sum of s_i / n_i, rows]; `tasks` is plain JSON."""

    def __init__(
        self, losses: Iterable[tuple[Rendered, float]] = (), tasks: Mapping[str, list[float]] | None = None
    ) -> None:
        self.tasks = dict(tasks or {})
        self.add(losses)

    def add(self, losses: Iterable[tuple[Rendered, float]]) -> None:
        """Add rows, each with the sum s_i of its token losses."""
        for row, nll in losses:
            before = self.tasks.get(row.task, [0.0] * 4)
            self.tasks[row.task] = [
                a + b for a, b in zip(before, (nll, row.targets, nll / row.targets, 1), strict=True)
            ]

    def loss(self, objective: Objective) -> Loss:
        """The loss per task and over all rows; NaN where there are none."""
        everything = [math.fsum(column) for column in zip(*self.tasks.values(), strict=True)] or [0.0] * 4
        return Loss(
            _value(everything, objective), {task: _value(self.tasks[task], objective) for task in sorted(self.tasks)}
        )


def _value(sums: Sequence[float], objective: Objective) -> float:
    nll, tokens, means, rows = sums
    if not rows:
        return math.nan
    return nll if objective == "sum" else nll / tokens if objective == "token_mean" else means / rows


def scale(row: Rendered, objective: Objective, tokens: int, rows: int) -> float:
    """What each token loss of a row is multiplied by, so that a step's sum over all its batches is the objective over the step.

    `tokens` and `rows` are the step's, not the batch's: dividing within each batch would weigh rows by the company they keep.
    """
    return 1.0 if objective == "sum" else 1.0 / tokens if objective == "token_mean" else 1.0 / (row.targets * rows)


CHUNK = 1 << 26
"""The most logits that are held at once (a quarter of a gigabyte in fp32), where a model lets its head be called by itself."""


def token_losses(model: Any, batch: Batch, chunk: int | None = None) -> Any:
    """-log p of each target, shape (T,), fp32, with gradient. Logits are made only where a target is predicted.

    With `chunk` (see `chunks`) at most so many logits are held at once: those of one chunk are thrown away when its losses are known, and
    made again for its gradient. A vocabulary of 150,000 over 4,000 targets would hold 2.4 GB of them, and as much again in gradients.
    """
    import torch

    device = model.device
    if chunk and len(batch.predict) * _vocabulary(model) > chunk:
        return _in_chunks(model, batch, max(1, chunk // _vocabulary(model)))
    with laid_out(batch, device):
        found = model(
            input_ids=torch.from_numpy(batch.ids)[None].to(device),
            position_ids=torch.from_numpy(batch.positions)[None].to(device),
            logits_to_keep=torch.from_numpy(batch.predict).to(device),
            use_cache=False,
        )
    logits = found.logits[0].float()
    pick, target = torch.from_numpy(batch.pick), torch.from_numpy(batch.target)
    if not np.array_equal(batch.pick, np.arange(len(batch.predict))):
        logits = logits.index_select(0, pick.to(logits.device))
    return torch.nn.functional.cross_entropy(logits, target.to(logits.device), reduction="none")


def laid_out(batch: Batch, device: Any) -> AbstractContextManager[None]:
    """Within it the model attends as the batch is laid out; a row by itself needs nothing."""
    return attention.over(batch.spans, device) if len(batch.rows) > 1 else nullcontext()


def _vocabulary(model: Any) -> int:
    return int(model.get_output_embeddings().weight.shape[0])


def _in_chunks(model: Any, batch: Batch, size: int) -> Any:
    """`token_losses`, the head called for `size` predictions at a time."""
    import torch
    from torch.utils.checkpoint import checkpoint

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    device, head = model.device, base.get_output_embeddings()
    with laid_out(batch, device):
        found = base.get_decoder()(
            input_ids=torch.from_numpy(batch.ids)[None].to(device),
            position_ids=torch.from_numpy(batch.positions)[None].to(device),
            use_cache=False,
        )
    hidden = found.last_hidden_state[0].index_select(0, torch.from_numpy(batch.predict).to(device))
    # by ascending prediction, so that each logit is made for one chunk only
    order = np.argsort(batch.pick, kind="stable")
    pick, target = torch.from_numpy(batch.pick[order]).to(device), torch.from_numpy(batch.target[order]).to(device)

    def losses(states: Any, places: Any, targets: Any) -> Any:
        return torch.nn.functional.cross_entropy(
            head(states).float().index_select(0, places), targets, reduction="none"
        )

    parts = []
    for start in range(0, len(batch.predict), size):
        first, last = np.searchsorted(batch.pick[order], (start, start + size))
        states = hidden[start : start + size]
        parts.append(checkpoint(losses, states, pick[first:last] - start, target[first:last], use_reentrant=False))
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return torch.cat(parts).index_select(0, torch.from_numpy(back).to(device))


def chunks(model: Any, rows: Sequence[Rendered], tolerance: float) -> int | None:
    """CHUNK where the model's head, called by itself, gives the shortest row what the whole model gives it; None where it does not.

    A model that scales or bounds its logits after the head does not; what it is, is tried and not assumed.
    """
    import torch

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not hasattr(base, "get_decoder") or base.get_output_embeddings() is None:
        return None
    batch = tree([min(rows, key=lambda row: (len(row.ids), row.id))])
    with torch.no_grad():
        together = token_losses(model, batch)
        try:
            apart = _in_chunks(model, batch, 2)
        except (AttributeError, RuntimeError, TypeError):
            return None
    return CHUNK if (together - apart).abs().max() <= tolerance else None


def row_sums(batch: Batch, losses: Any) -> list[float]:
    """s_i of each of the batch's rows, added up in float64."""
    import torch

    sums = torch.zeros(len(batch.rows), dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(batch.owner), losses.detach().double().cpu())
    return [float(value) for value in sums]


def loss_of(model: Any, rows: Sequence[Rendered], objective: Objective) -> Loss:
    """The formula, computed the plain way: one row at a time, all logits, log-softmax, sum. What the trainer prints must equal it.

    `model` is any causal language model that returns logits; it is put in evaluation mode while this runs.
    """
    import torch

    sums = Sums()
    training = model.training
    model.eval()
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row.ids], device=model.device)
            logp = model(input_ids=ids).logits[0].float().log_softmax(-1)
            nll = sum(-float(logp[k - 1, row.ids[k]]) for k in range(1, len(row.ids)) if row.trained[k])
            sums.add([(row, nll)])
    model.train(training)
    return sums.loss(objective)


def share(model: Any, rows: Sequence[Rendered], tolerance: float) -> bool:
    """Let the model compute rows as trees, if it then gives two rows what it gives them alone: tried on the two shortest, not assumed.

    False, and the model as it was, where its attention cannot be replaced, has a window shorter than a row, or fails the trial.
    """
    import torch

    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if (window and max(len(row.ids) for row in rows) > window) or not attention.install(model):
        return False
    pair = sorted(sorted(rows, key=lambda row: (len(row.ids), row.id))[:2], key=lambda row: row.ids)
    with torch.no_grad():
        together = token_losses(model, tree(pair))
        apart = torch.cat([token_losses(model, tree([row])) for row in pair])
    if (together - apart).abs().max() <= tolerance:
        return True
    attention.remove(model)
    return False
