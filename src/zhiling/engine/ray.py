"""Ray core tasks over the same jobs. Joins the cluster of $RAY_ADDRESS, or starts Ray on this machine: no dashboard, no usage statistics."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from zhiling.engine import Job
from zhiling.errors import EngineError, missing, say


def _call(job: Job) -> Any:
    return job()


class Ray:
    """Shards must be on a folder that every node sees; on one machine that is any folder."""

    name = "ray"

    def __init__(self, workers: int | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ModuleNotFoundError as error:
            raise missing("ray") from error
        self._ray = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            address = os.environ.get("RAY_ADDRESS")
            local = {} if address else {"num_cpus": workers or len(os.sched_getaffinity(0)), "include_dashboard": False}
            try:
                ray.init(address=address, log_to_driver=False, logging_level="error", **local)
            except (ConnectionError, RuntimeError, TimeoutError) as error:
                raise EngineError(
                    say(f"cannot start or join Ray: {error}", f"无法启动或加入 Ray：{error}"), where="--engine ray"
                ) from error
        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        # BLAS threads are Ray's to divide: one per task
        self._task = ray.remote(max_retries=3)(_call)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[str, Any]]:
        """Results as they come; at most four jobs per CPU are handed over at a time."""
        waiting = dict[Any, str]()
        for job in jobs:
            waiting[self._task.remote(job)] = job.key
            if len(waiting) >= 4 * self.workers:
                yield from self._finished(waiting)
        while waiting:
            yield from self._finished(waiting)

    def _finished(self, waiting: dict[Any, str]) -> Iterator[tuple[str, Any]]:
        ready, _ = self._ray.wait(list(waiting), num_returns=1)
        for reference in ready:
            key = waiting.pop(reference)
            try:
                yield key, self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause or error from None
            except self._ray.exceptions.RayError as error:
                raise EngineError(say(f"Ray lost a task: {error}", f"Ray 丢失了一个任务：{error}")) from error

    def close(self) -> None:
        """Leave Ray; stop it if we started it."""
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()
