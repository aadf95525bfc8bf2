"""One model measured on rows, or two compared on the same ones; where `llm`, `evaluate` and the guards of `select` meet, without a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from zhiling import registry, steps
from zhiling.data.sets import examples, form_of
from zhiling.errors import DataError, RecipeError, say
from zhiling.proof import prove
from zhiling.proof.sides import Side
from zhiling.proof.sources import Source, rows_of
from zhiling.stages import GUARDS
from zhiling.store import current, read
from zhiling.text import cut
from zhiling.types import Example, Task

if TYPE_CHECKING:
    from zhiling.evaluate.drift import Seen
    from zhiling.evaluate.execution import Execute
    from zhiling.evaluate.predict import Prediction
    from zhiling.llm import Model
    from zhiling.proof.duel import Ruling
    from zhiling.run import Watch

Drift: TypeAlias = Literal["likelihood", "written"] | None
CLOSED = 12
"""Distinct answers up to which rows of a file are taken for a task with labels, where each occurs twice at least on average."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured on which rows.

    `data` are data files (a file's name is its task) or runs' folders (their held-out rows and tasks); `columns` {our name: the file's}.
    `metric` "" takes the run's own, and for a file `accuracy` where its answers are a few labels, else `rouge_l`. `trained_on` are files and
    runs that the models were tuned on, besides those that are known. Rows that the training shows are left out with `clean`, and
    counted in with `force`; otherwise they are refused.

    Of a comparison: `drift` puts the checks of `evaluate.drift` to both, None: where the second model was tuned here; `judge` is asked of
    each row whose answer is better. The metric `execution` runs queries on `database`; without one, a file's rows are programs.
    """

    data: Sequence[Path]
    metric: str = ""
    labels: Sequence[str] = ()
    form: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    max_tokens: int | None = None
    confidence: float = 0.95
    seed: int = 0
    trained_on: Sequence[Path] = ()
    clean: bool = False
    force: bool = False
    cache: Path | None = None
    drift: bool | None = None
    judge: Side | None = None
    database: Path | None = None


@dataclass(frozen=True, slots=True)
class Paper:
    """The rows that are asked, their tasks, what could not be used, and what is known of contamination.

    `training` counts the rows that the models were tuned on, None where nobody knows them; `leaked` maps the rows that these show to why;
    `unknown` names the models that were tuned here on nobody knows what.
    """

    rows: list[Example]
    tasks: dict[str, Task]
    unusable: int
    training: int | None
    leaked: dict[str, str]
    unknown: list[str]

    def told(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "checked": self.training is not None,
            "training_rows": self.training,
            "unknown": self.unknown,
            "rows": len(self.leaked),
            "counted_in": sum(row.id in self.leaked for row in self.rows),
        }


def paper(asked: Asked, sides: Sequence[Side], watch: Watch) -> Paper:
    """The rows to ask, each task's at most `asked.rows`, and whether the models' training shows any of them.

    Raises DataError where no row is usable, and where rows are contaminated unless `clean` or `force` is set.
    """
    rows, tasks, unusable = _rows(asked)
    if asked.metric:
        registry.get("metric", asked.metric, "--metric")
        tasks = {name: replace(task, metric=asked.metric) for name, task in tasks.items()}
    if asked.labels:
        tasks = {name: replace(task, labels=tuple(asked.labels)) for name, task in tasks.items()}
    usable = [row for row in rows if row.output.strip() or tasks[row.task].metric == "constraints"]
    chosen, unusable = prove.choose(usable, asked.rows), unusable + len(rows) - len(usable)
    if not chosen:
        mend = say("rows need an instruction and an answer", "数据行需要指令与答案")
        raise DataError(say("no row to ask", "没有可用于评测的数据"), where=str(asked.data[0]), mend=mend)
    trained = [*asked.trained_on, *(side.run for side in sides if side.run is not None)]
    leaked, training = dict[str, str](), None
    kept = {source: source.same() for side in sides for source in side.files}
    if trained or any(kept.values()):
        watch({"stage": "select/decontaminate", "rows": len(chosen)})
        shown = [row for place in dict.fromkeys(trained) for row in taught(place)]
        shown += [row for source, same in kept.items() if same for row in taught(source.path, source.form)]
        leaked, training = contaminated(chosen, shown, tasks, asked.seed), len(shown)
    if leaked and not asked.clean and not asked.force:
        one = next(row for row in chosen if row.id in leaked)
        what = say(
            f"{len(leaked)} of {len(chosen)} rows are contaminated, such as '{cut(one.input or one.instruction, 50)}': a training row "
            f"{leaked[one.id]}",
            f"{len(chosen)} 行中有 {len(leaked)} 行受到污染，例如“{cut(one.input or one.instruction, 50)}”：有训练数据{leaked[one.id]}",
        )
        mend = say(
            "leave them out with --clean, or count them in and say so with --force",
            "用 --clean 剔除这些行，或用 --force 计入并标明",
        )
        raise DataError(what, where=str(asked.data[0]), mend=mend)
    if asked.clean:
        chosen = [row for row in chosen if row.id not in leaked]
        if not chosen:
            raise DataError(say("every row is contaminated", "所有数据行都受到污染"), where=str(asked.data[0]))
    unknown = [
        side.label
        for side in sides
        if side.base and side.run is None and not asked.trained_on and not _known(side, kept)
    ]
    return Paper(chosen, tasks, unusable, training, leaked, unknown)


def _rows(asked: Asked) -> tuple[list[Example], dict[str, Task], int]:
    rows, tasks, unusable = dict[str, Example](), dict[str, Task](), 0
    for place in asked.data:
        if (place / "journal.sqlite").exists():
            done = current(place)
            found = [row for one in done for row in read(place, one.of("heldout"))]
            if not found:
                mend = say("set heldout in its recipe, or name a data file", "请在配方中设置 heldout，或给出数据文件")
                raise DataError(say("the run held no row out", "该运行没有留出数据"), where=str(place), mend=mend)
            tasks |= _tasks(place)
        else:
            name = place.name.split(".")[0]
            if name in tasks:
                mend = say("rename one: a file's name is its task", "请改名：文件名即任务名")
                raise DataError(
                    say(f"two tasks named '{name}'", f"有两个任务都叫“{name}”"), where=str(place), mend=mend
                )
            form = form_of(place, asked.form, asked.columns)
            read_in = [row for _, row in examples(place, form, name, asked.columns)]
            found = [row for row in read_in if isinstance(row, Example)]
            unusable += len(read_in) - len(found)
            tasks[name] = _guessed(name, found)
        rows |= {row.id: row for row in found}
    return list(rows.values()), tasks, unusable


def _tasks(run: Path) -> dict[str, Task]:
    """A run's tasks, as its selection kept them."""
    from pydantic import TypeAdapter

    facts = next((done.facts for done in reversed(current(run)) if "tasks" in done.facts), None)
    if facts is None:
        mend = say("run it to its end once more: zhiling run", "请用 zhiling run 重新运行到结束")
        raise DataError(say("nothing was selected here", "这里还没有筛选结果"), where=str(run), mend=mend)
    return TypeAdapter(dict[str, Task]).validate_python(facts["tasks"])


def _guessed(name: str, rows: Sequence[Example]) -> Task:
    answers = sorted({row.output.strip() for row in rows} - {""})
    langs = tuple(sorted({row.lang for row in rows if row.lang})) or ("en",)
    if 2 <= len(answers) <= min(CLOSED, len(rows) // 2):
        return Task(name, family="classification", langs=langs, labels=tuple(answers), metric="accuracy")
    return Task(name, langs=langs, metric="rouge_l")


def _known(side: Side, kept: Mapping[Source, bool]) -> bool:
    """Whether all the files that a model was tuned on still hold what they held."""
    return bool(side.files) and all(kept[source] for source in side.files)


def taught(place: Path, form: str = "") -> Iterator[Example]:
    """The rows that a run kept, or those of a data file: what a model was tuned on."""
    return (row for row in rows_of(place, form) if isinstance(row, Example))


def contaminated(
    rows: Sequence[Example], training: Sequence[Example], tasks: Mapping[str, Task], seed: int = 0
) -> dict[str, str]:
    """{evaluation row: why} for those that a training row shows, by the guards that a run's selection asks with their own thresholds.

    A guard names one evaluation row for each training row; so what it has named is taken away and it is asked again, until it names none.
    """
    from zhiling.embed import Use

    found: dict[str, str] = {}
    for name in GUARDS:
        plugin, shows = registry.get("selector", name), list(training)
        while (left := [row for row in rows if row.id not in found]) and shows:
            hand = {"scores": {}, "heldout": left, "tasks": tasks, "seed": seed, "embedder": Use(), "here": Path.cwd()}
            said = steps.collect(steps.call(plugin, registry.settle(plugin, {}), hand, shows))
            dropped = {verdict.example: verdict for verdict in steps.wait(said) if not verdict.kept}
            found |= {verdict.rival: verdict.why for verdict in dropped.values()}
            shows = [row for row in shows if row.id in dropped]
    return found


async def answers(
    side: Side, name: str, on: Paper, asked: Asked, watch: Watch, *, drift: Drift = None
) -> tuple[list[Prediction], dict[str, Any], Seen | None]:
    """(what one model answers to the rows, greedily; what was asked and paid for it; what it did in the drift checks).

    Replies are kept in the cache, so that a killed call asks nothing twice.
    """
    from zhiling.evaluate.predict import predict
    from zhiling.llm import open_model

    async with open_model(side.entry, cache=asked.cache, where=side.label) as model:
        found = await predict(
            prove.Told(model, cut(name, 32), watch), on.rows, max_tokens=asked.max_tokens, tasks=on.tasks
        )
        seen = await prove.look(model, cut(name, 32), watch, scores=drift == "likelihood") if drift else None
        return found, _paid(model), seen


def _execute(asked: Asked, tasks: Mapping[str, Task]) -> Execute:
    """What runs answers: of a run's tasks as its recipe's verifiers are set, of a file's on `asked.database`, else as programs."""
    from zhiling.proof.execution import checks_of, executor

    known: dict[str, Execute] = {}
    for place in asked.data:
        if (place / "journal.sqlite").exists() and (place / "recipe.yaml").exists():
            checks, here = checks_of(place)
            known |= dict.fromkeys(checks, executor(checks, here))
    plain: tuple[str, dict[str, Any]] = ("sql", {"database": asked.database}) if asked.database else ("code", {})
    other = executor({name: [plain] for name in tasks}, Path.cwd())
    return lambda task, rows, answers: known.get(task.name, other)(task, rows, answers)


def _how(sides: Iterable[Side]) -> Drift:
    """By likelihood where every model can score texts: what one of them writes says nothing beside how likely another finds it."""
    from zhiling.llm import open_model

    able = ["score" in open_model(side.entry, cache=None, where=side.label).can for side in sides]
    return "likelihood" if all(able) else "written"


def _paid(model: Model) -> dict[str, Any]:
    return {key: getattr(model.spent, key) for key in ("calls", "cached", "failed", "usd")}


def measure(side: Side, asked: Asked, watch: Watch) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(one model's mean scores with intervals by task, language, family and overall, its answers as rows).

    Every task weighs the same in what is said of several. Raises as `paper` does, ProviderError when the model answers no more.
    """
    from zhiling.evaluate.compare import mean_interval
    from zhiling.evaluate.suite import parted, score

    on = paper(asked, [side], watch)
    said, spent, _ = steps.wait(answers(side, side.label, on, asked, watch))
    why = dict[str, str]()
    values = score(on.rows, said, on.tasks, _execute(asked, on.tasks), why)

    def told(groups: Sequence[Sequence[Example]]) -> dict[str, Any]:
        scores = [{row.id: values[row.id] for row in rows} for rows in groups]
        found = mean_interval(scores, seed=asked.seed, confidence=asked.confidence)
        n = sum(value is not None for group in scores for value in group.values())
        mean, low, high = found or (None, None, None)
        return {"n": n, "failed": sum(map(len, groups)) - n, "score": mean, "low": low, "high": high}

    by_task, by_lang, by_family = (parted(on.rows, on.tasks, by) for by in ("task", "lang", "family"))
    result = {
        "model": side.label,
        "tasks": {name: {"metric": on.tasks[name].metric, **told(groups)} for name, groups in by_task.items()},
        "overall": told([rows for groups in by_task.values() for rows in groups]),
        "langs": {name: told(groups) for name, groups in by_lang.items()},
        "families": {name: told(groups) for name, groups in by_family.items()},
        "confidence": asked.confidence,
        "unusable": on.unusable,
        "contamination": on.told(),
        "spent": {side.label: spent},
    }
    rows = _written(on, {side.label: said}, {side.label: values})
    return result, [{**row, "why": why[row["id"]]} if row["id"] in why else row for row in rows]


def compare(
    first: Sequence[Side], second: Sequence[Side], asked: Asked, watch: Watch
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(how the second model does against the first on the same rows, the answers as rows).

    Several sides are one way tuned with several seeds; a single one is set against each of them. Then the interval is over rows and seeds.
    Raises as `measure` does, RecipeError where the two have unlike numbers of seeds.
    """
    from zhiling.evaluate.suite import evaluate, score

    seeds = max(len(first), len(second))
    if len({len(first), len(second)} - {1, seeds}):
        what = say(f"{len(first)} tunings against {len(second)}", f"{len(first)} 个调优对 {len(second)} 个")
        raise RecipeError(what, where="compare", mend=say("name as many, or one", "两边数量须相同，或其中一边为一个"))
    on = paper(asked, [*first, *second], watch)
    named = {side.label: side for side in (*first, *second)}
    wanted = all(side.base for side in second) if asked.drift is None else asked.drift
    drift = _how(named.values()) if wanted else None
    asking = {name: steps.wait(answers(side, name, on, asked, watch, drift=drift)) for name, side in named.items()}
    said = {name: found for name, (found, _, _) in asking.items()}
    spent = {name: paid for name, (_, paid, _) in asking.items()}
    execute = _execute(asked, on.tasks)
    values = {name: score(on.rows, found, on.tasks, execute) for name, found in said.items()}
    if seeds == 1:
        a, b = first[0].label, second[0].label
        result = evaluate(
            on.rows, said[a], said[b], tasks=on.tasks, seed=asked.seed, confidence=asked.confidence, execute=execute
        ).to_dict()
    else:
        ways = [
            [values[side.label] for side in (way * seeds if len(way) == 1 else way)]
            for way in (list(second), list(first))
        ]
        result = _seeded(on, ways[0], ways[1], asked.confidence)
    names = {"first": [side.label for side in first], "second": [side.label for side in second]}
    rulings: Mapping[str, Mapping[str, Ruling]] = {}
    if drift:
        from zhiling.evaluate.drift_verdict import told

        seen = [[one for side in way if (one := asking[side.label][2]) is not None] for way in (first, second)]
        result["drift"] = told(seen[0], seen[1], seed=asked.seed, confidence=asked.confidence)
    if asked.judge is not None:
        pairs = [[(way * seeds if len(way) == 1 else way)[k].label for way in (list(first), list(second))] for k in range(seeds)]  # fmt: skip
        result["judge"], spent[asked.judge.label], rulings = steps.wait(
            _duels(asked.judge, pairs, on, said, asked, watch)
        )
    more = {"unusable": on.unusable, "contamination": on.told(), "spent": spent}
    return {**names, **result, **more}, _written(on, said, values, rulings)


async def _duels(
    judge: Side, pairs: Sequence[Sequence[str]], on: Paper, said: Mapping[str, Sequence[Prediction]], asked: Asked, watch: Watch
) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Ruling]]]:  # fmt: skip
    """(what the judge says of each pair of models, what it was asked and paid, and of each second model its rulings by row)."""
    from zhiling.llm import open_model
    from zhiling.proof.duel import judged, rulings

    async with open_model(judge.entry, cache=asked.cache, where="--judge") as model:
        found = [await rulings(on.rows, said[a], said[b], model, watch) for a, b in pairs]
        told = judged(on.rows, found, judge.label, seed=asked.seed, confidence=asked.confidence)
        return told, _paid(model), {b: of for (_, b), of in zip(pairs, found, strict=True)}


def _seeded(on: Paper, second: Sequence[Any], first: Sequence[Any], confidence: float) -> dict[str, Any]:
    """The comparison over rows and seeds, with the keys of the other one."""
    from zhiling.evaluate.crossed import crossed
    from zhiling.evaluate.suite import parted

    def told(groups: Sequence[Sequence[Example]]) -> dict[str, Any]:
        of = {row.id: row.task for rows in groups for row in rows}
        found = asdict(crossed(second, first, of, confidence=confidence))
        n = found.pop("rows")
        return {"n": n, "failed": len(of) - n, "base": found.pop("second"), "tuned": found.pop("first"), **found}

    by_task, by_lang, by_family = (parted(on.rows, on.tasks, by) for by in ("task", "lang", "family"))
    return {
        "tasks": {name: {"metric": on.tasks[name].metric, **told(groups)} for name, groups in by_task.items()},
        "overall": told([rows for groups in by_task.values() for rows in groups]),
        "langs": {name: told(groups) for name, groups in by_lang.items()},
        "families": {name: told(groups) for name, groups in by_family.items()},
        "confidence": confidence,
    }


def _written(
    on: Paper,
    said: Mapping[str, Sequence[Prediction]],
    values: Mapping[str, Any],
    rulings: Mapping[str, Mapping[str, Ruling]] | None = None,
) -> list[dict[str, Any]]:
    """The answers as rows; with `rulings`, what the judge said of each answer of a second model against the first's."""
    rows = {row.id: row for row in on.rows}

    def ruled(model: str, row: str) -> dict[str, Any]:
        if not rulings:
            return {}
        one = rulings.get(model, {}).get(row)
        return {"judge": one and one.value, "judge_why": one.why if one else ""}

    return [
        {
            "id": answer.example,
            "task": rows[answer.example].task,
            "model": model,
            "prompt": rows[answer.example].prompt,
            "reference": rows[answer.example].output,
            "answer": answer.text,
            "finish": answer.finish,
            "error": answer.error,
            "value": values[model].get(answer.example),
            "contaminated": on.leaked.get(answer.example, ""),
            **ruled(model, answer.example),
        }
        for model, found in said.items()
        for answer in found
    ]
