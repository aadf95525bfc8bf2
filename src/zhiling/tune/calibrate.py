"""What this machine makes of a tuning run: the constants of `tune.cost`, from a minute of real steps, kept for a week."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from zhiling.errors import EngineError
from zhiling.llm.embedded import cache_home, silent
from zhiling.llm.machine import cores
from zhiling.registry import module_version
from zhiling.tune.cost import Constants, Seen, Shape, Step, fit, shape_in
from zhiling.tune.rehearse import rehearse
from zhiling.tune.settings import TuneSettings
from zhiling.types import content_id

BUDGET = 60.0
"""Seconds that a calibration may take, whatever the machine is busy with."""
KEPT_DAYS = 7.0
SMALL, LARGE = Shape(128, 352, 4, 4, 128, 64, 4096), Shape(384, 1024, 8, 6, 384, 128, 12288)
TRIALS = (
    (LARGE, {"method": "lora", "batch_rows": 4}, 96, 24),
    (SMALL, {"method": "lora", "batch_rows": 4}, 128, 32),
    (LARGE, {"method": "full", "batch_rows": 4}, 96, 64),
    (LARGE, {"method": "lora", "batch_rows": 6}, 128, 96),
    (SMALL, {"method": "full", "batch_rows": 8, "batch_tokens": 400}, 96, 24),
)
"""What is run: two sizes, both methods, from few to many predicted tokens. The first ones matter most, should the time run out."""

Watch = Callable[[Mapping[str, Any]], None]


def make(shape: Shape, folder: Path) -> Path:
    """A model of that shape with random weights, without a tokenizer, which a rehearsal does not need."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.width, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.keys * shape.heads // shape.queries, max_position_embeddings=4096,
        tie_word_embeddings=shape.tied,
    )  # fmt: skip
    with silent():
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def run(
    base: str, settings: Mapping[str, Any], length: int, answer: int, limit: float = BUDGET, steps: int = 3
) -> Seen:
    """One configuration, run in a process of its own. Raises EngineError when it fails or takes longer than `limit` seconds."""
    asked = TuneSettings(**settings)
    found = rehearse(base, settings, asked.batch_rows, length, answer, steps, limit)
    took, busy = median(found.seconds), median(found.cpu_seconds)
    return Seen(
        shape_in(Path(base)), asked, Step.of(asked, length, answer), took, busy, found.start, found.memory, found.load
    )


def calibrate(watch: Watch, budget: float = BUDGET) -> Constants:
    """Run as many TRIALS as `budget` seconds allow, and fit. Raises EngineError where not even one ended in time."""
    began, seen, failed = time.monotonic(), list[Seen](), EngineError("")
    with tempfile.TemporaryDirectory(prefix="zhiling-advise-") as top:
        folders = {shape: make(shape, Path(top) / str(shape.width)) for shape in (SMALL, LARGE)}
        for number, (shape, settings, length, answer) in enumerate(TRIALS):
            watch({"stage": "calibrate", "done": number, "total": len(TRIALS)})
            left = budget - (time.monotonic() - began)
            if left < 1:
                break
            try:
                seen.append(run(str(folders[shape]), settings, length, answer, limit=left))
            except EngineError as error:
                failed = error
    if not seen:
        raise failed
    watch({"stage": "calibrate", "done": len(TRIALS), "total": len(TRIALS)})
    return fit(seen)


def _file() -> Path:
    code = [module_version(f"zhiling.tune.{name}") for name in ("calibrate", "cost", "rehearse", "train", "loss")]
    return cache_home() / "advise" / f"machine-{content_id(platform.node(), platform.machine(), cores(), code)}.json"


def known(days: float = KEPT_DAYS) -> Constants | None:
    """What was measured here within so many days; None where nothing was, or it cannot be read."""
    file = _file()
    try:
        if time.time() - file.stat().st_mtime > days * 86400:
            return None
        held = json.loads(file.read_text(encoding="utf-8"))
        return Constants(**{**held, "time": tuple(held["time"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(constants: Constants) -> None:
    """Remember. Raises OSError when the cache folder cannot be written."""
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_text(json.dumps(asdict(constants)), encoding="utf-8")
    part.replace(file)
