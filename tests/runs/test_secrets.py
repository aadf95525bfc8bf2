"""The key is nowhere: not in what is printed, the run's folder, the cache, the trace or a repr; whatever the endpoint does with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loopback import Loopback
from test_bad_input import zhiling
from test_bill import recipe

from zhiling.llm import open_model

KEY = "sk-Very0Secret1Key2Of3Mine4"
ENV = {"MY_KEY": KEY}


def everywhere(folder: Path) -> bytes:
    """All bytes of all files below a folder, and their names."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return b"".join(str(file).encode() + b"\0" + file.read_bytes() for file in files)


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("fault", ["", "echo-key", "401", "500", "html", "echo-in-reply"])
def test_the_key_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, content: bool) -> None:
    """Success, failures, an endpoint that sends the key back in its error, and one that writes it into its reply."""
    from loopback import Server

    if fault == "echo-in-reply":
        plain = Server._answer
        monkeypatch.setattr(
            Server,
            "_answer",
            lambda self, *a: json.loads(json.dumps(plain(self, *a)).replace("Read", KEY).replace("the", KEY)),
        )
    faults = {fault: 1.0} if fault not in ("", "echo-in-reply") else {}
    with Loopback(faults=faults, key="" if fault else KEY) as server:
        model = {"key_env": "MY_KEY", "trace_content": content, "retries": 1}
        path = recipe(tmp_path / "r", server.url, model=model, report=True)
        done = zhiling("run", path, "-o", tmp_path / "out", "--workers", 1, env=ENV)
        assert (
            done.returncode == 0 if fault in ("", "echo-in-reply") else done.returncode in (1, 2) or fault == "echo-key"
        )
        assert sum(server.tries.values()) > 0  # the key was used
    said = done.stdout + done.stderr + zhiling("show", tmp_path / "out", env=ENV).stdout
    assert KEY not in said and KEY[3:] not in said
    found = everywhere(tmp_path)
    assert KEY.encode() not in found and KEY[3:].encode() not in found and b"events.jsonl" in found
    assert zhiling("cache", "export", tmp_path / "out", "-o", tmp_path / "o.jsonl").returncode in (0, 2)
    assert KEY.encode() not in everywhere(tmp_path)


def test_no_repr_shows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    model = open_model(
        {"provider": "openai", "model": "m", "base_url": "https://x.example/v1", "key_env": "MY_KEY"}, cache=None
    )
    shown = f"{model!r} {model.provider!r} {vars(model)!r} {vars(model.provider)!r}"
    assert KEY not in shown and "***" in shown


def test_a_key_written_where_its_variable_belongs_is_not_repeated(tmp_path: Path) -> None:
    """The commonest slip: the key itself as `key_env`. It is refused before the recipe is copied anywhere, and not said again."""
    path = recipe(tmp_path / "r", "https://x.example/v1", model={"key_env": KEY})
    for way in (["--plan"], ["-o", tmp_path / "out"]):
        done = zhiling("run", path, *way)
        assert done.returncode == 2 and KEY not in done.stdout + done.stderr
        assert "key_env" in done.stderr and "not the name of an environment variable" in done.stderr
    assert not (tmp_path / "out" / "recipe.yaml").exists()


def test_trace_lines_follow_the_conventions(tmp_path: Path) -> None:
    """Names and shapes as the generative-AI conventions of OpenTelemetry have them."""
    from zhiling.llm.trace import Trace
    from zhiling.types import Reply, Request, Usage

    async def note() -> None:
        trace = Trace(tmp_path / "t", "openai", "deepseek-chat@https://api.deepseek.com/v1", content=True)
        request = Request(
            messages=(("system", "短"), ("user", "x")), stop=("\n",), top_p=0.9, seed=3, schema={"type": "object"}
        )
        trace.call("k", request, Reply("好", finish="filter", usage=Usage(5, 1), usd=0.1), None, 0.5, 0)
        trace.close()
        for provider, identity in (
            ("gemini", "g@https://aiplatform.googleapis.com"),
            ("gguf", "smol#12"),
            ("openai", "m@http://127.0.0.1:8000/v1"),
        ):
            other = Trace(tmp_path / "t", provider, identity)
            other.call("k", request, None, None, 0.5, 0)
            other.close()

    import asyncio

    asyncio.run(note())
    first, vertex, local, server = (json.loads(line) for line in (tmp_path / "t").read_text().splitlines())
    expected = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "deepseek", "gen_ai.request.model": "deepseek-chat",
        "server.address": "api.deepseek.com", "server.port": 443, "gen_ai.request.top_p": 0.9, "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ["\n"], "gen_ai.output.type": "json", "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 1,
        "gen_ai.response.finish_reasons": ["content_filter"], "zhiling.input_bytes": 4,
        "gen_ai.input.messages": [
            {"role": "system", "parts": [{"type": "text", "content": "短"}]}, {"role": "user", "parts": [{"type": "text", "content": "x"}]},
        ],
        "gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "text", "content": "好"}], "finish_reason": "content_filter"}],
    }  # fmt: skip
    assert {key: first[key] for key in expected} == expected
    assert vertex["gen_ai.provider.name"] == "gcp.vertex_ai" and "gen_ai.input.messages" not in vertex
    assert local["gen_ai.provider.name"] == "gguf" and "server.address" not in local
    assert (server["gen_ai.provider.name"], server["server.address"], server["server.port"]) == (
        "openai",
        "127.0.0.1",
        8000,
    )
