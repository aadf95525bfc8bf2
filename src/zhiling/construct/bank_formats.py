"""Rows of other houses as rows of a bank: alpaca, BELLE, ShareGPT, messages, Natural Instructions, Self-Instruct, promptsource.

A format is told from a row's keys. What a file says of a row's licence and source goes with the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from zhiling.errors import DataError, say

Given: TypeAlias = Mapping[str, Any]
_CARRIED = ("id", "task", "family", "lang", "source", "licence", "quality")


def recognise(row: Given, where: str = "") -> str:
    """The name of the format that a row is in. Raises DataError, with the keys found and those known, when it is in none."""
    for name, (keys, _) in FORMATS.items():
        if all(row.get(key) is not None for key in keys):
            return name
    found = ", ".join(str(key) for key in row) or "-"
    known = "; ".join(f"{name} ({', '.join(keys)})" for name, (keys, _) in FORMATS.items())
    what = say(f"cannot tell the format from the keys {found}", f"无法从这些键判断格式：{found}")
    raise DataError(what, where=where, mend=say(f"known: {known}", f"支持：{known}"))


def converted(row: Given, form: str) -> dict[str, Any]:
    """The row as a bank takes it. A field of the wrong kind stays as it is, for the bank to refuse with the reason."""
    made = FORMATS[form][1](row)
    carried = {name: row[name] for name in _CARRIED if row.get(name) is not None}
    if isinstance(row.get("license"), str):
        carried.setdefault("licence", row["license"])
    if isinstance(carried.get("id"), int):
        carried["id"] = str(carried["id"])
    return {**carried, **{name: value for name, value in made.items() if value is not None}}


def _alpaca(row: Given) -> Given:
    return {name: row.get(name) for name in ("instruction", "input", "output")}


def _self_instruct(row: Given) -> Given:
    first = (row["instances"] or [{}])[0] if isinstance(row["instances"], list) else {}
    return {"instruction": row["instruction"], "input": _of(first, "input"), "output": _of(first, "output")}


def _sharegpt(row: Given) -> Given:
    return _exchange(row["conversations"], "from", "value", ("human", "user"), ("gpt", "assistant"))


def _messages(row: Given) -> Given:
    return _exchange(row["messages"], "role", "content", ("user",), ("assistant",))


def _exchange(turns: Any, who: str, what: str, asks: tuple[str, ...], answers: tuple[str, ...]) -> Given:
    """The first question and the answer that follows it."""
    asked, answer = None, None
    for turn in turns if isinstance(turns, list) else []:
        if asked is None and _of(turn, who) in asks:
            asked = _of(turn, what)
        elif asked is not None and _of(turn, who) in answers:
            answer = _of(turn, what)
            break
    return {"instruction": asked, "output": answer}


def _promptsource(row: Given) -> Given:
    return {"instruction": row["prompt"], "output": row["completion"], "task": row["template"]}


def _natural_instructions_2(row: Given) -> Given:
    example = _first(row.get("Positive Examples")) or _first(row.get("Instances"))
    output = _of(example, "output")
    licence = [name for name in _listed(row.get("Instance License")) if name.strip() and name.strip() != "Unknown"]
    return {
        "instruction": "\n".join(_listed(row["Definition"])),
        "input": _of(example, "input"),
        "output": output[0] if isinstance(output, list) and output else output,
        "source": ", ".join(_listed(row.get("Source"))) or None,
        "licence": ", ".join(licence) or None,
    }


def _natural_instructions_1(row: Given) -> Given:
    shown = row.get("Examples")
    example = _first(shown.get("Positive Examples")) if isinstance(shown, Mapping) else _first(shown)
    return {
        "instruction": "\n".join(_listed(row["Definition"])),
        "input": _of(example, "input"),
        "output": _of(example, "output"),
        "task": row.get("task") or row["Title"],
    }


def _of(mapping: Any, key: str) -> Any:
    return mapping.get(key) if isinstance(mapping, Mapping) else None


def _first(items: Any) -> Any:
    return items[0] if isinstance(items, list) and items else None


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)] if value else []


FORMATS: dict[str, tuple[tuple[str, ...], Callable[[Given], Given]]] = {
    "natural instructions v1": (("Definition", "Title"), _natural_instructions_1),
    "natural instructions v2": (("Definition",), _natural_instructions_2),
    "self-instruct": (("instruction", "instances"), _self_instruct),
    "alpaca": (("instruction",), _alpaca),
    "sharegpt": (("conversations",), _sharegpt),
    "messages": (("messages",), _messages),
    "promptsource": (("prompt", "completion", "template"), _promptsource),
}
"""{name: (the keys that tell it, how a row becomes ours)}, the more particular before the more general."""
