"""What is wrong with a data set, counted and shown: unreadable rows, defects by class, duplicates, leaks, languages, lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiling import stages
from zhiling.dataset import Asked, heldout, open_run, read_all, stream
from zhiling.errors import say
from zhiling.pool import Book, Marks, Pool
from zhiling.run import Watch
from zhiling.text import cut
from zhiling.types import Example, Score

SHOWN = 3  # rows shown of each kind of finding
CHAIN = ("exact", "near")
CODES = {"heldout": "leak", "decontaminate": "leak_reworded", "exact": "duplicate_exact", "near": "duplicate_near"}


@dataclass(slots=True)
class Finding:
    """One kind of trouble: its code, how many rows have it, and the first of them as "file:line what"."""

    code: str
    rows: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        """Count a row."""
        self.rows += 1
        if len(self.first) < SHOWN:
            self.first.append(what)


@dataclass(slots=True)
class Audit:
    """All that was found. `lengths` are percentiles of the outputs in words or characters, `sound` the rows without any finding."""

    rows: int
    sound: int
    findings: list[Finding]
    langs: dict[str, int]
    lengths: dict[str, float]
    folder: Path


_echo, _poor = 0.5, 0.5
CHECKS: Mapping[str, Callable[[Score], Iterator[tuple[str, str]]]] = {
    "format": lambda s: ((code, s.why) for code in s.why.split(":")[0].split(", ") if s.value == 0.0),
    "refusal": lambda s: iter([("refusal", s.why)] if s.value == 1.0 else []),
    "placeholder": lambda s: iter([("placeholder", s.why)] if s.value == 1.0 else []),
    "language": lambda s: iter([("wrong_language", s.why)] if s.value == 0.0 else []),
    "echo": lambda s: iter([("echo", f"{s.value:.0%}")] if s.value is not None and s.value >= _echo else []),
    "grammar": lambda s: iter([("grammar", s.why)] if s.value is not None and s.value < _poor else []),
    "asks": lambda s: (
        (code, s.why) for code in s.why.split(":")[0].split(", ") if s.value is not None and s.value < 1
    ),
    "pii": lambda s: ((f"pii_{kind.split(':')[0]}", kind) for kind in s.why.split("; ") if s.value == 1.0),
}
"""From a scorer's word on a row to the codes of what is wrong with it."""


def audit(asked: Asked, folder: Path, *, watch: Watch | None = None, **how: Any) -> Audit:
    """Look a data set through. Raises as `dataset.score` does. Nothing is written but the run's folder."""
    chain = [*(["heldout", "decontaminate"] if asked.against else []), *CHAIN]
    whole = Asked(**{name: getattr(asked, name) for name in Asked.__dataclass_fields__} | {"select": chain})
    with open_run(whole, folder, "select", watch, how) as run:
        rows, merged = read_all(run, whole)
        outputs = stages.score(run, rows)
        stages.select(run, rows, merged, outputs, heldout(run, whole))
        scores = Marks(folder, outputs, Pool(folder, rows).all)
        book = Book(folder, [output for done in run.done for output in done.of("ledger")])
    findings: dict[str, Finding] = {}
    langs, lengths, seen = Counter[str](), list[float](), bytearray(len(book))
    total = sound = 0
    for _, item in stream(whole):
        total += 1
        found: list[tuple[str, str]] = []
        if not isinstance(item, Example):
            found.append(("unreadable", item.why))
            where = item.where
        else:
            where = item.parents[0]
            langs[item.lang] += 1
            said = scores.of(item.id)
            for name, check in CHECKS.items():
                if name in said:
                    found += check(said[name])
            if "length" in said and said["length"].value is not None:
                lengths.append(said["length"].value)
            place = book.place(item.id)
            state, stage, why, _ = book.at(place)
            if seen[place]:
                found.append(("duplicate_exact", say("equal to a row before it", "与前面的一行相同")))
            elif state == "dropped":
                code = CODES[stage]
                found.append((code, why))
            seen[place] = 1
        for code, what in found:
            findings.setdefault(code, Finding(code)).add(f"{where}  {cut(what, 100)}")
        sound += not found
    ordered = sorted(findings.values(), key=lambda finding: (-finding.rows, finding.code))
    return Audit(total, sound, ordered, dict(langs.most_common()), _percentiles(lengths), folder)


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    return {
        f"p{p}": ordered[min(len(ordered) - 1, round(p / 100 * (len(ordered) - 1)))] for p in (1, 5, 25, 50, 75, 95, 99)
    }


def lines(found: Audit) -> list[str]:
    """The audit as text."""
    out = [
        say(
            f"{found.rows} rows, {found.sound} without a finding ({found.sound / max(1, found.rows):.1%})",
            f"共 {found.rows} 行，{found.sound} 行未发现问题（{found.sound / max(1, found.rows):.1%}）",
        ),
        say("languages: ", "语言：") + ", ".join(f"{name or '?'} {count}" for name, count in found.langs.items()),
        say("output length: ", "输出长度：") + ", ".join(f"{name} {value:g}" for name, value in found.lengths.items()),
        "",
    ]
    widest = max((len(finding.code) for finding in found.findings), default=0)
    for finding in found.findings:
        out.append(f"{finding.code:<{widest}}  {finding.rows:>8}  {finding.rows / found.rows:7.2%}")
        out += [f"{'':<{widest}}  {what}" for what in finding.first]
    if not found.findings:
        out.append(say("nothing found", "未发现问题"))
    return out


def grouped(found: Audit) -> dict[str, Any]:
    """The audit as plain values."""
    counts = {finding.code: finding.rows for finding in found.findings}
    return {
        "rows": found.rows,
        "sound": found.sound,
        "languages": found.langs,
        "output_length": found.lengths,
        "duplicates": counts.get("duplicate_exact", 0) + counts.get("duplicate_near", 0),
        "findings": [{"code": f.code, "rows": f.rows, "first": f.first} for f in found.findings],
    }
