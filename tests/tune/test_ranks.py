from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from zhiling.tune.log import read
from zhiling.tune.ranks import Ranks
from zhiling.tune.render import Rendered
from zhiling.tune.settings import TuneSettings
from zhiling.tune.train import tune

SETTINGS = {"epochs": 2, "batch_rows": 7, "batch_tokens": 120, "rank": 4, "lr": 5e-3, "checkpoint_every": 2, "threads": 1, "validation": 0.2}  # fmt: skip


def ranked(base, out, rows, settings, at=0, size=2):
    """torchrun, as a user starts it, on this machine."""
    text = json.dumps(
        [{"task": row.task, "instruction": row.instruction, "input": row.input, "output": row.output} for row in rows]
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    script = [str(Path(__file__).with_name("ranked.py")), str(base), str(out), text, json.dumps(settings), str(at)]
    return subprocess.run([*launch, *script], capture_output=True, text=True, timeout=240)


def weights(folder):
    return load_file(next((folder / "model").glob("*model*.safetensors")))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 5))
def test_every_row_has_one_rank(lengths, size):
    rows = [
        Rendered(f"{n}", "t", tuple(range(n, n + long + 1)), (False, *[True] * long)) for n, long in enumerate(lengths)
    ]
    shares = [Ranks(rank, size).share(rows) for rank in range(size)]
    assert sorted((row for share in shares for row in share), key=lambda r: r.id) == sorted(rows, key=lambda r: r.id)
    most = max(sum(len(row.ids) for row in share) for share in shares)
    assert most <= sum(n + 1 for n in lengths) / size + max(lengths) + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "objective", "shard"),
    [
        ("lora", "token_mean", False),
        ("full", "sample_mean", False),
        ("lora", "sum", True),
        ("full", "token_mean", True),
    ],
)
def test_two_ranks_tune_as_one_does(llama, tmp_path, rows, method, objective, shard):
    settings = {**SETTINGS, "method": method, "objective": objective, "lr": 2e-3, "keep": "best", "shard": shard}
    alone = tune(llama, rows, tmp_path / "one", TuneSettings(**settings))
    ran = ranked(llama, tmp_path / "two", rows, settings)
    assert ran.returncode == 0, ran.stderr
    lines = read(tmp_path / "two" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [line["step"] for line in alone.history]
    for mine, other in zip(lines, alone.history, strict=True):
        for key in ("loss", "norm", "validation_loss"):
            if key in mine:
                assert math.isclose(mine[key], other[key], rel_tol=1e-5), (mine["step"], key)
        assert mine.get("tokens") == other.get("tokens")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_ranks_go_on_after_a_kill_with_the_same_bits(llama, tmp_path, rows, shard):
    settings = {**SETTINGS, "dropout": 0.1, "shard": shard}
    assert ranked(llama, tmp_path / "whole", rows, settings).returncode == 0
    assert ranked(llama, tmp_path / "broken", rows, settings, at=4).returncode != 0
    assert list((tmp_path / "broken").glob("checkpoint-*")) and not (tmp_path / "broken" / "done.json").exists()
    ran = ranked(llama, tmp_path / "broken", rows, settings)
    assert ran.returncode == 0, ran.stderr
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_without_the_others_there_is_one_rank(llama, tmp_path, rows, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    done = tune(llama, rows, tmp_path, replace(TuneSettings(**SETTINGS), epochs=1))
    assert done.steps == len([line for line in done.history if line["step"]])
