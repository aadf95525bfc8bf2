"""Which rows a probe tunes on and asks about: selected and random ones of equal tokens, and evaluation rows that neither holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhiling.embed import Use
from zhiling.errors import DataError, say
from zhiling.pool import Pool
from zhiling.proof import prove
from zhiling.stages import GUARDS
from zhiling.store import Done, Output, read
from zhiling.tables import tables
from zhiling.types import Example, row_seed

AT_ONCE = 512  # rows read at a time while an arm is filled
LEAST = 250  # tokens from which on tuning on them means something
LONG = 512  # tokens that a row may have at most: a probe is to be short
CLOSE = 0.99  # share of the tokens from which on an arm is full
Mask = NDArray[np.bool_]


@dataclass(slots=True)
class Arms:
    """What a probe works on: `asked` rows, and the rows of each arm by seed with their `tokens`.

    `source` tells where the asked rows are from: "heldout" (the run's own, whose tasks state a metric), "against" (evaluation files) or
    "pool" (set aside). `pool` and `kept` count what was drawn from; `leaks` are drawn rows put back since they show an asked row.
    """

    asked: list[Example]
    source: str
    selected: list[list[Example]]
    random: list[list[Example]]
    tokens: dict[str, list[int]]
    pool: int
    kept: int
    leaks: set[str] = field(default_factory=set)

    def of(self, arm: str) -> list[list[Example]]:
        """An arm's rows by seed."""
        return self.selected if arm == "selected" else self.random


class Rows:
    """The length of rows in a model's own tokens."""

    def __init__(self, tokenizer: Any, context: int) -> None:
        from zhiling.tune.render import prepare

        self.tokenizer, self.limit = prepare(tokenizer), min(context, LONG)

    def size(self, row: Example) -> int | None:
        """Tokens of prompt and answer; None for a row that cannot be tuned on (no answer, too long, control tokens)."""
        from zhiling.tune.render import LeftOut, render

        try:
            return len(render(row, self.tokenizer, limit=self.limit).ids)
        except LeftOut:
            return None


def draw(folder: Path, done: Sequence[Done], chosen: Done, rows: Rows, tokens: int, asked: int, seeds: int) -> Arms:
    """The rows of a probe; they depend on the run and the numbers alone.

    The random rows come from the pool before selection, kept ones among them, but none that shows an evaluation row. Raises DataError
    where selection kept everything or too little.
    """
    pool = Pool(folder, [output for entry in done for output in entry.of("examples")])
    kept = _mask(pool, folder, chosen.of("kept"), "id")
    clean = ~_leaking(pool, folder, chosen)
    if bool(kept[clean].all()):
        mend = say("select more strictly, or nothing is to be found out", "请筛得更严，否则没有可比的")
        raise DataError(say("selection kept every row", "筛选保留了全部数据"), where=str(folder), mend=mend)
    held = [row for row in read(folder, [o for entry in done for o in entry.of("heldout")]) if rows.size(row)]
    if held:
        names = sorted({row.task for row in held})
        few = prove.choose(held, max(1, asked // len(names)))
        questions = [
            row for name in names for row in _short((r for r in few if r.task == name), rows, 2 * tokens // len(names))
        ]
        source = "against" if any(entry.stage == "heldout/against" for entry in done) else "heldout"
    else:
        questions, source = _aside(pool, clean, rows, asked, tokens), "pool"
    arms = Arms(questions, source, [], [], {"selected": [], "random": []}, int(clean.sum()), int(kept.sum()))
    taken = {row.id for row in questions}
    for seed in range(seeds):
        mine, size = _fill(pool, kept & clean, rows, tokens, row_seed(seed, "selected"), arms, taken)
        if size < LEAST:
            what = say(f"the kept rows have only {size} tokens to tune on", f"保留的数据只有 {size} 个可供调优的词元")
            mend = say("a probe needs some hundred; select less strictly", "探测需要数百个词元；请放宽筛选")
            raise DataError(what, where=str(folder), mend=mend)
        others, other = _fill(pool, clean, rows, size, row_seed(seed, "random"), arms, taken)
        arms.selected.append(mine)
        arms.random.append(others)
        arms.tokens["selected"].append(size)
        arms.tokens["random"].append(other)
    return arms


def _mask(pool: Pool, folder: Path, outputs: Sequence[Output], column: str) -> Mask:
    """Which of all rows are named in a column of these files."""
    mask = np.zeros(len(pool.all), dtype=bool)
    for table in tables(folder, outputs, [column]):
        mask[np.searchsorted(pool.all, table[column].to_numpy().astype("S20"))] = True
    return mask


def _leaking(pool: Pool, folder: Path, chosen: Done) -> Mask:
    """The rows that a guard dropped."""
    import pyarrow.compute as pc

    mask = np.zeros(len(pool.all), dtype=bool)
    for table in tables(folder, chosen.of("verdicts"), ["example", "selector", "kept"]):
        gone = pc.and_(pc.is_in(table["selector"], value_set=_guards()), pc.invert(table["kept"]))
        ids = table.filter(gone)["example"].to_numpy().astype("S20")
        mask[np.searchsorted(pool.all, ids)] = True
    return mask


def _guards() -> Any:
    import pyarrow as pa

    return pa.array(GUARDS)


def _in_order(pool: Pool, mask: Mask, seed: int) -> Iterator[list[Example]]:
    """The rows of a mask in a seeded order, some hundred at a time."""
    some = pool.those(mask)
    drawn = np.fromiter((row_seed(seed, row) for row in some.ids), dtype=np.int64, count=len(some))
    order = np.argsort(drawn, kind="stable")
    for start in range(0, len(order), AT_ONCE):
        part = order[start : start + AT_ONCE]
        wanted = np.zeros(len(some), dtype=bool)
        wanted[part] = True
        found = {row.id: row for row in some.those(wanted)}
        ids = some.all[some.at[part]].astype("U20").tolist()
        yield [found[row] for row in ids]


def _short(given: Iterable[Example], rows: Rows, tokens: int) -> Iterator[Example]:
    """The rows up to the first that no longer fits into the tokens: what is asked costs time as what is tuned on does."""
    for row in given:
        tokens -= rows.size(row) or 0
        if tokens < 0:
            return
        yield row


def _aside(pool: Pool, clean: Mask, rows: Rows, count: int, tokens: int) -> list[Example]:
    """Evaluation rows from the pool: drawn by lot, so as good or bad as it is; at most a tenth of it."""
    most = min(count, int(clean.sum()) // 10)
    drawn = (row for part in _in_order(pool, clean, row_seed(0, "aside")) for row in part)
    able = islice((row for row in drawn if rows.size(row) is not None), most)
    found = list(_short(able, rows, tokens))
    if most < 10 or len(found) < 10:
        what = say("too few rows to set some aside", "数据太少，无法留出评测数据")
        raise DataError(what, mend=say("a probe needs some hundred rows", "探测需要数百行数据"))
    return sorted(found, key=lambda row: row.id)


def _fill(
    pool: Pool, mask: Mask, rows: Rows, tokens: int, seed: int, arms: Arms, taken: set[str]
) -> tuple[list[Example], int]:
    """Rows of the mask in a seeded order until they have the tokens; one that no longer fits is passed over."""
    filled: list[Example] = []
    total = 0
    for part in _in_order(pool, mask, seed):
        new = [row for row in part if row.id not in taken]
        if arms.source == "pool":  # else the run's own guards have looked already
            leaks = _leaks(new, arms.asked)
            arms.leaks |= leaks
            new = [row for row in new if row.id not in leaks]
        for row in new:
            size = rows.size(row)
            if size is not None and total + size <= tokens:
                filled.append(row)
                total += size
        if total >= CLOSE * tokens:
            break
    return filled, total


def _leaks(rows: list[Example], asked: Sequence[Example]) -> set[str]:
    """Ids of the rows that show one of the asked ones, copied, reworded or translated."""
    from zhiling.select.decontaminate import decontaminate
    from zhiling.select.heldout import heldout

    verdicts = (*heldout(rows, heldout=asked), *decontaminate(rows, heldout=asked, embedder=Use(), here=Path()))
    return {verdict.example for verdict in verdicts if not verdict.kept}
