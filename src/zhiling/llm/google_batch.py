"""The Gemini API's batches, with their requests in the call that makes the job: one step, so that it either was made or was not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from zhiling.errors import ProviderError
from zhiling.llm import google_faults
from zhiling.llm.base import Look, lacks
from zhiling.llm.google import read_answer
from zhiling.types import Reply, Request

if TYPE_CHECKING:
    from google.genai import types

    from zhiling.llm.google import Gemini

ENDED = {
    "JOB_STATE_SUCCEEDED": "completed", "JOB_STATE_PARTIALLY_SUCCEEDED": "completed", "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EXPIRED": "expired", "JOB_STATE_CANCELLED": "cancelled",
}  # fmt: skip
HTTP = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 13: 500, 14: 503, 16: 401}
"""Google's own status codes as those of HTTP."""
LISTED = 2000  # jobs to look through for a name


class Batches:
    """The batch jobs of one Gemini model. A job's call may hold 20 MB; what it is wrapped in needs some of that."""

    rows, size = 50_000, 15_000_000

    def __init__(self, provider: Gemini) -> None:
        self._provider = provider

    def line(self, key: str, request: Request) -> bytes:
        """One inlined request as JSON; its key travels as metadata. Raises ProviderError(kind="capability") for a bare prompt."""
        from google.genai import types

        if request.prompt is not None:
            raise lacks(self._provider, "complete")
        contents, config = self._provider.shape(request)
        row = types.InlinedRequest(contents=list(contents), config=config, metadata={"key": key})
        return str(row.model_dump_json(exclude_none=True)).encode()

    async def submit(self, name: str, lines: Sequence[bytes]) -> str:
        """One batchGenerateContent call; the name is the job's display name."""
        from google.genai import types

        client, rows = await self._provider.client(), [types.InlinedRequest.model_validate_json(line) for line in lines]
        try:
            made = await client.aio.batches.create(
                model=self._provider.short, src=list(rows), config=types.CreateBatchJobConfig(display_name=name)
            )
        except Exception as error:  # google_faults raises again what is not the endpoint's
            failure = self._provider.failure(error)
        else:
            if made.name:
                return str(made.name)
            failure = self._provider.origin.error("the answer names no job", "返回中没有任务名", "protocol", retry=True)
        raise failure from None

    async def find(self, name: str) -> str | None:
        """Look through the listed jobs for the display name."""
        client = await self._provider.client()
        try:
            count = 0
            async for job in await client.aio.batches.list(config={"page_size": 100}):
                count += 1
                if job.display_name == name and job.name:
                    return str(job.name)
                if count >= LISTED:
                    break
        except Exception as error:
            failure = self._provider.failure(error)
        else:
            return None
        raise failure from None

    async def look(self, job: str) -> Look:
        """The job's state."""
        found = await self._get(job)
        state = found.state.value if found.state else "?"
        why = (found.error.message if found.error else None) or ""
        stats = found.completion_stats
        done = (stats.successful_count or 0) + (stats.failed_count or 0) if stats else 0
        total = done + (stats.incomplete_count or 0) if stats else 0
        return Look(state in ENDED, ENDED.get(state, state), done, total, why[:200])

    async def results(self, job: str) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
        """The inlined responses that bear a key."""
        found = await self._get(job)
        for item in (found.dest.inlined_responses if found.dest else None) or ():
            key = (item.metadata or {}).get("key")
            if key:
                yield key, self._outcome(item)

    def _outcome(self, item: types.InlinedResponse) -> Reply | ProviderError:
        origin = self._provider.origin
        try:
            if item.response is not None:
                return read_answer(item.response, self._provider.short, 0.0, origin)
        except ProviderError as error:
            return error
        message = (item.error.message if item.error else None) or "?"
        code = (item.error.code if item.error else None) or 13
        return google_faults.of_answer(HTTP.get(code, code if code >= 400 else 500), {"message": message}, {}, origin)

    async def _get(self, job: str) -> types.BatchJob:
        client = await self._provider.client()
        try:
            return await client.aio.batches.get(name=job)
        except Exception as error:
            failure = self._provider.failure(error)
        raise failure from None
