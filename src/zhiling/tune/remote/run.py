"""A tuning at a provider from beginning to end: checked, priced, sent, waited for, and noted like one that was done here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zhiling.errors import DataError, ProviderError, RecipeError, say
from zhiling.llm.tuning import Standing, Tuning
from zhiling.tune.log import read
from zhiling.tune.remote.base import Base, base_of, opened, settings_of
from zhiling.tune.remote.cost import Estimate, estimate, within
from zhiling.tune.remote.job import Job, Watch
from zhiling.tune.remote.rows import TRAINING, VALIDATION, File, Line, prepare
from zhiling.tune.remote.settings import Settings
from zhiling.tune.remote.state import Busy, State, alone, load, whole
from zhiling.types import content_id


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be done: the files, what it may cost, and `key`, which names it."""

    files: Mapping[str, File]
    cost: Estimate
    key: str
    tasks: Sequence[str]

    def told(self) -> dict[str, Any]:
        """Plain values."""
        rows = {name: file.rows for name, file in self.files.items()}
        cost = self.cost
        told = {"rows": rows, "tokens": cost.tokens, "epochs": cost.epochs, "usd": cost.usd, "usd_most": cost.usd_most}
        return {**told, "words": cost.words()}


def planned(
    base: Base, tuning: Tuning, lines: Iterable[Line], more: Iterable[Line] | None, out: Path, settings: Settings
) -> Plan:
    """Check the rows, write the files into `out` and estimate the cost; nothing is sent. Raises as `rows.prepare` does.

    Another process may not be at work in `out`: see `state.alone`.
    """
    tasks = dict[str, None]()

    def heard() -> Iterable[Line]:
        for line in lines:
            tasks[line.task] = None
            yield line

    share = settings.validation if isinstance(settings.validation, float | int) else 0.0
    files = prepare(heard(), more, out, tuning, share, settings.seed)
    parts = [[name, file.sha] for name, file in sorted(files.items())]
    place = {name: value for name, value in tuning.entry().items() if name != "key_env"}
    key = content_id("tuning", str(base), place, settings.told(), settings.suffix, parts)
    cost = estimate(files[TRAINING], settings.epochs, tuning.identity, settings.price)
    return Plan(files, cost, key, list(tasks))


async def tune(
    base: Base,
    lines: Iterable[Line],
    more: Iterable[Line] | None,
    out: Path,
    settings: Settings,
    watch: Watch,
    *,
    tuning: Tuning,
    again: bool = False,
) -> dict[str, Any]:
    """Tune `base` at its provider on the lines (`more` are the validation file's); returns the facts of the tuned model as plain values.

    `out` gets the files, tuning.json (what was sent and made), metrics.jsonl where the provider tells losses, then done.json. The same
    call goes on after any end; finished, it asks nothing. A job that failed or was cancelled stays so, unless `again` starts another.
    Raises DataError for rows that the provider would not take, ProviderError (kind "budget": nothing was sent; else the provider's
    reason), RecipeError while a job of other rows or settings is under way here.
    """
    with alone(out):
        if (out / "model").exists():
            raise DataError(
                say("a model was tuned here on this machine", "这里已有在本机微调的模型"), where=str(out),
                mend=say("choose another folder with -o", "请用 -o 另选文件夹"),
            )  # fmt: skip
        plan = planned(base, tuning, lines, more, out, settings)
        state = load(out)
        if (facts := _finished(out, plan.key)) is not None and not again:
            return facts
        rows = plan.files[TRAINING].rows
        watch({"stage": "tune", "note": say(f"{rows} rows, {plan.cost.words()}", f"{rows} 行，{plan.cost.words()}")})
        if long := sum(file.long for file in plan.files.values()):
            watch({"stage": "tune", "note": _long(long, tuning)})
        _taken_up(state, plan, base, settings, again, out)
        if not state.job.begun:  # what is here is another job's
            for name in ("done.json", "metrics.jsonl"):
                (out / name).unlink(missing_ok=True)
        job = Job(tuning, state, out, watch, settings.poll_seconds, plan.tasks[0] if len(plan.tasks) == 1 else "")
        standing = await job.run(plan.files, settings.suffix, settings.told())
        if standing.state != "succeeded":
            state.end(standing.state, standing.why)
            raise _failed(state, base, out)
        return _finish(out, plan, base, tuning, state, standing)


async def cancel(out: Path, watch: Watch) -> tuple[str, str]:
    """(the job of this folder, how it stands) after it was told to stop, while another process waits for it or not.

    Raises DataError where there is none, Busy while another process is about to start it.
    """
    held = load(out)
    if held.job.id:
        try:
            with alone(out):
                return await _cancelled(load(out), out, watch, note=True)
        except Busy:  # who waits for the job will see how it ended, and note it
            return await _cancelled(held, out, watch, note=False)
    if not held.job.begun:
        raise _no_job(out)
    with alone(out):
        return await _cancelled(load(out), out, watch, note=True)


async def _cancelled(state: State, out: Path, watch: Watch, note: bool) -> tuple[str, str]:
    base = base_of(state.base)
    if base is None:
        raise _no_job(out)
    settings = settings_of(base, state.settings)
    tuning = opened(base, settings)
    try:
        standing = await Job(tuning, state, out, watch, settings.poll_seconds).cancel()
    finally:
        await tuning.close()
    if standing is None:
        raise _no_job(out)
    if standing.ended and note:
        state.end(standing.state, standing.why)
    return state.job.id, standing.state


def _long(rows: int, tuning: Tuning) -> str:
    limit = tuning.limits.tokens
    return say(
        f"{rows} rows may have more than {limit:,} tokens: the provider may cut or leave them out",
        f"{rows} 行可能超过 {limit:,} 个词元：提供方可能截断或剔除它们",
    )


def _no_job(out: Path) -> DataError:
    mend = say("nothing is to be stopped", "没有可停止的任务")
    return DataError(say("no job was started from this folder", "没有从该文件夹启动过任务"), where=str(out), mend=mend)


def _taken_up(state: State, plan: Plan, base: Base, settings: Settings, again: bool, out: Path) -> None:
    """Go on with the plan of this folder, or begin another where that one has ended or never began."""
    if state.key == plan.key and not again:
        if state.ended in ("failed", "cancelled"):
            raise _failed(state, base, out)
        if not state.job.begun:
            within(plan.cost, settings.budget, str(base))
        return
    finished = _done(out).get("key") == state.key
    if state.job.begun and not state.ended and not finished:
        job = state.job.id or say("perhaps started", "可能已启动")
        if state.key == plan.key:
            what = say(f"the job ({job}) is still under way", f"任务（{job}）仍在进行")
        else:
            what = say(
                f"a job of other rows or settings ({job}) is under way here",
                f"这里有其他数据或设置的任务正在进行（{job}）",
            )
        mend = say(
            f"stop it with: zhiling tune -o {out} --cancel, or choose another folder with -o",
            f"用 zhiling tune -o {out} --cancel 停止它，或用 -o 另选文件夹",
        )
        raise RecipeError(what, where=str(out), mend=mend)
    within(plan.cost, settings.budget, str(base))
    model = str(_done(out).get("remote", {}).get("model", ""))
    given = {key: value for key, value in dataclasses.asdict(settings).items() if value is not None}
    state.anew(plan.key, str(base), given, model, keep=not again)  # the name of what was paid for before is kept


def _failed(state: State, base: Base, out: Path) -> ProviderError:
    if state.ended == "cancelled":
        what, kind = say(f"job {state.job.id} was cancelled", f"任务 {state.job.id} 已被取消"), "refused"
    else:
        why = state.why or say("the provider gave no reason", "提供方没有说明原因")
        what, kind = say(f"job {state.job.id} failed: {why}", f"任务 {state.job.id} 失败：{why}"), "refused"
    mend = say(
        "mend what it says and run again (other rows or settings are another job); --again starts the same once more",
        "按提示修正后重新运行（数据或设置改变即为新任务）；加 --again 可原样再启动一次",
    )
    return ProviderError(what, where=str(base), mend=mend, kind=kind)


def _finish(out: Path, plan: Plan, base: Base, tuning: Tuning, state: State, standing: Standing) -> dict[str, Any]:
    """Write done.json, last of all."""
    losses = [line["loss"] for line in read(out / "metrics.jsonl") if "loss" in line]
    steps = standing.steps or max((int(line["step"]) for line in read(out / "metrics.jsonl")), default=0)
    rate = plan.cost.rate
    paid = None if rate is None or standing.tokens is None else standing.tokens * rate.usd / 1e6
    counts = {"trained": plan.files[TRAINING].rows}
    counts |= {"validation": plan.files[VALIDATION].rows} if VALIDATION in plan.files else {}
    remote = {
        "provider": base.provider,
        "job": state.job.id,
        "model": standing.model,
        "files": {name: sent.id for name, sent in state.files.items()},
        "trained_tokens": standing.tokens,
        "usd": paid,
        "told": dict(standing.facts),
        "tuned": tuning.entry(standing.model),
        "base": tuning.entry(),
    }
    held = {
        "key": plan.key, "base": str(base), "steps": steps, "saved": steps, "total": losses[-1] if losses else None, "loss": {},
        "counts": counts, "sources": [_source(plan.files[TRAINING], tuning.form)], "remote": remote,
    }  # fmt: skip
    with whole(out / "done.json") as file:
        file.write(json.dumps(held, ensure_ascii=False, indent=1).encode())
    state.end(standing.state)
    return _facts(out, held)


def _source(file: File, form: str) -> dict[str, Any]:
    """Where the model's rows are to be found: in the very file that was sent. As the `done.json` of a tuning on this machine says it."""
    with file.path.open("rb") as handle:
        digest = hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return {"path": str(file.path.resolve()), "form": form, "digest": digest, "rows": file.rows}


def _finished(out: Path, key: str) -> dict[str, Any] | None:
    """The facts of a job that an earlier call saw succeed."""
    held = _done(out)
    return _facts(out, held) if held.get("key") == key and "remote" in held else None


def _done(out: Path) -> dict[str, Any]:
    """What done.json says, nothing where there is none or it is none."""
    try:
        held = json.loads((out / "done.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _facts(out: Path, held: Mapping[str, Any]) -> dict[str, Any]:
    """What `prove.tune` says of a tuned model, and by which entries it and its base are asked."""
    remote = held["remote"]
    return {
        "folder": str(out),
        "base": held["base"],
        "method": say("a job at the provider", "提供方的微调任务"),
        "steps": held["steps"],
        "rows": held["counts"]["trained"],
        "loss": held["loss"],
        **{key: remote[key] for key in ("model", "job", "trained_tokens", "usd", "told")},
        "remote": {"tuned": remote["tuned"], "base": remote["base"]},
    }
