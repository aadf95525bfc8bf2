"""OpenAI's Batch API, and those that copy it: a file of requests, a job over it, a file of replies and one of errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zhiling.errors import ProviderError
from zhiling.llm import faults
from zhiling.llm.base import Look, lacks
from zhiling.llm.openai_call import PATIENT, call, hidden
from zhiling.types import Reply, Request

if TYPE_CHECKING:
    from zhiling.llm.openai import OpenAI

ENDPOINT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")
PAGES = 20  # of a hundred jobs, when one is looked for by name


class Batches:
    """The batch jobs of one OpenAI model. Limits are OpenAI's: 50,000 requests and 200 MB in a job."""

    rows, size = 50_000, 200_000_000

    def __init__(self, provider: OpenAI) -> None:
        self._provider = provider
        self._origin = provider._origin

    def line(self, key: str, request: Request) -> bytes:
        """One line of the file. Raises ProviderError(kind="capability") for a bare prompt: a job takes chat requests only."""
        if request.prompt is not None:
            raise lacks(self._provider, "complete")
        body = self._provider._body(request)
        return json.dumps({"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}).encode("ascii")

    async def submit(self, name: str, lines: Sequence[bytes]) -> str:
        """Upload the file, then make the job; the name is kept in the job's metadata."""
        import aiohttp

        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", b"\n".join(lines) + b"\n", filename=f"{name}.jsonl", content_type="application/jsonl")
        payload = form()
        file = await call(
            self._provider,
            "POST",
            "/files",
            payload,
            {"Content-Type": payload.content_type},
            max(PATIENT, self._provider._timeout),
        )
        made = {"input_file_id": str(file.get("id")), "endpoint": ENDPOINT, "completion_window": "24h"}
        job = await call(
            self._provider, "POST", "/batches", json.dumps({**made, "metadata": {"zhiling": name}}).encode()
        )
        if not isinstance(job.get("id"), str):
            raise faults.of_another_protocol(job, self._origin)
        return str(job["id"])

    async def find(self, name: str) -> str | None:
        """Look through the newest jobs for the name."""
        after = ""
        for _ in range(PAGES):
            page = await call(self._provider, "GET", f"/batches?limit=100{after}")
            jobs = [job for job in page.get("data") or () if isinstance(job, dict)]
            for job in jobs:
                if (job.get("metadata") or {}).get("zhiling") == name:
                    return str(job["id"])
            if not jobs or not page.get("has_more"):
                return None
            after = f"&after={jobs[-1].get('id')}"
        return None

    async def look(self, job: str) -> Look:
        """The job's status, request counts and its own errors."""
        found = await call(self._provider, "GET", f"/batches/{job}")
        counts = found.get("request_counts") or {}
        errors = (found.get("errors") or {}).get("data") or ()
        why = "; ".join(str(error.get("message") or error.get("code")) for error in errors if isinstance(error, dict))
        status = str(found.get("status") or "?")
        done = int(counts.get("completed") or 0) + int(counts.get("failed") or 0)
        return Look(status in ENDED, status, done, int(counts.get("total") or 0), faults.hide_keys(why[:200]))

    async def results(self, job: str) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
        """The lines of both files, of any length; a line that cannot be read is left out, so that its row counts as missing."""
        found = await call(self._provider, "GET", f"/batches/{job}")
        for file in (found.get("output_file_id"), found.get("error_file_id")):
            if not file:
                continue
            async for line in self._lines(f"/files/{file}/content"):
                try:
                    item = json.loads(line)
                    key = str(item["custom_id"])
                    outcome = self._outcome(item)
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    continue
                yield key, outcome

    def _outcome(self, item: Mapping[str, Any]) -> Reply | ProviderError:
        answer = item.get("response")
        if not answer:
            error = item.get("error") or {}
            code = str(error.get("code") or error.get("message") or "?")
            en, zh = f"the batch left this row out: {code}", f"批处理没有回答这一行：{code}"
            return self._origin.error(en, zh, "server", retry=True)
        body = json.dumps(answer.get("body")).encode()
        try:
            if answer.get("status_code") == 200:
                return self._provider._read(body, {}, True, 0.0)
            return faults.of_status(int(answer.get("status_code") or 500), {}, body, self._origin)
        except ProviderError as error:
            return error

    async def _lines(self, path: str) -> AsyncIterator[bytes]:
        import aiohttp

        session = await self._provider.connections()
        patient = aiohttp.ClientTimeout(total=None, sock_read=self._provider._timeout)
        failure: ProviderError | None = None
        rest = b""
        try:
            async with session.get(self._provider._base + path, timeout=patient, allow_redirects=False) as answer:
                if answer.status != 200:
                    failure = faults.of_status(
                        answer.status, answer.headers, hidden(self._provider, await answer.read()), self._origin
                    )
                else:
                    async for chunk in answer.content.iter_chunked(1 << 20):
                        *lines, rest = (rest + hidden(self._provider, chunk)).split(b"\n")
                        for line in lines:
                            yield line
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            failure = faults.of_exception(error, self._origin)
        if failure is not None:
            raise failure from None
        if rest.strip():
            yield rest
