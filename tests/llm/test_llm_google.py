"""Gemini through google-genai itself, against a server that misbehaves on demand: one clear error each, and never a key."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.genai", reason="pip install 'zhiling[gemini]'")

from loopback_gemini import LoopbackGemini

from zhiling import registry
from zhiling.errors import ProviderError, RecipeError
from zhiling.llm import Model, ReplyCache, open_model
from zhiling.llm.google import Gemini
from zhiling.llm.price import find
from zhiling.types import Reply, Request

HELLO = Request(messages=(("user", "hello"),), max_tokens=16)
KEY = "AIzaVerySecret0123456789"


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackGemini]:
    with LoopbackGemini() as running:
        yield running


def make(**settings: Any) -> Gemini:
    plugin = registry.get("provider", "gemini")
    provider = plugin.fn(**registry.settle(plugin, {"model": "gemini-2.5-flash", **settings}))
    assert isinstance(provider, Gemini)
    return provider


def ask(provider: Gemini, *requests: Request) -> list[Reply]:
    async def main() -> list[Reply]:
        try:
            return [await provider.reply(request) for request in requests or (HELLO,)]
        finally:
            await provider.close()

    return asyncio.run(main())


def saying(fault: str) -> Request:
    return Request(messages=(("user", f"FAULT={fault} hello"),), max_tokens=16)


def test_a_reply_has_its_text_without_thoughts_and_pays_for_them(server: LoopbackGemini) -> None:
    (reply,) = ask(make(base_url=server.url), Request(messages=(("user", "你好，请翻译"),), logprobs=True))
    assert reply.text and "think" not in reply.text and reply.finish == "stop" and reply.model == "gemini-2.5-flash"
    assert reply.usage.prompt == 2 and reply.usage.completion == len(reply.text) // 4 + 1 + 3  # 3 thoughts
    assert reply.logprobs == ((reply.text, -0.5),) and reply.seconds > 0 and reply.usd is None


def test_the_body_is_geminis(server: LoopbackGemini) -> None:
    server.bodies = []
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    turns = (("system", "be brief"), ("user", "你好"), ("assistant", "hi"), ("user", "again"))
    full = Request(
        messages=turns, max_tokens=7, temperature=0.5, top_p=0.9, stop=("\n",), seed=3, schema=schema, logprobs=True
    )
    chosen = Request(messages=(("user", "q"),), choices=("good", "bad"))
    only = Request(messages=(("system", "speak"),))
    provider = make(base_url=server.url, thinking="low", extra={"top_k": 5})
    replies = ask(provider, full, chosen, only)
    one, two, three = server.bodies
    server.bodies = None
    assert [turn["role"] for turn in one["contents"]] == ["user", "model", "user"]
    assert one["systemInstruction"]["parts"] == [{"text": "be brief"}]
    config = one["generationConfig"]
    assert config.pop("thinkingConfig").popitem()[1] == "LOW"
    assert config == {
        "maxOutputTokens": 7, "temperature": 0.5, "topP": 0.9, "topK": 5, "stopSequences": ["\n"], "seed": 3, "responseLogprobs": True,
        "responseMimeType": "application/json", "responseJsonSchema": schema,
    }  # fmt: skip
    assert json.loads(replies[0].text).keys() == {"a"}
    assert two["generationConfig"]["responseSchema"] == {"type": "STRING", "enum": ["good", "bad"]}
    assert replies[1].text == "bad"
    assert "systemInstruction" not in three and three["contents"][0]["parts"] == [{"text": "speak"}]


def test_what_a_model_lacks_is_not_sent_and_said_beforehand(server: LoopbackGemini) -> None:
    provider = make(base_url=server.url, without=["seed", "logprobs"])
    assert provider.can == {"chat", "schema", "choices"}
    server.bodies = []
    ask(provider, Request(messages=(("user", "x"),), seed=1))
    assert "seed" not in server.bodies[0]["generationConfig"]
    server.bodies = None
    model = Model(provider)
    for request, lacks in (
        (Request(prompt="x"), "complete"),
        (Request(messages=(("user", "x"),), logprobs=True), "logprobs"),
    ):
        with pytest.raises(ProviderError, match=lacks) as caught:
            model.capabilities(request)
        assert caught.value.kind == "capability"


FAULTS = [
    ("429", "rate", True, "too many requests"),
    ("429-after", "rate", True, "too many requests"),
    ("429-long", "quota", False, "asks to wait 86400 s"),
    ("429-day", "quota", False, "the quota of the day is used up"),
    ("credits", "quota", False, "the account cannot pay (Your prepayment credits are depleted."),
    ("500", "server", True, "status 500 (An internal error has occurred)"),
    ("503", "server", True, "status 503 (The model is overloaded."),
    ("504", "server", True, "status 504"),
    ("html502", "server", True, "status 502 (502 Bad Gateway)"),
    ("400", "refused", False, "status 400 (Logprobs is not enabled for this model)"),
    ("403", "auth", False, "does not have permission"),
    ("404", "model", False, "no model 'gemini-2.5-flash'"),
    ("expired", "auth", False, "API key expired"),
    ("location", "auth", False, "not offered where you are"),
    ("blocked", "refused", False, "the prompt was blocked: PROHIBITED_CONTENT"),
    ("silent", "server", True, "the model broke off: OTHER"),
    ("redirect", "protocol", False, "https://elsewhere.example/v1beta"),
    ("html", "protocol", False, "a web page came back instead of an answer: Sign in to the network"),
    ("truncated", "protocol", True, "not JSON"),
    ("garbage", "protocol", True, "not JSON"),
    ("shape", "protocol", True, "no choice"),
    ("empty", "protocol", True, "no choice"),
    ("reset", "network", True, "broke off"),
    ("cut", "network", True, "broke off"),
    ("hang", "timeout", True, "no answer within 0.3 s"),
    ("drip", "timeout", True, "no answer within 0.3 s"),
]


@pytest.mark.parametrize(("fault", "kind", "retryable", "said"), FAULTS)
def test_each_fault_is_one_clear_error(
    server: LoopbackGemini, fault: str, kind: str, retryable: bool, said: str
) -> None:
    before = len(server.seen)
    with pytest.raises(ProviderError) as caught:
        ask(make(base_url=server.url, timeout=0.3), saying(fault))
    error = caught.value
    assert (error.kind, error.retryable) == (kind, retryable)
    assert said in str(error) and str(error).startswith("gemini:gemini-2.5-flash: ") and "\n" not in str(error)
    assert error.retry_after == {"429-after": 0.05, "429-long": 86400.0, "429-day": 34.07}.get(fault)
    assert len(server.seen) == before + 1  # the SDK's own retries are off


@pytest.mark.parametrize(("fault", "text", "finish"), [("max", True, "length"), ("safety", False, "filter")])
def test_odd_but_valid_answers_are_replies(server: LoopbackGemini, fault: str, text: bool, finish: str) -> None:
    (reply,) = ask(make(base_url=server.url), saying(fault))
    assert (
        bool(reply.text) == text
        and reply.finish == finish
        and reply.usage.prompt
        and reply.usage.completion is not None
    )


def test_nobody_there() -> None:
    with pytest.raises(ProviderError, match="cannot connect") as caught:
        ask(make(base_url="http://127.0.0.1:9"))
    assert (caught.value.kind, caught.value.retryable) == ("network", True)


def test_errors_speak_chinese(server: LoopbackGemini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHILING_LANG", "zh")
    for fault, said in (
        ("404", "该接口没有模型"),
        ("429-day", "当日配额已用完"),
        ("blocked", "提示被拦截"),
        ("expired", "接口拒绝了密钥"),
    ):
        with pytest.raises(ProviderError, match=said):
            ask(make(base_url=server.url), saying(fault))


def test_the_key_comes_from_one_of_two_variables_and_is_needed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ProviderError, match="GEMINI_API_KEY is empty — run: export GEMINI_API_KEY=") as caught:
        make()
    assert caught.value.kind == "auth"
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    assert make().origin.key_env == "GOOGLE_API_KEY"
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    assert (
        make().origin.key_env == "GEMINI_API_KEY" and make(key_env="GOOGLE_API_KEY").origin.key_env == "GOOGLE_API_KEY"
    )


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("GOOGLE_API_KEY", "AIzaAnother0123456789")
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaThird0123456789")
    with LoopbackGemini(key=KEY) as server, caplog.at_level("DEBUG"):
        provider = make(base_url=server.url, key_env="MY_KEY")
        assert ask(provider)[0].text and server.seen[-1]["x-goog-api-key"] == KEY
        shown = [repr(provider), repr(vars(provider)), provider.model]
        with pytest.raises(TypeError):
            pickle.dumps(provider)
        for fault in ("echo-key", "expired", "reset", "html", "hang", "shape"):
            with pytest.raises(ProviderError) as caught:
                ask(make(base_url=server.url, key_env="MY_KEY", timeout=0.3), saying(fault))
            shown += [repr(caught.value), str(vars(caught.value)), "".join(traceback.format_exception(caught.value))]
            assert caught.value.__cause__ is None
        monkeypatch.setenv("MY_KEY", "AIzaWrong0123456789abc")
        with pytest.raises(ProviderError, match="put a valid key into the environment variable MY_KEY") as caught:
            ask(make(base_url=server.url, key_env="MY_KEY"))
        shown.append(str(caught.value))
        assert caught.value.kind == "auth"
    assert not any("VerySecret" in text or "AIzaWrong" in text for text in [*shown, caplog.text])


def test_no_key_of_the_environment_goes_to_this_machine(
    server: LoopbackGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    assert ask(make(base_url=server.url))[0].text
    assert KEY not in json.dumps(server.seen[-1])


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"base_url": "generativelanguage.googleapis.com"}, "base_url"),
        ({"base_url": "https://host/?key=abc"}, "base_url"),
        ({"project": "p"}, "project"),
        ({"vertex": True}, "project"),
        ({"extra": {"top_q": 1}}, "extra.top_q"),
        ({"extra": {"top_k": "many"}}, "extra.top_k"),
        ({"thinking": "hard"}, "thinking"),
    ],
)
def test_wrong_settings_are_the_recipes_fault(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], where: str
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with pytest.raises(RecipeError) as caught:
        make(**settings)
    assert caught.value.where == where and "abc" not in caught.value.what


def test_a_missing_package_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "google.genai" else found(name))
    with pytest.raises(RecipeError, match=r"pip install 'zhiling\[gemini\]'"):
        make()


def test_the_identity_tells_parameters_apart_and_finds_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    plain, thrifty = make(), make(thinking=0)
    assert plain.model == "gemini-2.5-flash@https://generativelanguage.googleapis.com" and thrifty.model.startswith(
        plain.model + "#"
    )
    price, same = find("gemini", plain.model), find("gemini", thrifty.model)
    assert price is not None and price == same and 0 < price.prompt < price.completion
    assert find("gemini", make(model="gemini-9").model) is None


# -- Vertex AI -------------------------------------------------------------------------------------------------------------


@pytest.fixture()
def credentials(tmp_path: Path, server: LoopbackGemini, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service account of our own whose sign-in is the loopback server."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": private.decode(), "client_id": "1",
        "client_email": "tests@p.iam.gserviceaccount.com", "token_uri": f"{server.url}/token",
    }  # fmt: skip
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    return file


def test_vertex_signs_in_and_asks_in_its_project(server: LoopbackGemini, credentials: Path) -> None:
    before = server.tokens
    provider = make(base_url=server.url, vertex=True, project="p", location="europe-west1")
    assert all(reply.text for reply in ask(provider, HELLO, saying("500:0")))
    assert server.tokens == before + 1
    headers = server.seen[-1]
    assert headers["Authorization"] == "Bearer ya29.secret-token" and "x-goog-api-key" not in headers
    with pytest.raises(ProviderError, match="Google Cloud refused the credentials.*gcloud auth") as caught:
        ask(provider, saying("403"))
    assert caught.value.kind == "auth" and "ya29" not in str(caught.value)


def test_vertex_without_credentials_is_one_line(
    server: LoopbackGemini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ProviderError, match="names no file — run: gcloud auth application-default login"):
        make(vertex=True, project="p")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    for name, value in {"CLOUDSDK_CONFIG": str(tmp_path), "NO_GCE_CHECK": "true", "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ProviderError, match="no Google Cloud credentials: .* — run: gcloud auth") as caught:
        ask(make(base_url=server.url, vertex=True, project="p"))
    assert caught.value.kind == "auth" and "\n" not in str(caught.value)


# -- a whole Model ---------------------------------------------------------------------------------------------------------

MIXED = {
    "429-after": 0.05,
    "429": 0.02,
    "500": 0.02,
    "503": 0.02,
    "reset": 0.02,
    "cut": 0.02,
    "truncated": 0.02,
    "empty": 0.02,
    "hang": 0.02,
}


def test_a_run_through_every_passing_fault_and_its_rerun(tmp_path: Path) -> None:
    requests = [Request(messages=(("user", f"row {i}"),)) for i in range(60)]
    spec = {"provider": "gemini", "model": "m", "timeout": 1, "lanes": 32, "price": {"prompt": 1, "completion": 2}}

    async def run(url: str) -> tuple[list[Reply | ProviderError], Model]:
        async with open_model({**spec, "base_url": url}, cache=tmp_path / "c", trace=tmp_path / "t") as model:
            return await model.ask_all(requests), model

    with LoopbackGemini(MIXED) as server:
        first, model = asyncio.run(run(server.url))
        assert all(isinstance(reply, Reply) for reply in first) and model.spent.retries > 5
        assert sum(server.done.values()) >= 60 and model.spent.calls == 60 and model.spent.usd
        asked = sum(server.tries.values())
        again, model = asyncio.run(run(server.url))
        assert [r.text for r in again if isinstance(r, Reply)] == [r.text for r in first if isinstance(r, Reply)]
        assert sum(server.tries.values()) == asked and model.spent.cached == 60 and model.spent.calls == 0
    lines = [json.loads(line) for line in (tmp_path / "t").read_text().splitlines()]
    assert lines[0]["gen_ai.provider.name"] == "gcp.gemini" and lines[0]["gen_ai.request.model"] == "m"


def test_an_expired_key_stops_the_run_and_the_rerun_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    requests = [Request(messages=(("user", f"row {i}"),)) for i in range(50)]

    async def run(url: str) -> list[Reply | ProviderError]:
        spec = {"provider": "gemini", "model": "m", "base_url": url, "key_env": "MY_KEY", "lanes": 4}
        async with open_model(spec, cache=tmp_path / "c") as model:
            return await model.ask_all(requests)

    with LoopbackGemini(key="AIzaOther0123456789") as server:
        with pytest.raises(ProviderError) as caught:
            asyncio.run(run(server.url))
        assert caught.value.kind == "auth" and len(server.seen) <= 8  # one per lane, not one per row
        server.key = KEY
        replies = asyncio.run(run(server.url))
    assert all(isinstance(reply, Reply) for reply in replies)
    cache = ReplyCache(tmp_path / "c")
    assert cache.info()["replies"] == 50
    cache.close()


def test_connections_are_closed_with_the_loop(server: LoopbackGemini) -> None:
    script = (
        "import asyncio, sys\nfrom zhiling.llm import open_model\nfrom zhiling.types import Request\n"
        "model = open_model({'provider': 'gemini', 'model': 'm', 'base_url': sys.argv[1]}, cache=None)\n"
        "for word in ('one', 'two'):\n"
        "    print(asyncio.run(model.ask(Request(messages=(('user', word),)))).finish)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, server.url], capture_output=True, text=True, check=True)
    assert done.stdout == "stop\nstop\n" and done.stderr == ""
