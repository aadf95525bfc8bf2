"""Whether the right one of a closed set of labels was given: as written by the model, or as the one it finds likeliest."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zhiling.evaluate.metrics import bare, exact_match, lines
from zhiling.registry import metric
from zhiling.text import tokens
from zhiling.types import Task

NOT = frozenset({"not", "no", "never", "isn't", "wasn't", "cannot", "不", "非", "没"})
ARTICLES = frozenset({"a", "an", "the", "is", "是"})


@metric("accuracy", families=("classification", "nli"))
def accuracy(prediction: str, reference: str, *, lang: str = "", task: Task | None = None) -> float:
    """1 when the answer names the right one of the task's labels and no other, in a label alone or in a sentence; else 0.

    Read is the first line that says something. A label after "not", "no" (不, 非, 没) is not named by it; one letter or digit counts where it
    stands like an option: "B", "(B)", "B. ...", "the answer is B", "选B". Without labels, or with a reference that is none of
    them, it is `exact_match`.
    """
    labels = task.labels if task is not None else ()
    if not any(bare(label) == bare(reference) for label in labels):
        return exact_match(prediction, reference, lang=lang)
    found = named(prediction, labels)
    return float(found is not None and bare(found) == bare(reference))


@metric("choice", families=("classification", "nli"), likelihood="text")
def choice(prediction: str, reference: str, *, lang: str = "") -> float:
    """Accuracy by likelihood: 1 when the label that the model finds likeliest is the right one. Needs labels, and a model that scores texts.

    The model is not asked to write: the log-probabilities of each label's tokens as the answer are summed (lm-evaluation-harness's
    `acc`), so a label that begins another ("不", "不是") is favoured over it. Ties go to the label that the task names first.
    """
    return float(bare(prediction) == bare(reference))


def named(answer: str, labels: Sequence[str]) -> str | None:
    """The one label that the answer's first line names; None where it names none, or several."""
    line = next(iter(lines(answer)), "")
    alone = [label for label in labels if bare(label) == bare(line)]
    if alone:
        return alone[0]
    found = {label for label in labels if _option(label, line)}
    said = tokens(line)
    taken = [False] * len(said)
    for label in sorted(labels, key=lambda label: (-len(tokens(label)), label)):
        words = tokens(label)
        if not words or (len(words) == 1 and len(words[0]) == 1 and words[0].isascii()):
            continue
        for at in range(len(said) - len(words) + 1):
            if said[at : at + len(words)] == words and not any(taken[at : at + len(words)]):
                taken[at : at + len(words)] = [True] * len(words)
                if not _denied(said[:at]):
                    found.add(label)
    return found.pop() if len(found) == 1 else None


def _denied(before: Sequence[str]) -> bool:
    last, second = ([*before[-1:], ""][0], before[-2] if len(before) > 1 else "")
    return last in NOT or (last in ARTICLES and second in NOT)


def _option(label: str, line: str) -> bool:
    """Whether a label of one letter or digit is given as an option is: never the article in "A dog"."""
    if len(label) != 1 or not label.isascii() or not label.isalnum():
        return False
    first = rf"^\W*{label}(?=\s*$|[.):,;。：、，）])"
    told = rf"(?:\b(?i:answer|option|choice)(?: is|:)?\W*|(?:答案|选项|选择|选)[是为：:]?\W*){label}(?![^\W_])"
    return re.search(f"{first}|{told}", line) is not None
