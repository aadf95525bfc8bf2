"""The one place that talks to language models.

model = open_model({"provider": "openai", "model": "gpt-4o-mini", "budget": {"usd": 5}}, cache=Path("replies.sqlite"))
reply = await model.ask(Request(messages=(("user", "Hello"),)))
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zhiling.llm.base import Provider, Scoring
    from zhiling.llm.bill import Bill
    from zhiling.llm.budget import Pot
    from zhiling.llm.cache import ReplyCache
    from zhiling.llm.price import Price
    from zhiling.llm.wrap import Model

__all__ = ["Model", "Price", "Provider", "ReplyCache", "Scoring", "open_model"]

_doors = {
    "Model": "wrap",
    "Price": "price",
    "Provider": "base",
    "ReplyCache": "cache",
    "Scoring": "base",
}


def __getattr__(name: str) -> Any:
    if name in _doors:
        return getattr(importlib.import_module(f"zhiling.llm.{_doors[name]}"), name)
    raise AttributeError(f"module 'zhiling.llm' has no attribute {name!r}")


def open_model(
    spec: Mapping[str, Any] | None = None,
    *,
    cache: Path | None,
    trace: Path | None = None,
    where: str = "",
    bill: Bill | None = None,
    shared: Pot | None = None,
) -> Model:
    """The model that a recipe's entry describes; by default the small one that zhiling brings along.

    Keys: `provider` ("gguf", "openai", "transformers", "fake" or a plug-in's); for the Model `lanes`, `retries`, `budget` {usd, calls,
    tokens}, `price` {prompt, completion} in USD per million tokens, `rpm`, `tpm`, `trace_content` (prompts and replies in the trace
    too), `batch` (true or {rows, poll_seconds}: see `offline`); everything else
    is the provider's. `cache` and `trace` are files, None for none; `where` the entry's place in the recipe.
    `bill` keeps what is spent, and what it holds already counts for the budget; `shared` is a budget that several models draw on.
    Nothing is asked and nothing loaded yet. Raises RecipeError for a wrong entry, ProviderError for a missing key or a broken model
    file, EngineError for a cache that cannot be used.
    """
    from zhiling import registry
    from zhiling.llm import price
    from zhiling.llm.bill import charged
    from zhiling.llm.budget import NOTHING
    from zhiling.llm.cache import ReplyCache
    from zhiling.llm.settings import batch, split
    from zhiling.llm.trace import Trace
    from zhiling.llm.wrap import Model

    entry = dict(spec or {})
    plugin = registry.get("provider", str(entry.pop("provider", "gguf")), where)
    ours, theirs = split(entry, frozenset(plugin.settings), where)
    provider = plugin.fn(**registry.settle(plugin, theirs, where))
    content = bool(ours.pop("trace_content", False))
    if "price" in ours:
        ours["price"] = price.given(ours["price"], f"{where}.price" if where else "price")
    if "batch" in ours:
        ours["batch"] = batch(provider, ours["batch"], where)
        known = ours.get("price") or price.find(provider.name, provider.model)
        ours["price"] = price.in_batch(known, provider.model) if ours["batch"] else known
    return Model(
        provider,
        ReplyCache(cache) if cache is not None else None,
        trace=Trace(trace, provider.name, provider.model, content) if trace is not None else None,
        where=f"{where}.budget" if where else "budget",
        bill=bill,
        used=NOTHING if bill is None else charged(bill.path, bill.model),
        shared=shared,
        **ours,
    )
