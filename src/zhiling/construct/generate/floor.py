"""Asking in waves: a fixed order whatever order replies come in, no more candidates than agreed, and an early stop when little is usable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from zhiling.errors import ProviderError, say
from zhiling.text import cut
from zhiling.types import Example, Reject

if TYPE_CHECKING:
    from zhiling.llm import Model

Made: TypeAlias = Example | Reject
FIRST = 16
"""Candidates from which on a share is believed."""
GROWN = 16
"""How many times the first wave a later one may be."""
FIRST_BATCH, BATCH = 48, 512
"""Records that are tried before the rest are asked for, and how many of these at once."""
Item = TypeVar("Item")


async def in_waves(
    work: Callable[[range], Awaitable[Sequence[Made]]],
    *,
    rows: int,
    tries: float,
    wave: int,
    floor: float,
    model: Model,
    step: str,
) -> list[Made]:
    """`work` on candidates 0, 1, 2, ... in waves, until `rows` Examples came of them or `tries` x `rows` candidates were asked for.

    The first wave has `wave` candidates, each further one twice as many, up to GROWN times as many; none asks for more candidates than
    rows are wanted still, so that no row is paid for and thrown away. Raises ProviderError when the share of usable candidates falls below
    `floor` while there is more to ask, or when none at all was usable.
    """
    out: list[Made] = []
    asked, got, most, most_at_once = 0, 0, max(1, round(rows * tries)), GROWN * wave
    while got < rows and asked < most:
        size = min(wave, rows - got, most - asked)
        out += await work(range(asked, asked + size))
        asked += size
        wave = min(2 * wave, most_at_once)
        got = sum(isinstance(item, Example) for item in out)
        if not got or (got < rows and asked < most):
            stop_below(out, floor, model, step)
    return out


async def over_records(
    work: Callable[[Sequence[Item]], Awaitable[Sequence[Made]]],
    items: Sequence[Item],
    *,
    floor: float,
    model: Model,
    step: str,
) -> list[Made]:
    """`work` on a small first batch of what records bring, then on large ones. Raises ProviderError as `in_waves` does."""
    out: list[Made] = []
    start = 0
    while start < len(items):
        size = BATCH if start else FIRST_BATCH
        out += await work(items[start : start + size])
        start += size
        if start < len(items) or not any(isinstance(item, Example) for item in out):
            stop_below(out, floor, model, step)
    return out


def stop_below(made: Sequence[Made], floor: float, model: Model, step: str) -> None:
    """Raise ProviderError, naming the commonest reasons, when too few of the candidates so far are usable to go on paying for more."""
    got = sum(isinstance(item, Example) for item in made)
    if len(made) < FIRST or got >= floor * len(made) or unasked(model):
        return
    rejects = [item for item in made if isinstance(item, Reject)]
    counted = Counter(code(item) for item in rejects).most_common(3)
    first = {name: next(item.why for item in rejects if code(item) == name) for name, _ in counted}
    reasons = "; ".join(f"{count}x {cut(first[name], 90)}" for name, count in counted)
    raise ProviderError(
        say(
            f"only {got} of the first {len(made)} candidates of {model.label} are usable (floor {floor:g}): {reasons}",
            f"{model.label} 的前 {len(made)} 个候选中只有 {got} 个可用（下限 {floor:g}）：{reasons}",
        ),
        where=step,
        mend=say(
            "nothing more was asked, and every reply is in the cache; take a more able model, mend the prompts "
            "(zhiling show --prompts), or set `floor: 0` to go on and see each reject",
            "已停止提问，已有回复均在缓存中；请换更强的模型、修改提示词（zhiling show --prompts），或设 floor: 0 继续并查看每个被拒的候选",
        ),
        kind="refused",
    )  # fmt: skip


def unasked(model: Model) -> bool:
    """Whether the model is a plan's stand-in, whose replies mean nothing."""
    from zhiling.llm.dry import Dry

    return isinstance(model.provider, Dry)


def code(reject: Reject) -> str:
    """The name of the check that refused a row: what its reason begins with."""
    return re.split("[:：]", reject.why, maxsplit=1)[0]
