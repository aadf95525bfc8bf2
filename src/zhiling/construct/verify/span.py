"""Whether an answer to a question about a passage stands in the passage, and its evidence word for word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from annotated_types import Ge, Le

from zhiling.construct.verify.translation import missing_numbers
from zhiling.errors import say
from zhiling.registry import verifier
from zhiling.text import cut, normalise, tokens
from zhiling.types import Example, Score

_evidence = re.compile(
    r"(?:evidence|quote|source|证据|原文|依据|出处)\s*[:：]\s*[\"“「『]?(.+?)[\"”」』]?\s*(?:\n|\Z)", re.IGNORECASE
)
_answer = re.compile(r"^\s*(?:answer|答案|回答|答)\s*[:：]\s*", re.IGNORECASE)
_question = re.compile(r"^\s*(?:question|问题|问)\s*[:：]\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_none = re.compile(
    r"\b(?:unanswerable|cannot be answered|can't be answered|not (?:given|stated|mentioned|answerable|in the (?:text|passage))|no answer"
    r"|does not (?:say|mention|state))\b|无法(?:回答|确定|得知)|没有(?:提到|提及|说明|答案)|未(?:提到|提及|说明)|文中没有",
    re.IGNORECASE,
)


@verifier("span", families=("qa", "faq"), langs=("zh", "en"), paper="SQuAD (Rajpurkar et al. 2016, 2018)")
def span(examples: Sequence[Example], *, copied: Annotated[float, Ge(0), Le(1)] = 0.75) -> Iterator[Score]:
    """The answer is in the passage (the row's input): as it stands, or with at least the share `copied` of its words; so is its evidence.

    A line "Evidence: ..." (证据) must stand in the passage word for word, white space and width apart, and the answer's numbers in it. 0.0 also
    for an answer that is the whole passage or the question. None for one that says the passage has no answer, and for rows without a passage.
    """
    for row in examples:
        value, why = _judged(row, copied)
        yield Score(row.id, "span", value, why)


def _judged(row: Example, copied: float) -> tuple[float | None, str]:
    passage = _flat(_question.sub("", row.input))
    answer = _answer.sub("", _evidence.sub("", row.output)).strip()
    if len(tokens(passage)) < 5:
        return None, say("there is no passage", "没有文段")
    if not tokens(answer):
        return 0.0, say("there is no answer", "没有回答")
    for quoted in _evidence.findall(row.output):
        if _flat(quoted) not in passage:
            return 0.0, say(
                f"the evidence is not in the passage: {cut(quoted, 80)}", f"证据不在文段中：{cut(quoted, 80)}"
            )
        if lost := missing_numbers(answer, quoted):
            return 0.0, say(f"{lost} is not in the evidence", f"证据中没有 {lost}")
    if _none.search(answer):
        return None, say(
            "it says that there is no answer, which only a reader can check", "称文段没有答案，只有读者能核对"
        )
    if _flat(answer) == passage:
        return 0.0, say("it is the whole passage", "回答是整个文段")
    if _flat(answer).strip(" .。") in passage:
        return 1.0, say("it stands in the passage", "见于文段")
    if lost := missing_numbers(answer, passage):
        return 0.0, say(f"{lost} is not in the passage", f"文段中没有 {lost}")
    known = (
        set(tokens(passage))
        | set(tokens(row.instruction))
        | {t for q in _question.findall(row.input) for t in tokens(q)}
    )
    share = sum(token in known for token in tokens(answer)) / len(tokens(answer))
    return float(share >= copied), say(f"{share:.0%} of its words are in the passage", f"{share:.0%} 的词见于文段")


def _flat(text: str) -> str:
    return re.sub(r"(?<=[\u3400-\u9fff])\s+|\s+(?=[\u3400-\u9fff])", "", normalise(text))
