"""Whether subtitles kept what a viewer's player needs: every cue, every time, and lines short enough to be read while they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Gt

from zhiling.errors import say
from zhiling.registry import verifier
from zhiling.text import cut, lang, length
from zhiling.types import Example, Score

LINE = {"zh": 20, "en": 42}
"""Characters a line holds: 42 for Latin scripts is the broadcasters' rule, and about what 20 Chinese characters take in width."""
SPEED = {"zh": 11.0, "en": 20.0}
"""Characters a second that adults read: the upper limits of Netflix's timed text guides for Chinese and English."""
LINES = 2

_time = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_arrow = re.compile(rf"^\s*{_time}\s*-->\s*{_time}(?:\s.*)?$")
_ass = re.compile(rf"^\s*Dialogue:\s*[^,]*,{_time},{_time},(?:[^,]*,){{6}}(.*)$", re.IGNORECASE)
_tag = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}|<\d[\d:.]*>")
_both = re.compile(r"bilingual|both languages|\b(?:below|under) (?:each|every)|双语|中英对照|下方", re.IGNORECASE)
_about = re.compile(r"^(?:WEBVTT|NOTE|STYLE|REGION)\b")


class Cue(NamedTuple):
    """A subtitle: from and to in milliseconds, and its lines without marks of style."""

    start: int
    end: int
    lines: tuple[str, ...]


def cues(text: str) -> tuple[list[Cue], list[str]]:
    """The cues of an SRT, WebVTT or ASS text in their order, and what of it could not be read, in words. Never raises."""
    out: list[Cue] = []
    bad: list[str] = []
    if re.search(r"^\s*Dialogue:", text, re.MULTILINE | re.IGNORECASE):
        for line in text.splitlines():
            if found := _ass.match(line):
                out.append(Cue(*_times(found), _lines(re.split(r"\\[Nn]", found[9]))))
            elif line.strip().lower().startswith("dialogue:"):
                bad.append(cut(line, 40))
        return out, bad
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")):
        lines = [line for line in block.split("\n") if line.strip()]
        at = next((place for place, line in enumerate(lines[:2]) if "-->" in line), None)
        if at is not None and (found := _arrow.match(lines[at])):
            out.append(Cue(*_times(found), _lines(lines[at + 1 :])))
        elif lines and not _about.match(lines[0]) and ("-->" in block or lines[0].strip().isdigit()):
            bad.append(cut(block, 40))
    return out, bad


def _times(found: re.Match[str]) -> tuple[int, int]:
    """The times in a match: the first, and the second where there is one (else the first again)."""

    def at(first: int) -> int:
        hours, minutes, seconds, rest = (found[first + part] or "0" for part in range(4))
        return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(rest.ljust(3, "0"))

    return at(1), at(5) if len(found.groups()) > 4 else at(1)


def _lines(raw: Sequence[str]) -> tuple[str, ...]:
    return tuple(line for part in raw if (line := _tag.sub("", part).strip()))


def clock(text: str) -> int | None:
    """A time as subtitles write it, in milliseconds; None for what is none."""
    found = re.fullmatch(rf"\s*{_time}\s*", text)
    return _times(found)[0] if found else None


def srt(made: Sequence[Cue]) -> str:
    """The cues as an SRT text."""
    return "\n\n".join(
        f"{at}\n{_clock(c.start)} --> {_clock(c.end)}\n" + "\n".join(c.lines) for at, c in enumerate(made, 1)
    )


def _clock(ms: int) -> str:
    seconds, rest = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},{rest:03}"


@verifier(
    "subtitles",
    families=("subtitles",),
    langs=("zh", "en"),
    paper="timed text style guides: line length and reading speed",
)
def subtitles(
    examples: Sequence[Example],
    *,
    kind: Literal["auto", "translate", "bilingual", "any"] = "auto",
    to: str = "",
    line: dict[str, Annotated[int, Ge(1)]] | None = None,
    speed: dict[str, Annotated[float, Gt(0)]] | None = None,
    lines: Annotated[int, Ge(1)] = LINES,
    slow: Annotated[float, Ge(0)] = 0.0,
) -> Iterator[Score]:
    """The answer has the question's cues with the question's times, each said in the other language, and short enough to be read.

    `kind: bilingual` wants both languages in every cue; `any` (shortening, proofreading) asks nothing about language; "auto" goes by the
    instruction's words. `to` is the language that
    the answer must be in ("zh", "en"), by default another than the question's. `line` and `speed` are {language: most characters a line, most
    a second} (20 and 11 for zh, 42 and 20 for en), `lines` how many a cue may have (a language). Where the question gives no times, only the
    lines are looked at. A cue is not blamed for being too long or too fast where the question's is so too; `slow` is the share that may be.
    """
    limits = {**LINE, **(line or {})}, {**SPEED, **(speed or {})}, lines
    for row in examples:
        asked, unread = cues(row.input or row.instruction)
        sort = kind if kind != "auto" else "bilingual" if _both.search(row.instruction) else "translate"
        value, why = _judged(row, asked, sort, to, limits, slow)
        if unread and not asked:
            value, why = (
                None,
                say(f"the question's times cannot be read: {unread[0]}", f"无法读取题面字幕的时间：{unread[0]}"),
            )
        yield Score(row.id, "subtitles", value, why)


Limits = tuple[dict[str, int], dict[str, float], int]


def _judged(
    row: Example, asked: list[Cue], kind: str, to: str, limits: Limits, slow: float
) -> tuple[float | None, str]:
    given, unread = cues(row.output)
    if "\ufffd" in row.output:
        return 0.0, say("its encoding broke: there are replacement characters", "编码已损坏：含有替换字符")
    if not asked:
        if given or unread:
            return 0.0, say("it has times where the question gives none", "题面没有时间，回答却有")
        given = [Cue(0, 0, _lines(row.output.splitlines()))]
        asked = [Cue(0, 0, _lines((row.input or row.instruction).splitlines()))]
    if unread:
        return 0.0, say(f"a cue cannot be read: {unread[0]}", f"有字幕无法读取：{unread[0]}")
    if len(given) != len(asked):
        return 0.0, say(
            f"{len(given)} cues where {len(asked)} are asked for", f"应有 {len(asked)} 条字幕，实际 {len(given)} 条"
        )
    for at, (one, other) in enumerate(zip(asked, given, strict=True), 1):
        if one[:2] != other[:2]:
            was, now = (f"{_clock(c.start)} --> {_clock(c.end)}" for c in (one, other))
            return 0.0, say(
                f"cue {at}: its time was changed from {was} to {now}", f"第 {at} 条：时间由 {was} 变为 {now}"
            )
        if fault := _said(one, other, kind, to):
            return 0.0, say(f"cue {at}: ", f"第 {at} 条：") + fault
    both = enumerate(zip(asked, given, strict=True), 1)
    hard = [(at, why) for at, (was, now) in both if (why := unreadable(now, limits)) and not unreadable(was, limits)]
    if len(hard) > slow * len(given):
        at, fault = hard[0]
        return 0.0, say(f"cue {at}: {fault}", f"第 {at} 条：{fault}") + (
            f" ({len(hard)}/{len(given)})" if len(hard) > 1 else ""
        )
    return 1.0, say(f"{len(given)} cues, times untouched", f"{len(given)} 条字幕，时间未动")


def _said(one: Cue, other: Cue, kind: str, to: str) -> str:
    """What is wrong with the words of a cue beside the ones asked about."""
    if one.lines and not other.lines:
        return say("it is empty", "内容为空")
    was, now = lang(" ".join(one.lines)), {lang(part) for part in other.lines} - {""}
    if kind == "any" or not was or not now:
        return ""  # a number or a sound, the same in every language
    target = {"en": "latin"}.get(to, to)
    if kind == "bilingual":
        return "" if {"zh", "latin"} <= now else say("it has only one language", "只有一种语言")
    if target and target not in now:
        return say(f"it is not in {to}", f"不是 {to}")
    same = not target and now == {was} and length(" ".join(one.lines)) > 2
    return say("it is not translated", "没有翻译") if same else ""


def unreadable(cue: Cue, limits: Limits) -> str:
    """Why a cue cannot be read while it stands; "" where it can. Without a time only its lines count. Two languages are read one by one."""
    most, speed, lines = limits
    by: dict[str, list[str]] = {"zh": [], "en": []}
    for part in cue.lines:
        by["zh" if lang(part) == "zh" else "en"].append(part)
    for code, said in by.items():
        if len(said) > lines:
            return say(f"{len(said)} lines, {lines} are the most", f"有 {len(said)} 行，最多 {lines} 行")
        long = max((len(part) for part in said), default=0)
        if long > most[code]:
            return say(
                f"a line of {long} characters, {most[code]} are the most", f"一行有 {long} 个字符，最多 {most[code]} 个"
            )
        seconds = (cue.end - cue.start) / 1000
        count = sum(len(part) for part in said)
        if cue.end and (seconds <= 0 or count / seconds > speed[code]):
            fast = count / seconds if seconds > 0 else float("inf")
            return say(
                f"{fast:.0f} characters a second, {speed[code]:g} are the most",
                f"每秒 {fast:.0f} 个字符，最多 {speed[code]:g} 个",
            )
    return ""
