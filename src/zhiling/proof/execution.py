"""What models wrote is run beside the reference: queries on the user's database, programs against their tests. In the cage, or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zhiling.errors import EngineError, RecipeError, say
from zhiling.evaluate.execution import Execute
from zhiling.types import Example, Task

Checks = Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]
Ran = list[tuple[float | None, str]]
_order = re.compile(r"\border\s+by\b", re.IGNORECASE)


def executor(checks: Checks, here: Path) -> Execute:
    """Runs a task's rows as its verifier `sql` or `code` is set, whose paths are relative to `here`. It raises RecipeError for a task with
    neither, DataError for a database that cannot be read; where no cage holds, no row gets a score and `why` says so."""

    def execute(task: Task, rows: Sequence[Example], answers: Sequence[str]) -> Ran:
        for name, settings in checks.get(task.name, ()):
            if name in ("sql", "code"):
                try:
                    return (
                        _queries(rows, answers, settings, here) if name == "sql" else _programs(rows, answers, settings)
                    )
                except EngineError as error:
                    return [(None, str(error))] * len(rows)
        raise _unset(task.name)

    return execute


def check(tasks: Mapping[str, Task], checks: Checks) -> None:
    """Raise RecipeError for a task whose metric runs answers while none of its verifiers says how: before any work."""
    from zhiling import registry

    for name, task in tasks.items():
        runs = registry.get("metric", task.metric).facts.get("runs")
        if runs and not any(kind in ("sql", "code") for kind, _ in checks.get(name, ())):
            raise _unset(name)


def _unset(task: str) -> RecipeError:
    what = say(f"nothing says how to run the answers of '{task}'", f"没有说明如何运行“{task}”的答案")
    mend = say(
        "set verifier: {sql: {database: FILE}}, or verifier: code",
        "请设置 verifier: {sql: {database: 文件}}，或 verifier: code",
    )
    return RecipeError(what, where=f"tasks.{task}.metric", mend=mend)


def checks_of(run: Path) -> tuple[Checks, Path]:
    """(a finished run's verifiers by task with their settings, the folder that their paths are relative to)."""
    from zhiling import recipe
    from zhiling.store import current

    here = next((Path(done.facts["here"]) for done in reversed(current(run)) if "here" in done.facts), run)
    read = recipe.loads((run / "recipe.yaml").read_text(encoding="utf-8"), here, str(run / "recipe.yaml"))
    return next((step.settings["checks"] for step in read.score if step.kind == "verify"), {}), here


def _queries(rows: Sequence[Example], answers: Sequence[str], settings: Mapping[str, Any], here: Path) -> Ran:
    """The answer's query and the reference's on the same database; an answer in words is right where the reference is one too."""
    from zhiling.construct.verify import sql
    from zhiling.construct.verify.sql_schema import read_schema

    place = here / settings["database"]
    if not place.exists():
        read_schema(place)  # says what is wrong
    limits = {key: settings[key] for key in ("seconds", "rows", "memory") if key in settings}
    out: Ran = [(None, "")] * len(rows)
    asked: dict[int, tuple[Path, str, str]] = {}
    for at, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        gold, said, file = sql.statement(row.output), sql.statement(answer), sql.file_of(row, place)
        if file is None:
            out[at] = None, say("the row names no database of the folder", "该行没有指明文件夹中的数据库")
        elif not gold:
            why = say("the reference is no query: the answer must decline", "参考答案不是查询：应当拒答")
            out[at] = float(not said and bool(answer.strip())), why
        elif not said:
            out[at] = 0.0, say("the answer is no query", "回答不是查询")
        else:
            asked[at] = file, gold, said
    jobs = [(file, query, "") for file, gold, said in asked.values() for query in (gold, said)]
    found = sql.answers(jobs, **limits) if jobs else []
    for place_of, (at, (_, gold, _)) in enumerate(asked.items()):
        out[at] = _same(found[2 * place_of], found[2 * place_of + 1], bool(_order.search(gold)))
    return out


def _same(gold: Any, said: Any, ordered: bool) -> tuple[float | None, str]:
    if gold.error or gold.more:
        why = gold.error or say("too many rows", "行数过多")
        return None, say(f"the reference cannot be run: {why}", f"参考答案无法运行：{why}")
    if said.error:
        return 0.0, str(said.error)
    same = (gold.order == said.order if ordered else gold.bag == said.bag) and not said.more
    here, there = said.described, gold.described
    return float(same), "" if same else say(
        f"other rows than the reference's: {here}, not {there}", f"结果与参考不同：{here}，应为 {there}"
    )


def _programs(rows: Sequence[Example], answers: Sequence[str], settings: Mapping[str, Any]) -> Ran:
    """The answer's program against the tests of the reference, or of the question; the reference must pass them itself."""
    from zhiling.construct import cage
    from zhiling.construct.verify.code import program_of

    out: Ran = [(None, "")] * len(rows)
    programs: dict[int, tuple[str, str]] = {}
    for at, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        # an answer need not bring tests, which `program_of` insists on: the question here has one that asks nothing
        gold, said = program_of(row), program_of(replace(row, instruction="assert True", input="", output=answer))
        if gold.fault:
            out[at] = None, gold.fault
        elif not said.solution:
            out[at] = 0.0, said.fault or say("the answer has no program", "回答中没有程序")
        else:
            programs[at] = f"{gold.solution}\n{gold.tests}", f"{said.solution}\n{gold.tests}"
    limits = cage.Limits(float(settings.get("seconds", 5.0)), int(settings.get("memory", 512)))
    ends = cage.run_all([(text, "") for pair in programs.values() for text in pair], limits=limits) if programs else []
    for place, at in enumerate(programs):
        gold_end, end = ends[2 * place], ends[2 * place + 1]
        if gold_end.state != "done":
            why = gold_end.why
            out[at] = None, say(f"the reference fails its own tests: {why}", f"参考答案未通过自己的测试：{why}")
        else:
            out[at] = float(end.state == "done"), end.why
    return out
