"""A model of the transformers library in this process: chat or base, from a folder or by its hub name, with an adapter if wanted.

Concurrent requests are gathered into batches of like length. In fp32 a greedy reply is the one a plain `generate` call gives; batching
changes matrix shapes and with them the last bits of the logits, so two tokens of almost equal probability may swap.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Ge

from zhiling.errors import EngineError, ProviderError, ZhilingError, missing, say
from zhiling.llm import embedded, weights
from zhiling.llm.batch import Batcher
from zhiling.llm.decode import Row, generate, score
from zhiling.llm.gguf_file import fingerprint
from zhiling.llm.weights import Device, Dtype, Weights
from zhiling.registry import provider
from zhiling.text import cut
from zhiling.types import Reply, Request, Usage

Item = TypeVar("Item")
Result = TypeVar("Result")
_hub_name = re.compile(r"[\w.-]+(/[\w.-]+)?")


@provider("transformers")
def transformers(
    *,
    model: str = "embedded",
    adapter: str | None = None,
    batch: Annotated[int, Ge(1)] = 16,
    threads: Annotated[int, Ge(1)] | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: str = "main",
    trust_remote_code: bool = False,
) -> Transformers:
    """A causal language model: "embedded", a folder with safetensors, or a hub name (then `revision` pins it).

    `adapter` is a PEFT adapter's folder, merged when loaded. `batch` rows are decoded at once, `threads` cores used (default: the
    physical ones that are quiet now). Device and dtype by default: a GPU in bf16 where there is one, else the CPU in fp32. What can be
    known without loading is checked here; the weights are loaded at the first reply. `trust_remote_code` is there to be refused.
    Raises ProviderError for a folder that is no model or an encoder, has no tokenizer, pickled weights only, or code of its own, for an
    adapter of another architecture, and for a device that is not here.
    """
    from importlib.util import find_spec

    for package in ("torch", "transformers", *(["peft"] if adapter else [])):
        if find_spec(package) is None:
            raise missing(package)
    if trust_remote_code:
        raise weights.refused_code(model)
    if device in ("cuda", "mps"):
        weights.check_device(device)
    marks, label, source = _told_apart(model, revision)
    if adapter is not None:
        weights.check_adapter(Path(adapter).expanduser(), Path(model).expanduser())
        marks.append(weights.fingerprint(Path(adapter).expanduser()))
    if dtype != "auto":
        marks.append(dtype)

    def load() -> Weights:
        hub = None if Path(source()).is_dir() else revision
        return Weights(source(), adapter, threads, device, dtype, hub)

    return Transformers(f"{label}#{'+'.join(marks)}", label, batch, load)


def _told_apart(model: str, revision: str) -> tuple[list[str], str, Callable[[], str]]:
    """What tells a model's content apart, its short name, and where it is once it is needed (the embedded one is converted then)."""
    if model == "embedded":
        return [fingerprint(embedded.gguf_path())], embedded.NAME, lambda: str(embedded.folder())
    folder = Path(model).expanduser()
    if folder.exists() or model.startswith((".", "/", "~")) or not _hub_name.fullmatch(model):
        weights.check_model(folder)
        weights.check_generates(folder)
        return [weights.fingerprint(folder)], folder.resolve().name, lambda: str(folder)
    return [revision], model, lambda: model


class Transformers:
    """The model behind `provider: transformers`. One thread holds it; `close` lets go of both."""

    name = "transformers"
    can: frozenset[str] = frozenset({"chat", "complete", "logprobs", "score", "seed"})

    def __init__(self, identity: str, label: str, batch: int, load: Callable[[], Weights]) -> None:
        self.model = identity
        self.lanes = 4 * batch  # enough waiting to sort batches by length
        self._label, self._batch, self._load = label, batch, load
        self._pool: ThreadPoolExecutor | None = None
        self._weights: Weights | None = None

    def __repr__(self) -> str:
        return f"Transformers({self.model!r}, batch={self._batch})"

    async def reply(self, request: Request) -> Reply:
        return await self._replies.ask(request)

    async def score(self, request: Request, continuation: str) -> list[float]:
        """Natural-log probabilities of the continuation's tokens after the request's messages or prompt.

        The continuation is tokenised by itself, as a model would go on from a finished prompt. With an empty prompt the context is
        the token that begins a document (BOS where the tokenizer adds it, else <|endoftext|>, else BOS or EOS), so that every token
        of the continuation has a value. No end token is scored. An empty continuation gives [].
        """
        return await self._scores.ask((request, continuation))

    async def close(self) -> None:
        """Wait for the batch under way and let go of the weights."""
        pool, self._pool = self._pool, None
        for door in ("_replies", "_scores"):
            self.__dict__.pop(door, None)
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        self._weights = None

    @cached_property
    def _replies(self) -> Batcher[Request, Reply]:
        return Batcher(lambda items: self._halving(self._answer, items), _length, self._batch, self._executor())

    @cached_property
    def _scores(self) -> Batcher[tuple[Request, str], list[float]]:
        return Batcher(
            lambda items: self._halving(self._score, items),
            lambda item: _length(item[0]) + len(item[1]),
            self._batch,
            self._executor(),
        )

    def _executor(self) -> ThreadPoolExecutor:
        self._pool = self._pool or ThreadPoolExecutor(1, "zhiling-transformers")
        return self._pool

    def _loaded(self) -> Weights:
        if self._weights is None:
            try:
                self._weights = self._load()
            except ZhilingError:
                raise
            except Exception as error:  # transformers and safetensors raise of every kind over a folder they cannot use
                said = cut(str(error), 200)
                raise weights.wrong(
                    self._label, f"the model cannot be loaded: {said}", f"无法加载模型：{said}"
                ) from error
        return self._weights

    def _halving(
        self, work: Callable[[Sequence[Item]], list[Result | ProviderError]], items: Sequence[Item]
    ) -> list[Result | ProviderError]:
        """Run a batch; when memory does not suffice, its halves. Raises EngineError when one row alone is too large."""
        import torch

        try:
            return work(items)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if (
                isinstance(error, RuntimeError)
                and not isinstance(error, torch.OutOfMemoryError)
                and "allocate" not in str(error)
            ):
                raise
            if len(items) == 1:
                raise EngineError(
                    say("out of memory for a single row", "单行数据就已耗尽内存"),
                    where=self.model,
                    mend=say("use a smaller model or shorter prompts", "请使用更小的模型或更短的提示词"),
                ) from error
        middle = len(items) // 2
        return self._halving(work, items[:middle]) + self._halving(work, items[middle:])

    def _answer(self, requests: Sequence[Request]) -> list[Reply | ProviderError]:
        start = time.perf_counter()
        loaded = self._loaded()
        rows: list[Row | ProviderError] = []
        for request in requests:
            try:
                ids = loaded.ids(request)
            except ProviderError as error:
                rows.append(error)
                continue
            most = min(request.max_tokens, loaded.context - len(ids))
            rows.append(Row(ids, request, most, loaded.stop(request)))
        able = [row for row in rows if isinstance(row, Row)]
        if able:
            generate(loaded.model, able, loaded.pad, loaded.ends, loaded.text)
        seconds = time.perf_counter() - start
        return [self._reply(row, loaded, seconds) if isinstance(row, Row) else row for row in rows]

    def _reply(self, row: Row, loaded: Weights, seconds: float) -> Reply:
        text = loaded.text(row.out)
        ends = [at for stop in row.stop if (at := text.find(stop)) >= 0]
        text = text[: min(ends)] if ends else text
        pairs = tuple((loaded.text([token]), value) for token, value in zip(row.out, row.logprobs, strict=False))
        return Reply(text, row.finish, self._label, Usage(len(row.ids), len(row.out)), pairs, seconds)

    def _score(self, items: Sequence[tuple[Request, str]]) -> list[list[float] | ProviderError]:
        loaded = self._loaded()
        out: list[Any] = [None] * len(items)
        pairs: list[tuple[list[int], list[int]]] = []
        places: list[int] = []
        for i, (request, continuation) in enumerate(items):
            ids = loaded.continuation_ids(continuation)
            try:
                context = loaded.ids(request, room=len(ids))
            except ProviderError as error:
                out[i] = error
                continue
            if ids:
                pairs.append((context, ids))
                places.append(i)
            else:
                out[i] = []
        for i, values in zip(places, score(loaded.model, pairs, loaded.pad), strict=True):
            out[i] = values
        return out


def _length(request: Request) -> int:
    return len(request.prompt) if request.prompt is not None else sum(len(content) for _, content in request.messages)
