"""What a tuning run needs besides its rows and its model: packages and a chip, looked for before any work is done."""

from __future__ import annotations

from importlib.util import find_spec

from zhiling.errors import RecipeError, missing, say
from zhiling.tune.settings import TuneSettings


def ready(settings: TuneSettings) -> None:
    """Raises RecipeError where a logger's package is missing, or what 4-bit weights need: a CUDA GPU, bitsandbytes and accelerate."""
    for plugin, _ in settings.loggers():
        packages = plugin.facts.get("packages", ())
        if packages and not any(find_spec(package) for package in packages):
            raise missing(packages[0])
    if settings.quantize is None:
        return
    import torch

    if not torch.cuda.is_available():
        raise RecipeError(
            say("4-bit weights need a CUDA GPU, and there is none here", "4 比特量化需要 CUDA GPU，而本机没有"),
            where="tune.quantize",
            mend=say("leave quantize out, and lower batch_tokens if memory is short", "请去掉 quantize；内存不足时调小 batch_tokens"),
        )  # fmt: skip
    for package in ("bitsandbytes", "accelerate"):
        if find_spec(package) is None:
            raise missing(package)
