"""What a call costs: a dated table, an override, and the rule that an unknown price is None and never 0."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from zhiling.errors import RecipeError, say
from zhiling.types import Request, Usage

LOCAL = frozenset({"gguf", "transformers", "fake"})
_snapshot = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{4}|latest)$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million prompt and completion tokens, and where and when that was read."""

    prompt: float
    completion: float
    source: str = ""
    date: str = ""

    def usd(self, usage: Usage) -> float | None:
        """The cost of a call; None when the endpoint did not count its tokens and they are not free."""
        if not (self.prompt or self.completion):
            return 0.0
        if usage.prompt is None or usage.completion is None:
            return None
        return (usage.prompt * self.prompt + usage.completion * self.completion) / 1e6

    def most(self, request: Request) -> float:
        """The most that a call can cost, by the cautious estimate of its prompt and its full `max_tokens`."""
        return (prompt_tokens(request) * self.prompt + request.max_tokens * self.completion) / 1e6


FREE = Price(0.0, 0.0, "local")


def find(provider: str, identity: str) -> Price | None:
    """The price of a model by its provider and identity ("model@base_url"), None when it is not known.

    Models in this process and endpoints on this machine cost nothing per token (a paid gateway on this machine wants `price` in
    the recipe). A dated snapshot ("gpt-4o-mini-2024-07-18") costs what its family costs.
    """
    if provider in LOCAL:
        return FREE
    model, at, url = identity.partition("@http")
    if not at:
        return None
    host = urlsplit("http" + url.split("#", 1)[0]).hostname or ""
    if is_loopback(host):
        return FREE
    if model.startswith("ft:"):  # a model tuned there, which has a price of its own
        return _tuned().get((host, _snapshot.sub("", model.split(":")[1])))
    return _table().get((host, model)) or _table().get((host, _snapshot.sub("", model)))


@dataclass(frozen=True, slots=True)
class Rate:
    """US dollars per million tokens that a tuning job trains on, which are those of its file times the epochs; where and when it was read."""

    usd: float
    source: str = ""
    date: str = ""


def training(identity: str) -> Rate | None:
    """What tuning a model ("model@base_url") costs, None where it is not known; endpoints on this machine cost nothing."""
    model, _, url = identity.partition("@http")
    host = urlsplit("http" + url.split("#", 1)[0]).hostname or ""
    if is_loopback(host):
        return Rate(0.0, "local")
    told = _read().get(host, {}).get("training")
    name = _snapshot.sub("", model.split(":")[1] if model.startswith("ft:") else model)
    if told is None or name not in told["models"]:
        return None
    return Rate(float(told["models"][name]["training"]), told["source"], str(told["date"]))


def in_batch(price: Price | None, identity: str) -> Price | None:
    """The price of the same call in a batch job: the share that its host asks, the full price where no share is known."""
    if price is None:
        return None
    share = _shares().get(urlsplit("http" + identity.partition("@http")[2].split("#", 1)[0]).hostname or "", 1.0)
    return Price(price.prompt * share, price.completion * share, price.source, price.date)


def given(price: Mapping[str, Any], where: str = "") -> Price:
    """A recipe's `price: {prompt, completion}`. Raises RecipeError when it is not two numbers of at least 0."""
    try:
        found = Price(float(price["prompt"]), float(price["completion"]), "recipe")
    except (KeyError, TypeError, ValueError):
        found = Price(-1, -1)
    if len(price) == 2 and min(found.prompt, found.completion) >= 0:
        return found
    raise RecipeError(
        say(
            "a price needs exactly two numbers, prompt and completion", "price 必须恰好有 prompt 和 completion 两个数字"
        ),
        where=where,
        mend=say(
            "in USD per million tokens, such as {prompt: 0.15, completion: 0.6}",
            "美元/百万 token，如 {prompt: 0.15, completion: 0.6}",
        ),
    )


def prompt_tokens(request: Request) -> int:
    """A cautious estimate of the prompt's tokens: UTF-8 bytes / 3 (about one per Han character, four thirds of an English count)."""
    texts = [request.prompt] if request.prompt is not None else [content for _, content in request.messages]
    if request.continuation is not None:
        texts.append(request.continuation)
    if request.schema is not None:
        texts.append(json.dumps(dict(request.schema)))
    return 4 + sum(len(text.encode("utf-8", "surrogatepass")) // 3 + 8 for text in texts)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine, told without a look-up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def _read() -> dict[str, dict[str, Any]]:
    import yaml

    text = resources.files("zhiling.llm").joinpath("prices.yaml").read_text(encoding="utf-8")
    hosts: dict[str, dict[str, Any]] = yaml.safe_load(text)["hosts"]
    return hosts


@cache
def _table() -> dict[tuple[str, str], Price]:
    out: dict[tuple[str, str], Price] = {}
    for host, entry in _read().items():
        for model, price in entry["models"].items():
            out[host, model] = Price(price["prompt"], price["completion"], entry["source"], str(entry["date"]))
    return out


@cache
def _tuned() -> dict[tuple[str, str], Price]:
    """What a call of a model that was tuned at the host costs, by (host, the base model)."""
    out: dict[tuple[str, str], Price] = {}
    for host, entry in _read().items():
        told = entry.get("training", {"models": {}})
        for model, price in told["models"].items():
            out[host, model] = Price(price["prompt"], price["completion"], told["source"], str(told["date"]))
    return out


@cache
def _shares() -> dict[str, float]:
    """What a call in a batch job costs as a share of the list price, by host."""
    return {host: float(entry["batch"]) for host, entry in _read().items() if "batch" in entry}
