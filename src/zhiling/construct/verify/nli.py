"""Whether a hypothesis follows, contradicts or neither, as its label says: told by a model that did not make the row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from zhiling.errors import ProviderError, say
from zhiling.registry import verifier
from zhiling.text import lang, normalise, shingles, tokens
from zhiling.types import Example, Request, Score

if TYPE_CHECKING:
    from zhiling.llm import Model

LABELS = ("entailment", "neutral", "contradiction")
_NAMES = {
    "entailment": "entailment entails entailed yes true 蕴含 蕴涵 是 一定 能推出 对",
    "neutral": "neutral unknown maybe undetermined 中立 中性 不一定 不确定 无关 无法判断",
    "contradiction": "contradiction contradicts contradictory contradicted no false 矛盾 否 不可能 冲突 错",
}
_BY_NAME = {name: label for label, names in _NAMES.items() for name in names.split()}
_p = r"(?:premise|前提|sentence ?1|first sentence|text|句子一|句子1|第一句话?|一)"
_h = r"(?:hypothesis|假设|sentence ?2|second sentence|句子二|句子2|第二句话?|二)"
_pair = re.compile(rf"{_p}\s*[:：]\s*(.+?)\s*{_h}\s*[:：]\s*(.+?)\s*(?:\n|\Z)", re.IGNORECASE | re.DOTALL)


class Pair(NamedTuple):
    """A premise, a hypothesis, and the label that a row gives them ("" where it is none of the three)."""

    premise: str
    hypothesis: str
    label: str


def pair_of(row: Example) -> Pair | None:
    """The premise and hypothesis of a row, from "Premise: ... Hypothesis: ..." (前提/假设) in its text, or its input's two lines."""
    found = _pair.search(row.input) or _pair.search(row.prompt)
    lines = [line.strip() for line in row.input.splitlines() if line.strip()]
    if not found and len(lines) != 2:
        return None
    premise, hypothesis = (found[1].strip(), found[2].strip()) if found else (lines[0], lines[1])
    return Pair(premise, hypothesis, _BY_NAME.get(normalise(row.output).strip(" .。\"'“”"), ""))


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether an independent judge is asked."""
    return bool(settings["judge"])


@verifier(
    "nli",
    families=("nli",),
    langs=("zh", "en"),
    asks=asks,
    needs=("chat",),
    paper="hypothesis-only baselines: Gururangan et al. 2018",
)
async def nli(examples: Sequence[Example], *, model: Model | None = None, judge: bool = True) -> list[Score]:
    """The label is one of entailment, neutral, contradiction (蕴含, 中立, 矛盾), and a model that sees the pair alone gives the same.

    Name a `model` that did not make the rows. 0.0 also for a hypothesis that is empty, or repeats its premise under another label than
    entailment; None where a row shows no pair, or where no judge is asked (`judge: false`) or answers: a form that is right is no evidence.
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
        told = "" if isinstance(reply, ProviderError) else _BY_NAME.get(normalise(reply.text).strip(" .。"), "")
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


def balance(pairs: Sequence[Pair]) -> dict[str, float]:
    """The share of each label."""
    counted = Counter(pair.label for pair in pairs)
    return {label: counted[label] / max(len(pairs), 1) for label in LABELS}


def hypothesis_only(pairs: Sequence[Pair], folds: int = 5, seed: int = 0) -> tuple[float, float]:
    """How well a label is told from its hypothesis alone, and how well by always saying the commonest one: both accuracies in [0, 1].

    Naive Bayes over the hypothesis' words and word pairs (characters in Chinese), cross-validated. Well above the second, labels can be had
    without reading the premise: the set teaches an accident of its making (Gururangan et al. 2018, Poliak et al. 2018).
    """
    known = [pair for pair in pairs if pair.label]
    if len(known) < folds:
        return 0.0, 0.0
    order = list(range(len(known)))
    Random(seed).shuffle(order)
    bags = [{*((t,) for t in tokens(pair.hypothesis)), *shingles(pair.hypothesis, 2)} for pair in known]
    right = 0
    for fold in range(folds):
        held = {at for place, at in enumerate(order) if place % folds == fold}
        guess = _bayes([(bags[at], known[at].label) for at in order if at not in held])
        right += sum(guess(bags[at]) == known[at].label for at in held)
    commonest = Counter(pair.label for pair in known).most_common(1)[0][1]
    return right / len(known), commonest / len(known)


def _bayes(rows: Sequence[tuple[set[tuple[str, ...]], str]]) -> Any:
    from math import log

    labels = sorted({label for _, label in rows})
    sizes = Counter(label for _, label in rows)
    seen = {label: Counter(gram for bag, own in rows if own == label for gram in bag) for label in labels}

    def guess(bag: set[tuple[str, ...]]) -> str:
        def weight(label: str) -> float:
            return log(sizes[label]) + sum(log((seen[label][gram] + 0.5) / (sizes[label] + 1)) for gram in sorted(bag))

        return max(labels, key=weight)

    return guess
