"""A bank in a Qdrant collection (the client's embedded store): the same rows are found as in a folder, and trouble is told in words."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.construct.bank import Bank, opened
from zhiling.construct.retrieve_rows import nearest_rows
from zhiling.errors import DataError, EngineError, RecipeError
from zhiling.types import Example, Task

pytest.importorskip("qdrant_client", reason="no qdrant-client here: pip install 'zhiling[qdrant]'")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:qdrant_client")

ROWS = [
    {"id": "fr", "instruction": "将句子翻译成法语：{句子}", "family": "translation", "quality": 0.9},
    {"id": "es", "instruction": "将句子翻译成西班牙语：{句子}", "family": "translation", "quality": 0.4},
    {"id": "en", "instruction": "Translate the sentences into French", "family": "translation", "licence": "MIT"},
    {"id": "poem", "instruction": "写一首关于秋天的诗", "input": "枫叶", "output": "枫叶红。", "family": "poetry"},
    {"id": "poems", "instruction": "写一首关于冬天的诗", "input": "雪", "output": "雪白。", "family": "poetry"},
]  # fmt: skip


class Letters:
    """An embedder for plumbing: a unit vector of character counts."""

    name, dim = "letters", 32

    def __call__(self, texts):
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for i, text in enumerate(texts):
            for char in text or " ":
                out[i, ord(char) % self.dim] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


@pytest.fixture
def remote(tmp_path):
    from zhiling.construct.bank_remote import Remote

    made = Remote.create(f"qdrant+file:{tmp_path}/store/rows", Letters())
    made.add(ROWS, licence="Apache-2.0", source="test")
    yield made
    made.close()


def ids(hits):
    return [hit.row.id for hit in hits]


@pytest.mark.parametrize(
    "query", ["法语", "法", "翻译成法语", "“法语”！", "French", "写诗", "sentences into French", "冬天"]
)
def test_it_finds_what_a_folder_finds(remote, tmp_path, query):
    folder = Bank.create(tmp_path / "bank", Letters())
    folder.add(ROWS, licence="Apache-2.0", source="test")
    here, there = remote.search(query, 3), folder.search(query, 3)
    assert here[0].row == there[0].row and here[0].terms == there[0].terms
    assert {hit.row.id: hit.vector for hit in here}.items() <= {
        hit.row.id: pytest.approx(hit.vector, abs=2e-3) for hit in folder.search(query, 5)
    }.items()  # fmt: skip
    assert all(0 <= hit.keyword <= 1 for hit in here)
    assert remote.rarity(query) == pytest.approx(folder.rarity(query), rel=1e-4)


def test_filters_related_and_rows(remote):
    assert ids(remote.search("翻译", 9, lang="en")) == ["en"]
    assert set(ids(remote.search("翻译", 9, family="translation"))) == {"fr", "es", "en"}
    assert ids(remote.search("翻译", 9, quality=0.5)) == ["fr"] and ids(remote.search("翻译", 9, licence="MIT")) == [
        "en"
    ]
    assert remote.search("翻译", 9, source="nobody") == []
    kin = remote.search("写诗", 2, related=True)
    assert set(ids(kin)) == {"poem", "poems"} and all(hit.kin is not None for hit in kin)
    assert {row.id for row in remote.rows(family="poetry")} == {"poem", "poems"} and len(remote) == 5
    assert len(remote.search("", 3)) == 0 and len(remote.search("the", 3)) > 0
    with pytest.raises(RecipeError, match="at least 1"):
        remote.search("x", 0)


def test_add_update_remove_export(remote, tmp_path):
    again = remote.add(
        [*ROWS, {"id": "new", "instruction": "概括新闻"}, {"instruction": " "}], licence="MIT", source="x"
    )
    assert (again.added, again.duplicates, len(again.refused)) == (1, 5, 1) and remote.search("概括", 1)[
        0
    ].row.id == "new"
    with pytest.raises(DataError, match="no licence"):
        remote.add([{"instruction": "没有许可证"}])
    done = remote.update(
        [{"id": "fr", "instruction": "把句子译成荷兰语"}, {"id": "es"}, {"id": "nobody", "instruction": "x"}]
    )
    assert (done.updated, done.duplicates, len(done.refused)) == (1, 1, 1)
    assert (
        remote.search("荷兰语", 1)[0].row.quality == 0.9
        and "fr" not in ids(remote.search("法语", 9, licence="Apache-2.0"))[:1]
    )
    gone = remote.remove(["fr", "nobody"])
    assert (
        (gone.removed, len(gone.refused)) == (1, 1) and len(remote) == 5 and "fr" not in ids(remote.search("荷兰语", 9))
    )
    info = remote.info()
    assert (
        info["rows"] == 5
        and info["embedder"] == "letters"
        and info["family"] == {"other": 1, "poetry": 2, "translation": 2}
    )
    assert remote.export(tmp_path / "out.jsonl", lang="en") == 1
    assert '"id": "en"' in (tmp_path / "out.jsonl").read_text(encoding="utf-8")


def test_what_was_added_is_there_after_closing_and_by_keywords_alone(remote, tmp_path):
    where = remote.path
    with pytest.raises(EngineError, match="another process"):
        opened(where, Letters())
    remote.close()
    plain = opened("qdrant+file:store/rows", None, tmp_path)
    assert len(plain) == 5 and plain.search("法语", 1)[0].row.id == "fr" and plain.search("法语", 1)[0].vector is None
    with pytest.raises(DataError, match="needs its embedder"):
        plain.add(ROWS, licence="MIT")
    plain.close()
    other = type("Other", (Letters,), {"name": "other"})
    with pytest.raises(DataError, match="made by 'letters', not 'other'"):
        opened(where, other())
    with pytest.raises(DataError, match="no snapshots"):
        opened(where, Letters(), at="v1")


def test_construction_by_retrieval_reads_it_as_it_does_a_folder(remote):
    task = Task("poem", "写诗。", "poetry", ("topic",), "poem", langs=("zh",))
    made = list(nearest_rows(task, remote, embedder=Letters(), count=2, floor=0.0))
    assert {one.parents[0] for one in made if isinstance(one, Example)} == {"poem", "poems"}


@pytest.mark.parametrize(
    "where", ["qdrant://key@host/c", "qdrant://host", "qdrant://host/c d", "qdrant+ftp://host/c", "qdrant:"]
)
def test_a_wrong_address_is_told_without_what_may_be_a_key(where):
    with pytest.raises(DataError, match="not the address") as told:
        opened(where, Letters())
    assert "key@" not in str(told.value)


def test_a_key_is_not_sent_in_the_clear_and_never_shown(monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", "secret-7")
    with pytest.raises(DataError, match="in the clear"):
        opened("qdrant://db.example:6333/rows", Letters())
    with pytest.raises(EngineError, match="does not answer") as told:
        opened("qdrant://127.0.0.1:9/rows", Letters())
    assert "secret-7" not in f"{told.value!r} {told.value} {told.value.__cause__!r}"


def test_a_refused_key_and_a_strange_answer(monkeypatch):
    import httpx
    from qdrant_client.http.exceptions import UnexpectedResponse

    from zhiling.construct.bank_qdrant import _asking

    for status, kind, said in (
        (401, DataError, "QDRANT_API_KEY"),
        (403, DataError, "refuses"),
        (500, EngineError, "answered 500"),
    ):
        with pytest.raises(kind, match=said), _asking("qdrant://h/c"):
            raise UnexpectedResponse(status, "no", b"secret", httpx.Headers())


def test_a_collection_that_is_not_there_or_not_ours(tmp_path):
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(tmp_path / "store"))
    client.create_collection("theirs", models.VectorParams(size=4, distance=models.Distance.DOT))
    client.close()
    for name, said in (("nobody", "there is no collection 'nobody'"), ("theirs", "not an instruction bank of ours")):
        with pytest.raises(DataError, match=re.escape(said)):
            opened(f"qdrant+file:{tmp_path}/store/{name}", Letters())


@pytest.mark.model
def test_from_the_command_line(tmp_path):
    where, rows = f"qdrant+file:{tmp_path}/store/mine", Path(tmp_path / "rows.jsonl")
    rows.write_text(
        '{"instruction": "把句子翻译成法语", "output": "x"}\n{"instruction": "Write a poem", "output": "y"}\n',
        encoding="utf-8",
    )
    run = CliRunner().invoke
    assert "2 added" in run(app, ["bank", "add", where, str(rows), "--licence", "MIT"]).output
    assert "0 added, 2 there already" in run(app, ["bank", "add", where, str(rows), "--licence", "MIT"]).output
    found = run(app, ["bank", "search", "法语", "-b", where, "-k", "1"])
    assert found.exit_code == 0 and "翻译成法语" in found.output and "keyword" in found.output
    assert "letters" not in run(app, ["bank", "info", "-b", where]).output
    assert "1 removed" in run(app, ["bank", "remove", where, "--lang", "en"]).output
    kept = run(app, ["bank", "snapshot", where, "v1"])
    assert isinstance(kept.exception, DataError) and "no versions" in str(kept.exception)
