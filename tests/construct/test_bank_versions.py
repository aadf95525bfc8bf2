"""The instruction bank over time: rows are updated and removed, versions kept, and a kill at any moment loses nothing."""

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.construct import bank_store
from zhiling.construct.bank import Bank
from zhiling.construct.bank_kin import kinship
from zhiling.construct.bank_vectors import EXACT, Vectors, signs, write_vectors
from zhiling.errors import DataError

ROWS = [
    {"id": "fr", "instruction": "将句子翻译成法语。", "family": "translation", "source": "a", "quality": 0.9},
    {"id": "es", "instruction": "将句子翻译成西班牙语。", "family": "translation", "source": "b", "quality": 0.4},
    {"id": "poem", "instruction": "Write a poem about autumn.", "family": "poetry", "source": "a"},
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


def filled(folder, embedder=None):
    bank = Bank.create(folder / "bank", embedder)
    bank.add(ROWS, licence="MIT")
    return bank


def ids(hits):
    return [hit.row.id for hit in hits]


@pytest.mark.parametrize("embedder", [None, Letters()])
def test_an_updated_row_is_found_by_its_new_words_only(tmp_path, embedder):
    bank = filled(tmp_path, embedder)
    done = bank.update([{"id": "es", "instruction": "把句子译为葡萄牙语。"}])
    assert (done.updated, done.duplicates, done.refused, done.version, len(bank)) == (1, 0, (), 2, 3)
    for opened in (bank, Bank.open(bank.path, embedder)):
        assert ids(opened.search("葡萄牙语", 1)) == ["es"]
        assert "es" not in [hit.row.id for hit in opened.search("西班") if hit.keyword]
        assert [row.id for row in opened.rows()] == ["fr", "poem", "es"]
        assert len([hit for hit in opened.search("翻译 句子 葡萄牙语", 20) if hit.row.id == "es"]) == 1
    row = next(row for row in bank.rows() if row.id == "es")
    assert (row.family, row.source, row.quality, row.licence) == ("translation", "b", 0.4, "MIT")


def test_updates_that_cannot_be_are_said(tmp_path):
    bank = filled(tmp_path)
    done = bank.update(
        [{"id": "nobody", "instruction": "x"}, {"instruction": "x"}, {"id": "fr", "quality": 7}, ROWS[0]]
    )
    assert (done.updated, done.duplicates, done.version) == (0, 1, 1)
    assert [one.where for one in done.refused] == ["row 1", "row 2", "row 3"]
    assert "no row of this id" in done.refused[0].why and "0 to 1" in done.refused[2].why
    twice = bank.update([{"id": "fr", "output": "1"}, {"id": "fr", "output": "2"}])
    assert twice.updated == 1 and next(r for r in bank.rows() if r.id == "fr").output == "2"


@pytest.mark.parametrize("embedder", [None, Letters()])
def test_removed_rows_are_gone_from_everything_and_may_come_again(tmp_path, embedder):
    bank = filled(tmp_path, embedder)
    done = bank.remove(["fr", "nobody", "fr"])
    assert (done.removed, [one.text for one in done.refused], len(bank)) == (1, ["nobody"], 2)
    assert "fr" not in ids(bank.search("将句子翻译成法语。", 10)) and [row.id for row in bank.rows()] == ["es", "poem"]
    assert bank.info()["rows"] == 2 and bank.info()["gone"] == 1 and bank.info()["source"] == {"a": 1, "b": 1}
    assert bank.export(tmp_path / "out.jsonl") == 2
    assert bank.add([ROWS[0]], licence="MIT").added == 1
    assert ids(bank.search("法语", 1)) == ["fr"]
    bank.remove(["fr", "es", "poem"])
    assert len(bank) == 0 and bank.search("翻译") == [] and bank.add(ROWS, licence="MIT").added == 3


def test_filters_by_source_and_quality(tmp_path):
    for embedder in (None, Letters()):
        bank = filled(tmp_path / str(embedder is None), embedder)
        assert ids(bank.search("翻译句子", source="b")) == ["es"]
        assert ids(bank.search("翻译句子", quality=0.5)) == ["fr"]
        assert set(ids(bank.search("翻译句子", quality=0.0))) == {"fr", "es"}  # a row nobody judged has no quality
        assert [row.id for row in bank.rows(quality=0.5)] == ["fr"] and [r.id for r in bank.rows(source="a")] == [
            "fr",
            "poem",
        ]
    assert bank.export(tmp_path / "some.jsonl", lang="en") == 1
    (line,) = (tmp_path / "some.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["id"] == "poem" and "quality" not in json.loads(line)


def test_a_snapshot_is_searched_as_it_was(tmp_path):
    bank = filled(tmp_path, Letters())
    assert bank.snapshot("初版") == 1
    bank.update([{"id": "es", "instruction": "把句子译为葡萄牙语。"}])
    bank.remove(["fr"])
    for i in range(9):
        bank.add([{"id": f"n{i}", "instruction": f"新的指令 {i}"}], licence="MIT")
    bank.rebuild()
    old = Bank.open(bank.path, Letters(), at="初版")
    assert [row.id for row in old.rows()] == ["fr", "es", "poem"] and ids(old.search("西班牙语", 1)) == ["es"]
    assert [entry["what"] for entry in bank.log()] == ["add", "update", "remove", *["add"] * 9, "rebuild"]
    assert bank.log()[1]["ids"] == ["es"] and bank.snapshots() == {"初版": 1}
    with pytest.raises(DataError, match="snapshot '初版' cannot be changed"):
        old.add([{"instruction": "x"}], licence="MIT")
    with pytest.raises(DataError, match="no snapshot 'v9' — there are: 初版"):
        Bank.open(bank.path, at="v9")
    for bad in ("../x", "", "a/b", "x" * 99):
        with pytest.raises(DataError, match=r"cannot name a snapshot"):
            bank.snapshot(bad)
    with pytest.raises(DataError, match="already"):
        bank.snapshot("初版")


def test_rebuilding_drops_what_is_gone(tmp_path):
    bank = filled(tmp_path, Letters())
    bank.remove(["fr"])
    before = {hit.row.id: (hit.row, hit.vector) for hit in bank.search("翻译 poem", 9)}
    assert bank.rebuild() == 3
    assert len(bank.manifest["segments"]) == 1 and bank.info()["gone"] == 0 and bank.row(0).id == "es"
    assert {hit.row.id: (hit.row, hit.vector) for hit in bank.search("翻译 poem", 9)} == before
    bank.remove(["es", "poem"])
    bank.rebuild()
    assert len(bank) == 0 and bank.search("x") == [] and bank.add(ROWS, licence="MIT").added == 3


@settings(max_examples=8)
@given(st.lists(st.tuples(st.sampled_from("auru+"), st.integers(0, 11)), max_size=14))
def test_a_bank_is_a_dictionary_that_can_be_searched(tmp_path_factory, steps):
    bank = Bank.create(tmp_path_factory.mktemp("bank") / "b", Letters())
    expected = {}
    for turn, (step, name) in enumerate(steps):
        said = f"instruction {name} turn{turn}"
        if step == "a" and str(name) not in expected:
            bank.add([{"id": str(name), "instruction": said}], licence="MIT")
            expected[str(name)] = said
        elif step == "u":
            bank.update([{"id": str(name), "instruction": said}])
            if str(name) in expected:
                expected[str(name)] = said
        elif step == "r":
            bank.remove([str(name)])
            expected.pop(str(name), None)
        elif step == "+":
            bank.rebuild()
    assert {row.id: row.instruction for row in bank.rows()} == expected
    assert {hit.row.id for hit in Bank.open(bank.path).search("instruction", 50)} == set(expected)
    for name, said in expected.items():
        assert ids(bank.search(said, 1)) == [name]


WRITER = """
import sys
from zhiling.construct.bank import Bank
bank = Bank.open(sys.argv[1])
for i in range(1000):
    bank.add([{"instruction": f"word{i} common", "id": f"{i}-{j}"} for j in range(6)], licence="MIT")
    print("add", i, flush=True)
    bank.update([{"id": f"{i}-0", "instruction": f"changed{i} common"}])
    print("update", i, flush=True)
    bank.remove([f"{i}-1"])
    print("remove", i, flush=True)
    if i % 2:
        bank.rebuild()
        print("rebuild", i, flush=True)
"""


def test_a_kill_while_changing_rows_loses_nothing_acknowledged(tmp_path):
    chance = random.Random(11)
    for attempt in range(5):
        path = tmp_path / f"bank{attempt}"
        Bank.create(path)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        said = [writer.stdout.readline().split() for _ in range(chance.randint(1, 8))]
        time.sleep(chance.random() * 0.08)
        writer.send_signal(signal.SIGKILL)
        said += [line.split() for line in writer.stdout.read().splitlines()]
        writer.wait()
        bank = Bank.open(path)
        rows = {row.id: row.instruction for row in bank.rows()}
        done = [(what, int(i)) for what, i in said]
        last = done[-1][1]
        for what, i in done:
            if what == "add":
                assert {f"{i}-{j}" for j in range(2, 6)} <= rows.keys()
            elif what == "update":
                assert rows[f"{i}-0"] == f"changed{i} common"
            elif what == "remove":
                assert f"{i}-1" not in rows
        assert {int(name.split("-")[0]) for name in rows} <= set(range(last + 2))
        assert {hit.row.id for hit in bank.search("common", 1000)} == set(rows)  # index and rows agree
        assert bank.add([{"id": "after", "instruction": "after the crash"}], licence="MIT", wait=5).added == 1
        referred = {segment["folder"] for segment in bank.manifest["segments"]}
        assert referred <= {folder.name for folder in path.glob("v*")} and len([*path.glob("v*")]) <= len(referred) + 4


def _read(path, results):
    seen, wrong = set(), 0
    for _ in range(25):
        bank = Bank.open(path)
        found = {hit.row.id for hit in bank.search("common", 1000)}
        wrong += found != {row.id for row in bank.rows()} or len(found) % 10 != 0
        seen.add(len(found))
    results.put((wrong, len(seen)))


def test_many_read_whole_versions_while_one_writes(tmp_path):
    bank = Bank.create(tmp_path / "bank")
    bank.add([{"id": f"0-{j}", "instruction": "common"} for j in range(10)], licence="MIT")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    readers = [context.Process(target=_read, args=(bank.path, results)) for _ in range(3)]
    for reader in readers:
        reader.start()
    turn = 1
    while any(reader.is_alive() for reader in readers) and turn < 60:
        bank.add([{"id": f"{turn}-{j}", "instruction": "common"} for j in range(10)], licence="MIT")
        if turn % 3 == 0:
            bank.remove([f"{turn}-{j}" for j in range(10)])
        if turn % 5 == 0:
            bank.rebuild()
        turn += 1
    for reader in readers:
        reader.join(60)
        assert reader.exitcode == 0
    assert [results.get(timeout=5)[0] for _ in readers] == [0, 0, 0]


def test_a_snapshot_that_was_half_written_does_not_exist(tmp_path, monkeypatch):
    bank = filled(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bank_store, "sync", killed)
    monkeypatch.setattr(bank_store.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        bank.snapshot("half")
    monkeypatch.undo()
    assert bank.snapshots() == {} and bank.snapshot("half") == 1


# Vectors and kinship.


def test_the_nearest_by_signs_are_the_nearest(tmp_path):
    chance = np.random.default_rng(3)
    centres = chance.standard_normal((40, 128))
    full = centres[chance.integers(0, 40, 3 * EXACT)] + 0.7 * chance.standard_normal((3 * EXACT, 128))
    full = (full / np.linalg.norm(full, axis=1, keepdims=True)).astype(np.float32)
    for name, part in (("a", full[:1000]), ("b", full[1000:])):
        (tmp_path / name).mkdir()
        write_vectors(tmp_path / name, part)
    vectors = Vectors.open([tmp_path / "a", tmp_path / "b"])
    assert len(vectors) == len(full)
    for asked in full[::600]:
        exact = full @ asked
        found = vectors.nearest(asked, 10, None)
        assert len(found) == 10 and len(set(np.argsort(-exact)[:10].tolist()) & found.keys()) >= 9
        assert all(abs(exact[number] - cosine) < 2e-3 for number, cosine in found.items())
        odd = np.arange(len(full)) % 2 == 1
        assert all(number % 2 for number in vectors.nearest(asked, 10, odd))
        assert len(vectors.nearest(asked, 10, np.arange(len(full)) < 4)) == 4


def test_signs_have_a_bit_for_every_dimension():
    one = np.zeros((2, 70), dtype=np.float32)
    one[1, 69] = 1
    packed = signs(one)
    assert packed.shape == (2, 2)
    assert [int(np.bitwise_count(packed[:, 0] ^ packed[:, 1]).sum()), int(np.bitwise_count(packed[:, 0]).sum())] == [
        1,
        0,
    ]


def test_damaged_vectors_are_said(tmp_path):
    bank = filled(tmp_path, Letters())
    np.save(bank.path / "v000001" / "signs.npy", np.zeros((1, 2), dtype=np.uint64))
    with pytest.raises(DataError, match="do not belong together — build the bank again"):
        Bank.open(bank.path, Letters())


def test_related_rows_lift_one_another(tmp_path):
    said = {
        "asked": "Generate a question about the passage.",
        "kin": "Write a question that the passage answers; ask for one fact.",
        "far kin": "Ask for one fact, and answer with a name.",
        "stranger": "Sort names of the fruit by colour about noon.",
        "other": "Compute the sum of numbers.",
    }
    bank = Bank.create(tmp_path / "bank")
    bank.add(({"id": key, "instruction": text} for key, text in said.items()), licence="MIT")
    plain = bank.search("question passage name", 5)
    related = bank.search("question passage name", 5, related=True)
    assert {*ids(plain)} == {*ids(related)} and plain[0].kin is None and related[0].kin == 1.0
    gain = {hit.row.id: hit.kin for hit in related}
    direct = {hit.row.id: hit.score for hit in plain}
    assert direct["far kin"] == pytest.approx(direct["stranger"], abs=0.05) and gain["far kin"] > gain["stranger"]


def test_kinship_of_few_or_of_nothing():
    assert kinship([], [], None).tolist() == []
    assert kinship([0.5], [frozenset()], None).tolist() == [1.0]
    assert kinship([0.0, 0.0, 0.0], [frozenset()] * 3, None).tolist() == [0, 0, 0]
    same = kinship([0.2, 0.4, 0.4, 0.1], [frozenset("ab")] * 4, None)
    assert np.isfinite(same).all() and same.max() == 1
