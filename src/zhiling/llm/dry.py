"""A model that is not asked: it takes every request, remembers it, and answers something of the asked form. For plans.

A constructor or scorer run against it sends the very requests that it would send, so a plan counts real prompts, and what the real model
cannot do is an error here, not in the forty-thousandth row.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zhiling.errors import ProviderError
from zhiling.llm.base import Provider, lacks
from zhiling.llm.wrap import Model
from zhiling.text import lang, tokens
from zhiling.types import Reply, Request, Usage

WORDS = 12


class Dry:
    """A provider with another's name, identity and capabilities. `asked` holds each different request once, by its key in the cache."""

    def __init__(self, real: Provider, asked: dict[str, Request]) -> None:
        self.name, self.model, self.can, self.lanes = real.name, real.model, real.can, real.lanes
        self.asked = asked

    def __repr__(self) -> str:
        return f"Dry({self.model!r})"

    async def reply(self, request: Request) -> Reply:
        """Remember the request as it would be sent; what is answered is `_Unasked`'s business."""
        self.asked.setdefault(request.key(self.model), request)
        return Reply("", model="dry", usage=Usage(0, 0))

    async def score(self, request: Request, continuation: str) -> list[float]:
        """Remember the request; every token is as likely as another."""
        if "score" not in self.can:
            raise lacks(self, "score")
        self.asked.setdefault(request.key(self.model), request)
        return [-1.0] * max(1, len(tokens(continuation)))

    async def close(self) -> None:
        """Nothing is open."""


class _Unasked(Model):
    """A Model that answers a question in the form that was asked for, also where its provider would have been told so in words."""

    def _held(self, request: Request, reply: Reply) -> Reply | ProviderError:
        return super()._held(
            request, reply if request.continuation is not None else replace(reply, text=_answer(request))
        )


def dry(model: Model, asked: dict[str, Request]) -> Model:
    """A stand-in for a model; `asked` gets the requests that it is sent."""
    return _Unasked(Dry(model.provider, asked), None, price=model.price, lanes=model.lanes)


def _answer(request: Request) -> str:
    if request.choices:
        return request.choices[0]
    text = request.prompt if request.prompt is not None else request.messages[-1][1]
    words = _words(text, f"{request.seed}:{request.draw}")
    if request.schema is not None:
        return json.dumps(_instance(request.schema, words), ensure_ascii=False)
    return words


def _words(text: str, seed: str) -> str:
    """Some of the prompt's own words in another order: a text of its language that no earlier answer equals."""
    found = [word for word in tokens(text) if word[0].isalnum()] or ["-"]
    picked = random.Random(seed).choices(found, k=WORDS)
    return "".join(picked) if lang(text) == "zh" else " ".join(picked)


def _instance(schema: Mapping[str, Any], words: str) -> Any:
    """A small value that satisfies a schema of the kinds that plug-ins use."""
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for branch in ("anyOf", "oneOf"):
        if branch in schema:
            return _instance(schema[branch][0], words)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        known = schema.get("properties", {})
        return {name: _instance(known.get(name, {}), words) for name in schema.get("required", known)}
    if kind == "array":
        return [_instance(schema.get("items", {}), words) for _ in range(max(1, schema.get("minItems", 1)))]
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("maximum", 1))
    return {"boolean": True, "null": None}.get(str(kind), words[: schema.get("maxLength", len(words))])
