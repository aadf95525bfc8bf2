"""`zhiling init`: a recipe to start from, for the data that somebody has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from zhiling.data import rows
from zhiling.errors import DataError, RecipeError, say
from zhiling.text import lang

ANSWERS = (
    "label",
    "output",
    "answer",
    "target",
    "summary",
    "translation",
    "response",
    "标签",
    "答案",
    "输出",
    "译文",
    "摘要",
    "回答",
    "类别",
)
FAMILIES = {
    "label": "classification",
    "标签": "classification",
    "类别": "classification",
    "answer": "qa",
    "答案": "qa",
    "summary": "summarisation",
    "摘要": "summarisation",
}


def scaffold(folder: Path, data: Path | None, description: str) -> Path:
    """Write `folder/recipe.yaml` for a data file, or, without one, with a small data file to replace; returns the recipe's path.

    The answer's column is guessed by its name (else the last one), the family by the answer, the language by the text.
    """
    path = folder / "recipe.yaml"
    if path.exists():
        raise RecipeError(
            say("there is a recipe already", "配方已存在"),
            where=str(path),
            mend=say("choose another folder", "请另选文件夹"),
        )
    folder.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = folder / "data.csv"
        data.write_text(
            "text,label\nThe room was bright and quiet.,positive\nThe soup came cold twice.,negative\n",
            encoding="utf-8",
        )
    first = next((row for _, row in rows(data) if not isinstance(row, str)), None)
    if first is None:
        raise DataError(
            say("no readable row", "没有可读的数据行"), where=str(data), mend=say("check the file", "请检查文件")
        )
    names = [name for name in first if isinstance(name, str)]
    target = next((name for name in ANSWERS if name in names), names[-1])
    inputs = [name for name in names if name != target]
    if {"passage", "question", "answer"} <= set(names):
        inputs, target = ["passage", "question"], "answer"
    answers = {str(row[target]) for _, row in rows(data) if not isinstance(row, str) and target in row}
    task = _task(
        data,
        folder,
        inputs,
        target,
        FAMILIES.get(target, "other"),
        answers,
        description,
        str(first[inputs[0]] if inputs else first[target]),
    )
    text = yaml.safe_dump(_recipe(folder, task), allow_unicode=True, sort_keys=False, width=120)
    head = say(
        "# zhiling run . --plan   shows what this will do; docs/recipe.md explains every key.\n",
        "# zhiling run . --plan 预览将要执行的内容；docs/recipe.md 解释每个键。\n",
    )
    path.write_text(head + text, encoding="utf-8")
    return path


def _task(
    data: Path, folder: Path, inputs: list[str], target: str, family: str, answers: set[str], description: str, sample: str
) -> dict[str, Any]:  # fmt: skip
    chinese = lang(sample) == "zh"
    if family == "other" and len(answers) <= 12 and inputs:
        family = "classification"
    task: dict[str, Any] = {
        "family": family,
        "description": description
        or say(f"From {', '.join(inputs)}, give {target}.", f"根据{'、'.join(inputs)}给出{target}。"),
        "langs": ["zh" if chinese else "en"],
    }
    if family == "classification" and len(inputs) == 1:
        # the library's definitions name these fields so
        task |= {
            "inputs": ["text"],
            "target": "label",
            "labels": sorted(answers),
            "columns": {"text": inputs[0], "label": target},
        }
    else:
        task |= {"inputs": inputs, "target": target}
    task["metric"] = "exact_match" if family == "classification" else "f1"
    try:
        task["data"] = str(data.resolve().relative_to(folder.resolve()))
    except ValueError:
        task["data"] = str(data.resolve())
    task["heldout"] = 0.2
    return task


def _recipe(folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": folder.resolve().name,
        "seed": 7,
        "models": {"embedded": {"provider": "gguf"}},
        "tasks": {"mine": task},
        "construct": [{"template": {"per_record": 2}}, {"retrieve": {"keep": 2}}],
        "score": ["length", "language", "echo", "refusal", "placeholder", "format", "grammar", "relevance"],
        "select": ["exact", {"near": {"threshold": 0.9}}],
        "tune": {"model": "embedded", "epochs": 2},
        "evaluate": {"rows": 40},
    }
