"""Is selection worth it here? A small proxy model tuned on selected rows and on random rows of equal tokens, over several seeds.

Both are evaluated on the same rows, which neither was tuned on, and the answer is an interval over rows and seeds: "worth it", "cannot
tell" or "worse". Where `tune`, `evaluate` and `select` meet on what a run has already selected.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zhiling import registry, steps
from zhiling.errors import DataError, RecipeError, say
from zhiling.proof import prove
from zhiling.proof.probe_rows import Arms, Rows, draw
from zhiling.recipe import EvaluateSpec
from zhiling.store import Done, Store, current, whole
from zhiling.types import Example, Task, content_id

Watch = Callable[[Mapping[str, Any]], None]
ARMS = ("selected", "random")
VERDICTS = {"better": "worth it", "worse": "worse", "cannot tell": "cannot tell"}
ANSWER = 64  # tokens that an answer may have at most
TUNING, ASKING = 0.75, 0.25  # about how a tuning and the questions to its model share the time
CODE = ("proof.probe", "proof.probe_rows", "proof.prove")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a probe costs and how sure it is. `tokens` (prompt and answer) are tuned on for each of `seeds` x 2 tunings of `model`, a name
    or folder as in a recipe's `tune`; evaluated on are `rows` rows at most, of as many tokens at most, of held-out rows twice as many."""

    model: str = "embedded"
    tokens: int = 10_000
    rows: int = 200
    seeds: int = 3
    confidence: float = 0.95

    def check(self) -> None:
        """Raise RecipeError for a number out of range."""
        rules = {
            "tokens": (self.tokens >= 500, ">= 500"),
            "rows": (self.rows >= 10, ">= 10"),
            "seeds": (2 <= self.seeds <= 100, "2..100"),
            "confidence": (0.5 <= self.confidence < 1, "0.5..1"),
        }
        for name, (good, range_) in rules.items():
            if not good:
                value = getattr(self, name)
                what = say(f"'{name}' must be {range_}, got {value}", f"“{name}”应为 {range_}，实际为 {value}")
                raise RecipeError(what, where=f"--{name}")


def probe(folder: Path, settings: Settings | None = None, *, watch: Watch | None = None) -> dict[str, Any]:
    """Tune and compare on what the run in `folder` (of `zhiling run` or `zhiling select`) kept, and on its pool before selection.

    Evaluated on are the run's held-out rows: tasks with labels by the label that a model finds likeliest, so that learning the form of an
    answer counts for nothing, other tasks by their own metric. Else the rows of its `--against` files, else rows set aside from the pool:
    both by how likely a model finds their answers (geometric mean of the tokens' probabilities). Rows of more than 512 tokens are left out
    everywhere. A killed probe goes on where it
    stopped; a finished one returns at once unless its rows, settings or the code changed. Returns plain values: "verdict", "words",
    "source", "difference", "low", "high", "base", "selected", "random", "each" (by seed), "tasks", "tuned" (rows and tokens by arm and
    seed), "seconds". Raises DataError where there is nothing to compare, RecipeError for wrong settings, EngineError for a folder that
    is no run or in use.
    """
    settings = settings or Settings()
    settings.check()
    done = current(folder)
    chosen = next((entry for entry in reversed(done) if entry.stage == "select"), None)
    if chosen is None or "tasks" not in chosen.facts:
        mend = say("select first: zhiling run or zhiling select", "请先筛选：zhiling run 或 zhiling select")
        raise DataError(say("nothing was selected here", "这里还没有筛选结果"), where=str(folder), mend=mend)
    store = Store(folder)  # nobody else may work here meanwhile
    try:
        return _probe(folder, done, chosen, settings, watch or (lambda event: None))
    finally:
        store.close()


def _probe(folder: Path, done: Sequence[Done], chosen: Done, settings: Settings, watch: Watch) -> dict[str, Any]:
    if "torch" not in sys.modules:  # the tokenizer below loads it, and OpenMP reads this once: see `tune.train`
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from zhiling.tune import model as models

    began = time.monotonic()
    base = models.locate(settings.model)
    watch({"stage": "probe", "note": say("drawing rows", "抽取数据")})
    arms = draw(
        folder, done, chosen, Rows(models.load_tokenizer(base), models.context(base)), settings.tokens, settings.rows, settings.seeds
    )  # fmt: skip
    key = _key(arms, settings, models.fingerprint(base))
    place = folder / "probe"
    known = _known(place / "result.json", key)
    if known is not None:
        return known
    ahead = Ahead(settings.seeds * len(ARMS), watch)
    facts = _Facts(arms, _tasks(chosen), settings, place, ahead)
    values: dict[str, list[dict[str, float | None]]] = {arm: [] for arm in ARMS}
    for seed in range(settings.seeds):
        for arm in ARMS:
            values[arm].append(facts.tuned(arm, seed, arms.of(arm)[seed]))
    found = _told(arms, settings, values, facts.base())
    found["seconds"] = round(time.monotonic() - began)
    with whole(place / "result.json") as file:
        file.write(json.dumps({"key": key, **found}, ensure_ascii=False, indent=1).encode())
    for arm in ARMS:
        for seed in range(settings.seeds):
            shutil.rmtree(
                place / f"{arm}-{seed}", ignore_errors=True
            )  # the answers are kept, the adapters are not wanted
    return found


def _key(arms: Arms, settings: Settings, model: str) -> str:
    rows = [[row.id for row in part] for part in (arms.asked, *arms.selected, *arms.random)]
    code = [
        *(registry.module_version(f"zhiling.{name}") for name in CODE),
        *map(registry.room_version, ("tune", "evaluate", "llm")),
    ]
    return content_id("probe", rows, asdict(settings), model, code)


def _known(file: Path, key: str) -> dict[str, Any] | None:
    """What an earlier call finished under the same key."""
    if not file.is_file():
        return None
    held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return held if held.pop("key") == key else None


def _tasks(chosen: Done) -> dict[str, Task]:
    from pydantic import TypeAdapter

    return TypeAdapter(dict[str, Task]).validate_python(chosen.facts["tasks"])


def _by_choice(task: Task, arms: Arms) -> Task:
    """A task with labels measured by the likeliest of the answers that its rows give: templates may name a label in another language."""
    drawn = (arms.asked, *arms.selected, *arms.random)
    answers = {row.output.strip() for part in drawn for row in part if row.task == task.name}
    closed = task.labels and 2 <= len(answers) <= 2 * len(task.labels)
    return replace(task, metric="choice", labels=tuple(sorted(answers))) if closed else task


class _Facts:
    """What is found out about one tuning after the other."""

    def __init__(self, arms: Arms, tasks: Mapping[str, Task], settings: Settings, place: Path, ahead: Ahead) -> None:
        self.arms, self.settings, self.place, self.ahead = arms, settings, place, ahead
        self.tasks = {name: _by_choice(task, arms) for name, task in tasks.items()}
        self.spec = EvaluateSpec(max_tokens=ANSWER, confidence=settings.confidence)

    def tuned(self, arm: str, seed: int, rows: Sequence[Example]) -> dict[str, float | None]:
        """The evaluated rows' scores under the proxy tuned on these rows."""
        self.ahead.begin(arm, seed)
        how = prove.settings_of({"epochs": 1, "checkpoint_every": 5}, where="probe", seed=seed)
        tuned = prove.tune(self.settings.model, rows, self.place / f"{arm}-{seed}", how, self.ahead.tuning)
        found = self._scores(tuned, after=True)
        self.ahead.end()
        return found

    def base(self) -> dict[str, float | None]:
        """The evaluated rows' scores under the proxy as it was before."""
        return self._scores({"base": self.settings.model, "method": "lora", "folder": ""}, after=False)

    def _scores(self, tuned: Mapping[str, Any], *, after: bool) -> dict[str, float | None]:
        from zhiling.evaluate.suite import score

        asked, cache = self.arms.asked, self.place / "replies.sqlite"
        hear = self.ahead.asking
        if self.arms.source != "heldout":
            return steps.wait(prove.likelihoods_of("probe", tuned, asked, self.spec, cache, hear, after=after))
        answers = steps.wait(
            prove.answers_of("probe", tuned, asked, self.spec, cache, hear, after=after, tasks=self.tasks)
        )
        return score(asked, answers, self.tasks)


class Ahead:
    """Says of a probe's many tunings which one is under way and how long all of them will take, by those done in this process."""

    def __init__(self, total: int, watch: Watch) -> None:
        self.total, self.watch, self.at = total, watch, 0
        self.began, self.skipped, self.label, self.share = time.monotonic(), 0.0, "", 0.0

    def begin(self, arm: str, seed: int) -> None:
        """The next tuning begins."""
        self.at += 1
        self.share, self.start = 0.0, time.monotonic()
        name = {"selected": say("selected rows", "筛选数据"), "random": say("random rows", "随机数据")}[arm]
        self.label = say(
            f"{self.at} of {self.total}: {name}, seed {seed}", f"第 {self.at}/{self.total} 次：{name}，种子 {seed}"
        )
        self.watch({"stage": "probe", "task": self.label})

    def tuning(self, event: Mapping[str, Any]) -> None:
        """A step of tuning is done."""
        self._tell(event, TUNING, 0.0, event.get("loss"))

    def asking(self, event: Mapping[str, Any]) -> None:
        """A question to the tuned model is answered."""
        self._tell(event, ASKING, TUNING, None)

    def end(self) -> None:
        """The tuning and its questions are over; one that was finished before says nothing about the time."""
        if time.monotonic() - self.start < 1:
            self.skipped += 1
        self.share = 0.0

    def _tell(self, event: Mapping[str, Any], weight: float, before: float, loss: float | None) -> None:
        done, total = event.get("done"), event.get("total")
        if not done or not total:
            return
        self.share = before + weight * done / total
        worked = self.at - 1 - self.skipped + self.share
        left = (time.monotonic() - self.began) / max(worked, 1e-9) * (self.total - self.at + 1 - self.share)
        note = say(f"all done in about {_minutes(left)}", f"全部完成约需 {_minutes(left)}") if worked > 0.1 else ""
        what = say("tune", "调优") if not before else say("evaluate", "评测")
        told = {"stage": "probe", "task": f"{self.label}, {what}", "done": done, "total": total}
        self.watch({**told, **({"loss": loss} if loss is not None else {}), "note": note})


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _told(
    arms: Arms, settings: Settings, values: Mapping[str, Sequence[Mapping[str, float | None]]], base: Mapping[str, float | None]
) -> dict[str, Any]:  # fmt: skip
    """The comparison as plain values."""
    from zhiling.evaluate.crossed import crossed

    groups = {row.id: row.task for row in arms.asked}
    overall = crossed(values["selected"], values["random"], groups, confidence=settings.confidence)
    tasks = {}
    for name in sorted(set(groups.values())):
        mine = {row: task for row, task in groups.items() if task == name}
        one = crossed(values["selected"], values["random"], mine, confidence=settings.confidence)
        tasks[name] = {
            **asdict(one),
            "each": list(one.each),
            "verdict": VERDICTS[one.verdict],
            "base": _mean(base, [mine]),
        }
    found: dict[str, Any] = {
        "verdict": VERDICTS[overall.verdict], "source": arms.source, "rows": overall.rows,
        "seeds": settings.seeds, "confidence": settings.confidence, "difference": overall.difference, "low": overall.low,
        "high": overall.high, "base": _mean(base, [{r: t for r, t in groups.items() if t == name} for name in tasks]),
        "selected": overall.first, "random": overall.second, "each": list(overall.each), "tasks": tasks, "model": settings.model,
        "tuned": {arm: {"rows": [len(part) for part in arms.of(arm)], "tokens": arms.tokens[arm]} for arm in ARMS},
        "pool": arms.pool, "kept": arms.kept, "leaks": len(arms.leaks),
    }  # fmt: skip
    found["words"] = {"en": _words(found, zh=False), "zh": _words(found, zh=True)}
    return found


def _mean(values: Mapping[str, float | None], groups: Iterable[Mapping[str, str]]) -> float | None:
    means = []
    for group in groups:
        known = [value for row in group if (value := values.get(row)) is not None]
        means += [sum(known) / len(known)] if known else []
    return sum(means) / len(means) if means else None


def _words(found: Mapping[str, Any], zh: bool) -> str:
    """The verdict in one sentence, with what it does not say."""
    if found["difference"] is None:
        return "无法判断：没有一行在所有模型下都得到分数" if zh else "cannot tell: no row was scored under every model"
    points = f"{round(100 * found['difference'], 1) + 0.0:+.1f}"  # no -0.0
    span = "—" if found["low"] is None else f"{100 * found['low']:+.1f} … {100 * found['high']:+.1f}"
    level = f"{100 * found['confidence']:g}%"
    said = {
        "worth it": ("worth it", "值得筛选"), "worse": ("worse: random rows taught more", "反而更差：随机数据教得更多"),
        "cannot tell": ("cannot tell", "无法判断"),
    }[found["verdict"]]  # fmt: skip
    en = f"{said[0]}: {points} points ({level} interval {span}, {found['rows']} rows, {found['seeds']} seeds)"
    chinese = f"{said[1]}：{points} 分（{level} 区间 {span}，{found['rows']} 行，{found['seeds']} 个种子）"
    best = max(found["selected"], found["random"])
    if found["base"] is not None and best <= found["base"]:
        en += "; neither beats the untuned model, so this budget taught nothing here: raise --tokens"
        chinese += "；两者都没有超过未调优的模型，说明这点预算没有教会什么：请调大 --tokens"
    return chinese if zh else en


def lines(found: Mapping[str, Any]) -> list[str]:
    """A probe as text."""
    from zhiling.show import table_lines

    source = {
        "heldout": say(
            "the run's held-out rows, by the likeliest label where a task has labels, else by its metric",
            "运行的留出数据：有标签的任务按最可能的标签，其余按各自的指标",
        ),
        "against": say(
            "the evaluation files' rows, by the probability of their answers", "评测文件中的数据，按其答案的概率"
        ),
        "pool": say(
            "rows set aside from the pool, as good or bad as it is, by the probability of their answers",
            "从数据池中留出的数据（好坏与数据池相同），按其答案的概率",
        ),
    }[found["source"]]
    named = {**found["tasks"], **({say("all tasks", "全部任务"): found} if len(found["tasks"]) > 1 else {})}
    rows = []
    for name, one in named.items():
        selected, random = (one.get("selected", one.get("first")), one.get("random", one.get("second")))
        low, high = (None if one[end] is None else f"{one[end]:+.3f}" for end in ("low", "high"))
        rows.append({
            say("task", "任务"): name, say("rows", "行数"): one["rows"], say("untuned", "未调优"): _three(one["base"]),
            say("random", "随机"): _three(random), say("selected", "筛选"): _three(selected),
            say("difference", "差值"): "-" if one["difference"] is None else f"{one['difference']:+.3f}",
            say("interval", "区间"): "-" if low is None else f"[{low}, {high}]",
            say("verdict", "结论"): say(one["verdict"], SAID[one["verdict"]]),
        })  # fmt: skip
    tuned = found["tuned"]
    spent = {arm: f"{min(tuned[arm]['tokens'])}-{max(tuned[arm]['tokens'])}" for arm in ARMS}
    counts = {arm: f"{min(tuned[arm]['rows'])}-{max(tuned[arm]['rows'])}" for arm in ARMS}
    return [
        say("evaluated on ", "评测：") + source,
        say(
            f"tuned on     selected: {spent['selected']} tokens in {counts['selected']} rows of {found['kept']}; "
            f"random: {spent['random']} tokens in {counts['random']} rows of {found['pool']}",
            f"调优：筛选 {spent['selected']} 个词元（{found['kept']} 行中的 {counts['selected']} 行）；"
            f"随机 {spent['random']} 个词元（{found['pool']} 行中的 {counts['random']} 行）",
        ),
        *table_lines(rows),
        found["words"][say("en", "zh")],
        say(
            f"a proxy's word on {found['model']} at this budget, not a law; it took {_minutes(found['seconds'])} (minutes:seconds)",
            f"这只是 {found['model']} 在此预算下的结果，并非定论；用时 {_minutes(found['seconds'])}（分:秒）",
        ),
    ]


SAID = {"worth it": "值得", "worse": "更差", "cannot tell": "无法判断"}


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
