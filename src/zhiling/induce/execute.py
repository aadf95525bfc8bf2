"""Executing an instruction: the target model works on rows under it, and its answers are measured, or the right answers' likelihood is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal, TypeAlias

from zhiling import registry, text
from zhiling.construct.sandbox import compiled
from zhiling.construct.template import render
from zhiling.errors import ProviderError, RecipeError, say
from zhiling.induce.task import Row
from zhiling.llm.base import lacks
from zhiling.types import Reply, Request, Task, Template

if TYPE_CHECKING:
    from zhiling.llm import Model

By: TypeAlias = Literal["auto", "metric", "likelihood"]
LONGEST = 256
"""Most tokens of an answer."""


@dataclass(slots=True)
class Purse:
    """What the contest has asked for, cached or not, so that a contest that is run again takes the same decisions.

    `calls` and `usd` are limits (None: none), `asked` and `paid` what was used of them; `usd_known` is False as soon as a price is
    missing. The model's own budget holds as well: this one plans, that one stops.
    """

    calls: int
    usd: float | None = None
    asked: int = 0
    paid: float = 0.0
    usd_known: bool = True

    def left(self, reserve: int = 0) -> int:
        """Calls that may still be made when `reserve` are to be kept back; fewer where the money left pays for fewer."""
        calls = self.calls - self.asked
        if self.usd is not None and self.asked and self.paid > 0:
            calls = min(calls, int((self.usd - self.paid) / (self.paid / self.asked)))
        return max(0, calls - reserve)

    def note(self, reply: Reply | ProviderError) -> None:
        """Count a call."""
        self.asked += 1
        if isinstance(reply, Reply):
            self.usd_known = self.usd_known and reply.usd is not None
            self.paid += reply.usd or 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a row: its value (None: could not be had, and `why`), what the model said (under a metric), the reply's key."""

    value: float | None
    said: str = ""
    why: str = ""
    key: str = ""


class Executor:
    """Runs templates on rows with one model. One call per row.

    By "metric": the model answers greedily and the task's metric compares; where the answers are a closed set and the model can be held
    to one of them while decoding, it is (unless `free`). By "likelihood": the mean log-probability, in nats, of the right answer's
    tokens (of the first one's, where several are right); at most 0, higher better. "auto" is the metric where the model writes text.
    Raises ProviderError(kind="capability") for a model that can do neither.
    """

    def __init__(
        self, model: Model, task: Task, shown: Sequence[Row], purse: Purse, *, by: By = "auto", free: bool = False,
        heard: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        can = model.provider.can
        self.model, self.task, self.purse = model, task, purse
        self.chat = "chat" in can
        if not can & {"chat", "complete"}:
            raise lacks(model.provider, "chat")
        if by == "likelihood" and "score" not in can:
            raise lacks(model.provider, "score")
        self.by = "metric" if by == "auto" else by
        self.closed = not free and "choices" in can
        self._metric = registry.get("metric", task.metric).fn
        answers = [answer for row in shown for answer in row.answers]
        self._stop = ("\n",) if not any("\n" in answer.strip() for answer in answers) else ()
        longest = max((len(answer.encode("utf-8", "replace")) for answer in answers), default=200)
        self._tokens = min(LONGEST, 8 + longest // 2)
        self._heard = heard or (lambda: None)

    async def run(self, template: Template, rows: Sequence[Row]) -> list[Answer]:
        """The answer to each row under the template, in order. A row that cannot be worded or answered has the value None and says why.

        Raises ProviderError when the model answers no more (key, quota, budget, endpoint gone).
        """
        asked: list[tuple[int, Request]] = []
        out = [Answer(None)] * len(rows)
        for place, row in enumerate(rows):
            try:
                asked.append((place, self._request(template, row)))
            except RecipeError as error:
                out[place] = Answer(None, why=str(error))
        async for at, reply in self.model.map(request for _, request in asked):
            place = asked[at][0]
            self.purse.note(reply)
            out[place] = self._answer(template, rows[place], reply)
            self._heard()
        return out

    def _request(self, template: Template, row: Row) -> Request:
        prompt = render(template, row.fields)
        choices = row.choices or tuple(self._worded(template, row, label) for label in self.task.labels)
        if row.choices:
            listed = "\n".join(f"- {choice}" for choice in row.choices)
            prompt = f"{prompt}\n{listed}"
        turns = (("system", template.system),) if template.system else ()
        words = {
            "messages": (*turns, ("user", prompt)) if self.chat else (),
            "prompt": None if self.chat else f"{prompt}\n\n{'答案：' if template.lang == 'zh' else 'Answer:'}",
        }
        if self.by == "likelihood":
            gap = "" if self.chat or template.lang == "zh" else " "
            return Request(**words, continuation=gap + self._worded(template, row, row.answers[0]))  # type: ignore[arg-type]
        held = tuple(choices) if self.closed else ()
        return Request(**words, max_tokens=self._tokens, stop=self._stop, choices=held)  # type: ignore[arg-type]

    def _worded(self, template: Template, row: Row, answer: str) -> str:
        """An answer as the template words it: a library's template may say "positive" for the label "pos"."""
        if not template.output:
            return answer
        return compiled(template.output).render({**row.fields, self.task.target: answer, "task": self.task.name})

    def _answer(self, template: Template, row: Row, reply: Reply | ProviderError) -> Answer:
        if isinstance(reply, ProviderError):
            return Answer(None, why=str(reply))
        if self.by == "likelihood":
            values = [value for _, value in reply.logprobs]
            if not values or not all(map(math.isfinite, values)):
                return Answer(None, why=say("the model gave no probabilities", "模型没有给出概率"), key=reply.key)
            return Answer(fmean(values), key=reply.key)
        if reply.finish == "filter":
            return Answer(None, reply.text, say("the content filter cut the reply", "回复被内容过滤截断"), reply.key)
        lang = "zh" if text.lang(row.answers[0]) == "zh" else "en"
        right = (self._worded(template, row, answer) for answer in row.answers)
        value = max(float(self._metric(reply.text, answer, lang=lang)) for answer in right)
        return Answer(value, reply.text, key=reply.key)


def fields_text(row: Row) -> str:
    """A row's inputs in one line, for a prompt that shows mistakes."""
    return text.cut(" / ".join(row.fields.values()), 160)


def unit(by: str, metric: str) -> str:
    """What a value means, in words."""
    if by == "likelihood":
        return say("log-probability of the right answer per token, in nats", "正确答案每个词元的对数概率（奈特）")
    return metric
