"""Numbers written in Chinese characters."""

from __future__ import annotations

SIGNS = "零〇一二两三四五六七八九十百千万亿"
"""The characters of such numbers."""
_digit = {sign: at for at, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_unit = {"十": 10, "百": 100, "千": 1000}


def han_value(run: str) -> int:
    """The value of a run of SIGNS: 十一 11, 二百零五 205, 三亿五千万 350000000, 二〇二四 2024."""
    if all(sign in _digit for sign in run):
        return int("".join(str(_digit[sign]) for sign in run))
    total = part = digit = 0
    for sign in run:
        if sign in _digit:
            digit = _digit[sign]
        elif sign in _unit:
            part += (digit or 1) * _unit[sign]
            digit = 0
        elif sign == "万":
            total, part, digit = total + (part + digit or 1) * 10_000, 0, 0
        else:
            total, part, digit = (total + part + digit or 1) * 100_000_000, 0, 0
    return total + part + digit
