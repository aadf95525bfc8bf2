"""A small bilingual recipe on rows written for the tests, quick to run to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

THINGS = ["kettle", "hotel", "novel", "train ride", "lamp", "soup", "umbrella", "keyboard", "bakery", "museum", "raincoat", "haircut", "podcast", "ferry", "pillow"]  # fmt: skip
GOOD = ["worked from the first day and still does", "was better than I had dared to hope", "made the whole week easier"]
BAD = ["broke within a week and nobody answered", "was a waste of an afternoon", "smelled of smoke and cost too much"]
东西 = [
    "水壶",
    "旅馆",
    "小说",
    "台灯",
    "汤",
    "雨伞",
    "键盘",
    "面包店",
    "博物馆",
    "雨衣",
    "理发店",
    "渡轮",
    "枕头",
    "书桌",
    "公园",
]
好 = ["用了一年还像新的一样", "比我想象的还要好", "让整个星期都轻松了"]
坏 = ["不到一周就坏了，没人理会", "白白浪费了一个下午", "有烟味，价钱还贵"]


def reviews() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(English, Chinese) rows of (text, label)."""
    english = [
        (f"The {thing} {said}.", label)
        for thing in THINGS
        for label, words in (("positive", GOOD), ("negative", BAD))
        for said in words
    ]
    chinese = [
        (f"这个{thing}{said}。", label)
        for thing in 东西
        for label, words in (("正面", 好), ("负面", 坏))
        for said in words
    ]
    return english, chinese


def write(folder: Path, **changes: Any) -> Path:
    """The recipe and its data in a folder; `changes` replace top-level keys."""
    folder.mkdir(parents=True, exist_ok=True)
    english, chinese = reviews()
    lines = ["text,label", *(f'"{text}",{label}' for text, label in english)]
    lines.insert(8, "only one cell")  # a row that cannot be read
    lines.insert(20, lines[3])  # a row that is there twice
    (folder / "en.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "zh.csv").write_text(
        "评论,标签\n" + "".join(f"{text},{label}\n" for text, label in chinese), encoding="utf-8"
    )
    recipe: dict[str, Any] = {
        "name": "small",
        "seed": 5,
        "shard_rows": 20,
        "tasks": {
            "mood": {
                "family": "classification", "description": "Decide whether a review is positive or negative.", "langs": ["en"],
                "inputs": ["text"], "target": "label", "labels": ["positive", "negative"], "data": "en.csv", "heldout": 12,
                "demos": [{"input": "A joy to use.", "output": "positive"}, {"input": "It never arrived.", "output": "negative"}],
            },
            "心情": {
                "family": "classification", "description": "判断评论是正面还是负面。", "langs": ["zh"], "inputs": ["text"], "target": "label",
                "labels": ["正面", "负面"], "data": "zh.csv", "columns": {"text": "评论", "label": "标签"}, "heldout": 0.2,
            },
        },
        "construct": [{"template": {"per_record": 2}}],
        "score": ["length", "language", "echo", "format", "relevance"],
        "select": ["exact", {"near": {"threshold": 0.9}}, {"threshold": {"scorer": "relevance", "min": 0.05}}, {"quota": {"rows": 60}}],
        "report": False,
    }  # fmt: skip
    recipe |= changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def files(run: Path) -> dict[str, bytes]:
    """Every Parquet file that the run's latest plan stands on, by its path."""
    from zhiling.store import current

    return {output.path: (run / output.path).read_bytes() for done in current(run) for output in done.outputs}
