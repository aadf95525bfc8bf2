"""Which model is meant: a recipe's entry, "embedded", a model's file, folder or hub name, or what a tuning made."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.errors import RecipeError, say
from zhiling.proof.sources import Source

BATCH = 32


@dataclass(frozen=True, slots=True)
class Side:
    """A model to ask: its `label` in tables, its `entry` for `llm.open_model`, and the `run` whose kept rows it was tuned on, where known.

    `base` is the model that it was tuned from, "" for one that was not tuned by us, and `base_entry` its entry where its name alone does
    not make one: that of a model tuned at a provider. `files` are what `zhiling tune` was given, where no run tuned it.
    """

    label: str
    entry: Mapping[str, Any]
    run: Path | None = None
    base: str = ""
    base_entry: Mapping[str, Any] | None = None
    files: tuple[Source, ...] = ()


def sides(text: str) -> list[Side]:
    """The model that a word of the command line means, or several tunings of one way, separated by commas.

    Raises RecipeError where it names none.
    """
    if ": " in text:
        return [_written(text)]
    found = [side(part.strip()) for part in text.split(",") if part.strip()]
    if not found:
        raise RecipeError(say("no model is named", "没有指定模型"), where="MODEL")
    if len({one.label for one in found}) < len(found):
        raise RecipeError(say("a model is named twice", "同一模型写了两次"), where=text)
    return found


def one(text: str) -> Side:
    """The one model that a word of the command line means. Raises RecipeError for several."""
    found = sides(text)
    if len(found) > 1:
        mend = say("zhiling compare takes several seeds", "zhiling compare 可用多个种子")
        raise RecipeError(say("one model here", "此处只能写一个模型"), where=text, mend=mend)
    return found[0]


def side(text: str) -> Side:
    """One model by its name or place."""
    place = Path(text).expanduser()
    if place.is_dir():
        return _folder(text, place)
    if place.suffix.lower() == ".gguf":
        return Side(text, {"provider": "gguf", "path": text})
    if text == "embedded":
        return Side(text, _local("embedded"))
    if text.startswith((".", "/", "~")) or text.count("/") > 1 or place.exists():
        near = difflib.get_close_matches(place.name, [one.name for one in _beside(place)], n=1)
        mend = (
            say(f"did you mean '{near[0]}'?", f"是否想写“{near[0]}”？")
            if near
            else say(
                "a run, a tuned folder, a model's folder or 'provider: ..., model: ...'",
                "运行文件夹、调优结果、模型文件夹，或 'provider: ..., model: ...'",
            )
        )  # fmt: skip
        raise RecipeError(say("no such model", "找不到该模型"), where=text, mend=mend)
    return Side(text, _local(text))


def base_of(tuned: Sequence[Side]) -> Side:
    """The model that all of these were tuned from. Raises RecipeError for one that was not tuned here, and for several bases."""
    bases = {one.base: one.label for one in tuned}
    if "" in bases:
        what = say(
            f"'{bases['']}' was not tuned here, its base is not known", f"“{bases['']}”不是调优结果，无法得知其基座"
        )
    elif len(bases) > 1:
        what = say(f"tuned from several bases: {', '.join(bases)}", f"来自多个基座：{'、'.join(bases)}")
    else:
        return Side("base", tuned[0].base_entry or _local(tuned[0].base))
    raise RecipeError(what, where="base", mend=say("name the first model itself", "请直接写出第一个模型"))


def _beside(place: Path) -> list[Path]:
    return list(place.parent.iterdir()) if place.parent.is_dir() else []


def _local(model: str) -> dict[str, Any]:
    return {"provider": "transformers", "model": model, "batch": BATCH}


def _written(text: str) -> Side:
    """A model as a recipe's entry says it."""
    import yaml

    try:
        entry = yaml.safe_load("{" + text + "}")
    except yaml.YAMLError:
        entry = None
    if not isinstance(entry, dict) or "provider" not in entry:
        mend = "'provider: openai, model: ..., base_url: ...'"
        raise RecipeError(say(f"'{text}' is no model", f"“{text}”不是模型"), where="MODEL", mend=mend)
    return Side(text, entry)


def _folder(text: str, place: Path) -> Side:
    """A run's folder, a tuning's, an adapter's or a whole model's."""
    if (place / "journal.sqlite").exists():
        if not (place / "tune" / "done.json").exists():
            mend = say("finish it first: zhiling run", "请先用 zhiling run 完成运行")
            raise RecipeError(say("the run has tuned no model", "该运行没有调优模型"), where=text, mend=mend)
        return _tuned(text, place / "tune" / "model", place / "tune" / "done.json", place)
    made = next((one for one in (place / "done.json", place.parent / "done.json") if one.exists()), None)
    if made is not None:
        run = made.parent.parent if (made.parent.parent / "journal.sqlite").exists() else None
        return _tuned(text, made.parent / "model", made, run)
    if (place / "tuning.json").exists():
        mend = say("run the same zhiling tune command again", "请重新运行同一 zhiling tune 命令")
        raise RecipeError(say("the provider's job is not finished", "提供方的任务尚未完成"), where=text, mend=mend)
    if (place / "adapter_config.json").exists():
        base = str(json.loads((place / "adapter_config.json").read_text("utf-8")).get("base_model_name_or_path") or "")
        return Side(text, {**_local(base), "adapter": str(place)}, None, base)
    return Side(text, _local(str(place)))


def _tuned(text: str, model: Path, made: Path, run: Path | None) -> Side:
    held = json.loads(made.read_text(encoding="utf-8"))
    base = str(held["base"])
    if (remote := held.get("remote")) is not None:  # at a provider
        files = tuple(map(Source.of, held.get("sources", ())))
        return Side(text, remote["tuned"], run, base, remote["base"], files)
    whole = not (model / "adapter_config.json").exists()
    entry = _local(str(model)) if whole else {**_local(base), "adapter": str(model)}
    return Side(text, entry, run, base, files=tuple(map(Source.of, held.get("sources", ()))))
