"""Batch jobs on this machine, in the formats of OpenAI and of Gemini: worked off when told to, and wrong on demand.

    with BatchServer() as server:              # OpenAI's: server.url + "/files", "/batches"
    with GeminiBatchServer() as server:        # Gemini's: models/M:batchGenerateContent, batches/ID

`server.holding` keeps every job in progress. A row's own fault is in its text: "ROW=500:1 ..." fails in its first job, "ROW=missing ..."
has no result, "ROW=400 ..." is refused, "ROW=expired:1 ..." ran out of time, "ROW=garbage:1 ..." is a line that is no JSON. `server.ends` are
the states of the first jobs ("failed", "expired", "cancelled"), `server.trouble` the faults of the first calls of a kind: {"create": ["hang"],
"file": ["500"], "look": ["503"], "content": ["cut"], "list": ["500"]}; "hang" makes the job and never says so. Results come out of order
and the first one twice. `server.rows` counts how often each row's text was in a job.
"""

from __future__ import annotations

import asyncio
import collections
import json
from collections.abc import Mapping
from typing import Any

import loopback_gemini
from aiohttp import web
from loopback import Loopback, _broken_body, _error
from loopback_gemini import LoopbackGemini

ROW = "ROW="


class Desk:
    """What both servers keep: the jobs, and what is to go wrong with them."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.rows: collections.Counter[str] = collections.Counter()
        self.holding = False
        self.ends: list[str] = []
        self.trouble: dict[str, list[str]] = {}
        self.calls: collections.Counter[str] = collections.Counter()

    async def spoil(self, kind: str, request: web.Request) -> web.StreamResponse | None:
        """The next fault of this kind of call, "hang" excepted."""
        self.calls[kind] += 1
        if not self.trouble.get(kind) or self.trouble[kind][0] == "hang":
            return None
        fault = self.trouble[kind].pop(0)
        return (
            await _broken_body(fault, request) if not fault.isdigit() else _error(int(fault), "on demand", "on_demand")
        )

    async def hang(self, kind: str) -> None:
        if self.trouble.get(kind, [])[:1] == ["hang"]:
            self.trouble[kind].pop(0)
            await asyncio.sleep(3600)

    def make(self, name: str, rows: list[tuple[str, dict[str, Any], str]]) -> str:
        """A new job of (key, body, text)."""
        at = f"batch{len(self.jobs)}"
        for _, _, text in rows:
            self.rows[text] += 1
        end = self.ends.pop(0) if self.ends else "completed"
        self.jobs[at] = {"name": name, "rows": rows, "end": end}
        return at

    def outcomes(self, job: Mapping[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
        """(key, body, fault) of a finished job's rows: backwards, and the first one twice."""
        out = []
        for key, body, text in reversed(job["rows"]):
            kind, _, times = text.partition(ROW)[2].split(" ")[0].partition(":")
            fault = kind if kind and (not times or self.rows[text] <= int(times)) else ""
            fault = "expired" if job["end"] == "expired" and len(out) % 2 else fault
            if fault != "missing" and job["end"] not in ("failed", "cancelled"):
                out.append((key, body, fault))
        return out + [item for item in out[:1] if not item[2]]


class BatchServer(Desk, Loopback):
    """OpenAI's files and batches beside its chat."""

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.content)
        app.router.add_post("/v1/batches", self.create)
        app.router.add_get("/v1/batches", self.listing)
        app.router.add_get("/v1/batches/{id}", self.get)
        return app

    async def upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        file = form["file"]
        assert form["purpose"] == "batch" and isinstance(file, web.FileField)
        if (bad := await self.spoil("file", request)) is not None:
            return bad
        at = f"file-{len(self.files)}"
        self.files[at] = file.file.read()
        await self.hang("file")
        return web.json_response({"id": at, "object": "file"})

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if (bad := await self.spoil("create", request)) is not None:
            return bad
        assert body["completion_window"] == "24h" and body["endpoint"] == "/v1/chat/completions"
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        rows = [(line["custom_id"], line["body"], line["body"]["messages"][-1]["content"]) for line in lines]
        at = self.make(body["metadata"]["zhiling"], rows)
        await self.hang("create")
        return web.json_response(self.shown(at))

    async def listing(self, request: web.Request) -> web.StreamResponse:
        if (bad := await self.spoil("list", request)) is not None:
            return bad
        newest = [self.shown(at) for at in reversed(self.jobs)]
        ids = [job["id"] for job in newest]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = newest[start : start + 2]  # small pages, so that they are turned
        return web.json_response({"object": "list", "data": page, "has_more": start + 2 < len(newest)})

    async def get(self, request: web.Request) -> web.StreamResponse:
        if (bad := await self.spoil("look", request)) is not None:
            return bad
        return web.json_response(self.shown(request.match_info["id"]))

    def shown(self, at: str) -> dict[str, Any]:
        job = self.jobs[at]
        status = "in_progress" if self.holding else job["end"]
        out = {"id": at, "object": "batch", "status": status, "metadata": {"zhiling": job["name"]}}
        out["request_counts"] = {"total": len(job["rows"]), "completed": 0, "failed": 0}
        if status == "failed":
            return out | {
                "errors": {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]}
            }
        if status in ("completed", "expired"):
            good, bad = f"out-{at}", f"err-{at}"
            self.files[good], self.files[bad] = self.written(job)
            out |= {"output_file_id": good, "error_file_id": bad}
        return out

    def written(self, job: Mapping[str, Any]) -> tuple[bytes, bytes]:
        good, bad = [], []
        for key, body, fault in self.outcomes(job):
            line: dict[str, Any] = {"id": f"r-{key}", "custom_id": key, "error": None}
            if fault == "garbage":
                good.append('{"custom_id": "' + key)
            elif fault == "expired":
                bad.append(
                    json.dumps(line | {"response": None, "error": {"code": "batch_expired", "message": "too late"}})
                )
            elif fault:
                error = {"error": {"message": f"status {fault} on demand", "code": "on_demand"}}
                bad.append(json.dumps(line | {"response": {"status_code": int(fault), "body": error}}))
            else:
                good.append(json.dumps(line | {"response": {"status_code": 200, "body": self._answer(body, "")}}))
        return "\n".join(good).encode() + b"\n", "\n".join(bad).encode()

    async def content(self, request: web.Request) -> web.StreamResponse:
        if (bad := await self.spoil("content", request)) is not None:
            return bad
        return web.Response(body=self.files[request.match_info["id"]])


class GeminiBatchServer(Desk, LoopbackGemini):
    """Gemini's batches beside its generateContent."""

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_post("/v1beta/models/{model}:batchGenerateContent", self.create)
        app.router.add_get("/v1beta/batches", self.listing)
        app.router.add_get("/v1beta/batches/{id}", self.get)
        return app

    async def create(self, request: web.Request) -> web.StreamResponse:
        batch = (await request.json())["batch"]
        if (bad := await self.spoil("create", request)) is not None:
            return bad
        inlined = batch["inputConfig"]["requests"]["requests"]
        rows = [
            (item["metadata"]["key"], item["request"], loopback_gemini.prompt_of(item["request"])) for item in inlined
        ]
        at = self.make(batch["displayName"], rows)
        await self.hang("create")
        return web.json_response(self.shown(at))

    async def listing(self, request: web.Request) -> web.StreamResponse:
        if (bad := await self.spoil("list", request)) is not None:
            return bad
        start = int(request.query.get("pageToken", 0))
        page = [self.shown(at, False) for at in reversed(self.jobs)][start : start + 2]
        more = {"nextPageToken": str(start + 2)} if start + 2 < len(self.jobs) else {}
        return web.json_response({"operations": page, **more})

    async def get(self, request: web.Request) -> web.StreamResponse:
        if (bad := await self.spoil("look", request)) is not None:
            return bad
        return web.json_response(self.shown(request.match_info["id"]))

    def shown(self, at: str, whole: bool = True) -> dict[str, Any]:
        job = self.jobs[at]
        state = {"completed": "SUCCEEDED"}.get(job["end"], job["end"].upper())
        state = "RUNNING" if self.holding else state
        metadata: dict[str, Any] = {"displayName": job["name"], "state": f"BATCH_STATE_{state}", "model": "models/m"}
        if whole and state in ("SUCCEEDED", "EXPIRED"):
            metadata["output"] = {
                "inlinedResponses": {"inlinedResponses": [self.written(*item) for item in self.outcomes(job)]}
            }
        return {"name": f"batches/{at}", "metadata": metadata, "done": not self.holding}

    def written(self, key: str, body: Mapping[str, Any], fault: str) -> dict[str, Any]:
        if fault == "garbage":
            return {"response": loopback_gemini.answer(body)}  # a result that does not say whose it is
        out: dict[str, Any] = {"metadata": {"key": key}}
        if fault:
            codes = {"400": 3, "500": 13, "expired": 4}
            return out | {"error": {"code": codes[fault], "message": f"{fault} on demand"}}
        return out | {"response": loopback_gemini.answer(body)}
