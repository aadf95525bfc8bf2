"""Near-duplicates among more rows than memory holds the shingles of: the same verdicts as in memory, whatever the blocks."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from select_rows import alpaca, kept, scores

from zhiling.select import duplicates, join, spill, walk
from zhiling.select.duplicates import near
from zhiling.types import Example

WORDS = {
    "en": [
        "red",
        "blue",
        "old",
        "new",
        "tree",
        "house",
        "river",
        "moon",
        "walks",
        "sings",
        "over",
        "under",
        "it's",
        "one",
        "two",
    ],
    "zh": list("红蓝新旧树屋河月走唱上下一二三"),
}
GLUE = {"en": " ", "zh": ""}


@contextmanager
def small(tokens=200, run=40, candidates=50):
    """Memory for so few tokens, entries and candidates that everything is done in parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "RESIDENT", tokens)
        patch.setattr(walk, "RUN", run)
        patch.setattr(walk, "AT_ONCE", 64)
        patch.setattr(walk, "CANDIDATES", candidates)
        yield


def planted(seed: int, count: int) -> list[Example]:
    """Rows in clusters of near-copies, zh and en, some with an input, some with earlier turns, among rows of their own."""
    dice = random.Random(seed)

    def text(lang: str, most: int) -> list[str]:
        return dice.choices(WORDS[lang], k=dice.randrange(1, most))

    rows = []
    while len(rows) < count:
        lang = dice.choice(("en", "zh"))
        parts = [text(lang, 14), text(lang, 10) if dice.random() < 0.4 else [], text(lang, 30)]
        turns = (("user", GLUE[lang].join(text(lang, 6))),) if dice.random() < 0.2 else ()
        for _ in range(dice.choice((1, 1, 2, 5))):
            new = [list(part) for part in parts]
            for _ in range(dice.randrange(3)):
                part = dice.choice(new)
                if part:
                    part[dice.randrange(len(part))] = dice.choice(WORDS[lang])
            asked, given_input, answer = (GLUE[lang].join(part) for part in new)
            rows.append(Example("t", asked, given_input, answer, history=turns))
    return rows


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), threshold=st.sampled_from([0.5, 0.7, 0.8, 1.0]), n=st.integers(1, 3),
    over=st.sampled_from(["prompt+output", "prompt", "output"]), by=st.sampled_from([None, "grammar", "echo"]), tokens=st.sampled_from([40, 200, 900]),
)  # fmt: skip
def test_verdicts_do_not_depend_on_the_blocks(seed, threshold, n, over, by, tokens):
    rows = planted(seed, 60)
    dice = random.Random(seed)
    said = scores(by, {row.id: dice.choice([None, 0.1, 0.5, 0.9]) for row in rows}) if by else {}
    how = {"scores": said, "threshold": threshold, "n": n, "over": over, "keep": by}
    whole = list(near(rows, **how))
    with small(tokens):
        assert list(near(rows, **how)) == whole


def test_real_rows_in_blocks(shared):
    """Real rows, zh and en, each tenth again with a word changed: the same pairs, and there are some to find."""
    rows = alpaca(shared / "02_alpaca/zh_extra_topics.jsonl.gz", 1200) + alpaca(
        shared / "02_alpaca/alpaca_52k_original.jsonl.gz", 1200
    )
    rows += [Example("t", row.instruction, row.input, row.output + " 完 end") for row in rows[::10]]
    whole = list(near(rows, scores={}))
    with small(tokens=20_000, run=5_000, candidates=1_000):
        assert list(near(rows, scores={})) == whole
    assert sum(not verdict.kept for verdict in whole) > 100


def test_the_first_of_several_rivals_is_named():
    """A row between two kept ones falls to the better of them, whichever block and whichever run they are found in."""
    rows, values = [], {}
    for at in range(30):
        words = [f"{at}w{number}" for number in range(30)]
        for score, part in zip((0.9, 0.8, 0.1), (slice(0, 20), slice(10, 30), slice(5, 25)), strict=True):
            rows.append(Example("t", "", "", " ".join(words[part])))
            values[rows[-1].id] = score if at % 2 or score < 0.5 else 1.7 - score
    how = {"scores": scores("grammar", values), "keep": "grammar", "threshold": 0.5, "n": 1, "over": "output"}
    with small(tokens=300, run=100):
        said = {verdict.example: verdict for verdict in near(rows, **how)}
    for at in range(30):
        first, second, between = (row.id for row in rows[3 * at : 3 * at + 3])
        assert said[first].kept and said[second].kept and said[between].rival == (first if at % 2 else second)


def test_the_earliest_rival_stands():
    rival, value = np.array([-1, -1, 7]), np.array([0.0, 0.0, 0.7])
    walk._beat(rival, value, np.array([3, 1, 9, 5]), np.array([0, 0, 2, 2]), np.array([0.9, 0.8, 1.0, 0.6]))
    assert rival.tolist() == [1, -1, 5] and value.tolist() == [0.8, 0.0, 0.6]
    walk._beat(rival, value, np.array([8, 2]), np.array([2, 1]), np.array([0.9, 0.5]))
    assert rival.tolist() == [1, 2, 5] and value.tolist() == [0.8, 0.5, 0.6]


def test_the_order_of_shingles_is_one_for_all_blocks(monkeypatch):
    """A table of two buckets, so that all shingles pass for frequent, changes no verdict."""
    rows = planted(3, 80)
    whole = list(near(rows, scores={}, threshold=0.6))
    monkeypatch.setattr(walk, "BUCKETS", 2)
    with small():
        assert list(near(rows, scores={}, threshold=0.6)) == whole


def test_sets_larger_than_a_key_can_say(monkeypatch):
    rows = planted(4, 60)
    whole = list(near(rows, scores={}, threshold=0.6))
    for module in (join, walk):
        monkeypatch.setattr(module, "SIZE", 3)
        monkeypatch.setattr(module, "MOST", 7)
    assert list(near(rows, scores={}, threshold=0.6)) == whole
    with small():
        assert list(near(rows, scores={}, threshold=0.6)) == whole


def test_a_crowd_across_blocks_meets_its_leader_only(monkeypatch):
    """3,000 copies that differ in one word of forty: each block meets the few rows kept before it, not all before it."""
    words = [f"word{at}" for at in range(40)]
    rows = [Example("t", " ".join(words), "", f"{' '.join(words[:20])} {at}") for at in range(3000)]
    met = []
    candidates = walk.candidates
    monkeypatch.setattr(
        walk, "candidates", lambda *how, **more: (met.append(len(keys)) or keys for keys in candidates(*how, **more))
    )
    with small(tokens=8_000, run=4_000, candidates=10_000):
        assert len(kept(near(rows, scores={}))) == 1
    assert 0 < sum(met) < 4 * len(rows)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    """The files have no name: whatever ends the process, they are gone."""
    opened = []
    real = spill.Spill.__init__

    def noted(self, folder):
        real(self, folder)
        opened.append(folder)

    monkeypatch.setattr(spill.Spill, "__init__", noted)

    class Rows(list):
        folder = tmp_path

    monkeypatch.setattr(duplicates, "distinct", lambda rows: rows)
    with small():
        list(near(Rows(sorted(planted(5, 80), key=lambda row: row.id)), scores={}))
    assert set(opened) == {tmp_path}
    assert len(opened) == 2  # tokens, and entries
    assert list(tmp_path.iterdir()) == []
    here = (
        [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
        if os.path.isdir("/proc/self/fd")
        else []
    )
    assert not [file for file in here if str(tmp_path) in os.path.realpath(file)]


@pytest.mark.parametrize("sizes", [[], [5], [1, 1, 1], [9, 1, 1, 9, 0, 0, 3], [0, 0]])
def test_cut(sizes):
    parts = [list(range(part.start, part.stop)) for part in spill.cut(np.array(sizes, dtype=np.int64), 3)]
    assert [at for part in parts for at in part] == list(range(len(sizes)))
    assert all(len(part) == 1 or sum(sizes[at] for at in part) <= 3 for part in parts)
