"""A recipe: YAML in, frozen dataclasses out, and every mistake named by key and line.

This file knows names, not implementations: which settings a step takes is asked of the registry.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from zhiling import registry
from zhiling.errors import RecipeError, lang, say
from zhiling.types import Demo, Task
from zhiling.yamlines import Keys, Where, as_text, assign, parse

Text: TypeAlias = str | dict[str, str]
STRICT = ConfigDict(extra="forbid", frozen=True)


@dataclass(config=STRICT)
class DataSpec:
    """One data file of a task: `path` (relative to the recipe), and how to read it (see `data.Source`).

    `licence` is what the data may be used under, in the owner's words; nothing reads it but the card of an exported data set.
    """

    path: str
    format: str = ""
    columns: dict[str, str] | None = None
    where: dict[str, str | int] | None = None
    limit: int | None = None
    table: str = ""
    licence: str = ""


@dataclass(config=STRICT)
class DemoSpec:
    """A worked example given in the recipe."""

    input: str
    output: str


@dataclass(config=STRICT)
class TaskSpec:
    """A task of the recipe: what `types.Task` says, the data it comes with, and how many rows are set aside.

    `heldout` is a number of rows (of groups, where the field `group` keeps rows together on one side), or a share below 1. `verifier` is
    a name, a {name: settings} or a list of these; rows that none of them could check are dropped too, unless `unverified` is "keep".
    """

    description: Text = ""
    family: str = "other"
    inputs: list[str] = field(default_factory=lambda: ["input"])
    target: str = "output"
    output_format: Text = ""
    langs: list[str] = field(default_factory=lambda: ["en"])
    labels: list[str] = field(default_factory=list)
    demos: list[DemoSpec] = field(default_factory=list)
    metric: str = "exact_match"
    verifier: str | dict[str, Any] | list[str | dict[str, Any]] = field(default_factory=list)
    unverified: Literal["drop", "keep"] = "drop"
    data: str | DataSpec | list[str | DataSpec] = field(default_factory=list)
    columns: dict[str, str] | None = None
    heldout: float = 0
    group: str | None = None

    def task(self, name: str) -> Task:
        """The noun that travels: descriptions in several languages are joined, since they say the same."""
        return Task(
            name, _joined(self.description), self.family, tuple(self.inputs), self.target, _joined(self.output_format), tuple(self.langs),
            tuple(self.labels), tuple(Demo(demo.input, demo.output) for demo in self.demos), self.metric,
            tuple(verifier if isinstance(verifier, str) else next(iter(verifier), "") for verifier in self.checks()),
        )  # fmt: skip

    def checks(self) -> list[str | dict[str, Any]]:
        """The verifiers as a list, whichever way they are written."""
        return list(self.verifier) if isinstance(self.verifier, list) else [self.verifier]

    def sources(self) -> list[DataSpec]:
        """The data files, each with the task's columns where it names none of its own."""
        given = self.data if isinstance(self.data, list) else [self.data]
        specs = [DataSpec(item) if isinstance(item, str) else item for item in given]
        return [replace(spec, columns=spec.columns or self.columns) for spec in specs]


@plain_dataclass(frozen=True, slots=True)
class Step:
    """One step of a room: the plug-in's name, its own settings, and what the recipe says around it.

    `tasks` restricts a step to some tasks; `model` names one of the recipe's models; `per_record` (constructors) is how many
    examples each record becomes.
    """

    kind: str
    settings: Mapping[str, Any]
    where: str
    tasks: tuple[str, ...] = ()
    model: str = ""
    per_record: int = 1


@dataclass(config=STRICT)
class TuneSpec:
    """What to tune: a model's name or folder, with the settings of `tune.settings.TuneSettings`; or one at a provider, such as
    "openai:MODEL", with those of `tune.remote.settings`. A recipe calls it `base` or `model`."""

    model: str = "embedded"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(config=STRICT)
class EvaluateSpec:
    """How many held-out rows per task both models answer (None: all), in at most how many tokens (None: enough for the longest
    reference, by task), how sure the interval is; `drift`: ask both general and dubious questions too; `judge`: the model that compares."""

    rows: int | None = None
    max_tokens: int | None = None
    confidence: float = 0.95
    batch: int = 32
    drift: bool = True
    judge: str = ""


@dataclass(config=STRICT)
class ReportSpec:
    """The languages of the page and how many sample rows it shows."""

    langs: list[Literal["en", "zh"]] = field(default_factory=lambda: ["en", "zh"])
    samples: int = 12


@dataclass(config=STRICT)
class Raw:
    """The recipe's top level as written."""

    tasks: dict[str, TaskSpec]
    name: str = ""
    seed: int = 0
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    construct: list[str | dict[str, Any]] = field(default_factory=lambda: ["template"])
    score: list[str | dict[str, Any]] = field(default_factory=list)
    select: list[str | dict[str, Any]] = field(default_factory=list)
    tune: dict[str, Any] | bool | None = None
    evaluate: EvaluateSpec | bool | None = None
    report: ReportSpec | bool = True
    shard_rows: int = 2000
    budget: dict[str, float] | None = None
    cache: str | None = None


@plain_dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe. `here` is the folder that its paths are relative to; `text` the YAML as it was read.

    `budget` {usd, calls, tokens} holds for all models together; `cache` is a file of replies shared with other runs, None for the run's own.
    """

    name: str
    seed: int
    here: Path
    models: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[str, TaskSpec]
    construct: Sequence[Step]
    score: Sequence[Step]
    select: Sequence[Step]
    tune: TuneSpec | None
    evaluate: EvaluateSpec | None
    report: ReportSpec | None
    shard_rows: int
    text: str = ""
    budget: Mapping[str, float] | None = None
    cache: Path | None = None

    def steps_for(self, task: str) -> list[Step]:
        """The construct steps that work on a task."""
        return [step for step in self.construct if task in (step.tasks or self.tasks)]

    def answered(self, task: str) -> bool:
        """Whether the task's data must bring the answers: a step fills templates with them, or nothing but the data makes rows."""
        facts = [registry.get("constructor", step.kind).facts for step in self.steps_for(task)]
        return not facts or any(fact["over"] == "task" and fact.get("makes") != "rows" for fact in facts)


def load(path: Path, sets: Iterable[str] = ()) -> Recipe:
    """Read a recipe file; `sets` are "dotted.key=yaml value" overrides. Raises RecipeError for anything wrong in it."""
    if path.is_dir():
        path = path / "recipe.yaml"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        mend = say(
            "check the path, or make a recipe with: zhiling init DIR", "请检查路径，或用 zhiling init DIR 新建一个"
        )
        raise RecipeError(say("no such recipe", "找不到该配方"), where=str(path), mend=mend) from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            say("not a UTF-8 text file", "不是 UTF-8 文本文件"), where=str(path), mend=str(error)
        ) from None
    return loads(text, path.parent.resolve(), str(path), sets)


def loads(text: str, here: Path, file: str = "recipe", sets: Iterable[str] = ()) -> Recipe:
    """A recipe from YAML text."""
    data, lines = parse(text, file)
    if not isinstance(data, dict):
        raise RecipeError(
            say("a recipe is a mapping of keys", "配方应是键值映射"),
            where=file,
            mend=say("start with: tasks:", "以 tasks: 开头"),
        )
    assignments = list(sets)
    for assignment in assignments:
        assign(data, assignment)
    return build(data, here, Where(file, lines), as_text(data) if assignments else text)


def build(data: Mapping[str, Any], here: Path, where: Where | None = None, text: str = "") -> Recipe:
    """A recipe from plain data (dicts and lists as YAML would give them)."""
    where = where or Where("recipe", {})
    raw = _validated(Raw, data, where, ())
    if not raw.tasks:
        raise RecipeError(
            say("no tasks", "没有任务"),
            where=where.at(("tasks",)),
            mend=say("name at least one task", "请至少写一个任务"),
        )
    models = raw.models or {"embedded": {"provider": "gguf"}}
    for name, spec in models.items():
        if "provider" not in spec:
            mend = say(
                f"one of: {', '.join(registry.names('provider'))}", f"可选：{'、'.join(registry.names('provider'))}"
            )
            raise RecipeError(
                say("a model needs a provider", "模型缺少 provider"), where=where.at(("models", name)), mend=mend
            )
        registry.get("provider", spec["provider"], where.at(("models", name, "provider")))
    for name, task in raw.tasks.items():
        _check_task(name, task, where)

    def steps(sort: registry.Sort, key: str, given: Sequence[str | Mapping[str, Any]]) -> list[Step]:
        return steps_of(sort, given, raw.tasks, models, where, key)

    construct, score, select = (
        steps("constructor", "construct", raw.construct), steps("scorer", "score", raw.score), steps("selector", "select", raw.select),
    )  # fmt: skip
    for name, task in raw.tasks.items():
        _check_data(name, task, [step for step in construct if name in (step.tasks or raw.tasks)], where)
    if checks := _checks(raw.tasks, models, where):
        score.insert(0, checks)
        must = [name for name in checks.settings["checks"] if raw.tasks[name].unverified == "drop"]
        select.insert(0, Step("verify", {"must": must}, "tasks"))
    proof = EvaluateSpec() if raw.evaluate is True else raw.evaluate or None
    _named((proof and proof.judge) or (), models, say("model", "模型"), where.at(("evaluate", "judge")))
    return Recipe(
        raw.name or "recipe", raw.seed, here, models, raw.tasks,
        construct, score, select,
        _tune(raw.tune), proof,
        (ReportSpec() if raw.report is True else raw.report or None), raw.shard_rows, text,
        raw.budget, Path(os.path.expandvars(here / Path(raw.cache).expanduser())) if raw.cache else None,
    )  # fmt: skip


def steps_of(
    sort: registry.Sort,
    given: Sequence[str | Mapping[str, Any]],
    tasks: Mapping[str, Any],
    models: Mapping[str, Any],
    where: Where | None = None,
    key: str = "",
) -> list[Step]:
    """Checked steps from names and {name: settings} mappings, as a recipe lists them."""
    where = where or Where("", {})
    return [_step(sort, item, where, (key, index), tasks, models) for index, item in enumerate(given)]


def _tune(given: dict[str, Any] | bool | None) -> TuneSpec | None:
    if given is None or given is False:
        return None
    settings = dict(given) if isinstance(given, dict) else {}
    model = settings.pop("model", "embedded")
    return TuneSpec(str(settings.pop("base", model)), settings)


def _check_task(name: str, task: TaskSpec, where: Where) -> None:
    plugin = registry.get("metric", task.metric, where.at(("tasks", name, "metric")))
    if plugin.facts.get("likelihood") and len(task.labels) < 2:
        what = say(f"'{task.metric}' needs two labels or more", f"“{task.metric}”需要至少两个标签")
        mend = say("name them all", "请列出全部标签")
        raise RecipeError(what, where=where.at(("tasks", name, "labels")), mend=mend)
    if task.heldout < 0:
        raise RecipeError(
            say("heldout cannot be negative", "heldout 不能为负"), where=where.at(("tasks", name, "heldout"))
        )


def _check_data(name: str, task: TaskSpec, construct: Sequence[Step], where: Where) -> None:
    """Raise RecipeError for a task without data, unless each step that constructs it makes rows of its own."""
    facts = [registry.get("constructor", step.kind).facts for step in construct]
    if task.sources() or (facts and all(fact.get("makes") == "rows" for fact in facts)):
        return
    raise RecipeError(
        say(f"the task '{name}' has no data", f"任务“{name}”没有数据"), where=where.at(("tasks", name)),
        mend=say("set data: a file, or several", "请设置 data：一个或多个文件"),
    )  # fmt: skip


def _checks(tasks: Mapping[str, TaskSpec], models: Mapping[str, Any], where: Where) -> Step | None:
    """The scorer `verify` with every task's verifiers, checked; None where no task has one. One model serves all that ask one."""
    checks: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    asked: dict[str, str] = {}
    for name, task in tasks.items():
        for index, item in enumerate(task.checks()):
            step = _step("verifier", item, where, ("tasks", name, "verifier", index), tasks, models)
            checks.setdefault(name, []).append((step.kind, dict(step.settings)))
            if step.model:
                asked.setdefault(step.model, step.where)
    if len(asked) > 1:
        raise RecipeError(
            say(f"verifiers ask several models: {', '.join(asked)}", f"校验器使用了多个模型：{'、'.join(asked)}"),
            where=list(asked.values())[1], mend=say("name one model for all of them", "请统一使用一个模型"),
        )  # fmt: skip
    return Step("verify", {"checks": checks}, "tasks", model=next(iter(asked), "")) if checks else None


AROUND: dict[str, tuple[str, ...]] = {
    "constructor": ("tasks", "model", "per_record"),
    "verifier": ("model",),
    "scorer": ("model",),
    "selector": (),
}
"""Keys of a step that the house reads itself; everything else belongs to the plug-in."""


def _step(
    sort: registry.Sort,
    item: str | Mapping[str, Any],
    where: Where,
    path: Keys,
    tasks: Mapping[str, Any],
    models: Mapping[str, Any],
) -> Step:
    given: Any = {}
    if isinstance(item, str):
        kind = item
    elif len(item) == 1:
        kind = str(next(iter(item)))
        given = item[kind] if item[kind] is not None else {}
    else:
        raise RecipeError(
            say("a step is a name, or one name with its settings", "一个步骤应是名称，或带设置的单个名称"), where=where.at(path),
            mend=say("write '- near: {threshold: 0.8}'", "写成 '- near: {threshold: 0.8}'"),
        )  # fmt: skip
    at = where.at((*path, kind) if not isinstance(item, str) else path)
    plugin = registry.get(sort, kind, at)
    if not isinstance(given, Mapping):
        raise RecipeError(say(f"'{kind}' needs a mapping of settings", f"“{kind}”的设置应是键值映射"), where=at)
    own = {key: value for key, value in given.items() if key not in AROUND[sort]}
    wanted = _named(given.get("tasks", ()), tasks, say("task", "任务"), f"{at}.tasks")
    model = _named(given.get("model", ()), models, say("model", "模型"), f"{at}.model")
    per_record = given.get("per_record", 1)
    if not isinstance(per_record, int) or per_record < 1:
        raise RecipeError(
            say("per_record is a whole number from 1 on", "per_record 应为不小于 1 的整数"), where=f"{at}.per_record"
        )
    settings = registry.settle(plugin, own, at)
    if check := plugin.facts.get("check"):
        check(settings, at)
    first = model[0] if model else (next(iter(models)) if registry.asks(plugin, settings) else "")
    return Step(kind, settings, at, tuple(wanted), first, per_record)


def _named(given: Any, known: Mapping[str, Any], noun: str, where: str) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), list(known), n=1)
            mend = say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？") if close else ", ".join(known)
            raise RecipeError(say(f"unknown {noun} '{name}'", f"未知的{noun}“{name}”"), where=where, mend=mend)
    return names


def _joined(text: Text) -> str:
    return text if isinstance(text, str) else "\n".join(text.values())


CHINESE = {
    "missing": "缺少必需的键", "unexpected_keyword_argument": "未知的键", "int_type": "应为整数", "int_parsing": "应为整数",
    "int_from_float": "应为整数", "float_type": "应为数字", "float_parsing": "应为数字",
    "string_type": "应为文本", "bool_type": "应为 true 或 false",
    "dict_type": "应为键值映射", "list_type": "应为列表", "dataclass_type": "应为键值映射", "literal_error": "不在可选值之中",
}  # fmt: skip


def _validated(kind: type[Raw], data: Mapping[str, Any], where: Where, path: Keys) -> Raw:
    try:
        return TypeAdapter(kind).validate_python(dict(data))
    except ValidationError as error:
        # A union reports one error per branch; the deepest is the branch the user meant.
        first = max(error.errors(), key=lambda item: len(item["loc"]))
        keys = tuple(part for part in first["loc"] if not _is_branch(part, where.lines))
        what, mend = first["msg"], ""
        if first["type"] == "unexpected_keyword_argument":
            name = str(first["loc"][-1])
            what = say(f"unknown key '{name}'", f"未知的键“{name}”")
            close = difflib.get_close_matches(name, _keys_at(keys[:-1]), n=1)
            mend = say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？") if close else ""
            mend = mend or say("known: ", "可用：") + ", ".join(_keys_at(keys[:-1]))
        elif first["type"] == "missing":
            what = say(f"the key '{keys[-1]}' is missing", f"缺少必需的键“{keys[-1]}”")
            mend = say("add it", "请补上")
        elif lang() == "zh":
            what = CHINESE.get(first["type"], what)
        if (
            "input" in first
            and not isinstance(first["input"], dict | list)
            and first["type"] not in ("missing", "unexpected_keyword_argument")
        ):
            what += say(f", got {first['input']!r}", f"，实际为 {first['input']!r}")
        raise RecipeError(what, where=where.at((*path, *keys)), mend=mend) from None


def _is_branch(part: str | int, lines: Mapping[Keys, int]) -> bool:
    """pydantic puts the union branch it tried ("str", "DataSpec", "list[...]") in the error's path; no key looks like that."""
    if not isinstance(part, str):
        return False
    return (
        part in ("str", "bool", "int", "float") or "[" in part or (part in globals() and is_dataclass(globals()[part]))
    )


def _keys_at(path: Keys) -> list[str]:
    kinds: dict[str, Any] = {"tasks": TaskSpec, "evaluate": EvaluateSpec, "report": ReportSpec}
    if not path:
        kind: Any = Raw
    elif "data" in path:
        kind = DataSpec
    elif "demos" in path:
        kind = DemoSpec
    else:
        kind = kinds.get(str(path[0]), Raw)
    return [item.name for item in fields(kind)]
