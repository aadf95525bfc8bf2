"""Marks that machines leave: outputs caught in a loop, and prompts, labels and control tokens that leaked into the text."""

from __future__ import annotations

import re

from zhiling import text
from zhiling.errors import say
from zhiling.types import Example

PROBE, TIMES = 12, 4  # a looped output holds any run of so many characters at least so many times
MOST = 8000  # characters of an output that are looked at
LOOP = 4  # repetitions in a row, of 12 tokens and more in all
SAME_LINES = 3
STUCK, END = 8, 4  # repetitions up to the very end; characters there that tell in short outputs whether to look

# Here repetition may be what was asked for, or the way such texts are.
_may_repeat = re.compile(
    r"\brepeat\w*|repetiti\w*|\b(?:times|poem|song|lyrics|chorus|rap|verse|chant|pattern|table|matrix|sequence|list of \d|binary|ascii"
    r"|rhythm|onomatopoeia"
    r"|sounds?|laugh\w*|echo|html|css|xml|json|sql|csv|code|tests?|loop|array|schedule|calendar|crossword|grid|board|copies|keras"
    r"|neural|function|program|script|drum|beat"
    r"|tongue)\b"
    r"|重复|反复|\d+[次遍]|诗|歌|词曲|说唱|绕口令|表格|矩阵|序列|规律|图案|代码|程序|数组|拟声|象声|叠词|网页|脚本|变量|日程|棋盘",
    re.IGNORECASE,
)
_asked_to = re.compile(
    r"\brepeat\w*|repetiti\w*|\d+ times|\b(?:twice|thrice|(?:ten|twenty|hundred|thousand|several|many|multiple) times|chant|chorus|lyrics"
    r"|binary|ascii|pattern|matrix|grid|array|copies|tongue|rhythm|onomatopoeia|laugh\w*|sounds?)\b"
    r"|重复|反复|\d+[次遍]|歌词|绕口令|矩阵|图案|数组|拟声|象声|叠词",
    re.IGNORECASE,
)
_token = re.compile(
    r"<\|(?:im_start|im_end|endoftext|system|user|assistant|eot_id|start_header_id|end_header_id|end_of_text|begin_of_text|endofprompt"
    r"|eom_id)\|?>?"
    r"|<\|?(?:start_of_turn|end_of_turn)\|?>|\[/?INST\]|<</?SYS>>|<｜(?:User|Assistant|begin▁of▁sentence|end▁of▁sentence)｜>|^\s*</?s>"
    r"|</s>\s*$|\[/?(?:gMASK|sMASK)\]",
)
_preamble = re.compile(
    r"Below is an instruction that describes a task|Write a response that appropriately completes the request"
    r"|A chat between a curious (?:user|human) and an artificial intelligence assistant"
    r"|You are (?:an? )?(?:helpful|friendly|honest|expert|AI|large language)[\w ,]{0,40}? (?:assistant|model)\b"
    r"|Your task is to (?:answer|follow|respond to) the (?:user|instruction|question)"
    r"|(?:以下|下面)是一[条个](?:描述|说明)任务的指令|请(?:写出|给出|编写)(?:一个)?(?:适当|恰当)(?:地)?(?:完成|回应)[^。]{0,8}(?:请求"
    r"|要求|指令)的?"
    r"|你是一[个名](?:有用|乐于助人|有帮助|专业|智能|友好)的?[^。，]{0,10}(?:助手|助理|模型|机器人)",
    re.IGNORECASE,
)
_hints = (
    "below is an",
    "write a response",
    "a chat between",
    "you are a",
    "your task is",
    "任务的指令",
    "请写",
    "请给",
    "请编",
    "你是一",
)
_about_prompts = re.compile(
    r"prompt|chatbot|system message|assistant|language model|role-?play|\bAI\b|token|template|提示词|提示语|聊天机器人|系统消息|助手"
    r"|助理|语言模型|角色扮演|模板",
    re.IGNORECASE,
)

_writes_prompts = re.compile(
    r"\bprompts?\b|system message|assistant|chatbot|role-?play|token|template|提示词|提示语|聊天机器人|系统消息|助手|助理|角色扮演|模板",
    re.IGNORECASE,
)


def repetition(row: Example) -> str:
    """What an output repeats when it is caught in a loop: a run of tokens over and over, or the same lines."""
    said = row.output[-MOST:].strip()
    size = len(said)
    if size < PROBE * TIMES // 2 or not _probed(said):
        return ""
    if _may_repeat.search(row.instruction):
        return "" if _asked_to.search(row.instruction) else _stuck(text.tokens(said))
    lines = [line.strip() for line in said.split("\n") if text.length(line) > 3]
    for line in dict.fromkeys(lines):
        again = lines.count(line)
        if again > SAME_LINES and 2 * again >= len(lines):
            return f"{again} x {text.cut(line, 40)}"
    tokens = text.tokens(said)
    return _loop(tokens) or _stuck(tokens)


def _probed(said: str) -> bool:
    """Whether a few characters from the end, the middle or three quarters stand in the text again and again: fast, and misses no loop there."""
    size = len(said)
    return (
        said.count(said[size - PROBE :]) >= TIMES
        or said.count(said[size // 2 : size // 2 + PROBE]) >= TIMES
        or said.count(said[3 * size // 4 : 3 * size // 4 + PROBE]) >= TIMES
        or said.count(said[size - 2 * PROBE : size - PROBE]) >= TIMES
        or said.count(said[-END:]) >= STUCK
    )


def _loop(tokens: list[str]) -> str:
    """The shortest run of tokens that follows itself at least four times."""
    for period in range(1, min(len(tokens) // LOOP, 60) + 1):
        need = max(period * (LOOP - 1), 12 - period)
        run = 0
        for at in range(period, len(tokens)):
            run = run + 1 if tokens[at] == tokens[at - period] else 0
            if run >= need:
                unit = tokens[at - period + 1 : at + 1]
                if not all(map(str.isdigit, unit)):
                    return f"… {text.cut(' '.join(unit), 40)} …"
    return ""


def _stuck(tokens: list[str]) -> str:
    """The shortest run of tokens that follows itself at least eight times up to the very end, as a model does that finds no end."""
    for period in range(1, min(len(tokens) // STUCK, 60) + 1):
        unit = tokens[-period:]
        if all(tokens[-period * (k + 1) : -period * k] == unit for k in range(1, STUCK)) and _says(unit):
            return f"… {text.cut(' '.join(unit), 40)} …"
    return ""


def _says(unit: list[str]) -> bool:
    """Whether it is words that are repeated: no digits, and no sound written out (ha ha ha, 哈哈哈)."""
    return not all(map(str.isdigit, unit)) and (len(unit) > 1 or len(unit[0]) > 3)


def leaked(row: Example) -> str:
    """A chat format's control token, a prompt's usual preamble, or the instruction itself at the head of the output."""
    for said in (row.output, row.instruction, row.input):
        if ("<" in said or "[" in said) and (found := _token.search(said)):
            return (
                "" if _about_prompts.search(row.instruction) and said is not row.output else text.cut(found.group(), 40)
            )
    head = row.output[:MOST]
    found = _preamble.search(head) if any(hint in head.lower() for hint in _hints) else None
    if found and not (
        _about_prompts.search(row.instruction) if found.start() else _writes_prompts.search(row.instruction)
    ):
        return text.cut(found.group(), 40)
    return restated(row)


def restated(row: Example) -> str:
    """The instruction itself at the head of the output."""
    asked = row.instruction.strip()
    if not asked or not row.output.lstrip().startswith(asked):
        return ""
    more = row.output.strip()[len(asked) :]
    if (len(asked) >= 15 and _is_request(asked) and len(more) > 20) or (more.startswith("\n") and _no_title(asked)):
        return say("the output begins with the instruction", "输出以指令开头")
    return ""


def _no_title(asked: str) -> bool:
    """A line that is no heading, and may not stand above an answer as its own: a sentence, or words few of which are capitalised."""
    if "\n" in asked or text.length(asked) < 4:
        return False
    words = [word for word in asked.split() if word[0].isalpha()]
    plain = asked.isascii() and 2 * sum(word[0].isupper() for word in words) <= len(words)
    return plain or asked[-1] in ".?!。？！：" or (not asked.isascii() and _zh_request.search(asked) is not None)


_request = re.compile(
    r"(?:please |can you |could you )?(?:write|create|generate|give|provide|describe|explain|list|make|find|name|tell|translate"
    r"|summari[sz]e|classify"
    r"|rewrite|identify|compose|design|calculate|compare|convert|edit|suggest|construct|outline|analy[sz]e|answer|read|choose|select"
    r"|determine)\b"
    r"|.*[?？]$|请|写|创建|生成|给出|提供|描述|解释|列出|翻译|总结|分类|改写|设计|计算|比较|编写|介绍|根据|将|把",
    re.IGNORECASE,
)


_zh_request = re.compile(
    r"^(?:请|写|创|生成|给|提供|描述|解释|列|翻译|总结|分|改|设计|计算|比较|编|介绍|根据|将|把|用|为|对|从|找|说|识别|回答|判断|构|制|使用|建议|推荐|选择)"
)


def _is_request(asked: str) -> bool:
    return "\n" not in asked and (asked[-1] in ".?!。？！" or _request.match(asked) is not None)
