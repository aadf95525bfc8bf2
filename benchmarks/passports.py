"""Metric passports: how far each metric agrees with people, hangs on length, and what it costs; and the figures of `quality`.

    python benchmarks/passports.py [--quick] [--data DIR] [--json FILE] [--write] [--train] [--no-models] [--only NAME,NAME]

Without --train nothing is fitted: the shipped weights are measured on DIR. They were fitted to the shared halves of the same sets, so
on those the figures are in-sample; what cross-validation (grouped by prompt) gave stands beside them, from the weights' own file.
* `coachlm_*`, `autoj`, `llmbar_*`: share of pairs in the order that people gave, ties counting half. `coachlm_instructions` is by
  `wording`, the others by `quality`; `coachlm_length_matched` are the responses whose lengths in characters differ by less than 0.1 in log.
* `alpagasus_auroc_*`: `quality`, length-neutral as selectors see it, against the two kinds of labels by language models.
* `spearman_length_abs`: of the same with output length. `defect_recall`, `false_alarm`: `format` on Alpaca 52k against its exact invariants,
  and on rows that people wrote (Dolly).
* `zh_minus_en_METRIC`: mean difference on the same content in both languages; `swap_METRIC`: mean absolute change when another group of people
  is named, over CrowS-Pairs, BBQ and CBBQ (passports_fair.py).
--write writes src/zhiling/score/passports.json and docs/passports*.md; --train fits the weights anew (passports_train.py); --only measures
the passports named and leaves the others, and the figures above, as they are. Metrics that ask a model ask the embedded one and take
minutes: --no-models leaves them out, and --quick does.
"""

from __future__ import annotations

import sys

sys.path.append(sys.path.pop(0))  # this folder holds a select.py, which must not stand before Python's own `select`

import argparse
import json
import platform
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import passports_data as held
import passports_fair as fair
from passports_evidence import EVIDENCE
from passports_measure import MODELS, auc, interval, paired, passport, scores, spearman

from zhiling import registry, text
from zhiling.judging.passports import pages
from zhiling.score import quality_model
from zhiling.select.neutral import neutral

NEAR = 0.1  # of log length: so alike are two answers "of equal length"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--train", action="store_true", help="fit the weights first")
    parser.add_argument("--write", action="store_true", help="write the shipped passports and their pages")
    parser.add_argument("--no-models", action="store_true", help="leave out the metrics that ask a model")
    parser.add_argument("--only", default="", help="passports to measure, separated by commas")
    args = parser.parse_args()
    if args.train:
        import passports_train

        for kind in passports_train.SETS:
            passports_train.train(kind, args.data)
        quality_model.load.cache_clear()
    only = args.only.split(",") if args.only else []
    names = only or [name for name in EVIDENCE if not ((args.quick or args.no_models) and name in MODELS)]
    rows: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    if not only:
        rows, figures = judged_pairs(args.data, 60 if args.quick else None)
        if (args.data / held.LABELS).exists():
            more, others = alpaca_figures(args.data, 1500 if args.quick else 6000)
            rows, figures = rows + more, figures | others
        else:
            print(f"no alpagasus figures: there is no {held.LABELS}")
        figures |= defects(args.data, rows)
    sets = {kind: fair.gather(makers, args.data, 40 if args.quick else fair.MOST) for kind, makers in fair.SETS.items()}
    passports = {name: passport(name, args.data, args.quick, sets) for name in names}
    figures |= fairness(passports)
    show(rows, figures, passports)
    if args.write:
        write(passports)
    if args.json:
        rows += [{"passport": name, **told} for name, told in passports.items()]
        told = {"name": "passports", "machine": machine(), "figures": figures, "rows": rows}
        args.json.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")


def write(passports: dict[str, Any]) -> None:
    """The shipped passports with these in place of the old ones, and the pages."""
    kept = {name: told for name, told in registry.passports()["metrics"].items() if name in registry.names("scorer")}
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "metrics": dict(sorted((kept | passports).items())),
    }
    registry.PASSPORTS.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    registry.passports.cache_clear()
    for file, page in pages().items():
        (Path(__file__).resolve().parents[1] / "docs" / file).write_text(page, encoding="utf-8")


def fairness(passports: dict[str, Any]) -> dict[str, float]:
    """The figures of the passports' fairness."""
    found: dict[str, float] = {}
    for name, told in passports.items():
        gap = (told.get("zh_minus_en") or {}).get("value")
        if gap is not None:
            found[f"zh_minus_en_{name}"] = gap
        moved = [one["moved"] * one["n"] for one in told.get("swapped", []) if one["n"]]
        if moved:
            found[f"swap_{name}"] = round(sum(moved) / sum(one["n"] for one in told["swapped"]), 4)
    return found


def machine() -> str:
    return platform.processor() or platform.machine()


def judged_pairs(data: Path, most: int | None) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The pair figures, each beside longest-wins and what cross-validation gave."""
    rows, figures = [], {}
    for name in ["coachlm_instructions", *held.PAIRS]:
        pairs = held.pairs(data, name, most)
        if not pairs:
            continue
        by = "wording" if name == "coachlm_instructions" else "quality"
        right = paired(by, pairs)
        side = (lambda row: len(row.prompt)) if by == "wording" else (lambda row: len(row.output))
        longer = np.array([np.sign(side(a) - side(b)) / 2 + 0.5 for a, b in pairs])
        rows.append(pair_row(name, by, right, longer))
        figures[name] = rows[-1]["value"]
        if name == "coachlm_responses":
            near = [abs(np.log1p(len(a.output)) - np.log1p(len(b.output))) < NEAR for a, b in pairs]
            rows.append(pair_row("coachlm_length_matched", by, right[near], longer[near]))
            figures["coachlm_length_matched"] = rows[-1]["value"]
    return rows, figures


def pair_row(name: str, by: str, right: np.ndarray, longer: np.ndarray) -> dict[str, Any]:
    checked = quality_model.load(by).about["cross_validated"]
    low, high = interval(right, lambda at: float(right[at].mean()))
    return {
        "set": name, "by": by, "pairs": len(right), "value": round(float(right.mean()), 3), "low": low, "high": high,
        "cross_validated": checked.get(name), "longest_wins": round(float(longer.mean()), 3), "ties": round(float((right == 0.5).mean()), 3),
    }  # fmt: skip


def alpaca_figures(data: Path, most: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Length-neutral quality against the AlpaGasus labels and against length, what a selection of the best third looks like, and zh."""
    rows, labels = held.alpagasus(data, most)
    raw = scores("quality", rows)
    lengths = np.array([text.length(row.output) for row in rows])
    fair = neutral(raw, lengths.tolist(), ["alpaca"] * len(rows))
    known = ~np.isnan(raw)
    figures: dict[str, float] = {}
    told: list[dict[str, Any]] = []
    for kind, said in labels.items():
        mark = np.array(said)
        parts = {
            which: auc(values[known & mark], values[known & ~mark])
            for which, values in (("neutral", fair), ("raw", raw), ("length", lengths.astype(float)))
        }
        figures[f"alpagasus_auroc_{kind}"] = round(parts["neutral"], 3)
        told.append(
            {
                "set": f"alpagasus_{kind}",
                "rows": int(known.sum()),
                **{key: round(value, 3) for key, value in parts.items()},
            }
        )
    rho = {which: spearman(values[known], lengths[known]) for which, values in (("neutral", fair), ("raw", raw))}
    figures["spearman_length_abs"] = round(abs(rho["neutral"]), 3)
    best = np.argsort(-np.nan_to_num(fair, nan=-1))[: len(rows) // 5]
    figures["selected_length_ratio"] = round(float(lengths[best].mean() / lengths.mean()), 3)
    told.append({"set": "alpaca, length", **{f"spearman_{key}": round(value, 3) for key, value in rho.items()}})
    told.append({"set": "alpaca, abstained", "share": round(float((~known).mean()), 4)})
    return told + chinese(data, raw, most // 4), figures


def chinese(data: Path, raw: np.ndarray, most: int) -> list[dict[str, Any]]:
    """Quality of Chinese rows beside English ones: Alpaca and its translation, seed tasks of Self-Instruct and of BELLE."""
    translated = held.alpaca(held.whole(data, "02_alpaca/alpaca_zh_community_translated.jsonl.gz"))[-most:]
    told = [quartiles("alpaca en", raw), quartiles("alpaca zh", scores("quality", translated))]
    for name, file in (
        ("seed tasks en", "01_self_instruct/seed_tasks.jsonl"),
        ("seed tasks zh (BELLE)", "04_belle/zh_seed_tasks.jsonl"),
    ):
        seeds = [
            held.row(one["instruction"], one["instances"][0]["input"], one["instances"][0]["output"])
            for one in held.read(held.whole(data, file))
        ]
        told.append(quartiles(name, scores("quality", seeds)))
    papers = held.read(held.whole(data, "11_zh_tasks/csl_title_dev.jsonl.gz"), 300)
    made = [held.row("为下面的论文摘要拟一个标题。", one["input"], one["target"]) for one in papers]
    told.append(quartiles("titles for abstracts zh (CSL)", scores("quality", made)))
    return told


def quartiles(name: str, values: np.ndarray) -> dict[str, Any]:
    known = values[~np.isnan(values)]
    q1, q2, q3 = (round(float(np.quantile(known, q)), 3) for q in (0.25, 0.5, 0.75))
    return {
        "set": name,
        "rows": len(values),
        "scored": len(known),
        "mean": round(float(known.mean()), 3),
        "q1": q1,
        "median": q2,
        "q3": q3,
    }


_letters = re.compile(r"[^a-z/]")
NOTHING = {"noinput", "noinputs", "none", "n/a", "noinputrequired", "noinputneeded", "noinputprovided", "notapplicable"}
INVARIANTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "empty outputs": lambda row: not row["output"].strip(),
    "inputs like no input, none, n/a": lambda row: _letters.sub("", row["input"].lower()) in NOTHING,
    "outputs like no output, n/a": lambda row: (
        _letters.sub("", row["output"].lower()) in {"nooutput", "noinput", "n/a", "nooutputrequired"}
    ),
    "<noinput> or <nooutput> in a field": lambda row: (
        "<noinput>" in (row["input"] + row["output"]).lower() or "<nooutput>" in row["output"].lower()
    ),
}
"""Defects of Alpaca 52k that can be told by exact comparison, without the scorer's own patterns."""


def defects(data: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    """`format` against the invariants (the lowest recall of a class counts), and on Dolly, which people wrote."""
    raw = held.read(held.whole(data, "02_alpaca/alpaca_52k_original.jsonl.gz"))
    flagged = scores("format", [held.row(one["instruction"], one["input"], one["output"]) for one in raw]) == 0
    recalls = []
    for name, broken in INVARIANTS.items():
        hit = np.array([broken(one) for one in raw])
        recalls.append(float(flagged[hit].mean()))
        rows.append({"set": f"alpaca 52k, {name}", "rows": int(hit.sum()), "recall": round(recalls[-1], 4)})
    people = scores("format", held.alpaca(held.whole(data, "02_alpaca/alpagasus_dolly_3k.jsonl.gz"))) == 0
    rows.append({"set": "dolly, flagged", "rows": len(people), "share": round(float(people.mean()), 4)})
    return {"defect_recall": round(min(recalls), 4), "false_alarm": round(float(people.mean()), 4)}


def show(rows: Sequence[dict[str, Any]], figures: dict[str, float], passports: dict[str, Any]) -> None:
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    for name, told in passports.items():
        for one in [{"lang": lang, **told[lang]} for lang in ("en", "zh") if lang in told] + told.get("also", []):
            agrees = f"{one['measure']:<5} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
            checked = f" (cross-validated {one['cross_validated']})" if "cross_validated" in one else ""
            silent = f" {one['abstained']:.0%} abstained" if one["abstained"] else ""
            print(f"{name:<12} {one['lang']} {agrees}{checked} n={one['n']}{silent} {one['kind']}: {one['data']}")
        print(f"{name:<12} length {told['length']}  rows per CPU second {told['rows_per_cpu_s']:g}")
        for one in (
            [*told["zh_minus_en"]["sets"], {"set": "all", **told["zh_minus_en"]}] if told.get("zh_minus_en") else []
        ):
            said = "  ".join(f"{key} {value}" for key, value in one.items() if key not in ("set", "sets"))
            print(f"{name:<12} zh - en, {one['set']}: {said}")
        for one in told.get("swapped", []):
            print(f"{name:<12} group swapped, {'  '.join(f'{key} {value}' for key, value in one.items())}")
    for name, value in figures.items():
        print(f"{name:<30} {value}")


if __name__ == "__main__":
    main()
