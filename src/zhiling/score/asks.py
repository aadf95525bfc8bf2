"""Semantic clarity by rules: can what is asked be done with what the row brings?

A rule looks at the user's side of the row alone. Each fault has a code and a weight; the rules are English and Chinese, and lean to
silence: what may be meant otherwise is let pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from zhiling import text
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.asks_limits import contradiction
from zhiling.score.signals import content
from zhiling.types import Example, Score

MOST = 4000  # characters of an instruction that are looked at

_MATTER = (
    r"(?:sentences?|paragraphs?|passages?|texts?|articles?|stor(?:y|ies)|poems?|code|snippets?|programs?|functions?|tables?|lists?"
    r"|data ?sets?"
    r"|data|e-?mails?|letters?|reviews?|tweets?|posts?|words?|phrases?|numbers?|questions?|statements?|dialogues?|conversations?|quotes?"
    r"|equations?|expressions?|problems?|excerpts?|speech|essays?|documents?|reports?|strings?|arrays?|sets?|information|input|scenarios?"
    r"|contexts?|details|items|pairs?|options|facts|lines?|abstract|report|headlines?|titles?|queries|query|recipe|descriptions?"
    r"|argument|lyrics|song|definition|clues?|prompt|websites?|web ?pages?|art ?works?|art pieces?|blog)"
)
_ZH_MATTER = (
    r"(?:句子|段落|短文|文章|文本|文字|段话|句话|内容|故事|诗|诗歌|代码|程序|函数|表格|列表|数据|邮件|信件|评论|单词|词语|词汇|短语"
    r"|数字|问题|对话|引文|方程|表达式|材料|资料|报告|文档|信息|题目|选项|标题|新闻|摘要|描述|陈述|评价|场景|情景|条件|段|句|列)"
)
_given = re.compile(
    rf"\b(?:the|this|these) (?:following|(?:text|passage|one)s? below|below)\b(?: \w+){{0,3}}? {_MATTER}\b"
    rf"|\bthe (?:(?:given|provided|supplied|attached|below|aforementioned) )(?:\w+ ){{0,2}}?{_MATTER}\b"
    rf"|\b(?:the|this|these) (?:\w+ )?{_MATTER} (?:below|given below|provided below|that follows?)\b"
    rf"|\b(?:summari[sz]e|rewrite|translate|edit|correct|proofread|paraphrase|analy[sz]e|classify|rephrase|punctuate|shorten"
    rf"|convert) (?:this|these)"
    rf" (?:\w+ )?{_MATTER}\b(?! (?:of|about|on|for|in which)\b)"
    r"|\bthe following[.:]?\s*$"
    r"|^(?:please )?(?:rewrite|edit|correct|proofread|paraphrase|rephrase|summari[sz]e|translate|classify|shorten|punctuate|reword"
    r"|categori[sz]e|simplify)"
    r" (?:the|this|these) (?:\w+ )?(?:sentences?|paragraphs?|passages?|texts?|articles?|poem|code|e-?mail|statements?|phrases?|words?"
    r"|reviews?|quote|tweet"
    r"|items?|animals?|objects?|data|input|essay|document)\b(?! (?:of|about|on|by|called|titled|[\"'“]))",
    re.IGNORECASE,
)
_zh_given = re.compile(
    rf"(?:以下|下面|下列|如下)(?:的|这|那|所给|给出|给定|提供)?(?:[一几两三]?[个段篇句首组份条])?的?[^，。！？；：\n]{{0,6}}?{_ZH_MATTER}"
    rf"|(?:给定|所给|提供的|给出的)的?[^，。！？；：\n]{{0,6}}?{_ZH_MATTER}"
    rf"|^(?:请)?(?:将|把|对)?(?:这个|这段|该|此)?(?:句子|段落|文本|短文|这句话|这段话|这篇文章|这首诗)(?:翻译|改写|改成|改为|转换|重写"
    rf"|缩短|简化|分类|进行)"
    rf"|^(?:请)?(?:改写|重写|翻译|总结|概括|编辑|校对|缩短|简化|润色|改正|纠正|分类)(?:这个|这段|这篇|这首|该|此|一下)?(?:句子|段落"
    rf"|文本|文章|短文|诗歌?|代码|邮件|陈述)"
    rf"(?!的(?:方法|技巧|步骤))"
    rf"|(?:总结|概括|翻译|改写|润色|修改|分析|缩写|扩写|续写|校对|朗读)(?:一下)?这(?:段|篇|句|首|个"
    rf"|组)[^，。！？；：\n]{{0,4}}?{_ZH_MATTER}?"
)
# Speaks of what is to be made, or of a form, rather than of matter that is given.
_to_make = re.compile(
    r"\b(?:in|using|with|into|as|like|has|have|includ\w*|contain\w*|follow\w*) (?:the )?(?:following|given|provided|below) (?:format"
    r"|structure|form|style|order|template|pattern|layout)\b"
    r"|以下(?:格式|形式|结构|顺序|模板|要求|步骤)|the following (?:format|structure)",
    re.IGNORECASE,
)
_matter_here = re.compile(
    r"[:：]\s*\S|\s[-–—]\s\S|\n\s*\S.{3,}|[\"“‘「『《`][^\n]{2,}[\"”’」』》`]|(?<!\w)'[^\n]{3,}'(?!\w)|```|\([^)\n]{8,}\)"
    r"|（[^）\n]{4,}）|\[[^\]\n]{3,}\]|\{|=|\d+\s*[-+*/,]\s*\d+"
    r"|https?://|\b[A-Z][\w' ]+, [A-Z][\w' ]+,? (?:and|or) [A-Z]"
)
_program = re.compile(
    r"\b(?:program|function|code|algorithm|script|query|regex|method|class|pseudo-?code|sql|python|java|sentence structure)\b|程序"
    r"|函数|代码|算法|脚本|正则|查询语句|方法",
    re.IGNORECASE,
)
_link = re.compile(r"https?://[^\s，。）)\"'<>]+|www\.[^\s，。）)\"'<>]+")
_about_link = re.compile(
    r"\b(?:urls?|domain|hyperlink|shorten|parse|valid\w*|protocol|encode|decode|regex|html|cite|citation)\b|域名|网址|链接地址|解析",
    re.IGNORECASE,
)
_fetch = re.compile(
    r"\b(?:summari[sz]e|read|visit|analy[sz]e|describe|review|extract|classify|find|identify)\b|总结|概括|阅读|访问|分析|描述|提取|介绍",
    re.IGNORECASE,
)
_unseen = re.compile(
    r"https?://|www\.|!\[|<\s*(?:img|image|figure|photo|picture)|^\W*(?:an? |the )?(?:attached|image|photo|picture|figure|painting"
    r"|chart|diagram|插入|图|照片)(?:\W+\w+){0,3}\W*$|^[\[(（<【][^\])）>】]{1,30}[\])）>】]$",  # words enough to go by are a description
    re.IGNORECASE,
)
_elsewhere = re.compile(
    r"\b(?:story|scene|dialog(?:ue)?|email|e-mail|letter|message|sentence|script|quote|translat\w*|code|function|program|app|query"
    r"|algorithm|chatbot|api|sql"
    r"|python|javascript|java|html|website|class|how (?:to|do|does|can|would)|explain|ways? to|keep (?:up|track|an eye)|design"
    r"|web ?page|display|headlines?|if the|based on|article|what (?:is|are) (?:an?|the (?:meaning|difference|purpose|definition))"
    r"|in the style|example)\b"
    r"|故事|对话|邮件|信|短信|句子|剧本|翻译|代码|函数|程序|算法|查询|网站|如何|怎么(?!样)|怎样|解释|介绍|例子|例句|造句|接口|小程序|应用",
    re.IGNORECASE,
)
_back = re.compile(
    r"\b(?:the|this|these|from the) above(?:[- ]mentioned)?\b|\bthe (?:\w+ )?(?:sentence|paragraph|passage|text|article|list|table"
    r"|question|statement|example|information|code)s? above\b"
    r"|\b(?:as|was|were|I|we|you) (?:just )?(?:mentioned|stated|discussed|described|said) (?:above|before|earlier|previously)\b"
    r"|\bas mentioned\b"
    r"|\b(?:your|the|my) (?:previous|last|earlier) (?:answer|response|question|message|reply|instruction|prompt|output|conversation)\b"
    r"|上文|(?:^|[，。：从据将把对于在结答])(?:上述|以上)(?:的|这|内容|文|信息|对话|材料|问题|代码)|上面(?:的|这|提到|那)|(?:前面|刚才"
    r"|之前|先前)(?:提到|说|讲|的(?:回答|问题|对话|内容|答案))|前文",
    re.IGNORECASE,
)
_watch = re.compile(
    r"\b(?:see|look(?:ing)? at|view|examine|describe|based on|according to|in|from|analy[sz]e|caption(?: for)?|identify"
    r"|shown in) (?:the |this |these )"
    r"(?:\w+ ){0,2}?(?:picture|image|photo(?:graph)?|figure|diagram|screenshot|painting|drawing|chart|graph|map)s?\b(?! (?:of|by|titled"
    r"|called|format|['\"‘“])\b| ['\"‘“])"
    r"|\b(?:attached|uploaded) (?:file|image|picture|photo|document|pdf|spreadsheet|audio|video)\b"
    r"|\b(?:watch|listen to) (?:this|these|the following|the attached|the given) (?:\w+ )?(?:video|clip|movie|film|audio|recording|song"
    r"|podcast|speech|music)\b"
    r"|\b(?:open|click|visit|go to|follow|read|browse) (?:on )?(?:the|this) (?:\w+ )?(?:link|url|website|webpage|web page)\b"
    r"|(?:看|观察|根据|参考|描述|分析|识别)(?:一下)?(?:下|这|上|以下|下面|下列|所给|给出)?(?:的)?(?:这)?(?:张|幅|个)?(?:图片|照片|图像"
    r"|截图|图中|下图|上图|附图)(?!书)"
    r"|(?:如|见|看)(?:下|上|附|右|左)图|(?:观看|收看)(?:这|以下|下面|视频|该)|(?:收听|听)(?:一下)?(?:这|以下|下面)(?:段|首"
    r"|个)?(?:的)?(?:音频|录音|歌曲|音乐)"
    r"|(?:打开|点击|访问)(?:这个|以下|下面的?|该|此)?(?:链接|网址|网页|网站)|附件(?:中|里|的)",
    re.IGNORECASE,
)
_draw = re.compile(
    r"^(?:please |can you |could you )?(?:draw|paint|sketch|generate|create|make|produce|take|show me|find) (?:me )?(?:an? "
    r"|the )?(?:\w+ ){0,2}?(?:picture|image|photo(?:graph)?|painting|portrait|gif)s?\b(?!-| (?:prompt|book|caption|description"
    r"|processing|frame|album|classif))"
    r"|^(?:please )?play (?:me )?(?:a|the|some) (?:\w+ )?(?:song|music|tune|video)"
    r"|^(?:请)?(?:帮我|给我|为我)?(?:画|绘制|绘|拍)(?:一|出)?(?:一)?(?:张|幅|个|只)[^，。]{0,12}(?:图|画|照片|像)?|^(?:请)?(?:帮我"
    r"|给我)?(?:生成|制作)(?:一)?(?:张|幅)[^，。]{0,12}(?:图片|照片|图像)"
    r"|^(?:请)?(?:播放|放一首)",
    re.IGNORECASE,
)
_now = re.compile(
    r"\bwhat(?:'s| is| will be| are)? (?:the )?(?:current |today's |tomorrow's |latest )?(?:weather|temperature)(?: like"
    r"| forecast)? (?:today|now|tomorrow|right now|outside|currently|in|at|for)\b(?! (?:fahrenheit|celsius|kelvin|degrees))"
    r"(?!.{0,40}\b(?:january|february|march|april|may|june|july|august|september|october|november|december|spring|summer|autumn|winter)\b)"
    r"|\b(?:today's|tomorrow's|current|latest) (?:weather|temperature in|forecast|news|headlines|stock (?:price|market)|price of"
    r"|exchange rate|time in|date and time|score of)\b"
    r"|\bwhat (?:time|day|date) is it\b|\bwhat(?:'s| is) (?:the (?:current )?time(?: right)?(?: now| in [A-Z]\w+)?[?.!]*$|today's date"
    r"|the date today)|\bin real[- ]time\?$"
    r"|(?:今天|明天|现在|当前|目前|实时|此刻)的?(?:[^，。？！]{0,6})(?:天气|气温|股价|汇率|油价|新闻|头条)(?:怎么样|如何|是|情况|预报"
    r"|多少|有)?|现在(?:是)?几点|今天(?:是)?(?:几号|星期几|周几|什么日子)"
    r"|(?:最新|实时)的?(?:股价|汇率|新闻|天气|比分|头条)",
    re.IGNORECASE,
)
_bare = re.compile(
    r"(?:please )?(?:can you |could you )?(?:(?:write|say|tell me|do|make|give me|create|generate|explain) (?:me )?(?:something"
    r"|anything|stuff|it|this|that|more)"
    r"|help(?: me)?(?: (?:please|with (?:this|it|something)))?|continue|go on|more|next|again|try again|yes|no|ok(?:ay)?|hi|hello|hey"
    r"|test(?:ing)?|why|how|what|who"
    r"|tell me|explain|write|answer|do it|question|instruction|n/?a)(?: please)?"
    r"|(?:请)?(?:帮我|给我)?(?:随便)?(?:写|说|做|来|讲|弄)(?:一)?(?:点|些)?(?:什么|东西|啥|内容)?|(?:请)?(?:帮帮我|帮帮忙|帮忙|帮我"
    r"|帮助我?|继续|接着说?|然后呢|再来一[个次]|再说一遍|解释一下|为什么|怎么办|怎么做|你好|您好|在吗|测试|好的?|是的|嗯|谢谢)(?:吧|呢"
    r"|吗|一下)?",
    re.IGNORECASE,
)
_leftover = re.compile(
    r"^\s*(?:thanks|thank you|ok(?:ay)?,? (?:now|so|but|then)|great[,!] (?:now|can)|yes,? please|no,? (?:i|that|you|it)\b"
    r"|sorry,? i meant|actually,)"
    r"|\b(?:regenerate|as (?:i|you) (?:said|asked|told)|like (?:i|you) said|you (?:just )?(?:said|told me|wrote|gave me)"
    r"|continue (?:from )?where you (?:left|stopped)|keep going|your (?:answer|response) (?:was|is) (?:wrong|incorrect|too))\b"
    r"|^\s*(?:human|user|assistant|gpt|chatgpt|bot)\s*[:：].*\n\s*(?:human|user|assistant|gpt|chatgpt|bot)\s*[:：]"
    r"|^\s*(?:谢谢(?=[！!。，,]|你的)|好的[，,]|不对[，,]|对了[，,]|没错[，,]|嗯[，,]|是的[，,]|可以[，,]那)|你(?:刚才|刚刚|上次"
    r"|前面)(?:说|写|给|回答|提到)|(?:重新|再)(?:回答|生成)一(?:次|遍|下)|接着(?:上面|刚才|前面)"
    r"|^\s*(?:用户|助手|问|人类)\s*[:：].*\n\s*(?:用户|助手|答|机器人)\s*[:：]",
    re.IGNORECASE | re.DOTALL,
)
_VERBS = (
    r"(?:write|create|generate|give|provide|describe|explain|list|make|find|name|tell|translate|summari[sz]e|classify|rewrite|identify"
    r"|compose|design"
    r"|calculate|compare|convert|edit|suggest|construct|outline|define|analy[sz]e|develop|propose|determine|compute|arrange|sort"
    r"|come up with|draft)"
)
_request = re.compile(
    rf"^(?:(?:also|then|next|additionally|finally|and|second(?:ly)?|in addition|please|now)[, ]+)*(?:please )?{_VERBS}\b"
    r"|^(?:(?:also|and)[, ]+)?(?:what (?:is|are|was|were)|who|when|where|how (?:many|much|do|does|did|to|can))\b.*\?\s*$"
    r"|^(?:另外|还有|此外|同时|然后|接着|再|最后|其次)?[，,]?(?:请|麻烦)?(?:你|您)?(?:帮我|给我|为我)?(?:写|创建|生成|给出|提供|描述"
    r"|解释|列出|翻译|总结|分类|改写|设计|计算|比较|编写|介绍|说明|推荐|分析|找出)",
    re.IGNORECASE,
)
_lead = re.compile(rf"^(?:(?:also|then|and|please|now)[, ]+)*{_VERBS}\b", re.IGNORECASE)
_refers = re.compile(
    r"\b(?:it|its|they|them|their|this|that|these|those|he|she|his|her|one|ones|each|both|such|same|answer|why|example|result|output"
    r"|solution|story|above"
    r"|reason\w*|sentences?|words?|list|so|then|if|your|you)\b|它|他|她|这|那|其|该|此|每|两者|上述|答案|原因|理由|为什么|结果|例子"
    r"|示例|并|同样|分别|你",
    re.IGNORECASE,
)


@scorer(
    "asks",
    low=0,
    high=1,
    better="high",
    langs=("zh", "en"),
    tier="rules",
    paper="Taori et al. 2023 and AlpacaDataCleaned (kinds of faults)",
)
def asks(examples: Sequence[Example]) -> Iterator[Score]:
    """1 less the weighted faults of what is asked, at least 0; `why` begins with their codes. 1 says that no rule found a fault.

    Codes: missing_input 0.6 (speaks of a passage that is nowhere), reference 0.5 ("the above", 上文, with nothing before it), impossible 0.6
    (a picture, a recording, a link, the weather now), merged 0.4 (unrelated requests in one), contradiction 0.5 ("one word ... at least
    50 words"), underspecified 0.6 ("write something"), leftover 0.3 (of a conversation that is not there). None for an empty
    instruction and for languages other than English and Chinese.
    """
    for row in examples:
        language = text.lang(row.instruction[:MOST])
        if not language:
            yield Score(row.id, "asks", None, say("the instruction has no words", "指令没有文字"))
        elif language not in ("zh", "latin"):
            yield Score(
                row.id, "asks", None, say(f"no rules for this language ({language})", f"没有该语言的规则（{language}）")
            )
        else:
            found = {code: what for code, (_, check) in FAULTS.items() if (what := check(row))}
            value = max(0.0, 1 - sum(FAULTS[code][0] for code in found))
            why = f"{', '.join(found)}: {'; '.join(found.values())}" if found else ""
            yield Score(row.id, "asks", round(value, 4), why)


def matter_here(instruction: str) -> bool:
    """Whether the instruction brings something to work on itself: a quotation, what follows a colon, numbers, lines of its own."""
    return _matter_here.search(instruction[:MOST]) is not None


def _alone(row: Example) -> bool:
    """Whether the instruction stands without input and without turns before it."""
    return text.blank(row.input) and not row.history


def _missing_input(row: Example) -> str:
    said = row.instruction[:MOST]
    if not _alone(row) or len(text.tokens(said)) > 80 or _matter_here.search(said):
        return ""
    found = _given.search(said) or _zh_given.search(said)
    if not found or _to_make.search(said) or any(sign.isdigit() for sign in said[found.end() :]):
        return ""
    others = [part for part in text.sentences(said) if found.group() not in part]
    given = any(
        not _request.search(part) and text.length(part) > 2 for part in others
    )  # the matter stands beside the request
    return "" if given or _program.search(said) else text.cut(found.group(), 40)


def _reference(row: Example) -> str:
    said = row.instruction[:MOST]
    found = _back.search(said) if _alone(row) else None
    if (
        not found
        or len(said[: found.start()].strip()) > 60
        or "\n" in said[: found.start()].strip()
        or _matter_here.search(said)
    ):
        return ""
    return text.cut(found.group(), 40)


def _impossible(row: Example) -> str:
    said = row.instruction[:MOST]
    given = row.input.strip()
    if row.history or not (text.blank(given) or (text.length(given) <= 30 and _unseen.search(given))):
        return ""
    if (found := _watch.search(said)) and len(text.tokens(said)) <= 80 and not _matter_here.search(said):
        return text.cut(found.group(), 40)
    if (found := _draw.search(said.strip())) and not re.search(
        r"ascii|svg|html|code|python|prompt|代码|字符", said, re.IGNORECASE
    ):
        return text.cut(found.group(), 40)
    if link := _only_link(said, given):
        return text.cut(link, 40)
    found = _now.search(said) if text.blank(row.input) else None
    return text.cut(found.group(), 40) if found and not _elsewhere.search(said) else ""


def _only_link(said: str, given: str) -> str:
    """The address that stands where the matter itself should."""
    if _link.fullmatch(given) and not _about_link.search(said):
        return given
    found = _link.search(given or said)
    if not found or (not _given.search(said) and not _zh_given.search(said) and not _fetch.search(said)):
        return ""
    rest = _link.sub("", given or said[said.find("http") :] if "http" in said else given)
    return (
        found.group() if text.length(rest) <= 3 and not _program.search(said) and not _about_link.search(said) else ""
    )


def _merged(row: Example) -> str:
    """Requests that share no content word, the later of which refers back to nothing."""
    said = row.instruction[:MOST].strip()
    if "\n" in said or text.length(said) > 120:
        return ""
    requests = [part for part in text.sentences(said) if _request.search(part)]
    if len(requests) < 2 or any(mark in said for mark in '"“「:：'):
        return ""
    words = [content(part) for part in requests]
    for at in range(1, len(requests)):
        before = frozenset().union(*words[:at])
        if (
            len(words[at]) >= 3
            and len(before) >= 2
            and not words[at] & before
            and not _refers.search(_lead.sub("", requests[at]))
        ):
            return text.cut(requests[at], 60)
    return ""


def _contradiction(row: Example) -> str:
    return contradiction(row.instruction[:MOST])


def _underspecified(row: Example) -> str:
    said = row.instruction.strip().strip(" .!?。！？~～…\"'")
    return text.cut(said, 40) if _alone(row) and len(said) < 40 and _bare.fullmatch(said) else ""


def _leftover_(row: Example) -> str:
    found = _leftover.search(row.instruction[:MOST]) if not row.history else None
    return text.cut(found.group(), 40) if found and not re.search('["“「]', row.instruction) else ""


FAULTS: dict[str, tuple[float, Callable[[Example], str]]] = {
    "missing_input": (0.6, _missing_input),
    "reference": (0.5, _reference),
    "impossible": (0.6, _impossible),
    "merged": (0.4, _merged),
    "contradiction": (0.5, _contradiction),
    "underspecified": (0.6, _underspecified),
    "leftover": (0.3, _leftover_),
}
