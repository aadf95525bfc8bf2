"""What OpenAI's supervised tuning takes for a row: a conversation of messages that ends with the assistant's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from zhiling.errors import say
from zhiling.llm.tuning import Limits

KEYS = ("messages", "tools", "parallel_tool_calls", "functions")
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MESSAGE = frozenset({"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal"})
_TOKENS = {"gpt-4.1": 65_536, "gpt-4o": 65_536, "gpt-3.5-turbo": 16_385}
"""The longest training example by the beginning of a model's name; what is longer is cut there."""
SUFFIX = 64  # characters


def limits(model: str) -> Limits:
    """The rules for one model."""
    family = model.removeprefix("ft:")
    longest = max((name for name in _TOKENS if family.startswith(name)), key=len, default="")
    return Limits(
        least=10, tokens=_TOKENS.get(longest), size=512_000_000,
        source="OpenAI: supervised fine-tuning guide, files reference; Azure's model table for the tokens of an example", date="2026-11",
    )  # fmt: skip


def wrong(row: Mapping[str, Any]) -> str:
    """Why the row would not be taken; "" where nothing is wrong with it."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return say("no list of messages", "没有 messages 列表")
    for at, message in enumerate(messages, 1):
        if why := _wrong_message(message):
            return say(f"message {at}: {why}", f"第 {at} 条消息：{why}")
    if messages[-1]["role"] != "assistant":
        last = messages[-1]["role"]
        return say(
            f"the last message is of '{last}', not of the assistant", f"最后一条消息来自“{last}”，而不是 assistant"
        )
    if not any(message["role"] == "assistant" and message.get("weight") != 0 for message in messages):
        return say("every assistant message has weight 0", "所有 assistant 消息的 weight 都是 0")
    return ""


def _wrong_message(message: Any) -> str:
    if not isinstance(message, Mapping):
        return say("not a mapping", "不是键值映射")
    if unknown := sorted(set(message) - _MESSAGE):
        return say(f"unknown key '{unknown[0]}'", f"未知的键“{unknown[0]}”")
    role = message.get("role")
    if role not in _ROLES:
        return say(f"unknown role {role!r}", f"未知的角色 {role!r}")
    if "weight" in message:
        if role != "assistant":
            return say("weight belongs to assistant messages only", "weight 只能用于 assistant 消息")
        if message["weight"] not in (0, 1) or isinstance(message["weight"], bool | float):
            return say(
                f"weight must be 0 or 1, not {message['weight']!r}",
                f"weight 只能是 0 或 1，不能是 {message['weight']!r}",
            )
    content = message.get("content")
    if role == "assistant" and content is None and (message.get("tool_calls") or message.get("function_call")):
        return ""
    if isinstance(content, str):
        return "" if content.strip() else say("empty content", "content 为空")
    if isinstance(content, list) and content and all(isinstance(part, Mapping) and "type" in part for part in content):
        return ""
    return say("content is neither text nor a list of parts", "content 既不是文本也不是部件列表")


def texts(row: Mapping[str, Any]) -> Iterator[str]:
    """The texts of the messages and, as JSON, of the tools."""
    for message in row.get("messages") or ():
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            yield from (str(part["text"]) for part in content if isinstance(part, Mapping) and "text" in part)
        for key in ("tool_calls", "function_call"):
            if message.get(key):
                yield json.dumps(message[key], ensure_ascii=False)
    for key in ("tools", "functions"):
        if row.get(key):
            yield json.dumps(row[key], ensure_ascii=False)


def wrong_suffix(suffix: str) -> str:
    """Why the suffix would not be taken."""
    if len(suffix) > SUFFIX:
        return say(f"at most {SUFFIX} characters", f"最多 {SUFFIX} 个字符")
    if not re.fullmatch(r"[\w\-. ]*", suffix, re.ASCII):
        return say("letters, digits, '-', '_', '.' and spaces only", "只能包含英文字母、数字、“-”“_”“.”和空格")
    return ""
