"""Template definitions: small YAML files, each one job with several phrasings; the shipped ones and a user's own alike.

A definition names its fields, says what goes in and out, how raw labels are worded in each language, and lists phrasings:

    id: sentiment
    family: classification
    langs: [zh, en]
    description: {zh: 判断文本的情感倾向。, en: Decide which sentiment a text expresses.}
    fields: [text, label]
    target: label
    labels: {positive: {zh: 正面, en: positive}, negative: {zh: 负面, en: negative}}
    defaults: {zh: {input: "{{ text }}", output: "{{ label }}"}, en: {input: "{{ text }}", output: "{{ label }}"}}
    phrasings:
      - {lang: zh, instruction: 判断下面这段话的情感是正面还是负面。}
      - {lang: en, register: brief, instruction: Positive or negative?}

Besides the fields a phrasing may say `{{ choices }}` (the task's label words, listed), `{{ description }}` (the task's own
description) and `{{ task }}` (its name).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from zhiling.construct.sandbox import compiled
from zhiling.errors import RecipeError, say
from zhiling.yamlines import Keys, Where, parse

BOUND = frozenset({"choices", "description", "demos"})
"""Names that are filled in from the task when a definition is bound to it (`demos` when a row is filled)."""

Register: TypeAlias = Literal["plain", "formal", "casual", "brief", "detailed"]
Family: TypeAlias = Literal[
    "news", "novel", "poetry", "code", "sql", "translation", "subtitles", "qa", "faq", "nli", "summarisation", "dialogue",
    "classification", "extraction", "arithmetic", "other",
]  # fmt: skip
FAMILIES: tuple[str, ...] = get_args(Family)
LIBRARY = Path(__file__).parent.parent / "library"
_MAX_BYTES = 1_000_000
_MAX_DEPTH = 10
_UNKNOWN = "unexpected_keyword_argument"
_strict = ConfigDict(extra="forbid", str_strip_whitespace=True)


@dataclass(frozen=True, config=_strict)
class Phrasing:
    """One wording in one language. `input` and `output` None mean the definition's defaults for that language.

    `target` names the field that it asks for where that is not the definition's: an inverted wording. `turns` are earlier turns,
    each {user: TEXT} or {assistant: TEXT}, or {field: NAME} for the turns that a row brings as JSON.
    """

    lang: str
    instruction: str
    id: str = ""
    register: Register = "plain"
    input: str | None = None
    output: str | None = None
    system: str = ""
    target: str = ""
    turns: tuple[dict[Literal["user", "assistant", "field"], str], ...] = ()


@dataclass(frozen=True, config=_strict)
class Slots:
    """Where the data goes: Jinja texts of the input and the output."""

    output: str
    input: str = ""


@dataclass(frozen=True, config=_strict)
class Definition:
    """A job and its phrasings, as one YAML file states it.

    `target` is the field that holds the answer. `labels` gives each raw label its word per language. A definition without
    fields fits every task. `examples` are rows of its fields, per language.
    """

    id: str
    family: Family
    langs: tuple[str, ...]
    description: dict[str, str]
    fields: tuple[str, ...]
    phrasings: tuple[Phrasing, ...]
    target: str = ""
    defaults: dict[str, Slots] | None = None
    input_format: dict[str, str] | None = None
    output_format: dict[str, str] | None = None
    labels: dict[str, dict[str, str]] | None = None
    constraints: dict[str, tuple[str, ...]] | None = None
    examples: dict[str, tuple[dict[str, str], ...]] | None = None
    file: str = ""

    def slots(self, phrasing: Phrasing) -> Slots | None:
        """The phrasing's input and output, the definition's own filled in; None where neither says."""
        given = (self.defaults or {}).get(phrasing.lang)
        output = given.output if phrasing.output is None and given else phrasing.output
        text = given.input if phrasing.input is None and given else phrasing.input
        return None if output is None else Slots(input=text or "", output=output)

    def name(self, phrasing: Phrasing) -> str:
        """The phrasing's name in lineage: "sentiment/zh2", or its own id."""
        same = [other for other in self.phrasings if other.lang == phrasing.lang]
        return f"{self.id}/{phrasing.id or phrasing.lang + str(same.index(phrasing) + 1)}"


def load_definition(path: str | Path) -> Definition:
    """The definition in a YAML file, validated.

    Raises RecipeError naming file, line and key for what is not YAML, not a definition, or uses a variable it does not declare.
    """
    return load_text(read_safely(path), str(path))


def load_text(text: str, file: str) -> Definition:
    """The definition in a YAML text, validated as `load_definition` does."""
    definition, where = parse_text(text, file)
    for key, what, mend in faults(definition):
        raise RecipeError(what, where=where.at(key), mend=mend)
    return definition


def parse_text(text: str, file: str) -> tuple[Definition, Where]:
    """The definition in a YAML text as far as its form goes, and where each of its keys stands: for the linter."""
    try:
        tree, lines = parse(text, file)
    except RecipeError:
        raise
    except ValueError as error:  # a date that is none, and the like
        raise RecipeError(say(f"not valid YAML: {error}", f"YAML 有误：{error}"), where=file) from error
    if not isinstance(tree, dict):
        raise RecipeError(say("a template definition is a mapping of keys", "模板定义应是键值映射"), where=f"{file}:1")
    where = Where(file, lines)
    try:
        return TypeAdapter(Definition).validate_python({**tree, "file": file}), where
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != _UNKNOWN)  # a wrong key explains a missing one
        raise RecipeError(first["msg"], where=where.at(tuple(first["loc"])), mend=_known(first["type"])) from error


def list_definitions(family: str | None = None) -> tuple[Definition, ...]:
    """The shipped definitions, of one family or of all, by id. They are read once per process."""
    return tuple(definition for definition in _shipped() if family in (None, definition.family))


@cache
def _shipped() -> tuple[Definition, ...]:
    found = (load_definition(file) for file in (LIBRARY / "templates").rglob("*.yaml"))
    return tuple(sorted(found, key=lambda definition: definition.id))


def _known(kind: str) -> str:
    if kind == _UNKNOWN:
        return say(f"known keys: {', '.join(_KEYS)}", f"可用的键：{'、'.join(_KEYS)}")
    return ""


_KEYS = tuple(name for name in Definition.__dataclass_fields__ if name != "file")


def read_safely(path: str | Path, *, aliases: bool = False) -> str:
    """A YAML file's text, once it is known to be harmless to parse. Raises RecipeError for what is not there, too large or hostile."""
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        what = say(f"cannot read the template: {error.strerror}", f"无法读取模板：{error.strerror}")
        raise RecipeError(what, where=str(file), mend=say("check the path", "请检查路径")) from error
    if len(data) > _MAX_BYTES:
        raise RecipeError(
            say("a template file of more than 1 MB", "模板文件超过 1 MB"),
            where=str(file),
            mend=say("split it", "请拆分"),
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(
            say("not UTF-8", "不是 UTF-8 编码"), where=str(file), mend=say("save it as UTF-8", "请另存为 UTF-8")
        ) from error
    _harmless(text, file, aliases)
    return text


def _harmless(text: str, file: Path, aliases: bool) -> None:
    """Refuse aliases, a few of which grow without bound (unless somebody counts), and deep nesting, which takes quadratic time."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) and not aliases:
                raise RecipeError(
                    say("YAML aliases (*name) are not allowed", "不允许使用 YAML 别名（*name）"), where=str(file)
                )
            if depth > _MAX_DEPTH:
                raise RecipeError(say("not valid YAML: nested too deeply", "YAML 有误：嵌套过深"), where=str(file))
    except yaml.YAMLError:
        return  # the parser proper will say what is wrong and where


Fault: TypeAlias = tuple[Keys, str, str]


def faults(definition: Definition) -> Iterator[Fault]:
    """What makes a definition unusable: (key, what, how to mend)."""
    if definition.fields and definition.target not in definition.fields:
        yield (
            ("target",),
            say("must name the field that holds the answer", "应写明答案所在的字段"),
            say(f"one of {', '.join(definition.fields)}", f"可选：{'、'.join(definition.fields)}"),
        )
    if not definition.phrasings:
        yield ("phrasings",), say("no phrasing", "没有任何措辞"), say("add at least one", "请至少写一条")
    names = [definition.name(phrasing) for phrasing in definition.phrasings]
    for i, phrasing in enumerate(definition.phrasings):
        key: Keys = ("phrasings", i)
        if phrasing.lang not in definition.langs:
            yield (*key, "lang"), say(f"'{phrasing.lang}' is not among langs", f"“{phrasing.lang}”不在 langs 之中"), ""
        if names.index(names[i]) != i:
            yield (
                key,
                say(f"'{names[i]}' stands twice", f"“{names[i]}”重复出现"),
                say("give it an id of its own", "请换一个 id"),
            )
        if definition.fields and definition.slots(phrasing) is None:
            yield (
                key,
                say("no output", "没有输出模板"),
                say(f"add defaults.{phrasing.lang}.output", f"请补上 defaults.{phrasing.lang}.output"),
            )
        yield from _text_faults(definition, key, ("instruction", "input", "output", "system"), phrasing)
        yield from _more_faults(definition, key, phrasing)
    for lang, slots in (definition.defaults or {}).items():
        yield from _text_faults(definition, ("defaults", lang), ("input", "output"), slots)


def _more_faults(definition: Definition, key: Keys, phrasing: Phrasing) -> Iterator[Fault]:
    fields = say("one of {}", "可选：{}").format(", ".join(definition.fields))
    if phrasing.target and phrasing.target not in definition.fields:
        yield (*key, "target"), say(f"no field '{phrasing.target}'", f"没有字段“{phrasing.target}”"), fields
    if phrasing.target and (phrasing.output is None or phrasing.input is None):
        what = say(
            "an inverted phrasing with the input or output of the ordinary ones", "反向措辞沿用了普通措辞的输入或输出"
        )
        yield (*key, "target"), what, say("give it an input and an output of its own", "请写上自己的 input 和 output")
    for i, turn in enumerate(phrasing.turns):
        at = (*key, "turns", i)
        if len(turn) != 1:
            yield at, say("a turn is one speaker and a text", "每轮对话应是一个说话人和一段文本"), "{user: ..}"
        for role, said in turn.items():
            if role != "field":
                yield from _said_faults(definition, at, said)
            elif said not in definition.fields:
                yield at, say(f"no field '{said}'", f"没有字段“{said}”"), fields


def _text_faults(
    definition: Definition, key: Keys, names: tuple[str, ...], holder: Phrasing | Slots
) -> Iterator[Fault]:
    for name in names:
        if text := getattr(holder, name):
            yield from _said_faults(definition, (*key, name), text)


def _said_faults(definition: Definition, key: Keys, text: str) -> Iterator[Fault]:
    try:
        used = compiled(text).names
    except RecipeError as error:
        yield key, str(error), ""
        return
    for unknown in sorted(used - {*definition.fields, *BOUND, "task"}):
        yield (
            key,
            say(f"unknown variable '{unknown}'", f"未知的变量“{unknown}”"),
            say(f"declared fields: {', '.join(definition.fields)}", f"已声明的字段：{'、'.join(definition.fields)}"),
        )
