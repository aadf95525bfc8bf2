"""Numbers written in Chinese characters: the one reader of them."""

from __future__ import annotations

SIGNS = "零〇一二两三四五六七八九十百千万亿"
"""The characters of such numbers."""
_digit = {sign: at for at, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_unit = {"十": 10, "百": 100, "千": 1000}
_scale = {**_unit, "万": 10_000, "亿": 100_000_000}


def han_value(run: str) -> int:
    """The value of a run of SIGNS: 十一 11, 二百零五 205, 三亿五千万 350000000, 二〇二四 2024.

    A last digit behind hundreds or more without 零 counts the next lower unit, as it is said: 二百五 250, 三万五 35000.
    """
    if all(sign in _digit for sign in run):
        return int("".join(str(_digit[sign]) for sign in run) or "0")
    if len(run) > 1 and run[-1] in _digit and _scale.get(run[-2], 0) >= 100:
        return han_value(run[:-1]) + _digit[run[-1]] * _scale[run[-2]] // 10
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


def number(said: str) -> int | None:
    """The value of a number in figures or in SIGNS; None of anything else."""
    if said.isdecimal():
        return int(said)
    return han_value(said) if said and all(sign in SIGNS for sign in said) else None
