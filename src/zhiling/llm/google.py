"""Google's Gemini models, through the Gemini API (a key) or Vertex AI (Google Cloud credentials), with the package google-genai.

The SDK builds and reads the wire format; connections are ours, its retries are off: `llm.Model` retries.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from zhiling.errors import ProviderError, RecipeError, missing, say
from zhiling.llm import faults, google_faults
from zhiling.llm.base import Capability
from zhiling.llm.price import is_loopback
from zhiling.llm.wire import Key, find_key, host_of, open_session
from zhiling.registry import provider
from zhiling.types import Reply, Request, Usage, content_id

if TYPE_CHECKING:
    from google import genai
    from google.genai import types

    from zhiling.llm.base import Batching
    from zhiling.llm.tuning import Tuning

GEMINI, VERTEX = "https://generativelanguage.googleapis.com", "https://aiplatform.googleapis.com"
_capabilities: frozenset[Capability] = frozenset({"chat", "schema", "choices", "logprobs", "seed"})
_blocked = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR")
_finish = {"STOP": "stop", "MAX_TOKENS": "length"} | dict.fromkeys(_blocked, "filter")


@provider("gemini")
def gemini(
    *,
    model: str,
    key_env: str | None = None,
    vertex: bool = False,
    project: str | None = None,
    location: str | None = None,
    base_url: str | None = None,
    thinking: int | Literal["minimal", "low", "medium", "high"] | None = None,
    timeout: Annotated[float, Gt(0)] = 120.0,
    lanes: Annotated[int, Ge(1)] = 64,
    without: tuple[Capability, ...] = (),
    extra: dict[str, Any] | None = None,
) -> Gemini:
    """A Gemini model of Google, by API key or through Vertex AI.

    `key_env` names the environment variable with the key (default: GEMINI_API_KEY, else GOOGLE_API_KEY; none for `base_url` on this
    machine). `vertex: true` asks Vertex AI instead, with application-default credentials, in `project` (default: GOOGLE_CLOUD_PROJECT)
    and `location` (default: GOOGLE_CLOUD_LOCATION, else "global"). `thinking` is a budget in tokens (0: none where the model allows it)
    or a level; thoughts count against max_tokens and are billed as completion. `extra` holds more fields of GenerateContentConfig, such
    as safety_settings. `timeout` is seconds per call, `lanes` the most calls in flight, `without` names capabilities that this model
    lacks. Raises RecipeError for wrong settings or a missing package, ProviderError for a missing key.
    """
    if importlib.util.find_spec("google") is None or importlib.util.find_spec("google.genai") is None:
        raise missing("google-genai")
    fields = dict(extra or {})
    if thinking is not None:
        fields["thinking_config"] = {"thinking_budget" if isinstance(thinking, int) else "thinking_level": thinking}
    door = _vertex(project, location) if vertex else _gemini(project, location)
    return Gemini(model, door, base_url, key_env, timeout, lanes, frozenset(without), fields)


def _gemini(project: str | None, location: str | None) -> dict[str, Any]:
    if project or location:
        raise RecipeError(
            say("project and location belong to Vertex AI", "project 与 location 仅用于 Vertex AI"),
            where="project" if project else "location",
            mend=say("add vertex: true, or leave them out", "请加上 vertex: true，或去掉它们"),
        )
    return {"vertexai": False}


def _vertex(project: str | None, location: str | None) -> dict[str, Any]:
    project = project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise RecipeError(
            say("Vertex AI needs a project", "Vertex AI 需要 project"),
            where="project",
            mend=say(
                "set project, or export GOOGLE_CLOUD_PROJECT=...", "请设置 project，或 export GOOGLE_CLOUD_PROJECT=..."
            ),
        )
    file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if file and not os.path.isfile(file):
        raise ProviderError(
            say("GOOGLE_APPLICATION_CREDENTIALS names no file", "GOOGLE_APPLICATION_CREDENTIALS 指向的文件不存在"),
            where="gemini",
            mend=google_faults.sign_in(),
            kind="auth",
        )
    place = location or os.environ.get("GOOGLE_CLOUD_LOCATION") or "global"
    return {"vertexai": True, "project": project, "location": place}


class Gemini:
    """The client behind `provider: gemini`. Client and connections belong to the running event loop and are closed when it ends."""

    name = "gemini"

    def __init__(
        self,
        model: str,
        door: Mapping[str, Any],
        base_url: str | None,
        key_env: str | None,
        timeout: float,
        lanes: int,
        without: frozenset[Capability],
        extra: Mapping[str, Any],
    ) -> None:
        self.vertex = bool(door["vertexai"])
        base = (base_url or (VERTEX if self.vertex else GEMINI)).rstrip("/")
        self._host = host_of(base, GEMINI)
        self.can: frozenset[str] = _capabilities - without
        self.lanes = lanes
        self._extra = _checked(extra)
        self.model = f"{model}@{base}" + (f"#{content_id(self._extra)[:8]}" if extra else "")
        self.short, self.door, self.base_url, self.timeout = model, dict(door), base_url, timeout
        env = "" if self.vertex else key_env if key_env is not None else _key_env(self._host)
        self.origin = faults.Origin(f"gemini:{model}", model, env, timeout)
        self._key: Key | None = find_key(env, self.origin.where, needed=not is_loopback(self._host))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: genai.Client | None = None
        self._owner: AsyncGenerator[genai.Client, None] | None = None

    def __repr__(self) -> str:
        return f"Gemini({self.model!r})"

    async def reply(self, request: Request) -> Reply:
        """One generateContent call."""
        client = await self.client()
        contents, config = self.shape(request)
        start = time.perf_counter()
        try:
            answer = await client.aio.models.generate_content(model=self.short, contents=contents, config=config)
        except Exception as error:  # google_faults raises again what is not the endpoint's
            failure = self.failure(error)
        else:
            return read_answer(answer, self.short, time.perf_counter() - start, self.origin)
        raise failure from None  # the SDK's own exceptions hold the response, and that the request's headers

    def failure(self, error: Exception) -> ProviderError:
        """Whatever the SDK raised as one of ours, without the key."""
        return google_faults.of_exception(error, self.origin, self._key, self.vertex)

    def batches(self) -> Batching:
        """The Gemini API's batches. Raises ProviderError(kind="capability") for Vertex AI, whose batches want a storage bucket."""
        if self.vertex:
            raise ProviderError(
                say(
                    "batches on Vertex AI need a storage bucket, which zhiling does not use",
                    "Vertex AI 的批处理需要存储桶，zhiling 不支持",
                ),
                where=self.origin.where,
                mend=say(
                    "use the Gemini API (vertex: false) or leave out batch",
                    "请改用 Gemini API（vertex: false），或去掉 batch",
                ),
                kind="capability",
            )
        from zhiling.llm.google_batch import Batches

        return Batches(self)

    def tunings(self, bucket: str) -> Tuning:
        """Vertex AI's tuning jobs, whose files go into a bucket. Raises ProviderError(kind="capability") for the Gemini API, which has none."""
        if not self.vertex:
            raise ProviderError(
                say("the Gemini API offers no tuning", "Gemini API 不提供微调"),
                where=self.origin.where,
                mend=say("use Vertex AI: vertex:MODEL", "请使用 Vertex AI：vertex:模型"),
                kind="capability",
            )
        from zhiling.llm.google_tuning import Tunings

        return Tunings(self, bucket)

    async def close(self) -> None:
        owner, self._owner, self._client = self._owner, None, None
        if owner is not None and self._loop is asyncio.get_running_loop():
            await owner.aclose()

    async def client(self) -> genai.Client:
        """The SDK's client for the running event loop."""
        if self._client is None or self._loop is not asyncio.get_running_loop():
            self._loop = asyncio.get_running_loop()
            self._owner = self._own()
            self._client = await anext(self._owner)
        return self._client

    async def _own(self) -> AsyncGenerator[genai.Client, None]:
        from google import genai
        from google.genai import types

        logging.getLogger("google_genai").setLevel(logging.ERROR)  # it warns of variables that we do not leave to it
        connections = open_session(self._host, self.lanes, self.timeout, {})
        options = types.HttpOptions(
            base_url=self.base_url,
            api_version="v1beta1" if self.vertex else "v1beta",
            timeout=max(1, round(self.timeout * 1000)),
            aiohttp_client=connections,
            async_client_args={"allow_redirects": False},  # a redirect would carry the key elsewhere
            retry_options=types.HttpRetryOptions(attempts=1),  # without it the SDK repeats broken connections by itself
        )
        door = dict(self.door)
        if not self.vertex:  # an empty key would let the SDK take one from the environment
            door["api_key"] = self._key.reveal() if self._key is not None else "none"
        client = genai.Client(**door, http_options=options)
        try:
            yield client
        finally:
            client.close()
            await client.aio.aclose()
            await connections.close()

    def shape(self, request: Request) -> tuple[list[types.Content], types.GenerateContentConfig]:
        """The request as Gemini takes it: contents with roles user and model, everything else as config."""
        from google.genai import types

        system = "\n\n".join(content for role, content in request.messages if role == "system")
        turns = [(role, content) for role, content in request.messages if role != "system"]
        if not turns:
            system, turns = "", [("user", system)]
        config: dict[str, Any] = {"max_output_tokens": request.max_tokens, "temperature": request.temperature}
        if system:
            config["system_instruction"] = system
        if request.top_p != 1.0:
            config["top_p"] = request.top_p
        if request.stop:
            config["stop_sequences"] = list(request.stop)
        if request.seed is not None and "seed" in self.can:
            config["seed"] = request.seed
        if request.schema is not None and "schema" in self.can:
            config |= {"response_mime_type": "application/json", "response_json_schema": dict(request.schema)}
        elif request.choices and "choices" in self.can:
            shape = {"type": "STRING", "enum": list(request.choices)}
            config |= {"response_mime_type": "text/x.enum", "response_schema": shape}
        if request.logprobs:
            config["response_logprobs"] = True
        roles = {"assistant": "model"}
        contents = [types.Content(role=roles.get(role, role), parts=[types.Part(text=text)]) for role, text in turns]
        return contents, types.GenerateContentConfig(**config | self._extra)


def read_answer(answer: types.GenerateContentResponse, label: str, seconds: float, origin: faults.Origin) -> Reply:
    """A Reply from a GenerateContentResponse.

    Raises ProviderError: "refused" for a blocked prompt, "protocol" for an answer without a candidate, "server" where the model broke
    off without a word. A reply that was cut short for safety is one, with finish "filter".
    """
    blocked = answer.prompt_feedback.block_reason if answer.prompt_feedback else None
    first = answer.candidates[0] if answer.candidates else None
    parts = (first.content.parts if first and first.content else None) or []
    if first is None and blocked:
        raise origin.error(f"the prompt was blocked: {blocked.value}", f"提示被拦截：{blocked.value}", "refused")
    if first is None or not (parts or first.finish_reason):
        raise origin.error("the answer holds no choice to read", "返回中没有可读取的回答", "protocol", retry=True)
    text = "".join(part.text or "" for part in parts if not part.thought)
    why = first.finish_reason.value if first.finish_reason else "STOP"
    finish = "filter" if why.startswith("IMAGE_") else _finish.get(why, "error")
    if finish == "error" and not text:
        raise origin.error(f"the model broke off: {why}", f"模型中断：{why}", "server", retry=True)
    chosen = (first.logprobs_result.chosen_candidates if first.logprobs_result else None) or []
    logprobs = tuple((item.token, item.log_probability) for item in chosen if item.log_probability is not None)
    return Reply(text, finish, label, _usage(answer), tuple((token or "", value) for token, value in logprobs), seconds)


def _usage(answer: types.GenerateContentResponse) -> Usage:
    """Tokens as billed: thoughts are completion. A count of zero is left out of the wire format."""
    counts = answer.usage_metadata
    if counts is None or counts.prompt_token_count is None:
        return Usage()
    return Usage(counts.prompt_token_count, (counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0))


def _checked(extra: Mapping[str, Any]) -> dict[str, Any]:
    """`extra` if GenerateContentConfig knows its fields. Raises RecipeError naming the field."""
    if not extra:
        return {}
    from google.genai import types
    from pydantic import ValidationError

    try:
        types.GenerateContentConfig(**extra)
    except ValidationError as error:
        first = error.errors()[0]
        what = first["msg"]
        raise RecipeError(
            say(f"GenerateContentConfig does not take this: {what}", f"GenerateContentConfig 不接受此项：{what}"),
            where=".".join(["extra", *map(str, first["loc"])]),
        ) from None
    return dict(extra)


def _key_env(host: str) -> str:
    if is_loopback(host):
        return ""
    return (
        "GOOGLE_API_KEY"
        if not os.environ.get("GEMINI_API_KEY") and os.environ.get("GOOGLE_API_KEY")
        else "GEMINI_API_KEY"
    )
