"""From an Example to token ids and a loss mask, exactly as the model will meet them when it is asked.

The prompt is what the chat template gives with the generation prompt; the answer is what the template adds when the answer is
there, up to and including the end-of-turn token. The two are **tokenised separately**: at inference the prompt is tokenised alone
and the answer is generated after it, so a merge across the border would train tokens that inference never produces. The mask
is exact by construction, in every script.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from zhiling.errors import DataError, RecipeError, say
from zhiling.llm import plain
from zhiling.tune.settings import Sees
from zhiling.types import Example


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as the model sees it: token `ids`, and which of them the loss sees (`trained`, never the first)."""

    id: str
    task: str
    ids: tuple[int, ...]
    trained: tuple[bool, ...]

    @property
    def targets(self) -> int:
        """How many tokens the loss sees: n_i."""
        return sum(self.trained)


class LeftOut(Exception):
    """A row that cannot be tuned on. `why` is "empty", "long", "control" or "duplicate": see `render` and `render_all`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def prepare(tokenizer: Any) -> Any:
    """Give a tokenizer what base models lack: the models' room's plain transcript, and a padding token to decode in batches."""
    if tokenizer.chat_template is None:
        tokenizer.chat_template = plain.TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def render(example: Example, tokenizer: Any, sees: Sees = Sees.ANSWER, limit: int | None = None) -> Rendered:
    """One row's tokens and mask, with the tokenizer's chat template (see `prepare`).

    Raises LeftOut for an empty answer ("empty"), for text that holds the model's own control tokens ("control": it would forge
    turns) and for more than `limit` tokens ("long"); DataError when the chat template refuses the row.
    """
    if not example.output.strip():
        raise LeftOut("empty")
    messages = example.messages()
    control = _control(tokenizer)
    if control and any(control.search(message["content"]) for message in messages):
        raise LeftOut("control")
    ids: list[int] = []
    trained: list[bool] = []
    for text, sees_it in _pieces(example, messages, tokenizer, sees):
        part = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += part
        trained += [sees_it] * len(part)
    if ids[-1] not in _specials(tokenizer).values():
        # A template without an end of turn: nothing would tell the model to stop.
        if tokenizer.eos_token_id is None:
            raise RecipeError(
                say("the tokenizer has no end-of-text token", "分词器没有文本结束符"),
                mend=say("set its eos_token", "请设置 eos_token"),
            )
        ids.append(tokenizer.eos_token_id)
        trained.append(True)
    if limit is not None and len(ids) > limit:
        raise LeftOut("long")
    if sees is Sees.ALL:
        trained = [True] * len(ids)
    trained[0] = False  # nothing stands before the first token to predict it from
    return Rendered(example.id, example.task, tuple(ids), tuple(trained))


def render_all(
    examples: Sequence[Example], tokenizer: Any, sees: Sees, limit: int
) -> tuple[list[Rendered], dict[str, int]]:
    """All rows in order of their ids, and the counts: "rows" given, "trained" on, and left out as "empty", "long", "control" or "duplicate".

    Raises DataError when nothing is left of a task, or when there were no rows at all.
    """
    counts = Counter({"rows": len(examples), "trained": 0, "empty": 0, "long": 0, "control": 0, "duplicate": 0})
    rows: dict[str, Rendered] = {}
    reasons: dict[str, Counter[str]] = {}
    for example in sorted(examples, key=lambda example: example.id):
        try:
            if example.id in rows:
                raise LeftOut("duplicate")
            rows[example.id] = render(example, tokenizer, sees, limit)
        except LeftOut as left:
            counts[left.why] += 1
            reasons.setdefault(example.task, Counter())[left.why] += 1
    if not examples:
        raise DataError(
            say("there are no rows to tune on", "没有可用于微调的数据"),
            where="tune",
            mend=say("check what was selected", "请检查筛选结果"),
        )
    for task in sorted(reasons.keys() - {row.task for row in rows.values()}):
        _nothing_left(task, reasons[task], limit)
    counts["trained"] = len(rows)
    return list(rows.values()), dict(counts)


def _nothing_left(task: str, reasons: Counter[str], limit: int) -> None:
    why = {
        "empty": say("an empty answer, so the loss would see nothing", "答案为空，损失函数看不到任何内容"),
        "long": say(f"more than {limit} tokens", f"超过 {limit} 个词元"),
        "control": say("the model's own control tokens in their text", "文本含有模型的控制符"),
    }
    listed = "; ".join(f"{count}: {why[reason]}" for reason, count in reasons.most_common())
    raise DataError(
        say(f"task '{task}' has no row left to tune on ({listed})", f"任务“{task}”没有可用于微调的数据（{listed}）"),
        where="tune",
        mend=say(
            "mend its rows, raise max_length, or leave the task out", "请修正其数据、调大 max_length，或去掉该任务"
        ),
    )


def _pieces(example: Example, messages: list[dict[str, str]], tokenizer: Any, sees: Sees) -> Iterator[tuple[str, bool]]:
    """The row's text cut where what the loss sees begins and ends: (text, seen)."""
    replies = [k for k, message in enumerate(messages) if message["role"] == "assistant"]
    done = ""
    for k in replies if sees is Sees.REPLIES else replies[-1:]:
        prompt = _text(example, messages[:k], tokenizer, True)
        whole = _text(example, messages[: k + 1], tokenizer, False)
        if not (prompt.startswith(done) and whole.startswith(prompt)):
            raise DataError(
                say("the chat template rewrites earlier turns", "聊天模板会改写之前的回合，无法确定答案的位置"),
                where=example.id,
                mend=say("use sees: answer, or another chat template", "请使用 sees: answer，或更换聊天模板"),
            )
        reply = whole[len(prompt) :].rstrip()  # what follows the end of the turn belongs to the next one
        yield prompt[len(done) :], False
        yield reply, True
        done = prompt + reply


def _text(example: Example, messages: list[dict[str, str]], tokenizer: Any, asking: bool) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asking))
    except TemplateError as error:
        raise DataError(
            say(f"the model's chat template refuses the row: {error}", f"模型的聊天模板不接受该行：{error}"),
            where=example.id,
            mend=say("check its system text and the order of its turns", "请检查系统提示与回合顺序"),
        ) from error


def _specials(tokenizer: Any) -> dict[str, int]:
    return {token.content: key for key, token in tokenizer.added_tokens_decoder.items() if token.special}


def _control(tokenizer: Any) -> re.Pattern[str] | None:
    tokens = sorted(_specials(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None
