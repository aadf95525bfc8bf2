"""The kept rows, and any file of instruction data, in the formats that other tuners read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from zhiling.data import rows
from zhiling.data.formats import FORMATS, guess, samples
from zhiling.data.natural import tasks
from zhiling.data.samples import Sample, Unsayable
from zhiling.errors import DataError, boundary, say
from zhiling.store import current, read
from zhiling.types import Example

NAMES = (*FORMATS, "natural_instructions")
FOLDERS = ("hf", "llamafactory", "axolotl", "trl")
"""What is written as a folder with a card."""
_PREFERENCE = {"dpo": "rejected", "kto": "label"}


def export(folder: Path, out: Path, form: str = "messages") -> int:
    """Write the rows that a run kept as JSON lines; returns how many.

    dpo and kto take the rejected answer, or whether an answer was liked, from the record that a row was filled from (its field
    `rejected` or `label`). "faq" writes the questions and answers of documents as a page instead (see `faq`), and FOLDERS are written
    with a card and a tuner's settings (see `export_sets`). Raises DataError for an unknown format, a run without rows, and a row that the
    format cannot hold.
    """
    if form == "faq":
        from zhiling.export.faq import write

        return write(folder, out)
    _known(form, (*NAMES, *FOLDERS))
    files = [output for done in current(folder) for output in done.of("kept")]
    if not files:
        mend = say("run it at least until select", "请至少运行到 select 阶段")
        raise DataError(say("this run has kept no rows yet", "该运行尚无保留的数据"), where=str(folder), mend=mend)
    if form in FOLDERS:
        from zhiling.export.sets import write_folder

        return write_folder(folder, out, form)
    preferred = _preferred(folder, _PREFERENCE[form]) if form in _PREFERENCE else {}

    def kept() -> Iterator[Sample]:
        for row in read(folder, files):
            sample = sample_of(row, form)
            said = next((preferred[parent] for parent in row.parents[1:2] if parent in preferred), None)
            yield replace(sample, **said) if said else sample

    ordered: Iterable[Sample] = kept()
    if form == "natural_instructions":  # a task's rows stand together there
        ordered = sorted(ordered, key=lambda sample: (str(sample.more["task"]), sample.instruction))
    try:
        return write_lines(out, _said(ordered, form))
    except Unsayable as why:
        mend = say("another --format can", "请换用其他 --format")
        what = say(f"a row that {form} cannot hold: {why}", f"{form} 无法保存某一行：{why}")
        raise DataError(what, where=str(folder), mend=mend) from why


def sample_of(row: Example, form: str = "") -> Sample:
    """The neutral row of an example; with its task's name, which Natural Instructions keep."""
    history = tuple({"role": role, "content": content} for role, content in row.history)
    more = {"task": row.task} if form == "natural_instructions" else {}
    return Sample(row.instruction, row.input, row.output, row.system, history, more=more)


@dataclass(frozen=True, slots=True)
class Converted:
    """What converting came to: rows written, and (where, why) for each that was not."""

    rows: int
    left_out: list[tuple[str, str]]
    form: str


def convert(source: Path, out: Path, to: str, given: str = "") -> Converted:
    """A file of instruction data in another format, through the one neutral row. `given` names its format where its keys do not.

    A row that cannot be read, or that the format cannot hold, is left out and told, never bent. Streams. Raises DataError for an
    unknown format and for a file that cannot be read at all.
    """
    _known(to)
    stream = rows(source)
    head = []
    for line, row in stream:
        head.append((line, row))
        if not isinstance(row, str) or len(head) >= 100:
            break
    first = next((row for _, row in head if isinstance(row, Mapping)), None)
    if first is None:
        raise DataError(
            say("no readable row", "没有可读的数据行"), where=str(source), mend=say("check the file", "请检查文件")
        )
    form = _known(given) if given else _guessed(first, source)
    left_out: list[tuple[str, str]] = []
    counted = [0]

    def good() -> Iterator[Sample]:
        for line, sample in samples(form, chain(head, stream)):
            where = f"{source.name}:{line}"
            why = sample if isinstance(sample, str) else _unsayable(sample, to)
            if isinstance(sample, str) or why:
                left_out.append((where, why))
            else:
                counted[0] += 1
                yield sample

    write_lines(out, _said(good(), to))
    return Converted(counted[0], left_out, form)


def _guessed(row: Mapping[str, Any], source: Path) -> str:
    try:
        return guess(row)
    except DataError as error:
        raise DataError(error.what, where=str(source), mend=error.mend) from None


def _unsayable(sample: Sample, form: str) -> str:
    try:
        for _ in _said([sample], form):
            pass
    except Unsayable as why:
        return str(why)
    return ""


def _said(given: Iterable[Sample], form: str) -> Iterator[dict[str, Any]]:
    if form == "natural_instructions":
        yield from tasks(given)
        return
    for sample in given:
        yield FORMATS[form].write(replace(sample, more={k: v for k, v in sample.more.items() if k != "about"}))


def _known(form: str, names: Sequence[str] = NAMES) -> str:
    if form not in names:
        raise DataError(say(f"unknown format '{form}'", f"未知的格式“{form}”"), where="--format", mend=", ".join(names))
    return form


def _preferred(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """{record id: what its row prefers}, from the records that have the field."""
    found: dict[str, dict[str, Any]] = {}
    for done in current(folder):
        for record in read(folder, done.of("records")):
            said = record.fields.get(name)
            if said is not None and (name == "rejected" or said in ("true", "false")):
                found[record.id] = {name: said if name == "rejected" else said == "true"}
    return found


def write_lines(out: Path, given: Iterable[Mapping[str, Any]]) -> int:
    """Rows as JSON lines, the file whole or absent; returns how many."""
    count, temporary = 0, out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            for row in given:
                count += 1
                file.write(_json(row) + "\n")
        os.replace(temporary, out)
    except OSError as error:
        raise boundary(error, str(out)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _json(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False, default=str)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(row, default=str)  # lone surrogates survive as escapes
    return text
