"""Whether a poem has the form that was asked for: lines and their length in Chinese verse, syllables and lines in English."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from zhiling.errors import say
from zhiling.registry import verifier
from zhiling.text import HAN, lang
from zhiling.types import Example, Score

# name: what a question calls it, lines, and characters (zh) or syllables (en) of each line; () for any, one number for all alike.
FORMS: dict[str, tuple[str, int, tuple[int, ...]]] = {
    "五言绝句": (r"五言绝句|五绝|five-character quatrain", 4, (5,)),
    "七言绝句": (r"七言绝句|七绝|seven-character quatrain", 4, (7,)),
    "五言律诗": (r"五言律诗|五律", 8, (5,)),
    "七言律诗": (r"七言律诗|七律", 8, (7,)),
    "五言": (r"五言诗|五言", 0, (5,)),
    "七言": (r"七言诗|七言", 0, (7,)),
    "对联": (r"对联|春联|对子|上联.{0,8}下联", 2, ()),
    "俳句": (r"俳句|\bhaikus?\b", 3, (5, 7, 5)),
    "tanka": (r"\btankas?\b|短歌(?!行)", 5, (5, 7, 5, 7, 7)),
    "sonnet": (r"\bsonnets?\b|十四行诗", 14, ()),
    "limerick": (r"\blimericks?\b|五行打油诗", 5, ()),
    "quatrain": (r"\bquatrains?\b|四行诗", 4, ()),
    "couplet": (r"\bcouplets?\b", 2, ()),
}
_word = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_title = re.compile(
    r"^\s*(?:#+\s|《[^》]*》|[*_]{1,2}[^*_]+[*_]{1,2}\s*$|(?:title|题目|标题|诗题|作者|author)\s*[:：])", re.IGNORECASE
)
_side = re.compile(r"^\s*(?:上联|下联|横批|first line|second line)\s*[:：]\s*", re.IGNORECASE)
_stop = re.compile(r"[，。！？；、,.!?;：:\n]+")
_han = re.compile(f"[{HAN}]")


@verifier("verse", families=("poetry",), langs=("zh", "en"), paper="forms of classical Chinese and English verse")
def verse(examples: Sequence[Example], *, form: str = "") -> Iterator[Score]:
    """The poem has the lines, and each the characters or syllables, of its form: named by `form`, else by the row's instruction.

    Known: 五言/七言 绝句 and 律诗, 五言, 七言, 对联 (both halves alike), haiku/俳句, tanka, sonnet, limerick, quatrain, couplet.
    A title ("《...》", "Title: ...") is not counted. English syllables are counted by rules, with a least and a most: 0.0 where the
    form lies outside, None where it lies inside but the rules' best guess differs. Rhyme and tone are not looked at. None where no form is
    known.
    """
    for row in examples:
        name = form or form_of(row.prompt)
        if name not in FORMS:
            yield Score(row.id, "verse", None, say("no form that is known is asked for", "没有要求已知的诗体"))
            continue
        value, why = _judged(row.output, name)
        yield Score(row.id, "verse", value, f"{name}: {why}")


def form_of(text: str) -> str:
    """The form that a text asks for; "" where it asks for none that is known."""
    found = [
        (match.start(), name) for name, (words, *_) in FORMS.items() if (match := re.search(words, text, re.IGNORECASE))
    ]
    found.sort(key=lambda pair: pair[0])
    return found[0][1] if found else ""


def _judged(text: str, form: str) -> tuple[float | None, str]:
    _, count, sizes = FORMS[form]
    chinese = lang(text) == "zh"
    lines = zh_lines(text) if chinese else en_lines(text)
    if count and len(lines) != count:
        return 0.0, say(f"{len(lines)} lines, it has {count}", f"有 {len(lines)} 句，应为 {count} 句")
    if not lines:
        return 0.0, say("there are no lines", "没有诗句")
    wanted = sizes if len(sizes) == len(lines) else sizes * len(lines) if len(sizes) == 1 else ()
    if form == "对联" and chinese:
        wanted = (len(_han.findall(lines[0])),) * 2
    if not wanted:
        return 1.0, say(f"{len(lines)} lines", f"{len(lines)} 句")
    return _sizes(lines, wanted, chinese)


def _sizes(lines: Sequence[str], wanted: Sequence[int], chinese: bool) -> tuple[float | None, str]:
    doubt = ""
    for at, (line, size) in enumerate(zip(lines, wanted, strict=True), 1):
        least, best, most = (len(_han.findall(line)),) * 3 if chinese else syllables(line)
        count = str(best) if least == most else f"{least}-{most}"
        if not least <= size <= most:
            return 0.0, say(
                f"line {at} has {count}, not {size}", f"第 {at} 句为 {count}，应为 {size}"
            ) + f": {line.strip()}"
        if best != size and not doubt:
            doubt = say(f"cannot tell: line {at} has {count} syllables", f"无法判定：第 {at} 行有 {count} 个音节")
    return (
        (None, doubt)
        if doubt
        else (1.0, "-".join(map(str, wanted)) if len(wanted) < 6 else f"{len(lines)} x {wanted[0]}")
    )


def zh_lines(text: str) -> list[str]:
    """The lines of a Chinese poem: what stands between its stops, without title and what is no Chinese."""
    said = [line for line in text.splitlines() if not _title.match(line) and not line.strip().startswith("横批")]
    return [part for part in _stop.split("\n".join(_side.sub("", line) for line in said)) if _han.search(part)]


def en_lines(text: str) -> list[str]:
    """The lines of an English poem, without its title; haiku written in one line with slashes are split."""
    body = [line for line in text.splitlines() if line.strip() and not _title.match(line)]
    if len(body) == 1 and body[0].count("/") >= 1:
        body = body[0].split("/")
    return [_side.sub("", line) for line in body if _word.search(line)]


_ONE = "the once ones eye eyes are were have some come done gone one there where here"
_TWO = "every evening poem poems quiet being seeing people science create lion giant riot silence chaos"
_THREE = "different area idea diary violet violin"
_ODD = {word: count for count, words in enumerate((_ONE, _TWO, _THREE), 1) for word in words.split()}
_doubt = {  # endings and pairs that speakers or rules differ on: how many fewer, how many more
    r"(?:[aeo]wer|our|[^q]uire|ire|eyre)s?$": (0, 1),
    r"[iu]a|i[ou](?!s\b)|eo|ua|[^g]ue[lt]": (0, 1),
    r"(?:every|ever|ener|oner|eral|eren|uall|ared)": (1, 0),
    r"[^aeiouylr][lr]ed$|[^aeiou]les?$|eous$|ious$|(?<![td])ed$|ier|iet": (0, 1),
}


def syllables(line: str) -> tuple[int, int, int]:
    """Least, most likely and most syllables of an English line, by rules of spelling."""
    counts = [_syllables(word.lower().replace("’", "'")) for word in _word.findall(line)]
    least, best, most = (sum(part) for part in zip(*counts, strict=True)) if counts else (0, 0, 0)
    return least, best, most


def _syllables(word: str) -> tuple[int, int, int]:
    word = re.sub(r"'(?:s|re|ve|ll|d|m|t)$", "", word)
    if word in _ODD:
        return (_ODD[word],) * 3
    count = len(re.findall(r"[aeiouy]+", word))
    if re.search(r"[^aeiouy]e$", word) and not re.search(r"[^aeiou]le$", word) and count > 1:
        count -= 1
    if re.search(r"(?<![td])ed$", word) and count > 1 and not re.search(r"[^aeiouy][lr]ed$", word):
        count -= 1
    if re.search(r"[^aeiouscxzg]es$", word) and count > 1 and not re.search(r"[^aeiou]les$|sh?es$|ches$", word):
        count -= 1
    count += re.search(r"(?:sm|thm)s?$", word) is not None
    best = max(count, 1)
    fewer = more = 0
    for pattern, (down, up) in _doubt.items():
        if re.search(pattern, word):
            fewer, more = max(fewer, down), max(more, up)
    return max(best - fewer, 1), best, best + more
