"""What can be wrong with a batch job as a whole, and with a row that it brought nothing for."""

from __future__ import annotations

from collections.abc import Sequence

from zhiling.errors import ProviderError, say
from zhiling.llm.base import Look
from zhiling.llm.jobs import Job


def fatal(where: str, job: Job, look: Look, errors: Sequence[ProviderError], missing: bool) -> ProviderError | None:
    """The error that ends the run after this job: what every further job would meet again, or the user's wish.

    `errors` are those of rows without a reply, `missing` whether there are such rows; without any there is nothing left to submit.
    """
    from zhiling.llm.wrap import STOPPING

    if not missing:
        return None
    remote = job.remote
    if look.state == "cancelled":
        return ProviderError(
            say(f"batch {remote} was cancelled", f"批处理 {remote} 已被取消"),
            where=where,
            mend=say("run again to submit what has no reply", "重新运行会再次提交尚无回复的请求"),
            kind="refused",
        )
    if look.state == "failed":
        return ProviderError(
            say(f"batch {remote} failed: {look.why or '?'}", f"批处理 {remote} 失败：{look.why or '?'}"),
            where=where,
            mend=say(
                "mend that (batch: {rows: N} makes smaller jobs) and run again",
                "请先解决该问题（batch: {rows: N} 可减小任务），再重新运行",
            ),
            kind="refused",
        )
    return next((error for error in errors if error.kind in STOPPING), None)


def absent(where: str, job: Job) -> ProviderError:
    """The error of a row that its job says nothing about."""
    return ProviderError(
        say(f"batch {job.remote} brought no result for this row", f"批处理 {job.remote} 没有返回这一行的结果"),
        where=where,
        kind="protocol",
        retryable=True,
    )
