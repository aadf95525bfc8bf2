"""How a bank lies on disk: the manifest that names the current version, the writer's lock, and what makes a version durable."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zhiling.errors import DataError, EngineError, say

FORMAT = 2
MANIFEST = "manifest.json"
SNAPSHOTS = "snapshots"
LOGGED = 1000
"""How many versions the log remembers."""

_name = re.compile(r"\w[\w.-]{0,63}")


def empty(embedder: Mapping[str, Any] | None) -> dict[str, Any]:
    """The manifest of a bank without rows."""
    return {
        "format": FORMAT,
        "version": 0,
        "embedder": embedder,
        "segments": [],
        "index": None,
        "gone": None,
        "log": [],
    }


def read_manifest(folder: Path, at: str = "") -> dict[str, Any]:
    """The manifest of the bank in `folder`, or of a snapshot. Raises DataError when it is no bank, damaged, or of another format."""
    file = folder / MANIFEST
    if at:
        file = _snapshot_file(folder, at)
        if not file.exists() and (folder / MANIFEST).exists():
            known = ", ".join(sorted(path.stem for path in (folder / SNAPSHOTS).glob("*.json"))) or "-"
            what = say(f"there is no snapshot '{at}'", f"没有名为“{at}”的快照")
            raise DataError(what, where=str(folder), mend=say(f"there are: {known}", f"现有：{known}"))
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        found = manifest["format"]
        if found == FORMAT:
            manifest["version"], manifest["segments"], manifest["index"], manifest["embedder"]
            manifest["gone"], manifest["log"]
    except FileNotFoundError as error:
        what = say("not an instruction bank: it has no manifest.json", "不是指令库：没有 manifest.json")
        raise DataError(
            what, where=str(folder), mend=say("check the path, or create a bank", "请检查路径，或新建一个库")
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        what = say(f"the bank's manifest is damaged: {error}", f"指令库的清单已损坏：{error}")
        raise DataError(
            what, where=str(file), mend=say("restore it from a backup or build the bank again", "请从备份恢复或重建")
        ) from error
    if found != FORMAT:
        what = say(
            f"the bank has format {found}, this zhiling reads {FORMAT}",
            f"指令库的格式为 {found}，当前版本只支持 {FORMAT}",
        )
        newer = isinstance(found, int) and found > FORMAT
        mend = say("upgrade: pip install -U zhiling", "请升级：pip install -U zhiling")
        again = say("build the bank again from its data", "请用原始数据重建该库")
        raise DataError(what, where=str(folder), mend=mend if newer else again)
    return dict(manifest)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Make the manifest the current one: the moment at which a version comes to exist."""
    _replace(folder / MANIFEST, manifest)


def commit(folder: Path, made: Path, manifest: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Make what was written into `made` durable, and then the current version, with an entry in the log."""
    sync_tree(made)
    version = manifest["version"] + 1
    when = datetime.now(UTC).isoformat(timespec="seconds")
    log = [*manifest["log"], {"version": version, "time": when, **entry}][-LOGGED:]
    index = f"{made.name}/index" if manifest["segments"] else None
    write_manifest(folder, {**manifest, "version": version, "index": index, "log": log})


def snapshots(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifests of the kept versions, by name."""
    files = sorted((folder / SNAPSHOTS).glob("*.json"))
    return {file.stem: read_manifest(folder, file.stem) for file in files}


def write_snapshot(folder: Path, name: str, manifest: Mapping[str, Any]) -> None:
    """Keep a version under a name. Raises DataError for a name in use or one that cannot be a file's."""
    file = _snapshot_file(folder, name)
    if file.exists():
        what = say(f"there is a snapshot '{name}' already", f"已有名为“{name}”的快照")
        raise DataError(what, where=str(folder), mend=say("choose another name", "请换一个名字"))
    file.parent.mkdir(exist_ok=True)
    _replace(file, manifest)


def _snapshot_file(folder: Path, name: str) -> Path:
    if not _name.fullmatch(name):
        what = say(f"'{name[:64]}' cannot name a snapshot", f"“{name[:64]}”不能用作快照名")
        mend = say("use letters, digits, '-', '_' and '.'", "请使用文字、数字、“-”、“_”和“.”")
        raise DataError(what, where=str(folder), mend=mend)
    return folder / SNAPSHOTS / f"{name}.json"


def _replace(file: Path, manifest: Mapping[str, Any]) -> None:
    part = file.with_name(f"{file.name}.part")
    with part.open("w", encoding="utf-8") as out:
        json.dump(manifest, out, indent=1, ensure_ascii=False)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
    sync(file.parent)


@contextmanager
def locked(folder: Path, wait: float) -> Iterator[None]:
    """Hold the writer's lock, waiting up to `wait` seconds for it. The system releases it when its holder dies.

    Raises EngineError when another writer still holds it then.
    """
    import fcntl

    with (folder / ".lock").open("a") as handle:
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    what = say("another process is writing to this bank", "另一个进程正在写入该指令库")
                    mend = say("wait for it to end and run this again", "请等它结束后重试")
                    raise EngineError(what, where=str(folder), mend=mend) from error
                time.sleep(0.05)
        yield


def sync(path: Path) -> None:
    """Make a file, or a folder's list of files, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """`sync` for everything in a folder, and for the folder."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)


def link_tree(old: Path, new: Path) -> None:
    """A copy of an index folder that shares its files. An index never rewrites a file in place but the two that list the others."""
    new.mkdir()
    for file in sorted(old.iterdir()):
        if file.name.endswith(".lock"):
            continue
        if file.suffix != ".json":
            try:
                os.link(file, new / file.name)
                continue
            except OSError:  # a file system without hard links
                pass
        shutil.copyfile(file, new / file.name)


def absorb(segments: list[dict[str, Any]], count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(segments that stay, last segments that the new one of `count` rows takes in): those no larger than it.

    So n rows lie in at most log2(n) segments however they came, and each row is rewritten at most log2(n) times.
    """
    stay, taken = list(segments), list[dict[str, Any]]()
    while stay and stay[-1]["rows"] <= count:
        taken.insert(0, stay.pop())
        count += taken[0]["rows"]
    return stay, taken


def clear(folder: Path, *manifests: Mapping[str, Any]) -> None:
    """Remove what neither the given manifests nor a snapshot refers to."""
    kept = [*manifests, *snapshots(folder).values()]
    parts = {segment["folder"] for manifest in kept for segment in manifest["segments"]}
    parts |= {manifest["gone"].split("/")[0] for manifest in kept if manifest["gone"]}
    indexes = {manifest["index"] for manifest in kept}
    for version in folder.glob("v[0-9]*"):
        if f"{version.name}/index" not in indexes:
            shutil.rmtree(version / "index", ignore_errors=True)
            if version.name not in parts:
                shutil.rmtree(version, ignore_errors=True)
