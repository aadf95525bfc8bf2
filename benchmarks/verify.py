"""How often each verifier accepts rows that people wrote, and refuses the same rows with a fault put in.

    python benchmarks/verify.py [--quick] [--data DIR] [--json FILE] [--only sql,code]

Gold rows are real: Defog's queries, HumanEval and MBPP with their tests, GSM8K's solutions, NTREX translations, three subtitled films,
CMRC 2018 answers, CSL titles, OCNLI. A fault changes each row so that it is wrong: another table, an operator, a number, a shifted time, the
answer to another question. Refused is 0.0; a row that could not be checked (None) is neither accepted nor refused, and is counted apart.

Figures: NAME_accepted and NAME_refused per verifier; cage (the one that was used); sql_drawn_execute (share of kept drawn rows whose query
runs, on twelve databases), sql_attacks_contained; code_solutions_pass, and code_mutants_noticed (of all faults drawn for rows that pass: one
that changes nothing and tests that miss one cannot be told apart by running, so it is a lower bound; code_refused is of one fault a row, the
plainest, a function that does nothing); nli_hypothesis_only with its interval and nli_commonest (accuracies on OCNLI); nli_fresh and
nli_fresh_after (accuracy on another file of it of what its hypotheses teach, before and after `hypothesis_only` dropped nli_dropped of it).
"""

from __future__ import annotations

# ruff: noqa: E402
import sys

sys.path[:] = sys.path[1:]  # select.py beside this file must not stand in for the standard library's

import argparse
import asyncio
import gzip
import inspect
import json
import platform
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zhiling import registry
from zhiling.construct import cage
from zhiling.construct.verify.code import program_of
from zhiling.construct.verify.mutate import mutants
from zhiling.types import Example, Score, Task, row_seed

Measure = Callable[[Path, bool], dict[str, Any]]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows of the slow ones")
    parser.add_argument("--only", default="", help="names of verifiers, with commas between")
    args = parser.parse_args()
    data = args.data / "data" if (args.data / "data").is_dir() else args.data
    figures: dict[str, Any] = {"cage": cage.need()}
    rows = []
    heads = ("verifier", "gold", "accepted", "unchecked", "wrong", "refused", "unchecked", "rows/s")
    print(f"cage: {figures['cage']}\n" + "".join(f"{head:>11}" for head in heads))
    for name, measure in MEASURES.items():
        if args.only and name not in args.only.split(","):
            continue
        try:
            found = measure(data, args.quick)
        except FileNotFoundError as error:
            print(f"{name:>11}  skipped: {error}")
            continue
        rows.append({"verifier": name, **found})
        columns = ("gold", "accepted", "unchecked", "wrong", "refused", "wrong_unchecked", "per_second")
        print(f"{name:>11}" + "".join(_cell(found.get(column)) for column in columns))
        figures |= {f"{name}_{key}": found[key] for key in ("accepted", "refused") if key in found}
        figures |= found.get("figures", {})
    for name, value in figures.items():
        if "_accepted" not in name and "_refused" not in name:
            print(f"{name}: {value}")
    if args.json:
        args.json.write_text(
            json.dumps({"name": "verify", "machine": platform.platform(), "figures": figures, "rows": rows}, indent=1)
            + "\n"
        )


def _cell(value: Any) -> str:
    said = "-" if value is None else f"{value:.3f}" if isinstance(value, float) and value <= 1 else f"{value:.0f}"
    return f"{said:>11}"


def verified(name: str, rows: Sequence[Example], **settings: Any) -> list[Score]:
    """What a verifier says of rows."""
    plugin = registry.get("verifier", name)
    hand = {"task": Task("t"), "seed": 7, "here": Path(), "model": None, **settings}
    made = plugin.fn(
        rows, **{key: value for key, value in hand.items() if key in plugin.wants or key in plugin.settings}
    )
    return asyncio.run(made) if inspect.isawaitable(made) else list(made)


def beside(name: str, gold: Sequence[Example], wrong: Sequence[Example], **settings: Any) -> dict[str, Any]:
    """The shares that a verifier accepts of right rows and refuses of wrong ones."""
    start = time.perf_counter()
    good = [score.value for score in verified(name, gold, **settings)]
    spent = time.perf_counter() - start
    bad = [score.value for score in verified(name, wrong, **settings)]
    share = lambda values, value: values.count(value) / len(values) if values else None  # noqa: E731
    return {
        "gold": len(gold), "accepted": share(good, 1.0), "unchecked": share(good, None), "wrong": len(wrong), "refused": share(bad, 0.0),
        "wrong_unchecked": share(bad, None), "per_second": len(gold) / spent,
    }  # fmt: skip


def jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON lines file, gzipped or not."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in raw.decode().splitlines()]


# --- SQL


def statements(text: str) -> list[str]:
    """The statements of a text: Defog lists every right answer, one behind the other."""
    out, now = [], ""
    for sign in text:
        now += sign
        if sign == ";" and sqlite3.complete_statement(now):
            out.append(now.strip())
            now = ""
    return [*out, *([now.strip()] if now.strip() else [])]


ATTACKS = [
    "DELETE FROM {t}", "UPDATE {t} SET rowid = 1", "DROP TABLE {t}", "CREATE TABLE x(y)", "ATTACH '/etc/passwd' AS a", "ATTACH 'new.db' AS a",
    "VACUUM INTO 'copy.db'", "PRAGMA writable_schema = 1", "SELECT load_extension('x')", "SELECT readfile('/etc/passwd')",
    "SELECT 1; DROP TABLE {t}", "SELECT writefile('x', 'y')", "SELECT hex(randomblob(1000000000))", "SELECT zeroblob(2000000000)",
    "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r",
    "SELECT printf('%.*c', 1000000000, 'x')",
]  # fmt: skip


def sql(data: Path, quick: bool) -> dict[str, Any]:
    """Defog's queries on their databases; the wrong ones name another table. Drawn rows on all twelve, and attacks."""
    folder = data / "10b_text2sql"
    asked = [r for n in ("instruct_basic", "questions_gen") for r in jsonl(folder / f"defog_{n}_sqlite.jsonl")][
        :: 10 if quick else 1
    ]
    rows = [
        Example("t", "Write the query.", f"Database: {r['db_name']}\n{r['question']}", query)
        for r in asked
        for query in statements(r["query"])[: 1 if quick else None]
    ]
    wrong = [
        Example("t", r.instruction, r.input, re.sub(r"(?i)\bfrom\s+(\w+)", r"FROM no_\1", r.output, count=1))
        for r in rows[::4]
    ]
    found = beside("sql", rows, wrong, here=folder, database="db", empty="keep")
    found["figures"] = {**drawn(folder / "db", 4 if quick else 20), **attacked(folder / "db")}
    return found


def drawn(folder: Path, count: int) -> dict[str, Any]:
    """Rows that the constructor `sql` keeps, on every database, in both languages."""
    from zhiling.construct.sql_rows import sql as rows_of

    kept, ran, refusals = 0, 0, 0
    for file in sorted(folder.glob("*.sqlite")):
        made = asyncio.run(
            rows_of(task=Task("t", langs=("en", "zh")), seed=7, here=folder, database=file.name, drawn=count)
        )  # type: ignore[arg-type]
        rows = [row for row in made if isinstance(row, Example)]
        scores = verified("sql", rows, here=folder, database=file.name)
        kept, ran = kept + len(rows), ran + sum(score.value == 1.0 for score in scores)
        refusals += sum("without" in row.maker for row in rows)
    return {"sql_drawn_execute": ran / kept, "sql_drawn_rows": kept, "sql_drawn_refusals": refusals}


def attacked(folder: Path) -> dict[str, Any]:
    """The share of attacks on a database that changed nothing and were refused."""
    file = folder / "Chinook_Sqlite.sqlite"
    before = file.read_bytes()
    rows = [Example("t", "x", "", attack.format(t="Track")) for attack in ATTACKS]
    scores = verified("sql", rows, here=folder, database=file.name, seconds=1.0)
    held = file.read_bytes() == before
    return {"sql_attacks_contained": sum(score.value == 0.0 and held for score in scores) / len(rows)}


# --- code


def code(data: Path, quick: bool) -> dict[str, Any]:
    """HumanEval and MBPP: the canonical solutions, and one drawn faulty version of each."""
    rows = []
    for r in jsonl(data / "14_code_math/humaneval.jsonl"):
        tests = f"{r['test']}\ndef test_it():\n    check({r['entry_point']})"
        rows.append(
            Example("t", "Complete the function.", r["prompt"], fenced(r["prompt"] + r["canonical_solution"], tests))
        )
    for r in jsonl(data / "14_code_math/mbpp.jsonl"):
        rows.append(Example("t", r["text"], "", fenced(r["code"], "\n".join([r["test_setup_code"], *r["test_list"]]))))
    rows = rows[:: 12 if quick else 1]
    start = time.perf_counter()
    scores = verified("code", rows, mutations=6)
    spent = time.perf_counter() - start
    kept = [row for row, score in zip(rows, scores, strict=True) if score.value == 1.0]
    noticed = [tuple(map(int, found.groups())) for score in scores if (found := re.search(r"(\d+)/(\d+)$", score.why))]
    faulty = [
        Example("t", row.instruction, row.input, fenced(made[0][1], program.tests))
        for row in kept
        if (program := program_of(row)) and (made := mutants(program.solution, 1, row_seed(11, row.id)))
    ]
    bad = [score.value for score in verified("code", faulty, mutations=0, seconds=2.0)]
    passed = sum(score.value == 1.0 or "too few" in score.why for score in scores) / len(rows)
    return {
        "gold": len(rows), "accepted": len(kept) / len(rows), "wrong": len(faulty),
        "unchecked": sum(s.value is None for s in scores) / len(rows),
        "refused": bad.count(0.0) / len(bad), "wrong_unchecked": bad.count(None) / len(bad), "per_second": len(rows) / spent,
        "reasons": {s.why[:80]: row.prompt[:60] for s, row in zip(scores, rows, strict=True) if s.value != 1.0},
        "figures": {
            "code_solutions_pass": passed, "code_mutants": sum(n for _, n in noticed),
            "code_mutants_noticed": sum(k for k, _ in noticed) / max(sum(n for _, n in noticed), 1),
        },
    }  # fmt: skip


def fenced(*blocks: str) -> str:
    return "\n".join(f"```python\n{block}\n```" for block in blocks)


# --- the others


def subtitles(data: Path, quick: bool) -> dict[str, Any]:
    """Three films in both directions, translated and bilingual, in runs of eight cues; wrong: a time moved, a cue lost, one left as it was."""
    from zhiling.construct.verify.subtitles import Cue, cues, srt

    gold, wrong = [], []
    for en in sorted((data / "10_parallel_docs/subtitles").glob("*.en.srt")):
        pair = [cues(file.read_text("utf-8-sig"))[0] for file in (en, en.with_name(en.name.replace(".en.", ".zh.")))]
        for a, b in (pair, pair[::-1]):
            for at in range(0, len(a), 8):
                one, other = a[at : at + 8], b[at : at + 8]
                gold.append(Example("t", "Translate the subtitles.", srt(one), srt(other)))
                both = [Cue(x.start, x.end, (*x.lines, *y.lines)) for x, y in zip(one, other, strict=True)]
                gold.append(Example("t", "Make bilingual subtitles.", srt(one), srt(both)))
                moved = [other[0]._replace(end=other[0].end + 40), *other[1:]]
                for bad in (moved, other[:-1], [one[0], *other[1:]] if len("".join(one[0].lines)) > 8 else moved):
                    wrong.append(Example("t", "Translate the subtitles.", srt(one), srt(bad)))
    return beside("subtitles", gold, wrong, slow=1.0)


def arithmetic(data: Path, quick: bool) -> dict[str, Any]:
    """GSM8K's solutions; wrong: another final answer, or another result of a step."""
    rows = jsonl(data / "14_code_math/gsm8k_test.jsonl.gz")
    gold = [Example("t", "Solve it.", r["question"], r["answer"]) for r in rows]
    moved = [
        Example(
            "t",
            "Solve it.",
            r["question"],
            re.sub(r"#### (-?)([\d,]+)", lambda m: f"#### {int(m[2].replace(',', '')) * 7 + 13}", r["answer"]),
        )
        for r in rows
    ]
    step = [
        Example(
            "t", "Solve it.", r["question"], re.sub(r"=(\d+)>>", lambda m: f"={int(m[1]) + 3}>>", r["answer"], count=1)
        )
        for r in rows
        if re.search(r"=\d+>>", r["answer"])
    ]
    return beside("arithmetic", gold, moved + step)


def translation(data: Path, quick: bool) -> dict[str, Any]:
    """NTREX, both directions; wrong: the text itself, a third of the translation, a changed number, the other language."""
    rows = jsonl(data / "10_parallel_docs/ntrex_en_zh_de_ja_fr.jsonl.gz")
    gold = [Example("t", "Translate into Chinese.", r["en"], r["zh"]) for r in rows] + [
        Example("t", "译成英文。", r["zh"], r["en"]) for r in rows
    ]
    wrong = [Example("t", "Translate into Chinese.", r["en"], r["en"]) for r in rows[::3]]
    wrong += [
        Example("t", "Translate into Chinese.", r["en"], r["zh"][: max(len(r["zh"]) // 4, 1)])
        for r in rows[::3]
        if len(r["zh"]) > 40
    ]
    wrong += [Example("t", "Translate into Chinese.", r["en"], r["de"]) for r in rows[1::3]]
    wrong += [
        Example(
            "t", "Translate into Chinese.", re.sub(r"\d{3}", lambda m: str(1001 - int(m[0])), r["en"], count=1), r["zh"]
        )
        for r in rows
        if re.search(r"\b\d{3}\b", r["en"])
    ]
    return beside("translation", gold, wrong)


def span(data: Path, quick: bool) -> dict[str, Any]:
    """CMRC 2018 (zh) and XQuAD (en); wrong: the answer to a question about another passage."""
    made = [
        (part["context"], qa["question"], qa["answers"][0]["text"])
        for article in jsonl(data / "10_parallel_docs/cmrc2018_trial.jsonl.gz")
        for part in article["paragraphs"]
        for qa in part["qas"]
    ]
    made += [
        (r["context_en"], qa["question"], qa["answers"][0]["text"])
        for r in jsonl(data / "10_parallel_docs/xquad_en_zh.jsonl.gz")
        for qa in r["qas_en"]
    ]
    gold = [Example("t", "Answer.", f"{text}\nQuestion: {question}", answer) for text, question, answer in made]
    other = [Example("t", "Answer.", f"{a[0]}\nQuestion: {a[1]}", b[2]) for a, b in zip(made, made[31:], strict=False)]
    return beside("span", gold, other)


def summary(data: Path, quick: bool) -> dict[str, Any]:
    """Titles of Chinese abstracts (CSL); wrong: the title of another one, and one with a number that the abstract has not."""
    rows = [r for r in jsonl(data / "11_zh_tasks/csl_title_dev.jsonl.gz") if len(r["input"]) > 60]
    gold = [Example("t", "写标题。", r["input"], r["target"]) for r in rows]
    other = [Example("t", "写标题。", a["input"], b["target"]) for a, b in zip(rows, rows[17:], strict=False)]
    other += [Example("t", "写标题。", r["input"], r["target"] + "（2731例）") for r in rows]
    return beside("summary", gold, other)


def nli(data: Path, quick: bool) -> dict[str, Any]:
    """OCNLI: no label is confirmed without a judge; labels outside the set are refused. And what hypotheses alone give away."""
    from zhiling.nli import LABELS
    from zhiling.select.hypothesis import alone, hypothesis_only

    rows = [r for r in jsonl(data / "11_zh_tasks/ocnli_dev.jsonl.gz") if r["label"] in LABELS]
    made = [Example("t", "判断关系。", f"前提：{r['sentence1']}\n假设：{r['sentence2']}", r["label"]) for r in rows]
    wrong = [Example("t", "判断关系。", row.input, "也许吧") for row in made]
    left = {verdict.example for verdict in hypothesis_only(made, seed=0) if verdict.kept}
    fresh = [r for r in jsonl(data / "11_zh_tasks/ocnli_train3k_sample.jsonl.gz") if r["label"] in LABELS]
    others = [Example("t", "判断关系。", f"前提：{r['sentence1']}\n假设：{r['sentence2']}", r["label"]) for r in fresh]
    (told,), some = alone(made), [row for row in made if row.id in left]
    figures = {
        "nli_hypothesis_only": told.accuracy, "nli_hypothesis_low": told.low, "nli_hypothesis_high": told.high, "nli_commonest": told.commonest,
        "nli_dropped": round(1 - len(some) / len(made), 4), "nli_fresh": carried(made, others), "nli_fresh_after": carried(some, others),
        "nli_fresh_commonest": round(max(Counter(r["label"] for r in fresh).values()) / len(fresh), 4),
    }  # fmt: skip
    return {**beside("nli", made, wrong), "figures": figures}


def carried(taught: list[Example], others: list[Example]) -> float:
    """Accuracy on rows of another file of what hypotheses taught: what `hypothesis_only` is for, measured where nothing was dropped."""
    from zhiling.nli import LABELS, pair_of
    from zhiling.select.hypothesis import _Bags, _bags, _learnt

    pairs = [pair for row in (*taught, *others) if (pair := pair_of(row))]
    bags, truth = _bags(pairs), np.array([LABELS.index(pair.label) for pair in pairs])
    weights = _learnt(_Bags(bags[: len(taught)]), truth[: len(taught)])
    right = _Bags(bags[len(taught) :]).times(weights).argmax(axis=1) == truth[len(taught) :]
    return round(float(right.mean()), 4)


def dialogue(data: Path, quick: bool) -> dict[str, Any]:
    """HH conversations of people with an assistant; wrong: the last answer of another conversation, a turn said twice, roles exchanged."""
    turns = []
    for row in jsonl(data / "13_safety_bias/hh_harmless_test.jsonl.gz")[:: 4 if quick else 1]:
        said = [
            (("user", "assistant")[part.startswith("Assistant")], part.split(":", 1)[1].strip())
            for part in re.split(r"\n\n(?=(?:Human|Assistant):)", row["chosen"].strip())
            if ":" in part
        ]
        if len(said) >= 4 and len(said) % 2 == 0:
            turns.append(said)
    make = lambda said: Example("t", said[-2][1], "", said[-1][1], history=tuple(said[:-2]))  # noqa: E731
    wrong = (
        [[*a[:-1], b[-1]] for a, b in zip(turns, turns[5:], strict=False)]
        + [[*a[:2], a[0], *a[3:]] for a in turns]
        + [[a[1], a[0], *a[2:]] for a in turns]
    )
    return beside("dialogue", [make(said) for said in turns], [make(said) for said in wrong])


MEASURES: dict[str, Measure] = {
    "sql": sql, "code": code, "subtitles": subtitles, "arithmetic": arithmetic, "translation": translation, "span": span, "summary": summary,
    "nli": nli, "dialogue": dialogue,
}  # fmt: skip


if __name__ == "__main__":
    main()
