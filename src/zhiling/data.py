"""Reading the user's data: every line becomes a `Record` or a quarantined `Reject` with file and line; nothing is lost, nothing stops the rest.

CSV, TSV, JSON, JSONL, Parquet, Markdown and plain text, gzip or not; UTF-8 (with or without BOM), UTF-16 with BOM and GB18030.
Rows stream: memory does not grow with the file, except for a `.json` array, which is one document.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from zhiling.errors import DataError, boundary, say
from zhiling.types import Record, Reject, Task

Row: TypeAlias = tuple[int, Mapping[str, Any] | str]
"""(line number, the row's fields), or (line number, why the row is unreadable)."""

MAX_FIELD = 16 * 1024 * 1024
csv.field_size_limit(MAX_FIELD)


@dataclass(frozen=True, slots=True)
class Source:
    """A data file of a task. `columns` maps our field names to the file's; `where` keeps the rows whose fields equal the given values."""

    path: Path
    format: str = ""
    columns: Mapping[str, str] | None = None
    where: Mapping[str, str] | None = None
    limit: int | None = None


def read(source: Source, task: Task) -> Iterator[Record | Reject]:
    """The task's rows of one file, in file order.

    Raises DataError when the file cannot be used at all: absent, of an unknown format, empty, or without a column that the task
    needs. A row that cannot be used is a Reject with state "quarantined".
    """
    name = source.path.name
    wanted = [*task.inputs, task.target]
    columns = dict(source.columns or {})
    given = _checked(source, task, wanted)
    count = 0
    for line, row in given:
        if source.limit is not None and count >= source.limit:
            return
        if isinstance(row, str):
            yield Reject(task.name, "read", "quarantined", row, where=f"{name}:{line}")
            continue
        if source.where and any(_text(row.get(key)) != str(value) for key, value in source.where.items()):
            continue
        fields = {key: _text(row[columns.get(key, key)]) for key in wanted if columns.get(key, key) in row}
        renamed = set(columns.values())
        fields |= {
            key: _text(value)
            for key, value in row.items()
            if key not in renamed and key not in fields and isinstance(key, str)
        }
        why = _unusable(fields, wanted)
        if why:
            yield Reject(
                task.name,
                "read",
                "quarantined",
                why,
                where=f"{name}:{line}",
                text=_safe(json.dumps(fields, ensure_ascii=False)),
            )
            continue
        count += 1
        yield Record(task.name, fields, lang=fields.get("lang", ""), file=name, line=line)


def rows(path: Path, format: str = "", where: str = "") -> Iterator[Row]:
    """The raw rows of a file with their line numbers (1-based), unreadable ones as text that says why."""
    kind = format or _format_of(path)
    reader = READERS.get(kind)
    if reader is None:
        known = ", ".join(sorted(READERS))
        raise DataError(
            say(f"cannot tell how to read this file (format '{kind}')", f"无法识别文件格式（“{kind}”）"),
            where=where or str(path),
            mend=say(f"set format: one of {known}", f"请设置 format：{known} 之一"),
        )
    if not path.exists():
        raise DataError(
            say("no such file", "文件不存在"), where=where or str(path), mend=say("check the path", "请检查路径")
        )
    return reader(path)


def _checked(source: Source, task: Task, wanted: Sequence[str]) -> Iterator[Row]:
    """Rows after a look at the first readable ones: wrong columns are an error at once, not a million quarantined rows."""
    stream = rows(source.path, source.format)
    head: list[Row] = []
    try:
        for line, row in stream:
            head.append((line, row))
            if not isinstance(row, str) or len(head) >= 100:
                break
    except OSError as error:
        raise boundary(error, str(source.path)) from error
    if not head:
        raise DataError(
            say("the file has no rows", "文件中没有任何数据行"),
            where=str(source.path),
            mend=say("add rows or remove it from the task", "请添加数据，或从任务中移除该文件"),
        )
    first = next((row for _, row in head if not isinstance(row, str)), None)
    if first is not None:
        columns = dict(source.columns or {})
        absent = [columns.get(key, key) for key in wanted if columns.get(key, key) not in first]
        if absent:
            there = ", ".join(str(key) for key in first)
            missing = ", ".join(f"'{name}'" for name in absent)
            raise DataError(
                say(f"no column {missing}; the file has: {there}", f"缺少列 {missing}；文件中有：{there}"),
                where=str(source.path),
                mend=say(
                    f"set columns: {{{wanted[0]}: <its column>}} under tasks.{task.name}",
                    f"请在 tasks.{task.name} 下设置 columns: {{{wanted[0]}: 对应列名}}",
                ),
            )

    def chained() -> Iterator[Row]:
        yield from head
        yield from stream

    return chained()


def _unusable(fields: Mapping[str, str], wanted: Sequence[str]) -> str:
    for key in wanted:
        if key not in fields:
            return say(f"the field '{key}' is missing", f"缺少字段“{key}”")
    for key, value in fields.items():
        if len(value) > MAX_FIELD:
            return say(f"the field '{key}' has {len(value)} characters", f"字段“{key}”长达 {len(value)} 个字符")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return say(f"the field '{key}' is not valid Unicode", f"字段“{key}”不是有效的 Unicode 文本")
    return ""


def _safe(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower().lstrip(".") for suffix in path.suffixes]
    if suffixes and suffixes[-1] == "gz":
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    return {"ndjson": "jsonl", "markdown": "md", "text": "txt", "pq": "parquet"}.get(kind, kind)


def _bytes(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def encoding_of(head: bytes) -> str:
    """The encoding by byte order mark, else UTF-8 if the first bytes are valid UTF-8, else GB18030 if they are valid there, else UTF-8."""
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    for name in ("utf-8", "gb18030"):
        try:
            # The last bytes may be half a character: forgive them, unless that is all there is.
            head[: max(len(head) - 4, 0) if len(head) >= 65536 else len(head)].decode(name)
            return name
        except UnicodeDecodeError:
            continue
    return "utf-8"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text): bytes that cannot be decoded come as lone surrogates, so that only their own row is quarantined."""
    with _bytes(path) as raw:
        encoding = encoding_of(raw.read(65536))
        raw.seek(0)
        reader = io.TextIOWrapper(
            raw, encoding=encoding, errors="surrogateescape" if encoding != "utf-16" else "replace", newline="\n"
        )
        yield from enumerate(reader, 1)


def _jsonl(path: Path) -> Iterator[Row]:
    for line, text in _lines(path):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            yield line, say(f"broken JSON: {what}", f"JSON 有误：{what}")
            continue
        yield line, row if isinstance(row, dict) else say("not a JSON object", "不是 JSON 对象")


def _json(path: Path) -> Iterator[Row]:
    text = "".join(line for _, line in _lines(path))
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        at = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(
            say(f"broken JSON: {error}", f"JSON 有误：{error}"),
            where=f"{path}{at}",
            mend=say(
                "mend the file, or use JSONL, where one bad line costs one row",
                "请修复文件，或改用 JSONL（一行出错只影响一行）",
            ),
        ) from error
    if isinstance(data, dict):
        data = data.get("data", [data])
    for number, row in enumerate(data, 1):
        yield number, row if isinstance(row, dict) else say("not a JSON object", "不是 JSON 对象")


def _delimited(delimiter: str) -> Callable[[Path], Iterator[Row]]:
    def reader(path: Path) -> Iterator[Row]:
        stream = csv.reader((text for _, text in _lines(path)), delimiter=delimiter)
        header: list[str] = []
        before = 0
        while True:
            try:
                cells = next(stream)
            except StopIteration:
                return
            except csv.Error as error:
                yield before + 1, say(f"broken CSV: {error}", f"CSV 有误：{error}")
                before = stream.line_num
                continue
            line, before = before + 1, stream.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                continue
            if len(cells) != len(header):
                yield (
                    line,
                    say(
                        f"{len(cells)} cells where the header has {len(header)}",
                        f"有 {len(cells)} 个单元格，而表头有 {len(header)} 个",
                    ),
                )
                continue
            yield line, dict(zip(header, cells, strict=True))

    return reader


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(say(f"not a Parquet file: {error}", f"不是 Parquet 文件：{error}"), where=str(path)) from error
    line = 0
    for batch in file.iter_batches(1024):
        for row in batch.to_pylist():
            line += 1
            yield line, row


_heading = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_asked = re.compile(r"^\s*(?:[-*]\s+)?\**\s*(?:Q|Question|问|问题)\s*\**\s*[:：]\s*\**\s*(.+?)\s*$", re.IGNORECASE)
_answered = re.compile(r"^\s*(?:[-*]\s+)?\**\s*(?:A|Answer|答|答案)\s*\**\s*[:：]\s*\**\s*(.+?)\s*$", re.IGNORECASE)


def _markdown(path: Path) -> Iterator[Row]:
    """A document as rows: {title, heading, passage, question, answer} per question of a section; a section without any has one row
    whose question and answer are its heading and its passage when the heading asks something, else empty."""
    title = heading = ""
    passage: list[str] = []
    asked: list[tuple[int, str, str]] = []
    start, pending = 1, (0, "")

    def section() -> Iterator[Row]:
        text = "\n".join(passage).strip()
        base = {"title": title, "heading": heading, "passage": text}
        if asked:
            for line, question, answer in asked:
                yield line, {**base, "question": question, "answer": answer}
        elif text and heading.rstrip().endswith(("?", "？")):
            yield start, {**base, "question": heading, "answer": text}
        elif text:
            yield start, {**base, "question": "", "answer": ""}

    fenced = False
    for number, raw in _lines(path):
        line = raw.rstrip("\r\n")
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        found = None if fenced else _heading.match(line)
        if found:
            yield from section()
            passage, asked, start = [], [], number
            if len(found[1]) == 1:
                title = found[2]
            heading = found[2]
        elif not fenced and (question := _asked.match(line)):
            pending = (number, question[1].strip("*").strip())
        elif not fenced and pending[1] and (answer := _answered.match(line)):
            asked.append((*pending, answer[1].strip("*").strip()))
            pending = (0, "")
        else:
            passage.append(line)
    yield from section()


def _plain(path: Path) -> Iterator[Row]:
    """Paragraphs, separated by blank lines, as {passage}."""
    start, held = 1, list[str]()
    for number, line in _lines(path):
        if line.strip():
            start = start if held else number
            held.append(line.rstrip())
        elif held:
            yield start, {"passage": "\n".join(held)}
            held = []
    if held:
        yield start, {"passage": "\n".join(held)}


def _natural_instructions(path: Path) -> Iterator[Row]:
    """Natural Instructions v2: each instance of each task as {task, definition, input, output}; the first output counts."""
    for line, row in _jsonl(path) if "jsonl" in path.name else _json(path):
        if isinstance(row, str):
            yield line, row
            continue
        definition = row.get("Definition", "")
        definition = "\n".join(definition) if isinstance(definition, list) else str(definition)
        for instance in row.get("Instances", []):
            output = instance.get("output", "")
            answer = output[0] if isinstance(output, list) and output else output
            yield (
                line,
                {
                    "task": row.get("task", path.stem),
                    "definition": definition,
                    "input": instance.get("input", ""),
                    "output": answer,
                },
            )


def _self_instruct(path: Path) -> Iterator[Row]:
    """Self-Instruct and BELLE seed tasks as {name, instruction, input, output}, from the first instance."""
    for line, row in _jsonl(path) if "jsonl" in path.name else _json(path):
        if isinstance(row, str):
            yield line, row
            continue
        instances = row.get("instances") or [{}]
        yield (
            line,
            {
                **{key: row.get(key, "") for key in ("id", "name", "instruction")},
                "input": instances[0].get("input", ""),
                "output": instances[0].get("output", ""),
            },
        )


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "csv": _delimited(","),
    "tsv": _delimited("\t"),
    "jsonl": _jsonl,
    "json": _json,
    "parquet": _parquet,
    "md": _markdown,
    "txt": _plain,
    "natural_instructions": _natural_instructions,
    "self_instruct": _self_instruct,
}


def expand(text: str, here: Path) -> Path:
    """A recipe's path: `~` and ${VARIABLES} expanded, relative to the recipe's folder.

    ${ZHILING_SHARED} defaults to `shared/data` beside the checkout. Raises DataError for a variable that is not set.
    """
    values = {"ZHILING_SHARED": str(shared_data()), **os.environ}

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise DataError(say(f"the variable {match[1]} is not set", f"未设置变量 {match[1]}"), where=text)
        return values[match[1]]

    path = Path(re.sub(r"\$\{(\w+)\}", value, text)).expanduser()
    return path if path.is_absolute() else here / path


def shared_data() -> Path:
    """Where real third-party data for tests and benchmarks lies: $ZHILING_SHARED (with or without its `data`), else beside the checkout."""
    named = os.environ.get("ZHILING_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared"
    return folder / "data" if (folder / "data").is_dir() else folder
