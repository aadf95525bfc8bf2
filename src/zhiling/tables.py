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
    import pyarrow.dataset as ds

    files = [str(root / output.path) for output in outputs if output.rows]
    if not files or not wanted:
        return []
    field = ds.field(column)
    if isinstance(wanted, str):
        fits = (field >= wanted) & (field < wanted + "g")  # the character after "f"
    else:
        fits = (field >= min(wanted)) & (field <= max(wanted)) & field.isin(list(wanted))
    found = ds.dataset(files, schema=schema(outputs[0].kind), format="parquet").to_table(filter=fits)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows
