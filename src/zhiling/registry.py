"""Seven decorators and one table: how a recipe's names become functions.

A plug-in is a plain function. Its keyword-only parameters are either **settings** (with a type and usually a default; the
recipe sets them, pydantic checks them) or **handed** by the house (`task`, `model`, `embedder`, ...; see `HANDED`). Nothing else
is needed: no base class, no configuration object.

Built-in plug-ins are listed by name and module, so that asking for one imports only that one; other packages add theirs through
the entry-point group "zhiling" (each entry point names a module, which registers when imported).
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from zhiling.errors import RecipeError, missing, say

Sort: TypeAlias = Literal["constructor", "verifier", "scorer", "selector", "metric", "provider", "logger"]
F = TypeVar("F", bound=Callable[..., Any])

HANDED = frozenset(
    {
        "task",
        "tasks",
        "example",
        "seed",
        "model",
        "embedder",
        "scorers",
        "verify",
        "records",
        "scores",
        "heldout",
        "here",
    }
)
"""What the house hands to a plug-in that names it: `task` a Task; `tasks` {name: Task}; `example` the Example that a metric's answer
is to; `seed` an int for this row's work; `model` an llm.Model; `embedder` an embed.Embedder; `scorers` {name: async fn(examples) ->
scores}; `verify` the one of them that asks a task's verifiers; `records` a shard of the task's Records, none of them held out;
`scores` {(example, scorer): Score}; `heldout` the held-out Examples; `here` the recipe's folder, against which paths are resolved."""

BUILTIN: dict[Sort, dict[str, str]] = {
    "constructor": {
        "template": "zhiling.construct.template",
        "retrieve": "zhiling.construct.retrieve",
        "generate": "zhiling.construct.generate.instructions",
        "self_instruct": "zhiling.construct.generate.self_instruct",
        "evol": "zhiling.construct.generate.evol",
        "magpie": "zhiling.construct.generate.magpie",
        "backtranslate": "zhiling.construct.generate.backtranslate",
        "coverage": "zhiling.construct.generate.coverage",
        "dialogue": "zhiling.construct.generate.dialogue",
        "document_qa": "zhiling.construct.documents.qa",
        "faq": "zhiling.construct.documents.faq",
        "summary": "zhiling.construct.documents.summary",
        "extract": "zhiling.construct.documents.extract",
        "sql": "zhiling.construct.sql_rows",
        "code": "zhiling.construct.code_rows",
        "arithmetic": "zhiling.construct.arithmetic_rows",
        "subtitles": "zhiling.construct.subtitle_rows",
        "nli": "zhiling.construct.nli_rows",
    },
    "verifier": {
        "sql": "zhiling.construct.verify.sql",
        "code": "zhiling.construct.verify.code",
        "subtitles": "zhiling.construct.verify.subtitles",
        "verse": "zhiling.construct.verify.verse",
        "constraints": "zhiling.construct.verify.constraints",
        "arithmetic": "zhiling.construct.verify.arithmetic",
        "json_schema": "zhiling.construct.verify.json_schema",
        "translation": "zhiling.construct.verify.translation",
        "labels": "zhiling.construct.verify.labels",
        "span": "zhiling.construct.verify.span",
        "summary": "zhiling.construct.verify.summary",
        "dialogue": "zhiling.construct.verify.dialogue",
        "nli": "zhiling.construct.verify.nli",
    },
    "scorer": {
        "verify": "zhiling.score.verify",
        "length": "zhiling.score.rules",
        "language": "zhiling.score.rules",
        "echo": "zhiling.score.rules",
        "refusal": "zhiling.score.rules",
        "placeholder": "zhiling.score.rules",
        "format": "zhiling.score.rules",
        "grammar": "zhiling.score.grammar",
        "clarity": "zhiling.score.clarity",
        "relevance": "zhiling.score.relevance",
        "asks": "zhiling.score.asks",
        "answers": "zhiling.score.answers",
        "safety": "zhiling.score.safety",
        "difficulty": "zhiling.score.difficulty",
        "constraints": "zhiling.score.constraints",
        "faithful": "zhiling.score.faithful",
        "judge": "zhiling.score.judge",
        "pii": "zhiling.score.pii",
        "grammar_lm": "zhiling.score.grammar_lm",
        "readability": "zhiling.score.readability",
        "register": "zhiling.score.readability",
        "lacks_input": "zhiling.score.lacks_input",
        "quality": "zhiling.score.quality",
        "wording": "zhiling.score.wording",
    },
    "selector": {
        "verify": "zhiling.select.verify",
        "heldout": "zhiling.select.heldout",
        "exact": "zhiling.select.duplicates",
        "near": "zhiling.select.duplicates",
        "semantic": "zhiling.select.semantic",
        "decontaminate": "zhiling.select.decontaminate",
        "threshold": "zhiling.select.threshold",
        "quota": "zhiling.select.pick",
        "top": "zhiling.select.pick",
        "cover": "zhiling.select.cover",
        "hypothesis_only": "zhiling.select.hypothesis",
    },
    "metric": {
        "exact_match": "zhiling.evaluate.metrics",
        "f1": "zhiling.evaluate.metrics",
        "chrf": "zhiling.evaluate.metrics",
        "rouge_l": "zhiling.evaluate.metrics",
        "rouge_1": "zhiling.evaluate.metrics",
        "rouge_2": "zhiling.evaluate.metrics",
        "bleu": "zhiling.evaluate.bleu",
        "accuracy": "zhiling.evaluate.labels",
        "choice": "zhiling.evaluate.labels",
        "constraints": "zhiling.evaluate.conditions",
        "execution": "zhiling.evaluate.execution",
    },
    "provider": {
        "openai": "zhiling.llm.openai",
        "gemini": "zhiling.llm.google",
        "gguf": "zhiling.llm.gguf",
        "transformers": "zhiling.llm.transformers",
        "fake": "zhiling.llm.fake",
    },
    "logger": {
        "tensorboard": "zhiling.tune.loggers",
        "trackio": "zhiling.tune.loggers",
        "wandb": "zhiling.tune.loggers",
    },
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """A registered function, the facts it states about itself, and what it wants."""

    sort: Sort
    name: str
    fn: Callable[..., Any]
    facts: Mapping[str, Any]
    wants: frozenset[str]
    settings: Mapping[str, inspect.Parameter] = field(repr=False)

    @property
    def version(self) -> str:
        """Changes when the code of the plug-in's room (ours) or module (others') changes: part of every stage key."""
        package, _, rest = self.fn.__module__.partition(".")
        return room_version(rest.split(".")[0]) if package == "zhiling" else module_version(self.fn.__module__)

    def versions(self, settings: Mapping[str, Any]) -> list[str]:
        """Its own version, and those of the plug-ins that it calls with these settings (the fact `stands_on`)."""
        return [self.version, *(other.version for other in self.facts.get("stands_on", lambda _: ())(settings))]

    @property
    def doc(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.fn) or "").split("\n")[0]


_table: dict[tuple[str, str], Plugin] = {}
_plugged: list[str] = []


def _register(sort: Sort, name: str, facts: Mapping[str, Any]) -> Callable[[F], F]:
    def decorate(fn: F) -> F:
        own = {key: p for key, p in inspect.signature(fn).parameters.items() if p.kind is p.KEYWORD_ONLY}
        handed = (
            HANDED if sort not in ("provider", "logger") else frozenset()
        )  # a provider's `model` is its setting: the name of what it serves
        wants = frozenset(own) & handed
        settings = {key: p for key, p in own.items() if key not in handed}
        _table[sort, name] = Plugin(sort, name, fn, dict(facts), wants, settings)
        return fn

    return decorate


def constructor(name: str, **facts: Any) -> Callable[[F], F]:
    """Register a constructor.

    `over="task"` (default): fn(*, task, ...) yields Templates and Rejects once per task; the house fills the templates with the
    task's records. Examples may be among them: rows that are ready, and that no record fills. `over="records"`: fn(*, task, records,
    ...) yields Examples and Rejects once per shard of the task's records, which need bring no answers. Either may be async. Facts,
    optional: `ready`, fn(settings, task) -> how many Examples it has ready at most (of `over="records"`: per record), None where records
    fill templates; a plan counts rows by it, and hands it the recipe's folder where it names `here`. `makes="rows"`: it needs no records,
    so that its tasks may have no data.

    Facts of one that asks a model, all optional, checked or counted before anything is asked: `asks`, fn(settings) -> whether it asks
    one at all (default: always); `needs`, the capabilities (`llm.base`) without which it cannot work; `uses`, fn(settings) -> names of
    the scorers it judges with; `calls`, fn(settings, task) -> how many calls it makes.
    """
    return _register("constructor", name, {"over": "task", **facts})


def verifier(name: str, **facts: Any) -> Callable[[F], F]:
    """Register a verifier: fn(examples, *, ...) yields exactly one Score per example, in order; may be async.

    The value is 1.0 where the row was checked and is right, 0.0 where it is wrong, which `why` says, None where it could not be checked.
    Facts: `langs`, `paper`; `needs`, what the model that it asks must be able to do, where it asks one.
    """
    return _register("verifier", name, facts)


def scorer(name: str, **facts: Any) -> Callable[[F], F]:
    """Register a scorer: fn(examples, *, ...) yields exactly one Score per example, in order; may be async.

    Facts: `low` and `high` (the value's range), `better` ("high", "low" or "none"), `langs`, `paper`; `needs`, what the model that it
    asks must be able to do (`llm.base.Capability`), which is checked before work starts; `length_neutral`, true where selectors shall
    rank by what output length does not explain; `passport`, what is known of it, as `score/passports.json` says it of ours; `stands_on`,
    fn(settings) -> the plug-ins that it calls; `asks`, fn(settings) -> whether it asks the model that it names (default: always).
    """
    return _register("scorer", name, facts)


def selector(name: str, **facts: Any) -> Callable[[F], F]:
    """Register a selector: fn(examples, *, scores, ...) yields exactly one Verdict per example. It sees the rows still kept.

    Fact, optional: `check`, fn(settings, where), which raises RecipeError for settings that cannot be meant, before anything is done.
    """
    return _register("selector", name, facts)


def metric(name: str, **facts: Any) -> Callable[[F], F]:
    """Register a metric: fn(prediction, reference, *, lang) -> float in [0, 1], higher is better; None where it can say nothing.

    It may name `task` and `example`, with None as their default: the row and its task, where they are at hand. Facts: `families` it is
    made for; `likelihood`: the model does not write, its answer is the task's label that it finds likeliest, per "text", "token" or "byte";
    `runs`: answers are run, many at once, by what the place where rooms meet hands to `evaluate.suite`.
    """
    return _register("metric", name, facts)


def provider(name: str, **facts: Any) -> Callable[[F], F]:
    """Register a provider: fn(*, settings...) builds an llm.Provider, without touching the network."""
    return _register("provider", name, facts)


def logger(name: str, **facts: Any) -> Callable[[F], F]:
    """Register a logger of tuning runs: fn(run, *, settings...) is a context manager that gives a function (step, values, at) -> None.

    `run` is a `tune.listen.Told`. The function is called for each step in order, with numbers by name and the unix seconds they were
    measured at; of a run that goes on, from its first step again. It works in a thread of its own, where it may fail or be slow: the
    training goes on without it. Fact: `packages`, any one of which must be installed.
    """
    return _register("logger", name, facts)


def names(sort: Sort) -> list[str]:
    """Every name a recipe may use for this sort, built-in and plugged in."""
    _load_plugged()
    return sorted({*BUILTIN[sort], *(name for kind, name in _table if kind == sort)})


def get(sort: Sort, name: str, where: str = "") -> Plugin:
    """The plug-in of that name. Raises RecipeError, with the nearest known name, where there is none."""
    if (sort, name) not in _table and name in BUILTIN[sort]:
        try:
            importlib.import_module(BUILTIN[sort][name])
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "zhiling":
                raise  # a fault of ours, not a package that somebody could install
            raise missing(error.name or name) from error
    if (sort, name) not in _table:
        _load_plugged()
    if (sort, name) in _table:
        return _table[sort, name]
    known = names(sort)
    close = difflib.get_close_matches(name, known, n=1)
    hint = (
        say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？")
        if close
        else say(f"known: {', '.join(known)}", f"可用的有：{'、'.join(known)}")
    )
    raise RecipeError(say(f"unknown {sort} '{name}'", f"未知的 {sort}：“{name}”"), where=where, mend=hint)


def settle(plugin: Plugin, given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The plug-in's full settings: `given` checked and coerced by type, defaults filled in.

    Raises RecipeError naming the key for an unknown setting, a missing one or one of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    for key in given:
        if key not in plugin.settings:
            close = difflib.get_close_matches(key, plugin.settings, n=1)
            known = say(f"{plugin.name} takes: ", f"{plugin.name} 可用的设置：") + (", ".join(plugin.settings) or "-")
            hint = say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？") if close else known
            raise RecipeError(
                say(f"unknown key '{key}'", f"未知的键“{key}”"), where=f"{where}.{key}" if where else key, mend=hint
            )
    types = _types(plugin)
    out: dict[str, Any] = {}
    for key, parameter in plugin.settings.items():
        if key not in given:
            if parameter.default is parameter.empty:
                raise RecipeError(
                    say(f"'{plugin.name}' needs the key '{key}'", f"“{plugin.name}”缺少必需的键“{key}”"),
                    where=where,
                    mend=say("add it", "请补上"),
                )
            out[key] = parameter.default
            continue
        try:
            out[key] = TypeAdapter(types.get(key, Any)).validate_python(given[key])
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            raise RecipeError(
                say(f"'{key}': {first}, got {given[key]!r}", f"“{key}”：{first}，实际为 {given[key]!r}"),
                where=f"{where}.{key}" if where else key,
            ) from error
    return out


def asks(plugin: Plugin, settings: Mapping[str, Any]) -> bool:
    """Whether the plug-in asks a model with these settings: it names `model`, and its fact `asks`, where it states one, agrees."""
    return "model" in plugin.wants and bool(plugin.facts.get("asks", lambda _: True)(settings))


def _types(plugin: Plugin) -> dict[str, Any]:
    """The settings' types. Only they are looked up: what is handed may be annotated with names that exist for type checkers alone."""
    annotations = {key: p.annotation for key, p in plugin.settings.items() if p.annotation is not p.empty}
    holder = type("Settings", (), {"__annotations__": annotations, "__module__": plugin.fn.__module__})
    return typing.get_type_hints(holder, include_extras=True)


PASSPORTS = Path(__file__).parent / "score" / "passports.json"


@cache
def passports() -> Mapping[str, Any]:
    """What was measured of our own scorers, and when; none where the file is not there yet."""
    return json.loads(PASSPORTS.read_text(encoding="utf-8")) if PASSPORTS.exists() else {"date": "", "metrics": {}}


def passport(name: str) -> Mapping[str, Any] | None:
    """What is known of a scorer: what it states itself (the fact `passport`), else what was measured; None where nothing is."""
    stated = get("scorer", name).facts.get("passport")
    known: Mapping[str, Any] | None = stated or passports()["metrics"].get(name)
    return known


def above_chance(told: Mapping[str, Any]) -> bool:
    """Whether a passport (or one language of it) shows agreement above chance, 0.5, by the lower end of its interval, in some language.

    One that states no interval is taken at its word.
    """
    found = [told[lang] for lang in ("en", "zh") if lang in told] or [told]
    return any(one.get("low", 1.0) > 0.5 for one in found)


@cache
def module_version(module: str) -> str:
    """Ten hex digits of a module's source text."""
    file = getattr(sys.modules.get(module) or importlib.import_module(module), "__file__", None)
    return _digest([Path(file)]) if file else _digest([])


@cache
def room_version(room: str) -> str:
    """Ten hex digits of everything in one of our rooms: its code, or (`library`) its data."""
    top = Path(__file__).parent / room
    return _digest(sorted(p for p in top.rglob("*") if p.is_file() and "__pycache__" not in p.parts))


def _digest(files: list[Path]) -> str:
    found = hashlib.blake2b(digest_size=5)
    for file in files:
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def _load_plugged() -> None:
    if _plugged:
        return
    _plugged.append("done")
    for point in entry_points(group="zhiling"):
        point.load()
