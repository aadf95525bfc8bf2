"""Near-duplicates: how many are found, how surely, and how fast, beside rensa and datasketch.

    python benchmarks/dedup.py [--quick] [--data DIR] [--json FILE] [--no-rivals] [--train]

Alpaca's 52k rows (prompt and output) and a tenth of them again with small seeded edits, compared by word 5-grams at Jaccard 0.7; the same in
Chinese by character 5-grams. The truth is counted by a plain inverted index over Python sets. All texts are normalised
and their tokens joined by spaces before the clock starts, so that everybody splits them alike; the clock counts the CPU seconds, over
all threads, from these texts to verified pairs. Rivals run in an environment of their own, made on demand.

Meaning: pairs of questions with labels (dedup_meaning.py), and leaks made on purpose (dedup_leaks.py: problems reworded by rule, texts
beside their translations, found by the selector `decontaminate` as it stands). With --train both pair models are fitted again and written into
the package; otherwise nothing is written. A labelled set that the weights were trained on is measured by folds, never with these weights.

Figures: rows_per_cpu_s, recall, recall_j7_8 (pairs with a Jaccard of 0.7 to 0.8), precision; the same with _zh; near_rows_per_cpu_s (the
selector `near` with its defaults, from rows to verdicts); decontaminate_english_rows_per_cpu_s (200k rows against word problems) and
decontaminate_mixed_rows_per_cpu_s (against items in both languages, for which every row is embedded); those of the rivals, prefixed with
their names; lcqmc_f1, qqp_f1, pawsx_merged (the share of PAWS-X pairs with another meaning that would be merged) at a probability of 0.5,
_default at the selector's own threshold; reworded_recall and translated_recall (XQuAD passages with a question, NTREX in fours of sentences,
by rows) with their _false_alarms.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

N, THRESHOLD, PERMUTATIONS = 5, 0.7, 128
Pairs = set[tuple[int, int]]
RIVALS = {"rensa_16_bands": "rensa", "rensa_32_bands": "rensa", "datasketch": "datasketch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="6,000 rows")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--rival", choices=RIVALS, help=argparse.SUPPRESS)  # how this script calls itself
    parser.add_argument("--texts", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--train", action="store_true", help="fit the pair models again, then measure")
    args = parser.parse_args()
    if args.rival:
        print(json.dumps(timed(globals()[args.rival], json.loads(args.texts.read_text(encoding="utf-8")))))
        return
    import dedup_leaks
    import dedup_meaning

    if args.train:
        print(dedup_meaning.train(args.data), dedup_leaks.train(args.data), sep="\n")
    rows: list[dict[str, Any]] = []
    for lang, files in CORPORA.items():
        texts = corpus(args.data, files, 6000 if args.quick else None)
        truth = brute_force(texts)
        rows.append(measured(f"zhiling_{lang}", timed(ours, texts), truth, len(texts)))
        if lang == "en" and not args.no_rivals:
            rows += [measured(name, said, truth, len(texts)) for name, said in rivals(texts)]
    rows.append(selector(args.data, 6000 if args.quick else None))
    meaning, leaks = dedup_meaning.measured(args.data), dedup_leaks.measured(args.data)
    for row in (meaning, *leaks):
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    rows += dedup_leaks.speed(args.data, args.quick)
    report(rows, args.json, [meaning, *leaks], {**figures_of(meaning), **dedup_leaks.figures(leaks)})


def figures_of(row: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in row.items() if isinstance(value, float)}


CORPORA = {
    "en": ("02_alpaca/alpaca_52k_original.jsonl.gz",),
    "zh": (
        "02_alpaca/alpaca_zh_community_translated.jsonl.gz",
        "02_alpaca/zh_extra_topics.jsonl.gz",
        "02_alpaca/llamafactory_alpaca_zh_demo.jsonl.gz",
    ),
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def corpus(data: Path, files: Sequence[str], most: int | None) -> list[str]:
    """The rows' tokens joined by spaces, and every tenth of them again with one edit or several."""
    from zhiling import text

    rows = [row for file in files for row in lines(data / file)][:most]
    texts = [
        " ".join(text.tokens(f"{row['instruction']}\n{row.get('input') or ''}\n{row.get('output') or ''}"))
        for row in rows
    ]
    rng = random.Random(7)
    words = sorted({word for item in texts[:2000] for word in item.split()})
    for item in texts[::10]:
        tokens = item.split()
        for _ in range(max(1, round(len(tokens) * rng.uniform(0.002, 0.05)))):
            at = rng.randrange(max(1, len(tokens)))
            tokens[at : at + rng.randrange(2)] = [rng.choice(words)] * rng.randrange(2)
        texts.append(" ".join(tokens))
    return texts


def grams(item: str) -> set[tuple[str, ...]]:
    tokens = item.split()
    return {tuple(tokens[i : i + N]) for i in range(max(len(tokens) - N + 1, min(len(tokens), 1)))}


def brute_force(texts: Sequence[str]) -> dict[tuple[int, int], float]:
    """Every pair with a Jaccard >= 0.7, and its Jaccard, by counting shared shingles one by one."""
    sets = [grams(item) for item in texts]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    found: dict[tuple[int, int], float] = {}
    for row, mine in enumerate(sets):
        shared: Counter[int] = Counter()
        for gram in mine:
            shared.update(holders[gram])
            holders[gram].append(row)
        for other, both in shared.items():
            jaccard = both / (len(mine) + len(sets[other]) - both)
            if jaccard >= THRESHOLD:
                found[other, row] = jaccard
    return found


def timed(work: Callable[[Sequence[str]], Pairs], texts: Sequence[str]) -> dict[str, Any]:
    work(texts[:100])  # tables and libraries are loaded before the clock starts
    start = time.process_time()
    found = work(texts)
    return {"cpu_s": time.process_time() - start, "pairs": sorted(found)}


def ours(texts: Sequence[str]) -> Pairs:
    from zhiling.select.join import pairs
    from zhiling.select.shingles import build

    a, b, _ = pairs(build(texts, N), THRESHOLD)
    return set(zip(a.tolist(), b.tolist(), strict=True))


def measured(name: str, said: dict[str, Any], truth: dict[tuple[int, int], float], rows: int) -> dict[str, Any]:
    if "why" in said:
        return {"name": name, "skipped": said["why"]}
    found = {tuple(pair) for pair in said["pairs"]}
    close = {pair for pair, jaccard in truth.items() if jaccard < 0.8}
    return {
        "name": name,
        "rows": rows,
        "pairs": len(truth),
        "rows_per_cpu_s": round(rows / said["cpu_s"]),
        "recall": round(len(found & truth.keys()) / len(truth), 4),
        "recall_j7_8": round(len(found & close) / len(close), 4),
        "precision": round(len(found & truth.keys()) / max(1, len(found)), 4),
    }


def selector(data: Path, most: int | None) -> dict[str, Any]:
    from zhiling.select.duplicates import near
    from zhiling.types import Example

    rows = [
        Example("a", row["instruction"], row["input"], row["output"]) for row in lines(data / CORPORA["en"][0])[:most]
    ]
    list(near(rows[:100], scores={}))
    start = time.process_time()
    dropped = sum(not verdict.kept for verdict in near(rows, scores={}))
    seconds = time.process_time() - start
    return {"name": "near", "rows": len(rows), "rows_per_cpu_s": round(len(rows) / seconds), "dropped": dropped}


def rivals(texts: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """What each rival finds, in an interpreter of its own; or why it could not be asked."""
    home = Path(__file__).resolve().parents[1] / ".bench" / "dedup"
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    try:
        if not python.exists():
            venv.create(home, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q", *sorted(set(RIVALS.values()))]
        subprocess.run(install, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        return [(name, {"why": f"cannot be installed: {error}"}) for name in RIVALS]
    out: list[tuple[str, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_text(json.dumps(texts), encoding="utf-8")
        for name in RIVALS:
            done = subprocess.run(
                [str(python), __file__, "--rival", name, "--texts", str(file)], capture_output=True, text=True
            )
            failed = {"why": (done.stderr.strip().splitlines() or ["no answer"])[-1]}
            out.append((name, json.loads(done.stdout) if done.returncode == 0 else failed))
    return out


def verified(sets: Sequence[set[str]], candidates: Pairs) -> Pairs:
    """The candidates whose true Jaccard reaches the threshold: rivals are spared their estimate's mistakes."""
    good = set()
    for a, b in candidates:
        both = len(sets[a] & sets[b])
        if both >= THRESHOLD * (len(sets[a]) + len(sets[b]) - both) - 1e-9 and both:
            good.add((a, b))
    return good


def _rensa(texts: Sequence[str], bands: int) -> Pairs:
    from rensa import RMinHash, RMinHashLSH  # type: ignore[import-not-found]

    sets = [{" ".join(gram) for gram in grams(item)} for item in texts]
    hashes = RMinHash.from_token_sets(sets, num_perm=PERMUTATIONS, seed=42)
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=bands)
    index.insert_many(hashes)
    found = {(other, row) for row, near in enumerate(index.query_all(hashes)) for other in near if other < row}
    return verified(sets, found)


def rensa_16_bands(texts: Sequence[str]) -> Pairs:
    return _rensa(texts, 16)


def rensa_32_bands(texts: Sequence[str]) -> Pairs:
    return _rensa(texts, 32)


def datasketch(texts: Sequence[str]) -> Pairs:
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-not-found]

    sets = [{" ".join(gram) for gram in grams(item)} for item in texts]
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    found: Pairs = set()
    for row, mine in enumerate(sets):
        hashed = MinHash(num_perm=PERMUTATIONS)
        hashed.update_batch([gram.encode() for gram in mine])
        found.update((other, row) for other in index.query(hashed))
        index.insert(row, hashed)
    return verified(sets, found)


def report(
    rows: Sequence[dict[str, Any]], file: Path | None, more: Sequence[dict[str, Any]], figures: dict[str, float]
) -> None:
    columns = ("rows", "pairs", "rows_per_cpu_s", "recall", "recall_j7_8", "precision", "dropped", "skipped")
    print(f"{'':<16}" + "".join(f"{column:>16}" for column in columns))
    for row in rows:
        print(f"{row['name']:<16}" + "".join(f"{row.get(column, ''):>16}" for column in columns))
    if file:
        for row in rows:
            prefix, suffix = {"zhiling_en": ("", ""), "zhiling_zh": ("", "_zh")}.get(
                row["name"], (f"{row['name']}_", "")
            )
            measures = ("rows_per_cpu_s", "recall", "recall_j7_8", "precision")
            figures |= {f"{prefix}{key}{suffix}": row[key] for key in measures if key in row}
        machine = platform.processor() or platform.machine()
        content = {"name": "dedup", "machine": machine, "figures": figures, "rows": [*rows, *more]}
        file.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
