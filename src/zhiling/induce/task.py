"""What a contest is held about: a recipe's task, a file of worked examples, or a description, and how its rows are split.

Three sides that never meet: instructions are proposed from some rows, raced on others, and the winner is reported on rows that neither
proposing nor racing has seen. Rows with the same input count once, so that no side holds another's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from pathlib import Path
from typing import Any

from zhiling import data, registry, steps, text
from zhiling.errors import DataError, RecipeError, say
from zhiling.types import Demo, Record, Reject, Task, content_id

MOST_LABELS = 12
"""Answers that come from a set of at most so many, each seen twice on average, are labels."""
MOST_ROWS = 5000
"""Rows of a file that take part at most: a contest asks for hundreds, whatever the file holds."""
SHORT = 4
"""Answers of at most so many tokens are right or wrong; longer ones are right in part."""
DATA = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".txt", ".md", ".sqlite", ".xlsx")
RECIPE = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Row:
    """One worked example: its fields, every answer that is right (the first is the one shown), and the answers to choose from."""

    fields: Mapping[str, str]
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Depends on the inputs alone."""
        return content_id("row", {name: text.normalise(value) for name, value in self.fields.items()})


@dataclass(frozen=True, slots=True)
class Subject:
    """A task with its rows, in file order; what was noticed on the way; and the models and budget of the recipe it came from."""

    task: Task
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    models: Mapping[str, Mapping[str, Any]] | None = None
    budget: Mapping[str, float] | None = None
    here: Path = Path()


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says beside TASK: where the rows are, which columns count, how the task is to be understood."""

    describe: str = ""
    data: Path | None = None
    task: str = ""
    inputs: Sequence[str] = ()
    target: str = ""
    metric: str = ""
    family: str = ""
    lang: str = ""


def subject(given: str, asked: Asked | None = None) -> Subject:
    """The task that TASK means: a recipe (YAML), a data file, or else a description in words.

    Raises RecipeError or DataError where nothing can be made of it: no such file, a recipe with several tasks and none named, no
    column for the answer.
    """
    asked = asked or Asked()
    path = Path(given).expanduser()
    if path.suffix.lower() in RECIPE or (path.is_dir() and (path / "recipe.yaml").exists()):
        return _of_recipe(path, asked)
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if path.exists() or plain.suffix.lower() in DATA:
        return _of_file(path, asked)
    if not given.strip() or (text.length(given) < 3 and asked.data is None):
        raise RecipeError(
            say(f"'{given}' is neither a file nor a description of a task", f"“{given}”既不是文件，也不是任务说明"),
            where="TASK",
            mend=say(
                "name a recipe, a CSV or JSONL of examples, or say in a sentence what is to be done",
                "请给出配方、示例文件（CSV 或 JSONL），或用一句话说明要做什么",
            ),
        )
    described = replace(asked, describe=asked.describe or given)
    if asked.data is not None:
        return _of_file(asked.data, described)
    lang = asked.lang or ("zh" if text.lang(given) == "zh" else "en")
    return Subject(Task("induced", given.strip(), asked.family or "other", langs=(lang,)))


def _of_recipe(path: Path, asked: Asked) -> Subject:
    from zhiling import recipe as recipes

    loaded = recipes.load(path)
    names = list(loaded.tasks)
    if (asked.task and asked.task not in names) or (not asked.task and len(names) > 1):
        what = say(f"no task '{asked.task}' in the recipe", f"配方中没有任务“{asked.task}”")
        several = say("the recipe has several tasks", "配方中有多个任务")
        mend = say(f"choose one with --task: {', '.join(names)}", f"请用 --task 指定：{'、'.join(names)}")
        raise RecipeError(what if asked.task else several, where=str(path), mend=mend)
    spec = loaded.tasks[asked.task or names[0]]
    task = spec.task(asked.task or names[0])
    records, unread = list[Record](), 0
    for source in spec.sources():
        how: dict[str, Any] = {"columns": source.columns, "limit": source.limit, "table": source.table}
        where = {key: str(value) for key, value in (source.where or {}).items()} or None
        for item in data.read(
            data.Source(data.expand(source.path, loaded.here), source.format, where=where, **how), task
        ):
            if isinstance(item, Reject):
                unread += 1
            else:
                records.append(item)
    kept = _training(records, spec.heldout, loaded.seed, spec.group)
    notes = list(_counted(unread))
    if away := len(records) - len(kept):
        notes.append(say(f"{away} held-out rows are left alone", f"{away} 行留出数据不参与"))
    rows = (_row(record.fields, task.inputs, task.target) for record in kept)
    if asked.metric:
        task = replace(task, metric=asked.metric)
    return _made(task, rows, notes, asked, loaded.models, loaded.budget, loaded.here)


def _training(records: Sequence[Record], heldout: float, seed: int, group: str | None) -> list[Record]:
    """The records that the recipe does not hold out: the line that `run` draws (see `stages.line`)."""
    if not heldout:
        return list(records)
    ranks = {steps.side(record, seed, group) for record in records}
    count = int(heldout) if heldout >= 1 else max(1, round(heldout * len(ranks)))
    line = steps.Line(seed, nsmallest(count, ranks)[-1] if ranks else -1, group)
    return [record for record in records if not line.beyond(record)]


def _of_file(path: Path, asked: Asked) -> Subject:
    from zhiling.scaffold import ANSWERS

    seen = Counter[str]()

    def readable() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, row in data.rows(path):
            seen["unread" if isinstance(row, str) else "read"] += 1
            if not isinstance(row, str):
                yield number, row

    drawn = nsmallest(MOST_ROWS, readable(), key=lambda pair: content_id("sample", pair[0]))
    read, unread = [row for _, row in sorted(drawn, key=lambda pair: pair[0])], seen["unread"]
    if not read:
        raise DataError(
            say("no readable row", "没有可读的数据行"), where=str(path), mend=say("check the file", "请检查文件")
        )
    columns = [name for name in read[0] if isinstance(name, str)]
    target = asked.target or next((name for name in ANSWERS if name in columns), columns[-1])
    inputs = list(asked.inputs) or [name for name in columns if name not in (target, "id", "lang", "choices")]
    for name in (target, *inputs):
        if name not in columns:
            have = ", ".join(columns)
            raise DataError(
                say(f"no column '{name}'; the file has: {have}", f"没有列“{name}”；文件中有：{have}"),
                where=str(path),
                mend=say("name the columns with --input and --target", "请用 --input 和 --target 指定列名"),
            )
    if not inputs:
        raise DataError(
            say("the file has no column beside the answer", "除答案外没有其他列"),
            where=str(path),
            mend=say("give the inputs a column of their own", "请为输入单独设置一列"),
        )
    rows = [_row(row, inputs, target) for row in read]
    answers = [row.answers[0] for row in rows if row.answers]
    sample = " ".join([*(" ".join(row.fields.values()) for row in rows[:20]), asked.describe])
    lang = asked.lang or ("zh" if text.lang(sample) == "zh" else "en")
    labels = closed(answers)
    family = asked.family or ("classification" if labels else "other")
    metric = asked.metric or ("exact_match" if labels or _short(answers) else "rouge_l")
    task = Task(
        path.name.split(".")[0], asked.describe, family, tuple(inputs), target, "", (lang,), labels, metric=metric
    )
    notes = [
        *_counted(unread),
        say(f"input: {', '.join(inputs)}; answer: {target}; metric: {metric}", f"输入：{'、'.join(inputs)}；答案：{target}；指标：{metric}"),
    ]  # fmt: skip
    if seen["read"] > len(read):
        notes.append(
            say(f"{len(read)} of {seen['read']} rows were drawn", f"从 {seen['read']} 行中抽取了 {len(read)} 行")
        )
    return _made(task, rows, notes, asked, None, None, Path())


def _row(row: Mapping[str, Any], inputs: Sequence[str], target: str) -> Row:
    """A row of a file: its answer may be a list (or a JSON list) of answers that are all right, `choices` a list to choose from."""
    fields = {name: data.text_of(row.get(name)) for name in inputs}
    return Row(fields, tuple(_several(row.get(target))), tuple(_several(row.get("choices"))))


def _several(value: Any) -> list[str]:
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = json.loads(value)
        except ValueError:
            return [value]
    several = value if isinstance(value, list | tuple) else [value]
    return list(dict.fromkeys(said for item in several if (said := data.text_of(item)).strip()))


def _made(
    task: Task, rows: Iterator[Row] | Sequence[Row], notes: list[str], asked: Asked,
    models: Mapping[str, Mapping[str, Any]] | None, budget: Mapping[str, float] | None, here: Path,
) -> Subject:  # fmt: skip
    """The subject: usable rows once each, whatever could not be used counted."""
    registry.get("metric", task.metric, "--metric")
    unique: dict[str, Row] = {}
    void = twice = 0
    for row in rows:
        if not row.answers or not any(value.strip() for value in row.fields.values()):
            void += 1
        elif row.key in unique:
            twice += 1
        else:
            unique[row.key] = row
    if void:
        notes.append(say(f"{void} rows without an input or an answer", f"{void} 行没有输入或答案"))
    if twice:
        notes.append(say(f"{twice} rows repeat an input and count once", f"{twice} 行的输入重复，只计一次"))
    if asked.describe and not task.description:
        task = replace(task, description=asked.describe)
    return Subject(task, tuple(unique.values()), tuple(notes), models, budget, here)


def _counted(unread: int) -> Iterator[str]:
    if unread:
        yield say(f"{unread} unreadable rows", f"{unread} 行无法读取")


def closed(answers: Sequence[str]) -> tuple[str, ...]:
    """The closed set that the answers come from; () when they are open."""
    seen = Counter(answers)
    closed = 2 <= len(seen) <= MOST_LABELS and len(answers) >= max(8, 3 * len(seen))
    return tuple(sorted(seen)) if closed and all(text.length(label) <= 6 for label in seen) else ()


def _short(answers: Sequence[str]) -> bool:
    lengths = sorted(text.length(answer) for answer in answers)
    return not lengths or lengths[len(lengths) * 9 // 10] <= SHORT


@dataclass(frozen=True, slots=True)
class Split:
    """The three sides."""

    propose: tuple[Row, ...]
    race: tuple[Row, ...]
    report: tuple[Row, ...]


def split(rows: Sequence[Row], seed: int, report: int) -> Split:
    """The rows in a fixed shuffle that depends on the seed and the inputs alone: a fifth (at most 20) to propose from, three tenths
    (at most `report`) to report on, the rest to race on. From fewer than 6 rows none is reported on."""
    order = sorted(rows, key=lambda row: content_id("induce", seed, row.key))
    n = len(order)
    proposed = min(20, max(min(3, n), round(0.2 * n)))
    reported = min(report, round(0.3 * n)) if n >= 6 else 0
    return Split(
        tuple(order[:proposed]), tuple(order[proposed + reported :]), tuple(order[proposed : proposed + reported])
    )


def demos(rows: Sequence[Row], task: Task) -> tuple[Demo, ...]:
    """Rows as the worked examples of a task: the fields in one text, and the first right answer."""
    out = []
    for row in rows:
        values = [row.fields.get(name, "") for name in task.inputs]
        named = zip(task.inputs, values, strict=True)
        shown = values[0] if len(values) == 1 else "\n".join(f"{name}: {value}" for name, value in named)
        out.append(Demo(shown, row.answers[0]))
    return tuple(out)
