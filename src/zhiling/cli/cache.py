"""`zhiling cache ...`: the replies that were paid for, from the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhiling.errors import DataError, EngineError, RecipeError, say

if TYPE_CHECKING:
    from zhiling.llm import ReplyCache

cache = typer.Typer(no_args_is_help=True, help="Replies that were paid for. 已付费的模型回复。")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]
Place = Annotated[
    Path, typer.Argument(help="A run's folder, or a replies.sqlite. 运行文件夹或缓存文件。", metavar="CACHE")
]


@cache.command("info")
def cache_info(place: Place, as_json: Json = False) -> None:
    """How many replies of which models, their tokens, what they cost, the size and the dates. 查看缓存内容。"""
    from zhiling.show import show_table

    found = _open(place).info()
    for key in ("first", "last"):
        found[key] = (
            None if found[key] is None else datetime.fromtimestamp(found[key], UTC).isoformat(timespec="seconds")
        )
    if as_json:
        show_table(found, True)
        return
    dates = f"{found['first']} .. {found['last']}" if found["replies"] else "-"
    told = {say("file", "文件"): found["path"], say("replies", "回复数"): found["replies"]}
    show_table({**told, say("size", "大小"): _size(found["bytes"]), say("dates", "日期"): dates})
    if found["models"]:
        print()
        show_table(
            [{**row, "usd": say("unknown", "未知") if row["usd"] is None else row["usd"]} for row in found["models"]]
        )


@cache.command("prune")
def prune_cache(
    place: Place,
    older_than: Annotated[
        float | None, typer.Option(help="Only replies older than so many days. 早于多少天。", min=0)
    ] = None,
    model: Annotated[str, typer.Option(help="Only this model's, by the name that info shows. 只删该模型的。")] = "",
    yes: Annotated[
        bool, typer.Option("--yes/--dry-run", help="Do it; else only say what would go. 真正执行。")
    ] = False,
) -> None:
    """Forget replies, by age or model. What is forgotten would be asked, and paid, again. 清理缓存。"""
    if older_than is None and not model:
        mend = say("add --older-than DAYS, --model NAME or both", "请加上 --older-than 天数、--model 名称，或两者")
        raise RecipeError(say("say which replies to forget", "请指明要清理哪些回复"), where="cache prune", mend=mend)
    found = _open(place)
    _unused(found.path)
    gone = found.prune(older_than, model, dry=not yes)
    if yes:
        print(say(f"{gone} replies forgotten", f"已清理 {gone} 条回复"))
    else:
        print(say(f"{gone} replies would go; add --yes to do it", f"将清理 {gone} 条回复；加上 --yes 真正执行"))


@cache.command("export")
def export_cache(
    place: Place, out: Annotated[Path, typer.Option("-o", "--out", help="The JSONL to write. 输出文件。")]
) -> None:
    """All replies as JSON lines: key, model, text, usage, usd, date. 导出缓存。"""
    count = _open(place).export(out)
    print(say(f"{count} replies written to {out}", f"已写出 {count} 条回复：{out}"))


@cache.command("merge")
def merge_caches(
    into: Annotated[
        Path, typer.Argument(help="The file that takes them in; made if new. 合并到的文件。", metavar="INTO")
    ],
    places: Annotated[
        list[Path], typer.Argument(help="Runs' folders or files to take from. 来源。", metavar="FROM...")
    ],
) -> None:
    """Bring the replies of several runs into one file, which a recipe names as `cache: FILE`. 合并缓存。"""
    from zhiling.llm import ReplyCache

    sources = [_open(place) for place in places]
    target = _open(into) if into.exists() else ReplyCache(into)
    for source in sources:
        taken = target.merge(source.path)
        print(say(f"{source.path}: {taken} replies taken in", f"{source.path}：并入 {taken} 条回复"))
    target.close()


def _open(place: Path) -> ReplyCache:
    """The cache of a run's folder or in a file, checked for damage. Raises DataError where there is none; never makes one."""
    from zhiling.llm import ReplyCache

    file = place / "replies.sqlite" if place.is_dir() else place
    if not file.is_file() or not file.stat().st_size:
        mend = say(
            "name a run's folder, its replies.sqlite, or the file that the recipe names as cache:",
            "请给出运行文件夹、其中的 replies.sqlite，或配方中 cache: 指定的文件",
        )
        raise DataError(say("no reply cache here", "这里没有回复缓存"), where=str(place), mend=mend)
    try:
        found = ReplyCache(file)
        found.check()
    except EngineError as error:  # the file that the user named is the wrong one
        raise DataError(error.what, where=error.where, mend=error.mend) from None
    return found


def _unused(file: Path) -> None:
    """Raise EngineError while a run is at work in the folder that the file lies in."""
    import fcntl

    lock = file.parent / ".lock"
    if not lock.exists():
        return
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = say("a run is at work in this folder", "该文件夹中的运行正在进行")
            raise EngineError(what, where=str(file.parent), mend=say("wait for it to end", "请等它结束")) from None


def _size(count: Any) -> str:
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{count / 2**10:.1f} kB"
