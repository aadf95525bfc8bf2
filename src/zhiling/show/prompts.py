"""The prompts that models are asked with, as tables and as text: those that are shipped, and those that a run used."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from zhiling.errors import DataError, RecipeError, say

BESIDE = {
    "self_instruct": ("repair",),
    "evol": ("repair",),
    "magpie": ("repair",),
    "coverage": ("repair",),
    "dialogue": ("repair",),
}
"""Which other prompts a step of that name asks with."""


def books() -> dict[str, dict[str, Any]]:
    """The shipped files of prompts by name."""
    folder = files("zhiling").joinpath("library/prompts")
    found = sorted((one for one in folder.iterdir() if one.name.endswith(".yaml")), key=lambda one: one.name)
    return {one.name.removesuffix(".yaml"): yaml.safe_load(one.read_text(encoding="utf-8")) for one in found}


def listed() -> list[dict[str, Any]]:
    """One row per shipped file: version, languages, steps and paper."""
    rows = []
    for name, book in books().items():
        prompts = book["prompts"]
        steps = dict.fromkeys(str(one.get("id", "")) for one in prompts)
        langs = dict.fromkeys(str(one.get("lang", "")) for one in prompts)
        rows.append(
            {
                "name": name,
                "version": book.get("version", 1),
                "langs": ", ".join(langs),
                "steps": ", ".join(steps),
                "paper": book.get("paper", ""),
            }
        )
    return rows


def used(run: Path) -> list[dict[str, Any]]:
    """One row per step of a run that asks with prompts: the step, the prompts' name, its own file where it has one, and the style."""
    rows = []
    for label, name, settings in _steps(run):
        for one in (name, *(beside for beside in BESIDE.get(name, ()) if settings.get("repair", True))):
            own = str(settings.get("prompts") or "") if one == name else ""
            style = str(settings.get("style") or settings.get("prompt") or "auto")
            rows.append({"step": label, "name": one, "file": own or say("shipped", "自带"), "style": style})
    return rows


def _steps(run: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(where in the recipe, name, settings) of the steps that have prompts of their name."""
    path = run / "recipe.yaml"
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise DataError(
            say("not a run's folder", "不是运行文件夹"),
            where=str(run),
            mend=say("name the folder that `zhiling run` printed", "请给出 zhiling run 打印的文件夹"),
        ) from error
    known = books()
    for part in ("construct", "score"):
        for step in recipe.get(part) or ():
            for name, settings in step.items() if isinstance(step, Mapping) else [(str(step), {})]:
                if name in known:
                    yield f"{part}.{name}", name, settings if isinstance(settings, Mapping) else {}


def text(name: str, run: Path | None = None) -> list[str]:
    """The prompts of that name as lines: each with its language, style and form; a run's own file where it can be found.

    Raises RecipeError, with the nearest name, where there are none.
    """
    known = books()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？") if close else ", ".join(known)
        raise RecipeError(say(f"no prompts named '{name}'", f"没有名为“{name}”的提示词"), where="--prompts", mend=hint)
    book, lines = known[name], list[str]()
    if run is not None:
        for _, step, settings in _steps(run):
            if step == name and settings.get("prompts"):
                given = str(settings["prompts"])
                lines += _own(given, [Path(given), run / given, run.parent / given, run.parent.parent / given])
    lines += [f"# {name}  version {book.get('version', 1)}" + (f"  {book['paper']}" if book.get("paper") else "")]
    for one in book["prompts"]:
        lines += _prompt(one)
    more = {key: value for key, value in book.items() if key not in ("version", "paper", "prompts")}
    return lines + (["", yaml.safe_dump(more, allow_unicode=True, sort_keys=False, width=140).rstrip()] if more else [])


def _own(given: str, places: Sequence[Path]) -> list[str]:
    """A recipe's own file, which stands before the shipped prompts."""
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return [
            say(
                f"# {given}: beside the recipe, which the run's folder does not know",
                f"# {given}：位于配方旁，运行文件夹不知道其位置",
            ),
            "",
        ]
    book = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        f"# {path}  version {book.get('version', 1)}",
        *(line for one in book["prompts"] for line in _prompt(one)),
        "",
    ]


def _prompt(one: Mapping[str, Any]) -> list[str]:
    turns = one.get("turns") or [{role: one[role]} for role in ("system", "user", "assistant") if role in one]
    form = (
        [say("JSON: ", "JSON：") + ", ".join(one["schema"].get("properties", {}))]
        if isinstance(one.get("schema"), Mapping)
        else []
    )
    form += [say("one of: ", "选项：") + ", ".join(map(str, one["choices"]))] if one.get("choices") else []
    about = "  ".join(
        str(part) for part in (one.get("id", ""), one.get("lang", ""), one.get("style", ""), *form) if part
    )
    lines = ["", f"== {about}"]
    for turn in turns:
        for role, content in turn.items():
            lines += [f"[{role}]", *str(content).rstrip().splitlines()]
    return lines


def show(run_or_name: Path | None, name: str, as_json: bool) -> None:
    """Print what `zhiling show [RUN] --prompts [NAME]` asks for."""
    import json

    from zhiling.show import show_table

    run = run_or_name if run_or_name is not None and run_or_name.is_dir() else None
    wanted = name or ("" if run or run_or_name is None else str(run_or_name))
    if not wanted:
        show_table(used(run) if run else listed(), as_json)
        if not as_json:
            print("\n" + say("the texts: zhiling show --prompts NAME", "查看全文：zhiling show --prompts NAME"))
        return
    lines = text(wanted, run)
    print(json.dumps(books()[wanted], ensure_ascii=False, indent=1) if as_json else "\n".join(lines))
