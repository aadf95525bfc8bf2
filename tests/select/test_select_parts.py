"""Rows that share a long wording around short parts that differ: found by their parts, with the verdicts of a plain walk."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from select_rows import kept
from test_select_walk import GLUE, WORDS, planted, small

from zhiling import text
from zhiling.select import join, walk
from zhiling.select.duplicates import near
from zhiling.select.parts import PARTS
from zhiling.types import Example


def crowd(seed: int, count: int) -> list[Example]:
    """Rows of few wordings, zh and en, around short inputs, outputs and turns from few words, some left out; and near-copies of them."""
    dice = random.Random(seed)

    def said(lang: str, most: int) -> str:
        return GLUE[lang].join(dice.choices(WORDS[lang], k=dice.randrange(most)))

    wordings = [(lang, GLUE[lang].join(dice.choices(WORDS[lang], k=30))) for lang in ("zh", "en", "en")]
    rows = list[Example]()
    for _ in range(count):
        if rows and dice.random() < 0.3:
            row, part = dice.choice(rows), dice.choice(("instruction", "input", "output"))
            rows.append(replace(row, **{part: getattr(row, part) + dice.choice((" one", "一", " "))}))
            continue
        lang, wording = dice.choice(wordings)
        places = [said(lang, 5), said(lang, 5), said(lang, 4)]
        if dice.random() < 0.8:
            places[dice.randrange(3)] = wording
        turns = (("user", dice.choice((wording, said(lang, 4)))),) if dice.random() < 0.3 else ()
        rows.append(Example("t", *places, history=turns))
    return rows


def plain(rows: list[Example], threshold: float, n: int, over: str) -> dict[str, str]:
    """{row: rival} by comparing every row with every one kept before it."""

    def tokens(row: Example) -> dict[str, list[str]]:
        history = "\n".join(content for _, content in row.history)
        return {"history": text.tokens(history)} | {name: text.tokens(getattr(row, name)) for name in PARTS[1:]}

    def grams(parts: dict, *names: str) -> frozenset:
        said = [token for name in names for token in parts[name]]
        return frozenset(tuple(said[at : at + n]) for at in range(max(len(said) - n + 1, 1))) if said else frozenset()

    def alike(one: dict, other: dict, *names: str) -> float:
        mine, theirs = grams(one, *names), grams(other, *names)
        return len(mine & theirs) / len(mine | theirs) if mine or theirs else 1.0

    prompt = ("history", "instruction", "input")
    whole = {"prompt": prompt, "output": ("output",), "prompt+output": (*prompt, "output")}[over]
    rows = sorted({row.id: row for row in rows}.values(), key=lambda row: row.id)
    known, alive, fell = {row.id: tokens(row) for row in rows}, [], {}
    for row in rows:
        for before in alive:
            one, other = known[before.id], known[row.id]
            if not grams(one, *whole) or not grams(other, *whole) or alike(one, other, *whole) < threshold - 1e-9:
                continue
            apart = row.input.strip() and before.input.strip()
            tests = [("instruction",), ("input",)] if apart else [prompt]
            tests += [("history",)] + ([("output",)] if over == "prompt+output" else [])
            if over == "output" or all(alike(one, other, *names) >= threshold / 2 for names in tests):
                fell[row.id] = before.id
                break
        else:
            alive.append(row)
    return fell


@pytest.mark.parametrize("candidates", [1 << 20, 3])
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), threshold=st.sampled_from([0.5, 0.7, 0.8, 1.0]), n=st.integers(1, 3),
    over=st.sampled_from(["prompt+output", "prompt", "output"]), make=st.sampled_from([crowd, planted]), blocks=st.booleans(),
)  # fmt: skip
def test_verdicts_are_those_of_a_plain_walk(candidates, seed, threshold, n, over, make, blocks):
    rows = make(seed, 45)
    with pytest.MonkeyPatch.context() as patch, small(300, 40, candidates) if blocks else small(1 << 22):
        patch.setattr(join, "CANDIDATES", candidates)
        for module in (join, walk):
            patch.setattr(module, "PER_ROW", 0 if candidates == 3 else 64)
        said = near(rows, scores={}, threshold=threshold, n=n, over=over)
        assert {one.example: one.rival for one in said if not one.kept} == plain(rows, threshold, n, over)


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("differ", ["instruction", "input", "output"])
def test_a_crowd_of_different_rows_in_one_wording_does_not_grow_with_its_square(lang, differ, monkeypatch):
    """1,500 rows that differ in one short part, and five near-copies of one: few pairs are looked at, and the copies are found."""
    dice, letters = random.Random(7), [chr(0x4E00 + at) if lang == "zh" else f"w{at}" for at in range(3000)]
    wording = GLUE[lang].join(dice.choices(letters, k=100))
    parts = {"instruction": wording, "input": "", "output": "好" if lang == "zh" else "fine"}
    if differ == "input":
        parts["input"] = "-"
    elif differ == "instruction":
        parts["input"] = wording
    rows = [Example("t", **parts | {differ: GLUE[lang].join(dice.choices(letters, k=8))}) for _ in range(1500)]
    rows += [replace(rows[3], **{differ: getattr(rows[3], differ) + GLUE[lang] + letters[at]}) for at in range(5)]
    met, verify = [], join.verify
    monkeypatch.setattr(join, "CANDIDATES", 10_000)
    monkeypatch.setattr(join, "verify", lambda sets, least, keys: (met.append(len(keys)), verify(sets, least, keys))[1])
    assert len(kept(near(rows, scores={}))) == 1500
    assert 15 <= sum(met) < 20 * len(rows)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_nor_does_one_over_many_blocks(lang, monkeypatch):
    """The same where blocks of a hundred rows meet all that were kept before, which lie in runs."""
    dice, letters = random.Random(8), [chr(0x4E00 + at) if lang == "zh" else f"w{at}" for at in range(3000)]
    wording = GLUE[lang].join(dice.choices(letters, k=100))
    rows = [Example("t", wording, GLUE[lang].join(dice.choices(letters, k=8)), "好 fine") for _ in range(1500)]
    rows += [replace(rows[3], input=rows[3].input + GLUE[lang] + letters[at]) for at in range(5)]
    met, verify = [], walk.verify
    counted = lambda sets, least, keys: (met.append(len(keys)), verify(sets, least, keys))[1]  # noqa: E731
    for module in (join, walk):
        monkeypatch.setattr(module, "verify", counted)
    monkeypatch.setattr(join, "CANDIDATES", 10_000)
    with small(tokens=12_000, run=20_000, candidates=10_000):
        assert len(kept(near(rows, scores={}))) == 1500
    assert 5 <= sum(met) < 30 * len(rows)
