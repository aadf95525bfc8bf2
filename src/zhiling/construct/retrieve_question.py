"""What a bank is asked for a task."""

from __future__ import annotations

from zhiling import text
from zhiling.construct.bind import label_words, said_in
from zhiling.types import Task


def question(task: Task, lang: str) -> str:
    """What the bank is asked for: the task's description, output format, family, languages and labels, in one text."""
    family = _FAMILY.get(task.family, ("", ""))[0 if lang == "zh" else 1]
    labels = " ".join(label_words(task, lang)[:8])
    described, form = (said_in(prose, lang) or prose for prose in (task.description, task.output_format))
    said = [described, form, family, labels]
    if not task.description:
        said += [part for demo in task.demos[:2] for part in (text.cut(demo.input, 60), text.cut(demo.output, 40))]
    return " ".join(part for part in said if part)


_FAMILY = {
    "news": ("写新闻", "news writing"),
    "novel": ("写小说", "fiction writing"),
    "poetry": ("写诗", "poetry writing"),
    "code": ("编程", "programming"),
    "sql": ("SQL 查询", "SQL query"),
    "translation": ("翻译", "translate"),
    "subtitles": ("字幕翻译", "translate subtitles"),
    "qa": ("根据文章回答问题", "answer the question"),
    "faq": ("常见问题解答", "frequently asked questions"),
    "nli": ("推理关系判断", "premise and hypothesis"),
    "summarisation": ("概括摘要", "summarise"),
    "dialogue": ("对话回应", "conversation reply"),
    "classification": ("分类判断", "classify"),
    "extraction": ("信息抽取", "extract information"),
    "arithmetic": ("计算解题", "solve the problem"),
}
