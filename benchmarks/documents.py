"""FAQs out of documents: real FAQ pages with their questions taken out, and how many of these questions come back.

    python benchmarks/documents.py                     the embedded model (small, English alone), a sample of passages
    python benchmarks/documents.py --model NAME --base-url URL [--passages 200]     a model of an OpenAI-compatible endpoint

The shared TiDB (zh) and SRS (zh, en) FAQs lose their headings and the list items that ask; what is left is read as passages and given to
the constructor `faq`. Headings of fewer than three words ("Console") are topics and not asked for.

`faq_recall`: share of the questions taken out for which a question made from the passage that holds their answer has a cosine >= MATCH,
fixed beforehand; `faq_nearest`: share for which such a question is nearer to it than to any other question of the page, however far, since
terse headings ("How to Upgrade") are seldom near to a whole sentence. Beside each how often that happens by chance (with as many questions
made from other passages of the page), and what the threshold makes of labelled pairs of questions and of different headings of one FastAPI
page. `supported`: share of the answers whose
words, numbers and names are in the cited passage (scorer `faithful` >= FAITHFUL, where it gives a value) and that are found in it as a
stretch; answers of a small model are the document's own text, so that this tells little of it. `own_recall`: the same questions, word for
word, from the pages left whole, with no model at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from dedup_meaning import pairs as labelled

from zhiling.construct.documents import evidence
from zhiling.construct.documents.faq import faq
from zhiling.data import Source, read, shared_data
from zhiling.data.markdown import blocks
from zhiling.data.passages import Block
from zhiling.embed import Use
from zhiling.score.faithful import faithful
from zhiling.text import lang, length, normalise
from zhiling.types import Example, Record, Score, Task

MATCH, FAITHFUL, LEAST, WORDS = 0.6, 0.6, 8, 3
TASK = Task("faq", "Answer users.\n回答用户。", "faq", ("passage",), "answer", langs=("en", "zh"))
DOCUMENTS = ("tidb.zh.*.md", "srs.*.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path, default=shared_data())
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", default="", help="a model of an OpenAI-compatible endpoint; else the embedded one")
    parser.add_argument("--base-url", default="")
    parser.add_argument("--passages", type=int, default=0, help="passages per language (default: 8; 3 with --quick)")
    parser.add_argument("--questions", type=int, default=6, help="questions asked for per passage")
    parser.add_argument("--cache", type=Path, help="a file that keeps the replies, so that a second run asks nothing")
    parser.add_argument("--no-model", action="store_true", help="rules and the documents' own questions alone")
    args = parser.parse_args()
    embedder, folder = Use(), args.data / "10_parallel_docs" / "docs"
    files = sorted(path for pattern in DOCUMENTS for path in folder.glob(pattern))
    figures: dict[str, Any] = {**pairs_told(args.data, embedder), **own(files, embedder)}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        made = sampled(files, Path(work), args.passages or (3 if args.quick else 8))
        start = time.perf_counter()
        found = asyncio.run(ask(made, args))
        figures["seconds"] = round(time.perf_counter() - start, 1)
    for code in ("en", "zh", ""):
        figures |= measured(made, found, embedder, code, rows)
    for name, value in figures.items():
        print(f"{name:<28}{value if value is not None else '-':>10}")
    for row in rows[: 12 if args.quick else 40]:
        print(
            f"  {'+' if row['cosine'] >= MATCH else '-'} {row['cosine']:.2f}  {row['question'][:60]}  <-  {row['nearest'][:70]}"
        )
    if args.json:
        told = {"name": "documents", "machine": platform.platform(), "figures": figures, "rows": rows}
        args.json.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def questions(path: Path) -> list[tuple[str, str]]:
    """(question, its answer's text) of an FAQ page: items that ask, and headings below the title with a text of their own and no such item."""
    out: list[tuple[str, str]] = []
    heading, body, items = "", list[str](), list[tuple[str, str]]()

    def close() -> None:
        said = "\n\n".join(body).strip()
        out.extend(items or ([(heading, said)] if length(heading) >= WORDS and length(said) >= LEAST else []))

    for block in blocks(enumerate(path.open(encoding="utf-8"), 1)):
        if block.kind == "heading":
            close()
            heading, body, items = block.text if block.level > 1 else "", [], []
        elif block.question:
            items.append((block.question, block.text))
        else:
            body.append(block.text)
    close()
    return out


def stripped(path: Path) -> str:
    """The page under its title, without its other headings and without the questions of its items."""

    def said(block: Block) -> str:
        return block.text if block.kind != "heading" else f"# {block.text}" if block.level == 1 else ""

    return "\n\n".join(filter(None, map(said, blocks(enumerate(path.open(encoding="utf-8"), 1))))) + "\n"


Sample = tuple[Path, list[Record], list[tuple[str, str, str]]]


def sampled(files: Sequence[Path], work: Path, count: int) -> list[Sample]:
    """Per document: its passages that were drawn, and (question, answer, passage's id) of the questions whose answers begin in them."""
    every: list[tuple[Path, Record]] = []
    for path in files:
        (work / path.name).write_text(stripped(path), encoding="utf-8")
        source = Source(work / path.name, "passages", answered=False)
        every += [(path, one) for one in read(source, TASK) if isinstance(one, Record)]
    chosen: set[str] = set()
    for code in ("en", "zh"):
        able = [one.id for path, one in every if f".{code}." in path.name]
        chosen |= set(random.Random(7).sample(able, min(count, len(able))))
    out: list[Sample] = []
    for path in files:
        mine = [one for at, one in every if at == path and one.id in chosen]
        asked = []
        for question, answer in questions(path):
            head = answer[:60]
            holder = next((one for one in mine if evidence.locate(one.fields["passage"], head)), None)
            if holder is not None:
                asked.append((question, answer, holder.id))
        if mine:
            out.append((path, mine, asked))
    return out


async def ask(made: Sequence[Sample], args: argparse.Namespace) -> list[Example]:
    """The FAQ rows that the constructor makes of the passages, with the model that was asked for."""
    from zhiling.llm import open_model

    spec: dict[str, Any] = {"provider": "gguf"}
    if args.model:
        spec = {"provider": "openai", "model": args.model, **({"base_url": args.base_url} if args.base_url else {})}
    model = None if args.no_model else open_model(spec, cache=args.cache)
    ways = ["own", "rules", *(["model"] if model else [])]
    out: list[Any] = []
    for path, records, _ in made:
        # the embedded model knows no Chinese: to ask it would cost minutes and give nothing
        able = ways if args.model or ".en." in path.name else ["own", "rules"]
        out += await faq(
            task=TASK, records=records, embedder=Use(), verify=unchecked, seed=7, here=Path(), model=model, ways=able,
            questions=args.questions, floor=0.0,
        )  # fmt: skip
    if model is not None:
        print(f"{model.label}: {model.spent.calls} calls", file=sys.stderr)
        await model.close()
    return [one for one in out if isinstance(one, Example)]


async def unchecked(rows: Sequence[Example]) -> list[Score]:
    return [Score(row.id, "verify", None, "no verifier") for row in rows]


def measured(
    made: Sequence[Sample], found: Sequence[Example], embedder: Use, code: str, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """The figures of one language, or of all ("")."""
    mine = [one for one in made if not code or f".{code}." in one[0].name]
    asked = [(path, *one) for path, _, some in mine for one in some]
    passages = {record.id: record.fields["passage"] for _, records, _ in mine for record in records}
    here = [row for row in found if row.parents[0] in passages]
    pages = {path: [question for question, _ in questions(path)] for path, _, _ in mine}
    nearest = _nearest(pages, mine, here, embedder)
    hits, close, chance, luck = list[bool](), list[bool](), list[bool](), list[bool]()
    vectors = embedder([row.instruction for row in here])
    for (path, question, _, holder), vector in zip(asked, embedder([one[1] for one in asked]), strict=True):
        cosines = np.round(vectors @ vector, 4) if here else np.zeros(0)
        own_ones = [at for at, row in enumerate(here) if row.parents[0] == holder]
        document = {record.id for where, records, _ in mine if where == path for record in records}
        others = [at for at, row in enumerate(here) if row.parents[0] in document and row.parents[0] != holder]
        best = max(own_ones, key=lambda at: cosines[at], default=-1)
        cosine = float(cosines[best]) if best >= 0 else 0.0
        hits.append(cosine >= MATCH)
        close.append(any(nearest[at] == question for at in own_ones))
        if own_ones and others:  # as many questions of other passages of the page, so that the two compare
            some = random.Random(7).sample(others, min(len(own_ones), len(others)))
            chance.append(bool(max(cosines[some]) >= MATCH))
            luck.append(any(nearest[at] == question for at in some))
        if code:
            said = here[best].instruction if best >= 0 else ""
            rows.append({"document": path.name, "question": question, "cosine": round(cosine, 4), "nearest": said})
    good = [supported(row, passages[row.parents[0]]) for row in here]
    end = f"_{code}" if code else ""
    return {
        f"faq_recall{end}": _mean(hits), f"faq_nearest{end}": _mean(close), f"supported{end}": _mean(good),
        f"chance{end}": _mean(chance), f"chance_nearest{end}": _mean(luck),
        f"asked_for{end}": len(asked), f"made{end}": len(here), f"passages{end}": len(passages),
    }  # fmt: skip


def _mean(found: Sequence[bool]) -> float | None:
    return round(sum(found) / len(found), 4) if found else None


def _nearest(pages: dict[Path, list[str]], mine: Sequence[Sample], here: Sequence[Example], embedder: Use) -> list[str]:
    """The page's question that each made question is nearest to."""
    page_of = {record.id: path for path, records, _ in mine for record in records}
    vectors = {path: embedder(said) for path, said in pages.items()}
    made = embedder([row.instruction for row in here])
    return [
        pages[page_of[row.parents[0]]][int(np.argmax(np.round(vectors[page_of[row.parents[0]]] @ vector, 4)))]
        for row, vector in zip(here, made, strict=True)
    ]


def supported(row: Example, passage: str) -> bool:
    """Whether the passage holds what the answer says: as a stretch, and by the faithfulness scorer where that gives a value."""
    told = "根据原文回答问题：" if lang(passage) == "zh" else "Answer the question from the passage: "
    (score,) = faithful([Example("faq", told + row.instruction, passage, row.output)])
    found = evidence.locate(passage, row.output) is not None or evidence.covered(row.output, passage) >= 0.8
    return found and (score.value is None or score.value >= FAITHFUL)


def own(files: Sequence[Path], embedder: Use) -> dict[str, Any]:
    """How many of the pages' questions come back, word for word, from the pages as they are, with no model."""
    hits = total = 0
    for path in files:
        records = [one for one in read(Source(path, "passages", answered=False), TASK) if isinstance(one, Record)]
        made = faq(
            task=TASK, records=records, embedder=embedder, verify=unchecked, seed=7, here=Path(), ways=["own", "rules"]
        )
        said = {normalise(row.instruction) for row in asyncio.run(made) if isinstance(row, Example)}
        wanted = [question for question, _ in questions(path)]
        hits += sum(any(normalise(question).endswith(one) for one in said) for question in wanted)
        total += len(wanted)
    return {"own_recall": round(hits / total, 4), "own_of": total}


def pairs_told(data: Path, embedder: Use) -> dict[str, Any]:
    """Share of pairs that reach MATCH: questions labelled the same, lookalikes labelled different, drawn at random; headings of one page."""
    out: dict[str, Any] = {}
    for name, code in (("lcqmc", "zh"), ("qqp", "en")):
        found = labelled(data, name)[:1500]
        a, b = embedder([one for one, _, _ in found]), embedder([other for _, other, _ in found])
        same = np.array([label for _, _, label in found], bool)
        near = np.einsum("ij,ij->i", a, b) >= MATCH
        drawn = np.einsum("ij,ij->i", a, np.roll(b, 17, axis=0)) >= MATCH
        out[f"same_{code}"], out[f"unrelated_{code}"] = (
            round(float(near[same].mean()), 4),
            round(float(drawn.mean()), 4),
        )
        out[f"lookalike_{code}"] = round(float(near[~same].mean()), 4)
        beside: list[float] = []
        for path in sorted((data / "10_parallel_docs" / "docs").glob(f"fastapi.{code}.*.md")):
            said = [one.text for one in blocks(enumerate(path.open(encoding="utf-8"), 1)) if one.kind == "heading"]
            vectors = embedder([one for one in said if length(one) >= WORDS])
            beside += (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)].tolist()
        out[f"one_page_{code}"] = round(float((np.array(beside) >= MATCH).mean()), 4)
    return out


if __name__ == "__main__":
    main()
