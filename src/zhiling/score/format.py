"""Rows that are broken whatever they are about: empty, cut off, run together, garbled. One code per kind of defect."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from zhiling import text
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.machine import leaked, repetition, restated
from zhiling.score.sieve import FAR, Sieve, whole
from zhiling.text import HAN, blank, cut
from zhiling.types import Example, Score

MOST = 8000  # characters at an output's end whose sentences are counted
END = 400  # characters at the end of an output that tell whether it was cut off

_marker = re.compile(r"<\s*\\?/?\s*no\s?(?:in|out)put[es]?\b|&lt;\s*(?:noinput|nooutput|无输入|无输出)", re.IGNORECASE)
_nothing_to_say = re.compile(r"\W*(?:none|null|nil|无|暂无|不适用)\W*", re.IGNORECASE)  # these may answer a question
_question = re.compile(
    r"[?？]|^\s*(?:what|which|who|how|are|is|does|do|has|have)\b|什么|哪|谁|多少|几|吗|是否", re.IGNORECASE
)
_label = r"(instruction|input|output|response|指令|输入|输出|回答)"
_numbered = re.compile(rf"^[^\S\n]*\W{{0,6}}(\d+)\s*[.)、]\s*{_label}\s*[:：]", re.IGNORECASE | re.MULTILINE)
_speaks_of_labels = re.compile(
    r"instructions?\b|指令|\binputs?\b|输入|prompts?\b|dialog|对话|conversation", re.IGNORECASE
)
_names_of_labels = (
    "user", "human", "question", "\nq", "用户", "问", "人类", "instruction", "input", "output", "response", "指令", "输入", "输出", "回答",
)  # fmt: skip
_hashed = re.compile(r"^#{2,4}\s*(?:instruction|response|指令|回答)\s*[:：]", re.IGNORECASE | re.MULTILINE)
_labels = re.compile(rf"^\W{{0,3}}{_label}\s*[:：]", re.IGNORECASE | re.MULTILINE)
_turns = re.compile(
    r"\n\s*(?:human|user|question|q|用户|问题|问|人类)\s*[:：][^\n]+\n+\s*(?:assistant|ai|answer|response|a|bot|助手|回答|答案|答)\s*[:：]",
    re.IGNORECASE,
)
_dialogue = re.compile(
    r"question|answer|quiz|jokes?|flash ?card|one-liner|q ?& ?a|faq|interview|dialog|conversation|chat|test|exam|riddle|script|问|答"
    r"|测验|对话|访谈|面试|采访|考试"
    r"|谜|试题|剧本|聊天|练习|笑话|卡片",
    re.IGNORECASE,
)
_control = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_mojibake = re.compile(
    "\ufffd|â€[™œ\x9d\x9c\x99“”˜¦]|Ã[©¨¤¶¼±³¡\xad]|Â[\xa0»«°]|ï¼[Œ\x8cš\x9aŸ\x9f‰ˆ]|ã€[‚\x82\x81]"
    "|锟斤拷|烫烫烫|屯屯屯|(?:[äåæçèé][\x80-\xbf–—˜™š›œžŸ¡-¿]{2}){2}|(?:Ð[\x80-\xbf°-¿]){3}"
)
_entity = re.compile(r"&(?:lt|gt|quot|amp|apos|nbsp|#39|#34|#x27);")
_markup = re.compile(
    r"html|xml|xhtml|svg|escap|entit|encod|web ?page|website|jsx|react|url|实体|转义|网页|编码", re.IGNORECASE
)
_code = re.compile(
    r"```|^\s*(?:def|class|import|from|for|if|while|return|#include|SELECT|public|function|var|let|const)\b|[;{}]\s*$"
    r"|\w\(.*\)\s*:?\s*$|[=|+*/\\<>]",
    re.MULTILINE | re.IGNORECASE,
)
_dangling = frozenset({
    "the", "a", "an", "of", "and", "or", "to", "that", "which", "is", "are", "was", "were", "from", "as", "into", "his", "her", "its",
    "our", "your", "their", "because", "if", "when", "than", "will", "can", "should", "would", "by", "but", "has", "have", "been",
    "such",
})  # fmt: skip
_han = re.compile(f"[{HAN}]")
_zh_dangling = re.compile(
    rf"(?<=[{HAN}，、；])(?:以及|或者|并且|而且|因为|但是|如果|例如|比如|包括|通过|对于|关于|使得|从而|的一个|等方面的)$"
)
_stop = re.compile(r"[.!?…](?=[\s\"”’)])|[。！？…](?!$)")
_item = re.compile(r"\s*(?:[-*•#>|–—]|\d{1,3}[.)、:]|[A-Za-z][.):]|[（(]?[一二三四五六七八九十\d]{1,2}[)）、])")
_signs = re.compile(r"[#@=|→\"“”‘《》–—\[\]<>/\\_*]|--|\.\.\.|https?:| by | BY |：|:")
_UNENDED = frozenset(",，、(（-")  # beside letters and digits, what may end a line that was cut off
_ENDS = tuple(".!?…。！？;；:：\"”’'」』)）")
_fenced = re.compile(r"^\s*```.*?^\s*```\s*$", re.DOTALL | re.MULTILINE)
_head = re.compile(r"[^:：.。]{1,40}[:：]")
_address = re.compile(r"https?:|www\.|\S@\S|#\w|^\s*(?:by|source|author|作者|来源|出处)\b", re.IGNORECASE)
_formula = re.compile(r"[=|+<>\\{}]|\w\(.*\)\s*:?\s*$")
_short_form = re.compile(r"\b(?:tweets?|hashtags?|slogans?|headlines?|captions?)\b|标语|口号|标题", re.IGNORECASE)
_verse_alone = re.compile(
    r"\b(?:tweets?|hashtags?|slogans?|headlines?|poems?|songs?|lyrics?|haikus?|verses?|raps?|rhym\w+|odes?|sonnets?|limericks?)\b|诗|歌曲|歌词|儿歌|标语|口号",
    re.IGNORECASE,
)
_wants_json = re.compile(
    r"\b(?:in|to|as|into|valid|create|generate|output|return|write|construct|build|produce) (?:an? |the )?(?:valid )?json\b"
    r"|json ?(?:格式|对象|字符串|数组|形式)",
    re.IGNORECASE,
)
_verse = re.compile(
    r"\b(?:tweet|hashtags?|slogan|headline|poem|song|lyrics?|haiku|verse|rap|rhyme|ode|sonnet|limerick|list|words?|sort|reverse"
    r"|tags?)\b|诗|歌|词|排序|列表|列出|分类",
    re.IGNORECASE,
)


@scorer("format", low=0, high=1, better="high", langs=("zh", "en"))
def format(examples: Sequence[Example]) -> Iterator[Score]:
    """1 where the row is whole, 0 where it has structural defects; `why` begins with their codes.

    Codes: empty_instruction, empty_output, fake_input ("<noinput>", "N/A"), fake_output, merged (several rows run together),
    truncated, code_fence (unclosed), json (asked for, and broken), mojibake, entities (unescaped HTML), control (characters),
    repetition (a loop), leaked (a chat format's tokens, a prompt's preamble, or the instruction itself). Other defects have scorers of
    their own: `echo`, `refusal`, `language`, `placeholder`, and `asks` for a missing input, a picture or an address that is needed.
    """
    for row, marked in _marks.sift(examples, whole):
        checks = CHECKS if marked else UNMARKED
        found = {code: what for code, check in checks.items() if (what := check(row))}
        why = f"{', '.join(found)}: {'; '.join(found.values())}" if found else ""
        yield Score(row.id, "format", float(not found), why)


def _fields(row: Example) -> Iterator[str]:
    yield from (row.instruction, row.input, row.output)


def _empty_instruction(row: Example) -> str:
    return say("the instruction is empty", "指令为空") if blank(row.instruction) else ""


def _empty_output(row: Example) -> str:
    return "" if row.output and not row.output.isspace() else say("the output is empty", "输出为空")


def _fake_input(row: Example) -> str:
    if not row.input.strip():
        return ""
    if blank(row.input):
        return cut(row.input, 40)
    return _marked(row.input) or _marked(row.instruction)


def _fake_output(row: Example) -> str:
    if (
        blank(row.output)
        and row.output.strip()
        and not (_nothing_to_say.fullmatch(row.output) and _question.search(row.instruction))
        and not _asked_for(row.output.strip(" .。"), row.instruction)
    ):
        return cut(row.output, 40)
    return _marked(row.output)


def _asked_for(answer: str, instruction: str) -> bool:
    """Whether the instruction itself says to answer so: 没有则写“无”, write "none" if there is none, answer N/A."""
    said = re.escape(answer)
    return bool(answer) and bool(
        re.search(
            rf"[“\"'「‘]{said}[”\"'」’]|(?:写|填|答|\b(?:write|answer|say|put|return|reply)\s){said}(?!\w)",
            instruction,
            re.I,
        )
    )


def _marked(passage: str) -> str:
    """The first "<noinput>" or "<nooutput>" in the text."""
    found = _marker.search(passage) if "<" in passage or "&lt" in passage else None
    return cut(passage[found.start() : found.start() + 200], 40) if found else ""


def _merged(row: Example) -> str:
    """A data set's own labels inside the output: "6. Instruction: ... 6. Output:", "### Response:", "指令：... 输出：..."."""
    if ":" not in row.output and "：" not in row.output:  # which end every label
        return ""
    said = row.output.lower()
    if not any(name in said for name in _names_of_labels) or _numbered.search(row.prompt) or _hashed.search(row.prompt):
        return ""
    numbered: dict[str, set[str]] = defaultdict(set)
    for found in _numbered.finditer(row.output):
        numbered[found.group(1)].add(found.group(2).lower())
    for number, labels in numbered.items():
        if len(labels) > 1:
            return f"{number}. {', '.join(sorted(labels))}"
    if _speaks_of_labels.search(row.instruction):
        return ""
    if (turn := _turns.search(row.output)) and not _dialogue.search(row.prompt):
        return cut(turn.group(), 40)
    if hashed := _hashed.search(row.output):
        return hashed.group()
    labels = {found.group(1).lower() for found in _labels.finditer(row.output)}.union(*numbered.values())
    return ", ".join(sorted(labels)) if len(labels) > 1 and labels & {"instruction", "指令"} else ""


def _truncated(row: Example) -> str:
    """Prose that stops in the middle of a sentence."""
    last = row.output.rstrip()[-1:]
    if not last.isalnum() and last not in _UNENDED:
        return ""
    line = row.output[-END:].rstrip().rsplit("\n", 1)[-1]
    words = line.split()
    han = len(line) >= 12 and bool(
        _zh_dangling.search(line[-8:]) or (line.endswith(("，", "、", "（")) and _han.search(line))
    )
    latin = len(words) >= 6 and (words[-1].lower() in _dangling or line.endswith((",", "(", " -")))
    if latin and any("," in word for word in words[-4:-1]):  # the end of an enumeration
        latin = False
    weak = (han or latin or _unended(row.output)) and not _code.search(line) and not _verse.search(row.instruction)
    return "…" + line[-30:] if weak or _breaks_off(row.output, row.instruction) else ""


def _unended(output: str) -> bool:
    """Prose of four sentences and more, each with its end mark, but for the last, which stops without one in the middle of a line."""
    said = output.rstrip()
    if len(said) < (60 if said.isascii() else 40) or (not said[-1].isalpha() and said[-1] not in ",，、"):
        return False
    stops = list(_stop.finditer(said[-MOST:]))
    line = said.rsplit("\n", 1)[-1]
    if text.length(line) < 12:  # who signs a letter, the last answer of a quiz
        return False
    rest = line[-(len(said[-MOST:]) - stops[-1].end()) :] if stops else line
    if len(stops) < 3 or _item.match(line) or _signs.search(rest) or any(rest.count(mark) > 3 for mark in ",，、"):
        return False
    return _is_prose(rest)


def _breaks_off(output: str, instruction: str) -> bool:
    """The last line has no end mark where the text shows that its lines have them: sentences before in this line, or lines of its kind.

    Lines of one kind are the paragraphs, or the items of a list with one sort of marker. So a list without full stops is whole, and one
    whose last item alone lacks it is not. Three end marks are asked for, two in a list.
    """
    said = output.rstrip()[-MOST:]
    if len(said) < 40 or not (said[-1].isalnum() or said[-1] in ",，、"):
        return False
    lines = [line for part in _fenced.sub("\n", said).split("\n") if (line := part.strip())]
    last = lines[-1] if lines else ""
    kind = _kind(last)
    body = _head.sub("", _item.sub("", last, count=1), count=1) if kind else last
    stops = [found for found in _stop.finditer(body) if not body[: found.start()][-1:].isdigit()]
    rest = body[stops[-1].end() :] if stops else body
    if text.length(last) < 8 or _address.search(rest) or _formula.search(rest) or not _is_prose(rest):
        return False
    if ":" in rest.replace("：", ":") and any(mark in rest for mark in ",，、"):  # an enumeration, or a caption
        return False
    kin = [line for line in lines[:-1] if _kind(line) == kind and text.length(line) >= 6]
    ended = sum(line.endswith(_ENDS) for line in kin)
    whole = sum(line.endswith(_ENDS) + len(_stop.findall(line)) for line in lines[:-1]) + len(stops)
    if len(stops) >= 3 or (stops and not kind and whole >= 4 and text.length(rest) >= 5):
        return not _short_form.search(instruction)
    return ended == len(kin) and ended + len(stops) >= (2 if kind else 3) and not _verse_alone.search(instruction)


def _kind(line: str) -> str:
    """The sort of a list's marker, "" for a paragraph."""
    found = _item.match(line)
    marker = found.group().strip() if found else ""
    return "1" if marker[:1].isdigit() else marker[-1:]


def _is_prose(rest: str) -> bool:
    """Words enough, and no name or title."""
    if not rest.isascii() and len(_han.findall(rest)) >= 4:
        return True
    words = rest.split()
    return len(words) >= 2 and rest[-1] not in "*_" and sum(word[:1].isupper() for word in words) <= 0.5 * len(words)


def _code_fence(row: Example) -> str:
    fences = sum(line.lstrip().startswith("```") for line in row.output.splitlines()) if "```" in row.output else 0
    return say("a ``` is not closed", "``` 没有闭合") if fences % 2 else ""


def _json(row: Example) -> str:
    """Only an output that is JSON from its first to its last character, for a row that asks for JSON, is held to it."""
    body = row.output.strip()
    if body.startswith("```") and (fenced := re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?```", body, re.DOTALL)):
        body = fenced.group(1).strip()
    if body[:1] not in ("{", "[") or not _wants_json.search(row.instruction):
        return ""
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        return cut(str(error), 60)
    return ""


def _mojibake_(row: Example) -> str:
    doubtful = (field for field in _fields(row) if not field.isascii())
    return next((cut(found.group(), 20) for field in doubtful if (found := _mojibake.search(field))), "")


def _entities(row: Example) -> str:
    if not any("&" in field for field in _fields(row)) or _markup.search(row.instruction):
        return ""
    return next(
        (found.group() for field in _fields(row) if (found := _entity.search(field)) and not re.search(r"</\w", field)),
        "",
    )


def _control_(row: Example) -> str:
    return next((f"U+{ord(found.group()):04X}" for field in _fields(row) if (found := _control.search(field))), "")


CHECKS: dict[str, Callable[[Example], str]] = {
    "empty_instruction": _empty_instruction,
    "empty_output": _empty_output,
    "fake_input": _fake_input,
    "fake_output": _fake_output,
    "merged": _merged,
    "truncated": _truncated,
    "code_fence": _code_fence,
    "json": _json,
    "mojibake": _mojibake_,
    "entities": _entities,
    "control": _control_,
    "repetition": repetition,
    "leaked": leaked,
}

# A row shows the MARKED defects only where it has a mark of one; the other checks are cheap.
_ws = rf"(?:\s|{FAR})*"
_ascii_marks = (
    r"```|\bjson|&(?:lt|gt|quot|amp|apos|nbsp|#39|#34|#x27);|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|<\||<(?:start|end)_of_turn|\[/?INST|</?SYS|</?s>"
    r"|\[/?[gs]MASK|below is an|write a response|a chat between|you are (?:an? )?(?:helpful|friendly|honest|expert|ai|large language)"
    r"|your task is"
)
_marks = Sieve(
    rf"{_ascii_marks}|(?:instruction|input|output|response|human|user|question|\n\s*q)\s*:",
    rf"{_ascii_marks}|(?:instruction|input|output|response|human|user|question|\n{_ws}q|指令|输入|输出|回答|用户|问题?|人类){_ws}[:：]|json"
    r"|[\x{7f}-\x{9f}\x{fffd}-\x{ffff}â锟烫屯]|Ã[©¨¤¶¼±³¡\x{ad}]|Â[\x{a0}»«°]|ï¼|ã€|Ð[\x{80}-\x{bf}°]|[äåæçèé][\x{80}-\x{bf}–—˜™š›œžŸ¡-¿]"
    r"|<｜|任务的指令|请(?:写出|给出|编写)(?:一个)?(?:适当|恰当)|你是一[个名]",
)
MARKED = frozenset({"merged", "code_fence", "json", "mojibake", "entities", "control"})
UNMARKED = {code: restated if code == "leaked" else check for code, check in CHECKS.items() if code not in MARKED}
