"""Definitions and tasks as plain data before they are written: what every kind of foreign file is turned into, and how it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zhiling.construct.library import Definition, load_text
from zhiling.errors import RecipeError, say


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in a foreign file that could not become a template, and why; or (`kept`) that became one with a difference."""

    where: str
    why: str
    kept: bool = False


@dataclass(slots=True)
class Draft:
    """One definition as plain data, the rows that came with it, and the recipe's task that runs it (None where it brings no data)."""

    definition: dict[str, Any]
    source: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    task: dict[str, Any] | None = None
    notes: list[Skipped] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The definition's id, which its files are named after."""
        return str(self.definition["id"])

    def text(self) -> str:
        """The definition as YAML, with its origin on the first line."""
        origin = f"{say('imported from', '导入自')} {self.source}" if self.source else say("a draft", "草稿")
        return f"# {origin}\n{as_yaml(self.definition)}"

    def checked(self) -> Definition:
        """The definition itself, as it will be read. Raises RecipeError where it cannot be."""
        return load_text(self.text(), self.source)


def slug(name: str) -> str:
    """A name that serves as an id and as a file's name: letters, digits, Han characters and underscores."""
    return re.sub(r"[^\w]+", "_", name).strip("_")[:80] or "template"


class _Dumper(yaml.SafeDumper):
    """Plain YAML: no aliases, and texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _shown(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    block = "\n" in text and not any(line.endswith((" ", "\t")) for line in text.split("\n"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if block else None)


_Dumper.add_representer(str, _shown)


def as_yaml(data: Any) -> str:
    """Plain data as YAML: keys in their order, Chinese as it is, long lines unbroken."""
    return yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=100_000)


def write(drafts: Iterable[Draft], folder: Path) -> list[Path]:
    """The drafts as files: templates/ID.yaml each, and data/ID.jsonl and one recipe.yaml for those that bring rows.

    Raises RecipeError rather than overwrite a file that says something else.
    """
    listed = list(drafts)
    files: dict[Path, str] = {folder / "templates" / f"{draft.id}.yaml": draft.text() for draft in listed}
    for draft in listed:
        if draft.rows:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in draft.rows)
            files[folder / "data" / f"{draft.id}.jsonl"] = "".join(lines)
    running = {
        draft.id: {**draft.task, "data": f"data/{draft.id}.jsonl", "heldout": 0.2 if len(draft.rows) >= 10 else 0}
        for draft in listed
        if draft.task is not None
    }
    if running:
        files[folder / "recipe.yaml"] = as_yaml(_recipe(folder.resolve().name, running))
    for path, content in files.items():
        if path.exists() and path.read_text(encoding="utf-8") != content:
            raise RecipeError(
                say("the file is there already and says something else", "文件已存在且内容不同"),
                where=str(path),
                mend=say("name another folder with -o, or move it away", "请用 -o 指定其他文件夹，或先移走该文件"),
            )
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return list(files)


def _recipe(name: str, tasks: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": slug(name),
        "tasks": dict(tasks),
        "construct": [{"template": {"tasks": [key], "templates": f"templates/{key}.yaml"}} for key in tasks],
        "score": ["length", "language", "echo"],
        "select": ["exact"],
        "report": False,
    }
