"""Rows as Vertex AI tunes Gemini models on them: `contents` of user and model turns made of parts, and a `systemInstruction`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zhiling.data.samples import Message, Sample, Unsayable, from_turns
from zhiling.errors import say

_ROLES = {"user": "user", "assistant": "model"}


def read_vertex(row: Mapping[str, Any]) -> Sample:
    """The Sample of a row. Raises Unsayable for parts that are not text."""
    contents = row.get("contents")
    if not isinstance(contents, list) or not all(isinstance(turn, Mapping) for turn in contents):
        raise Unsayable(say("no list of turns under 'contents'", "“contents”下没有对话列表"))
    names = {said: ours for ours, said in _ROLES.items()}
    turns: list[Message] = [
        {"role": names.get(str(turn.get("role", "user")), turn.get("role")), "content": _text(turn)}
        for turn in contents
    ]
    system = row.get("systemInstruction")
    if system is not None and not isinstance(system, Mapping):
        raise Unsayable(say("a systemInstruction that is not made of parts", "systemInstruction 不是由 parts 组成"))
    more = {key: value for key, value in row.items() if key not in ("contents", "systemInstruction")}
    return from_turns(turns, system=_text(system) if system else "", more=more)


def _text(turn: Mapping[str, Any]) -> str:
    parts = turn.get("parts")
    if not isinstance(parts, list) or not parts:
        raise Unsayable(say("a turn without parts", "对话中有一轮没有 parts"))
    said = []
    for part in parts:
        if not isinstance(part, Mapping) or set(part) != {"text"} or not isinstance(part["text"], str):
            raise Unsayable(say("a part that is not text", "含有不是文本的 part"))
        said.append(part["text"])
    return "".join(said)


def write_vertex(sample: Sample) -> dict[str, Any]:
    """The row of a Sample. Raises Unsayable for a preference, for a turn of another role, and where no question comes first."""
    if sample.rejected is not None or sample.label is not None:
        raise Unsayable(say("a preference, which only dpo or kto can hold", "含有偏好信息，只有 dpo 或 kto 能保存"))
    turns = [turn for turn in sample.turns() if not (turn["role"] == "system" and turn["content"] == sample.system)]
    if any(turn["role"] not in _ROLES or set(turn) != {"role", "content"} for turn in turns):
        raise Unsayable(
            say("a turn that is neither a user's nor a model's text", "对话中有一轮既不是用户文本也不是模型文本")
        )
    if turns[0]["role"] != "user":
        raise Unsayable(say("a conversation that no question begins", "对话不以提问开头"))
    contents = [{"role": _ROLES[turn["role"]], "parts": [{"text": turn["content"]}]} for turn in turns]
    system = {"systemInstruction": {"role": "system", "parts": [{"text": sample.system}]}} if sample.system else {}
    return {**sample.more, **system, "contents": contents}
