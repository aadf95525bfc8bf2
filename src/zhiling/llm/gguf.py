"""A GGUF model in this process: llama.cpp's server without its sockets, many sequences decoded together.

The same request gives the same text, bit for bit, whether it is answered alone or among others. Three things make it so, each needed:
flash attention is off, because its blocks depend on what else is in the batch; one prompt at a time is read, within one step, because a
lone token takes another matrix kernel than several do; and no prompt starts from what an earlier request left in its slot. (Seen with
SmolLM2-135M Q4_1 at 8 sequences: without them 7 of 24 prompts changed their greedy text, with them none its log-probabilities.)
`exact: false` gives all three up for speed.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from zhiling.errors import ProviderError, missing, say
from zhiling.llm import embedded, plain
from zhiling.llm.gguf_file import Header, fingerprint, read_header
from zhiling.llm.machine import quiet_cores
from zhiling.llm.openai import read_answer
from zhiling.llm.pattern import compiled
from zhiling.llm.requantise import q8
from zhiling.registry import provider
from zhiling.text import cut
from zhiling.types import Reply, Request

SCORES = 2048 * 2048
"""Attention scores per head held at once, which without flash attention are memory: long contexts are read in smaller pieces."""


@provider("gguf")
def gguf(
    *,
    path: str = "embedded",
    context: Annotated[int, Ge(64)] = 2048,
    parallel: Annotated[int, Ge(1)] = 8,
    threads: Annotated[int, Ge(1)] | None = None,
    exact: bool = True,
) -> Gguf:
    """A GGUF file, by default the small English model that zhiling brings along.

    `context` is tokens per sequence, `parallel` how many sequences are decoded together, `threads` how many cores decode (default:
    the physical ones that are quiet now). `exact: false` gives up that a reply is the same bit for bit alone and in a crowd, and is faster
    by far where prompts begin alike (the reply cache still makes a rerun repeat): flash attention, prompts read together and from what
    a slot holds already, and for the embedded model weights in Q8_0 (made once, in seconds). The file is checked here and loaded at
    the first reply. Raises ProviderError when the file is missing, damaged or of another kind, RecipeError when the package xllamacpp
    is not installed.
    """
    from importlib.util import find_spec

    if find_spec("xllamacpp") is None:
        raise missing("xllamacpp")
    brought = path == "embedded"
    file = embedded.gguf_path() if brought else Path(path).expanduser()
    if brought and not exact and find_spec("gguf") is None:
        raise missing("gguf")
    return Gguf(file, read_header(file), context, parallel, threads, exact, requantised=brought and not exact)


class Gguf:
    """The model behind `provider: gguf`. Its threads and weights live until `close`, across event loops."""

    name = "gguf"
    can: frozenset[str] = frozenset({"chat", "complete", "schema", "choices", "regex", "logprobs", "seed"})

    def __init__(
        self,
        path: Path,
        header: Header,
        context: int,
        parallel: int,
        threads: int | None,
        exact: bool,
        requantised: bool = False,
    ) -> None:
        self.model = f"{path.stem}#{fingerprint(path)}" + ("" if exact else "+fast")
        self._exact, self._requantised = exact, requantised
        self.lanes = parallel
        self._path, self._context, self._threads = path, context, threads
        self._plain = not header.metadata.get("tokenizer.chat_template")
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(parallel):
            self._slots.put(slot)
        self._loading, self._reading = threading.Lock(), threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._server: Any = None

    def __repr__(self) -> str:
        return f"Gguf({self.model!r}, parallel={self.lanes})"

    async def reply(self, request: Request) -> Reply:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.lanes, "zhiling-gguf")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, request)

    async def close(self) -> None:
        """Wait for the replies under way and let go of threads and weights."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        self._server = None

    def _answer(self, request: Request) -> Reply:
        start = time.perf_counter()
        server = self._load()
        chat = request.prompt is None
        ask = server.handle_chat_completions if chat else server.handle_completions
        whole = self._body(request) | _limits(request) | {"max_tokens": request.max_tokens, "cache_prompt": True}
        try:
            answer = self._checked(self._exactly(ask, request, whole) if self._exact else ask(whole))
        except ProviderError:
            raise
        except (ValueError, RuntimeError) as error:
            raise self._error(str(error)) from error
        return read_answer(answer, self._path.stem, chat, time.perf_counter() - start)

    def _exactly(self, ask: Callable[[dict[str, Any]], Any], request: Request, whole: dict[str, Any]) -> Any:
        slot = self._slots.get()
        try:
            start = self._body(request) | {"id_slot": slot, "max_tokens": 0, "cache_prompt": False}
            with self._reading:  # one prompt at a time, from scratch, in one piece
                self._checked(ask(start))
            return ask(whole | {"id_slot": slot})
        finally:
            self._slots.put(slot)

    def _load(self) -> Any:
        with self._loading:
            if self._server is None:
                self._server = self._open()
            return self._server

    def _open(self) -> Any:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(q8(self._path) if self._requantised else self._path)
        params.n_parallel, params.n_ctx = self.lanes, self.lanes * self._context
        params.n_batch = self._context + self.lanes  # a whole prompt and everybody's next token in one step
        params.n_ubatch = min(params.n_batch, max(64, SCORES // self._context))
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads or quiet_cores()
        if self._exact:
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.slot_prompt_similarity = 0.0
        params.cache_ram_mib, params.cache_idle_slots = 0, False
        params.verbosity, params.warmup, params.ui = -1, False, False
        if self._plain:
            params.chat_template = plain.TEMPLATE
        try:
            return xllamacpp.Server(params)
        except (ValueError, RuntimeError) as error:
            en, zh = f"llama.cpp cannot load the model: {error}", f"llama.cpp 无法加载模型：{error}"
            raise ProviderError(say(en, zh), where=str(self._path), kind="model") from error

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"temperature": request.temperature, "top_p": request.top_p, "top_k": 0, "min_p": 0.0}
        body["seed"] = request.seed if request.seed is not None else request.draw
        if request.prompt is None:
            body["messages"] = [{"role": role, "content": content} for role, content in request.messages]
        else:
            body["prompt"] = request.prompt
        if stop := [*request.stop, *([plain.STOP] if self._plain and request.prompt is None else [])]:
            body["stop"] = stop
        return body

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if isinstance(answer, dict) and "choices" in answer:
            return answer
        error = answer.get("error", answer) if isinstance(answer, dict) else answer
        if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
            needed, have = error.get("n_prompt_tokens", "?"), error.get("n_ctx", self._context)
            raise ProviderError(
                say(
                    f"the prompt has {needed} tokens, the context {have}",
                    f"提示词有 {needed} 个 token，上下文只有 {have}",
                ),
                where=self.model,
                mend=say("raise context in the recipe or shorten the prompt", "请调大 context，或缩短提示词"),
                kind="refused",
            )
        raise self._error(str(error.get("message", error) if isinstance(error, dict) else error))

    def _error(self, said: str) -> ProviderError:
        en, zh = f"llama.cpp refused the request: {cut(said, 160)}", f"llama.cpp 拒绝了请求：{cut(said, 160)}"
        return ProviderError(say(en, zh), where=self.model, kind="refused")


def _limits(request: Request) -> dict[str, Any]:
    """What holds or reports the tokens generated: JSON schema, choices or a regex as a grammar, log-probabilities."""
    out: dict[str, Any] = {}
    if request.schema is not None:
        out["response_format"] = {"type": "json_schema", "json_schema": {"schema": dict(request.schema)}}
    elif request.regex:
        out["grammar"] = compiled(request.regex).grammar()
    elif request.choices:
        out["grammar"] = "root ::= " + " | ".join(_literal(choice) for choice in request.choices)
    if request.logprobs:
        out |= {"logprobs": True, "top_logprobs": 1} if request.prompt is None else {"logprobs": 1}
    return out


def _literal(text: str) -> str:
    """A text as a literal of llama.cpp's grammar language."""
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    )
    return f'"{escaped}"'
