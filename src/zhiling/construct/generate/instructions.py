"""The third way: a model proposes candidate instructions, their quality is evaluated, and the best are kept.

The loop is `generate`, and reads as the field describes it: propose -> filter -> score -> keep the best. Proposing from demos is
"forward generation" and "backward" the infilling of APE (Zhou et al. 2022, arXiv:2211.01910); from a description and by paraphrase
are its resampling and Self-Instruct's seeds in the small. Unlike a bare sample from a model, no candidate leaves unevaluated, and
every loser says why.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from zhiling import registry
from zhiling.construct.bind import default_slots, said_in, shaped
from zhiling.construct.generate.asking import Book, Prompt, Style, book, styled
from zhiling.construct.sandbox import literal
from zhiling.errors import ProviderError, RecipeError, say
from zhiling.registry import constructor
from zhiling.text import cut, jaccard, lang, normalise, sentences, shingles, tokens
from zhiling.types import Example, Reject, Reply, Request, Score, Task, Template, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

QUALITIES = {"grammar": 1.0, "clarity": 1.0, "relevance": 2.0}
"""What a candidate is judged by unless a recipe says otherwise, and how much each counts: saying the wrong task well is worse than saying
the right one badly. One whose model cannot do what it needs (most hosted models give no probabilities of given texts) is left out."""

Scorer = Callable[[Sequence[Example]], Awaitable[list[Score]]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed instruction: the text, the language and prompt it was asked with, the id of the reply, and what was said of it.

    `quality` is the weighted mean of the scores that could be given, each in [0, 1]; None when none could.
    """

    text: str
    lang: str
    prompt: str
    reply: str
    scores: tuple[Score, ...] = ()
    quality: float | None = None

    @property
    def why(self) -> str:
        """The scores in words."""
        return ", ".join(f"{s.scorer} {'-' if s.value is None else s.value}" for s in self.scores)


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """How many times `generate` asks a model for one task: what a plan shows before any is asked."""
    return int(settings["candidates"]) * len(settings["langs"] or task.langs)


def judges(settings: Mapping[str, Any]) -> list[str]:
    """The scorers that `generate` judges candidates with: what they need of their models can be checked before any is asked."""
    return list(settings["weights"] or ())


@constructor("generate", calls=calls, uses=judges)
async def generate(
    *,
    task: Task,
    model: Model,
    scorers: Mapping[str, Scorer],
    seed: int,
    candidates: int = 12,
    keep: int = 3,
    langs: list[str] | None = None,
    temperature: float = 0.6,
    weights: dict[str, float] | None = None,
    floor: float = 0.3,
    max_tokens: int = 64,
    here: Path = Path(),
    prompts: str | None = None,
    style: Style = "auto",
) -> list[Template | Reject]:
    """Ask `model` for `candidates` instructions per language, judge them, and keep the best `keep` above `floor`.

    `weights` are {scorer: how much it counts}, by default grammar, clarity (where a model can give it) and relevance.
    `prompts` names a file whose prompts stand in the place of the shipped ones, `style` how they ask: "small" by worked turns, "large" by
    a rubric (whose replies may take more tokens).
    Yields a Template per winner and a Reject per loser, with its scores. A reply that failed is a Reject too: "failed", not "dropped".
    """
    out: list[Template | Reject] = []
    maker = f"generate:{model.label}"
    for code in langs or task.langs:
        asked = requests(
            task, code, candidates, seed, temperature, max_tokens, chat="chat" in model.provider.can,
            style=styled(model, style), own=book("generate", prompts, here),
        )  # fmt: skip
        replies = await model.ask_all([request for _, request in asked])
        stop_if_unreachable(replies)
        pool: list[Candidate] = []
        for (name, _), reply in zip(asked, replies, strict=True):
            if isinstance(reply, ProviderError):
                out.append(Reject(task.name, maker, "failed", str(reply)))
                continue
            if reply.finish != "stop":
                parents = (reply.key,)
                out.append(Reject(task.name, maker, "failed", unfinished(reply, max_tokens), "", reply.text, parents))
                continue
            found = Candidate(tidy(reply.text), code, name, reply.key)
            why = unfit(found, task, pool)
            if why:
                out.append(Reject(task.name, maker, "dropped", why, text=reply.text, parents=(reply.key,)))
            else:
                pool.append(found)
        judged = await judge(pool, task, scorers, weights)
        best = [c for c in judged if c.quality is not None and c.quality >= floor][:keep]
        for place, candidate in enumerate(judged, 1):
            if candidate in best:
                out.append(as_template(candidate, task, maker))
            else:
                out.append(_lost(candidate, task, maker, place, f"{keep}, {floor}"))
    return out


def _lost(candidate: Candidate, task: Task, maker: str, place: int, bar: str) -> Reject:
    """A candidate that was judged and not kept, with its scores; `bar` is how many are kept, and the least quality."""
    quality, why = _shown(candidate.quality), candidate.why
    said = say(
        f"quality {quality}, place {place} ({why}); kept are the best of (number, least quality): {bar}",
        f"质量 {quality}，第 {place} 名（{why}）；保留（名额，最低质量）：{bar}",
    )
    return Reject(task.name, maker, "dropped", said, text=candidate.text, parents=(candidate.reply,))


def unfinished(reply: Reply, max_tokens: int) -> str:
    """Why a reply that did not come to its end is no instruction."""
    if reply.finish == "length":
        return say(
            f"the reply was cut off at {max_tokens} tokens (raise max_tokens)",
            f"回复在 {max_tokens} 个词元处被截断（请调大 max_tokens）",
        )
    return say("the endpoint's content filter cut the reply", "回复被接口的内容过滤截断")


def stop_if_unreachable(replies: Sequence[Reply | ProviderError]) -> None:
    """One failed reply is a row; an endpoint that never answered is a stop, before the run goes on without its third way."""
    gone = [
        r
        for r in replies
        if isinstance(r, ProviderError) and r.kind in ("network", "timeout", "server", "protocol", "rate")
    ]
    if gone and len(gone) == len(replies):
        raise gone[0]


SHOWN = 3
"""Demos that one prompt shows; where the task has more, each draw shows others."""
LARGE_TOKENS = 160


def requests(
    task: Task, code: str, count: int, seed: int, temperature: float, max_tokens: int, *, chat: bool = True,
    style: str = "small", own: Book | None = None,
) -> list[tuple[str, Request]]:  # fmt: skip
    """`count` questions in the language `code`, taking the prompts in turn; each (prompt id, Request) has its own seed and draw.

    They are shipped, or `own`. Raises RecipeError where none can be asked.
    """
    fitting = [p for p in (own or book("generate")).prompts if p.lang == code and p.style in ("any", style)]
    usable = [p for p in fitting if (task.demos if p.id in ("from_demos", "backward") else task.description)]
    if not usable:
        mend = say(
            "give the task a description or demos, or write prompts for the language",
            "请给任务写说明或示例，或为该语言编写提示词",
        )
        raise RecipeError(
            say(f"nothing to ask a model from in '{code}'", f"没有可用于“{code}”的提示词"),
            where=f"tasks.{task.name}",
            mend=mend,
        )
    out = []
    most = max(max_tokens, LARGE_TOKENS) if style == "large" else max_tokens
    for draw in range(count):
        prompt = usable[draw % len(usable)]
        turns = _filled(prompt, task, code, draw)
        chance = row_seed(seed, f"{task.name}:{code}:{prompt.id}:{draw}")
        out.append(
            (prompt.id, asking(turns, chat=chat, max_tokens=most, temperature=temperature, draw=draw, seed=chance))
        )
    return out


def asking(
    turns: Sequence[tuple[str, str]], *, chat: bool, max_tokens: int, temperature: float, draw: int, seed: int
) -> Request:
    """The request for one candidate; a base model continues text, so it gets the same turns as paragraphs."""
    settings: dict[str, Any] = {
        "max_tokens": max_tokens, "temperature": temperature, "top_p": 0.95, "stop": ("\n",) if chat else ("\n\n", "\n"), "draw": draw,
        "seed": seed,
    }  # fmt: skip
    if chat:
        return Request(messages=tuple(turns), **settings)
    return Request(prompt="".join(f"{content}\n" for _, content in turns), **settings)


def _filled(prompt: Prompt, task: Task, code: str, draw: int) -> tuple[tuple[str, str], ...]:
    marks = ("输入：", "输出：") if code == "zh" else ("Input: ", "Output: ")
    description = said_in(task.description, code) or task.description
    wordings = sentences(description) or [description]
    demos = task.demos[:SHOWN]
    if len(task.demos) > SHOWN:
        demos = tuple(Random(row_seed(draw, f"{task.name}:{prompt.id}")).sample(task.demos, SHOWN))
    return prompt.filled({
        "description": description,
        "demos": "\n".join(f"{marks[0]}{cut(demo.input, 200)}\n{marks[1]}{cut(demo.output, 200)}" for demo in demos),
        "seed": wordings[draw % len(wordings)],
    })  # fmt: skip


_lead = re.compile(
    r"^\s*(?:[-*•]\s+|\d+[.)、]\s*)?(?:(?:the\s+)?instruction(?:\s+was)?|task|指令|任务)?\s*[:：]?\s*", re.IGNORECASE
)
_quotes = {'"': '"', "“": "”", "「": "」", "'": "'", "《": "》"}


def tidy(text: str) -> str:
    """The instruction alone: its first line, without list marks, a leading "Instruction:" or quotes around the whole."""
    line = next((part.strip() for part in text.strip().splitlines() if part.strip()), "")
    line = _lead.sub("", line, count=1).strip()
    if len(line) > 2 and _quotes.get(line[0]) == line[-1]:
        line = line[1:-1].strip()
    return line


def unfit(candidate: Candidate, task: Task, before: Sequence[Candidate]) -> str:
    """Why a candidate is not worth scoring; "" when it is. Cheap checks first, so that scorers see only real contenders."""
    text, size = candidate.text, len(tokens(candidate.text))
    if size < 3:
        return say("too short to say a task", "太短，说不清任务")
    if size > 80:
        return say(f"too long for an instruction ({size} tokens)", f"作为指令太长（{size} 个词）")
    if (lang(text) == "zh") != (candidate.lang == "zh"):
        return say(f"not in the language asked for ({candidate.lang})", f"不是所要求的语言（{candidate.lang}）")
    if "{" in text or "[" in text or "<" in text:
        return say("has an unfilled slot", "含有未填的空位")
    for demo in task.demos:
        if len(tokens(demo.input)) > 3 and normalise(demo.input) in normalise(text):
            return say("repeats an example's input", "照抄了示例的输入")
    named = [
        label for label in task.labels if re.search(rf"(?<!\w){re.escape(normalise(label))}(?!\w)", normalise(text))
    ]
    if named and len(named) < len(task.labels):
        return say(f"leaks one answer: it names only {', '.join(named)}", f"泄露答案：只提到了{'、'.join(named)}")
    if told := given_away(text, task):
        return say(f"gives away an answer: {cut(told, 40)}", f"泄露了答案：{cut(told, 40)}")
    for other in before:
        if jaccard(shingles(text, 2), shingles(other.text, 2)) >= 0.7:
            return say(f"nearly equal to: {cut(other.text, 60)}", f"与已有候选几乎相同：{cut(other.text, 60)}")
    return ""


def given_away(text: str, task: Task) -> str:
    """The answer of a demo that the instruction tells, where answers are open; "" when it tells none.

    What the task says of itself may be said, and so may short words and digits that any text contains.
    """
    if task.labels:
        return ""
    said, own = normalise(text), normalise(f"{task.description} {task.output_format}")
    for demo in task.demos:
        answer = normalise(demo.output).strip(" .。!！?？\"'“”")
        if len(answer) < (2 if lang(answer) == "zh" else 4) or answer in own:
            continue
        if lang(answer) == "zh" and answer in said:
            return answer
        if lang(answer) != "zh" and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", said):
            return answer
    return ""


async def judge(
    pool: Sequence[Candidate], task: Task, scorers: Mapping[str, Scorer], asked: Mapping[str, float] | None = None
) -> list[Candidate]:
    """The candidates with their scores and quality, best first; ties fall by text, so the order depends on nothing else.

    Judged by the scorers `asked` for, or by QUALITIES as far as they can be had.
    """
    rows = [Example(task.name, candidate.text, lang=candidate.lang) for candidate in pool]
    by_scorer: dict[str, list[Score]] = {}
    for name in asked or QUALITIES:
        try:
            by_scorer[name] = await scorers[name](rows)
        except ProviderError as error:
            if asked or error.kind != "capability":
                raise
    weights = {name: weight for name, weight in (asked or QUALITIES).items() if name in by_scorer}
    judged = []
    for index, candidate in enumerate(pool):
        scores = tuple(by_scorer[name][index] for name in weights)
        parts = [(weights[s.scorer], unit(s)) for s in scores]
        given = [(weight, value) for weight, value in parts if value is not None]
        quality = round(sum(w * v for w, v in given) / sum(w for w, _ in given), 4) if given else None
        judged.append(Candidate(candidate.text, candidate.lang, candidate.prompt, candidate.reply, scores, quality))
    return sorted(judged, key=lambda c: (-(c.quality if c.quality is not None else -1.0), c.text))


def unit(score: Score) -> float | None:
    """A score as "higher is better" in [0, 1], by the range that its scorer states; None stays None."""
    if score.value is None:
        return None
    facts = registry.get("scorer", score.scorer).facts
    low, high = float(facts["low"]), float(facts["high"])
    value = min(max((score.value - low) / (high - low), 0.0), 1.0)
    return 1.0 - value if facts["better"] == "low" else value


def as_template(candidate: Candidate, task: Task, maker: str) -> Template:
    """A winner with the slots of its family. What the answer must look like is added where the candidate does not say it."""
    input_slot, output_slot = default_slots(task, candidate.lang)
    stop = "" if candidate.text[-1] in ".!?。！？:：" else "。" if candidate.lang == "zh" else "."
    instruction = shaped(literal(candidate.text + stop), task, candidate.lang)
    return Template(
        task.name, candidate.lang, instruction, input_slot, output_slot, maker=maker, parents=(candidate.reply,),
        why=say(f"quality {_shown(candidate.quality)} ({candidate.why})", f"质量 {_shown(candidate.quality)}（{candidate.why}）"),
    )  # fmt: skip


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
