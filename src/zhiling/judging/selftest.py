"""Do the scorers find what is wrong? Known defects are planted in rows of the user's own data, and it is counted which are found.

Only rows that no rule blames are planted in, so that what is found was found because of the planting. Two finders that compare vectors
have no bound of their own: whether an answer is its own prompt's rather than another row's (`answers.margins`), and whether an input is
gone (`lacks_input`). Their bounds are set on the sound rows, so that at most a given share of them is blamed. False alarms are counted on
each half of them by bounds set on the other half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from zhiling import registry
from zhiling.data.sets import examples, form_of
from zhiling.embed import Embedder, Use
from zhiling.errors import DataError, say
from zhiling.judging.selftest_plant import PLANTS
from zhiling.score.answers import margins
from zhiling.score.lacks_input import lacks_input
from zhiling.types import Example, row_seed

ROWS = 2000
BOUNDS: Mapping[str, tuple[str, float]] = {
    "format": ("min", 1), "language": ("min", 1), "refusal": ("max", 0), "placeholder": ("max", 0), "echo": ("max", 0.5), "asks": ("min", 1),
}  # fmt: skip
"""The rules and the values from which on they blame a row."""


@dataclass(frozen=True, slots=True)
class Found:
    """One class of defects: how many were planted, how many were found, and by which scorers."""

    name: str
    planted: int
    found: int
    by: dict[str, int]

    @property
    def recall(self) -> float | None:
        """Share of the planted that were found; None where no row could carry the defect."""
        return round(self.found / self.planted, 4) if self.planted else None


BOUNDED = ("answers", "lacks_input")
"""The finders whose bounds are set on the user's own rows."""


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of a self-test.

    `blamed` counts the untouched rows that a rule blames, by scorer: an upper bound on false alarms, since real defects are among them.
    `bounds` are the values of the finders in `BOUNDED` beyond which a row is blamed, without those that too few rows could be given;
    `alarms` the share of the untouched sound rows that each blames by bounds set on the other half of them, and `false_alarms` the share
    that any of them blames, None where there is none.
    """

    rows: int
    sound: int
    blamed: dict[str, int]
    bounds: dict[str, float]
    alarms: dict[str, float]
    false_alarms: float | None
    classes: list[Found] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """As plain data, with the recalls."""
        return {**asdict(self), "classes": [{**asdict(each), "recall": each.recall} for each in self.classes]}


def selftest(
    files: Sequence[Path], *, form: str = "", columns: Mapping[str, str] | None = None, rows: int = ROWS, seed: int = 0, rate: float = 0.009
) -> Tested:  # fmt: skip
    """Plant every known defect in a seeded sample of at most `rows` rows, and count what is found.

    `rate` is the share of the rows that bounds are set on that may be blamed by both finders together, half of it by each: below 1%, so that
    1% is hardly exceeded on other rows.

    Raises DataError where the files hold no usable row or no rule lets a row pass.
    """
    taken = _sample(files, form, columns or {}, rows, seed)
    blame = blamed(taken)
    sound = [row for row in taken if not blame[row.id]]
    if len(sound) < 2:
        what = say(
            f"only {len(sound)} of {len(taken)} rows are without a defect",
            f"{len(taken)} 行中只有 {len(sound)} 行没有缺陷",
        )
        raise DataError(what, where=str(files[0]), mend=say("give more rows", "请提供更多数据"))
    held = sound[1::2]
    finder = Finder(sound, Once(Use()))
    values = finder.values(sound)
    bounds = _bounds(values, range(len(sound)), rate / len(BOUNDED))
    below = _crossed(values, len(sound), rate / len(BOUNDED)) if bounds else []
    counts: dict[str, int] = {name: sum(name in by for by in blame.values()) for name in BOUNDS}
    classes = [_count(name, held, finder, bounds, seed) for name in PLANTS]
    alarms = {name: round(sum(name in by for by in below) / len(sound), 4) for name in bounds}
    anyone = round(sum(map(bool, below)) / len(sound), 4) if bounds else None
    return Tested(len(taken), len(sound), {name: n for name, n in counts.items() if n}, bounds, alarms, anyone, classes)


def _sample(files: Sequence[Path], form: str, columns: Mapping[str, str], rows: int, seed: int) -> list[Example]:
    """The rows with the smallest seeds: the same whatever order they stand in."""
    found: dict[str, Example] = {}
    for path in files:
        for _, item in examples(path, form_of(path, form, columns), "data", columns):
            if isinstance(item, Example):
                found.setdefault(item.id, item)
                if len(found) > 20 * rows:  # a huge file is not held whole
                    found = {row.id: row for row in _first(found, rows, seed)}
    if not found:
        raise DataError(say("no usable row", "没有可用的行"), where=str(files[0]) if files else "")
    return _first(found, rows, seed)


def _first(found: Mapping[str, Example], rows: int, seed: int) -> list[Example]:
    return sorted(found.values(), key=lambda row: (row_seed(seed, row.id), row.id))[:rows]


def blamed(rows: Sequence[Example]) -> dict[str, set[str]]:
    """For each row the rules that blame it."""
    found: dict[str, set[str]] = {row.id: set() for row in rows}
    for name, (side, bound) in BOUNDS.items():
        for score in registry.get("scorer", name).fn(rows):
            if score.value is not None and (score.value < bound if side == "min" else score.value > bound):
                found[score.example].add(name)
    return found


class Once:
    """An embedder that remembers: the same rows are looked at for every class of defects."""

    def __init__(self, inner: Embedder) -> None:
        self.inner, self.name, self.dim = inner, inner.name, inner.dim
        self._known: dict[str, Any] = {}

    def __call__(self, texts: Sequence[str]) -> Any:
        import numpy as np

        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        self._known.update(zip(new, self.inner(new), strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else self.inner([])


@dataclass(frozen=True)
class Finder:
    """The two finders that compare vectors, beside the prompts of the sound rows. High values are bad in both."""

    sound: Sequence[Example]
    embedder: Embedder

    def values(self, rows: Sequence[Example]) -> dict[str, list[float | None]]:
        """For each finder a value per row."""
        near = margins(rows, self.sound, self.embedder)
        return {
            "answers": [None if value is None else -value for value in near],
            "lacks_input": [score.value for score in lacks_input(rows, embedder=self.embedder)],
        }

    def blames(self, rows: Sequence[Example], bounds: Mapping[str, float]) -> list[list[str]]:
        """Which of the finders blame each row."""
        return _blames(self.values(rows), range(len(rows)), bounds) if bounds else [[] for _ in rows]


Values: TypeAlias = Mapping[str, Sequence[float | None]]


def _bounds(values: Values, rows: Sequence[int], rate: float) -> dict[str, float]:
    """Bounds that as many other rows from the same set are expected to exceed as `rate` says; none where fewer than 20 rows have a value.

    A new row lies beyond the k-th highest of n others with probability k / (n + 1); the highest is the most careful bound there is.
    """
    bounds = {}
    for name, each in values.items():
        known = sorted(value for at in rows if (value := each[at]) is not None)
        if len(known) >= 20:
            bounds[name] = round(known[-max(1, int(rate * (len(known) + 1)))], 4)
    return bounds


def _blames(values: Values, rows: Sequence[int], bounds: Mapping[str, float]) -> list[list[str]]:
    """Which of the finders blame each of these rows."""
    return [
        [name for name in bounds if (value := values[name][at]) is not None and value > bounds[name]] for at in rows
    ]


def _crossed(values: Values, count: int, rate: float) -> list[list[str]]:
    """Which finders blame each sound row, by bounds that were set on the other half of them."""
    halves = (range(0, count, 2), range(1, count, 2))
    return [by for one, other in (halves, halves[::-1]) for by in _blames(values, other, _bounds(values, one, rate))]


def _count(name: str, rows: Sequence[Example], finder: Finder, bounds: Mapping[str, float], seed: int) -> Found:
    """Plant one defect in every row that can carry it."""
    spoilt = {
        bad.id: bad
        for at, row in enumerate(rows)
        if (bad := PLANTS[name](row, rows[(at + 1) % len(rows)], row_seed(seed, f"{name}:{row.id}")))
        and bad.id != row.id
    }
    rotten = list(spoilt.values())
    by = blamed(rotten)
    silent = [row for row in rotten if not by[row.id]]  # embedding is what costs
    for row, finders in zip(silent, finder.blames(silent, bounds), strict=True):
        by[row.id].update(finders)
    finders = sorted({finder for each in by.values() for finder in each})
    return Found(
        name,
        len(rotten),
        sum(map(bool, by.values())),
        {who: sum(who in each for each in by.values()) for who in finders},
    )


NAMES: Mapping[str, tuple[str, str]] = {
    "empty": ("output empty", "输出为空"),
    "swapped": ("answers swapped", "答案错位"),
    "dropped": ("inputs dropped", "输入丢失"),
    "garbled": ("garbled characters", "乱码"),
    "truncated": ("cut off", "截断"),
    "language": ("wrong language", "语言不符"),
    "merged": ("rows merged", "多行合并"),
    "leaked": ("prompt leaked", "提示词泄漏"),
    "echo": ("prompt repeated", "复述题面"),
    "refusal": ("refusal", "拒答"),
    "placeholder": ("slot left open", "占位符未填"),
    "repetition": ("caught in a loop", "循环重复"),
    "fence": ("code fence broken", "代码块未闭合"),
    "link": ("address in place of text", "只有网址"),
}


def lines(tested: Tested) -> list[str]:
    """The result for people, a line per class."""
    out = [
        say(
            f"{tested.rows} rows looked at; {tested.sound} that no rule blames, half of them planted in",
            f"检查 {tested.rows} 行；规则未发现问题的有 {tested.sound} 行，在其中一半植入缺陷",
        )
    ]
    if tested.blamed:
        blamed = ", ".join(f"{name} {count}" for name, count in tested.blamed.items())
        out.append(say(f"blamed as they stand: {blamed}", f"原样即被判有问题：{blamed}"))
    for name in BOUNDED:
        if name not in tested.bounds:
            out.append(say(f"too few rows to set a bound for '{name}'", f"行数太少，无法为 {name} 设定界限"))
        else:
            out.append(
                say(
                    f"false alarms of '{name}' on sound rows: {tested.alarms[name]:.2%}",
                    f"{name} 在完好行上的误报率：{tested.alarms[name]:.2%}",
                )
            )
    for each in tested.classes:
        name = say(*NAMES[each.name])
        by = ", ".join(f"{who} {count}" for who, count in each.by.items())
        share = (
            say("no row can carry it", "没有可植入的行")
            if each.recall is None
            else f"{each.recall:7.1%} {each.found}/{each.planted}  {by}"
        )
        out.append(f"  {each.name:<12} {share}  ({name})")
    return out
