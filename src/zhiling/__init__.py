"""zhiling (指令): automatic construction of instructions for instruction-tuning language models.

The public names below are loaded when first used, so that `import zhiling` is instant and needs no network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zhiling.api import Proof as Proof
    from zhiling.api import Rows as Rows
    from zhiling.api import Tuned as Tuned
    from zhiling.api import construct as construct
    from zhiling.api import evaluate as evaluate
    from zhiling.api import join as join
    from zhiling.api import run as run
    from zhiling.api import score as score
    from zhiling.api import select as select
    from zhiling.api import tune as tune
    from zhiling.types import Demo as Demo
    from zhiling.types import Example as Example
    from zhiling.types import Record as Record
    from zhiling.types import Reject as Reject
    from zhiling.types import Request as Request
    from zhiling.types import Score as Score
    from zhiling.types import Task as Task
    from zhiling.types import Template as Template
    from zhiling.types import Verdict as Verdict

__version__ = "0.1.0"

_api = ("Proof", "Rows", "Tuned", "construct", "evaluate", "join", "score", "select", "tune")
_types = ("Demo", "Example", "Record", "Reject", "Request", "Score", "Task", "Template", "Verdict")
_homes = {**{name: "zhiling.api" for name in _api}, **{name: "zhiling.types" for name in _types}}
__all__ = [*_api, *_types, "open_model", "run"]


def __getattr__(name: str) -> Any:
    if name == "open_model":
        return import_module("zhiling.llm").open_model
    if name in _homes:
        return getattr(import_module(_homes[name]), name)
    raise AttributeError(f"module 'zhiling' has no attribute '{name}'")
