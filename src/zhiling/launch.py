"""Starts the ranks that tune one model together: torchrun on this machine, or Ray on a cluster. What a rank does is in `tune.ranks`."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from zhiling.errors import EngineError, RecipeError, boundary, missing, say
from zhiling.types import Example

MARK = "|zhiling rank|"
"""Stands before each line of a rank, after its number, so that torchrun's own lines are told from it."""
ENDED = re.compile(r"exitcode\s*:\s*(-?\d+)")


def torchrun(ranks: int, arguments: Sequence[str], log: Path) -> int:
    """`zhiling ARGUMENTS` in so many processes of this machine; returns the exit code of the one that failed first, 0 where none did.

    What a rank says on its standard error goes on to ours, a fault's trace too; all of it and what torchrun itself says go to `log`.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "--tee", "2"]
    more = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))}
    more |= {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "${local_rank}" + MARK}
    heard = Heard()
    with tempfile.TemporaryDirectory(prefix="zhiling-ranks-") as folder, _writing(log) as kept:
        work = subprocess.Popen(
            [*command, "--log-dir", folder, "-m", "zhiling.cli", *arguments],
            env={**os.environ, **more}, stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        assert work.stderr is not None
        try:
            for line in work.stderr:
                kept.write(line)
                sys.stderr.write(heard.line(line))
                sys.stderr.flush()
            failed = work.wait()
        except KeyboardInterrupt:
            work.wait()  # the terminal told them too
            raise
    if not failed:
        return 0
    code = heard.code or failed
    if code < 0:
        why = say("short of memory, perhaps", "可能是内存不足") if code == -signal.SIGKILL else ""
        what = say(f"a rank was ended by signal {-code}", f"一个进程被信号 {-code} 终止")
        raise EngineError(what, where=str(log), mend=why)
    if code != RecipeError.exit_code:
        print(say(f"all that the ranks said: {log}", f"各进程的完整输出：{log}"), file=sys.stderr)
    return code


class Heard:
    """What torchrun and its ranks say, line by line. `code` is how the rank ended that failed first, where torchrun has said so."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.first: dict[str, str] = {}

    def line(self, text: str) -> str:
        """What the user shall see of it: a rank's line as it said it, nothing of torchrun's, nor of what another rank has said already."""
        rank, mark, said = text.partition(MARK)
        if not mark:
            if ended := ENDED.search(text):
                self.code = int(ended[1])  # the root cause stands last
            return ""
        return said if self.first.setdefault(said, rank) == rank else ""


@contextmanager
def _writing(log: Path) -> Iterator[IO[str]]:
    """The log file. Raises EngineError where it cannot be written."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as kept:
            yield kept
    except OSError as error:
        raise boundary(error, where=str(log)) from error


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
