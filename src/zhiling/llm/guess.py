"""How many tokens a text will be for a model whose tokenizer is not at hand, and how long its reply: for plans, never for bills.

The weights were fitted by least squares on the mean of two tokenizers (Qwen's and DeepSeek-V3's) over 1,500 texts of Alpaca in English and
Chinese and of hotel reviews in Chinese. On texts they had not seen the sums were 0.95 to 1.15 of either tokenizer's, in both languages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiling.llm.trace import size
from zhiling.types import Request

HAN, WORD, LETTER, DIGIT, MARK, LINE = 0.56, 0.61, 0.077, 0.66, 1.23, 0.62
"""Tokens per Han character, alphabetic word, letter in such words, digit, punctuation mark, and line end."""
TURN, REPLY = 4, 3
"""Tokens that a chat format adds per message, and before the reply."""
SHARE, LINE_SHARE = 0.5, 0.3
"""Of `max_tokens`, what a reply takes where nothing is known: free ones, and those that stop at the end of a line."""
ENOUGH = 1000  # bytes of prompts that say how a model counts
TAIL = 1 << 20  # bytes of a trace that are read, from its end
_han = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_words = re.compile(r"[^\W\d_\u3400-\u9fff\uf900-\ufaff]+")


def tokens(text: str) -> float:
    """The expected number of tokens of a text."""
    words = _words.findall(text)
    rest = sum(1 for char in text if not char.isalnum() and not char.isspace())
    digits = sum(1 for char in text if char.isdigit())
    letters = sum(map(len, words))
    counted = HAN * len(_han.findall(text)) + WORD * len(words) + LETTER * letters
    return counted + DIGIT * digits + MARK * rest + LINE * text.count("\n")


def prompt(request: Request) -> float:
    """The expected prompt tokens of a request: its texts, the chat format around them, and a schema where one is sent."""
    if request.prompt is not None:
        return tokens(request.prompt) + tokens(request.continuation or "")
    size = sum(tokens(content) + TURN for _, content in request.messages) + REPLY
    return size + (tokens(json.dumps(dict(request.schema))) if request.schema is not None else 0.0)


def completion(request: Request) -> float:
    """The expected completion tokens of a request, by what it allows and where it stops."""
    if request.continuation is not None:
        return 0.0
    if request.choices:
        return min(request.max_tokens, sum(map(tokens, request.choices)) / len(request.choices) + 1)
    return request.max_tokens * (LINE_SHARE if any("\n" in stop for stop in request.stop) else SHARE)


@dataclass(slots=True)
class Sort:
    """Calls with one `max_tokens`, which mostly are one step's: how many, their prompts' bytes and tokens, how many replies, their tokens."""

    bytes: int = 0
    prompt: int = 0
    replies: int = 0
    completion: int = 0


@dataclass(slots=True)
class Seen:
    """What earlier calls of a model taught, by `max_tokens`: tokens per byte of a prompt, and the mean length of a reply.

    Bytes, since those of a token are nearly as many in Chinese (about 5) as in English (about 4.6).
    """

    keys: set[str] = field(default_factory=set)
    sorts: dict[int, Sort] = field(default_factory=dict)

    def add(self, key: str, most: int, size: int | None, prompt: int | None, completion: int | None) -> None:
        """Learn from one answered call."""
        self.keys.add(key)
        sort = self.sorts.setdefault(most, Sort())
        if size is not None and prompt is not None:
            sort.bytes, sort.prompt = sort.bytes + size, sort.prompt + prompt
        if completion is not None:
            sort.replies, sort.completion = sort.replies + 1, sort.completion + completion

    def prompt(self, request: Request) -> float:
        """The expected prompt tokens of a request: as calls of its sort, or else all calls, were counted, or else the guess."""
        own = self.sorts.get(request.max_tokens, Sort())
        for sorts in ([own], self.sorts.values()):
            if (known := sum(sort.bytes for sort in sorts)) >= ENOUGH:
                return size(request) * sum(sort.prompt for sort in sorts) / known
        return prompt(request)

    def completion(self, request: Request) -> float:
        """The expected completion tokens of a request: the mean of at least three earlier replies of its sort, or else the guess."""
        own = self.sorts.get(request.max_tokens, Sort())
        return (
            own.completion / own.replies if own.replies >= 3 and request.continuation is None else completion(request)
        )


def learn(traces: Iterable[Path], label: str) -> Seen:
    """What the calls of a model (by its short name) in some events.jsonl teach; lines that cannot be read teach nothing."""
    seen = Seen()
    for path in traces:
        for line in _tail(path):
            try:
                found: dict[str, Any] = json.loads(line)
            except ValueError:  # the line that the tail begins in, or one that a kill cut off
                continue
            if found.get("gen_ai.request.model") == label and "error.type" not in found:
                most, key = found.get("gen_ai.request.max_tokens"), str(found.get("zhiling.key"))
                if isinstance(most, int) and found.get("gen_ai.operation.name") != "score":
                    used = found.get("gen_ai.usage.input_tokens"), found.get("gen_ai.usage.output_tokens")
                    seen.add(key, most, found.get("zhiling.input_bytes"), *used)
    return seen


def _tail(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().splitlines()
