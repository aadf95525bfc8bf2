"""What the linter looks for in a definition as a whole: what is declared and used, leaked, said twice, left out, or contradicted.

Each rule yields a code, the key where it stands, what is wrong, and how to mend it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import TypeAlias

from zhiling import text
from zhiling.construct.library import Definition, Phrasing
from zhiling.construct.library_wording import flaws
from zhiling.construct.library_wording import plain as without_slots
from zhiling.construct.sandbox import compiled
from zhiling.errors import say
from zhiling.types import Example
from zhiling.yamlines import Keys

Said: TypeAlias = tuple[str, Keys, str, str]
"""(code, key, what, how to mend)."""

NEAR = 0.8
"""Shingle Jaccard above which two phrasings of a language say the same."""
_jinja = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.S)
_format_slot = re.compile(r"(?<!\{)\{[^\W\d]\w*\}(?!\})")
_latin_run = re.compile(r"[A-Za-z]+(?:[ ,]+[A-Za-z]+){3,}")
_han = re.compile(f"[{text.HAN}]")


def _undescribed(definition: Definition) -> Iterator[Said]:
    for lang in definition.langs:
        if not definition.description.get(lang):
            yield (
                "no-description",
                ("description",),
                say(f"no task description in '{lang}'", f"缺少“{lang}”的任务描述"),
                say("say in one sentence what the task is", "用一句话说明任务"),
            )


def _unused(definition: Definition) -> Iterator[Said]:
    used: set[str] = set()
    for phrasing in definition.phrasings:
        slots = definition.slots(phrasing)
        used |= compiled(phrasing.instruction + phrasing.system).names
        used |= compiled(slots.input).names | compiled(slots.output).names if slots else set()
        used |= _in_turns(phrasing)
    for name in sorted(set(definition.fields) - used):
        yield (
            "unused",
            ("fields",),
            say(f"the field '{name}' is never used", f"字段“{name}”从未使用"),
            say("use it or remove it", "请使用或删去"),
        )


def _in_turns(phrasing: Phrasing) -> set[str]:
    """The fields that a phrasing's earlier turns say."""
    turns = [said for turn in phrasing.turns for said in turn.items()]
    return {name for role, said in turns for name in ([said] if role == "field" else compiled(said).names)}


def _leaks(definition: Definition) -> Iterator[Said]:
    for i, phrasing in enumerate(definition.phrasings):
        slots = definition.slots(phrasing)
        asked = compiled(phrasing.instruction).names | (compiled(slots.input).names if slots else set())
        asked |= _in_turns(phrasing)
        target = phrasing.target or definition.target
        if target in asked:
            yield (
                "leak",
                ("phrasings", i),
                say(f"the answer '{target}' stands in the question", f"答案“{target}”出现在提问之中"),
                say("ask without it", "请从提问中去掉"),
            )


def _said_twice(definition: Definition) -> Iterator[Said]:
    for i, phrasing in enumerate(definition.phrasings):
        slots = definition.slots(phrasing)
        repeated = compiled(phrasing.instruction).names & compiled(slots.input).names if slots else frozenset()
        for name in sorted(repeated):
            yield (
                "said-twice",
                ("phrasings", i),
                say(f"'{name}' stands in the instruction and again in the input", f"“{name}”在指令和输入中各出现一次"),
                say('write input: "" for this phrasing', '请为这条措辞写上 input: ""'),
            )


def _near(definition: Definition) -> Iterator[Said]:
    grams = [text.shingles(phrasing.instruction) for phrasing in definition.phrasings]
    for i, k in combinations(range(len(grams)), 2):
        one, other = definition.phrasings[i], definition.phrasings[k]
        if one.lang == other.lang and text.jaccard(grams[i], grams[k]) > NEAR:
            name = definition.name(one)
            yield (
                "near-duplicate",
                ("phrasings", k),
                say(f"nearly the same as '{name}'", f"与“{name}”几乎相同"),
                say("reword it or drop it", "请改写或删去"),
            )


def _mixed(definition: Definition) -> Iterator[Said]:
    for i, phrasing in enumerate(definition.phrasings):
        plain = _jinja.sub(" ", phrasing.instruction)
        foreign = (
            _latin_run.search(plain) if phrasing.lang == "zh" else _han.search(plain) if phrasing.lang == "en" else None
        )
        spoken = text.lang(plain)
        if (
            spoken
            and {"zh": "zh"}.get(phrasing.lang, "latin") != spoken
            and phrasing.lang in ("zh", "en")
            and not _slot_only(plain)
        ):
            other = "zh" if phrasing.lang == "en" else "en"
            yield (
                "wrong-lang",
                ("phrasings", i, "lang"),
                say(f"labelled '{phrasing.lang}', but not written in it", f"标为“{phrasing.lang}”，但并非该语言"),
                say(f"lang: {other}?", f"lang 应为 {other}？"),
            )
        if foreign:
            quoted = text.cut(foreign[0], 30)
            yield (
                "mixed",
                ("phrasings", i, "instruction"),
                say(
                    f"'{quoted}' is not in the phrasing's language '{phrasing.lang}'",
                    f"“{quoted}”不属于该措辞的语言“{phrasing.lang}”",
                ),
                say("keep one language to a phrasing", "每条措辞只用一种语言"),
            )


def _unfilled(definition: Definition) -> Iterator[Said]:
    for i, phrasing in enumerate(definition.phrasings):
        slot = _format_slot.search(_jinja.sub(" ", phrasing.instruction))
        if slot:
            yield (
                "unfilled",
                ("phrasings", i, "instruction"),
                say(f"'{slot[0]}' stays as it is when rendered", f"“{slot[0]}”渲染后会原样保留"),
                say(f"a field is written {{{slot[0]}}}", f"字段应写作 {{{slot[0]}}}"),
            )


def _examples(definition: Definition) -> Iterator[Said]:
    for lang, rows in (definition.examples or {}).items():
        for i, row in enumerate(rows):
            for name in sorted(set(row) ^ set(definition.fields)):
                yield (
                    "example",
                    ("examples", lang, i),
                    say(f"the example and the fields disagree about '{name}'", f"示例与字段声明不一致：“{name}”"),
                    say("give every declared field, and no other", "请给出且仅给出已声明的字段"),
                )


def _wordless(definition: Definition) -> Iterator[Said]:
    for label, words in (definition.labels or {}).items():
        for lang in definition.langs:
            if not words.get(lang):
                yield (
                    "no-label-word",
                    ("labels", label),
                    say(f"no word for it in '{lang}'", f"缺少“{lang}”的说法"),
                    say("the raw label would be shown", "否则会直接显示原始标签"),
                )


def _slot_only(said: str) -> bool:
    """Whether there is hardly a word of the phrasing's own to tell a language by."""
    return text.length(said) < 2


def _no_example(definition: Definition) -> Iterator[Said]:
    for lang in definition.langs if definition.fields else ():
        if not (definition.examples or {}).get(lang):
            yield (
                "no-example",
                ("examples",),
                say(f"no example in '{lang}'", f"缺少“{lang}”的示例"),
                say(
                    "give one row of every field, so that the phrasings can be seen",
                    "请给出一行各字段齐全的数据，以便查看效果",
                ),
            )


def _wording(definition: Definition) -> Iterator[Said]:
    for i, phrasing in enumerate(definition.phrasings):
        if phrasing.lang not in ("zh", "en"):
            continue
        slots = definition.slots(phrasing)
        follows = not definition.fields or bool(slots and slots.input) or bool(phrasing.turns)
        brief = phrasing.register == "brief"
        for code, what, mend in flaws(phrasing.instruction, phrasing.lang, has_input=follows, brief=brief):
            yield code, ("phrasings", i, "instruction"), what, mend


STATIC = (
    _undescribed,
    _unused,
    _leaks,
    _said_twice,
    _near,
    _mixed,
    _unfilled,
    _examples,
    _no_example,
    _wordless,
    _wording,
)
"""The rules that need nothing but the definition."""


def leaks_when_rendered(definition: Definition, shown: Mapping[int, Example]) -> Iterator[Said]:
    """Answers that stand in the rendered question though no field brought them there; `shown` has the rows by phrasing."""
    for i, example in shown.items():
        phrasing = definition.phrasings[i]
        answer = text.normalise(example.output)
        if phrasing.target or not answer or "choices" in compiled(phrasing.instruction).names:
            continue
        words = {text.normalise(word) for words in (definition.labels or {}).values() for word in words.values()}
        said = text.normalise(without_slots(phrasing.instruction))
        named = {word for word in words if _stands_in(word, said)}
        whole = {
            text.normalise(words[phrasing.lang])
            for words in (definition.labels or {}).values()
            if phrasing.lang in words
        }
        either = re.search(r"\bor\b|还是|或", said) is not None
        leans = not either and len(whole) > 1 and answer in named and len(named & whole) == 1
        long = answer not in words and text.length(answer) >= 4 and answer in said
        if leans or long:
            yield (
                "leak",
                ("phrasings", i, "instruction"),
                say(
                    f"it says the example's answer '{text.cut(answer, 30)}' itself",
                    f"措辞中已写出示例的答案“{text.cut(answer, 30)}”",
                ),
                say("ask without it, or name every choice", "请从提问中去掉，或列出全部选项"),
            )


def _stands_in(word: str, said: str) -> bool:
    return word in said if _han.search(word) else re.search(rf"\b{re.escape(word)}\b", said) is not None


def _any(*forms: str) -> re.Pattern[str]:
    return re.compile("|".join(forms), re.I)


_NUMBER = re.compile(r"\d|[零一二两三四五六七八九十百千万亿]")
_FORMS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    (
        "one word",
        _any(
            r"\b(?:in|with|only|just|single) (?:one |single )?word\b(?! or)",
            r"\bone word\b(?! or)",
            "一个词(?!组|语|或)|只答一词",
        ),
        lambda answer: len(answer.split()) <= 2 and text.length(answer) <= 8,
    ),
    (
        "JSON",
        _any(r"\b(?:as|in|return|output|to|valid) JSON\b", "JSON ?(?:格式|对象|输出)"),
        lambda answer: _is_json(answer),
    ),
    (
        "a number",
        _any(r"\bnumber only\b|\bonly (?:the|a) number\b", "只(?:写|给|输出|回答)数字"),
        lambda answer: _NUMBER.search(answer) is not None,
    ),
    (
        "yes or no",
        _any(r"\b(?:answer|reply|respond|say)\b[^.]*\byes or no\b", "(?:回答|只答)[^。]*是或(?:否|不是)"),
        lambda answer: re.match(r"yes|no|是|否|不|对", answer.strip(), re.I) is not None,
    ),
    (
        "one sentence",
        _any(r"\b(?:in|with|as) (?:one|a single) sentence\b", "用一句话"),
        lambda answer: len(text.sentences(answer)) <= 2,
    ),
)
"""(name, how it is asked for, whether an answer has it)."""
_CLASH = (
    (
        _any(
            r"\b(?:do not|don't|without|no|never) (?:give |add |any |an? )*(?:explain|explanation|reasons?|reasoning)",
            "不(?:要|用|需要|必)?(?:解释|说明理由|写理由)",
        ),
        _any(
            r"(?<!not )(?<!n't )\b(?:explain (?:why|your|how)|give (?:a|your) reasons?|step by step|justify)",
            "(?<!不要)(?<!不用)(?<!不必)(?:说明理由|解释原因|给出理由|写出理由|一步一步|逐步推理)",
        ),
    ),
    (
        _any(
            r"\b(?:in|with|one|a single) (?:one |single )?word\b(?! or| per| for| limit)",
            "只答一个词|用一个词(?!或|语)",
        ),
        _any(
            r"\b(?:in detail|a paragraph|at length|one sentence|full sentences?)\b",
            "详细(?:地)?(?:说明|描述|回答)|一段话|一句话",
        ),
    ),
    (
        re.compile(r"\bJSON\b"),
        _any(
            r"\b(?:as|in|into) (?:a )?(?:markdown table|XML|CSV|YAML|plain prose)\b", "(?:用|以)(?:表格|XML|CSV|YAML)"
        ),
    ),
)
"""Pairs of demands that cannot both be met."""


def _is_json(answer: str) -> bool:
    try:
        json.loads(answer)
    except ValueError:
        return False
    return True


def contradictions(definition: Definition, shown: Mapping[int, Example]) -> Iterator[Said]:
    """Wordings that ask for one form and the other, or for a form that the definition's own example does not have."""
    for i, phrasing in enumerate(definition.phrasings):
        said = without_slots(phrasing.instruction)
        where = ("phrasings", i, "instruction")
        for one, other in _CLASH:
            first, second = one.search(said), other.search(said)
            if first and second:
                pair = text.cut(first[0], 30), text.cut(second[0], 30)
                yield (
                    "contradiction",
                    where,
                    say("'{}' and '{}' cannot both be done", "“{}”与“{}”互相矛盾").format(*pair),
                    say("ask for one form", "请只要求一种形式"),
                )
        for name, asked, fits in _FORMS:
            if i in shown and asked.search(said) and not fits(shown[i].output):
                answer = text.cut(shown[i].output, 30)
                yield (
                    "contradiction",
                    where,
                    say(
                        f"it asks for {name}, but the example answers '{answer}'",
                        f"要求的形式（{name}）与示例的答案“{answer}”不符",
                    ),
                    say("mend the wording or the example", "请修改措辞或示例"),
                )
