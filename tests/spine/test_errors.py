"""Troubles are one line: what, where, how to mend; in the user's language."""

import errno
import pickle

import pytest

from zhiling.errors import DataError, EngineError, ProviderError, RecipeError, boundary, lang, say


def test_an_error_reads_as_one_line():
    assert (
        str(DataError("no column 'x'", where="a.csv:3", mend="set columns")) == "a.csv:3: no column 'x' — set columns"
    )
    assert isinstance(DataError("x"), ValueError) and isinstance(EngineError("x"), RuntimeError)
    assert (
        RecipeError("x").exit_code,
        DataError("x").exit_code,
        ProviderError("x").exit_code,
        EngineError("x").exit_code,
    ) == (2, 2, 1, 1)


def test_errors_cross_process_borders_whole():
    error = pickle.loads(
        pickle.dumps(ProviderError("slow down", where="api", mend="wait", kind="rate", retryable=True, retry_after=3.5))
    )
    assert (error.kind, error.retryable, error.retry_after, error.where) == ("rate", True, 3.5, "api")


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (OSError(errno.ENOSPC, "No space left", "/x/a"), EngineError, "/x/a: the disk is full"),
        (OSError(errno.EDQUOT, "Quota"), EngineError, "disk is full"),
        (PermissionError(errno.EACCES, "Denied", "/x/a"), EngineError, "permission denied"),
        (FileNotFoundError(errno.ENOENT, "None", "/x/a"), DataError, "/x/a: no such file"),
        (IsADirectoryError(errno.EISDIR, "Dir", "/x"), DataError, "folder"),
        (MemoryError(), EngineError, "out of memory"),
        (ModuleNotFoundError("x", name="xllamacpp"), RecipeError, r"zhiling\[local\]"),
        (ZeroDivisionError("division by zero"), EngineError, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_escapes_is_classified(raised, kind, said):
    import re

    found = boundary(raised)
    assert isinstance(found, kind) and re.search(said, str(found))


def test_known_errors_pass_unchanged():
    error = RecipeError("x")
    assert boundary(error) is error


def test_messages_follow_the_users_language(monkeypatch):
    monkeypatch.delenv("ZHILING_LANG", raising=False)
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert (lang(), say("a", "甲")) == ("zh", "甲")
    monkeypatch.setenv("LANG", "C.UTF-8")
    assert say("a", "甲") == "a"
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert "磁盘已满" in str(boundary(OSError(errno.ENOSPC, "x")))
