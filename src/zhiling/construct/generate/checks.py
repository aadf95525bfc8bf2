"""What is wrong with a text that a model wrote, as one reason that begins with a code: `language: ...`, `refusal: ...`, `leak: ...`.

Right in zh and en alike. Whether a text declines, speaks the language asked for or echoes is the scorers' business (`refusal`, `language`,
`echo`), which the house hands to a constructor; here is what only a generator knows: the prompt that must not come back, and loops.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from zhiling.errors import RecipeError, say
from zhiling.text import cut, lang, ngrams, normalise, sentences, tokens
from zhiling.types import Example, Record, Score, Task

Scorers: TypeAlias = Mapping[str, Callable[[Sequence[Example]], Awaitable[list[Score]]]]
Verify: TypeAlias = Callable[[Sequence[Example]], Awaitable[list[Score]]]

USED = ("refusal", "language", "echo")
ECHO = 0.8
"""Share of an answer that may repeat its question word for word."""
RUN = {"zh": 14}
RUN_WORDS = 8
"""Tokens in a row (characters in Chinese, else words) that are copied and no coincidence."""


def refused(score: Score) -> str:
    """A verifier's reason against a row, which begins with the verifier's name; the scorer's where it gave none."""
    return score.why if ":" in score.why else f"{score.scorer}: {score.why}"


_marks = re.compile(
    r"<\|[a-z_/ ]+\|>|</?start_of_turn>|</?end_of_turn>|\[/?INST\]|<</?SYS>>|<\|?endoftext\|?>", re.IGNORECASE
)

_assistant = re.compile(
    r"\b(?:i'm|i am) (?:ready|here|happy|glad|an? ai)\b|\b(?:how )?(?:can|may) i (?:help|assist)\b"
    r"|\bi(?:'ll| will| can) (?:help|assist) (?:you|with)\b|^(?:sure|of course|certainly)\b[,!.]"
    r"|^here(?:'s| is| are) (?:the|a|an|some|your|one|another)\b|^(?:好的|当然|没问题)[，,！!。]|我可以帮(?:您|你)|(?:有什么|需要我).{0,6}帮"
    r"|^(?:以下|下面)是(?:一个|新的|另一个)",
    re.IGNORECASE,
)


def judges(settings: Mapping[str, Any]) -> list[str]:
    """The scorers that every constructor here asks about its rows: its fact `uses`."""
    return list(USED)


def fields(records: Sequence[Record], task: Task, names: Mapping[str, str | None], step: str) -> None:
    """Raise RecipeError for a setting that names a data field which neither the task nor any record has."""
    known = dict.fromkeys([*(name for record in records for name in record.fields), *task.inputs, task.target])
    for setting, name in names.items():
        if name and records and name not in known:
            raise RecipeError(
                say(f"the data have no field '{name}'", f"数据中没有字段“{name}”"),
                where=f"construct.{step}.{setting}",
                mend=say(f"there are: {', '.join(known)}", f"现有字段：{'、'.join(known)}"),
            )


class Leak:
    """The fixed texts of our prompts: a reply that gives back a long run of them was not made for the user."""

    def __init__(self, texts: Iterable[str], lang: str) -> None:
        self._run = RUN.get(lang, RUN_WORDS)
        fixed = [part for text in texts for part in re.split(r"\{[a-z_]+\}|\n", text)]
        self._runs = {gram for part in fixed for gram in ngrams(tokens(part), self._run) if len(gram) == self._run}
        self._whole = {normalise(part) for part in fixed if len(tokens(part)) > 3}

    def why(self, text: str) -> str:
        """Where a text gives a prompt back, or a chat template's marks; "" when it does not."""
        if found := _marks.search(text):
            return f"leak: {say(f'a chat mark in the text: {found.group()}', f'文本中有对话标记：{found.group()}')}"
        gram = next((gram for gram in ngrams(tokens(text), self._run) if gram in self._runs), None)
        if gram is None and normalise(text) not in self._whole:
            return ""
        shown = cut(text, 60) if gram is None else " ".join(gram)
        return f"leak: {say(f'it repeats the prompt: {shown}', f'重复了提示词：{shown}')}"


def loops(text: str) -> str:
    """Why a text counts as running in circles; "" when it does not: one sentence three times, or fewer than half its 4-grams different."""
    said = [normalise(one) for one in sentences(text) if len(tokens(one)) > 2]
    most, times = Counter(said).most_common(1)[0] if said else ("", 0)
    if times >= 3 and 2 * times >= len(said):
        return f"repeat: {say(f'{times} times the same sentence: {cut(most, 60)}', f'同一句出现 {times} 次：{cut(most, 60)}')}"
    grams = list(ngrams(tokens(text), 4))
    if len(grams) >= 20 and 2 * len(set(grams)) < len(grams):
        return f"repeat: {say('most of it is said again and again', '大部分内容反复出现')}"
    return ""


def spoken(text: str, code: str) -> str:
    """Why a text is not in the language asked for; "" when it is, or has no letters that tell."""
    found = lang(text)
    if not found or (found == "zh") == (code == "zh"):
        return ""
    return f"language: {say(f'asked for {code}, got {found}', f'要求 {code}，得到 {found}')}"


def misspoken(text: str) -> str:
    """Why a text is not what a user would say: the assistant speaks in it, or it breaks off before what it announces."""
    if found := _assistant.search(text.strip().replace("’", "'")):
        return f"assistant: {say(f'the assistant speaks, not the user: {found.group()}', f'是助手在说话：{found.group()}')}"
    if text.rstrip().endswith((":", "：")):
        return f"unfinished: {say('it ends with a colon', '以冒号结尾')}"
    return ""


async def declined(texts: Sequence[str], task: str, scorers: Scorers) -> list[str]:
    """For each text whether it declines to do what was asked: the reason, or ""."""
    scores = await scorers["refusal"]([Example(task, "-", output=text) for text in texts]) if texts else []
    return [f"refusal: {score.why}" if score.value == 1.0 else "" for score in scores]


async def instructions(texts: Sequence[str], code: str, task: str, leak: Leak, scorers: Scorers) -> list[str]:
    """What is wrong with each proposed instruction; "" where nothing is."""
    return [
        ("" if tokens(text) else f"empty: {say('no words', '没有文字')}")
        or refused
        or spoken(text, code)
        or leak.why(text)
        or loops(text)
        or misspoken(text)
        for text, refused in zip(texts, await declined(texts, task, scorers), strict=True)
    ]


async def answers(rows: Sequence[Example], leak: Leak, scorers: Scorers) -> list[str]:
    """What is wrong with each row's output; "" where nothing is."""
    if not rows:
        return []
    said = {name: await scorers[name](rows) for name in USED}
    out = []
    for at, row in enumerate(rows):
        refusal, language, echo = (said[name][at] for name in USED)
        why = f"empty: {say('no answer', '没有回答')}" if not row.output.strip() else ""
        why = why or (f"refusal: {refusal.why}" if refusal.value == 1.0 else "")
        why = why or (f"language: {language.why}" if language.value == 0.0 else "")
        if not why and echo.value is not None and echo.value >= ECHO:
            why = f"echo: {say(f'{echo.value:.0%} of it repeats the question', f'{echo.value:.0%} 的内容重复了问题')}"
        out.append(why or leak.why(row.output) or loops(row.output))
    return out
