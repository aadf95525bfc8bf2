"""Natural Instructions tasks, version 1 and 2, as definitions with demos, their instances as data, and a task of a recipe.

Mishra et al. 2022, "Cross-Task Generalization via Natural Language Crowdsourcing Instructions" (version 1); Wang et al. 2022,
"Super-NaturalInstructions" (version 2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zhiling.construct.importing.drafts import Draft, Skipped, slug
from zhiling.construct.sandbox import literal
from zhiling.errors import RecipeError, say
from zhiling.text import cut, lang

_DEMOS = 4
_LABELS = 12
_FAMILIES = (
    ("translation", r"translat"), ("summarisation", r"summar|title generation|headline"),
    ("qa", r"question answer|reading comp|answer gen|mcq"),
    ("nli", r"entailment|inference"), ("sql", r"text to sql|sql"), ("code", r"code|program"), ("dialogue", r"dialog|conversation"),
    ("poetry", r"poe(m|try)"), ("novel", r"story"), ("extraction", r"extract|named entity|tagging|coref"), ("arithmetic", r"math|arithm"),
    ("classification", r"classif|sentiment|detection|toxic|categor|verification|match|identif|answerab"), ("qa", r"question"),
)  # fmt: skip
_WORDS = {
    "avoid": ("Things to avoid: ", "应避免："), "caution": ("Keep in mind: ", "注意："),
    "wrong": ("A wrong answer, to learn from:", "错误示范："),
    "input": ("Input: ", "输入："), "output": ("Output: ", "输出："), "because": ("Why it is wrong: ", "错在："),
}  # fmt: skip


def kind_of(row: Mapping[str, Any]) -> str:
    """ "ni1", "ni2", or "" for what is no Natural Instructions task."""
    if "Definition" not in row:
        return ""
    if "Positive Examples" in row or isinstance(row["Definition"], list):
        return "ni2"
    return "ni1" if {"Title", "Prompt", "Examples", "Things to Avoid", "Emphasis & Caution"} & row.keys() else "ni2"


def read(rows: Sequence[tuple[str, Mapping[str, Any]]], kind: str = "") -> Iterator[Draft | Skipped]:
    """A definition per task; a task that cannot be one is Skipped, saying why. `rows` are (where, the task as JSON gives it)."""
    for where, row in rows:
        try:
            yield _draft(where, row, kind or kind_of(row))
        except RecipeError as error:
            yield Skipped(f"{where} {row.get('task', '')}".strip(), str(error))


def _draft(where: str, row: Mapping[str, Any], kind: str) -> Draft:
    if kind not in ("ni1", "ni2"):
        raise RecipeError(
            say("not a Natural Instructions task: no 'Definition'", "不是 Natural Instructions 任务：缺少 Definition"),
            mend=say("the file should be a task's JSON, or JSONL of tasks", "文件应为任务的 JSON，或任务的 JSONL"),
        )
    definition = _prose(row.get("Definition"))
    if not definition:
        raise RecipeError(say("the task's 'Definition' is empty", "任务的 Definition 为空"))
    good, bad = (_examples(row, one) for one in ("Positive Examples", "Negative Examples"))
    data = _instances(row)
    if not good and data:
        good = [{"input": one["input"], "output": one["output"]} for one in data[:_DEMOS]]
    if not good and not data:
        raise RecipeError(say("the task has neither examples nor instances", "任务既无示例也无实例"))
    spoken = "zh" if lang(definition) == "zh" else "en"
    name = slug(str(row.get("task") or where.rsplit("/", 1)[-1].split(".json")[0]))
    slots = {"input": "{{ input }}", "output": "{{ output }}"}
    family = _family(row, name)
    shown = [{"input": one["input"], "output": one["output"]} for one in good[:_DEMOS] if one["input"].strip()]
    made: dict[str, Any] = {
        "id": name, "family": family, "langs": [spoken], "description": {spoken: definition}, "fields": ["input", "output"],
        "target": "output", "defaults": {spoken: slots}, **({"examples": {spoken: shown}} if shown else {}),
        "phrasings": _phrasings(row, definition, bad, spoken),
    }  # fmt: skip
    lost = sum(not one["input"].strip() or not one["output"].strip() for one in data)
    what = say("instances without input or output: ", "缺少输入或输出的实例：") + str(lost)
    notes = [Skipped(name, what, kept=True)] if lost else []
    task = _task(made, good, data, definition) if data else None
    return Draft(made, f"Natural Instructions {name}", rows=data, task=task, notes=notes)


def _phrasings(row: Mapping[str, Any], definition: str, bad: list[dict[str, str]], spoken: str) -> list[dict[str, Any]]:
    """The task's own wordings: its prompt alone, its definition, and everything it says."""
    said = {key: text for key in ("Prompt", "Things to Avoid", "Emphasis & Caution") if (text := _prose(row.get(key)))}

    def word(key: str) -> str:
        return _WORDS[key][spoken == "zh"]

    extra = [word("avoid") + said["Things to Avoid"]] if "Things to Avoid" in said else []
    extra += [word("caution") + said["Emphasis & Caution"]] if "Emphasis & Caution" in said else []
    whole = "\n".join([definition, *extra, *([said["Prompt"]] if "Prompt" in said else [])])
    wordings = [("definition", "plain", definition)]
    wordings += [("prompt", "brief", said["Prompt"])] if "Prompt" in said else []
    wordings += [("full", "detailed", whole)] if extra else []
    if bad:
        wrong = bad[0]
        lines = [word("wrong"), word("input") + wrong["input"], word("output") + wrong["output"]]
        lines += [word("because") + wrong["explanation"]] if wrong["explanation"] else []
        wordings.append(("negative", "detailed", "\n".join([whole, "", *lines])))
    unique = {text: (name, register) for name, register, text in reversed(wordings)}
    return [
        {"id": name, "lang": spoken, "register": register, "instruction": literal(text)}
        for text, (name, register) in reversed(unique.items())
    ]


def _prose(value: Any) -> str:
    """A section's text; "" for what stands there instead of nothing ("-", "None")."""
    text = "\n".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return "" if text.strip().strip(".").casefold() in ("", "-", "none", "n/a") else text.strip()


def _examples(row: Mapping[str, Any], which: str) -> list[dict[str, str]]:
    """The examples of either version, as {input, output, explanation}."""
    given = row.get(which)
    if given is None and isinstance(row.get("Examples"), Mapping):
        given = row["Examples"].get(which)
    out = []
    for one in given if isinstance(given, list) else []:
        if isinstance(one, Mapping) and _first(one.get("output")).strip():
            why = _prose(one.get("explanation") or one.get("reason"))
            out.append({"input": str(one.get("input", "")), "output": _first(one["output"]), "explanation": why})
    return out


def _instances(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The instances as rows; where there are several references the first is `output`, and all stand in `references`."""
    rows = []
    for one in row.get("Instances") or []:
        if not isinstance(one, Mapping):
            continue
        output = one.get("output", "")
        made: dict[str, Any] = {"input": str(one.get("input", "")), "output": _first(output)}
        if isinstance(output, list) and len(output) > 1:
            made["references"] = json.dumps([str(item) for item in output], ensure_ascii=False)
        rows.append(made)
    named = any("references" in made for made in rows)
    return [{**made, "references": made.get("references", "")} for made in rows] if named else rows


def _first(output: Any) -> str:
    return str(output[0] if output else "") if isinstance(output, list) else str(output if output is not None else "")


def _family(row: Mapping[str, Any], name: str) -> str:
    named = row.get("Categories")
    said = " ".join(map(str, named)) if isinstance(named, list) else f"{row.get('Title', '')} {name.replace('_', ' ')}"
    return next((family for family, form in _FAMILIES if re.search(form, said.casefold())), "other")


def _task(
    made: Mapping[str, Any], good: list[dict[str, str]], data: list[dict[str, Any]], definition: str
) -> dict[str, Any]:
    answers = {str(row["output"]) for row in data}
    closed = 2 <= len(answers) <= _LABELS and len(data) >= 5 * len(answers) and max(map(len, answers)) <= 40
    by_family = {"translation": "chrf", "summarisation": "rouge_l", "qa": "f1"}
    task: dict[str, Any] = {
        "family": made["family"],
        "description": definition,
        "langs": made["langs"],
        "inputs": ["input"],
        "target": "output",
        "metric": "exact_match" if closed else by_family.get(made["family"], "rouge_l"),
        "demos": [{"input": one["input"], "output": one["output"]} for one in good[:_DEMOS]],
    }
    if closed:
        task["labels"] = sorted(answers)
    return task


def rows_of(text: str, file: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The JSON objects of a file, each with where it stands: one document, or one to a line.

    Raises RecipeError naming the line for what is neither.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return [_line(line, f"{file}:{number}") for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    listed = whole if isinstance(whole, list) else [whole]
    wrong = next((one for one in listed if not isinstance(one, Mapping)), None)
    if wrong is not None:
        raise RecipeError(
            say(f"not a JSON object: {cut(str(wrong), 40)}", f"不是 JSON 对象：{cut(str(wrong), 40)}"), where=file
        )
    return [(file if len(listed) == 1 else f"{file}[{i}]", one) for i, one in enumerate(listed)]


def _line(line: str, where: str) -> tuple[str, Mapping[str, Any]]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error) or "nested too deeply"
        raise RecipeError(
            say(f"broken JSON: {what}", f"JSON 有误：{what}"),
            where=where,
            mend=say("mend the line, or remove it", "请修复或删去该行"),
        ) from None
    if not isinstance(row, Mapping):
        raise RecipeError(say("not a JSON object", "不是 JSON 对象"), where=where)
    return where, row
