"""Is a metric fair: does it score the same content alike in Chinese and in English, and the same text alike about another group of people?

`translated`: pairs of rows that say the same in both languages; a metric should not differ, so the mean of zh - en ought to be near 0. People's
translations: XQuAD's questions on a passage, NTREX's news (what comes next, from what came before), and Alpaca's rows with their community
translation, which are found by their meaning, since no number joins the two files: a translated row and its nearest neighbour, each the
other's.
`swapped`: a row and the same row with one group's name in place of another's (CrowS-Pairs and BBQ in English, CBBQ in Chinese). A metric
should not move at all.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import passports_data as held

from zhiling.embed import Use
from zhiling.types import Example

Pairs = list[held.Pair]
MOST = 150  # pairs of a set
SPAN = 3  # sentences of news that are given, and that are to come
NEAR = 0.7  # cosine from which on an English row is the one that was translated
MOVED = 0.05  # of the range: what is seen as a change
SWAPPED = ("quality", "safety", "wording")


def xquad(data: Path) -> Iterator[held.Pair]:
    """Of every passage its first two questions, with the answers that people marked."""
    for one in held.read(data / "10_parallel_docs/xquad_en_zh.jsonl.gz"):
        for en, zh in list(zip(one["qas_en"], one["qas_zh"], strict=True))[:2]:
            yield (
                held.row(f"根据短文回答：{zh['question'].strip()}", one["context_zh"], zh["answers"][0]["text"]),
                held.row(
                    f"Answer from the passage: {en['question'].strip()}", one["context_en"], en["answers"][0]["text"]
                ),
            )


def ntrex(data: Path) -> Iterator[held.Pair]:
    """News: three sentences, and the three that follow."""
    lines = held.read(held.whole(data, "10_parallel_docs/ntrex_en_zh_de_ja_fr.jsonl.gz"))
    for at in range(0, len(lines) - 2 * SPAN, SPAN):
        part = lines[at : at + 2 * SPAN]
        if len({one["doc"] for one in part}) == 1:
            given, said = (
                (" ".join(one["en"] for one in half), "".join(one["zh"] for one in half))
                for half in (part[:SPAN], part[SPAN:])
            )
            yield (
                held.row(f"续写这则新闻：{given[1]}", "", said[1]),
                held.row(f"Continue this news report: {given[0]}", "", said[0]),
            )


def alpaca(data: Path) -> Iterator[held.Pair]:
    """Alpaca rows beside their community translation: mutual nearest neighbours by meaning within one shard of the file."""
    raw = held.alpaca(held.whole(data, "02_alpaca/alpaca_52k_original.jsonl.gz"))
    zh = held.read(held.whole(data, "02_alpaca/alpaca_zh_community_translated.jsonl.gz"))
    shard = zh[0]["_shard"]
    low, high = (int(found) for found in re.findall(r"\d+", shard)[:2])
    own = [held.row(one["instruction"], one["input"], one["output"]) for one in zh if one["_shard"] == shard][:MOST]
    theirs = raw[low : high + 1]
    embed = Use()
    near = embed([row.prompt[:300] for row in own]) @ embed([row.prompt[:300] for row in theirs]).T
    for at, there in enumerate(near.argmax(1).tolist()):
        if near[at, there] >= NEAR and near[:, there].argmax() == at:
            yield own[at], theirs[there]


TRANSLATED: dict[str, Callable[[Path], Iterator[held.Pair]]] = {
    "XQuAD questions": xquad,
    "NTREX news": ntrex,
    "Alpaca and its translation": alpaca,
}


def crows(data: Path) -> Iterator[held.Pair]:
    """CrowS-Pairs: the sentence about the group of the stereotype, and about the other; those that differ in at most three words."""
    for one in held.read(data / "13_safety_bias/crows_pairs.jsonl.gz"):
        two = one["sent_more"].split(), one["sent_less"].split()
        if len(two[0]) == len(two[1]) and 0 < sum(a != b for a, b in zip(*two, strict=True)) <= 3:
            more, less = (
                held.row(f"Say what you think of this: {one[side]}", "", f"{one[side]} I do not agree with that.")
                for side in ("sent_more", "sent_less")
            )
            yield more, less


def bbq(data: Path) -> Iterator[held.Pair]:
    """BBQ: a context that names two groups, and the same with the two names exchanged."""
    for one in held.read(held.whole(data, "13_safety_bias/bbq_sample.jsonl.gz")):
        names = [name for name, kind in one["answer_info"].values() if kind != "unknown" and name in one["context"]]
        if len(names) == 2:
            yield from exchanged(one, names, r"\b")


def cbbq(data: Path) -> Iterator[held.Pair]:
    """CBBQ: the same in Chinese; the two names are what the two answers do not share."""
    for one in held.read(held.whole(data, "13_safety_bias/cbbq_sample.jsonl.gz")):
        names = unshared(*(one[f"ans{at}"] for at in range(3) if str(at) != unknown(one)))
        if names and all(len(name) > 1 and name in one["context"] for name in names):
            yield from exchanged(one, names, "")


def unknown(one: dict[str, Any]) -> str:
    """The number of the answer that nobody can know."""
    words = ("不", "无法", "未知", "没有", "都")
    return next((str(at) for at in range(3) if one[f"ans{at}"].startswith(words)), one["label"])


def unshared(a: str, b: str, *more: str) -> list[str]:
    """The two texts without the beginning and the end that they share; [] where one of them is all shared."""
    head = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    tail = next((at for at, (x, y) in enumerate(zip(a[head:][::-1], b[head:][::-1], strict=False)) if x != y), 0)
    names = [a[head : len(a) - tail], b[head : len(b) - tail]]
    return names if all(names) else []


def exchanged(one: dict[str, Any], names: list[str], edge: str) -> Iterator[held.Pair]:
    said = one["context"], one["question"], one[f"ans{one['label']}"]
    swap = dict(zip(names, reversed(names), strict=True))
    found = re.compile(edge + "(" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")" + edge)
    other = [found.sub(lambda hit: swap[hit[1]], part) for part in said]
    if other[0] != said[0]:
        first, second = (held.row(question, context, answer) for context, question, answer in (said, other))
        yield first, second


GROUPS: dict[str, Callable[[Path], Iterator[held.Pair]]] = {"CrowS-Pairs": crows, "BBQ": bbq, "CBBQ (zh)": cbbq}
SETS = {"translated": TRANSLATED, "groups": GROUPS}


def gather(makers: dict[str, Callable[[Path], Iterator[held.Pair]]], data: Path, most: int) -> dict[str, Pairs]:
    """The pairs of each set, at most so many; a set that this data lacks is left out and said so."""
    out = {}
    for name, make in makers.items():
        try:
            found = list(make(data))
        except FileNotFoundError as error:
            print(f"{name}: not measured, there is no {error.filename}")
            continue
        out[name] = found if len(found) <= most else random.Random(7).sample(found, most)
    return out


Scores = Callable[[str, list[Example]], np.ndarray]


def translated(name: str, sets: dict[str, Pairs], scores: Scores) -> dict[str, Any]:
    """Mean of zh - en over the pairs of all sets that both sides were scored in, its interval, and the same for each set.

    In units of the metric, turned so that higher is better. `spread` is the standard deviation of all values, against which a gap is
    to be seen; `scored` the share of rows that got a value, en and zh.
    """
    told, gaps, values = [], [], []
    for which, pairs in sets.items():
        zh, en = (scores(name, [pair[side] for pair in pairs]) for side in (0, 1))
        known = ~np.isnan(zh) & ~np.isnan(en)
        share = {
            "scored_en": round(float((~np.isnan(en)).mean()), 2),
            "scored_zh": round(float((~np.isnan(zh)).mean()), 2),
        }
        gaps.append((zh - en)[known])
        values += [zh[known], en[known]]
        told.append({"set": which, "n": int(known.sum()), **mean(gaps[-1]), **share})
    everything = np.concatenate(values)
    return {
        **mean(np.concatenate(gaps)), "n": int(sum(map(len, gaps))), "sets": told,
        "spread": round(float(everything.std()), 3) if len(everything) else None,
    }  # fmt: skip


def swapped(name: str, sets: dict[str, Pairs], scores: Scores) -> list[dict[str, Any]]:
    """Of each set: how far a score moves when a group's name is exchanged (`moved`), how often by more than 0.05 (`share`), and which
    way (`value`, with its interval: first group's row - other's); `flipped` is the share that crosses 0.5."""
    told = []
    for which, pairs in sets.items():
        one, other = (scores(name, [pair[side] for pair in pairs]) for side in (0, 1))
        known = ~np.isnan(one) & ~np.isnan(other)
        gap = (one - other)[known]
        crossed = (np.abs(one[known]) >= 0.5) != (np.abs(other[known]) >= 0.5)
        told.append({
            "set": which, "n": int(known.sum()), **mean(gap), "moved": round(float(np.abs(gap).mean()), 4) if len(gap) else None,
            "share": round(float((np.abs(gap) > MOVED).mean()), 3) if len(gap) else None,
            "flipped": round(float(crossed.mean()), 3) if len(gap) else None,
        })  # fmt: skip
    return told


def mean(gap: np.ndarray) -> dict[str, float | None]:
    """The mean and the middle 95% of 500 resampled means; None of nothing."""
    if not len(gap):
        return {"value": None, "low": None, "high": None}
    draw = np.random.default_rng(0)
    found = [float(gap[draw.integers(0, len(gap), len(gap))].mean()) for _ in range(500)]
    low, high = np.quantile(found, [0.025, 0.975])
    return {"value": round(float(gap.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
