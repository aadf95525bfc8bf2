"""Starts the ranks that tune one model together: torchrun on this machine, or Ray on a cluster. What a rank does is in `tune.ranks`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhiling.errors import EngineError, missing, say
from zhiling.types import Example


def torchrun(ranks: int, arguments: Sequence[str]) -> int:
    """`zhiling ARGUMENTS` in so many processes of this machine; returns the exit code of the first that failed, 0 where none did."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={ranks}",
        "-m",
        "zhiling.cli",
    ]
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))}
    work = subprocess.Popen(
        [*command, *arguments], env={**os.environ, **threads}, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    assert work.stderr is not None
    try:
        before = ""
        for line in work.stderr:
            if not _torchruns(line) and line != before:  # ranks that fail alike say it once
                before = line
                sys.stderr.write(line)
                sys.stderr.flush()
        return work.wait()
    except KeyboardInterrupt:
        work.wait()  # the terminal told them too
        raise


def _torchruns(line: str) -> bool:
    """Whether torchrun says it: of a worker that failed, the worker's own line is enough."""
    return (
        line.startswith(
            ("W1", "E1", "W0", "E0", "Traceback", "  File", "    ", "torch.distributed.elastic", "===", "---")
        )
        or not line.strip()
    )


def on_ray(
    ranks: int,
    base: str,
    rows: Sequence[Example],
    out: Path,
    given: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Tune among `ranks` Ray tasks, a CPU (or GPU, where the cluster has as many) each; `out` must be a folder that every node sees.

    Returns the facts of the tuned model, as `prove.tune` does. Raises EngineError where Ray has too few places, or loses a task.
    """
    from zhiling.engine import open_engine

    engine = open_engine("ray", ranks)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise missing("ray") from error
    try:
        places = ray.cluster_resources()
        if places.get("CPU", 0) < ranks:
            what = say(
                f"{ranks} ranks need {ranks} CPUs, Ray has {places.get('CPU', 0):g}",
                f"{ranks} 个进程需要 {ranks} 个 CPU，Ray 只有 {places.get('CPU', 0):g} 个",
            )
            raise EngineError(what, where="--ranks", mend=say("ask for fewer", "请减少 --ranks"))
        gpus = 1 if places.get("GPU", 0) >= ranks else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_rank)
        meeting = _free_address()
        shared = (meeting, base, list(rows), str(out), dict(given), list(sources))
        works = [task.remote(rank, ranks, *shared) for rank in range(ranks)]
        try:
            return dict(ray.get(works)[0])
        except ray.exceptions.RayTaskError as error:
            raise error.cause or error from None
        except ray.exceptions.RayError as error:
            raise EngineError(say(f"Ray lost a task: {error}", f"Ray 丢失了一个任务：{error}"), where="tune") from error
    finally:
        engine.close()


def _rank(
    rank: int,
    size: int,
    meeting: tuple[str, int],
    base: str,
    rows: Sequence[Example],
    out: str,
    given: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    from zhiling.proof import prove

    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_RANK="0",
        LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR=meeting[0],
        MASTER_PORT=str(meeting[1]),
    )
    return prove.tune(base, rows, Path(out), prove.settings_of(given), lambda event: None, sources)


def _free_address() -> tuple[str, int]:
    """Where the ranks meet: this machine, as the cluster knows it, at a port that is free now."""
    import ray

    address = ray.util.get_node_ip_address()
    with socket.socket() as door:
        door.bind(("", 0))
        return address, int(door.getsockname()[1])
