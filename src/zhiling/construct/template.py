"""The first way of constructing: hand-written templates, from the shipped library or from a user's own YAML files."""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Literal

from zhiling import text as texts
from zhiling.construct.bind import bind, fitting, inverts, misfit, worded
from zhiling.construct.demos import example_block
from zhiling.construct.library import Definition, Register, list_definitions, load_definition
from zhiling.construct.sandbox import compiled, literal
from zhiling.errors import RecipeError, say
from zhiling.registry import constructor
from zhiling.types import Demo, Reject, Task, Template


@constructor("template")
def template(
    *,
    task: Task,
    here: Path,
    templates: str | list[str] = "library",
    phrasings: int | None = None,
    registers: list[Register] | None = None,
    labels: dict[str, str | dict[str, str]] | None = None,
    invert: bool = False,
    demos: int = 0,
    choose: Literal["similar", "random"] = "similar",
    weights: dict[str, float] | None = None,
    cap: int | None = None,
) -> Iterator[Template | Reject]:
    """Templates of hand-written definitions that fit the task, in its languages.

    `templates` is "library" (every shipped definition of the task's family that fits), or paths and globs of YAML files relative
    to the recipe, or ids of shipped definitions. A file found by a glob that does not fit the task becomes a Reject.
    `phrasings` limits how many are taken per language, spread over registers; `registers` names the registers wanted.
    `labels` words the task's labels: {neg: 负面}, or {neg: {zh: 负面, en: negative}}.
    `invert` asks the other way round, for one of the inputs given the answer (as FLAN does, Longpre et al. 2023).
    `demos` worked examples from the task's own data stand in each prompt, `choose` "similar" or "random" ones.
    `weights` sets proportions, by phrasing (sentiment/zh2), definition, register, family or language; 0 leaves out.
    `cap` is the most rows that one template makes.

    Raises RecipeError where nothing fits, saying which fields are needed and which the task has.
    """
    for name, value, least in (("demos", demos, 0), ("cap", cap, 1), ("phrasings", phrasings, 1)):
        if value is not None and value < least:
            raise RecipeError(say(f"'{name}' must be at least {least}", f"“{name}”至少应为 {least}"), where=name)
    fit: list[Definition] = []
    for given, asked in _sources(task, here, [templates] if isinstance(templates, str) else templates, invert):
        definition = worded(given, task, labels) if labels else given
        why = _unasked(definition, task) if invert else misfit(definition, task)
        if not why:
            fit.append(definition)
        elif asked:
            raise _unfit(definition, task, why)
        else:
            yield Reject(task.name, f"template:{definition.id}", "dropped", why, where=Path(definition.file).name)
    made = [(definition, one) for definition in fit for one in bind(definition, task, invert)]
    scale = _weights(made, weights or {})
    kept = [
        replace(one, demos=demos, choose=choose, weight=scale[one.id], cap=cap)
        for _, one in made
        if (registers is None or one.why in registers) and scale[one.id] > 0
    ]
    if not kept:
        what = say("no template for the task '{}' in {}", "任务“{}”没有可用的模板（{}）").format(
            task.name, ", ".join(task.langs)
        )
        mend = say(
            "check 'templates', 'registers' and 'weights' in the recipe, the task's langs and labels",
            "请检查配方中的 templates、registers、weights 与任务的 langs、labels",
        )
        raise RecipeError(what, mend=mend)
    for lang in task.langs:
        yield from _spread([one for one in kept if one.lang == lang], phrasings)


def from_format(
    text: str,
    *,
    task: str = "",
    lang: str | None = None,
    input: str = "",
    output: str = "",
    maker: str = "template:format",
) -> Template:
    """A Template from a plain `str.format` text such as `将句子翻译成{目标语言}：{句子}`.

    `{name}` becomes a field; `{{` and `}}` stay the braces they mean. `input` and `output` are written the same way. `lang` is
    told from the script when it is not given. Raises RecipeError for positional slots, conversions and format specifications.
    """
    instruction, source, target = (_from_format(part) for part in (text, input, output))
    found = lang if lang is not None else {"latin": "en"}.get(texts.lang(text), texts.lang(text))
    return Template(task=task, lang=found, instruction=instruction, input=source, output=target, maker=maker)


def render(template: Template, fields: Mapping[str, str], examples: Sequence[Demo] = ()) -> str:
    """What a model is asked: the instruction filled with the fields, its input if it has one, then a block of worked examples.

    Raises RecipeError naming the field that is missing.
    """
    values = {"task": template.task, **fields}
    parts = [compiled(part).render(values) for part in (template.instruction, template.input) if part]
    prompt = "\n\n".join(part for part in parts if part)
    return "\n".join([prompt, example_block(examples, template.lang)]) if examples else prompt


def demos(definition: Definition, task: Task, lang: str) -> list[Demo]:
    """The definition's own examples as worked demos of the task, in one language."""
    bound = next((one for one in bind(definition, task) if one.lang == lang), None)
    rows = (definition.examples or {}).get(lang, ())
    if bound is None:
        return []
    return [
        Demo(compiled(bound.input).render(row) if bound.input else "", compiled(bound.output).render(row))
        for row in rows
    ]


def _weights(made: Sequence[tuple[Definition, Template]], given: Mapping[str, float]) -> dict[str, float]:
    """{template id: its weight}: the product of those given to its name, definition, register, family and language."""
    known = {
        one.id: {one.maker.removeprefix("template:"), definition.id, definition.family, one.why, one.lang}
        for definition, one in made
    }
    names = sorted(set[str]().union(*known.values()))
    for name, weight in given.items():
        if weight < 0:
            raise RecipeError(say(f"the weight of '{name}' is negative", f"“{name}”的权重为负"), where="weights")
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            raise RecipeError(
                say(f"no template is called '{name}'", f"没有名为“{name}”的模板"),
                where="weights",
                mend=say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？")
                if close
                else say(f"known: {', '.join(names)}", f"可用的有：{'、'.join(names)}"),
            )
    return {key: prod(weight for name, weight in given.items() if name in mine) for key, mine in known.items()}


def _unasked(definition: Definition, task: Task) -> str:
    if inverts(definition, task):
        return ""
    return misfit(definition, task) or say("it has no phrasing that asks for an input", "它没有反问输入的措辞")


def _sources(task: Task, here: Path, named: Sequence[str], invert: bool) -> Iterator[tuple[Definition, bool]]:
    """The definitions asked for, each with whether it was asked for by name."""
    for name in named:
        if name == "library":
            family = list_definitions(task.family)
            fit = [one for one in family if inverts(one, task)] if invert else fitting(family, task)
            if not fit:
                raise _nothing_fits(family, task, invert)
            yield from ((definition, False) for definition in fit)
        elif any(mark in name for mark in "*?["):
            files = sorted(path for path in here.glob(name) if path.is_file())
            yield from ((load_definition(path), False) for path in files)
        elif name.endswith((".yaml", ".yml")):
            yield load_definition(here / name), True
        else:
            yield _shipped(name), True


def _shipped(name: str) -> Definition:
    known = {definition.id: definition for definition in list_definitions()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    raise RecipeError(
        say(f"no template definition '{name}' in the library", f"模板库中没有“{name}”"),
        mend=say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？")
        if close
        else say("name a YAML file, or use 'library'", "请写 YAML 文件名，或使用 library"),
    )


def _unfit(definition: Definition, task: Task, why: str) -> RecipeError:
    have = ", ".join((*task.inputs, task.target))
    what = say("the template '{}' does not fit the task '{}': {}", "模板“{}”不适用于任务“{}”：{}").format(
        definition.id, task.name, why
    )
    return RecipeError(what, where=definition.file, mend=say(f"the task's fields are {have}", f"任务的字段为：{have}"))


def _nothing_fits(family: Sequence[Definition], task: Task, invert: bool) -> RecipeError:
    if invert:
        what = say(
            f"no shipped '{task.family}' template asks '{task.name}' the other way round",
            f"模板库中没有能反向提问“{task.name}”的“{task.family}”类模板",
        )
        mend_by = say(
            "give YAML files with phrasings that have a 'target' of their own",
            "请提供带有自己 target 的措辞的 YAML 模板",
        )
        return RecipeError(what, mend=mend_by)
    what = say("no shipped '{}' template fits the task '{}'", "模板库中没有适用于任务的“{}”类模板：“{}”").format(
        task.family, task.name
    )
    need = "; ".join(f"{d.id}: {', '.join(d.fields)} ({misfit(d, task)})" for d in family) or "-"
    have = ", ".join((*task.inputs, task.target))
    mend = say(
        "the task has {}; the family's definitions need {}. Map your columns to these names, or give YAML files of your own",
        "任务的字段为 {}；该类模板需要 {}。请把列名映射到这些字段，或提供自己的 YAML 模板",
    )
    return RecipeError(what, mend=mend.format(have, need))


def _spread(made: Sequence[Template], limit: int | None) -> list[Template]:
    """At most `limit` of the Templates, taken round and round from each register, in the order they came."""
    if limit is None or limit >= len(made):
        return list(made)
    queues: dict[str, list[int]] = {}
    for i, one in enumerate(made):
        queues.setdefault(one.why, []).append(i)
    rounds = sorted((turn, i) for queue in queues.values() for turn, i in enumerate(queue))
    return [made[i] for i in sorted(i for _, i in rounds[:limit])]


def _from_format(text: str) -> str:
    parts: list[str] = []
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise RecipeError(
            say(f"not a format text: {error}", f"不是有效的格式文本：{error}"),
            where=texts.cut(text, 40),
            mend=say("write {{ and }} for braces", "花括号本身请写作 {{ 和 }}"),
        ) from error
    for before, name, spec, conversion in pieces:
        parts.append(literal(before))
        if name is None:
            continue
        if spec or conversion or not name.isidentifier():
            raise RecipeError(
                say(f"the slot '{{{name}}}' is not a plain name", f"占位符“{{{name}}}”不是简单的名称"),
                where=texts.cut(text, 40),
                mend=say("write {name}, without spaces, numbers or formats", "请写作 {名称}，不带空格、序号或格式"),
            )
        parts.append(f"{{{{ {name} }}}}")
    return "".join(parts)
