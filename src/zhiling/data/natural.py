"""Natural Instructions (v1 and v2): a task per row, with its definition, examples and instances; and Self-Instruct's seed tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from zhiling.data.files import Row
from zhiling.data.samples import Sample, Unsayable
from zhiling.data.source import text_of
from zhiling.errors import say


def instances(task: Mapping[str, Any]) -> Iterator[Sample]:
    """A task's instances: the definition as instruction, the first of the outputs as output.

    `more` holds the instance's other keys, all its `outputs` where there are several, the name of the `task`, and as `about` the
    task itself without its instances (one object, shared). Raises Unsayable for what is no task.
    """
    listed = task.get("Instances")
    if not isinstance(listed, list) or not listed or not all(isinstance(item, Mapping) for item in listed):
        raise Unsayable(say("no Instances", "没有 Instances"))
    about = {key: value for key, value in task.items() if key != "Instances"}
    given = task.get("Definition", "")
    definition = "\n".join(map(str, given)) if isinstance(given, list) else text_of(given)
    for item in listed:
        output = item.get("output", "")
        several = isinstance(output, list)
        more = {key: value for key, value in item.items() if key not in ("input", "output", *_OWN)}
        more["task"] = text_of(task.get("task"))
        if not (several and len(output) == 1):
            more["outputs"] = output
        yield Sample(
            instruction=definition,
            input=text_of(item.get("input", "")),
            output=text_of(output[0] if several and output else "" if several else output),
            system=text_of(item.get("system")),
            history=tuple(item.get("history") or ()),
            more={**more, "about": about},
        )


_OWN = ("system", "history")


def tasks(given: Iterable[Sample]) -> Iterator[dict[str, Any]]:
    """Samples as tasks: consecutive ones of one task with one definition together. Raises Unsayable for preferences.

    An instance's system prompt and earlier turns, which the format has no place for, are kept under keys of their own.
    """
    held: dict[str, Any] = {}
    key: tuple[str, str] | None = None
    source: Any = None
    for sample in given:
        if sample.rejected is not None or sample.label is not None:
            raise Unsayable(say("a preference, which only dpo or kto can hold", "含有偏好信息，只有 dpo 或 kto 能保存"))
        more = dict(sample.more)
        about = more.pop("about", None)
        name = more.pop("task", "")
        if (name, sample.instruction) != key or about is not source:
            if held:
                yield held
            key, source = (name, sample.instruction), about
            held = {**about} if about is not None else {"task": name, "Definition": [sample.instruction]}
            held["Instances"] = []
        held["Instances"].append(_instance(sample, more))
    if held:
        yield held


def _instance(sample: Sample, more: dict[str, Any]) -> dict[str, Any]:
    output = more.pop("outputs", [sample.output])
    item = {**more, "input": sample.input, "output": output}
    if sample.system:
        item["system"] = sample.system
    if sample.history:
        item["history"] = [dict(turn) for turn in sample.history]
    return item


def seed_rows(given: Iterable[Row]) -> Iterator[Row]:
    """Self-Instruct and BELLE seed tasks as {id, name, instruction, input, output}, from the first instance."""
    for line, row in given:
        if isinstance(row, str):
            yield line, row
            continue
        listed = row.get("instances") or [{}]
        first = listed[0] if isinstance(listed, list) and isinstance(listed[0], Mapping) else {}
        yield (
            line,
            {
                **{key: row.get(key, "") for key in ("id", "name", "instruction")},
                "input": first.get("input", ""),
                "output": first.get("output", ""),
            },
        )
