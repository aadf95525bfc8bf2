"""How fast a local model is on this machine: what turns a plan's tokens into minutes. Measured once in a few seconds, then remembered."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zhiling.errors import ProviderError, say
from zhiling.llm.embedded import cache_home
from zhiling.llm.machine import cores
from zhiling.registry import room_version
from zhiling.types import Reply, Request, content_id

if TYPE_CHECKING:
    from zhiling.llm.base import Provider
    from zhiling.llm.wrap import Model

MEASURED = frozenset({"gguf", "transformers"})
"""Providers whose speed is this machine's; an endpoint's is its own and changes by the hour."""
SECONDS = 3.0
"""About how long each of the two measurements may take, as far as one row tells; a model too slow for that is measured on one row."""
KEPT_DAYS = 7.0
PROMPT_WORDS, MOST_TOKENS = 96, 32


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second with all of a model's lanes at work: `prefill` of prompts read, `decode` of tokens written."""

    prefill: float
    decode: float

    def seconds(self, prompt: int, completion: int) -> float:
        """How long so many prompt and completion tokens take."""
        return prompt / self.prefill + completion / self.decode


async def speed(model: Model) -> Speed | None:
    """The speed of a local model here and now, or as it was measured within the last KEPT_DAYS; None for any other model.

    The first time it loads the model (not counted) and runs it for a few seconds, past the reply cache and the budget. What was
    measured is kept in zhiling's cache folder by model, settings, machine and version of this room. Raises ProviderError when the
    model cannot be loaded or answers nothing.
    """
    if model.provider.name not in MEASURED:
        return None
    file = cache_home() / "speed" / f"{_key(model)}.json"
    known = _read(file)
    if known is None:
        known = await measure(model.provider, model.lanes)
        _write(file, known)
    return known


async def measure(provider: Provider, lanes: int) -> Speed:
    """Run the model for a few seconds: long prompts with one token each, then short prompts with many tokens each.

    One row is run first; when SECONDS allow, as many as there are lanes. Reading the short prompts is subtracted from decoding.
    """
    words = await _warm(provider)
    rows, took = await _run(provider, 1, words, 1)
    if took * lanes <= SECONDS:
        rows, took = await _run(provider, lanes, words, 1)
    prefill = sum(reply.usage.prompt or 0 for reply in rows) / took
    rows, took = await _run(provider, 1, 4, 4)
    most = int(4 * SECONDS / took / lanes)
    if most >= 4:
        rows, took = await _run(provider, lanes, 4, min(MOST_TOKENS, most))
    read = sum(reply.usage.prompt or 0 for reply in rows) / max(prefill, 1e-9)
    written = sum(reply.usage.completion or 0 for reply in rows)
    if not prefill or not written:
        what = say("the model wrote nothing, so its speed is not known", "模型没有输出，无法测得速度")
        raise ProviderError(what, where=provider.model, kind="protocol")
    return Speed(round(prefill, 2), round(written / max(took - read, took / 10), 2))


async def _warm(provider: Provider) -> int:
    """Load the model, and find how many words its context holds, at most PROMPT_WORDS."""
    words = PROMPT_WORDS
    while True:
        try:
            await _run(provider, 1, words, 1)
            return words
        except ProviderError as error:
            if error.kind != "refused" or words <= 4:
                raise
            words //= 2


async def _run(provider: Provider, rows: int, words: int, tokens: int) -> tuple[Sequence[Reply], float]:
    """Different prompts at once, and the seconds they took; sampled hot, so that few rows end before their length."""
    text = " ".join(f"{i}" for i in range(words))
    requests = [
        Request(prompt=f"{rows}.{i}.{tokens}: {text}", max_tokens=tokens, temperature=1.0, seed=i) for i in range(rows)
    ]
    start = time.perf_counter()
    replies = await asyncio.gather(*(provider.reply(request) for request in requests))
    return replies, max(time.perf_counter() - start, 1e-9)


def _key(model: Model) -> str:
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "all") if Path("/proc/driver/nvidia/version").exists() else ""
    machine = (platform.node(), platform.machine(), platform.processor(), cores(), gpu)
    return content_id("speed", repr(model.provider), model.lanes, machine, room_version("llm"))


def _read(file: Path) -> Speed | None:
    """What was measured before, unless it is old or unreadable."""
    try:
        if time.time() - file.stat().st_mtime > KEPT_DAYS * 86400:
            return None
        known = json.loads(file.read_text(encoding="utf-8"))
        found = Speed(float(known["prefill"]), float(known["decode"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.prefill > 0 and found.decode > 0 else None


def _write(file: Path, known: Speed) -> None:
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(asdict(known)), encoding="utf-8")
        part.replace(file)
    except OSError:  # a cache that cannot be written only costs measuring again
        with suppress(OSError):
            part.unlink()
