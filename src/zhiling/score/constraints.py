"""How many conditions an instruction sets on its answer: a plain measure of complexity, in zh and en."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from zhiling import text
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.types import Example, Score

MOST = 6000  # characters of an instruction that are looked at
HIGH = 50

_number = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|several|a single|an?)"
_zh_number = r"(?:\d+|[一二两三四五六七八九十百几]+)"
_PATTERNS: dict[str, str] = {
    "length": (
        rf"\b{_number}[ -](?:\w+ )?(?:words?|sentences?|paragraphs?|characters?|lines?|letters?|syllables?|stanzas?|pages?|tokens?)\b"
        r"|\b(?:brief|concise|short|succinct|in detail|detailed|at length)(?:ly)?\b"
        rf"|{_zh_number}个?(?:字|词语?|句话?|段落?|行|页|音节)(?![典体符])|简短|简洁|简明|简要|详细|字数"
    ),
    "count": (
        rf"\b(?:\d+|two|three|four|five|six|seven|eight|nine|ten) (?:[a-z-]+ ){{0,2}}?(?:examples?|reasons?|points?|items?|ideas?"
        rf"|steps?|ways?|tips?|options?|facts?|questions?"
        r"|titles?|names?|bullet|keywords?|parts?|sections?|entities|arguments?|characters)\b"
        rf"|{_zh_number}(?:个|条|种|项|点|部|位|款)(?!字|词|人|月|小时|问题是)"
    ),
    "bound": (
        r"\b(?:at least|at most|no more than|no less than|no fewer than|fewer than|less than|more than|up to|maximum|minimum|exactly"
        r"|within|between \d+ and|limit(?:ed)? to|not exceed\w*)\b"
        r"|至少|最多|不超过|不少于|不得|以内|以上|以下(?=[，。])|恰好|正好|控制在|限制|范围"
    ),
    "format": (
        r"\b(?:json|xml|yaml|csv|html|markdown|latex|table|bullet(?:ed)?(?: points?| list)?|numbered list|headings?|title|outline"
        r"|template|column|row|format(?:ted)?|structure[ds]?|layout"
        r"|uppercase|lowercase|bold|italic|quotation marks|brackets|comma-separated|hashtags?|emojis?|code block|essay|e-?mail|poem"
        r"|haiku|sonnet|dialogue|script|report|letter)\b"
        r"|表格|列表|项目符号|编号|标题|格式|模板|大纲|结构|加粗|斜体|引号|括号|代码块|表情|标签|诗|对话|报告|信件|邮件|文章形式"
    ),
    "style": (
        r"\b(?:tone|style|voice|formal|informal|casual|humorous|persuasive|sarcastic|poetic|academic|professional|friendly"
        r"|first[- ]person|third[- ]person|as if|as though|from the perspective"
        r"|in the (?:manner|style)|simple language|layman|metaphors?|similes?|rhym\w+|alliteration|imagery|personification|vivid"
        r"|emotion\w*|mood|atmosphere|shakespeare\w*)\b"
        r"|语气|风格|口吻|文风|正式|口语|幽默|讽刺|学术|专业|友好|第一人称|第三人称|以.{1,8}的(?:身份|角度|视角)|通俗|比喻|拟人|排比"
        r"|押韵|修辞|生动|情感|氛围|文言"
    ),
    "content": (
        r"\b(?:includ(?:e|es|ing)|mention(?:ing)?|contain(?:s|ing)?|cover(?:s|ing)?|focus(?:es|ing)? on|incorporat(?:e|es|ing)"
        r"|address(?:es|ing)?|refer(?:ring)? to|cit(?:e|ing)|use the (?:word|phrase|following)"
        r"|must|should|ensure|make sure|need(?:s)? to|require[sd]?|consider(?:ing)?|based on|according to|given that|assum\w+|suppose"
        r"|explain(?:ing)? (?:why|how)|support(?:ed)? (?:by|with)|provid(?:e|ing)|identify)\b"
        r"|包括|包含|提到|提及|涉及|涵盖|围绕|聚焦|引用|结合|使用|必须|应该|应当|需要|确保|务必|要求|考虑|基于|根据|假设|假如"
        r"|解释(?:为什么|原因)|说明(?:原因|理由)|突出|强调|体现|给出|提供|指出"
    ),
    "ban": (
        r"\b(?:do not|don't|never|without|avoid(?:ing)?|except|exclud(?:e|ing)|no (?:more )?(?:explanation|repetition)|not (?:use"
        r"|include|mention)|refrain|only|rather than|instead of)\b"
        r"|不要|不能|不可|不得|禁止|避免|切勿|请勿|除了|仅|只(?:能|用|需|要)|而不是|无需"
    ),
    "order": (
        r"\b(?:first(?:ly)?|second(?:ly)?|then|next|finally|after that|followed by|before|begin(?:s|ning)? with|start(?:s|ing)? with"
        r"|end(?:s|ing)? with|conclude|in order|alphabetical\w*|chronological\w*|step[- ]by[- ]step"
        r"|also|additionally|furthermore|moreover|in addition|as well as|while|at the same time|along with|respectively|each)\b"
        r"|首先|其次|然后|接着|最后|开头|结尾|开始|结束|依次|顺序|按照|逐步|一步步|同时|此外|另外|并且|以及|还要|还需|分别|每个|每一"
        r"|再(?=[将把用给])"
    ),
    "language": (
        r"\b(?:in|into|using) (?:english|chinese|french|spanish|german|japanese|latin|python|java|javascript|c\+\+|sql)\b|用(?:中文"
        r"|英文|英语|法语|日语|德语)|(?:中|英|法|日|德)文|Python|Java"
    ),
    "role": (
        r"\b(?:you are|act as|imagine (?:you|that)|pretend|role|audience|for (?:children|beginners|kids|students|experts|a (?:general"
        r"|young))|target(?:ed)? (?:at|to))\b"
        r"|你是|扮演|假设你|想象你|作为一[名位个]|面向|适合|读者|受众|针对"
    ),
}  # fmt: skip
KINDS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _PATTERNS.items()}


@scorer(
    "constraints",
    low=0,
    high=HIGH,
    better="none",
    langs=("zh", "en"),
    tier="rules",
    paper="Jiang et al. 2024 (FollowBench)",
)
def constraints(examples: Sequence[Example]) -> Iterator[Score]:
    """The number of distinct conditions in the instruction, at most 50; `why` counts them by kind.

    Kinds: length, count, bound, format, style, content, ban, order, language, role. The same words count once. None for an instruction
    without words and for languages other than English and Chinese.
    """
    for row in examples:
        said = row.instruction[:MOST]
        language = text.lang(said)
        if language not in ("zh", "latin"):
            why = say(f"no rules for this language ({language or '-'})", f"没有该语言的规则（{language or '-'}）")
            yield Score(row.id, "constraints", None, why)
            continue
        found = {
            kind: len({match.group().lower() for match in pattern.finditer(said)}) for kind, pattern in KINDS.items()
        }
        why = ", ".join(f"{kind} {count}" for kind, count in found.items() if count)
        yield Score(row.id, "constraints", float(min(HIGH, sum(found.values()))), why)
