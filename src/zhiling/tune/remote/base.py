"""Which provider a base names: "openai:MODEL" or "vertex:MODEL"; and that provider's door, by the settings of the job."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.errors import RecipeError, say
from zhiling.llm.tuning import Tuning
from zhiling.tune.remote.settings import OpenAISettings, Settings, VertexSettings, checked

_named = re.compile(r"([a-z][a-z0-9_-]*):(?![/\\])(.*)", re.DOTALL)
REGION = "us-central1"


@dataclass(frozen=True, slots=True)
class Base:
    """A model at a provider."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}"


KINDS: Mapping[str, type[OpenAISettings] | type[VertexSettings]] = {"openai": OpenAISettings, "vertex": VertexSettings}


def base_of(text: str) -> Base | None:
    """The base that names a provider; None for "embedded", a folder or a hub name, which are tuned here.

    Raises RecipeError for a provider that is none, and for one without a model.
    """
    found = _named.fullmatch(text)
    if found is None or Path(text).exists():
        return None
    provider, model = found[1], found[2].strip()
    if provider not in KINDS:
        close = difflib.get_close_matches(provider, list(KINDS), n=1)
        known = ", ".join(f"{name}:MODEL" for name in KINDS)
        mend = say(f"did you mean '{close[0]}:{model}'?", f"是否想写“{close[0]}:{model}”？") if close else known
        if provider == "gemini":
            mend = say(
                f"Gemini models are tuned on Vertex AI: vertex:{model}",
                f"Gemini 模型在 Vertex AI 上微调：vertex:{model}",
            )
        raise RecipeError(
            say(f"no tuning jobs at '{provider}'", f"“{provider}”没有微调任务"), where="tune.base", mend=mend
        )
    if not model:
        raise RecipeError(say("no model is named", "没有指定模型"), where=text, mend=f"{provider}:MODEL")
    return Base(provider, model)


def settings_of(base: Base, given: Mapping[str, Any], where: str = "tune", **more: Any) -> Settings:
    """Checked settings of a job. Raises RecipeError naming an unknown key or a value of the wrong type or range."""
    return checked(KINDS[base.provider], given, where, **more)


def opened(base: Base, settings: Settings) -> Tuning:
    """The provider's tuning jobs. Raises RecipeError for wrong settings, ProviderError for a missing key; asks nothing yet."""
    if isinstance(settings, OpenAISettings):
        from zhiling.llm.openai import openai

        return openai(
            model=base.model, base_url=settings.base_url, key_env=settings.key_env, timeout=settings.timeout
        ).tunings()
    from zhiling.llm.google import gemini

    place = settings.location or os.environ.get("GOOGLE_CLOUD_LOCATION") or REGION
    return gemini(
        model=base.model, vertex=True, project=settings.project, location=place, base_url=settings.base_url, timeout=settings.timeout
    ).tunings(settings.bucket)  # fmt: skip
