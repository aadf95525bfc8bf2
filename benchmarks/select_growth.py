"""How selection grows: CPU seconds and memory from 50,000 rows up, choosing by facility location, and asking a row why.

    python benchmarks/select.py [--quick] [--data DIR] [--json FILE] [--sizes 50000,200000] [--why 100000] [--no-facility]

Each size is one run of `zhiling select` in a process of its own with one worker: six rule metrics, three thresholds, exact and near
duplicates, and the best fifth. The rows are Alpaca's 52k, then these again and again with two fifths of their words drawn anew (seeded), so
that they are as long and as various but no near-duplicates. CPU seconds are all of the process, peak memory is the process's largest
resident set.

Figures: growth_exponent (slope of log CPU seconds over log rows, from the smallest size to the largest), rss_gb_SIZE for each size,
rss_gb_5m (None unless 5000000 is among the sizes: it takes more than an hour of one core, and is not extrapolated); facility_10k_s
(10,000 of 52k rows by `cover`, CPU seconds for graph and greedy choice) and facility_embed_s (the vectors before it);
why_ms_100k and why_ms_5m (median milliseconds of a question to a run of so many rows, warm, inside the process; None unless asked for).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES, QUICK = (50_000, 200_000), (4_000, 16_000)
METRICS = ("length", "language", "echo", "refusal", "placeholder", "format")
FORCE = {"force": True}
ASKED = 100  # questions to the ledger
SHARD = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="4,000 and 16,000 rows, facility location on 6,000")
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument(
        "--why", type=int, action="append", help="rows of a run to ask; 100000 and 5000000 have figures"
    )
    parser.add_argument("--no-facility", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)  # how this script calls itself: FILE, ROWS, FOLDER
    args = parser.parse_args()
    if args.child:
        print(json.dumps(selected(Path(args.child[0]), int(args.child[1]), Path(args.child[2]))))
        return
    rows = [grown(args.data, size) for size in sorted(args.sizes or (QUICK if args.quick else SIZES))]
    if not args.no_facility:
        rows.append(facility(args.data, 6000 if args.quick else None))
    rows += [asked(count) for count in args.why or [10_000 if args.quick else 100_000]]
    report(rows, args.json)


def alpaca(data: Path) -> list[dict[str, str]]:
    return [
        json.loads(line)
        for line in gzip.decompress((data / "02_alpaca/alpaca_52k_original.jsonl.gz").read_bytes()).splitlines()
    ]


def varied(base: list[dict[str, str]], count: int) -> Iterator[dict[str, str]]:
    dice = random.Random(5)
    words = sorted({word for row in base[:4000] for word in (row["output"] or "").split()})

    def vary(text: str) -> str:
        parts = text.split(" ")
        if len(parts) > 1:
            new = dice.choices(words, k=max(1, len(parts) * 2 // 5))
            for at, word in zip(dice.sample(range(len(parts)), len(new)), new, strict=True):
                parts[at] = word
        return " ".join(parts)

    for at in range(count):
        row = base[at % len(base)]
        if at < len(base):
            yield row
        else:
            yield {
                "instruction": vary(row["instruction"]) + f" ({at})",
                "input": vary(row["input"] or ""),
                "output": vary(row["output"] or ""),
            }


def grown(data: Path, size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        with file.open("w", encoding="utf-8") as out:
            for row in varied(alpaca(data), size):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
        command = [sys.executable, __file__, "--child", str(file), str(size), folder]
        found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return found


def selected(file: Path, size: int, folder: Path) -> dict[str, Any]:
    from zhiling.judging.dataset import Asked, select

    limits = {"format": {"min": 1}, "refusal": {"max": 0}, "placeholder": {"max": 0}}
    bound = [{"threshold": {"scorer": name, **limit, **FORCE}} for name, limit in limits.items()]
    chain = [*bound, "exact", "near", {"top": {"rows": size // 5, "by": ["echo", "language"]}}]
    began: dict[str, float] = {}
    start, cpu = time.perf_counter(), time.process_time()
    told = select(
        Asked([file], METRICS, chain), folder / "out.jsonl", folder / "run", workers=1,
        watch=lambda event: began.setdefault(event["stage"], round(time.process_time() - cpu, 1)),
    )  # fmt: skip
    return {
        "name": f"select_{size}", "rows": size, "kept": told.kept, "cpu_s": round(time.process_time() - cpu, 1),
        "wall_s": round(time.perf_counter() - start, 1), "rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "first_heard_at_cpu_s": began,
    }  # fmt: skip


def facility(data: Path, most: int | None) -> dict[str, Any]:
    from zhiling.embed import Use
    from zhiling.select.cover import cover
    from zhiling.types import Example

    class Timed(Use):
        spent = 0.0

        def __call__(self, texts: Any) -> Any:
            start = time.process_time()
            vectors = super().__call__(texts)
            self.spent += time.process_time() - start
            return vectors

    rows = [
        Example("alpaca", row["instruction"], row["input"] or "", row["output"] or "") for row in alpaca(data)[:most]
    ]
    wanted, embedder = min(10_000, len(rows) // 5), Timed()
    start = time.process_time()
    kept = sum(verdict.kept for verdict in cover(rows, scores={}, seed=0, embedder=embedder, rows=wanted))
    spent = time.process_time() - start
    return {
        "name": "facility",
        "rows": len(rows),
        "kept": kept,
        "cpu_s": round(spent - embedder.spent, 1),
        "embed_cpu_s": round(embedder.spent, 1),
    }


def asked(count: int) -> dict[str, Any]:
    """A run's folder as a selection of so many rows leaves it, its rows made up; and how long `why` takes there."""
    from zhiling import ledger

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ids = made_up(folder, count)
        some = random.Random(1).sample(ids, ASKED + 1)
        ledger.why(folder, some[0])
        wall, cpu = [], []
        for row in some[1:]:
            start, used = time.perf_counter(), time.process_time()
            found = ledger.why(folder, row[:16])
            wall.append(1000 * (time.perf_counter() - start))
            cpu.append(1000 * (time.process_time() - used))
            assert found["id"] == row and len(found["scores"]) == len(METRICS)
        start = time.perf_counter()
        ledger.reasons(folder)
        return {
            "name": f"why_{count}", "rows": count, "median_ms": round(statistics.median(wall), 1), "p95_ms": round(sorted(wall)[94], 1),
            "median_cpu_ms": round(statistics.median(cpu), 1), "waterfall_s": round(time.perf_counter() - start, 2),
        }  # fmt: skip


CHAIN = ("threshold", "exact", "near", "top")
WHY = "Jaccard 0.86 with a row that is kept"


def made_up(folder: Path, count: int) -> list[str]:
    import numpy as np
    import pyarrow as pa

    from zhiling.store import Done, Store
    from zhiling.tables import write_tables

    dice = np.random.default_rng(1)
    ids = np.sort(np.frombuffer(dice.bytes(10 * count).hex().encode(), dtype="S20")).astype("U20").tolist()
    fall = dice.integers(0, len(CHAIN) + 2, count).tolist()
    store = Store(folder)
    store.begin()
    shards, firsts = [], []
    no_turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    for number, start in enumerate(range(0, count, SHARD)):
        part = ids[start : start + SHARD]
        same = {
            name: [text] * len(part)
            for name, text in (("task", "data"), ("system", ""), ("input", ""), ("lang", "en"), ("maker", "file"))
        }
        texts = {"instruction": [f"Describe {row}" for row in part], "output": [f"It is {row}. " * 8 for row in part]}
        table = pa.table(
            {
                "id": part,
                **same,
                **texts,
                "history": pa.array([[]] * len(part), no_turns),
                "parents": [["f.jsonl:1"]] * len(part),
            }
        )
        shards.append(write_tables(folder, f"examples/{number:05d}.parquet", "examples", [table]))
        firsts.append(part[0])
        for name in METRICS:
            scores = pa.table(
                {
                    "example": part,
                    "scorer": [name] * len(part),
                    "value": dice.random(len(part)),
                    "why": [""] * len(part),
                }
            )
            path = f"scores/{name}/{number:05d}.parquet"
            store.commit(
                Done(path, f"score/{name}", f"{number:05d}", (write_tables(folder, path, "scores", [scores]),), {})
            )
    store.commit(Done("merge", "merge", "all", tuple(shards), {"firsts": firsts}))

    def said(step: int) -> Iterator[pa.Table]:
        for start in range(0, count, 100_000):
            reached = [
                (row, fell > step)
                for row, fell in zip(ids[start : start + 100_000], fall[start : start + 100_000], strict=True)
                if fell >= step
            ]
            kept = [one for _, one in reached]
            yield pa.table({"example": [row for row, _ in reached], "selector": [CHAIN[step]] * len(kept), "kept": kept,
                            "why": ["" if one else WHY for one in kept], "rival": ["" if one else ids[0] for one in kept]})  # fmt: skip

    def last() -> Iterator[pa.Table]:
        for start in range(0, count, 100_000):
            part, fell = ids[start : start + 100_000], fall[start : start + 100_000]
            gone = [at < len(CHAIN) for at in fell]
            same = {name: [text] * len(part) for name, text in (("task", "data"), ("maker", "file"), ("where", ""))}
            same |= {"stage": [CHAIN[min(at, 3)] for at in fell], "rival": [ids[0] if one else "" for one in gone]}
            state, why = ["dropped" if one else "kept" for one in gone], [WHY if one else "" for one in gone]
            yield pa.table({"id": part, "state": state, "why": why, **same})

    outputs = [write_tables(folder, f"verdicts/{step}.parquet", "verdicts", said(step)) for step in range(len(CHAIN))]
    outputs.append(write_tables(folder, "ledger/all.parquet", "ledger", last()))
    chain = [{"selector": name, "settings": {"threshold": 0.8, "scorer": "echo", "max": 0.5}} for name in CHAIN]
    store.commit(Done("select", "select", "all", tuple(outputs), {"chain": chain}))
    store.close()
    return list(ids)


def report(rows: list[dict[str, Any]], out: Path | None) -> None:
    sizes = [row for row in rows if row["name"].startswith("select_")]
    figures: dict[str, float | None] = {
        "growth_exponent": None,
        "rss_gb_5m": None,
        "why_ms_100k": None,
        "why_ms_5m": None,
    }
    if len(sizes) > 1:
        first, last = sizes[0], sizes[-1]
        figures["growth_exponent"] = round(
            math.log(last["cpu_s"] / first["cpu_s"]) / math.log(last["rows"] / first["rows"]), 3
        )
    short = {5_000_000: "5m", 1_000_000: "1m"}
    for row in sizes:
        figures[f"rss_gb_{short.get(row['rows'], row['rows'])}"] = row["rss_gb"]
    for row in rows:
        if row["name"] == "facility" and row["kept"] == 10_000:
            figures |= {"facility_10k_s": row["cpu_s"], "facility_embed_s": row["embed_cpu_s"]}
        if row["name"] in ("why_100000", "why_5000000"):
            figures["why_ms_5m" if row["rows"] > 100_000 else "why_ms_100k"] = row["median_ms"]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items() if not isinstance(value, dict)))
    print(json.dumps(figures))
    if out:
        machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
        found = {"name": "select", "machine": machine, "figures": figures, "rows": rows}
        out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
