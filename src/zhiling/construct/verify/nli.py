"""Whether a hypothesis follows, contradicts or neither, as its label says: told by a model that did not make the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from zhiling.errors import ProviderError, say
from zhiling.nli import LABELS, Pair, label_of, pair_of
from zhiling.registry import verifier
from zhiling.text import lang, normalise, tokens
from zhiling.types import Example, Request, Score

if TYPE_CHECKING:
    from zhiling.llm import Model


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether an independent judge is asked."""
    return bool(settings["judge"])


@verifier(
    "nli",
    families=("nli",),
    langs=("zh", "en"),
    asks=asks,
    needs=("chat",),
    paper="labels by a second reader: Bowman et al. 2015 (arXiv:1508.05326)",
)
async def nli(examples: Sequence[Example], *, model: Model | None = None, judge: bool = True) -> list[Score]:
    """The label is one of entailment, neutral, contradiction (蕴含, 中立, 矛盾), and a model that sees the pair alone gives the same.

    Name a `model` that did not make the rows. 0.0 also for a hypothesis that is empty, or repeats its premise under another label than
    entailment; None where a row shows no pair, or where no judge is asked (`judge: false`) or answers: a form that is right is no evidence.
    Whether a whole set gives labels away by its hypotheses is told by the report, and mended by the selector `hypothesis_only`.
    """
    pairs = [pair_of(row) for row in examples]
    out = [_formal(row, pair) for row, pair in zip(examples, pairs, strict=True)]
    if not judge or model is None:
        return out
    open_ = [
        (at, pair) for at, (score, pair) in enumerate(zip(out, pairs, strict=True)) if score.value is None and pair
    ]
    replies = await model.ask_all([_request(pair) for _, pair in open_])
    for (at, pair), reply in zip(open_, replies, strict=True):
        told = "" if isinstance(reply, ProviderError) else label_of(reply.text)
        if not told:
            out[at] = Score(examples[at].id, "nli", None, say("the judge gave no label", "评审没有给出标签"))
        else:
            why = say(f"the judge says {told}", f"评审认为是 {told}")
            out[at] = Score(examples[at].id, "nli", float(told == pair.label), why)
    return out


def _formal(row: Example, pair: Pair | None) -> Score:
    if pair is None:
        return Score(row.id, "nli", None, say("no premise and hypothesis in the row", "该行没有前提和假设"))
    if not pair.label:
        return Score(
            row.id, "nli", 0.0, say("not one of: entailment, neutral, contradiction", "标签不是 蕴含、中立、矛盾 之一")
        )
    if not tokens(pair.hypothesis) or not tokens(pair.premise):
        return Score(row.id, "nli", 0.0, say("the premise or hypothesis is empty", "前提或假设为空"))
    if normalise(pair.premise) == normalise(pair.hypothesis) and pair.label != "entailment":
        return Score(row.id, "nli", 0.0, say("the hypothesis repeats the premise", "假设与前提相同"))
    return Score(row.id, "nli", None, say("no independent judge was asked", "没有独立评审"))


def _request(pair: Pair) -> Request:
    turns = _prompt("zh" if lang(pair.premise) == "zh" else "en")
    names = ("蕴含", "中立", "矛盾") if lang(pair.premise) == "zh" else LABELS
    filled = tuple(
        (role, text.replace("{premise}", pair.premise, 1).replace("{hypothesis}", pair.hypothesis, 1))
        for role, text in turns
    )
    return Request(messages=filled, max_tokens=12, choices=names)


@cache
def _prompt(code: str) -> tuple[tuple[str, str], ...]:
    text = files("zhiling").joinpath("library/prompts/families.yaml").read_text(encoding="utf-8")
    found = next(p for p in yaml.safe_load(text)["prompts"] if p["id"] == "nli_judge" and p["lang"] == code)
    return tuple((role, content) for turn in found["turns"] for role, content in turn.items())
