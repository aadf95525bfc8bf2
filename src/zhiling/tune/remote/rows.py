"""Rows on their way to a provider: told as it takes them, checked against its rules by file and line, written as its files."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.data.formats import FORMATS
from zhiling.data.samples import Sample, Unsayable
from zhiling.data.sets import example_of, form_of, raw
from zhiling.errors import DataError, say
from zhiling.llm import guess
from zhiling.llm.tuning import Limits, Tuning
from zhiling.tune.remote.state import whole
from zhiling.types import Example, content_id

SHOWN = 5  # bad rows that an error names
TRAINING, VALIDATION = "training", "validation"
MOST, LEAST = 3, 5
"""Bytes of UTF-8 that make a token at least and, but for odd texts, at most: 3 is about one per Han character, 5 more than English has."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row as the provider takes it, its task, and where it came from ("file:line", or a row's id); `why` it is none."""

    task: str
    where: str
    row: Mapping[str, Any]
    why: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file that was written: its rows, bytes, hash, and tokens as they are expected to be and as they may be at most.

    `long` rows may have more tokens than the provider takes of one.
    """

    path: Path
    rows: int
    size: int
    sha: str
    tokens: int
    most: int
    long: int = 0

    @property
    def name(self) -> str:
        """What it is called at the provider: the same content has the same name."""
        return f"zhiling-{self.sha[:20]}.jsonl"


def of_examples(examples: Iterable[Example], form: str) -> Iterator[Line]:
    """Lines of rows that a run kept. Of the assistant's turns the last one is trained on, where the format can say so."""
    for row in examples:
        where = f"{row.task} {row.id}" if not row.parents or row.maker != "file" else row.parents[0]
        try:
            yield Line(row.task, where, _told(row, form))
        except Unsayable as why:
            yield Line(row.task, where, {}, str(why))


def of_file(path: Path, form: str, given: str = "", task: str = "") -> Iterator[Line]:
    """Lines of a data file. One that is in the provider's own format is taken as it stands, weights, tools and all."""
    task = task or path.name.split(".")[0]
    theirs = form_of(path, given)
    for number, row in raw(path):
        where = f"{path.name}:{number}"
        if isinstance(row, str):
            yield Line(task, where, {}, row)
        elif theirs == form:
            yield Line(task, where, row)
        else:
            try:
                yield Line(task, where, _told(example_of(FORMATS[theirs].read(row), task, where), form))
            except Unsayable as why:
                yield Line(task, where, {}, str(why))


def _told(row: Example, form: str) -> dict[str, Any]:
    if form != "messages":
        history = tuple({"role": role, "content": content} for role, content in row.history)
        return FORMATS[form].write(Sample(row.instruction, row.input, row.output, row.system, history))
    messages: list[dict[str, Any]] = list(row.messages())
    for message in messages[:-1]:
        if message["role"] == "assistant":
            message["weight"] = 0
    return {"messages": messages}


def prepare(
    lines: Iterable[Line], more: Iterable[Line] | None, out: Path, tuning: Tuning, share: float, seed: int
) -> dict[str, File]:
    """Check all lines and write training.jsonl and, with a share or `more` lines for it, validation.jsonl into `out`.

    The files are whole or absent, and the same for the same lines. Raises DataError naming the file and line of what the provider would
    not take, EngineError when the disk is full.
    """
    bad: list[str] = []
    count = 0
    drawn = defaultdict[str, list[tuple[str, int]]](list)
    with whole(out / ".rows.jsonl") as file:
        for line in lines:
            said = _checked(line, tuning, bad)
            if said is not None:
                file.write(said)
                if share > 0:
                    drawn[line.task].append((content_id(VALIDATION, seed, said.decode()), count))
                count += 1
        _refuse(bad)
    aside = set[int]()
    for places in drawn.values():  # each task gives its share: at least one row, but never its last one
        few = min(max(round(share * len(places)), 1), len(places) - 1)
        aside |= {place for _, place in sorted(places)[:few]}
    made = _divided(out, aside, more, tuning, bad)
    (out / ".rows.jsonl").unlink()
    _within(made, tuning.limits)
    return made


def _refuse(bad: Sequence[str]) -> None:
    """Raise DataError where rows are bad, naming the first of them."""
    if not bad:
        return
    shown, left = "; ".join(bad[:SHOWN]), len(bad) - SHOWN
    if left > 0:
        shown += say(f"; and {left} more", f"；另有 {left} 行")
    raise DataError(
        say(f"{len(bad)} rows would not be taken: {shown}", f"{len(bad)} 行不会被接受：{shown}"),
        mend=say("mend or remove them; nothing was sent", "请修正或删除这些行；尚未发送任何内容"),
    )


def _checked(line: Line, tuning: Tuning, bad: list[str]) -> bytes | None:
    """The line as it is sent, None where it is bad, which is then noted."""
    why = line.why or tuning.wrong(line.row)
    said = b""
    if not why:
        try:
            said = json.dumps(tuning.kept(line.row), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        except (ValueError, TypeError) as error:  # a lone surrogate, a NaN, a date
            why = say(f"cannot be written as JSON: {error}", f"无法写成 JSON：{error}")
    if not why and tuning.limits.tokens is not None:
        tokens = sum(len(text.encode()) for text in tuning.texts(line.row)) // LEAST
        if tokens > tuning.limits.tokens:
            limit = tuning.limits.tokens
            why = say(f"more than {limit:,} tokens (about {tokens:,})", f"超过 {limit:,} 个词元（约 {tokens:,}）")
    if why:
        bad.append(f"{line.where}: {why}")
    return None if why else said


def _divided(
    out: Path, aside: set[int], more: Iterable[Line] | None, tuning: Tuning, bad: list[str]
) -> dict[str, File]:
    """Write the two files from the checked rows, and those of `more`, which may not be among the training rows."""
    counts = {name: _Count(tuning) for name in (TRAINING, VALIDATION)}
    known = set[bytes]()
    with ExitStack() as stack:
        files = {TRAINING: stack.enter_context(whole(out / "training.jsonl"))}
        if aside or more is not None:
            files[VALIDATION] = stack.enter_context(whole(out / "validation.jsonl"))
        else:
            (out / "validation.jsonl").unlink(missing_ok=True)
        with (out / ".rows.jsonl").open("rb") as rows:
            for place, said in enumerate(rows):
                name = VALIDATION if place in aside else TRAINING
                files[name].write(said)
                counts[name].add(said)
                if more is not None:
                    known.add(hashlib.blake2b(said, digest_size=8).digest())
        for line in more or ():
            other = _checked(line, tuning, bad)
            if other is None:
                continue
            if hashlib.blake2b(other, digest_size=8).digest() in known:
                bad.append(line.where + say(": a training row, too", "：同时也是训练数据"))
            files[VALIDATION].write(other)
            counts[VALIDATION].add(other)
        _refuse(bad)
    return {name: counts[name].file(out / f"{name}.jsonl") for name in files}


class _Count:
    """What is known of a file when it is written."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning, self._hash = tuning, hashlib.sha256()
        self.rows, self.size, self.tokens, self.most, self.long = 0, 0, 0.0, 0, 0

    def add(self, said: bytes) -> None:
        """One row."""
        texts = list(self._tuning.texts(json.loads(said)))
        most = sum(len(text.encode()) // MOST + 2 * guess.TURN for text in texts) + guess.REPLY
        limit = self._tuning.limits.tokens
        self._hash.update(said)
        self.rows, self.size, self.most = self.rows + 1, self.size + len(said), self.most + most
        self.tokens += sum(guess.tokens(text) + guess.TURN for text in texts) + guess.REPLY
        self.long += limit is not None and most > limit

    def file(self, path: Path) -> File:
        """The whole of it."""
        tokens = round(self.tokens)
        return File(path, self.rows, self.size, self._hash.hexdigest(), tokens, max(self.most, tokens), self.long)


def _within(made: Mapping[str, File], limits: Limits) -> None:
    """Raise DataError for files beyond the provider's limits."""
    training, held = made[TRAINING], made.get(VALIDATION)
    rows = training.rows
    if rows < limits.least:
        raise _beyond(
            training, limits, f"{rows} rows, {limits.least} are needed", f"只有 {rows} 行，至少需要 {limits.least} 行"
        )
    if limits.most is not None and rows > limits.most:
        raise _beyond(
            training, limits, f"{rows:,} rows, {limits.most:,} are taken", f"{rows:,} 行，最多 {limits.most:,} 行"
        )
    for file in made.values():
        size, most = file.size, limits.size
        if most is not None and size > most:
            raise _beyond(file, limits, f"{size:,} bytes, {most:,} are taken", f"{size:,} 字节，最多 {most:,} 字节")
    if held is None:
        return
    room = limits.validation if limits.validation is not None else held.rows
    if limits.few is not None and held.rows > limits.few:
        room = min(room, int(limits.share * rows))
    if held.rows > room:
        en, zh = f"{held.rows:,} validation rows, {room:,} are taken", f"{held.rows:,} 行验证数据，最多 {room:,} 行"
        raise _beyond(held, limits, en, zh)
    if held.rows == 0:
        raise _beyond(held, limits, "no validation row", "没有验证数据")


def _beyond(file: File, limits: Limits, en: str, zh: str) -> DataError:
    mend = say(f"the rules: {limits.source} ({limits.date})", f"规则来源：{limits.source}（{limits.date}）")
    return DataError(say(en, zh), where=file.path.name, mend=mend)
