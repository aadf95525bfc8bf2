"""Millions of rows without holding them: a run's rows in the order of their ids, what was said of them as columns, and their fates.

Of a row only what fits in a few bytes is in memory (id, task, language, maker, scores); its text is read when it is looked at. Since rows
lie in the order of their ids, whatever walks them in that order reads every file once, and one row is found without looking at the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from zhiling.errors import DataError, say
from zhiling.recipe import Step
from zhiling.store import BATCH, TURNS, Entry, Output, examples, schema
from zhiling.tables import AT_ONCE, tables, write_tables
from zhiling.types import Example, Score, Verdict

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SORT_MEMORY = "1GB"  # from here on sorting goes by way of the disk
COLUMNS = ("task", "lang", "maker")


def in_order(
    folder: Path, drafts: Sequence[Output], prefix: str, shard_rows: int
) -> tuple[list[Output], list[Output], list[str]]:
    """The drafts by ascending id in even shards, each id once: (shards, the rows that equal one made before, each shard's first id).

    Of rows with one id the first that was made stands. Memory does not grow with the rows, only with those that are repeated.
    """
    import pyarrow as pa

    shards, firsts, repeated = list[Output](), list[str](), list[pa.Table]()
    waiting = schema("examples").empty_table()

    def write(rows: int) -> None:
        nonlocal waiting
        part, waiting = waiting.slice(0, rows), waiting.slice(rows)
        shards.append(write_tables(folder, f"examples/{prefix}.{len(shards):05d}.parquet", "examples", [part]))
        firsts.append(part["id"][0].as_py())

    for unique, again in _sorted(folder, drafts):
        waiting = pa.concat_tables([waiting, unique])
        repeated += [again] if again.num_rows else []
        while waiting.num_rows >= shard_rows:
            write(shard_rows)
    if waiting.num_rows:
        write(waiting.num_rows)
    merged = [write_tables(folder, f"merged/{prefix}.parquet", "merged", repeated)] if repeated else []
    return shards, merged, firsts


def _sorted(folder: Path, drafts: Sequence[Output]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """All rows by id, then by the order in which they were made, in parts: those whose id is new, and those whose id is not."""
    import duckdb
    import pyarrow as pa
    import pyarrow.compute as pc

    files = [str((folder / output.path).resolve()) for output in drafts if output.rows]
    if not files:
        return
    shape, last = schema("examples"), ""
    with duckdb.connect(":memory:") as base:
        base.execute(f"set memory_limit = '{SORT_MEMORY}'")
        base.execute(f"set temp_directory = {_quoted(str((folder / '.sort.tmp').resolve()))}")
        base.register("files", pa.table({"filename": files, "place": range(len(files))}))
        named, listed = ", ".join(f'"{name}"' for name in shape.names), ", ".join(map(_quoted, files))
        found = base.sql(
            f"select {named} from read_parquet([{listed}], filename = true, file_row_number = true) join files using (filename)"
            " order by id, place, file_row_number"
        )
        for batch in found.to_arrow_reader(AT_ONCE):
            table = pa.Table.from_batches([batch]).cast(shape)
            ids = table["id"].combine_chunks()
            new = pc.not_equal(ids, pa.concat_arrays([pa.array([last], ids.type), ids.slice(0, len(ids) - 1)]))
            yield table.filter(new), table.filter(pc.invert(new))
            last = ids[-1].as_py()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Ids(Sequence[str]):
    """Ids as 20 bytes each, a fifth of what texts take; they become texts as they are looked at."""

    def __init__(self, ids: NDArray[np.bytes_]) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._ids), AT_ONCE):
            yield from self._ids[start : start + AT_ONCE].astype("U20").tolist()

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Ids: ...
    def __getitem__(self, index: int | slice) -> str | Ids:
        return Ids(self._ids[index]) if isinstance(index, slice) else bytes(self._ids[index]).decode()


class Pool(Sequence[Example]):
    """Rows of a run by ascending id, or those of them that are still in question; a row is read when it is looked at.

    `at` are the positions, ascending, of the rows in question among all. Going through the rows reads each file once; a single one costs
    the reading of some thousand neighbours. What is known without reading: `ids`, and `column` for task, lang and maker.
    """

    def __init__(self, folder: Path, outputs: Sequence[Output]) -> None:
        import numpy as np

        self.folder, self._outputs = folder, [output for output in outputs if output.rows]
        self._starts = np.cumsum([0, *(output.rows for output in self._outputs)])
        self.all = _ids(folder, self._outputs, "id")
        self.at: NDArray[np.int64] = np.arange(len(self.all))
        self._codes: dict[str, tuple[NDArray[np.int32], list[str]]] = {}
        self._near: tuple[int, list[Example]] = (-1, [])

    def those(self, mask: NDArray[np.bool_]) -> Pool:
        """The rows of this pool for which the mask, in the pool's order, is true."""
        new = object.__new__(Pool)
        new.__dict__.update(self.__dict__, at=self.at[mask])
        return new

    @property
    def ids(self) -> Ids:
        """The rows' ids, in order."""
        return Ids(self.all[self.at])

    def column(self, name: str) -> list[str]:
        """Each row's task, lang or maker."""
        codes, names = self.coded(name)
        return [names[code] for code in codes[self.at].tolist()]

    def coded(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """(of all rows a number, the names that the numbers stand for) for task, lang or maker."""
        import numpy as np

        if name not in self._codes:
            numbers: dict[str, int] = {}
            codes = np.zeros(len(self.all), dtype=np.int32)
            for start, table in _places(self.folder, self._outputs, [name]):
                coded = table[name].combine_chunks().dictionary_encode()
                new = np.array(
                    [numbers.setdefault(text, len(numbers)) for text in coded.dictionary.to_pylist()], dtype=np.int32
                )
                codes[start : start + len(coded)] = new[coded.indices.to_numpy()]
            self._codes[name] = (codes, list(numbers))
        return self._codes[name]

    def __len__(self) -> int:
        return len(self.at)

    def __iter__(self) -> Iterator[Example]:
        for table in self._wanted(None):
            yield from examples(table)

    def fields(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """These fields of each row, in order, as an Example would have them; the files' other columns are not read."""
        for table in self._wanted(names):
            columns = [table[name].to_pylist() for name in names]
            for at, name in enumerate(names):
                if name in TURNS:
                    columns[at] = [tuple((turn["role"], turn["content"]) for turn in turns) for turns in columns[at]]
            yield from zip(*columns, strict=True)

    def _wanted(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        import numpy as np

        for start, table in self.tables(columns):
            inside = slice(*np.searchsorted(self.at, (start, start + table.num_rows)))
            wanted = self.at[inside] - start
            if len(wanted):
                yield table if len(wanted) == table.num_rows else table.take(wanted)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """The rows of all files, a few thousand at a time, with the position of the first; parts without a wanted row left out."""
        import numpy as np

        return _places(
            self.folder,
            self._outputs,
            columns,
            lambda start, stop: bool(np.ptp(np.searchsorted(self.at, (start, stop)))),
        )

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = int(self.at[index])
        file = bisect_right(self._starts, place) - 1
        inside = place - int(self._starts[file])
        group = place - inside % BATCH
        if self._near[0] != group:
            import pyarrow.parquet as pq

            with pq.ParquetFile(self.folder / self._outputs[file].path) as opened:
                self._near = (group, list(examples(opened.read_row_group(inside // BATCH))))
        return self._near[1][inside % BATCH]


def _places(
    folder: Path, outputs: Iterable[Output], columns: Sequence[str] | None, wanted: Any = None
) -> Iterator[tuple[int, pa.Table]]:
    start = 0
    for output in outputs:
        if wanted is None or wanted(start, start + output.rows):
            at = start
            for table in tables(folder, [output], columns):
                if wanted is None or wanted(at, at + table.num_rows):
                    yield at, table
                at += table.num_rows
        start += output.rows


def _ids(folder: Path, outputs: Iterable[Output], column: str) -> NDArray[np.bytes_]:
    import numpy as np

    parts = [table[column].to_numpy().astype("S20") for table in tables(folder, outputs, [column])]
    return np.concatenate(parts) if parts else np.zeros(0, dtype="S20")


def _listed(numbers: NDArray[np.int64]) -> Iterator[int]:
    """The numbers as Python's own, some thousand at a time."""
    for start in range(0, len(numbers), AT_ONCE):
        yield from numbers[start : start + AT_ONCE].tolist()


class Words:
    """Texts that occur again and again, each held once: a number stands for a text, 0 for the empty one."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}
        self.texts = [""]

    def number(self, text: str) -> int:
        """The text's number, a new one where it is new."""
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number

    def numbers(self, column: Any) -> NDArray[np.int32]:
        """The numbers of an Arrow column of texts."""
        import numpy as np

        coded = column.combine_chunks().dictionary_encode()
        new = np.array([self.number(text) for text in coded.dictionary.to_pylist()], dtype=np.int32)
        return new[coded.indices.to_numpy()] if len(coded) else np.zeros(0, dtype=np.int32)


class Marks(Mapping[tuple[str, str], Score]):
    """The scores of a pool's rows as columns; to a selector a mapping {(row, scorer): Score}."""

    def __init__(self, folder: Path, outputs: Sequence[Output], ids: NDArray[np.bytes_]) -> None:
        import numpy as np

        self._ids, self._words = ids, Words()
        self._values: dict[str, NDArray[np.float64]] = {}
        self._whys: dict[str, NDArray[np.int32]] = {}  # -1: this row was never shown to the scorer
        for table in tables(folder, outputs, None):
            rows = table["example"].to_numpy().astype("S20")
            place = np.searchsorted(ids, rows)
            values, whys = table["value"].to_numpy(), self._words.numbers(table["why"])
            scorers = table["scorer"].combine_chunks().dictionary_encode()
            for code, name in enumerate(scorers.dictionary.to_pylist()):
                if name not in self._values:
                    self._values[name] = np.full(len(ids), np.nan)
                    self._whys[name] = np.full(len(ids), -1, dtype=np.int32)
                mine = scorers.indices.to_numpy() == code
                self._values[name][place[mine]], self._whys[name][place[mine]] = values[mine], whys[mine]

    @property
    def scorers(self) -> list[str]:
        """The scorers that have said something."""
        return list(self._values)

    def column(self, scorer: str, examples: Pool) -> NDArray[np.float64]:
        """What the scorer said of each of the rows; NaN where it could not say. Raises KeyError for one that said nothing at all."""
        return self._values[scorer][examples.at]

    def __getitem__(self, key: tuple[str, str]) -> Score:
        row, scorer = key
        place = self._place(row)
        if place < 0 or scorer not in self._values or self._whys[scorer][place] < 0:
            raise KeyError(key)
        value = float(self._values[scorer][place])
        return Score(row, scorer, None if value != value else value, self._words.texts[self._whys[scorer][place]])

    def of(self, row: str) -> dict[str, Score]:
        """All scores of a row, by scorer."""
        return {name: self[row, name] for name in self._values if (row, name) in self}

    def _place(self, row: str) -> int:
        key = row.encode("utf-8", "replace")
        place = int(self._ids.searchsorted(key))
        return place if place < len(self._ids) and self._ids[place] == key else -1

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for name, whys in self._whys.items():
            yield from ((row.decode(), name) for row in self._ids[whys >= 0])

    def __len__(self) -> int:
        return sum(int((whys >= 0).sum()) for whys in self._whys.values())


class Fates:
    """The last word on each row of a pool so far: which selector spoke it, why, and which row won instead."""

    def __init__(self, pool: Pool) -> None:
        import numpy as np

        self.pool, self.words = pool, Words()
        self.by = np.zeros(len(pool.all), dtype=np.int32)
        self.why = np.zeros(len(pool.all), dtype=np.int32)
        self.rival = np.zeros(len(pool.all), dtype=np.int32)
        self.kept = np.ones(len(pool.all), dtype=bool)

    def hear(self, still: Pool, verdicts: Iterable[Verdict], step: Step) -> Iterator[Verdict]:
        """The verdicts in the order of the rows, each noted as it passes. Raises DataError unless there is one for each row."""
        early: dict[str, Verdict] = {}
        said, ids = iter(verdicts), still.ids
        for place, row in zip(_listed(still.at), ids, strict=True):
            verdict = early.pop(row, None)
            while verdict is None:
                verdict = next(said, None)
                if verdict is None:
                    raise _not_each(step)
                if verdict.example != row:
                    if verdict.example in early:
                        raise _not_each(step)
                    early[verdict.example], verdict = verdict, None
            self.by[place] = self.words.number(verdict.selector)
            self.why[place], self.kept[place] = self.words.number(verdict.why), verdict.kept
            if not verdict.kept and verdict.rival:
                self.rival[place] = self.words.number(verdict.rival)
            yield verdict
        if early or next(said, None) is not None:
            raise _not_each(step)

    def survivors(self) -> Iterator[pa.Table]:
        """The rows that are kept, as tables."""
        for start, table in self.pool.tables():
            yield table.filter(self.kept[start : start + table.num_rows])

    def entries(self) -> Iterator[Entry]:
        """The ledger's entry of each row, by ascending id."""
        texts = self.words.texts
        tasks, makers = (self.pool.coded(name) for name in ("task", "maker"))
        for start in range(0, len(self.kept), BATCH):
            part = slice(start, start + BATCH)
            codes = (tasks[0], makers[0], self.kept, self.by, self.why, self.rival)
            ids = self.pool.all[part].astype("U20").tolist()
            for row, task, maker, kept, by, why, rival in zip(
                ids, *(column[part].tolist() for column in codes), strict=True
            ):
                state = "kept" if kept else "dropped"
                yield Entry(row, tasks[1][task], makers[1][maker], state, texts[by], texts[why], texts[rival])


class Book:
    """A run's ledger, but for the rows merged away: the last word on each row by its id, in some 40 bytes a row."""

    def __init__(self, folder: Path, outputs: Sequence[Output]) -> None:
        import numpy as np
        import pyarrow.compute as pc

        words, ids, columns = Words(), list[Any](), list[Any]()
        names = ("state", "stage", "why", "rival")
        for table in tables(folder, outputs, ["id", *names]):
            part = table.filter(pc.not_equal(table["state"], "merged"))
            ids.append(part["id"].to_numpy().astype("S20"))
            columns.append([words.numbers(part[name]) for name in names])
        self._ids, self._texts = np.concatenate(ids), words.texts
        self._columns = [np.concatenate([part[at] for part in columns]) for at in range(len(names))]

    def __len__(self) -> int:
        return len(self._ids)

    def place(self, row: str) -> int:
        """Where the row stands in the ledger. Raises KeyError where it does not."""
        key = row.encode()
        place = int(self._ids.searchsorted(key))
        if place == len(self._ids) or self._ids[place] != key:
            raise KeyError(row)
        return place

    def at(self, place: int) -> tuple[str, str, str, str]:
        """(state, stage, why, rival) of the row at a place."""
        state, stage, why, rival = (self._texts[column[place]] for column in self._columns)
        return state, stage, why, rival


def _not_each(step: Step) -> DataError:
    what = f"the selector '{step.kind}' must give one verdict per row", f"选择器“{step.kind}”须为每行给出一个判定"
    return DataError(say(*what), where=step.where)
