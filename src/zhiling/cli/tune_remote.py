"""`zhiling tune --base openai:MODEL` and `vertex:MODEL`: what the command says of a tuning at a provider."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.cli.work import at_work
from zhiling.errors import say

if TYPE_CHECKING:
    from zhiling.tune.remote.base import Base


def elsewhere(
    base: Base, sources: Sequence[Path], out: Path, given: Mapping[str, Any], form: str, *, plan: bool, again: bool, as_json: bool
) -> None:  # fmt: skip
    """Tune at a provider; with `plan` only check the rows and say the price."""
    from zhiling.proof import tuning

    with at_work() as meter:
        lines = partial(tuning.lines_of, sources, form)
        facts = tuning.elsewhere(base, lines, out, given, meter, again=again, plan=plan)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        print(_planned(base, facts) if plan else _made(facts))


def cancelled(out: Path, as_json: bool) -> None:
    """`zhiling tune -o OUT --cancel`: stop the job that was started there."""
    from zhiling.proof import tuning

    with at_work() as meter:
        job, state = tuning.cancel(out, meter)
    print(json.dumps({"job": job, "state": state}) if as_json else say(f"job {job}: {state}", f"任务 {job}：{state}"))


def _planned(base: Base, facts: Mapping[str, Any]) -> str:
    rows = ", ".join(f"{name} {count}" for name, count in facts["rows"].items())
    return say(
        f"{base}: rows: {rows}; {facts['words']}; nothing was sent",
        f"{base}：行数：{rows}；{facts['words']}；尚未发送任何内容",
    )


def _made(facts: Mapping[str, Any]) -> str:
    from zhiling.tune.remote.cost import money

    told, count = facts["told"], facts["trained_tokens"]
    en, zh = f"tuned on {facts['rows']} rows", f"已用 {facts['rows']} 行数据微调"
    if count is not None:
        en, zh = f"{en}, {count:,} tokens", f"{zh}，{count:,} 词元"
    if facts["usd"] is not None:
        en, zh = f"{en}, {money(facts['usd'])}", f"{zh}，{money(facts['usd'])}"
    lines = [say(f"{en}: {facts['model']}", f"{zh}：{facts['model']}")]
    if left := told.get("left_out"):
        why = "; ".join(told["left_out_why"]) or "?"
        lines.append(say(f"the provider left out {left} rows: {why}", f"提供方剔除了 {left} 行：{why}"))
    command = f"zhiling compare base {facts['folder']} DATA"
    return "\n".join([*lines, say(f"next: {command}", f"下一步：{command}")])
