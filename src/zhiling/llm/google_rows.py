"""What supervised tuning on Vertex AI takes for a row: `contents` of user and model turns by turns, ending with the model's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from zhiling.errors import say
from zhiling.llm.tuning import Limits

KEYS = ("systemInstruction", "contents", "tools", "toolConfig")
_PARTS = frozenset({"text", "fileData", "functionCall", "functionResponse", "thought", "thoughtSignature"})
_TOLD = frozenset({"text", "fileData", "functionCall", "functionResponse"})
LIMITS = Limits(
    most=10_000_000, tokens=131_072, size=1_000_000_000, validation=5_000, few=1_000, share=0.3,
    source="Google Cloud: about supervised fine-tuning for Gemini models", date="2026-11",
)  # fmt: skip
ADAPTERS = {1: "ONE", 2: "TWO", 4: "FOUR", 8: "EIGHT", 16: "SIXTEEN"}


def wrong(row: Mapping[str, Any]) -> str:
    """Why the row would not be taken; "" where nothing is wrong with it."""
    contents = row.get("contents")
    if not isinstance(contents, list) or not contents:
        return say("no list of contents", "没有 contents 列表")
    system = row.get("systemInstruction")
    if system is not None and (not isinstance(system, Mapping) or (why := _wrong_parts(system))):
        return say("systemInstruction: ", "systemInstruction：") + (
            why if isinstance(system, Mapping) else say("not a mapping", "不是键值映射")
        )
    before = "model"
    for at, turn in enumerate(contents, 1):
        if why := _wrong_turn(turn, before):
            return say(f"turn {at}: {why}", f"第 {at} 轮：{why}")
        before = "user" if _is_user(turn) else "model"
    return "" if before == "model" else say("the last turn is not the model's", "最后一轮不是 model 的回答")


def _is_user(turn: Mapping[str, Any]) -> bool:
    return bool(turn.get("role", "user") in ("user", "function"))


def _wrong_turn(turn: Any, before: str) -> str:
    if not isinstance(turn, Mapping):
        return say("not a mapping", "不是键值映射")
    role = turn.get("role", "user")
    if role not in ("user", "model", "function"):
        return say(f"unknown role {role!r} (user or model)", f"未知的角色 {role!r}（应为 user 或 model）")
    if before == ("user" if _is_user(turn) else "model"):
        return say("user and model must take turns, the user first", "user 与 model 必须交替出现，且以 user 开头")
    return _wrong_parts(turn)


def _wrong_parts(turn: Mapping[str, Any]) -> str:
    parts = turn.get("parts")
    if not isinstance(parts, list) or not parts:
        return say("no list of parts", "没有 parts 列表")
    for part in parts:
        if not isinstance(part, Mapping) or set(part) - _PARTS or not set(part) & _TOLD:
            return say(
                "a part that is neither text nor a file nor a function's", "part 既不是文本、文件，也不是函数调用"
            )
        if "text" in part and not (isinstance(part["text"], str) and part["text"].strip()):
            return say("an empty text", "文本为空")
    return ""


def texts(row: Mapping[str, Any]) -> Iterator[str]:
    """The texts of all parts, and what else counts as JSON."""
    turns = [row["systemInstruction"]] if isinstance(row.get("systemInstruction"), Mapping) else []
    for turn in [*turns, *(row.get("contents") or ())]:
        for part in turn.get("parts") or ():
            yield str(part["text"]) if "text" in part else json.dumps(part, ensure_ascii=False)
    if row.get("tools"):
        yield json.dumps(row["tools"], ensure_ascii=False)
