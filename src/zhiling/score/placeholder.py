"""Slots that a template left unfilled, in zh and en."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.sieve import FAR, Sieve, whole
from zhiling.text import HAN, cut
from zhiling.types import Example, Score

MOST = 50_000  # characters of a text that are looked at

_fields = (
    r"(?:(?:first |last |full |user ?|nick)?name|surname|company|organi[sz]ation|date|time|address|city|country|location|recipient|sender"
    r"|product|topic|title|job title|position|phone(?: number)?|e-?mail(?: address)?|number|amount|price|url|link|website|sentence"
    r"|text|question|answer|input|output|instruction|response|context|passage|article|document|keyword|category"
    r"|(?:target |source )?language"
    r"|placeholder|image|photo|picture|school|university|department|event|project|brand|year|month|day)"
)
_fill = r"(?:insert|enter|your|fill in|type in|put|paste|add your|name of)"
_zh_fill = r"(?:此处|这里|在此|请在此|请输入|请填|请插入|填写|插入|填入|待填|待补|待定|输入你的|输入您的|你的|您的)"
_zh_fields = (
    r"(?:您的|你的)?(?:姓名|名字|名称|公司(?:名称)?|日期|时间|地址|城市|国家|学校|产品(?:名称)?|主题|标题|职位|电话|邮箱"
    r"|收件人|发件人|占位符|图片|文章|段落|句子|问题|输入|输出)"
)
_slot = re.compile(
    r"(?=[{\[<（(【xX×lL])(?:"  # one look at most characters instead of eight
    rf"\{{\{{\s*[\w.\s|-]{{1,60}}?\}}\}}|\{{%[^%\n]{{1,80}}%\}}"
    rf"|(?<![\\A-Za-z0-9$#%{{_^}})\]]){{(?:[A-Za-z_][\w -]{{1,30}}\w|[{HAN}][\w -]{{0,20}})}}(?![}}A-Za-z0-9_])"
    rf"|\[\s*(?:(?:{_fill})\b[^\]\n]{{1,80}}|(?:[A-Za-z']+ )?{_fields}(?: (?:here|name))?|{_zh_fill}[^\]\n]{{0,30}}|{_zh_fields})\s*\](?![(\[])"
    rf"|<\s*(?:(?:{_fill})\b[^<>\n]{{1,60}}|{_fields}(?: here| attached)?|{_zh_fill}[^<>\n]{{0,30}}|{_zh_fields})\s*>"
    rf"|[（(【]\s*{_zh_fill}[^（）()【】\n]{{0,30}}[）)】]|【{_zh_fields}】(?![：:])"
    rf"|(?<![A-Za-z0-9(\-])XXX+(?![A-Za-z0-9)\-])|(?<=[{HAN}])(?:XX+|××+)(?=[{HAN}，。！：；])"
    rf"|(?<![A-Za-z0-9])(?:XX+|××+)(?=[年月日][^{HAN}A-Za-z]?)"
    r"|\b[Ll]orem ipsum\b)",
    re.IGNORECASE,
)
_quick = re.compile(r"[{\[<（(【]|[xX]{2}|××|[Ll]orem")
_fence = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]{1,200}`|\$\$.{0,2000}?\$\$|\$[^$\n]{1,200}\$"
    r"|\\\[.{0,2000}?\\\]|\\\(.{0,2000}?\\\)",
    re.DOTALL,
)
# What `_slot` finds and a little more; a text with what `_fence` takes out may show a slot only then.
_ws, _wide = rf"(?:\s|{FAR})*", rf"(?:[\w -]|{FAR})*"
_opens, _fences = r"(?:[{\[<（(【×]|xx|lorem)", r"(?:`|~~~|\$|\\[\[(])"
_sieve = Sieve(
    r"\{[{%]|\{[\w -]*\}"
    rf"|\[\s*(?:(?:{_fill})[^\]\n]*|(?:[a-z']+ )?{_fields}(?: (?:here|name))?)\s*\]"
    rf"|<\s*(?:(?:{_fill})[^<>\n]*|{_fields}(?: here| attached)?)\s*>"
    r"|xxx|lorem|[{\[<].*(?:`|~~~|\$|\\[\[(])|(?:`|~~~|\$|\\[\[(]).*[{\[<]",
    rf"\{{[{{%]|\{{{_wide}\}}"
    rf"|\[{_ws}(?:(?:{_fill}|{_zh_fill})[^\]\n]*|(?:[a-z']+ )?{_fields}(?: (?:here|name))?|{_zh_fields}){_ws}\]"
    rf"|<{_ws}(?:(?:{_fill}|{_zh_fill})[^<>\n]*|{_fields}(?: here| attached)?|{_zh_fields}){_ws}>"
    rf"|[（(【]{_ws}{_zh_fill}|【{_zh_fields}】|xxx|(?:xx|××){FAR}|lorem|{_opens}.*{_fences}|{_fences}.*{_opens}",
)
_code = re.compile(
    r"[;{]\s*$|^\s*(?:def|class|import|from|function|public|const|let|var|if|for|while|return|#include|SELECT|<\?php|<!DOCTYPE|<html)\b"
    r"|</[a-z]|\w\(\)|[\w\])]\s*=>|\bf[\"']|\.format\(|\bprint(?:f|ln)?\(|\bconsole\.|\$\{|\\(?:begin|frac|text|left|sum)\b"
    r"|==|&&|\|\||:=|\"\s*:\s*[\[{\"]",
    re.MULTILINE,
)
# Rows about templates, formats and markup speak of slots without leaving any open.
_about = re.compile(
    r"\b(?:format|templates?|place-?holders?|braces?|brackets?|curly|html|xml|tags?|regex|regular expression|syntax|markdown|mad ?libs?"
    r"|variables?|f-?strings?|jinja|mustache|mask(?:ed)?|redact\w*|anonymi[sz]e|censor\w*|roman numerals?|blanks?|lorem"
    r"|in (?:the|this) form|output should|mail ?merge)\b"
    r"|格式|模板|占位符|花括号|大括号|方括号|标签|正则|语法|变量|隐去|脱敏|匿名|打码|罗马数字|填空",
    re.IGNORECASE,
)
# What a letter leaves open for its sender to fill in is part of the letter.
_letter = re.compile(
    r"\b(?:letters?|e-?mails?|memos?|invitations?|resumes?|cv|forms?|contracts?|agreements?|proposals?|press release|invoices?|certificates?"
    r"|notes?"
    r"|messages?|speech|report|announcement|cards?|script|bio|application|replies|reply|respon[sd]\w*|advertis\w*|newsletter|poster|flyer|tweet)\b"
    r"|信|邮件|邀请|简历|合同|协议|申请|表格|通知|公告|证明|报告|演讲|发言|脚本|海报|广告|新闻稿|短信|回复|请假条|便条",
    re.IGNORECASE,
)
_open = re.compile(
    rf"[\[<【]\s*(?:your )?(?:[A-Za-z']+ )?{_fields}[^\]>\n]{{0,20}}[\]>]|[\[<【]\s*{_zh_fields}\s*[\]>】]",
    re.IGNORECASE,
)


@scorer("placeholder", low=0, high=1, better="low", langs=("zh", "en"))
def placeholder(examples: Sequence[Example]) -> Iterator[Score]:
    """1 where instruction, input or output holds a slot that nobody filled ({{x}}, [INSERT NAME], XXX, （此处填写）), else 0.

    Code, mathematics and rows about templates, formats and markup are left out; so are the sender's own blanks in a letter.
    """
    for row, may_hold in _sieve.sift(examples, whole):
        found = _find(row) if may_hold else None
        why = (
            say(f"unfilled slot in the {found[0]}: {found[1]}", f"{_ZH[found[0]]}中有未填的空位：{found[1]}")
            if found
            else ""
        )
        yield Score(row.id, "placeholder", float(bool(found)), why)


_ZH = {"instruction": "指令", "input": "输入", "output": "输出"}


def _find(row: Example) -> tuple[str, str] | None:
    """The field and the first unfilled slot in it."""
    for field, text in (("instruction", row.instruction), ("input", row.input), ("output", row.output)):
        if not _quick.search(text):
            continue
        prose = _fence.sub(" ", text[:MOST])
        for found in _slot.finditer(prose):
            if _about.search(row.instruction) or _code.search(prose):
                break
            if field == "instruction" or not (_open.fullmatch(found.group()) and _letter.search(row.instruction)):
                return field, cut(found.group(), 40)
    return None
