"""Grammatical correctness of the instruction: English by the Harper checker, Chinese by rules that are certain."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from zhiling import text
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.chinese import mistakes
from zhiling.types import Example, Score

MOST = 5000  # characters of an instruction that are checked
CLOSE = 0.75
FOREIGN = 0.35  # share of unknown words from which a Latin text is not taken for English

# How much a lint takes off its sentence. Kinds not named (style, readability, word choice, formatting) are matters of taste.
WEIGHTS = {
    "Spelling": 0.5, "Grammar": 0.5, "Agreement": 0.5, "Usage": 0.5, "Repetition": 0.5, "BoundaryError": 0.5, "Miscellaneous": 0.5,
    "Typo": 0.25, "Capitalization": 0.25, "Punctuation": 0.25,
}  # fmt: skip
# Rules that were wrong more often than right on instructions, or speak of taste after all.
IGNORED = frozenset(
    {"MassNouns", "DisjointPrefixes", "DiscourseMarkers", "HyphenateNumberDay", "OxfordComma", "CommaFixes"}
)

# Not the instruction's own words: quotations, code, addresses, tags.
_foreign = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\"[^\"]{0,600}\"|“[^”]{0,600}”|‘[^’]{0,600}’|(?<!\w)'[^'\n]{2,400}'(?!\w)|https?://\S+|\S+@\S+|#\w+|\w+_\w+"
    r"|(?<=:)\s*\n.*|(?:following|sentence|phrase|text|paragraph|passage|below|into \w+)[^.!?:\n]{0,60}:.*",
    re.DOTALL | re.IGNORECASE,
)
_code = re.compile(
    r"^\s*(?:def|class|import|from \w+ import|public|function|#include|SELECT|var|let|const)\b.*$|[{};]\s*$|=>|\)\s*[:{]\s*$",
    re.MULTILINE,
)
_acronym = re.compile(r"\s+[A-Z0-9_]+\b")  # "a STEM course" or "an STEM course" depends on how it is read out
_word = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_british = tuple(
    (re.compile(pattern), american)
    for pattern, american in (
        (r"is(?=e|ed|es|er|ing|ation)", "iz"), (r"ys(?=e|ed|ing)", "yz"), ("our", "or"), ("re$", "er"), ("ll", "l"), ("ogue", "og"),
        ("ence$", "ense"), ("ae|oe", "e"),
    )
)  # fmt: skip
_odd = frozenset({
    "programme", "programmes", "grey", "greyer", "tyre", "tyres", "pyjamas", "jewellery", "aeroplane", "aeroplanes", "cheque", "cheques",
    "enquiry", "enquiries", "judgement", "judgements", "spelt", "distil",
})  # fmt: skip
_local = threading.local()


@scorer("grammar", low=0, high=1, better="high", langs=("zh", "en"), paper="Harper")
def grammar(examples: Sequence[Example]) -> Iterator[Score]:
    """1 less the weighted mistakes per sentence of the instruction, at least 0; `why` names them.

    English: spelling, grammar, agreement, repetition and the like count 0.5, capitals and punctuation 0.25; style does not,
    nor do names, quoted text and British spelling. Chinese: doubled or half-width punctuation, unpaired quotes, 的 for 得 or 地,
    doubled particles and wrong measure words, where they are certain. None for code and for other languages.
    """
    graded: dict[str, tuple[float | None, str]] = {}
    for row in examples:
        if row.instruction not in graded:
            graded[row.instruction] = _grade(row.instruction[:MOST])
        yield Score(row.id, "grammar", *graded[row.instruction])


def is_code(passage: str) -> bool:
    """Whether a third of the lines or more look like code."""
    lines = len(_code.findall(passage))
    return bool(lines) and 3 * lines >= len(passage.splitlines())


def _grade(passage: str) -> tuple[float | None, str]:
    language = text.lang(passage)
    if not language:
        return None, say("the instruction has no words", "指令没有文字")
    if is_code(passage):
        return None, say("the instruction is code", "指令是代码")
    if language not in ("zh", "latin"):
        return None, say(f"no checker for this language ({language})", f"没有该语言的检查器（{language}）")
    found = list(mistakes(passage)) if language == "zh" else _english(passage)
    if found is None:
        return None, say("not English: too many unknown words", "不像英语：未知单词过多")
    value = max(0.0, 1 - sum(weight for weight, _ in found) / max(1, len(text.sentences(passage))))
    return round(value, 4), "; ".join(what for _, what in found[:5])


class Lint(NamedTuple):
    """A mistake that the checker sees: where (characters), how much it takes off, what, and how it would be mended ("" for not at all)."""

    start: int
    end: int
    weight: float
    what: str
    mended: str


def _english(passage: str) -> list[tuple[float, str]] | None:
    """The lints that count, weighted, in the text's order; None where so many words are unknown that it is hardly English."""
    found = lints(passage)
    return None if found is None else [(lint.weight, lint.what) for lint in found]


def lints(passage: str) -> list[Lint] | None:
    """What Harper says of an English text and what counts; None where so many words are unknown that it is hardly English."""
    # The checker takes valid Unicode only; no character may change its place.
    plain = text.valid(passage).replace("\0", " ")
    aside = [found.span() for found in _foreign.finditer(plain)]
    found: list[Lint] = []
    unknown = 0
    for rule, said in _linter().organized_lints(plain, language="plaintext").items():
        for lint in said:
            at = lint.span.start
            if any(start <= at < end for start, end in aside) or (
                rule == "AnA" and _acronym.match(plain, lint.span.end)
            ):
                continue
            near = [suggestion.replacement_text for suggestion in lint.suggestions]
            if rule == "SpellCheck":
                lower = [word.lower() for word in near]
                if _is_british(lint.problem_text.lower(), lower):
                    continue
                unknown += 1
                if not _misspelt(plain, lint, lower):
                    continue
            weight = WEIGHTS.get(lint.lint_kind, 0.0)
            if weight and rule not in IGNORED:
                what = f"{lint.lint_kind}: {text.cut(lint.problem_text, 30)}"
                found.append(Lint(at, lint.span.end, weight, what, near[0] if near else ""))
    words = len(_word.findall(_foreign.sub(" ", plain)))
    return None if words >= 4 and unknown > FOREIGN * words else sorted(found, key=lambda lint: (lint.start, lint[2:4]))


def _is_british(word: str, near: Sequence[str]) -> bool:
    """A word whose American spelling is among the suggestions, or one of the few that differ by no rule."""
    return word in _odd or any(pattern.sub(american, word) in near for pattern, american in _british)


def _misspelt(passage: str, lint: Any, near: Sequence[str]) -> bool:
    """An unknown word that is a slip of the pen: close to a known one, and no name, abbreviation or part of a compound."""
    word, start, end = lint.problem_text, lint.span.start, lint.span.end
    before = passage[:start].rstrip()
    opens = not before or before[-1] in ".!?:\n"
    if len(word) < 4 or not word.isalpha() or not (word.islower() or (opens and word[1:].islower())):
        return False
    if "-" in passage[max(0, start - 1) : start] + passage[end : end + 1]:
        return False
    return any(SequenceMatcher(None, word.lower(), other, autojunk=False).ratio() >= CLOSE for other in near)


def _linter() -> Any:
    """One checker per thread: it takes a second to build and must not be shared."""
    if not hasattr(_local, "linter"):
        import harper

        _local.linter = harper.Linter()
    return _local.linter
