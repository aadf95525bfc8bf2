"""One call of OpenAI's protocol outside of chat: files, batches, tuning jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zhiling.llm import faults

if TYPE_CHECKING:
    from zhiling.llm.openai import OpenAI

PATIENT = 900.0  # seconds for a file to go up


async def call(
    provider: OpenAI,
    method: str,
    path: str,
    data: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 0.0,
) -> dict[str, Any]:
    """The JSON object that comes back. Raises ProviderError for anything else; it neither retries nor shows the key."""
    import aiohttp

    session = await provider.connections()
    total = aiohttp.ClientTimeout(total=timeout or provider._timeout)
    try:
        async with session.request(
            method, provider._base + path, data=data, headers=headers, timeout=total, allow_redirects=False
        ) as answer:
            raw, status, kind = await answer.read(), answer.status, answer.headers.get("Content-Type", "")
            told = answer.headers
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        failure = faults.of_exception(error, provider._origin)
    else:
        raw = hidden(provider, raw)
        if status in (200, 201):  # some that copy the protocol say that something was created
            try:
                found = json.loads(raw)
            except (ValueError, RecursionError):
                found, failure = None, faults.of_body(raw, kind, provider._origin)
            if isinstance(found, dict):
                return found
            if found is not None:
                failure = faults.of_another_protocol(found, provider._origin)
        else:
            failure = faults.of_status(status, told, raw, provider._origin)
    raise failure from None  # aiohttp's own exception may hold the request's headers


def hidden(provider: OpenAI, raw: bytes) -> bytes:
    """The bytes without the key, should an endpoint send it back."""
    return provider._key.hide(raw) if provider._key is not None else raw
