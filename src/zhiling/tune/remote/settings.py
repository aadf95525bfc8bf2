"""What a tuning job at a provider may be told."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from zhiling.errors import RecipeError, say
from zhiling.llm.google_rows import ADAPTERS
from zhiling.llm.openai_rows import wrong_suffix

Auto: TypeAlias = Literal["auto"]


@dataclass(frozen=True)
class Common:
    """What every provider's job knows. Raises RecipeError for a value out of range."""

    epochs: int | Auto = 3
    """Passes over the rows. "auto" leaves it to the provider: then nobody knows the price before."""
    learning_rate_multiplier: float | None = None
    """Of the provider's own learning rate; None leaves it to the provider."""
    suffix: str = ""
    """Part of the tuned model's name."""
    validation: float | str = 0.0
    """A share of each task's rows that is sent as the validation file, or a file that is."""
    budget: float | None = None
    """US dollars that the job may cost at most, by a cautious estimate: else nothing is sent."""
    price: float | None = None
    """US dollars per million trained tokens, where the shipped list does not know it or yours differs."""
    seed: int = 0
    """Draws the validation rows; OpenAI is told it, too."""
    timeout: float = 120.0
    """Seconds per call."""
    poll_seconds: float = 15.0
    """Between the first looks at the job; later ones are up to four times as far apart."""

    def __post_init__(self) -> None:
        for key, (good, range_) in self.rules().items():
            if not good:
                value = getattr(self, key)
                raise RecipeError(
                    say(f"'{key}' must be {range_}, got {value!r}", f"“{key}”应为 {range_}，实际为 {value!r}"),
                    where=f"tune.{key}",
                )

    def rules(self) -> dict[str, tuple[bool, str]]:
        """{setting: (whether it is in range, the range in words)}."""
        rate, share = self.learning_rate_multiplier, self.validation
        return {
            "epochs": (self.epochs == "auto" or self.epochs >= 1, ">= 1 | auto"),
            "learning_rate_multiplier": (rate is None or 0 < rate < math.inf, "> 0"),
            "validation": (bool(share) if isinstance(share, str) else 0 <= share < 1, "0..1 | FILE"),
            "budget": (self.budget is None or 0 <= self.budget < math.inf, ">= 0"),
            "price": (self.price is None or 0 <= self.price < math.inf, ">= 0"),
            "timeout": (0 < self.timeout < math.inf, "> 0"),
            "poll_seconds": (0 < self.poll_seconds < math.inf, "> 0"),
        }


@dataclass(frozen=True)
class OpenAISettings(Common):
    """A job at OpenAI, or at an endpoint that speaks its protocol (`base_url`, with the key in the variable `key_env`)."""

    batch_size: int | None = None
    """Rows per step; None leaves it to the provider."""
    base_url: str = "https://api.openai.com/v1"
    key_env: str | None = None

    def rules(self) -> dict[str, tuple[bool, str]]:
        """See Common."""
        why = wrong_suffix(self.suffix)
        return {
            **super().rules(),
            "batch_size": (self.batch_size is None or self.batch_size >= 1, ">= 1"),
            "suffix": (not why, why),
        }

    def told(self) -> dict[str, Any]:
        """What the provider is told."""
        own = {
            "n_epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
            "seed": self.seed,
        }
        return {key: value for key, value in own.items() if value is not None}


@dataclass(frozen=True)
class VertexSettings(Common):
    """A job on Vertex AI, in `project` (default: GOOGLE_CLOUD_PROJECT) and the region `location` (default: GOOGLE_CLOUD_LOCATION, else
    us-central1). Its files go into `bucket`, such as gs://my-bucket/tuning.
    """

    bucket: str = ""
    project: str | None = None
    location: str | None = None
    adapter_size: int | None = None
    """The rank of the adapter; None leaves it to the provider."""
    base_url: str | None = None

    def rules(self) -> dict[str, tuple[bool, str]]:
        """See Common."""
        return {
            **super().rules(),
            "bucket": (self.bucket.startswith("gs://"), "gs://BUCKET[/FOLDER]"),
            "adapter_size": (
                self.adapter_size is None or self.adapter_size in ADAPTERS,
                " | ".join(map(str, ADAPTERS)),
            ),
            "suffix": (len(self.suffix) <= 128, say("of at most 128 characters", "不超过 128 个字符")),
        }

    def told(self) -> dict[str, Any]:
        """What the provider is told."""
        own = {
            "epoch_count": None if self.epochs == "auto" else self.epochs,
            "learning_rate_multiplier": self.learning_rate_multiplier,
            "adapter_size": self.adapter_size,
        }
        return {key: value for key, value in own.items() if value is not None}


Settings: TypeAlias = OpenAISettings | VertexSettings


def checked(
    kind: type[OpenAISettings] | type[VertexSettings], given: Mapping[str, Any], where: str, **more: Any
) -> Settings:
    """The settings. Raises RecipeError naming an unknown key or a value of the wrong type or range."""
    from pydantic import TypeAdapter, ValidationError

    known = [item.name for item in dataclasses.fields(kind)]
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            mend = say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？") if close else ", ".join(known)
            what = say(f"a job at a provider knows no '{key}'", f"远程微调任务没有“{key}”这一设置")
            raise RecipeError(what, where=f"{where}.{key}", mend=mend)
    try:
        return TypeAdapter(kind).validate_python({**more, **given})
    except ValidationError as error:
        first = error.errors()[0]
        if isinstance(first.get("ctx", {}).get("error"), RecipeError):
            raise first["ctx"]["error"] from None
        key = str(first["loc"][0]) if first["loc"] else ""
        raise RecipeError(
            f"{first['msg']}, {say('got', '实际为')} {first['input']!r}", where=f"{where}.{key}"
        ) from None
