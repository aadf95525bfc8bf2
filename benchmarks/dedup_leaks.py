"""Leaks made on purpose: word problems reworded by rule, and texts beside their translations. A part of dedup.py.

Half of a set's items (seeded) are the evaluation set. The rows of these, reworded or translated, must be found; the rows of the other
half, made the same way, must not.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from dedup_meaning import lines

Texts = tuple[list[str], list[str]]  # the items, and a row for each that shows it
SYNONYMS = {
    "buys": "purchases", "buy": "purchase", "bought": "purchased", "gives": "hands", "gave": "handed", "sells": "is selling",
    "total": "sum", "altogether": "in all", "each": "every single", "per": "for each", "costs": "is priced at", "cost": "price",
    "needs": "requires", "need": "require", "makes": "produces", "make": "produce", "made": "produced", "has": "owns", "have": "own",
    "money": "cash", "house": "home", "kids": "children", "children": "kids", "friends": "pals", "friend": "pal", "big": "large",
    "small": "little", "starts": "begins", "started": "began", "finish": "complete", "trip": "journey", "store": "shop",
    "wants": "would like", "spends": "pays out", "spent": "paid", "gets": "receives", "got": "received", "left": "remaining",
    "twice": "two times", "half": "50 percent", "function": "routine", "Write": "Implement", "find": "determine", "given": "provided",
    "list": "sequence", "number": "figure", "check": "test", "whether": "if", "remove": "delete", "average": "mean", "ratio": "proportion",
    "speed": "velocity", "certain": "particular", "car": "automobile", "train": "locomotive", "How many": "What number of",
    "How much": "What amount of", "What is": "Tell me", "If": "Suppose", "then": "after that", "also": "in addition",
}  # fmt: skip
NAMES = str.split("Rosa Milo Greta Hugo Selma Otto Freya Axel Nadia Bruno Ingrid Felix")
SMALL = str.split("zero one two three four five six seven eight nine ten eleven twelve")
_name = re.compile(
    r"(?<=[a-z,;] )[A-Z][a-z]{2,}\b|^[A-Z][a-z]{2,}(?= (?:has|is|was|had|buys|bought|wants|can|gets|makes|went|and|ha)\b)"
)
_keep = frozenset(
    str.split(
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July August"
    )
)


def reword(text: str, rng: random.Random) -> str:
    """The same problem in other words: names, synonyms, numerals and the order of its clauses changed where rules allow."""
    found = sorted({name for name in _name.findall(text) if name not in _keep})
    renamed = dict(zip(found, rng.sample(NAMES, min(len(NAMES), len(found))), strict=False))
    for old, new in renamed.items():
        text = re.sub(rf"\b{old}\b", new, text)
    for old, new in SYNONYMS.items():
        if rng.random() < 0.8:
            text = re.sub(rf"\b{old}\b", new, text)
    text = re.sub(
        r"(?<![\d.,$])\b(\d{1,2})\b(?![\d.,%:])", lambda m: SMALL[int(m[1])] if int(m[1]) <= 12 else m[1], text
    )
    text = re.sub(
        r"\b(" + "|".join(SMALL[2:]) + r")\b(?= [a-z]+ (?:of|in|for))", lambda m: str(SMALL.index(m[1])), text
    )
    parts = re.split(r"(?<=[.?!])\s+", text.strip())
    if len(parts) > 1 and parts[-1].endswith("?"):
        parts = [parts[-1], *parts[:-1]]  # the question first
    return " ".join(
        ", and ".join(reversed(part[:-1].split(", and ", 1))) + part[-1:] if rng.random() < 0.3 else part
        for part in parts
    )


def gsm8k(data: Path) -> list[str]:
    return [row["question"] for row in lines(data / "14_code_math/gsm8k_test.jsonl.gz")]


def other_problems(data: Path) -> list[str]:
    """What the model of rewordings is trained on: other problems than those that measure it."""
    return [row["instruction"] for row in lines(data / "14_code_math/cot_aqua.jsonl")]


def rewordings(items: Sequence[str], seed: int = 7) -> Texts:
    return list(items), [reword(item, random.Random(f"{seed}:{item}")) for item in items]


def passages(data: Path) -> Texts:
    """XQuAD: a passage and its first question, in English and in Chinese."""
    rows = lines(data / "10_parallel_docs/xquad_en_zh.jsonl.gz")
    return tuple(
        [f"{row[f'context_{one}']}\n{row[f'qas_{one}'][0]['question']}" for row in rows] for one in ("en", "zh")
    )  # type: ignore[return-value]


def questions(data: Path) -> Texts:
    """XQuAD: the questions without their passages."""
    rows = lines(data / "10_parallel_docs/xquad_en_zh.jsonl.gz")
    return tuple([qa["question"] for row in rows for qa in row[f"qas_{one}"]] for one in ("en", "zh"))  # type: ignore[return-value]


def sentences(data: Path) -> Texts:
    """NTREX: news sentences."""
    rows = lines(data / "10_parallel_docs/ntrex_en_zh_de_ja_fr.jsonl.gz")
    return [row["en"] for row in rows], [row["zh"] for row in rows]


def paragraphs(data: Path) -> Texts:
    """NTREX: four sentences in a row of one article."""
    out: Texts = ([], [])
    rows = lines(data / "10_parallel_docs/ntrex_en_zh_de_ja_fr.jsonl.gz")
    for doc in dict.fromkeys(row["doc"] for row in rows):
        mine = [row for row in rows if row["doc"] == doc]
        for at in range(0, len(mine) - 1, 4):
            out[0].append(" ".join(row["en"] for row in mine[at : at + 4]))
            out[1].append("".join(row["zh"] for row in mine[at : at + 4]))
    return out


def halves(count: int) -> np.ndarray:
    return np.array([random.Random(f"half:{at}").random() < 0.5 for at in range(count)])


def asked(texts: Texts, find: Callable[[list[str], list[str]], set[tuple[int, int]]]) -> dict[str, float]:
    """Of the evaluation half the share found, and as that very item; of the other half the share that is found though it shows none."""
    items, rows = texts
    half = halves(len(items))
    place = np.flatnonzero(half).tolist()
    found = find(rows, [items[at] for at in place])
    hit = {row for row, _ in found}
    own = {row for row, item in found if place[item] == row}
    return {
        "recall": round(float(np.mean([at in own for at in place])), 4),
        "false_alarms": round(float(np.mean([at in hit for at in np.flatnonzero(~half).tolist()])), 4),
    }


def by_selector(rows: list[str], items: list[str]) -> set[tuple[int, int]]:
    """What the selector finds with its defaults."""
    from zhiling.embed import Use
    from zhiling.select.decontaminate import decontaminate
    from zhiling.types import Example

    held, mine = [Example("e", item) for item in items], [Example("t", row) for row in rows]
    at, which = {row.id: i for i, row in enumerate(mine)}, {item.id: i for i, item in enumerate(held)}
    verdicts = decontaminate(mine, heldout=held, embedder=Use(), here=Path())
    return {(at[v.example], which[v.rival]) for v in verdicts if not v.kept}


def table(texts: Texts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The features of each row and its nearest items, whether that item is its own, and the row; half of the items are there."""
    from zhiling.embed import Use
    from zhiling.select.decontaminate import Looker, candidates, look

    items, rows = texts
    place = np.flatnonzero(halves(len(items))).tolist()
    chosen = [items[at] for at in place]
    looker = Looker(chosen, Use())
    found = list(candidates(rows, looker))
    values = np.array([looker.features(look(rows[at]), item, cosine)[1] for at, item, cosine in found])
    return values, np.array([place[item] == at for at, item, _ in found]), np.array([at for at, _, _ in found])


USED = {"reworded": ("words", "numbers"), "translated": ("cosine", "numbers", "shared", "names", "length")}
ALARMS = 0.01  # of the rows that show no item


def train(data: Path) -> Path:
    """Fit both models, on rewordings of other problems than those that measure them, and on translations.

    A rewording counts for as much as all its rivals, so that the bias is that of even odds; the bias of translations is set where one row
    in a hundred that shows no item is found.
    """
    from dedup_meaning import fit

    from zhiling.select.decontaminate import FEATURES, WEIGHTS, weights

    both = [passages(data), paragraphs(data), sentences(data)]
    sets = {"reworded": [rewordings(other_problems(data))], "translated": [*both, *((zh, en) for en, zh in both)]}
    content = {}
    for name, texts in sets.items():
        columns = [FEATURES.index(feature) for feature in USED[name]]
        tables = [table(pair) for pair in texts]
        values = np.concatenate([part[0] for part in tables])[:, columns]
        own = np.concatenate([part[1] for part in tables])
        rows = np.concatenate([part[2] + 10_000 * at for at, part in enumerate(tables)])
        even = np.where(own, (~own).sum() / own.sum(), 1.0)
        bias, scaled = fit(values, own.astype(float), even, penalty=1.0)
        if name == "translated":
            odds = bias + values @ scaled
            highest = np.array([odds[rows == row].max() for row in np.setdiff1d(rows, rows[own])])
            bias -= float(np.quantile(highest, 1 - ALARMS))
        by_name = dict(zip(USED[name], np.round(scaled, 4).tolist(), strict=True))
        content[name] = {"bias": round(bias, 4), **{feature: by_name.get(feature, 0.0) for feature in FEATURES}}
    head = "# How likely it is that a row shows an evaluation item: by benchmarks/dedup.py --train.\n"
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=140)
    WEIGHTS.write_text(head + text, encoding="utf-8")
    weights.cache_clear()
    return WEIGHTS


def measured(data: Path) -> list[dict[str, Any]]:
    """The selector's recall and false alarms on each kind of leak."""
    sets = {
        "reworded_gsm8k": rewordings(gsm8k(data)),
        "translated_xquad": passages(data),
        "translated_ntrex": paragraphs(data),
        "translated_sentences": sentences(data),
        "translated_questions": questions(data),
    }
    return [{"name": name, "rows": len(texts[0]), **asked(texts, by_selector)} for name, texts in sets.items()]


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The figures: rewordings of GSM8K; translations of passages and of paragraphs, weighted by their rows; and the harder sorts."""
    by_name = {row["name"]: row for row in rows}
    both = [by_name["translated_xquad"], by_name["translated_ntrex"]]
    total = sum(row["rows"] for row in both)
    out = {"reworded_recall": by_name["reworded_gsm8k"]["recall"]}
    out["reworded_false_alarms"] = by_name["reworded_gsm8k"]["false_alarms"]
    for key, name in (("recall", "translated_recall"), ("false_alarms", "translated_false_alarms")):
        out[name] = round(sum(row[key] * row["rows"] for row in both) / total, 4)
    for name in ("translated_sentences", "translated_questions"):
        out |= {f"{name}_{key}": by_name[name][key] for key in ("recall", "false_alarms")}
    return out


MANY, MIXED, QUICK = 200_000, 4_000, 2_000  # rows


def speed(data: Path, quick: bool = False) -> list[dict[str, Any]]:
    """Rows that the selector goes through in a CPU second: Alpaca's against word problems in English, and against these and Chinese texts.

    Beyond the 52k a row is one of them again with its number added, so that no two say the same. Against items in its own language a row is
    only embedded where its words and numbers allow it; against a translation every row is.
    """
    import time
    from itertools import islice

    from zhiling.embed import Use
    from zhiling.select.decontaminate import decontaminate
    from zhiling.types import Example

    def rows(count: int) -> list[Example]:
        found = lines(data / "02_alpaca/alpaca_52k_original.jsonl.gz")
        texts = (f"{row['instruction']}\n{row['input'] or ''}" for row in found)
        first = [Example("t", text) for text in islice(texts, count)]
        return first + [Example("t", f"{first[at % len(first)].instruction} {at}") for at in range(len(first), count)]

    english = [Example("e", item) for item in gsm8k(data) + other_problems(data)]
    chinese = [Example("e", item) for item in paragraphs(data)[1]]
    told = []
    for name, items, count in (("english", english, MANY), ("mixed", english + chinese, MIXED)):
        pool = rows(QUICK if quick else count)
        list(
            decontaminate(pool[:20], heldout=items[-20:], embedder=Use(), here=Path())
        )  # tables and weights are loaded
        start = time.process_time()
        dropped = sum(not verdict.kept for verdict in decontaminate(pool, heldout=items, embedder=Use(), here=Path()))
        seconds = time.process_time() - start
        told.append(
            {
                "name": f"decontaminate_{name}",
                "rows": len(pool),
                "items": len(items),
                "rows_per_cpu_s": round(len(pool) / seconds),
                "dropped": dropped,
            }
        )
    return told
