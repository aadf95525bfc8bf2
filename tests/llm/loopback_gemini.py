"""The Gemini API on this machine: answers from the request's content and misbehaves on demand, as `loopback.Loopback` does.

    with LoopbackGemini(faults={"500": 0.2}) as server: ... server.url, server.seen, server.bodies

A fault is given for all requests at a rate, or for one request by its text: "FAULT=429:2 ..." for its first two tries, "FAULT=429 ..."
for all. Faults: 429 (no RetryInfo), 429-after (RetryInfo of 0.05 s), 429-long (a day), 429-day (the day's quota), credits, 500, 503, 504,
403, 404, expired (key), location, 400, hang, drip, reset, cut, truncated and garbage (JSON), shape (JSON of another protocol), empty
(no candidates), blocked (prompt), safety and max (finish reasons), silent (finish OTHER, no text), html, html502, redirect, echo-key.
Vertex AI is served under /v1beta1/projects/..., with Google's sign-in at /token.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from loopback import Loopback, _broken_body, _example, body_hash, compose

TEXT = "FAULT="


class LoopbackGemini(Loopback):
    """The server in a thread of this process. `url` is its base address; `seen` the headers of each request; `tokens` the sign-ins."""

    def __init__(self, faults: Mapping[str, float] | None = None, key: str = "", delay_ms: float = 0.0) -> None:
        super().__init__(delay_ms, faults, None, key)
        self.seen: list[dict[str, str]] = []
        self.tokens = 0

    def __enter__(self) -> LoopbackGemini:
        super().__enter__()
        self.url = self.url.removesuffix("/v1")
        return self

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1beta/models/{model}:generateContent", self.handle)
        app.router.add_post(
            "/v1beta1/projects/{project}/locations/{place}/publishers/google/models/{model}:generateContent",
            self.handle,
        )
        app.router.add_post("/token", self.token)
        return app

    async def token(self, _: web.Request) -> web.Response:
        self.tokens += 1
        return web.json_response({"access_token": "ya29.secret-token", "expires_in": 3600, "token_type": "Bearer"})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(dict(request.headers))
        body = json.loads(await request.read())
        name = body_hash(body)
        self.tries[name] += 1
        if self.bodies is not None:
            self.bodies.append(body)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            given = request.headers.get("x-goog-api-key", "")
            if self.key and given != self.key:
                return error(400, "INVALID_ARGUMENT", f"API key not valid: {given}", [info("API_KEY_INVALID")])
            if (model := request.match_info["model"]) == "none":
                return error(404, "NOT_FOUND", f"models/{model} is not found for API version v1beta")
            fault = self.fault_of(body, name)
            if fault and (bad := await misbehave(fault, request)) is not None:
                return bad
            if fault != "empty":
                self.done[name] += 1
            return web.json_response(answer(body, fault))
        finally:
            self.busy -= 1

    def fault_of(self, body: Mapping[str, Any], name: str) -> str:
        text = prompt_of(body)
        if TEXT not in text:
            return self._fault({}, name)
        kind, _, times = text.partition(TEXT)[2].split(" ")[0].partition(":")
        return kind if not times or self.tries[name] <= int(times) else ""


def prompt_of(body: Mapping[str, Any]) -> str:
    """The last turn's text."""
    return str(body["contents"][-1]["parts"][-1]["text"])


def answer(body: Mapping[str, Any], fault: str = "") -> dict[str, Any]:
    """A generateContent response to a request's body."""
    prompt, config = prompt_of(body), body.get("generationConfig", {})
    usage: dict[str, Any] = {"promptTokenCount": len(prompt) // 4 + 1, "totalTokenCount": len(prompt) // 4 + 1}
    if fault == "empty":
        return {"usageMetadata": usage, "modelVersion": "m"}
    if fault == "blocked":
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage, "modelVersion": "m"}
    text = compose(prompt, config.get("seed", 0))
    if "responseJsonSchema" in config:
        text = json.dumps(_example(config["responseJsonSchema"], prompt), ensure_ascii=False)
    if config.get("responseMimeType") == "text/x.enum":
        text = config["responseSchema"]["enum"][-1]
    finish = {"safety": "SAFETY", "max": "MAX_TOKENS", "silent": "OTHER"}.get(fault, "STOP")
    parts = [
        {"text": "let me think", "thought": True},
        {"text": text[: len(text) // 2]},
        {"text": text[len(text) // 2 :]},
    ]
    candidate: dict[str, Any] = {"index": 0, "finishReason": finish}
    if fault not in ("safety", "silent"):
        candidate["content"] = {"role": "model", "parts": parts}
        usage |= {"candidatesTokenCount": len(text) // 4 + 1, "thoughtsTokenCount": 3}
    if config.get("responseLogprobs"):
        chosen = [{"token": word, "logProbability": -0.5} for word in text.split(" ")]
        candidate["logprobsResult"] = {"chosenCandidates": chosen, "topCandidates": []}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "x"}


def error(status: int, name: str, message: str, details: list[dict[str, Any]] | None = None) -> web.Response:
    """Google's error object."""
    body = {"code": status, "message": message, "status": name, "details": details or []}
    return web.json_response({"error": body}, status=status)


def info(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def quota(name: str, wait: str = "") -> list[dict[str, Any]]:
    """The details of a passed quota, with how long to wait where that is said."""
    broken = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
        "quotaId": name,
        "quotaValue": "15",
    }
    out: list[dict[str, Any]] = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [broken]}]
    if wait:
        out.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": wait})
    return out


MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
USED_UP = "You exceeded your current quota, please check your plan and billing details."


async def misbehave(fault: str, request: web.Request) -> web.StreamResponse | None:
    """The bad answer, or None for faults that only change a good one."""
    match fault:
        case "429":
            return error(429, "RESOURCE_EXHAUSTED", USED_UP, quota(MINUTE))
        case "429-after":
            return error(429, "RESOURCE_EXHAUSTED", USED_UP, quota(MINUTE, "0.05s"))
        case "429-long":
            return error(429, "RESOURCE_EXHAUSTED", USED_UP, quota(MINUTE, "86400s"))
        case "429-day":
            return error(429, "RESOURCE_EXHAUSTED", USED_UP, quota(DAY, "34.07s"))
        case "credits":
            return error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Go to AI Studio.")
        case "500":
            return error(500, "INTERNAL", "An internal error has occurred")
        case "503":
            return error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
        case "504":
            return error(504, "DEADLINE_EXCEEDED", "The request timed out")
        case "403":
            return error(403, "PERMISSION_DENIED", "The caller does not have permission", [info("SERVICE_DISABLED")])
        case "404":
            return error(404, "NOT_FOUND", "models/x is not found for API version v1beta")
        case "400":
            return error(400, "INVALID_ARGUMENT", "Logprobs is not enabled for this model")
        case "expired":
            return error(
                400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", [info("API_KEY_INVALID")]
            )
        case "location":
            return error(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")
        case "hang":
            await asyncio.sleep(3600)
        case "html":
            return web.Response(text="<!DOCTYPE html><title>Sign in to the network</title>", content_type="text/html")
        case "html502":
            page = "<html><title>502 Bad Gateway</title></html>"
            return web.Response(status=502, text=page, content_type="text/html")
        case "redirect":
            return web.Response(status=307, headers={"Location": "https://elsewhere.example/v1beta"})
        case "truncated":
            return web.Response(text='{"candidates": [{"content": {"par', content_type="application/json")
        case "garbage":
            return web.Response(body=b"\x00\xff{]garbage", content_type="application/json")
        case "shape":
            return web.json_response({"candidates": "none", "choices": [{"text": "another protocol"}]})
        case "echo-key":
            return error(400, "INVALID_ARGUMENT", f"bad request with {request.headers.get('x-goog-api-key')}")
        case "drip" | "cut" | "reset":
            return await _broken_body(fault, request)
    return None
