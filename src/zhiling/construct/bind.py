"""Binding a definition to a task: which definitions fit, and the Templates that come of them.

A bound Template stands alone: label words, the list of choices and the task's description are written into its Jinja texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from zhiling import text
from zhiling.construct.library import Definition, Phrasing, Slots, list_definitions
from zhiling.construct.sandbox import compiled, literal
from zhiling.errors import say
from zhiling.types import Task, Template

_WORDS = {
    "answer": "答案", "code": "代码", "context": "对话", "description": "描述", "document": "文档", "facts": "要点", "form": "体裁",
    "hypothesis": "假设", "input": "输入", "instruction": "指令", "label": "标签", "length": "字数", "opening": "开头", "outline": "大纲",
    "passage": "文章", "persona": "人物设定", "premise": "前提", "problem": "题目", "query": "查询", "question": "问题", "schema": "结构",
    "sentence": "句子", "source": "原文", "style": "风格", "subtitle": "字幕", "summary": "摘要", "text": "文本", "title": "标题",
    "topic": "主题", "attempt": "解答", "audience": "读者", "brief": "快讯", "characters": "人物", "columns": "列", "cues": "字幕",
    "draft": "初稿", "idea": "点子", "options": "选项", "poem": "诗", "policy": "规定", "questions": "问题列表", "role": "角色",
    "scenario": "场景", "situation": "情境", "translation": "译文", "verse": "诗句",
}  # fmt: skip


def misfit(definition: Definition, task: Task) -> str:
    """Why the definition does not serve the task, in words; "" when it does."""
    if not set(definition.langs) & set(task.langs):
        return say(f"it speaks {', '.join(definition.langs)}", f"它只有以下语言：{'、'.join(definition.langs)}")
    if not definition.fields:
        return ""
    lacking = [name for name in definition.fields if name not in (*task.inputs, task.target)]
    if lacking:
        return say(f"the task has no field {', '.join(lacking)}", f"任务缺少字段：{'、'.join(lacking)}")
    if definition.target != task.target:
        answers = definition.target, task.target
        return say("its answer is '{}', the task's is '{}'", "其答案字段是“{}”，任务的是“{}”").format(*answers)
    if definition.labels:
        if not task.labels:
            return say("the task names no labels", "任务没有写明标签（labels）")
        strange = [label for label in task.labels if not _words(definition, label)]
        if strange:
            return say(
                f"it has no words for the labels {', '.join(strange)}", f"它没有这些标签的说法：{'、'.join(strange)}"
            )
    return ""


def fitting(definitions: Sequence[Definition], task: Task) -> list[Definition]:
    """The definitions that serve the task best, by id.

    A definition is left out when another fitting one uses all its fields and more, or has words for the task's labels where it
    has none: otherwise a passage would be dropped from a question, and one task would answer in two vocabularies.
    """
    fit = [definition for definition in definitions if not misfit(definition, task)]
    if task.labels and any(definition.labels for definition in fit):
        fit = [definition for definition in fit if definition.labels]
    best = [d for d in fit if not any(set(d.fields) < set(other.fields) for other in fit)]
    return sorted(best, key=lambda d: d.id)


def bind(definition: Definition, task: Task, inverted: bool = False) -> Iterator[Template]:
    """One Template per phrasing in the task's languages, in the definition's order.

    With `inverted` they ask for one of the task's inputs, given its answer: the phrasings that say so (`target: FIELD`), or all of
    a definition that answers with an input.
    """
    own = inverted and definition.target == task.target
    for phrasing in definition.phrasings:
        if phrasing.lang in task.langs and bool(phrasing.target) == own and not _unsayable(phrasing, definition, task):
            yield _bound(definition, phrasing, task)


def inverts(definition: Definition, task: Task) -> bool:
    """Whether the definition can ask for one of the task's inputs, given its answer."""
    if not definition.fields:
        return False
    if not misfit(definition, task):
        return any(phrasing.target for phrasing in definition.phrasings)
    if definition.target not in task.inputs:
        return False
    rest = tuple(name for name in task.inputs if name != definition.target)
    return not misfit(definition, replace(task, inputs=(*rest, task.target), target=definition.target))


def worded(definition: Definition, task: Task, words: Mapping[str, str | Mapping[str, str]]) -> Definition:
    """The definition with these words for the task's labels: one for every language, or one per language."""
    given = {
        label: dict.fromkeys(task.langs, said) if isinstance(said, str) else dict(said) for label, said in words.items()
    }
    known = definition.labels or {}
    mine = {label: {**known.get(label, {}), **said} for label, said in given.items()}
    others = {label: said for label, said in known.items() if label not in mine}
    return replace(definition, labels={**mine, **others})  # a label is found by the first that has it as key or word


def default_slots(task: Task, lang: str) -> tuple[str, str]:
    """The input and output Jinja texts for a task whose instruction comes from elsewhere (a bank, a model).

    They are those of the best fitting shipped definition, label words included; where none fits, the task's inputs as labelled
    lines (bare when there is one) and the task's target.
    """
    for definition in fitting(list_definitions(task.family), task):
        given = (definition.defaults or {}).get(lang)
        if given:
            return given.input, _worded(given.output, definition, task, lang)
    return _lines(task, lang), f"{{{{ {task.target} }}}}"


def choices(task: Task, lang: str, definition: Definition | None = None) -> list[str]:
    """The task's labels as they are worded in answers of that language."""
    return [_words(definition, label).get(lang, label) if definition else label for label in task.labels]


def label_words(task: Task, lang: str) -> list[str]:
    """The words in which the task's answers are given in that language, by the shipped definition that fits best."""
    worded = next(
        (definition for definition in fitting(list_definitions(task.family), task) if definition.labels), None
    )
    return choices(task, lang, worded)


def said_in(prose: str, lang: str) -> str:
    """The lines of a description that are in the language: a task may describe itself in several, one to a line."""
    return "\n".join(
        line for line in prose.splitlines() if line.strip() and (text.lang(line) == "zh") == (lang == "zh")
    )


def shaped(instruction: str, task: Task, lang: str) -> str:
    """The instruction with the task's output format behind it, unless it names all of the task's answers itself.

    A wording that comes from a bank or a model says what to do, seldom what the answer must look like.
    """
    form = said_in(task.output_format, lang)
    said = text.normalise(instruction)
    if (
        not form
        or text.normalise(form) in said
        or (task.labels and all(text.normalise(label) in said for label in task.labels))
    ):
        return instruction
    stop = "" if instruction[-1:] in ".!?。！？:：" else "。" if lang == "zh" else "."
    return f"{instruction}{stop}{'' if lang == 'zh' else ' '}{literal(form)}"


def _unsayable(phrasing: Phrasing, definition: Definition, task: Task) -> bool:
    """Whether the phrasing lists choices the task does not have, or quotes a description that is not there in its language."""
    slots = definition.slots(phrasing) or Slots(output="")
    names = compiled("".join((phrasing.instruction, phrasing.system, slots.input, slots.output))).names - {
        *definition.fields
    }
    mute = "description" in names and not said_in(task.description, phrasing.lang)
    return mute or ("choices" in names and not task.labels)


def _bound(definition: Definition, phrasing: Phrasing, task: Task) -> Template:
    lang, slots = phrasing.lang, definition.slots(phrasing)
    source, output = (slots.input, slots.output) if slots else default_slots(task, lang)
    return Template(
        task=task.name,
        lang=lang,
        instruction=_told(phrasing.instruction, definition, task, lang),
        input=_told(source, definition, task, lang),
        output=_told(output, definition, task, lang),
        system=_told(phrasing.system, definition, task, lang),
        turns=tuple(
            (role, said if role == "field" else _told(said, definition, task, lang))
            for turn in phrasing.turns
            for role, said in turn.items()
        ),
        maker=f"template:{definition.name(phrasing)}",
        parents=(definition.id,),
        why=phrasing.register,
    )


def _told(wording: str, definition: Definition, task: Task, lang: str) -> str:
    """The text with the label words, and with what it asks of the task written in, unless the data have a field of that name."""
    wording = _worded(wording, definition, task, lang)
    words = (", " if lang != "zh" else "、").join(choices(task, lang, definition))
    for name, value in (("choices", words), ("description", said_in(task.description, lang))):
        if name not in definition.fields:
            wording = _slot(name).sub(lambda _, value=value: literal(value), wording)  # type: ignore[misc]
    return wording


def _slot(name: str) -> re.Pattern[str]:
    return re.compile(r"\{\{-?\s*" + re.escape(name) + r"\s*-?\}\}")


def _words(definition: Definition, label: str) -> dict[str, str]:
    """The words of a raw label, found by its key or by any of its words: 正面 and positive are one label."""
    key = label.strip().casefold()
    for raw, words in (definition.labels or {}).items():
        if key in (raw.casefold(), *(word.casefold() for word in words.values())):
            return words
    return {}


def _worded(output: str, definition: Definition, task: Task, lang: str) -> str:
    """The text with the answer's raw label turned into its word; a label outside the set stays as it is."""
    words = {label: _words(definition, label).get(lang, label) for label in task.labels} if definition.labels else {}
    words = {label: word for label, word in words.items() if word != label}
    if not words:
        return output
    tests = "".join(
        f"{{% {'elif' if i else 'if'} {task.target} == {_quoted(label)} %}}{literal(word)}"
        for i, (label, word) in enumerate(words.items())
    )
    verbaliser = f"{tests}{{% else %}}{{{{ {task.target} }}}}{{% endif %}}"
    return _slot(task.target).sub(lambda _: verbaliser, output)


def _quoted(label: str) -> str:
    return '"' + label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _lines(task: Task, lang: str) -> str:
    if len(task.inputs) == 1:
        return f"{{{{ {task.inputs[0]} }}}}"
    return "\n".join(
        f"{literal(_field_word(name, lang))}{'：' if lang == 'zh' else ': '}{{{{ {name} }}}}" for name in task.inputs
    )


def _field_word(name: str, lang: str) -> str:
    if lang == "zh":
        return _WORDS.get(name, name)
    return name.replace("_", " ").capitalize()
