"""A tuning on Vertex AI: a bucket, a job, an endpoint; and the same promises as at OpenAI."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from loopback_tuning import VertexServer
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import ProviderError, RecipeError
from zhiling.llm import google_storage
from zhiling.proof import tuning
from zhiling.tune.remote import job, state
from zhiling.tune.remote.base import Base, base_of, opened, settings_of

MODEL = "gemini-3.5-flash"


@pytest.fixture(scope="module")
def signing() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    return (
        rsa.generate_private_key(65537, 2048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


@pytest.fixture
def server(tmp_path: Path, signing: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[VertexServer]:
    """Google on this machine: a service account of ours signs in at it, and its bucket is asked with that account's token."""
    with VertexServer() as running:
        account = {
            "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": signing, "client_id": "1",
            "client_email": "tests@p.iam.gserviceaccount.com", "token_uri": f"{running.url}/token",
        }  # fmt: skip
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.delenv("GOOGLE_CLOUD_LOCATION", raising=False)
        monkeypatch.setattr(google_storage, "STORAGE", running.url)
        monkeypatch.setattr(job, "SETTLE_SECONDS", 0.0)
        monkeypatch.setattr(job, "BACKOFF", 0.001)
        yield running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    said = [(f"第{at}家店的面{('很好吃', '太咸了')[at % 2]}。", ("正面", "负面")[at % 2]) for at in range(12)]
    rows = [
        {"instruction": "正面还是负面？", "input": text, "output": label, "system": "只答一个词"}
        for text, label in said
    ]
    path = tmp_path / "评论.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


Tune = Callable[..., dict[str, Any]]


@pytest.fixture
def tune(server: VertexServer, data: Path, tmp_path: Path) -> Tune:
    def run(out: str = "out", heard: list[str] | None = None, again: bool = False, **given: Any) -> dict[str, Any]:
        told = {
            "base_url": server.url,
            "project": "p",
            "bucket": "gs://mine/tuning",
            "poll_seconds": 0.002,
            "timeout": 5,
            **given,
        }

        def watch(event: Mapping[str, Any]) -> None:
            if heard is not None:
                heard.append(str(event.get("note")))

        lines = partial(tuning.lines_of, [data], "")
        return tuning.elsewhere(Base("vertex", MODEL), lines, tmp_path / out, told, watch, again=again)

    return run


def test_from_rows_to_the_endpoint(tune: Tune, server: VertexServer, tmp_path: Path) -> None:
    heard: list[str] = []
    facts = tune(
        heard=heard, validation=0.25, epochs=2, adapter_size=8, learning_rate_multiplier=0.5, suffix="评论模型"
    )
    (made,) = server.jobs.values()
    spec = made["body"]["supervisedTuningSpec"]
    own = {"epochCount": 2, "learningRateMultiplier": 0.5, "adapterSize": "ADAPTER_SIZE_EIGHT"}
    assert {key: spec["hyperParameters"][key] for key in own} == own
    assert made["body"]["baseModel"] == MODEL and made["body"]["tunedModelDisplayName"] == "评论模型"
    assert (
        spec["trainingDatasetUri"].startswith("gs://mine/tuning/zhiling-")
        and spec["validationDatasetUri"] in server.files
    )
    sent = [json.loads(line) for line in server.files[spec["trainingDatasetUri"]]["raw"].decode().splitlines()]
    assert len(sent) == 9 and all(row["systemInstruction"]["parts"] == [{"text": "只答一个词"}] for row in sent)
    assert facts["model"] == f"{server.place}/endpoints/0" and facts["steps"] == 4 and facts["trained_tokens"] == 900
    assert facts["usd"] == 0 and facts["told"]["left_out"] == 1 and facts["told"]["left_out_why"] == ["too long"]
    assert facts["told"]["resource"].endswith("/models/7@1")
    assert any("checkpoint 1: epoch 1, step 4" in note for note in heard) and any(
        "job" in note and "succeeded" in note for note in heard
    )
    done = json.loads((tmp_path / "out" / "done.json").read_text(encoding="utf-8"))
    assert done["base"] == f"vertex:{MODEL}" and done["total"] is None  # no loss was told, so none is invented
    asked = sum(server.calls.values())
    assert tune(validation=0.25, epochs=2, adapter_size=8, learning_rate_multiplier=0.5, suffix="评论模型") == facts
    assert sum(server.calls.values()) == asked and server.made == {"file": 2, "job": 1}


def test_the_price_is_not_known_and_is_not_invented(
    tune: Tune, server: VertexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zhiling.llm.price.is_loopback", lambda host: False)
    heard: list[str] = []
    with pytest.raises(ProviderError, match="a budget, but the price is unknown"):
        tune(budget=5.0)
    assert not server.made
    assert tune(heard=heard)["usd"] is None and any("price unknown" in note for note in heard)


class Killed(BaseException):
    """What nothing catches."""


def test_killed_after_any_step_nothing_is_sent_or_started_twice(
    tune: Tune, server: VertexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each call that makes something, before its answer is noted: the worst moment."""
    arrived = state.State.arrived
    for at in range(3):  # two files and the job
        count = 0

        def cut(self: state.State, sent: state.Sent, id_: str, at: int = at) -> None:
            nonlocal count
            if count == at:
                raise Killed
            count += 1
            arrived(self, sent, id_)

        server.made.clear()
        monkeypatch.setattr(state.State, "arrived", cut)
        with pytest.raises(Killed):
            tune(f"out{at}", validation=0.25, bucket=f"gs://mine/{at}")
        monkeypatch.setattr(state.State, "arrived", arrived)
        assert tune(f"out{at}", validation=0.25, bucket=f"gs://mine/{at}")["model"].endswith(f"/{at}")
        assert server.made == {"file": 2, "job": 1}


@pytest.mark.parametrize(
    "trouble",
    [
        {"file": ["reset"], "files": ["503"]},
        {"create": ["reset"], "list": ["500"]},
        {"create": ["503", "reset"]},
        {"look": ["503", "429", "cut"], "create": ["429"], "file": ["500"]},
    ],
    ids=str,
)
def test_everyday_trouble_makes_nothing_twice(tune: Tune, server: VertexServer, trouble: dict[str, list[str]]) -> None:
    server.trouble = trouble
    assert tune()["model"] and server.made == {"file": 1, "job": 1} and not any(trouble.values())


def test_a_failed_job_tells_googles_reason(tune: Tune, server: VertexServer) -> None:
    server.ends = ["failed"]
    with pytest.raises(ProviderError, match="failed: The training dataset has row 3 without a model turn"):
        tune()
    server.trouble = {"create": ["refuse:Base model gemini-3.5-flash is not supported."]}
    with pytest.raises(ProviderError, match="Base model gemini-3.5-flash is not supported"):
        tune(again=True)


def test_a_bucket_that_is_closed_or_holds_something_else(tune: Tune, server: VertexServer, tmp_path: Path) -> None:
    with pytest.raises(
        ProviderError, match=r"the bucket gs://closed cannot be used .*storage.objects.create.*objectUser"
    ) as caught:
        tune(bucket="gs://closed")
    assert caught.value.kind == "auth" and "ya29" not in str(caught.value)
    server.trouble = {"create": ["403"]}
    with pytest.raises(ProviderError, match="the key is good for files: may this account"):
        tune("b")
    (name,) = server.files
    server.files[name] = {"raw": b"other"}
    server.trouble = {}
    with pytest.raises(ProviderError, match="holds something else"):
        tune("c")


def test_an_emulated_bucket_gets_no_credentials(
    tune: Tune, server: VertexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    upload = VertexServer.upload

    async def watched(self: VertexServer, request: Any) -> Any:
        seen.append(request.headers.get("Authorization"))
        return await upload(self, request)

    monkeypatch.setattr(VertexServer, "upload", watched)
    with VertexServer() as other:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", other.url)
        with pytest.raises(ProviderError, match="no such file"):  # the job is elsewhere
            tune()
        assert seen == [None]


def test_cancel(tune: Tune, server: VertexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "PATIENCE", 0)
    server.trouble, server.holding = {"look": ["500"]}, True
    with pytest.raises(ProviderError, match="goes on at the provider"):
        tune()
    assert tuning.cancel(tmp_path / "out", lambda event: None) == (f"{server.place}/tuningJobs/0", "cancelled")


def test_what_vertex_ai_must_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "global")
    base = base_of(f"vertex:{MODEL}")
    assert base is not None
    with pytest.raises(RecipeError, match="Vertex AI needs a project"):
        opened(base, settings_of(base, {"bucket": "gs://b"}))
    with pytest.raises(RecipeError, match="tuning jobs run in a region"):
        opened(base, settings_of(base, {"bucket": "gs://b", "project": "p"}))
    with pytest.raises(RecipeError, match="is no bucket"):
        opened(base, settings_of(base, {"bucket": "gs:///x", "project": "p", "location": "europe-west4"}))
    assert (
        opened(base, settings_of(base, {"bucket": "gs://b", "project": "p", "location": "europe-west4"})).form
        == "vertex"
    )


def test_the_tuned_model_is_evaluated_by_its_endpoint(
    tune: Tune, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tune()
    ran = CliRunner().invoke(app, ["evaluate", "out", str(data), "--json", "--force"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["overall"]["n"] == 12 and found["overall"]["score"] == 1.0
