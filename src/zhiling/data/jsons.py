"""JSON Lines and JSON documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from zhiling.data.files import Row
from zhiling.data.lines import lines, opened
from zhiling.errors import DataError, say

CHUNK = 1 << 18  # characters read at a time from an array
_space = re.compile(r"\s*")
_decoder = json.JSONDecoder()


def jsonl(path: Path) -> Iterator[Row]:
    """One object per line."""
    for line, text in lines(path):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            what = _what(error)
            yield line, say(f"broken JSON: {what}", f"JSON 有误：{what}")
            continue
        yield line, _object(row)


def json_rows(path: Path) -> Iterator[Row]:
    """The objects of an array, numbered from 1; or those of {"data": [...]}; or one object; or, since many call them so, JSON Lines.

    An array streams. Raises DataError, naming the line, for what is not JSON.
    """
    with opened(path) as file:
        head = file.read(CHUNK)
        start = head.lstrip("\ufeff").lstrip()
        if start.startswith("["):
            for number, value in enumerate(_elements(file, head, path), 1):
                yield number, _object(value)
            return
        if not _lines_of_objects(start):
            data = _document(head + file.read(), path)
            data = data.get("data", data) if isinstance(data, dict) else data
            for number, value in enumerate(data if isinstance(data, list) else [data], 1):
                yield number, _object(value)
            return
    yield from jsonl(path)


def _lines_of_objects(start: str) -> bool:
    first, _, rest = start.partition("\n")
    try:
        return bool(rest.strip()) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _document(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(error, path, 0) from error


def _elements(file: TextIO, buffer: str, path: Path) -> Iterator[Any]:
    """An array's elements, with no more in memory than a chunk and the element that is being read."""
    at, before, more = buffer.index("[") + 1, 0, True
    first = True
    while True:
        at = _end_of_space(buffer, at)
        try:
            if buffer.startswith("]", at):
                if buffer[at + 1 :].strip() or (more and file.read().strip()):
                    raise json.JSONDecodeError("Extra data", buffer, at + 1)
                return
            start = at if first else _after_comma(buffer, at)
            value, end = _decoder.raw_decode(buffer, start)
        except (ValueError, RecursionError) as error:
            if not more:
                raise _broken(error, path, before) from error
            end = len(buffer)
        if more and _end_of_space(buffer, end) >= len(buffer):  # it may go on: the number 12 may be 123
            before += buffer.count("\n", 0, at)
            read = file.read(max(CHUNK, len(buffer) - at))
            buffer, at, more = buffer[at:] + read, 0, bool(read)
            continue
        yield value
        at, first = end, False


def _end_of_space(text: str, at: int) -> int:
    found = _space.match(text, at)
    return found.end() if found else at


def _after_comma(buffer: str, at: int) -> int:
    if not buffer.startswith(",", at):
        raise json.JSONDecodeError("Expecting ',' delimiter", buffer, at)
    return _end_of_space(buffer, at + 1)


def _broken(error: Exception, path: Path, before: int) -> DataError:
    at = f":{before + error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
    what = _what(error)
    return DataError(
        say(f"broken JSON: {what}", f"JSON 有误：{what}"),
        where=f"{path}{at}",
        mend=say(
            "mend the file, or use JSONL, where one bad line costs one row",
            "请修复文件，或改用 JSONL（一行出错只影响一行）",
        ),
    )


def _what(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _object(value: Any) -> dict[str, Any] | str:
    return value if isinstance(value, dict) else say("not a JSON object", "不是 JSON 对象")
