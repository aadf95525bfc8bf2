"""Subtitles: SRT, WebVTT and ASS. Each cue is a row {start, end, text, zh, en}.

`zh` and `en` are the cue's lines by script: both are filled for a bilingual cue, one for any other, none where neither script is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zhiling.data.files import Row
from zhiling.data.lines import lines
from zhiling.errors import say
from zhiling.text import lang

_time = r"(?:\d+:)?\d{1,2}:\d{1,2}[.,]\d{1,3}"
_timing = re.compile(rf"^\s*({_time})\s*-->\s*({_time})(?:\s.*)?$")
_tag = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}|<\d[\d:.]*>")
_about = re.compile(r"^(?:WEBVTT|NOTE|STYLE|REGION)\b")


def cues(path: Path) -> Iterator[Row]:
    """The cues of an SRT or WebVTT file; a block whose times cannot be read is unreadable."""
    block: list[tuple[int, str]] = []
    for number, raw in lines(path):
        line = raw.rstrip("\r\n").lstrip("\ufeff")
        if line.strip():
            block.append((number, line))
        elif block:
            yield from _cue(block)
            block = []
    if block:
        yield from _cue(block)


def _cue(block: list[tuple[int, str]]) -> Iterator[Row]:
    at = next((i for i, (_, line) in enumerate(block[:2]) if "-->" in line), None)
    if at is None:
        if not _about.match(block[0][1]):
            yield block[0][0], say("a cue without times", "字幕块没有时间")
        return
    found = _timing.match(block[at][1])
    if not found:
        yield block[at][0], say("the cue's times cannot be read", "无法读取字幕的时间")
    else:
        yield block[at][0], _row(found[1], found[2], [line for _, line in block[at + 1 :]])


def ass(path: Path) -> Iterator[Row]:
    """The dialogue lines of an ASS or SSA file, in its order."""
    order: list[str] = []
    events = False
    for number, raw in lines(path):
        line = raw.strip().lstrip("\ufeff")
        if line.startswith("["):
            events = line.lower() == "[events]"
        elif events and line.lower().startswith("format:"):
            order = [name.strip().lower() for name in line.split(":", 1)[1].split(",")]
        elif events and line.lower().startswith("dialogue:"):
            cells = line.split(":", 1)[1].split(",", max(len(order) - 1, 0))
            if {"start", "end", "text"} <= set(order) and len(cells) == len(order):
                cue = dict(zip(order, cells, strict=True))
                yield number, _row(cue["start"].strip(), cue["end"].strip(), re.split(r"\\[Nn]", cue["text"]))
            else:
                yield number, say("a dialogue line with too few fields", "对白行的字段不足")


def _row(start: str, end: str, said: list[str]) -> dict[str, str]:
    clean = [line for raw in said if (line := _tag.sub("", raw).strip())]
    by: dict[str, list[str]] = {"zh": [], "latin": []}
    for line in clean:
        by.get(lang(line), []).append(line)
    return {
        "start": start, "end": end, "text": "\n".join(clean), "zh": "\n".join(by["zh"]), "en": "\n".join(by["latin"]),
    }  # fmt: skip
