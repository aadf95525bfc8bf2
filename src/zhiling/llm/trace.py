"""One JSON line per call in events.jsonl, named as OpenTelemetry's conventions for generative AI name things (gen_ai.*)."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zhiling.errors import ProviderError, ZhilingError, boundary
from zhiling.llm.base import label
from zhiling.types import Reply, Request

LINES, SECONDS = 64, 0.2
SELLERS = {
    "api.deepseek.com": "deepseek", "api.x.ai": "x_ai", "api.groq.com": "groq", "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity", "api.anthropic.com": "anthropic", "api.cohere.com": "cohere",
}  # fmt: skip
"""The conventions' names of those who speak OpenAI's protocol, by host; any other is told by `server.address`."""
FINISH = {"filter": "content_filter"}
"""Our finish reasons that the conventions name otherwise."""


class Trace:
    """Appends whole lines to a file that any number of processes may share. No key ever gets here.

    Lines are written LINES at a time or after SECONDS, so a killed process may leave its last few unwritten; what was answered is in
    the reply cache all the same. Prompts and replies are left out unless `content` is set.
    """

    def __init__(self, path: Path, provider: str, model: str, content: bool = False) -> None:
        self.path, self.content = path, content
        self._trouble: ZhilingError | None = None
        self._fixed = json.dumps({"gen_ai.request.model": label(model), **_served_by(provider, model)})[:-1] + ", "
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lines: list[str] = []
            self._timed = False
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise boundary(error, str(path)) from error
        atexit.register(self.close)

    def call(
        self, key: str, request: Request, reply: Reply | None, error: ProviderError | None, seconds: float, attempt: int
    ) -> None:
        """Note one attempt: its parameters, and its reply or the kind of its error."""
        kind = "chat" if request.prompt is None else "text_completion"
        if request.continuation is not None:  # the conventions have no name for it
            kind = "score"
        line = (
            f'{self._fixed}"time": {time.time():.3f}, "zhiling.key": "{key}", "gen_ai.operation.name": "{kind}", '
            f'"gen_ai.request.max_tokens": {request.max_tokens}, "gen_ai.request.temperature": {request.temperature}, '
            f'"zhiling.attempt": {attempt}, "zhiling.input_bytes": {size(request)}, "duration_s": {seconds:.4f}'
        )
        if reply is not None:
            finish = FINISH.get(reply.finish, reply.finish)
            line += (
                f', "gen_ai.response.finish_reasons": ["{finish}"], "gen_ai.usage.input_tokens": {_number(reply.usage.prompt)}, '
                f'"gen_ai.usage.output_tokens": {_number(reply.usage.completion)}, "zhiling.usd": {_number(reply.usd)}'
            )
        rest = self._rest(request, reply, error)
        line += f", {json.dumps(rest)[1:]}\n" if rest else "}\n"
        self._lines.append(line)
        if len(self._lines) >= LINES:
            self.flush()
        elif not self._timed:
            self._timed = True
            asyncio.get_running_loop().call_later(SECONDS, self.flush)

    def flush(self) -> None:
        """Write what is waiting. A full disk is kept for `check`: the reply whose line this was is not to be lost to it."""
        lines, self._lines, self._timed = self._lines, [], False
        if lines and self._file >= 0:
            try:
                os.write(self._file, "".join(lines).encode("ascii"))
            except OSError as trouble:
                self._trouble = boundary(trouble, str(self.path))

    def check(self) -> None:
        """Before a call leaves: raises EngineError when the calls before it could not be noted."""
        if self._trouble is not None:
            raise self._trouble

    def _rest(self, request: Request, reply: Reply | None, error: ProviderError | None) -> dict[str, Any]:
        """What only some calls have."""
        rest: dict[str, Any] = {}
        if request.seed is not None:
            rest["gen_ai.request.seed"] = request.seed
        if request.top_p != 1.0:
            rest["gen_ai.request.top_p"] = request.top_p
        if request.stop:
            rest["gen_ai.request.stop_sequences"] = list(request.stop)
        if request.schema is not None:
            rest["gen_ai.output.type"] = "json"
        if error is not None:
            rest["error.type"], rest["error.message"] = error.kind, error.what
        if self.content:
            turns = request.messages or (("user", request.prompt or ""),)
            rest["gen_ai.input.messages"] = [_message(role, text) for role, text in turns]
            if reply is not None:
                finish = FINISH.get(reply.finish, reply.finish)
                rest["gen_ai.output.messages"] = [{**_message("assistant", reply.text), "finish_reason": finish}]
        return rest

    def close(self) -> None:
        """Write what is waiting and let go of the file. Raises EngineError when something could not be written."""
        self.flush()
        atexit.unregister(self.close)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self.check()


def size(request: Request) -> int:
    """The UTF-8 bytes of a request's texts: with the tokens that the endpoint counts, what plans learn from."""
    texts = [request.prompt] if request.prompt is not None else [content for _, content in request.messages]
    return sum(len(text.encode("utf-8", "replace")) for text in [*texts, request.continuation or ""])


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _served_by(provider: str, identity: str) -> dict[str, Any]:
    """Who answers, as the conventions name them, and at which address where the identity holds one."""
    _, at, rest = identity.partition("@http")
    address = urlsplit("http" + rest.split("#", 1)[0]) if at else None
    host = (address.hostname or "") if address else ""
    name = provider
    if provider == "openai":
        name = "azure.ai.openai" if host.endswith(".openai.azure.com") else SELLERS.get(host, "openai")
    elif provider == "gemini":
        name = "gcp.vertex_ai" if "aiplatform" in host else "gcp.gemini"
    found: dict[str, Any] = {"gen_ai.provider.name": name}
    if address is not None and host:
        port = address.port or (443 if address.scheme == "https" else 80)
        found |= {"server.address": host, "server.port": port}
    return found


def _number(value: float | None) -> str:
    return "null" if value is None else repr(value)
