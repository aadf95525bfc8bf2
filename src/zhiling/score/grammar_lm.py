"""Grammatical correctness with a second view: what the rules suspect counts where a language model finds the mended wording likelier."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from zhiling import text
from zhiling.errors import ProviderError, say
from zhiling.llm.base import lacks
from zhiling.llm.wrap import STOPPING, Model
from zhiling.registry import scorer
from zhiling.score.chinese import mistakes
from zhiling.score.grammar import is_code, lints
from zhiling.types import Example, Request, Score

MOST = 1000  # characters of an instruction that are checked
MAYBE = 12  # occurrences of 的, 地 and 得 that are tried
SURE = 3.0  # nats by which another particle must be likelier: most are right as they stand, so that e^3 to one is asked for
BATCH = 256
PARTICLES = "的地得"

_particle = re.compile(rf"(?<=[{text.HAN}])[{PARTICLES}](?=[{text.HAN}])")
_whole = re.compile(
    r"目的|的确|的话|土地|地方|地区|地点|地图|地址|地球|地位|各地|当地|产地|基地|场地|得到|获得|取得|得分|值得|觉得|记得|懂得|使得|必得|得出|得以|难得|似的"
)


class Suspect(NamedTuple):
    """A passage of a text that may be wrong, and the whole text mended; `least` is by how many nats the mended one must be likelier."""

    weight: float
    what: str
    mended: str
    least: float


@scorer(
    "grammar_lm", low=0, high=1, better="high", langs=("zh", "en"), needs=("score",),
    paper="Harper; Bryant & Briscoe 2018 (correction by a language model alone)",
)  # fmt: skip
async def grammar_lm(
    examples: Sequence[Example], *, model: Model, langs: tuple[str, ...] = ("latin", "zh")
) -> AsyncIterator[Score]:
    """`grammar`, each suspicion weighed by a language model: 1 less the confirmed mistakes per sentence of the instruction, at least 0.

    English: what Harper would mend counts where the model finds the mended text likelier. Chinese: besides the rules, each 的, 地 and 得
    between two characters is a mistake where the text with another of the three is likelier by 3 nats. What has no mended form (a
    bracket without its partner) counts by the rule alone. A text without suspicion is not asked about. `why` gives each confirmed
    mistake and by how much. `langs` are the languages the model speaks; others, code and failed calls get None. Raises ProviderError
    like `clarity`.
    """
    if "score" not in model.can:
        raise lacks(model.provider, "score")
    said: dict[str, tuple[float | None, str]] = {}
    asked = list(dict.fromkeys(row.instruction for row in examples))
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        said.update(zip(part, await asyncio.gather(*(_grade(model, one[:MOST], langs) for one in part)), strict=True))
    for row in examples:
        yield Score(row.id, "grammar_lm", *said[row.instruction])


async def _grade(model: Model, passage: str, langs: Sequence[str]) -> tuple[float | None, str]:
    language = text.lang(passage)
    if not language:
        return None, say("the instruction has no words", "指令没有文字")
    if language not in langs or language not in ("latin", "zh"):
        return None, say(f"the model does not speak {language}", f"该模型不懂 {language}")
    if is_code(passage):
        return None, say("the instruction is code", "指令是代码")
    plain = text.valid(passage)
    suspects = _english(plain) if language == "latin" else _chinese(plain)
    if suspects is None:
        return None, say("not English: too many unknown words", "不像英语：未知单词过多")
    try:
        found = await _confirmed(model, plain, suspects)
    except ProviderError as error:
        if error.kind in STOPPING | {"capability"}:
            raise
        return None, str(error)
    value = max(0.0, 1 - sum(weight for weight, _ in found) / max(1, len(text.sentences(passage))))
    return round(value, 4), "; ".join(what for _, what in found[:5])


def _english(passage: str) -> list[Suspect] | None:
    found = lints(passage)
    if found is None:
        return None
    return [
        Suspect(lint.weight, lint.what, passage[: lint.start] + lint.mended + passage[lint.end :] if lint.mended else "", 0.0)
        for lint in found
    ]  # fmt: skip


def _chinese(passage: str) -> list[Suspect]:
    """What the rules are certain of, and each particle with either of the other two in its place."""
    found = [Suspect(weight, what, "", 0.0) for weight, what in mistakes(passage) if not what.startswith("de:")]
    words = [match.span() for match in _whole.finditer(passage)]
    for match in list(_particle.finditer(passage))[:MAYBE]:
        at = match.start()
        if any(start <= at < end for start, end in words):
            continue
        around = passage[max(0, at - 2) : at + 3]
        for other in PARTICLES:
            if other != passage[at]:
                what = f"{around} -> {other}"
                found.append(Suspect(0.5, what, passage[:at] + other + passage[at + 1 :], SURE))
    return found


async def _confirmed(model: Model, passage: str, suspects: Sequence[Suspect]) -> list[tuple[float, str]]:
    """The suspicions that the model shares, and those that it cannot be asked about."""
    texts = list(dict.fromkeys([passage, *(suspect.mended for suspect in suspects if suspect.mended)]))
    if len(texts) == 1:
        return [(suspect.weight, suspect.what) for suspect in suspects]
    values = dict(zip(texts, await asyncio.gather(*(_likelihood(model, one) for one in texts)), strict=True))
    confirmed = []
    for suspect in suspects:
        gain = values[suspect.mended] - values[passage] if suspect.mended else math.inf
        if gain > suspect.least:
            by = f" (+{gain:.1f})" if suspect.mended else ""
            confirmed.append((suspect.weight, f"{suspect.what}{by}"))
    return confirmed


async def _likelihood(model: Model, passage: str) -> float:
    tokens = await model.score(Request(prompt=""), passage)
    if not tokens or not all(map(math.isfinite, tokens)):
        raise ProviderError(say("the model gave no probabilities", "模型没有给出概率"), kind="protocol")
    return math.fsum(tokens)
