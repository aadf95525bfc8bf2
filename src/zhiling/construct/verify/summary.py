"""Whether a summary is short, in its document's language, and says nothing that the document does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from annotated_types import Gt, Le

from zhiling.construct.verify.translation import missing_numbers
from zhiling.errors import say
from zhiling.registry import verifier
from zhiling.text import lang, length, normalise, tokens
from zhiling.types import Example, Score

_name = re.compile(r"(?<![.!?。！？\"“]\s)(?<!^)(?<![A-Za-z])[A-Z][\w'’-]+(?:\s+[A-Z][\w'’-]+)*")
_zh_name = re.compile(r"[《“「]([^》”」]{2,20})[》”」]|([A-Za-z][A-Za-z0-9.+-]{2,})")


@verifier(
    "summary", families=("summarisation",), langs=("zh", "en"), paper="entity-level consistency (Nan et al. 2021)"
)
def summary(
    examples: Sequence[Example],
    *,
    most: Annotated[float, Gt(0), Le(1)] = 0.6,
    known: Annotated[float, Gt(0), Le(1)] = 0.4,
) -> Iterator[Score]:
    """At most the share `most` of the document (the row's input) in length, in its language, with no new numbers and no new names.

    Names are capitalised words within a sentence, and in Chinese what stands in 《》 or quotes, or in Latin letters. At least the share
    `known` of its words must come up in the document. None where the row has no document of 20 words. What it leaves out is not judged.
    """
    for row in examples:
        value, why = _judged(row, most, known)
        yield Score(row.id, "summary", value, why)


def _judged(row: Example, most: float, known: float) -> tuple[float | None, str]:
    text, said = row.input, row.output
    if length(text) < 20:
        return None, say("there is no document", "没有待摘要的文档")
    if not length(said):
        return 0.0, say("there is no summary", "没有摘要")
    if lang(text) != lang(said):
        return 0.0, say(
            f"it is in {lang(said)}, the document in {lang(text)}", f"摘要为 {lang(said)}，文档为 {lang(text)}"
        )
    share = length(said) / length(text)
    if share > most:
        return 0.0, say(f"its length is {share:.0%} of the document's", f"长度为文档的 {share:.0%}")
    if number := missing_numbers(said, text):
        return 0.0, say(f"the number {number} is not in the document", f"文档中没有数字 {number}")
    if names := new_names(said, text):
        return 0.0, say(f"the name {names[0]} is not in the document", f"文档中没有“{names[0]}”")
    there = set(tokens(text))
    found = sum(token in there for token in tokens(said)) / length(said)
    why = say(f"length {share:.0%}, {found:.0%} of its words known", f"长度 {share:.0%}，{found:.0%} 的词见于文档")
    return float(found >= known), why


def new_names(said: str, text: str) -> list[str]:
    """Names in one text that do not come up in the other, word by word, case apart."""
    body = normalise(text)
    if lang(said) == "zh":
        names = [one or other for one, other in _zh_name.findall(said)]
        return [name for name in names if normalise(name) not in body]
    words = set(tokens(text))
    stems = {word.rstrip("s") for word in words}
    return [
        name
        for name in _name.findall(said)
        if any(token.removesuffix("'s").rstrip("s") not in stems for token in tokens(name))
    ]
