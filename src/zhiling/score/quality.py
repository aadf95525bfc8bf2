"""One overall quality per row: would a person prefer it to a middling one?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from zhiling import text
from zhiling.embed import Embedder
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.quality_model import load
from zhiling.score.signals import SIGNALS, measure
from zhiling.types import Example, Score

MOST = 4000  # characters that tell the language
SPOKEN = {"zh": "zh", "latin": "en"}  # script -> the model's language

_fenced = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_code = re.compile(
    r"^\s*(?:def |class |import |from \w+ import|public |private |function\b|#include|<\?php|<!DOCTYPE|</?\w+[^>]*>|SELECT\b|INSERT\b|CREATE\b"
    r"|var |let |const |return\b|for ?\(|if ?\(|while ?\(|for .*:$|if .*:$|while .*:$|print\(|//|#!)|[;{}]\s*$",
    re.MULTILINE,
)


@scorer(
    "quality", low=0, high=1, better="high", langs=("zh", "en"), length_neutral=True,
    paper="Bradley & Terry 1952; Liu et al. 2024 (CoachLM); Li et al. 2024 (Auto-J); Zeng et al. 2024 (LLMBar)",
)  # fmt: skip
def quality(examples: Sequence[Example], *, embedder: Embedder) -> Iterator[Score]:
    """How likely a person would prefer this row's answer to a middling one: a logistic model over signals, shown in `why`.

    The signals (`signals.py`) are whether the answer takes up the prompt, adds to it, is written out and whole; they know nothing of
    truth. 0.5 is a middling row of the same language. `why` gives each signal's contribution in log-odds, largest first. 0 for an
    empty answer. None where the model cannot judge: no instruction, an answer that is code or has no words, other scripts than Latin
    and Chinese. Long answers do better: selectors rank by what length does not explain (the fact `length_neutral`).
    """
    model = load("quality")
    langs = [_language(row) for row in examples]
    judged = [row for row, (lang, _) in zip(examples, langs, strict=True) if lang]
    measured = iter(measure(judged, embedder))
    for row, (lang, why) in zip(examples, langs, strict=True):
        if lang:
            yield Score(row.id, "quality", *model.judge(next(measured), lang, SIGNALS))
        elif row.instruction.strip() and not row.output.strip():
            yield Score(row.id, "quality", 0.0, say("the output is empty", "输出为空"))
        else:
            yield Score(row.id, "quality", None, why)


def _language(row: Example) -> tuple[str, str]:
    """The model's language for the row; where there is none, why."""
    if text.blank(row.instruction) and not row.history:
        return "", say("the instruction is empty", "指令为空")
    output = row.output[:MOST]
    if not output.strip():
        return "", say("the output is empty", "输出为空")
    prose = _fenced.sub("", output).strip()
    lines = [line for line in prose.splitlines() if line.strip()]
    if not prose or 2 * sum(bool(_code.search(line)) for line in lines) > len(lines):
        return "", say("the output is code", "输出是代码")
    spoken = text.lang(output) or text.lang(row.prompt[:MOST])
    if not spoken:
        return "", say("the row has no words", "该行没有文字")
    if spoken not in SPOKEN:
        return "", say(f"no model for this language ({spoken})", f"没有该语言的模型（{spoken}）")
    return SPOKEN[spoken], ""
