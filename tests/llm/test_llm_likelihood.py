"""Scoring given texts and ranking choices: as torch has it, asked once, kept, traced and counted like replies."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from zhiling.errors import ProviderError
from zhiling.llm import Model, ReplyCache, open_model
from zhiling.llm.trace import Trace
from zhiling.score.clarity import clarity
from zhiling.types import Example, Reply, Request, Score

CHAT = Request(messages=(("user", "Is the review positive or negative? It was good."),))


class Judge:
    """Scores a text by its words' lengths, and counts what it is asked."""

    name, model, lanes = "fake", "judge#1", 4
    can = frozenset({"chat", "complete", "score"})

    def __init__(self) -> None:
        self.asked: list[tuple[Request, str]] = []

    async def reply(self, request: Request) -> Reply:
        raise AssertionError("nothing is to be generated")

    async def score(self, request: Request, continuation: str) -> list[float]:
        self.asked.append((request, continuation))
        await asyncio.sleep(0.001)
        return [-0.1 * len(word) for word in continuation.split()]

    async def close(self) -> None:
        pass


def test_a_score_is_asked_once_and_comes_from_the_cache_bit_for_bit(tmp_path: Path) -> None:
    judge = Judge()

    async def main() -> tuple[list[float], list[float], list[list[float]]]:
        async with Model(judge, ReplyCache(tmp_path / "c")) as model:
            first = await model.score(CHAT, "a lot of words")
            again = await model.score(CHAT, "a lot of words")
            both = await asyncio.gather(*(model.score(CHAT, "under way") for _ in range(5)))
            assert (model.spent.calls, model.spent.cached) == (2, 5)
            return first, again, both

    first, again, both = asyncio.run(main())
    assert first == again == [-0.1 * n for n in (1, 3, 2, 5)] and len({tuple(one) for one in both}) == 1
    assert len(judge.asked) == 2

    async def rerun() -> None:
        async with Model(judge, ReplyCache(tmp_path / "c")) as model:
            assert await model.score(CHAT, "a lot of words") == first
            assert await model.score(CHAT, "") == [] == await model.score(CHAT, "")

    asyncio.run(rerun())
    assert len(judge.asked) == 3  # the empty one, once


def test_what_does_not_bear_on_a_score_is_no_part_of_its_key(tmp_path: Path) -> None:
    judge = Judge()

    async def main() -> None:
        async with Model(judge, ReplyCache(tmp_path / "c")) as model:
            for request in (
                CHAT,
                Request(CHAT.messages, max_tokens=7, temperature=1.0, seed=3, draw=2, logprobs=True, stop=("x",)),
                Request(prompt="Is it?"),
                Request(prompt=""),
            ):
                await model.score(request, "yes")
            await model.score(CHAT, "no")

    asyncio.run(main())
    assert len(judge.asked) == 4
    assert all(request.continuation == text for request, text in judge.asked)


def test_keys_of_requests_without_the_new_fields_are_the_old_ones() -> None:
    plain = Request(prompt="x")
    assert plain.key("m") == "710ddf5c4e986e656bd8"
    full = Request(
        messages=(("user", "你好"),), max_tokens=9, temperature=0.5, top_p=0.9, stop=("a",), seed=3, schema={"type": "object"},
        choices=("a", "b"), logprobs=True, draw=2,
    )  # fmt: skip
    assert full.key("gpt@http://x") == "c908cf1489290cf7104a"
    others = [
        Request(prompt="x", regex="a"),
        Request(prompt="x", continuation="a"),
        Request(prompt="x", continuation=""),
    ]
    assert len({plain.key("m"), *(one.key("m") for one in others)}) == 4


def test_choices_are_ranked_by_text_token_or_byte() -> None:
    async def main(per: str) -> list[float]:
        return await Model(Judge()).rank(CHAT, ["bad", "very good", "好", ""], per=per)  # type: ignore[arg-type]

    text, token, byte = (asyncio.run(main(per)) for per in ("text", "token", "byte"))
    assert text == pytest.approx([-0.3, -0.8, -0.1, -math.inf])
    assert token == pytest.approx([-0.3, -0.4, -0.1, -math.inf])
    assert byte == pytest.approx([-0.1, -0.8 / 9, -0.1 / 3, -math.inf])


def test_scores_are_traced_and_counted_against_the_budget(tmp_path: Path) -> None:
    judge = Judge()

    async def main() -> None:
        trace = Trace(tmp_path / "events.jsonl", "fake", "judge#1")
        async with Model(judge, budget={"calls": 3}, trace=trace) as model:
            await model.rank(CHAT, ["a", "b", "c"])
            with pytest.raises(ProviderError, match="budget"):
                await model.score(CHAT, "d")

    asyncio.run(main())
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["gen_ai.operation.name"] for line in lines] == ["score"] * 3 and len(judge.asked) == 3


def test_scores_stream_like_replies() -> None:
    async def main() -> dict[int, list[float]]:
        requests = (Request(prompt="x", continuation="w" * (i + 1)) for i in range(50))
        found = {}
        async for index, reply in Model(Judge()).map(requests, window=8):
            assert isinstance(reply, Reply)
            found[index] = [value for _, value in reply.logprobs]
        return found

    assert asyncio.run(main()) == {i: [-0.1 * (i + 1)] for i in range(50)}


def test_a_model_that_cannot_score_says_so_before_it_is_asked() -> None:
    model = open_model({"provider": "fake", "without": ["score"]}, cache=None)
    with pytest.raises(ProviderError, match="cannot do 'score'") as caught:
        asyncio.run(model.score(CHAT, "x"))
    assert caught.value.kind == "capability" and model.spent.calls == 0


def test_clarity_scores_an_instruction_once_for_all_runs(tmp_path: Path) -> None:
    rows = [Example("t", f"Translate the sentence number {i % 3} please") for i in range(9)]
    judge = Judge()

    async def main() -> list[Score]:
        async with Model(judge, ReplyCache(tmp_path / "c")) as model:
            return [score async for score in clarity(rows, model=model)]

    first, again = asyncio.run(main()), asyncio.run(main())
    assert first == again and len(judge.asked) == 3 and all(score.value is not None for score in first)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from zhiling.llm import Model, ReplyCache
from zhiling.types import Request

class Judge:
    name, model, lanes = "fake", "judge#2", 8
    can = frozenset({"complete", "score"})
    async def score(self, request, continuation):
        with open(sys.argv[2], "a") as log:
            log.write(continuation + "\\n")
        return [-1.5 * int(continuation)]
    async def reply(self, request): ...
    async def close(self): ...

async def main():
    model = Model(Judge(), ReplyCache(sys.argv[1]))
    done = 0
    async def one(i):
        nonlocal done
        assert await model.score(Request(prompt="p"), str(i)) == [-1.5 * i]
        print(i, flush=True)
        done += 1
        if done == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.gather(*(one(i) for i in range(1, 201)))
    await model.close()
asyncio.run(main())
"""


def test_after_a_sigkill_no_score_that_was_seen_is_asked_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    seen: set[str] = set()
    for stop in (30, 60, 1000):
        before = log.read_text().splitlines() if log.exists() else []
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "c"), str(log), str(stop)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        assert run.returncode == (-signal.SIGKILL if stop < 1000 else 0)
        asked = log.read_text().splitlines()[len(before) :]
        assert not seen & set(asked)
        seen |= set(run.stdout.split())
    assert seen == {str(i) for i in range(1, 201)}


@pytest.mark.model
def test_the_embedded_models_ranking_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from zhiling.llm import embedded

    request = Request(prompt="The capital of France is")
    choices = [" London", " Paris", " a large kettle"]

    async def main() -> tuple[list[float], list[float]]:
        async with open_model({"provider": "transformers", "threads": 1, "device": "cpu"}, cache=None) as model:
            return await model.rank(request, choices), await model.rank(request, choices, per="token")

    whole, mean = asyncio.run(main())
    tokenizer = transformers.AutoTokenizer.from_pretrained(embedded.folder())
    plain = transformers.AutoModelForCausalLM.from_pretrained(embedded.folder(), dtype=torch.float32).eval()
    context = tokenizer(request.prompt)["input_ids"]
    for choice, total, each in zip(choices, whole, mean, strict=True):
        ids = tokenizer(choice, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            table = plain(torch.tensor([[*context, *ids]])).logits[0].log_softmax(-1)
        expected = sum(float(table[len(context) - 1 + i, token]) for i, token in enumerate(ids))
        assert total == pytest.approx(expected, abs=1e-3) and each == pytest.approx(expected / len(ids), abs=1e-3)
    assert max(whole) == whole[1]


@pytest.mark.model
def test_a_beginning_that_prompts_share_is_read_once_and_changes_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from zhiling.llm import decode

    said = "Write the word that means the same as the word below, and write nothing else."
    pairs = [(Request(messages=(("user", f"{said}\n\n{word}"),)), twin) for word, twin in WORDS]
    read: list[int] = []
    once = decode._read_once

    def noted(model: object, ids: object) -> tuple[int, object]:
        found = once(model, ids)
        read.append(found[0])
        return found

    async def main() -> list[list[float]]:
        async with open_model({"provider": "transformers", "threads": 1, "device": "cpu"}, cache=None) as model:
            return list(await asyncio.gather(*(model.score(request, twin) for request, twin in pairs)))

    monkeypatch.setattr(decode, "_read_once", noted)
    together = asyncio.run(main())
    monkeypatch.setattr(decode, "SHARED", 1 << 30)
    alone = asyncio.run(main())
    assert min(read[: len(read) // 2]) > 16 and read[len(read) // 2 :] == [0] * (len(read) // 2)
    assert [len(row) for row in together] == [len(row) for row in alone]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.model
def test_labels_alike_but_for_the_last_token_are_read_once() -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from zhiling.llm import decode
    from zhiling.llm.embedded import folder

    model = AutoModelForCausalLM.from_pretrained(folder()).eval().requires_grad_(False)
    read: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].shape[0]), with_kwargs=True
    )
    context, other = [1, 4093, 198, 3725], [1, 253, 7, 9]
    rows = [(context, [100]), (context, [200]), (context, [5, 6, 7]), (context, [5, 6, 8]), (other, [100]), (other, [])]
    found = decode.score(model, rows, pad=0)
    hook.remove()
    assert read == [3]  # the first two, the second two, and the other prompt
    for (before, after), values in zip(rows, found, strict=True):
        table = model(torch.tensor([[*before, *after]])).logits[0].log_softmax(-1)
        expected = [float(table[len(before) - 1 + at, token]) for at, token in enumerate(after)]
        assert values == pytest.approx(expected, abs=1e-3)


WORDS = (("large", "big"), ("to be very tired", "exhausted"), ("glad", "in good spirits"), ("quick", "fast"))
