"""What a passage offers by itself: the question that it already has, definitions, and pieces of running text to ask about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from zhiling import text
from zhiling.construct.documents import evidence
from zhiling.construct.documents.wording import passage_of
from zhiling.types import Record, Task

Way: TypeAlias = Literal["own", "rules", "model"]
LEAST, SHORT, PIECE = 8, 20, 60
"""Tokens that a passage must have to be asked about; below which a paragraph is taken with the next; most that a small model is shown."""

_code = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_table = re.compile(r"^\|.*\|\s*$", re.MULTILINE)
_link = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
_mark = re.compile(r"^\s*(?:>[> ]*)?(?:(?:[-*+]|\d+[.)])\s+)?|\*\*|`", re.MULTILINE)
_is = re.compile(r"^((?:(?:An?|The) )?[A-Z][\w.+#/-]*(?: [\w.+#/-]+){0,4}?) (is|are) (?:an? |the |one )(?!same\b)")
_is_zh = re.compile(
    r"^([^，。：:、；\s我你他她它这那本该其此][^，。：:、；]{1,18}?)(?:是(?:一[种个款套类项]|指|由|用于|用来)|(?:指的是|是指|即为|称为))"
)


_aside = re.compile(r"(?:本身|本质上|实际上|其实|主要|通常|只|就)+$| itself$")
_no_thing = re.compile(
    r"(?:This|That|It|There|These|Those|Here|If|In|For|When|Note|Notice|Each|One|Since|As|Because|Another|What|Which|Who|How|Why|But|And|So"
    r"|The (?:last|first|next|following|other|only|same|result|reason|problem))\b"
    r"|如果|无论|不管|因为|由于|但|所以|只要|有|.*的$|已经|目前|通常|问题|原因|\W*$"
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A question about a record's passage, its answer, and where in the passage the evidence stands. `way` says who asked."""

    record: Record
    question: str
    answer: str
    span: evidence.Span
    way: Way
    reply: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids that it came from."""
        return (self.record.id, self.reply) if self.reply else (self.record.id,)


def plain(said: str) -> str:
    """Running text of a passage: without code, tables, list marks, link targets and emphasis."""
    said = _mark.sub("", _link.sub(r"\1", _table.sub("", _code.sub("", said))))
    return re.sub(r"\n{2,}", "\n", said).strip()


def own(record: Record, task: Task) -> Iterator[Pair]:
    """The pair that the document has itself, word for word."""
    question, answer = record.fields.get("question", "").strip(), record.fields.get("answer", "").strip()
    passage = passage_of(record, task)
    span = evidence.locate(passage, answer) if question and answer else None
    if span:
        yield Pair(record, question, answer, span, "own")


def rules(record: Record, task: Task) -> Iterator[Pair]:
    """Definitions: the sentence that says what something is, asked for by the thing's name."""
    passage = passage_of(record, task)
    for sentence in text.sentences(plain(passage)):
        zh = text.lang(sentence) == "zh"
        found = (_is_zh if zh else _is).match(sentence)
        if not found or not 6 <= text.length(sentence) <= 120 or sentence[-1] not in ".。!！":
            continue
        thing = _aside.sub("", found[1].strip().strip("“”\"'「」")).strip()
        span = evidence.locate(passage, sentence)
        if not span or _no_thing.match(thing) or thing.isdigit():
            continue
        if not zh and thing.startswith(("The ", "A ", "An ")):
            thing = thing[0].lower() + thing[1:]
        space = " " if thing[-1].isascii() else ""
        yield Pair(record, f"{thing}{space}是什么？" if zh else f"What {found[2]} {thing}?", sentence, span, "rules")


def pieces(passage: str, count: int) -> list[str]:
    """Up to `count` runs of whole sentences, evenly over the passage: what a small model is asked about.

    A run ends with its paragraph, unless that is shorter than SHORT tokens, and before it comes to more than PIECE tokens.
    """
    runs, held, size = list[str](), list[str](), 0
    joint = "" if text.lang(plain(passage)) == "zh" else " "
    for paragraph in re.split(r"\n\s*\n", _code.sub("\n\n", passage)):
        if size >= SHORT:
            runs.append(joint.join(held))
            held, size = [], 0
        for sentence in text.sentences(plain(paragraph)):
            tokens = text.length(sentence)
            if held and size + tokens > PIECE:
                runs.append(joint.join(held))
                held, size = [], 0
            held.append(sentence)
            size += tokens
    runs.append(joint.join(held))
    whole = [run for run in runs if text.length(run) >= LEAST]
    step = max(1.0, len(whole) / count)
    return [whole[int(at * step)] for at in range(min(count, len(whole)))]


def span_of(passage: str, piece: str) -> evidence.Span | None:
    """Where a piece of a passage's running text stands in it, whatever code, link targets and tables lie in between."""
    if whole := evidence.locate(passage, piece):
        return whole
    ends = text.sentences(piece)
    first, last = (evidence.locate(passage, one) for one in (ends[0], ends[-1])) if ends else (None, None)
    return evidence.Span(first.start, last.end, 1.0) if first and last and first.start < last.end else None
