"""A run's Parquet files as Arrow tables: whole columns where rows one by one would be too slow, and the few rows that are looked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.store import BATCH, GROUPS, Output, schema, whole

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 16 * BATCH  # rows of a table


def tables(root: Path, outputs: Iterable[Output], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of some outputs, in order, some thousand at a time; `columns` names those to read (default: all)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for output in outputs:
        with pq.ParquetFile(root / output.path) as file:
            for batch in file.iter_batches(AT_ONCE, columns=columns, use_threads=False):
                yield pa.Table.from_batches([batch])


def write_tables(root: Path, path: str, kind: str, parts: Iterable[pa.Table]) -> Output:
    """Write tables as `store.write` writes rows: the file is whole or absent, and the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shape, group, rows = schema(kind), GROUPS.get(kind, BATCH), 0
    left = shape.empty_table()
    with whole(root / path) as file, pq.ParquetWriter(file, shape, compression="zstd") as writer:
        for part in parts:
            left = pa.concat_tables([left, part.select(shape.names)])
            full = left.num_rows - left.num_rows % group
            if full:
                writer.write_table(left.slice(0, full).combine_chunks(), row_group_size=group)
                left, rows = left.slice(full), rows + full
        if left.num_rows:
            writer.write_table(left.combine_chunks(), row_group_size=group)
    return Output(kind, path, rows + left.num_rows, (root / path).stat().st_size)


def find(root: Path, outputs: Sequence[Output], column: str, wanted: Sequence[str] | str) -> list[dict[str, Any]]:
    """The rows whose column is one of the wanted hex ids, or begins with the one given as a text.

    Parts of a file whose statistics rule the ids out are not read, so that in files ordered by id this takes milliseconds.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not wanted:
        return []
    low, high = (wanted, wanted + "g") if isinstance(wanted, str) else (min(wanted), max(wanted))  # "g" comes after "f"
    rows: list[dict[str, Any]] = []
    for output in outputs:
        with pq.ParquetFile(root / output.path) as file:
            for group in _groups(file.metadata, file.schema_arrow.get_field_index(column), low, high):
                ids = file.read_row_group(group, columns=[column], use_threads=False)[column]
                if isinstance(wanted, str):
                    fits = pc.and_(pc.greater_equal(ids, low), pc.less(ids, high))
                else:
                    fits = pc.is_in(ids, value_set=pa.array(wanted, pa.string()))
                if pc.any(fits).as_py():
                    rows += file.read_row_group(group, use_threads=False).filter(fits).to_pylist()
    return rows


def _groups(metadata: Any, column: int, low: str, high: str) -> Iterator[int]:
    """The row groups in which, by their statistics, a value from low to high may lie."""
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(column).statistics
        if known is None or not known.has_min_max or (known.min <= high and known.max >= low):
            yield group
