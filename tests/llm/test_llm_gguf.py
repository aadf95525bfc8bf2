"""GGUF in this process and behind llama.cpp's own server; files that are broken are said so before llama.cpp sees them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zhiling import registry
from zhiling.errors import ProviderError, RecipeError
from zhiling.llm import Model, embedded, open_model
from zhiling.llm.gguf import Gguf, _literal
from zhiling.llm.gguf_file import BLOCKS, fingerprint, read_header
from zhiling.types import Reply, Request

pytest.importorskip("xllamacpp")
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def make(**settings: Any) -> Gguf:
    plugin = registry.get("provider", "gguf")
    provider = plugin.fn(**registry.settle(plugin, settings))
    assert isinstance(provider, Gguf)
    return provider


def say(text: str, **parameters: Any) -> Request:
    return Request(messages=(("user", text),), **{"max_tokens": 16, **parameters})


# ---------------------------------------------------------------- the file, without loading it


def tiny_gguf(cut: int = 0, magic: bytes = b"GGUF", version: int = 3, offset: int = 0) -> bytes:
    """A GGUF file of one F32 tensor of 64 weights."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = magic + struct.pack("<IQQ", version, 1, 2)
    head += text("general.name") + struct.pack("<I", 8) + text("tiny")
    head += text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    head += text("weight") + struct.pack("<IQIQ", 1, 64, 0, offset)
    head += b"\0" * (-len(head) % 32)
    whole = head + b"\0" * 256
    return whole[: len(whole) - cut]


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_gguf())
    header = read_header(path)
    assert header.metadata["general.name"] == "tiny" and header.tensors == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tiny_gguf(cut=1), "damaged or cut off"),
        (tiny_gguf(cut=200), "damaged or cut off"),
        (tiny_gguf(cut=300), "damaged or cut off"),
        (tiny_gguf(offset=4096), "damaged or cut off"),
        (tiny_gguf(version=99), "GGUF version 99"),
        (tiny_gguf(magic=b"ggml"), "not a GGUF file"),
        (b"PK\x03\x04 a zip", "not a GGUF file"),
        (b"", "not a GGUF file"),
        (b"GGUF", "damaged or cut off"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), "damaged or cut off"),
        (b"GGUF" + b"\xff" * 100, "GGUF version"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ProviderError, match=said) as caught:
        make(path=str(path))
    assert caught.value.kind == "model" and str(caught.value).startswith(str(path))


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ProviderError, match="cannot be read"):
            make(path=str(path))


def test_every_cut_of_a_header_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    whole = tiny_gguf()
    for keep in range(4, len(whole)):
        path.write_bytes(whole[:keep])
        with pytest.raises(ProviderError):
            read_header(path)


def test_the_sizes_of_blocks_are_ggufs() -> None:
    constants = pytest.importorskip("gguf.constants")
    sizes = {int(kind): tuple(size) for kind, size in constants.GGML_QUANT_SIZES.items() if int(kind) != 9}
    assert {kind: BLOCKS[kind] for kind in sizes if kind in BLOCKS} == {
        kind: size for kind, size in sizes.items() if kind in BLOCKS
    }
    assert len(BLOCKS) >= 30


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(tiny_gguf())
    other.write_bytes(tiny_gguf()[:-1] + b"\1")
    assert fingerprint(path) != fingerprint(other) and fingerprint(path) == fingerprint(path)


def test_choices_become_a_grammars_literals() -> None:
    assert _literal('say "no"\\\n') == '"say \\"no\\"\\\\\\n"'


def test_a_missing_package_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'zhiling\[local\]'"):
        make()


# ---------------------------------------------------------------- the embedded model


@pytest.fixture(scope="module")
def provider() -> Iterator[Gguf]:
    made = make(parallel=8, context=1024, threads=1)
    yield made
    asyncio.run(made.close())


def cut_in_half(tmp_path: Path) -> Path:
    half = tmp_path / "half.gguf"
    with embedded.gguf_path().open("rb") as whole:
        half.write_bytes(whole.read(embedded.gguf_path().stat().st_size // 2))
    return half


@pytest.mark.model
def test_half_a_model_is_refused_before_llama_cpp_sees_it(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"half\.gguf: the GGUF file is damaged or cut off"):
        open_model({"provider": "gguf", "path": str(cut_in_half(tmp_path))}, cache=None)


@pytest.mark.model
def test_chat_complete_logprobs_stop_and_usage(provider: Gguf) -> None:
    async def main() -> list[Reply]:
        return [
            await provider.reply(say("Name a colour.")),
            await provider.reply(Request(prompt="The capital of France is", max_tokens=4, logprobs=True)),
            await provider.reply(Request(prompt="1, 2, 3, 4,", max_tokens=30, stop=(" 7",))),
        ]

    chat, complete, stopped = asyncio.run(main())
    assert (
        chat.text
        and chat.finish in ("stop", "length")
        and chat.usage.completion is not None
        and chat.usage.completion <= 16
    )
    assert complete.text.startswith(" Paris") and complete.finish == "length" and len(complete.logprobs) == 4
    assert all(value <= 0 for _, value in complete.logprobs) and complete.logprobs[0][0] == " Paris"
    assert stopped.text == " 5, 6," and stopped.finish == "stop"


@pytest.mark.model
def test_schema_and_choices_are_held_to_while_decoding(provider: Gguf) -> None:
    async def main() -> tuple[list[Reply | ProviderError], Reply]:
        model = Model(provider)
        people = [
            say(f"Describe person {i} as JSON.", schema=PERSON, max_tokens=60, temperature=1.0, seed=i)
            for i in range(6)
        ]
        return await model.ask_all(people), await model.ask(
            say("这条评论是正面还是负面？很好吃！", choices=("正面", "负面"))
        )

    people, chosen = asyncio.run(main())
    for person in people:
        if isinstance(person, Reply):
            assert json.loads(person.text).keys() == {"name", "age"} and not person.repaired
        else:
            assert "cut off" in str(person)  # a name without end
    assert sum(isinstance(person, Reply) for person in people) >= 4
    assert chosen.text in ("正面", "负面") and not chosen.repaired


@pytest.mark.model
def test_a_prompt_beyond_the_context_is_its_rows_trouble_only(provider: Gguf) -> None:
    replies = asyncio.run(Model(provider).ask_all([say("Hello."), say("word " * 3000), say("Bye.")]))
    assert isinstance(replies[0], Reply) and isinstance(replies[2], Reply)
    assert (
        isinstance(replies[1], ProviderError) and replies[1].kind == "refused" and "the context 1024" in str(replies[1])
    )


@pytest.mark.model
def test_the_same_request_gives_the_same_bits_alone_and_in_a_crowd(provider: Gguf, shared: Path) -> None:
    import gzip

    with gzip.open(shared / "05_natural_instructions" / "tasks.jsonl.gz", "rt", encoding="utf-8") as lines:
        tasks = [json.loads(line) for _, line in zip(range(6), lines, strict=False)]
    prompts = [
        f"{task['Definition']}"[:300] + f"\n\n{one['input'][:300]}" for task in tasks for one in task["Instances"][:1]
    ]
    requests = [
        say(prompt, temperature=float(i % 2), seed=i, logprobs=True, max_tokens=12) for i, prompt in enumerate(prompts)
    ]
    order = list(range(len(requests)))
    random.Random(3).shuffle(order)

    async def main() -> tuple[list[Reply], list[Reply]]:
        alone = [await provider.reply(request) for request in requests]
        crowd = await asyncio.gather(*(provider.reply(requests[i]) for i in order))
        return alone, [reply for _, reply in sorted(zip(order, crowd, strict=True), key=lambda pair: pair[0])]

    alone, crowd = asyncio.run(main())
    assert [(reply.text, reply.logprobs) for reply in alone] == [(reply.text, reply.logprobs) for reply in crowd]


@pytest.mark.model
def test_it_may_be_closed_and_asked_again_in_another_event_loop() -> None:
    made = make(parallel=2, context=256, threads=1)
    texts = []
    for _ in range(2):
        texts.append(asyncio.run(made.reply(say("Name a colour."))).text)
        asyncio.run(made.close())
    assert texts[0] == texts[1]


# ---------------------------------------------------------------- llama.cpp's own server, spoken to as any endpoint

SERVER = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_parallel, params.n_ctx = 4, 4 * 512
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.verbosity, params.warmup, params.ui = -1, False, False
params.api_keys = ["sk-local0123456789"]
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    command = [sys.executable, "-c", SERVER, str(embedded.gguf_path())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip() + "/v1"
        process.kill()


@pytest.mark.model
def test_a_real_server_chats_completes_holds_to_schemas_and_answers_in_parallel(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLAMA_KEY", "sk-local0123456789")
    spec = {"provider": "openai", "model": "smollm2", "base_url": endpoint, "key_env": "LLAMA_KEY", "lanes": 4}

    async def main() -> None:
        async with open_model(spec, cache=tmp_path / "c", trace=tmp_path / "events.jsonl") as model:
            chat = await model.ask(say("Name a colour.", logprobs=True))
            assert chat.text and chat.usage.prompt and len(chat.logprobs) == chat.usage.completion and chat.usd == 0.0
            complete = await model.ask(Request(prompt="The capital of France is", max_tokens=4, logprobs=True))
            assert complete.text.startswith(" Paris") and complete.logprobs[0][0] == " Paris"
            person = await model.ask(
                say("Describe a person named Ada, aged 36, as JSON.", schema=PERSON, max_tokens=60)
            )
            assert json.loads(person.text).keys() == {"name", "age"} and not person.repaired
            replies = await model.ask_all([say(f"Write the number {i}.", max_tokens=8) for i in range(12)])
            assert all(isinstance(reply, Reply) and reply.text for reply in replies)
            (long,) = await model.ask_all([say("word " * 2000)])
            assert isinstance(long, ProviderError) and long.kind == "refused" and "context" in str(long)

    asyncio.run(main())
    assert b"sk-local" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.model
def test_a_real_server_decodes_within_a_regex(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_KEY", "sk-local0123456789")
    spec = {
        "provider": "openai",
        "model": "smollm2",
        "base_url": endpoint,
        "key_env": "LLAMA_KEY",
        "regex_as": "grammar",
    }

    async def main() -> Reply:
        async with open_model(spec, cache=None) as model:
            return await model.ask(say("When was it?", regex=r"(星期|day )\d{2}-\d{2}", temperature=1.0, seed=2))

    reply = asyncio.run(main())
    assert re.fullmatch(r"(星期|day )\d{2}-\d{2}", reply.text) and not reply.repaired


@pytest.mark.model
def test_a_real_server_refuses_a_wrong_key_with_one_clear_line(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_KEY", "sk-wrong0123456789")
    spec = {"provider": "openai", "model": "smollm2", "base_url": endpoint, "key_env": "LLAMA_KEY"}
    with pytest.raises(ProviderError, match="refused the key.*LLAMA_KEY") as caught:
        asyncio.run(open_model(spec, cache=None).ask_all([say(str(i)) for i in range(1000)]))
    assert caught.value.kind == "auth" and "sk-wrong" not in str(caught.value)


@pytest.mark.model
def test_it_is_silent(tmp_path: Path) -> None:
    code = """
import asyncio
from zhiling.llm import open_model
from zhiling.types import Request
async def main():
    async with open_model({"provider": "gguf", "parallel": 1, "context": 256, "threads": 1}, cache=None) as model:
        return (await model.ask(Request(messages=(("user", "Hi"),), max_tokens=4))).text
print(len(asyncio.run(main())) > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


# ---------------------------------------------------------------- exact: false


@pytest.mark.model
def test_the_fast_mode_answers_holds_to_its_forms_and_has_an_identity_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setenv("ZHILING_CACHE", str(tmp_path))
    fast = make(parallel=4, context=256, threads=1, exact=False)
    assert fast.model == f"{make().model}+fast"  # no reply of one is taken for the other's
    requests = [say(f"Write a sentence about the number {i}.") for i in range(8)]

    async def main() -> list[Reply | ProviderError]:
        async with Model(fast) as model:
            found = await model.ask_all(requests)
            found.append(await model.ask(say("Is 'superb' praise?", choices=("yes", "no"))))
            return found

    *replies, chosen = asyncio.run(main())
    assert all(isinstance(reply, Reply) and reply.text and reply.usage.completion for reply in replies)
    assert isinstance(chosen, Reply) and chosen.text in ("yes", "no") and not chosen.repaired
    (file,) = (tmp_path / "models").iterdir()  # whole, nothing half made beside it
    header = read_header(file)
    assert header.tensors == read_header(embedded.gguf_path()).tensors
    assert header.metadata["tokenizer.chat_template"]


@pytest.mark.model
def test_requantised_weights_are_almost_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf")
    import numpy as np
    from gguf.quants import dequantize

    from zhiling.llm.requantise import q8

    monkeypatch.setenv("ZHILING_CACHE", str(tmp_path))
    source, target = gguf.GGUFReader(embedded.gguf_path()), gguf.GGUFReader(q8(embedded.gguf_path()))
    for a, b in list(zip(source.tensors, target.tensors, strict=True))[:12]:
        x, y = dequantize(a.data, a.tensor_type), dequantize(b.data, b.tensor_type)
        assert a.name == b.name and float(np.abs(x - y).max()) <= float(np.abs(x).max()) / 127


@pytest.mark.model
def test_the_fast_mode_without_its_package_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "gguf" else real(name))
    with pytest.raises(RecipeError, match=r"'gguf' is not installed"):
        make(exact=False)
