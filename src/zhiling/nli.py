"""Premise, hypothesis and label out of a row for natural language inference, in English and in Chinese."""

from __future__ import annotations

import re
from typing import NamedTuple

from zhiling.text import normalise
from zhiling.types import Example

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
    """A premise, a hypothesis, the label that a row gives them ("" where it is none of the three), and whether the row names the two."""

    premise: str
    hypothesis: str
    label: str
    named: bool = True


def label_of(said: str) -> str:
    """Which of the LABELS an answer names, in English or Chinese; "" where it names none."""
    return _BY_NAME.get(normalise(said).strip(" .。\"'“”"), "")


def pair_of(row: Example) -> Pair | None:
    """The premise and hypothesis of a row, from "Premise: ... Hypothesis: ..." (前提/假设) in its text, or its input's two lines."""
    found = _pair.search(row.input) or _pair.search(row.prompt)
    lines = [line.strip() for line in row.input.splitlines() if line.strip()]
    if not found and len(lines) != 2:
        return None
    premise, hypothesis = (found[1].strip(), found[2].strip()) if found else (lines[0], lines[1])
    return Pair(premise, hypothesis, label_of(row.output), bool(found))
