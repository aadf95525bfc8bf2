"""How a model is asked for rows: prompts are data, filled, sent in a fixed order with a seed each, and every bad reply has a name.

Small models get short worked examples and are held to a form where the backend can; large ones get rubrics. Which is which is told
from the model's name and kind, or said in the recipe (`style: small`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import yaml

from zhiling.construct.bind import said_in
from zhiling.errors import ProviderError, RecipeError, say
from zhiling.llm.parse import json_value
from zhiling.types import Reply, Request, Task, Turn, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

Style: TypeAlias = Literal["auto", "small", "large"]
LARGE = 4.0
"""Billions of parameters from which on a model follows a rubric better than worked examples."""
LOCAL = frozenset({"gguf", "transformers"})
GONE = frozenset({"network", "timeout", "server", "rate"})

_size = re.compile(r"(?<![A-Za-z0-9.])(?:\d+x)?(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)
_slot = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question: its turns with {slots}, and the form of the answer (`schema`, `choices`, `stop`), where it has one.

    `style` is "small", "large", or "any" where the same words serve both.
    """

    id: str
    lang: str
    turns: tuple[Turn, ...]
    style: str = "any"
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()

    @property
    def slots(self) -> frozenset[str]:
        """The names in braces."""
        return frozenset(name for _, content in self.turns for name in _slot.findall(content))

    def filled(self, values: Mapping[str, str]) -> tuple[Turn, ...]:
        """The turns with the slots' values in them; braces in the values stay as they are."""
        return tuple(
            (role, _slot.sub(lambda found: values.get(found[1], found[0]), content)) for role, content in self.turns
        )


@dataclass(frozen=True, slots=True)
class Book:
    """The prompts of one way of asking: `library/prompts/NAME.yaml`, or what a recipe's file puts in its place."""

    name: str
    version: int
    paper: str
    prompts: tuple[Prompt, ...]
    more: Mapping[str, Any] = field(default_factory=dict)

    def find(self, step: str, lang: str, style: str) -> Prompt:
        """The prompt for a step in a language and style. Raises RecipeError where there is none."""
        for prompt in self.prompts:
            if prompt.id == step and prompt.lang == lang and prompt.style in ("any", style):
                return prompt
        raise self._lacks(f"{step}, {style}", lang, {prompt.lang for prompt in self.prompts if prompt.id == step})

    def words(self, key: str, lang: str) -> Any:
        """What stands beside the prompts under a key for a language. Raises RecipeError where nothing does."""
        found = self.more.get(key) or {}
        if lang not in found:
            raise self._lacks(key, lang, set(found))
        return found[lang]

    def _lacks(self, what: str, lang: str, known: set[str]) -> RecipeError:
        return RecipeError(
            say(f"no prompt '{what}' in '{lang}'", f"没有语言为“{lang}”的提示词“{what}”"),
            where=f"prompts/{self.name}.yaml",
            mend=say(
                f"it is there in: {', '.join(sorted(known)) or '-'}; add one in a file and name it with `prompts:`",
                f"已有语言：{'、'.join(sorted(known)) or '-'}；可写入文件，并用 prompts: 指明",
            ),
        )

    def texts(self, lang: str) -> list[str]:
        """All fixed texts of a language: what a reply must not repeat."""
        return [content for prompt in self.prompts if prompt.lang == lang for _, content in prompt.turns]


def book(name: str, given: str | None = None, here: Path = Path()) -> Book:
    """The shipped prompts of that name, with those of the file `given` (relative to `here`) in their places or added.

    Raises RecipeError for a file that is not there, is no such book, or uses a slot that nobody fills.
    """
    source = files("zhiling").joinpath(f"library/prompts/{name}.yaml")
    shipped = _read(name, source.read_text(encoding="utf-8"), f"prompts/{name}.yaml")
    if given is None:
        return shipped
    path = here / given
    try:
        own = _read(name, path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            say(f"the prompts cannot be read: {error}", f"无法读取提示词文件：{error}"), where=f"prompts: {given}"
        ) from error
    for prompt in own.prompts:
        known = frozenset[str]().union(*(old.slots for old in shipped.prompts if old.id == prompt.id))
        if not any(old.id == prompt.id for old in shipped.prompts):
            _wrong(str(path), f"'{prompt.id}' is no step of {name}", f"{name} 没有步骤“{prompt.id}”", shipped)
        if strange := sorted(prompt.slots - known):
            en = f"'{prompt.id}' has a slot that nothing fills: {{{strange[0]}}}; there are: {', '.join(sorted(known)) or '-'}"
            _wrong(
                str(path),
                en,
                f"“{prompt.id}”中的空位无法填充：{{{strange[0]}}}；可用：{'、'.join(sorted(known)) or '-'}",
                None,
            )
    kept = [old for old in shipped.prompts if not any(_replaces(new, old) for new in own.prompts)]
    return Book(name, own.version, own.paper or shipped.paper, (*own.prompts, *kept), {**shipped.more, **own.more})


def _replaces(new: Prompt, old: Prompt) -> bool:
    return (new.id, new.lang) == (old.id, old.lang) and (new.style == old.style or "any" in (new.style, old.style))


def _wrong(where: str, en: str, zh: str, shipped: Book | None) -> None:
    steps = sorted({prompt.id for prompt in shipped.prompts}) if shipped else []
    mend = say(f"its steps: {', '.join(steps)}", f"可用步骤：{'、'.join(steps)}") if steps else ""
    raise RecipeError(say(en, zh), where=where, mend=mend)


def _read(name: str, text: str, where: str) -> Book:
    try:
        data = yaml.safe_load(text)
        prompts = tuple(_prompt(entry) for entry in data["prompts"])
        more = {key: value for key, value in data.items() if key not in ("version", "paper", "prompts")}
        return Book(name, int(data.get("version", 1)), str(data.get("paper", "")), prompts, more)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecipeError(
            say(f"this is no file of prompts: {error}", f"不是提示词文件：{error}"),
            where=where,
            mend=say(
                f"see how one looks: zhiling show --prompts {name}", f"可参照：zhiling show --prompts {name}"
            ),
        ) from error  # fmt: skip


def _prompt(entry: Mapping[str, Any]) -> Prompt:
    turns = tuple((str(role), str(content)) for turn in entry["turns"] for role, content in turn.items())
    if bad := [role for role, _ in turns if role not in ("system", "user", "assistant")]:
        raise ValueError(f"'{bad[0]}' is no role")
    if (style := str(entry.get("style", "any"))) not in ("any", "small", "large"):
        raise ValueError(f"style '{style}' is none of any, small, large")
    return Prompt(
        str(entry["id"]), str(entry["lang"]), turns, style, entry.get("schema"),
        tuple(map(str, entry.get("choices", ()))), tuple(map(str, entry.get("stop", ()))),
    )  # fmt: skip


def size(label: str) -> float | None:
    """Billions of parameters as a model's name tells them ("Qwen2.5-1.5B-Instruct", "smollm2-135m"); None where it does not."""
    found = _size.search(re.sub(r"[_-]", " ", label))
    return None if found is None else float(found[1]) / (1000 if found[2].lower() == "m" else 1)


def styled(model: Model, asked: Style) -> Literal["small", "large"]:
    """How this model is asked: as the recipe says, else by its size, else a model on this machine as a small one."""
    if asked != "auto":
        return asked
    billions = size(model.label)
    if billions is not None:
        return "small" if billions < LARGE else "large"
    return "small" if model.provider.name in LOCAL else "large"


class Said(NamedTuple):
    """What came back: the text and the reply's key, or why there is no usable text, which begins with a code ("cut: ...")."""

    text: str
    key: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """One task's questions to one model in one language: which prompts, in which style, with which seed."""

    task: Task
    model: Model
    book: Book
    lang: str
    style: str
    seed: int
    temperature: float = 0.7
    max_tokens: int = 256

    @property
    def about(self) -> str:
        """What the task is, in a line for prompts; "" where a recipe does not say it in this language."""
        said = " ".join(said_in(self.task.description, self.lang).split())
        return (
            ""
            if not said
            else f"所有内容都须属于这一任务：{said}\n"
            if self.lang == "zh"
            else f"All of it belongs to this task: {said}\n"
        )

    async def ask(
        self,
        step: str,
        rows: Sequence[tuple[str, Mapping[str, str]]],
        *,
        cool: bool = False,
        max_tokens: int | None = None,
    ) -> list[Said]:
        """The step's prompt for each (row name, slots), in order; the name and the step make the seed. `cool` asks at temperature 0.

        Raises the ProviderError when an endpoint answered none of the rows.
        """
        prompt = self.book.find(step, self.lang, self.style)
        return await self.send(
            [self.request(prompt, prompt.filled(values), f"{step}:{name}", cool, max_tokens) for name, values in rows]
        )

    def request(
        self, prompt: Prompt, turns: Sequence[Turn], name: str, cool: bool = False, max_tokens: int | None = None
    ) -> Request:
        """One question, held to the prompt's form as far as the model can be."""
        native = self.model.provider.can
        form: dict[str, Any] = {}
        if (
            prompt.schema is not None and "schema" in native
        ):  # elsewhere the prompt's own words ask for it, and a refusal stays readable
            form["schema"] = prompt.schema
        if prompt.choices and not native.isdisjoint({"choices", "chat"}):
            form["choices"] = prompt.choices
        return self.plain(turns, name, cool, max_tokens, stop=prompt.stop, **form)

    def plain(
        self, turns: Sequence[Turn], name: str, cool: bool = False, max_tokens: int | None = None, **form: Any
    ) -> Request:
        """Turns as a question; a model without a chat template gets them as paragraphs to continue."""
        settings: dict[str, Any] = {
            "max_tokens": max_tokens or self.max_tokens, "temperature": 0.0 if cool else self.temperature,
            "top_p": 1.0 if cool else 0.95, "seed": row_seed(self.seed, f"{self.task.name}:{self.lang}:{name}"), **form,
        }  # fmt: skip
        if "chat" in self.model.provider.can:
            return Request(messages=tuple(turns), **settings)
        return Request(prompt="\n".join(content for _, content in turns), **settings)

    async def send(self, requests: Sequence[Request]) -> list[Said]:
        """The replies in order, bad ones with their fault. Raises ProviderError for what the model cannot do, and as `ask` does."""
        replies = await self.model.ask_all(requests)
        gone = [reply for reply in replies if isinstance(reply, ProviderError) and reply.kind in GONE]
        lacking = [reply for reply in replies if isinstance(reply, ProviderError) and reply.kind == "capability"]
        if lacking or (gone and len(gone) == len(replies)):
            raise (lacking or gone)[0]
        return [_said(reply, request) for reply, request in zip(replies, requests, strict=True)]


def _said(reply: Reply | ProviderError, request: Request) -> Said:
    if isinstance(reply, ProviderError):
        return Said("", "", f"{'form' if reply.kind == 'protocol' else 'call'}: {reply}")
    if reply.finish == "length":
        en, zh = f"the reply ran on to {request.max_tokens} tokens", f"回复到 {request.max_tokens} 个词元仍未结束"
        return Said(reply.text, reply.key, f"cut: {say(en, zh)}")
    if reply.finish == "filter":
        return Said(reply.text, reply.key, f"filter: {say('cut by the content filter', '被内容过滤截断')}")
    if not reply.text.strip():
        return Said("", reply.key, f"empty: {say('the reply is empty', '回复为空')}")
    return Said(reply.text.strip(), reply.key)


def read(said: Said, *names: str) -> tuple[dict[str, Any], str]:
    """The named values of a JSON reply, or why there are none: ({}, "form: ..."). What is left out is ""."""
    if said.fault:
        return {}, said.fault
    try:
        value = json_value(said.text).value
    except ValueError as error:
        return {}, f"form: {error}"
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict) or not any(name in value for name in names):
        en, zh = f"the reply has none of the keys {', '.join(names)}", f"回复中没有键：{'、'.join(names)}"
        return {}, f"form: {say(en, zh)}"
    return {name: value.get(name, "") for name in names}, ""
