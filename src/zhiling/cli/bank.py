"""`zhiling bank ...`: the instruction database from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhiling.errors import DataError, say

if TYPE_CHECKING:
    from zhiling.construct.bank import Bank, Hit, Store, Written

bank = typer.Typer(no_args_is_help=True, help="The instruction database. 指令数据库。")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]
BankFolder = Annotated[
    str, typer.Option("--bank", "-b", help="A bank's folder or qdrant:// address; default: the shipped seeds. 指令库。")
]
OwnBank = Annotated[str, typer.Argument(help="The bank's folder or qdrant:// address. 指令库。", metavar="BANK")]
OwnFolder = Annotated[Path, typer.Argument(help="The bank's folder. 指令库文件夹。", metavar="BANK")]
At = Annotated[str, typer.Option("--at", help="A snapshot instead of the current version. 使用某个快照。")]
Family = Annotated[str | None, typer.Option(help="Only this family. 只看某一族。")]
Lang = Annotated[str | None, typer.Option(help="Only this language. 只看某种语言。")]
Licence = Annotated[str | None, typer.Option(help="Only this licence. 只看某种许可证。")]
Source = Annotated[str | None, typer.Option(help="Only this source. 只看某个来源。")]
Quality = Annotated[float | None, typer.Option(help="Only rows judged at least this good, 0 to 1. 最低质量。")]


@bank.command("search")
def search_bank(
    query: Annotated[str, typer.Argument(help="What to look for, zh or en. 查询内容。")],
    folder: BankFolder = "seeds",
    k: Annotated[int, typer.Option("-k", help="How many. 条数。")] = 5,
    family: Family = None,
    lang: Lang = None,
    licence: Licence = None,
    source: Source = None,
    quality: Quality = None,
    related: Annotated[
        bool, typer.Option(help="Rows of the same kind, not only of the same words. 找同类指令。")
    ] = False,
    at: At = "",
    as_json: Json = False,
) -> None:
    """The nearest instructions, each with why it was found. 检索最相近的指令并说明原因。"""
    filters: dict[str, Any] = {
        "family": family, "lang": lang, "licence": licence, "source": source, "quality": quality,
    }  # fmt: skip
    hits = _open(folder, at).search(query, k, related=related, **filters)
    if as_json:
        print(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False, indent=1))
        return
    _show_hits(hits, {name: value for name, value in filters.items() if value is not None})


@bank.command("add")
def add_to_bank(
    folder: OwnBank,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Alpaca, BELLE, ShareGPT, messages, Natural Instructions, Self-Instruct or promptsource rows (JSON, JSONL, CSV, "
            "Parquet), or a run's folder. 数据文件或运行文件夹。"
        ),
    ],
    licence: Annotated[str, typer.Option(help="Licence of rows that state none. 许可证。")] = "",
    source: Annotated[str, typer.Option(help="Where they come from. 来源。")] = "",
    unlicensed: Annotated[bool, typer.Option(help="Take rows without a licence. 允许没有许可证的数据。")] = False,
) -> None:
    """Add rows to a bank, made if new: all of a file or none of it. 向指令库添加数据，没有则新建。"""
    read = [(file, *_rows(file)) for file in files]  # a file that cannot be read is said before a bank is made
    here = _made(folder)
    for file, given, unread in read:
        done = here.add(given, licence=licence, source=source or file.name, allow_unlicensed=unlicensed)
        refused = len(done.refused) + unread
        print(
            say(
                f"{file.name}: {done.added} added, {done.duplicates} there already, {refused} unreadable or refused",
                f"{file.name}：添加 {done.added} 行，已有 {done.duplicates} 行，无法读取或被拒绝 {refused} 行",
            )
        )
        _show_refused(done)


@bank.command("update")
def update_bank(
    folder: OwnBank,
    file: Annotated[Path, typer.Argument(help="Rows with the ids they replace; absent fields stay. 带 id 的数据。")],
) -> None:
    """Replace rows by others of the same id. 更新指令库中的数据。"""
    rows, unread = _rows(file, whole=False)
    done = _open(folder).update(rows)
    refused = len(done.refused) + unread
    print(
        say(
            f"{done.updated} updated, {done.duplicates} unchanged, {refused} unreadable or refused",
            f"更新 {done.updated} 行，未变 {done.duplicates} 行，无法读取或被拒绝 {refused} 行",
        )
        + _version(done)
    )
    _show_refused(done)
    if refused and not done.updated + done.duplicates:
        raise typer.Exit(1)


@bank.command("remove")
def remove_from_bank(
    folder: OwnBank,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of rows; or use the filters. 数据 id。")] = None,
    family: Family = None,
    lang: Lang = None,
    licence: Licence = None,
    source: Source = None,
) -> None:
    """Remove rows by id, or all that pass the filters. 从指令库删除数据。"""
    filters: dict[str, Any] = {"family": family, "lang": lang, "licence": licence, "source": source}
    if bool(ids) == any(value is not None for value in filters.values()):
        what = say("give either ids or filters", "请给出 id 或筛选条件，二者取一")
        raise DataError(what, mend=say("zhiling bank remove BANK ID...", "zhiling bank remove 库 ID..."))
    here = _open(folder)
    done = here.remove(ids or [row.id for row in here.rows(**filters)])
    print(say(f"{done.removed} removed", f"删除 {done.removed} 行") + _version(done))
    _show_refused(done)
    if done.refused and not done.removed:
        raise typer.Exit(1)


@bank.command("snapshot")
def snapshot_bank(
    folder: OwnFolder, name: Annotated[str, typer.Argument(help="The snapshot's name. 快照名。")]
) -> None:
    """Keep the current version under a name, for `--at NAME`. 保存快照。"""
    version = _versioned(folder).snapshot(name)
    print(say(f"version {version} is kept as '{name}'", f"版本 {version} 已保存为快照“{name}”"))


@bank.command("log")
def bank_log(folder: OwnFolder, as_json: Json = False) -> None:
    """The versions of a bank and what made them. 查看版本记录。"""
    from zhiling.show import show_table

    here = _versioned(folder)
    names: dict[int, list[str]] = {}
    for name, version in here.snapshots().items():
        names.setdefault(version, []).append(name)
    show_table(
        [{**entry, "ids": entry.get("ids", []), "snapshots": names.get(entry["version"], [])} for entry in here.log()],
        as_json,
    )


@bank.command("rebuild")
def rebuild_bank(folder: OwnFolder) -> None:
    """Write a bank anew without removed rows. 重建指令库。"""
    version = _versioned(folder).rebuild()
    print(say(f"rebuilt as version {version}", f"已重建为版本 {version}"))


@bank.command("info")
def bank_info(folder: BankFolder = "seeds", at: At = "", as_json: Json = False) -> None:
    """What is in a bank. 查看指令库内容。"""
    from zhiling.show import show_table

    show_table(_open(folder, at).info(), as_json)


@bank.command("export")
def export_bank(
    out: Annotated[Path, typer.Argument(help="The JSONL to write. 输出文件。")],
    folder: BankFolder = "seeds",
    family: Family = None,
    lang: Lang = None,
    licence: Licence = None,
    source: Source = None,
    quality: Quality = None,
    at: At = "",
) -> None:
    """The rows of a bank that pass the filters, as JSON lines. 导出指令库。"""
    count = _open(folder, at).export(out, family=family, lang=lang, licence=licence, source=source, quality=quality)
    print(say(f"{count} rows written to {out}", f"已写出 {count} 行：{out}"))


def _open(folder: str, at: str = "") -> Store:
    from zhiling.construct.bank import opened
    from zhiling.embed import Use

    return opened(folder, Use(), at=at)


def _made(folder: str) -> Store:
    """The bank, a new one where there is none."""
    from zhiling.construct.bank import Bank
    from zhiling.construct.bank_remote import Remote, is_address
    from zhiling.embed import Use

    if is_address(folder):
        return Remote.create(folder, Use())
    there = Path(folder).is_dir() and any(Path(folder).iterdir())
    return Bank.open(folder, Use()) if there else Bank.create(folder, Use())


def _versioned(folder: Path) -> Bank:
    """A bank in a folder: one in a vector database has no versions."""
    from zhiling.construct.bank import Bank
    from zhiling.construct.bank_remote import is_address
    from zhiling.embed import Use

    if is_address(str(folder)):
        what = say("a bank in a vector database has no versions", "向量数据库中的库没有版本")
        raise DataError(what, where=str(folder), mend=say("keep it in a folder", "请用文件夹保存"))
    return Bank.open(folder, Use())


def _rows(path: Path, whole: bool = True) -> tuple[list[Mapping[str, Any]], int]:
    """A file's rows as a bank takes them, or a run's kept ones, and how many were unreadable. `whole`: told by format, else as they are."""
    from zhiling.construct.bank_formats import recognise
    from zhiling.data import rows as raw

    if path.is_dir():
        return list(_kept(path)), 0
    lines = [row for _, row in raw(path)]
    given = [row for row in lines if not isinstance(row, str)]
    if not given:
        raise DataError(
            say("the file has no usable rows", "文件中没有可用的数据行"),
            where=str(path),
            mend=say("check it", "请检查"),
        )
    if whole:
        form = recognise(next((row for row in given if _fits(row)), given[0]), str(path))
        given = [_as_ours(row, form) for row in given]
    return given, len(lines) - len(given)


def _as_ours(row: Mapping[str, Any], usual: str) -> Mapping[str, Any]:
    """The row by the file's format, else by the first that fits; one of no format as it is, for the bank to refuse with the reason."""
    from zhiling.construct.bank_formats import converted

    fits = _fits(row)
    return converted(row, usual if usual in fits else fits[0]) if fits else row


def _fits(row: Mapping[str, Any]) -> list[str]:
    from zhiling.construct.bank_formats import FORMATS

    return [name for name, (keys, _) in FORMATS.items() if all(row.get(key) is not None for key in keys)]


def _kept(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows that a run kept. The bank's ids are theirs, so that adding a run again adds nothing."""
    from zhiling.store import current, read

    files = [output for done in current(folder) for output in done.of("kept")]
    if not files:
        mend = say("run it at least until select", "请至少运行到 select 阶段")
        raise DataError(say("this run has kept no rows yet", "该运行尚无保留的数据"), where=str(folder), mend=mend)
    for row in read(folder, files):
        yield {name: getattr(row, name) for name in ("id", "task", "instruction", "input", "output", "lang")}


def _version(done: Written) -> str:
    return say(f"; version {done.version}", f"；版本 {done.version}") if done.version else ""


def _show_refused(done: Written) -> None:
    for one in done.refused[:5]:
        print(f"  {one.where or one.text}: {one.why}")


def _show_hits(hits: list[Hit], filters: Mapping[str, Any]) -> None:
    """Each hit in three lines: its parts, its text with the matching words marked, where it comes from."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    if not hits:
        console.print(say("nothing found", "没有找到"))
    for place, hit in enumerate(hits, 1):
        vector = "-" if hit.vector is None else f"{hit.vector:.3f}"
        terms = " ".join(hit.terms) or "-"
        head = Text(f"{place}. {hit.score:.3f}  ", style="bold")
        head.append(say("keyword ", "关键词 ") + f"{hit.keyword:.3f} ({terms})  ", style="yellow")
        head.append(say("vector ", "向量 ") + vector, style="cyan")
        if hit.kin is not None:
            head.append("  " + say("kin ", "同类 ") + f"{hit.kin:.3f}", style="magenta")
        console.print(head)
        said = Text("   " + hit.row.instruction.replace("\n", " "))
        for term in hit.terms:
            said.highlight_words([term], style="bold yellow", case_sensitive=False)
        console.print(said)
        facts = (hit.row.id, hit.row.family, hit.row.lang, hit.row.licence, hit.row.source)
        console.print(Text("   " + "  ".join(fact for fact in facts if fact), style="dim"))
    if filters:
        console.print(say("filters: ", "筛选：") + ", ".join(f"{name}={value}" for name, value in filters.items()))
