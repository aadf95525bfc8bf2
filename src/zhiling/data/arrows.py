"""Parquet and Arrow IPC files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zhiling.data.files import Row
from zhiling.errors import DataError, say

BATCH = 1024  # rows turned into Python at a time


def parquet(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    line += 1
                    yield line, row
    except (
        pa.ArrowException,
        OSError,
        OverflowError,
    ) as error:  # of its form, of a packed page, of a date beyond the calendar
        if isinstance(error, OSError) and error.errno:
            raise  # the machine's: no permission, no such file
        raise _damaged("Parquet", error, path, line) from error


def arrow(path: Path) -> Iterator[Row]:
    """Rows of an Arrow IPC file, in the file format (Feather) or the stream format (what Hugging Face `datasets` saves)."""
    import pyarrow as pa

    line = 0
    try:
        with pa.memory_map(str(path)) as source:
            as_file = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pa.ipc.open_file(source) if as_file else pa.ipc.open_stream(source)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if as_file else iter(reader)
            for batch in batches:
                for start in range(0, batch.num_rows, BATCH):
                    for row in batch.slice(start, BATCH).to_pylist():
                        line += 1
                        yield line, row
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise _damaged("Arrow", error, path, line) from error


def _damaged(kind: str, error: Exception, path: Path, line: int) -> DataError:
    what = say(f"cannot read this as {kind}: {error}", f"无法作为 {kind} 文件读取：{error}")
    if line:
        what = say(
            f"the {kind} file is unreadable after row {line}: {error}",
            f"{kind} 文件在第 {line} 行之后无法读取：{error}",
        )
    return DataError(what, where=str(path), mend=say("write or download it again", "请重新生成或下载"))
