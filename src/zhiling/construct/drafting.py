"""Drafting a template definition from a few examples: a model words it, rendering and the linter prove it, rules stand in where it fails.

examples -> fields, target, labels -> wordings (model, by schema) -> render + lint -> repair once -> what is left, or the rules' draft
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zhiling import text
from zhiling.construct.importing.drafts import Draft, slug
from zhiling.construct.library import Definition
from zhiling.construct.library_check import check, rendered
from zhiling.construct.library_wording import states
from zhiling.construct.sandbox import literal
from zhiling.errors import DataError, ProviderError, say
from zhiling.llm.parse import json_value
from zhiling.types import Request, content_id

if TYPE_CHECKING:
    from zhiling.llm import Model

SHOWN = 4
"""How many examples the model sees, and the definition keeps."""
_TARGETS = ("output", "label", "answer", "target", "response", "completion", "输出", "标签", "答案", "回答", "译文")
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "description": {"type": "string"},
        "instructions": {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 3},
    },
    "required": ["description", "instructions"],
    "additionalProperties": False,
}
_ASK = {
    "en": "Here are examples of a task.{about}\n\n{examples}\n\nWrite one sentence that describes the task, and three different instructions "
    "(plain, formal, brief) that ask for the {target} of a new {inputs}. The data follow each instruction, so do not quote any. {choices}"
    'Reply with JSON: {{"description": "...", "instructions": ["...", "...", "..."]}}',
    "zh": "下面是一个任务的示例。{about}\n\n{examples}\n\n请用一句话描述这个任务，再写三条不同的指令（平实、正式、简短各一条），"
    "要求根据新的“{inputs}”给出“{target}”。"
    '数据会放在指令之后，指令中不要引用数据。{choices}用 JSON 回答：{{"description": "……", "instructions": ["……", "……", "……"]}}',
}
_REGISTERS = ("plain", "formal", "brief")


@dataclass(frozen=True, slots=True)
class Drafted:
    """A definition, whether a model's wordings are in it ("model", "repaired" or "rules"), and what went wrong on the way."""

    draft: Draft
    by: str
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Sketch:
    """What the rows themselves say of the task."""

    rows: list[dict[str, str]]
    inputs: list[str]
    target: str
    labels: list[str]
    lang: str
    describe: str
    notes: list[str] = field(default_factory=list)


async def draft(
    rows: Sequence[Mapping[str, Any]],
    *,
    describe: str = "",
    lang: str = "",
    target: str = "",
    name: str = "",
    model: Model | None,
) -> Drafted:
    """A definition for the task that the rows are examples of; `describe` says it in words, and serves alone without rows.

    The model (None: rules only) is asked once, and once more with the linter's words where its wordings are found wanting. Raises
    DataError for rows that share no fields.
    """
    sketch = _sketched(rows, describe, lang, target)
    found: tuple[str, list[str]] | None = None
    by = "rules"
    if model is not None:
        found = await _asked(model, sketch, "")
        faults = _faults(sketch, name, found)
        by = "model"
        if faults:
            again = await _asked(model, sketch, "\n".join(faults))
            kept = _sound(sketch, name, found) if found else []
            more = _sound(sketch, name, again) if again else []
            found = ((again or found or ("", []))[0], list(dict.fromkeys([*kept, *more]))[:3])
            by = "repaired"
            sketch.notes += faults[:3]
        if found is None or not found[1]:
            sketch.notes.append(
                say(
                    "no usable wording came from the model: this draft is the rules'",
                    "模型没有给出可用的措辞：本草稿由规则写成",
                )
            )
            found, by = None, "rules"
    made = _definition(sketch, name, *(found or _ruled(sketch)))
    unseen = _unproved(Draft(made, "").checked()) if sketch.rows else []
    sketch.notes += [say(f"does not render: {one}", f"无法渲染：{one}") for one in unseen]
    return Drafted(Draft(made, ""), by, tuple(sketch.notes))


def _sketched(rows: Sequence[Mapping[str, Any]], describe: str, lang: str, target: str) -> _Sketch:
    texts = [
        {
            str(key): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in row.items()
        }
        for row in rows
    ]
    names = [
        key
        for key in (texts[0] if texts else {})
        if key.isidentifier() and all(row.get(key, "").strip() for row in texts)
    ]
    if not texts and describe:
        names = ["input", "output"]
    if target and target not in names:
        raise DataError(
            say(f"no field '{target}' that every row has", f"并非每一行都有字段“{target}”"),
            where="--target",
            mend=say(f"there are: {', '.join(names) or '-'}", f"现有字段：{'、'.join(names) or '-'}"),
        )
    found = target or next((name for name in _TARGETS if name in names), names[-1] if names else "")
    inputs = [name for name in names if name != found]
    if found not in names or not inputs:
        raise DataError(
            say("the examples need an input and an answer that every row has", "示例的每一行都应有输入字段和答案字段"),
            where=say(f"fields: {', '.join(names) or '-'}", f"字段：{'、'.join(names) or '-'}"),
            mend=say("name the answer's field with --target", "用 --target 指明答案字段"),
        )
    answers = [row[found] for row in texts]
    closed = len(texts) >= 4 and 2 * len(set(answers)) <= len(texts) and max(map(len, answers)) <= 30
    sample = describe or " ".join(value for row in texts for value in row.values())
    spoken = lang or ("zh" if text.lang(sample) == "zh" else "en")
    kept = [{name: row[name] for name in names} for row in texts]
    return _Sketch(
        kept, inputs, found, sorted(set(answers)) if closed and len(set(answers)) > 1 else [], spoken, describe
    )


async def _asked(model: Model, sketch: _Sketch, faults: str) -> tuple[str, list[str]] | None:
    """The model's description and instructions; None for a reply that is none."""
    zh = sketch.lang == "zh"
    lines = [f"{name}: {text.cut(value, 300)}" for row in sketch.rows[:SHOWN] for name, value in row.items()]
    listed = "、".join(sketch.labels) if zh else ", ".join(sketch.labels)
    prompt = _ASK[sketch.lang].format(
        about=f"{'' if zh else ' '}{sketch.describe}" if sketch.describe else "",
        examples="\n".join(lines), target=sketch.target, inputs=("、" if zh else ", ").join(sketch.inputs),
        choices=(f"答案只能是：{listed}。" if zh else f"The only answers are: {listed}. ") if listed else "",
    )  # fmt: skip
    if faults:
        prompt += (
            "\n\n上一稿有这些问题，请避免：\n" if zh else "\n\nAn earlier draft had these faults; avoid them:\n"
        ) + faults
    request = Request(
        messages=(("user", prompt),), max_tokens=400, temperature=0.3, seed=7, schema=_SCHEMA, draw=int(bool(faults))
    )
    try:
        reply = await model.ask(request)
        value = json_value(reply.text).value
    except ProviderError as error:
        if error.kind in ("auth", "model", "quota", "network", "budget"):
            raise
        sketch.notes.append(str(error))
        return None
    except ValueError as error:
        sketch.notes.append(say(f"the reply is not what was asked for: {error}", f"回复不符合要求：{error}"))
        return None
    wordings = value.get("instructions") if isinstance(value, dict) else None
    if not isinstance(wordings, list):
        sketch.notes.append(say("the reply holds no instructions", "回复中没有指令"))
        return None
    listed_ = [one.strip() for one in wordings if isinstance(one, str) and one.strip()]
    return str(value.get("description") or "").strip(), list(dict.fromkeys(listed_))[:3]


def _faults(sketch: _Sketch, name: str, found: tuple[str, list[str]] | None) -> list[str]:
    """What is wrong with the model's wordings, in the words the linter has for it."""
    if found is None:
        return [say("the reply was not the JSON that was asked for", "回复不是所要求的 JSON")]
    out = [] if found[1] else [say("there was no instruction", "没有指令")]
    for wording in found[1]:
        out += [f"“{text.cut(wording, 60)}”: {why}" for why in _wrong(sketch, name, wording)]
    return out


def _sound(sketch: _Sketch, name: str, found: tuple[str, list[str]]) -> list[str]:
    return [wording for wording in found[1] if not _wrong(sketch, name, wording)]


def _wrong(sketch: _Sketch, name: str, wording: str) -> list[str]:
    """The linter's findings about one wording, and two that only a model's invite: data quoted, and too little said."""
    said = text.normalise(wording)
    values = {text.normalise(row[key]) for row in sketch.rows for key in sketch.inputs}
    if any(len(value) >= 8 and value in said for value in values):
        return [say("it quotes an example's data", "引用了示例中的数据")]
    if text.length(wording) < 3 or text.length(wording) > 200:
        return [say("too short or too long for an instruction", "作为指令过短或过长")]
    if states(wording):
        return [say("it states something and asks for nothing", "只是陈述，没有提出要求")]
    made = Draft(_definition(sketch, name, _described(sketch), [wording]), "").checked()
    return [finding.what for finding in check(made) if finding.phrasing is not None]


def _definition(sketch: _Sketch, name: str, description: str, wordings: list[str]) -> dict[str, Any]:
    lang = sketch.lang
    colon = "：" if lang == "zh" else ": "
    lines = [f"{{{{ {one} }}}}" if len(sketch.inputs) == 1 else f"{one}{colon}{{{{ {one} }}}}" for one in sketch.inputs]
    made: dict[str, Any] = {
        "id": slug(name or f"draft_{content_id(description, sketch.inputs, sketch.target)[:6]}"),
        "family": "classification" if sketch.labels else "other",
        "langs": [lang],
        "description": {lang: _described(sketch) if not description or states(description) else description},
        "fields": [*sketch.inputs, sketch.target],
        "target": sketch.target,
    }
    if sketch.labels:
        made["labels"] = {label: {lang: label} for label in sketch.labels}
    made["defaults"] = {lang: {"input": "\n".join(lines), "output": f"{{{{ {sketch.target} }}}}"}}
    if sketch.rows:
        made["examples"] = {lang: sketch.rows[:SHOWN]}
    made["phrasings"] = [
        {"lang": lang, "register": register, "instruction": literal(wording).replace(SLOT, "{{ choices }}")}
        for wording, register in zip(wordings, _REGISTERS, strict=False)
    ]
    return made


SLOT = "\ue000"
"""Stands for `{{ choices }}` in the rules' own wordings: what a model writes in braces is text."""


def _described(sketch: _Sketch) -> str:
    if sketch.describe:
        return sketch.describe
    inputs = ("、" if sketch.lang == "zh" else ", ").join(sketch.inputs)
    if sketch.lang == "zh":
        return f"根据{inputs}给出{sketch.target}。"
    return f"Give the {sketch.target} for a given {inputs}."


def _ruled(sketch: _Sketch) -> tuple[str, list[str]]:
    """The draft that needs no model: dull, and in order."""
    told = _described(sketch)
    zh = sketch.lang == "zh"
    stop = "" if told[-1:] in ".!?。！？" else "。" if zh else "."
    if sketch.labels:
        first = f"从{SLOT}中选一个作答。" if zh else f" Answer with one of: {SLOT}."
        second = (
            f"请阅读下面的内容，并在{SLOT}之中作出判断。"
            if zh
            else f"Please read what follows and choose one of {SLOT}."
        )
        return told, [told + stop + first, second]
    second = (
        f"请阅读下面的内容，写出对应的{sketch.target}。"
        if zh
        else f"Please read what follows and write the matching {sketch.target}."
    )
    return told, [told + stop, second]


def _unproved(definition: Definition) -> list[str]:
    """The phrasings that do not render with the definition's own example."""
    made = {example.maker for example in rendered(definition)}
    return [name for phrasing in definition.phrasings if f"template:{(name := definition.name(phrasing))}" not in made]
