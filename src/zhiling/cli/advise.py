"""`zhiling advise`: which model to tune, how and where, from measurements on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhiling.cli.tune import _given
from zhiling.cli.work import at_work
from zhiling.errors import EngineError, RecipeError, boundary, say

if TYPE_CHECKING:
    from zhiling.advise import Advice
    from zhiling.tune.cost import Constants

Source = Annotated[
    Path, typer.Argument(help="A recipe, a run's folder or a data file. 配方、运行文件夹或数据文件。", metavar="SOURCE")
]
Models = Annotated[
    list[Path] | None, typer.Option("--model", help="A model folder to weigh too. 一并比较的模型文件夹。")
]
Hours = Annotated[float, typer.Option(help="At most so long on this machine. 本机最长用时（小时）。", min=0.0)]
Memory = Annotated[float | None, typer.Option(help="GB to use; default: what is free. 可用内存（GB）。", min=0.0)]
Usd = Annotated[float | None, typer.Option(help="At most so many US dollars elsewhere. 租用预算（美元）。", min=0.0)]
Probes = Annotated[
    int, typer.Option("--probe", help="Rows to ask models that are here; 0: none. 零样本试答的行数。", min=0)
]
Again = Annotated[bool, typer.Option("--again", help="Measure this machine anew. 重新测量本机。")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="A setting of tune: epochs=3. 调优设置。")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]


COLUMNS = (
    ("model", "模型"),
    ("method", "方法"),
    ("GB", "内存GB"),
    ("minutes", "分钟"),
    ("untuned", "微调前"),
    ("against", "不可行原因"),
)


def advise(
    source: Source, models: Models = None, hours: Hours = 8.0, memory: Memory = None, usd: Usd = None, probes: Probes = 8,
    again: Again = False, sets: Sets = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Which model to tune, how and where: memory, time and money, measured here. 选择模型与调优方式：实测内存、时间与费用。"""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from zhiling.advise import advise as weigh
    from zhiling.advise import as_dict
    from zhiling.advise.learn import past
    from zhiling.advise.rows import gather
    from zhiling.proof import prove

    if not source.exists():
        raise RecipeError(
            say("no such file", "文件不存在"), where=str(source), mend=say("check the path", "请检查路径")
        )
    rows = gather(source)
    settings = prove.settings_of(
        {key: value for key, value in {**rows.settings, **_given(sets or [])}.items() if key != "model"}
    )
    with at_work() as meter:
        constants = _constants(again, meter)
        bytes_ = memory * 1e9 if memory is not None else None
        found = weigh(
            rows, settings, models or [], constants, meter, hours=hours, memory=bytes_, usd=usd, probes=probes
        )
    runs = past()
    if as_json:
        told = {**as_dict(found), "constants": asdict(constants), "past": runs, "load": os.getloadavg()[0]}
        print(json.dumps(told, ensure_ascii=False, indent=1))
    else:
        print("\n".join(_lines(found, runs)))


def _constants(again: bool, watch: Any) -> Constants:
    """What is known of this machine, else measured now and kept; the shipped figures where it cannot be measured, which is then said."""
    from zhiling.tune import calibrate
    from zhiling.tune.cost import Constants

    known = None if again else calibrate.known()
    if known is not None:
        return known
    note = say("measuring this machine, a minute at most", "正在测量本机，至多一分钟")
    watch({"stage": "calibrate", "note": note})
    try:
        measured = calibrate.calibrate(watch)
    except EngineError as error:
        watch({"stage": "calibrate", "note": str(error)})
        return Constants()
    try:
        calibrate.keep(measured)
    except OSError as error:
        watch({"stage": "calibrate", "note": str(boundary(error))})
    return measured


def _lines(found: Advice, runs: Mapping[str, Any]) -> list[str]:
    from zhiling.show import table_lines

    names = [say(*pair) for pair in COLUMNS]
    table = []
    for one in found.options:
        value = one.probe.value if one.probe else None
        cells = [
            one.label,
            one.method,
            round(one.bytes / 1e9, 1),
            round(one.seconds / 60, 1),
            value,
            "; ".join(one.against),
        ]
        table.append(dict(zip(names, cells, strict=True)))
    untold = {one.label: one.probe.why for one in found.options if one.probe and one.probe.why}
    lines = [
        *table_lines(table),
        *(say(f"{name}, untuned: {why}", f"{name} 微调前：{why}") for name, why in untold.items()),
        "",
    ]
    if found.hire:
        lines += [
            say("elsewhere, list prices:", "租用或托管（标价）："),
            *table_lines([_hired(row) for row in found.hire[:6]]),
            "",
        ]
    if found.choice:
        how = f"zhiling tune ... --model {found.choice.base} --set method={found.choice.method}"
        lines.append(
            say(
                f"recommended: {found.choice.label}, {found.choice.method}   {how}",
                f"推荐：{found.choice.label}，{found.choice.method}   {how}",
            )
        )
        lines.append(say("memory at its peak: ", "内存峰值的组成：") + _made_of(found.choice.parts))
    else:
        lines.append(say("no recommendation", "没有可推荐的选择"))
    lines += [f"  + {reason}" for reason in found.reasons] + [f"  ? {doubt}" for doubt in found.uncertain]
    if runs["runs"]:
        shown = ["-" if runs[key] is None else f"{runs[key]:.0%}" for key in ("bytes_error", "seconds_error")]
        lines.append(
            say(
                f"  ? over the last {runs['runs']} runs here the prediction was off by {shown[0]} (memory) and {shown[1]} (time), the median",
                f"  ? 本机最近 {runs['runs']} 次运行的预测误差（中位数）：内存 {shown[0]}，时间 {shown[1]}",
            )
        )
    return lines


def _hired(row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row["usd_low"], row["usd_high"]
    price = "< $0.01" if high < 0.01 else f"${high:.2f}" if high - low < 0.01 else f"${low:.2f}-{high:.2f}"
    names = [say(*pair) for pair in (("where", "何处"), ("model", "模型"), ("price", "价格"), ("source", "来源"))]
    return dict(zip(names, (row["where"], row["model"] or "-", price, f"{row['source']}, {row['date']}"), strict=True))


def _made_of(parts: Mapping[str, float]) -> str:
    named = {
        "process": ("process", "进程"), "weights": ("weights", "权重"), "gradients": ("gradients", "梯度"),
        "moments": ("moments", "优化器动量"), "activations": ("activations", "激活"), "logits": ("logits", "词表输出"),
        "loading": ("more while loading", "加载时另需"),
    }  # fmt: skip
    return ", ".join(f"{say(*name)} {parts[key] / 1e9:.2f} GB" for key, name in named.items() if parts.get(key))
