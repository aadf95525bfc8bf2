"""Folders of data files: as Hugging Face `datasets` saves them (`save_to_disk`), or as data sets are published (one file per part)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zhiling.errors import DataError, say


def parts(folder: Path, split: str, kinds: Sequence[str]) -> list[Path]:
    """The folder's data files in reading order. `split` names one part ("train") where there are several.

    Raises DataError for an unknown split, for a folder without data, and for a listing that points outside the folder.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = [str(name) for name in _listed(folder / "dataset_dict.json", "splits")]
        return parts(_inside(folder, _one(split, splits, folder)), "", kinds)
    if (folder / "state.json").is_file():
        if split:
            raise _no_split(split, [], folder)
        listed = _listed(folder / "state.json", "_data_files")
        return [
            _inside(folder, str(entry.get("filename", "") if isinstance(entry, dict) else entry)) for entry in listed
        ]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _is_data(path.relative_to(folder), kinds))
    if not files:
        raise DataError(
            say("no data file in this folder", "文件夹中没有数据文件"),
            where=str(folder),
            mend=say(f"it may hold: {', '.join(kinds)}", f"可识别的格式：{'、'.join(kinds)}"),
        )
    splits = sorted({name for path in files if (name := _split_of(path.relative_to(folder)))})
    if split or len(splits) > 1:
        chosen = _one(split, splits, folder)
        files = [path for path in files if _split_of(path.relative_to(folder)) == chosen]
    return files


_NAMES = re.compile(r"^(train|training|validation|valid|dev|val|test|eval)(?=[-_.]|$)", re.IGNORECASE)
_ABOUT = frozenset({"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json", "config.json"})


def _is_data(path: Path, kinds: Sequence[str]) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    suffixes = [suffix[1:].lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return not hidden and path.name not in _ABOUT and bool(suffixes) and suffixes[-1] in kinds


def _split_of(path: Path) -> str:
    """The split by a folder's or the file's name: train/0.parquet, train-00000-of-00002.parquet; "" where neither says."""
    found = next((match[1].lower() for part in path.parts if (match := _NAMES.match(part))), "")
    return {"training": "train", "valid": "validation", "dev": "validation", "val": "validation", "eval": "test"}.get(
        found, found
    )


def _one(split: str, splits: Sequence[str], folder: Path) -> str:
    if split in splits:
        return split
    if not split and len(splits) == 1:
        return splits[0]
    if not split:
        raise DataError(
            say("several splits, and none is named", "有多个划分，未指定读取哪一个"),
            where=str(folder),
            mend=say(f"set table: one of {', '.join(splits)}", f"请设置 table：{'、'.join(splits)} 之一"),
        )
    raise _no_split(split, splits, folder)


def _no_split(split: str, splits: Sequence[str], folder: Path) -> DataError:
    there = ", ".join(splits) or "-"
    return DataError(
        say(f"no split '{split}'", f"没有名为“{split}”的划分"),
        where=str(folder),
        mend=say(f"there are: {there}", f"可用的有：{there}"),
    )


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not name or not path.resolve().is_relative_to(folder.resolve()) or not path.exists():
        raise DataError(
            say(f"the data set lists '{name}', which is not in it", f"数据集列出了“{name}”，但其中没有"),
            where=str(folder),
            mend=say("copy the whole folder again", "请重新完整复制该文件夹"),
        )
    return path


def _listed(path: Path, key: str) -> list[Any]:
    found = _json(path).get(key, [])
    if not isinstance(found, list):
        raise DataError(say(f"'{key}' is no list", f"“{key}”不是列表"), where=str(path))
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(say(f"broken JSON: {error}", f"JSON 有误：{error}"), where=str(path)) from error
    if not isinstance(found, dict):
        raise DataError(say("not a data set's description", "不是数据集的描述文件"), where=str(path))
    return found
