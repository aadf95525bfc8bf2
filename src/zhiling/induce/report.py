"""What a contest came to, told: as plain values, as lines for a reader, and as a template file that a recipe names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from zhiling.errors import say
from zhiling.induce import Outcome
from zhiling.induce.execute import unit
from zhiling.induce.propose import WAYS, Entrant
from zhiling.induce.race import Runner, interval
from zhiling.text import cut

FILE = "induced.yaml"


def facts(out: Outcome) -> dict[str, Any]:
    """Everything that is known of a contest, as plain values for JSON. A figure that could not be had is None."""
    return {
        "task": out.task.name, "by": out.by, "metric": out.task.metric, "unit": unit(out.by, out.task.metric),
        "winner": _finalist(out, 0), "runner_up": _finalist(out, 1), "given": _given(out), "difference": difference(out, 0, 1),
        "over_given": difference(out, 0, place) if (place := _given_place(out)) else None,
        "rows": {"propose": len(out.split.propose), "race": len(out.split.race), "report": len(out.split.report)},
        "calls": out.purse.asked, "usd": round(out.purse.paid, 6) if out.purse.usd_known else None, "confidence": out.settings.confidence,
        "ways": ways(out), "candidates": [_candidate(out, place) for place in range(len(out.order))],
        "lost": [{"way": one.way, "how": one.how, "text": one.text, "why": one.why} for one in out.lost],
        "notes": out.notes, "stopped": out.stopped,
    }  # fmt: skip


def _finalist(out: Outcome, place: int) -> dict[str, Any] | None:
    if place >= len(out.order):
        return None
    one, span = out.entrants[out.order[place]], out.interval(place)
    answers = out.reported.get(out.order[place], [])
    return {
        "instruction": one.template.instruction, "way": one.way, "how": one.how, "lang": one.template.lang, "quality": one.quality,
        "score": None if span is None else round(span[0], 4), "low": None if span is None else round(span[1], 4),
        "high": None if span is None else round(span[2], 4), "rows": sum(a.value is not None for a in answers),
        "failed": sum(a.value is None for a in answers),
    }  # fmt: skip


def _given_place(out: Outcome) -> int:
    """The place of the wording that the user gave; 0 when it won or there was none."""
    return next((p for p, i in enumerate(out.order) if out.entrants[i].way == "given" and i in out.reported), 0)


def _given(out: Outcome) -> dict[str, Any] | None:
    place = _given_place(out)
    won = bool(out.order) and out.entrants[out.order[0]].way == "given"
    return _finalist(out, place) if place or won else None


def difference(out: Outcome, a: int, b: int) -> dict[str, Any] | None:
    """The one at place `a` less the one at place `b`, row by row on the report rows; None where there are too few."""
    if max(a, b) >= len(out.order):
        return None
    one, other = (out.reported.get(out.order[place], []) for place in (a, b))
    pairs = [x.value - y.value for x, y in zip(one, other, strict=False) if x.value is not None and y.value is not None]
    if len(pairs) < 2:
        return None
    if any(pairs):
        span = interval([*pairs], out.settings.confidence)
        assert span is not None
        mean, low, high = span
    else:  # no row differed: so many differences, and no more, could have gone unseen
        mean, high = 0.0, 1 - (1 - out.settings.confidence) ** (1 / len(pairs))
        low = -high
    if out.by == "metric":
        low, high = max(-1.0, low), min(1.0, high)
    verdict = "better" if low > 0 else "worse" if high < 0 else "cannot tell"
    return {
        "mean": round(mean, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "rows": len(pairs),
        "verdict": verdict,
    }


def ways(out: Outcome) -> list[dict[str, Any]]:
    """What each way contributed: how many it proposed, how many ran, its best place and that one's mean in the race."""
    table = []
    for way in WAYS:
        mine = [place for place, i in enumerate(out.order) if out.entrants[i].way == way]
        lost = sum(one.way == way for one in out.lost)
        if not mine and not lost:
            continue
        best = out.runners[out.order[mine[0]]] if mine and out.runners else None
        table.append({
            "way": way, "proposed": lost + len({out.entrants[out.order[place]].origin for place in mine}),
            "ran": len(mine), "best_place": mine[0] + 1 if mine else None,
            "best_mean": round(best.mean, 4) if best is not None and best.scored else None,
            "rows_run": sum(len(out.runners[out.order[p]].values) for p in mine) if out.runners else 0,
        })  # fmt: skip
    return table


def _candidate(out: Outcome, place: int) -> dict[str, Any]:
    i = out.order[place]
    one, runner = out.entrants[i], out.runners[i]
    return {
        "place": place + 1, "instruction": one.template.instruction, "way": one.way, "how": one.how, "quality": one.quality,
        "scores": {score.scorer: score.value for score in one.scores}, "rows": len(runner.scored),
        "mean": round(runner.mean, 4) if runner.scored else None, "fate": runner.fate, "why": why(out, place),
    }  # fmt: skip


def why(out: Outcome, place: int) -> str:
    """Why the one at that place stands there."""
    i = out.order[place]
    one, runner = out.entrants[i], out.runners[i]
    if place == 0:
        return say("won", "胜出")
    if not runner.values:
        shown = "-" if one.quality is None else f"{one.quality:.2f}"
        return say(f"quality {shown} ({one.why}); not executed", f"质量 {shown}（{one.why}）；未执行")
    if runner.fate == "failed":
        return say("no row under it could be scored", "在它之下没有一行能够评分")
    if runner.fate == "worse":
        return say(
            f"worse than the leader by {runner.lead:.3g} (at least {runner.sure:.2g}) over {runner.met} rows",
            f"比领先者差 {runner.lead:.3g}（至少 {runner.sure:.2g}），共 {runner.met} 行",
        )
    if runner.fate == "halved":
        return say(
            f"place {runner.place} of {runner.of} after {runner.met} rows, behind by {runner.lead:.3g}: not proven worse",
            f"{runner.met} 行后排第 {runner.place}/{runner.of}，落后 {runner.lead:.3g}：未证明更差",
        )
    return say(f"ran to the end, behind by {_behind(out, runner):.3g}", f"跑到最后，落后 {_behind(out, runner):.3g}")


def _behind(out: Outcome, runner: Runner) -> float:
    best = out.runners[out.order[0]]
    both = [row for row in runner.values if runner.values[row] is not None and best.values.get(row) is not None]
    return fmean((best.values[row] or 0.0) - (runner.values[row] or 0.0) for row in both) if both else 0.0


def lines(out: Outcome, told: Mapping[str, Any], folder: Path | None) -> Iterator[str]:
    """The contest for a reader."""
    yield from out.notes
    if out.stopped:
        yield say(f"stopped early: {out.stopped}", f"提前停止：{out.stopped}")
    yield from _heads(told)
    rows = told["rows"]
    paid = say("cost unknown", "花费未知") if told["usd"] is None else f"${told['usd']:.4f}"
    yield ""
    yield say(
        f"{told['calls']} calls, {paid}; rows to propose {rows['propose']}, to race {rows['race']}, to report {rows['report']}",
        f"{told['calls']} 次调用，{paid}；提议 {rows['propose']} 行，比赛 {rows['race']} 行，报告 {rows['report']} 行",
    )
    for way in told["ways"]:
        best, mean = way["best_place"] or "-", "-" if way["best_mean"] is None else f"{way['best_mean']:.3f}"
        yield say(
            f"  {way['way']:<9} proposed {way['proposed']:>3}, ran {way['ran']:>3} ({way['rows_run']} rows); best place {best}, mean {mean}",
            f"  {way['way']:<9} 提出 {way['proposed']:>3}，参赛 {way['ran']:>3}，共执行 {way['rows_run']} 行；最好名次 {best}，均值 {mean}",
        )
    yield ""
    yield say("the others:", "其他候选：")
    for one in told["candidates"][1:12]:
        yield f"  {one['place']:>3}. [{one['way']}] {cut(one['instruction'], 70)}: {one['why']}"
    away = len(told["candidates"][12:]) + len(told["lost"])
    if away:
        where = f"{folder / 'contest.json'}" if folder else "--json"
        yield say(f"  and {away} more, each with its reason: {where}", f"  另有 {away} 条，各有原因：{where}")
    if folder is not None and told["winner"]:
        yield ""
        yield say(f"for a recipe beside {folder / FILE}:", f"在 {folder / FILE} 旁的配方中写：")
        yield f"  construct: [{{template: {{templates: {FILE}}}}}]"


def _heads(told: Mapping[str, Any]) -> Iterator[str]:
    names = (("winner", "winner", "胜者"), ("runner_up", "runner-up", "第二名"), ("given", "as given", "原说明"))
    for key, en, zh in names:
        one = told[key]
        if one is None or (key == "given" and one in (told["winner"], told["runner_up"])):
            continue
        yield f"{say(en, zh)} [{one['way']}/{one['how']}]: {one['instruction']}"
        if one["score"] is None:
            yield say("    not measured: no rows to report on", "    未测量：没有可供报告的数据")
        else:
            level = f"{100 * told['confidence']:g}%"
            yield f"    {told['unit']}: {one['score']:.3f} ({level}: {one['low']:.3f} … {one['high']:.3f}, {one['rows']})"
    for key, en, zh in (
        ("difference", "over the runner-up", "比第二名"),
        ("over_given", "over the given wording", "比原说明"),
    ):
        if gap := told[key]:
            verdict = {"better": say("better", "更好"), "worse": say("worse", "更差")}.get(
                gap["verdict"], say("cannot tell", "无法判断")
            )
            yield f"    {say(en, zh)}: {gap['mean']:+.3f} ({gap['low']:+.3f} … {gap['high']:+.3f}): {verdict}"


def template_text(out: Outcome) -> str:
    """The winner as a template definition (YAML), with how it was found in a comment."""
    one = out.winner
    assert one is not None
    task, template = out.task, one.template
    span = out.interval(0)
    measured = say("not measured", "未测量") if span is None else f"{span[0]:.3f} ({span[1]:.3f} … {span[2]:.3f})"
    head = say(
        f"# Won a contest of {len(out.entrants)} candidates, by {one.way} ({one.how}); {unit(out.by, task.metric)}: {measured}",
        f"# 在 {len(out.entrants)} 条候选的比赛中胜出，来自 {one.way}（{one.how}）；{unit(out.by, task.metric)}：{measured}",
    )
    phrasing = {"lang": template.lang, "id": "winner", "instruction": template.instruction}
    phrasing |= {"input": template.input, "output": template.output or f"{{{{ {task.target} }}}}"}
    if template.system:
        phrasing["system"] = template.system
    family = task.family
    definition = {
        "id": f"induced_{_name(task.name)}", "family": family, "langs": [template.lang],
        "description": {template.lang: cut(_described(one, out), 200)}, "fields": [*task.inputs, task.target], "target": task.target,
        "phrasings": [phrasing],
    }  # fmt: skip
    return f"{head}\n{yaml.safe_dump(definition, allow_unicode=True, sort_keys=False, width=140)}"


def _described(one: Entrant, out: Outcome) -> str:
    return out.task.description.splitlines()[0] if out.task.description else one.text


def _name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_") or "task"
