"""Any endpoint that speaks OpenAI's protocol: OpenAI, vLLM, SGLang, Ollama, llama.cpp's server, DeepSeek, DashScope, Zhipu, Moonshot.

A thin client on aiohttp with one pool of kept connections. It neither retries nor caches nor counts: `llm.Model` does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from zhiling.errors import say
from zhiling.llm import faults
from zhiling.llm.base import Capability
from zhiling.llm.hosts import HOSTS, UNKNOWN
from zhiling.llm.pattern import compiled
from zhiling.llm.price import is_loopback
from zhiling.llm.schema import strict
from zhiling.llm.wire import find_key, host_of, session
from zhiling.registry import provider
from zhiling.types import Reply, Request, Usage, content_id

if TYPE_CHECKING:
    import aiohttp

    from zhiling.llm.base import Batching
    from zhiling.llm.tuning import Tuning

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
    without: tuple[Capability, ...] | None = None,
    regex_as: Literal["structured_outputs", "guided_regex", "grammar"] | None = None,
    extra: dict[str, Any] | None = None,
) -> OpenAI:
    """An endpoint of the OpenAI protocol.

    `key_env` names the environment variable with the key; by default the host's own (OPENAI_API_KEY for unknown hosts, none on
    this machine). `timeout` is seconds per call, `lanes` the most calls in flight. `without` names capabilities that this endpoint
    lacks ("schema" for one that knows no response_format: JSON is then asked for in words and checked); by default those that its
    host is known to lack (see `hosts`), `[]` for none. `regex_as` says how this endpoint is told a regular expression:
    "structured_outputs" (vLLM), "guided_regex" (older vLLM) or "grammar" (llama.cpp); by default it is asked for in words.
    `extra` is merged into each request's body; a null value leaves a parameter out. Raises RecipeError for an address that is none,
    ProviderError for a missing key.
    """
    return OpenAI(model, base_url.rstrip("/"), key_env, timeout, lanes, without, extra or {}, regex_as)


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
        without: tuple[Capability, ...] | None,
        extra: Mapping[str, Any],
        regex_as: str | None = None,
    ) -> None:
        host = host_of(base_url)
        self._host = HOSTS.get(host, UNKNOWN)
        self.can: frozenset[str] = _capabilities - (self._host.lacks if without is None else frozenset(without))
        if regex_as is not None:
            self.can |= {"regex"}
        self._regex_as = regex_as
        self.lanes = lanes
        self.model = f"{model}@{base_url}" + (f"#{content_id(dict(extra))[:8]}" if extra else "")
        self._short, self._base, self._timeout, self._extra = model, base_url, timeout, dict(extra)
        self._refused = self._host.refused_by(model)
        env = key_env if key_env is not None else "" if is_loopback(host) else self._host.key
        self._origin = faults.Origin(f"openai:{model}", model, env, timeout)
        self._key = find_key(env, self._origin.where, needed=not is_loopback(host))
        self._answering: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._owner: AsyncGenerator[aiohttp.ClientSession, None] | None = None

    def __repr__(self) -> str:
        return f"OpenAI({self.model!r})"

    async def reply(self, request: Request) -> Reply:
        """One POST to chat/completions (messages) or completions (prompt)."""
        session = await self.connections()
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

    def batches(self) -> Batching:
        """The endpoint's batch jobs, as OpenAI's are made."""
        from zhiling.llm.openai_batch import Batches

        return Batches(self)

    def tunings(self) -> Tuning:
        """The endpoint's supervised tuning jobs, as OpenAI's are made."""
        from zhiling.llm.openai_tuning import Tunings

        return Tunings(self)

    async def connections(self) -> aiohttp.ClientSession:
        """The session of the running event loop."""
        session = self._session if self._loop is asyncio.get_running_loop() else None
        return session or await self._open()

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
        body[self._host.limit if request.prompt is None else "max_tokens"] = request.max_tokens
        if self._host.greedy is not None and request.temperature == 0:
            del body["temperature"]
            body |= self._host.greedy
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
        if request.regex and self._regex_as is not None:
            body |= self._held_to(request.regex)
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": 1} if request.prompt is None else {"logprobs": 1}
        for name in self._refused & body.keys():
            del body[name]
        for name, value in self._extra.items():
            if value is None:
                body.pop(name, None)
            else:
                body[name] = value
        return body

    def _held_to(self, regex: str) -> dict[str, Any]:
        if self._regex_as == "grammar":
            return {"grammar": compiled(regex).grammar()}
        return {"guided_regex": regex} if self._regex_as == "guided_regex" else {"structured_outputs": {"regex": regex}}

    def _read(self, raw: bytes, headers: Mapping[str, str], chat: bool, seconds: float) -> Reply:
        try:
            answer = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            raise faults.of_body(raw, headers.get("Content-Type", ""), self._origin) from None
        if isinstance(answer, dict) and answer.get("error"):  # some endpoints put their errors under status 200
            code = answer["error"].get("code") if isinstance(answer["error"], dict) else None
            raise faults.of_status(code if isinstance(code, int) and code >= 400 else 500, {}, raw, self._origin)
        if not isinstance(answer, dict) or "choices" not in answer:
            raise faults.of_another_protocol(answer, self._origin)
        self._answers_as(str(answer.get("model") or ""))
        try:
            return read_answer(answer, self._short, chat, seconds)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            en, zh = "the answer holds no choice to read", "返回中没有可读取的回答"
            raise self._origin.error(en, zh, "protocol", retry=True) from None

    def _answers_as(self, name: str) -> None:
        """Say once when another model than the one asked for answers: a gateway's fallback would go unseen otherwise."""
        if self._answering is None and name:
            self._answering = name
            asked, found = (text.lower().rsplit("/", 1)[-1] for text in (self._short, name))
            if not (asked.startswith(found) or found.startswith(asked)):
                told = say(
                    f"{self._origin.where}: the endpoint answers as '{name}'",
                    f"{self._origin.where}：接口以“{name}”的名义回答",
                )
                logging.getLogger("zhiling.llm").warning(told)


def read_answer(answer: Mapping[str, Any], label: str, chat: bool, seconds: float) -> Reply:
    """A Reply from a (chat) completion object. Raises KeyError and the like when it is not one."""
    first = answer["choices"][0]
    finish = _finish.get(first.get("finish_reason") or "", "stop")
    if chat:
        text, finish = _said(first["message"], finish)
    else:
        text = first["text"]
    if not isinstance(text, str):
        raise TypeError("text is not a string")
    usage = answer.get("usage") or {}
    return Reply(text, finish, label, _usage(usage), _logprobs(first.get("logprobs")), seconds)


def _said(message: Mapping[str, Any], finish: str) -> tuple[Any, str]:
    """(text, finish) of a chat message: the answer alone, without what a thinking model thought before it.

    Thoughts come in a field of their own, as parts, or between <think> marks. A parser that takes the whole reply for a thought leaves
    the answer there and the text empty: then it is taken from there, unless the reply was cut off while it was thinking.
    """
    text = message.get("content")
    if isinstance(text, list):  # content parts
        text = "".join(part.get("text", "") for part in text)
    if text is None and message.get("refusal"):
        return message["refusal"], "filter"
    if not text:
        thought = message.get("reasoning_content") or message.get("reasoning")
        return (thought if isinstance(thought, str) and finish == "stop" else "", finish)
    if "</think>" in text and (text.lstrip().startswith("<think>") or "<think>" not in text):
        return text.split("</think>", 1)[1].lstrip(), finish
    if finish == "length" and text.lstrip().startswith("<think>"):
        return "", finish
    return text, finish


def _usage(usage: Mapping[str, Any]) -> Usage:
    """Tokens as counted. Some endpoints leave thinking out of completion_tokens and bill it: the total tells."""
    prompt, completion, total = (
        _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if None not in (prompt, completion, total):
        completion = max(completion, total - prompt)  # type: ignore[operator,type-var]
    return Usage(prompt, completion)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 40 else None


def _logprobs(found: Mapping[str, Any] | None) -> tuple[tuple[str, float], ...]:
    if not found:
        return ()
    if found.get("content"):
        return tuple((str(item["token"]), float(item["logprob"])) for item in found["content"])
    pairs = zip(found.get("tokens") or (), found.get("token_logprobs") or (), strict=True)
    return tuple((str(token), float(value)) for token, value in pairs if value is not None)
