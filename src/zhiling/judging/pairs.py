"""Pairs of a better and a worse answer put before a judge: how often it agrees, abstains, and prefers a place to an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

from zhiling import steps
from zhiling.data.files import Row
from zhiling.data.formats import FORMATS
from zhiling.data.samples import Unsayable
from zhiling.data.sets import Writer, example_of, form_of, raw
from zhiling.errors import DataError, say
from zhiling.types import Example, Score

BATCH = 128  # pairs under way at once
Watch = Callable[[Mapping[str, Any]], None]


class Share(NamedTuple):
    """A share and its interval, all from 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(slots=True)
class Judged:
    """What came of it. Of `pairs`, each asked in both orders: `agreed` and `disagreed` with the preference given, `ties`; abstained where the
    orders `contradicted` each other or a reply was `unreadable`. `rows` that are no pair are `unusable`; `first` and `second` count which
    place the readable replies named."""

    rows: int = 0
    unusable: int = 0
    pairs: int = 0
    agreed: int = 0
    disagreed: int = 0
    ties: int = 0
    contradicted: int = 0
    unreadable: int = 0
    first: int = 0
    second: int = 0
    usd: float | None = None
    calls: int = 0

    def told(self) -> dict[str, Any]:
        """Plain values, with the shares and their 95% intervals (Wilson 1927); None where there is nothing to take a share of."""
        decided = self.agreed + self.disagreed
        shares = {
            "agreement": wilson(self.agreed, decided),
            "abstention": wilson(self.contradicted + self.unreadable, self.pairs),
            "first_place": wilson(self.first, self.first + self.second),
        }
        return {**asdict(self), **{name: None if one is None else one._asdict() for name, one in shares.items()}}


def judge_pairs(
    files: Sequence[Path],
    out: Path,
    folder: Path,
    model: Mapping[str, Any],
    *,
    form: str = "",
    watch: Watch | None = None,
) -> Judged:
    """Ask the model which answer of each pair is better; `out` gets the rows with `zhiling_prefer` and the judge's words, `zhiling_why`.

    Files hold preferences (dpo: a prompt with `chosen` and `rejected`). 1: the chosen answer is better in both orders, 0 the rejected one, 0.5
    neither, None: the judge contradicted itself or could not be read. Replies are cached in `folder`, so that a killed call asks nothing
    twice. Raises DataError for files without pairs, ProviderError when the model can answer no more.
    """
    for path in files:
        if form_of(path, form) != "dpo":
            mend = say("rows need a prompt, 'chosen' and 'rejected'", "数据行需要提问、chosen 与 rejected")
            raise DataError(say("no preference data", "不是偏好数据"), where=str(path), mend=mend)
    folder.mkdir(parents=True, exist_ok=True)
    return steps.wait(_judged(files, out, folder, model, watch or (lambda event: None)))


async def _judged(files: Sequence[Path], out: Path, folder: Path, spec: Mapping[str, Any], watch: Watch) -> Judged:
    from zhiling.llm import open_model
    from zhiling.score.judge import duels

    found = Judged()
    async with open_model(spec, cache=folder / "replies.sqlite", where="--model") as model:
        with Writer(out) as file:
            stream = _read(files)
            while part := list(islice(stream, BATCH)):
                pairs = [(pair[0], pair[1]) for _, pair in part if not isinstance(pair, str)]
                said = iter(await duels([row for row, _ in pairs], [rival for _, rival in pairs], model=model))
                for row, pair in part:
                    found.rows += 1
                    if isinstance(pair, str):
                        found.unusable += 1
                        file.write({**row, "zhiling_prefer": None, "zhiling_why": pair})
                        continue
                    duel = next(said)
                    _count(found, duel.score, duel.first, duel.second)
                    file.write({**row, "zhiling_prefer": duel.score.value, "zhiling_why": duel.score.why})
                watch({"stage": "score/prefer", "done": found.rows, "rows": found.rows})
        found.usd, found.calls = model.spent.usd, model.spent.calls
    if not found.pairs:
        raise DataError(say("no row holds a pair of answers", "没有一行含有成对的回答"), where=str(files[0]))
    return found


def _read(files: Sequence[Path]) -> Iterator[tuple[Mapping[str, Any], tuple[Example, str] | str]]:
    """Each row as it stands, and its chosen answer as an Example with the rejected one, or why it is no pair."""
    for path in files:
        for line, row in raw(path):
            yield {} if isinstance(row, str) else row, _pair((line, row), path)


def _pair(given: Row, path: Path) -> tuple[Example, str] | str:
    line, row = given
    if isinstance(row, str):
        return row
    try:
        sample = FORMATS["dpo"].read(row)
    except Unsayable as why:
        return str(why)
    example = example_of(sample, "pairs", f"{path.name}:{line}")
    if not example.prompt.strip() or not example.output.strip() or not (sample.rejected or "").strip():
        return say("the prompt or an answer is empty", "提问或某个回答为空")
    return example, str(sample.rejected)


def _count(found: Judged, score: Score, first: str, second: str) -> None:
    found.pairs += 1
    for place in (first, second):
        found.first += place == "A"
        found.second += place == "B"
    if score.value is None:
        found.unreadable += not (first and second)
        found.contradicted += bool(first and second)
    else:
        found.agreed += score.value == 1
        found.disagreed += score.value == 0
        found.ties += score.value == 0.5


def wilson(hits: int, of: int, confidence: float = 0.95) -> Share | None:
    """A share with its interval (Wilson 1927); None of nothing."""
    if not of:
        return None
    z, p = NormalDist().inv_cdf(0.5 + confidence / 2), hits / of
    middle, reach = p + z * z / (2 * of), z * (p * (1 - p) / of + z * z / (4 * of * of)) ** 0.5
    scale = 1 + z * z / of
    return Share(
        round(p, 4), round(max(0.0, (middle - reach) / scale), 4), round(min(1.0, (middle + reach) / scale), 4)
    )


def lines(found: Judged, out: Path) -> list[str]:
    """The judgement as text."""
    told = found.told()

    def share(name: str) -> str:
        one = told[name]
        return "-" if one is None else f"{one['value']:.1%} [{one['low']:.1%}, {one['high']:.1%}]"

    return [
        say(
            f"{found.pairs} pairs judged in both orders ({found.unusable} rows are no pair): {out}",
            f"已按两种顺序评审 {found.pairs} 对（{found.unusable} 行不成对）：{out}",
        ),
        say(
            f"agreement   {share('agreement')}  the chosen answer preferred, of {found.agreed + found.disagreed} decided; {found.ties} ties",
            f"一致率  {share('agreement')}  在作出判断的 {found.agreed + found.disagreed} 对中偏向 chosen；{found.ties} 对不相上下",
        ),
        say(
            f"abstention  {share('abstention')}  orders that contradict each other {found.contradicted}, unreadable replies {found.unreadable}",
            f"弃权率  {share('abstention')}  两种顺序相矛盾 {found.contradicted}，回复无法识别 {found.unreadable}",
        ),
        say(
            f"first place {share('first_place')}  of the replies that named one; without bias 50%",
            f"首位率  {share('first_place')}  在点名的回复中选择排在前面的回答；无偏差时为 50%",
        ),
    ]
