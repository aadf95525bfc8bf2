"""Where data lies: the paths that recipes name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from zhiling.errors import DataError, say


def expand(text: str, here: Path) -> Path:
    """A recipe's path: `~` and ${VARIABLES} expanded, relative to the recipe's folder.

    ${ZHILING_SHARED} is what `shared_data` says. Raises DataError for a variable that is not set.
    """
    values = {**os.environ, "ZHILING_SHARED": str(shared_data())}

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise DataError(say(f"the variable {match[1]} is not set", f"未设置变量 {match[1]}"), where=text)
        return values[match[1]]

    path = Path(re.sub(r"\$\{(\w+)\}", value, text)).expanduser()
    return path if path.is_absolute() else here / path


def shared_data() -> Path:
    """Where real third-party data for tests and benchmarks lies: $ZHILING_SHARED (with or without its `data`), else beside the checkout."""
    named = os.environ.get("ZHILING_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[4] / "shared"
    return folder / "data" if (folder / "data").is_dir() else folder
