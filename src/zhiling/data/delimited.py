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
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = self._back.pop() if self._back else next(self._rest)
        except StopIteration:
            self.ended = True
            raise
        self.row.append(line)
        return line[1]

    def put_back(self) -> None:
        """Give the row's lines out again, all but the first."""
        self._back += reversed(self.row[1:])
        self.ended = False


def delimited(delimiter: str) -> Callable[[Path], Iterator[Row]]:
    """A reader of rows under a header line; a row's number is that of the line it begins on.

    A row with more or fewer cells than the header is unreadable. So is the line with a quote that is never closed: the lines after
    it, which the quote would swallow, are read as the rows they are. Raises DataError for a column that stands twice.
    """

    def reader(path: Path) -> Iterator[Row]:
        given = _Lines(path)
        stream = csv.reader(given, delimiter=delimiter)
        header: list[str] = []
        while True:
            given.row.clear()
            try:
                cells = next(stream)
            except StopIteration:
                return
            except csv.Error as error:
                yield given.row[0][0], say(f"broken CSV: {error}", f"CSV 有误：{error}")
                continue
            line = given.row[0][0]
            if given.ended and len(given.row) > 1:
                yield line, say("broken CSV: a quote is never closed", "CSV 有误：引号没有闭合")
                given.put_back()
                stream = csv.reader(given, delimiter=delimiter)
            elif not any(cell.strip() for cell in cells):
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
