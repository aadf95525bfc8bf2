"""What lies in an instruction bank: the row, how a given mapping becomes one, and why it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from zhiling import text
from zhiling.errors import DataError, say
from zhiling.types import Reject, content_id

MAX_FIELD = 1_000_000
"""Longest field of a row, in characters."""


@dataclass(frozen=True, slots=True)
class Row:
    """An instruction in the bank, with where it came from and what one may do with it.

    `quality` is in [0, 1], higher better; None where nobody has judged the row.
    """

    id: str
    instruction: str
    input: str = ""
    output: str = ""
    task: str = ""
    family: str = "other"
    lang: str = ""
    source: str = ""
    licence: str = ""
    quality: float | None = None


def schema() -> Any:
    """The Arrow schema of rows on disk."""
    import pyarrow as pa

    return pa.schema([(field.name, pa.float64() if field.name == "quality" else pa.string()) for field in fields(Row)])


def checked(
    rows: Iterable[Mapping[str, Any]], licence: str, source: str, allow_unlicensed: bool
) -> tuple[list[Row], list[Reject]]:
    """The usable rows, completed, and the others with the reason. `licence` and `source` are for rows that state none.

    Raises DataError for a usable row without a licence, unless `allow_unlicensed`.
    """
    good: list[Row] = []
    refused: list[Reject] = []
    for number, given in enumerate(rows, 1):
        row = completed(given, number, licence, source)
        if isinstance(row, Reject):
            refused.append(row)
        elif row.licence or allow_unlicensed:
            good.append(row)
        else:
            what = say(f"row {number} has no licence", f"第 {number} 行没有许可证")
            mend = say(
                "say which with licence=... (--licence), or allow it with allow_unlicensed (--unlicensed)",
                "请用 licence=...（--licence）说明，或用 allow_unlicensed（--unlicensed）放行",
            )
            raise DataError(what, where=text.cut(row.instruction, 40), mend=mend)
    return good, refused


def completed(given: Mapping[str, Any], number: int, licence: str = "", source: str = "") -> Row | Reject:
    """The row, its id, language and family filled in where it states none; or why it cannot be one."""
    known = {field.name: given.get(field.name) for field in fields(Row)}
    values = {name: value for name, value in known.items() if value is not None}
    values.setdefault("id", "")
    for name, common in (("licence", licence), ("source", source)):
        own = values.get(name)
        values[name] = common if not own or (isinstance(own, str) and not own.strip()) else own
    said = str(values.get("instruction", ""))
    why = _unusable(values)
    if why:
        return Reject(str(values.get("task", "")), "bank", "quarantined", why, where=f"row {number}", text=said)
    values["id"] = values["id"] or content_id("bank", said, values.get("input", ""), values.get("output", ""))
    values["lang"] = values.get("lang") or text.lang(said).replace("latin", "en")
    values["family"] = values.get("family") or "other"
    return Row(**values)


def _unusable(values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        if name == "quality":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                return say("'quality' is not a number from 0 to 1", "“quality”不是 0 到 1 之间的数")
            continue
        if not isinstance(value, str):
            return say(f"'{name}' is not text", f"“{name}”不是文本")
        if len(value) > MAX_FIELD:
            return say(f"'{name}' is longer than {MAX_FIELD:,} characters", f"“{name}”超过 {MAX_FIELD:,} 个字符")
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            return say(f"'{name}' is not valid Unicode", f"“{name}”不是有效的 Unicode 文本")
    if not values.get("instruction", "").strip():
        return say("no instruction", "没有指令")
    return ""
