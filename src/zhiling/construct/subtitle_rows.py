"""Rows for subtitles from the cues of a file: translation both ways, and bilingual subtitles. Times never pass through a model.

cues (start, end, zh, en) -> runs of a few -> the missing language asked of a model, line by line -> rows as SRT
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from zhiling.construct.generate.asking import Asking, Book, book, styled
from zhiling.construct.generate.floor import Made
from zhiling.construct.verify.subtitles import Cue, clock, srt
from zhiling.errors import say
from zhiling.registry import constructor
from zhiling.types import Example, Record, Reject, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

Way = Literal["en-zh", "zh-en", "bilingual"]
WAYS: tuple[Way, ...] = ("en-zh", "zh-en", "bilingual")
_line = re.compile(r"^\s*(\d{1,3})\s*[.、:：)]\s*(.*\S)\s*$", re.MULTILINE)
_break = " / "


@dataclass(frozen=True, slots=True)
class Said:
    """A cue's time, its lines by language ("" where it has none), and the record that it came from."""

    start: int
    end: int
    zh: str
    en: str
    record: str


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether a model is asked for the language that cues lack."""
    return bool(settings["translate"])


def ready(settings: Mapping[str, Any], task: Task) -> float:
    """Rows for a record: its share of those of a run of cues."""
    return len(settings["ways"] or WAYS) / int(settings["cues"])


@constructor(
    "subtitles",
    over="records",
    asks=asks,
    ready=ready,
    needs=("chat",),
)
async def subtitles(
    *,
    task: Task,
    records: Iterable[Record],
    seed: int,
    here: Path,
    model: Model | None = None,
    ways: list[Way] | None = None,
    cues: Annotated[int, Ge(1)] = 6,
    translate: bool = False,
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    max_tokens: Annotated[int, Ge(8)] = 400,
) -> list[Made]:
    """A row for each run of `cues` cues and each of `ways`: "en-zh", "zh-en" (translate), "bilingual" (add the other language).

    Records are the cues of a subtitle file as they are read ({start, end, text, zh, en}). Where a run lacks a language, `translate` has a model
    say it, numbered line by line; without it cues that lack one are Rejects, as are those whose times cannot be read. The times of a row are
    its file's.
    """
    words = book("subtitles", prompts, here)
    out: list[Made] = []
    asked = model if translate else None
    for run in _runs(_read(records, task, out, complete=asked is None), cues):
        full: Sequence[Said] | Reject = run
        if asked is not None and not all(cue.zh and cue.en for cue in run):
            full = await _translated(run, task, words, asked, style, seed, max_tokens)
        if isinstance(full, Reject):
            out.append(full)
            continue
        maker = "subtitles:file" if full is run or asked is None else f"subtitles:{asked.label}"
        out += [_row(full, way, task.name, words, seed, maker) for way in ways or WAYS]
    return out


def _read(records: Iterable[Record], task: Task, out: list[Made], complete: bool) -> Iterator[Said]:
    """The cues of records; what has no times, or (where they must be `complete`) not both languages, goes to `out`."""
    for record in records:
        fields = record.fields
        start, end = (clock(fields.get(name, "")) for name in ("start", "end"))
        zh, en = fields.get("zh", ""), fields.get("en", "")
        why = ""
        if start is None or end is None:
            why = say("times: the cue's times cannot be read", "times：无法读取字幕时间")
        elif complete and not (zh and en):
            why = say(
                "language: a cue without a translation (set `translate`)", "language：字幕没有译文（可设置 translate）"
            )
        if why or start is None or end is None:
            text = fields.get("text", "")
            out.append(
                Reject(task.name, "subtitles", "failed", why, f"{record.file}:{record.line}", text, (record.id,))
            )
        else:
            yield Said(start, end, zh, en, record.id)


def _runs(said: Iterator[Said], size: int) -> Iterator[list[Said]]:
    while run := list(islice(said, size)):
        yield run


def _ids(run: Sequence[Said]) -> tuple[str, ...]:
    return tuple(cue.record for cue in run)


async def _translated(
    run: Sequence[Said],
    task: Task,
    words: Book,
    model: Model,
    style: Literal["auto", "small", "large"],
    seed: int,
    max_tokens: int,
) -> list[Said] | Reject:
    """The run with its missing language said by the model, cue by cue; a Reject where the reply has not one line for each cue."""
    have, want = ("en", "zh") if all(cue.en for cue in run) else ("zh", "en")
    asking = Asking(task, model, words, want, styled(model, style), seed, 0.0, max_tokens)
    shown = "\n".join(f"{at}. {getattr(cue, have).replace(chr(10), _break)}" for at, cue in enumerate(run, 1))
    said = (await asking.ask("translate", [(run[0].record, {"lines": shown})], cool=True))[0]
    lines = {int(number): text for number, text in _line.findall(said.text)}
    if said.fault or sorted(lines) != list(range(1, len(run) + 1)):
        missing = say(f"form: {len(lines)} lines for {len(run)} cues", f"form：{len(run)} 条字幕得到 {len(lines)} 行")
        return Reject(
            task.name,
            f"subtitles:{model.label}",
            "dropped",
            said.fault or missing,
            text=said.text or shown,
            parents=_ids(run),
        )
    new = [{want: lines[at].replace(_break, "\n")} for at in range(1, len(run) + 1)]
    return [replace(cue, **said) for cue, said in zip(run, new, strict=True)]


def _row(run: Sequence[Said], way: Way, task: str, words: Book, seed: int, maker: str) -> Example:
    """One run as a row: the cues in one language, and in the other or in both, with the same times."""
    both = way == "bilingual"
    source = "en" if way != "zh-en" else "zh"
    target = "zh" if source == "en" else "en"
    lang = "zh" if row_seed(seed, f"{run[0].record}:{way}") % 2 else "en"
    wordings = words.more["instructions"][lang][way]
    asked = [Cue(cue.start, cue.end, tuple(getattr(cue, source).split("\n"))) for cue in run]
    given = [
        Cue(cue.start, cue.end, (*(one.lines if both else ()), *getattr(cue, target).split("\n")))
        for cue, one in zip(run, asked, strict=True)
    ]
    instruction = wordings[row_seed(seed, f"{run[0].record}:{way}:wording") % len(wordings)]
    return Example(task, instruction, srt(asked), srt(given), lang=lang, maker=maker, parents=_ids(run))
