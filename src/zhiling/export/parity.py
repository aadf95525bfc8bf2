"""The parity gate: a model that leaves the house must answer as the tuned one does, or its export is marked failed.

Both answer the same prompts greedily. Where the exported weights are the tuned ones (fp32), every token must be the same. Where they were
rounded (half precision, a quantised GGUF, another engine's kernels), tokens of almost equal probability may swap; then two figures
are held to stated limits, over tokens that both generated after the same beginning: the distance, which is the mean absolute difference
of their log-probabilities, and the widest gap, which is by how many nats the tuned model prefers its own token where the two part.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.errors import DataError, ProviderError, say
from zhiling.types import Request, Turn

PROMPTS = 64
"""How many prompts both models answer."""
MAX_TOKENS = 32
"""How many tokens an answer has at most."""
BATCH = 16
LIMITS = {"fp32": (0.01, 0.1), "fp16": (0.01, 0.1), "bf16": (0.05, 0.5), "q8_0": (0.05, 0.5)}
"""(distance, widest gap) in nats that weights kept so may show; for what is no exact copy."""
OTHERWISE = 0.1
"""The share of prompts that llama.cpp may split into another number of tokens. (SmolLM2: 2 of the 64 seeds, where a digit follows a break.)"""
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt: the row it comes from, and its messages."""

    id: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """A greedy answer: how many tokens its prompt had, its tokens, their log-probabilities (None: not told), and whether it ended ("stop")."""

    prompt: int
    ids: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    finish: str


def fitting(asked: Iterable[Asked], loaded: Any) -> list[Asked]:
    """The first PROMPTS that a loaded model's template takes and its context holds. Raises DataError where there is none."""
    found: list[Asked] = []
    for one in asked:
        try:
            loaded.ids(Request(one.turns), room=MAX_TOKENS)
        except ProviderError:
            continue
        found.append(one)
        if len(found) == PROMPTS:
            break
    if not found:
        raise DataError(
            say("no prompt fits the model, so that nothing can be compared", "没有适合该模型的提示词，无法比较"),
            where="--prompts",
            mend=say("give a data file whose rows are shorter", "请给出行更短的数据文件"),
        )
    return found


def said_by_torch(loaded: Any, asked: Sequence[Asked]) -> list[Said]:
    """What a `llm.weights.Weights` answers. No stop strings: tokens are compared, up to the model's own end."""
    from zhiling.llm.decode import Row, generate

    rows = []
    for one in asked:
        request = Request(one.turns, max_tokens=MAX_TOKENS, logprobs=True)
        rows.append(Row(loaded.ids(request), request, MAX_TOKENS))
    order = sorted(rows, key=lambda row: len(row.ids))
    for start in range(0, len(order), BATCH):
        generate(loaded.model, order[start : start + BATCH], loaded.pad, loaded.ends, loaded.text)
    return [Said(len(row.ids), tuple(row.out), tuple(row.logprobs), row.finish) for row in rows]


def said_by_gguf(path: Path, asked: Sequence[Asked], context: int, text: Callable[[Sequence[int]], str]) -> list[Said]:
    """What llama.cpp answers from a GGUF file through the chat template inside it. `context` is tokens for prompt and answer.

    llama.cpp lists log-probabilities only for tokens that complete a character; `text` (ids to text) tells which these are.
    """
    import xllamacpp

    from zhiling.llm.machine import quiet_cores

    params = xllamacpp.CommonParams()
    params.model.path, params.n_parallel, params.n_ctx = str(path), 1, context
    params.n_batch = params.n_ubatch = context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = quiet_cores()
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_ram_mib, params.cache_idle_slots = 0, False
    params.verbosity, params.warmup, params.ui = -1, False, False
    try:
        server = xllamacpp.Server(params)
    except (ValueError, RuntimeError) as error:
        raise ProviderError(
            say(f"llama.cpp cannot load the GGUF: {error}", f"llama.cpp 无法加载该 GGUF：{error}"), where=str(path)
        ) from error
    found = []
    for one in asked:
        body: dict[str, Any] = {"messages": [{"role": role, "content": content} for role, content in one.turns]}
        body |= {
            "max_tokens": MAX_TOKENS,
            "temperature": 0.0,
            "verbose": True,
            "return_tokens": True,
            "logprobs": True,
            "top_logprobs": 1,
        }
        answer = server.handle_chat_completions(body)
        if "choices" not in answer:
            raise ProviderError(
                say(f"llama.cpp refused a prompt: {answer}", f"llama.cpp 拒绝了提示词：{answer}"), where=str(path)
            )
        choice = answer["choices"][0]
        ids = tuple(answer["__verbose"]["tokens"])
        listed = (choice.get("logprobs") or {}).get("content") or []
        finish = "stop" if choice["finish_reason"] == "stop" else "length"
        values = _aligned(ids, [(token["id"], token["logprob"]) for token in listed], text)
        found.append(Said(answer["usage"]["prompt_tokens"], ids, values, finish))
    return found


def _aligned(
    ids: Sequence[int], listed: Sequence[tuple[int, float]], text: Callable[[Sequence[int]], str]
) -> tuple[float | None, ...]:
    """The listed log-probabilities at the tokens they belong to, which are those that end a whole character."""
    left, begun, found = list(reversed(listed)), list[int](), list[float | None]()
    for token in ids:
        begun.append(token)
        mine = bool(left) and left[-1][0] == token and not text(begun).endswith("\ufffd")
        found.append(left.pop()[1] if mine else None)
        begun = [] if mine else begun
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two answers to one prompt differ: the place of the first other token, and the two tokens (None: the answer ended)."""

    row: int
    at: int
    tuned: int | None
    exported: int | None


def partings(tuned: Sequence[Said], exported: Sequence[Said], ends: frozenset[int] = frozenset()) -> list[Parting]:
    """The prompts whose answers differ. `ends` are the tokens that end an answer; an engine may report them as its last."""
    found = []
    for row, (a, b) in enumerate(zip(tuned, exported, strict=True)):
        one, other = _whole(a, ends), _whole(b, ends)
        if one != other:
            at = next(
                (i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other))
            )
            found.append(Parting(row, at, *(said[at] if at < len(said) else None for said in (one, other))))
    return found


def _whole(said: Said, ends: frozenset[int]) -> tuple[int | None, ...]:
    """An answer's tokens, and None for its end where it ended by itself."""
    ids = said.ids[:-1] if said.ids and said.ids[-1] in ends else said.ids
    return (*ids, None) if said.finish == "stop" else ids


def gap(loaded: Any, asked: Asked, said: Said, parting: Parting) -> float:
    """By how many nats the tuned model prefers its own token to the exported one's, after the beginning that both share."""
    from zhiling.llm.decode import score

    context = [*loaded.ids(Request(asked.turns)), *said.ids[: parting.at]]
    options = [sorted(loaded.ends) if token is None else [token] for token in (parting.tuned, parting.exported)]
    values = [max(score(loaded.model, [(context, [token])], loaded.pad)[0][0] for token in some) for some in options]
    return values[0] - values[1]


def judge(
    tuned: Sequence[Said],
    exported: Sequence[Said],
    apart: Sequence[tuple[Parting, float]],
    precision: str,
    exact: bool,
    otherwise: float = 0.0,
) -> dict[str, Any]:
    """The verdict with its figures; `apart` are the partings with their gaps, `otherwise` the share of prompts that may be read otherwise.

    A prompt that has not as many tokens on both sides was read otherwise, which shows a lost chat template or tokenizer. llama.cpp
    splits some texts in its own way, so that a GGUF may have a few; what is said to them is not compared.
    """
    aside = {row for row, (a, b) in enumerate(zip(tuned, exported, strict=True)) if a.prompt != b.prompt}
    ended = {one.row: one.at for one, _ in apart}
    differences = [
        abs(x - y)
        for row, (a, b) in enumerate(zip(tuned, exported, strict=True))
        if row not in aside
        for x, y in list(zip(a.logprobs, b.logprobs, strict=False))[: ended.get(row)]
        if x is not None and y is not None
    ]
    distance = statistics.fmean(differences) if differences else None
    widest = max((value for one, value in apart if one.row not in aside), default=0.0)
    most_distance, most_gap = LIMITS[precision]
    near = distance is not None and distance <= most_distance and widest <= most_gap
    rule = "the same greedy tokens" if exact else f"distance <= {most_distance}, widest gap <= {most_gap} nats"
    return {
        "passed": len(aside) <= otherwise * len(tuned) and (not apart if exact else near),
        "rule": rule + (f", at most {otherwise:.0%} of the prompts read otherwise" if otherwise else ""),
        "prompts": len(tuned),
        "prompts_read_otherwise": len(aside),
        "same": len(tuned) - len(apart),
        "agreement": round(1 - len(apart) / len(tuned), 4),
        "tokens": sum(len(said.ids) for said in tuned),
        "tokens_compared": len(differences),
        "distance": None if distance is None else round(distance, 6),
        "largest_distance": round(max(differences), 6) if differences else None,
        "widest_gap": round(widest, 6),
    }
