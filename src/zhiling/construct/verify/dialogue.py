"""Whether a conversation is one: roles by turns, nobody silent or repeating, and turns that go into what was said before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from annotated_types import Ge

from zhiling.errors import say
from zhiling.registry import verifier
from zhiling.text import cut, lang, normalise, tokens
from zhiling.types import Example, Score, Turn

_speaker = re.compile(
    r"^\s*(?:\*\*)?(user|human|customer|client|guest|student|q|assistant|ai|bot|agent|support|teacher|a|用户|顾客|客户|学生|问|助手|助理|客服|老师|答)"
    r"(?:\*\*)?\s*[:：](?:\*\*)?\s*",
    re.IGNORECASE | re.MULTILINE,
)
_USERS = frozenset(
    ("user", "human", "customer", "client", "guest", "student", "q", "用户", "顾客", "客户", "学生", "问")
)
_pointing = re.compile(
    r"\b(?:it|its|that|this|these|those|they|them|he|she|him|her|one|ones|there|then|instead|again|why|which|what about"
    r"|how about)\b"
    r"|[它他她这那其]|上面|刚才|之前|前面|为什么|为何|呢|还有|另外|再|也|同样|如果是",
    re.IGNORECASE,
)
_COMMON = """
the a an of to in on for and or is are was were be do does did i you we my your our me us can could would will it that this with at by from
have has had not no yes please what how thank thanks 的 了 是 在 我 你 有 和 就 不 人 都 一 吗 呢 吧 请 个 好 您 们 会 要 可 以 什 么 怎 样
"""
_common = frozenset(_COMMON.split())


@verifier(
    "dialogue", families=("dialogue",), langs=("zh", "en"), paper="turn-taking (Sacks, Schegloff and Jefferson 1974)"
)
def dialogue(examples: Sequence[Example], *, turns: Annotated[int, Ge(2)] = 4) -> Iterator[Score]:
    """Users and assistant take turns, the user first, each says something and nothing twice, in one language, and turns refer back.

    A conversation is the row's history, prompt and answer; or a transcript ("User: ... Assistant: ...", 用户：… 助手：…) as its answer; or one
    as its input, with the answer as the last turn. Fewer than `turns` turns are 0.0. A turn refers back when it shares a word with earlier
    ones that is no mere grammar, points ("that", 它), answers a question, or asks back: every answer must, and after the first at least one
    turn of the user's. That is a floor: an answer that strays and says "that" is not found.
    """
    for row in examples:
        said = conversation(row)
        fault = judged(said, turns)
        yield Score(row.id, "dialogue", float(not fault), fault or say(f"{len(said)} turns", f"{len(said)} 轮"))


def conversation(row: Example) -> list[Turn]:
    """The turns of a row, without a system turn."""
    if not row.history and len(_speaker.findall(row.output)) > 1:
        return _transcript(row.output)
    if not row.history and len(_speaker.findall(row.input)) > 1:
        return [*_transcript(row.input), ("assistant", row.output)]
    turns = [*row.history, ("user", row.prompt), ("assistant", row.output)]
    return [(role, text) for role, text in turns if role != "system"]


def _transcript(text: str) -> list[Turn]:
    parts = _speaker.split(text)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [("user" if name.lower() in _USERS else "assistant", said.strip()) for name, said in pairs]


def judged(said: Sequence[Turn], least: int) -> str:
    """What is wrong with a conversation; "" where nothing is."""
    if len(said) < least:
        return say(f"{len(said)} turns, {least} are the least", f"只有 {len(said)} 轮，至少 {least} 轮")
    for at, (role, text) in enumerate(said):
        if role != ("user", "assistant")[at % 2]:
            return say(f"turn {at + 1} is {role}'s", f"第 {at + 1} 轮不应是 {role}")
        if not text.strip():
            return say(f"turn {at + 1} is empty", f"第 {at + 1} 轮为空")
    if len(said) % 2:
        return say("the last word is not the assistant's", "最后一轮不是助手的回答")
    seen: dict[str, int] = {}
    for at, (_, text) in enumerate(said, 1):
        first = seen.setdefault(normalise(text), at)
        if first != at and len(tokens(text)) > 3:
            return say(f"turn {at} repeats turn {first}", f"第 {at} 轮重复第 {first} 轮")
    spoken = [lang(text) for _, text in said]
    if len({code for code in spoken if code}) > 1:
        return say(
            f"several languages: {', '.join(sorted(set(spoken)))}", f"混用语言：{'、'.join(sorted(set(spoken)))}"
        )
    return _apart(said)


def _apart(said: Sequence[Turn]) -> str:
    """Where a conversation falls apart: an answer or all questions that have nothing to do with what was said before."""
    known: set[str] = set()
    back = 0
    for at, (role, text) in enumerate(said):
        words = {token[:5] for token in tokens(text) if token not in _common}  # "clean" and "cleaned" are one word
        points = _pointing.search(text) is not None or len(tokens(text)) < 4
        # What follows a question is its answer, whatever its words; and an assistant may ask what is meant.
        asks = re.search(r"[?？]", said[at - 1][1] if role == "user" else text) is not None
        refers = at > 0 and (bool(words & known) or points or asks)
        if role == "assistant" and not refers:
            where, shown = at + 1, cut(text, 60)
            return say(f"turn {where} does not take up what was said: {shown}", f"第 {where} 轮与前文无关：{shown}")
        back += role == "user" and refers
        known |= words
    if len(said) > 2 and not back:
        return say("no question after the first goes into what was said", "首轮之后的提问都与前文无关")
    return ""
