"""What a user hears of ranks that torchrun started: their own words and traces, not torchrun's."""

from __future__ import annotations

import stat
import sys

import pytest

from zhiling import launch
from zhiling.errors import EngineError
from zhiling.launch import MARK, Heard

PYTHON = sys.executable
OURS = [
    "E1124 17:00:00.000000 12 torch/distributed/elastic/multiprocessing/api.py:1] failed (exitcode: 1) local_rank: 0",
    "Traceback (most recent call last):",
    '  File "run.py", line 9, in run',
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
    "Other Failures:", "  exitcode  : 1 (pid: 7)", "Root Cause (first observed failure):", "  exitcode  : 2 (pid: 8)",
]  # fmt: skip
TRACE = [
    "Traceback (most recent call last):",
    '  File "a.py", line 3, in f',
    "    return 1 / 零",
    "ZeroDivisionError: 除零",
]


def test_a_rank_is_heard_whole_and_once_and_torchrun_not_at_all():
    heard = Heard()
    lines = [f"{rank}{MARK}{line}\n" for line in TRACE for rank in (1, 0)]
    assert "".join(map(heard.line, lines)).splitlines() == TRACE
    twice = f"0{MARK}loss 1.0\n"
    assert heard.line(twice) == heard.line(twice) == "loss 1.0\n"  # a rank may repeat itself
    assert "".join(heard.line(line + "\n") for line in OURS) == "" and heard.code == 2


def stand_in(tmp_path, monkeypatch, lines, code):
    """A torchrun that says these lines."""
    script = tmp_path / "torchrun"
    said = "".join(f"sys.stderr.write({line + chr(10)!r})\n" for line in lines)
    script.write_text(f"#!{PYTHON}\nimport sys\n{said}sys.exit({code})\n", encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(launch.sys, "executable", str(script))
    return launch.torchrun(2, ["tune"], tmp_path / "out" / "ranks.log")


def test_an_unknown_fault_reaches_the_user_and_the_log(tmp_path, monkeypatch, capsys):
    lines = [*(f"1{MARK}{line}" for line in TRACE), *OURS[:-1], "  exitcode  : 1 (pid: 8)"]
    assert stand_in(tmp_path, monkeypatch, lines, 1) == 1
    told = capsys.readouterr().err
    log = tmp_path / "out" / "ranks.log"
    assert told.startswith("\n".join(TRACE)) and str(log) in told and "elastic" not in told
    assert log.read_text(encoding="utf-8").splitlines() == lines


def test_a_users_mistake_keeps_its_exit_code_and_a_killed_rank_is_said(tmp_path, monkeypatch, capsys):
    assert stand_in(tmp_path, monkeypatch, [f"0{MARK}error: no rows", *OURS], 1) == 2
    assert capsys.readouterr().err == "error: no rows\n"
    with pytest.raises(EngineError, match=r"signal 9 — short of memory"):
        stand_in(tmp_path, monkeypatch, ["  exitcode  : -9 (pid: 8)"], 1)
    assert stand_in(tmp_path, monkeypatch, [f"0{MARK}done"], 0) == 0
