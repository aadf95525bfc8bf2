"""Tiny models, tuned for a few steps, to be exported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from zhiling.proof import prove
from zhiling.types import Example

ROWS = [Example("sum", f"What is {i} plus {i}?", "", str(2 * i), lang="en") for i in range(12)]
ROWS += [Example("和", f"{i} 加 {i} 等于几？", "", f"等于 {2 * i}", lang="zh") for i in range(12)]


def tiny_tuned(folder: Path, embedded: bool = False) -> dict[str, Path]:
    """{"llama": base, "llama-lora": what tuning wrote, ...}; `embedded`: one llama alone, with the embedded model's tokenizer."""
    place = Path(__file__).parents[1] / "tune" / "tiny_models.py"
    spec = importlib.util.spec_from_file_location("tiny_models", place)
    assert spec and spec.loader
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    if embedded:
        from transformers import AutoTokenizer

        from zhiling.llm import embedded as brought

        words = AutoTokenizer.from_pretrained(str(brought.folder()))
        models.tokenizer = lambda chat: words
    found: dict[str, Path] = {}
    for kind in ("llama",) if embedded else ("llama", "gpt2"):
        found[kind] = models.tiny(folder / kind, kind)
        for method in ("lora", "full") if kind == "llama" and not embedded else ("lora",):
            settings = prove.settings_of({"method": method, "epochs": 1, "threads": 1, "lr": 0.01})
            prove.tune(str(found[kind]), ROWS, folder / f"{kind}-{method}", settings, lambda event: None)
            found[f"{kind}-{method}"] = folder / f"{kind}-{method}"
    return found
