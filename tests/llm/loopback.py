"""An endpoint of the OpenAI protocol on this machine that answers from the request's content and misbehaves on demand.

    python tests/llm/loopback.py --port 0 --delay-ms 5 --log FILE --fault 429=0.1 --fault reset=0.01

prints its base URL on the first line and appends the hash of each answered request's body to FILE, one per line. In a test:

    with Loopback(delay_ms=5, faults={"500": 0.2}) as server: ... server.url, server.seen["chat"], server.answered(body)

Faults (a rate for all requests, or one request's own by the body's `fault`, "429" always or "429:2" for its first two tries):
429, 429-soon (Retry-After-Ms 20), 429-after (Retry-After 1), 429-long (a day), quota, 500, 503, 400, 401, 404, redirect, hang, drip, reset, cut (body shorter than
promised), truncated and garbage (JSON), empty (no choices), null (no text), filter and length (finish reasons), blocked (a filter's
400), html (a proxy's page), html502, noise (not HTTP), echo-key (sends the Authorization header back), alien (another protocol's
JSON), other-model (answers, in another model's name).

`spare` requests are answered before any fault sets in, so that a test can break an endpoint in the middle of a run. `most` refuses
what exceeds so many requests at once, `rpm` what exceeds so many in a minute of `minute` seconds, both with 429. `shape` names the way in which a model that thinks is answered for (see `_shaped`).
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

PASSING = frozenset(
    {
        "429",
        "429-soon",
        "429-after",
        "500",
        "503",
        "hang",
        "drip",
        "reset",
        "cut",
        "truncated",
        "garbage",
        "empty",
        "html502",
        "noise",
    }
)
"""Drawn anew at each try; the other faults belong to the request and stay."""

_verbs = [
    "Translate",
    "Classify",
    "Summarise",
    "Rewrite",
    "Explain",
    "Answer",
    "Label",
    "Describe",
    "Compare",
    "Correct",
]
_things = [
    "the following sentence",
    "the given review",
    "this paragraph",
    "the question below",
    "the text",
    "each passage",
]
_ends = [
    "in plain words.",
    "and keep its meaning.",
    "in one sentence.",
    "for a general reader.",
    "without adding anything.",
    "step by step.",
]
_zh_verbs = ["请翻译", "请判断", "请概括", "请改写", "请说明", "请回答", "请标注", "请描述", "请比较", "请改正"]
_zh_things = ["下面的句子", "给出的评论", "这段文字", "以下问题", "文本的内容", "每个段落"]
_zh_ends = [
    "，并保持原意。",
    "，用一句话表达。",
    "，语言要通俗。",
    "，不要添加内容。",
    "，并给出理由。",
    "，逐步写出。",
]


def compose(prompt: str, seed: object = 0) -> str:
    """A deterministic, plausible reply: a list of instructions when one is asked for, one instruction, or a sentence."""
    chinese = len(re.findall(r"[\u4e00-\u9fff]", prompt)) * 4 > len(re.findall(r"[A-Za-z]", prompt))
    asked = re.search(
        r"(\d{1,2})\s*(?:条|个|different|new|more|numbered|instructions|tasks|questions|rewrites|paraphrases)", prompt
    )
    count = min(int(asked.group(1)), 50) if asked else 1
    lines = [_line(f"{seed}|{prompt}|{i}", chinese) for i in range(count)]
    return lines[0] if count == 1 else "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))


def _line(source: str, chinese: bool) -> str:
    n = int.from_bytes(hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=8).digest())
    verbs, things, ends = (_zh_verbs, _zh_things, _zh_ends) if chinese else (_verbs, _things, _ends)
    parts = verbs[n % 10], things[n // 10 % 6], ends[n // 60 % 6]
    return "".join(parts) if chinese else " ".join(parts)


def body_hash(body: Mapping[str, Any]) -> str:
    """What names a request: the hash of its body, whatever order its keys came in."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]


class Server:
    """The handlers, the counts of what was asked and what was answered."""

    def __init__(
        self,
        delay_ms: float = 0.0,
        faults: Mapping[str, float] | None = None,
        log: Path | None = None,
        key: str = "",
        *,
        spare: int = 0,
        most: int = 0,
        rpm: int = 0,
        minute: float = 60.0,
    ) -> None:
        self.delay, self.faults, self.key = delay_ms / 1000, dict(faults or {}), key
        self.spare, self.most, self.rpm, self.minute = spare, most, rpm, minute
        self.refused = 0
        self.peers: set[Any] = set()  # the connections it was asked on
        self.room: list[int] = []  # how many were under way as each request was let in
        self.shape = ""
        self._recent: collections.deque[float] = collections.deque()
        self.tries: collections.Counter[str] = collections.Counter()
        self.done: collections.Counter[str] = collections.Counter()
        self.bodies: list[dict[str, Any]] | None = None
        self.busy = self.busiest = 0
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if log else -1

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        for path in ("/v1/chat/completions", "/v1/completions"):
            app.router.add_post(path, self.handle)
        app.router.add_get("/stats", self.stats)
        return app

    async def stats(self, _: web.Request) -> web.Response:
        answered = sum(self.done.values())
        return web.json_response(
            {
                "asked": sum(self.tries.values()),
                "answered": answered,
                "distinct": len(self.done),
                "busiest": self.busiest,
            }
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername"))
        body = json.loads(await request.read())
        name = body_hash(body)
        self.tries[name] += 1
        if self.bodies is not None:
            self.bodies.append(body)
        if (full := self._full()) is not None:
            return full
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
                return _error(
                    401,
                    f"Incorrect API key provided: {request.headers.get('Authorization', '')[7:]}",
                    "invalid_api_key",
                )
            fault = self._fault(body, name)
            if fault:
                bad = await _misbehave(fault, request, body)
                if bad is not None:
                    return bad
            answer = self._answer(body, fault)
            if fault == "empty":
                return web.json_response(answer)
            if self._log >= 0:
                os.write(self._log, f"{name}\n".encode())
            self.done[name] += 1
            return web.json_response(answer)
        finally:
            self.busy -= 1

    def _full(self) -> web.Response | None:
        """The refusal of a request that is one too many, at once or in a minute; None when there is room, which it then takes."""
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - self.minute:
            self._recent.popleft()
        wait = self._recent[0] + self.minute - now if self.rpm and len(self._recent) >= self.rpm else 0.0
        if wait or (self.most and self.busy >= self.most):
            self.refused += 1
            headers = {"Retry-After": f"{wait:.2f}"} if wait else None
            return _error(429, "Rate limit reached", "rate_limit_exceeded", headers)
        self._recent.append(now)
        self.room.append(self.busy + 1)
        return None

    def _fault(self, body: Mapping[str, Any], name: str) -> str:
        if len(self.done) < self.spare or name in self.done:
            return ""
        own = str(body.get("fault", ""))
        if own:
            kind, _, times = own.partition(":")
            return kind if not times or self.tries[name] <= int(times) else ""
        low = 0.0
        for kind, rate in sorted(self.faults.items()):
            attempt = self.tries[name] if kind in PASSING else 0
            draw = int(hashlib.sha256(f"{name}{attempt}".encode()).hexdigest()[:8], 16) / 0x1_0000_0000
            if low <= draw < low + rate:
                return kind
            low += rate
        return ""

    def _answer(self, body: Mapping[str, Any], fault: str) -> dict[str, Any]:
        chat = "messages" in body
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        text: str | None = compose(prompt, body.get("seed", 0))
        if shape := body.get("response_format"):
            text = json.dumps(_example(shape["json_schema"]["schema"], prompt), ensure_ascii=False)
        finish = {"filter": "content_filter", "length": "length"}.get(fault, "stop")
        if fault == "null":
            text = None
        if self.shape:
            return _shaped(self.shape, body["model"], prompt, text or "")
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if body.get("logprobs"):
            words = (text or "").split(" ")
            choice["logprobs"] = (
                {"content": [{"token": word, "logprob": -0.5} for word in words]}
                if chat
                else {"tokens": words, "token_logprobs": [-0.5] * len(words)}
            )
        usage = {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": len(text or "") // 4 + 1}
        return {
            "id": "x",
            "object": "chat.completion",
            "model": "another-model" if fault == "other-model" else body["model"],
            "choices": [] if fault == "empty" else [choice],
            "usage": usage,
        }


async def _misbehave(fault: str, request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse | None:
    """The bad answer, or None for faults that only change a good one."""
    match fault:
        case "429":
            return _error(429, "Rate limit reached", "rate_limit_exceeded")
        case "429-soon":
            return _error(429, "Rate limit reached", "rate_limit_exceeded", {"Retry-After-Ms": "20"})
        case "429-after":
            return _error(429, "Rate limit reached", "rate_limit_exceeded", {"Retry-After": "1"})
        case "429-long":
            return _error(429, "Daily limit reached", "rate_limit_exceeded", {"Retry-After": "86400"})
        case "quota":
            return _error(429, "You exceeded your current quota, please check your plan", "insufficient_quota")
        case "500" | "503" | "400":
            return _error(int(fault), f"status {fault} on demand", "on_demand")
        case "401":
            return _error(
                401, f"Incorrect API key provided: {request.headers.get('Authorization', '')}", "invalid_api_key"
            )
        case "404":
            return _error(404, f"The model `{body.get('model')}` does not exist", "model_not_found")
        case "blocked":
            return _error(400, "The response was filtered due to the content management policy", "content_filter")
        case "redirect":
            return web.Response(status=307, headers={"Location": "https://elsewhere.example/v1"})
        case "hang":
            await asyncio.sleep(3600)
        case "html":
            return web.Response(text="<!DOCTYPE html><title>Sign in to the network</title>", content_type="text/html")
        case "html502":
            return web.Response(
                status=502, text="<html><title>502 Bad Gateway</title></html>", content_type="text/html"
            )
        case "alien":
            return web.json_response({"type": "message", "content": [{"type": "text", "text": "hello"}]})
        case "truncated":
            return web.Response(text='{"choices": [{"message": {"content": "Tra', content_type="application/json")
        case "garbage":
            return web.Response(body=b"\x00\xff{]garbage", content_type="application/json")
        case "echo-key":
            return _error(400, f"bad request with {request.headers.get('Authorization')}", "on_demand")
        case "drip" | "cut" | "reset" | "noise":
            return await _broken_body(fault, request)
    return None


async def _broken_body(fault: str, request: web.Request) -> web.StreamResponse:
    transport = request.transport
    assert transport is not None
    if fault == "noise":
        transport.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        transport.close()
        return web.Response()
    answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "100000"})
    await answer.prepare(request)
    await answer.write(b'{"choices": [')
    if fault == "drip":
        while not transport.is_closing():
            await answer.write(b" ")
            await asyncio.sleep(0.05)
    if fault == "reset":
        transport.abort()
    else:
        transport.close()
    return answer


def _shaped(shape: str, model: str, prompt: str, text: str) -> dict[str, Any]:
    """An answer as servers of models that think give it; `shape` says which."""
    thought, finish = "First I think about it.", "stop"
    message: dict[str, Any] = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 10, "completion_tokens": 30, "total_tokens": 40}
    match shape:
        case "reasoning_content" | "reasoning":  # vLLM, DeepSeek, DashScope, Zhipu, Moonshot; Ollama, OpenRouter
            message[shape] = thought
            usage["completion_tokens_details"] = {"reasoning_tokens": 20}  # type: ignore[assignment]
        case "apart":  # thinking is billed but not in completion_tokens
            message["reasoning_content"] = thought
            usage["total_tokens"] = 60
        case "think":  # a server without a parser for thoughts
            message["content"] = f"<think>\n{thought}\n</think>\n\n{text}"
        case "opened":  # the same with a template that opens the thought itself
            message["content"] = f"{thought}\n</think>\n\n{text}"
        case "unfinished":
            message["content"], finish = f"<think>\n{thought}", "length"
        case "swallowed":  # a parser that takes the whole answer for a thought
            message |= {"content": None, "reasoning_content": text}
        case "parts":
            message["content"] = [{"type": "thinking", "thinking": thought}, {"type": "text", "text": text}]
    return {"model": model, "choices": [{"index": 0, "finish_reason": finish, "message": message}], "usage": usage}


def _error(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "code": code, "type": code}}, status=status, headers=headers
    )


def _example(schema: Mapping[str, Any], prompt: str) -> Any:
    """A value that satisfies a simple schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: _example(inner, prompt + key) for key, inner in schema.get("properties", {}).items()}
        case "array":
            return [
                _example(schema.get("items", {"type": "string"}), f"{prompt}{i}")
                for i in range(schema.get("minItems", 2))
            ]
        case "integer" | "number":
            return schema.get("minimum", 3)
        case "boolean":
            return True
    return compose(prompt)


class Loopback(Server):
    """The server in a thread of this process, for tests: a context manager."""

    url = ""

    def __enter__(self) -> Loopback:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(self._loop)
            self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=0.1)
            self._loop.run_until_complete(self._runner.setup())
            site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
            self._loop.run_until_complete(site.start())
            self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
            started.set()
            self._loop.run_forever()
            for task in asyncio.all_tasks(self._loop):  # requests that hang on demand
                task.cancel()
            self._loop.run_until_complete(self._runner.cleanup())
            self._loop.close()

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()
        started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


async def _main(options: argparse.Namespace) -> None:
    faults = {kind: float(rate) for kind, _, rate in (fault.partition("=") for fault in options.fault)}
    limits = {"spare": options.spare, "most": options.most, "rpm": options.rpm, "minute": options.minute}
    server = Server(options.delay_ms, faults, options.log, options.key, **limits)
    runner = web.AppRunner(server.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port, backlog=1024)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--log", type=Path, default=None)
    parser.add_argument("--fault", action="append", default=[], metavar="KIND=RATE")
    parser.add_argument("--key", default="", help="ask for this API key")
    parser.add_argument("--spare", type=int, default=0, help="answer so many before any fault sets in")
    parser.add_argument("--most", type=int, default=0, help="refuse what exceeds so many at once")
    parser.add_argument("--rpm", type=int, default=0, help="refuse what exceeds so many in a minute")
    parser.add_argument("--minute", type=float, default=60.0, help="seconds in a minute")
    try:
        asyncio.run(_main(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(0)
