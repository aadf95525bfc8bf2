"""A run's folder as a run would leave it, built through the store from the demo's own sentences; scores and answers are made up.

The report only reads: what the figures are does not matter here, that the page shows these and no others does.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zhiling
from zhiling.ledger import STATES, entries
from zhiling.store import Done, Entry, Store, write
from zhiling.types import Example, Record, Reject, Score, Template, Verdict

DEMO = Path(zhiling.__file__).parent / "library" / "demo"
WORDINGS = {
    ("sentiment_en", "template"): [
        "Is this review positive or negative?",
        "Read the review and answer positive or negative.",
    ],
    ("sentiment_en", "retrieve"): ["Classify the sentiment of the following customer feedback."],
    ("sentiment_en", "generate"): ["Decide whether the customer was pleased: say positive or negative."],
    ("sentiment_zh", "template"): ["判断下面这条评论是正面还是负面。", "读完评论，只回答“正面”或“负面”。"],
    ("sentiment_zh", "retrieve"): ["对下列顾客评论做情感分类，输出正面或负面。"],
    ("translation", "template"): ["将句子翻译成目标语言。", "Translate the sentence."],
    ("translation", "retrieve"): ["请把这句话译成另一种语言，只写译文。"],
    ("handbook_qa", "template"): ["Answer from the passage.", "根据原文回答问题。"],
    ("handbook_qa", "generate"): ["Find the answer in the section and copy it word for word."],
}
LOSING = [
    ("sentiment_en", "too short to say a task", "Reviews."),
    ("sentiment_en", "nearly equal to: Decide whether the customer was pleased", "Decide whether the customer was pleased or not."),
    ("sentiment_en", "quality 0.48, place 4 (grammar 0.9, clarity 0.31, relevance -); the best 2 of at least 0.3 are kept", "Say if happy."),
    ("handbook_qa", "has an unfilled slot", "Answer the question: [question]"),
    ("handbook_qa", "leaks one answer: it names only 周一", "What day does the library close? 周一"),
]  # fmt: skip
SCORERS = ("clarity", "echo", "format", "grammar", "length", "relevance")
TASKS = ("handbook_qa", "sentiment_en", "sentiment_zh", "translation")
UNTIL = {
    "read": 1,
    "construct": 6,
    "score": 7,
    "select": 10,
    "evaluate": 11,
}  # how many kinds of rows a run has by then
SPENT: dict[str, dict[str, Any]] = {
    "embedded": {"calls": 20, "cached": 0, "prompt_tokens": 2480, "completion_tokens": 512, "usd": 0.0, "failed": 0, "retries": 0},
    "strong": {"calls": 46, "cached": 14, "prompt_tokens": 12400, "completion_tokens": 3920, "usd": 0.0312, "failed": 1, "retries": 3},
    "unpriced": {"calls": 5, "cached": 0, "prompt_tokens": None, "completion_tokens": None, "usd": None, "failed": 0, "retries": 0},
}  # fmt: skip
Spoil = Callable[[str], str]
"""What is done to every text that the data, the recipe or a plug-in brings; it may only append."""


def _last_words(rows: list[Example], chain: list[dict[str, Verdict]]) -> Iterator[Entry]:
    for row in sorted(rows, key=lambda row: row.id):
        said = [verdicts[row.id] for verdicts in chain if row.id in verdicts]
        last = next((verdict for verdict in said if not verdict.kept), said[-1])
        yield Entry(
            row.id, row.task, row.maker, "kept" if last.kept else "dropped", last.selector, last.why, last.rival
        )


def build_folder(folder: Path, *, repeat: int = 1, until: str = "evaluate", spoil: Spoil = str) -> dict[str, Any]:
    """Write a run's folder that came up to the stage `until`. Returns what is in it, by kind, and run.json as "run"."""
    made, chain = _construct(repeat, spoil), list[dict[str, Verdict]]()
    dice = random.Random(11)
    made["scores"] = [_score(row, scorer, dice, spoil) for row in made["examples"] for scorer in SCORERS]
    chain = _select(made["examples"], made["scores"], dice, spoil)
    made["verdicts"] = [verdict for verdicts in chain for verdict in verdicts.values()]
    made["kept"] = [row for row in made["examples"] if all(said[row.id].kept for said in chain if row.id in said)]
    made["ledger"] = list(entries(made["rejects"], made["merged"], _last_words(made["examples"], chain)))
    made["answers"] = _answers(made["heldout"], dice, spoil)
    store = Store(folder)
    store.begin()
    for kind, items in list(made.items())[: UNTIL[until]]:
        half = len(items) // 2
        parts = [part for part in (items[:half], items[half:]) if part]
        outputs = tuple(write(folder, f"{kind}/{i}.parquet", kind, part) for i, part in enumerate(parts))
        store.commit(Done(kind, kind, "all", outputs, {}))
    store.close()
    for kind in list(made)[UNTIL[until] :]:
        made[kind] = []
    ledger = made["ledger"]
    states = {state: sum(entry.state == state for entry in ledger) for state in STATES} if ledger else {}
    facts = {
        "name": spoil("demo"), "seed": 7, "engine": spoil("local"), "until": spoil(until), "states": states, "came": len(ledger),
        "kept": len(made["kept"]), "reused": 0, "worked": 41, "tuned": {"base": spoil("embedded"), "method": "lora", "rows": len(made["kept"])}, "spent": {spoil(name): spent for name, spent in SPENT.items()},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    (folder / "recipe.yaml").write_text(spoil((DEMO / "recipe.yaml").read_text(encoding="utf-8")), encoding="utf-8")
    return {**made, "run": facts}


def add_tuning(folder: Path, steps: int = 130, spoil: Spoil = str) -> list[dict[str, Any]]:
    """Write the tuning log; not every task has rows at every step, and validation comes before the first step and twice after."""
    dice, log = random.Random(3), list[dict[str, Any]]()
    log.append({"step": 0, "validation": {spoil(task): 3.0 for task in TASKS}})
    for step in range(1, steps + 1):
        losses = {
            spoil(task): round(0.25 + 0.3 * i + 2.2 * 0.97**step + dice.gauss(0, 0.12), 4)
            for i, task in enumerate(TASKS) if dice.random() < 0.8
        }  # fmt: skip
        log.append({"step": step, "steps": steps, "loss": 1.0, "tasks": losses, "lr": 0.001, "tokens": 310})
        if step % (steps // 2) == 0:
            log[-1]["validation"] = {spoil(task): round(0.4 + 0.3 * i + 30 / step, 4) for i, task in enumerate(TASKS)}
    (folder / "tune").mkdir(exist_ok=True)
    (folder / "tune" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")
    return log


def add_results(folder: Path, spoil: Spoil = str) -> dict[str, Any]:
    """Write results.json: two tasks better, one worse, one that nobody can tell."""

    def result(metric: str, n: int, base: float, tuned: float, low: float, high: float, verdict: str) -> dict[str, Any]:
        change = f"{100 * (tuned - base):+.1f} points (95% interval {100 * low:+.1f} … {100 * high:+.1f}, {n} rows)"
        chinese = {"better": "更好", "worse": "更差"}.get(verdict, "无法判断")
        return {
            "metric": metric and spoil(metric), "n": n, "base": base, "tuned": tuned, "difference": round(tuned - base, 4), "low": low,
            "high": high, "p": 0.1718 if verdict == "cannot tell" else 0.0004, "verdict": verdict, "words": {"en": spoil(f"{verdict}: {change}"), "zh": spoil(f"{chinese}：{change}")},
            "failed": 1 if verdict == "worse" else 0,
        }  # fmt: skip

    data = {
        "tasks": {
            spoil("sentiment_en"): result("exact_match", 40, 0.125, 0.675, 0.4, 0.7, "better"),
            spoil("sentiment_zh"): result("exact_match", 40, 0.05, 0.575, 0.35, 0.675, "better"),
            spoil("translation"): result("chrf", 40, 0.171, 0.205, -0.012, 0.081, "cannot tell"),
            spoil("handbook_qa"): result("f1", 36, 0.412, 0.344, -0.121, -0.014, "worse"),
        },
        "overall": result("", 156, 0.184, 0.452, 0.205, 0.33, "better"),
        "langs": {
            "en": result("", 80, 0.26, 0.47, 0.13, 0.29, "better"),
            "zh": result("", 76, 0.1, 0.43, 0.24, 0.42, "better"),
        },
        "confidence": 0.95,
    }
    (folder / "results.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return data


def _texts() -> list[tuple[str, dict[str, str], str, str, int]]:
    """(task, fields, lang, file, line) of the demo's rows."""
    out: list[tuple[str, dict[str, str], str, str, int]] = []
    for lang in ("en", "zh"):
        name = f"sentiment_{lang}"
        with (DEMO / f"{name}.csv").open(encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        out += [
            (name, {"text": text, "label": label}, lang, f"{name}.csv", line)
            for line, (text, label) in enumerate(rows, 2)
        ]
    for line, text in enumerate((DEMO / "translation.jsonl").read_text(encoding="utf-8").splitlines(), 1):
        row = json.loads(text)
        out.append(("translation", row, row["source_lang"], "translation.jsonl", line))
    for lang in ("en", "zh"):
        for line, part in enumerate((DEMO / f"handbook.{lang}.md").read_text(encoding="utf-8").split("\n\n")):
            if len(part) > 80 and not part.startswith(("#", "**")):
                out.append(("handbook_qa", {"passage": part, "answer": part[:20]}, lang, f"handbook.{lang}.md", line))
    return out


def _construct(repeat: int, spoil: Spoil) -> dict[str, list[Any]]:
    dice, rows = random.Random(7), _texts()
    dice.shuffle(rows)
    records = [
        Record(spoil(task), {key: spoil(f"{value} ({i})" if i else value) for key, value in fields.items()}, lang, spoil(file), line)
        for i in range(repeat) for task, fields, lang, file, line in rows
    ]  # fmt: skip
    templates = [
        Template(
            spoil(task), "zh" if any(char > "一" for char in text) else "en", spoil(text), maker=spoil(f"{way}:{i}"),
            why=spoil("quality 0.71 (grammar 1.0, clarity 0.62, relevance 0.61)") if way == "generate" else "",
        )
        for (task, way), wordings in WORDINGS.items() for i, text in enumerate(wordings)
    ]  # fmt: skip
    drafts, heldout = list[Example](), list[Example]()
    for record in records:
        mine = [one for one in templates if one.task == record.task and one.lang == record.lang]
        held = not record.task.startswith("handbook_qa") and dice.random() < 0.2
        for template in mine[:1] if held else [one for one in mine if dice.random() < 0.7]:
            (heldout if held else drafts).append(_filled(template, record, spoil))
    unique = {row.id: row for row in reversed(drafts)}
    return {
        "records": records, "templates": templates, "rejects": _rejects(templates[0], records[0], spoil), "examples": list(unique.values()),
        "merged": [*drafts[:17], *(row for row in drafts if row is not unique[row.id])], "heldout": heldout,
    }  # fmt: skip


def _rejects(template: Template, record: Record, spoil: Spoil) -> list[Reject]:
    lost = [
        Reject(spoil(task), spoil("generate:0"), "dropped", spoil(why), text=spoil(text)) for task, why, text in LOSING
    ]
    broken, where = '{"source": "早上好" "target"', "translation.jsonl:118"
    return [
        *lost,
        Reject(spoil("translation"), "read", "quarantined", spoil("not valid JSON: ',' expected"), spoil(where), spoil(broken)),
        Reject(spoil("sentiment_zh"), "read", "quarantined", spoil("2 columns expected, 1 found"), "sentiment_zh.csv:9", spoil("味道不错")),
        Reject(spoil("handbook_qa"), spoil("generate:0"), "failed", spoil("the field 'answer' is empty"), parents=(template.id, record.id)),
    ]  # fmt: skip


def _filled(template: Template, record: Record, spoil: Spoil) -> Example:
    task = next(task for task in TASKS if record.task.startswith(task))
    source, target = {"translation": ("source", "target"), "handbook_qa": ("passage", "answer")}.get(
        task, ("text", "label")
    )
    return Example(
        record.task, template.instruction, record.fields[source], record.fields[target], system=spoil("") and spoil("Be brief."),
        lang=spoil(template.lang), maker=template.maker, parents=(template.id, record.id),
    )  # fmt: skip


def _score(row: Example, scorer: str, dice: random.Random, spoil: Spoil) -> Score:
    if scorer == "grammar" and row.lang.startswith("zh"):
        return Score(row.id, spoil(scorer), None, spoil("grammar is checked in English only"))
    if scorer == "clarity" and dice.random() < 0.02:
        return Score(row.id, spoil(scorer), None, spoil("the model gave no token probabilities"))
    if scorer == "format" and dice.random() < 0.01:  # what a careless plug-in may give
        return Score(row.id, spoil(scorer), float("nan"), spoil("divided by nothing"))
    value = {
        "clarity": min(max(dice.gauss(0.62, 0.14), 0), 1), "echo": max(dice.gauss(0.05, 0.08), 0), "format": float(dice.random() < 0.97),
        "grammar": 1 - dice.choice([0, 0, 0, 0.1, 0.2, 0.5]), "length": float(len(row.prompt)),
        "relevance": min(max(dice.gauss(0.45, 0.16), 0), 1),
    }[scorer]  # fmt: skip
    return Score(row.id, spoil(scorer), round(value, 4))


def _select(rows: list[Example], scores: list[Score], dice: random.Random, spoil: Spoil) -> list[dict[str, Verdict]]:
    relevance = {score.example: score.value or 0.0 for score in scores if score.scorer.startswith("relevance")}

    def near(row: Example) -> Verdict:
        good = dice.random() > 0.08
        return Verdict(
            row.id,
            spoil("near"),
            good,
            "" if good else spoil(f"{dice.randint(90, 99)}% alike"),
            "" if good else rows[0].id,
        )

    def threshold(row: Example) -> Verdict:
        good = relevance[row.id] >= 0.25
        return Verdict(
            row.id, spoil("threshold"), good, "" if good else spoil(f"relevance {relevance[row.id]:g} < 0.25")
        )

    def quota(row: Example) -> Verdict:
        good = dice.random() > 0.25
        return Verdict(row.id, spoil("quota"), good, "" if good else spoil("the task has its 150 rows"))

    chain, still = list[dict[str, Verdict]](), rows
    for rule in (lambda row: Verdict(row.id, spoil("exact"), True), near, threshold, quota):
        chain.append({row.id: rule(row) for row in still})
        still = [row for row in still if chain[-1][row.id].kept]
    return chain


def _answers(heldout: list[Example], dice: random.Random, spoil: Spoil) -> list[dict[str, Any]]:
    out = []
    for row in heldout:
        for model, skill in (("base", 0.1), ("tuned", 0.65)):
            good = dice.random() < skill
            text = row.output if good else spoil("I am not sure, but I think that the sentence is about a review.")
            out.append(
                {"example": row.id, "model": model, "text": text, "finish": "stop", "value": 1.0 if good else 0.0}
            )
    return out
