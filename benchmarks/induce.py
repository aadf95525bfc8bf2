"""The contest for the best instruction, beside people and beside APE: on 12 tasks of instruction induction and 11 of BIG-bench.

    python benchmarks/induce.py [--quick] [--data DIR] [--json FILE] [--calls N] [--only NAME,NAME] [--seed N] [--cache FILE]

Executor and proposer are the embedded 135M model. What is measured is the likelihood of the right answer, in nats per token: so small a
model hardly ever writes the exact answer (0 to 7% of 24 rows under each of three human instructions, 12 tasks), while the likelihood tells
instructions apart; it is also what APE calls its log-probability score. No task's description is given, to nobody: worked examples alone.

Per task, rows to learn from and rows held out; only the latter measure:
* ours: `zhiling.induce` on the rows to learn from, at most N calls (it splits them into its own three sides);
* people: the instructions that annotators wrote (BIG-bench: the task's own prefix), up to 5 of them, evenly over the list; their median;
* APE (Zhou et al. 2022) at equal calls: forward generation from five demos, as many proposals as ours has, duplicates out, then the UCB
  bandit that its authors' release uses by default (5 rows a pull, c = 1), best mean wins. Prompt reworded; model and executor are the same.
Figures:
* `win_or_tie_human`, `win_or_tie_ape`: share of tasks where ours is at least as good on the held-out rows, to 1e-9: a tie is equality.
  `not_worse_*`: the share where ours is not worse beyond chance (paired, 95%). `wins_beyond_chance_*`: better beyond chance.
* `calls_per_task`: the most that ours asked for a task, proposals and quality included.
* `interval_coverage`: share of tasks whose reported 95% interval holds the winner's mean over all held-out rows.
Rows of more than 600 characters are left out where a task has 60 others, for the time they take (--full: none). As many calls as
`zhiling induce` takes by itself, 600: some two hours on two cores; --quick: 5 tasks, 120 calls.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

FOLDER = "06_instruction_induction"
LONG, LEARN, HELD, COMPARED, PEOPLE, PULL = 600, 90, 60, 30, 5, 5
FRIEND = "A friend of mine was told what to do, and then did it for five inputs. These are the inputs and what my friend wrote:"
QUICK = ("sum", "synonyms", "larger_animal", "sports_understanding", "object_counting")


@dataclass(frozen=True)
class Job:
    """One task: rows to learn from, rows held out, and what people told a model to do."""

    name: str
    learn: tuple[Any, ...]
    held: tuple[Any, ...]
    people: tuple[str, ...]


def jobs(data: Path, seed: int, full: bool) -> list[Job]:
    """The tasks that the folder holds, in its order."""
    return [*_induction(data / FOLDER, seed, full), *_bigbench(data / FOLDER, seed, full)]


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _induction(folder: Path, seed: int, full: bool) -> list[Job]:
    """Honovich et al. 2022: `induce` is to learn from, `execute` is held out."""
    out = []
    for task in _lines(folder / "tasks.jsonl.gz"):
        learn = [_row(row["input"], [row["output"]]) for row in task["induce"]]
        held = [_row(row["input"], [row["output"]]) for row in task["execute"]]
        told = [one for one in task["annotations"]["annotations"] if one.strip()]
        out.append(_job(task["task"], learn, held, _evenly(told, PEOPLE), seed, full))
    return out


def _bigbench(folder: Path, seed: int, full: bool) -> list[Job]:
    """BIG-bench: two thirds of the rows to learn from; choices are listed under the input where the task says so."""
    out = []
    for task in _lines(folder / "bigbench_ii_tasks.jsonl.gz"):
        rows = []
        for one in task["examples"]:
            scores = one.get("target_scores")
            target = one.get("target")
            right = (
                [k for k, v in scores.items() if v == max(scores.values())]
                if scores
                else target
                if isinstance(target, list)
                else [target]
            )
            rows.append(
                _row(one["input"], right, list(scores) if scores and task.get("append_choices_to_input", True) else ())
            )
        order = _shuffled(rows, seed)
        third = len(order) // 3
        out.append(_job(task["task"], order[third:], order[:third], [task["task_prefix"].strip()], seed, full))
    return out


def _row(source: str, answers: Sequence[Any], choices: Sequence[str] = ()) -> Any:
    from zhiling.induce.task import Row

    return Row({"input": source.strip()}, tuple(str(answer).strip() for answer in answers), tuple(choices))


def _shuffled(rows: Sequence[Any], seed: int) -> list[Any]:
    from zhiling.types import content_id

    return sorted({row.key: row for row in rows}.values(), key=lambda row: content_id("bench", seed, row.key))


def _evenly(items: Sequence[str], count: int) -> list[str]:
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _job(name: str, learn: Sequence[Any], held: Sequence[Any], people: Sequence[str], seed: int, full: bool) -> Job:
    away = _short(_shuffled(held, seed), full, 30)
    known = {row.key for row in away}
    rest = _short([row for row in _shuffled(learn, seed) if row.key not in known], full, 60)
    return Job(name, tuple(rest[:LEARN]), tuple(away[:HELD]), tuple(people))


def _short(rows: Sequence[Any], full: bool, least: int) -> list[Any]:
    short = [row for row in rows if len(row.fields["input"]) + sum(map(len, row.choices)) <= LONG]
    if full or len(short) == len(rows):
        return list(rows)
    return short if len(short) >= least else sorted(rows, key=lambda row: len(row.fields["input"]))[:least]


# ---------------------------------------------------------------- the three


async def ours(job: Job, model: Any, calls: int, seed: int) -> Any:
    """The contest's outcome."""
    from zhiling import steps
    from zhiling.embed import Use
    from zhiling.induce import Settings, contest
    from zhiling.induce.execute import Purse
    from zhiling.induce.propose import Means
    from zhiling.induce.task import Subject

    subject = Subject(_task(job), job.learn)
    tasks = {subject.task.name: subject.task}
    hand = steps.Hand({"tasks": tasks, "seed": seed, "embedder": Use(), "here": Path()}, lambda: model)
    means = Means(model, steps.Scorers({}, lambda step: hand), Use(), Purse(calls), Path(), seed=seed, tasks=tasks)
    return await contest(subject, Settings(calls=calls, by="likelihood", seed=seed), model, means, lambda event: None)


def _task(job: Job) -> Any:
    """What `zhiling induce FILE` makes of the rows to learn from: no description, labels where answers come from a small set."""
    from zhiling.induce.task import closed
    from zhiling.types import Task

    labels = closed([row.answers[0] for row in job.learn])
    return Task(job.name, "", "classification" if labels else "other", labels=labels)


async def ape(job: Job, model: Any, calls: int, draws: int, seed: int) -> tuple[str, int]:
    """(the instruction that APE would choose, calls used)."""
    from zhiling.construct.generate.instructions import tidy
    from zhiling.types import Reply, Request, row_seed

    rows, dice = list(job.learn), Random(row_seed(seed, f"ape:{job.name}"))
    asked = []
    for draw in range(draws):
        shown = dice.sample(rows[: len(rows) // 2], min(5, len(rows) // 2))
        pairs = "\n\n".join(f"Input: {row.fields['input'][:200]}\nOutput: {row.answers[0]}" for row in shown)
        said = f"{FRIEND}\n\n{pairs}\n\nThe instruction was"
        asked.append(
            Request(
                (("user", said),),
                max_tokens=50,
                temperature=0.9,
                top_p=0.9,
                stop=("\n",),
                seed=row_seed(seed, f"{job.name}:{draw}"),
                draw=draw,
            )
        )
    replies = await model.ask_all(asked)
    candidates = list(
        dict.fromkeys(said for reply in replies if isinstance(reply, Reply) and (said := tidy(reply.text)))
    )
    if not candidates:
        return "", len(asked)
    pool, left = rows[len(rows) // 2 :], calls - len(asked)
    counts, totals = [0] * len(candidates), [0.0] * len(candidates)
    while left >= PULL:
        seen = sum(counts)

        def bound(i: int, seen: int = seen) -> float:
            return math.inf if not counts[i] else totals[i] / counts[i] + math.sqrt(math.log(seen) / counts[i])

        for i in sorted(range(len(candidates)), key=lambda i: (-bound(i), i))[: max(1, len(candidates) // 3)]:
            if left < PULL:
                break
            drawn = dice.sample(pool, min(PULL, len(pool)))
            found = [value for value in await values(job, model, candidates[i], drawn) if value is not None]
            counts[i], totals[i], left = counts[i] + len(found), totals[i] + sum(found), left - PULL
    best = max(range(len(candidates)), key=lambda i: totals[i] / counts[i] if counts[i] else -math.inf)
    return candidates[best], calls - left


async def values(job: Job, model: Any, said: str, rows: Sequence[Any], template: Any = None) -> list[float | None]:
    """The likelihood of each row's right answer under an instruction."""
    from zhiling.construct.sandbox import literal
    from zhiling.induce.execute import Executor, Purse
    from zhiling.types import Template

    made = template or Template(job.name, "en", literal(said), "{{ input }}", "{{ output }}")
    answers = await Executor(model, _task(job), rows, Purse(10**9), by="likelihood").run(made, rows)
    return [answer.value for answer in answers]


async def measure(job: Job, model: Any, calls: int, seed: int) -> dict[str, Any]:
    """One task's row of the table."""
    from zhiling.induce import Settings, plan

    began = time.monotonic()
    found = await ours(job, model, calls, seed)
    middle = time.monotonic()
    draws = plan(Settings(calls=calls), len(job.learn), False).draws
    rival, used = await ape(job, model, calls, draws, seed)
    compared = job.held[:COMPARED]
    mine = await values(job, model, "", job.held, found.winner.template)
    theirs = await values(job, model, rival, compared)
    people = [await values(job, model, said, compared) for said in job.people]
    ranked = sorted(range(len(people)), key=lambda i: _mean(people[i]))
    human = people[ranked[len(ranked) // 2]]
    span = found.interval(0)
    mean = _mean(mine)
    return {
        "task": job.name, "ours": round(_mean(mine[: len(compared)]), 4), "human": round(median(_mean(one) for one in people), 4),
        "human_best": round(max(_mean(one) for one in people), 4), "ape": round(_mean(theirs), 4),
        "over_human": _difference(mine[: len(compared)], human), "over_ape": _difference(mine[: len(compared)], theirs),
        "reported": [round(x, 4) for x in span] if span else None, "held_out": round(mean, 4),
        "covered": span is not None and span[1] <= mean <= span[2],
        "calls": found.purse.asked, "ape_calls": used, "way": found.winner.way, "how": found.winner.how,
        "instruction": found.winner.template.instruction, "ape_instruction": rival, "rows": [len(job.learn), len(job.held)],
        "seconds": [round(middle - began, 1), round(time.monotonic() - began, 1)],
    }  # fmt: skip


def _mean(found: Sequence[float | None]) -> float:
    return fmean([value for value in found if value is not None])


def _difference(a: Sequence[float | None], b: Sequence[float | None]) -> list[float] | None:
    from zhiling.induce.race import interval

    span = interval([x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None])
    return [round(x, 4) for x in span] if span else None


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the docstring says."""
    out: dict[str, float] = {}
    for rival, key in (("human", "over_human"), ("ape", "over_ape")):
        out[f"win_or_tie_{rival}"] = fmean(row["ours"] >= row[rival] - 1e-9 for row in rows)
        out[f"not_worse_{rival}"] = fmean(row[key][2] >= 0 for row in rows)
        out[f"wins_beyond_chance_{rival}"] = fmean(row[key][1] > 0 for row in rows)
    out["win_or_tie_best_human"] = fmean(row["ours"] >= row["human_best"] - 1e-9 for row in rows)
    out["calls_per_task"] = max(row["calls"] for row in rows)
    out["interval_coverage"] = fmean(row["covered"] for row in rows)
    return {name: round(float(value), 4) for name, value in out.items()}


def line(row: Mapping[str, Any]) -> str:
    """A task's row for a reader."""
    scores = "  ".join(f"{name} {row[name]:>8}" for name in ("ours", "human", "human_best", "ape"))
    return f"{row['task']:<26} {scores}  {row['way']}/{row['how']}: {row['instruction'][:60]!r}  {row['seconds']}"


async def main(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure all tasks one after the other."""
    from zhiling.induce import Settings
    from zhiling.llm import open_model

    chosen = jobs(asked.data, asked.seed, asked.full)
    names = asked.only.split(",") if asked.only else QUICK if asked.quick else None
    chosen = [job for job in chosen if names is None or job.name in names]
    if not chosen:
        sys.exit(f"no task found under {asked.data / FOLDER}")
    calls, rows = asked.calls or (120 if asked.quick else Settings().calls), []
    spec = {"provider": "transformers", "batch": 32, **({"threads": asked.threads} if asked.threads else {})}
    with tempfile.TemporaryDirectory() as scratch:
        async with open_model(spec, cache=asked.cache or Path(scratch) / "replies.sqlite") as model:
            for job in chosen:
                row = await measure(job, model, calls, asked.seed)
                rows.append(row)
                print(line(row), flush=True)
    return {
        "name": "induce",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "figures": figures(rows),
        "rows": rows,
    }


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true", help="long rows too")
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="keep replies here, so that a run that was stopped goes on")
    return parser.parse_args()


if __name__ == "__main__":
    asked = parsed()
    found = asyncio.run(main(asked))
    for name, value in found["figures"].items():
        print(f"{name:<28} {value}")
    if asked.json:
        asked.json.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
