"""What reads badly in an instruction, in Chinese and in English: rules over one text, each with a code, and how to mend it.

They look at the text as written, slots set aside: what data will stand in a slot is not the author's fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from zhiling import text
from zhiling.errors import say

Flaw: TypeAlias = tuple[str, str, str]
"""(code, what, how to mend)."""

SLOT = "\ufffc"
_jinja = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.S)
_shown = re.compile(r"\{\{.*?\}\}", re.S)
_code = re.compile(r"```.*?```|`[^`\n]*`", re.S)
_H = f"[{text.HAN}]"
_PAIRS = (("(", ")"), ("[", "]"), ("（", "）"), ("【", "】"), ("《", "》"), ("“", "”"), ("「", "」"), ("『", "』"), ("〈", "〉"))  # fmt: skip
_doubled = re.compile(
    r"([,;:，。；：、！？])\s*\1|[，。；：、][,.;:]|[,.;:][，。；：、]|(?<!\.)\.\.(?!\.)|!{2,}|\?{2,}"
)
_half_in_zh = re.compile(f"{_H}[,;:?!]|{_H}\\.(?:\\s|$)|[,;:?!]{_H}|{_H}\\([^()]*{_H}[^()]*\\)")
_full_in_en = re.compile(r"[，。；：？！、（）【】《》“”「」]")
_full_letters = re.compile(r"[Ａ-Ｚａ-ｚ０-９]")
_spaces = re.compile(r"\S {2,}\S")
_space_before = re.compile(r"\w [,.;:?!](?:\s|$)")
_space_in_zh = re.compile(f"{_H} +{_H}|{_H} +[，。；：、！？]")
_vague_en = re.compile(
    r"\b(?:do (?:it|this|that|the (?:task|thing|job|needful))|(?:handle|process|deal with|work on) (?:it|this|that|the following))"
    r"(?=\W*$| (?:please|for me|now|well|properly)\W*$)|\b(?:and so on|or something|something like that|as you see fit|stuff)\b",
    re.I,
)
_vague_zh = re.compile(
    "(?:做|弄|搞|处理|办|操作)一下(?=[，。！；]|$)|随便|什么的(?=[，。！；]|$)|之类的(?=[，。！；]|$)|差不多就行|你懂的"
)
_residue = re.compile(
    r"\b(?:TODO|FIXME|XXX|TBD)\b|[Ll]orem ipsum|\[(?:insert|your|placeholder)\b[^\]]*\]|<(?:input|output|text|insert)>|_{4,}"
    r"|待补充|待定(?=[，。]|$)",
    re.I,
)
_twice_en = re.compile(r"\b([A-Za-z]+)\s+\1\b", re.I)
_twice_zh = re.compile("的的|了了|请请|是是|在在|把把|和和|或或|对对(?!联|子)|与与|为为")
_article = re.compile(
    r"\b(?:a (?!(?:uni|use|usu|eu|one|once|ubi|uti)[a-z]*\b)[aeiou][a-z]+"
    r"|an (?!(?:hour|honest|honou?r|heir)[a-z]*\b)[bcdfghjklmnpqrstvwxyz][a-z]{2,})\b"
)
_caps = re.compile(r"\b[A-Z]{2,}(?:[\s,]+[A-Z]{2,}){2,}\b")
_above = re.compile(
    r"\b(?:the |stated |mentioned )?above(?! all\b)\b|\bthe (?:previous|preceding|foregoing) "
    r"(?:text|passage|sentence|paragraph|article|question|document)\b"
    r"|上述|上面的?|以上(?!的?人|岁)|上文|前述",
    re.I,
)
_below = re.compile(
    r"\bbelow\b|\bthe following\b|\b(?:here is|here are)\b[^.?!]*:$|下面|以下(?!的?人|岁)|下列|如下|下文", re.I
)
_VERBS = """
act, add up, add, advise, analyse, analyze, annotate, answer, apply, arrange, ask, assess, assign, attach, boil, break,
bring, build, calculate, caption, carry on, cast, change, chat, check, choose, cite, clarify, classify, cluster, code,
collect, combine, come up, comment, compare, complete, compose, compress, compute, conclude, condense, consider,
continue, contrast, convert, copy, correct, count, craft, create, cut, dash, debug, decide, deduce, define, delete,
describe, design, detect, determine, divide, do not, don't, draft, draw, drop, edit, evaluate, examine, expand, explain,
express, extend, extract, figure, fill, find, finish, fix, follow, form, gather, generate, give, go on, grade, group,
grow, guess, help, identify, imagine, implement, infer, insert, interpret, invent, join, jot, judge, keep, label, let's,
link, list, localise, look, make, map, mark, match, mend, merge, move, name, narrate, note, offer, order, organise,
organize, outline, paraphrase, pen, pick, plan, play, please, point, polish, port, pose, predict, present, pretend,
print, produce, propose, prove, provide, pull, put, query, quote, rank, rate, read, recap, recommend, reconstruct,
record, reduce, refactor, remove, render, repair, repeat, rephrase, replace, reply, report, reshape, respond, restate,
retell, return, reverse, review, revise, reword, rewrite, say, score, select, set, shorten, show, simplify, sketch,
solve, sort, speak, spell, split, spot, state, study, subtitle, suggest, sum, summarise, summarize, supply, swap, tag,
take, talk, tell, test, think up, trace, transform, translate, trim, try, turn, use, verify, weigh, work, write, yes or
no, true or false
"""
_ask_en = re.compile(
    r"\?|\b(?:your (?:task|job)|you (?:will|should|must|need|are|have|can|get)|i (?:need|want|would|wonder)|(?:can|could|would) you|"
    + "|".join(re.split(r",\s+", _VERBS.strip()))
    + r")\b",
    re.I,
)
_ask_zh = re.compile(
    "[？?]|请|赏|帮|给|写|答|译|说|讲|列|找|选|挑|判|分|归|标|改|换|转|续|补|填|扩|缩|压|概|总结|归纳|提|抽|取|摘|拟|编|作|做|算|求|解|证|查|比|评|描|述|想|猜|推|读|看|问|起|用|把|将|让|告诉"
    "|生成|输出|完成|设计|创|构|修|排|计|统计|对话|扮演|介绍|建议|规划|翻|润色|校|订|匹配|识别|检测|预测|回复|复述|举|指出|注|配|拆|合并|整理|接|勾|记|回应|定|造|赋诗"
)
_names_only = re.compile(
    rf"(?:[\"“(]?(?:the|a|an|this|that|these|those|some|its|his|her|their|in|of|for|from|with|on|about|here|there|{SLOT})\b|{SLOT})"
    "|这|那|该|此|其|以下|下面|下列|关于|一[段条个篇句]|文本|句子|文章|内容|评论",
    re.I,
)  # how a text begins that names things instead of asking for something
_asking = re.compile(
    r"\{\{\s*(?:description|instruction|question|problem|prompt|goal|问题|题目|要求|任务)\b"
)  # a slot that asks by itself
_EN_OK = frozenset({"that", "had", "is", "bye", "so", "very", "no", "knock", "ha", "blah", "do"})
_ACRONYMS = frozenset(
    ["JSON", "SQL", "SELECT", "FROM", "WHERE", "FAQ", "HTML", "CSV", "XML", "NLI", "AND", "OR", "NOT", "GROUP", "ORDER", "BY", "JOIN", "ID"]
)  # fmt: skip


def plain(wording: str) -> str:
    """The text with every slot as one mark, and without the template's statements."""
    return _jinja.sub("", _shown.sub(SLOT, wording))


def flaws(wording: str, lang: str, *, has_input: bool, brief: bool = False) -> Iterator[Flaw]:
    """What reads badly in an instruction. `has_input`: an input follows it; `brief`: its register, in which a bare noun may ask."""
    said = _code.sub(SLOT, plain(wording))
    for rule in (_punctuation, _widths, _brackets, _spacing, _vague, _left_over, _repeated, _articles, _shouting):
        yield from rule(said, lang)
    yield from _references(said, has_input)
    asks = _asking.search(wording) or (_ask_zh if lang == "zh" else _ask_en).search(said)
    if not brief and not asks and _names_only.match(said.strip()):
        yield (
            "no-verb",
            say("it never says what to do", "没有说明要做什么"),
            say("begin with a verb, or ask a question", "请以动词开头，或改为提问"),
        )


def states(wording: str) -> bool:
    """Whether a text tells something ("The review is good.") rather than asks for it: stricter than `flaws`, for what models write."""
    said = wording.strip()
    asks = re.search(r"[?？]|请|\b(?:please|you|your|task|must|should)\b", said, re.I)
    return asks is None and _names_only.match(said) is not None


Rule: TypeAlias = Callable[[str, str], Iterator[Flaw]]


def _quoted(found: str) -> str:
    return text.cut(found.replace(SLOT, "{{…}}"), 30)


def _punctuation(said: str, lang: str) -> Iterator[Flaw]:
    found = _doubled.search(said)
    if found:
        yield (
            "punctuation",
            say(f"doubled punctuation '{_quoted(found[0])}'", f"标点重复“{_quoted(found[0])}”"),
            say("keep one of them", "请保留一个"),
        )


def _widths(said: str, lang: str) -> Iterator[Flaw]:
    found = _full_letters.search(said) or (_half_in_zh.search(said) if lang == "zh" else _full_in_en.search(said))
    if found and (lang == "zh" or text.lang(said) != "zh"):
        yield (
            "width",
            say(f"half- and full-width mixed up: '{_quoted(found[0])}'", f"全角与半角混用：“{_quoted(found[0])}”"),
            say("Chinese takes ，。：？！, English takes , . : ? !", "中文用，。：？！，英文用 , . : ? !"),
        )


def _brackets(said: str, lang: str) -> Iterator[Flaw]:
    for opening, closing in _PAIRS:
        if said.count(opening) != said.count(closing) and not (closing == ")" and re.search(r"(?m)^\s*\w\)", said)):
            yield (
                "brackets",
                say(f"'{opening}' and '{closing}' do not pair", f"“{opening}”与“{closing}”不成对"),
                say("close what is open", "请补齐另一半"),
            )
            return
    if said.count('"') % 2:
        yield "brackets", say("a quotation mark is missing", "引号不成对"), say("close what is open", "请补齐另一半")


def _spacing(said: str, lang: str) -> Iterator[Flaw]:
    found = _spaces.search(said) or _space_before.search(said) or (_space_in_zh.search(said) if lang == "zh" else None)
    if found:
        yield (
            "spaces",
            say(f"a space too many: '{_quoted(found[0])}'", f"多余的空格：“{_quoted(found[0])}”"),
            say("remove it", "请删去"),
        )


def _vague(said: str, lang: str) -> Iterator[Flaw]:
    found = (_vague_zh if lang == "zh" else _vague_en).search(said)
    if found and (
        lang == "zh" or text.length(said) <= 8 or not re.match("do|handle|process|deal|work", found[0], re.I)
    ):
        yield (
            "vague",
            say(f"'{_quoted(found[0])}' says nothing in particular", f"“{_quoted(found[0])}”含糊不清"),
            say("name the action and its object", "请写明动作和对象"),
        )


def _left_over(said: str, lang: str) -> Iterator[Flaw]:
    found = _residue.search(said)
    if found:
        yield (
            "placeholder",
            say(f"a place to be filled in: '{_quoted(found[0])}'", f"未填写的占位内容：“{_quoted(found[0])}”"),
            say("write it out, or make it a field", "请写完整，或改为字段"),
        )


def _repeated(said: str, lang: str) -> Iterator[Flaw]:
    found = _twice_zh.search(said) if lang == "zh" else _twice_en.search(said)
    if found and (lang == "zh" or found[1].lower() not in _EN_OK):
        yield (
            "repeated",
            say(f"a word stands twice: '{_quoted(found[0])}'", f"词语重复：“{_quoted(found[0])}”"),
            say("remove one", "请删去一个"),
        )


def _articles(said: str, lang: str) -> Iterator[Flaw]:
    found = _article.search(said) if lang == "en" else None
    if found:
        yield (
            "article",
            say(f"'{found[0]}': the article is wrong", f"“{found[0]}”冠词有误"),
            say("'a' before a consonant's sound, 'an' before a vowel's", "辅音前用 a，元音前用 an"),
        )


def _shouting(said: str, lang: str) -> Iterator[Flaw]:
    letters = re.findall("[A-Za-z]", said)
    capitals = sum(letter.isupper() for letter in letters)
    found = _caps.search(said)
    words = set(re.findall("[A-Z]{2,}", found[0])) if found else set()
    if len(words - _ACRONYMS) >= 2 or (len(letters) >= 12 and capitals > 0.8 * len(letters)):
        yield (
            "capitals",
            say("written in capitals", "通篇或整段大写"),
            say("write it as a sentence", "请按正常句子书写"),
        )


def _references(said: str, has_input: bool) -> Iterator[Flaw]:
    above = _above.search(said)
    named = above and (SLOT in said[: above.start()] or _below.search(said[: above.start()]))
    if above and not named:
        yield (
            "reference",
            say(
                f"'{above[0]}' points at nothing: no field stands before it", f"“{above[0]}”没有所指：前面没有任何字段"
            ),
            say("the input comes after the instruction", "输入位于指令之后"),
        )
    below = _below.search(said)
    if (
        below
        and not above
        and not has_input
        and SLOT not in said[below.end() :]
        and len(said[below.end() :].split("\n")) < 2
    ):
        yield (
            "reference",
            say(f"'{below[0]}' points at nothing: no field comes after it", f"“{below[0]}”没有所指：后面没有任何字段"),
            say("give the phrasing an input, or put the field there", "请为该措辞提供输入，或在其后放置字段"),
        )
