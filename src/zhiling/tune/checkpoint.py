"""Checkpoints that survive SIGKILL and a full disk: a folder is complete or it is not there. Safetensors and JSON, nothing else.

A checkpoint is written beside its place, synced, and renamed into it; the one before it is kept until the next is complete. Each
one lists its files' sizes and digests, so that one cut in half is noticed, and its forerunner used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.errors import boundary

KEEP = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint holds: `tensors` by file name (without suffix) and name, and `state` as JSON."""

    step: int
    tensors: Mapping[str, Mapping[str, Any]]
    state: Mapping[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any]) -> None:
    """Write `folder/checkpoint-STEP`. Raises EngineError, nothing half-written left behind, when the disk is full."""
    place = folder / f"checkpoint-{step:08d}"
    with whole(place) as partial:
        files = {}
        for name, group in tensors.items():
            file = partial / f"{name}.safetensors"
            write_tensors(group, file)
            files[file.name] = _digest(file)
        (partial / "state.json").write_text(
            json.dumps({"step": step, "files": files, "state": dict(state)}), encoding="utf-8"
        )
    for old in _places(folder)[KEEP:]:
        shutil.rmtree(old)


def load(folder: Path, key: str) -> tuple[Checkpoint | None, list[str]]:
    """(the newest whole checkpoint whose state's "key" is `key`, names of damaged ones passed over)."""
    damaged: list[str] = []
    for place in _places(folder):
        found = _read(place)
        if found is None:
            damaged.append(place.name)
        elif found.state.get("key") == key:
            return found, damaged
    return None, damaged


def save_best(folder: Path, step: int, weights: Mapping[str, Any]) -> None:
    """Keep the weights of the best step so far at `folder/best-STEP`, instead of those of the best before it."""
    place = folder / f"best-{step:08d}"
    with whole(place) as partial:
        write_tensors(weights, partial / "weights.safetensors")
    for old in folder.glob("best-*"):
        if old != place:
            shutil.rmtree(old)


def best(folder: Path, step: int) -> Mapping[str, Any]:
    """The weights that `save_best` kept. Raises EngineError where they are gone."""
    from safetensors.torch import load_file

    file = folder / f"best-{step:08d}" / "weights.safetensors"
    try:
        return dict(load_file(file))
    except OSError as error:
        raise boundary(error, where=str(file)) from error


def clear(folder: Path) -> None:
    """Remove all checkpoints, the best weights and partial ones too."""
    for place in [
        *_places(folder),
        *folder.glob("best-*"),
        *folder.glob(".checkpoint-*.partial"),
        *folder.glob(".best-*.partial"),
    ]:
        shutil.rmtree(place)


@contextmanager
def whole(place: Path) -> Iterator[Path]:
    """A folder to fill that appears at `place` only when it is complete and on the disk, replacing what was there.

    Raises EngineError when the disk is full.
    """
    from safetensors import SafetensorError

    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        if place.exists():
            shutil.rmtree(place)
        partial.rename(place)
        _sync(place.parent)
    except OSError as error:
        raise boundary(error, where=str(place)) from error
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        raise boundary(OSError(int(code[1]), str(error)) if code else error, where=str(place)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_tensors(tensors: Mapping[str, Any], file: Path) -> None:
    """Write tensors from whatever device as one safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, file)


def _places(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((path for path in folder.glob("checkpoint-*") if path.is_dir()), reverse=True)


def _read(place: Path) -> Checkpoint | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        held = json.loads((place / "state.json").read_text(encoding="utf-8"))
        if any(_digest(place / name) != digest for name, digest in held["files"].items()):
            return None
        tensors = {name.removesuffix(".safetensors"): load_file(place / name) for name in held["files"]}
        return Checkpoint(held["step"], tensors, held["state"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None  # the caller names it


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
