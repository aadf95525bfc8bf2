"""The report room: one HTML file that tells a run from data to verdict, in Chinese and English, with nothing outside itself."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from zhiling.errors import RecipeError, boundary, say

__all__ = ["build"]


def build(folder: Path, *, langs: Sequence[str] = ("en", "zh"), samples: int = 12) -> Path:
    """Write `folder/report.html` from what the run left in its folder, and return its path; whole or not at all.

    `langs` are the page's languages in order, "en" and "zh"; the one shown first is ZHILING_LANG's, else the first. `samples` is
    how many kept rows are shown. Equal folders give equal bytes.

    Raises EngineError when the folder is not a run's, DataError when its JSON is damaged, RecipeError for another language.
    """
    from zhiling.report import files, gather, page
    from zhiling.report.words import LANGS

    wanted = list(dict.fromkeys(langs))
    if not wanted or set(wanted) - set(LANGS):
        raise RecipeError(
            say(f"the report speaks {', '.join(LANGS)}", f"报告可用的语言：{'、'.join(LANGS)}"), where="report.langs"
        )
    asked = os.environ.get("ZHILING_LANG", "").lower()[:2]
    facts = page.Facts(
        shlex.quote(folder.name if folder.is_absolute() else str(folder)),
        files.run_facts(folder),
        gather.tables(folder, samples),
        files.results(folder),
        files.tuning(folder),
        files.recipe(folder),
    )
    html = page.render(facts, wanted, asked if asked in wanted else wanted[0])
    final = folder / "report.html"
    temporary = folder / f".report.html.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(html.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise boundary(error, str(final)) from error
    return final
