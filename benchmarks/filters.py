"""How many rows a CPU second six rule metrics look at, beside Data-Juicer's six nearest filters.

    python benchmarks/filters.py [--quick] [--data DIR] [--json FILE] [--no-rival]

Ours: length, language, echo, refusal, placeholder and format over Alpaca's 52k rows and over 500,000 (the same rows again and again, a
number added, so that no row equals another), one process, in two ways: in memory, and as a run uses them (rows made, written to shards of
2,000, each read, scored and its scores written as Parquet). Theirs: text length, number of words, word and character repetition,
special characters and alphanumeric share, over instruction, input and output as one text, on the same two sizes and in two ways: as it is
used (`process` of its data set, one process, start-up, caching and all), and bare (`compute_stats_batched` on batches of 1,000 texts in
memory, nothing else). The bare one beside ours in memory, and theirs beside ours as used, are comparisons of like with like. Each counts its
own CPU seconds, and says the machine's load before it began. The rival runs in an environment of its own, made on demand, and is skipped with a
reason where that cannot be made. A plain Python pass (words, trigrams, seven regular expressions) stands beside both.

Figures: rows_per_cpu_s, used_rows_per_cpu_s, plain_rows_per_cpu_s, datajuicer_rows_per_cpu_s, datajuicer_bare_rows_per_cpu_s,
ratio_datajuicer (ours in memory by theirs as used), ratio_datajuicer_used (both as used), ratio_datajuicer_bare (both in memory), on 52k rows;
the same but the plain pass with `_500k`; zh_rows_per_cpu_s (ours in memory, over Chinese rows).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

METRICS = ("length", "language", "echo", "refusal", "placeholder", "format")
THEIRS = {
    "text_length_filter": "TextLengthFilter",
    "words_num_filter": "WordsNumFilter",
    "word_repetition_filter": "WordRepetitionFilter",
    "character_repetition_filter": "CharacterRepetitionFilter",
    "special_characters_filter": "SpecialCharactersFilter",
    "alphanumeric_filter": "AlphanumericFilter",
}
PACKAGES = ("py-data-juicer", "aiohttp", "ray")  # what it imports without asking for it
MANY = 500_000
SHARD = 2000
ZH = "02_alpaca/alpaca_zh_community_translated.jsonl.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="5,000 rows, once")
    parser.add_argument("--no-rival", action="store_true")
    parser.add_argument("--rival", type=Path, help=argparse.SUPPRESS)  # how this script calls itself
    args = parser.parse_args()
    if args.rival:
        texts = json.loads(args.rival.read_text(encoding="utf-8"))
        told = datajuicer("", texts)
        if not args.quick:
            told += datajuicer("_500k", [f"{texts[at % len(texts)]} {at}" for at in range(MANY)])
        print(json.dumps(told))
        return
    given = alpaca(args.data)[: 5000 if args.quick else None]
    rows = [ours("ours", given), used("used", given), ours("ours_zh", alpaca(args.data, ZH))]
    if not args.quick:
        many = [{**given[at % len(given)], "output": f"{given[at % len(given)]['output']} {at}"} for at in range(MANY)]
        rows += [ours("ours_500k", many), used("used_500k", many)]
        del many
    texts = ["\n".join(row[name] or "" for name in ("instruction", "input", "output")) for row in given]
    rows.append(plain(texts))
    if not args.no_rival:
        rows += rival(texts, args.quick)
    report(rows, args.json)


def alpaca(data: Path, file: str = "02_alpaca/alpaca_52k_original.jsonl.gz") -> list[dict[str, str]]:
    return [json.loads(line) for line in gzip.decompress((data / file).read_bytes()).splitlines()]


def ours(name: str, given: list[dict[str, str]]) -> dict[str, Any]:
    from zhiling import registry

    rows = [made(row) for row in given]
    each, busy = {}, load()
    for metric in METRICS:
        work = registry.get("scorer", metric).fn
        list(work(rows[:200]))  # patterns are compiled before the clock starts
        start = time.process_time()
        for _ in work(rows):
            pass
        each[metric] = time.process_time() - start
    said = {f"{metric}_per_cpu_s": round(len(rows) / seconds) for metric, seconds in each.items()}
    return {
        "name": name,
        "rows": len(rows),
        "load": busy,
        "rows_per_cpu_s": round(len(rows) / sum(each.values())),
        **said,
    }


def made(row: dict[str, str]) -> Any:
    from zhiling.types import Example

    return Example("data", *(row.get(name) or "" for name in ("instruction", "input", "output")))


def used(name: str, given: list[dict[str, str]]) -> dict[str, Any]:
    """What a run does on one worker: from the rows as they were parsed to the scores' files."""
    from zhiling.steps import score_shard
    from zhiling.store import write

    busy, start = load(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for at in range(0, len(given), SHARD):
            rows = map(made, given[at : at + SHARD])
            shard = write(Path(folder), f"examples/{at}.parquet", "examples", rows)
            for metric in METRICS:
                score_shard(folder, f"{metric}/{at}", metric, {}, shard, {}, 0, Path(folder))
    return {
        "name": name,
        "rows": len(given),
        "load": busy,
        "rows_per_cpu_s": round(len(given) / (time.process_time() - start)),
    }


def load() -> float:
    """How many processes ran or waited to run, the mean of the last minute."""
    return round(os.getloadavg()[0], 1)


PLAIN = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"as an ai",
        r"i'?m sorry",
        r"i cannot",
        r"\[insert [^\]]*\]",
        r"<no ?(?:in|out)put>",
        r"```",
        r"[\x00-\x08]",
    )
]


def plain(texts: list[str]) -> dict[str, Any]:
    start, busy = time.process_time(), load()
    found = 0
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        grams = list(zip(words, words[1:], words[2:], strict=False))
        found += len(words) + len(grams) - len(set(grams)) + sum(char.isalnum() for char in text)
        found += sum(pattern.search(text) is not None for pattern in PLAIN)
    return {
        "name": "plain",
        "rows": len(texts),
        "load": busy,
        "rows_per_cpu_s": round(len(texts) / (time.process_time() - start)),
        "found": found,
    }


def rival(texts: list[str], quick: bool) -> list[dict[str, Any]]:
    home = Path(__file__).resolve().parents[1] / ".bench" / "filters"
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    try:
        if not python.exists():
            venv.create(home, with_pip=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True, capture_output=True, timeout=600
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "texts.json"
            file.write_text(json.dumps(texts), encoding="utf-8")
            command = [str(python), __file__, "--rival", str(file), *(["--quick"] if quick else [])]
            told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=5400).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return [{"name": "datajuicer", "skipped": f"cannot be run: {error}"}]
    found: list[dict[str, Any]] = json.loads(told.strip().splitlines()[-1])
    return found


def cpu() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def datajuicer(size: str, texts: list[str]) -> list[dict[str, Any]]:
    from importlib import import_module

    stats = import_module("data_juicer.utils.constant").Fields.stats
    filters = [
        getattr(import_module(f"data_juicer.ops.filter.{module}"), name)(num_proc=1) for module, name in THEIRS.items()
    ]

    def work(rows: list[str]) -> None:
        for at in range(0, len(rows), 1000):
            part = rows[at : at + 1000]
            samples: Any = {"text": part, stats: [{} for _ in part]}
            for one in filters:
                samples = one.compute_stats_batched(samples)
            assert len(samples[stats][0]) >= len(filters)

    work(texts[:50])
    same: dict[str, Any] = {"rows": len(texts), "load": load()}
    start = cpu()
    work(texts)
    bare = round(len(texts) / (cpu() - start))
    start = cpu()
    left = (
        import_module("data_juicer.core.data")
        .NestedDataset.from_list([{"text": text} for text in texts])
        .process(filters)
    )
    used = round(len(texts) / (cpu() - start))
    same["kept"] = len(left)
    return [
        {"name": f"datajuicer{size}", **same, "rows_per_cpu_s": used},
        {"name": f"datajuicer_bare{size}", **same, "rows_per_cpu_s": bare},
    ]


def report(rows: list[dict[str, Any]], out: Path | None) -> None:
    speed = {row["name"]: row.get("rows_per_cpu_s") for row in rows}
    figures: dict[str, float | None] = {"plain_rows_per_cpu_s": speed["plain"]}
    for size in ("", "_500k"):
        mine = figures[f"rows_per_cpu_s{size}"] = speed.get(f"ours{size}")
        for way in ("datajuicer", "datajuicer_bare"):
            theirs = figures[f"{way}_rows_per_cpu_s{size}"] = speed.get(f"{way}{size}")
            figures[f"ratio_{way}{size}"] = round(mine / theirs, 2) if mine and theirs else None
        shards, theirs = speed.get(f"used{size}"), speed.get(f"datajuicer{size}")
        figures[f"used_rows_per_cpu_s{size}"] = shards
        figures[f"ratio_datajuicer_used{size}"] = round(shards / theirs, 2) if shards and theirs else None
    figures["zh_rows_per_cpu_s"] = speed.get("ours_zh")
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print(json.dumps(figures))
    if out:
        machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
        out.write_text(
            json.dumps({"name": "filters", "machine": machine, "figures": figures, "rows": rows}, indent=1),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
