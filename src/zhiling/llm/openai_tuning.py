"""OpenAI's supervised tuning jobs, and those of whoever speaks its protocol: /files and /fine_tuning/jobs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.errors import ProviderError, say
from zhiling.llm import faults, openai_rows
from zhiling.llm.openai_call import PATIENT, call
from zhiling.llm.tuning import Event, Order, Standing

if TYPE_CHECKING:
    from zhiling.llm.openai import OpenAI

PAGES = 20  # of a hundred files, jobs or events, when one is looked for
_NUMBERS = {
    "train_loss": "loss", "valid_loss": "validation_loss", "full_valid_loss": "validation_loss",
    "train_mean_token_accuracy": "accuracy", "valid_mean_token_accuracy": "validation_accuracy",
    "full_valid_mean_token_accuracy": "validation_accuracy",
}  # fmt: skip
"""OpenAI's names of what it measures, and ours; of the validation loss the one over all rows, where it is given, wins."""


class Tunings:
    """The tuning jobs of one OpenAI model."""

    form = "messages"

    def __init__(self, provider: OpenAI) -> None:
        self._provider = provider
        self._origin = provider._origin
        self.limits = openai_rows.limits(self._origin.model)
        self.identity = provider.model

    def wrong(self, row: Mapping[str, Any]) -> str:
        """See `openai_rows`."""
        return openai_rows.wrong(row)

    def kept(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row's messages and tools; what a file says of a row besides (its id, its source) is not sent."""
        return {key: row[key] for key in openai_rows.KEYS if key in row}

    def texts(self, row: Mapping[str, Any]) -> Iterator[str]:
        """See `openai_rows`."""
        return openai_rows.texts(row)

    async def upload(self, file: Path, name: str) -> str:
        """POST the file; it is read as it goes."""
        import aiohttp

        form = aiohttp.FormData()
        form.add_field("purpose", "fine-tune")
        with file.open("rb") as handle:
            form.add_field("file", handle, filename=name, content_type="application/jsonl")
            payload = form()
            headers = {"Content-Type": payload.content_type}
            try:
                made = await call(
                    self._provider, "POST", "/files", payload, headers, max(PATIENT, self._provider._timeout)
                )
            except ProviderError as error:
                if error.kind == "model":  # a 404 here says nothing of the model
                    raise self._nowhere("files") from None
                raise
        return self._id(made)

    async def uploaded(self, name: str, size: int) -> str | None:
        """Look through the newest files for one of that name and size that was not refused."""
        async for file in self._listed("/files?purpose=fine-tune&order=desc&limit=100"):
            whole = file.get("bytes") in (size, None) and file.get("status") not in ("error", "deleted")
            if file.get("filename") == name and whole:
                return str(file["id"])
        return None

    async def start(self, order: Order) -> str:
        """POST the job; the mark is kept in its metadata."""
        own = dict(order.settings)
        body: dict[str, Any] = {"model": self._origin.model, "training_file": order.training}
        if order.validation:
            body["validation_file"] = order.validation
        if order.suffix:
            body["suffix"] = order.suffix
        if (seed := own.pop("seed", None)) is not None:
            body["seed"] = seed
        body["method"] = {"type": "supervised", "supervised": {"hyperparameters": own}}
        body["metadata"] = {"zhiling": order.mark}
        return self._id(await call(self._provider, "POST", "/fine_tuning/jobs", json.dumps(body).encode()))

    async def find(self, order: Order) -> str | None:
        """Look through the newest jobs for the mark; at an endpoint that keeps no metadata, for our file."""
        async for job in self._listed("/fine_tuning/jobs?limit=100"):
            mark = (job.get("metadata") or {}).get("zhiling")
            if mark == order.mark or (mark is None and job.get("training_file") == order.training):
                return str(job["id"])
        return None

    async def look(self, job: str) -> Standing:
        """GET the job."""
        found = await self._job("GET", job)
        state = str(found.get("status") or "?")
        error = found.get("error") or {}
        why = "; ".join(str(error[key]) for key in ("message", "code", "param") if error.get(key))
        model = str(found.get("fine_tuned_model") or "")
        if state == "succeeded" and not model:
            en, zh = "the job succeeded, but no tuned model is named yet", "任务已成功，但尚未给出微调模型的名称"
            raise self._origin.error(en, zh, "protocol", retry=True)
        settings = found.get("hyperparameters") or {}
        facts = {
            key: settings[key] for key in ("n_epochs", "batch_size", "learning_rate_multiplier") if key in settings
        }
        tokens = found.get("trained_tokens")
        return Standing(state, model, faults.hide_keys(why), tokens if isinstance(tokens, int) else None, facts=facts)

    async def events(self, job: str, known: frozenset[str]) -> list[Event]:
        """The newest events, back to one that is known."""
        new: list[Event] = []
        async for event in self._listed(f"/fine_tuning/jobs/{job}/events?limit=100"):
            at = str(event.get("id"))
            if at in known:
                break
            new.append(Event(at, faults.hide_keys(str(event.get("message") or "")), _measured(event.get("data"))))
        return new[::-1]

    async def cancel(self, job: str) -> None:
        """POST the job's cancel."""
        await self._job("POST", job, "/cancel")

    def entry(self, model: str = "") -> dict[str, Any]:
        """The same endpoint, key and timeout."""
        provider = self._provider
        found: dict[str, Any] = {"provider": "openai", "model": model or self._origin.model, "base_url": provider._base}
        if self._origin.key_env:
            found["key_env"] = self._origin.key_env
        return found

    async def close(self) -> None:
        """Close the provider."""
        await self._provider.close()

    async def _job(self, method: str, job: str, path: str = "") -> dict[str, Any]:
        try:
            return await call(self._provider, method, f"/fine_tuning/jobs/{job}{path}")
        except ProviderError as error:
            if error.kind != "model":
                raise
            en, zh = f"this account has no tuning job '{job}'", f"该账户没有微调任务“{job}”"
            mend = say(
                "was it made with another key, organisation or base_url?", "它是否由另一个密钥、组织或 base_url 创建？"
            )
            raise self._origin.error(en, zh, "model", mend=mend) from None

    async def _listed(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """The items of a list that is given page by page."""
        after = ""
        for _ in range(PAGES):
            page = await call(self._provider, "GET", path + after)
            items = [item for item in page.get("data") or () if isinstance(item, dict) and item.get("id")]
            for item in items:
                yield item
            if not items or not page.get("has_more"):
                return
            after = f"&after={items[-1]['id']}"

    def _id(self, made: Mapping[str, Any]) -> str:
        if not isinstance(made.get("id"), str):
            raise faults.of_another_protocol(made, self._origin)
        return str(made["id"])

    def _nowhere(self, what: str) -> ProviderError:
        return self._origin.error(
            f"this endpoint has no {what}: it offers no tuning jobs", f"该接口没有 {what}，不提供微调任务", "model",
            mend=say("check base_url (it usually ends in /v1)", "请检查 base_url（通常以 /v1 结尾）"),
        )  # fmt: skip


def _measured(data: Any) -> dict[str, float]:
    """The numbers of a metrics event under our names; none where it is not of a step."""
    if not isinstance(data, Mapping) or not isinstance(data.get("step"), int):
        return {}
    out: dict[str, float] = {"step": data["step"]}
    for theirs, ours in _NUMBERS.items():
        if isinstance(data.get(theirs), int | float):
            out[ours] = float(data[theirs])
    return out
