"""What a job may cost, before anything is sent: tokens times epochs times the price, or that the price is not known."""

from __future__ import annotations

from dataclasses import dataclass

from zhiling.errors import ProviderError, say
from zhiling.llm.price import Rate, training
from zhiling.tune.remote.base import Base
from zhiling.tune.remote.rows import File
from zhiling.tune.remote.settings import Settings


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of the training file, as expected and at most, its epochs (None: the provider chooses), and the price (None: not known)."""

    tokens: int
    most: int
    epochs: int | None
    rate: Rate | None

    @property
    def usd(self) -> float | None:
        """What the job is expected to cost; None where that cannot be known."""
        return self._usd(self.tokens)

    @property
    def usd_most(self) -> float | None:
        """A cautious estimate."""
        return self._usd(self.most)

    def _usd(self, tokens: int) -> float | None:
        if self.rate is None or self.epochs is None:
            return 0.0 if self.rate is not None and self.rate.usd == 0 else None
        return tokens * self.epochs * self.rate.usd / 1e6

    def words(self) -> str:
        """In a line."""
        times = (
            say("an unknown number of epochs", "轮数由提供方决定")
            if self.epochs is None
            else say(f"{self.epochs} epochs", f"{self.epochs} 轮")
        )
        size = say(f"about {self.tokens:,} tokens x {times}", f"约 {self.tokens:,} 词元 × {times}")
        if self.usd is None or self.usd_most is None:
            if self.rate is None:
                return size + say(": price unknown", "：价格未知")
            each = money(self.tokens * self.rate.usd / 1e6)
            return size + say(f": about {each} per epoch", f"：每轮约 {each}")
        read = f", {self.rate.date}" if self.rate and self.rate.date else ""
        about, most = money(self.usd), money(self.usd_most)
        return size + say(f": about {about}, at most {most}{read}", f"：约 {about}，最多 {most}{read}")


def money(usd: float) -> str:
    """Dollars, to the cent or, below a dime, to a hundredth of it."""
    return f"${usd:.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def estimate(file: File, epochs: int | str, identity: str, price: float | None) -> Estimate:
    """The estimate for a training file. `price` (dollars per million tokens) wins over the list that zhiling brings along."""
    rate = Rate(price, "settings") if price is not None else training(identity)
    return Estimate(file.tokens, file.most, epochs if isinstance(epochs, int) else None, rate)


def rate_of(base: Base, settings: Settings) -> Rate | None:
    """The price by what a recipe says, before anything is opened."""
    if settings.price is not None:
        return Rate(settings.price, "settings")
    return training(f"{base.model}@{settings.base_url}") if settings.base_url else None


def within(found: Estimate, budget: float | None, where: str) -> None:
    """Raise ProviderError(kind="budget") where the job may cost more than the budget, or nobody can tell."""
    if budget is None:
        return
    if found.usd_most is None:
        if found.rate is None:
            what = say("a budget, but the price is unknown", "设置了预算，但价格未知")
            mend = say("say price, in dollars per million trained tokens", "请设置 price（美元/百万训练词元）")
        else:
            what = say("a budget, but the provider chooses the epochs", "设置了预算，但轮数由提供方决定")
            mend = say("say how many epochs", "请设置 epochs")
        raise ProviderError(what, where=where, mend=mend, kind="budget")
    if found.usd_most > budget:
        most, about, held = money(found.usd_most), money(found.usd or 0.0), money(budget)
        raise ProviderError(
            say(
                f"the job may cost {most} (about {about}), the budget is {held}; nothing was sent",
                f"该任务最多可能花费 {most}（约 {about}），预算为 {held}；尚未发送任何内容",
            ),
            where=where,
            mend=say("raise budget, or take fewer rows or epochs", "请调高 budget，或减少数据行、轮数"),
            kind="budget",
        )
