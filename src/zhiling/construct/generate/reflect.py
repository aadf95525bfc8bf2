"""Bettering an instruction: from rows that went wrong under it (ProTeGi), and from how earlier ones fared (OPRO). For contests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zhiling.construct.generate.asking import book
from zhiling.construct.generate.instructions import LARGE_TOKENS, asking
from zhiling.text import cut
from zhiling.types import Request, row_seed

Mistake = tuple[str, str, str]
"""(input, right answer, answer given; "" where only its likelihood is known)."""


def betterments(
    instruction: str, mistakes: Sequence[Mistake], tried: Sequence[tuple[str, float]], *, lang: str, count: int,
    seed: int, chat: bool, style: str, temperature: float, max_tokens: int = 64,
) -> list[tuple[str, Request]]:  # fmt: skip
    """`count` requests for a better instruction, (prompt id, Request): by reflection on three of the mistakes, and, from two
    instructions `tried` on, by improvement of these; `tried` are (instruction, score in [0, 100])."""
    code = "zh" if lang == "zh" else "en"
    shipped = book("induce")
    usable = [p for p in shipped.prompts if p.lang == code and p.style in ("any", style)]
    usable = [p for p in usable if (mistakes if p.id == "reflect" else len(tried) > 1)]
    mark = shipped.words("marks", code)
    ranked = sorted(tried, key=lambda pair: (pair[1], pair[0]))
    said = "\n".join(f"{mark['tried']}{cut(one, 300)}\n{mark['score']}{score:.0f}" for one, score in ranked)
    out = []
    for draw in range(count if usable else 0):
        prompt = usable[draw % len(usable)]
        start = 3 * (draw // len(usable)) % max(1, len(mistakes))
        shown = [*mistakes[start:], *mistakes[:start]][:3]
        values = {
            "instruction": cut(instruction, 400),
            "mistakes": "\n".join(_mistake(mark, one) for one in shown),
            "tried": said,
        }
        most = max(max_tokens, LARGE_TOKENS) if style == "large" else max_tokens
        chance = row_seed(seed, f"{prompt.id}:{instruction}:{draw}")
        how: dict[str, Any] = {"chat": chat, "max_tokens": most, "temperature": temperature, "draw": draw}
        out.append((prompt.id, asking(prompt.filled(values), seed=chance, **how)))
    return out


def _mistake(mark: dict[str, str], one: Mistake) -> str:
    source, right, said = one
    lines = [f"{mark['input']}{cut(source, 200)}", f"{mark['right']}{cut(right, 120)}"]
    return "\n".join([*lines, f"{mark['said']}{cut(said, 120)}"] if said.strip() else lines)
