"""The formats of instruction data, each in both directions: what its rows say as Samples, and Samples as its rows.

alpaca, sharegpt and messages (supervised), dpo and kto (preferences) as LLaMA-Factory, TRL and OpenAI publish and read them. Written
and read again a Sample is the same, but for the border between `instruction` and `input`, which chat formats do not draw: they hold
the question as a model sees it. Natural Instructions are in `natural`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from zhiling.data.files import Row
from zhiling.data.natural import instances, seed_rows
from zhiling.data.samples import Message, Sample, Unsayable, from_question, from_turns, pairs
from zhiling.data.source import text_of
from zhiling.data.vertex import read_vertex, write_vertex
from zhiling.errors import DataError, say


@dataclass(frozen=True, slots=True)
class Format:
    """How a format says one row. Both raise Unsayable, saying why."""

    read: Callable[[Mapping[str, Any]], Sample]
    write: Callable[[Sample], dict[str, Any]]


_NAMES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bing": "assistant", "bard": "assistant", "system": "system",
}  # fmt: skip
_FROM = {"user": "human", "assistant": "gpt"}


def _read_alpaca(row: Mapping[str, Any]) -> Sample:
    if not isinstance(row.get("instruction"), str | int | float):
        raise Unsayable(say("no instruction", "缺少 instruction"))
    known = {"instruction", "input", "output", "system", "history"}
    return Sample(
        instruction=text_of(row["instruction"]),
        input=text_of(row.get("input")),
        output=text_of(row.get("output")),
        system=text_of(row.get("system")),
        history=_unpaired(row.get("history")),
        more={key: value for key, value in row.items() if key not in known},
    )


def _unpaired(history: Any) -> tuple[Message, ...]:
    turns: list[Message] = []
    for pair in history or ():
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise Unsayable(say("a history that is not made of pairs of texts", "history 不是由成对的文本组成"))
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return tuple(turns)


def _write_alpaca(sample: Sample) -> dict[str, Any]:
    _unpreferred(sample)
    out: dict[str, Any] = {"instruction": sample.instruction, "input": sample.input, "output": sample.output}
    if sample.system:
        out["system"] = sample.system
    if sample.history:
        out["history"] = pairs(sample.history)
    return {**sample.more, **out}


def _read_sharegpt(row: Mapping[str, Any]) -> Sample:
    turns = _turns(row, "conversations")
    return from_turns(turns, system=text_of(row.get("system")), more=_rest(row, "conversations", "system"))


def _write_sharegpt(sample: Sample) -> dict[str, Any]:
    _unpreferred(sample)
    return {**sample.more, "conversations": [_named(turn) for turn in sample.turns()]}


def _read_messages(row: Mapping[str, Any]) -> Sample:
    return from_turns(_turns(row, "messages"), more=_rest(row, "messages"))


def _write_messages(sample: Sample) -> dict[str, Any]:
    _unpreferred(sample)
    return {**sample.more, "messages": [dict(turn) for turn in sample.turns()]}


def _read_dpo(row: Mapping[str, Any]) -> Sample:
    """Conversations or prompt messages with a better and a worse answer, or alpaca rows that carry both."""
    if "chosen" not in row or "rejected" not in row:
        raise Unsayable(say("no chosen or no rejected answer", "缺少 chosen 或 rejected"))
    better, worse = row["chosen"], row["rejected"]
    if "instruction" in row:
        base = _read_alpaca({key: value for key, value in row.items() if key not in ("chosen", "rejected", "output")})
        return replace(base, output=_answer(better), rejected=_answer(worse))
    for key in ("conversations", "messages", "prompt"):
        if key in row:
            asked = _asked(row, key)
            more = _rest(row, key, "chosen", "rejected", "system")
            said = {"output": _answer(better), "rejected": _answer(worse), "system": text_of(row.get("system"))}
            return from_question(asked, more=more, **said)
    if isinstance(better, list) and isinstance(worse, list) and better[:-1] == worse[:-1]:  # the prompt in both
        first = _read_messages({"messages": better, **_rest(row, "chosen", "rejected")})
        return replace(first, rejected=_answer(worse[-1:]))
    raise Unsayable(say("no prompt to the two answers", "两个回答没有对应的提问"))


def _write_dpo(sample: Sample) -> dict[str, Any]:
    if sample.rejected is None:
        raise Unsayable(say("no rejected answer", "没有被拒绝的回答"))
    both = {
        key: {"from": "gpt", "value": said} for key, said in (("chosen", sample.output), ("rejected", sample.rejected))
    }
    return {**sample.more, "conversations": [_named(turn) for turn in sample.question()], **both}


def _read_kto(row: Mapping[str, Any]) -> Sample:
    """A conversation, a prompt with its completion, or an alpaca row, with whether the answer was liked."""
    key = next((name for name in ("label", "kto_tag") if name in row), "")
    label = {"true": True, "false": False, "1": True, "0": False}.get(text_of(row.get(key)).lower())
    if label is None:
        raise Unsayable(say("no label that is true or false", "没有取值为 true 或 false 的 label"))
    rest = _rest(row, key)
    if "instruction" in row:
        return replace(_read_alpaca(rest), label=label)
    if "completion" in row:
        more = _rest(rest, "prompt", "completion")
        return from_question(_asked(row, "prompt"), output=_answer(row["completion"]), label=label, more=more)
    base = _read_sharegpt(rest) if "conversations" in row else _read_messages(rest)
    return replace(base, label=label)


def _write_kto(sample: Sample) -> dict[str, Any]:
    if sample.label is None:
        raise Unsayable(say("nothing says whether the answer was liked", "没有标明回答是否被认可"))
    return {**sample.more, "messages": [dict(turn) for turn in sample.turns()], "label": sample.label}


FORMATS: dict[str, Format] = {
    "alpaca": Format(_read_alpaca, _write_alpaca),
    "sharegpt": Format(_read_sharegpt, _write_sharegpt),
    "messages": Format(_read_messages, _write_messages),
    "dpo": Format(_read_dpo, _write_dpo),
    "kto": Format(_read_kto, _write_kto),
    "vertex": Format(read_vertex, write_vertex),
}


_KEYS = {
    "messages": "messages",
    "conversations": "sharegpt",
    "contents": "vertex",
    "Instances": "natural_instructions",
    "instruction": "alpaca",
}


def guess(row: Mapping[str, Any]) -> str:
    """The format of a row by its keys. Raises DataError, naming the keys, where none is known by them."""
    keys = set(row)
    if {"chosen", "rejected"} <= keys:
        return "dpo"
    if "kto_tag" in keys or ("label" in keys and keys & {"messages", "conversations", "completion"}):
        return "kto"
    for key, form in _KEYS.items():
        if key in keys:
            return form
    there = ", ".join(map(str, row))
    raise DataError(
        say(f"not a known format; the rows have: {there}", f"无法识别格式；数据行的键为：{there}"),
        mend=say("name it with --from", "请用 --from 指明"),
    )


def samples(form: str, given: Iterable[Row]) -> Iterator[tuple[int, Sample | str]]:
    """The rows as Samples of a format (any but self_instruct), or why they are none."""
    for line, row in given:
        if isinstance(row, str):
            yield line, row
            continue
        try:
            if form == "natural_instructions":
                yield from ((line, sample) for sample in instances(row))
            else:
                yield line, FORMATS[form].read(row)
        except Unsayable as why:
            yield line, str(why)


def rows(form: str, given: Iterable[Row]) -> Iterator[Row]:
    """The rows as fields for a task: instruction, input, output, system, history (JSON), and `chosen`/`rejected` or `label`.

    Natural Instructions give a row per instance: task, definition, input, output and, where there are several, outputs (JSON).
    """
    if form == "self_instruct":
        yield from seed_rows(given)
        return
    for line, sample in samples(form, given):
        yield line, sample if isinstance(sample, str) else _fields(form, sample)


def _fields(form: str, sample: Sample) -> dict[str, Any]:
    if form == "natural_instructions":
        return {key: value for key, value in sample.more.items() if key != "about"} | {
            "definition": sample.instruction, "input": sample.input, "output": sample.output,
        }  # fmt: skip
    said: dict[str, Any] = {key: getattr(sample, key) for key in ("instruction", "input", "output", "system")}
    said["history"] = json.dumps(list(sample.history), ensure_ascii=False) if sample.history else ""
    if sample.rejected is not None:
        said |= {"chosen": sample.output, "rejected": sample.rejected}
    if sample.label is not None:
        said["label"] = sample.label
    return {**sample.more, **said}


def _turns(row: Mapping[str, Any], key: str) -> list[Message]:
    listed = row.get(key)
    if not isinstance(listed, list) or not all(isinstance(turn, Mapping) for turn in listed):
        raise Unsayable(say(f"no list of turns under '{key}'", f"“{key}”下没有对话列表"))
    return [_message(turn) for turn in listed]


def _message(turn: Mapping[str, Any]) -> Message:
    if "from" not in turn:
        return {key: value for key, value in turn.items() if value is not None}
    role = _NAMES.get(str(turn["from"]), turn["from"])
    return {"role": role, "content": turn.get("value"), **_rest(turn, "from", "value")}


def _named(turn: Message) -> dict[str, Any]:
    return {"from": _FROM.get(turn["role"], turn["role"]), "value": turn["content"], **_rest(turn, "role", "content")}


def _asked(row: Mapping[str, Any], key: str) -> list[Message]:
    asked = row[key]
    turns: list[Message] = [{"role": "user", "content": asked}] if isinstance(asked, str) else _turns(row, key)
    if not all(isinstance(turn.get("content"), str) and isinstance(turn.get("role"), str) for turn in turns):
        raise Unsayable(say("a turn whose role or content is not text", "对话中有一轮的角色或内容不是文本"))
    return turns


def _answer(given: Any) -> str:
    """An answer as text, as a turn, or as a list of one turn."""
    turn = given[0] if isinstance(given, list) and len(given) == 1 else given
    said = turn
    if isinstance(turn, Mapping):
        message = _message(turn)
        said = message.get("content")
        if message.get("role") != "assistant" or set(message) != {"role", "content"}:
            raise Unsayable(say("an answer with more than an assistant's text", "回答不只是助手的文本"))
    if not isinstance(said, str):
        raise Unsayable(say("an answer that is not text", "回答不是文本"))
    return said


def _rest(row: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in known}


def _unpreferred(sample: Sample) -> None:
    if sample.rejected is not None or sample.label is not None:
        raise Unsayable(say("a preference, which only dpo or kto can hold", "含有偏好信息，只有 dpo 或 kto 能保存"))
