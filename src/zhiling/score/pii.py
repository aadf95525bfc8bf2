"""Personal data in a row: identity numbers, phones, cards, mail addresses; by checksum wherever the number has one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date

from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.types import Example, Score

NAMES: dict[str, tuple[str, str]] = {
    "zh_id": ("Chinese identity number", "身份证号"),
    "zh_mobile": ("Chinese mobile number", "手机号"),
    "zh_phone": ("Chinese landline number", "固定电话"),
    "card": ("bank card number", "银行卡号"),
    "email": ("mail address", "电子邮箱"),
    "phone": ("phone number", "电话号码"),
    "ssn": ("US social security number", "美国社会安全号"),
}
_hints = re.compile(r"\d[\d \-]{6}|@|＠|[０-９]{6}|\(\d{3}\)")
_provinces = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[123]")
_weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_EDGE, _END = r"(?<![\dA-Za-z_.+=/-])(?<!\d )", r"(?![\dA-Za-z_=/]|[.-]\d)"
_id = re.compile(rf"{_EDGE}(\d{{6}})[ -]?(\d{{8}})[ -]?(\d{{3}}[\dXx]){_END}")
# Segments given to operators by the end of 2025; 1[0-2] and 140 to 144 are service or machine numbers.
_mobile = re.compile(
    rf"(?<![\dA-Za-z_.=/-])(?<!\d )(?:(?:\+|00)86[ -]?)?(1(?:3\d|4[5-9]|5[0-35-9]|6[25-7]|7[0-8]|8\d|9[0-35-9]))"
    rf"[ -]?(\d{{4}})[ -]?(\d{{4}}){_END}"
)
_landline = re.compile(
    rf"{_EDGE}(?:\+86[ -]?|\(|（)?0(?:10|2\d|[3-9]\d{{2}})(?:\)|）)?[ -]\d{{7,8}}(?:[ -转]\d{{1,5}})?{_END}"
)
_card = re.compile(
    rf"{_EDGE}(?:\d{{13,19}}|\d{{4}}(?:[ -]\d{{4}}){{2}}[ -]\d{{1,4}}(?:[ -]\d{{1,4}})?|\d{{4}}[ -]\d{{6}}[ -]\d{{5}}){_END}"
)
_issuers = re.compile(
    r"62\d{14,17}|4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d{2}|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|6(?:011|5\d{2})\d{12}"
)
_email = re.compile(r"(?<![\w.+-])([A-Za-z0-9][\w.+-]{0,63})@((?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24})(?![\w-])")
# Addresses that cannot be anybody's: RFC 2606 and what writers use in their place.
_nobody = re.compile(
    r"(?:^|\.)(?:example|test|invalid|localhost|domain|email|company|yourdomain|yourcompany|mail|website|abc|xyz)\.[a-z]+$|\.(?:test|example|invalid)$",
    re.IGNORECASE,
)
_phone = re.compile(
    rf"{_EDGE}(?:\+?1[ .-]?)?(?:\((\d{{3}})\) ?|(\d{{3}})[ .-])(\d{{3}})[ .-](\d{{4}}){_END}"
    rf"|(?<![\w+])\+(?!1\b|86)\d{{1,3}}(?:[ -]\d{{2,5}}){{2,4}}{_END}"
)
_ssn = re.compile(rf"{_EDGE}(\d{{3}})-(\d{{2}})-(\d{{4}}){_END}")
_FULL = {ord("０") + i: str(i) for i in range(10)} | {ord("＠"): "@", ord("－"): "-", ord("（"): "(", ord("）"): ")"}


@scorer("pii", low=0, high=1, better="low", langs=("zh", "en"))
def pii(examples: Sequence[Example]) -> Iterator[Score]:
    """1 where a row holds personal data, else 0; `why` names the kinds and the fields, never the data themselves.

    Kinds: Chinese identity numbers (region, date and checksum of GB 11643 hold), Chinese mobile and landline numbers, bank cards (issuer's
    prefix and length, Luhn's checksum), mail addresses outside the domains reserved for examples, North American and international
    phone numbers (555-01xx is fiction), US social security numbers in their written form.
    """
    for row in examples:
        found = {
            f"{kind} ({field})": None
            for field, passage in (("instruction", row.instruction), ("input", row.input), ("output", row.output))
            for kind, _ in find(passage)
        }
        yield Score(row.id, "pii", float(bool(found)), "; ".join(_said(name) for name in found))


def _said(name: str) -> str:
    kind, _, field = name.partition(" ")
    return f"{kind}: {say(*NAMES[kind])} {field}"


def find(passage: str) -> list[tuple[str, tuple[int, int]]]:
    """The personal data in a text: (kind, (start, end)) in the text's order, no two overlapping; offsets are those of the text."""
    if not _hints.search(passage):
        return []
    plain = passage if passage.isascii() else passage.translate(_FULL)
    taken: list[tuple[str, tuple[int, int]]] = []
    for kind, pattern, holds in _KINDS:
        for match in pattern.finditer(plain):
            span = match.span()
            if holds(match) and not any(span[0] < end and start < span[1] for _, (start, end) in taken):
                taken.append((kind, span))
    return sorted(taken, key=lambda item: item[1])


def _valid_id(match: re.Match[str]) -> bool:
    region, born, rest = match.groups()
    if not _provinces.match(region):
        return False
    try:
        when = date(int(born[:4]), int(born[4:6]), int(born[6:]))
    except ValueError:
        return False
    if not 1850 <= when.year <= 2100:
        return False
    digits = region + born + rest
    total = sum(int(digit) * weight for digit, weight in zip(digits[:17], _weights, strict=True))
    return "10X98765432"[total % 11] == digits[17].upper()


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _valid_card(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match.group())
    return _issuers.fullmatch(digits) is not None and luhn(digits) and len(set(digits)) > 2


def _somebody(match: re.Match[str]) -> bool:
    return _nobody.search(match.group(2)) is None


def _in_service(match: re.Match[str]) -> bool:
    """Not a number kept for fiction: 555-01xx, or an area or exchange that begins with 0 or 1."""
    if match.group(3) is None:
        return True
    area, exchange, line = match.group(1) or match.group(2), match.group(3), match.group(4)
    return area[0] not in "01" and exchange[0] not in "01" and not (exchange == "555" and line.startswith("01"))


def _issued(match: re.Match[str]) -> bool:
    """Not one of the areas, groups and serials that were never given out, nor a famous specimen."""
    area, group, serial = match.groups()
    never = area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000"
    return not never and match.group() not in ("078-05-1120", "219-09-9999", "123-45-6789")


def _not_repeated(match: re.Match[str]) -> bool:
    return len(set(re.sub(r"\D", "", match.group())[-8:])) > 1


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], bool]], ...] = (
    ("email", _email, _somebody),
    ("zh_id", _id, _valid_id),
    ("card", _card, _valid_card),
    ("ssn", _ssn, _issued),
    ("zh_mobile", _mobile, _not_repeated),
    ("zh_phone", _landline, _not_repeated),
    ("phone", _phone, _in_service),
)
