"""A small logistic model over named signals, read from a data file: `quality` and `wording` are both of this kind.

The file (YAML) holds, per language, each signal's mean and standard deviation over a reference set and a `base`; for both languages
alike each signal's weight; and the date, the data and the settings of the training. `benchmarks/passports.py --train` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zhiling.errors import say

CLIP = 5.0  # standard deviations: no single signal speaks louder


@dataclass(frozen=True, slots=True)
class Signal:
    """What is measured: a function of a row's view, the direction that is meant (1 high, -1 low), and its name in Chinese."""

    of: Callable[[Any], float]
    sign: int
    zh: str


@dataclass(frozen=True, slots=True)
class Model:
    """value = 1 / (1 + exp(base - sum of contributions)), each weight * clip((signal - mean) / deviation, -5, 5).

    The weights are those of a Bradley-Terry model of people's preferences. `base` is such that the mean value of the language's
    reference rows is 0.5: so the value tells how likely a person would prefer the row to a middling one, in Chinese as in English.
    """

    weights: Mapping[str, float]
    langs: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any]

    def contributions(self, measured: Mapping[str, float], lang: str) -> dict[str, float]:
        """Each signal's part of the sum, in log-odds, largest first."""
        stand = self.langs[lang]
        parts = {
            name: weight * max(-CLIP, min(CLIP, (measured[name] - stand["mean"][name]) / stand["deviation"][name]))
            for name, weight in self.weights.items()
        }
        return dict(sorted(parts.items(), key=lambda pair: (-abs(pair[1]), pair[0])))

    def judge(self, measured: Mapping[str, float], lang: str, named: Mapping[str, Signal]) -> tuple[float, str]:
        """The value in [0, 1], and every contribution in words."""
        parts = self.contributions(measured, lang)
        total = math.fsum(parts.values()) - self.langs[lang]["base"]
        why = ", ".join(f"{say(name, named[name].zh)} {part:+.2f}" for name, part in parts.items())
        return round(1 / (1 + math.exp(-total)), 4), why


@cache
def load(name: str) -> Model:
    """The shipped model of that name."""
    import yaml

    held = yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8"))
    return Model(held["weights"], held["langs"], held["about"])
