"""Adapting a retrieved instruction to a task by rule, and checking that it then speaks of that task and of nothing else.

What is replaced: languages by the task's (`翻译成西班牙语` for a French task becomes 法语), the list of answers by the task's labels,
slots by the task's fields or by nothing where the input follows anyway. What cannot be replaced must not remain: a foreign language,
a foreign proper name, a number or a quoted answer the task knows nothing of, an open slot, an answer from the task's demos.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zhiling.construct.bank import Row
from zhiling.construct.bind import default_slots, label_words
from zhiling.construct.languages import Mention, code, language, mentions
from zhiling.construct.retrieve_answers import choice_span, listed, other_answers
from zhiling.construct.sandbox import literal
from zhiling.errors import say
from zhiling.text import cut, length
from zhiling.types import Task

MAX_LENGTH = 1000
"""Longest instruction that is worth adapting, in characters."""
TRANSLATING = frozenset({"translation", "subtitles"})

# Slot names, in either language, by the field that they stand for; the first is the customary field name.
_FIELDS: tuple[tuple[str, ...], ...] = (
    ("target_lang", "target_language", "目标语言", "语言"),
    ("source_lang", "source_language", "源语言", "原文语言"),
    ("text", "sentence", "source", "subtitle", "document", "input", "problem", "premise", "context", "passage", "code"),
    ("text", "句子", "文本", "原文", "文章", "内容", "字幕", "评论", "段落", "输入"),
    ("question", "问题", "提问"),
    ("topic", "主题", "题目", "话题", "subject", "thing", "事物"),
    ("facts", "points", "要点", "素材"),
    ("persona", "role", "character", "角色", "人物"),
    ("schema", "fields", "字段", "表结构"),
    ("problem", "requirement", "request", "expression", "quantity", "要求", "需求", "算式", "数量", "target", "目标"),
    ("opening", "开头"),
    ("form", "诗体", "体裁"),
)  # fmt: skip
_LABELS = frozenset({"labels", "categories", "choices", "options", "类别", "标签", "选项", "栏目"})
_CONTENT = frozenset(name for group in _FIELDS[2:4] for name in group)

_slot = re.compile(r"\{\{?\s*([^{}]{1,40}?)\s*\}?\}")
_trailing_slot = re.compile(r"\s*[：:]\s*[“\"'《]?\{\{?\s*([^{}]{1,40}?)\s*\}?\}[”\"'》]?\s*[。.？?]?\s*$")
_target_before = {
    "zh": re.compile(r"(?:译成|译为|译作|翻成|写成|改成|变成|换成|用|对应的)[^，。；：]{0,8}$"),
    "en": re.compile(r"\b(?:into|to|in)\s+(?:[a-z]+\s+){0,2}$"),
}
_target_after = {
    "zh": re.compile(r"[^，。；：]{0,2}(?:译文|译本|版本|该?怎么(?:表达|说|讲|写))"),
    "en": re.compile(r"\s+(?:translation|version|rendering|equivalent)\b"),
}
_number = re.compile(
    r"\d+|[两二三四五六七八九十百千]+(?=[\u4e00-\u9fff])|\b(?:two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|forty|fifty|hundred)\b",
    re.I,
)
_quoted = re.compile(r"[“「《\"]([^”」》\"]{1,30})[”」》\"]")
_proper = re.compile(r"(?<![.!?:：。！？]\s)(?<!^)(?<![A-Za-z])[A-Z][A-Za-z]+")
_open_list = re.compile(r"(?:[：:]|归入|归为|归到|划分为|\b(?:into|as|under|from|among|of))\s*$")
_mark = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True, slots=True)
class Adapted:
    """A retrieved instruction made the task's own, as Jinja, with the input and output that go with it.

    `rest` is what it still says in the source's words, `reply` the key of the model's reply that it comes from.
    """

    instruction: str
    input: str
    output: str
    rest: str
    reply: str = ""


class _Draft:
    """An instruction being adapted: its text, with marks where Jinja will stand, so that nothing replaced is replaced again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts: list[str] = []

    def hold(self, jinja: str) -> str:
        self.parts.append(jinja)
        return f"\ue000{len(self.parts) - 1}\ue001"

    def plain(self) -> str:
        """The text without what the task put in: what is left of the source."""
        return _mark.sub(" ", self.text)

    def jinja(self) -> str:
        return "".join(
            self.parts[int(part)] if i % 2 else literal(part) for i, part in enumerate(_mark.split(self.text))
        )


def adapt(row: Row, task: Task, lang: str) -> Adapted | str:
    """The row's instruction for the task, or why it cannot serve, in words."""
    if len(row.instruction) > MAX_LENGTH:
        return _too_long()
    draft = _Draft(row.instruction.strip().translate({0xE000: None, 0xE001: None}))
    source, output = default_slots(task, lang)
    for step in (_labels, _languages):
        why = step(draft, row, task, lang)
        if why:
            return why
    filled, why = _slots(draft, task, lang)
    why = why or _leak(draft, task, lang) or _foreign(draft, task) or _longer(row, task)
    if why:
        return why
    whole = bool(filled) and filled >= set(_own_inputs(task))
    return Adapted(draft.jinja(), "" if whole else source, output, draft.plain())


def as_is(row: Row, task: Task, lang: str) -> Adapted | str:
    """The row's instruction unchanged, or why it cannot serve so: a slot is open, or its language or answers are not the task's."""
    said = row.instruction.strip()
    if len(said) > MAX_LENGTH:
        return _too_long()
    slot = _slot.search(said)
    if slot:
        return say(f"its slot {slot[0]} is open", f"占位符 {slot[0]} 未填")
    draft = _Draft(said.translate({0xE000: None, 0xE001: None}))
    why = other_answers(said, row.output.strip(), task, lang) or _languages(draft, row, task, lang)
    if why:
        return why
    if draft.parts:
        meant = {mention.code for mention in mentions(_mark.sub(lambda mark: draft.parts[int(mark[1])], draft.text))}
        if {mention.code for mention in mentions(said)} != meant:
            return say("its languages are not the task's", "它说的语言与任务不同")
    why = _leak(_Draft(said), task, lang)
    return why or Adapted(literal(said), *default_slots(task, lang), said)


def proved(said: str, row: Row, task: Task, lang: str) -> Adapted | str:
    """A model's rewording of the row's instruction, if it speaks of the task and no longer of its source; else why not."""
    if len(said) > MAX_LENGTH:
        return _too_long()
    draft = _Draft(said.translate({0xE000: None, 0xE001: None}))
    source, output = default_slots(task, lang)
    if "{" in said or "}" in said:
        return say("it leaves a slot open", "它留有未填的占位符")
    words, spoken = label_words(task, lang), said.lower()
    why = _leak(draft, task, lang) or _foreign(
        draft, task
    )  # before languages are put right: a rule would hide the wrong one
    if not why and task.labels and 0 < sum(word.lower() in spoken for word in words) < len(words):
        why = say("it names only some of the task's answers", "它只说了任务的部分答案")
    answer = row.output.strip()
    if (
        not why
        and choice_span(row.instruction, answer, lang)
        and answer.lower() not in (word.lower() for word in words)
    ):
        source_span = row.instruction[slice(*choice_span(row.instruction, answer, lang) or (0, 0))]
        if source_span in said:
            why = say(f"it still offers {source_span}", f"它仍然限定答案：{source_span}")
    why = why or _languages(draft, row, task, lang)
    return why or Adapted(draft.jinja(), source, output, draft.plain())


def _too_long() -> str:
    return say(
        f"longer than {MAX_LENGTH} characters, too long for a wording", f"超过 {MAX_LENGTH} 个字符，不宜作为措辞"
    )


def _own_inputs(task: Task) -> list[str]:
    return [
        name for name in task.inputs if name not in ("target_lang", "source_lang", "target_language", "source_language")
    ]


def _known(task: Task) -> str:
    """What the task says of itself. Its demos do not count: what they mention is their content, not the task."""
    return f"{task.name} {task.description} {task.output_format} {' '.join(task.labels)}"


# Labels.


def _labels(draft: _Draft, row: Row, task: Task, lang: str) -> str:
    """Put the task's labels where the source lists its own: the list that holds the answer of its worked example."""
    for found in reversed(list(_slot.finditer(draft.text))):
        if found[1].lower() in _LABELS:
            if not task.labels:
                return say(
                    f"the slot {found[0]} asks for labels, and the task has none",
                    f"占位符 {found[0]} 需要标签，而任务没有",
                )
            draft.text = draft.text[: found.start()] + draft.hold(listed(task, lang)) + draft.text[found.end() :]
            return ""
    span = choice_span(draft.text, row.output.strip(), lang)
    said = draft.text[slice(*span)] if span else ""
    if not task.labels:
        return say(f"it offers fixed answers: {said}", f"它限定了答案：{said}") if span else ""
    if span is None:
        return say("it lists no answers that the task's labels could replace", "其中没有可以替换为任务标签的选项")
    before, after = draft.text[: span[0]], draft.text[span[1] :]
    if not _open_list.search(before) and not any(word.lower() in said.lower() for word in label_words(task, lang)):
        return say(f"its question is about other answers: {said}", f"它问的是另一类答案：{said}")
    draft.text = before + draft.hold(listed(task, lang, "还是" if "还是" in said else "或")) + after
    return ""


# Languages.


def _languages(draft: _Draft, row: Row, task: Task, lang: str) -> str:
    """Put the task's source and target language where the instruction names others."""
    if task.family not in TRANSLATING:
        return ""
    target, source = _expression(task, lang, "target"), _expression(task, lang, "source")
    named = False
    for mention in reversed(_language_mentions(draft.text)):
        start, end, _ = mention
        aims = _aims(draft.text, mention, lang)
        jinja = target if aims else source
        if aims and not jinja:
            return say("the task does not say into which language", "任务没有说明目标语言")
        named = named or aims
        before, after = draft.text[:start], draft.text[end:]
        if not jinja:
            draft.text = re.sub(r"(?:\b[Ff]rom |从)$", "", before) + _nameless(after, lang) + after.lstrip()
            continue
        agreed = _article(before, jinja)
        if agreed is None:
            return say("its article cannot agree with a language that changes by row", "冠词无法与逐行变化的语言名一致")
        draft.text = agreed + draft.hold(jinja) + after
    if not named:
        return say("it does not name the language to translate into", "它没有指明目标语言")
    return ""


def _language_mentions(text: str) -> list[Mention]:
    slots = [
        Mention(f.start(), f.end(), _field(f[1]))
        for f in _slot.finditer(text)
        if _field(f[1]) in ("target_lang", "source_lang")
    ]
    return sorted([*mentions(text), *slots])


def _aims(text: str, mention: Mention, lang: str) -> bool:
    """Whether the language named is the one to translate into."""
    if mention.code in ("target_lang", "source_lang"):
        return mention.code == "target_lang"
    side = "zh" if lang == "zh" else "en"
    before, after = text[: mention.start], text[mention.end :]
    return bool(_target_before[side].search(before) or _target_after[side].match(after))


def _expression(task: Task, lang: str, role: str) -> str:
    """The task's source or target language: a field of its rows, or named in its description; "" when it says neither."""
    for name in (f"{role}_lang", f"{role}_language"):
        if name in task.inputs:
            return f'{{{{ {name} | language("{lang}") }}}}'
    for text in (task.description, task.output_format, task.name.replace("_", " ")):
        said = "zh" if re.search("[\u4e00-\u9fff]", text) else "en"
        for mention in mentions(text):
            if _aims(text, mention, said) == (role == "target"):
                return literal(language(mention.code, lang))
    return ""


def _article(before: str, jinja: str) -> str | None:
    """The text before an English language name with its article made to agree; None where the name is not known beforehand."""
    found = re.search(r"\b([Aa])n? $", before)
    if not found:
        return before
    if jinja.startswith("{{"):
        return None
    return before[: found.start()] + found[1] + ("n " if jinja[0] in "AEIOU" else " ")


def _nameless(after: str, lang: str) -> str:
    """What stands for a source language that the task does not name."""
    if lang != "zh":
        return ""
    return "" if re.match(r"\s*(?:句子|原文|文本|文字|台词|字幕|段落|内容|文章|谚语)", after) else "文本"


# Slots.


def _field(slot: str) -> str:
    """The customary field for a slot's name; "" when none is known."""
    name = slot.strip().lower().replace(" ", "_")
    return next((group[0] for group in _FIELDS if name in group), "")


def _slots(draft: _Draft, task: Task, lang: str) -> tuple[set[str], str]:
    """Drop a slot at the end, whose data follow as the input; give others the task's field. Returns the fields put in, and why not."""
    filled: set[str] = set()
    last = _trailing_slot.search(draft.text)
    if last and _task_field(last[1], task):
        stop = "。" if lang == "zh" else "."
        kept = draft.text[: last.start()].rstrip("，,：: ")
        draft.text = kept + ("" if kept.endswith(("。", ".", "！", "？")) else stop)
    for found in reversed(list(_slot.finditer(draft.text))):
        name = _task_field(found[1], task)
        if not name:
            return filled, say(
                f"the slot {found[0]} has no field in the task", f"占位符 {found[0]} 在任务中没有对应的字段"
            )
        filled.add(name)
        draft.text = draft.text[: found.start()] + draft.hold(f"{{{{ {name} }}}}") + draft.text[found.end() :]
    return filled, ""


def _task_field(slot: str, task: Task) -> str:
    """The task's field for a slot: of the same name, of the same kind, or, for a slot of plain content, the only input."""
    name = slot.strip().lower().replace(" ", "_")
    if name in task.inputs:
        return name
    for group in _FIELDS:
        if name in group:
            same = [field for field in task.inputs if field in group]
            if same:
                return same[0]
    own = _own_inputs(task)
    return own[0] if name in _CONTENT and len(own) == 1 else ""


# Checks.


def _foreign(draft: _Draft, task: Task) -> str:
    """What is left that speaks of another task."""
    left, known = draft.plain(), _known(task)
    for mention in mentions(left):
        named = left[mention.start : mention.end]
        if code(named) not in {found.code for found in mentions(known)}:
            return say(f"it still speaks of {named}", f"仍然提到“{named}”")
    numbers = {found[0].lower() for found in _number.finditer(known)}
    for pattern in (_number, _quoted, _proper):
        for found in pattern.finditer(left):
            said = found[found.lastindex or 0]
            if said.lower() not in (numbers if pattern is _number else known.lower()):
                return say(
                    f"it speaks of '{cut(said, 30)}', which the task does not", f"它提到任务中没有的“{cut(said, 30)}”"
                )
    return ""


def _longer(row: Row, task: Task) -> str:
    """A worked answer far longer than any that the task shows: it does more than is asked (a question and its answer, a proof)."""
    if task.family in TRANSLATING:  # how long a translation is depends on the text
        return ""
    longest = max((length(demo.output) for demo in task.demos), default=0)
    if longest and length(row.output) > max(2 * longest, longest + 4):
        return say("its worked answer is far longer than the task's", "它的示例答案比任务的答案长得多")
    return ""


def _leak(draft: _Draft, task: Task, lang: str) -> str:
    """An answer of the task's demos that the instruction would give away."""
    left = draft.plain()
    for demo in task.demos:
        answer = demo.output.strip()
        if len(answer) > 1 and answer not in (*task.labels, *label_words(task, lang)) and answer in left:
            return say(f"it gives away the answer '{cut(answer, 30)}'", f"它泄露了答案“{cut(answer, 30)}”")
    return ""
