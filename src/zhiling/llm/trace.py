"""One JSON line per call in events.jsonl, named as OpenTelemetry's conventions for generative AI name things (gen_ai.*)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from zhiling.errors import ProviderError, boundary
from zhiling.llm.base import label
from zhiling.types import Reply, Request


class Trace:
    """Appends to a file that any number of processes may share: each line is one write. No key ever gets here.

    Prompts and replies are left out unless `content` is set.
    """

    def __init__(self, path: Path, provider: str, model: str, content: bool = False) -> None:
        self.path, self.content = path, content
        self._fixed = {"gen_ai.provider.name": provider, "gen_ai.request.model": label(model)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise boundary(error, str(path)) from error

    def call(
        self, key: str, request: Request, reply: Reply | None, error: ProviderError | None, seconds: float, attempt: int
    ) -> None:
        """Note one attempt: its parameters, and its reply or the kind of its error."""
        event: dict[str, Any] = {"time": round(time.time(), 3), "zhiling.key": key, **self._fixed}
        event["gen_ai.operation.name"] = "chat" if request.prompt is None else "text_completion"
        event["gen_ai.request.max_tokens"] = request.max_tokens
        event["gen_ai.request.temperature"] = request.temperature
        if request.seed is not None:
            event["gen_ai.request.seed"] = request.seed
        event["duration_s"] = round(seconds, 4)
        if attempt:
            event["zhiling.attempt"] = attempt
        if reply is not None:
            event["gen_ai.response.finish_reasons"] = [reply.finish]
            event["gen_ai.usage.input_tokens"] = reply.usage.prompt
            event["gen_ai.usage.output_tokens"] = reply.usage.completion
            event["zhiling.usd"] = reply.usd
        if error is not None:
            event["error.type"] = error.kind
            event["error.message"] = error.what
        if self.content:
            turns = request.messages or (("user", request.prompt or ""),)
            event["gen_ai.input.messages"] = [{"role": role, "content": text} for role, text in turns]
            if reply is not None:
                event["gen_ai.output.messages"] = [{"role": "assistant", "content": reply.text}]
        try:
            os.write(self._file, json.dumps(event).encode("ascii") + b"\n")
        except OSError as trouble:
            raise boundary(trouble, str(self.path)) from trouble

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
