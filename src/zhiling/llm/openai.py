"""Any endpoint that speaks OpenAI's protocol: OpenAI, vLLM, SGLang, Ollama, llama.cpp's server, DeepSeek, DashScope, Zhipu, Moonshot.

A thin client on aiohttp with one pool of kept connections. It neither retries nor caches nor counts: `llm.Model` does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

from zhiling.llm import faults
from zhiling.llm.base import Capability
from zhiling.llm.price import is_loopback
from zhiling.llm.schema import strict
from zhiling.llm.wire import find_key, host_of, session
from zhiling.registry import provider
from zhiling.types import Reply, Request, Usage, content_id

if TYPE_CHECKING:
    import aiohttp

KEYS = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "dashscope.aliyuncs.com": "DASHSCOPE_API_KEY",
    "dashscope-intl.aliyuncs.com": "DASHSCOPE_API_KEY",
    "open.bigmodel.cn": "ZHIPUAI_API_KEY",
    "api.moonshot.cn": "MOONSHOT_API_KEY",
    "api.moonshot.ai": "MOONSHOT_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
}
"""Which variable holds the key for which host, so that one seller's key is never sent to another by a forgotten setting."""

_finish = {"length": "length", "max_tokens": "length", "content_filter": "filter"}
_capabilities: frozenset[Capability] = frozenset({"chat", "complete", "schema", "logprobs", "seed"})


@provider("openai")
def openai(
    *,
    model: str,
    base_url: str = "https://api.openai.com/v1",
    key_env: str | None = None,
    timeout: Annotated[float, Gt(0)] = 120.0,
    lanes: Annotated[int, Ge(1)] = 64,
    without: tuple[Capability, ...] = (),
    extra: dict[str, Any] | None = None,
) -> OpenAI:
    """An endpoint of the OpenAI protocol.

    `key_env` names the environment variable with the key; by default the host's own (OPENAI_API_KEY for unknown hosts, none on
    this machine). `timeout` is seconds per call, `lanes` the most calls in flight. `without` names capabilities that this endpoint
    lacks ("schema" for one that knows no response_format: JSON is then asked for in words and checked). `extra` is merged into
    each request's body; a null value leaves a parameter out. Raises RecipeError for an address that is none, ProviderError for a
    missing key.
    """
    return OpenAI(model, base_url.rstrip("/"), key_env, timeout, lanes, frozenset(without), extra or {})


class OpenAI:
    """The client behind `provider: openai`. Connections belong to the running event loop and are closed when it ends."""

    name = "openai"

    def __init__(
        self,
        model: str,
        base_url: str,
        key_env: str | None,
        timeout: float,
        lanes: int,
        without: frozenset[Capability],
        extra: Mapping[str, Any],
    ) -> None:
        host = host_of(base_url)
        self.can: frozenset[str] = _capabilities - without
        self.lanes = lanes
        self.model = f"{model}@{base_url}" + (f"#{content_id(dict(extra))[:8]}" if extra else "")
        self._short, self._base, self._timeout, self._extra = model, base_url, timeout, dict(extra)
        self._openai = host == "api.openai.com"
        env = key_env if key_env is not None else "" if is_loopback(host) else KEYS.get(host, "OPENAI_API_KEY")
        self._origin = faults.Origin(f"openai:{model}", model, env, timeout)
        self._key = find_key(env, self._origin.where, needed=not is_loopback(host))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._owner: AsyncGenerator[aiohttp.ClientSession, None] | None = None

    def __repr__(self) -> str:
        return f"OpenAI({self.model!r})"

    async def reply(self, request: Request) -> Reply:
        """One POST to chat/completions (messages) or completions (prompt)."""
        session = self._session if self._loop is asyncio.get_running_loop() else None
        session = session or await self._open()
        chat = request.prompt is None
        path = "/chat/completions" if chat else "/completions"
        body = json.dumps(self._body(request)).encode("ascii")
        start = time.perf_counter()
        try:
            async with session.post(self._base + path, data=body, allow_redirects=False) as answer:
                raw = await answer.read()
                status, headers = answer.status, answer.headers
        except Exception as error:  # of_exception raises again what is not the network's
            failure = faults.of_exception(error, self._origin)
        else:
            if self._key is not None:
                raw = self._key.hide(raw)
            if status == 200:
                return self._read(raw, headers, chat, time.perf_counter() - start)
            failure = faults.of_status(status, headers, raw, self._origin)
        raise failure from None  # aiohttp's own exception may hold the request's headers

    async def close(self) -> None:
        owner, self._owner, self._session = self._owner, None, None
        if owner is not None and self._loop is asyncio.get_running_loop():
            await owner.aclose()

    async def _open(self) -> aiohttp.ClientSession:
        headers = {"Content-Type": "application/json", "User-Agent": "zhiling"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.reveal()}"
        self._loop = asyncio.get_running_loop()
        self._owner = session(host_of(self._base), self.lanes, self._timeout, headers)
        self._session = await anext(self._owner)
        return self._session

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._short, "temperature": request.temperature}
        body["max_completion_tokens" if self._openai and request.prompt is None else "max_tokens"] = request.max_tokens
        if request.prompt is None:
            body["messages"] = [{"role": role, "content": content} for role, content in request.messages]
        else:
            body["prompt"] = request.prompt
        if request.top_p != 1.0:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop"] = list(request.stop)
        if request.seed is not None and "seed" in self.can:
            body["seed"] = request.seed
        if request.schema is not None and "schema" in self.can:
            shape = {"name": "reply", "schema": dict(request.schema), "strict": strict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": 1} if request.prompt is None else {"logprobs": 1}
        for name, value in self._extra.items():
            if value is None:
                body.pop(name, None)
            else:
                body[name] = value
        return body

    def _read(self, raw: bytes, headers: Mapping[str, str], chat: bool, seconds: float) -> Reply:
        try:
            answer = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            raise faults.of_body(raw, headers.get("Content-Type", ""), self._origin) from None
        if isinstance(answer, dict) and answer.get("error"):  # some endpoints put their errors under status 200
            code = answer["error"].get("code") if isinstance(answer["error"], dict) else None
            raise faults.of_status(code if isinstance(code, int) and code >= 400 else 500, {}, raw, self._origin)
        try:
            return read_answer(answer, self._short, chat, seconds)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            en, zh = "the answer holds no choice to read", "返回中没有可读取的回答"
            raise self._origin.error(en, zh, "protocol", retry=True) from None


def read_answer(answer: Mapping[str, Any], label: str, chat: bool, seconds: float) -> Reply:
    """A Reply from a (chat) completion object. Raises KeyError and the like when it is not one."""
    first = answer["choices"][0]
    finish = _finish.get(first.get("finish_reason") or "", "stop")
    if chat:
        message = first["message"]
        text = message.get("content")
        if isinstance(text, list):  # content parts
            text = "".join(part.get("text", "") for part in text)
        if text is None:
            text, finish = (message["refusal"], "filter") if message.get("refusal") else ("", finish)
    else:
        text = first["text"]
    if not isinstance(text, str):
        raise TypeError("text is not a string")
    usage = answer.get("usage") or {}
    counted = Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
    return Reply(text, finish, label, counted, _logprobs(first.get("logprobs")), seconds)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 40 else None


def _logprobs(found: Mapping[str, Any] | None) -> tuple[tuple[str, float], ...]:
    if not found:
        return ()
    if found.get("content"):
        return tuple((str(item["token"]), float(item["logprob"])) for item in found["content"])
    pairs = zip(found.get("tokens") or (), found.get("token_logprobs") or (), strict=True)
    return tuple((str(token), float(value)) for token, value in pairs if value is not None)
