"""Decoding and scoring many rows at once with a causal language model of transformers.

Own loops rather than `generate`, because each row brings its own length limit, temperature, seed and stop strings, and because a
row's draw must not depend on its companions in the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from zhiling.types import Request

if TYPE_CHECKING:
    import torch

LOGITS_BYTES = 1 << 29
"""Scoring keeps at most this many bytes of logits at a time."""
SHARED = 16
"""From this many tokens on, a beginning that all contexts of a group have in common is read once for all of them."""


@dataclass(slots=True)
class Row:
    """One sequence being decoded: the prompt's token ids, its request, and what has been generated so far."""

    ids: list[int]
    request: Request
    most: int
    stop: tuple[str, ...] = ()
    out: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str = ""
    generator: torch.Generator | None = None


def generate(
    model: Any, rows: Sequence[Row], pad: int, ends: frozenset[int], decode: Callable[[Sequence[int]], str]
) -> None:
    """Decode all rows to their end, in place: `out` holds the generated ids without the end token, `finish` "stop" or "length".

    Left-padded, one forward pass per token for all unfinished rows. Greedy at temperature 0; else drawn from the row's own
    generator, seeded by the request's seed (or its draw number), so that a draw depends on the row alone. Sampling parameters
    come from the request only; a model's generation_config (repetition penalty, top-k) is not applied.
    """
    import torch

    with torch.inference_mode():
        step = _Step(model, rows, pad)
        alive = list(rows)
        for row in alive:
            if row.request.temperature > 0:
                seed = row.request.seed if row.request.seed is not None else row.request.draw
                row.generator = torch.Generator().manual_seed(seed)
        while alive:
            logits = step.logits()
            tokens = [_choose(logits[i], row) for i, row in enumerate(alive)]
            for row, token in zip(alive, tokens, strict=True):
                _advance(row, token, ends, decode)
            keep = [i for i, row in enumerate(alive) if not row.finish]
            step.feed(tokens, keep)
            alive = [alive[i] for i in keep]


def score(model: Any, rows: Sequence[tuple[list[int], list[int]]], pad: int) -> list[list[float]]:
    """For each (context ids, continuation ids) the log-probability of each continuation token; contexts must not be empty.

    One right-padded forward pass per group of rows whose logits fit LOGITS_BYTES; logits before the first continuation are not made.
    """
    vocabulary = int(model.config.get_text_config().vocab_size)
    out: list[list[float]] = []
    start = 0
    while start < len(rows):
        stop, longest, shortest = start, 0, 1 << 60
        while stop < len(rows):
            context, continuation = rows[stop]
            longest, shortest = max(longest, len(context) + len(continuation)), min(shortest, len(context))
            if stop > start and (stop + 1 - start) * (longest - shortest + 1) * vocabulary * 4 > LOGITS_BYTES:
                break
            stop += 1
        out += _score_group(model, rows[start:stop], pad)
        start = stop
    return out


def _score_group(model: Any, rows: Sequence[tuple[list[int], list[int]]], pad: int) -> list[list[float]]:
    import torch

    # what is read ends before the last token: a prompt's labels of one token each, or alike but for the last, are one sequence
    given = [(*context, *continuation[:-1]) for context, continuation in rows]
    place = {one: at for at, one in enumerate(dict.fromkeys(given))}
    longest, first = max(map(len, place)), min(len(context) for context, _ in rows) - 1
    ids = torch.full((len(place), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for one, at in place.items():
        ids[at, : len(one)] = torch.tensor(one)
        mask[at, : len(one)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    with torch.inference_mode():
        tail = {"logits_to_keep": longest - first} if _takes(model, "logits_to_keep") else {}
        done, cache = _read_once(model, ids[:, :first])
        logits = model(
            input_ids=ids[:, done:], attention_mask=mask, past_key_values=cache, use_cache=cache is not None, **tail
        ).logits
        logits = logits[:, -(longest - first) :].float()
        wanted = [
            (place[one], len(context) - 1 - first + number, token)
            for one, (context, continuation) in zip(given, rows, strict=True)
            for number, token in enumerate(continuation)
        ]
        at, step, token = torch.tensor(wanted, dtype=torch.long, device=logits.device).reshape(-1, 3).T
        chosen = iter((logits[at, step, token] - logits.logsumexp(2)[at, step]).cpu().tolist())
    return [list(islice(chosen, len(continuation))) for _, continuation in rows]


def _read_once(model: Any, ids: torch.Tensor) -> tuple[int, Any]:
    """(how many leading tokens the rows share, the key-value cache after them for each row); (0, None) where it is not worth it.

    The rows of one instruction differ only behind it, so that most of their contexts need not be read again for each.
    """
    alike = (ids == ids[:1]).all(0)
    shared = int(alike.long().cumprod(0).sum()) if ids.shape[1] else 0
    if ids.shape[0] < 2 or shared < SHARED or not _takes(model, "past_key_values"):
        return 0, None
    tail = {"logits_to_keep": 1} if _takes(model, "logits_to_keep") else {}
    cache = model(input_ids=ids[:1, :shared], use_cache=True, **tail).past_key_values
    if (
        type(cache).__name__ != "DynamicCache"
    ):  # a state that is no list of keys and values cannot be handed to each row
        return 0, None
    cache.batch_repeat_interleave(ids.shape[0])
    return shared, cache


class _Step:
    """The state of a batch between two tokens: ids to feed, attention mask, key-value cache."""

    def __init__(self, model: Any, rows: Sequence[Row], pad: int) -> None:
        import torch

        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, longest - len(row.ids) :] = torch.tensor(row.ids)
            mask[i, longest - len(row.ids) :] = 1
        self.model, self.ids, self.mask = model, ids.to(model.device), mask.to(model.device)
        self.cache: Any = None
        self.positions = _takes(model, "position_ids")
        self.tail = {"logits_to_keep": 1} if _takes(model, "logits_to_keep") else {}

    def logits(self) -> torch.Tensor:
        """(rows, vocabulary) for the next token, fp32, on the CPU where rows choose."""
        given: dict[str, Any] = dict(self.tail)
        if self.positions:
            given["position_ids"] = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -self.ids.shape[1] :]
        answer = self.model(
            input_ids=self.ids, attention_mask=self.mask, past_key_values=self.cache, use_cache=True, **given
        )
        self.cache = answer.past_key_values
        logits: torch.Tensor = answer.logits[:, -1].float().cpu()
        return logits

    def feed(self, tokens: Sequence[int], keep: Sequence[int]) -> None:
        """Take the chosen tokens and drop the rows that are done."""
        import torch

        if not keep:
            return
        self.ids = torch.tensor([[tokens[i]] for i in keep], device=self.mask.device)
        if len(keep) < len(tokens):
            index = torch.tensor(keep, device=self.mask.device)
            self.mask = self.mask[index]
            self.cache.batch_select_indices(index)
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(keep), 1))], dim=1)


def _choose(logits: torch.Tensor, row: Row) -> int:
    import torch

    request = row.request
    if row.generator is None:
        token = int(logits.argmax())
    else:
        probabilities = torch.softmax(logits.double() / request.temperature, dim=0)
        if request.top_p < 1.0:
            ordered, order = probabilities.sort(descending=True, stable=True)
            ordered[(ordered.cumsum(0) - ordered) >= request.top_p] = 0.0  # keeps the token that crosses top_p
            probabilities = torch.zeros_like(probabilities).scatter_(0, order, ordered)
        token = int(torch.multinomial(probabilities, 1, generator=row.generator))
    if request.logprobs:
        row.logprobs.append(float(logits[token] - logits.logsumexp(0)))
    return token


def _advance(row: Row, token: int, ends: frozenset[int], decode: Callable[[Sequence[int]], str]) -> None:
    if token in ends:
        row.finish = "stop"
        del row.logprobs[len(row.out) :]
        return
    row.out.append(token)
    if row.stop:
        longest = max(len(text) for text in row.stop)
        tail = decode(row.out[-(longest + 8) :])  # a token may be less than a character, hence some more
        if any(text in tail for text in row.stop):
            row.finish = "stop"
            return
    if len(row.out) >= row.most:
        row.finish = "length"


def _takes(model: Any, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters
