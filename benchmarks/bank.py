"""The instruction bank: how well it finds, how fast, and how long it takes to build.

    python benchmarks/bank.py [--quick] [--only NAME ...] [--data DIR] [--json FILE]

* `ni_mrr`, `ni_ndcg10`: a Natural Instructions definition as the query, the other tasks of its category as what should be found
  (a search for related rows).
* `simclue_accuracy`: the share of SimCLUE rows whose positive title ranks above the hard negative.
* `crosslingual_hit10`: Chinese news sentences as queries against their English translations.
* `adaptation_correct`: retrieved instructions made another task's own that name its language or labels and none of the source's.
* `p95_ms_52k`, `build_s_52k`: searching and building (without embeddings) with Alpaca's 52k instructions.
* `beside_*`: the same rows with vectors in our bank, and beside it in Qdrant's embedded store, LanceDB (vectors) and SQLite FTS5
  (keywords): seconds to build, MB on disk, MB of memory to open and search, p95 in ms. Rivals live in environments under `.bench/`.
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
import shutil
import subprocess
import sys
import tempfile
import time
import venv
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
MEASURES = ("natural_instructions", "simclue", "crosslingual", "adaptation", "speed", "beside", "million")
RIVALS = {"ours": "", "qdrant": "qdrant-client", "lancedb": "lancedb", "fts5": ""}
"""Stores measured beside each other, and the package that each needs in an environment of its own; "" needs none."""
LIMIT = 240
"""Seconds after which a rival's step is given up."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES, help="these measures alone")
    args = parser.parse_args()
    use = Use()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for measure in (natural_instructions, simclue, crosslingual, adaptation):
            if measure.__name__ in args.only:
                rows += measure(args.data, folder / measure.__name__, use, args.quick)
        if "speed" in args.only:
            rows += speed(args.data, folder / "speed", args.quick)
        if "beside" in args.only:
            rows += beside(args.data, folder / "beside", args.quick)
        if "million" in args.only and not args.quick:
            rows += million(args.data, folder / "million")
    chosen = {row["figure"]: row["value"] for row in rows if row["weight"] in (None, banks.VECTOR_WEIGHT)}
    for row in rows:
        weight = "" if row["weight"] is None else f"vector weight {row['weight']}"
        value = row["why"] if row["value"] is None else f"{row['value']:.4f}"
        print(f"{row['figure']:<26} {weight:<18} {value}")
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


def beside(data: Path, folder: Path, quick: bool) -> list[dict[str, Any]]:
    """The same rows and vectors in each store, built and searched in a process of its own; None, with why, where that was not possible."""
    folder.mkdir()
    rows = [row for row in lines(data / "02_alpaca" / "alpaca_52k_original.jsonl.gz") if row["instruction"].strip()]
    rows = rows[: 5_000 if quick else None]
    kept = [{key: row.get(key, "") for key in ("instruction", "input", "output")} for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in kept), encoding="utf-8")
    np.save(folder / "vectors.npy", unit(len(kept)))
    out = []
    for name, package in RIVALS.items():
        found = in_store(name, package, folder)
        why = found.pop("why", "")
        wanted = ("build_s", "disk_mb", "memory_mb", "p95_ms")
        out += [
            {"figure": f"beside_{name}_{one}", "weight": None, "value": found.get(one), "why": why} for one in wanted
        ]
    return out


def unit(count: int) -> Any:
    vectors = np.random.default_rng(7).standard_normal((count, 512), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def in_store(name: str, package: str, folder: Path) -> dict[str, Any]:
    """What building and searching one store took, or {"why": ...}."""
    python, here = Path(sys.executable), Path(__file__).resolve()
    if package:
        home = here.parents[1] / ".bench" / f"bank-{name}"
        python = home / "bin" / "python"
        if not python.exists():
            venv.create(home, with_pip=True)
            made = subprocess.run(
                [python, "-m", "pip", "install", "-q", package, "numpy"], capture_output=True, text=True
            )
            if made.returncode:
                shutil.rmtree(home)
                return {"why": f"{package} could not be installed"}
    found: dict[str, Any] = {}
    for step in ("build", "search"):
        words: list[Any] = [
            python,
            "-P",  # `select.py` beside it is not Python's own
            here.with_name("bank_beside.py"),
            name,
            step,
            folder / "rows.jsonl",
            folder / "vectors.npy",
            folder / name,
        ]
        try:
            ran = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return {**found, "why": f"{step} took more than {LIMIT} s"}
        if ran.returncode:
            return {**found, "why": ran.stderr.strip().splitlines()[-1]}
        found |= json.loads(ran.stdout)
    found["disk_mb"] = sum(file.stat().st_size for file in (folder / name).rglob("*") if file.is_file()) / 1e6
    return found


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
