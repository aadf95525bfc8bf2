"""What is to be tuned on: rows of a run, of data files or of a recipe not yet run, their lengths, and how well a model does on them untuned."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling import text
from zhiling.errors import DataError, ProviderError, RecipeError, say
from zhiling.types import Example, Record, Task

if TYPE_CHECKING:
    from zhiling.proof.prove import Watch

SAMPLE = 400
"""Rows whose tokens are counted; the rest is taken to be like them."""
PROBE_SECONDS = 60.0
LABELS = 12
"""Answers up to which a probe weighs each of them."""
LONGEST = 48
"""Tokens that an answer to a probe may have."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows: how many, some of them, their tasks, and the settings that a recipe states for tuning."""

    count: int
    sample: tuple[Example, ...]
    tasks: Mapping[str, Task]
    settings: Mapping[str, Any]

    @property
    def langs(self) -> set[str]:
        """Languages of the prompts: "zh" or "en" for each row of the sample."""
        return {"zh" if text.lang(row.prompt) == "zh" else "en" for row in self.sample}


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a row: on average, of its answer on average, and of the longest row."""

    mean: float
    answer: float
    longest: int


def gather(source: Path) -> Rows:
    """Rows of a run's folder, a recipe or a data file. Raises DataError where there are none, RecipeError for a recipe that is wrong."""
    if (source / "journal.sqlite").exists():
        rows = _of_run(source)
    elif source.suffix in (".yaml", ".yml") or (source / "recipe.yaml").exists():
        rows = _of_recipe(source)
    else:
        rows = _of_file(source)
    if not rows.sample:
        none = say("there are no rows to tune on", "没有可用于微调的数据")
        raise DataError(none, where=str(source), mend=say("give a file of instruction data", "请给出指令数据文件"))
    return rows


def _of_run(folder: Path) -> Rows:
    from zhiling.proof.tuning import settings_here
    from zhiling.recipe import load
    from zhiling.store import current, read

    recipe = load(folder / "recipe.yaml") if (folder / "recipe.yaml").exists() else None
    rows = [row for done in current(folder) for row in read(folder, done.of("kept")) if isinstance(row, Example)]
    tasks = {name: spec.task(name) for name, spec in recipe.tasks.items()} if recipe else {}
    settings = settings_here(recipe.tune if recipe else None)
    return Rows(len(rows), tuple(_few(rows)), tasks or _guessed(rows), settings)


def _of_file(path: Path) -> Rows:
    from zhiling.data.sets import examples, form_of

    rows = [row for _, row in examples(path, form_of(path), path.name.split(".")[0]) if isinstance(row, Example)]
    return Rows(len(rows), tuple(_few(rows)), _guessed(rows), {})


def _of_recipe(path: Path) -> Rows:
    """Each usable record as one row, worded by its task's description: what a run would make of it is as long, within a few words."""
    from zhiling.data import Source, expand, read
    from zhiling.proof.tuning import settings_here
    from zhiling.recipe import load

    recipe = load(path)
    rows: list[Example] = []
    for name, spec in recipe.tasks.items():
        task = spec.task(name)
        for item in spec.sources():
            where = {key: str(value) for key, value in item.where.items()} if item.where else None
            place = expand(item.path, recipe.here)
            source = Source(place, item.format, item.columns, where, item.limit, item.table, recipe.answered(name))
            for record in read(source, task):
                if isinstance(record, Record):
                    given = "\n".join(record.fields.get(key, "") for key in task.inputs)
                    rows.append(Example(name, task.description, given, record.fields.get(task.target, "")))
    tasks = {name: spec.task(name) for name, spec in recipe.tasks.items()}
    return Rows(len(rows), tuple(_few(rows)), tasks, settings_here(recipe.tune))


def _few(rows: Sequence[Example]) -> list[Example]:
    """At most SAMPLE rows with an answer, those of the smallest ids: as good as drawn."""
    answered = (row for row in sorted(rows, key=lambda row: row.id) if row.output.strip())
    return list(islice(answered, SAMPLE))


def _guessed(rows: Sequence[Example]) -> dict[str, Task]:
    """Tasks of rows that no recipe describes: a few answers that come again and again are labels, anything else is open text.

    Which label a model finds likeliest tells what it knows; an untuned one seldom writes a label and nothing else.
    """
    found = {}
    for name in sorted({row.task for row in rows}):
        answers = [row.output.strip() for row in rows if row.task == name and row.output.strip()]
        labels = tuple(sorted(set(answers)))
        closed = len(labels) <= max(2, len(answers) // 10)
        choice = closed and 2 <= len(labels) <= LABELS
        metric = "choice" if choice else "exact_match" if closed else "chrf"
        found[name] = Task(name, labels=labels if choice else (), metric=metric)
    return found


def lengths(rows: Rows, tokenizer: Any = None) -> Lengths:
    """Tokens by this tokenizer, or without one UTF-8 bytes / 3, about one for each Han character and a third more than English has."""
    counted = []
    for row in rows.sample:
        prompt = "".join(message["content"] for message in row.messages(answer=False))
        texts = (prompt, row.output)
        turns = 6 * len(row.messages())  # what a chat template puts around each turn
        if tokenizer is None:
            sizes = [len(part.encode("utf-8", "surrogatepass")) / 3 for part in texts]
        else:
            sizes = [float(len(tokenizer(part, add_special_tokens=False)["input_ids"])) for part in texts]
        counted.append((sum(sizes) + turns, sizes[1] + 1))
    mean, answer = (math.fsum(column) / len(counted) for column in zip(*counted, strict=True))
    return Lengths(mean, answer, math.ceil(max(size for size, _ in counted)))


@dataclass(frozen=True, slots=True)
class Probe:
    """How a model does on the user's rows before any tuning: mean score, its 95% half-width, rows scored; `value` None where `why` says so."""

    value: float | None
    half: float | None = None
    rows: int = 0
    why: str = ""


def probe(base: str, rows: Rows, count: int, watch: Watch, limit: float = PROBE_SECONDS) -> Probe:
    """Ask a model that is here `count` of the rows in `limit` seconds: greedily, in at most LONGEST tokens, or for the likeliest label."""
    from zhiling.evaluate.suite import score
    from zhiling.proof import prove
    from zhiling.recipe import EvaluateSpec

    chosen = list(rows.sample[:count])
    needed = max(
        len(row.output.encode("utf-8", "replace")) for row in chosen
    )  # no tokenizer makes more tokens than bytes
    spec, plain = EvaluateSpec(max_tokens=min(LONGEST, 16 + needed), batch=8), {"base": base, "method": "full"}

    async def ask() -> Any:
        asked = prove.answers_of("base", plain, chosen, spec, None, watch, after=False, tasks=rows.tasks)
        return await asyncio.wait_for(asked, limit)

    try:
        found = score(chosen, asyncio.run(ask()), rows.tasks)
    except TimeoutError:
        return Probe(None, why=say(f"not done in {limit:.0f} s", f"{limit:.0f} 秒内未完成"))
    except (ProviderError, RecipeError) as error:
        return Probe(None, why=error.what)
    values = [value for value in found.values() if value is not None]
    if not values:
        return Probe(None, why=say("no answer could be scored", "没有可评分的回答"))
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
    half = 1.96 * math.sqrt(max(spread, 1 / (4 * len(values)) if len(values) < 8 else 0.0) / len(values))
    return Probe(round(mean, 4), round(half, 4), len(values))
