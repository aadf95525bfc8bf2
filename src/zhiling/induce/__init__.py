"""The contest: which instruction serves a task best? All three ways propose, quality is judged, and what happens decides.

    propose -> judge -> race -> reflect, and race on -> report

Peers spend alike but split otherwise: APE (Zhou et al. 2022) scores and reports its winner on the same rows, so its figure is too good
(the best of many is lucky); ProTeGi and OPRO race on what they reflect on. Here the three sides never meet (`induce_task.split`), the
race is paired and stops early (`induce_race`), and what is reported comes from rows that nobody has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zhiling import text
from zhiling.construct.generate.asking import styled
from zhiling.construct.generate.reflect import betterments
from zhiling.errors import ProviderError, RecipeError, say
from zhiling.induce.execute import Answer, By, Executor, Purse, fields_text
from zhiling.induce.propose import (
    MOST,
    Entrant,
    Lost,
    Means,
    Proposed,
    asked,
    forms,
    judged,
    propose,
    seated,
    with_form,
    without_form,
)
from zhiling.induce.race import Race, Runner, interval, rungs
from zhiling.induce.task import Row, Split, Subject, demos, split
from zhiling.types import Task

Watch = Callable[[Mapping[str, Any]], None]
SHOWN_DEMOS = 12
REFLECTED, LOOKED_AT = 6, 6
"""How many instructions are asked for by reflection, and on how many rows the leader's mistakes are looked for."""
REWORDED = 2
"""How many of those in front are tried in other forms of words."""
THIN = 3
"""Rows that each candidate should get in the first rung: fewer seats rather than fewer rows."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the contest is held. `calls` is a hard limit for everything asked, `usd` another; see `Executor` for `by` and `free`."""

    calls: int = 600
    usd: float | None = None
    by: By = "auto"
    free: bool = False
    seed: int = 0
    confidence: float = 0.95
    lang: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the calls are meant to be spent: to propose, to reflect, and on how many rows the finalists are reported."""

    draws: int
    reflect: int
    report: int
    finalists: int

    @property
    def reserve(self) -> int:
        """Calls kept back for the report."""
        return self.report * self.finalists


@dataclass(slots=True)
class Outcome:
    """What the contest came to. `order` are the entrants' numbers from best to worst; `reported` the finalists' answers to the report
    rows, by number; empty where there were no rows to report on, or no money left."""

    task: Task
    by: str
    settings: Settings
    split: Split
    purse: Purse
    notes: list[str] = field(default_factory=list)
    entrants: list[Entrant] = field(default_factory=list)
    runners: list[Runner] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    reported: dict[int, list[Answer]] = field(default_factory=dict)
    stopped: str = ""

    @property
    def winner(self) -> Entrant | None:
        """The best instruction; None where there was no candidate."""
        return self.entrants[self.order[0]] if self.order else None

    def interval(self, place: int) -> tuple[float, float, float] | None:
        """(mean, low, high) on the report rows of the one at that place; None where it was not reported on."""
        if place >= len(self.order):
            return None
        values = [a.value for a in self.reported.get(self.order[place], ()) if a.value is not None]
        return interval(values, self.settings.confidence)


def plan(settings: Settings, rows: int, described: bool) -> Plan:
    """The calls' shares: a tenth to propose, a fifth to report (the finalists are two, and the given wording), the rest to race."""
    finalists = 3 if described else 2
    report = min(100, round(0.2 * settings.calls / finalists), round(0.3 * rows)) if rows >= 6 else 0
    draws = max(4, min(40, settings.calls // 10))
    return Plan(draws, LOOKED_AT + REFLECTED if settings.calls >= 120 else 0, report, finalists)


def seats(calls: int) -> int:
    """How many may run: the most for whom the first rung still means THIN rows each."""
    found = 2
    while (found + 1) * THIN * rungs(found + 1) <= calls and found < 48:
        found += 1
    return found


async def contest(subject: Subject, settings: Settings, executor: Any, means: Means, watch: Watch) -> Outcome:
    """Hold the contest: `executor` is the target llm.Model, `means` what proposing needs (its purse is the contest's).

    Raises RecipeError where there is nothing to propose from, ProviderError where a model cannot do what is asked of it, or answers no
    more; one that stops for the budget ends the contest with what is known by then.
    """
    lang = settings.lang or ("zh" if subject.task.langs[:1] == ("zh",) else "en")
    rows = _spoken(subject, lang)
    shares = plan(settings, len(rows), bool(subject.task.description))
    sides = split(rows, settings.seed, shares.report)
    known = replace(
        subject.task, langs=(lang,), demos=(*subject.task.demos, *demos(sides.propose, subject.task))[:SHOWN_DEMOS]
    )
    means.tasks[known.name] = known
    run = _Contest(known, settings, shares, sides, executor, means, watch)
    run.out.notes += subject.notes
    try:
        await run.hold(lang)
    except ProviderError as error:
        if error.kind != "budget":
            raise
        run.out.stopped = str(error)
    run.close()
    return run.out


def _spoken(subject: Subject, lang: str) -> list[Row]:
    """The rows of a bilingual task that are in the contest's language; all rows of others."""
    if len(subject.task.langs) < 2:
        return list(subject.rows)
    same = [row for row in subject.rows if (text.lang(" ".join(row.fields.values())) == "zh") == (lang == "zh")]
    return same or list(subject.rows)


class _Contest:
    """A contest under way: what its steps share."""

    def __init__(
        self, task: Task, settings: Settings, shares: Plan, sides: Split, model: Any, means: Means, watch: Watch
    ) -> None:
        self.task, self.settings, self.shares, self.sides, self.means, self.watch = (
            task,
            settings,
            shares,
            sides,
            means,
            watch,
        )
        self.executor = Executor(
            model, task, sides.propose, means.purse, by=settings.by, free=settings.free, heard=self._heard
        )
        self.out = Outcome(task, self.executor.by, settings, sides, means.purse)
        self.found = Proposed([], [])
        self.race = Race(self._execute, len(sides.race), lambda: means.purse.left(shares.reserve), settings.confidence)
        self.forms: list[str] = []
        self._stage = ""

    async def hold(self, lang: str) -> None:
        """The sentence at the top of this file."""
        self._begin(say("propose", "提出候选"))
        self.forms = forms(self.task, lang)
        free = self.means.purse.left(self.shares.draws + self.shares.reserve + self.shares.reflect)
        most = max(MOST, seats(free) // 3)  # room for each way to send as many
        self.found = await propose(self.task, lang, self.shares.draws, self.means, most)
        if not self.found.entrants:
            raise self._nothing()
        free = self.means.purse.left(self.shares.reserve + self.shares.reflect)
        room = seats(free) if self.sides.race else len(self.found.entrants)
        for one in seated(self.found, room, self.task, self.forms[0] if self.forms else ""):
            self._enter(one)
        if not self.sides.race or not self.sides.report:
            self.out.notes.append(
                say(
                    "too few examples (6 are the least) to race and report apart: nothing was executed, quality alone decides",
                    "示例太少（至少 6 条），无法分开比赛与报告：未执行，只按质量排序",
                )
            )
            return
        self._begin(say("race", "比赛"))
        await self._run(lang)
        self._begin(say("report", "报告"))
        await self._report()

    async def _run(self, lang: str) -> None:
        total = rungs(len(self.out.entrants))
        for left in range(total, 0, -1):
            if not await self.race.rung(left):
                break
            if left == total:
                self._reword()
                if self.shares.reflect and self.means.model is not None:
                    await self._reflect(lang)
        while not self.race.decided and await self.race.rung(2):
            pass

    def _reword(self) -> None:
        """Those in front also without the form of the answer, and with it in other words: that costs no call to propose."""
        known = {one.text for one in self.out.entrants}
        for i in self.race.running[:REWORDED]:
            one = self.out.entrants[i]
            more = [with_form(one, self.task, said, f"+form{n}") for n, said in enumerate(self.forms[1:], 2)]
            for other in (without_form(one), *more):
                if other.text not in known:
                    known.add(other.text)
                    self._enter(other)

    async def _reflect(self, lang: str) -> None:
        """The leader's mistakes on rows to propose from, and how the front fared, make new candidates, which catch up."""
        front = self.race.running[:4]
        best = self.out.entrants[front[0]]
        looked = self.sides.propose[:LOOKED_AT]
        answers = await self.executor.run(best.template, looked)
        ranked = sorted(
            zip(looked, answers, strict=True), key=lambda pair: math.inf if pair[1].value is None else pair[1].value
        )
        wrong = [
            (fields_text(row), row.answers[0], answer.said)
            for row, answer in ranked
            if answer.value is not None and (answer.value < 1 or self.executor.by == "likelihood")
        ]
        tried = [(self.out.entrants[i].text, 100 * self._share(self.race.runners[i].mean)) for i in front]
        model = self.means.model
        assert model is not None
        how: dict[str, Any] = {
            "chat": "chat" in model.provider.can,
            "style": styled(model, "auto"),
            "temperature": self.means.temperature,
        }
        requests = betterments(best.text, wrong, tried, lang=lang, count=REFLECTED, seed=self.settings.seed, **how)
        plain = replace(self.task, output_format="")
        await asked(self.found, requests, plain, lang, self.means)
        await judged(self.found, self.task, self.means)
        known = {one.text for one in self.out.entrants}
        for one in self.found.entrants:
            if one.text not in known and one.how in ("reflect", "improve"):
                self._enter(with_form(one, self.task, self.forms[0] if self.forms else ""))

    def _share(self, mean: float) -> float:
        """A mean as a share between 0 and 1, for a model to read."""
        return math.exp(min(0.0, mean)) if self.executor.by == "likelihood" else min(1.0, max(0.0, mean))

    async def _report(self) -> None:
        order = self.race.standing().order
        given = next((i for i in order if self.out.entrants[i].how == "description"), None)
        finalists = list(dict.fromkeys([*order[:2], *([given] if given is not None else [])]))
        for i in finalists:
            self.out.reported[i] = await self.executor.run(self.out.entrants[i].template, self.sides.report)

    async def _execute(self, i: int, places: Sequence[int]) -> list[float | None]:
        answers = await self.executor.run(self.out.entrants[i].template, [self.sides.race[place] for place in places])
        return [answer.value for answer in answers]

    def _enter(self, one: Entrant) -> None:
        self.out.entrants.append(one)
        self.race.enter()

    def close(self) -> None:
        """Put down how it ended, also where it ended early."""
        standing = self.race.standing()
        self.out.runners, self.out.lost = standing.runners, self.found.lost
        self.out.order = standing.order if any(r.scored for r in standing.runners) else self._by_quality()

    def _by_quality(self) -> list[int]:
        quality = [-(one.quality if one.quality is not None else -1.0) for one in self.out.entrants]
        return sorted(range(len(quality)), key=lambda i: (quality[i], i))

    def _nothing(self) -> RecipeError:
        why = "; ".join(dict.fromkeys(f"{one.way}: {text.cut(one.why, 80)}" for one in self.found.lost[:5]))
        return RecipeError(
            say(f"no way had a usable candidate ({why or '-'})", f"没有任何方式给出可用的候选（{why or '-'}）"),
            where="TASK",
            mend=say("describe the task, or give examples", "请描述任务，或给出示例"),
        )

    def _begin(self, stage: str) -> None:
        self._stage = stage
        self._heard()

    def _heard(self) -> None:
        purse = self.means.purse
        usd = purse.paid if purse.usd_known else None
        self.watch({"stage": self._stage, "done": purse.asked, "total": purse.calls, "calls": purse.asked, "usd": usd})
