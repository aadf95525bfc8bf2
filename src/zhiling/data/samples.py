"""A `Sample` is one training row whatever format it came in: the neutral row that reading, exporting and converting share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zhiling.errors import say

Message: TypeAlias = Mapping[str, Any]
"""A turn: {"role", "content"}, and whatever else the file says of it."""


class Unsayable(ValueError):
    """A row that a format cannot hold, or that is not in the format it is said to be in; the text says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One training row. `history` are the turns before the last question; a row without a question has an empty instruction.

    `rejected` is the worse answer of a preference pair (`output` being the better), `label` whether an answer was liked (KTO).
    `more` holds the row's other keys as they are.
    """

    instruction: str = ""
    input: str = ""
    output: str = ""
    system: str = ""
    history: tuple[Message, ...] = ()
    rejected: str | None = None
    label: bool | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """What the last question says, as `Example.prompt`."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    def question(self) -> list[Message]:
        """The turns up to the answer."""
        turns: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        turns += self.history
        return [*turns, {"role": "user", "content": self.prompt}] if self.prompt else turns

    def turns(self) -> list[Message]:
        """The whole conversation."""
        return [*self.question(), {"role": "assistant", "content": self.output}]


def from_turns(turns: Sequence[Message], **more: Any) -> Sample:
    """The Sample of a conversation that ends with an answer. Raises Unsayable for one that does not, or whose turns are not text."""
    for turn in turns:
        if not isinstance(turn.get("content"), str) or not isinstance(turn.get("role"), str):
            raise Unsayable(say("a turn whose role or content is not text", "对话中有一轮的角色或内容不是文本"))
    if not turns or turns[-1]["role"] != "assistant":
        raise Unsayable(say("the conversation does not end with an answer", "对话没有以回答结尾"))
    *asked, answer = turns
    return from_question(asked, output=_bare(answer), **more)


def from_question(asked: Sequence[Message], **more: Any) -> Sample:
    """The Sample whose turns up to the answer are these."""
    turns = list(asked)
    system = ""
    if turns and turns[0]["role"] == "system" and turns[0]["content"]:
        system = _bare(turns.pop(0))
    if more.get("system"):
        if system:
            raise Unsayable(say("two system prompts", "有两条系统提示"))
        system = str(more["system"])
    instruction = ""
    if turns and turns[-1]["role"] == "user" and turns[-1]["content"]:
        instruction = _bare(turns.pop())
    return Sample(instruction=instruction, history=tuple(turns), **{**more, "system": system})


def _bare(turn: Message) -> str:
    """The content of a turn that says nothing besides."""
    extra = sorted(set(turn) - {"role", "content"})
    if extra:
        names = ", ".join(extra)
        raise Unsayable(say(f"a turn with more than text: {names}", f"对话中有一轮含有文本以外的内容：{names}"))
    return str(turn["content"])


def pairs(history: Iterable[Message]) -> list[list[str]]:
    """The history as [question, answer] pairs. Raises Unsayable where it is not made of such."""
    turns = list(history)
    if [turn["role"] for turn in turns] != ["user", "assistant"] * (len(turns) // 2) or any(
        set(turn) != {"role", "content"} for turn in turns
    ):
        raise Unsayable(say("earlier turns that are not pairs of question and answer", "先前的对话不是一问一答"))
    said = [str(turn["content"]) for turn in turns]
    return [list(pair) for pair in zip(said[::2], said[1::2], strict=True)]
