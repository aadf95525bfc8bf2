"""A task's data as Records: columns renamed, rows chosen, everything made text, and what cannot be used quarantined."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.data.files import MAX_FIELD, Part, Row, parts
from zhiling.errors import DataError, boundary, say
from zhiling.text import valid
from zhiling.types import Record, Reject, Task


@dataclass(frozen=True, slots=True)
class Source:
    """Data of a task. `columns` maps our field names to the file's; `where` keeps the rows whose fields equal the given values.

    `path` is a file, or a folder of data files. `table` names a table of a database, or a split of a folder.
    Rows must bring the task's target, unless `answered` is false: then it is read where it is there.
    """

    path: Path
    format: str = ""
    columns: Mapping[str, str] | None = None
    where: Mapping[str, str] | None = None
    limit: int | None = None
    table: str = ""
    answered: bool = True


def read(source: Source, task: Task) -> Iterator[Record | Reject]:
    """The task's rows of one source, in file order.

    Raises DataError when the file cannot be used at all: absent, of an unknown format, empty, or without a column that the task
    needs. A row that cannot be used is a Reject with state "quarantined", with its file and line (or row) in `where`.
    """
    wanted = [*task.inputs, task.target] if source.answered else [*task.inputs]
    count, empty = 0, True
    for part in parts(source.path, source.format, source.table):
        for line, row in _checked(part, source, task, wanted):
            empty = False
            if source.limit is not None and count >= source.limit:
                return
            where = f"{part.name}:{line}"
            if isinstance(row, str):
                yield Reject(task.name, "read", "quarantined", row, where=where)
                continue
            if source.where and any(text_of(row.get(key)) != str(value) for key, value in source.where.items()):
                continue
            fields = _fields(row, wanted, source.columns or {})
            why = _unusable(fields, wanted)
            if why:
                said = valid(json.dumps({key: value[:500] for key, value in fields.items()}, ensure_ascii=False))
                yield Reject(task.name, "read", "quarantined", why, where=where, text=said)
                continue
            count += 1
            yield Record(task.name, fields, lang=fields.get("lang", ""), file=part.name, line=line)
    if empty:
        raise DataError(
            say("the file has no rows", "文件中没有任何数据行"),
            where=str(source.path),
            mend=say("add rows or remove it from the task", "请添加数据，或从任务中移除该文件"),
        )


def text_of(value: Any) -> str:
    """A cell as text: nothing as "", truth as true/false, lists and mappings as JSON, bytes as the UTF-8 they are, else as it prints."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    if isinstance(value, list | tuple | dict):
        try:
            return json.dumps(value, ensure_ascii=False, default=text_of)
        except (TypeError, ValueError, RecursionError):  # a mapping with keys that JSON has not, nesting without end
            return str(value)
    return str(value)


def _fields(row: Mapping[str, Any], wanted: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The row under the task's names: what the task wants, then the file's other columns. Binary extras are left out."""
    fields = {key: text_of(row[columns.get(key, key)]) for key in wanted if columns.get(key, key) in row}
    renamed = set(columns.values())
    for key, value in row.items():
        if isinstance(key, str) and key not in renamed and key not in fields:
            said = text_of(value)
            if not isinstance(value, bytes) or _valid(said):
                fields[key] = said
    for key, column in columns.items():
        if key not in fields and column in row:
            fields[key] = text_of(row[column])
    return fields


def _checked(part: Part, source: Source, task: Task, wanted: Sequence[str]) -> Iterator[Row]:
    """Rows after a look at the first readable one: wrong columns are an error at once, not a million quarantined rows."""
    seen = 0
    try:
        for line, row in part.rows():
            if not seen and not isinstance(row, str):
                _check_columns(row, source, task, wanted)
                seen = 1
            yield line, row
    except OSError as error:
        raise boundary(error, str(part.path)) from error


def _check_columns(row: Mapping[str, Any], source: Source, task: Task, wanted: Sequence[str]) -> None:
    columns = dict(source.columns or {})
    absent = [columns.get(key, key) for key in wanted if columns.get(key, key) not in row]
    if not absent:
        return
    there = ", ".join(str(key) for key in row)
    missing = ", ".join(f"'{name}'" for name in absent)
    raise DataError(
        say(f"no column {missing}; the file has: {there}", f"缺少列 {missing}；文件中有：{there}"),
        where=str(source.path),
        mend=say(
            f"set columns: {{{wanted[0]}: <its column>}} under tasks.{task.name}",
            f"请在 tasks.{task.name} 下设置 columns: {{{wanted[0]}: 对应列名}}",
        ),
    )


def _unusable(fields: Mapping[str, str], wanted: Sequence[str]) -> str:
    for key in wanted:
        if key not in fields:
            return say(f"the field '{key}' is missing", f"缺少字段“{key}”")
    for key, value in fields.items():
        if len(value) > MAX_FIELD:
            return say(f"the field '{key}' has {len(value)} characters", f"字段“{key}”长达 {len(value)} 个字符")
        if not _valid(value):
            return say(f"the field '{key}' is not valid Unicode", f"字段“{key}”不是有效的 Unicode 文本")
    return ""


def _valid(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
