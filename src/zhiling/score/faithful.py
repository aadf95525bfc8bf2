"""Is the answer supported by what the row brings: its numbers, names and content words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from zhiling import text
from zhiling.errors import say
from zhiling.numerals import SIGNS, han_value
from zhiling.registry import scorer
from zhiling.score.signals import content
from zhiling.types import Example, Score

MOST = 20_000  # characters of a side that are looked at
GIVEN = 20  # tokens of input from which on it is a source
WEIGHTS = {"numbers": 2.0, "names": 2.0, "words": 1.0}  # what is invented weighs more than what is reworded

# Tasks whose answer is to be taken from the input.
_from_source = re.compile(
    r"\b(?:summar\w+|abstract|extract|key ?points?|takeaways?|main (?:idea|points?|argument|topic)|headline|tl;?dr|condense|shorten"
    r"|paraphrase|rephrase|simplify"
    r"|according to|based on|from the (?:text|passage|article|paragraph|context|document|report|table|data)|using the (?:text|passage"
    r"|article|context|information)"
    r"|(?:given|following|above|this|reference) (?:the )?(?:text|passage|article|paragraph|context|document|information)"
    r"|answer the (?:following )?questions?|find (?:the|all)|identify the|list (?:the|all)|who|when|where|how many)\b"
    r"|总结|概括|摘要|提取|抽取|要点|主旨|大意|标题|缩写|简化|改写|转述|根据|依据|按照|从.{0,6}(?:文|段|材料|资料|信息)|阅读|找出"
    r"|列出.{0,8}中|回答.{0,4}问题",
    re.IGNORECASE,
)
# Tasks that ask for more than is given, or for it in another form.
_beyond = re.compile(
    r"\b(?:translat\w+|creat\w+|invent\w*|imagin\w*|story|poem|continu\w+|expand|elaborat\w*|extend|suggest\w*|recommend\w*|brainstorm"
    r"|generate (?:new|a (?:story|poem))|write (?:a|an) (?:story|poem|response|reply|essay|review|ad)"
    r"|opinion|predict\w*|explain|why|convert|code|program|function|calculat\w*|comput\w*|solve|classif\w*|categori\w*|sentiment"
    r"|synonyms?|antonyms?|similar|compar\w*|more|new|alternative|improve|example|questions? (?:about|for|based)|quiz)\b"
    r"|翻译|创作|编写|想象|续写|扩写|扩展|建议|推荐|预测|为什么|解释|代码|程序|计算|求解|分类|情感|同义|反义|比较|评价|评论|更多|新的"
    r"|改进|举例|出题|故事|诗",
    re.IGNORECASE,
)
_number = re.compile(r"\d+(?:[.,]\d+)*")
_name = re.compile(r"(?<![.!?:\"“(\n-] )(?<![.!?:\"“(\n])(?<!^)\b([A-Z][a-z]{2,}|[A-Z]{2,})\b")
_quoted = re.compile(r"《([^》\n]{1,30})》|“([^”\n]{1,20})”")
_latin = re.compile(r"[A-Za-z][A-Za-z0-9.+-]{2,}")
_digits = {
    word: str(at)
    for at, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"])
}  # fmt: skip
_han = re.compile(f"[{SIGNS}]+")
_item = re.compile(r"^\s*\d{1,2}[.)、]\s*", re.MULTILINE)


@scorer(
    "faithful",
    low=0,
    high=1,
    better="high",
    langs=("zh", "en"),
    tier="rules",
    paper="Maynez et al. 2020",
)
def faithful(examples: Sequence[Example]) -> Iterator[Score]:
    """Share of the answer's numbers, names and content words that its input or instruction holds; numbers and names weigh double.

    0 to 1, high is meant; `why` names what is not found. None where the task does not call for it: no input of 20 tokens, a task
    that asks for more than is given or for another form (translation, stories, code, labels), or an answer in another language.
    """
    for row in examples:
        value, why = _supported(row)
        yield Score(row.id, "faithful", value, why)


def _supported(row: Example) -> tuple[float | None, str]:
    given = row.input[:MOST]
    if text.length(given) < GIVEN:
        return None, say("no input to be faithful to", "没有可供对照的输入")
    if not _from_source.search(row.instruction) or _beyond.search(row.instruction):
        return None, say("the task does not ask for what the input says", "任务并不要求以输入为准")
    said = _item.sub("", row.output[:MOST])
    if text.lang(said) != text.lang(given):
        return None, say("answer and input are in different languages", "答案与输入语言不同")
    source = f"{row.instruction[:MOST]}\n{given}"
    parts = {
        "numbers": _missing_numbers(said, source),
        "names": _missing_names(said, source),
        "words": _missing_words(said, source),
    }
    known = {name: (missing, total) for name, (missing, total) in parts.items() if total}
    if not known:
        return None, say("the answer has neither numbers, names nor content words", "答案中没有数字、名称或实词")
    weight = sum(WEIGHTS[name] for name in known)
    value = sum(WEIGHTS[name] * (1 - len(missing) / total) for name, (missing, total) in known.items()) / weight
    told = "; ".join(
        f"{name}: {', '.join(text.cut(item, 20) for item in missing[:5])}"
        for name, (missing, _) in known.items()
        if missing
    )
    return round(value, 4), say(f"not in the input: {told}", f"输入中没有：{told}") if told else ""


def _missing_numbers(said: str, source: str) -> tuple[list[str], int]:
    """Numbers of the answer that the source does not hold, in digits or (up to twelve) in words."""
    plain = text.normalise(source)
    have = {_figure(found) for found in _number.findall(plain)}
    have |= {_digits[word] for word in text.tokens(source) if word in _digits}
    have |= {str(han_value(part)) for run in _han.findall(plain) for part in (run, *run)}
    asked = {_figure(found) for found in _number.findall(text.normalise(said))}
    return sorted(asked - have), len(asked)


def _figure(found: str) -> str:
    return found.replace(",", "").rstrip(".")


def _missing_names(said: str, source: str) -> tuple[list[str], int]:
    """Capitalised words inside English sentences; quoted titles and Latin words in Chinese ones."""
    if text.lang(said) == "zh":
        asked = {next(filter(None, found)) for found in _quoted.findall(said)} | set(_latin.findall(said))
    else:
        asked = set(_name.findall(said))
    plain = source.lower()
    return sorted(name for name in asked if name.lower() not in plain), len(asked)


def _missing_words(said: str, source: str) -> tuple[list[str], int]:
    asked = content(said)
    return sorted(asked - content(source)), len(asked)
