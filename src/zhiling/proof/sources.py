"""Where a tuned model's rows came from: noted when it is tuned, read again when it is measured on others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.data.sets import examples, form_of
from zhiling.store import current, read
from zhiling.types import Example, Reject, content_id


@dataclass(frozen=True, slots=True)
class Source:
    """A data file or a run's folder, its format, a hash of what it held, and how many rows were used of it."""

    path: Path
    form: str
    digest: str
    rows: int

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Source:
        """As it was noted in a `done.json`."""
        return cls(Path(told["path"]), told["form"], told["digest"], told["rows"])

    def told(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"path": str(self.path), "form": self.form, "digest": self.digest, "rows": self.rows}

    def same(self) -> bool:
        """Whether it is still there and holds what it held."""
        return self.path.exists() and digest(self.path) == self.digest


def noted(place: Path, form: str, rows: int) -> dict[str, Any]:
    """A source of `rows` rows as it stands now, as plain values."""
    form = "" if is_run(place) else form_of(place, form)
    return Source(place.resolve(), form, digest(place), rows).told()


def is_run(place: Path) -> bool:
    """Whether this is a run's folder."""
    return (place / "journal.sqlite").exists()


def rows_of(place: Path, form: str = "") -> Iterator[Example | Reject]:
    """The rows that a run kept, or those of a data file, a file's name being its task; Rejects for what cannot be read."""
    if is_run(place):
        for done in current(place):
            yield from read(place, done.of("kept"))
    else:
        yield from (row for _, row in examples(place, form_of(place, form), place.name.split(".")[0]))


def digest(place: Path) -> str:
    """A hash of a file's bytes, of a folder's files, or of the rows that a run kept."""
    if is_run(place):
        return content_id(sorted(row.id for row in rows_of(place) if isinstance(row, Example)))
    if place.is_dir():
        files = sorted(path for path in place.rglob("*") if path.is_file())
        return content_id([[str(path.relative_to(place)), digest(path)] for path in files])
    with place.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
