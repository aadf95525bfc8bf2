"""Engines run jobs; they know nothing of stages, and stages nothing of them. The result of a job depends on the job alone, so
which engine ran it, in how many processes and in which order, changes no byte."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from zhiling.errors import RecipeError, say


@dataclass(frozen=True, slots=True)
class Job:
    """A call of a module-level function, named "module:function", with picklable arguments. `key` comes back with the result."""

    key: str
    fn: str
    args: Mapping[str, Any]

    def __call__(self) -> Any:
        module, name = self.fn.split(":")
        return getattr(importlib.import_module(module), name)(**self.args)


class Engine(Protocol):
    """Runs jobs side by side and yields (key, result) as they finish, in any order. The first error that escapes a job is raised."""

    name: str

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[str, Any]]: ...

    def close(self) -> None: ...


def open_engine(name: str, workers: int | None = None) -> Engine:
    """ "local" (processes on this machine; `workers` defaults to its cores) or "ray" (a Ray cluster, or a local one started for us)."""
    if name == "local":
        from zhiling.engine.local import Local

        return Local(workers)
    if name == "ray":
        from zhiling.engine.ray import Ray

        return Ray(workers)
    raise RecipeError(say(f"unknown engine '{name}'", f"未知的引擎“{name}”"), where="--engine", mend="local, ray")
