"""The instruction bank: how well it finds, how fast, and how long it takes to build.

    python benchmarks/bank.py [--quick] [--data DIR] [--json FILE]

* `ni_mrr`, `ni_ndcg10`: a Natural Instructions definition as the query, the other tasks of its category as what should be found
  (a search for related rows).
* `simclue_accuracy`: the share of SimCLUE rows whose positive title ranks above the hard negative.
* `crosslingual_hit10`: Chinese news sentences as queries against their English translations.
* `adaptation_correct`: retrieved instructions made another task's own that name its language or labels and none of the source's.
* `p95_ms_52k`, `build_s_52k`: searching and building (without embeddings) with Alpaca's 52k instructions.
* `p95_ms_1m`: searching a million made-up rows (not with --quick: building them takes minutes and 4 GB of disk).
Each quality is also shown for keywords alone and for other weights of the vector part.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import platform
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zhiling.construct import bank_view as banks
from zhiling.construct.bank import Bank, Row
from zhiling.construct.bank import shipped as banks_shipped
from zhiling.construct.retrieve_adapt import adapt
from zhiling.construct.sandbox import compiled
from zhiling.embed import Use
from zhiling.types import Task

WEIGHTS = (0.0, 0.4, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    args = parser.parse_args()
    use = Use()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for measure in (natural_instructions, simclue, crosslingual, adaptation):
            rows += measure(args.data, folder / measure.__name__, use, args.quick)
        rows += speed(args.data, folder / "speed", args.quick)
        if not args.quick:
            rows += million(args.data, folder / "million")
    chosen = {row["figure"]: row["value"] for row in rows if row["weight"] in (None, banks.VECTOR_WEIGHT)}
    for row in rows:
        weight = "" if row["weight"] is None else f"vector weight {row['weight']}"
        print(f"{row['figure']:<22} {weight:<18} {row['value']:.4f}")
    if args.json:
        report = {
            "name": "bank",
            "machine": platform.processor() or platform.machine(),
            "figures": chosen,
            "rows": rows,
        }
        args.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as source:
        yield from (json.loads(line) for line in source)


def made(folder: Path, texts: dict[str, str], use: Use | None) -> Bank:
    bank = Bank.create(folder, use)
    bank.add(({"id": key, "instruction": text, "lang": "x"} for key, text in texts.items()), licence="test")
    return bank


def weighted(figures: dict[str, float], weight: float) -> list[dict[str, Any]]:
    return [{"figure": name, "weight": weight, "value": value} for name, value in figures.items()]


def over_weights(measure: Any) -> list[dict[str, Any]]:
    usual, out = banks.VECTOR_WEIGHT, []
    for weight in WEIGHTS:
        banks.VECTOR_WEIGHT = weight
        out += weighted(measure(), weight)
    banks.VECTOR_WEIGHT = usual
    return out


def natural_instructions(data: Path, folder: Path, use: Use, quick: bool) -> list[dict[str, Any]]:
    given = {row["task"]: row["Definition"] for row in lines(data / "05_natural_instructions" / "tasks.jsonl.gz")}
    tasks = {name: said if isinstance(said, str) else " ".join(said) for name, said in given.items()}
    queries = list(lines(data / "12_retrieval" / "ni_category_retrieval.jsonl"))[: 30 if quick else None]
    bank = made(folder, tasks, use)

    def measure() -> dict[str, float]:
        reciprocal, gain = 0.0, 0.0
        for query in queries:
            found = [
                hit.row.id
                for hit in bank.search(query["query"], len(tasks), related=True)
                if hit.row.id != query["task"]
            ]
            good = [name in set(query["relevant"]) for name in found]
            reciprocal += next((1 / (i + 1) for i, right in enumerate(good) if right), 0.0)
            ideal = sum(1 / math.log2(i + 2) for i in range(min(10, len(query["relevant"]))))
            gain += sum(1 / math.log2(i + 2) for i, right in enumerate(good[:10]) if right) / ideal
        return {"ni_mrr": reciprocal / len(queries), "ni_ndcg10": gain / len(queries)}

    return over_weights(measure)


def simclue(data: Path, folder: Path, use: Use, quick: bool) -> list[dict[str, Any]]:
    rows = list(lines(data / "12_retrieval" / "simclue_rank.jsonl"))[: 200 if quick else None]
    texts = {text: text for row in rows for text in (row["title"], row["neg_title"])}
    bank = made(folder, texts, use)

    def measure() -> dict[str, float]:
        right = 0
        for row in rows:
            place = {hit.row.id: i for i, hit in enumerate(bank.search(row["query"], 20))}
            right += place.get(row["title"], 10_000) < place.get(row["neg_title"], 10_000)
        return {"simclue_accuracy": right / len(rows)}

    return over_weights(measure)


def crosslingual(data: Path, folder: Path, use: Use, quick: bool) -> list[dict[str, Any]]:
    pairs = list(lines(data / "10_parallel_docs" / "ntrex_en_zh_de_ja_fr.jsonl.gz"))[: 200 if quick else None]
    bank = made(folder, {str(pair["i"]): pair["en"] for pair in pairs}, use)
    found = sum(str(pair["i"]) in {hit.row.id for hit in bank.search(pair["zh"], 10)} for pair in pairs)
    return weighted({"crosslingual_hit10": found / len(pairs)}, banks.VECTOR_WEIGHT)


TARGETS = {
    "法语": "French", "西班牙语": "Spanish", "德语": "German", "日语": "Japanese", "俄语": "Russian", "阿拉伯语": "Arabic",
    "葡萄牙语": "Portuguese", "意大利语": "Italian", "韩语": "Korean", "越南语": "Vietnamese",
}  # fmt: skip
OTHERS = (
    *TARGETS, "英语", "英文", "法文", "德文", "日文", "韩文", "俄文", "西班牙文", "中文", "汉语", "文言", "粤语", "荷兰语", "希腊语",
    "拉丁语", "藏语", *TARGETS.values(), "English", "Chinese", "Mandarin", "Cantonese", "Dutch", "Greek", "Latin", "Hindi",
    "Turkish", "Polish", "Thai",
)  # fmt: skip
CHOICES = {
    "zh": (
        ("好评", "差评"),
        ("体育", "财经", "科技"),
        ("蕴含", "中立", "矛盾"),
        ("是", "否"),
        ("垃圾短信", "正常短信"),
    ),
    "en": (
        ("like", "dislike"),
        ("sports", "finance", "science"),
        ("entailment", "neutral", "contradiction"),
        ("spam", "ham"),
    ),
}


def adaptation(data: Path, folder: Path, use: Use, quick: bool) -> list[dict[str, Any]]:
    """Retrieved instructions made a task's own: does the text name the task's language or labels, and no longer the source's?

    Judged by the plain lists above and by the worked answer of the row it came from, not by what the adapter knows. Of `pool` rows
    retrieved per task, `adaptation_taken` could be adapted; the others are refused with a reason and do not count.
    """
    bank = banks_shipped(use)
    right, taken, seen = 0, 0, 0
    for row, task, lang, wanted, unwanted in goals(bank):
        seen += 1
        made = adapt(row, task, lang)
        if isinstance(made, str):
            continue
        taken += 1
        said = compiled(made.instruction).render(dict.fromkeys(task.inputs, ""))
        right += all(word in said for word in wanted) and not any(word in said for word in unwanted)
    figures = {"adaptation_correct": right / taken, "adaptation_n": float(taken), "adaptation_taken": taken / seen}
    return [{"figure": name, "weight": None, "value": value} for name, value in figures.items()]


def goals(bank: Bank) -> Iterator[tuple[Row, Task, str, tuple[str, ...], tuple[str, ...]]]:
    """(retrieved row, task, language, the words the result must have, the words it must not have)."""
    for zh, en in TARGETS.items():
        for lang, name in (("zh", zh), ("en", en)):
            said = f"把句子翻译成{zh}。" if lang == "zh" else f"Translate the sentence into {en}."
            task = Task("t", said, "translation", ("source",), "target", langs=(lang,))
            for hit in bank.search(said, 24, lang=lang, family="translation"):
                yield hit.row, task, lang, (name,), tuple(other for other in OTHERS if other not in name)
    for lang, sets in CHOICES.items():
        for labels in sets:
            said = (
                f"判断文本属于{'、'.join(labels)}。" if lang == "zh" else f"Classify the text as {', '.join(labels)}."
            )
            task = Task("t", said, "classification", ("text",), "label", langs=(lang,), labels=labels)
            for hit in bank.search(said, 24, lang=lang, family="classification"):
                answer = hit.row.output.strip()
                yield (
                    hit.row,
                    task,
                    lang,
                    labels,
                    (answer,) if answer and not any(answer in one for one in labels) else (),
                )


class Random:
    """Stands in for an embedder where only speed is measured: unit vectors of the usual size, different for every text."""

    name, dim = "random", 512

    def __call__(self, texts: Any) -> Any:
        chance = np.random.default_rng([len(texts), len(texts[0])])
        vectors = chance.standard_normal((len(texts), self.dim), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def speed(data: Path, folder: Path, quick: bool) -> list[dict[str, Any]]:
    rows = list(lines(data / "02_alpaca" / "alpaca_52k_original.jsonl.gz"))[: 5_000 if quick else None]
    usable = [row for row in rows if row["instruction"].strip()]
    start = time.perf_counter()
    Bank.create(folder / "keywords").add(usable, licence="CC BY-NC 4.0")
    figures = {"build_s_52k": time.perf_counter() - start}
    bank = Bank.create(folder / "vectors", Random())
    bank.add(usable, licence="CC BY-NC 4.0")
    asked = [row["instruction"] for row in usable[:: max(1, len(usable) // 300)]]
    figures |= timed(bank, asked, "52k", False) | timed(bank, asked, "52k_related", True)
    return [{"figure": name, "weight": None, "value": value} for name, value in figures.items()]


def timed(bank: Bank, asked: list[str], name: str, related: bool) -> dict[str, float]:
    """Milliseconds per search, the embedding of the question left out."""
    for query in asked[:10]:
        bank.search(query, 10, related=related)
    spent = []
    for query in asked:
        start = time.perf_counter()
        bank.search(query, 10, related=related)
        spent.append(1000 * (time.perf_counter() - start))
    return {f"p50_ms_{name}": float(np.percentile(spent, 50)), f"p95_ms_{name}": float(np.percentile(spent, 95))}


def million(data: Path, folder: Path, count: int = 1_000_000) -> list[dict[str, Any]]:
    """A bank of a million made-up rows: halves of two Alpaca instructions joined, with random vectors."""
    said = [row["instruction"].split() for row in lines(data / "02_alpaca" / "alpaca_52k_original.jsonl.gz")]
    said = [words for words in said if len(words) > 3]
    chance = random.Random(5)

    def row(number: int) -> dict[str, str]:
        one, other = said[number % len(said)], chance.choice(said)
        words = one[: len(one) // 2 + 1] + other[len(other) // 2 :]
        return {"id": str(number), "instruction": " ".join(words), "lang": "en", "family": f"f{number % 16}"}

    bank, start = Bank.create(folder, Random()), time.perf_counter()
    for first in range(0, count, 125_000):
        bank.add((row(number) for number in range(first, min(count, first + 125_000))), licence="test")
    figures = {"build_s_1m": time.perf_counter() - start, "disk_mb_1m": bank.info()["bytes"] / 1e6}
    asked = [" ".join(said[i]) for i in range(0, len(said), len(said) // 200)]
    figures |= timed(bank, asked, "1m", False)
    return [{"figure": name, "weight": None, "value": value} for name, value in figures.items()]


if __name__ == "__main__":
    main()
