"""The labelled data that metrics are measured on: pairs of rows of which people preferred the first, and Alpaca with its labels."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiling.data import shared_data
from zhiling.types import Example, Task

LABELS = "02_alpaca/alpagasus_selected_labels.jsonl.gz"
Pair = tuple[Example, Example]
"""(the better, the worse)."""


@dataclass(frozen=True)
class Evidence:
    """`kind`: "human" (people judged), "model" (a model judged), "planted" (known defects in clean rows), "rule" (the rule's cases).

    Either pairs (better, worse) or two groups. `fitted` names the figures of the metric's own cross-validation on these data, where its
    weights were fitted to them.
    """

    kind: str
    data: str
    pairs: Sequence[Pair] = ()
    good: Sequence[Example] = ()
    bad: Sequence[Example] = ()
    tasks: dict[str, Task] = field(default_factory=dict)
    fitted: tuple[str, ...] = ()


def read(path: Path, most: int | None = None) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.split(b"\n")[:most] if line.strip()]


def whole(data: Path, name: str) -> Path:
    """A file that was not split into halves: from this data, or else from the shared data."""
    return data / name if (data / name).exists() else shared_data() / name


def row(instruction: str, given: str | None, output: str | None, lang: str = "") -> Example:
    return Example("pairs", instruction or "", given or "", output or "", lang=lang)


def alpaca(path: Path, most: int | None = None) -> list[Example]:
    return [row(item["instruction"], item.get("input"), item.get("output")) for item in read(path, most)]


def coach_responses(data: Path) -> Iterator[Pair]:
    """The expert's answer before the raw one, to the expert's instruction."""
    for item in read(data / "02_alpaca/coachlm_expert_revisions.jsonl.gz"):
        if item["response_changed"]:
            asked = item["Revised Instruction"], item["Revised Input"]
            yield row(*asked, item["Revised Response"]), row(*asked, item["Raw Response"])


def coach_instructions(data: Path) -> Iterator[Pair]:
    """The expert's instruction and input before the raw ones, the answer being equal."""
    for item in read(data / "02_alpaca/coachlm_expert_revisions.jsonl.gz"):
        if item["instruction_changed"]:
            said = item["Raw Response"]
            raw = row(item["Raw Instruction"], item["Raw Input"], said)
            yield row(item["Revised Instruction"], item["Revised Input"], said), raw


def autoj(data: Path) -> Iterator[Pair]:
    """Auto-J's human verdicts; ties are left out."""
    for item in read(data / "09_judging/autoj_pairwise.jsonl.gz"):
        two = [row(item["prompt"], "", item[f"response {n}"]) for n in (1, 2)]
        if str(item["label"]) in ("0", "1"):
            yield two[int(item["label"])], two[1 - int(item["label"])]


def llmbar(name: str) -> Callable[[Path], Iterator[Pair]]:
    def pairs(data: Path) -> Iterator[Pair]:
        for item in read(data / f"09_judging/llmbar_{name}.jsonl"):
            two = [row(item["input"], "", item[f"output_{n}"]) for n in (1, 2)]
            yield two[int(item["label"]) - 1], two[2 - int(item["label"])]

    return pairs


def faireval(data: Path) -> Iterator[Pair]:
    """FairEval's human verdicts; ties are left out."""
    for item in read(data / "09_judging/faireval_human.jsonl"):
        two = [row(item["text"], "", item[f"answer_{name}"]) for name in ("gpt35", "vicuna13b")]
        if item["human_label"] != "TIE":
            first = 0 if item["human_label"] == "CHATGPT" else 1
            yield two[first], two[1 - first]


PAIRS: dict[str, Callable[[Path], Iterator[Pair]]] = {
    "coachlm_responses": coach_responses,
    "autoj": autoj,
    "llmbar_natural": llmbar("natural"),
    "llmbar_gptinst": llmbar("adv_gptinst"),
    "llmeval2": llmbar("llmeval2"),
    "faireval": faireval,
}
"""What `quality` is trained and measured on, by the name of its figure."""


def pairs(data: Path, name: str, most: int | None = None) -> list[Pair]:
    """The pairs of a set, [] where this data has no such file."""
    try:
        found = list(PAIRS[name](data) if name in PAIRS else coach_instructions(data))
    except FileNotFoundError:
        return []
    return found if most is None or len(found) <= most else random.Random(7).sample(found, most)


def alpagasus(data: Path, most: int) -> tuple[list[Example], dict[str, list[bool]]]:
    """At most so many labelled Alpaca rows, and the two kinds of labels that language models gave them."""
    rows = read(whole(data, "02_alpaca/alpaca_52k_original.jsonl.gz"))
    labels = read(data / LABELS)
    chosen = random.Random(7).sample(labels, min(most, len(labels)))
    own = [rows[item["alpaca_row"]] for item in chosen]
    if any(a["instruction"] != b["instruction"] for a, b in zip(own, chosen, strict=True)):
        raise SystemExit("the labels do not belong to this alpaca_52k_original.jsonl.gz")
    kinds = {"claude": "claude_ge_4_5", "helpfulness": "helpfulness_ge_4_5"}
    return (
        [row(item["instruction"], item["input"], item["output"]) for item in own],
        {kind: [bool(item[key]) for item in chosen] for kind, key in kinds.items()},
    )
