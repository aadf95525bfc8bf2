from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from deadly import SETTINGS
from safetensors.torch import load_file

from zhiling.errors import EngineError
from zhiling.tune import checkpoint
from zhiling.tune import loop as loops
from zhiling.tune.log import Log, read
from zhiling.tune.train import tune

# where a run dies, one after the other in the same folder; every death must leave something to go on from
DEATHS = [
    ("zhiling.tune.log", "Log.write", 3),  # before the first checkpoint: from the start again
    ("zhiling.tune.checkpoint", "write_tensors", 3),  # a checkpoint half written
    ("zhiling.tune.checkpoint", "_sync", 4),  # written, not yet in its place
    ("zhiling.tune.state", "snapshot", 2),  # after the first checkpoint, before the second
    ("zhiling.tune.log", "Log.sync", 1),
    ("zhiling.tune.model", "save", 1),  # all steps done, the model not saved
    ("zhiling.tune.train", "_finish", 1),  # saved, but not yet marked as done
]


def weights(folder: Path):
    return load_file(folder / "model" / "adapter_model.safetensors")


def told(file: Path):
    """The metrics without what depends on the clock."""
    return [{key: value for key, value in line.items() if key != "rate"} for line in read(file)]


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_and_ends_with_the_same_bits(llama, tmp_path, rows):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = tune(llama, rows, whole, SETTINGS)
    text = json.dumps(
        [{"task": row.task, "instruction": row.instruction, "input": row.input, "output": row.output} for row in rows]
    )
    script = str(Path(__file__).with_name("deadly.py"))
    started = []
    for module, name, at in [*DEATHS, ("", "", 0)]:
        ran = subprocess.run(
            [sys.executable, script, str(llama), str(broken), text, module, name, str(at)],
            capture_output=True,
            text=True,
        )
        assert ran.returncode == (-signal.SIGKILL if at else 0), ran.stderr
        saved = sorted(int(place.name.split("-")[1]) for place in broken.glob("checkpoint-*"))
        started.append(saved[-1] if saved else 0)
    assert (
        started[:7] == sorted(started[:7]) and 0 < started[3] < started[6] < done.steps
    )  # it did go on, not start again
    mine, other = weights(whole), weights(broken)
    assert mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)
    assert [line["step"] for line in read(broken / "metrics.jsonl")] == list(range(done.steps + 1))
    assert told(broken / "metrics.jsonl") == told(whole / "metrics.jsonl")
    assert sorted(path.name for path in broken.iterdir()) == ["done.json", "metrics.jsonl", "model"]
    again = tune(llama, rows, broken, SETTINGS)
    assert (again.loss, again.total, again.counts) == (done.loss, done.total, done.counts)


def stop_at(monkeypatch, step):
    """Make a run fail before it writes the line of a step, as a stand-in for any trouble."""
    real = Log.write

    def write(self, row):
        if row["step"] == step:
            raise EngineError("stopped")
        real(self, row)

    monkeypatch.setattr(Log, "write", write)


def test_a_damaged_checkpoint_is_passed_over_and_named(llama, tmp_path, rows, monkeypatch):
    whole = tune(llama, rows, tmp_path / "whole", SETTINGS)
    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(EngineError, match="stopped"):
        stop_at(patch, 8)
        tune(llama, rows, out, SETTINGS)
    assert [place.name for place in checkpoint._places(out)] == ["checkpoint-00000006", "checkpoint-00000003"]
    file = out / "checkpoint-00000006" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.warns(UserWarning, match="checkpoint-00000006"):
        done = tune(llama, rows, out, SETTINGS)
    assert done.loss == whole.loss
    mine, other = weights(tmp_path / "whole"), weights(out)
    assert all(torch.equal(mine[key], other[key]) for key in mine)


def test_another_runs_checkpoint_is_not_taken(llama, tmp_path, rows, monkeypatch):
    other = replace(SETTINGS, lr=1e-4)
    with monkeypatch.context() as patch, pytest.raises(EngineError):
        stop_at(patch, 5)
        tune(llama, rows, tmp_path / "a", SETTINGS)
    tune(llama, rows, tmp_path / "a", other)
    tune(llama, rows, tmp_path / "b", other)
    mine, fresh = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(mine[key], fresh[key]) for key in mine)
    assert told(tmp_path / "a" / "metrics.jsonl") == told(tmp_path / "b" / "metrics.jsonl")


@contextmanager
def full_disk(size: int):
    """No file may grow beyond `size` bytes: the nearest to a full disk that a test can have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_clear_line_and_costs_nothing(llama, tmp_path, rows):
    with full_disk(6000), pytest.raises(EngineError, match="disk is full") as caught:
        tune(llama, rows, tmp_path / "out", SETTINGS)
    assert "checkpoint-00000003" in str(caught.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.jsonl"]
    with full_disk(6000), pytest.raises(EngineError, match="disk is full"):
        tune(llama, rows, tmp_path / "last", replace(SETTINGS, checkpoint_every=0))  # now at the saving of the model
    assert not (tmp_path / "last" / "model").exists()
    tune(llama, rows, tmp_path / "out", SETTINGS)
    tune(llama, rows, tmp_path / "whole", SETTINGS)
    mine, other = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.equal(mine[key], other[key]) for key in mine)


def test_out_of_memory_says_what_to_lower(llama, tmp_path, rows, monkeypatch):
    def hungry(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(loops, "token_losses", hungry)
    with pytest.raises(EngineError, match=r"batch_tokens \(now 150\)"):
        tune(llama, rows, tmp_path, SETTINGS)


def test_a_line_cut_in_half_is_not_a_line(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes('{"step": 1}\n{"step": 2}\n{"step": 3, "tasks": {"情'.encode()[:-1])
    assert [line["step"] for line in read(file)] == [1, 2]
    log = Log(file, 1)
    log.write({"step": 2})
    assert [line["step"] for line in read(file)] == [1, 2]
