"""A data set that somebody already has, as Examples; and the same rows given back in their own format, with columns added."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from zhiling.data.files import FORMATS, Row, parts
from zhiling.data.formats import FORMATS as KNOWN
from zhiling.data.formats import guess
from zhiling.data.samples import Sample, Unsayable
from zhiling.data.source import text_of
from zhiling.errors import DataError, boundary, say
from zhiling.text import lang, valid
from zhiling.types import Example, Reject

LOOK = 100  # rows looked at to tell the format
BATCH = 10_000


def form_of(path: Path, given: str = "", columns: Mapping[str, str] | None = None) -> str:
    """The format of a file's rows: alpaca, sharegpt, messages, dpo or kto, by the keys of its first readable row.

    Raises DataError for a file that is not there, has no readable row, or is in none of them.
    """
    if given and given not in KNOWN:
        mend = ", ".join(KNOWN)
        raise DataError(say(f"unknown format '{given}'", f"未知的格式“{given}”"), where="--from", mend=mend)
    if given:
        return given
    first = next((row for _, row in islice(raw(path, columns), LOOK) if not isinstance(row, str)), None)
    if first is None:
        raise DataError(
            say("no readable row", "没有可读的数据行"), where=str(path), mend=say("check the file", "请检查文件")
        )
    try:
        return guess(first)
    except DataError as error:
        mend = say(
            "say which columns are meant: --column instruction=... --column output=...",
            "请指明对应的列：--column instruction=... --column output=...",
        )
        raise DataError(error.what, where=str(path), mend=mend) from None


def raw(path: Path, columns: Mapping[str, str] | None = None) -> Iterator[Row]:
    """The rows as they stand, with `columns` {our name: the file's} renamed."""
    ours = {theirs: name for name, theirs in (columns or {}).items()}
    for part in parts(path):
        if part.kind in FORMATS:
            raise DataError(say("name the format with --from", "请用 --from 指明格式"), where=str(path))
        for line, row in part.rows():
            if ours and not isinstance(row, str):
                row = {ours.get(key, key): value for key, value in row.items()}
            yield line, row


def examples(
    path: Path, form: str, task: str, columns: Mapping[str, str] | None = None
) -> Iterator[tuple[Mapping[str, Any], Example | Reject]]:
    """(the row as it stands, what it is to us), in the file's order. `parents` holds "file:line"."""
    for line, row in raw(path, columns):
        where = f"{path.name}:{line}"
        if isinstance(row, str):
            yield {}, Reject(task, "file", "quarantined", row, where=where)
            continue
        try:
            sample = KNOWN[form].read(row)
        except Unsayable as why:
            text = valid(json.dumps(row, ensure_ascii=False, default=str)[:500])
            yield row, Reject(task, "file", "quarantined", str(why), where=where, text=text)
        else:
            found = example_of(sample, task, where)
            if not _damaged(sample, found):
                yield row, found
                continue
            said = say("holds what is no valid Unicode", "含有无效的 Unicode 字符")
            yield row, Reject(task, "file", "quarantined", said, where=where, text=found.prompt[:500])


def example_of(sample: Sample, task: str, where: str = "") -> Example:
    """The neutral row as an Example made by "file". What is not valid Unicode becomes "?", as in the run's files."""
    history = tuple((valid(text_of(turn["role"])), valid(text_of(turn["content"]))) for turn in sample.history)
    instruction, given, output = valid(sample.instruction), valid(sample.input), valid(sample.output)
    parents = (where,) if where else ()
    return Example(
        task, instruction, given, output, valid(sample.system), history, lang(instruction) or "en", "file", parents
    )


def _damaged(sample: Sample, row: Example) -> bool:
    """Whether something of the row was no valid Unicode, such as a line in another encoding than its file's."""
    turns = [(text_of(turn["role"]), text_of(turn["content"])) for turn in sample.history]
    said = (sample.instruction, sample.input, sample.output, sample.system, turns)
    return said != (row.instruction, row.input, row.output, row.system, list(row.history))


class Writer:
    """Rows with added columns, as JSON lines, JSON, CSV, TSV or Parquet by the file's name; the file is whole or absent.

    A context manager. In CSV and Parquet a mapping or list becomes JSON text.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.kind = out, out.suffix.lower().lstrip(".")
        if self.kind not in ("jsonl", "json", "csv", "tsv", "parquet"):
            raise DataError(
                say(f"cannot write '.{self.kind}' files", f"不能写出“.{self.kind}”文件"),
                where=str(out),
                mend=say("end the name in .jsonl, .json, .csv, .tsv or .parquet", "请以 .jsonl、.json、.csv、.tsv 或 .parquet 结尾"),
            )  # fmt: skip
        self.rows = 0
        self._temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        self._batch: list[Mapping[str, Any]] = []
        self._file: Any = None
        self._table: Any = None
        self._names: Sequence[str] = ()

    def __enter__(self) -> Writer:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            if self.kind == "parquet":
                self._file = self._temporary.open("wb")
            else:
                self._file = self._temporary.open("w", encoding="utf-8", errors="replace", newline="")
            if self.kind == "json":
                self._file.write("[")
        except OSError as error:
            raise boundary(error, str(self.out)) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        whole = False
        try:
            if kind is None:
                self._flush()
                if self.kind == "json" and self._file:
                    self._file.write("\n]\n")
                if self._table is not None:
                    self._table.close()
                self._file.close()  # what is left in its buffer may not fit on the disk any more
                whole = True
        except OSError as trouble:
            raise boundary(trouble, str(self.out)) from trouble
        finally:
            if whole:
                os.replace(self._temporary, self.out)
            else:
                for open_ in (self._table, self._file):
                    with contextlib.suppress(OSError):  # what it still wants to write is not wanted
                        if open_ is not None:
                            open_.close()
                self._temporary.unlink(missing_ok=True)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row. Raises DataError for a column that the first rows did not have (CSV, TSV, Parquet)."""
        self._batch.append(row)
        self.rows += 1
        if len(self._batch) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if not batch or self._file is None:
            return
        if self.kind in ("jsonl", "json"):
            start = self.rows - len(batch)
            for at, row in enumerate(batch, start):
                said = json.dumps(row, ensure_ascii=False, default=text_of)
                self._file.write(("" if self.kind == "jsonl" else ("\n" if at == 0 else ",\n")) + said)
                if self.kind == "jsonl":
                    self._file.write("\n")
        elif self.kind == "parquet":
            self._parquet(batch)
        else:
            self._delimited(batch)

    def _columns(self, batch: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        if not self._names:
            self._names = list(dict.fromkeys(chain.from_iterable(batch)))
        for row in batch:
            extra = [key for key in row if key not in self._names]
            if extra:
                what = say(
                    f"a row has the column '{extra[0]}', which the first {BATCH} have not",
                    f"有一行含有前 {BATCH} 行没有的列“{extra[0]}”",
                )
                raise DataError(what, where=str(self.out), mend=say("write .jsonl instead", "请改写为 .jsonl"))
        return self._names

    def _delimited(self, batch: Sequence[Mapping[str, Any]]) -> None:
        first = not self._names
        names = self._columns(batch)
        writer = csv.writer(self._file, delimiter="\t" if self.kind == "tsv" else ",")
        if first:
            writer.writerow(names)
        for row in batch:
            writer.writerow([text_of(row.get(name)) for name in names])

    def _parquet(self, batch: Sequence[Mapping[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = self._columns(batch)
        flat = [{name: _cell(row.get(name)) for name in names} for row in batch]
        try:
            shape = None if self._table is None else self._table.schema
            table = pa.Table.from_pylist(flat, schema=shape)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            flat = [
                {name: value if name.startswith("zhiling_") else text_of(value) for name, value in row.items()}
                for row in flat
            ]
            try:
                table = pa.Table.from_pylist(flat, schema=shape)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                mend = say("write .jsonl instead", "请改写为 .jsonl")
                what = say("a column changes its type", "某一列的类型前后不一")
                raise DataError(what, where=str(self.out), mend=mend) from error
        if self._table is None:
            shape = pa.schema([(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in table.schema])
            shape = pa.schema([(f.name, pa.float64() if _number(f, flat) else f.type) for f in shape])
            self._table = pq.ParquetWriter(self._file, shape, compression="zstd")
            table = table.cast(shape)
        self._table.write_table(table)


def _number(column: Any, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Scores are numbers even where none of the first rows could be scored."""
    name = str(column.name)
    return name.startswith("zhiling_") and all(isinstance(row[name], int | float | None) for row in rows)


def _cell(value: Any) -> Any:
    value = text_of(value) if isinstance(value, dict | list | tuple) else value
    return valid(value) if isinstance(value, str) else value
