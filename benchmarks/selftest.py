"""How many planted defects are found, by class, on rows that nothing was set on; and the networks behind two of the finders.

    python benchmarks/selftest.py [--quick] [--data DIR] [--json FILE] [--train]

Every data set is split by a hash of its rows: what networks and rules were made with is one half of Alpaca 52k, of its Chinese translation
and of `zh_extra_topics`; reported are the other halves, and sets that the networks never saw (Dolly, Self-Instruct's and BELLE's seeds,
BELLE's evaluation set, LLaMA-Factory's Chinese rows; the rules for text that is cut off were written looking at Dolly's and LLaMA-Factory's
rows too). The bounds of the two networks are set on each set's sound rows (1,200 rows are taken) as `zhiling score --self-test` does it;
false alarms, of both together, are counted on each half by bounds set on the other half.

Figures: recall_CLASS_en and recall_CLASS_zh (all sets of the language together), lowest_en, lowest_zh, false_alarms_en, false_alarms_zh.

--train fits the networks (torch, about a quarter of an hour, most of it vectors) and writes src/zhiling/score/pairs.npz.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zhiling import text
from zhiling.embed import Embedder, Use
from zhiling.judging.selftest import blamed, selftest
from zhiling.score import answers, lacks_input, pairs
from zhiling.types import Example, row_seed

TRAIN = {
    "02_alpaca/alpaca_52k_original.jsonl.gz": 27_000,
    "02_alpaca/alpaca_zh_community_translated.jsonl.gz": 2100,
    "02_alpaca/zh_extra_topics.jsonl.gz": 1600,
}
REPORT = {
    "en": (
        "02_alpaca/alpaca_52k_original.jsonl.gz",
        "02_alpaca/alpagasus_dolly_3k.jsonl.gz",
        "01_self_instruct/seed_tasks.jsonl",
    ),
    "zh": (
        "02_alpaca/alpaca_zh_community_translated.jsonl.gz",
        "02_alpaca/llamafactory_alpaca_zh_demo.jsonl.gz",
        "04_belle/zh_seed_tasks.jsonl",
        "04_belle/eval_set.jsonl.gz",
    ),
}
SPLIT = "d"  # the task of the rows that are split: part of their ids
HIDDEN = {"answers": 96, "lacks_input": 32}
EPOCHS = {"answers": 18, "lacks_input": 12}
WRONG = 4  # wrong answers shown beside each right one


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="200 rows of each set")
    parser.add_argument("--train", action="store_true", help="fit the networks first")
    args = parser.parse_args()
    if args.train:
        train(args.data)
    figures, rows = report(args.data, 200 if args.quick else 1200)
    told = {"name": "selftest", "machine": platform.platform(), "figures": figures, "rows": rows}
    for name, value in figures.items():
        print(f"{name:<28} {value}")
    if args.json:
        args.json.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read(data: Path, name: str, half: int) -> list[Example]:
    """The rows of a half: 0 is for making, 1 for reporting. Sets that nothing was made with are reported whole."""
    path = data / name
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found = [row for line in raw.splitlines() if line.strip() for row in _rows(json.loads(line))]
    return [row for row in found if name not in TRAIN or int(hashlib.sha256(row.id.encode()).hexdigest()[:2], 16) & 1 == half]  # fmt: skip


def _rows(one: dict[str, Any]) -> Iterator[Example]:
    if "instances" in one:
        yield from (Example(SPLIT, one["instruction"], case["input"], case["output"]) for case in one["instances"][:1])
    elif "question" in one:
        yield Example(SPLIT, one["question"], "", one["std_answer"] or "")
    else:
        yield Example(SPLIT, one["instruction"] or "", one.get("input") or "", one.get("output") or "")


def report(data: Path, most: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    figures: dict[str, Any] = {}
    told = []
    for lang, names in REPORT.items():
        planted, found = Counter[str](), Counter[str]()
        alarms = held = 0
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "rows.jsonl"
                path.write_text("".join(_line(row) for row in read(data, name, 1)), encoding="utf-8")
                tested = selftest([path], rows=most)
            for each in tested.classes:
                planted[each.name] += each.planted
                found[each.name] += each.found
                told.append({"set": name, "class": each.name, "planted": each.planted, "recall": each.recall, "by": each.by})  # fmt: skip
            if tested.false_alarms is not None:
                alarms += round(tested.false_alarms * tested.sound)
                held += tested.sound
            told.append({"set": name, "sound": tested.sound, "blamed": tested.blamed, "false_alarms": tested.false_alarms})  # fmt: skip
            print(name, {each.name: each.recall for each in tested.classes}, "false alarms", tested.false_alarms)
        recalls = {name: round(found[name] / planted[name], 4) for name in planted if planted[name]}
        figures |= {f"recall_{name}_{lang}": value for name, value in recalls.items()}
        figures |= {
            f"lowest_{lang}": min(recalls.values()),
            f"false_alarms_{lang}": round(alarms / held, 4) if held else None,
        }
    return figures, told


def _line(row: Example) -> str:
    return json.dumps({"instruction": row.instruction, "input": row.input, "output": row.output}) + "\n"


def train(data: Path, embedder: Embedder | None = None, out: Path = pairs.WEIGHTS) -> None:
    """Fit both networks on the halves for making, and write their weights."""
    rows = []
    for name, most in TRAIN.items():
        part = sorted({row.id: row for row in read(data, name, 0)}.values(), key=lambda row: (row_seed(0, row.id), row.id))[:most]  # fmt: skip
        bad = blamed(part)
        rows += [row for row in part if not bad[row.id]]
    embed = embedder or Use()
    print(len(rows), "rows")
    said = embed([row.output.strip()[:600] for row in rows])
    asked = embed([row.prompt.strip()[:600] for row in rows])
    bare = embed([row.instruction.strip()[:600] for row in rows])
    whole = np.array([text.length(row.output) >= answers.SHORT for row in rows])
    files = fit_answers([row for row, ok in zip(rows, whole, strict=True) if ok], asked[whole], said[whole])
    files |= fit_lacks(rows, bare, said)
    np.savez_compressed(out, **files)  # type: ignore[arg-type]


def fit_answers(rows: Sequence[Example], asked: Any, said: Any) -> dict[str, Any]:
    """Each row's own output against those of other rows of its language, drawn anew in each round."""
    import torch

    zh = np.array([not row.instruction.isascii() for row in rows])
    kin = {flag: np.flatnonzero(zh == flag) for flag in (False, True)}
    lengths = answers.extras(asked, said, rows)[:, 1]
    rng = np.random.default_rng(0)

    def batch(at: Any) -> tuple[Any, ...]:
        again = np.repeat(at, WRONG)
        other = np.array([rng.choice(kin[bool(zh[i])]) for i in again])
        left, right = np.concatenate([at, again]), np.concatenate([at, other])
        extra = np.stack([np.einsum("ij,ij->i", asked[left], said[right]), lengths[right]], axis=1)
        truth = np.concatenate([np.ones(len(at)), np.zeros(len(again))])
        weight = np.where(zh[left], 2.0, 1.0) * np.where(truth > 0, float(WRONG), 1.0)
        sides = [torch.tensor(each, dtype=torch.float32) for each in (asked[left], said[right], extra)]
        return *sides, None, truth, weight

    return fit("answers", len(rows), 2, batch)


def fit_lacks(rows: Sequence[Example], bare: Any, said: Any) -> dict[str, Any]:
    """Which instructions come with an input."""
    import torch

    truth = np.array([float(not text.blank(row.input)) for row in rows])
    zh = np.array([not row.instruction.isascii() for row in rows])
    extra, grams = lacks_input.extras(bare, said, rows), [pairs.places(row.instruction) for row in rows]

    def batch(at: Any) -> tuple[Any, ...]:
        worded = [torch.tensor(grams[i]) for i in at]
        sides = [torch.tensor(each[at], dtype=torch.float32) for each in (bare, said, extra)]
        return *sides, worded, truth[at], np.where(zh[at], 3.0, 1.0)

    return fit("lacks_input", len(rows), extra.shape[1], batch)


def fit(name: str, count: int, extras: int, batch: Callable[[Any], tuple[Any, ...]]) -> dict[str, Any]:
    """One hidden layer by AdamW, dropout .3, the rate falling by 15% a round; seeded."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as loss_of

    torch.manual_seed(0)
    torch.set_num_threads(1)
    hidden = HIDDEN[name]
    shapes = {"left": (hidden, 512), "right": (hidden, 512), "product": (hidden, 512), "extra": (hidden, extras)}
    weights = {part: torch.empty(shape).uniform_(-1, 1) / shape[1] ** 0.5 for part, shape in shapes.items()}
    weights |= {"bias": torch.zeros(hidden), "out": torch.empty(hidden + extras).uniform_(-1, 1) / hidden**0.5}
    weights |= {"shift": torch.zeros(()), "grams": torch.zeros(pairs.GRAMS)}
    for each in weights.values():
        each.requires_grad_()
    decayed = [value for part, value in weights.items() if part != "grams"]
    worded = [{"params": [weights["grams"]], "weight_decay": 0.03}]
    steps = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, *worded], lr=2e-3)
    rng = np.random.default_rng(1)
    for turn in range(EPOCHS[name]):
        total, order = 0.0, rng.permutation(count)
        for start in range(0, count, 256):
            left, right, extra, grams, truth, weight = batch(order[start : start + 256])
            inner = pairs.EACH * (left @ weights["left"].T + right @ weights["right"].T)
            inner = inner + pairs.PRODUCT * ((left * right) @ weights["product"].T) + extra @ weights["extra"].T
            inner = torch.nn.functional.dropout(torch.relu(inner + weights["bias"]), 0.3)
            logits = torch.cat([inner, extra], dim=1) @ weights["out"] + weights["shift"]
            if grams is not None:
                logits = logits + torch.stack([weights["grams"][at].sum() / len(at) ** 0.5 for at in grams])
            each = loss_of(logits, torch.tensor(truth, dtype=torch.float32), reduction="none")
            loss = (each * torch.tensor(weight, dtype=torch.float32)).mean()
            steps.zero_grad()
            loss.backward()
            steps.step()
            total += float(loss.detach()) * len(truth)
        for group in steps.param_groups:
            group["lr"] *= 0.85
        print(name, turn, round(total / count, 4), flush=True)
    return pairs.packed(name, {part: value.detach().numpy() for part, value in weights.items()})


if __name__ == "__main__":
    main()
