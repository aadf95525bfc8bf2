"""How numbers are written on the page. None is a dash, never a zero."""

from __future__ import annotations

from zhiling.report.svg import short

DASH = "—"


def count(value: int | None) -> str:
    """A whole number with thousands separators."""
    return DASH if value is None else f"{value:,}"


def share(part: float | None, whole: float | None) -> str:
    """A part of a whole as a percentage with one decimal."""
    return DASH if part is None or not whole else f"{100 * part / whole:.1f}%"


def score(value: float | None) -> str:
    """A score with at most four significant digits."""
    return DASH if value is None else short(float(f"{value:.4g}"))


def metric(value: float | None) -> str:
    """A metric in [0, 1] as points, 0 to 100, one decimal."""
    return DASH if value is None else f"{100 * value:.1f}"


def gain(value: float | None) -> str:
    """A difference of metrics in points, with its sign."""
    return DASH if value is None else f"{100 * value:+.1f}".replace("-", "\u2212")


def chance(p: float | None) -> str:
    """A p-value, three decimals."""
    return DASH if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def loss(value: float | None) -> str:
    """A loss, three decimals."""
    return DASH if value is None else f"{value:.3f}"


def money(usd: float | None) -> str:
    """US dollars: cents where there are some, else as many digits as it takes to see the amount."""
    if usd is None:
        return DASH
    return f"${usd:,.2f}" if usd == 0 or usd >= 1 else f"${usd:.2g}" if usd >= 0.0001 else f"${usd:.1e}"
