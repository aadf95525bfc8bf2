"""The answers that an instruction offers (`正面还是负面`, `sports, business or technology`): where, and whether they are the task's."""

from __future__ import annotations

import re

from zhiling.construct.bind import label_words
from zhiling.construct.sandbox import literal
from zhiling.errors import say
from zhiling.types import Task

_joints = re.compile(r"还是|或者|或|和|与|\b(?:or|and|either|an?|the)\b", re.I)


def other_answers(said: str, answer: str, task: Task, lang: str) -> str:
    """Why the answers that an instruction offers are not the task's; "" where it offers none, or exactly those."""
    span = choice_span(said, answer, lang)
    if span is None:
        return ""
    left = offered = said[slice(*span)]
    words = label_words(task, lang)
    for word in sorted(words, key=len, reverse=True):
        left = re.sub(re.escape(word), " ", left, flags=re.IGNORECASE)
    named = all(word.lower() in offered.lower() for word in words)
    if words and named and not re.search(r"\w", _joints.sub(" ", left)):
        return ""
    return say(f"it offers other answers: {offered}", f"它限定了另外的答案：{offered}")


def listed(task: Task, lang: str, joint: str = "或") -> str:
    words = [literal(word) for word in label_words(task, lang)]
    if len(words) < 2:
        return "".join(words)
    if lang == "zh":
        return "、".join(words[:-1]) + joint + words[-1]
    return ", ".join(words[:-1]) + " or " + words[-1]


def choice_span(text: str, answer: str, lang: str) -> tuple[int, int] | None:
    """Where the text lists choices among which the worked answer is: `正面还是负面`, `sports, business or technology`."""
    clause, joint = _CLAUSE["zh" if lang == "zh" else "en"], _JOINT["zh" if lang == "zh" else "en"]
    if not answer or len(answer) > 30:
        return None
    for found in clause.finditer(text):
        cuts = [(gap.start(), gap.end()) for gap in joint.finditer(text, found.start(), found.end())]
        starts, ends = [found.start(), *(end for _, end in cuts)], [*(start for start, _ in cuts), found.end()]
        if len(starts) < 2:
            continue
        starts[0] += _lead(text[starts[0] : ends[0]], lang)
        ends[-1] -= _tail(text[starts[-1] : ends[-1]], lang)
        items = [text[start:end].strip(" “”\"'") for start, end in zip(starts, ends, strict=True)]
        if answer.lower() in (re.sub("^an? ", "", item.lower()) for item in items) and all(
            len(item) <= 30 for item in items
        ):
            return starts[0], ends[-1]
    return None


_CLAUSE = {"zh": re.compile(r"[^，。；：？?!,.;:！（）()]+"), "en": re.compile(r"[^.?!:;()]+")}
_JOINT = {"zh": re.compile(r"、|或者|或|还是"), "en": re.compile(r", or |, | or ")}


def _lead(first: str, lang: str) -> int:
    """How much of the first item is not yet the item: `情感是` in `情感是正面`, `Reply` in `Reply entailment`."""
    quote = max(first.rfind(mark) for mark in "“\"'")
    if quote >= 0 and not first.endswith(("”", '"', "'")):
        return 0
    if quote >= 0:
        return first.find("“") if "“" in first else first.find(first[-1])
    if lang == "zh":
        verb = re.match(r".*(?:是|为|归入|归为|属于|回答|答|选择|选出|从|在)", first)
        return verb.end() if verb and verb.end() < len(first) else 0
    article = re.search(r"\ban? \S+$", first)
    return article.start() if article else first.rfind(" ") + 1


def _tail(last: str, lang: str) -> int:
    """How much of the last item is no longer the item: `之一`, ` given the first`."""
    found = re.search(r"(?:之一|中的|里的|作答|等).*$" if lang == "zh" else r"(?: given| from| for)\b.*$| $", last)
    return len(last) - found.start() if found and found.start() else 0
