"""One store of instructions, built and searched in a process of its own, so that its memory can be told: called by `bank.py`.

    python bank_beside.py STORE build|search ROWS.jsonl VECTORS.npy FOLDER

Prints a JSON object: after `build` seconds; after `search` the p95 in ms of 50 questions, top 10, and the MB by which the process grew at
its peak while it opened the store and searched (imports left out). Questions are rows' own instructions and vectors.
STORE: ours (keywords and vectors), qdrant (the client's embedded store: vectors), lancedb (vectors), fts5 (SQLite: keywords).
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

ASKED = 50


def ours(step, rows, vectors, folder):
    from zhiling.construct.bank import Bank

    class Given:
        name, dim = "given", vectors.shape[1]
        at = 0

        def __call__(self, texts):
            place, self.at = self.at, self.at + len(texts)
            return np.asarray(vectors[place : place + len(texts)])

    if step == "build":
        Bank.create(folder, Given()).add(rows, licence="test")
        return None
    given = Given()
    bank = Bank.open(folder, given)

    def ask(number):
        given.at = number
        return bank.search(rows[number]["instruction"], 10)

    return ask


def qdrant(step, rows, vectors, folder):
    import warnings

    from qdrant_client import QdrantClient, models

    warnings.simplefilter("ignore")
    client = QdrantClient(path=str(folder))
    if step == "build":
        client.create_collection("rows", models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE))
        for start in range(0, len(rows), 1000):
            part = range(start, min(len(rows), start + 1000))
            client.upsert(
                "rows",
                models.Batch(
                    ids=list(part), vectors=vectors[part.start : part.stop].tolist(), payloads=[rows[i] for i in part]
                ),
            )
        client.close()
        return None
    return lambda number: client.query_points("rows", vectors[number].tolist(), limit=10).points


def lancedb(step, rows, vectors, folder):
    import lancedb as lance
    import pyarrow as pa

    base = lance.connect(str(folder))
    if step == "build":
        flat = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(vectors).ravel()), vectors.shape[1])
        base.create_table("rows", pa.Table.from_pylist(rows).append_column("vector", flat))
        return None
    table = base.open_table("rows")
    return lambda number: table.search(vectors[number]).limit(10).to_list()


def fts5(step, rows, vectors, folder):
    import re
    import sqlite3

    folder.mkdir(exist_ok=True)
    base = sqlite3.connect(folder / "rows.sqlite")
    if step == "build":
        base.execute("create virtual table rows using fts5(instruction, input, output)")
        base.executemany(
            "insert into rows values (?, ?, ?)", [(r["instruction"], r["input"], r["output"]) for r in rows]
        )
        base.commit()
        return None

    def ask(number):
        words = " or ".join(f'"{word}"' for word in set(re.findall(r"\w+", rows[number]["instruction"])))
        return base.execute(
            "select rowid from rows where instruction match ? order by rank limit 10", (words,)
        ).fetchall()

    return ask


def told(what):
    """A line of what the kernel says of this process, in KB; pages of mapped files count while they are in memory."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(what)))


def main():
    name, step, rows, vectors, folder = sys.argv[1:]
    given = [json.loads(line) for line in Path(rows).read_text(encoding="utf-8").splitlines()]
    held = np.load(vectors, mmap_mode="r")
    store = {"ours": ours, "qdrant": qdrant, "lancedb": lancedb, "fts5": fts5}[name]
    if step == "build":
        start = time.perf_counter()
        store("build", given, held, Path(folder))
        print(json.dumps({"build_s": time.perf_counter() - start}))
        return
    __import__(
        {"ours": "zhiling.construct.bank", "qdrant": "qdrant_client", "lancedb": "lancedb", "fts5": "sqlite3"}[name]
    )
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew from here
    before = told("VmRSS")
    ask = store("search", given, held, Path(folder))
    spent = []
    for number in range(0, len(given), len(given) // ASKED):
        start = time.perf_counter()
        ask(number)
        spent.append(1000 * (time.perf_counter() - start))
    grown = (told("VmHWM") - before) / 1024
    print(json.dumps({"p95_ms": float(np.percentile(spent[1:], 95)), "memory_mb": grown}))


if __name__ == "__main__":
    main()
