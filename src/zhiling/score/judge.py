"""A model as judge: a grade by rubric, and a comparison that is asked in both orders."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from zhiling import text
from zhiling.errors import ProviderError, say
from zhiling.llm.parse import json_value
from zhiling.llm.wrap import STOPPING, Model
from zhiling.registry import scorer
from zhiling.types import Example, Request, Score

MOST = 6000  # characters of each part that are shown
TOKENS = 300
BATCH = 256  # rows under way at once
_GRADE = {"grade": {"type": "integer", "minimum": 1, "maximum": 5}}
_CHOICE = {"better": {"type": "string", "enum": ["A", "B", "tie"]}}
REASON: Mapping[str, int] = {"en": 240, "zh": 60}
"""Characters of a reason, which comes before the verdict: a small model goes on until it is stopped, and would never reach the verdict."""


@scorer(
    "judge",
    low=0,
    high=1,
    better="high",
    langs=("zh", "en"),
    tier="model",
    needs=("chat",),
    paper="Zheng et al. 2023 (LLM as a judge)",
)
async def judge(
    examples: Sequence[Example], *, model: Model, langs: tuple[Literal["zh", "en"], ...] = ("zh", "en")
) -> AsyncIterator[Score]:
    """A model's grade of the output, 1 to 5 as 0 to 1; `why` is what the judge said.

    The row is judged in its own language where it is among `langs`, else in the first of them; the prompts are in
    library/prompts/judge.yaml. None for an empty prompt or output, and where the judge gave no grade. Raises ProviderError when the model can
    answer no more.
    """
    for start in range(0, len(examples), BATCH):
        part = examples[start : start + BATCH]
        asked = [row for row in part if row.prompt.strip() and row.output.strip()]
        requests = [_request("rubric", row, langs, _GRADE, output=row.output) for row in asked]
        said = dict(zip((row.id for row in asked), await _ask(model, requests), strict=True))
        for row in part:
            found = said.get(row.id) if row.id in said else say("the prompt or the output is empty", "题面或输出为空")
            if isinstance(found, dict) and found.get("grade") in (1, 2, 3, 4, 5):
                yield Score(row.id, "judge", (found["grade"] - 1) / 4, text.cut(str(found.get("reason", "")), 500))
            else:
                why = found if isinstance(found, str) else say("the judge gave no grade", "评审没有给出分数")
                yield Score(row.id, "judge", None, why)


@dataclass(frozen=True, slots=True)
class Duel:
    """What a judge said of a pair: `score` as `prefer` gives it, and which place each order named, "A", "B" or "tie"; "" where unreadable.

    The example stood at A in the `first` order and at B in the `second`.
    """

    score: Score
    first: str
    second: str


async def prefer(
    examples: Sequence[Example],
    rivals: Sequence[str],
    *,
    model: Model,
    langs: tuple[Literal["zh", "en"], ...] = ("zh", "en"),
) -> list[Score]:
    """Whether each example's output is better (1), worse (0) or as good (0.5) as the rival output for the same prompt.

    Each pair is asked twice, the answers changing places. A judge that prefers a place rather than an answer contradicts itself: then, and
    where either reply cannot be read, the value is None. `why` keeps the words of both replies. Raises as `judge` does.
    """
    return [duel.score for duel in await duels(examples, rivals, model=model, langs=langs)]


async def duels(
    examples: Sequence[Example],
    rivals: Sequence[str],
    *,
    model: Model,
    langs: tuple[Literal["zh", "en"], ...] = ("zh", "en"),
) -> list[Duel]:
    """As `prefer`, with the places that were named, by which a judge's bias shows."""
    pairs = list(zip(examples, rivals, strict=True))
    requests = [
        _request("pairwise", row, langs, _CHOICE, first=first, second=second)
        for row, rival in pairs
        for first, second in ((row.output, rival), (rival, row.output))
    ]
    said = await _ask(model, requests)
    return [_settled(row, said[2 * at], said[2 * at + 1]) for at, (row, _) in enumerate(pairs)]


def _settled(row: Example, one: dict[str, Any] | str, other: dict[str, Any] | str) -> Duel:
    """What the two orders say together; the example stood first in `one` and second in `other`."""
    named = [_named(reply) for reply in (one, other)]
    if isinstance(one, str) or isinstance(other, str):
        return Duel(Score(row.id, "prefer", None, one if isinstance(one, str) else str(other)), *named)
    words = " / ".join(text.cut(str(reply.get("reason", "")), 200) for reply in (one, other))
    first, second = {"A": 1.0, "B": 0.0, "tie": 0.5}.get(named[0]), {"A": 0.0, "B": 1.0, "tie": 0.5}.get(named[1])
    if first is None or second is None:
        return Duel(Score(row.id, "prefer", None, say("the judge named no answer", "评审没有选出答案")), *named)
    if first != second:
        why = say(f"the two orders disagree: {words}", f"两种顺序的结论不一致：{words}")
        return Duel(Score(row.id, "prefer", None, why), *named)
    return Duel(Score(row.id, "prefer", first, words), *named)


def _named(reply: dict[str, Any] | str) -> str:
    better = "" if isinstance(reply, str) else str(reply.get("better"))
    return better if better in ("A", "B", "tie") else ""


async def _ask(model: Model, requests: Sequence[Request]) -> list[dict[str, Any] | str]:
    """The replies as JSON objects; a reply that failed or is none is said in words."""
    out: list[dict[str, Any] | str] = []
    for reply in await model.ask_all(requests):
        if isinstance(reply, ProviderError):
            if reply.kind in STOPPING | {"capability"}:
                raise reply
            out.append(str(reply))
            continue
        value = json_value(reply.text).value
        out.append(
            value if isinstance(value, dict) else say("the judge's reply is no JSON object", "评审的回复不是 JSON 对象")
        )
    return out


def _request(name: str, row: Example, langs: Sequence[str], verdict: Mapping[str, Any], **answers: str) -> Request:
    language = "zh" if text.lang(row.instruction) == "zh" else "en"
    language = language if language in langs else langs[0]
    prompt = _prompts()[name, language]
    parts = {"instruction": row.instruction, "input": row.input.strip() or "-", **answers}
    shown = {key: text.valid(part[:MOST]) for key, part in parts.items()}
    user = prompt["user"]
    pieces = _split(user)
    filled = "".join(shown[piece] if at % 2 else piece for at, piece in enumerate(pieces))
    schema = _schema(verdict, REASON[language])
    return Request(messages=(("system", prompt["system"]), ("user", filled)), max_tokens=TOKENS, schema=schema)


def _schema(verdict: Mapping[str, Any], most: int) -> dict[str, Any]:
    """A reason of at most so many characters, then the verdict."""
    properties = {"reason": {"type": "string", "maxLength": most}, **verdict}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


@cache
def _split(user: str) -> tuple[str, ...]:
    """The prompt's text and slots by turns: what fills one slot is never looked through for another."""
    return tuple(re.split(r"\{(instruction|input|output|first|second)\}", user))


@cache
def _prompts() -> dict[tuple[str, str], dict[str, str]]:
    said = files("zhiling").joinpath("library/prompts/judge.yaml").read_text(encoding="utf-8")
    return {(entry["id"], entry["lang"]): entry for entry in yaml.safe_load(said)["prompts"]}
