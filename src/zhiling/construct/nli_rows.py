"""Rows for natural language inference: for each premise a hypothesis of every label, so that labels are balanced from the start.

premise -> a sentence that must, may, or cannot be true (Bowman et al. 2015) -> form, language, novelty -> rows for an independent judge

Whether the label holds is for the verifier `nli`, with a model that did not write the hypotheses; whether hypotheses alone give labels away
is told of the whole set in the report, and the selector `hypothesis_only` drops the rows that do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from zhiling.construct.generate.asking import Asking, Said, book, styled
from zhiling.construct.generate.checks import Leak, loops, spoken
from zhiling.construct.generate.floor import Made
from zhiling.construct.generate.repair import failed
from zhiling.errors import say
from zhiling.llm.parse import unquote
from zhiling.nli import LABELS
from zhiling.registry import constructor
from zhiling.text import lang as language
from zhiling.text import normalise, tokens
from zhiling.types import Example, Record, Reject, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """Calls for one premise."""
    return len(LABELS)


@constructor("nli", over="records", calls=calls, ready=calls, needs=("chat",), paper="SNLI, arXiv:1508.05326")
async def nli(
    *,
    task: Task,
    records: Iterable[Record],
    model: Model,
    seed: int,
    here: Path,
    premise: str | None = None,
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.7,
    max_tokens: Annotated[int, Ge(8)] = 60,
) -> list[Made]:
    """For each record three rows: a hypothesis that follows from its premise, one that may be true, and one that cannot be.

    `premise` names the data field (default: the task's first input). A premise of which one hypothesis fails loses all three, so that no label
    outgrows the others: the good ones are Rejects that say so. Rows are in the premise's language.
    """
    words = book("families", prompts, here)
    name = premise or task.inputs[0]
    rows = [record for record in records if record.fields.get(name, "").strip()]
    out: list[Made] = []
    for lang in ("en", "zh"):
        own = [record for record in rows if (language(record.fields[name]) == "zh") == (lang == "zh")]
        asking = Asking(task, model, words, lang, styled(model, style), seed, temperature, max_tokens)
        leak = Leak(words.texts(lang), lang)
        slots = [(record.id, {"premise": " ".join(record.fields[name].split())}) for record in own]
        said = {label: await asking.ask(f"nli_{label}", slots) for label in LABELS} if own else {}
        for at, record in enumerate(own):
            out += _three(record, slots[at][1]["premise"], [said[label][at] for label in LABELS], asking, leak)
    return out


def _three(record: Record, premise: str, said: Sequence[Said], asking: Asking, leak: Leak) -> list[Made]:
    maker, words = f"nli:{asking.model.label}", asking.book.more["nli"][asking.lang]
    made: list[Made] = []
    seen: list[str] = []
    for label, one in zip(LABELS, said, strict=True):
        text = unquote(one.text.strip())
        why = one.fault or _unfit(text, premise, seen, asking.lang) or leak.why(text)
        seen.append(normalise(text))
        if why:
            made.append(failed(record.task, maker, one._replace(fault=why), f"{label} {record.id}", (record.id,)))
            continue
        wordings = words["instructions"]
        asked = wordings[row_seed(asking.seed, f"{record.id}:{label}:wording") % len(wordings)]
        pair = words["pair"].replace("{hypothesis}", text).replace("{premise}", premise)
        parents = (record.id, one.key)
        made.append(
            Example(record.task, asked, pair, words["labels"][label], lang=asking.lang, maker=maker, parents=parents)
        )
    if all(isinstance(row, Example) for row in made):
        return made
    lonely = say("balance: another label of this premise failed", "balance：该前提的另一标签未能生成")
    return [
        Reject(r.task, maker, "dropped", lonely, text=r.input, parents=r.parents) if isinstance(r, Example) else r
        for r in made
    ]


def _unfit(text: str, premise: str, seen: Sequence[str], lang: str) -> str:
    if not tokens(text):
        return f"empty: {say('no words', '没有文字')}"
    if normalise(text) == normalise(premise):
        return f"echo: {say('it repeats the premise', '与前提相同')}"
    if normalise(text) in seen:
        return f"novelty: {say('the same for two labels', '两个标签的假设相同')}"
    return spoken(text, lang) or loops(text)
