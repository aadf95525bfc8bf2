"""Tuning at a provider on this machine: OpenAI's files and fine-tuning jobs, and Vertex AI's jobs with their bucket.

    with TuningServer(key="sk-...") as server: ...          # server.url: /v1/files, /v1/fine_tuning/jobs, /v1/chat/completions
    with VertexServer() as server: ...                      # server.url: the API, the bucket's JSON API and the sign-in

A job goes one state further at each look: validating_files, queued, running, then `server.ends` (the states of the first jobs, else
succeeded). `server.holding` keeps jobs running. `server.trouble` are the faults of the first calls of a kind: {"file": ["500"], "create":
["hang"], "look": ["503"], "events": ["reset"], "list": ["500"], "files": ["500"], "cancel": ["500"]}: a status, a broken body, "hang" (does
what was asked and never says so), "reset" (does it and breaks off), or "refuse:TEXT" (a 400). `made` counts what was made, whoever asked.
A tuned model answers what its training file answers to the same question, and "?" where it was not shown it.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import hashlib
import json
from typing import Any

from aiohttp import web
from loopback import Loopback, _broken_body, _error
from loopback_gemini import LoopbackGemini, prompt_of
from loopback_gemini import error as google_error

STATES = ("validating_files", "queued", "running")


class Desk:
    """What both servers keep: files, jobs, and what is to go wrong with them."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.files: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.holding = False
        self.ends: list[str] = []
        self.trouble: dict[str, list[str]] = {}
        self.calls: collections.Counter[str] = collections.Counter()
        self.made: collections.Counter[str] = collections.Counter()

    async def spoil(self, kind: str, request: web.Request) -> web.StreamResponse | None:
        """The next fault of this kind of call that keeps it from being done."""
        self.calls[kind] += 1
        fault = self.trouble.get(kind, [""])[0] if self.trouble.get(kind) else ""
        if not fault or fault in ("hang", "reset"):
            return None
        self.trouble[kind].pop(0)
        if fault.startswith("refuse:"):
            return self.refusal(400, fault.partition(":")[2])
        return (
            self.refusal(int(fault), f"status {fault} on demand")
            if fault.isdigit()
            else await _broken_body(fault, request)
        )

    async def answered(self, kind: str, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """What was done is told, unless a fault keeps that from being heard."""
        fault = self.trouble.get(kind, [""])[0] if self.trouble.get(kind) else ""
        if fault in ("hang", "reset"):
            self.trouble[kind].pop(0)
            if fault == "hang":
                await asyncio.sleep(3600)
            return await _broken_body("reset", request)
        return web.json_response(body)

    def refusal(self, status: int, message: str) -> web.Response:
        return _error(status, message, "on_demand")

    def step(self, job: dict[str, Any]) -> str:
        """The job's state at this look."""
        if job["state"] in STATES:
            at = job["looks"] = job["looks"] + 1
            job["state"] = STATES[at] if at < len(STATES) else "running" if self.holding else job["end"]
        return str(job["state"])

    def learnt(self, model: str, prompt: str) -> str | None:
        """What a tuned model answers; None for a model that is not tuned."""
        for job in self.jobs.values():
            if job.get("model") == model:
                return job["answers"].get(prompt, "?")
        return None


class TuningServer(Desk, Loopback):
    """OpenAI's, beside its chat."""

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files", self.listed_files)
        app.router.add_post("/v1/fine_tuning/jobs", self.create)
        app.router.add_get("/v1/fine_tuning/jobs", self.listed_jobs)
        app.router.add_get("/v1/fine_tuning/jobs/{id}", self.look)
        app.router.add_get("/v1/fine_tuning/jobs/{id}/events", self.events)
        app.router.add_post("/v1/fine_tuning/jobs/{id}/cancel", self.cancel)
        return app

    def allowed(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if self.key and given != f"Bearer {self.key}":
            return _error(401, f"Incorrect API key provided: {given[7:]}", "invalid_api_key")
        return None

    async def upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        if (bad := self.allowed(request) or await self.spoil("file", request)) is not None:
            return bad
        file = form["file"]
        assert form["purpose"] == "fine-tune" and isinstance(file, web.FileField)
        self.made["file"] += 1
        at, raw = f"file-{len(self.files)}", file.file.read()
        self.files[at] = {
            "id": at,
            "object": "file",
            "filename": file.filename,
            "bytes": len(raw),
            "purpose": "fine-tune",
            "raw": raw,
        }
        return await self.answered("file", request, self.shown_file(at))

    def shown_file(self, at: str) -> dict[str, Any]:
        return {key: value for key, value in self.files[at].items() if key != "raw"} | {"status": "processed"}

    async def listed_files(self, request: web.Request) -> web.StreamResponse:
        if (bad := self.allowed(request) or await self.spoil("files", request)) is not None:
            return bad
        assert request.query["purpose"] == "fine-tune"
        return self.page(request, [self.shown_file(at) for at in reversed(self.files)])

    def page(self, request: web.Request, items: list[dict[str, Any]]) -> web.Response:
        """Small pages, so that they are turned."""
        ids = [item["id"] for item in items]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        return web.json_response(
            {"object": "list", "data": items[start : start + 2], "has_more": start + 2 < len(items)}
        )

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if (bad := self.allowed(request) or await self.spoil("create", request)) is not None:
            return bad
        if body["training_file"] not in self.files:
            return _error(400, f"invalid training_file: {body['training_file']}", "invalid_request_error")
        rows = [json.loads(line) for line in self.files[body["training_file"]]["raw"].decode().splitlines()]
        if len(rows) < 10:
            return _error(
                400, f"file has {len(rows)} example(s), but must have at least 10 examples", "invalid_n_examples"
            )
        own = body["method"]["supervised"]["hyperparameters"]
        assert body["method"]["type"] == "supervised" and set(own) <= {
            "n_epochs",
            "batch_size",
            "learning_rate_multiplier",
        }
        self.made["job"] += 1
        at = f"ftjob-{len(self.jobs)}"
        name = f"ft:{body['model']}:org:{body.get('suffix', '')}:{at[6:]}"
        self.jobs[at] = {
            "body": body, "state": STATES[0], "looks": 0, "end": self.ends.pop(0) if self.ends else "succeeded", "model": name,
            "answers": {row["messages"][-2]["content"]: row["messages"][-1]["content"] for row in rows}, "rows": len(rows),
        }  # fmt: skip
        return await self.answered("create", request, self.shown(at))

    def shown(self, at: str) -> dict[str, Any]:
        job = self.jobs[at]
        body, good, bad = job["body"], job["state"] == "succeeded", job["state"] == "failed"
        reason = {
            "code": "invalid_training_file",
            "message": "Line 3: the examples were blocked by the moderation system",
            "param": "training_file",
        }
        return {
            "id": at, "object": "fine_tuning.job", "model": body["model"], "status": job["state"], "metadata": body.get("metadata"),
            "training_file": body["training_file"], "validation_file": body.get("validation_file"), "result_files": [], "seed": 0,
            "hyperparameters": body["method"]["supervised"]["hyperparameters"], "error": reason if bad else None,
            "fine_tuned_model": job["model"] if good else None, "trained_tokens": 1000 * job["rows"] if good else None,
        }  # fmt: skip

    async def listed_jobs(self, request: web.Request) -> web.StreamResponse:
        if (bad := self.allowed(request) or await self.spoil("list", request)) is not None:
            return bad
        return self.page(request, [self.shown(at) for at in reversed(self.jobs)])

    async def look(self, request: web.Request) -> web.StreamResponse:
        at = request.match_info["id"]
        if (bad := self.allowed(request) or await self.spoil("look", request)) is not None:
            return bad
        if at not in self.jobs:
            return _error(404, f"Could not find fine tune: {at}", "fine_tune_not_found")
        self.step(self.jobs[at])
        return web.json_response(self.shown(at))

    async def events(self, request: web.Request) -> web.StreamResponse:
        at = request.match_info["id"]
        if (bad := self.allowed(request) or await self.spoil("events", request)) is not None:
            return bad
        job = self.jobs[at]
        steps = {"running": 2, "succeeded": 5}.get(job["state"], 0)
        told = [
            {
                "id": "ev-0",
                "level": "info",
                "message": f"Created fine-tuning job: {at}",
                "data": None,
                "type": "message",
            }
        ]
        for step in range(1, steps + 1):
            data = {"step": step, "train_loss": 2.0 / step, "train_mean_token_accuracy": 0.5, "valid_loss": 3.0 / step}
            data |= {"full_valid_loss": 2.5 / step} if step == 5 else {}
            told.append(
                {
                    "id": f"ev-{step}",
                    "message": f"Step {step}/5: training loss={2.0 / step:.2f}",
                    "data": data,
                    "type": "metrics",
                }
            )
        return self.page(request, told[::-1])

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        if (bad := self.allowed(request) or await self.spoil("cancel", request)) is not None:
            return bad
        at = request.match_info["id"]
        self.jobs[at]["state"] = "cancelled"
        return web.json_response(self.shown(at))

    def _answer(self, body: Any, fault: str) -> dict[str, Any]:
        answer = super()._answer(body, fault)
        if (text := self.learnt(body["model"], body["messages"][-1]["content"])) is not None:
            answer["choices"][0]["message"]["content"] = text
        return answer


class VertexServer(Desk, LoopbackGemini):
    """Vertex AI's tuning jobs, Cloud Storage's JSON API, and the endpoints of tuned models."""

    place = "projects/p/locations/us-central1"

    def app(self) -> web.Application:
        app = super().app()
        at = "/v1beta1/projects/{project}/locations/{place}"
        app.router.add_post(at + "/tuningJobs", self.create)
        app.router.add_get(at + "/tuningJobs", self.listed)
        app.router.add_get(at + "/tuningJobs/{id}", self.look)
        app.router.add_post(at + "/tuningJobs/{id}:cancel", self.cancel)
        app.router.add_post(at + "/endpoints/{model}:generateContent", self.handle)
        app.router.add_post("/upload/storage/v1/b/{bucket}/o", self.upload)
        app.router.add_get("/storage/v1/b/{bucket}/o/{name}", self.held)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """An endpoint's answer is what its model was shown."""
        text = self.learnt(
            request.path.split("/v1beta1/")[-1].partition(":")[0], prompt_of(json.loads(await request.read()))
        )
        if text is None:
            return await super().handle(request)
        candidate = {"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [{"text": text}]}}
        return web.json_response(
            {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1}}
        )

    def refusal(self, status: int, message: str) -> web.Response:
        names = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
        return google_error(status, names.get(status, "INTERNAL"), message)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if (bad := await self.spoil("file", request)) is not None:
            return bad
        if request.match_info["bucket"] == "closed":
            return google_error(403, "PERMISSION_DENIED", "you@example.com does not have storage.objects.create access")
        assert request.query["uploadType"] == "media" and request.query["ifGenerationMatch"] == "0"
        name = f"gs://{request.match_info['bucket']}/{request.query['name']}"
        if name in self.files:
            return google_error(
                412, "FAILED_PRECONDITION", "At least one of the pre-conditions you specified did not hold."
            )
        self.made["file"] += 1
        self.files[name] = {"raw": raw}
        return await self.answered("file", request, self.shown_file(name))

    def shown_file(self, name: str) -> dict[str, Any]:
        raw = self.files[name]["raw"]
        return {"name": name, "size": str(len(raw)), "md5Hash": base64.b64encode(hashlib.md5(raw).digest()).decode()}

    async def held(self, request: web.Request) -> web.StreamResponse:
        if (bad := await self.spoil("files", request)) is not None:
            return bad
        name = f"gs://{request.match_info['bucket']}/{request.match_info['name']}"
        return (
            web.json_response(self.shown_file(name))
            if name in self.files
            else google_error(404, "NOT_FOUND", f"No such object: {name}")
        )

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if (bad := await self.spoil("create", request)) is not None:
            return bad
        spec = body["supervisedTuningSpec"]
        if spec["trainingDatasetUri"] not in self.files:
            return google_error(400, "INVALID_ARGUMENT", f"no such file: {spec['trainingDatasetUri']}")
        rows = [json.loads(line) for line in self.files[spec["trainingDatasetUri"]]["raw"].decode().splitlines()]
        self.made["job"] += 1
        at = f"{self.place}/tuningJobs/{len(self.jobs)}"
        answers = {row["contents"][-2]["parts"][0]["text"]: row["contents"][-1]["parts"][0]["text"] for row in rows}
        end = self.ends.pop(0) if self.ends else "succeeded"
        endpoint = f"{self.place}/endpoints/{len(self.jobs)}"
        self.jobs[at] = {
            "body": body,
            "state": STATES[0],
            "looks": 0,
            "end": end,
            "model": endpoint,
            "answers": answers,
            "rows": len(rows),
        }
        return await self.answered("create", request, self.shown(at))

    def shown(self, at: str) -> dict[str, Any]:
        job = self.jobs[at]
        name = {"validating_files": "PENDING", "queued": "QUEUED"}.get(job["state"], job["state"].upper())
        out = {"name": at, "state": f"JOB_STATE_{name}", "createTime": "2026-11-24T00:00:00Z", **job["body"]}
        if job["state"] == "failed":
            out["error"] = {"code": 3, "message": "The training dataset has row 3 without a model turn"}
        if job["state"] == "succeeded":
            point = {"checkpointId": "1", "epoch": "1", "step": "4", "endpoint": job["model"]}
            out["tunedModel"] = {"model": f"{self.place}/models/7@1", "endpoint": job["model"], "checkpoints": [point]}
            stats = {
                "totalBillableTokenCount": str(100 * job["rows"]),
                "tuningStepCount": "4",
                "totalTruncatedExampleCount": "1",
            }
            out["tuningDataStats"] = {"supervisedTuningDataStats": {**stats, "droppedExampleReasons": ["too long"]}}
        return out

    async def listed(self, request: web.Request) -> web.StreamResponse:
        if (bad := await self.spoil("list", request)) is not None:
            return bad
        start = int(request.query.get("pageToken", 0))
        page = [self.shown(at) for at in reversed(self.jobs)][start : start + 2]
        more = {"nextPageToken": str(start + 2)} if start + 2 < len(self.jobs) else {}
        return web.json_response({"tuningJobs": page, **more})

    async def look(self, request: web.Request) -> web.StreamResponse:
        if (bad := await self.spoil("look", request)) is not None:
            return bad
        at = f"{self.place}/tuningJobs/{request.match_info['id']}"
        if at not in self.jobs:
            return google_error(404, "NOT_FOUND", f"{at} is not found")
        self.step(self.jobs[at])
        return web.json_response(self.shown(at))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        if (bad := await self.spoil("cancel", request)) is not None:
            return bad
        self.jobs[f"{self.place}/tuningJobs/{request.match_info['id']}"]["state"] = "cancelled"
        return web.json_response({})
