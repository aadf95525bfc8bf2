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


def scaffold(folder: Path, data: Path | None, description: str, family: str = "") -> Path:
    """Write `folder/recipe.yaml` for a data file, or, without one, with a small data file to replace; returns the recipe's path.

    Documents, one or a folder of them, become questions and answers with their evidence; with the family "sql", questions and queries
    are made for a database (SQLite, DuckDB, or a script that builds one). Of other data the answer's column is guessed by its name (else
    the last one), the family by the answer, the language by the text.
    """
    path = folder / "recipe.yaml"
    if path.exists():
        raise RecipeError(
            say("there is a recipe already", "配方已存在"),
            where=str(path),
            mend=say("choose another folder", "请另选文件夹"),
        )
    if data is not None and data.is_dir() and not any(path.is_file() for path in data.rglob("*")):
        mend = say("put data files or documents into it", "请放入数据文件或文档")
        raise DataError(say("the folder is empty", "文件夹是空的"), where=str(data), mend=mend)
    if data is not None and family == "sql":
        return _written(path, _on_database(_beside(data, folder), description))
    if data is not None and _documents(data):
        return _written(path, _on_documents(_beside(data, folder), description))
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
        family or FAMILIES.get(target, "other"),
        answers,
        description,
        str(first[inputs[0]] if inputs else first[target]),
    )
    return _written(path, _recipe(task))


def _written(path: Path, recipe: dict[str, Any]) -> Path:
    recipe = {"name": path.parent.resolve().name, "seed": 7, **recipe}
    head = say(
        "# zhiling run . --plan   shows what this will do; docs/guide.md explains recipes.\n",
        "# zhiling run . --plan 预览将要执行的内容；docs/guide.zh.md 讲解配方。\n",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False, width=120), encoding="utf-8")
    return path


def _beside(data: Path, folder: Path) -> str:
    """The data's path as the recipe says it: relative where the data lie in the recipe's folder. Raises DataError where there are none."""
    if not data.exists():
        raise DataError(say("no such file", "文件不存在"), where=str(data), mend=say("check the path", "请检查路径"))
    try:
        return str(data.resolve().relative_to(folder.resolve()))
    except ValueError:
        return str(data.resolve())


def _documents(data: Path) -> bool:
    """Whether the data are documents to be read by passages, and no rows: a folder of documents alone, or one without answers."""
    from zhiling.data import documents

    prose = set(documents.SUFFIXES) - {"srt", "vtt", "ass", "ssa"}
    if data.is_dir():
        files = [path for path in data.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return bool(files) and {path.suffix.lower().lstrip(".") for path in files} <= prose
    if data.suffix.lower().lstrip(".") not in prose:
        return False
    if data.suffix.lower() in (".md", ".markdown"):  # a handbook with its own questions and answers is a data set
        return not any(isinstance(row, dict) and row.get("answer") for _, row in documents.markdown(data))
    return True


def _on_documents(data: str, description: str) -> dict[str, Any]:
    task = {
        "family": "qa", "description": description or say("Answer a question from a passage.", "根据一段原文回答问题。"),
        "langs": ["en", "zh"], "inputs": ["passage", "question"], "target": "answer", "metric": "f1",
        "data": {"path": data, "format": "passages"}, "group": "passage", "heldout": 0.2,
    }  # fmt: skip
    return {
        "models": {"embedded": {"provider": "gguf"}},
        "tasks": {"mine": task},
        "construct": [
            {"document_qa": {"ways": ["own", "rules", "model"], "questions": 2, "unanswerable": 0.2, "quote": True}}
        ],
        "score": ["length", "language", "echo", "refusal", "placeholder", "format", "faithful"],
        "select": ["exact", "semantic"],
        "tune": {"model": "embedded", "epochs": 2},
        "evaluate": {"rows": 40},
    }


def _on_database(database: str, description: str) -> dict[str, Any]:
    task = {
        "family": "sql", "description": description or say("Write the SQL query that answers a question.", "写出回答问题的 SQL 查询。"),
        "langs": ["en", "zh"], "metric": "exact_match", "verifier": {"sql": {"database": database}},
    }  # fmt: skip
    return {
        "tasks": {"mine": task},
        "construct": [{"sql": {"database": database, "drawn": 200, "unanswerable": 0.2}}],
        "score": ["length", "placeholder"],
        "select": ["exact"],
    }


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
    task["data"] = _beside(data, folder)
    task["heldout"] = 0.2
    return task


def _recipe(task: dict[str, Any]) -> dict[str, Any]:
    return {
        "models": {"embedded": {"provider": "gguf"}},
        "tasks": {"mine": task},
        "construct": [{"template": {"per_record": 2}}, {"retrieve": {"keep": 2}}],
        "score": ["length", "language", "echo", "refusal", "placeholder", "format", "grammar", "relevance"],
        "select": ["exact", {"near": {"threshold": 0.9}}],
        "tune": {"model": "embedded", "epochs": 2},
        "evaluate": {"rows": 40},
    }
