"""Section 4.2 of the source: instruction tuning is multi-task learning, L(θ) = Σ_t Σ_i l(f(x_i^t; θ), y_i^t).

Two tasks, classification and question answering, are tuned together on the embedded model. The loss that the tuner prints for each
task and in all is then recomputed without it, by the formula, with nothing but transformers.

    python examples/source_4_2_multitask.py
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zhiling.llm import embedded
from zhiling.tune.settings import TuneSettings
from zhiling.tune.train import tune
from zhiling.types import Example

ROWS = [
    Example("classification", "Is this review positive or negative?", "The soup was hot and the waiter kind.", "positive"),
    Example("classification", "Is this review positive or negative?", "We waited an hour for cold noodles.", "negative"),
    Example("classification", "这条评论是正面还是负面？", "老板热情，面也好吃。", "正面"),
    Example("classification", "这条评论是正面还是负面？", "等了一个小时，汤还是凉的。", "负面"),
    Example("question answering", "Answer from the text.", "The library opens at nine.\n\nWhen does the library open?", "at nine"),
    Example("question answering", "Answer from the text.", "Tools are kept in the red shed.\n\nWhere are the tools?", "in the red shed"),
    Example("question answering", "根据原文回答。", "展览设在二楼东厅。\n\n展览设在哪里？", "二楼东厅"),
]  # fmt: skip


def formula(model: Any, tokenizer: Any, rows: Sequence[Example]) -> dict[str, float]:
    """Σ_i l(f(x_i; θ), y_i) of each task t, where l is the negative log-likelihood of the answer y given the prompt x."""
    import torch

    losses = dict.fromkeys(sorted({row.task for row in rows}), 0.0)
    for row in rows:
        prompt = tokenizer.apply_chat_template(row.messages(answer=False), tokenize=False, add_generation_prompt=True)
        x = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        y = tokenizer(row.output + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logp = model(torch.tensor([x + y])).logits[0].log_softmax(-1)
        losses[row.task] += sum(-float(logp[len(x) + k - 1, token]) for k, token in enumerate(y))
    return losses


def main(out: Path) -> None:
    """Tune for four steps of all rows and compare the first line of the log with the formula."""
    settings = TuneSettings(objective="sum", epochs=4, batch_rows=len(ROWS), lr=2e-3)
    tuned = tune("embedded", ROWS, out, settings, progress=show)

    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(tuned.folder)
    model = AutoModelForCausalLM.from_pretrained(embedded.folder())
    before = formula(model, tokenizer, ROWS)
    after = formula(PeftModel.from_pretrained(model, tuned.folder), tokenizer, ROWS)
    print("\nby the formula, without the tuner:")
    print(said("before", before, sum(before.values())))
    print(said("after", after, sum(after.values())))

    printed = tuned.history[0]
    for task, loss in before.items():
        assert math.isclose(printed["tasks"][task], loss, rel_tol=1e-5), (task, printed["tasks"][task], loss)
    assert math.isclose(printed["loss"], sum(before.values()), rel_tol=1e-5)
    assert sum(after.values()) < sum(before.values())
    print("\nthe printed loss is the formula's, for each task and in all")


def show(line: Mapping[str, Any]) -> None:
    """Print what the tuner says of a step: its losses under the weights before the step."""
    print(said(f"step {line['step']}", line["tasks"], line["loss"]))


def said(when: str, losses: Mapping[str, float], total: float) -> str:
    """A line of losses."""
    each = "   ".join(f"{task} {loss:.4f}" for task, loss in losses.items())
    return f"{when:>8}   {each}   L(θ) = {total:.4f}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as folder:
            main(Path(folder))
