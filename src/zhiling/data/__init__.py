"""Reading the user's data: every row becomes a `Record` or a quarantined `Reject` with file and line; nothing is lost, nothing stops the rest.

CSV, TSV, JSON, JSONL, Parquet, Arrow IPC, folders of these (as Hugging Face `datasets` saves or publishes them), SQLite and DuckDB
tables, SRT, VTT and ASS subtitles, Markdown and plain text, documents by passages (these, HTML, PDF and DOCX: see `documents`), and
the formats of instruction data (`FORMATS`). Texts may be gzipped, in UTF-8 (with or without BOM), UTF-16 and UTF-32 with BOM, GB18030
(and so GBK) or Big5. Rows stream: memory does not grow with the file.
"""

from zhiling.data.files import MAX_FIELD, Row, kinds, rows
from zhiling.data.lines import encoding_of
from zhiling.data.paths import expand, shared_data
from zhiling.data.source import Source, read, text_of

__all__ = ["MAX_FIELD", "Row", "Source", "encoding_of", "expand", "kinds", "read", "rows", "shared_data", "text_of"]
