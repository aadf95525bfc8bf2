"""Templates and tasks of other collections become definitions of ours: promptsource, Natural Instructions 1 and 2, `str.format` texts."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from zhiling.construct.importing import formats, natural, promptsource
from zhiling.construct.importing.drafts import Draft, Skipped, write
from zhiling.construct.library import read_safely
from zhiling.errors import RecipeError, say

__all__ = ["KINDS", "Draft", "Kind", "Skipped", "import_files", "write"]

Kind: TypeAlias = Literal["promptsource", "ni1", "ni2", "format"]
KINDS: tuple[str, ...] = get_args(Kind)
_MAX_BYTES = 512 * 1024 * 1024
_YAML = (".yaml", ".yml")
_JSON = (".json", ".jsonl", ".ndjson")


def import_files(paths: Iterable[Path], kind: str = "", target: str = "") -> Iterator[Draft | Skipped]:
    """What the files hold, each definition checked as a recipe would check it; what cannot be one is Skipped, saying why.

    A folder stands for the files in it. `kind` is told from each file unless it is given. `target` names the answer field of
    `str.format` texts. Raises RecipeError for a file that is none of these.
    """
    if kind and kind not in KINDS:
        raise RecipeError(
            say(f"no such kind: {kind}", f"没有这种类型：{kind}"), where="--kind", mend=f"one of {', '.join(KINDS)}"
        )
    taken: dict[str, str] = {}
    for path in _files(paths):
        for made in _read(path, kind, target):
            if isinstance(made, Skipped):
                yield made
                continue
            base, n = made.id, 2
            while made.id in taken and taken[made.id] != made.text():
                made.definition["id"] = f"{base}_{n}"
                n += 1
            taken[made.id] = made.text()
            try:
                made.checked()
            except RecipeError as error:
                yield Skipped(f"{path} {made.id}", str(error))
                continue
            yield made


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(one for one in path.rglob("*") if one.is_file() and _suffix(one) in (*_YAML, *_JSON))
        if not found:
            raise RecipeError(
                say("the folder holds no YAML or JSON file", "文件夹中没有 YAML 或 JSON 文件"), where=str(path)
            )
        yield from found


def _read(path: Path, kind: str, target: str) -> Iterator[Draft | Skipped]:
    if (kind == "promptsource" or not kind) and _suffix(path) in _YAML:
        text = read_safely(path, aliases=True)
        if not kind and not promptsource.is_promptsource(text):
            raise RecipeError(
                say("not a promptsource file (no !Template in it)", "不是 promptsource 文件（其中没有 !Template）"),
                where=str(path),
                mend=say(
                    "definitions of our own need no import: zhiling template check FILE; or name --kind",
                    "本项目的模板定义无需导入：zhiling template check 文件；或用 --kind 指明类型",
                ),
            )
        yield from promptsource.read(text, str(path))
    elif kind in ("ni1", "ni2") or (not kind and _suffix(path) in _JSON):
        rows = natural.rows_of(_text(path), str(path))
        if not kind and not any(natural.kind_of(row) for _, row in rows):
            raise _unknown(path)
        yield from natural.read(rows, kind)
    elif kind == "format" or (not kind and _suffix(path) in (".txt", ".md", "")):
        yield formats.read(_text(path), str(path), path.stem, target)
    elif kind == "promptsource":
        yield from promptsource.read(read_safely(path, aliases=True), str(path))
    else:
        raise _unknown(path)


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _unknown(path: Path) -> RecipeError:
    return RecipeError(
        say("cannot tell what this file is", "无法识别这个文件的类型"),
        where=str(path),
        mend=say(
            f"promptsource YAML, a Natural Instructions task (JSON or JSONL) or a text of {{slots}}; or name --kind: {', '.join(KINDS)}",
            f"可导入 promptsource YAML、Natural Instructions 任务（JSON 或 JSONL）或含 {{空位}} 的文本；也可用 --kind 指明：{'、'.join(KINDS)}",
        ),
    )


def _text(path: Path) -> str:
    """The file's text, unzipped and decoded. Raises RecipeError in words."""
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as raw:
            data = raw.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise RecipeError(
            say(f"cannot read the file: {why}", f"无法读取文件：{why}"),
            where=str(path),
            mend=say("check the path", "请检查路径"),
        ) from error
    if len(data) > _MAX_BYTES:
        raise RecipeError(
            say("the file is larger than 512 MB", "文件超过 512 MB"), where=str(path), mend=say("split it", "请拆分")
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(
            say("not UTF-8", "不是 UTF-8 编码"), where=str(path), mend=say("save it as UTF-8", "请另存为 UTF-8")
        ) from error


def as_json(made: Draft | Skipped) -> str:
    """One line for programs: what became of a template or a task."""
    if isinstance(made, Skipped):
        return json.dumps({"where": made.where, "imported": False, "why": made.why}, ensure_ascii=False)
    notes = [{"where": note.where, "what": note.why} for note in made.notes]
    row = {
        "id": made.id,
        "imported": True,
        "phrasings": len(made.definition["phrasings"]),
        "rows": len(made.rows),
        "notes": notes,
    }
    return json.dumps(row, ensure_ascii=False)
