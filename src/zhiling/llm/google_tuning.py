"""Supervised tuning jobs on Vertex AI, with the package google-genai; their files go into a bucket of yours."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zhiling.errors import ProviderError, RecipeError, say
from zhiling.llm import faults, google_rows
from zhiling.llm.google_storage import Bucket
from zhiling.llm.tuning import Event, Order, Standing

if TYPE_CHECKING:
    from google.genai import types

    from zhiling.llm.google import Gemini

T = TypeVar("T")
STATES = {
    "JOB_STATE_SUCCEEDED": "succeeded", "JOB_STATE_PARTIALLY_SUCCEEDED": "succeeded", "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EXPIRED": "failed", "JOB_STATE_CANCELLED": "cancelled",
}  # fmt: skip
LISTED = 2000  # jobs to look through for a mark
LABEL = "zhiling"


class Tunings:
    """The tuning jobs of one Gemini model. Raises RecipeError for a place that is no bucket, and for the location "global"."""

    form, limits = "vertex", google_rows.LIMITS

    def __init__(self, provider: Gemini, bucket: str) -> None:
        self._provider = provider
        self.identity = provider.model
        self._bucket = Bucket(bucket, provider.origin)
        if provider.door.get("location") == "global":
            raise RecipeError(
                say("tuning jobs run in a region, not in 'global'", "微调任务须在具体地区运行，不能是 global"),
                where="tune.location",
                mend=say("such as location: us-central1", "例如 location: us-central1"),
            )

    def wrong(self, row: Mapping[str, Any]) -> str:
        """See `google_rows`."""
        return google_rows.wrong(row)

    def kept(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row's turns and tools; what a file says of a row besides is not sent."""
        return {key: row[key] for key in google_rows.KEYS if key in row}

    def texts(self, row: Mapping[str, Any]) -> Iterator[str]:
        """See `google_rows`."""
        return google_rows.texts(row)

    async def upload(self, file: Path, name: str) -> str:
        """Put the file into the bucket, once."""
        await self._bucket.put(file, name)
        return self._bucket.uri(name)

    async def uploaded(self, name: str, size: int) -> str | None:
        """Look into the bucket."""
        return self._bucket.uri(name) if await self._bucket.has(name, size) else None

    async def start(self, order: Order) -> str:
        """One tuningJobs.create call; the mark is a label of the job."""
        from google.genai import types

        own = dict(order.settings)
        if (size := own.pop("adapter_size", None)) is not None:
            own["adapter_size"] = types.AdapterSize(f"ADAPTER_SIZE_{google_rows.ADAPTERS[size]}")
        if order.validation:
            own["validation_dataset"] = types.TuningValidationDataset(gcs_uri=order.validation)
        config = types.CreateTuningJobConfig(
            tuned_model_display_name=order.suffix or f"zhiling-{order.mark}", labels={LABEL: order.mark}, **own
        )
        rows = types.TuningDataset(gcs_uri=order.training)
        client = await self._provider.client()
        made = await self._asked(
            lambda: client.aio.tunings.tune(base_model=self._provider.short, training_dataset=rows, config=config)
        )
        if not made.name:
            raise self._provider.origin.error("the answer names no job", "返回中没有任务名", "protocol", retry=True)
        return str(made.name)

    async def find(self, order: Order) -> str | None:
        """Look through the listed jobs for the label."""
        client = await self._provider.client()

        async def looked() -> str | None:
            count = 0
            async for job in await client.aio.tunings.list(config={"page_size": 100}):
                count += 1
                if (job.labels or {}).get(LABEL) == order.mark and job.name:
                    return str(job.name)
                if count >= LISTED:
                    break
            return None

        return await self._asked(looked)

    async def look(self, job: str) -> Standing:
        """The job's state, what it was given, and the endpoint of the tuned model."""
        client = await self._provider.client()
        try:
            found = await self._asked(lambda: client.aio.tunings.get(name=job))
        except ProviderError as error:
            raise self._unknown(job) if error.kind == "model" else error from None
        said = found.state.value if found.state else "?"
        state = STATES.get(said, said.removeprefix("JOB_STATE_").lower())
        if state == "running" and found.tuning_job_state:
            state = found.tuning_job_state.value.removeprefix("TUNING_JOB_STATE_").lower()
        why = str((found.error.message if found.error else None) or ("" if said in STATES else said))
        if said == "JOB_STATE_EXPIRED":
            why = why or say("the job expired", "任务已过期")
        model = str((found.tuned_model.endpoint if found.tuned_model else None) or "")
        if state == "succeeded" and not model:
            en, zh = "the job succeeded, but no endpoint is named yet", "任务已成功，但尚未给出端点"
            raise self._provider.origin.error(en, zh, "protocol", retry=True)
        stats = found.tuning_data_stats.supervised_tuning_data_stats if found.tuning_data_stats else None
        return Standing(
            state, model, faults.hide_keys(why), stats.total_billable_token_count if stats else None,
            stats.tuning_step_count if stats else None, _facts(found, stats),
        )  # fmt: skip

    async def events(self, job: str, known: frozenset[str]) -> list[Event]:
        """None: Vertex AI shows its metrics in its console only. The checkpoints that it made are told."""
        client = await self._provider.client()
        found = await self._asked(lambda: client.aio.tunings.get(name=job))
        made = (found.tuned_model.checkpoints if found.tuned_model else None) or []
        told = [(str(one.checkpoint_id), one.step, one.epoch) for one in made]
        return [
            Event(at, say(f"checkpoint {at}: epoch {epoch}, step {step}", f"检查点 {at}：第 {epoch} 轮，第 {step} 步"))
            for at, step, epoch in told
            if at not in known
        ]

    async def cancel(self, job: str) -> None:
        """One tuningJobs.cancel call."""
        client = await self._provider.client()
        try:
            await self._asked(lambda: client.aio.tunings.cancel(name=job))
        except ProviderError as error:
            raise self._unknown(job) if error.kind == "model" else error from None

    def entry(self, model: str = "") -> dict[str, Any]:
        """The same project and place; a tuned model is asked by its endpoint."""
        door = self._provider.door
        found = {"provider": "gemini", "vertex": True, "model": model or self._provider.short}
        found |= {key: door[key] for key in ("project", "location") if door.get(key)}
        if self._provider.base_url:
            found["base_url"] = self._provider.base_url
        return found

    async def close(self) -> None:
        """Close the provider."""
        await self._provider.close()

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            with _quiet():
                return await ask()
        except Exception as error:  # google_faults raises again what is not the endpoint's
            failure = self._provider.failure(error)
        raise failure from None

    def _unknown(self, job: str) -> ProviderError:
        return self._provider.origin.error(
            f"this project has no tuning job '{job}'", f"该项目没有微调任务“{job}”", "model",
            mend=say("check project, location and the account", "请检查 project、location 与账户"),
        )  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """The SDK warns at every call that its tuning is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _facts(job: types.TuningJob, stats: types.SupervisedTuningDataStats | None) -> dict[str, Any]:
    """What else is worth keeping: the model's resource, rows that Vertex AI left out and why, and the checkpoints."""
    facts: dict[str, Any] = {}
    if job.tuned_model and job.tuned_model.model:
        facts["resource"] = job.tuned_model.model
    if stats and stats.total_truncated_example_count:
        facts["left_out"] = stats.total_truncated_example_count
        facts["left_out_why"] = list(stats.dropped_example_reasons or ())[:5]
    if job.tuned_model and job.tuned_model.checkpoints:
        facts["checkpoints"] = [one.endpoint for one in job.tuned_model.checkpoints if one.endpoint]
    return facts
