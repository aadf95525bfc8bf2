"""One JSON line per call in events.jsonl, named as OpenTelemetry's conventions for generative AI name things (gen_ai.*)."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import time
from pathlib import Path
from typing import Any

from zhiling.errors import ProviderError, boundary
from zhiling.llm.base import label
from zhiling.types import Reply, Request

LINES, SECONDS = 64, 0.2


class Trace:
    """Appends whole lines to a file that any number of processes may share. No key ever gets here.

    Lines are written LINES at a time or after SECONDS, so a killed process may leave its last few unwritten; what was answered is in
    the reply cache all the same. Prompts and replies are left out unless `content` is set.
    """

    def __init__(self, path: Path, provider: str, model: str, content: bool = False) -> None:
        self.path, self.content = path, content
        self._fixed = json.dumps({"gen_ai.provider.name": provider, "gen_ai.request.model": label(model)})[:-1] + ", "
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
        if request.continuation is not None:
            kind = "score"
        line = (
            f'{self._fixed}"time": {time.time():.3f}, "zhiling.key": "{key}", "gen_ai.operation.name": "{kind}", '
            f'"gen_ai.request.max_tokens": {request.max_tokens}, "gen_ai.request.temperature": {request.temperature}, '
            f'"zhiling.attempt": {attempt}, "duration_s": {seconds:.4f}'
        )
        if reply is not None:
            line += (
                f', "gen_ai.response.finish_reasons": ["{reply.finish}"], "gen_ai.usage.input_tokens": {_number(reply.usage.prompt)}, '
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
        """Write what is waiting. Raises EngineError when the disk is full."""
        lines, self._lines, self._timed = self._lines, [], False
        if lines and self._file >= 0:
            try:
                os.write(self._file, "".join(lines).encode("ascii"))
            except OSError as trouble:
                raise boundary(trouble, str(self.path)) from trouble

    def _rest(self, request: Request, reply: Reply | None, error: ProviderError | None) -> dict[str, Any]:
        """What only some calls have."""
        rest: dict[str, Any] = {}
        if request.seed is not None:
            rest["gen_ai.request.seed"] = request.seed
        if error is not None:
            rest["error.type"], rest["error.message"] = error.kind, error.what
        if self.content:
            turns = request.messages or (("user", request.prompt or ""),)
            rest["gen_ai.input.messages"] = [{"role": role, "content": text} for role, text in turns]
            if reply is not None:
                rest["gen_ai.output.messages"] = [{"role": "assistant", "content": reply.text}]
        return rest

    def close(self) -> None:
        """Write what is waiting and let go of the file."""
        self.flush()
        atexit.unregister(self.close)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _number(value: float | None) -> str:
    return "null" if value is None else repr(value)
