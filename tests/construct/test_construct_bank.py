"""The instruction bank: what is put in is found, by words and by meaning; what is acknowledged survives whatever happens."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.construct import bank_store
from zhiling.construct.bank import Bank, Row, shipped
from zhiling.construct.library import FAMILIES, LIBRARY
from zhiling.embed import Use
from zhiling.errors import DataError, EngineError, RecipeError
from zhiling.text import lang

ROOT = Path(__file__).parents[2]
ROWS = [
    {"instruction": "将句子翻译成法语：{句子}", "family": "translation"},
    {"instruction": "将句子翻译成西班牙语：{句子}", "family": "translation"},
    {"instruction": "将句子翻译成德语：{句子}", "family": "translation"},
    {"instruction": "Translate the sentences into French", "family": "translation", "licence": "MIT"},
    {"instruction": "写一首关于秋天的诗", "family": "poetry"},
]


class Letters:
    """An embedder for plumbing: a unit vector of character counts."""

    name, dim = "letters", 32

    def __call__(self, texts):
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for i, text in enumerate(texts):
            for char in text or " ":
                out[i, ord(char) % self.dim] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def filled(folder, embedder=None, rows=ROWS):
    bank = Bank.create(folder / "bank", embedder)
    bank.add(rows, licence="Apache-2.0", source="test")
    return bank


def first(bank, query, **settings):
    return bank.search(query, 1, **settings)[0].row.instruction


@pytest.mark.model
def test_the_source_documents_example_5_2_retrieves_the_first():
    ran = subprocess.run(
        [sys.executable, ROOT / "examples" / "source_5_2_retrieval.py"], capture_output=True, check=True, encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert ran.stdout == "将句子翻译成法语：{句子}\n"


def test_rows_are_completed(tmp_path):
    bank = filled(tmp_path)
    row = bank.row(3)
    assert (row.lang, row.licence, row.source, row.family) == ("en", "MIT", "test", "translation")
    assert bank.row(0).lang == "zh" and len({row.id for row in bank.rows()}) == 5
    assert [*bank.rows()] == [bank.row(number) for number in range(5)] and isinstance(row, Row)


@pytest.mark.parametrize("query", ["法语", "法", "翻译成法语", "“法语”！", "  法语 "])
def test_chinese_words_of_two_characters_and_of_one_are_found(tmp_path, query):
    hits = filled(tmp_path).search(query, 1)
    assert hits[0].row.instruction == "将句子翻译成法语：{句子}"
    assert 0 < hits[0].keyword <= 1 and hits[0].vector is None and any("法" in term for term in hits[0].terms)


def test_english_words_are_found_in_any_form(tmp_path):
    (hit,) = filled(tmp_path).search("translating a sentence", 1)
    assert hit.row.lang == "en" and set(hit.terms) == {"translating", "sentence"}


@pytest.mark.parametrize("query", ["", "   ", "!!!", "zzz", "龘", "AND OR (", 'a" b:c^2 ~*?', "\x00", "\ud800"])
def test_hostile_and_empty_queries_find_nothing_and_break_nothing(tmp_path, query):
    assert filled(tmp_path).search(query) == []


def test_filters(tmp_path):
    bank = filled(tmp_path)
    assert [hit.row.lang for hit in bank.search("翻译 translate french", lang="en")] == ["en"]
    assert {hit.row.family for hit in bank.search("翻译 诗 translate", family="poetry")} == {"poetry"}
    assert [hit.row.licence for hit in bank.search("翻译 translate", licence="MIT")] == ["MIT"]
    assert bank.search("翻译", lang="en", licence="none") == []
    with pytest.raises(RecipeError, match="at least 1"):
        bank.search("x", 0)


def test_filters_hold_for_vectors_too(tmp_path):
    bank = filled(tmp_path, Letters())
    assert len(bank.search("翻译", 10)) == 5
    assert {hit.row.lang for hit in bank.search("翻译", 10, lang="en")} == {"en"}


def test_scores_explain_themselves(tmp_path):
    bank = filled(tmp_path, Letters())
    for hit in bank.search("翻译成法语", 5):
        assert hit.score == pytest.approx(0.6 * hit.keyword + 0.4 * max(0.0, hit.vector), abs=2e-4)
        assert 0 <= hit.score <= 1.0001
    scores = [hit.score for hit in bank.search("翻译成法语", 5)]
    assert scores == sorted(scores, reverse=True)
    assert bank.search("翻译成法语", 5) == Bank.open(bank.path, Letters()).search("翻译成法语", 5)


def test_rows_without_a_licence_are_refused_unless_allowed(tmp_path):
    bank = Bank.create(tmp_path / "bank")
    with pytest.raises(DataError, match=r"写诗: row 2 has no licence — say which"):
        bank.add([{"instruction": "写信", "licence": "MIT"}, {"instruction": "写诗"}])
    with pytest.raises(DataError, match="no licence"):
        bank.add([{"instruction": "写诗", "licence": " "}])
    assert len(Bank.open(tmp_path / "bank")) == 0
    assert bank.add([{"instruction": "写诗"}], allow_unlicensed=True).added == 1
    assert bank.row(0).licence == ""


def test_unusable_rows_are_refused_one_by_one(tmp_path):
    bad = [{}, {"instruction": " "}, {"instruction": 7}, {"instruction": "x", "input": ["y"]}, {"instruction": "x" * 1_000_001},
           {"instruction": "lone \ud800"}]  # fmt: skip
    added = Bank.create(tmp_path / "bank").add([*bad, {"instruction": "ok", "input": None}], licence="MIT")
    assert (added.added, len(added.refused)) == (1, 6)
    assert [reject.where for reject in added.refused] == [f"row {i}" for i in range(1, 7)]
    assert (
        "not text" in added.refused[2].why
        and "longer than" in added.refused[4].why
        and "Unicode" in added.refused[5].why
    )


def test_rows_are_kept_once(tmp_path):
    bank = filled(tmp_path)
    again = bank.add([*ROWS, {"instruction": "新的"}, {"instruction": "新的"}], licence="MIT")
    assert (again.added, again.duplicates, again.version) == (1, 6, 2)
    assert bank.add(ROWS, licence="MIT").version == 2  # nothing new, no new version
    named = [{"id": "a", "instruction": "one"}, {"id": "a", "instruction": "two"}]
    assert bank.add(named, licence="MIT").added == 1
    assert {row.id: row.instruction for row in bank.rows()}["a"] == "one"


@settings(deadline=None, max_examples=5)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_however_rows_come_they_are_all_there_in_order(tmp_path_factory, sizes):
    bank = Bank.create(tmp_path_factory.mktemp("bank") / "b", Letters())
    said = iter(f"instruction number {i}" for i in range(1000))
    expected = []
    for size in sizes:
        batch = [next(said) for _ in range(size)]
        expected += batch
        bank.add(({"instruction": one} for one in batch), licence="MIT")
    opened = Bank.open(bank.path, Letters())
    assert [row.instruction for row in opened.rows()] == expected
    assert len(opened.manifest["segments"]) <= 7
    for one in (expected[0], expected[-1], expected[len(expected) // 2]):
        (hit,) = opened.search(one, 1)
        assert hit.row.instruction == one and hit.vector == pytest.approx(1.0, abs=1e-3)


def test_readers_keep_their_version_while_one_writes(tmp_path):
    bank = filled(tmp_path, Letters())
    reader = Bank.open(bank.path, Letters())
    for i in range(12):
        bank.add([{"instruction": f"翻译第{i}章"}], licence="MIT")
    assert len(reader) == 5 and first(reader, "法语") == "将句子翻译成法语：{句子}"
    assert all("章" not in hit.row.instruction for hit in reader.search("翻译", 20))
    assert len(Bank.open(bank.path)) == 17
    kept = [path.name for path in bank.path.iterdir() if path.name.startswith("v")]
    assert len(kept) <= 8


def test_info_and_export(tmp_path):
    bank = filled(tmp_path, Letters())
    info = bank.info()
    assert (info["rows"], info["version"], info["embedder"]) == (5, 1, "letters")
    assert info["lang"] == {"en": 1, "zh": 4} and info["licence"] == {"Apache-2.0": 4, "MIT": 1}
    assert bank.export(tmp_path / "out.jsonl") == 5
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    copy = Bank.create(tmp_path / "copy")
    assert copy.add(rows).added == 5  # the licence travels with the row
    assert list(copy.rows()) == list(bank.rows())


def test_an_empty_bank(tmp_path):
    bank = Bank.create(tmp_path / "bank", Letters())
    assert bank.search("x") == [] and list(bank.rows()) == [] and bank.info()["lang"] == {}
    assert bank.add([]).version == 0


def test_create_and_open_say_what_is_wrong(tmp_path):
    bank = filled(tmp_path, Letters())
    with pytest.raises(DataError, match="not empty"):
        Bank.create(bank.path)
    with pytest.raises(DataError, match="no manifest.json — check the path"):
        Bank.open(tmp_path)
    with pytest.raises(DataError, match="made by 'letters', not 'use-multilingual-v3' — open it with that embedder"):
        Bank.open(bank.path, Use())
    with pytest.raises(DataError, match="needs its embedder"):
        Bank.open(bank.path).add([{"instruction": "x"}], licence="MIT")
    manifest = bank.path / "manifest.json"
    good = manifest.read_text()
    manifest.write_text(good.replace('"format": 2', '"format": 3'))
    with pytest.raises(DataError, match=r"format 3, this zhiling reads 2 — upgrade: pip install -U zhiling"):
        Bank.open(bank.path)
    manifest.write_text('{"format": 1}')
    with pytest.raises(DataError, match=r"format 1, this zhiling reads 2 — build the bank again"):
        Bank.open(bank.path)
    for broken in ("", "{", "[]", '{"format": 2}', '{"format": 2, "version": 1}'):
        manifest.write_text(broken)
        with pytest.raises(DataError, match="damaged"):
            Bank.open(bank.path)
    manifest.write_text(good)
    (bank.path / "v000001" / "rows.arrow").write_bytes(b"half")
    with pytest.raises(DataError, match="damaged"):
        Bank.open(bank.path)


def test_a_second_writer_waits_or_is_told(tmp_path):
    bank = filled(tmp_path)
    with (
        bank_store.locked(bank.path, 0),
        pytest.raises(EngineError, match="another process is writing to this bank — wait"),
    ):
        bank.add([{"instruction": "新的"}], licence="MIT", wait=0)
    assert len(Bank.open(bank.path)) == 5
    assert bank.add([{"instruction": "新的"}], licence="MIT", wait=0).added == 1


def _write_some(path, name):
    bank = Bank.open(path)
    for i in range(6):
        bank.add([{"instruction": f"{name} writes row {i}"}], licence="MIT")


def test_writers_take_turns(tmp_path):
    bank = Bank.create(tmp_path / "bank")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_some, args=(bank.path, name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    rows = [row.instruction for row in Bank.open(bank.path).rows()]
    assert sorted(rows) == sorted(f"{name} writes row {i}" for name in ("one", "two") for i in range(6))


WRITER = """
import sys
from zhiling.construct.bank import Bank
bank = Bank.open(sys.argv[1])
for i in range(1000):
    bank.add([{"instruction": f"row {i} of batch", "id": str(j * 1000 + i)} for j in range(20)], licence="MIT")
    print(i, flush=True)
"""


def test_what_was_acknowledged_survives_sigkill_at_any_moment(tmp_path):
    chance = random.Random(5)
    for attempt in range(4):
        path = tmp_path / f"bank{attempt}"
        Bank.create(path)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(chance.randint(1, 4))]
        time.sleep(chance.random() * 0.1)  # somewhere inside the next write
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        bank = Bank.open(path)
        whole = 20 * len(acknowledged)
        assert len(bank) in (whole, whole + 20)  # the last write may have become current unannounced, but never in part
        assert {row.id for row in bank.rows()} >= {str(j * 1000 + i) for i in acknowledged for j in range(20)}
        assert len(bank.search("row 0 of batch", 500)) == len(bank)
        added = bank.add([{"instruction": "after the crash"}], licence="MIT", wait=5)
        assert added.added == 1 and first(bank, "crash") == "after the crash"


def test_a_half_written_version_is_ignored_and_cleared(tmp_path, monkeypatch):
    bank = filled(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bank_store, "write_manifest", killed)
    with pytest.raises(KeyboardInterrupt):
        bank.add([{"instruction": "never"}], licence="MIT")
    monkeypatch.undo()
    assert (bank.path / "v000002").exists()
    assert len(Bank.open(bank.path)) == 5
    bank = Bank.open(bank.path)
    bank.add([{"instruction": "the next one"}], licence="MIT")
    assert [row.instruction for row in bank.rows()][5:] == ["the next one"]
    assert bank.search("never") == []


def test_the_store_absorbs_small_segments():
    sizes = []
    for count in [1] * 64:
        stay, taken = bank_store.absorb([{"rows": size} for size in sizes], count)
        sizes = [segment["rows"] for segment in stay] + [count + sum(segment["rows"] for segment in taken)]
    assert sizes == [64]


# The seeds.

SEEDS = [
    json.loads(line)
    for file in sorted((LIBRARY / "seeds").glob("*.jsonl"))
    for line in file.read_text(encoding="utf-8").splitlines()
]


def test_the_seeds_are_many_bilingual_and_licensed():
    assert len(SEEDS) >= 300
    zh = [seed for seed in SEEDS if seed["lang"] == "zh"]
    assert 0.4 < len(zh) / len(SEEDS) < 0.6
    assert {seed["family"] for seed in SEEDS} == set(FAMILIES)
    assert {seed["licence"] for seed in SEEDS} == {"Apache-2.0"}
    assert len({seed["id"] for seed in SEEDS}) == len({seed["instruction"] for seed in SEEDS}) == len(SEEDS)
    for seed in SEEDS:
        assert lang(seed["instruction"]) == {"zh": "zh", "en": "latin"}[seed["lang"]], seed
        assert seed["output"].strip() and seed["input"].strip(), seed


def test_the_shipped_bank_is_built_once_and_works_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("ZHILING_CACHE", str(tmp_path / "cache"))
    bank = shipped(Letters())
    assert len(bank) == len(SEEDS) and bank.path.is_relative_to(tmp_path / "cache" / "banks")
    before = (bank.path / "manifest.json").stat().st_mtime_ns
    assert shipped(Letters()).path == bank.path
    assert (bank.path / "manifest.json").stat().st_mtime_ns == before
    assert shipped().path != bank.path
    (bank.path / "v000001" / "rows.arrow").write_bytes(b"damaged")
    assert len(shipped(Letters())) == len(SEEDS)  # made anew
    assert len(list((tmp_path / "cache" / "banks").iterdir())) == 2


# With the embedded vectors, on real text.


@pytest.mark.model
def test_meaning_is_found_across_languages(tmp_path, monkeypatch):
    monkeypatch.setenv("ZHILING_CACHE", str(tmp_path))
    bank = shipped(Use())
    for query, family in [
        ("把这段话翻成英文", "translation"),
        ("这条评价是好评还是差评", "classification"),
        ("写几行诗", "poetry"),
        ("Put this into another language", "translation"),
        ("What rhymes about the sea?", "poetry"),
    ]:
        assert family in [hit.row.family for hit in bank.search(query, 2)]
        for other in ("zh", "en"):
            assert family in {hit.row.family for hit in bank.search(query, 3, lang=other)}, (query, other)
    (hit,) = bank.search("How does the customer feel about it?", 1, lang="zh")
    assert hit.keyword == 0.0 and hit.row.family == "classification"


@pytest.mark.model
def test_positives_rank_above_hard_negatives(shared, tmp_path):
    lines = (shared / "12_retrieval" / "simclue_rank.jsonl").read_text(encoding="utf-8").splitlines()[:300]
    rows = [json.loads(line) for line in lines]
    bank = Bank.create(tmp_path / "bank", Use())
    bank.add(
        ({"instruction": text, "id": text} for row in rows for text in (row["title"], row["neg_title"])), licence="test"
    )
    right = 0
    for row in rows:
        place = {hit.row.id: i for i, hit in enumerate(bank.search(row["query"], 50))}
        right += place.get(row["title"], 99) < place.get(row["neg_title"], 99)
    assert right / len(rows) >= 0.95
