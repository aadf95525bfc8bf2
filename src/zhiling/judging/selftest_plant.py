"""Defects to plant in sound rows: each function spoils a row in one way, or says with None that this row cannot carry the defect."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from zhiling import text
from zhiling.score.lacks_input import refers
from zhiling.types import Example

Plant = Callable[[Example, Example, int], Example | None]
"""(row, another row, seed) -> the spoilt row."""

_FOREIGN = {
    "zh": (
        "The ferry leaves the harbour at noon and reaches the island before dark, so there is time for a walk along the shore.",
        "A good loaf needs flour, water, salt and patience; most of the work is done by the yeast while the baker sleeps.",
        "Old maps show the river further to the east, where the market stands today and boats were once repaired.",
    ),
    "en": (
        "渡船中午离开港口，天黑之前到达小岛，所以还有时间沿着海边走一走，看看那里的灯塔。",
        "好面包需要面粉、水、盐和耐心，大部分工作是在面包师睡觉时由酵母完成的，急不得。",
        "旧地图上这条河更靠东边，就是今天市场所在的地方，从前人们在那里修理船只。",
    ),
}
_REFUSALS = {
    "en": (
        "I'm sorry, but I can't assist with that.",
        "As an AI language model, I do not have access to this information.",
        "I apologize, but I am unable to provide an answer to this request.",
        "Unfortunately, I cannot help you with this.",
    ),
    "zh": (
        "很抱歉，我无法回答这个问题。",
        "作为一个人工智能语言模型，我无法提供这方面的内容。",
        "对不起，我不能帮助您完成这个请求。",
        "抱歉，我没有足够的信息来回答您的问题。",
    ),
}
_MERGED = {
    "en": (
        "{out}\n\n### Instruction:\n{ask}\n\n### Response:\n{other}",
        "{out}\n\n7. Instruction: {ask}\n7. Output:\n{other}",
        "{out}\n\nUser: {ask}\nAssistant: {other}",
        "{out}\nInstruction: {ask}\nOutput: {other}",
    ),
    "zh": (
        "{out}\n\n### 指令：\n{ask}\n\n### 回答：\n{other}",
        "{out}\n\n用户：{ask}\n助手：{other}",
        "{out}\n指令：{ask}\n输出：{other}",
    ),
}
_LEAKED = {
    "en": (
        "<|im_start|>user\n{ask}<|im_end|>\n<|im_start|>assistant\n{out}",
        "[INST] {ask} [/INST] {out}",
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n{ask}\n\n{out}",
        "You are a helpful assistant. {out}",
        "{ask}\n{out}",
    ),
    "zh": (
        "<|im_start|>user\n{ask}<|im_end|>\n<|im_start|>assistant\n{out}",
        "以下是一条描述任务的指令，请给出恰当的回应。\n{ask}\n{out}",
        "你是一个乐于助人的助手。{out}",
        "{ask}\n{out}",
    ),
}
_SLOTS = {
    "en": ("{{ topic }}", "[INSERT NAME]", "[your text here]"),
    "zh": ("{{ 主题 }}", "【请在此填写】", "（此处填写内容）"),
}


def _lang(row: Example) -> str:
    return "zh" if text.lang(row.instruction + row.output) == "zh" else "en"


def _pick(choices: Mapping[str, Sequence[str]], row: Example, seed: int) -> str:
    told = choices[_lang(row)]
    return told[seed % len(told)]


def empty(row: Example, other: Example, seed: int) -> Example | None:
    """The output is gone, or says that it is."""
    return replace(row, output=("", " \n", "<nooutput>", "N/A")[seed % 4])


def swapped(row: Example, other: Example, seed: int) -> Example | None:
    """The output of another row, where both are whole answers."""
    if min(text.length(row.output), text.length(other.output)) < 8 or row.instruction == other.instruction:
        return None
    return replace(row, output=other.output)


def dropped(row: Example, other: Example, seed: int) -> Example | None:
    """The input is gone, where the instruction points to one ("the following text", 这句话) and does not hold it as well.

    A question that stands without its passage ("Who painted the Mona Lisa?") is no defect without it, and is left alone.
    """
    given = row.input.strip()
    if text.length(given) < 5 or not refers.search(row.instruction) or given.rstrip(".。") in row.instruction:
        return None
    return replace(row, input="")


def garbled(row: Example, other: Example, seed: int) -> Example | None:
    """The output as it looks after decoding with the wrong table; where that changes nothing, every twentieth character is lost."""
    if text.length(row.output) < 8:
        return None
    wrong = row.output[:2000].encode("utf-8", "replace").decode("cp1252", "replace")
    if row.output.isascii() or wrong == row.output[:2000]:
        rng = random.Random(seed)
        wrong = "".join("\ufffd" if rng.random() < 0.05 else sign for sign in row.output)
    return replace(row, output=wrong)


def truncated(row: Example, other: Example, seed: int) -> Example | None:
    """Prose of five sentences and more, on one line at its end, cut in the middle of its last sentence."""
    parts = text.sentences(row.output)
    last = parts[-1] if parts else ""
    at = row.output.rfind(last) if last else -1
    if len(parts) < 5 or text.length(last) < 10 or at < 1 or not last.endswith((".", "。", "!", "！")):
        return None
    if not re.search(r"[.!?。！？]\s*$", row.output[:at]) or "\n" in row.output[at - 2 : at]:
        return None
    cut = row.output[: at + len(last) * (5 + seed % 4) // 10]
    return replace(row, output=cut if not last.isascii() else cut.rsplit(" ", 1)[0])


def language(row: Example, other: Example, seed: int) -> Example | None:
    """An answer in the other of English and Chinese."""
    return replace(row, output=_pick(_FOREIGN, row, seed)) if text.length(row.output) >= 8 else None


def merged(row: Example, other: Example, seed: int) -> Example | None:
    """Another row runs on behind the output, with a data set's labels."""
    if not other.output.strip() or "\n" in other.instruction:
        return None
    return replace(
        row, output=_pick(_MERGED, row, seed).format(out=row.output, ask=other.instruction, other=other.output)
    )


def leaked(row: Example, other: Example, seed: int) -> Example | None:
    """What wrapped the instruction stands in the output."""
    if "\n" in row.instruction or text.length(row.instruction) < 5:
        return None
    return replace(row, output=_pick(_LEAKED, row, seed).format(ask=row.instruction, out=row.output))


def echo(row: Example, other: Example, seed: int) -> Example | None:
    """The prompt once more, in place of an answer."""
    return replace(row, output=row.prompt) if text.length(row.prompt) >= 8 else None


def refusal(row: Example, other: Example, seed: int) -> Example | None:
    """A refusal in place of an answer."""
    return replace(row, output=_pick(_REFUSALS, row, seed))


def placeholder(row: Example, other: Example, seed: int) -> Example | None:
    """A template's slot, left open in the middle of the instruction."""
    words = row.instruction.split(" ")
    slot = _pick(_SLOTS, row, seed)
    half = len(row.instruction) // 2
    told = (
        f"{row.instruction[:half]}{slot}{row.instruction[half:]}"
        if len(words) < 4
        else " ".join([*words[:-1], slot, words[-1]])
    )
    return replace(row, instruction=told)


def repetition(row: Example, other: Example, seed: int) -> Example | None:
    """The output's last sentence, or its last few words, over and over."""
    parts = text.sentences(row.output)
    if not parts or not 4 <= text.length(parts[-1]) <= 50:
        return None
    tail = parts[-1] if seed % 2 else parts[-1][-max(6, len(parts[-1]) // 3) :]
    return replace(row, output=row.output + f" {tail}" * 8)


def fence(row: Example, other: Example, seed: int) -> Example | None:
    """A code block that never ends."""
    return replace(row, output=f"{row.output}\n\n```python\nprint('done')\n") if "```" not in row.output else None


def link(row: Example, other: Example, seed: int) -> Example | None:
    """An address in place of a long input."""
    return (
        replace(row, input=f"https://www.example.org/{seed % 1000}/text.html") if text.length(row.input) >= 30 else None
    )


PLANTS: Mapping[str, Plant] = {
    "empty": empty, "swapped": swapped, "dropped": dropped, "garbled": garbled, "truncated": truncated, "language": language,
    "merged": merged, "leaked": leaked, "echo": echo, "refusal": refusal, "placeholder": placeholder, "repetition": repetition,
    "fence": fence, "link": link,
}  # fmt: skip
