"""What is wrong with a data set, counted and shown: unreadable rows, defects by class, duplicates, leaks, languages, lengths, diversity.

What takes vectors (diversity, answers that seem to be another row's, inputs that seem to be gone) is looked at on a sample of 2,000 rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiling import stages
from zhiling.embed import Embedder, Use
from zhiling.errors import say
from zhiling.judging import diversity
from zhiling.judging.dataset import Asked, heldout, open_run, read_all, stream
from zhiling.judging.diversity import Diversity, Sample
from zhiling.pool import Book, Marks, Pool
from zhiling.run import Watch
from zhiling.score.answers import margins
from zhiling.score.lacks_input import lacks_input
from zhiling.select.hypothesis import Alone, alone
from zhiling.text import cut
from zhiling.types import Example, Score

SHOWN = 3  # rows shown of each kind of finding
CHAIN = ("exact", "near")
STRAY, LACKING = -9.0, 0.93
"""Margin of an answer below which, and likelihood of a lost input from which, a row is doubtful: one sound row in a hundred is."""
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
    """All that was found. `lengths` are percentiles of the outputs in words or characters, `sound` the rows without any finding.

    `doubtful` are findings among the `diversity.looked` rows of the sample alone: each blames about one sound row in a hundred as well, so
    that they count as findings only where there are more. `alone` is what hypotheses tell of labels, where the sample holds such rows.
    """

    rows: int
    sound: int
    findings: list[Finding]
    langs: dict[str, int]
    lengths: dict[str, float]
    diversity: Diversity
    doubtful: list[Finding]
    alone: list[Alone]
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
    sample = Sample(seed=asked.seed)
    for _, item in stream(whole):
        total += 1
        found: list[tuple[str, str]] = []
        if not isinstance(item, Example):
            found.append(("unreadable", item.why))
            where = item.where
        else:
            where = item.parents[0]
            sample.add(item)
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
    embedder = Use()
    varied = diversity.of_sample(sample, embedder)
    return Audit(
        total,
        sound,
        ordered,
        dict(langs.most_common()),
        _percentiles(lengths),
        varied,
        _doubtful(sample, embedder),
        alone(sample.rows()),
        folder,
    )


def _doubtful(sample: Sample, embedder: Embedder) -> list[Finding]:
    """Rows of the sample whose answer seems to be another row's, or whose input seems to be gone."""
    rows = sample.rows()
    strays, lacking = Finding("answer_of_another"), Finding("input_gone")
    for row, margin in zip(rows, margins(rows, rows, embedder), strict=True):
        if margin is not None and margin < STRAY:
            strays.add(f"{row.parents[0]}  {margin:.1f}")
    for row, score in zip(rows, lacks_input(rows, embedder=embedder), strict=True):
        if score.value is not None and score.value >= LACKING:
            lacking.add(f"{row.parents[0]}  {score.value:.2f}")
    return [finding for finding in (strays, lacking) if finding.rows]


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
    out += ["", *diversity.lines(found.diversity)]
    if found.alone:
        out += ["", *(one.said() for one in found.alone)]
    if found.doubtful:
        looked = found.diversity.looked
        head = say(
            f"doubtful, of {looked} rows looked at (about 1% of sound rows are):",
            f"存疑（检查 {looked} 行；完好的行约有 1% 也会列入）：",
        )
        out += ["", head]
        for finding in found.doubtful:
            out.append(f"  {finding.code}  {finding.rows}  {finding.rows / looked:.2%}")
            out += [f"    {what}" for what in finding.first]
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
        "diversity": found.diversity.told(),
        "hypothesis_only": [one.told() for one in found.alone],
        "doubtful": [{"code": f.code, "rows": f.rows, "first": f.first} for f in found.doubtful],
        "findings": [{"code": f.code, "rows": f.rows, "first": f.first} for f in found.findings],
    }
