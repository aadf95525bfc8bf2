"""zhiling (指令): automatic construction of instructions for instruction-tuning language models.

The Python door is `zhiling.api`: `import zhiling.api as zl`. (The rooms of this package have the names of its verbs, so the
verbs themselves live one door further.) The nouns are also here, loaded when first used: `import zhiling` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zhiling.llm import open_model as open_model
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

_nouns = ("Demo", "Example", "Record", "Reject", "Request", "Score", "Task", "Template", "Verdict")
__all__ = [*_nouns, "open_model"]


def __getattr__(name: str) -> Any:
    if name == "open_model":
        return import_module("zhiling.llm").open_model
    if name in _nouns:
        return getattr(import_module("zhiling.types"), name)
    raise AttributeError(f"module 'zhiling' has no attribute '{name}'")
