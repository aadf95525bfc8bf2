"""Model calls: how close zhiling comes to a bare client, what 429s cost it, what memory a million prompts take, what batching gains.

    python benchmarks/llm.py [--quick] [--data DIR] [--json FILE] [--only wire,429,limited,million,local,estimate]

Every client runs in a process of its own against a server in another; times are those of the client's process.
* `wall_ratio_aiohttp`, `cpu_ratio_aiohttp`: 5,000 calls, 64 at once, 50 ms each: zhiling with cache and trace on disk, over a plain
  aiohttp client. Medians of interleaved runs. The openai SDK beside them, where it is installed.
  Curator and DataDesigner too, where their environments are there (`llm_rivals.py --make`); they are asked a fifth of the calls.
* `share_of_limit`: of the throughput that an endpoint with 16 places allows (refusing what exceeds them), how much zhiling reaches
  with 64 lanes that know nothing of it. Lowest of 3 runs.
* `ratio_429`: 1,000 such calls of which a random tenth is refused with 429 (no Retry-After), over the same without.
* `rss_mb_million`: peak memory of a run over a million prompts from a generator, server at 0 ms (--quick: 50,000).
* `local_parallel_speedup`: tokens per second of the embedded GGUF at 16 sequences over one, reading the prompts included, in the default
  mode, where replies are the same bit for bit alone and in a crowd; `..._fast`: the same with `exact: false`. `local_fast_over_exact`:
  `exact: false` over the default at 16 sequences; `..._shared_prompt`: on short answers to prompts that begin alike, as a judge's do, each
  mode at its better number of sequences (every sequence must read the common beginning once).
* `estimate_error`: how far the plan's cost is from the bill, as a share of the bill: recipes over real tasks (instruction induction)
  that let a model propose instructions and judge rows. The worst of two: the embedded GGUF in this process, which a plan may try, and the
  same model behind llama.cpp's HTTP server, of which the plan knows what the trace of a run on other tasks says. `estimate_error_cold`:
  that server when nothing was ever asked of it. Prices are made up, tokens are the model's own.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LANES, DELAY_MS = 64, 50.0
RIVALS, RIVAL_SECONDS = ("curator", "designer"), 240
ANSWER = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "model": "bench",
        "created": 0,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": "A reply of a dozen words or so, as a judge would give it.",
                },
            }
        ],
        "usage": {"prompt_tokens": 40, "completion_tokens": 14, "total_tokens": 54},
    }
).encode()


def prompt(i: int) -> str:
    return f"Prompt number {i}: say in one sentence whether this instruction is clear and why. Instruction: translate the sentence below."


# ---------------------------------------------------------------- the server: HTTP by hand, so that it leaves the machine to the client


class Wire(asyncio.Protocol):
    """Answers each POST after a delay, or at once with 429: at the given rate, and what exceeds `most` at once."""

    busy = 0

    def __init__(self, delay: float, refuse: float, dice: random.Random, most: int) -> None:
        self.delay, self.refuse, self.dice, self.most, self.buffer = delay, refuse, dice, most, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            at = self.buffer.lower().find(b"content-length:", 0, end)
            length = int(self.buffer[at + 15 : self.buffer.find(b"\r", at)]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            full = bool(self.most) and Wire.busy >= self.most
            refused = full or self.dice.random() < self.refuse
            status, body = (
                (b"429 Too Many Requests", b'{"error": {"message": "slow down"}}') if refused else (b"200 OK", ANSWER)
            )
            answer = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
                status,
                len(body),
                body,
            )
            if self.delay and not full:
                Wire.busy += 1
                asyncio.get_running_loop().call_later(self.delay, self.answer, answer)
            else:
                self.transport.write(answer)

    def answer(self, answer: bytes) -> None:
        Wire.busy -= 1
        self.transport.write(answer)


async def serve(delay_ms: float, refuse: float, most: int) -> None:
    dice = random.Random(7)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Wire(delay_ms / 1000, refuse, dice, most), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


# ---------------------------------------------------------------- the clients


async def plain_aiohttp(url: str, calls: int) -> None:
    import aiohttp

    todo = iter(range(calls))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=LANES)) as session:

        async def worker() -> None:
            for i in todo:
                body = {
                    "model": "bench",
                    "max_tokens": 64,
                    "temperature": 0,
                    "messages": [{"role": "user", "content": prompt(i)}],
                }
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    assert (await answer.json())["choices"][0]["message"]["content"]

        await asyncio.gather(*(worker() for _ in range(LANES)))


async def with_zhiling(url: str, calls: int) -> None:
    from zhiling.llm import open_model
    from zhiling.types import Reply, Request

    with tempfile.TemporaryDirectory() as folder:
        spec = {"provider": "openai", "model": "bench", "base_url": url, "lanes": LANES}
        model = open_model(spec, cache=Path(folder) / "replies.sqlite", trace=Path(folder) / "events.jsonl")
        requests = (Request(messages=(("user", prompt(i)),), max_tokens=64) for i in range(calls))
        answered = 0
        async with model:
            async for _, reply in model.map(requests):
                assert isinstance(reply, Reply), reply
                answered += 1
        assert answered == calls == model.spent.calls


async def openai_sdk(url: str, calls: int) -> None:
    import openai

    todo = iter(range(calls))
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def worker() -> None:
            for i in todo:
                answer = await client.chat.completions.create(
                    model="bench", max_tokens=64, temperature=0, messages=[{"role": "user", "content": prompt(i)}]
                )
                assert answer.choices[0].message.content

        await asyncio.gather(*(worker() for _ in range(LANES)))


CLIENTS = {"aiohttp": plain_aiohttp, "zhiling": with_zhiling, "openai": openai_sdk}


def run_client(name: str, url: str, calls: int) -> None:
    """In the client's process: run, and print what it took, imports not counted."""
    asyncio.run(CLIENTS[name](url, 1))
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    asyncio.run(CLIENTS[name](url, calls))
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        json.dumps(
            {
                "client": name,
                "calls": calls,
                "wall_s": round(wall, 3),
                "cpu_s": round(cpu, 3),
                "rss_mb": round(after.ru_maxrss / 1024, 1),
            }
        )
    )


# ---------------------------------------------------------------- what is measured


@contextmanager
def server(delay_ms: float = DELAY_MS, refuse: float = 0.0, most: int = 0) -> Iterator[str]:
    """A server in a process of its own."""
    shape = ["--delay-ms", str(delay_ms), "--refuse", str(refuse), "--most", str(most)]
    command = [sys.executable, __file__, "--serve", *shape]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def client(name: str, url: str, calls: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--client", name, "--url", url, "--calls", str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"client": name, "calls": calls, "error": (done.stderr.strip().splitlines() or ["failed"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rival(name: str, url: str, calls: int) -> dict[str, Any]:
    """One run of another data maker's client in its own environment, or the reason why there is none."""
    from llm_rivals import python

    if not python(name).exists():
        return {"client": name, "error": f"not installed: python benchmarks/llm_rivals.py --make {name}"}
    command = [str(python(name)), str(Path(__file__).with_name("llm_rivals.py")), name, url, str(calls)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RIVAL_SECONDS)
    except subprocess.TimeoutExpired:
        return {"client": name, "calls": calls, "error": f"not done within {RIVAL_SECONDS} s"}
    if done.returncode:
        return {"client": name, "calls": calls, "error": (done.stderr.strip().splitlines() or ["failed"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def wire(quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    calls, rounds = (2000, 3) if quick else (5000, 5)
    rows: list[dict[str, Any]] = []
    with server() as url:
        for _ in range(rounds):
            rows += [{"what": "wire", **client(name, url, calls)} for name in ("aiohttp", "zhiling")]
        rows.append({"what": "wire", **client("openai", url, calls // 5)})
        rows += [{"what": "wire", **rival(name, url, calls // 5)} for name in RIVALS]

    def middle(name: str, field: str) -> float:
        return statistics.median(row[field] for row in rows if row["client"] == name and "error" not in row)

    figures = {
        "wall_ratio_aiohttp": middle("zhiling", "wall_s") / middle("aiohttp", "wall_s"),
        "cpu_ratio_aiohttp": middle("zhiling", "cpu_s") / middle("aiohttp", "cpu_s"),
    }
    return figures, rows


def refusals(quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for _ in range(3 if quick else 5):
        for refuse in (0.0, 0.1):
            with server(refuse=refuse) as url:
                rows.append({"what": f"{refuse:.0%} of 429", **client("zhiling", url, 1000)})
    with server(refuse=0.1) as url:
        rows += [{"what": "10% of 429, others", **rival(name, url, 1000)} for name in RIVALS]
    walls = [
        statistics.median(row["wall_s"] for row in rows if row["what"] == what) for what in ("0% of 429", "10% of 429")
    ]
    return {"ratio_429": walls[1] / walls[0]}, rows


def limited(quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    most, calls, rows = 16, 1000 if quick else 3000, list[dict[str, Any]]()
    for _ in range(3):
        with server(most=most) as url:
            rows.append({"what": f"{most} places", **client("zhiling", url, calls)})
    best = calls * DELAY_MS / 1000 / most
    return {"share_of_limit": min(best / row["wall_s"] for row in rows)}, rows


def million(quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    calls = 50_000 if quick else 1_000_000
    with server(delay_ms=0) as url:
        row = {"what": "memory" + (" (50,000 prompts only: --quick)" if quick else ""), **client("zhiling", url, calls)}
    return {"rss_mb_million": row["rss_mb"]}, [row]


RUBRIC = (
    "Read the instruction below as a strict judge and answer with one word, good or bad. Consider whether it is clear and complete, whether "
    "a model could follow it without guessing what its writer meant, and whether its input belongs to it. Ignore spelling and length. "
) * 2


def local(quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    count = 16 if quick else 48
    rows = [
        asyncio.run(_local(parallel, count, exact, prompt, tokens))
        for prompt, tokens in (("", 48), (RUBRIC, 8))
        for exact in (True, False)
        for parallel in (1, 16)
    ]
    one, many, fast_one, fast_many, *judged = (row["tokens_per_s"] for row in rows)
    figures = {
        "local_parallel_speedup": many / one,
        "local_parallel_speedup_fast": fast_many / fast_one,
        "local_fast_over_exact": fast_many / many,
        "local_fast_over_exact_shared_prompt": max(judged[2:]) / max(judged[:2]),
    }
    return figures, rows


async def _local(parallel: int, count: int, exact: bool, shared: str, tokens: int) -> dict[str, Any]:
    from zhiling.llm import open_model
    from zhiling.llm.machine import quiet_cores
    from zhiling.types import Reply, Request

    threads = quiet_cores()
    spec = {"provider": "gguf", "parallel": parallel, "context": 512, "threads": threads, "exact": exact}
    model = open_model(spec, cache=None)
    requests = [
        Request(
            messages=(("user", f"{shared}Write a sentence about the number {i}."),),
            max_tokens=tokens,
            temperature=1.0,
            seed=i,
        )
        for i in range(count)
    ]
    async with model:
        await model.ask(Request(messages=(("user", "Hello."),), max_tokens=2))
        start = time.perf_counter()
        replies = [reply for reply in await model.ask_all(requests) if isinstance(reply, Reply)]
        wall = time.perf_counter() - start
    written = sum(reply.usage.completion or 0 for reply in replies)
    kind = f"{'exact' if exact else 'fast'}, {'prompts that begin alike' if shared else 'short prompts'}"
    return {
        "what": f"gguf, {parallel} sequences, {threads} threads, {kind}",
        "calls": count,
        "wall_s": round(wall, 2),
        "tokens_per_s": round(written / wall, 1),
    }


# ---------------------------------------------------------------- the plan against the bill

PRICE = {"prompt": 0.15, "completion": 0.6}
LLAMA = """
import sys, threading, xllamacpp
from zhiling.llm import embedded
from zhiling.llm.machine import quiet_cores
params = xllamacpp.CommonParams()
params.model.path = str(embedded.gguf_path())
params.n_parallel, params.n_ctx = 4, 4 * 2048
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = quiet_cores()
params.verbosity, params.warmup, params.ui = -1, False, False
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
threading.Event().wait()
"""


def estimates(quick: bool, data: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    from zhiling import registry

    registry.scorer("bench_judge", low=0, high=1, better="high")(_judge)
    with gzip.open(data / "06_instruction_induction" / "tasks.jsonl.gz", "rt", encoding="utf-8") as lines:
        tasks = [json.loads(line) for line in lines]
    half = 2 if quick else len(tasks) // 2
    first, second = tasks[:half], tasks[-half:]
    with tempfile.TemporaryDirectory() as folder, _llama() as url:
        top, remote = Path(folder), {"provider": "openai", "model": "smollm2", "base_url": url, "lanes": 4}
        rows = [
            _compared("gguf in this process, nothing known", top / "local" / "a", first, {"provider": "gguf"}),
            _compared("llama.cpp's server, nothing known", top / "remote" / "a", first, remote),
            _compared("llama.cpp's server, after a run on other tasks", top / "remote" / "b", second, remote),
        ]
    local, cold, known = (row["error"] for row in rows)
    return {"estimate_error": max(local, known), "estimate_error_cold": cold}, rows


async def _judge(examples: Any, *, model: Any) -> Any:
    """A question in words about each row, as a judge would put it."""
    from zhiling.types import Reply, Request, Score

    text = "Is this answer right? Say why in one sentence.\nQuestion: {}\nAnswer: {}"
    asked = [Request(messages=(("user", text.format(row.prompt, row.output)),), max_tokens=48) for row in examples]
    for row, reply in zip(examples, await model.ask_all(asked), strict=True):
        yield Score(row.id, "bench_judge", None if isinstance(reply, Reply) else 0.0, "")


def _compared(what: str, out: Path, tasks: list[dict[str, Any]], model: dict[str, Any]) -> dict[str, Any]:
    """Plan a run, do it, and compare what was foreseen with what was counted."""
    from zhiling.plan import estimate
    from zhiling.recipe import build
    from zhiling.run import Run

    here = out.parent / f"{out.name}-recipe"
    here.mkdir(parents=True)
    named: dict[str, Any] = {}
    for task in tasks:
        rows = [{"input": row["input"], "output": row["output"]} for row in task["induce"][:12]]
        (here / f"{task['task']}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        named[task["task"]] = {
            "description": task["annotations"]["annotations"][0],
            "demos": rows[:2],
            "data": f"{task['task']}.jsonl",
        }
    generate = {"candidates": 9, "keep": 1, "weights": {"relevance": 1.0}, "floor": 0.0}
    recipe = build(
        {
            "tasks": named,
            "models": {"m": {**model, "price": PRICE}},
            "construct": [{"generate": generate}],
            "score": ["bench_judge"],
        },
        here,
    )
    planned = estimate(recipe, out)[-1]
    with Run(recipe, out, workers=1, until="score") as run:
        spent = run.execute().spent["m"]
    tokens = spent["prompt_tokens"] + spent["completion_tokens"]
    figures = {
        "planned_calls": planned["calls"],
        "calls": spent["calls"],
        "planned_tokens": planned["tokens"],
        "tokens": tokens,
    }
    money = {"planned_usd": round(planned["usd"], 6), "usd": round(spent["usd"], 6)}
    parts = {key: (planned[key], spent[key]) for key in ("prompt_tokens", "completion_tokens")}
    return {
        "what": what,
        **figures,
        **parts,
        **money,
        "error": round(abs(planned["usd"] - spent["usd"]) / spent["usd"], 3),
    }


@contextmanager
def _llama() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", LLAMA], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip() + "/v1"
        finally:
            process.kill()


PARTS = {"wire": wire, "429": refusals, "limited": limited, "million": million, "local": local}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared, help="shared data; only the part `estimate` needs it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a small size")
    parser.add_argument(
        "--only", default=",".join([*PARTS, "estimate"]), help="parts to run: " + ", ".join([*PARTS, "estimate"])
    )
    for hidden in ("--serve", "--client", "--url", "--calls", "--delay-ms", "--refuse", "--most"):
        parser.add_argument(hidden, help=argparse.SUPPRESS, **({"action": "store_true"} if hidden == "--serve" else {}))
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(float(options.delay_ms), float(options.refuse), int(options.most or 0)))
        return
    if options.client:
        run_client(options.client, options.url, int(options.calls))
        return
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for name in options.only.split(","):
        found, part = estimates(options.quick, options.data) if name == "estimate" else PARTS[name](options.quick)
        figures |= {key: round(value, 3) for key, value in found.items()}
        rows += part
        for row in part:
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    print()
    for key, value in figures.items():
        print(f"{key:<24} {value}")
    if options.json:
        machine = (
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        options.json.write_text(
            json.dumps({"name": "llm", "machine": machine, "figures": figures, "rows": rows}, indent=1),
            encoding="utf-8",
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
