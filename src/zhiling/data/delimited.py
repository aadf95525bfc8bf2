"""CSV and TSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from zhiling.data.files import MAX_FIELD, Row
from zhiling.data.lines import lines
from zhiling.errors import DataError, say

csv.field_size_limit(MAX_FIELD)


class _Lines:
    """The file's lines, remembering those of the row that is being read, so that they can be put back."""

    def __init__(self, path: Path) -> None:
        self._rest = lines(path, newline="")
        self._back: list[tuple[int, str]] = []
        self.row: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.pop() if self._back else next(self._rest)
        self.row.append(line)
        return line[1]

    def put_back(self) -> None:
        """Give the row's lines out again, all but the first."""
        self._back += reversed(self.row[1:])


def delimited(delimiter: str) -> Callable[[Path], Iterator[Row]]:
    """A reader of rows under a header line; a row's number is that of the line it begins on.

    A row with more or fewer cells than the header is unreadable. So is a line with a quote that is never closed, or closed in the
    middle of another row: the lines that the quote would swallow are read as the rows they are. Raises DataError for a column that
    stands twice.
    """

    def reader(path: Path) -> Iterator[Row]:
        given = _Lines(path)
        stream = csv.reader(given, delimiter=delimiter, strict=True)
        header: list[str] = []
        while True:
            given.row.clear()
            try:
                cells = next(stream)
            except StopIteration:
                return
            except csv.Error as error:
                yield given.row[0][0], _broken(str(error))
                if "limit" not in str(error):
                    given.put_back()
                stream = csv.reader(given, delimiter=delimiter, strict=True)
                continue
            line = given.row[0][0]
            if not any(cell.strip() for cell in cells):
                continue
            elif not header:
                header = _header(cells, path, line)
            elif len(cells) != len(header):
                yield (
                    line,
                    say(
                        f"{len(cells)} cells where the header has {len(header)}",
                        f"有 {len(cells)} 个单元格，而表头有 {len(header)} 个",
                    ),
                )
            else:
                yield line, dict(zip(header, cells, strict=True))

    return reader


def _broken(said: str) -> str:
    if "unexpected end" in said:
        return say("broken CSV: a quote is never closed", "CSV 有误：引号没有闭合")
    if "expected after" in said:
        return say("broken CSV: a quote in the middle of a cell", "CSV 有误：单元格中间出现引号")
    return say(f"broken CSV: {said}", f"CSV 有误：{said}")


def _header(cells: list[str], path: Path, line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            say(f"the column '{twice}' stands twice", f"列“{twice}”出现了两次"),
            where=f"{path}:{line}",
            mend=say("rename one of them", "请改名其中一列"),
        )
    return names


csv_rows = delimited(",")
tsv_rows = delimited("\t")
