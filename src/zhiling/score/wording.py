"""Is the instruction well put? What a careful editor would mend, weighed by what editors did mend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from zhiling import text
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.grammar import grammar
from zhiling.score.quality_model import Signal, load
from zhiling.types import Example, Score

MOST = 1500  # characters of a field that are looked at

_marker = re.compile(r"<\s*no\s?(?:in|out)put|<(?:无输入|无输出)>", re.IGNORECASE)
_tail = re.compile(r"[:：]\s*(\S.*)$", re.DOTALL)
_ended = re.compile(r"[.!?:。！？：；…][\"'”’」）)]*$")
_labelled = re.compile(r"[^\n]\n[^\n]")
_stiff = re.compile(
    r"\bgenerate\b|\byou (?:need|have|must|are|will)\b|\b(?:insert|construct|output|utili[sz]e)\b|^(?:given|choose|design)\b"
    r"|生成|^(?:你|您)(?:需要|必须|将)|构建|构造|^给定|插入",
    re.IGNORECASE,
)
_personal = re.compile(r"\b(?:me|my|i)\b|[?？]|我|吗$", re.IGNORECASE)
_vague = re.compile(
    r"\b(?:a certain|certain|something|some kind|various|different|a new|a task)\b|某种|某个|某些|各种|一些东西",
    re.IGNORECASE,
)
_little = re.compile(r"\b(?:a|an|the|of)\b|[的个]", re.IGNORECASE)
_curly = re.compile("[“”‘’]")


@dataclass(frozen=True)
class Asked:
    """What is asked: the instruction, the input, and the mistakes per sentence that `grammar` finds in it."""

    instruction: str
    given: str
    slips: float

    @cached_property
    def empty(self) -> bool:
        return text.blank(self.given)


def fake(row: Asked) -> float:
    """1 where the input is "noinput", "N/A" or the like, or such a marker stands in the instruction. Low is meant."""
    return float((bool(row.given) and row.empty) or bool(_marker.search(row.instruction)))


def inline(row: Asked) -> float:
    """1 where what is to be worked on follows a colon inside the instruction. Low is meant."""
    found = _tail.search(row.instruction)
    return float(found is not None and text.length(found.group(1)) >= 2)


def breaks(row: Asked) -> float:
    """1 where the instruction runs over several lines. Low is meant."""
    return float("\n" in row.instruction)


def slips(row: Asked) -> float:
    """Weighted mistakes per sentence in the instruction, as `grammar` counts them. 0 to 1, low is meant."""
    return row.slips


def unended(row: Asked) -> float:
    """1 where the instruction ends without a mark. Low is meant."""
    return float(not _ended.search(row.instruction))


def ended(row: Asked) -> float:
    """1 where there is an input that ends with a mark. High is meant."""
    return float(not row.empty and bool(_ended.search(row.given)))


def packed(row: Asked) -> float:
    """1 where the input's parts stand on lines without a free line between them. Low is meant."""
    return float(not row.empty and bool(_labelled.search(row.given)) and "\n\n" not in row.given)


def stiff(row: Asked) -> float:
    """1 for the turns that machines are fond of and people are not ("Generate", "You need to", 生成). Low is meant."""
    return float(bool(_stiff.search(row.instruction)))


def personal(row: Asked) -> float:
    """1 where somebody asks: "me", "my", a question mark, 我. High is meant."""
    return float(bool(_personal.search(row.instruction)))


def vague(row: Asked) -> float:
    """1 for words that leave open what is meant ("a certain", "various", 某种). Low is meant."""
    return float(bool(_vague.search(row.instruction)))


def wordy(row: Asked) -> float:
    """Share of the instruction's tokens that are articles and "of", or 的 and 个. 0 to 1, low is meant."""
    return len(_little.findall(row.instruction)) / max(3, text.length(row.instruction))


def quotes(row: Asked) -> float:
    """1 where an English instruction has typographic quotes, which a model's prompt seldom has. Low is meant."""
    return float(bool(_curly.search(row.instruction)) and text.lang(row.instruction) != "zh")


SIGNALS: Mapping[str, Signal] = {
    "fake": Signal(fake, -1, "假输入"),
    "inline": Signal(inline, -1, "内容混入指令"),
    "breaks": Signal(breaks, -1, "指令断行"),
    "slips": Signal(slips, -1, "指令语病"),
    "unended": Signal(unended, -1, "缺少句末标点"),
    "ended": Signal(ended, 1, "输入完整"),
    "packed": Signal(packed, -1, "输入拥挤"),
    "stiff": Signal(stiff, -1, "生硬"),
    "personal": Signal(personal, 1, "口吻自然"),
    "vague": Signal(vague, -1, "含糊"),
    "wordy": Signal(wordy, -1, "虚词多"),
    "quotes": Signal(quotes, -1, "弯引号"),
}


@scorer(
    "wording", low=0, high=1, better="high", langs=("zh", "en"), paper="Bradley & Terry 1952; Liu et al. 2024 (CoachLM)"
)
def wording(examples: Sequence[Example]) -> Iterator[Score]:
    """How likely an editor would prefer this instruction and input to a middling row's: a logistic model over signals, shown in `why`.

    0.5 is a middling row of the same language. The answer is not looked at. `why` gives each signal's contribution in log-odds,
    largest first. None for an empty instruction, code, and what is neither Chinese nor English.
    """
    model = load("wording")
    for row, (asked, lang, why) in zip(examples, views(examples), strict=True):
        if asked is None:
            yield Score(row.id, "wording", None, why)
        else:
            yield Score(row.id, "wording", *model.judge({k: s.of(asked) for k, s in SIGNALS.items()}, lang, SIGNALS))


def views(examples: Sequence[Example]) -> Iterator[tuple[Asked | None, str, str]]:
    """Of each row what is asked and in which language; None and why not where the wording cannot be judged."""
    for row, graded in zip(examples, grammar(examples), strict=True):
        spoken = text.lang(row.instruction[:MOST])
        if text.blank(row.instruction):
            yield None, "", say("the instruction is empty", "指令为空")
        elif graded.value is None or spoken not in ("zh", "latin"):
            yield None, "", graded.why or say("no words", "没有文字")
        else:
            asked = Asked(row.instruction.strip()[:MOST], row.input.strip()[:MOST], 1 - graded.value)
            yield asked, "zh" if spoken == "zh" else "en", ""
