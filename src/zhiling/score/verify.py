"""A task's verifiers as one scorer, so that what they find is kept, resumed and explained like any score."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling import registry
from zhiling.errors import EngineError, say
from zhiling.registry import Plugin, scorer
from zhiling.types import Example, Score, Task

if TYPE_CHECKING:
    from zhiling.embed import Embedder
    from zhiling.llm import Model

Checks = Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]


def _called(settings: Mapping[str, Any]) -> list[Plugin]:
    names = {name: None for checks in (settings["checks"] or {}).values() for name, _ in checks}
    return [registry.get("verifier", name) for name in names]


def _asks(settings: Mapping[str, Any]) -> bool:
    checks = [check for checks in (settings["checks"] or {}).values() for check in checks]
    return any(registry.asks(registry.get("verifier", name), given) for name, given in checks)


@scorer("verify", low=0, high=1, better="high", langs=("en", "zh"), stands_on=_called, asks=_asks)
async def verify(
    examples: Sequence[Example],
    *,
    tasks: Mapping[str, Task],
    here: Path,
    seed: int,
    embedder: Embedder,
    model: Model | None = None,
    checks: dict[str, list[tuple[str, dict[str, Any]]]] | None = None,
) -> list[Score]:
    """Whether each row holds by the verifiers of its task, `checks` {task: [(verifier, its settings)]}: 1.0, 0.0 or None.

    Verifiers are asked in turn, each about the rows that none before it found wrong, and a row's `why` begins with the name of the one that
    decided. None stands for a row that one of them could not check and the others did not refuse, and for tasks without verifiers.
    """
    found: dict[str, Score] = {}
    for name in {row.task: None for row in examples}:
        rows = {row.id: row for row in examples if row.task == name}
        for kind, settings in (checks or {}).get(name, ()):
            hand = {
                "task": tasks.get(name),
                "tasks": tasks,
                "here": here,
                "seed": seed,
                "embedder": embedder,
                "model": model,
            }
            for score in await _ask(kind, settings, list(rows.values()), hand):
                before = found.get(score.example)
                if before is None or before.value == 1.0:
                    found[score.example] = Score(
                        score.example, "verify", score.value, f"{kind}: {score.why}".rstrip(": ")
                    )
                elif score.value == 0.0:
                    found[score.example] = Score(score.example, "verify", 0.0, f"{kind}: {score.why}".rstrip(": "))
                if score.value == 0.0:
                    del rows[score.example]
    none = say("the task has no verifier", "任务没有校验器")
    return [found.get(row.id) or Score(row.id, "verify", None, none) for row in examples]


async def _ask(kind: str, settings: Mapping[str, Any], rows: Sequence[Example], hand: Mapping[str, Any]) -> list[Score]:
    """One verifier's word on each row, held to its contract."""
    plugin = registry.get("verifier", kind)
    made = plugin.fn(rows, **settings, **{name: hand[name] for name in plugin.wants})
    if inspect.isawaitable(made):
        made = await made
    scores = [score async for score in made] if hasattr(made, "__aiter__") else list(made)
    if [score.example for score in scores] != [row.id for row in rows]:
        what = say(
            f"the verifier '{kind}' must give one score per row, in order", f"校验器“{kind}”须按顺序为每行给出一个结果"
        )
        raise EngineError(what)
    return scores
